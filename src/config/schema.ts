/** The shape of the configuration, its units and its defaults. */

export interface Config {
  readonly vif: {
    /** Transmit queue length of the host end, packets. */
    readonly qlen: number;
    /** Checksum offload towards the guest: `off` clears it, `keep` leaves what the driver chose. */
    readonly txChecksum: 'off' | 'keep';
  };
}

/** Without any file: 1000 packets, and no checksum offload, which pf firewalls (OPNsense, pfSense) need. */
export const DEFAULTS: Config = { vif: { qlen: 1000, txChecksum: 'off' } };

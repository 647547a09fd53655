/** `vifd demo --keep`: a guest with the vifs that are asked for, for as long as somebody wants to look at them. */
import { printable, VifdError } from '../errors.js';
import { GuestNamespace } from '../simulator/guest-namespace.js';
import { type GuestVif, SimulatedHost } from '../simulator/host.js';
import { vethLinks } from '../simulator/links.js';
import { DemoAgent } from './demo-agent.js';

const GUEST = 5;
const DEFAULT_VIF: GuestVif = { bridge: 'br_lan', mac: '00:16:3e:00:00:05' };
/** What a vif line may say here; where the backend is goes without saying. */
const KEYS = ['mac', 'bridge', 'script', 'vifname', 'ip', 'gatewaydev', 'rate', 'vlan', 'mtu', 'type', 'backend'];

/** As xl reads them, without looking at the values: that is vifd's matter. Throws VifdError. */
export function parseVifLines(lines: readonly string[]): GuestVif[] {
  return lines.map((line) => {
    const pairs = line.split(',').map((part) => [...part.trim().split('=', 1), part.trim().replace(/^[^=]*=?/, '')]);
    const unknown = pairs.find(([key]) => !KEYS.includes(key ?? ''));
    if (unknown !== undefined)
      throw new VifdError(
        'EUSAGE',
        `--vif: ${printable(unknown[0] ?? '')} is not among ${KEYS.join(', ')}; such as bridge=br_lan,ip=10.0.0.5`,
      );
    const { backend: _, mtu, ...words } = Object.fromEntries(pairs) as Record<string, string>;
    return { ...words, ...(mtu !== undefined && { mtu: Number(mtu) }) };
  });
}

/** Resolves after a signal, with nothing left. */
export async function keepDemo(vifs: readonly GuestVif[], config: string | undefined, asUser: boolean): Promise<void> {
  const guest = await GuestNamespace.start();
  const links = vethLinks({
    guestEnd: (_, { handle }) => ({
      netns: guest.pid,
      ifname: `eth${handle}`,
      ...(handle === 0 && { address: `10.0.0.${GUEST}/24` }),
    }),
  });
  const host = await SimulatedHost.start({ netback: { links } });
  const words = config === undefined ? [] : ['--config', config];
  const agent = new DemoAgent(host, (line) => console.log(`vifd: ${line}`), words);
  const signal = new Promise((resolve) => {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, resolve);
  });
  try {
    await agent.ready;
    const { errors } = await host.createGuest(GUEST, vifs.length === 0 ? [DEFAULT_VIF] : vifs);
    for (const error of errors) console.log(`xl: ${error}`);
    console.log(instructions(agent, guest.pid, asUser));
    await signal;
  } finally {
    await agent.kill('SIGTERM');
    guest.stop();
    await host.close();
  }
}

function instructions(agent: DemoAgent, guest: number, asUser: boolean): string {
  const user = asUser ? ' --user --preserve-credentials' : '';
  const environment = Object.entries(agent.environment).map(([name, value]) => `${name}=${value}`);
  const vifd = `${process.execPath} ${process.argv[1]}`; // in a clone it is in nobody's $PATH
  return `
It stays so until Ctrl-C. In another terminal, as the same user, a shell in the driver domain:
  nsenter -t ${process.pid}${user} --net env ${environment.join(' ')} sh
There: ip link, and
  ${vifd} status      (or: explain ${GUEST}/0, monitor, doctor)
After a change of the configuration: kill -HUP ${agent.pid}
The guest's side: nsenter -t ${guest}${user} --net ip addr`;
}

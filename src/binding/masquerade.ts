/**
 * EDGE: has what comes in by bound interfaces leave with this domain's address, in an nftables table of their own: in that of
 * vifs each name that no vif with NAT has would be taken for a leftover.
 */
import type { AttachError } from '../errors.js';
import { chainName, type Guard } from '../network/guard-table.js';
import type { KernelNetwork } from '../network/kernel.js';
import type { Family } from '../network/prefix.js';
import type { Masqueraded } from './wanted.js';

type Say = (binding: string | undefined, sentence: string) => void;

export class Masquerade {
  constructor(private readonly kernel: KernelNetwork) {}

  /** These, by interface. `said` gets each change; resolves with the faults. */
  async ensure(wanted: ReadonlyMap<string, Masqueraded>, said: Say): Promise<{ binding: string; fault: string }[]> {
    const faults: { binding: string; fault: string }[] = [];
    for (const [ifname, { binding, families }] of wanted) {
      const says = `what comes in by ${ifname} is`;
      try {
        if (await this.set(ifname, guardFor(ifname, families))) said(binding, `${says} masqueraded`);
      } catch (error) {
        faults.push({ binding, fault: `${says} not masqueraded: ${reasonOf(error as AttachError)}` });
      }
    }
    return faults;
  }

  /** Where nft cannot be run there are none. */
  async removeOthers(wanted: ReadonlyMap<string, Masqueraded>, said: Say): Promise<void> {
    for (const ifname of await this.kernel.listGuarded('bound')) {
      if (wanted.has(ifname)) continue;
      await this.kernel.setGuard(ifname, undefined, 'bound').then(
        () => said(undefined, `what comes in by ${ifname} is masqueraded no more`),
        () => undefined, // it is tried anew at the next look
      );
    }
  }

  /** None, as far as is known. */
  async isEmpty(): Promise<boolean> {
    return (await this.kernel.listGuarded('bound')).length === 0;
  }

  /** Resolves with whether it had to be. Rejects with AttachError. */
  private async set(ifname: string, guard: Guard): Promise<boolean> {
    if ((await this.kernel.getGuard(ifname, 'now', 'bound')) === guard.chain) return false;
    await this.kernel.setGuard(ifname, guard, 'bound');
    return true;
  }
}

/** Not what goes back by the way it came. */
function guardFor(ifname: string, families: readonly Family[]): Guard {
  const rules = families.map((family) => `meta nfproto ${family} oifname != "${ifname}" masquerade`);
  return { chain: chainName('bound', rules), rules };
}

function reasonOf({ code, hint, cause }: AttachError): string {
  if (code !== 'ENONFT') return `nft refused the rules: ${hint}`;
  return `nft cannot be run (${(cause as NodeJS.ErrnoException | undefined)?.code}); install nftables`;
}

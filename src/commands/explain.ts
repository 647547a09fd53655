/** `vifd explain`: the whole way of one vif, and the first thing on it that is not as it should be. Changes nothing. */

import { formatObservers } from '../doctor/own-network.js';
import { needStore, surround, withConnections } from '../doctor/surroundings.js';
import { printable, VifdError } from '../errors.js';
import { asciiJson, widthOf } from '../text.js';
import { parseIfname } from '../vif/backend.js';
import { explain as explainVif } from '../vif/explanation.js';
import { type LookIo, lookAtVif, lookAtVifs } from '../vif/look.js';
import { formatAccounts, formatAgents, parseVifName } from '../vif/report.js';
import type { VifSeen } from '../vif/seen.js';
import { keyText } from '../xenstore/paths.js';

export interface ExplainOptions {
  readonly config?: string;
  readonly xenstore?: string;
  readonly json?: boolean;
}

/** The exit code says whether something is wrong; a vif that waits for its guest is not. */
export async function explain(name: string, options: ExplainOptions): Promise<void> {
  const key = parseVifName(name);
  if (key === undefined && parseIfname(name) === undefined)
    throw new VifdError('EUSAGE', `${printable(name)} cannot name a vif; ${NAMES}`);
  await withConnections(options.xenstore, async (connection, kernel) => {
    const store = needStore(connection);
    const io = { ...(await surround(kernel, options.config)), store };
    const seen = key === undefined ? await find(name, io) : await lookAtVif(key, io);
    const accounts = explainVif(seen);
    const { programs } = io.around;
    const observes = io.config.agent.mode === 'observe';
    if (options.json) console.log(asciiJson({ version: 1, ...seen.key, accounts }));
    else
      console.log(
        [
          `vif ${keyText(seen.key)}; ${observes ? `${formatObservers(programs)}; as vifd would have it:` : formatAgents(programs)}`,
          ...formatAccounts(accounts, widthOf(process.stdout)),
        ].join('\n'),
      );
    process.exitCode = accounts.some(({ verdict }) => verdict === 'wrong') ? 1 : 0;
  });
}

const NAMES = 'write vif5.0, 5/0, its path or its interface';

/** By its interface. */
async function find(name: string, io: LookIo): Promise<VifSeen> {
  const vifs = await lookAtVifs(io);
  const named = vifs.find(({ link, want }) => link?.ifname === name || want?.ifname === name);
  if (named !== undefined) return named;
  const here =
    vifs.length === 0 ? 'there is no vif here' : `vifs here: ${vifs.map((vif) => keyText(vif.key)).join(', ')}`;
  throw new VifdError('ENOVIF', `${printable(name)} names no vif; ${NAMES}; ${here}`);
}

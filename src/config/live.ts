/** The configuration in force: read at the start and again on request. A bad file leaves the one before in force. */
import type { Logger } from 'pino';
import { VifdError } from '../errors.js';
import { isoTime } from '../iso-time.js';
import { type Loaded, loadConfig } from './load.js';
import type { WholeConfig } from './schema.js';
import { effectiveSettings } from './text.js';

export class LiveConfig {
  /** Called whenever the files have been read again and are good. */
  onReload: () => void = () => undefined;
  private readAt = Date.now();
  /** One reading at a time: the last that was asked for has the last word. */
  private reading = Promise.resolve();

  private constructor(
    private loaded: Loaded,
    private readonly read: () => Promise<Loaded>,
    private readonly log: Logger,
  ) {}

  /** Rejects as loadConfig. */
  static async load(file: string | undefined, log: Logger): Promise<LiveConfig> {
    const read = () => loadConfig(file);
    return new LiveConfig(await read(), read, log);
  }

  /** Ask at every use: it changes. */
  get current(): WholeConfig {
    return this.loaded.config;
  }

  /** What configOf() makes the configuration in force of, for others to read. */
  get values(): readonly object[] {
    return [...this.loaded.given.values()].map(({ table, name, setting, value }) => ({ table, name, setting, value }));
  }

  /** Never rejects; the log has the outcome. */
  reload(): Promise<void> {
    this.reading = this.reading.then(() => this.readAgain());
    return this.reading;
  }

  private async readAgain(): Promise<void> {
    try {
      const loaded = await this.read();
      const changes = describeChanges(this.loaded, loaded);
      this.loaded = loaded;
      this.readAt = Date.now();
      const what = changes.length === 0 ? 'nothing has changed' : `${changes.join(', ')}; every vif is brought to it`;
      this.log.info({ changes }, `configuration read again: ${what}`);
      this.onReload();
    } catch (error) {
      const reason = error instanceof VifdError ? error.message : (error as Error).stack;
      this.log.error(`${reason}; keeping the configuration of ${isoTime(this.readAt)}`);
    }
  }
}

/** `vif.qlen 1000 -> 500`, for each setting that has changed. */
function describeChanges(before: Loaded, after: Loaded): string[] {
  const old = valuesByKey(before);
  const now = valuesByKey(after);
  const keys = [...new Set([...old.keys(), ...now.keys()])];
  return keys.flatMap((key) => {
    const [was, is] = [old.get(key) ?? 'not set', now.get(key) ?? 'not set'];
    return was === is ? [] : [`${key} ${was} -> ${is}`];
  });
}

const valuesByKey = ({ given }: Loaded): Map<string, string> =>
  new Map(effectiveSettings(given).flatMap(({ key, value }) => (value === null ? [] : [[key, JSON.stringify(value)]])));

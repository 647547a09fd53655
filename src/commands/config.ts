/** `vifd config`: what the configuration files say, without an agent. */
import { loadConfig, lookAtConfig } from '../config/load.js';
import { effectiveSettings, effectiveText, sampleText } from '../config/text.js';

/** `vifd config check [FILE]`: rejects with ECONFIG where `vifd run` would refuse to start; FILE may be a draft unless `strict`. */
export async function checkConfig(file: string | undefined, strict = false): Promise<void> {
  const { files } = await (strict ? loadConfig(file) : lookAtConfig(file));
  console.log(files.length === 0 ? 'no configuration file: all is default' : `valid: ${files.join(', ')}`);
}

export interface ShowOptions {
  readonly config?: string;
  readonly defaults?: boolean;
  readonly json?: boolean;
}

/** `vifd config show`: TOML that could be a file, or JSON. */
export async function showConfig({ config, defaults, json }: ShowOptions): Promise<void> {
  if (defaults && !json) return void process.stdout.write(sampleText());
  const { files, given } = defaults ? { files: [], given: new Map() } : await lookAtConfig(config);
  if (json) console.log(JSON.stringify({ version: 1, files, settings: effectiveSettings(given) }, null, 2));
  else process.stdout.write(effectiveText(given));
}

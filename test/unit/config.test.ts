import { describe, expect, test } from 'vitest';
import { loadConfig, parseConfig } from '../../src/config/load.js';
import { DEFAULTS } from '../../src/config/schema.js';
import { ConfigError } from '../../src/errors.js';

test('without a file: qlen 1000 and tx off', async () => {
  expect(await loadConfig(undefined)).toEqual({ vif: { qlen: 1000, txChecksum: 'off' } });
});

test.each([
  ['', DEFAULTS],
  ['[vif]', DEFAULTS],
  ['[vif]\nqlen = 500', { vif: { qlen: 500, txChecksum: 'off' } }],
  ['vif.tx_checksum = "keep"', { vif: { qlen: 1000, txChecksum: 'keep' } }],
])('%j', (text, expected) => expect(parseConfig('f', text)).toEqual(expected));

describe('a fault names file, line, key, value and what was expected', () => {
  test.each<[string, string]>([
    ['[vif]\nqlen = "many"', 'vifd.toml:2: qlen is "many"; expected a number of packets from 1 to 1000000'],
    ['[vif]\n\nqlen = 0', 'vifd.toml:3: qlen is 0; expected'],
    ['[vif]\nqlen = 1.5', 'vifd.toml:2: qlen is 1.5; expected'],
    ['[vif]\ntx_checksum = true', 'vifd.toml:2: tx_checksum is true; expected "off" or "keep"'],
    ['[vif]\nqleen = 5', 'vifd.toml:2: qleen is 5; expected one of the keys qlen, tx_checksum in [vif]'],
    ['[bridge]\nx = 1', 'vifd.toml:1: bridge is {"x":1}; expected only the table [vif]'],
    ['vif = 3', 'vifd.toml:1: vif is 3; expected a table'],
    ['[vif]\nqlen = ', 'vifd.toml:2: '],
  ])('%j', (text, message) => {
    const attempt = () => parseConfig('vifd.toml', text);
    expect(attempt).toThrow(ConfigError);
    expect(attempt).toThrow(message);
  });

  test('a file that is not there', async () => {
    await expect(loadConfig('/nonexistent/vifd.toml')).rejects.toThrow(
      '/nonexistent/vifd.toml: cannot be read (ENOENT)',
    );
  });
});

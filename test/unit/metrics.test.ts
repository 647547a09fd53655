/** The metrics as a strict reader of Prometheus' text format finds them, and the file that is kept of them. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { Metrics } from '../../src/service/metrics.js';
import { MetricsFile } from '../../src/service/metrics-file.js';
import {
  type Family,
  formatFamilies,
  type VifNow,
  vifFamilies,
  withoutFamilies,
} from '../../src/service/metrics-text.js';
import { parsePrometheus } from '../prometheus.js';

const vif = (domid: number, bridge: string | null, health: VifNow['health']): VifNow => ({
  domid,
  devid: 0,
  ifname: health === 'waiting' ? null : `vif${domid}.0`,
  bridge,
  health,
});

describe('the text', () => {
  test('labels and help are escaped', () => {
    const hostile = 'a"b\\c\nd{},= é';
    const family: Family = {
      name: 'x_y',
      type: 'gauge',
      help: 'a\\b\nc',
      samples: [{ labels: { l: hostile }, value: 1.5 }],
    };
    const text = formatFamilies([family]);
    expect(text.split('\n')).toHaveLength(4);
    expect(parsePrometheus(text).value('x_y', { l: hostile })).toBe(1.5);
    expect(text).toContain('# HELP x_y a\\\\b\\nc\n');
  });

  test('the reader is strict', () => {
    const good = '# HELP a b\n# TYPE a gauge\na 1\n';
    parsePrometheus(good);
    for (const bad of [
      'a 1\n',
      '# HELP a b\na 1\n',
      good.slice(0, -1),
      `${good}a 2\n`,
      `${good}${good}`,
      good.replace('a 1', 'a{l="x} 1'),
      good.replace('a 1', 'a{l="x"y"} 1'),
      good.replace('a 1', 'a one'),
      good.replace('a 1', 'b 1'),
      good.replace(/gauge/, 'counter'),
      '# HELP a_total b\n# TYPE a_total gauge\na_total 1\n',
    ])
      expect(() => parsePrometheus(bad), bad).toThrow();
  });

  test('vifs by state and bridge; one that failed; one of which little is known', () => {
    const seen = parsePrometheus(
      formatFamilies(
        vifFamilies([
          vif(5, 'br0', 'connected'),
          vif(6, 'br0', 'connected'),
          vif(7, 'br"0', 'failed'),
          vif(8, null, 'waiting'),
        ]),
      ),
    );
    expect(seen.value('vifd_vifs', { state: 'connected', bridge: 'br0' })).toBe(2);
    expect(seen.value('vifd_vifs', { state: 'failed', bridge: 'br0' })).toBe(0);
    expect(seen.value('vifd_vifs', { state: 'failed', bridge: 'br"0' })).toBe(1);
    expect(seen.value('vifd_vifs', { state: 'waiting', bridge: '' })).toBe(1);
    expect(seen.value('vifd_vif_failed', { domid: '7', devid: '0', ifname: 'vif7.0' })).toBe(1);
    expect(seen.value('vifd_vif_failed', { domid: '8', devid: '0', ifname: '' })).toBe(0);
  });

  test('families of a text are left out by name', () => {
    const texts = ['a', 'a_b', 'c'].map((name) =>
      formatFamilies([{ name, type: 'gauge', help: `about # HELP ${name}`, samples: [{ value: 1 }] }]),
    );
    expect(withoutFamilies(texts.join(''), ['a', 'c'])).toBe(texts[1]);
    expect(withoutFamilies('', ['a'])).toBe('');
  });
});

describe('what is counted', () => {
  test('nothing yet: the counters are there and 0', () => {
    const seen = parsePrometheus(new Metrics('1.2.3').text());
    expect(seen.value('vifd_build_info', { version: '1.2.3', node_version: process.versions.node })).toBe(1);
    expect(Math.abs(seen.value('vifd_start_time_seconds') - Date.now() / 1000 + process.uptime())).toBeLessThan(5);
    for (const name of ['vifd_scans_total', 'vifd_xenstore_reconnects_total', 'vifd_departures_total'])
      expect(seen.value(name)).toBe(0);
    expect(seen.value('vifd_attach_seconds_count')).toBe(0);
    expect(seen.value('vifd_xenstore_connected')).toBe(0);
  });

  test('everything, with buckets that add up', () => {
    const metrics = new Metrics('1.2.3');
    metrics.begin(() => [vif(5, 'br0', 'connected')]);
    for (const seconds of [0.002, 0.0025, 0.3, 99]) metrics.attached(seconds);
    metrics.failed('ENOBRIDGE');
    metrics.failed('ENOBRIDGE');
    metrics.repaired(['master', 'up']);
    metrics.repaired(['master']);
    metrics.left();
    metrics.scanned();
    metrics.pause();
    const cut = parsePrometheus(metrics.text());
    expect(cut.value('vifd_xenstore_connected')).toBe(0);
    expect(cut.names()).not.toContain('vifd_vifs');
    metrics.begin(() => [vif(5, 'br0', 'connected')]);
    const seen = parsePrometheus(metrics.text());
    const bucket = (le: string) => seen.value('vifd_attach_seconds_bucket', { le });
    expect(['0.001', '0.0025', '0.25', '0.5', '10', '+Inf'].map(bucket)).toEqual([0, 2, 2, 3, 3, 4]);
    expect(seen.value('vifd_attach_seconds_sum')).toBeCloseTo(99.3045);
    expect(seen.value('vifd_attach_seconds_count')).toBe(4);
    expect(seen.value('vifd_failures_total', { code: 'ENOBRIDGE' })).toBe(2);
    expect(seen.value('vifd_repairs_total', { what: 'master' })).toBe(2);
    expect(seen.value('vifd_repairs_total', { what: 'up' })).toBe(1);
    expect(seen.value('vifd_departures_total')).toBe(1);
    expect(seen.value('vifd_scans_total')).toBe(3);
    expect(seen.value('vifd_xenstore_reconnects_total')).toBe(1);
    expect(seen.value('vifd_xenstore_connected')).toBe(1);
    expect(seen.value('vifd_vifs', { state: 'connected', bridge: 'br0' })).toBe(1);
    expect(seen.value('vifd_up')).toBe(1);
    metrics.end();
    expect(parsePrometheus(metrics.text()).value('vifd_up')).toBe(0);
  });
});

describe('the file', () => {
  let dir: string;
  let file: string;
  const warnings: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => void warnings.push(JSON.parse(line).msg) });
  const scans = () => parsePrometheus(readFileSync(file, 'utf8')).value('vifd_scans_total');
  /** Fake time, and then as long as the file system takes. */
  const pass = async (ms: number) => {
    await vi.advanceTimersByTimeAsync(ms);
    await sleep(100); // real ones
  };

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });
    dir = mkdtempSync(join(tmpdir(), 'vifd-metrics-'));
    file = join(dir, 'vifd.prom');
    warnings.length = 0;
    const mask = process.umask(0o077); // as in the unit
    onTestFinished(() => {
      process.umask(mask);
      vi.useRealTimers();
      rmSync(dir, { recursive: true });
    });
  });

  test('at the start, soon after a change, at most every 15 seconds, and at the end', async () => {
    const metrics = new Metrics('1');
    const output = MetricsFile.begin(file, metrics, log);
    await output.write();
    expect(scans()).toBe(0);
    expect(statSync(file).mode & 0o777).toBe(0o644);
    await pass(60_000);
    metrics.scanned();
    await pass(10);
    expect(scans()).toBe(1);
    metrics.scanned();
    await pass(14_000);
    expect(scans()).toBe(1);
    await pass(1_000);
    expect(scans()).toBe(2);
    metrics.scanned();
    metrics.end();
    await output.close();
    expect(scans()).toBe(3);
    expect(parsePrometheus(readFileSync(file, 'utf8')).value('vifd_up')).toBe(0);
    expect(readdirSync(dir)).toEqual(['vifd.prom']);
    expect(warnings).toEqual([]);
  });

  test('a session that begins is written at once, however short ago the last time was', async () => {
    const metrics = new Metrics('1');
    const output = MetricsFile.begin(file, metrics, log);
    metrics.failed('ENOBRIDGE');
    await pass(10);
    const connected = () => parsePrometheus(readFileSync(file, 'utf8')).value('vifd_xenstore_connected');
    expect(connected()).toBe(0);
    metrics.begin(() => []);
    await pass(10);
    expect(connected()).toBe(1);
    metrics.scanned();
    await pass(14_000);
    expect(scans()).toBe(1);
    await output.close();
  });

  test('without a change it is not touched, and no timer runs', async () => {
    const metrics = new Metrics('1');
    const output = MetricsFile.begin(file, metrics, log);
    await output.write();
    const { ino } = statSync(file);
    expect(vi.getTimerCount()).toBe(0);
    metrics.onChange();
    await pass(30_000);
    expect(vi.getTimerCount()).toBe(0);
    expect(statSync(file).ino).toBe(ino);
    metrics.scanned();
    await pass(30_000);
    expect(statSync(file).ino).not.toBe(ino); // a new one by rename, never written in place
  });

  test('one warning with the remedy until it works; then it may warn again', async () => {
    const metrics = new Metrics('1');
    rmSync(dir, { recursive: true });
    const output = MetricsFile.begin(file, metrics, log);
    await output.write();
    for (let i = 0; i < 3; i++) {
      metrics.scanned();
      await pass(20_000);
    }
    expect(warnings).toEqual([
      `the metrics file ${file} cannot be written (ENOENT); ${dir} must be there and vifd's to write, under systemd by ReadWritePaths= as well`,
    ]);
    mkdirSync(dir);
    metrics.scanned();
    await pass(20_000);
    expect(scans()).toBe(4);
    rmSync(file);
    mkdirSync(file);
    metrics.scanned();
    await pass(20_000);
    expect(warnings).toHaveLength(2);
    expect(warnings[1]).toContain('(EISDIR)');
    expect(readdirSync(dir)).toEqual(['vifd.prom']);
  });

  test('a link in its place, or where its text is prepared, is not written through', async () => {
    const precious = join(dir, 'precious');
    writeFileSync(precious, 'as it was');
    symlinkSync(precious, file);
    symlinkSync(precious, `${file}.new`);
    await MetricsFile.begin(file, new Metrics('1'), log).write();
    expect(readFileSync(precious, 'utf8')).toBe('as it was');
    expect(lstatSync(file).isFile()).toBe(true);
    expect(existsSync(`${file}.new`)).toBe(false);
  });
});

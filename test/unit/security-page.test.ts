/** SECURITY.md promises a test for each row, and names all nodes: here is who checks. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { FIXED_NODES, LIVE_NODES } from '../../src/vif/backend.js';

const page = readFileSync('SECURITY.md', 'utf8');

/** Each title stands behind the file that has it. */
const named = page.split('\n').flatMap((line) => {
  let file = '';
  return [...line.matchAll(/`(test\/[\w/.-]+\.test\.ts)`|"([^"]{8,})"/g)].flatMap(([, path, title]) => {
    if (path !== undefined) file = path;
    return title === undefined || file === '' ? [] : [[file, title] as const];
  });
});

test('every test that it names is there', () => {
  expect(named.length).toBeGreaterThan(40);
  const missing = named.filter(([file, title]) => !readFileSync(file, 'utf8').includes(title));
  expect(missing).toEqual([]);
});

test('every row of a table of attacks names one', () => {
  const tables = page
    .split('| what stops it |')
    .slice(1)
    .map((text) => text.split('\n\n')[0] as string);
  const rows = tables.flatMap((text) => text.split('\n').slice(2));
  expect(rows.length).toBeGreaterThan(30);
  expect(rows.filter((row) => !/`test\//.test(row))).toEqual([]);
});

test('it has every node of dom0’s that vifd reads', () => {
  expect([...FIXED_NODES, ...LIVE_NODES].filter((node) => !page.includes(`\`${node}\``))).toEqual([]);
});

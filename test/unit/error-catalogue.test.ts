/**
 * Every sentence that an operator can meet as an error, a finding or a verdict stands in a test, word for word: the calls are
 * collected from the source, and what is between the values must be found in the tests.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';

/** The simulator's answers are a daemon's. */
const files = (readdirSync('src', { recursive: true }) as string[]).filter(
  (file) => file.endsWith('.ts') && !file.startsWith('simulator/'),
);
const tests = (readdirSync('test', { recursive: true }) as string[])
  .filter((file) => file.endsWith('.ts') && !/^(xen|bench)\//.test(file))
  .map((file) => readFileSync(join('test', file), 'utf8').replaceAll('\\', ''))
  .join('\n');

/** `new NodeError(...)`, and what makes a finding of `vifd doctor` or a verdict of `vifd explain`. */
function isSentenceMaker(node: ts.Node): node is ts.NewExpression | ts.CallExpression {
  if (ts.isNewExpression(node)) return isOperatorsError(node);
  return ts.isCallExpression(node) && /^(ok|warning|error|wrong|wait|note)$/.test(node.expression.getText());
}

/** Not the language's own, for faults of vifd; and ECANCELED, when vifd ends itself, is shown to nobody. */
const isOperatorsError = (node: ts.NewExpression): boolean =>
  /^[A-Z]\w+Error$/.test(node.expression.getText()) &&
  !(node.expression.getText() in globalThis) &&
  !node.arguments?.some((argument) => argument.getText() === "'ECANCELED'");

/** The texts between the values, in the arguments and in the constants and functions of this file that they name. */
function fragments(source: ts.SourceFile): Set<string> {
  const declared = new Map<string, ts.Node>();
  const found = new Set<string>();
  const entered = new Set<ts.Node>();
  const declare = (node: ts.Node): void => {
    if ((ts.isVariableDeclaration(node) || ts.isFunctionDeclaration(node)) && node.name !== undefined)
      declared.set(node.name.getText(), node);
    ts.forEachChild(node, declare);
  };
  const collect = (node: ts.Node): void => {
    if (entered.has(node)) return;
    entered.add(node);
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node))
      found.add(node.text.trim());
    if (ts.isIdentifier(node)) {
      const declaration = declared.get(node.text);
      if (declaration !== undefined) collect(declaration);
    }
    ts.forEachChild(node, collect);
  };
  const find = (node: ts.Node): void => {
    if (isSentenceMaker(node)) for (const argument of node.arguments ?? []) collect(argument);
    ts.forEachChild(node, find);
  };
  declare(source);
  find(source);
  return new Set([...found].filter((text) => text.includes(' ')));
}

const sentences = files.flatMap((file) => {
  const source = ts.createSourceFile(file, readFileSync(join('src', file), 'utf8'), ts.ScriptTarget.Latest, true);
  return [...fragments(source)].map((text) => [file, text] as const);
});

test('the sentences are found', () => {
  expect(sentences.length).toBeGreaterThan(150);
  expect(sentences).toContainEqual(['vif/observe.ts', '" does not exist']);
});

test('each stands in a test', () => {
  expect(sentences.filter(([, text]) => !tests.includes(text))).toEqual([]);
});

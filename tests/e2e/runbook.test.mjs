/* docs/runbook.md has every metric of a live server, every close code of the source, and every message of level warn or error. */
import { assert, fs, path, serve, connect, test, done, metrics } from './lib.mjs';
import { fileURLToPath } from 'node:url';

const ROOT = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const PAGE = fs.readFileSync(path.join(ROOT, 'docs/runbook.md'), 'utf8');
const NOT_SERVER = new Set(['bench', 'build', 'docs', 'scripts', 'tests', 'web', 'contrib', 'node_modules']);

function sources(dir = ROOT) {
  return fs.readdirSync(dir, { withFileTypes: true }).flatMap((e) => {
    const name = path.join(dir, e.name);
    if (e.isDirectory()) return e.name.startsWith('.') || (dir === ROOT && NOT_SERVER.has(e.name)) ? [] : sources(name);
    return e.name.endsWith('.c') ? [fs.readFileSync(name, 'utf8')] : [];
  });
}
const SOURCE = sources().join('\n');
const missing = (all) => [...new Set(all)].filter((text) => !PAGE.includes(text)).sort();

test('every metric of a live server', async () => {
  const server = await serve();
  await connect(server, '/raw/chat'); /* so that what is told of connections may be there */
  const samples = [...(await metrics(server)).keys()].filter((name) => !/_(bucket|count)(\{|$)/.test(name)).map((name) => name.replace(/_seconds_sum\b/, '_seconds'));
  assert.ok(samples.length > 60, `${samples.length} metrics`);
  const cells = PAGE.split('\n').map((line) => line.split(' | ')[0]).join('\n'); /* the first of each row: with its label, or, for all labels, without */
  const listed = (name) => cells.includes(`\`roost_${name}\``);
  assert.deepEqual(samples.filter((name) => !listed(name) && !listed(name.replace(/\{.*/, ''))), []);
});

test('every message of level warn or error', () => {
  const calls = [...SOURCE.matchAll(/\blog_(?:event|limited|seldom\w*)\(([^;]*?)\);/g)].map((m) => m[1]).filter((call) => /LOG_(WARN|ERROR)/.test(call));
  const messages = calls.flatMap((call) => {
    const text = call.replace(/"\s*\n\s*"/g, '').replace(/LOG_[A-Z0-9]+\((?!WARN)[^]*$/, '');
    const said = [...text.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map((m) => m[1]);
    assert.ok(said.length, `no message in log call: ${call}`);
    return said;
  });
  assert.ok(messages.length >= 20, `${messages.length} messages`);
  assert.deepEqual(missing(messages.map((text) => `\`${text}\``)), []);
});

test('every close code', () => {
  const codes = [...SOURCE.matchAll(/\b(?:conn_close|client_close|user_close|close)\w*\([^;]*?\b([1-4][0-9]{3})\b/g), ...SOURCE.matchAll(/\bcase (3[0-9]{3}):/g),
    ...SOURCE.matchAll(/\.(?:drain_code|age_code) = ([1-4][0-9]{3})/g)].map((m) => m[1]);
  assert.ok(new Set(codes).size >= 12, `${[...new Set(codes)]}`);
  const rows = new Set(PAGE.slice(0, PAGE.indexOf('## Messages')).split('\n').flatMap((line) => line.match(/^\| ([\d, ]+) \|/)?.[1].split(', ') ?? []));
  assert.deepEqual([...new Set(codes)].filter((code) => !rows.has(code)), []);
});

await done();

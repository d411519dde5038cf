/* The probes (USDT) of the binary are those that docs/operations.md lists, with as many arguments.
 *
 * Nothing is built or traced here: a probe is a note in the binary, which readelf shows. */
import { assert, fs, path, ROOST, test, skip, done, command } from './lib.mjs';
import { fileURLToPath } from 'node:url';

const PAGE = fs.readFileSync(path.join(path.dirname(fileURLToPath(import.meta.url)), '../../docs/operations.md'), 'utf8');
const SECTION = PAGE.match(/^## Probes$([^]*?)(?=^## |(?![^]))/m)[1];

/* exits: the exit code of a program, or null if it is not there. */
async function exits(program, args) {
  return command(program, args, { code: null, input: '' }).then(({ code }) => code, (e) => {
    if (e.code === 'ENOENT') return null;
    throw e;
  });
}

/* notes: of each probe of the binary, how many arguments, in each of its places. */
async function notes() {
  if ((await exits('readelf', ['--version'])) === null) skip('no readelf (binutils)');
  const { out } = await command('readelf', ['-n', ROOST]);
  const all = [...out.matchAll(/Provider: roost\s+Name: (\w+)\s[^]*?Arguments: *(.*)/g)].map(([, name, args]) => [name, args.split(' ').filter(Boolean).length]);
  if (all.length === 0 && (await exits(process.env.CC || 'cc', ['-E', '-include', 'sys/sdt.h', '-x', 'c', '-'])) !== 0)
    skip('no <sys/sdt.h> (systemtap-sdt-dev): built without probes');
  assert.ok(all.length, 'sys/sdt.h is there, but the binary has no probes: was it built before? Then make clean');
  return all;
}

test('each probe of the binary is in the list of docs/operations.md, and has its arguments, and the other way round', async () => {
  const found = [...new Set((await notes()).map(([name, args]) => `${name} ${args}`))].sort();
  const rows = [...SECTION.matchAll(/^\| `(\w+)` \| (.*?) \|/gm)];
  const listed = rows.map(([, name, args]) => `${name} ${[...args.matchAll(/`\w+`/g)].length}`).sort();
  assert.ok(listed.length >= 10, `${listed.length} rows`);
  assert.deepEqual(found, listed);
});

test('the one-liners of docs/operations.md name probes that are listed', () => {
  const used = [...SECTION.matchAll(/roost:(\w+) /g)].map((m) => m[1]);
  assert.ok(used.length >= 3, `${used}`);
  const listed = new Set([...SECTION.matchAll(/^\| `(\w+)` \|/gm)].map((m) => m[1]));
  assert.deepEqual(used.filter((name) => !listed.has(name)), []);
});

await done();

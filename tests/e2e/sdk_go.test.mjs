/* The Go SDK as its module proxy delivers it, in its JSON mode, over ws and wss: sdk-go/main.go does what sdk_program.mjs says.
 *
 * Built once into build/, by the hashes of go.sum. Without Go or the modules the tests are skipped. */
import { assert, fs, path, done, command } from './lib.mjs';
import { sdk } from './sdk_program.mjs';
import { fileURLToPath } from 'node:url';

const HERE = path.join(path.dirname(fileURLToPath(import.meta.url)), 'sdk-go');
const BUILD = path.join(HERE, '../../../build/sdk-go');
const PROGRAM = path.join(BUILD, 'client');
const VERSION = fs.readFileSync(path.join(HERE, 'go.mod'), 'utf8').match(/centrifuge-go v(\S+)/)[1];

/* install answers a reason why there is no SDK here, or nothing. Hashes that differ are a failure, never a reason. */
async function install() {
  const newest = Math.max(...fs.readdirSync(HERE).map((f) => fs.statSync(path.join(HERE, f)).mtimeMs));
  if (fs.existsSync(PROGRAM) && fs.statSync(PROGRAM).mtimeMs > newest) return '';
  const go = await command('/bin/sh', ['-c', 'command -v go'], { code: null });
  if (go.code !== 0) return 'no Go here';
  fs.mkdirSync(BUILD, { recursive: true });
  const built = await command('go', ['build', '-mod=readonly', '-o', PROGRAM, '.'], { cwd: HERE, env: { ...process.env, GOTOOLCHAIN: 'local' }, code: null, seconds: 120 });
  assert.doesNotMatch(built.err, /checksum mismatch|SECURITY ERROR/);
  return built.code === 0 ? '' : `Go can not build the SDK: ${built.err.trim().split('\n').at(-1)}`;
}

sdk({ name: 'centrifuge-go', version: VERSION, install, program: [PROGRAM, [], {}] });

await done();

/* The Python SDK and its websockets as PyPI delivers them: installed once into build/ by pip, by their hashes. */
import { assert, fs, path, command, temporary } from './lib.mjs';
import { fileURLToPath } from 'node:url';

const HERE = path.join(path.dirname(fileURLToPath(import.meta.url)), 'sdk-python');
const REQUIREMENTS = path.join(HERE, 'requirements.txt');
const SITE = path.join(HERE, '../../../build/sdk-python');
export const VERSION = fs.readFileSync(REQUIREMENTS, 'utf8').match(/^centrifuge-python==(\S+)/m)[1];
export const PYTHON_ENV = { PYTHONPATH: SITE, PYTHONDONTWRITEBYTECODE: '1' };

/* install answers a reason why they are not here, or nothing. Hashes that differ are a failure, never a reason. */
export async function install() {
  const wanted = fs.readFileSync(REQUIREMENTS, 'utf8');
  const mark = path.join(SITE, 'requirements.txt');
  if (fs.existsSync(mark) && fs.readFileSync(mark, 'utf8') === wanted) return '';
  const python = await command('python3', ['-c', 'import sys; sys.exit(sys.version_info < (3, 10))'], { code: null });
  if (python.code !== 0) return 'no Python 3.10 here';
  if ((await command('python3', ['-m', 'pip', '--version'], { code: null })).code !== 0) return 'no pip here';
  const fresh = temporary();
  const pip = await command('python3', ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-input', '--retries', '0', '--timeout', '10',
    '--no-deps', '--only-binary', ':all:', '--require-hashes', '--target', fresh, '-r', REQUIREMENTS], { code: null, seconds: 60 });
  assert.doesNotMatch(pip.err, /HASH/i);
  if (pip.code !== 0) return `pip has not got the SDK: ${pip.err.trim().split('\n').at(-1)}`;
  fs.copyFileSync(REQUIREMENTS, path.join(fresh, 'requirements.txt'));
  fs.rmSync(SITE, { recursive: true, force: true });
  fs.cpSync(fresh, SITE, { recursive: true });
  return '';
}

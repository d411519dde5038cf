/* The Python SDK as PyPI delivers it, in its JSON mode, over ws and wss: sdk-python/client.py does what sdk_program.mjs says.
 *
 * Without Python, pip or the registry the tests are skipped. */
import { path, done } from './lib.mjs';
import { install, PYTHON_ENV, VERSION } from './python.mjs';
import { sdk } from './sdk_program.mjs';
import { fileURLToPath } from 'node:url';

const CLIENT = path.join(path.dirname(fileURLToPath(import.meta.url)), 'sdk-python/client.py');

sdk({ name: 'centrifuge-python', version: VERSION, install, program: ['python3', [CLIENT], PYTHON_ENV] });

await done();

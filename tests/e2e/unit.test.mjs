/* contrib/roost.service and the commands of docs/operations.md that install it, without systemd: what they put where, and that roost starts from there as
 * the unit starts it, as a user who is not root, and takes renewed files. */
import { assert, fs, path, ROOST, launch, certificate, test, done, command, patience, temporary, skip, until } from './lib.mjs';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';

const TOP = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const read = (file) => fs.readFileSync(path.join(TOP, file), 'utf8');
const unit = read('contrib/roost.service');
const setting = (name) => unit.match(new RegExp(`^${name}=(.*)$`, 'm'))[1];

const shown = (port) => new Promise((resolve, reject) => {
  const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
    resolve(socket.getPeerCertificate().fingerprint256);
    socket.destroy();
  }).on('error', reject);
});

function open() {
  const dir = temporary();
  fs.chmodSync(dir, 0o755);
  return dir;
}

test('the commands of docs/operations.md install it, it starts as the unit says, and takes renewed files', async () => {
  if (process.getuid() !== 0) skip('not root: nobody to become');
  const [from, etc, bin, units] = [open(), open(), open(), open()];
  const here = (text) => text.replaceAll('/etc/roost', etc).replaceAll('/usr/local/bin', bin).replaceAll('/etc/systemd/system', units).replaceAll('-g roost', '-g nogroup');
  fs.copyFileSync(ROOST, path.join(from, 'roost'));
  fs.copyFileSync(path.join(TOP, 'contrib/roost.service'), path.join(from, 'roost.service'));
  const config = JSON.parse(read('README.md').match(/^```json\n([^]*?)^```/m)[1]);
  fs.writeFileSync(path.join(from, 'config.json'), JSON.stringify({ ...config, listen: ['wss://127.0.0.1:0'], admin_listen: ['ws://127.0.0.1:0'] }));
  for (const name of ['token_secret', 'api_key']) fs.writeFileSync(path.join(from, name), `${'0123456789'.repeat(4)}\n`, { mode: 0o600 });
  const [first, second] = [await certificate(), await certificate()];
  for (const [file, name] of [[first.cert, 'cert.pem'], [first.key, 'key.pem']]) fs.copyFileSync(file, path.join(from, name));
  const commands = read('docs/operations.md').match(/^```sh-install\n([^]*?)^```/m)[1].split('\n').filter((line) => !/^(useradd|systemctl) /.test(line)).join('\n');
  await command('/bin/sh', ['-euc', here(commands)], { cwd: from });
  assert.deepEqual(['key.pem', 'token_secret', 'api_key', 'config.json'].map((f) => fs.statSync(path.join(etc, f)).mode & 0o777), Array(4).fill(0o640));
  assert.equal(fs.readFileSync(path.join(units, 'roost.service'), 'utf8'), unit);

  assert.deepEqual([setting('User'), setting('Group')], ['roost', 'roost']); /* nobody here */
  const [program, ...args] = here(setting('ExecStart')).split(' ');
  const server = launch(args, { cwd: here(setting('WorkingDirectory')), prefix: ['setpriv', '--reuid', '65534', '--regid', 'nogroup', '--clear-groups', '--no-new-privs', 'sh', '-c', `exec ${program} "$@"`] });
  await server.ready();
  const port = server.port('wss');
  const before = await shown(port);
  const hook = here(read('docs/operations.md').match(/```sh-example\n(#!\/bin\/sh[^`]*RENEWED_LINEAGE[^]*?)```/)[1]);
  const lineage = temporary();
  fs.copyFileSync(second.cert, path.join(lineage, 'fullchain.pem'));
  fs.copyFileSync(second.key, path.join(lineage, 'privkey.pem'));
  await command('/bin/sh', ['-c', hook], { env: { PATH: process.env.PATH, RENEWED_LINEAGE: lineage } });
  await until(async () => await shown(port) !== before, 'the renewed certificate', patience(20000));
  server.child.kill('SIGHUP');
  await server.logged(/msg=reloaded generation=2/);
}, { seconds: 90 });

test('systemd reads the unit', async () => {
  const dir = temporary();
  const file = path.join(dir, 'roost.service');
  fs.writeFileSync(file, unit.replaceAll('/usr/local/bin/roost', '/bin/true').replace(/^Documentation=.*$/m, ''));
  const verified = await command('systemd-analyze', ['verify', file], { code: null }).catch(() => skip('systemd-analyze is not here'));
  if (/Failed to /.test(verified.err) && !verified.err.includes('roost.service')) skip(`systemd-analyze can not work here: ${verified.err.split('\n')[0]}`);
  assert.equal(`${verified.out}${verified.err}`, '');
  assert.equal(verified.code, 0);
});

await done();

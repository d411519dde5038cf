/* Certificates are replaced while connections go on: on SIGHUP, and by themselves when their files change
 * (docs/operations.md). */
import { assert, fs, path, serve, connect, test, done, until, patience, temporary, scaled, spread } from './lib.mjs';
import tls from 'node:tls';
import { spawnSync } from 'node:child_process';

/* make writes a certificate for names, as a tool that renews them does: each file whole, one after the other. */
function make(dir, names, { key = true } = {}) {
  const [certFile, keyFile] = [path.join(dir, 'cert.pem'), path.join(dir, 'key.pem')];
  const made = spawnSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', '/CN=roost',
    '-addext', `subjectAltName=${names.map((n) => `DNS:${n}`).join(',')}`, '-keyout', `${keyFile}.new`, '-out', `${certFile}.new`]);
  assert.equal(made.status, 0, made.stderr.toString());
  fs.renameSync(`${certFile}.new`, certFile);
  if (key) fs.renameSync(`${keyFile}.new`, keyFile);
  return { cert: certFile, key: keyFile };
}

const shown = (server, servername) => new Promise((resolve, reject) => {
  const socket = tls.connect({ host: '127.0.0.1', port: server.port('wss'), servername, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] }, () => {
    resolve({ print: socket.getPeerCertificate().fingerprint256, names: socket.getPeerCertificate().subjectaltname });
    socket.destroy();
  });
  socket.on('error', reject);
});

const start = (pairs, args = []) => serve(['--listen', 'wss://127.0.0.1:0', '--workers', '2', ...pairs.flatMap((p) => ['--cert', p.cert, '--key', p.key]), ...args]);

test('several certificates: the one with the name that is asked for', async () => {
  const [a, b, c] = [make(temporary(), ['localhost']), make(temporary(), ['a.test', 'b.test']), make(temporary(), ['*.c.test'])];
  const server = await start([a, b, c]);
  const rows = [['localhost', 'DNS:localhost'], ['b.test', 'DNS:a.test, DNS:b.test'], ['x.c.test', 'DNS:*.c.test'], ['y.x.c.test', 'DNS:localhost'], ['other.test', 'DNS:localhost']];
  for (const [name, names] of rows) assert.equal((await shown(server, name)).names, names, name);
});

test('SIGHUP: new handshakes see the renewed certificate, connections go on, a bad one is refused', async () => {
  const dir = temporary();
  const pair = make(dir, ['localhost']);
  const server = await start([pair]);
  const before = await shown(server, 'localhost');
  const clients = [];
  await spread(scaled(100, 20), 10, async () => clients.push(await connect(server, '/raw/a', { scheme: 'wss' })));
  make(dir, ['localhost']);
  server.child.kill('SIGHUP');
  await until(async () => (await shown(server, 'localhost')).print !== before.print, 'the new one');
  await server.logged(/msg="certificates read again" count=1/);
  clients[0].send('still here');
  for (const c of clients) assert.equal(await c.next(), 'still here');
  const good = await shown(server, 'localhost');
  fs.writeFileSync(pair.cert, 'not a certificate');
  server.child.kill('SIGHUP');
  await server.logged(/the old certificates stay|the configuration is wrong/);
  assert.equal((await shown(server, 'localhost')).print, good.print);
  clients[1].send('and now');
  for (const c of clients) assert.equal(await c.next(), 'and now');
});

test('a renewed file is noticed without a signal; a certificate without its key is not taken', async () => {
  const dir = temporary();
  make(dir, ['localhost']);
  const server = await start([{ cert: path.join(dir, 'cert.pem'), key: path.join(dir, 'key.pem') }]);
  const before = await shown(server, 'localhost');
  make(dir, ['localhost'], { key: false }); /* caught in the middle */
  await server.logged(/the old certificates stay/);
  assert.equal((await shown(server, 'localhost')).print, before.print);
  fs.renameSync(path.join(dir, 'key.pem.new'), path.join(dir, 'key.pem'));
  await until(async () => (await shown(server, 'localhost')).print !== before.print, 'the new one', patience(20000));
}, { seconds: 60 });

test('the deploy hook for certbot, as docs/operations.md has it', async () => {
  const [etc, lineage] = [temporary(), temporary()];
  make(etc, ['localhost']);
  const server = await start([{ cert: path.join(etc, 'cert.pem'), key: path.join(etc, 'key.pem') }]);
  const before = await shown(server, 'localhost');
  const renewed = make(lineage, ['localhost']);
  fs.renameSync(renewed.cert, path.join(lineage, 'fullchain.pem'));
  fs.renameSync(renewed.key, path.join(lineage, 'privkey.pem'));
  const text = fs.readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8').match(/```sh-example\n(#!\/bin\/sh[^`]*RENEWED_LINEAGE[^]*?)```/)[1];
  const group = spawnSync('id', ['-gn']).stdout.toString().trim();
  const hook = spawnSync('/bin/sh', ['-c', text.replaceAll('/etc/roost', etc).replaceAll('-g roost', `-g ${group}`)], { env: { PATH: process.env.PATH, RENEWED_LINEAGE: lineage } });
  assert.equal(hook.status, 0, hook.stderr.toString());
  assert.equal(fs.statSync(path.join(etc, 'key.pem')).mode & 0o777, 0o640);
  await until(async () => (await shown(server, 'localhost')).print !== before.print, 'the new one', patience(20000));
}, { seconds: 60 });

test('what does not fit is said at the start', async () => {
  const [a, b] = [make(temporary(), ['a.test']), make(temporary(), ['b.test'])];
  await assert.rejects(serve(['--listen', 'wss://127.0.0.1:0', '--cert', a.cert, '--cert', b.cert, '--key', a.key]), /2 certificates and 1 keys/);
  await assert.rejects(serve(['--listen', 'wss://127.0.0.1:0', '--cert', a.cert, '--cert', b.cert, '--key', b.key, '--key', a.key]), /does not belong/);
});

await done();

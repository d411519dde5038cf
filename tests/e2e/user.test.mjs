/* --user: a server that root starts goes on as somebody else (docs/operations.md). */
import { assert, fs, path, ROOST, serve, connect, fresh, certificate, test, done, command, launch, within, patience, temporary, request, skip, sanitizerEnv, SECRET, API_KEY } from './lib.mjs';
import net from 'node:net';

const isRoot = () => process.getuid() === 0 || skip('not root: nobody to become');
/* the checker of leaks looks into the process from outside, which nobody may any more */
const env = { ASAN_OPTIONS: `${sanitizerEnv.ASAN_OPTIONS}:detect_leaks=0` };

/* open is a folder that everybody may enter. */
function open() {
  const dir = temporary();
  fs.chmodSync(dir, 0o755);
  return dir;
}

function identity(pid) {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name) => status.match(new RegExp(`^${name}:\\s*(.*)$`, 'm'))[1].trim().split(/\s+/);
  return { uid: of('Uid'), gid: of('Gid'), groups: of('Groups'), caps: [...of('CapEff'), ...of('CapPrm')], privs: of('NoNewPrivs') };
}

async function lowPort() {
  for (let port = 601; port < 1024; port++) {
    const probe = net.createServer();
    const free = await new Promise((r) => probe.on('error', () => r(false)).on('listening', () => r(true)).listen(port, '127.0.0.1'));
    if (!free) continue;
    await new Promise((r) => probe.close(r));
    return port;
  }
  return skip('no port below 1024 is free');
}

function write(dir, name, text, mode = 0o644) {
  const file = path.join(dir, name);
  fs.writeFileSync(file, text);
  fs.chmodSync(file, mode);
  return file;
}

test('a port below 1024, then nobody: no way back, and everything goes on', async () => {
  isRoot();
  const dir = open();
  const pair = await certificate();
  for (const file of [pair.cert, pair.key]) fs.chownSync(file, 65534, 65534);
  fs.chmodSync(path.dirname(pair.cert), 0o755);
  const port = await lowPort();
  const config = write(dir, 'config.json', JSON.stringify({ http_api: { key_file: write(dir, 'key', 'first-key-0123456789') } }));
  const files = ['log', 'pid', 'sock'].map((f) => path.join(dir, f));
  const server = launch(['serve', '--user', '65534:65534', '--config', config, '--listen', `ws://127.0.0.1:${port}`, '--listen', 'wss://127.0.0.1:0', '--listen', `unix:${files[2]}`,
    '--cert', pair.cert, '--key', pair.key, '--log.file', files[0], '--pid_file', files[1], '--workers', '2', '--shutdown.timeout', '3s'],
  { env: { ...env, ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET } });
  const log = () => (fs.existsSync(files[0]) ? fs.readFileSync(files[0], 'utf8') : '');
  const logged = async (pattern) => {
    const end = performance.now() + patience(10000);
    while (!pattern.test(log())) {
      assert.ok(performance.now() < end && !server.exit, `${pattern}: ${log()}${server.log}`);
      await new Promise((r) => setTimeout(r, 10));
    }
  };
  await logged(/msg=ready/);
  server.urls = [...log().matchAll(/msg=listening url="?([^\s"]+)/g)].map((m) => m[1]);
  const is = identity(server.child.pid);
  assert.deepEqual([is.uid, is.gid], [Array(4).fill('65534'), Array(4).fill('65534')]);
  assert.deepEqual([is.groups, is.caps, is.privs], [['65534'], Array(2).fill('0'.repeat(16)), ['1']]);
  for (const task of fs.readdirSync(`/proc/${server.child.pid}/task`)) /* each thread has ids of its own */
    assert.match(fs.readFileSync(`/proc/${server.child.pid}/task/${task}/status`, 'utf8'), /^Uid:\s+65534\s+65534\s+65534/m);
  for (const file of files) assert.deepEqual([fs.statSync(file).uid, fs.statSync(file).gid], [65534, 65534], file);
  assert.equal(fs.statSync(`/proc/${server.child.pid}/environ`).uid, 0, 'nobody may look into its memory');
  assert.doesNotMatch(log(), /can not be read/);
  await fresh(server);
  await fresh(server, '/raw/fresh', { scheme: 'wss' });
  const old = await connect(server, '/raw/a');
  write(dir, 'key', 'second-key-0123456789');
  server.child.kill('SIGHUP');
  await logged(/msg=reloaded generation=2 changed=http_api\.key_file/);
  await logged(/certificates read again/);
  const info = await request(server, { method: 'POST', target: '/api/info', headers: { 'X-API-Key': 'second-key-0123456789' }, body: '{}' });
  assert.equal(info.status, 200);
  await old.echo('still here');
});

test('by name, with the groups of /etc/group unless one is given', async () => {
  isRoot();
  const id = async (...args) => Number((await command('id', args)).out);
  const [uid, gid] = [await id('-u', 'nobody'), await id('-g', 'nobody')];
  const groups = (await command('id', ['-G', 'nobody'])).out.trim().split(' ');
  const all = await serve(['--user', 'nobody'], { env });
  await all.logged(/msg="root is given up" user=nobody/);
  assert.deepEqual(identity(all.child.pid).uid, Array(4).fill(String(uid)));
  assert.deepEqual(identity(all.child.pid).groups.sort(), groups.sort());
  const one = await serve(['--user', `nobody:${(await command('id', ['-gn', 'nobody'])).out.trim()}`], { env });
  assert.deepEqual(identity(one.child.pid).groups, [String(gid)]);
});

test('what SIGHUP will not be able to read is told at the start', async () => {
  isRoot();
  const dir = open();
  const pair = await certificate(); /* in a folder of root's */
  const key = write(dir, 'key', 'first-key-0123456789', 0o600);
  const server = await serve(['--user', 'nobody', '--api-key-file', key, '--listen', 'ws://127.0.0.1:0', '--listen', 'wss://127.0.0.1:0', '--cert', pair.cert, '--key', pair.key],
    { env: { ...env, ROOST_HTTP_API_KEY: '' } });
  assert.match(server.log, /level=warn msg="by the user the configuration can not be read again, by SIGHUP" problem=".*key/);
  assert.match(server.log, /level=warn msg="this file can not be read by the user.*cert\.pem/);
  server.child.kill('SIGHUP');
  await server.logged(/reload failed: nothing has changed/);
  await fresh(server);
  await fresh(server, '/raw/fresh', { scheme: 'wss' });
});

test('a socket that can not be given to the user is told', async () => {
  isRoot();
  const inside = ['unshare', '--user', '--map-root-user']; /* where there is no other user */
  if ((await command(inside[0], [...inside.slice(1), 'true'], { code: null })).code !== 0) skip('no user namespaces here');
  const file = path.join(open(), 'sock');
  const { code, err } = await command(inside[0], [...inside.slice(1), ROOST, 'serve', '--user', '65534:65534', '--listen', `unix:${file}`],
    { env: { PATH: process.env.PATH, ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET, ...env }, code: null });
  assert.equal(code, 1);
  assert.match(err, /level=warn msg="the socket stays root's: who is not root may not be let in" file=\S*sock error=/);
});

test('who can not become another user says why and does not start', async () => {
  isRoot();
  const env = { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET, ROOST_HTTP_API_KEY: API_KEY };
  const rows = [['no-such-user', /no-such-user: no such user/], ['nobody:no-such-group', /no such group/], ['root', /this is root/], ['0', /this is root/], [':', /no such user/], ['4294967295', /no such user/], ['1x', /no such user/]];
  for (const [user, why] of rows) {
    const { code, err } = await command(ROOST, ['serve', '--listen', 'ws://127.0.0.1:0', '--user', user], { env: { PATH: process.env.PATH, ...env }, code: null });
    assert.deepEqual([code, why.test(err)], [1, true], `${user}: ${err}`);
  }
  const copy = path.join(open(), 'roost');
  fs.copyFileSync(ROOST, copy);
  fs.chmodSync(copy, 0o755);
  const { code, err } = await command('setpriv', ['--reuid', '65534', '--regid', '65534', '--clear-groups', copy, 'serve', '--listen', 'ws://127.0.0.1:0', '--user', 'nobody'],
    { env: { PATH: process.env.PATH, ...env }, cwd: path.dirname(copy), code: null });
  assert.equal(code, 1);
  assert.match(err, /--user: nobody: only root can become another user/);
});

await done();

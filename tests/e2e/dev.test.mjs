/* The first hour: `roost serve --dev`, and every line that it prints, as printed. */
import {
  assert, boundGroup, fs, path, ROOST, serve, launch, connect, fresh, test, done, command, within, patience, lines, atEnd, request, temporary, Client, WebSocket,
  upgradeHead, Raw, skip, until,
} from './lib.mjs';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const SCRIPTS = fs.readdirSync(path.join(HERE, '../../web')).filter((f) => f.endsWith('.js'));
const LISTEN = ['--listen', 'wss://127.0.0.1:0', '--listen', 'ws://127.0.0.1:0'];

/* The lines to paste: those indented by two spaces. */
function banner(server) {
  const all = (server.out + server.log).split('\n');
  const pick = (start) => {
    const line = all.find((l) => l.startsWith(`  ${start}`) || (l.startsWith('  ') && l.includes(start)));
    assert.ok(line, `no line with "${start}" in\n${all.join('\n')}`);
    return line.trim();
  };
  return {
    page: pick('https://'), ssh: pick('ssh -L'), token: pick('eyJ'), sub: pick(' sub wss://'), pub: pick(' pub wss://'), curl: pick('curl --cacert'), node: pick('node -e'),
  };
}

async function dev(args = LISTEN, options = {}) {
  const server = await serve(['--dev', ...args], { env: { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: '', ROOST_HTTP_API_KEY: '', ...options.env }, ...options });
  await until(() => /node -e/.test(server.out + server.log), 'banner');
  server.state = path.join(server.dir, '.local/state/roost');
  server.ca = fs.readFileSync(path.join(server.state, 'cert.pem'));
  return server;
}

/* A shell as the user's: roost in the PATH, ws installed. */
function shell(server, line) {
  const child = boundGroup('/bin/sh', ['-c', line], {
    cwd: server.dir,
    env: { PATH: `${path.dirname(ROOST)}:${process.env.PATH}`, HOME: server.dir, NODE_PATH: path.join(HERE, 'node_modules') },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.errors = '';
  child.stderr.on('data', (d) => (child.errors += d));
  child.line = lines(child.stdout);
  child.over = new Promise((resolve) => child.on('close', resolve));
  atEnd(() => {
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      /* ended by itself */
    }
    return child.over;
  });
  return child;
}

test('every printed line works as printed', async () => {
  const server = await dev();
  const b = banner(server);
  const page = shell(server, `curl -sS --cacert ${server.state}/cert.pem ${b.page}`);
  assert.match((await page.line()) || page.errors, /<!doctype html>/i);

  const client = await connect(server, '/raw/chat', { scheme: 'wss', token: b.token, ca: server.ca, rejectUnauthorized: true });
  const sub = shell(server, b.sub);
  await until(async () => {
    client.send('are you there?');
    return Promise.race([sub.line(1000).catch(() => null), sub.over.then(() => assert.fail(`sub ended: ${sub.errors}`))]);
  }, 'roost sub hears');
  const heard = async (word) => {
    for (;;) {
      const line = await sub.line();
      assert.notEqual(line, null, sub.errors);
      if (line.includes(word)) return;
    }
  };
  const curl = shell(server, b.curl);
  await heard('hello from curl');
  assert.equal(await curl.over, 0, curl.errors);
  const pub = shell(server, b.pub);
  pub.stdin.end('hello from a terminal\n');
  await heard('hello from a terminal');
  assert.equal(await pub.over, 0, pub.errors);
  const node = shell(server, b.node);
  await heard('hello from node');
  assert.equal(await node.line(), 'hello from node');
});

test('the ssh line is one that ssh understands', async () => {
  const server = await dev();
  const { ssh } = banner(server);
  assert.match(ssh, new RegExp(`-L ${server.port('wss')}:127\\.0\\.0\\.1:${server.port('wss')} -L ${server.port('ws')}:127\\.0\\.0\\.1:${server.port('ws')} \\S+$`));
  if (spawnSync('ssh', ['-V']).error) skip('no ssh here');
  const { out } = await command('/bin/sh', ['-c', ssh.replace(/^ssh /, 'ssh -G ')]);
  assert.match(out, /localforward/);
});

test('made once and kept: after a restart tokens, key and certificate are the same', async () => {
  const home = temporary();
  const first = await dev(LISTEN, { cwd: home });
  const { token } = banner(first);
  const files = ['hmac_secret', 'api_key', 'cert.pem', 'key.pem'];
  const read = () => files.map((f) => fs.readFileSync(path.join(home, '.local/state/roost', f), 'utf8'));
  const before = read();
  for (const f of files) assert.equal(fs.statSync(path.join(home, '.local/state/roost', f)).mode & 0o777, 0o600);
  await first.stop();
  const second = await dev(LISTEN, { cwd: home });
  assert.deepEqual(read(), before);
  const client = await connect(second, '/raw/chat', { scheme: 'wss', token, ca: second.ca, rejectUnauthorized: true });
  await client.echo('with the old token');
});

test('without listeners given: 8443 and 8080 on loopback', async () => {
  let server;
  try {
    server = await dev([]);
  } catch (error) {
    if (/in use/i.test(error.message)) skip('ports 8443 or 8080 are taken here');
    throw error;
  }
  assert.deepEqual(server.urls.slice().sort(), ['ws://127.0.0.1:8080', 'wss://127.0.0.1:8443']);
  const b = banner(server);
  assert.equal(b.page, 'https://127.0.0.1:8443/');
  assert.match(b.ssh, /^ssh -L 8443:127\.0\.0\.1:8443 -L 8080:127\.0\.0\.1:8080 \S+$/);
});

test('loopback only', async () => {
  const dir = temporary();
  const result = await command(ROOST, ['serve', '--dev', '--listen', 'ws://0.0.0.0:0'], { code: null, cwd: dir, env: { PATH: process.env.PATH, HOME: dir } });
  assert.notEqual(result.code, 0);
  assert.match(result.err, /loopback/i);
});

test('colours on a terminal, none in a file, none with NO_COLOR', async () => {
  const server = await dev();
  assert.doesNotMatch(server.out + server.log, /\x1b\[/);
  if (spawnSync('script', ['--version']).error) skip('no script(1) here');
  const seen = async (env) => {
    const dir = temporary();
    const child = boundGroup('script', ['-qfec', `setpriv --pdeathsig KILL ${ROOST} serve --dev ${LISTEN.join(' ')}`, '/dev/null'], { cwd: dir, env: { PATH: process.env.PATH, HOME: dir, TERM: 'xterm', ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    let text = '';
    const over = new Promise((resolve) => child.on('close', resolve));
    child.stdout.on('data', (d) => (text += d));
    try {
      await until(() => /msg=ready/.test(text) && /node -e/.test(text), `banner on a terminal: ${text}`);
    } finally {
      process.kill(-child.pid, 'SIGTERM');
      child.stdin.end();
      await within(over, patience(15000), 'end');
    }
    return text;
  };
  assert.match(await seen({}), /\x1b\[/);
  assert.doesNotMatch(await seen({ NO_COLOR: '1' }), /\x1b\[/);
});

test('the page and its files: types, strict policy, nothing from elsewhere', async () => {
  const server = await dev();
  for (const [target, type] of [['/', 'text/html'], ['/style.css', 'text/css'], ...SCRIPTS.map((f) => [`/${f}`, 'text/javascript'])]) {
    const answer = await request(server, { target });
    assert.equal(answer.status, 200, target);
    assert.ok(answer.headers['content-type'].startsWith(type), answer.headers['content-type']);
    assert.equal(answer.headers['x-content-type-options'], 'nosniff');
    const policy = answer.headers['content-security-policy'];
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*/);
    assert.match(policy, /frame-ancestors 'none'/);
    const outside = answer.body.match(/(?:src|href|url|import|from)\s*[=(]?\s*["']?(?:https?:)?\/\/[^"'\s)]+/gi) || [];
    assert.deepEqual(outside, []);
  }
  assert.equal((await request(server, { method: 'HEAD', target: '/' })).status, 200);
  assert.equal((await request(server, { target: '/../main.c' })).status, 404);
});

test('localhost pages may connect, others not', async () => {
  const server = await dev();
  const { token } = banner(server);
  for (const origin of ['http://localhost:3000', 'http://127.0.0.1:5173', `https://127.0.0.1:${server.port('wss')}`, 'https://localhost'])
    await connect(server, '/raw/chat', { token, headers: { Origin: origin } });
  for (const origin of ['https://evil.example', 'http://localhost.evil.example', 'http://127.0.0.1.evil.example:80', 'null']) {
    const raw = await Raw.connect(server);
    raw.write(upgradeHead('/raw/chat', { Authorization: `Bearer ${token}`, Origin: origin }));
    assert.equal((await raw.response()).status, 403, origin);
  }
});

test('a state folder that others may read is refused with what to do', async () => {
  const dir = temporary();
  const state = path.join(dir, 'state');
  fs.mkdirSync(state, { mode: 0o755 });
  fs.chmodSync(state, 0o755);
  const result = await command(ROOST, ['serve', '--dev', ...LISTEN], { code: null, cwd: dir, env: { PATH: process.env.PATH, ROOST_STATE_DIR: state } });
  assert.notEqual(result.code, 0);
  assert.match(result.err, /chmod 700/);
});

await done();

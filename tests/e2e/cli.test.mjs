/* roost token, roost sub, roost pub. */
import {
  assert, bound, fs, path, ROOST, serve, connect, test, done, command, within, patience, lines, atEnd, temporary, token, SECRET, until, sanitizerEnv, metrics, secretText,
  publish, skip,
} from './lib.mjs';

/* A program under test with its lines. */
function start(args, env = {}) {
  const dir = temporary();
  const child = bound(ROOST, args, { cwd: dir, env: { PATH: process.env.PATH, HOME: dir, ...sanitizerEnv, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
  child.errors = '';
  child.stderr.setEncoding('utf8').on('data', (t) => (child.errors += t));
  child.line = lines(child.stdout);
  child.over = new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal })));
  child.stdin.on('error', () => {});
  atEnd(async () => {
    child.kill('SIGKILL');
    await child.over;
    assert.doesNotMatch(child.errors, /Sanitizer|runtime error/);
  });
  return child;
}

const run = (args, options = {}) => command(ROOST, args, { ...options, env: { PATH: process.env.PATH, HOME: '/nonexistent', ...sanitizerEnv, ...options.env } });
const url = (server) => server.url('ws');
const auth = (t = token()) => ({ ROOST_TOKEN: t });
const subscribers = (server, n) => until(async () => (await metrics(server)).get('subscriptions') === n, `${n} subscribers`);

test('roost token: make, show, use', async () => {
  const env = { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET };
  const made = (await run(['token', 'make', '--sub', 'alice', '--exp', '1h', '--pub', 'chat:*', '--sub-to', 'chat:*'], { env })).out.trim();
  secretText(made);
  const claims = JSON.parse(Buffer.from(made.split('.')[1], 'base64url'));
  assert.equal(claims.sub, 'alice');
  assert.deepEqual(claims.roost, { pub: ['chat:*'], sub: ['chat:*'] });
  const shown = await run(['token', 'show', made], { env });
  assert.match(shown.out, /alice/);
  const server = await serve(['--channel.namespaces', JSON.stringify([{ name: 'chat' }])]);
  const client = await connect(server, '/raw/chat:1', { token: made });
  await client.echo('made here');
  assert.equal((await run(['token', 'show', token({}, { secret: 'another-secret-of-enough-length-012345' })], { env, code: null })).code, 1);
  assert.equal((await run(['token', 'show', token({ exp: 1000 })], { env, code: null })).code, 1);
});

test('roost sub: a line a publication, --json, --count, several channels', async () => {
  const server = await serve(['--workers', '2']);
  const plain = start(['sub', url(server), 'chat'], auth());
  const json = start(['sub', url(server), 'chat', '--json', '--count', '3'], auth());
  const both = start(['sub', url(server), 'chat', 'news'], auth());
  await subscribers(server, 4);
  const client = await connect(server, '/raw/chat');
  client.send('hällo');
  client.send('two\nlines');
  client.send(Buffer.from([0, 1, 255]));
  assert.equal(await plain.line(), 'hällo');
  assert.equal(await plain.line(), 'two\\nlines');
  assert.equal(await plain.line(), 'base64:AAH/');
  const parsed = [];
  for (let i = 0; i < 3; i++) parsed.push(JSON.parse(await json.line()));
  assert.deepEqual(parsed.map((p) => [p.channel, p.data, p.binary]), [['chat', 'hällo', false], ['chat', 'two\nlines', false], ['chat', 'AAH/', true]]);
  assert.equal((await within(json.over, patience(5000), 'end after --count')).code, 0);
  await publish(server, 'news', 1);
  for (const start of ['chat\t', 'chat\t', 'chat\t', 'news\t1']) assert.ok((await both.line()).startsWith(start));
});

test('roost pub: lines of standard input, in order, all there before it ends', async () => {
  const server = await serve();
  const client = await connect(server, '/raw/chat');
  const count = 500;
  const input = Array.from({ length: count }, (_, i) => `line ${i}\n`).join('');
  await run(['pub', url(server), 'chat'], { input, env: auth() });
  for (let i = 0; i < count; i++) assert.equal(await client.next(), `line ${i}`);
  await run(['pub', url(server), 'chat', '--message', 'one'], { env: auth() });
  assert.equal(await client.next(), 'one');
  await run(['pub', url(server), 'chat', '--binary'], { input: 'a\nb', env: auth() });
  assert.deepEqual(await client.next(), Buffer.from('a\nb'));
});

test('refused for good: a line that says why, exit 1', async () => {
  const server = await serve();
  for (const args of [['sub', url(server), 'chat'], ['pub', url(server), 'chat', '--message', 'x']]) {
    const bad = await run(args, { env: auth(token({}, { secret: 'another-secret-of-enough-length-012345' })), code: null });
    assert.equal(bad.code, 1);
    assert.match(bad.err, /401/);
  }
  assert.equal((await run(['sub', 'http://x', 'chat'], { code: null })).code, 2);
});

test('roost sub reconnects by itself, and prints nothing twice', async () => {
  const server = await serve();
  const listen = url(server);
  const sub = start(['sub', listen, 'chat'], auth());
  await subscribers(server, 1);
  await publish(server, 'chat', 1);
  assert.equal(await sub.line(), '1');
  await server.stop();
  const second = await serve(['--listen', listen]);
  await until(async () => (await metrics(second)).get('subscriptions') === 1, 'it is back', 30000);
  await publish(second, 'chat', 2);
  assert.equal(await sub.line(), '2');
});

test('roost sub notices a dead server by missing pings', async () => {
  const server = await serve(['--ping-interval', '1s', '--client.pong_timeout', '500ms']);
  const sub = start(['sub', url(server), 'chat', '--ping-timeout', '1'], auth());
  await subscribers(server, 1);
  server.child.kill('SIGSTOP');
  try {
    await until(() => /ping|silen|dead|lost/i.test(sub.errors), `a word about it: ${sub.errors}`, 25000);
  } finally {
    server.child.kill('SIGCONT');
  }
  await until(async () => {
    await publish(server, 'chat', 'back');
    return sub.line(500).then((l) => l === '"back"').catch(() => false);
  }, 'it hears again', 40000);
}, { seconds: 90 });

test('roost sub renews its token before it ends (--token-cmd)', async () => {
  const server = await serve(['--client.expired_close_delay', '0']);
  const dir = temporary();
  const secret = path.join(dir, 'secret');
  fs.writeFileSync(secret, SECRET, { mode: 0o600 });
  const sub = start(['sub', url(server), 'chat', '--token-cmd', `echo x >> ${dir}/asked; exec ${ROOST} token make --sub me --exp 4s --sub-to chat --secret-file ${secret}`]);
  await subscribers(server, 1);
  const asked = () => fs.readFileSync(path.join(dir, 'asked'), 'utf8').length / 2;
  await until(() => asked() >= 3, 'three tokens', 30000);
  await until(async () => {
    await publish(server, 'chat', 'still here');
    return sub.line(500).then((l) => l === '"still here"').catch(() => false);
  }, 'it hears', 15000);
  assert.doesNotMatch(server.log, /code=3005/);
}, { seconds: 90 });

test('SIGINT ends it with 130', async () => {
  const server = await serve();
  const sub = start(['sub', url(server), 'chat'], auth());
  await subscribers(server, 1);
  sub.kill('SIGINT');
  const { code, signal } = await within(sub.over, patience(5000), 'end');
  assert.ok(code === 130 || signal === 'SIGINT');
  await subscribers(server, 0);
});

await done();

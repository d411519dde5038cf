/* roost sub and roost pub where connections are cut, refused and changed over: nothing twice, what is
 * uncertain is said. cli.test.mjs has the plain uses. */
import {
  assert, bound, ROOST, serve, launch, connect, test, done, command, within, patience, lines, atEnd, temporary, token, SECRET, until, sanitizerEnv,
  metrics, certificate, fs, path, scaled,
} from './lib.mjs';
import http from 'node:http';
import net from 'node:net';
import { WebSocketServer } from 'ws';

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

const ended = (child) => within(child.over, patience(20000), 'end');
const auth = (t = token()) => ({ ROOST_TOKEN: t });
const subscribers = (server, n) => until(async () => (await metrics(server)).get('subscriptions') === n, `${n} subscribers`);

function listen(server) {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(server.address().port));
    atEnd(() => server.close());
  });
}

/* A proxy whose connections the test can cut: cutAfter(n) answers how many bytes of connection n may pass
 * from the client to the server. */
async function proxy(port, cutAfter) {
  let count = 0;
  const sockets = new Set();
  const server = net.createServer((client) => {
    let left = cutAfter(count++);
    const upstream = net.connect(port, '127.0.0.1');
    const cut = () => {
      client.resetAndDestroy();
      upstream.end(); /* what has passed still arrives */
    };
    for (const s of [client, upstream]) {
      sockets.add(s);
      s.on('error', () => {}).on('close', () => sockets.delete(s));
    }
    upstream.on('data', (d) => client.write(d)).on('end', () => client.end());
    client.on('end', () => upstream.end()).on('data', (d) => {
      const pass = Math.min(left, d.length);
      left -= pass;
      if (pass) upstream.write(d.subarray(0, pass));
      if (left === 0) cut();
    });
  });
  atEnd(() => sockets.forEach((s) => s.destroy()));
  return { port: await listen(server), connections: () => count };
}

test('a certificate that is not trusted: exit 1 and what to do', async () => {
  const { cert, key } = await certificate();
  const server = await serve(['--listen', 'wss://127.0.0.1:0', '--cert', cert, '--key', key]);
  const url = server.url('wss');
  const refused = start(['sub', url, 'chat'], auth());
  assert.equal((await ended(refused)).code, 1);
  assert.match(refused.errors, /certificate.*--cacert/);
  const sub = start(['sub', url, 'chat', '--cacert', cert, '--count', '1'], auth());
  await until(() => /connected, TLSv1.3/.test(sub.errors), 'connected');
  const pub = start(['pub', url, 'chat', '--insecure', '--message', 'over TLS'], auth());
  assert.equal((await ended(pub)).code, 0);
  assert.match(pub.errors, /--insecure: anybody/);
  assert.equal(await sub.line(), 'over TLS');
  assert.equal((await ended(sub)).code, 0);
});

test('what serve --dev keeps is found: no option needed on this machine', async () => {
  const state = temporary();
  const env = { ROOST_STATE_DIR: state };
  fs.chmodSync(state, 0o700);
  const server = await launch(['serve', '--dev', '--listen', 'wss://127.0.0.1:0'], { env }).ready();
  const url = server.url('wss');
  const sub = start(['sub', url, 'chat', '--count', '1'], env);
  await until(() => /connected/.test(sub.errors), `connected: ${sub.errors}`);
  assert.match(sub.errors, /using the certificate and a token made with the secret/);
  const pub = start(['pub', url, 'chat', '--message', 'hello'], env);
  assert.equal((await ended(pub)).code, 0);
  assert.equal(await sub.line(), 'hello');
});

test('a new token changes the connection: nothing twice, one subscription at a time', async () => {
  const server = await serve();
  const dir = temporary();
  const secret = path.join(dir, 'secret');
  fs.writeFileSync(secret, SECRET, { mode: 0o600 });
  const sub = start(['sub', server.url('ws'), 'chat', '--token-cmd', `exec ${ROOST} token make --sub me --exp 3s --sub-to chat --secret-file ${secret}`]);
  await subscribers(server, 1);
  const client = await connect(server, '/raw/chat?sub=0');
  const seen = [];
  sub.stdout.on('data', (t) => seen.push(...String(t).split('\n').filter(Boolean).map(Number)));
  let n = 0;
  const end = performance.now() + 60000;
  while ((sub.errors.match(/changed over/g) || []).length < 2 && performance.now() < end) {
    client.send(String(n++));
    assert.ok((await metrics(server)).get('subscriptions') <= 1);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  assert.match(sub.errors, /changed over/);
  await until(() => { client.send(String(n++)); return seen.at(-1) > n - 20; }, 'the last ones arrive');
  for (let i = 1; i < seen.length; i++) assert.ok(seen[i] > seen[i - 1], `${seen[i]} after ${seen[i - 1]}`);
  assert.doesNotMatch(server.log, /code=3005/);
  assert.doesNotMatch(sub.errors, /lost/);
}, { seconds: 120 });

test('pub through a line that is cut: nothing twice, in order, the uncertain ones are counted', async () => {
  const server = await serve();
  const client = await connect(server, '/raw/chat?pub=0');
  const got = [];
  const line = await proxy(server.port('ws'), (i) => (i < 3 ? 20000 + i * 7777 : Infinity));
  const count = scaled(20000, 8000);
  const pub = start(['pub', `ws://127.0.0.1:${line.port}`, 'chat'], auth());
  for (let i = 0; i < count; i += 500) {
    pub.stdin.write(Array.from({ length: 500 }, (_, k) => `${i + k}\n`).join(''));
    await new Promise((resolve) => setTimeout(resolve, 20)); /* so that connections begin and end while lines come */
  }
  pub.stdin.end();
  const { code } = await within(pub.over, patience(40000), 'end of pub');
  const uncertain = Number((pub.errors.match(/(\d+) messages may be lost/) || [0, 0])[1]);
  const confirmed = Number(pub.errors.match(/(\d+) messages published/)[1]);
  assert.equal(confirmed + uncertain, count, pub.errors);
  assert.equal(code, uncertain ? 1 : 0);
  assert.ok(line.connections() > 1);
  for (let i = 0; i < confirmed; i++) got.push(Number(await client.next()));
  for (let i = 1; i < got.length; i++) assert.ok(got[i] > got[i - 1], `${got[i]} after ${got[i - 1]}`);
  assert.ok(got.at(-1) === count - 1 || uncertain > 0);
}, { seconds: 120 });

test('pub: a connection that dies before the server had anything costs nothing', async () => {
  const server = await serve();
  const client = await connect(server, '/raw/chat?pub=0');
  const line = await proxy(server.port('ws'), (i) => (i === 0 ? 50 : Infinity));
  const pub = start(['pub', `ws://127.0.0.1:${line.port}`, 'chat', '--message', 'late but there'], auth());
  assert.equal((await ended(pub)).code, 0);
  assert.match(pub.errors, /retry in/);
  assert.equal(await client.next(), 'late but there');
});

test('429 and 503 are waited out as Retry-After says; 404 and 301 are final', async () => {
  let asked = 0;
  const stub = http.createServer();
  stub.on('upgrade', (request, socket) => {
    socket.on('error', () => {});
    const status = request.url.includes('final') ? 404 : request.url.includes('moved') ? 301 : 503;
    asked++;
    socket.end(`HTTP/1.1 ${status} No\r\nRetry-After: 1\r\nContent-Length: 13\r\n\r\nin one line\r\n`);
  });
  const port = await listen(stub);
  const sub = start(['sub', `ws://127.0.0.1:${port}`, 'chat', '--timeout', '4']);
  assert.equal((await ended(sub)).code, 0);
  assert.match(sub.errors, /503 in one line/);
  for (const [, seconds] of sub.errors.matchAll(/retry in ([\d.]+) s/g)) assert.ok(Number(seconds) >= 1.5);
  assert.ok(asked >= 1 && asked <= 3);
  for (const channel of ['final', 'moved']) assert.equal((await ended(start(['sub', `ws://127.0.0.1:${port}`, channel]))).code, 1);
});

test('whoever reads sub may go away: it ends quietly', async () => {
  const server = await serve();
  const sub = start(['sub', server.url('ws'), 'chat'], auth());
  await subscribers(server, 1);
  sub.stdout.destroy();
  assert.equal((await ended(sub)).code, 0);
  assert.doesNotMatch(sub.errors, /pipe/i);
  await subscribers(server, 0);
});

test('--timeout: 0 by itself, 1 when --count was not reached; wrong usage is 2', async () => {
  const server = await serve();
  const url = server.url('ws');
  const run = (args) => command(ROOST, args, { env: { PATH: process.env.PATH, HOME: '/nonexistent', ...sanitizerEnv, ...auth() }, code: null });
  assert.equal((await run(['sub', url, 'chat', '--timeout', '0.5'])).code, 0);
  const short = await run(['sub', url, 'chat', '--timeout', '0.5', '--count', '1']);
  assert.equal(short.code, 1);
  assert.match(short.err, /0 of 1/);
  for (const args of [['sub'], ['sub', url], ['pub', url], ['sub', url, 'c', '--count', '0'], ['sub', url, 'c', '--timeout', 'x'], ['sub', 'wss://', 'c'],
    ['pub', url, 'c', '--nonsense'], ['sub', url, 'c', '--token-file', 'a', '--token-cmd', 'b']]) assert.equal((await run(args)).code, 2, args.join(' '));
  assert.match((await run(['sub', '--help'])).out, /^usage: roost sub/);
});

test('closed with 1008 for a rate: it comes back; for anything else it does not', async () => {
  const wss = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  atEnd(() => { wss.clients.forEach((c) => c.terminate()); wss.close(); });
  await new Promise((resolve) => wss.on('listening', resolve));
  let came = 0;
  wss.on('connection', (ws) => ws.close(1008, came++ ? 'publishing is not permitted' : 'rate'));
  const sub = start(['sub', `ws://127.0.0.1:${wss.address().port}`, 'chat']);
  assert.equal((await ended(sub)).code, 1);
  assert.equal(came, 2, sub.errors);
});

test('a server that pings less often than expected is not taken for dead', async () => {
  const wss = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  atEnd(() => { wss.clients.forEach((c) => c.terminate()); wss.close(); });
  await new Promise((resolve) => wss.on('listening', resolve));
  let pings = 0;
  wss.on('connection', (ws) => ws.on('ping', () => pings++)); /* ws answers by itself */
  const sub = start(['sub', `ws://127.0.0.1:${wss.address().port}`, 'chat', '--ping-timeout', '0.2']);
  await until(() => pings >= 2, 'it asks for a sign of life', 15000);
  assert.doesNotMatch(sub.errors, /lost|silent/);
});

await done();

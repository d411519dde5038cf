/* roost rebalance and POST /api/rebalance: the oldest connections are closed at a rate, and come back (docs/operations.md);
 * roost ready. */
import { assert, ROOST, serve, connect, test, done, command, atEnd, metrics, until, scaled, spread, token, fs, path, temporary, API_KEY, WebSocket } from './lib.mjs';
import { Speaker, settings, api, result, ENDPOINT } from './centrifuge.mjs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const url = (server) => `http://127.0.0.1:${server.port()}`;
const withKey = { PATH: process.env.PATH, ROOST_HTTP_API_KEY: API_KEY };
const rebalance = (server, ...args) => command(ROOST, ['rebalance', ...args, url(server)], { env: withKey, code: null });

/* open makes n clients; each later batch is younger than the one before. */
async function open(server, n) {
  const clients = [];
  await spread(n, 20, async () => clients.push(await connect(server, '/raw/a')));
  return clients;
}

test('a fifth of many, at a rate: the oldest get 1012, nobody else is closed', async () => {
  const fifth = scaled(200, 20);
  const server = await serve(['--workers', '1']);
  const old = await open(server, fifth);
  const young = await open(server, 4 * fifth);
  const start = performance.now();
  const said = await rebalance(server, '--percent', '20', '--rate', '100');
  assert.equal(said.out, `${fifth} connections will be closed\n`, said.err);
  for (const c of old) {
    const close = await c.over(20000);
    assert.deepEqual([close.code, close.reason], [1012, 'rebalance']);
  }
  /* never faster than the rate, but for what may be closed at once */
  assert.ok(performance.now() - start > (fifth - 10) * 10 * 0.9, `${performance.now() - start} ms`);
  const after = await metrics(server);
  assert.equal(after.get('rebalanced_total'), fifth);
  assert.equal(after.get('rebalance_left'), 0);
  assert.equal(after.get('connections_open'), 4 * fifth);
  assert.ok(young.every((c) => !c.close));
  const [told] = await server.logged(/msg="api call".* method=rebalance.*/);
  assert.match(told, /key=http_api.key .* result=ok/);
}, { seconds: 120 });

test('SDK clients get 3011 and come back; the others do not notice', async () => {
  const { Centrifuge } = require('centrifuge5');
  const server = await serve([...settings(), '--workers', '2']);
  const said = [];
  const clients = Array.from({ length: 20 }, (_, i) => {
    const client = new Centrifuge(`${server.url()}${ENDPOINT}`, { websocket: WebSocket, minReconnectDelay: 20, maxReconnectDelay: 200, token: token({ sub: `u${i}`, roost: undefined }) });
    client.on('connecting', (ctx) => { if (ctx.code >= 3000) said.push(ctx.code); });
    client.on('disconnected', (ctx) => said.push(`gone ${ctx.code}`));
    atEnd(() => { client.removeAllListeners(); client.disconnect(); });
    client.connect();
    return client;
  });
  await Promise.all(clients.map((c) => c.ready(20000)));
  const { closing } = await result(server, 'rebalance', { percent: 50, rate: 1000 });
  assert.ok(Math.abs(closing - 10) <= 1, `${closing}`); /* each worker half of its own, rounded */
  await until(() => said.length === closing, 'all are closed');
  assert.deepEqual(said, Array(closing).fill(3011));
  await Promise.all(clients.map((c) => c.ready(20000)));
  await until(async () => (await metrics(server)).get('connections_open') === 20, 'all are back');
  assert.equal(said.length, closing);
});

test('a second call takes the place of the first, 0 percent ends it, a drain comes first', async () => {
  const server = await serve(['--workers', '1']);
  const clients = await open(server, 20);
  const left = async () => (await metrics(server)).get('rebalance_left');
  assert.deepEqual(await result(server, 'rebalance', { percent: 100, rate: 1 }), { closing: 20 });
  await until(async () => (await left()) < 20, 'the first is closed');
  const second = (await result(server, 'rebalance', { percent: 50, rate: 1 })).closing;
  assert.ok(second >= 5 && second <= 10, `${second}`); /* half of who is left */
  assert.deepEqual(await result(server, 'rebalance', { percent: 0 }), { closing: 0 });
  assert.equal(await left(), 0);
  assert.ok(clients.filter((c) => c.close).length < 20);
  assert.ok((await result(server, 'rebalance', { percent: 100, rate: 1 })).closing > 0);
  server.child.kill('SIGTERM');
  for (const c of clients) assert.equal((await c.over()).code, 1012);
});

test('what is wrong with a call is said', async () => {
  const keys = path.join(temporary(), 'config.json');
  fs.writeFileSync(keys, JSON.stringify({ http_api: { keys: [{ name: 'reader', key: 'reader-key-0123456789', scope: 'read' }] } }));
  const server = await serve(['--config', keys]);
  for (const body of [{}, { percent: -1 }, { percent: 101 }, { percent: 5, rate: 0 }, { percent: 5, rate: 1e9 }])
    assert.equal((await api(server, 'rebalance', body)).json.error.code, 107, JSON.stringify(body));
  for (const body of [{ percent: '5' }, { percent: 5.5 }, { percent: 5, rate: null, x: 1 }])
    assert.equal((await api(server, 'rebalance', body)).status, body.x ? 200 : 400, JSON.stringify(body));
  assert.equal((await api(server, 'rebalance', { percent: 5 }, { headers: { 'X-API-Key': 'reader-key-0123456789' } })).status, 403);
  const other = await command(ROOST, ['rebalance', '--percent', '5', url(server)], { env: { PATH: process.env.PATH, HOME: temporary() }, code: null });
  assert.equal(other.code, 1);
  assert.match(other.err, /answers 401[^]*--api-key-file/);
  for (const args of [[], ['--percent', 'x'], ['--percent', '101'], ['--percent', '5', '--rate', '0'], ['--percent', '5', 'ftp://x']])
    assert.equal((await command(ROOST, ['rebalance', ...args], { env: withKey, code: null })).code, 2, args.join(' '));
});

test('the key from a file, the server at a Unix socket', async () => {
  const dir = temporary();
  fs.writeFileSync(path.join(dir, 'key'), `${API_KEY}\n`, { mode: 0o600 });
  await serve(['--listen', 'ws://127.0.0.1:0', '--admin-listen', `unix:${dir}/admin`]);
  const args = ['--percent', '20', '--api-key-file', path.join(dir, 'key'), `unix:${dir}/admin`];
  assert.equal((await command(ROOST, ['rebalance', ...args], { env: { PATH: process.env.PATH } })).out, '0 connections will be closed\n');
});

test('roost ready: 0 while it serves, 1 when it stops, is full or is not there', async () => {
  const server = await serve(['--shutdown.delay', '60s', '--client.connection_limit', '1']);
  const ready = () => command(ROOST, ['ready', url(server)], { code: null });
  assert.equal((await ready()).code, 0);
  const c = await connect(server, '/raw/a');
  const full = await ready();
  assert.equal(full.code, 1);
  assert.match(full.err, /answers 503: .*connection limit/);
  await c.end();
  await until(async () => (await ready()).code === 0, 'room again');
  server.child.kill('SIGTERM');
  await until(async () => (await ready()).code === 1, 'draining');
  server.child.kill('SIGTERM');
  await server.exited;
  const gone = await ready();
  assert.equal(gone.code, 1);
  assert.match(gone.err, /refused/);
  assert.equal((await command(ROOST, ['ready', 'x', 'y'], { code: null })).code, 2);
});

await done();

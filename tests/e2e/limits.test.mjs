/* When something runs out: descriptors, memory. Those who are served stay served. */
import {
  assert, serve, connect, upgraded, upgradeHead, bearer, fresh, test, done, metrics, request, requestHead, Raw, until, frame, OP, skip, VARIANT,
  closeFrame, publish, token, within, patience, Client, WebSocket, API_KEY, spread, scaled, certificate,
} from './lib.mjs';
import net from 'node:net';

/* metrics over a connection that is open already: a new one may not be had */
async function askOn(raw, target) {
  raw.write(requestHead('GET', target, { Host: 'a' }));
  return raw.response();
}

test('descriptors run out: clients stay served, newcomers are turned away, then taken again', async () => {
  const server = await serve(['--echo', '--workers', '2', '--http_server.handshake_timeout', '60s', '--http_server.idle_timeout', '60s'],
    { prefix: ['prlimit', '--nofile=80:80'] });
  const client = await connect(server);
  const admin = await Raw.connect(server);
  await askOn(admin, '/healthz');
  const others = [];
  const away = [];
  for (let i = 0; i < 120; i++) {
    const s = net.connect(server.port(), '127.0.0.1');
    s.on('error', () => {});
    others.push(s);
    away.push(new Promise((resolve) => s.on('close', resolve).resume()));
  }
  await within(Promise.race(away), patience(10000), 'newcomer that is turned away');
  for (let i = 0; i < 20; i++) await client.echo(`served ${i}`);
  const turns = async () => Number((await askOn(admin, '/metrics')).body.match(/^roost_turns_total (\d+)/m)[1]);
  const before = await turns();
  await client.echo('one turn or two');
  const after = await turns();
  assert.ok(after - before < 200, `${after - before} turns for one message: it spins`);
  assert.match((await askOn(admin, '/metrics')).body, /refused_total\{reason="descriptors"\} [1-9]/);
  assert.equal((await askOn(admin, '/readyz')).status, 503);
  for (const s of others) s.destroy();
  await until(async () => (await askOn(admin, '/readyz')).status === 200, 'ready again');
  await fresh(server);
  await client.echo('all the while');
});

test('unauthenticated bytes have one budget', async () => {
  const server = await serve(['--echo', '--client.unauthenticated_max_size', '64KiB', '--http_server.handshake_timeout', '60s']);
  const client = await connect(server);
  const heads = [];
  for (let i = 0; i < 40; i++) {
    const raw = await Raw.connect(server);
    raw.socket.on('error', () => {});
    await raw.written(upgradeHead('/echo', { 'X-Padding': 'x'.repeat(6000) }).slice(0, -4));
    heads.push(raw);
  }
  const turned = heads.map((raw) => raw.over(8000).then((bytes) => bytes.toString()).catch(() => null));
  const answer = await Promise.any(turned.map((p) => p.then((t) => (t === null ? Promise.reject(new Error('none')) : t))));
  if (answer) assert.match(answer, /^HTTP\/1\.1 503 /);
  await client.echo('served');
  assert.ok((await metrics(server)).get('refused_total{reason="unauthenticated_bytes"}') > 0);
  for (const raw of heads) raw.socket.destroy();
  await fresh(server);
});

test('bodies with a good key are not of that budget', async () => {
  const server = await serve(['--client.unauthenticated_max_size', '64KiB', '--workers', '1']);
  const body = `{"channel":"x","data":"${'y'.repeat(200000)}"}`;
  const calls = [];
  for (let i = 0; i < 5; i++) {
    const raw = await Raw.connect(server);
    await raw.written(requestHead('POST', '/api/publish', { Host: 'a', 'X-API-Key': API_KEY, 'Content-Length': body.length }) + body.slice(0, 150000));
    calls.push(raw);
  }
  await until(async () => (await metrics(server)).get('bytes_received_total') > 5 * 150000, 'they are there');
  const raw = await Raw.connect(server);
  const head = upgradeHead('/raw/x', bearer());
  await raw.written(head.slice(0, 50));
  await until(async () => (await metrics(server)).get('bytes_received_total') > 5 * 150000 + 50, 'half a head');
  raw.write(head.slice(50));
  assert.equal((await raw.response()).status, 101);
  for (const call of calls) {
    call.write(body.slice(150000));
    assert.deepEqual(JSON.parse((await call.response()).body), { result: {} });
  }
  assert.equal((await metrics(server)).get('refused_total{reason="unauthenticated_bytes"}'), 0);
});

/* ---- the k-th allocation fails ---- */

/* One session that uses everything once. Any step may fail; none may hang or end the server. */
async function session(server) {
  const settle = (promise) => promise.then(() => true, () => false);
  const steps = [];
  const clients = [];
  const open = async (path, scheme = 'ws') => {
    const client = new Client(new WebSocket(`${server.url(scheme)}${path}`, { headers: bearer(session.token), perMessageDeflate: false, rejectUnauthorized: false }));
    client.socket.on('error', () => {});
    clients.push(client);
    await within(Promise.race([client.opened, client.closed.then(() => Promise.reject(new Error('closed')))]), patience(5000), 'open or close');
    return client;
  };
  steps.push(await settle((async () => {
    const c = await open('/echo');
    await c.echo('short');
    await c.echo('long'.repeat(20000));
    c.send('frag', { fin: false });
    c.send('ment', { fin: true });
    assert.equal(await c.next(), 'fragment');
    await c.end();
  })()));
  steps.push(await settle((async () => {
    const a = await open('/raw/session');
    const b = await open('/raw/session?self=0');
    await a.echo('to all');
    assert.equal(await b.next(), 'to all');
    const answer = await publish(server, 'session', 'x'.repeat(5000));
    assert.equal(answer.status, 200);
    assert.ok(JSON.parse(answer.body).result);
    await a.next();
    await a.end();
    await b.end();
  })()));
  steps.push(await settle((async () => {
    const c = await open('/echo', 'wss');
    await c.echo('secret'.repeat(5000));
    await c.end();
  })()));
  steps.push(await settle(metrics(server)));
  for (const c of clients) c.socket.terminate(); /* where a step broke off */
  return steps.every(Boolean);
}

test('allocation k fails, for every k of a session: a fresh client is served', async () => {
  if (!['debug', 'asan'].includes(VARIANT)) skip('only debug and asan builds have ROOST_TEST_FAIL_ALLOC');
  session.token = token();
  const { cert, key } = await certificate();
  let good = 0;
  let broken = 0;
  let k = 0;
  while (good < 5 && k < 400) {
    k++;
    const server = await serve(['--echo', '--workers', '1', '--client.ping_interval', '0', '--listen', 'ws://127.0.0.1:0',
      '--listen', 'wss://127.0.0.1:0', '--cert', cert, '--key', key], { env: { ROOST_TEST_FAIL_ALLOC: String(k) } });
    if (await session(server)) good++;
    else {
      good = 0;
      broken++;
    }
    /* One allocation fails, and it may be one of these; then the next attempt has nothing in its way. */
    await fresh(server).catch(() => fresh(server));
    const open = async () => (await metrics(server)).get('connections_open');
    await until(async () => (await open().catch(open)) === 0, `k = ${k}: nothing is left`);
    await server.stop();
  }
  assert.ok(broken > 0, 'no allocation failed: is ROOST_TEST_FAIL_ALLOC obeyed?');
  assert.ok(k < 400, `still failing at k = ${k}`);
}, { seconds: 240 });

await done();

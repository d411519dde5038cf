/* What is due when: heartbeats, tokens that end, connections that grow old, closes that are not answered. */
import {
  assert, serve, connect, upgraded, fresh, test, done, frame, closeFrame, OP, until, metrics, token, nowSeconds, bearer,
  patience, within, SANITIZED, spread, command, Raw, upgradeHead,
} from './lib.mjs';

const LATE_MS = SANITIZED ? 1500 : 400; /* how late a loaded machine may be; never early */

/* A raw client that says what it wants in answer to pings. Resolves pings as they come: [{at, payload}]. */
async function pinged(raw, count, answer) {
  const pings = [];
  while (pings.length < count) {
    const f = await raw.frame();
    if (f.opcode !== OP.PING) continue;
    pings.push({ at: performance.now(), payload: f.payload });
    answer(f);
  }
  return pings;
}

test('a ping every interval, a little early at most, never late', async () => {
  const server = await serve(['--echo', '--ping-interval', '1s', '--client.pong_timeout', '500ms']);
  const firsts = [];
  await spread(12, 12, async () => {
    const raw = await upgraded(server);
    const opened = performance.now();
    const pings = await pinged(raw, 4, (f) => raw.write(frame(OP.PONG, f.payload)));
    firsts.push(pings[0].at - opened);
    let last = opened;
    for (const { at } of pings) {
      const gap = at - last;
      assert.ok(gap >= 400 && gap <= 1000 + LATE_MS, `gap of ${Math.round(gap)} ms`);
      last = at;
    }
  });
  const apart = Math.max(...firsts) - Math.min(...firsts);
  assert.ok(apart > 50, `twelve clients are pinged within ${apart} ms: no jitter`);
  assert.ok((await metrics(server)).get('pings_sent_total') >= 48);
});

test('pings keep their schedule on a busy connection', async () => {
  const server = await serve(['--echo', '--ping-interval', '1s', '--client.pong_timeout', '500ms']);
  const client = await connect(server);
  let pings = 0;
  client.socket.on('ping', () => pings++);
  const end = performance.now() + 3500;
  let n = 0;
  while (performance.now() < end) await client.echo(`busy ${n++}`);
  assert.ok(pings >= 3, `${pings} pings in 3.5 s`);
});

test('a dead peer is closed with 3012 after the pong deadline, then cut', async () => {
  const server = await serve(['--echo', '--ping-interval', '1s', '--client.pong_timeout', '300ms', '--websocket.close_timeout', '300ms']);
  for (const path of ['/echo', '/raw/chat']) {
    const raw = await upgraded(server, path);
    const [ping] = await pinged(raw, 1, () => {});
    const close = await raw.closeFrame();
    const took = performance.now() - ping.at;
    assert.equal(close.code, 3012);
    assert.notEqual(close.reason, '');
    assert.ok(took >= 150 && took < 300 + LATE_MS, `${took} ms`);
    await raw.over(); /* without our Close */
  }
  await until(async () => (await metrics(server)).get('connections_open') === 0, 'gone');
  assert.equal((await metrics(server)).get('timeouts_total{what="pong"}'), 2);
  await fresh(server);
});

test('whatever comes counts as alive, not only pongs', async () => {
  const server = await serve(['--echo', '--ping-interval', '1s', '--client.pong_timeout', '300ms']);
  const raw = await upgraded(server);
  await pinged(raw, 3, () => raw.write(frame(OP.TEXT, 'no pong, but alive')));
  assert.equal((await raw.closeFrame()).code, 3012); /* now silent */
});

test('pongs nobody asked for do no harm', async () => {
  const server = await serve(['--echo']);
  const raw = await upgraded(server);
  raw.write(Buffer.concat([frame(OP.PONG, ''), frame(OP.PONG, 'x'), frame(OP.TEXT, 'on')]));
  assert.equal((await raw.frame()).payload.toString(), 'on');
});

test('ping_interval 0: no pings', async () => {
  const server = await serve(['--echo', '--ping-interval', '0']);
  const raw = await upgraded(server);
  const other = await serve(['--echo', '--ping-interval', '500ms', '--client.pong_timeout', '100ms']);
  const clock = await upgraded(other);
  await pinged(clock, 3, (f) => clock.write(frame(OP.PONG, f.payload)));
  raw.write(frame(OP.TEXT, 'first'));
  assert.equal((await raw.frame()).payload.toString(), 'first');
});

test('a token that ends closes the connection with 3005, after the grace delay and not before', async () => {
  const server = await serve(['--echo', '--client.expired_close_delay', '500ms']);
  const exp = nowSeconds() + 2;
  const client = await connect(server, '/raw/chat', { token: token({ exp }) });
  await client.echo('good for now');
  const close = await client.over();
  const late = Date.now() - (exp * 1000 + 500);
  assert.equal(close.code, 3005);
  assert.notEqual(close.reason, '');
  assert.ok(late >= -20 && late < 1000 + LATE_MS, `${late} ms late`);
  assert.equal((await metrics(server)).get('timeouts_total{what="token"}'), 1);
  await fresh(server);
});

test('tokens that end on /echo, and in roost.bearer', async () => {
  const server = await serve(['--echo', '--client.expired_close_delay', '0']);
  const exp = nowSeconds() + 2;
  const a = await connect(server, '/echo', { token: token({ exp }) });
  const b = await connect(server, '/raw/chat', { token: null, protocols: ['roost.bearer', token({ exp })] });
  const forever = await connect(server, '/raw/chat', { token: token({ exp: undefined }) });
  assert.equal((await a.over()).code, 3005);
  assert.equal((await b.over()).code, 3005);
  assert.ok(Date.now() >= exp * 1000 - 20, 'closed before exp');
  await forever.echo('no exp, no end');
});

test('an exp far in the future, or beyond all clocks, is no end', async () => {
  const server = await serve(['--echo']);
  for (const exp of [nowSeconds() + 400 * 86400, 4e9, 1e15, 9.0e18]) {
    const c = await connect(server, '/echo', { token: token({ exp }) });
    await c.echo(String(exp));
    await c.echo('still');
  }
});

test('connection age: 1012 "refresh", up to a fifth early, not all at once', async () => {
  const server = await serve(['--echo', '--max-connection-age', '2s']);
  const ages = [];
  await spread(30, 30, async (i) => {
    const client = await connect(server, i % 2 ? '/echo' : '/raw/chat');
    const opened = performance.now();
    const close = await client.over();
    assert.equal(close.code, 1012);
    assert.match(close.reason, /refresh/);
    ages.push(performance.now() - opened);
  });
  assert.ok(Math.min(...ages) >= 1500, `one lived ${Math.min(...ages)} ms`);
  assert.ok(Math.max(...ages) <= 2000 + LATE_MS, `one lived ${Math.max(...ages)} ms`);
  assert.ok(Math.max(...ages) - Math.min(...ages) > 50, 'all at once');
  assert.equal((await metrics(server)).get('timeouts_total{what="age"}'), 30);
  await fresh(server);
});

test('a Close that is not answered: TCP is cut after the close timeout', async () => {
  const server = await serve(['--echo', '--websocket.close_timeout', '400ms']);
  const raw = await upgraded(server);
  raw.write(frame(OP.TEXT, 'x', { rsv: 1 }));
  assert.equal((await raw.closeFrame()).code, 1002);
  const start = performance.now();
  await raw.over();
  const took = performance.now() - start;
  assert.ok(took < 400 + LATE_MS, `${took} ms`);
  await until(async () => (await metrics(server)).get('sockets_open') <= 1, 'gone');
  await fresh(server);
});

test('a peer that closes but keeps its side of TCP open is cut too', async () => {
  const server = await serve(['--echo', '--websocket.close_timeout', '300ms']);
  const raw = await upgraded(server);
  raw.write(closeFrame(1000));
  assert.equal((await raw.closeFrame()).code, 1000);
  await raw.over(); /* their FIN; we send none */
  await until(async () => (await metrics(server)).get('sockets_open') <= 1, 'gone');
  await fresh(server);
});

test('a flood behind our Close is thrown away, within the deadline', async () => {
  const server = await serve(['--echo', '--websocket.close_timeout', '500ms']);
  const raw = await upgraded(server);
  raw.socket.on('error', () => {});
  raw.write(frame(OP.TEXT, 'x', { rsv: 1 }));
  let stop = false;
  const flood = (async () => {
    while (!stop && !raw.socket.destroyed && !raw.error) await raw.written(frame(OP.BINARY, Buffer.alloc(65536)));
  })();
  await until(async () => (await metrics(server)).get('sockets_open') <= 1, 'gone');
  stop = true;
  raw.socket.destroy();
  await flood;
  await fresh(server);
});

await done();

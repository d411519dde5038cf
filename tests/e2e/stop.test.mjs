/* SIGTERM closes politely, within a deadline; a second signal ends at once */
import {
  assert, serve, connect, upgraded, test, done, within, patience, frame, OP, Raw, requestHead, launch, spread, scaled,
  fresh, SECRET, API_KEY, fs, path, temporary, ROOST, command, until, metrics,
} from './lib.mjs';
import net from 'node:net';

async function over(server, ms) {
  const start = performance.now();
  await within(server.exited, patience(ms), 'exit');
  return performance.now() - start;
}

test('SIGTERM: 1012 with a reason to all, exit 0', async () => {
  const server = await serve(['--echo', '--workers', '2', '--shutdown.timeout', '5s']);
  const clients = [];
  await spread(scaled(200, 50), 20, async (i) => clients.push(await connect(server, i % 2 ? '/echo' : `/raw/c${i % 7}`)));
  server.child.kill('SIGTERM');
  for (const c of clients) {
    const close = await c.over();
    assert.equal(close.code, 1012);
    assert.match(close.reason, /\S/);
    assert.doesNotMatch(close.reason, /[{}]/);
  }
  await over(server, 10000);
  assert.deepEqual(server.exit, { code: 0, signal: null });
  server.check();
});

test('SIGINT does the same', async () => {
  const server = await serve(['--echo']);
  const client = await connect(server);
  server.child.kill('SIGINT');
  assert.equal((await client.over()).code, 1012);
  await over(server, 10000);
  assert.deepEqual(server.exit, { code: 0, signal: null });
});

test('with nobody there it ends at once', async () => {
  const server = await serve(['--shutdown.timeout', '30s']);
  server.child.kill('SIGTERM');
  const took = await over(server, 5000);
  assert.ok(took < patience(2000), `${took} ms`);
});

test('what was published before the signal still arrives', async () => {
  const server = await serve(['--workers', '2', '--shutdown.timeout', '5s']);
  const listeners = [];
  for (let i = 0; i < 10; i++) listeners.push(await connect(server, '/raw/last'));
  const raw = await upgraded(server, '/raw/last');
  const count = 200;
  raw.write(Buffer.concat(Array.from({ length: count }, (_, i) => frame(OP.TEXT, `word ${i}`))));
  assert.equal(await listeners[0].next(), 'word 0');
  server.child.kill('SIGTERM');
  for (const [n, c] of listeners.entries()) {
    await c.over();
    const got = n === 0 ? ['word 0', ...c.inbox] : c.inbox;
    got.forEach((m, i) => assert.equal(m, `word ${i}`)); /* no gap, whatever the last one was */
  }
});

test('peers that do not answer the Close: the deadline ends it', async () => {
  const server = await serve(['--echo', '--shutdown.timeout', '1500ms', '--websocket.close_timeout', '60s']);
  const stubborn = [];
  for (let i = 0; i < 5; i++) stubborn.push(await upgraded(server));
  server.child.kill('SIGTERM');
  for (const raw of stubborn) assert.equal((await raw.closeFrame()).code, 1012);
  const took = await over(server, 10000);
  assert.ok(took < patience(4000), `${took} ms`);
  assert.deepEqual(server.exit, { code: 0, signal: null });
});

test('a second signal ends at once', async () => {
  const server = await serve(['--echo', '--shutdown.timeout', '60s', '--websocket.close_timeout', '60s']);
  server.kept = true; /* how it exits is up to it */
  const raw = await upgraded(server);
  server.child.kill('SIGTERM');
  assert.equal((await raw.closeFrame()).code, 1012);
  server.child.kill('SIGTERM');
  const took = await over(server, 5000);
  assert.ok(took < patience(1000), `${took} ms`);
  server.check();
});

test('while it drains nobody new comes in', async () => {
  const server = await serve(['--echo', '--shutdown.timeout', '3s', '--websocket.close_timeout', '60s']);
  const raw = await upgraded(server);
  const port = server.port();
  server.child.kill('SIGTERM');
  await raw.closeFrame();
  const outcome = await new Promise((resolve) => {
    const s = net.connect(port, '127.0.0.1');
    s.on('connect', () => s.write(requestHead('GET', '/readyz', { Host: 'a' })));
    s.on('data', (d) => resolve(d.toString()));
    s.on('error', (e) => resolve(e.code));
    s.on('end', () => resolve('FIN'));
  });
  assert.ok(/^(ECONNREFUSED|ECONNRESET|FIN|HTTP\/1\.1 503 )/.test(outcome), outcome);
  raw.reset();
  await over(server, 10000);
});

test('HTTP requests under way are answered, idle keep-alive connections end', async () => {
  const server = await serve(['--shutdown.timeout', '5s']);
  const idle = await Raw.connect(server);
  idle.write(requestHead('GET', '/healthz', { Host: 'a' }));
  await idle.response();
  server.child.kill('SIGTERM');
  await idle.over();
  idle.end();
  await over(server, 10000);
});

test('a port that is taken, by whatever program or by another roost: one line that says so, exit 1', async () => {
  const server = await serve();
  const blocker = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => blocker.on('listening', resolve));
  for (const port of [blocker.address().port, server.port()]) {
    const second = launch(['serve', '--listen', `ws://127.0.0.1:${port}`],
      { env: { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET, ROOST_HTTP_API_KEY: API_KEY } });
    await within(Promise.race([second.exited, second.ready().then(() => assert.fail(`two servers share port ${port}`))]), patience(5000), 'exit');
    second.kept = true;
    assert.equal(second.exit.code, 1);
    assert.match(second.log, /in use/i);
  }
  blocker.close();
  await fresh(server);
});

test('a port is free again at once, though connections of the old server linger', async () => {
  const first = await serve(['--echo']);
  const client = await connect(first);
  await client.echo('x');
  const url = first.url();
  await first.stop();
  await fresh(await serve(['--listen', url]));
});

test('a client that goes on asking on its connection does not hold the stop', async () => {
  const server = await serve(['--shutdown.timeout', '20s']);
  const busy = await Raw.connect(server);
  const half = await Raw.connect(server);
  await half.written('GET /hea');
  let last;
  const asks = (async () => {
    while (last?.headers.connection !== 'close' && !busy.ended) { /* or it ends between two requests */
      busy.write(requestHead('GET', '/healthz', { Host: 'a' }));
      await busy.wait(() => busy.ended || busy.bytes.length || undefined, 'answer or FIN');
      if (busy.bytes.length) last = await busy.response();
    }
    busy.end();
  })();
  await busy.wait(() => (last ? true : undefined), 'first answer');
  server.child.kill('SIGTERM');
  await asks;
  half.write('lthz HTTP/1.1\r\nHost: a\r\n\r\n');
  const answer = await half.response();
  assert.deepEqual([answer.status, answer.headers.connection], [200, 'close']);
  half.end();
  const took = await over(server, 10000);
  assert.ok(took < patience(3000), `${took} ms`);
});

test('half a head at the signal keeps its own deadline, no more', async () => {
  const server = await serve(['--shutdown.timeout', '20s', '--http_server.handshake_timeout', '1s']);
  const raw = await Raw.connect(server);
  raw.write(`${requestHead('GET', '/healthz', { Host: 'a' })}GET /hea`);
  await raw.response();
  server.child.kill('SIGTERM');
  assert.equal((await raw.response()).status, 408);
  await raw.over();
  raw.end();
  const took = await over(server, 10000);
  assert.ok(took < patience(3000), `${took} ms`);
});

/* failed starts a second server that can not start: its exit status and what it said */
async function failed(args, env = {}) {
  return command(ROOST, ['serve', ...args],
    { env: { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET, ...env }, code: 1 });
}

test('a server that can not start leaves the files of another alone', async () => {
  const dir = temporary();
  const file = (name) => path.join(dir, name);
  const pid = ['--pid_file', file('pid')];
  const server = await serve(['--listen', `unix:${file('a')}`, '--listen', 'ws://127.0.0.1:0', '--admin-listen', `unix:${file('admin')}`, ...pid]);
  const same = () => {
    assert.equal(fs.readFileSync(file('pid'), 'utf8'), `${server.child.pid}\n`);
    for (const name of ['a', 'admin']) assert.ok(fs.statSync(file(name)).isSocket(), name);
    assert.equal(fs.existsSync(file('b')), false);
  };
  same();
  assert.match((await failed(['--listen', server.url(), ...pid])).err, /in use/);
  same();
  assert.match((await failed(['--listen', `unix:${file('b')}`, '--listen', `unix:${file('a')}`])).err, /in use/);
  same();
  assert.match((await failed(['--listen', `unix:${file('b')}`, '--admin-listen', `unix:${file('admin')}`])).err, /in use/);
  same();
  assert.match((await failed(['--listen', `unix:${file('b')}`, ...pid])).err, /pid file/);
  same();
  await server.stop();
  assert.deepEqual(fs.readdirSync(dir), []);
});

const connectUnix = (file) => new Promise((resolve, reject) => {
  const socket = net.connect({ path: file, allowHalfOpen: true }, () => resolve(new Raw(socket)));
  socket.once('error', reject);
});

test('a Unix socket closes when the drain begins; a new server may have its name', async () => {
  const dir = temporary();
  const file = path.join(dir, 'sock');
  const args = ['--echo', '--listen', `unix:${file}`, '--listen', 'ws://127.0.0.1:0', '--workers', '2', '--shutdown.timeout', '20s', '--websocket.close_timeout', '60s'];
  const server = await serve(args);
  const raw = await upgraded(server);
  server.child.kill('SIGTERM');
  await raw.closeFrame(); /* the drain has begun, and waits for us */
  await assert.rejects(connectUnix(file), /ENOENT/);
  const next = await serve(args);
  raw.reset();
  await over(server, 10000);
  const client = await connectUnix(file); /* the old one did not take it away */
  client.write(requestHead('GET', '/healthz', { Host: 'a' }));
  assert.equal((await client.response()).status, 200);
  client.end();
  await next.stop();
  assert.equal(fs.existsSync(file), false);
});

test('who waits in the queue of a Unix socket at SIGTERM gets an answer', async () => {
  const file = path.join(temporary(), 'sock');
  const server = await serve(['--listen', `unix:${file}`, '--workers', '2']);
  server.child.kill('SIGSTOP');
  const waiting = [];
  for (let i = 0; i < 20; i++) {
    waiting.push(await connectUnix(file));
    await waiting[i].written(requestHead('GET', '/healthz', { Host: 'a', Connection: 'close' }));
  }
  server.child.kill('SIGTERM');
  server.child.kill('SIGCONT');
  for (const raw of waiting) {
    assert.equal((await raw.response()).status, 200);
    await raw.over();
    raw.end();
  }
  await over(server, 10000);
  server.check();
});

test('a body under way at the signal, and answers that nobody reads: no longer than a head may take', async () => {
  const server = await serve(['--shutdown.timeout', '30s', '--http_server.handshake_timeout', '1s', '--websocket.close_timeout', '1s', '--workers', '1', '--client.queue_max_size', '64KiB']);
  const body = await Raw.connect(server);
  body.write(`${requestHead('GET', '/healthz', { Host: 'a' })}${requestHead('POST', '/api/publish', { Host: 'a', 'X-API-Key': API_KEY, 'Content-Length': 100 })}{`);
  await body.response();
  const deaf = await Raw.connect(server);
  deaf.socket.pause();
  deaf.write(requestHead('GET', '/metrics', { Host: 'a' }).repeat(600));
  await until(async () => (await metrics(server)).get('http_requests_total') > 10, 'it has begun');
  server.child.kill('SIGTERM');
  assert.equal((await body.response()).status, 408);
  await body.over();
  body.end();
  const took = await over(server, 10000);
  assert.ok(took < patience(5000), `${took} ms`);
});


await done();

/* What an operator sees: metrics that are exact, health, logs with one line a connection. */
import {
  assert, serve, connect, upgraded, fresh, test, done, metrics, request, requestHead, Raw, until, command, ROOST, token, frame, OP,
  refused, publish, launch, within, patience, path, fs, temporary, SECRET, API_KEY,
} from './lib.mjs';

test('/healthz and /readyz', async () => {
  const server = await serve();
  for (const target of ['/healthz', '/readyz']) {
    const answer = await request(server, { target });
    assert.equal(answer.status, 200, target);
    assert.match(answer.headers['content-type'], /^text\/plain/);
  }
});

test('the figures are exact', async () => {
  const server = await serve(['--echo', '--workers', '2']);
  const before = await metrics(server);
  const a = await connect(server, '/raw/chat');
  const b = await connect(server, '/raw/chat?self=0');
  const e = await connect(server, '/echo');
  for (let i = 0; i < 10; i++) {
    await a.echo(`a${i}`);
    assert.equal(await b.next(), `a${i}`);
  }
  b.send('b');
  assert.equal(await a.next(), 'b');
  for (let i = 0; i < 7; i++) await e.echo('x');
  await publish(server, 'chat', 1);
  await a.next();
  await b.next();
  await publish(server, 'nobody-listens', 1);
  await refused(server, '/echo', { token: null });
  const m = await metrics(server);
  const grown = (name) => m.get(name) - before.get(name);
  assert.equal(m.get('connections_open'), 3);
  assert.equal(grown('connections_upgraded_total'), 3);
  assert.equal(m.get('subscriptions'), 2);
  assert.equal(m.get('channels'), 1);
  assert.equal(grown('messages_received_total'), 10 + 1 + 7);
  assert.equal(grown('messages_sent_total'), 20 + 1 + 7 + 2);
  assert.equal(grown('publications_total'), 10 + 1 + 2);
  assert.equal(grown('deliveries_total'), 20 + 1 + 2);
  assert.equal(grown('api_requests_total'), 2);
  assert.equal(grown('refused_total{reason="token"}'), 1);
  assert.equal(m.get('workers'), 2);
  assert.ok(grown('bytes_received_total') > 1000 && grown('bytes_sent_total') > 1000);
  assert.equal(m.get('queued_bytes'), 0);
  assert.ok(m.get('loop_lag_seconds_count') > 0);
  assert.ok(m.get('fanout_seconds_count') >= 13 || m.get('fanout_seconds_count') > 0);
  assert.equal(m.get('loop_lag_seconds_bucket{le="+Inf"}'), m.get('loop_lag_seconds_count'));
  for (const c of [a, b, e]) await c.end();
  const end = await until(async () => {
    const now = await metrics(server);
    return now.get('connections_open') === 0 && now;
  }, 'all are gone');
  assert.equal(end.get('subscriptions'), 0);
  assert.equal(end.get('channels'), 0);
});

test('what the kernel says: listeners, descriptors, TCP memory, round-trip times of a sample', async () => {
  const server = await serve(['--echo', '--workers', '2', '--admin-listen', 'ws://127.0.0.1:0']);
  const clients = [];
  for (let i = 0; i < 10; i++) clients.push(await connect(server));
  const m = await until(async () => { /* each worker asks once a second, in a turn */
    for (const c of clients) await c.echo('a turn of its worker');
    const now = await metrics(server, { nth: 1 });
    return now.get('tcp_sampled_connections') === 10 && now;
  }, 'all are in the sample', 20000);
  for (const nth of [0, 1]) {
    const listener = `{listener="${server.url('ws', nth)}"}`;
    assert.ok(m.get(`accept_queue${listener}`) >= 0 && m.get(`accept_queue_max${listener}`) > 0, listener);
  }
  const rtt = (q) => m.get(`tcp_rtt_seconds{quantile="${q}"}`);
  assert.ok(rtt('0.5') > 0 && rtt('0.99') >= rtt('0.5') && rtt('0.99') < 60, `${rtt('0.5')} ${rtt('0.99')}`);
  assert.equal(m.get('tcp_unsent_bytes{quantile="0.5"}'), 0);
  assert.ok(m.get('descriptors_open') > 10 && m.get('descriptors_max') >= m.get('descriptors_open'));
  if (fs.existsSync('/proc/sys/net/ipv4/tcp_mem')) assert.ok(m.get('kernel_tcp_memory_limit_bytes{level="max"}') > 0);
  if (fs.existsSync('/proc/net/netstat')) assert.ok(m.get('kernel_listen_drops_total') >= m.get('kernel_listen_overflows_total'));
});

test('memory goes back when connections go', async () => {
  const server = await serve(['--echo', '--workers', '1']);
  await fresh(server);
  const used = async () => (await metrics(server)).get('memory_used_bytes');
  const start = await used();
  for (let round = 0; round < 3; round++) {
    const clients = [];
    for (let i = 0; i < 100; i++) clients.push(await connect(server, `/raw/m${i}`));
    for (const c of clients) c.send('x'.repeat(10000), { fin: false });
    await until(async () => (await used()) > start + 500000, 'unfinished messages are held');
    for (const c of clients) c.socket.terminate();
    await until(async () => (await used()) <= start * 1.05 + 1024, 'given back');
  }
});

test('one line a closed connection, with how it ended and what it did', async () => {
  const server = await serve(['--echo']);
  const client = await connect(server);
  await client.echo('four');
  await client.end(4000, 'secret reason');
  const [line] = await server.logged(/^.*msg="?[a-z ]*closed.*code=4000.*$/m);
  assert.match(line, /^ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=\w+ /);
  for (const field of [/ worker=\d/, / conn=\d/, / peer=127\.0\.0\.1:\d+/]) assert.match(line, field);
  assert.doesNotMatch(line, /four/);
  const cut = await upgraded(server);
  cut.reset();
  await server.logged(/code=1006/);
});

test('payloads, tokens and keys are in no log', async () => {
  const server = await serve(['--echo', '--token-query', '--log-level', 'debug']);
  const word = 'payload-that-no-log-may-hold';
  const c = await connect(server, `/raw/chat?token=${token()}`, { token: null });
  await c.echo(word);
  await publish(server, 'chat', word);
  await request(server, { method: 'POST', target: `/api/publish?api_key=wrong-key-in-a-query`, body: '{}' });
  await c.end();
  await server.logged(/code=1000/);
  assert.ok(!server.log.includes(word));
  assert.ok(!server.log.includes('wrong-key-in-a-query'));
});

/* object is a line of the log; of two members of one name JSON.parse would show the last alone. */
function object(line) {
  const names = [...line.matchAll(/[{,]"([a-z_]+)":/g)].map((m) => m[1]);
  const o = JSON.parse(line);
  assert.equal(new Set(names).size, Object.keys(o).length, line);
  return o;
}

test('--log-format json: each line of a session is an object, whatever peers send', async () => {
  const server = launch(['serve', '--echo', '--workers', '2', '--listen', 'ws://127.0.0.1:0', '--log-level', 'debug', '--log-format', 'json'],
    { env: { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET, ROOST_HTTP_API_KEY: API_KEY } });
  await server.logged(/"msg":"ready"/);
  server.urls = [server.log.match(/"msg":"listening","url":"([^"]+)"/)[1]];
  const user = 'a "b"\\ \u202e\u2028 level=error {"msg":"x"}';
  const c = await connect(server, '/raw/chat', { token: token({ sub: user }) });
  await c.echo('hello');
  await c.end();
  const cut = await upgraded(server);
  cut.reset();
  await publish(server, 'chat', 1);
  await refused(server, '/echo', { token: null });
  await server.logged(/"code":1006/);
  const kicked = await connect(server, '/raw/chat', { token: token({ sub: 'bob' }) });
  const reason = 'a reason with "quotes" and \n';
  await request(server, { method: 'POST', target: '/api/disconnect', headers: { 'X-API-Key': API_KEY },
    body: JSON.stringify({ user: 'bob', disconnect: { code: 4001, reason } }) });
  assert.equal((await kicked.closed).code, 4001);
  await server.logged(/"msg":"conn closed".*"code":4001/);
  await server.stop();
  const seen = server.log.trimEnd().split('\n').map(object);
  for (const o of seen) {
    assert.equal(new Date(o.ts).toISOString(), o.ts);
    assert.ok(['error', 'warn', 'info', 'debug'].includes(o.level) && o.msg.length > 0, JSON.stringify(o));
  }
  const ended = seen.find((o) => o.msg === 'conn closed' && o.user === user);
  assert.ok(ended, server.log);
  for (const name of ['worker', 'conn', 'code', 'in', 'out', 'bytes_in', 'bytes_out', 'ms']) assert.equal(typeof ended[name], 'number', name);
  assert.deepEqual([ended.in, ended.out, ended.code, ended.proto], [1, 1, 1000, 'raw']);
  const said = seen.find((o) => o.msg === 'close sent' && o.code === 4001);
  assert.equal(said.reason, reason);
});

test('metrics are for loopback and admin listeners; not for a public one unless asked', async () => {
  const server = await serve(['--listen', 'ws://0.0.0.0:0', '--listen', 'ws://127.0.0.1:0']);
  const nth = server.urls.findIndex((u) => u.includes('0.0.0.0'));
  const port = new URL(server.urls[nth]).port;
  const { out } = await command('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', `http://127.0.0.1:${port}/metrics`]);
  assert.equal(out, '404');
  const open = await serve(['--listen', 'ws://0.0.0.0:0', '--prometheus.public', 'true']);
  assert.equal((await command('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', `http://127.0.0.1:${new URL(open.urls[0]).port}/metrics`])).out, '200');
});

test('with an admin listener, loopback and Unix sockets for clients serve neither metrics nor the console', async () => {
  const file = path.join(temporary(), 'sock');
  const server = await serve(['--listen', `unix:${file}`, '--listen', 'ws://127.0.0.1:0', '--admin-listen', 'ws://127.0.0.1:0', '--admin.enabled'],
    { env: { ROOST_ADMIN_PASSWORD: 'a password of some length' } });
  const status = async (port, target) => (await command('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', ...port, `http://127.0.0.1${target}`])).out;
  const clients = ['--connect-to', `::127.0.0.1:${server.port('ws', 0)}`];
  const admin = ['--connect-to', `::127.0.0.1:${server.port('ws', 1)}`];
  for (const target of ['/metrics', '/', '/healthz']) {
    const wanted = target === '/healthz' ? '200' : '404';
    assert.equal(await status(clients, target), wanted, target);
    assert.equal(await status(['--unix-socket', file], target), wanted, target);
    assert.equal(await status(admin, target), '200', target);
  }
});

test('SIGHUP opens the log file anew: a rotated one is left behind', async () => {
  const dir = temporary();
  const file = path.join(dir, 'log');
  const text = (name) => (fs.existsSync(name) ? fs.readFileSync(name, 'utf8') : '');
  const server = launch(['serve', '--echo', '--listen', 'ws://127.0.0.1:0', '--log.file', file],
    { cwd: dir, env: { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET } });
  await until(() => /msg=ready/.test(text(file)), 'ready in the file');
  server.urls = [text(file).match(/msg=listening url="?([^\s"]+)/)[1]];
  const client = await connect(server);
  fs.renameSync(file, `${file}.1`);
  server.child.kill('SIGHUP');
  await until(() => /SIGHUP/.test(text(file)), 'a new file');
  await client.echo('nobody is cut off');
  await client.end();
  await until(() => /conn closed/.test(text(file)), 'its line in the new file');
  assert.ok(!/SIGHUP|conn closed/.test(text(`${file}.1`)));
  server.child.kill('SIGHUP'); /* and while it stops: no second signal to stop */
  await server.stop();
  assert.match(text(file), /msg=stopped/);
});

test('a Unix socket is a listener like others', async () => {
  const dir = temporary();
  const file = path.join(dir, 'roost.sock');
  const server = await serve(['--listen', `unix:${file}`, '--listen', 'ws://127.0.0.1:0', '--workers', '2']);
  const { out } = await command('curl', ['-sS', '--unix-socket', file, 'http://roost/healthz', '-w', ' %{http_code}']);
  assert.match(out, / 200$/);
  await fresh(server);
  await server.stop();
  assert.equal(fs.existsSync(file), false);
});

test('IPv6', async () => {
  let server;
  try {
    server = await serve(['--listen', 'ws://[::1]:0', '--listen', 'ws://127.0.0.1:0']);
  } catch (error) {
    if (/EADDRNOTAVAIL|Cannot assign|not supported/i.test(error.message)) return;
    throw error;
  }
  const url = server.urls.find((u) => u.includes('[::1]'));
  assert.match((await command('curl', ['-gsS', `${url.replace('ws:', 'http:')}/healthz`, '-w', ' %{http_code}'])).out, / 200$/);
  await fresh(Object.assign(Object.create(server), { urls: server.urls.filter((u) => !u.includes('[')) }));
});

test('roost check, --help, --version and what is wrong', async () => {
  const dir = temporary();
  const file = path.join(dir, 'roost.json');
  fs.writeFileSync(file, JSON.stringify({ client: { token: { hmac_secret_key: 'a-secret-of-more-than-32-bytes-0123456' } }, echo: true }));
  const good = await command(ROOST, ['check', file]);
  assert.ok(!good.out.includes('a-secret-of-more'), 'check prints a secret');
  fs.writeFileSync(file, JSON.stringify({ client: { tokn: {} } }));
  const bad = await command(ROOST, ['check', file], { code: null });
  assert.notEqual(bad.code, 0);
  assert.match(bad.out + bad.err, /client\.token/);
  assert.match((await command(ROOST, ['serve', '--help'])).out, /--listen/);
  assert.match((await command(ROOST, ['--version'])).out, /\d+\.\d+\.\d+/);
  const unknown = await command(ROOST, ['serve', '--lissten', 'x'], { code: null });
  assert.equal(unknown.code, 2);
  assert.match(unknown.err, /--listen/);
});

await done();

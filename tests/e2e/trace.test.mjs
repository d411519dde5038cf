/* roost trace and GET /debug/trace: what happens to some connections, as it happens (docs/operations.md). */
import { assert, ROOST, serve, connect, refused, fresh, test, done, command, bound, atEnd, lines, metrics, until, within, patience, publish, request, requestHead, token, nowSeconds, temporary, fs, path, sanitizerEnv, Raw, API_KEY } from './lib.mjs';
import http from 'node:http';
import net from 'node:net';
import { Speaker, settings, result } from './centrifuge.mjs';

const url = (server) => `http://127.0.0.1:${server.port()}`;
const env = { PATH: process.env.PATH, ROOST_HTTP_API_KEY: API_KEY, ...sanitizerEnv };

/* follow starts `roost trace --json` and waits until every worker takes part. */
async function follow(server, ...args) {
  const child = bound(ROOST, ['trace', '--json', ...args, url(server)], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  atEnd(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (t) => (said += t));
  const line = lines(child.stdout);
  const any = async (ms) => {
    const text = await line(ms);
    assert.notEqual(text, null, `trace ended: ${said}`);
    return JSON.parse(text);
  };
  const next = async () => { /* on a slow machine it may be silent for long */
    for (;;) {
      const it = await any();
      if (it.event !== 'alive') return it;
    }
  };
  const trace = {
    child, next, any,
    exited: new Promise((resolve) => child.on('close', resolve)),
    /* see waits for one event after the other, and answers them; what else comes in between is an error. */
    see: async (...events) => {
      const seen = [];
      for (const event of events) {
        seen.push(await next());
        assert.equal(seen.at(-1).event, event, `${JSON.stringify(seen)} of ${events}`);
        assert.ok(Math.abs(seen.at(-1).time - Date.now()) < 600000);
      }
      return seen;
    },
    stop: () => child.kill('SIGTERM'),
  };
  assert.equal((await next()).event, 'watching');
  return trace;
}

const as = (sub) => ({ token: token({ sub }) });

test('a raw connection from its beginning to its end, and nobody else', async () => {
  const server = await serve(['--workers', '2']);
  const trace = await follow(server, '--user', '42');
  const other = await connect(server, '/raw/a', as('43'));
  const c = await connect(server, '/raw/a', as('42'));
  const [connected, subscribed] = await trace.see('connected', 'subscribed');
  assert.match(connected.conn, /^raw-\d+-\d+$/);
  assert.match(connected.peer, /^127\.0\.0\.1:\d+$/);
  assert.deepEqual([connected.user, connected.channel, subscribed.channel], ['42', 'a', 'a']);
  await other.echo('12345'); /* its own message is not shown, but given to 42 */
  assert.equal(await c.next(), '12345');
  const [delivered] = await trace.see('delivered');
  assert.deepEqual([delivered.conn, delivered.bytes, delivered.channel, 'payload' in delivered], [connected.conn, 5, 'a', false]);
  await c.echo('123');
  const seen = (await trace.see('message', 'delivered')).map((s) => s.bytes);
  assert.deepEqual(seen, [3, 3]);
  await c.end(4321);
  const [closed] = await trace.see('closed');
  assert.deepEqual([closed.code, closed.reason], [4321, 'by the client']);
  const again = await connect(server, '/raw/b', as('42'));
  await trace.see('connected', 'subscribed');
  await result(server, 'disconnect', { user: '42', disconnect: { code: 4001, reason: 'banned here' } });
  const [end] = await trace.see('closed');
  assert.deepEqual([end.code, end.reason], [4001, 'banned here']);
  await again.over();
});

test('--payload: 200 bytes, escaped; --channel; --conn', async () => {
  const server = await serve(['--workers', '2']);
  const c = await connect(server, '/raw/a?sub=0', as('42'));
  const [id] = Object.keys((await result(server, 'connections', { user: '42' })).connections);
  const trace = await follow(server, '--conn', id, '--payload');
  const rows = [
    ['plain "text" ü', 'plain "text" ü'], ['tab\there \u001b[31m \u009b \\', 'tab\\x09here \\x1b[31m \\xc2\\x9b \\x5c'],
    ['x'.repeat(201), 'x'.repeat(200), true], [`${'x'.repeat(199)}ü`, 'x'.repeat(199), true], ['', ''],
    [Buffer.from([0xff, 0x41, 0xc3, 0xa4]), '\\xffA\\xc3\\xa4'], [Buffer.alloc(300, 0xfe), '\\xfe'.repeat(200), true],
  ];
  for (const [sent, shown, isCut] of rows) {
    c.send(sent);
    const [line] = await trace.see('message');
    assert.deepEqual([line.payload, line.cut], [shown, isCut], JSON.stringify(line));
    assert.equal(line.bytes, Buffer.byteLength(sent));
  }
  const inA = await follow(server, '--channel', 'a ü', '--user', '44');
  await connect(server, '/raw/b', as('44'));
  await connect(server, '/raw/a%20%C3%BC', as('43'));
  await connect(server, '/raw/a%20%C3%BC', as('44'));
  const [first] = await inA.see('connected', 'subscribed');
  assert.deepEqual([first.user, first.channel], ['44', 'a ü']);
  assert.equal((await publish(server, 'a ü', 1)).status, 200);
  await inA.see('delivered');
});

test('an SDK client: subscribed, offsets, refused and why, unsubscribed, closed', async () => {
  const server = await serve([...settings(), '--workers', '2']);
  const trace = await follow(server, '--user', 'ann', '--payload');
  const s = await Speaker.connected(server, { user: 'ann' });
  const [connected] = await trace.see('connected');
  assert.equal(connected.conn, s.id);
  const twin = await Speaker.connected(server, { user: 'bob' }); /* of the same channel */
  await twin.ok('subscribe', { channel: 'hist:x' });
  const byId = await follow(server, '--conn', s.id, '--channel', 'hist:x');
  await s.ok('subscribe', { channel: 'hist:x' });
  const [asked, subscribed] = await trace.see('message', 'subscribed');
  assert.match(asked.payload, /"subscribe":\{"channel":"hist:x"/);
  assert.equal(subscribed.channel, 'hist:x');
  await publish(server, 'hist:x', { n: 1 });
  const [delivered] = await trace.see('delivered');
  assert.equal(delivered.offset, 1);
  assert.match(delivered.payload, /"data":\{"n":1\}/);
  for (const line of await byId.see('subscribed', 'delivered')) assert.deepEqual([line.conn, line.channel], [s.id, 'hist:x']);
  await s.fails(102, 'subscribe', { channel: 'unknown:x' });
  const [, refusal] = await trace.see('message', 'refused');
  assert.deepEqual([refusal.code, refusal.reason, refusal.channel], [102, 'unknown channel', 'unknown:x']);
  await s.ok('unsubscribe', { channel: 'hist:x' });
  assert.equal((await trace.see('message', 'unsubscribed'))[1].channel, 'hist:x');
  s.send('{');
  await s.closes(3501);
  const [, closed] = await trace.see('message', 'closed');
  assert.deepEqual([closed.code, closed.reason], [3501, 'bad request']);
});

test('--payload shows no token, wherever in a command and however written', async () => {
  const server = await serve([...settings(), '--workers', '1']);
  const trace = await follow(server, '--user', 'ann', '--payload');
  const secret = token({ sub: 'ann', exp: nowSeconds() + 3600 });
  const message = async () => {
    let line;
    do line = await trace.next();
    while (line.event !== 'message');
    return line;
  };
  const refresh = JSON.stringify({ id: 1, refresh: { token: secret } });
  const rows = [
    refresh, refresh.replace('token', 't\\u006fken'), refresh.replace('token', '\\u0074\\u006F\\u006b\\u0065\\u006E'),
    JSON.stringify({ id: 2, sub_refresh: { channel: 'a', token: secret } }), JSON.stringify({ id: 3, subscribe: { channel: 'hist:x', token: secret } }),
    JSON.stringify({ id: 4, publish: { channel: 'x'.repeat(100), data: 'x'.repeat(300), token: secret } }), /* behind what would be shown */
  ];
  for (const text of rows) {
    const s = await Speaker.connected(server, { user: 'ann' });
    s.send(text);
    const line = await message();
    assert.deepEqual([line.bytes, line.payload, line.hidden], [Buffer.byteLength(text), undefined, 'token'], text);
  }
  const s = await Speaker.connected(server, { user: 'ann' });
  const plain = JSON.stringify({ id: 1, publish: { channel: 'hist:x', data: 'plain' } });
  s.send(plain);
  assert.deepEqual(await message().then((l) => [l.payload, l.hidden]), [plain, undefined]);
  const raw = await connect(server, '/raw/a', as('ann'));
  raw.send('my token'); /* what is in it is not roost's to know */
  assert.deepEqual(await message().then((l) => [l.payload, l.hidden]), ['my token', undefined]);
});

test('who is not let in: the user of an expired token, the channel of a bad one', async () => {
  const server = await serve([...settings(), '--workers', '1', '--client.user_connection_limit', '1']);
  const user = await follow(server, '--user', '42');
  const channel = await follow(server, '--channel', 'a');
  const expired = token({ sub: '42', exp: nowSeconds() - 100 });
  await refused(server, '/raw/b', { token: expired });
  const [late] = await user.see('refused');
  assert.deepEqual([late.code, late.reason, late.user, late.channel], [401, 'token expired', '42', 'b']);
  await refused(server, '/raw/a', { token: token({ sub: '42' }, { secret: 'another-secret-that-is-long-enough-012' }) });
  const [forged] = await channel.see('refused');
  assert.deepEqual([forged.code, forged.user], [401, undefined]); /* nobody knows who that was */
  await refused(server, '/raw/a', { token: null, headers: { Origin: 'https://evil.example' } });
  assert.equal((await channel.see('refused'))[0].code, 403);
  const s = await Speaker.open(server);
  s.send({ connect: { token: expired }, id: 1 });
  await s.reply(1);
  const [sdk] = await user.see('refused');
  assert.deepEqual([sdk.code, sdk.reason], [109, 'token expired']);
  await connect(server, '/raw/b', as('42'));
  await user.see('connected', 'subscribed');
  await refused(server, '/raw/b', as('42'));
  assert.equal((await user.see('refused'))[0].code, 429);
});

test('--limit: what is above the rate is left out, counted and told', async () => {
  const server = await serve(['--workers', '2']);
  const start = performance.now();
  const trace = await follow(server, '--channel', 'a', '--limit', '10');
  const c = await connect(server, '/raw/a', as('42'));
  for (let i = 0; i < 500; i++) c.send(`${i}`);
  for (let i = 0; i < 500; i++) await c.next();
  let given = 0, left = 0;
  while (given + left < 1002) { /* connected, subscribed, 500 in, 500 out */
    const line = await trace.next();
    if (line.event === 'left_out') left += line.lines;
    else given++;
  }
  assert.ok(given <= 10 * (2 + (performance.now() - start) / 1000) + 10, `${given} lines`);
  assert.equal(given + left, 1002);
  assert.equal((await metrics(server)).get('watch_left_out_total'), left);
});

test('the log says who follows whom, with payloads or not, and how much was shown', async () => {
  const config = path.join(temporary(), 'config.json');
  fs.writeFileSync(config, JSON.stringify({ http_api: { keys: [{ name: 'night shift', key: API_KEY, scope: 'all' }] } }));
  const server = await serve(['--config', config, '--workers', '2'], { env: { ROOST_HTTP_API_KEY: '' } });
  const first = await follow(server, '--user', '4 2', '--payload');
  const other = await follow(server, '--channel', 'a', '--conn', 'raw-0-999', '--limit', '1');
  const whom = (key, rest) => `key=${key} peer=127\\.0\\.0\\.1:\\d+ ${rest}`;
  await server.logged(new RegExp(`level=info msg="somebody follows connections" .*${whom('"night shift"', 'user="4 2" channel="" conn="" payload=yes')}\n`));
  await server.logged(new RegExp(`level=info msg="somebody follows connections" .*${whom('"night shift"', 'user="" channel=a conn=raw-0-999 payload=no')}\n`));
  assert.doesNotMatch(server.log, /has followed/);
  const c = await connect(server, '/raw/a', as('4 2'));
  await c.echo('x');
  await first.see('connected', 'subscribed', 'message', 'delivered');
  first.stop();
  await server.logged(new RegExp(`level=info msg="somebody has followed connections" .*${whom('"night shift"', 'user="4 2" channel="" conn="" payload=yes lines=4 left_out=0')}\n`));
  server.child.kill('SIGTERM'); /* that one as well, whose end the server is */
  await other.see('end');
  await within(server.exited, patience(20000), 'the end of the server');
  assert.match(server.log, new RegExp(`msg="somebody has followed connections" .*conn=raw-0-999 payload=no lines=0 left_out=0\n`));
  assert.equal(server.log.match(/has followed/g).length, 2);
  assert.ok(!server.log.includes(API_KEY));
});

test('four at most; one that goes makes room, one that does not read holds up nobody', async () => {
  const server = await serve(['--workers', '2']);
  const traces = [];
  for (let i = 0; i < 3; i++) traces.push(await follow(server, '--user', 'somebody else'));
  const deaf = await Raw.connect(server);
  deaf.write(requestHead('GET', '/debug/trace?user=42&payload=1&limit=10000', { Host: 'x', 'X-API-Key': API_KEY }));
  await deaf.wait(() => (deaf.bytes.includes('"watching"') ? true : undefined), 'watching');
  assert.equal((await metrics(server)).get('watchers'), 4);
  const fifth = await command(ROOST, ['trace', '--user', '42', url(server)], { env, code: null });
  assert.equal(fifth.code, 1);
  assert.match(fifth.err, /answers 429.*four/);
  deaf.socket.pause();
  const c = await connect(server, '/raw/a', as('42'));
  const message = 'x'.repeat(200);
  let before, after = new Map();
  await until(async () => { /* until its socket, its queue and its buffer are full */
    for (let i = 0; i < 500; i++) c.send(message);
    for (let i = 0; i < 500; i++) await c.next();
    [before, after] = [after, await metrics(server)];
    return after.get('watch_lines_total') === before.get('watch_lines_total') && after.get('queued_bytes') > 64 << 10;
  }, 'it is given no more', 60000);
  assert.ok(after.get('watch_left_out_total') > before.get('watch_left_out_total'));
  assert.ok(after.get('queued_bytes') < 1 << 20, `${after.get('queued_bytes')}`);
  await fresh(server);
  deaf.socket.destroy();
  traces[0].stop();
  await until(async () => (await metrics(server)).get('watchers') === 2, 'two have gone');
  await follow(server, '--user', '42');
}, { seconds: 120 });

test('it ends after its time, and when the server stops', async () => {
  const server = await serve(['--workers', '2']);
  const short = await follow(server, '--user', '42', '--seconds', '1');
  const long = await follow(server, '--user', '42');
  assert.equal((await short.see('end'))[0].reason, 'the time is over');
  assert.equal(await within(short.exited, patience(10000), 'exit'), 0);
  server.child.kill('SIGTERM');
  assert.equal((await long.see('end'))[0].reason, 'the server stops');
  assert.equal(await within(long.exited, patience(10000), 'exit'), 0);
  await within(server.exited, patience(20000), 'the end of the server');
  const gone = await command(ROOST, ['trace', '--user', '42', url(server)], { env, code: null });
  assert.equal(gone.code, 1);
});

test('a server that says nothing is noticed, one with nothing to say is heard', async () => {
  const server = await serve(['--workers', '1']);
  const trace = await follow(server, '--user', '42');
  const child = bound(ROOST, ['trace', '--user', '42', '--seconds', '20', url(server)], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  atEnd(() => child.kill('SIGKILL'));
  let said = '';
  const over = new Promise((r) => child.stdout.setEncoding('utf8').on('data', (text) => (said += text)).on('end', r));
  assert.equal((await trace.any(60000)).event, 'alive');
  await within(over, patience(60000), 'end');
  assert.match(said, /^\S+ watching *\n\S+ end +reason="the time is over"\n$/); /* nothing of what is alive */
  const mute = net.createServer(() => {});
  await new Promise((r) => mute.listen(0, '127.0.0.1', r));
  const given = await command(ROOST, ['trace', '--user', '42', `http://127.0.0.1:${mute.address().port}`], { env, code: null, seconds: 200 });
  mute.close();
  assert.deepEqual([given.code, given.err], [1, 'roost: no answer in time\n']);
  const page = http.createServer((r, a) => a.setHeader('Content-Length', 5).end('hello'));
  await new Promise((r) => page.listen(0, '127.0.0.1', r));
  const strange = await command(ROOST, ['trace', '--user', '42', `http://127.0.0.1:${page.address().port}`], { env, code: null });
  page.close();
  assert.equal(strange.code, 1);
  assert.match(strange.err, /the answer is no stream/);
}, { seconds: 150 });

test('for people: one line each, nothing that steers a terminal, no colours in a pipe', async () => {
  const server = await serve(['--workers', '1']);
  const child = bound(ROOST, ['trace', '--user', 'a b', '--payload', url(server)], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  atEnd(() => child.kill('SIGKILL'));
  const line = lines(child.stdout);
  assert.match(await line(), /^\d\d:\d\d:\d\d\.\d\d\d watching *$/);
  const c = await connect(server, '/raw/a', as('a b'));
  assert.match(await line(), / connected +raw-0-\d+ user="a b" peer=127\.0\.0\.1:\d+ channel=a$/);
  assert.match(await line(), / subscribed +raw-0-\d+ user="a b" channel=a$/);
  await c.echo('\u001b[31m"q"');
  assert.match(await line(), / message +raw-0-\d+ user="a b" bytes=8 payload=\\\\x1b\[31m\\"q\\"$/);
  assert.match(await line(), / delivered +raw-0-\d+ user="a b" channel=a bytes=8 payload=/);
});

test('who may: a key of scope all, where operators are served; what is wrong is said', async () => {
  const config = path.join(temporary(), 'config.json');
  fs.writeFileSync(config, JSON.stringify({ http_api: { keys: [{ name: 'reader', key: 'reader-key-0123456789', scope: 'read' }] } }));
  const server = await serve(['--config', config, '--listen', 'ws://127.0.0.1:0', '--admin-listen', 'ws://127.0.0.1:0']);
  const get = async (query, headers, nth = 1, method = 'GET') => (await request(server, { target: `/debug/trace?${query}`, headers, nth, method })).status;
  const key = { 'X-API-Key': API_KEY };
  assert.equal(await get('user=1', {}), 401);
  assert.equal(await get('user=1', { 'X-API-Key': 'wrong-key-0123456789' }), 401);
  assert.equal(await get('user=1', { 'X-API-Key': 'reader-key-0123456789' }), 403);
  assert.equal(await get('user=1', key, 0), 404); /* the listener of clients */
  for (const query of ['', 'users=1', 'user=%zz', 'user=1&limit=0', 'conn=', 'conn=x', 'conn=raw-0', 'conn=raw-0-', 'conn=raw--1', 'conn=raw-00-1', 'conn=raw-0-1x', 'conn=raw-0-4294967296', 'conn=client-0-1', 'conn=01234567-89ab-cdef-0123-456789abcdeF', 'conn=0123456789abcdef0123456789abcdef', 'user=1&limit=10001', 'user=1&limit=x', 'user=1&seconds=86401', `user=${'x'.repeat(257)}`])
    assert.equal(await get(query, key), 400, query);
  assert.equal(await get('user=1', key, 1, 'HEAD'), 400);
  assert.equal(await get('user=1', key, 1, 'POST'), 405);
  const old = await Raw.connect(server, { nth: 1 });
  old.write(requestHead('GET', '/debug/trace?user=1', { 'X-API-Key': API_KEY, Connection: 'keep-alive' }, 'HTTP/1.0'));
  assert.equal((await old.response()).status, 400);
  assert.match(server.log, /^(?![^]*somebody follows)/);
  for (const args of [[], ['--user'], ['--user', '1', 'x', 'y'], ['--bad']])
    assert.equal((await command(ROOST, ['trace', ...args], { env, code: null })).code, 2, args.join(' '));
});

test('the console may as well, by its session', async () => {
  const dir = temporary();
  fs.writeFileSync(path.join(dir, 'password'), 'a-long-password', { mode: 0o600 });
  const server = await serve(['--admin.enabled', '--admin.password_file', path.join(dir, 'password')]);
  const page = { 'X-Roost-Console': '1' };
  const login = await request(server, { method: 'POST', target: '/admin/login', headers: page, body: JSON.stringify({ password: 'a-long-password' }) });
  const session = { Authorization: `Bearer ${JSON.parse(login.body).token}` };
  assert.equal((await request(server, { target: '/admin/trace?user=1', headers: page })).status, 401);
  assert.equal((await request(server, { target: '/admin/trace?user=1', headers: session })).status, 403);
  const answer = await request(server, { target: '/admin/trace?user=1&seconds=1', headers: { ...page, ...session } });
  assert.equal(answer.status, 200);
  assert.deepEqual(answer.body.trim().split('\n').map((l) => JSON.parse(l).event), ['watching', 'end']);
  await server.logged(/msg="somebody follows connections" .*key=console peer=127\.0\.0\.1:\d+ user=1 channel="" conn="" payload=no\n/);
});

await done();

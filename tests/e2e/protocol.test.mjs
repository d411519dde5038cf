/* The conformance list of the client protocol and the server API, item by item: a test's name begins with its numbers.
 * Differences on purpose: 25 with a limit of 65536 bytes, 30 is the refusal of protobuf, 101 is 3001. */
import {
  assert, serve, certificate, test, done, token, connect, refused, until, spread, within, patience, nowSeconds,
  WebSocket, upgraded, request, frame, Raw, upgradeHead, OP, metrics, scaled, SECRET,
} from './lib.mjs';
import { Speaker, settings, readable, api, result, ENDPOINT } from './centrifuge.mjs';

/* Every group runs on each of these; what is about time runs on the first. */
const SHAPES = [['ws', 1], ['ws', 2], ['wss', 2]];

/* start serves the configuration of the list on one shape; server.open and server.connected make its clients. */
async function start([scheme, workers] = SHAPES[0], options = {}, args = []) {
  const listen = ['--listen', 'ws://127.0.0.1:0'];
  if (scheme === 'wss') {
    const { cert, key } = await certificate();
    listen.push('--listen', 'wss://127.0.0.1:0', '--cert', cert, '--key', key);
  }
  const server = await serve([...settings(options), '--workers', `${workers}`, ...listen, ...args]);
  server.open = (o) => Speaker.open(server, { scheme, ...o });
  server.connected = (o) => Speaker.connected(server, { scheme, ...o });
  return server;
}

function each(name, body, options) {
  for (const shape of SHAPES) test(`${name} (${shape[0]}, workers: ${shape[1]})`, () => body(shape), options);
}

const sign = (claims, options) => token({ roost: undefined, exp: undefined, ...claims }, options);
const unsigned = (claims) => `${[{ alg: 'none' }, claims].map((o) => Buffer.from(JSON.stringify(o)).toString('base64url')).join('.')}.`;

/* closed sends lines on a new connection and expects it to end with code. */
async function closed(server, code, lines, options = {}) {
  const c = await server[options.first === false ? 'open' : 'connected'](options);
  if (Array.isArray(lines)) c.send(...lines);
  else c.client.send(lines);
  await c.closes(code);
  return c;
}

/* ---- connect and framing ---- */

each('1-3 connect: what the reply has and what it has not; ids differ', async (shape) => {
  const server = await start(shape);
  const a = await server.open();
  a.send('{"id":1,"connect":{}}');
  const first = await a.reply(1);
  assert.match(first.connect.client, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(first.connect.ping, 25);
  assert.equal(first.connect.pong, true);
  for (const key of ['expires', 'ttl', 'subs', 'session', 'node', 'time', 'flag', 'dict', 'data'])
    assert.ok(!(key in first.connect), first.text);
  const b = await server.open();
  b.send('{"connect":{},"id":7}');
  assert.notEqual((await b.reply(7)).connect.client, first.connect.client);
});

each('4 no token and anonymous not allowed: 3501', async (shape) => {
  const server = await start(shape, { client: { allow_anonymous_connect_without_token: false } });
  await closed(server, 3501, '{"connect":{},"id":1}', { first: false });
});

each('5-7 what may not be first, second or without an id: 3501', async (shape) => {
  const server = await start(shape);
  for (const line of ['{"subscribe":{"channel":"a"},"id":1}', '{"connect":{},"id":0}', '{"connect":{}}', '{}', '{"publish":{"channel":"a","data":1},"id":1}'])
    await closed(server, 3501, line, { first: false });
  await closed(server, 3501, '{"connect":{},"id":2}');
});

each('8 connect and subscribe in one message: two replies in that order', async (shape) => {
  const server = await start(shape);
  const c = await server.open();
  c.send({ connect: {}, id: 1 }, { subscribe: { channel: 'news', flag: 1 }, id: 2 });
  assert.ok((await c.take()).connect);
  const second = await c.take();
  assert.equal(second.id, 2);
  assert.deepEqual(second.subscribe, {});
});

test('9-11 a failed connect, and none at all: no further reply, then the end', async () => {
  const server = await start();
  const expired = sign({ sub: '42', exp: nowSeconds() - 10 });
  const began = performance.now();
  const stale = await server.open();
  const failed = await server.open();
  failed.send({ connect: { token: expired }, id: 1 }, { subscribe: { channel: 'news' }, id: 2 });
  const answer = await failed.take();
  assert.deepEqual([answer.id, answer.error.code, 'temporary' in answer.error], [1, 109, false]);
  await new Promise((resolve) => setTimeout(resolve, 1000)); /* what is promised is that nothing comes for a second */
  assert.equal(failed.client.close, undefined);
  assert.deepEqual(failed.lines, []);
  failed.send({ subscribe: { channel: 'news' }, id: 3 });
  const close = await failed.client.over(10000);
  assert.ok([1006, 3501].includes(close.code), JSON.stringify(close));
  assert.deepEqual(failed.lines, []);
  await stale.closes(3502, 13000);
  const took = performance.now() - began;
  assert.ok(took > 9500, `stale after ${took} ms`);
});

each('12 a pong that nobody asked for is ignored', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  c.send('{}', '{}');
  await c.quiet();
});

each('13-16 malformed lines: what came before is answered, then 3501', async (shape) => {
  const server = await start(shape);
  for (const bad of ['{', 'x', '[]', '1', '"a"', '{"id":3,"publish":', '{"id":3}x', '{"id":1,"publish":[]}', '', '\n', ' ']) {
    const c = await closed(server, 3501, bad);
    assert.deepEqual(c.lines, []);
    if (bad === '' || bad === '\n') continue; /* behind a command that is the one line end that may be there */
    const two = await closed(server, 3501, ['{"subscribe":{"channel":"a"},"id":3}', bad]);
    assert.deepEqual((await two.take()).subscribe, {});
  }
  const gap = await closed(server, 3501, '{"subscribe":{"channel":"a"},"id":3}\n\n{"subscribe":{"channel":"b"},"id":4}');
  assert.deepEqual(gap.lines.map((l) => l.id), [3]);
});

each('17-20 a last line end, \\r\\n, binary messages, unknown fields: accepted', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  c.client.send('{"subscribe":{"channel":"pres:a"},"id":1}\n');
  await c.reply(1);
  c.client.send('{"presence":{"channel":"pres:a"},"id":2}\r\n{"unsubscribe":{"channel":"b"},"id":3}\r\n');
  assert.deepEqual((await c.reply(3)).unsubscribe, {});
  assert.ok((await c.reply(2)).presence);
  c.client.send(Buffer.from('{"subscribe":{"channel":"c"},"id":4}'));
  assert.deepEqual((await c.reply(4)).subscribe, {});
  c.client.send('{"id":5,"presence_stats":{"channel":"pres:a","what":{"a":[1,{}]}},"zzz":1,"publish":null}');
  assert.deepEqual((await c.reply(5)).presence_stats, { num_clients: 1, num_users: 1 });
});

each('21-23 unknown method, none, an id that is no number: 3501', async (shape) => {
  const server = await start(shape);
  for (const line of ['{"id":3,"foo":{}}', '{"id":3}', '{"ping":{},"id":9}', '{"id":"3","publish":{"channel":"a","data":1}}', '{"id":-1,"publish":{"channel":"a","data":1}}', '{"id":1.5,"publish":{"channel":"a","data":1}}'])
    await closed(server, 3501, line);
});

each('24 the largest id, and one more', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  c.send('{"id":4294967295,"unsubscribe":{"channel":"a"}}');
  assert.deepEqual((await c.reply(4294967295)).unsubscribe, {});
  c.send('{"id":4294967296,"unsubscribe":{"channel":"a"}}');
  await c.closes(3501);
});

each('25 websocket.message_size_limit 65536: one byte more is 1009', async (shape) => {
  const server = await start(shape, { websocket: { message_size_limit: 65536 } });
  const c = await server.connected();
  await c.ok('subscribe', { channel: 'a' });
  const line = (n) => {
    const empty = JSON.stringify({ publish: { channel: 'a', data: '' }, id: 9 });
    return JSON.stringify({ publish: { channel: 'a', data: 'x'.repeat(n - empty.length) }, id: 9 });
  };
  assert.equal(line(65536).length, 65536);
  c.send(line(65536));
  assert.deepEqual((await c.reply(9)).publish, {});
  assert.ok(await c.push('pub', 'a'));
  c.send(line(65537));
  assert.equal((await c.client.over()).code, 1009);
});

each('26 200 commands in one message: 200 replies', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  await c.ok('subscribe', { channel: 'a' });
  const ids = Array.from({ length: 200 }, (_, i) => i + 1);
  c.send(...ids.map((id) => ({ publish: { channel: 'a', data: { id } }, id })));
  const seen = [];
  for (const id of ids) {
    assert.deepEqual((await c.reply(id)).publish, {});
    seen.push((await c.push('pub', 'a')).data.id);
  }
  assert.deepEqual(seen, ids);
});

each('27 28 fragments, and a ping frame among them', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  const pong = new Promise((resolve) => c.socket.once('pong', resolve));
  c.socket.send('{"subscribe":{"chan', { fin: false });
  c.socket.send('nel":"a"},', { fin: false });
  c.socket.ping('who is there');
  c.socket.send('"id":5}', { fin: true });
  assert.equal((await within(pong, patience(5000), 'pong')).toString(), 'who is there');
  assert.deepEqual((await c.reply(5)).subscribe, {});
});

each('29 30 subprotocols: centrifuge-json is echoed, protobuf refused with 3506', async (shape) => {
  const server = await start(shape);
  const c = await server.open({ protocols: ['other', 'centrifuge-json'] });
  assert.equal(c.socket.protocol, 'centrifuge-json');
  c.send({ connect: {}, id: 1 });
  await c.reply(1);
  const none = await server.open();
  assert.equal(none.socket.protocol, '');
  const raw = await upgraded(server, ENDPOINT, { 'Sec-WebSocket-Protocol': 'unknown' });
  assert.ok(!('sec-websocket-protocol' in raw.answer.headers));
  const asked = [[{ protocols: ['centrifuge-protobuf'] }, 'centrifuge-protobuf'], [{ target: `${ENDPOINT}?format=protobuf` }, ''], [{ target: `${ENDPOINT}?cf_protocol=protobuf` }, '']];
  for (const [options, protocol] of asked) {
    const p = await server.open(options);
    assert.equal(p.socket.protocol, protocol);
    p.client.send(Buffer.from('0a08011a040a020001', 'hex'));
    await p.closes(3506);
  }
});

test('31 origins', async () => {
  const server = await start(SHAPES[0], { client: { allowed_origins: ['https://app.example'] } });
  const none = await connect(server, ENDPOINT, { token: null });
  await none.end();
  const good = await connect(server, ENDPOINT, { token: null, headers: { Origin: 'https://app.example' } });
  await good.end();
  const answer = await refused(server, ENDPOINT, { token: null, headers: { Origin: 'https://evil.example' } });
  assert.equal(answer.status, 403);
});

/* ---- ping ---- */

const PINGS = { client: { ping_interval: '1s', pong_timeout: '500ms' } };

test('32-36 pings: when they come, pongs, a busy connection, ping frames instead', async () => {
  const server = await start(SHAPES[1], PINGS);
  const deaf = await server.open({ pong: false });
  deaf.send({ connect: {}, id: 1 });
  assert.equal((await deaf.reply(1)).connect.ping, 1);
  const opened = performance.now();
  const good = await server.connected();
  const busy = await server.connected();
  await busy.ok('subscribe', { channel: 'busy' });
  const frames = await server.open({ target: `${ENDPOINT}?cf_ws_frame_ping_pong=true` });
  let pinged = 0;
  frames.socket.on('ping', () => pinged++);
  frames.send({ connect: {}, id: 1 });
  const hello = (await frames.reply(1)).connect;
  assert.ok(!('ping' in hello) && !('pong' in hello));
  let sent = 0;
  const flood = setInterval(() => sent++ < 600 && api(server, 'publish', { channel: 'busy', data: sent }).catch(() => {}), 10);
  try {
    await deaf.closes(3012, 5000);
    const took = performance.now() - opened;
    assert.ok(took > 900 && took < patience(2600), `3012 after ${took} ms`);
    await until(() => good.pings.length >= 6 && busy.pings.length >= 6, 'six pings each', 12000);
  } finally {
    clearInterval(flood);
  }
  const first = good.pings[0] - opened;
  assert.ok(first > 400 && first < patience(1400), `first ping after ${first} ms`);
  for (const c of [good, busy]) {
    for (let i = 1; i < 6; i++) {
      const gap = c.pings[i] - c.pings[i - 1];
      assert.ok(gap > 700 && gap < patience(1300), `${gap} ms between pings`);
    }
    await c.ok('unsubscribe', { channel: 'x' });
  }
  assert.ok(pinged >= 5, `${pinged} ping frames`);
  assert.equal(frames.pings.length, 0);
  await frames.ok('unsubscribe', { channel: 'x' });
});

test('32b an interval below a second is told as one', async () => {
  const server = await start(SHAPES[1], { client: { ping_interval: '500ms', pong_timeout: '300ms' } });
  const c = await server.connected();
  assert.deepEqual([c.hello.ping, c.hello.pong], [1, true]);
  await until(() => c.pings.length >= 3, 'three pings', 5000);
  await c.quiet();
});

/* ---- tokens ---- */

each('37 the user of a token', async (shape) => {
  const server = await start(shape);
  const c = await server.connected({ params: { token: sign({ sub: '42', info: { name: 'A' } }) } });
  await c.ok('subscribe', { channel: 'a' });
  await c.ok('publish', { channel: 'a', data: 1 });
  assert.deepEqual((await c.push('pub', 'a')).info, { user: '42', client: c.id, conn_info: { name: 'A' } });
});

each('38-41 44 50 tokens that are not good', async (shape) => {
  const server = await start(shape);
  const past = nowSeconds() - 10;
  const invalid = [
    sign({ sub: '42' }, { secret: `${SECRET}x` }), unsigned({ sub: '42' }), `${sign({ sub: '42' })}=`, `${sign({ sub: '42' })}.x`,
    sign({ sub: '42', exp: past }, { secret: `${SECRET}x` }), sign({ sub: 42 }), sign({ sub: '42', channel: 'a' }), 'x', `${sign({ sub: '42' })} `,
    sign({ sub: '42' }, { header: { alg: 'none' } }), sign({ sub: '42' }, { header: { alg: 'HS512' } }),
  ];
  for (const t of invalid) await closed(server, 3500, [{ connect: { token: t }, id: 1 }], { first: false });
  for (const claims of [{ exp: past }, { nbf: nowSeconds() + 100 }]) {
    const c = await server.open();
    await c.fails(109, 'connect', { token: sign({ sub: '42', ...claims }) });
  }
});

each('a token in the header of the upgrade: as good, and as bad, as one in the command', async (shape) => {
  const server = await start(shape);
  const by = (t) => ({ headers: { Authorization: `Bearer ${t}` } });
  const good = await server.connected({ params: {}, ...by(sign({ sub: '42', info: { name: 'A' }, channels: ['b'], exp: nowSeconds() + 600 })) });
  assert.deepEqual([Object.keys(good.hello.subs), good.hello.expires], [['b'], true]);
  await good.ok('subscribe', { channel: 'a' });
  await good.ok('publish', { channel: 'a', data: 1 });
  assert.deepEqual((await good.push('pub', 'a')).info, { user: '42', client: good.id, conn_info: { name: 'A' } });
  for (const bad of [sign({ sub: '42' }, { secret: `${SECRET}x` }), 'x']) await closed(server, 3500, [{ connect: {}, id: 1 }], { first: false, ...by(bad) });
  const expired = await server.open(by(sign({ sub: '42', exp: nowSeconds() - 10 })));
  await expired.fails(109, 'connect', {});
  for (const t of ['x', sign({ sub: '42', info: { name: 'A' }, channels: ['b'] })]) { /* the command's counts, and nothing of the header's */
    const other = await server.connected({ params: { token: sign({ sub: '43' }) }, ...by(t) });
    assert.ok(!('subs' in other.hello));
    await other.ok('subscribe', { channel: 'a' });
    await other.ok('publish', { channel: 'a', data: 2 });
    assert.deepEqual((await other.push('pub', 'a')).info, { user: '43', client: other.id });
  }
});

each('client.disallow_anonymous_connection_tokens: 3507, wherever the token is', async (shape) => {
  const server = await start(shape, { client: { disallow_anonymous_connection_tokens: true } });
  const nobodys = sign({ sub: '' });
  await closed(server, 3507, [{ connect: { token: nobodys }, id: 1 }], { first: false });
  await closed(server, 3507, [{ connect: {}, id: 1 }], { first: false, headers: { Authorization: `Bearer ${nobodys}` } });
});

each('an end that is far away: ttl is a year at most', async (shape) => {
  const server = await start(shape);
  for (const exp of [nowSeconds() + 4294967297, 9e15]) {
    const { hello } = await server.connected({ params: { token: sign({ sub: '42', exp }) } });
    assert.equal(hello.expires, true);
    assert.equal(hello.ttl, 365 * 86400);
  }
});

each('42 43 expires and ttl', async (shape) => {
  const server = await start(shape);
  const hello = async (claims) => (await server.connected({ params: { token: sign({ sub: '42', ...claims }) } })).hello;
  const one = await hello({ exp: nowSeconds() + 3600 });
  assert.equal(one.expires, true);
  assert.ok(one.ttl >= 3590 && one.ttl <= 3601, /* the server's second may end a little later than ours */ `${one.ttl}`);
  for (const claims of [{ exp: nowSeconds() + 3600, expire_at: 0 }, {}]) {
    const never = await hello(claims);
    assert.ok(!('expires' in never) && !('ttl' in never));
  }
  const later = await hello({ exp: nowSeconds() + 10, expire_at: nowSeconds() + 100 });
  assert.ok(later.ttl >= 90 && later.ttl <= 101, `${later.ttl}`);
  const c = await server.open();
  await c.fails(110, 'connect', { token: sign({ sub: '42', expire_at: nowSeconds() - 1 }) });
});

each('45-48 refresh', async (shape) => {
  const server = await start(shape);
  const soon = () => server.connected({ params: { token: sign({ sub: '42', exp: nowSeconds() + 600 }) } });
  const c = await soon();
  const longer = await c.ok('refresh', { token: sign({ sub: '42', exp: nowSeconds() + 3600 }) });
  assert.equal(longer.expires, true);
  assert.ok(longer.ttl >= 3590 && longer.ttl <= 3601);
  assert.deepEqual(await c.ok('refresh', { token: sign({ sub: '42' }) }), {});
  const bad = [[3005, { token: sign({ sub: '42', exp: nowSeconds() - 5 }) }], [3500, { token: sign({ sub: '43', exp: nowSeconds() + 60 }) }], [3500, { token: 'x' }], [3501, {}],
    [3005, { token: sign({ sub: '42', expire_at: nowSeconds() - 5 }) }]];
  for (const [code, refresh] of bad) {
    const d = await soon();
    d.send({ refresh, id: 5 });
    await d.closes(code);
    assert.deepEqual(d.lines, []);
  }
});

each('45b info of a refreshed token is conn_info from then on, in presence, publications and the leave; without any it stays', async (shape) => {
  const server = await start(shape);
  const t = (sub, info) => ({ token: sign({ sub, info }) });
  const [c, other] = [await server.connected({ params: t('42', { v: 1 }) }), await server.connected({ user: '43' })];
  for (const channel of ['pres:a', 'pres:b']) await c.ok('subscribe', { channel });
  await other.ok('subscribe', { channel: 'pres:a', join_leave: true });
  await other.push('join');
  const shown = async (channel) => (await result(server, 'presence', { channel })).presence[c.id].conn_info;
  assert.deepEqual([await shown('pres:a'), await shown('pres:b')], [{ v: 1 }, { v: 1 }]);
  await c.ok('refresh', t('42', { v: 2 }));
  await c.ok('refresh', t('42'));
  assert.deepEqual([await shown('pres:a'), await shown('pres:b')], [{ v: 2 }, { v: 2 }]);
  const now = { user: '42', client: c.id, conn_info: { v: 2 } };
  await c.ok('publish', { channel: 'pres:a', data: 1 });
  assert.deepEqual((await other.push('pub')).info, now);
  await c.end();
  assert.deepEqual((await other.push('leave')).info, now);
});

test('49 exp passes without a refresh: 3005 after the grace, not before; with a refresh it stays', async () => {
  const server = await start(SHAPES[1]);
  const exp = nowSeconds() + 2;
  const params = { token: sign({ sub: '42', exp }) };
  const [gone, stays, forever] = [await server.connected({ params }), await server.connected({ params }), await server.connected({ params })];
  assert.equal((await stays.ok('refresh', { token: sign({ sub: '42', exp: exp + 600 }) })).expires, true);
  assert.deepEqual(await forever.ok('refresh', { token: sign({ sub: '42' }) }), {});
  await gone.closes(3005, 8000);
  assert.ok(Date.now() >= exp * 1000, 'before its time');
  assert.ok(Date.now() < exp * 1000 + patience(2500), 'long after its time');
  await stays.quiet();
  await forever.quiet();
});

each('51 audience', async (shape) => {
  const server = await start(shape, { client: { token: { audience: 'roost' } } });
  for (const aud of ['roost', ['a', 'roost']]) await server.connected({ params: { token: sign({ sub: '42', aud }) } });
  for (const aud of ['other', ['a'], undefined, []])
    await closed(server, 3500, [{ connect: { token: sign({ sub: '42', aud }) }, id: 1 }], { first: false });
});

each('52 channels and subs of a token: server-side subscriptions', async (shape) => {
  const server = await start(shape);
  const c = await server.connected({ params: { token: sign({ sub: '42', channels: ['a', 'hist:b', '$c'] }) } });
  assert.deepEqual(Object.keys(c.hello.subs).sort(), ['$c', 'a', 'hist:b']);
  assert.deepEqual(c.hello.subs.a, {});
  assert.match(c.hello.subs['hist:b'].epoch, /^[A-Za-z]{8}$/);
  await c.fails(105, 'subscribe', { channel: 'a' });
  await result(server, 'publish', { channel: '$c', data: { n: 1 } });
  assert.deepEqual((await c.push('pub', '$c')).data, { n: 1 });
  const { epoch } = c.hello.subs['hist:b'];
  await c.end();
  await result(server, 'publish', { channel: 'hist:b', data: 5 });
  const d = await server.connected({
    params: { token: sign({ sub: '42', subs: { 'hist:b': { data: { greeting: 1 } } }, channels: ['ignored'] }), subs: { 'hist:b': { recover: true, epoch } } },
  });
  assert.deepEqual(Object.keys(d.hello.subs), ['hist:b']);
  const sub = d.hello.subs['hist:b'];
  assert.deepEqual([sub.recovered, sub.was_recovering, sub.publications.map((p) => p.data), sub.data], [true, true, [5], { greeting: 1 }]);
  const unknown = await server.open();
  await unknown.fails(102, 'connect', { token: sign({ sub: '42', channels: ['hist:failed', 'nope:x'] }) });
  await result(server, 'subscribe', { user: '42', channel: 'hist:s' }); /* finds those that are connected */
  await d.push('subscribe', 'hist:s');
  assert.deepEqual(unknown.lines, []);
  assert.ok(!('hist:failed' in (await result(server, 'channels', {})).channels));
});

each('52c connect with subs: what the client may subscribe to by itself becomes a server-side subscription, and recovers', async (shape) => {
  const server = await start(shape);
  const connect = async (subs, more = {}) => server.connected({ params: { subs, token: sign({ sub: '42', ...more }) } });
  const c = await connect({
    'hist:b': {}, a: { recover: false }, 'limited:x#42': {}, 'limited:x#43': {}, 'limited:x': {}, $p: {}, 'straße': {}, ['x'.repeat(256)]: {}, ['y'.repeat(255)]: {},
  });
  assert.deepEqual(Object.keys(c.hello.subs).sort(), ['a', 'hist:b', 'limited:x#42', 'y'.repeat(255)]);
  await c.fails(105, 'subscribe', { channel: 'a' });
  const { epoch } = c.hello.subs['hist:b'];
  await c.end();
  await fill(server, 'hist:b', 1, 3);
  const since = (offset, e = epoch) => ({ 'hist:b': { recover: true, offset, epoch: e } });
  const back = (await connect(since(1))).hello.subs['hist:b'];
  assert.deepEqual([back.recovered, back.was_recovering, back.offset, back.publications.map((p) => p.offset)], [true, true, 1, [2, 3]]);
  for (const e of ['zzzzzzzz', '_']) {
    const lost = (await connect(since(1, e))).hello.subs['hist:b'];
    assert.deepEqual([lost.recovered, lost.was_recovering, lost.publications, lost.offset, lost.epoch], [undefined, true, undefined, 3, epoch]);
  }
  /* what the token grants is so, with what it says of it; subs say where to recover from */
  const both = await connect({ ...since(2), $p: {}, a: {} }, { subs: { 'hist:b': { data: { d: 1 } }, $p: {}, 'mute:z': {} } });
  assert.deepEqual(Object.keys(both.hello.subs).sort(), ['$p', 'a', 'hist:b', 'mute:z']);
  const { data, publications } = both.hello.subs['hist:b'];
  assert.deepEqual([data, publications.map((p) => p.offset)], [{ d: 1 }, [3]]);
  await result(server, 'publish', { channel: '$p', data: 1 });
  assert.equal((await both.push('pub', '$p')).data, 1);
  const anonymous = await server.connected({ params: { subs: { a: {}, 'limited:x#': {}, 'limited:x#42': {} } } });
  assert.deepEqual(Object.keys(anonymous.hello.subs), ['a']);
});

each('52d connect with subs that are no subs: 3501', async (shape) => {
  const server = await start(shape);
  for (const subs of ['{"a":{},"nope:x":{}}', '{"":{}}', '{"a":{},"b":1}', '{"a":{"offset":-1}}', '{"a":{"epoch":1}}', '[]', '1', '{"a":{"recover":"x"}}'])
    await closed(server, 3501, `{"connect":{"subs":${subs}},"id":1}`, { first: false });
  assert.deepEqual(await result(server, 'channels', {}), { channels: {} });
  const c = await server.open();
  c.send('{"connect":{"subs":{}},"id":1}', '{"connect":{"subs":null},"id":2}');
  assert.ok(!('subs' in (await c.reply(1)).connect));
  await c.closes(3501); /* the second connect */
});

each('52e connect with more subs than client.channel_limit: 3505', async (shape) => {
  const server = await start(shape, { client: { channel_limit: 2 } });
  const subs = (...names) => Object.fromEntries(names.map((n) => [n, {}]));
  await server.connected({ params: { subs: subs('a', 'b', '$c', '$d') } });
  await closed(server, 3505, [{ connect: { subs: subs('a', 'b', 'c') }, id: 1 }], { first: false });
});

each('48b refresh with other channels in the token: 3010; what came by other ways does not matter', async (shape) => {
  const server = await start(shape);
  const t = (more) => ({ token: sign({ sub: '42', exp: nowSeconds() + 600, ...more }) });
  const make = () => server.connected({ params: { ...t({ channels: ['a', 'b'] }), subs: { wished: {} } } });
  const c = await make();
  await c.ok('subscribe', { channel: 'own' });
  await result(server, 'subscribe', { user: '42', channel: 'granted' });
  for (const more of [{ channels: ['b', 'a'] }, { subs: { a: {}, b: {} } }, { channels: ['a', 'b', 'own', 'granted', 'wished'] }]) await c.ok('refresh', t(more));
  for (const more of [{}, { channels: ['a'] }, { channels: ['a', 'b', 'c'] }, { channels: ['a', 'c'] }, { channels: ['a', 'own'] }]) {
    const d = await make();
    await d.ok('subscribe', { channel: 'own' });
    d.send({ refresh: t(more), id: 5 });
    await d.closes(3010);
    assert.deepEqual(d.lines, []);
  }
  const e = await make();
  await e.ok('unsubscribe', { channel: 'a' });
  e.send({ refresh: t({ channels: ['a', 'b'] }), id: 5 });
  await e.closes(3010);
});

const PERSONAL = (options) => ({ client: { subscribe_to_user_personal_channel: { enabled: true, ...options } } });

each('personal channels: each user has its own, in the namespace that is named; nobody has none', async (shape) => {
  for (const [options, name] of [[{}, (u) => `#${u}`], [{ personal_channel_namespace: 'hist' }, (u) => `hist:#${u}`]]) {
    const server = await start(shape, PERSONAL(options));
    const [a, b, nobody] = [await server.connected({ user: '42' }), await server.connected({ user: '43' }), await server.connected({ params: {} })];
    assert.deepEqual(Object.keys(a.hello.subs), [name('42')]);
    assert.ok(!('subs' in nobody.hello));
    await result(server, 'publish', { channel: name('42'), data: 1 });
    assert.equal((await a.push('pub', name('42'))).data, 1);
    await b.quiet();
    await a.fails(105, 'subscribe', { channel: name('42') });
    /* beside those of a token, and not twice */
    const c = await server.connected({ params: { token: sign({ sub: '42', channels: ['x', name('42')] }) } });
    assert.deepEqual(Object.keys(c.hello.subs).sort(), [name('42'), 'x'].sort());
    await c.ok('refresh', { token: sign({ sub: '42', channels: [name('42'), 'x'] }) });
    /* it recovers like the others */
    if (options.personal_channel_namespace) {
      const { epoch } = a.hello.subs[name('42')];
      const d = await server.connected({ params: { token: sign({ sub: '42' }), subs: { [name('42')]: { recover: true, epoch } } } });
      assert.deepEqual(d.hello.subs[name('42')].publications, [{ data: 1, offset: 1 }]);
    }
    /* a user whose name leaves no room for the channel's */
    const long = await server.open();
    await long.fails(107, 'connect', { token: sign({ sub: 'u'.repeat(255) }) });
    await server.connected({ user: 'u'.repeat(255 - name('').length) });
  }
});

each('single_connection: the newest connection of a user is the only one, also when many connect at once', async (shape) => {
  const server = await start(shape, PERSONAL({ single_connection: true }));
  const [other, nobody, nobody2] = [await server.connected({ user: '43' }), await server.connected({ params: {} }), await server.connected({ params: {} })];
  let last = await server.connected({ user: '42' });
  for (let i = 0; i < 6; i++) {
    const next = await server.connected({ user: '42' });
    await last.closes(3504);
    last = next;
  }
  const opened = await Promise.all(Array.from({ length: 24 }, () => server.open()));
  const token42 = sign({ sub: '42' });
  for (const c of opened) c.send({ connect: { token: token42 }, id: 1 });
  await last.closes(3504);
  await until(() => opened.filter((c) => c.client.close).length === 23, '23 of 24 closed');
  for (const c of opened) if (c.client.close) assert.equal(c.client.close.code, 3504);
  const [stays] = opened.filter((c) => !c.client.close);
  assert.ok((await stays.reply(1)).connect.subs['#42']);
  for (const c of [stays, other, nobody, nobody2]) await c.quiet();
  assert.equal((await metrics(server)).get('superseded_total'), 30);
  assert.deepEqual((await result(server, 'channels', {})).channels, { '#42': { num_clients: 1 }, '#43': { num_clients: 1 } });
});

each('single_connection with client.user_connection_limit 1: the newest closes the other; raw connections have the limit', async (shape) => {
  const options = PERSONAL({ single_connection: true });
  const server = await start(shape, { client: { ...options.client, user_connection_limit: 1 } });
  let last = await server.connected({ user: '42' });
  for (let i = 0; i < 4; i++) {
    const next = await server.connected({ user: '42' });
    await last.closes(3504);
    last = next;
  }
  const raw = () => connect(server, '/raw/a', { token: token({ sub: '42' }) });
  const one = await raw();
  assert.equal((await refused(server, '/raw/a', { token: token({ sub: '42' }) })).status, 429);
  const next = await server.connected({ user: '42' });
  await last.closes(3504);
  await one.end();
  await (await raw()).end();
  await next.quiet();
  const m = await metrics(server);
  assert.deepEqual([m.get('superseded_total'), m.get('refused_total{reason="user_connection_limit"}')], [5, 1]);
});

each('52b more channels in a token than client.channel_limit: 3505', async (shape) => {
  const server = await start(shape, { client: { channel_limit: 2 } });
  await server.connected({ params: { token: sign({ sub: '42', channels: ['a', 'b'] }) } });
  await closed(server, 3505, [{ connect: { token: sign({ sub: '42', channels: ['a', 'b', 'c'] }) }, id: 1 }], { first: false });
  assert.deepEqual(Object.values((await result(server, 'channels', {})).channels).map((ch) => ch.num_clients), [1, 1]);
});

each('client.user_connection_limit: 3504 for one more, on whatever worker; nobody is not counted', async (shape) => {
  const server = await start(shape, { client: { user_connection_limit: 3 } });
  const as = (user, params) => server.connected({ params: { token: sign({ sub: user }), ...params } });
  const mine = [await as('42'), await as('42'), await as('42')];
  const more = (user) => closed(server, 3504, [{ connect: { token: sign({ sub: user }) }, id: 1 }], { first: false });
  for (let i = 0; i < 6; i++) assert.deepEqual((await more('42')).lines, []);
  for (let i = 0; i < 5; i++) await server.connected({ params: {} });
  await as('43');
  await mine.pop().end();
  mine.push(await as('42'));
  await more('42');
  mine.pop().cut();
  await until(async () => (await metrics(server)).get('connections_open') === 8, 'the one that was cut');
  /* whose connect fails has no place */
  const failed = await server.open();
  await failed.fails(102, 'connect', { token: sign({ sub: '42', channels: ['nope:x'] }) });
  mine.push(await as('42'));
  await more('42');
  assert.equal((await metrics(server)).get('refused_total{reason="user_connection_limit"}'), 8);
  /* raw connections are the user's as well */
  const raw = (user) => connect(server, '/raw/a', { token: token({ sub: user }) });
  const refusal = await refused(server, '/raw/a', { token: token({ sub: '42' }) });
  assert.equal(refusal.status, 429);
  assert.ok(refusal.headers['retry-after']);
  const browser = await connect(server, '/raw/a', { token: null, protocols: ['roost.bearer', token({ sub: '42' })] });
  assert.equal((await browser.over()).code, 3504);
  const [one, two] = [await raw('44'), await raw('44')];
  await as('44');
  await more('44');
  await one.end();
  await as('44');
  assert.equal((await refused(server, '/raw/a', { token: token({ sub: '44' }) })).status, 429);
  await two.end();
  for (const c of mine) await c.quiet();
});

/* ---- subscribe ---- */

each('53-56 58 59 65 66 subscribe: what is answered', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  assert.deepEqual(await c.ok('subscribe', { channel: 'a' }), {});
  await c.fails(105, 'subscribe', { channel: 'a' });
  await c.fails(107, 'subscribe', { channel: 'x'.repeat(256) });
  assert.deepEqual(await c.ok('subscribe', { channel: 'x'.repeat(255) }), {});
  await c.fails(102, 'subscribe', { channel: 'nope:a' });
  await c.fails(107, 'subscribe', { channel: 'straße' });
  await c.fails(108, 'subscribe', { channel: 'b', type: 1 });
  assert.deepEqual(await c.ok('subscribe', { channel: 'b', delta: 'fossil', flag: 1 }), {});
  await closed(server, 3501, [{ subscribe: { channel: '' }, id: 1 }]);
  await closed(server, 3501, [{ subscribe: {}, id: 1 }]);
  await closed(server, 3501, [{ subscribe: { channel: 'a', delta: 'x' }, id: 1 }]);
});

each('56b channel.max_length', async (shape) => {
  const server = await start(shape, {}, ['--channel.max_length', '10']);
  const c = await server.connected();
  await c.ok('subscribe', { channel: 'x'.repeat(10) });
  for (const [method, more] of [['subscribe', {}], ['publish', { data: 1 }], ['presence', {}], ['history', {}]])
    await c.fails(107, method, { channel: 'x'.repeat(11), ...more });
  /* nor those that the server adds */
  for (const [n, code] of [[10, 0], [11, 107]]) {
    const by = async (claims) => {
      const one = await server.open();
      const params = { token: sign({ sub: '42', ...claims }) };
      if (code) await one.fails(code, 'connect', params);
      else assert.deepEqual(Object.keys((await one.ok('connect', params)).subs), ['x'.repeat(n)]);
    };
    await by({ channels: ['x'.repeat(n)] });
    await by({ subs: { ['x'.repeat(n)]: {} } });
    const { json } = await api(server, 'subscribe', { user: '42', channel: 'y'.repeat(n) });
    assert.equal(json.error?.code ?? 0, code);
  }
  const own = await start(shape, PERSONAL({}), ['--channel.max_length', '10']);
  await own.connected({ user: 'u'.repeat(9) });
  await (await own.open()).fails(107, 'connect', { token: sign({ sub: 'u'.repeat(10) }) });
});

each('57 the 129th channel: 106, and the connection stays', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  for (let i = 0; i < 128; i++) await c.ok('subscribe', { channel: `c${i}` });
  await c.fails(106, 'subscribe', { channel: 'c128' });
  await c.ok('unsubscribe', { channel: 'c0' });
  await c.ok('subscribe', { channel: 'c128' });
});

each('60-64 private and user-limited channels', async (shape) => {
  const server = await start(shape);
  const c = await server.connected({ user: '42' });
  const t = (claims) => sign({ sub: '42', channel: '$x', ...claims });
  await c.fails(103, 'subscribe', { channel: '$x' });
  await c.fails(109, 'subscribe', { channel: '$x', token: t({ exp: nowSeconds() - 1 }) });
  await c.fails(103, 'subscribe', { channel: '$x', token: 'x' });
  await c.fails(103, 'subscribe', { channel: '$x', token: sign({ sub: '42' }) });
  const r = await c.ok('subscribe', { channel: '$x', token: t({ exp: nowSeconds() + 60, info: { seat: 7 }, client: c.id }) });
  assert.equal(r.expires, true);
  assert.ok(r.ttl >= 50 && r.ttl <= 61);
  await c.ok('publish', { channel: '$x', data: 1 });
  assert.deepEqual((await c.push('pub', '$x')).info, { user: '42', client: c.id, chan_info: { seat: 7 } });
  for (const claims of [{ channel: '$y' }, { sub: '43' }, { client: 'somebody' }]) {
    const d = await server.connected({ user: '42' });
    d.send({ subscribe: { channel: '$x', token: t(claims) }, id: 3 });
    await d.closes(3500);
  }
  const one = await server.connected({ user: '43' });
  await one.ok('subscribe', { channel: 'limited:x#42,43' });
  const other = await server.connected({ user: '44' });
  for (const channel of ['limited:x#42,43', 'limited:x#', 'limited:x', 'limited:x#4', 'limited:x#444']) await other.fails(103, 'subscribe', { channel });
});

each('60c client.insecure: everything but a private channel without its token', async (shape) => {
  const server = await start(shape, { client: { insecure: true } });
  const c = await server.connected();
  await c.ok('subscribe', { channel: 'limited:x#1' });
  await c.ok('publish', { channel: 'mute:a', data: 1 });
  await c.fails(103, 'subscribe', { channel: '$x' });
  await c.fails(103, 'subscribe', { channel: '$limited:x' });
});

test('60b a subscription token ends: sub_refresh, 2501, and how an expired token is answered', async () => {
  const server = await start(SHAPES[1]);
  const c = await server.connected({ user: '42' });
  const t = (exp, more) => sign({ sub: '42', channel: '$x', exp: nowSeconds() + exp, ...more });
  await c.ok('subscribe', { channel: '$x', token: t(2) });
  const r = await c.ok('sub_refresh', { channel: '$x', token: t(3) });
  assert.deepEqual([r.expires, r.ttl >= 1 && r.ttl <= 4], [true, true]);
  await c.fails(107, 'sub_refresh', { channel: '$x' });
  await c.fails(103, 'sub_refresh', { channel: '$y', token: t(3) });
  assert.equal((await c.push('unsubscribe', '$x', 8000)).code, 2501);
  await c.ok('subscribe', { channel: '$x', token: t(600) });
  c.send({ sub_refresh: { channel: '$x', token: t(-5) }, id: 9 });
  const [push, error] = [await c.take(), await c.take()];
  assert.deepEqual([push.push.unsubscribe.code, error.id, error.error.code], [2501, 9, 109]);
  await c.ok('subscribe', { channel: '$x', token: t(600) });
  c.send({ sub_refresh: { channel: '$x', token: t(600, { expire_at: nowSeconds() - 1 }) }, id: 10 });
  assert.equal((await c.push('unsubscribe', '$x')).code, 2501);
  assert.equal((await c.reply(10)).error.code, 109);
  for (const claims of [{ channel: '$z' }, { sub: '43' }, { client: 'somebody' }]) {
    const d = await server.connected({ user: '42' });
    await d.ok('subscribe', { channel: '$x', token: t(600) });
    d.send({ sub_refresh: { channel: '$x', token: t(600, claims) }, id: 11 });
    await d.closes(3500);
  }
});

test('60e each subscription ends in its own time', async () => {
  const server = await start(SHAPES[1]);
  const c = await server.connected({ user: '42' });
  const begin = nowSeconds();
  const t = (n, exp) => sign({ sub: '42', channel: `$${n}`, exp: begin + exp });
  const ends = [2, 600, 4, 3, 600, 3, 500];
  for (const [n, exp] of ends.entries()) await c.ok('subscribe', { channel: `$${n}`, token: t(n, exp) });
  await c.ok('sub_refresh', { channel: '$2', token: t(2, 600) });
  await c.ok('sub_refresh', { channel: '$6', token: t(6, 3) });
  for (const n of [0, 3, 5, 6]) {
    const { code } = await c.push('unsubscribe', `$${n}`, 10000);
    assert.equal(code, 2501);
    const due = begin + (n === 6 ? 3 : ends[n]);
    assert.ok(Date.now() / 1000 >= due, `$${n} before its time`);
    assert.ok(Date.now() / 1000 < due + 1 + patience(2500) / 1000, `$${n} long after its time`);
  }
  await c.quiet();
  for (const n of [1, 2, 4]) await c.fails(105, 'subscribe', { channel: `$${n}`, token: t(n, 600) });
});

each('60d info of a refreshed subscription token is chan_info from then on; without any it stays', async (shape) => {
  const server = await start(shape);
  const [c, other] = [await server.connected({ user: '42' }), await server.connected({ user: '43' })];
  const channel = '$pres:p';
  const t = (sub, more) => sign({ sub, channel, ...more });
  await c.ok('subscribe', { channel, token: t('42', { info: { seat: 1 } }) });
  await other.ok('subscribe', { channel, token: t('43'), join_leave: true });
  const shown = async () => (await other.ok('presence', { channel })).presence[c.id];
  assert.deepEqual(await shown(), { user: '42', client: c.id, chan_info: { seat: 1 } });
  assert.deepEqual(await c.ok('sub_refresh', { channel, token: t('42', { info: { seat: 2 }, client: c.id }) }), {});
  await c.ok('sub_refresh', { channel, token: t('42') });
  const now = { user: '42', client: c.id, chan_info: { seat: 2 } };
  assert.deepEqual(await shown(), now);
  await c.ok('publish', { channel, data: 1 });
  assert.deepEqual((await other.push('pub')).info, now);
  await c.end();
  assert.deepEqual((await other.push('leave')).info, now);
});

each('67 68 unsubscribe', async (shape) => {
  const server = await start(shape);
  const [c, d] = [await server.connected(), await server.connected()];
  assert.deepEqual(await c.ok('unsubscribe', { channel: 'never' }), {});
  for (const s of [c, d]) await s.ok('subscribe', { channel: 'a' });
  await result(server, 'publish', { channel: 'a', data: 1 });
  for (const s of [c, d]) assert.equal((await s.push('pub')).data, 1);
  await c.ok('unsubscribe', { channel: 'a' });
  await result(server, 'publish', { channel: 'a', data: 2 });
  assert.equal((await d.push('pub')).data, 2);
  await c.quiet();
  await closed(server, 3501, [{ unsubscribe: {}, id: 1 }]);
});

/* ---- publish and streams ---- */

const VALUES = ['null', '"s"', '5', '[]', '{}', '1e400', '{"a":1,"a":2}', '"\\u2028"', '"\u2028<>&"', '{ "b" : [1.50, -0.0],\t"a":"\\/\\ud83d\\ude00" }', 'true', '"\\ud800"', '123456789012345678901234567890'];

each('69-72 publish: delivered byte by byte, with info; and what is refused', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  await c.ok('subscribe', { channel: 'a' });
  for (const value of VALUES) {
    c.send(`{"publish":{"channel":"a","data":${value}},"id":7}`);
    const push = await c.take((l) => l.push);
    assert.ok(push.text.includes(`"data":${value},"info"`) || push.text.includes(`"data":${value}}`), `${value}: ${push.text}`);
    assert.deepEqual(push.push.pub.info, { user: '', client: c.id });
    assert.deepEqual((await c.reply(7)).publish, {});
  }
  await c.fails(107, 'publish', { channel: 'a' });
  await c.fails(103, 'publish', { channel: 'b', data: 1 });
  await c.fails(102, 'publish', { channel: 'nope:a', data: 1 });
  await c.ok('subscribe', { channel: 'mute:a' });
  await c.fails(103, 'publish', { channel: 'mute:a', data: 1 });
  await closed(server, 3501, [{ publish: { data: 1 }, id: 1 }]);
  await c.quiet();
});

each('70b publication_data_format: what may be published', async (shape) => {
  const formats = ['json', 'json_object', 'binary'];
  const more = formats.map((f) => ({ name: f, allow_subscribe_for_client: true, allow_publish_for_subscriber: true, publication_data_format: f }));
  const server = await start(shape, { more });
  const c = await server.connected({ user: '42' });
  const good = { json: ['1', '[]', '{}', 'null'], json_object: ['{}', ' {"a":1}', '\t{ }'], binary: ['1', '{}', 'null', undefined] };
  const bad = { json: [undefined], json_object: [undefined, '1', '[]', 'null', '"{}"', '[{}]'], binary: [] };
  const line = (f, data) => `{"publish":{"channel":"${f}:a"${data === undefined ? '' : `,"data":${data}`}},"id":7}`;
  for (const f of formats) {
    await c.ok('subscribe', { channel: `${f}:a` });
    for (const data of good[f]) {
      c.send(line(f, data));
      assert.deepEqual((await c.reply(7)).publish, {}, `${f} ${data}`);
      assert.deepEqual((await c.push('pub', `${f}:a`)).data, JSON.parse(data ?? 'null'));
    }
    for (const data of bad[f]) {
      c.send(line(f, data));
      assert.equal((await c.reply(7)).error?.code, 107, `${f} ${data}`);
    }
  }
  await c.quiet();
});

const fill = async (server, channel, from, to) => {
  for (let n = from; n <= to; n++) await result(server, 'publish', { channel, data: { n } });
};

each('73-79 streams and recovery', async (shape) => {
  const server = await start(shape);
  const a = await server.connected();
  const first = await a.ok('subscribe', { channel: 'hist:a' });
  assert.match(first.epoch, /^[A-Za-z]{8}$/);
  assert.ok(!('offset' in first) && first.positioned && first.recoverable, JSON.stringify(first));
  const { epoch } = first;
  await fill(server, 'hist:a', 1, 3);
  for (let n = 1; n <= 3; n++) assert.equal((await a.push('pub')).offset, n);
  a.cut();
  await fill(server, 'hist:a', 4, 6);
  const recover = async (params) => {
    const c = await server.connected();
    const r = await c.ok('subscribe', { channel: 'hist:a', recover: true, epoch, ...params });
    assert.equal(r.was_recovering, true);
    await c.end();
    return r;
  };
  const good = await recover({ offset: 3 });
  assert.deepEqual([good.recovered, good.offset, good.epoch, good.publications.map((p) => [p.offset, p.data.n])], [true, 3, epoch, [[4, 4], [5, 5], [6, 6]]]);
  const other = await recover({ offset: 3, epoch: 'zzzzzzzz' });
  assert.deepEqual([other.recovered, other.publications, other.offset, other.epoch], [undefined, undefined, 6, epoch]);
  const odd = await recover({ offset: 3, epoch: '_' });
  assert.deepEqual([odd.recovered, odd.publications, odd.offset], [undefined, undefined, 6]);
  const top = await recover({ offset: 6 });
  assert.deepEqual([top.recovered, top.publications, top.offset], [true, undefined, 6]);
  const ahead = await recover({ offset: 7 });
  assert.deepEqual([ahead.recovered, ahead.publications, ahead.offset], [undefined, undefined, 6]);
  const everything = await recover({ epoch: undefined });
  assert.deepEqual([everything.recovered, everything.offset, everything.publications.length], [true, undefined, 6]);
  await fill(server, 'hist:a', 7, 13);
  assert.equal((await recover({ offset: 3 })).publications.length, 10);
  const lost = await recover({ offset: 2 });
  assert.deepEqual([lost.recovered, lost.publications, lost.offset], [undefined, undefined, 13]);
  const c = await server.connected();
  await c.fails(112, 'subscribe', { channel: 'hist:a', recover: true, epoch, offset: 2, flag: 3 });
  assert.equal((await c.ok('subscribe', { channel: 'hist:a', recover: true, epoch, offset: 3, flag: 3 })).recovered, true);
});

each('80 1000 publications racing with subscribes: the reply first, offsets contiguous', async (shape) => {
  const server = await start(shape);
  const count = scaled(1000, 200);
  const publisher = await server.connected();
  await publisher.ok('subscribe', { channel: 'long:race' });
  const clients = [];
  for (let i = 0; i < 20; i++) clients.push(await server.connected());
  const flood = (async () => {
    for (let n = 0; n < count; n += 20) {
      publisher.send(...Array.from({ length: 20 }, (_, i) => ({ publish: { channel: 'long:race', data: n + i + 1 }, id: 1000 + n + i })));
      await publisher.reply(1000 + n + 19);
    }
  })();
  for (const [i, c] of clients.entries()) {
    const recover = i % 2 ? { recover: true } : {};
    c.send({ subscribe: { channel: 'long:race', ...recover }, id: 1 });
    const head = await c.take();
    assert.equal(head.id, 1, head.text);
    c.next = (head.subscribe.offset || 0) + 1;
    for (const p of head.subscribe.publications || []) assert.equal(p.offset, c.next++);
  }
  await flood;
  for (const c of clients) {
    for (; c.next <= count; c.next++) {
      const l = await c.take();
      assert.equal(l.push?.pub?.offset, c.next, l.text);
      assert.equal(l.push.pub.data, c.next);
    }
    assert.deepEqual(c.lines, []);
  }
}, { seconds: 90 });

test('74b a recovery and a history that no reply can hold: not recovered, 106; together with others in connect as well', async () => {
  const big = { name: 'big', history_size: 1000, history_ttl: '60s', force_recovery: true, allow_subscribe_for_client: true, allow_history_for_subscriber: true };
  const server = await start(SHAPES[1], { more: [big] }, ['--client.recovery_max_publication_limit', '1000', '--client.history_max_publication_limit', '1000']);
  const data = 'x'.repeat(1000000);
  for (const [channel, count] of [['big:a', 40], ['big:b', 20], ['big:c', 20]]) /* 40, 20 and 20 MB; a reply has 32 MiB */
    for (let i = 0; i < count; i++) await result(server, 'publish', { channel, data });
  const c = await server.connected({ user: '42' });
  const lost = await c.ok('subscribe', { channel: 'big:a', recover: true });
  assert.deepEqual([lost.recovered, lost.was_recovering, lost.publications, lost.offset], [undefined, true, undefined, 40]);
  await c.fails(106, 'history', { channel: 'big:a', limit: -1 });
  assert.equal((await c.ok('history', { channel: 'big:a', limit: 30 })).publications.length, 30);
  await c.ok('unsubscribe', { channel: 'big:a' });
  await c.fails(112, 'subscribe', { channel: 'big:a', recover: true, flag: 2 });
  assert.equal((await c.ok('subscribe', { channel: 'big:a', recover: true, offset: 20, epoch: lost.epoch })).publications.length, 20);
  const { subs } = await c.ok('unsubscribe', { channel: 'big:a' }).then(() => server.connected({ params: { token: sign({ sub: '42' }), subs: { 'big:b': { recover: true }, 'big:c': { recover: true } } } })).then((d) => d.hello);
  assert.deepEqual([subs['big:b'].recovered, subs['big:b'].publications.length, subs['big:c'].recovered, subs['big:c'].publications, subs['big:c'].offset], [true, 20, undefined, undefined, 20]);
  assert.equal((await metrics(server)).get('replies_too_large_total'), 4);
}, { seconds: 90 });

each('81-83 history', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  const { epoch } = await c.ok('subscribe', { channel: 'hist:h' });
  assert.deepEqual(await c.ok('history', { channel: 'hist:h' }), { publications: [], epoch, offset: 0 });
  await fill(server, 'hist:h', 1, 12);
  assert.deepEqual(await c.ok('history', { channel: 'hist:h' }), { publications: [], epoch, offset: 12 });
  const offsets = async (params) => (await c.ok('history', { channel: 'hist:h', ...params })).publications.map((p) => p.offset);
  assert.deepEqual(await offsets({ limit: 2 }), [3, 4]);
  assert.deepEqual(await offsets({ limit: -1 }), [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  assert.deepEqual(await offsets({ limit: 2, reverse: true }), [12, 11]);
  assert.deepEqual(await offsets({ limit: 3, since: { offset: 5, epoch } }), [6, 7, 8]);
  assert.deepEqual(await offsets({ limit: 3, since: { offset: 5 }, reverse: true }), [4, 3]);
  assert.deepEqual(await offsets({ limit: 3, since: { offset: 1 } }), [3, 4, 5]);
  assert.deepEqual(await offsets({ limit: 3, since: { offset: 12 } }), []);
  await c.fails(107, 'history', { channel: 'hist:h', reverse: true, limit: 1, since: { offset: 0, epoch } });
  await c.fails(112, 'history', { channel: 'hist:h', limit: 1, since: { offset: 1, epoch: 'zzzzzzzz' } });
  await c.fails(103, 'history', { channel: 'hist:not-subscribed', limit: 1 });
  await c.ok('subscribe', { channel: 'a' });
  await c.fails(108, 'history', { channel: 'a', limit: 1 });
  await closed(server, 3501, [{ history: {}, id: 1 }]);
});

each('client.command_rate_limit: 111 for one over, 3013 for who goes on; an unsubscribe gets no error', async (shape) => {
  const server = await start(shape, { client: { command_rate_limit: 1, channel_limit: 2 } });
  const free = 10 * 1 + 2; /* so many refusals before the end */
  const stats = (id) => ({ presence_stats: { channel: 'pres:a' }, id });
  const leave = (id) => ({ unsubscribe: { channel: 'b' }, id });
  const over = Array.from({ length: free - 2 }, (_, i) => 200 + i);
  const c = await server.connected();
  await c.ok('subscribe', { channel: 'pres:a' });
  await new Promise((resolve) => setTimeout(resolve, 1100)); /* a second empties the bucket; connect is not in it */
  /* one message, read in one turn: however long the machine takes, no time passes between two commands */
  c.send(stats(1), '{}', leave(2), ...over.map(stats), leave(3), stats(999));
  assert.ok((await c.reply(1)).presence_stats);
  for (const id of over) assert.deepEqual((await c.reply(id)).error, { code: 111, message: 'too many requests', temporary: true });
  for (const id of [2, 3]) assert.deepEqual((await c.reply(id)).unsubscribe, {});
  await c.closes(3013);
  assert.deepEqual(c.lines, []);
  const count = async (what) => (await metrics(server)).get(`rate_limited_total{what="${what}"}`);
  assert.deepEqual([await count('command'), await count('publication'), await count('close')], [free, 0, 1]);
}, { seconds: 60 });

each('client.publication_rate_limit: the same for publications, and they are many at once after a second', async (shape) => {
  const server = await start(shape, { client: { publication_rate_limit: 3 } });
  const c = await server.connected();
  await c.ok('subscribe', { channel: 'a' });
  for (let round = 0; round < 2; round++) {
    if (round) await new Promise((resolve) => setTimeout(resolve, 1100));
    c.send(...[1, 2, 3, 4, 5].map((id) => ({ publish: { channel: 'a', data: id }, id })), { presence_stats: { channel: 'a' }, id: 6 });
    for (const id of [1, 2, 3]) {
      assert.deepEqual((await c.reply(id)).publish, {});
      assert.equal((await c.push('pub', 'a')).data, id);
    }
    for (const id of [4, 5]) assert.equal((await c.reply(id)).error.code, 111);
    assert.equal((await c.reply(6)).error.code, 108);
    await c.quiet();
  }
  assert.equal((await metrics(server)).get('rate_limited_total{what="publication"}'), 4);
  c.send(...Array.from({ length: 3 + 30 + 128 + 5 }, (_, i) => ({ publish: { channel: 'a', data: i }, id: i + 1 })));
  await c.closes(3013);
});

/* ---- presence, rpc, send ---- */

each('replies that are not read: the rest of a message waits, and nothing is lost', async (shape) => {
  const wide = { name: 'wide', history_size: 10, history_ttl: '60s', allow_subscribe_for_client: true, allow_history_for_subscriber: true };
  const server = await start(shape, { more: [wide] });
  const [c, other] = [await server.connected({ user: '42' }), await server.connected()];
  await c.ok('subscribe', { channel: 'wide:a' });
  const data = 'x'.repeat(100000);
  for (let i = 1; i <= 10; i++) {
    await result(server, 'publish', { channel: 'wide:a', data });
    await c.push('pub');
  }
  const count = scaled(200, 60); /* a megabyte each, asked for by some 55 bytes */
  c.socket.pause();
  c.send(...Array.from({ length: count }, (_, i) => ({ history: { channel: 'wide:a', limit: 10 }, id: i + 1 })));
  c.send({ unsubscribe: { channel: 'b' }, id: 1001 }, { unsubscribe: { channel: 'b' }, id: 1002 });
  for (let i = 0; i < 20; i++) {
    await other.quiet();
    const m = await metrics(server);
    assert.ok(m.get('queued_bytes') < 4e6, `${m.get('queued_bytes')} bytes wait`);
    assert.ok(m.get('memory_used_bytes') < 30e6, `${m.get('memory_used_bytes')} bytes in use`);
  }
  c.socket.resume();
  for (let id = 1; id <= count; id++) {
    const line = await c.take();
    assert.deepEqual([line.id, line.history.publications.length, line.history.offset], [id, 10, 10]);
  }
  assert.deepEqual([(await c.take()).id, (await c.take()).id], [1001, 1002]);
  await c.quiet();
}, { seconds: 90 });

test('a message of long commands leaves others their turns', async () => {
  const server = await start(['ws', 1]);
  const [c, other] = [await server.connected(), await server.connected()];
  const crowd = [];
  for (let i = 0; i < scaled(1000, 200); i += 50) crowd.push(...await Promise.all(Array.from({ length: 50 }, () => server.connected({ user: `u${i}` }))));
  await Promise.all([c, ...crowd].map((s) => s.ok('subscribe', { channel: 'pres:a' })));
  const count = 1500;
  c.send(...Array.from({ length: count }, (_, i) => ({ presence_stats: { channel: 'pres:a' }, id: i + 1000 })));
  await other.ok('unsubscribe', { channel: 'x' });
  assert.ok(c.lines.length < count, 'all of it came first');
  assert.ok((await metrics(server)).get('pauses_total{what="share"}') > 0);
  for (let i = 0; i < count; i++) assert.equal((await c.take()).id, i + 1000);
}, { seconds: 90 });

each('84 85 presence', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  await c.fails(103, 'presence', { channel: 'pres:a' });
  await c.ok('subscribe', { channel: 'pres:a' });
  assert.deepEqual(await c.ok('presence', { channel: 'pres:a' }), { presence: { [c.id]: { user: '', client: c.id } } });
  const more = [await server.connected({ user: '42' }), await server.connected({ user: '42' }), await server.connected({ user: '43' })];
  for (const m of more) await m.ok('subscribe', { channel: 'pres:a' });
  assert.deepEqual(Object.keys((await c.ok('presence', { channel: 'pres:a' })).presence).sort(), [c, ...more].map((m) => m.id).sort());
  assert.deepEqual(await c.ok('presence_stats', { channel: 'pres:a' }), { num_clients: 4, num_users: 3 });
  assert.deepEqual(await result(server, 'presence_stats', { channel: 'pres:a' }), { num_clients: 4, num_users: 3 });
  assert.deepEqual((await result(server, 'presence', { channel: 'pres:a' })).presence[more[0].id], { user: '42', client: more[0].id });
  await c.ok('subscribe', { channel: 'a' });
  for (const method of ['presence', 'presence_stats']) {
    await c.fails(108, method, { channel: 'a' });
    await c.fails(102, method, { channel: 'nope:a' });
    await closed(server, 3501, [{ [method]: {}, id: 1 }]);
  }
});

each('86 join and leave', async (shape) => {
  const server = await start(shape);
  const [a, b] = [await server.connected({ user: '1' }), await server.connected({ user: '2' })];
  a.send({ subscribe: { channel: 'pres:j', join_leave: true }, id: 1 });
  assert.equal((await a.take()).id, 1);
  assert.deepEqual((await a.push('join', 'pres:j')).info, { user: '1', client: a.id });
  await b.ok('subscribe', { channel: 'pres:j' }); /* without join_leave: hears none */
  assert.deepEqual((await a.push('join', 'pres:j')).info, { user: '2', client: b.id });
  await b.ok('unsubscribe', { channel: 'pres:j' });
  assert.deepEqual((await a.push('leave', 'pres:j')).info, { user: '2', client: b.id });
  await b.quiet();
  await b.ok('subscribe', { channel: 'pres:j', join_leave: true });
  await b.push('join', 'pres:j');
  await a.push('join', 'pres:j');
  b.cut();
  assert.deepEqual((await a.push('leave', 'pres:j')).info, { user: '2', client: b.id });
  await a.ok('unsubscribe', { channel: 'pres:j' });
  await a.quiet(); /* not its own leave */
});

test('86b a subscribe refused with 112 is not announced', async () => {
  const both = { name: 'both', join_leave: true, presence: true, history_size: 2, history_ttl: '60s', force_recovery: true, allow_subscribe_for_client: true, force_push_join_leave: true };
  const server = await start(SHAPES[1], { more: [both] });
  const [a, b] = [await server.connected({ user: '1' }), await server.connected({ user: '2' })];
  await a.ok('subscribe', { channel: 'both:a' });
  await a.push('join', 'both:a');
  await b.fails(112, 'subscribe', { channel: 'both:a', recover: true, epoch: 'zzzzzzzz', offset: 5, flag: 3 });
  await b.ok('subscribe', { channel: 'both:a' });
  assert.deepEqual((await a.push('join', 'both:a')).info, { user: '2', client: b.id });
  await a.quiet();
  assert.equal((await result(server, 'presence_stats', { channel: 'both:a' })).num_clients, 2);
});

each('87 88 rpc and send without a handler', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  await c.fails(108, 'rpc', { method: 'x', data: {} });
  c.send({ send: { data: { x: 1 } } });
  await c.closes(3508);
  assert.deepEqual(c.lines, []);
});

/* ---- server API ---- */

each('89-93 97 publish, broadcast, history_remove of the API', async (shape) => {
  const server = await start(shape);
  for (const method of ['publish', 'broadcast', 'presence', 'presence_stats', 'history', 'history_remove']) {
    assert.deepEqual([(await api(server, method, '{}', { headers: {} })).status, (await api(server, method, '{}', { headers: {} })).body], [401, '']);
    assert.equal((await request(server, { target: `/api/${method}` })).status, 405);
    for (const bad of ['x', '{', '[]', '1', '{"channel":1}', '{"channel":{}}', ''])
      assert.deepEqual([bad, (await api(server, method, bad)).status], [bad, method === 'broadcast' && bad.includes('channel') ? 200 : 400]);
  }
  const c = await server.connected();
  await c.ok('subscribe', { channel: 'a' });
  const { epoch } = await c.ok('subscribe', { channel: 'hist:a' });
  assert.deepEqual(await result(server, 'publish', { channel: 'a', data: { t: 'hi' } }), {});
  assert.deepEqual(await c.push('pub', 'a'), { data: { t: 'hi' } });
  assert.deepEqual(await result(server, 'publish', { channel: 'hist:a', data: 1, tags: { k: 'v' } }), { offset: 1, epoch });
  assert.deepEqual(await c.push('pub', 'hist:a'), { data: 1, offset: 1, tags: { k: 'v' } });
  await result(server, 'publish', '{"channel":"a","data":{\n"n" : 1.50,\r\n "s":"\\n"}}'); /* line ends of a payload go, no other byte */
  assert.ok((await c.take()).text.includes('"data":{"n" : 1.50,\r "s":"\\n"}'));
  const unknown = { channel: 'nope:a', data: 1 };
  const answer = await api(server, 'publish', unknown);
  assert.deepEqual([answer.status, answer.json], [200, { error: { code: 102, message: 'unknown channel' } }]);
  const transport = await api(server, 'publish', unknown, { headers: { 'X-API-Key': 'e2e-api-key-0123456789', 'X-Centrifugo-Error-Mode': 'transport' } });
  assert.deepEqual([transport.status, transport.json], [404, { code: 102, message: 'unknown channel' }]);
  const many = await result(server, 'broadcast', { channels: ['a', 'nope:a', 'hist:a'], data: 3 });
  assert.deepEqual(many, { responses: [{ result: {} }, { error: { code: 102, message: 'unknown channel' } }, { result: { offset: 2, epoch } }] });
  assert.equal((await c.push('pub', 'a')).data, 3);
  assert.equal((await c.push('pub', 'hist:a')).data, 3);
  assert.equal((await result(server, 'history', { channel: 'hist:a', limit: -1 })).publications.length, 2);
  assert.deepEqual(await result(server, 'history_remove', { channel: 'hist:a' }), {});
  assert.deepEqual(await result(server, 'history', { channel: 'hist:a', limit: 10 }), { publications: [], epoch, offset: 2 });
  assert.deepEqual(await result(server, 'publish', { channel: 'hist:a', data: 4 }), { offset: 3, epoch });
  assert.equal((await c.push('pub', 'hist:a')).offset, 3);
});

each('94 unsubscribe a user', async (shape) => {
  const server = await start(shape);
  const [c, other] = [await server.connected({ user: '42' }), await server.connected({ user: '43' })];
  for (const s of [c, other]) await s.ok('subscribe', { channel: 'a' });
  assert.deepEqual(await result(server, 'unsubscribe', { user: '42', channel: 'a' }), {});
  assert.equal((await c.push('unsubscribe', 'a')).code, 2000);
  await result(server, 'publish', { channel: 'a', data: 1 });
  await other.push('pub', 'a');
  await c.quiet();
  await c.ok('subscribe', { channel: 'a' });
  assert.deepEqual(await result(server, 'unsubscribe', { user: 'nobody', channel: 'a' }), {});
});

each('95 disconnect a user', async (shape) => {
  const server = await start(shape);
  const [a, b, c] = [await server.connected({ user: '1' }), await server.connected({ user: '2' }), await server.connected()];
  assert.deepEqual(await result(server, 'disconnect', { user: '1' }), {});
  await a.closes(3503);
  assert.deepEqual(await result(server, 'disconnect', { user: '2', disconnect: { code: 4001, reason: 'banned' } }), {});
  assert.equal((await b.closes(4001)).reason, 'banned');
  await c.quiet(); /* the anonymous one is nobody's namesake */
  for (const disconnect of [{ code: 4001, reason: '' }, { code: 5000, reason: 'x' }])
    assert.equal((await api(server, 'disconnect', { user: '2', disconnect })).json.error?.code, 107);
});

each('96 subscribe a user', async (shape) => {
  const server = await start(shape);
  const c = await server.connected({ user: '42' });
  assert.deepEqual(await result(server, 'subscribe', { user: '42', channel: 'hist:s' }), {});
  const push = await c.push('subscribe', 'hist:s');
  assert.equal(push.positioned, true);
  await result(server, 'publish', { channel: 'hist:s', data: 1 });
  assert.equal((await c.push('pub', 'hist:s')).offset, 1);
});

each('98 batch', async (shape) => {
  const server = await start(shape);
  const answer = await api(server, 'batch', { commands: [{ publish: { channel: 'a', data: 1 } }, { publish: { channel: 'nope:a', data: 1 } }] });
  assert.deepEqual(answer.json, { replies: [{ publish: {} }, { error: { code: 102, message: 'unknown channel' } }] });
});

each('99 info and channels', async (shape) => {
  const server = await start(shape);
  const c = await server.connected({ user: '42' });
  await c.ok('subscribe', { channel: 'a' });
  const { nodes } = await result(server, 'info', {});
  assert.ok(nodes[0].num_clients >= 1 && nodes[0].num_users >= 1 && nodes[0].num_channels >= 1, JSON.stringify(nodes));
  assert.equal((await result(server, 'channels', {})).channels.a.num_clients, 1);
});

each('100 idempotency_key', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  await c.ok('subscribe', { channel: 'hist:i' });
  const once = { channel: 'hist:i', data: 1, idempotency_key: 'k' };
  const first = await result(server, 'publish', once);
  assert.deepEqual(await result(server, 'publish', { ...once, data: 2 }), first);
  assert.deepEqual(await result(server, 'broadcast', { ...once, channels: ['hist:i', 'hist:j'] }), {
    responses: [{ result: first }, { result: { offset: 1, epoch: (await result(server, 'history', { channel: 'hist:j' })).epoch } }],
  });
  assert.deepEqual([await c.push('pub'), c.lines], [{ data: 1, offset: 1 }, []]);
  /* nobody listens and nothing is kept: remembered all the same; an escape is what it stands for */
  assert.deepEqual(await result(server, 'publish', '{"channel":"a","data":1,"idempotency_key":"\\u006b"}'), {});
  await c.ok('subscribe', { channel: 'a' });
  await result(server, 'publish', { ...once, channel: 'a' });
  for (const key of ['', null]) { /* as absent */
    await result(server, 'publish', { channel: 'a', data: key, idempotency_key: key });
    await result(server, 'publish', { channel: 'a', data: key, idempotency_key: key });
    for (let i = 0; i < 2; i++) assert.equal((await c.push('pub', 'a')).data, key);
  }
  const calls = [];
  for (let i = 0; i < 40; i++) calls.push(result(server, 'publish', { channel: 'hist:i', data: i % 10, idempotency_key: `k${i % 10}`.padEnd(9999, 'k') }));
  const offsets = (await Promise.all(calls)).map((r) => r.offset);
  for (let i = 0; i < 40; i++) assert.equal(offsets[i], offsets[i % 10]);
  assert.deepEqual(offsets.slice(0, 10).sort((x, y) => x - y), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  for (let i = 2; i <= 11; i++) assert.equal((await c.push('pub', 'hist:i')).offset, i);
  assert.equal((await api(server, 'publish', { ...once, idempotency_key: 7 })).status, 400);
  await c.quiet();
});

each('no room for one more channel: error 100 where a history is promised, and a key is still good', async (shape) => {
  const open = { name: 'open', history_size: 9, history_ttl: '60s', allow_publish_for_client: true };
  const server = await start(shape, { more: [open] }, ['--channel.limit', '1']);
  const c = await server.connected({ user: '42' });
  await c.ok('subscribe', { channel: 'a' });
  const once = { channel: 'hist:i', data: 1, idempotency_key: 'k' };
  assert.equal((await api(server, 'publish', once)).json.error?.code, 100);
  await c.fails(100, 'publish', { channel: 'open:i', data: 1 });
  const both = (await api(server, 'broadcast', { channels: ['a', 'hist:i', 'a'], data: 1 })).json;
  assert.deepEqual([both.result.responses.map((r) => r.error?.code), both.result.responses[0].result], [[undefined, 100, undefined], {}]);
  for (let i = 0; i < 2; i++) await c.push('pub', 'a');
  assert.deepEqual(await result(server, 'publish', { ...once, channel: 'b' }), {}); /* nobody is there, and nothing would be kept */
  assert.equal((await metrics(server)).get('refused_total{reason="channels"}'), 3);
  await c.ok('unsubscribe', { channel: 'a' });
  assert.equal((await result(server, 'publish', once)).offset, 1);
});

each('version: what is not newer is not published, and the answer is the top', async (shape) => {
  const server = await start(shape);
  const c = await server.connected();
  for (const channel of ['hist:v', 'a']) await c.ok('subscribe', { channel });
  const said = (channel, data, version, version_epoch) => result(server, 'publish', { channel, data, version, version_epoch });
  const first = await said('hist:v', 1, 7);
  assert.deepEqual(await said('hist:v', 2, 7), first);
  assert.deepEqual(await said('hist:v', 3, 1, 'e'), { ...first, offset: 2 });
  assert.deepEqual(await said('hist:v', 4, 1, 'e'), { ...first, offset: 2 });
  assert.deepEqual(await said('hist:v', 5, 2 ** 53, ''), { ...first, offset: 3 });
  for (let i = 0; i < 2; i++) await said('a', i, 1); /* without a history it means nothing */
  for (const data of [1, 3, 5]) assert.equal((await c.push('pub', 'hist:v')).data, data);
  for (const data of [0, 1]) assert.equal((await c.push('pub', 'a')).data, data);
  for (const version of ['1', '-1', '1.5', '18446744073709551616'])
    assert.equal((await api(server, 'publish', `{"channel":"a","data":1,"version":${version}}`)).status, version === '1' ? 200 : 400);
  assert.equal((await c.push('pub', 'a')).data, 1);
  assert.equal((await metrics(server)).get('publications_outdated_total'), 2);
  await c.quiet();
});

/* ---- end of life ---- */

each('101 SIGTERM: 3001 to all', async (shape) => {
  const server = await start(shape);
  const clients = [];
  for (let i = 0; i < 10; i++) clients.push(await server.connected());
  server.child.kill('SIGTERM');
  for (const c of clients) await c.closes(3001);
});

test('102 who does not read: 3008, and the others lose nothing', async () => {
  const server = await start(SHAPES[1]);
  const slow = await Raw.connect(server);
  slow.write(upgradeHead(ENDPOINT, {}));
  await slow.response();
  slow.write(Buffer.concat([frame(OP.TEXT, '{"connect":{},"id":1}\n{"subscribe":{"channel":"flood"},"id":2}')]));
  await slow.frame();
  slow.socket.pause();
  const quick = await server.connected();
  await quick.ok('subscribe', { channel: 'flood' });
  const data = 'x'.repeat(8192);
  let sent = 0;
  for (; sent < 4000 && !(sent % 100 === 99 && (await metrics(server)).get('slow_total{action="close"}')); sent++) {
    await result(server, 'publish', { channel: 'flood', data: `${sent}:${data}` });
    assert.equal(parseInt((await quick.push('pub')).data, 10), sent);
  }
  assert.equal((await metrics(server)).get('slow_total{action="close"}'), 1);
  slow.socket.resume();
  const close = await slow.closeFrame();
  assert.equal(close.code, 3008);
  readable(close);
  await quick.quiet();
}, { seconds: 90 });

test('103 client.connection_limit: 503', async () => {
  const server = await start(SHAPES[0], { client: { connection_limit: 2 } });
  await server.connected();
  await server.connected();
  assert.equal((await refused(server, ENDPOINT, { token: null })).status, 503);
});

await done();

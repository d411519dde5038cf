/* roost bench: it verifies what it counts. Nothing here depends on speed. */
import { assert, ROOST, test, done, command, atEnd, sanitizerEnv, SANITIZED, serve, token } from './lib.mjs';
import { WebSocketServer } from 'ws';

const env = { PATH: process.env.PATH, HOME: '/nonexistent', ...sanitizerEnv };
async function bench(args, code = 0) {
  const result = await command(ROOST, ['bench', ...args, '--json', '--quiet', '--warm-up', '0.1', ...(args.includes('--seconds') ? [] : ['--seconds', SANITIZED ? '2' : '0.5'])], { env, code: null, seconds: 60 });
  assert.equal(result.code, code, result.out + result.err);
  assert.doesNotMatch(result.err, /Sanitizer|runtime error/);
  return JSON.parse(result.out);
}

for (const args of [['echo', '--connections', '8'], ['echo', '--connections', '4', '--window', '16', '--size', '40000'], ['echo', '--tls', '--connections', '4', '--size', '16'],
  ['fanout', '--connections', '50', '--window', '16'], ['fanout', '--tls', '--connections', '20', '--workers', '2'], ['connect'], ['connect', '--tls', '--close', '--ramp', '4'],
  ['echo', '--dialect', 'raw', '--connections', '8'], ['idle', '--connections', '300'], ['idle', '--dialect', 'echo', '--connections', '300'], ['connect', '--dialect', 'echo'],
  ...[['echo', '--connections', '8'], ['echo', '--connections', '4', '--window', '16', '--size', '40000', '--history', '5'], ['echo', '--tls', '--connections', '4', '--size', '34'],
    ['fanout', '--connections', '50', '--window', '16'], ['fanout', '--connections', '20', '--workers', '2', '--history', '10', '--tls'],
    ['fanout', '--connections', '8', '--channel', 'a "name" / \\ with %20', '--server-arg', '--channel.without_namespace.channel_regex', '--server-arg', '.*'],
    ['connect'], ['connect', '--no-subscribe', '--close', '--ramp', '4'], ['idle', '--connections', '3000', '--leave', '3'], ['idle', '--connections', '3000', '--no-subscribe', '--leave', '3', '--close']]
    .map(([mode, ...rest]) => [mode, '--dialect', 'centrifuge', ...rest])]) {
  test(`own server: ${args.join(' ')}`, async () => {
    const r = await bench(args);
    assert.equal(r.ok, true);
    assert.equal(r.lost + r.doubled + r.reordered + r.damaged + r.refused + r.closed, 0);
    assert.equal(r.dialect, args[args.indexOf('--dialect') + 1 || args.length] || (args[0] === 'echo' ? 'echo' : 'raw'));
    assert.equal(r.offset_faults + r.unanswered + r.answered_again, 0);
    if (args.includes('--leave')) /* a sanitizer keeps what is freed */
      assert.ok(r.pss_left_bytes > 0 && (SANITIZED || r.pss_left_bytes < r.pss_after_bytes), JSON.stringify(r));
    if (args[0] === 'idle') assert.ok(r.opened === r.connections && r.bytes_per_connection > 0);
    else assert.ok(r.messages > 0 && r.server_cpu_s > 0 && r.per_server_cpu_second > 0 && r.latency_ms.max >= r.latency_ms.p50);
  });
}

for (const [name, more, refused] of [['all at once', [], 0],
  ['those who are refused come back until all are served', ['--server-arg', '--client.connection_rate_limit', '--server-arg', '100'], 1]]) {
  test(`storm: ${name}`, async () => {
    const r = await bench(['storm', '--connections', '150', '--established', '10', ...more]);
    assert.equal(r.ok, true);
    const { storm } = r;
    assert.deepEqual([storm.served, storm.served_ms.count, storm.established, r.opened], [150, 150, 10, 10]);
    assert.ok(refused ? storm.refused >= 1 : storm.refused === 0, `${storm.refused} refused`);
    for (const span of [storm.before_ms, storm.after_ms]) assert.ok(span.count > 0 && span.max >= span.p50, JSON.stringify(storm));
    assert.equal(r.lost + r.doubled + r.reordered + r.damaged + r.refused + r.closed, 0);
  }, { seconds: 90 });
}

test('--resume: all but those who come before there is a ticket resume their session', async () => {
  const r = await bench(['idle', '--tls', '--connections', '200', '--ramp', '4', '--resume']);
  assert.equal(r.ok, true);
  assert.ok(r.resumed >= 100 && r.resumed < r.opened, `${r.resumed} of ${r.opened}`);
});

for (const args of [['echo', '--connections', '8', '--rate', '400'], ['echo', '--dialect', 'centrifuge', '--connections', '8', '--rate', '400', '--size', '40000', '--window', '2'],
  ['fanout', '--connections', '50', '--rate', '40'], ['fanout', '--dialect', 'centrifuge', '--connections', '20', '--rate', '40', '--history', '5']]) {
  test(`at a rate: ${args.join(' ')}`, async () => {
    const r = await bench(args);
    assert.deepEqual([r.ok, r.loop, r.rate], [true, 'open', Number(args[args.indexOf('--rate') + 1])]);
    assert.ok(r.messages > 0 && r.latency_ms.max >= r.latency_ms.p50, JSON.stringify(r));
    /* Never more than were due since the beginning (warm-up included), whatever the server could do. */
    const most = (r.seconds + 10) * r.rate * (args[0] === 'fanout' ? r.connections : 1);
    assert.ok(r.messages <= most, `${r.messages} of ${most}`);
  });
}

/* One message under way, fifty due in a second: when one of them is answered 500 ms late, 25 others are sent late, and
 * that is their latency. Counted from when they were sent, one of all would be slow. A slow machine only makes it more. */
test('at a rate, what a stall kept from being sent counts from when it was due', async () => {
  const url = await badServer((ws, data, n) => (n === 100 ? setTimeout(() => ws.send(data), 500) : ws.send(data)));
  const r = await bench(['echo', url, '--connections', '1', '--window', '1', '--rate', '50', '--seconds', '5']);
  assert.deepEqual([r.loop, r.lost, r.window], ['open', 0, 1]);
  assert.ok(r.latency_ms['p99'] >= 300, JSON.stringify(r));
});

/* The server answers nothing, and the window is eight: the ninth can not be sent. */
test('what was due and could not be sent is told', async () => {
  const url = await badServer(() => {});
  const r = await bench(['echo', url, '--connections', '1', '--window', '8', '--rate', '100'], 1);
  assert.ok(r.lost === 8 && r.unsent > 0 && r.latency_ms.max === 0, JSON.stringify(r));
});

test('a rate is for echo and fanout', async () => {
  for (const mode of ['idle', 'connect', 'storm']) {
    const { code, err } = await command(ROOST, ['bench', mode, '--rate', '5'], { env, code: null, seconds: 60 });
    assert.deepEqual([code, err], [2, 'roost bench: --rate is for echo and fanout\n']);
  }
});

test('a server that somebody else started: --server-pid, --token', async () => {
  const server = await serve(['--echo', '--log-level', 'info']);
  const t = token();
  const r = await bench(['echo', server.url('ws'), '--connections', '8', '--token', t, '--server-pid', String(server.child.pid)]);
  assert.ok(r.messages > 0 && r.server_cpu_s > 0);
  const unknown = await bench(['fanout', server.url('ws'), '--connections', '8', '--token', t]);
  assert.ok(unknown.messages > 0 && unknown.server_cpu_s === null);
  const refused = await bench(['echo', server.url('ws'), '--connections', '8'], 1);
  assert.match(refused.failure, /401/);
});

/* An echo server that does one thing wrong, once: with a message of the first window, which is sent however slow
 * the machine is, and is never the last. */
async function badServer(reply) {
  const wss = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  atEnd(() => { wss.clients.forEach((c) => c.terminate()); wss.close(); });
  await new Promise((resolve) => wss.on('listening', resolve));
  wss.on('connection', (ws) => {
    let n = 0;
    ws.on('message', (data, binary) => reply(ws, data, n++, binary));
  });
  return `ws://127.0.0.1:${wss.address().port}`;
}

const echo = ['--connections', '2', '--window', '8'];
const WRONG = 3;
for (const [name, field, reply] of [
  ['loses', 'lost', (ws, data, n) => n !== WRONG && ws.send(data)],
  ['doubles', 'doubled', (ws, data, n) => { ws.send(data); if (n === WRONG) ws.send(data); }],
  ['damages', 'damaged', (ws, data, n) => { if (n === WRONG) data[data.length - 1] ^= 1; ws.send(data); }],
  ['shortens', 'damaged', (ws, data, n) => ws.send(n === WRONG ? data.subarray(1) : data)],
  ['answers with text', 'damaged', (ws, data, n) => ws.send(n === WRONG ? 'a'.repeat(data.length) : data)],
  ['closes', 'closed', (ws, data, n) => (n === WRONG ? ws.close(1011) : ws.send(data))],
  ['cuts', 'closed', (ws, data, n) => (n === WRONG ? ws.terminate() : ws.send(data))],
]) {
  test(`a server that ${name} is found out`, async () => {
    const r = await bench(['echo', await badServer(reply), ...echo], 1);
    assert.equal(r.ok, false);
    assert.ok(r[field] > 0, JSON.stringify(r));
  });
}

test('a server that swaps two messages is found out', async () => {
  let held;
  const url = await badServer((ws, data, n) => {
    if (n === WRONG) held = data;
    else ws.send(data);
    if (n === WRONG + 1) ws.send(held);
  });
  const r = await bench(['echo', url, '--connections', '1', '--window', '8'], 1);
  assert.deepEqual([r.reordered, r.lost, r.doubled], [1, 0, 0], JSON.stringify(r));
});

/* A Centrifuge server for one publisher that does one thing wrong, once, in the first window. Channels have offsets. */
async function badCentrifuge(change) {
  const state = { n: 0, listeners: new Set(), change };
  return badServer((ws, text) => {
    for (const line of String(text).split('\n')) centrifugeCommand(state, ws, JSON.parse(line));
  });
}

function centrifugeCommand(state, ws, m) {
  const reply = (body) => ws.send(JSON.stringify({ id: m.id, ...body }));
  if (m.connect) reply({ connect: { client: 'c', ping: 25, pong: true } });
  else if (m.subscribe) {
    state.listeners.add(ws);
    reply({ subscribe: { recoverable: true, positioned: true, epoch: 'abcd', offset: state.n } });
  } else if (m.publish) {
    const offset = ++state.n;
    const push = { push: { channel: m.publish.channel, pub: { data: m.publish.data, offset } } };
    const to = [...state.listeners];
    to.slice(0, -1).forEach((l) => l.send(JSON.stringify(push)));
    const last = to.at(-1); /* what is wrong is so for one of them */
    const what = offset === 4 && state.change[0](push, last, state);
    const held = state.held;
    if (what !== 'lost') (what || [push]).forEach((p) => last.send(typeof p === 'string' ? p : JSON.stringify(p)));
    if (held && held !== push) {
      last.send(JSON.stringify(held));
      state.held = null;
    }
    if (!(offset === 4 && state.change[1]?.(reply))) reply({ publish: {} });
  }
}

const text = (push, edit) => [edit(JSON.stringify(push))];
for (const [name, field, ...change] of [
  ['loses', 'lost', () => 'lost'],
  ['doubles', 'doubled', (p) => [p, p]],
  ['swaps two messages', 'reordered', (p, l, state) => { state.held = p; return 'lost'; }],
  ['damages', 'damaged', (p) => text(p, (t) => t.replace(/.(","offset)/, '!$1'))],
  ['shortens', 'damaged', (p) => text(p, (t) => t.replace(/.(","offset)/, '$1'))],
  ['names another channel', 'damaged', (p) => [{ push: { ...p.push, channel: 'other' } }]],
  ['sends what is no JSON', 'damaged', (p) => text(p, (t) => t + '}')],
  ['sends an empty line behind', 'damaged', (p) => text(p, (t) => t + '\n')],
  ['sends a binary message', 'damaged', (p, l) => { l.send(Buffer.from(JSON.stringify(p))); return 'lost'; }],
  ['skips an offset', 'offset_faults', (p, l, state) => { state.n++; p.push.pub.offset++; return [p]; }],
  ['gives an offset twice', 'offset_faults', (p) => { p.push.pub.offset--; return [p]; }],
  ['leaves an offset out', 'damaged', (p) => { delete p.push.pub.offset; return [p]; }],
  ['does not answer publish', 'unanswered', null, () => true],
  ['answers publish twice', 'answered_again', null, (reply) => { reply({ publish: {} }); }],
  ['answers with another method as well', 'damaged', null, (reply) => { reply({ history: {} }); }],
  ['refuses to publish', 'unanswered', null, (reply) => { reply({ error: { code: 103, message: 'permission denied' } }); return true; }],
  ['unsubscribes', 'lost', (p) => [{ push: { channel: p.push.channel, unsubscribe: { code: 2500, reason: 'insufficient state' } } }]],
]) {
  test(`a Centrifuge server that ${name} is found out`, async () => {
    const url = await badCentrifuge([change[0] || (() => null), change[1]]);
    const r = await bench(['fanout', url, '--dialect', 'centrifuge', '--connections', '3', '--window', '8'], 1);
    assert.equal(r.ok, false);
    assert.ok(r[field] > 0, JSON.stringify(r));
  });
}

test('a Centrifuge server that refuses is quoted', async () => {
  const server = await serve(['--log-level', 'info']);
  const args = [server.url('ws'), '--dialect', 'centrifuge', '--connections', '4', '--token'];
  const denied = await bench(['fanout', ...args, token()], 1);
  assert.match(denied.failure, /error 103 "permission denied"/);
  const invalid = await bench(['connect', ...args, 'no.good.token'], 1);
  assert.match(invalid.failure, /3500.*invalid token/);
  const missing = await bench(['fanout', ...args, token(), '--channel', 'nowhere:1'], 1);
  assert.match(missing.failure, /error 102 "unknown channel"/);
});

test('pings of a Centrifuge server are answered', async () => {
  const r = await bench(['idle', '--dialect', 'centrifuge', '--connections', '20', '--seconds', '4', '--server-arg', '--ping-interval', '--server-arg', '1s',
    '--server-arg', '--client.pong_timeout', '--server-arg', '500ms']);
  assert.ok(r.pings >= 40 && r.closed === 0, JSON.stringify(r));
});

test('wrong usage is 2', async () => {
  for (const args of [[], ['nonsense'], ['echo', '--size', '15'], ['echo', '--window', '0'], ['echo', '--connections', 'x'], ['echo', 'a', 'b'], ['echo', '--dialect', 'other'], ['fanout', '--dialect', 'echo'],
    ['fanout', '--dialect', 'centrifuge', '--size', '33'], ['fanout', '--dialect', 'centrifuge', '--bare', 'x'], ['echo', '--dialect', 'centrifuge', '--no-subscribe'],
    ['idle', '--leave', 'x'], ['idle', '--channel', 'c'.repeat(244)],
    ['connect', '--no-subscribe'], ['fanout', '--history', '5'], ['fanout', 'ws://127.0.0.1:1', '--dialect', 'centrifuge', '--history', '5'], ['echo', '--leave', '1']])
    assert.equal((await command(ROOST, ['bench', ...args], { env, code: null })).code, 2, args.join(' '));
  assert.match((await command(ROOST, ['bench', '--help'], { env })).out, /^usage: roost bench/);
  const long = await command(ROOST, ['bench', 'connect', '--dialect', 'centrifuge', '--token', 'x'.repeat(16385)], { env, code: null });
  assert.equal(long.code, 1);
  assert.match(long.err, /token: it is longer/);
  const many = await command(ROOST, ['bench', 'idle', '--connections', '1000000'], { env, code: null });
  assert.equal(many.code, 1);
  assert.match(many.err, /descriptors/);
});

await done();

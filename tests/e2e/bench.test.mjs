/* roost bench: it verifies what it counts. Nothing here depends on speed. */
import { assert, ROOST, test, done, command, atEnd, sanitizerEnv, serve, token } from './lib.mjs';
import { WebSocketServer } from 'ws';

const env = { PATH: process.env.PATH, HOME: '/nonexistent', ...sanitizerEnv };
async function bench(args, code = 0) {
  const result = await command(ROOST, ['bench', ...args, '--json', '--quiet', '--warm-up', '0.1', '--seconds', '0.5'], { env, code: null, seconds: 60 });
  assert.equal(result.code, code, result.out + result.err);
  assert.doesNotMatch(result.err, /Sanitizer|runtime error/);
  return JSON.parse(result.out);
}

for (const args of [['echo', '--connections', '8'], ['echo', '--connections', '4', '--window', '16', '--size', '40000'], ['echo', '--tls', '--connections', '4', '--size', '16'],
  ['fanout', '--connections', '50', '--window', '16'], ['fanout', '--tls', '--connections', '20', '--workers', '2'], ['connect'], ['connect', '--tls', '--close', '--ramp', '4'],
  ['idle', '--connections', '300']]) {
  test(`own server: ${args.join(' ')}`, async () => {
    const r = await bench(args);
    assert.equal(r.ok, true);
    assert.equal(r.lost + r.doubled + r.reordered + r.damaged + r.refused + r.closed, 0);
    if (args[0] === 'idle') assert.ok(r.opened === 300 && r.bytes_per_connection > 0);
    else assert.ok(r.messages > 0 && r.server_cpu_s > 0 && r.per_server_cpu_second > 0 && r.latency_ms.max >= r.latency_ms.p50);
  });
}

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

test('wrong usage is 2', async () => {
  for (const args of [[], ['nonsense'], ['echo', '--size', '15'], ['echo', '--window', '0'], ['echo', '--connections', 'x'], ['echo', 'a', 'b']])
    assert.equal((await command(ROOST, ['bench', ...args], { env, code: null })).code, 2, args.join(' '));
  assert.match((await command(ROOST, ['bench', '--help'], { env })).out, /^usage: roost bench/);
  const many = await command(ROOST, ['bench', 'idle', '--connections', '1000000'], { env, code: null });
  assert.equal(many.code, 1);
  assert.match(many.err, /descriptors/);
});

await done();

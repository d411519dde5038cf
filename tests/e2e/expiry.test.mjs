/* 10,000 connection tokens that end in the same second: closed with 3005 after the grace, none before its time, and a new
 * client is served as ever meanwhile. */
import { assert, serve, connect, SANITIZED, test, done, token, scaled, spread, until, within, patience, nowSeconds, metrics } from './lib.mjs';
import { Speaker, settings, ENDPOINT, readable } from './centrifuge.mjs';

const GRACE_MS = 1000; /* settings() */
const AHEAD_MS = SANITIZED ? 7000 : 4000; /* long enough for all to connect */

/* opened answers clients that have not connected yet; each becomes {text} and {closed, at}. */
async function opened(server, count) {
  const clients = [];
  await spread(count, 100, async () => {
    const { socket } = await connect(server, ENDPOINT, { token: null });
    const client = { socket };
    socket.removeAllListeners('message');
    socket.on('message', (data) => (client.text ??= data.toString()));
    client.closed = new Promise((resolve) => socket.on('close', (code, reason) => {
      client.at = Date.now();
      resolve((client.close = { code, reason: reason.toString() }));
    }));
    clients.push(client);
  });
  return clients;
}

/* newcomers come one after the other, each with a whole conversation; answers how long the longest took. */
async function newcomers(server, over) {
  let [longest, n] = [0, 0];
  for (; !over(); n++) {
    const began = performance.now();
    const c = await Speaker.connected(server, { user: 'new' });
    await c.ok('subscribe', { channel: 'a' });
    await c.ok('publish', { channel: 'a', data: n });
    assert.equal((await c.push('pub', 'a')).data, n);
    await c.end();
    longest = Math.max(longest, performance.now() - began);
  }
  return { longest, n };
}

test('10,000 tokens of one second: all 3005, none before its time, newcomers are served', async () => {
  const server = await serve([...settings({ client: { stale_close_delay: '120s' } }), '--workers', '2', '--log-level', 'info']);
  const count = scaled(10000, 500);
  const clients = await opened(server, count);
  const exp = nowSeconds() + AHEAD_MS / 1000;
  clients.forEach(({ socket }, i) => socket.send(JSON.stringify({ connect: { token: token({ sub: `u${i}`, exp, roost: undefined }, { watched: false }) }, id: 1 })));
  await until(() => clients.every((c) => c.text), 'all connected', AHEAD_MS);
  for (const { text } of clients) {
    const { connect: hello } = JSON.parse(text.split('\n')[0]);
    assert.ok(hello?.expires && hello.ttl >= 1, text);
  }
  let over = false;
  const served = newcomers(server, () => over);
  try {
    await within(Promise.all(clients.map((c) => c.closed)), AHEAD_MS + GRACE_MS + patience(10000), 'end of all');
  } finally {
    over = true;
  }
  const { longest, n } = await served;
  for (const { close, at } of clients) {
    assert.equal(close.code, 3005);
    readable(close);
    assert.ok(at >= exp * 1000 + GRACE_MS - 20, `${exp * 1000 + GRACE_MS - at} ms before the end of the grace`);
  }
  const last = Math.max(...clients.map((c) => c.at)) - exp * 1000 - GRACE_MS;
  console.log(`      ${count} closed within ${last} ms; meanwhile ${n} newcomers, the slowest served in ${Math.round(longest)} ms`);
  assert.ok(last < patience(15000), `the last one ${last} ms late`);
  assert.ok(n > 0 && longest < patience(20000), `${n} newcomers, ${longest} ms`);
  assert.equal((await metrics(server)).get('timeouts_total{what="token"}'), count);
}, { seconds: 120 });

await done();

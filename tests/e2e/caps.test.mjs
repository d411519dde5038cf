/* Limits of the client protocol (protocol.md 1.5): at the cap it is served, one over it is answered as the limit says, and
 * others do not notice. Elsewhere: the outgoing queue (slow.test.mjs, test_backpressure.c), the wait for a Close (time.test.mjs),
 * and in protocol.test.mjs connections (103), the 129th channel (57) and the 256th byte of a name (56). */
import { assert, serve, test, done, token, patience, spread, OP, frame, upgraded } from './lib.mjs';
import { Speaker, settings, result, ENDPOINT } from './centrifuge.mjs';

const sign = (claims) => token({ roost: undefined, exp: undefined, sub: '42', ...claims });
const start = (options = {}) => serve([...settings(options), '--workers', '2']);
const connected = (server, claims) => Speaker.connected(server, claims ? { params: { token: sign(claims) } } : {});

/* ended sends a connect and expects the connection to end with code. */
async function ended(server, code, connect) {
  const c = await Speaker.open(server);
  c.send({ connect, id: 1 });
  await c.closes(code);
  assert.deepEqual(c.lines, []);
}

const numbered = (n) => Array.from({ length: n }, (_, i) => `c${i}`);

test('client.channel_limit: error 106 beyond it, those of a token counted; 3505 for one of the API', async () => {
  const server = await start({ client: { channel_limit: 3 } });
  const c = await connected(server);
  for (const channel of numbered(3)) await c.ok('subscribe', { channel });
  await c.fails(106, 'subscribe', { channel: 'c3' });
  const d = await connected(server, { channels: numbered(3) });
  assert.equal(Object.keys(d.hello.subs).length, 3);
  await d.fails(106, 'subscribe', { channel: 'c3' });
  assert.deepEqual(await result(server, 'subscribe', { user: '42', channel: 'c3' }), {});
  await d.closes(3505);
  await c.quiet();
});

test('128 channels of a token; one with more is not valid', async () => {
  const server = await start({ client: { channel_limit: 1000 } });
  for (const claim of [(names) => ({ channels: names }), (names) => ({ subs: Object.fromEntries(names.map((n) => [n, {}])) })]) {
    assert.equal(Object.keys((await connected(server, claim(numbered(128)))).hello.subs).length, 128);
    await ended(server, 3500, { token: sign(claim(numbered(129))) });
  }
});

async function fill(server, channel, count) {
  await spread(count, 8, (n) => result(server, 'publish', { channel, data: { n } }));
}

for (const limit of [undefined, 7]) {
  const most = limit ?? 300;
  test(`history_max_publication_limit and recovery_max_publication_limit ${limit ?? 'by default'}: ${most} at once`, async () => {
    const server = await start({ client: limit ? { history_max_publication_limit: limit, recovery_max_publication_limit: limit } : {} });
    await fill(server, 'long:a', most + 1);
    const c = await connected(server);
    const { epoch, offset } = await c.ok('subscribe', { channel: 'long:a' });
    assert.equal(offset, most + 1);
    const count = async (params) => (await c.ok('history', { channel: 'long:a', ...params })).publications.length;
    for (const [asked, got] of [[most - 1, most - 1], [most, most], [most + 1, most], [-1, most]]) assert.equal(await count({ limit: asked }), got);
    assert.equal(await count({ limit: most + 1, reverse: true }), most);
    await c.ok('unsubscribe', { channel: 'long:a' });
    const all = await c.ok('subscribe', { channel: 'long:a', recover: true, epoch, offset: 1 });
    assert.deepEqual([all.recovered, all.publications.length], [true, most]);
    await c.ok('unsubscribe', { channel: 'long:a' });
    const many = await c.ok('subscribe', { channel: 'long:a', recover: true, epoch, offset: 0 });
    assert.deepEqual([many.recovered, many.publications, many.offset], [undefined, undefined, most + 1]);
    assert.equal((await result(server, 'history', { channel: 'long:a', limit: -1 })).publications.length, most + 1); /* the API has no such limit */
  });
}

const EMPTY = { publish: { channel: 'a', data: '' }, id: 9 };
const room = (length) => length - JSON.stringify(EMPTY).length; /* for data, in a command of that length */
const publishOf = (length) => JSON.stringify({ ...EMPTY, publish: { channel: 'a', data: 'x'.repeat(room(length)) } });

test('websocket.message_size_limit by default: 131072 bytes, also in fragments; one more is 1009', async () => {
  const server = await start();
  const other = await connected(server);
  await other.ok('subscribe', { channel: 'a' });
  for (const pieces of [1, 3]) {
    const c = await connected(server);
    await c.ok('subscribe', { channel: 'a' });
    const send = (text) => {
      const size = Math.ceil(text.length / pieces);
      for (let i = 0; i < pieces; i++) c.socket.send(text.slice(i * size, (i + 1) * size), { fin: i === pieces - 1 });
    };
    send(publishOf(131072));
    assert.deepEqual((await c.reply(9)).publish, {});
    for (const s of [c, other]) assert.equal((await s.push('pub', 'a')).data.length, room(131072));
    send(publishOf(131073));
    assert.equal((await c.client.over()).code, 1009);
  }
  await other.quiet();
});

test('brackets within each other: 64 in a line', async () => {
  const server = await start();
  const c = await connected(server);
  await c.ok('subscribe', { channel: 'a' });
  const line = (depth) => `{"publish":{"channel":"a","data":${'['.repeat(depth - 2)}${']'.repeat(depth - 2)}},"id":9}`;
  c.send(line(64));
  await c.reply(9);
  assert.ok((await c.push('pub', 'a')).data);
  c.send(line(65));
  await c.closes(3501);
});

test('a user id of 255 bytes, a token of 16,384', async () => {
  const server = await start();
  const c = await connected(server, { sub: 'u'.repeat(255) });
  await c.ok('subscribe', { channel: 'pres:a' });
  assert.equal((await c.ok('presence', { channel: 'pres:a' })).presence[c.id].user.length, 255);
  await ended(server, 3500, { token: sign({ sub: 'u'.repeat(256) }) });
  let n = 12000;
  const tokenOf = (bytes) => sign({ info: 'i'.repeat(bytes) });
  while (tokenOf(n + 1).length <= 16384) n++;
  const [fits, over] = [tokenOf(n), tokenOf(n + 1)];
  assert.ok(fits.length > 16381 && over.length < 16388);
  const large = await Speaker.connected(server, { params: { token: fits } });
  await large.ok('subscribe', { channel: 'pres:b' });
  assert.equal((await large.ok('presence', { channel: 'pres:b' })).presence[large.id].conn_info.length, n);
  await ended(server, 3500, { token: over });
});

test('client.stale_close_delay: 3502, whatever else but a connect comes; who has connected stays', async () => {
  const server = await start({ client: { stale_close_delay: '1s' } });
  const good = await connected(server);
  const began = performance.now();
  const idle = await Speaker.open(server);
  const pinging = await upgraded(server, ENDPOINT, {});
  const timer = setInterval(() => pinging.write(frame(OP.PING, 'p')), 100);
  try {
    await idle.closes(3502);
    assert.equal((await pinging.closeFrame()).code, 3502);
  } finally {
    clearInterval(timer);
  }
  const took = performance.now() - began;
  assert.ok(took > 950 && took < patience(2500), `3502 after ${took} ms`);
  await good.quiet();
});

await done();

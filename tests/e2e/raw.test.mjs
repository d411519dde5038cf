/* /raw/CHANNEL: who may do what, what arrives where, names, and slow readers. */
import {
  assert, serve, connect, upgraded, fresh, test, done, refused, token, frame, OP, until, metrics, publish, scaled,
  within, patience, spread, bearer, Raw, upgradeHead, Client, WebSocket,
} from './lib.mjs';
import crypto from 'node:crypto';

const may = (pub, sub) => token({ roost: { pub, sub } });

test('what one publishes all hear, the publisher included; text stays text, binary binary', async () => {
  const server = await serve(['--workers', '2']);
  const a = await connect(server, '/raw/chat');
  const b = await connect(server, '/raw/chat');
  const elsewhere = await connect(server, '/raw/chat2');
  a.send('hällo');
  const bytes = crypto.randomBytes(1000);
  b.send(bytes);
  await until(() => a.inbox.length === 2 && b.inbox.length === 2, 'both have both');
  for (const c of [a, b]) {
    assert.ok(c.inbox.includes('hällo'));
    assert.ok(c.inbox.some((m) => Buffer.isBuffer(m) && m.equals(bytes)));
  }
  await elsewhere.echo('only mine');
  assert.equal(elsewhere.inbox.length, 0);
});

test('messages of every size, in order, on both workers', async () => {
  const server = await serve(['--workers', '2', '--max-message', '4MiB']);
  const clients = [];
  for (let i = 0; i < 8; i++) clients.push(await connect(server, '/raw/sizes'));
  for (const n of [0, 1, 125, 126, 65535, 65536, 1 << 20, 4 << 20]) {
    const bytes = Buffer.alloc(n, n & 255);
    clients[n & 7].send(bytes);
    for (const c of clients) assert.ok(bytes.equals(await c.next(30000)), `${n} bytes`);
  }
});

test('a fragmented message is published whole', async () => {
  const server = await serve();
  const a = await connect(server, '/raw/chat');
  const b = await connect(server, '/raw/chat');
  a.send('one ', { fin: false });
  b.send('whole');
  assert.equal(await a.next(), 'whole');
  assert.equal(await b.next(), 'whole');
  a.send('two', { fin: true });
  assert.equal(await b.next(), 'one two');
});

test('?self=0 leaves out what one has published oneself', async () => {
  const server = await serve();
  const quiet = await connect(server, '/raw/chat?self=0');
  const other = await connect(server, '/raw/chat?self=1');
  quiet.send('mine');
  assert.equal(await other.next(), 'mine');
  other.send('theirs');
  assert.equal(await quiet.next(), 'theirs');
});

test('?sub=0 only publishes, ?pub=0 only hears', async () => {
  const server = await serve();
  const speaker = await connect(server, '/raw/chat?sub=0', { token: may(['chat'], []) });
  const listener = await connect(server, '/raw/chat?pub=0', { token: may([], ['chat']) });
  speaker.send('one');
  assert.equal(await listener.next(), 'one');
  listener.send('not for me to say');
  const close = await listener.over();
  assert.ok([1003, 1008, 4403].includes(close.code), JSON.stringify(close));
  assert.notEqual(close.reason, '');
  speaker.socket.ping();
  await within(new Promise((resolve) => speaker.socket.once('pong', resolve)), patience(5000), 'pong');
  assert.equal(speaker.inbox.length, 0);
  await fresh(server);
});

test('permissions: exact names, a trailing *, absent is deny', async () => {
  const server = await serve(['--channel.namespaces', JSON.stringify([{ name: 'chat' }])]);
  const allowed = [
    ['/raw/chat', may(['chat'], ['chat'])],
    ['/raw/chat:1', may(['chat:*'], ['chat:*'])],
    ['/raw/chat:', may(['chat:*'], ['chat:*'])],
    ['/raw/anything', may(['*'], ['*'])],
    ['/raw/c', may(['a', 'b', 'c'], ['c', 'd*'])],
  ];
  for (const [path, t] of allowed) {
    const c = await connect(server, path, { token: t });
    await c.echo('may');
  }
  const denied = [
    ['/raw/chat', may([], [])],
    ['/raw/chat', token({ roost: undefined })],
    ['/raw/chat', token({ roost: {} })],
    ['/raw/chat', token({ roost: undefined, channels: ['chat'] })],
    ['/raw/chat2', may(['chat'], ['chat'])],
    ['/raw/cha', may(['chat'], ['chat'])],
    ['/raw/chat', may(['chat:*'], ['chat:*'])],
    ['/raw/chat?pub=0', may(['chat'], [])],
    ['/raw/chat?sub=0', may([], ['chat'])],
  ];
  for (const [path, t] of denied) {
    const answer = await refused(server, path, { token: t });
    assert.equal(answer.status, 403, `${path} ${answer.body}`);
  }
  await fresh(server);
  assert.equal((await metrics(server)).get('refused_total{reason="permission"}'), denied.length);
});

test('a token for hearing alone connects, and may not publish', async () => {
  const server = await serve();
  const listener = await connect(server, '/raw/chat', { token: may([], ['chat']) });
  const other = await connect(server, '/raw/chat');
  await other.echo('hear');
  assert.equal(await listener.next(), 'hear');
  listener.send('speak');
  const close = await listener.over();
  assert.ok([1008, 4403].includes(close.code), JSON.stringify(close));
  await other.echo('nothing came before this');
  assert.equal(other.inbox.length, 0);
  await fresh(server);
});

test('a token for publishing alone hears nothing', async () => {
  const server = await serve();
  const speaker = await connect(server, '/raw/chat', { token: may(['chat'], []) });
  const other = await connect(server, '/raw/chat');
  speaker.send('said');
  assert.equal(await other.next(), 'said');
  await other.echo('heard?');
  speaker.socket.ping();
  await within(new Promise((resolve) => speaker.socket.once('pong', resolve)), patience(5000), 'pong');
  assert.equal(speaker.inbox.length, 0);
});

test('no permission with roost.bearer: accepted, then closed with 4403 and a reason', async () => {
  const server = await serve();
  const raw = await Raw.connect(server);
  raw.write(upgradeHead('/raw/chat', { 'Sec-WebSocket-Protocol': `roost.bearer, ${may([], [])}` }));
  const answer = await raw.response();
  assert.equal(answer.status, 101); /* a browser sees no status */
  const close = await raw.closeFrame();
  assert.equal(close.code, 4403);
  assert.notEqual(close.reason, '');
  await fresh(server);
});

test('names are percent-decoded', async () => {
  const server = await serve();
  const same = [['/raw/a%20b', '/raw/%61%20%62'], ['/raw/stra%C3%9Fe', '/raw/str%61%c3%9fe'], ['/raw/x%2Fy', '/raw/x%2fy'], ['/raw/a+b', '/raw/a%2Bb'], ['/raw/q%3Fr%23', '/raw/q%3Fr%23']];
  for (const [one, other] of same) {
    const a = await connect(server, one);
    const b = await connect(server, other);
    a.send(one);
    assert.equal(await b.next(), one);
  }
  const decoded = await connect(server, '/raw/stra%C3%9Fe', { token: may(['straße'], ['straße']) });
  await decoded.echo('by its decoded name');
  for (const bad of ['/raw/%', '/raw/%4', '/raw/%zz', '/raw/%00', '/raw/a%00b', '/raw/%ff', '/raw/%c3', '/raw/%c0%af', '/raw/', `/raw/${'x'.repeat(256)}`, `/raw/${'%61'.repeat(256)}`]) {
    const answer = await refused(server, bad);
    assert.ok([400, 404, 414].includes(answer.status), `${bad.slice(0, 20)} ${answer.status}`);
  }
  const longest = await connect(server, `/raw/${'%61'.repeat(255)}`);
  await longest.echo('255 bytes');
  await fresh(server);
});

test('namespaces: an unknown one is 404', async () => {
  const server = await serve(['--channel.namespaces', JSON.stringify([{ name: 'chat' }])]);
  const c = await connect(server, '/raw/chat:room');
  await c.echo('known');
  const answer = await refused(server, '/raw/news:room');
  assert.equal(answer.status, 404);
  await fresh(server);
});

test('what the API publishes arrives as the bytes of data', async () => {
  const server = await serve(['--workers', '2']);
  const clients = [];
  for (let i = 0; i < 6; i++) clients.push(await connect(server, '/raw/news'));
  await publish(server, 'news', { t: 'hi', n: 1.50 });
  for (const c of clients) assert.equal(await c.next(), '{"t":"hi","n":1.5}');
});

/* ---- slow readers ---- */

async function slowly(policy, body) {
  const server = await serve(['--raw.slow_policy', policy, '--client.queue_max_size', '64KiB', '--workers', '1']);
  const slow = await upgraded(server, '/raw/flood?pub=0');
  slow.socket.pause();
  const quick = await connect(server, '/raw/flood');
  const message = (i) => `${i}`.padEnd(4096, '.');
  const count = 4000; /* 16 MiB: more than both socket buffers hold */
  for (let i = 0; i < count; i++) {
    quick.send(message(i));
    assert.equal(await quick.next(), message(i)); /* who reads is served all the while */
    if (i % 100 === 99 && (await metrics(server)).get('slow_total{action="close"}')) break;
  }
  await body(server, slow, quick, count, message);
  await fresh(server);
}

test('slow reader, close: 3008, the others lose nothing', async () => {
  await slowly('close', async (server, slow) => {
    assert.equal((await metrics(server)).get('slow_total{action="close"}'), 1);
    slow.socket.resume();
    let next = 0;
    for (;;) {
      const f = await slow.frame();
      if (f.opcode === OP.CLOSE) {
        assert.equal(f.payload.readUInt16BE(), 3008);
        assert.notEqual(f.payload.subarray(2).toString(), '');
        break;
      }
      assert.equal(parseInt(f.payload.toString(), 10), next++); /* what did arrive, arrived in order and without a gap */
    }
    await slow.over();
  });
}, { seconds: 90 });

for (const policy of ['drop-oldest', 'keep-latest']) {
  test(`slow reader, ${policy}: stays, in order, with the latest at the end`, async () => {
    await slowly(policy, async (server, slow, quick, count) => {
      const m = await metrics(server);
      assert.ok(m.get('slow_total{action="drop"}') > 0, 'nothing was dropped');
      assert.equal(m.get('slow_total{action="close"}'), 0);
      assert.ok(m.get('queued_bytes') <= 80 * 1024, `queued ${m.get('queued_bytes')}`);
      slow.socket.resume();
      const seen = [];
      while (seen.at(-1) !== count - 1) {
        const f = await slow.frame();
        assert.equal(f.opcode, OP.TEXT);
        assert.equal(f.payload.length, 4096);
        seen.push(parseInt(f.payload.toString(), 10));
      }
      for (let i = 1; i < seen.length; i++) assert.ok(seen[i] > seen[i - 1], `${seen[i]} behind ${seen[i - 1]}`);
      assert.ok(seen.length < count);
      const gap = seen.findIndex((n, i) => i && n !== seen[i - 1] + 1);
      const tail = seen.length - gap; /* what was in the queue at the end */
      if (policy === 'keep-latest') assert.ok(tail >= 1 && tail <= 17, `${tail} behind the gap`);
      else assert.ok(tail >= 8 && tail <= 17, `${tail} behind the gap`);
      quick.send('and on');
      assert.equal((await slow.frame()).payload.toString(), 'and on');
    });
  }, { seconds: 90 });
}

test('an empty queue takes one message of any allowed size', async () => {
  const server = await serve(['--client.queue_max_size', '1KiB', '--max-message', '8MiB']);
  const a = await connect(server, '/raw/big?self=0');
  const b = await connect(server, '/raw/big');
  a.send(Buffer.alloc(8 << 20, 1));
  assert.equal((await b.next(30000)).length, 8 << 20);
  await fresh(server);
});

test('?heartbeat=5: a text message every five seconds that says so, after the first one; nobody else gets any', async () => {
  const server = await serve(['--ping-interval', '0']);
  const began = performance.now();
  const asked = await connect(server, '/raw/chat?heartbeat=5');
  const other = await connect(server, '/raw/chat');
  const deaf = await connect(server, '/raw/chat?sub=0&heartbeat=5');
  for (const never of [2400, 7400, 12400]) { /* ms: before these none may come */
    assert.equal(await asked.next(30000), '{"heartbeat":5000}');
    assert.ok(performance.now() - began >= never, `${performance.now() - began} ms, and not ${never}`);
  }
  assert.equal(await deaf.next(30000), '{"heartbeat":5000}');
  await other.echo('the first that it hears');
  await until(() => asked.inbox.includes('the first that it hears'), 'publications as ever');
  assert.ok((await metrics(server)).get('heartbeat_messages_total') >= 4);
});

test('a heartbeat that is no number of seconds from 5 to 300 is a 400 that says so', async () => {
  const server = await serve();
  for (const value of ['', '4', '301', '25s', '-5', '+25', '5.0', '0', '9999', '1e2', '%32%35']) {
    const answer = await refused(server, `/raw/chat?heartbeat=${value}`);
    assert.equal(answer.status, 400, value);
    assert.match(answer.body, /heartbeat is a number of seconds from 5 to 300/);
  }
  for (const value of ['25', '300', '025']) await fresh(server, `/raw/chat?heartbeat=${value}`);
});

await done();

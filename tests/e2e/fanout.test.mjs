/* The bus: two workers, publishers on both, and every subscriber sees the same sequence, whatever else goes on. */
import {
  assert, serve, connect, test, done, metrics, token, bearer, upgradeHead, frame, OP, until, scaled, spread, fresh, within, patience, certificate, Raw, SCALE,
} from './lib.mjs';
import crypto from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';

const auth = bearer(token());

/* Listener counts and hashes what it hears; it keeps the bytes only if asked to. */
class Listener {
  constructor(server, target, { keep = false, scheme = 'ws', ca } = {}) {
    this.bytes = 0;
    this.hash = crypto.createHash('sha1');
    this.kept = keep ? [] : null;
    this.upgraded = new Promise((resolve, reject) => {
      const at = { host: '127.0.0.1', port: server.port(scheme) };
      this.socket = scheme === 'wss' ? tls.connect({ ...at, ca }) : net.connect(at);
      this.socket.on('error', reject);
      this.socket.write(upgradeHead(target, auth));
      let head = Buffer.alloc(0);
      this.socket.on('data', (data) => {
        if (head) {
          head = Buffer.concat([head, data]);
          const end = head.indexOf('\r\n\r\n');
          if (end === -1) return;
          if (!head.toString('latin1', 0, 12).startsWith('HTTP/1.1 101')) reject(new Error(head.toString('latin1', 0, 200)));
          data = head.subarray(end + 4);
          head = null;
          resolve(this);
        }
        this.bytes += data.length;
        if (this.digest) this.after = (this.after || '') + data.toString('latin1'); /* more than was published: sequence() tells */
        else this.hash.update(data);
        if (this.kept) this.kept.push(data);
      });
    });
  }

  /* sequence ends the hash: nothing may come after it. */
  sequence() {
    this.digest ||= this.hash.digest('hex');
    assert.equal(this.after, undefined, 'bytes behind the last message');
    return this.digest;
  }

  /* messages decodes what was kept; an incomplete frame at the end is left out. */
  messages() {
    const all = Buffer.concat(this.kept);
    const list = [];
    let at = 0;
    while (at + 2 <= all.length) {
      assert.equal(all[at], 0x81, `byte ${at}: not a whole text message`);
      const form = all[at + 1];
      const size = form < 126 ? 2 : 4;
      if (at + size > all.length) break;
      const length = form < 126 ? form : all.readUInt16BE(at + 2);
      if (at + size + length > all.length) break;
      list.push(all.toString('latin1', at + size, at + size + length));
      at += size + length;
    }
    return list;
  }
}

/* Connections until each of two workers has one that publishes: [client of worker 0, of worker 1]. */
async function publishers(server, channel) {
  const found = [];
  const count = async () => {
    const m = await metrics(server);
    return [0, 1].map((w) => m.get(`worker_publications_total{worker="${w}"}`));
  };
  for (let i = 0; i < 60 && !(found[0] && found[1]); i++) {
    const before = await count();
    const client = await connect(server, `/raw/${channel}`);
    await client.echo('which worker?');
    const after = await count();
    const w = after[0] > before[0] ? 0 : 1;
    if (found[w]) await client.end();
    else found[w] = client;
  }
  assert.ok(found[0] && found[1], 'no publisher on one of the workers');
  /* What was published so far may still be in the other worker's mailbox, and whoever subscribes there now would hear it. */
  for (const [i, client] of found.entries()) {
    client.send(`from ${i}`);
    for (const other of found) while ((await other.next()) !== `from ${i}`);
  }
  return found;
}

const textOf = (who, i) => `${who}:${i}:${i % 50 ? '' : '.'.repeat(i % 150)}`;
const sizeOf = (text) => text.length + (text.length < 126 ? 2 : 4);

/* Publishes count messages, at most window of them not come back yet. */
async function publishAll(client, who, count, window = 500) {
  let back = 0;
  let wake = null;
  client.socket.on('message', (data) => {
    if (data.toString('latin1', 0, who.length + 1) !== `${who}:`) return;
    back++;
    if (wake) wake();
  });
  client.inbox.push = () => 0; /* nobody reads it */
  for (let i = 0; i < count; i++) {
    client.send(textOf(who, i));
    while (i - back >= window) await within(new Promise((resolve) => (wake = resolve)), patience(20000), 'message that comes back');
  }
  while (back < count) await within(new Promise((resolve) => (wake = resolve)), patience(20000), 'last messages');
}

function checkOrder(messages, counts) {
  const next = Object.fromEntries(Object.keys(counts).map((who) => [who, 0]));
  for (const m of messages) {
    const [who, i] = m.split(':');
    assert.equal(Number(i), next[who], `message of ${who}`);
    assert.equal(m, textOf(who, next[who]));
    next[who]++;
  }
  assert.deepEqual(next, counts);
}

test('1,000 subscribers on two workers, publishers on both: byte-equal sequences', async () => {
  /* Room for all of it, since one client process reads for a thousand; no pings, since Listener counts every byte. */
  const server = await serve(['--workers', '2', '--client.queue_max_size', '16MiB', '--ping-interval', '0']);
  const [p0, p1] = await publishers(server, 'all');
  const people = scaled(1000, 250);
  const each = scaled(100000, 5000); /* 200,000 publications to 1,000 subscribers */
  const listeners = [];
  await spread(people, 50, async (i) => listeners.push(await new Listener(server, '/raw/all?pub=0', { keep: i < 3 }).upgraded));
  const m = await metrics(server);
  for (const w of [0, 1]) assert.ok(m.get(`worker_connections{worker="${w}"}`) > 100, `worker ${w} has ${m.get(`worker_connections{worker="${w}"}`)}`);
  await Promise.all([publishAll(p0, 'a', each), publishAll(p1, 'b', each)]);
  let total = 0;
  for (const who of ['a', 'b']) for (let i = 0; i < each; i++) total += sizeOf(textOf(who, i));
  await until(() => listeners.every((l) => l.bytes >= total), 'all have all bytes', 60000);
  const digests = new Set(listeners.map((l) => l.sequence()));
  assert.equal(digests.size, 1, 'sequences differ');
  for (const l of listeners) assert.equal(l.bytes, total, 'bytes heard, all of them');
  checkOrder(listeners.find((l) => l.kept).messages(), { a: each, b: each });
  const after = await metrics(server);
  for (const w of [0, 1]) assert.ok(after.get(`worker_publications_total{worker="${w}"}`) >= each);
  assert.equal(after.get('slow_total{action="close"}'), 0);
  assert.equal(after.get('posts_lost_total'), 0);
  for (const l of listeners) l.socket.destroy();
}, { seconds: 150, final: true });

test('subscribe and unsubscribe race with a flood: whole, in order, from the first heard to the last', async () => {
  const server = await serve(['--workers', '2', '--worker.fanout_slice', '16', '--ping-interval', '0']);
  const [p0, p1] = await publishers(server, 'race');
  const stable = [];
  const crowd = [];
  const people = scaled(200, 60);
  await spread(people, 50, async () => stable.push(await new Listener(server, '/raw/race?pub=0', { keep: true }).upgraded));
  await spread(people, 50, async () => crowd.push(await new Listener(server, '/raw/race?pub=0', { keep: true }).upgraded));
  const each = scaled(3000, 800);
  let over = false;
  const flood = Promise.all([publishAll(p0, 'a', each, 50), publishAll(p1, 'b', each, 50)]).finally(() => (over = true));
  const gone = [];
  const churn = (async () => {
    for (let round = 0; !over; round++) {
      const half = crowd.splice(0, crowd.length / 2); /* half of the channel at once, in the middle of a pass */
      for (const [i, l] of half.entries()) {
        l.stopped = true;
        if (i % 2) l.socket.destroy();
        else l.socket.resetAndDestroy();
      }
      gone.push(...half);
      await spread(half.length, 20, async () => crowd.push(await new Listener(server, '/raw/race?pub=0', { keep: true }).upgraded));
    }
  })();
  await flood;
  await churn;
  let total = 0;
  for (const who of ['a', 'b']) for (let i = 0; i < each; i++) total += sizeOf(textOf(who, i));
  await until(() => stable.every((l) => l.bytes >= total), 'the stable ones have all', 60000);
  assert.equal(new Set(stable.map((l) => l.sequence())).size, 1);
  checkOrder(stable[0].messages(), { a: each, b: each });
  /* The others heard a piece of the same sequence: it is found in one place, whole. */
  const reference = stable[0].messages();
  const hasEnd = (heard) => !heard.length || heard.at(-1) === reference.at(-1);
  await until(() => crowd.every((l) => hasEnd(l.messages())), 'those who came later and stayed have the end', 60000);
  const place = new Map(reference.map((text, i) => [text, i]));
  let pieces = 0;
  for (const l of [...gone, ...crowd]) {
    const heard = l.messages();
    if (!heard.length) continue;
    pieces++;
    const from = place.get(heard[0]);
    heard.forEach((text, i) => assert.equal(text, reference[from + i], `message ${i} of a piece that starts at ${from}`));
    if (!l.stopped) assert.equal(from + heard.length, reference.length, 'one who stayed misses the end');
  }
  assert.ok(pieces > people / 2, `only ${pieces} heard anything`);
  for (const l of [...stable, ...crowd]) l.socket.destroy();
  await until(async () => (await metrics(server)).get('subscriptions') === 2, 'only the publishers are left');
  await fresh(server);
}, { seconds: 150, final: true });

/* The server is stopped (SIGSTOP) while a pass is two thirds through, and those before and behind it leave in turn, all in what
 * will be one turn for the server: whoever is moved into a gap must still be found there later. */
test('most of a channel leaves in one turn, in the middle of a pass: those who stay miss nothing', async () => {
  const server = await serve(['--workers', '1', '--worker.fanout_slice', '1', '--ping-interval', '0']);
  const publisher = await connect(server, '/raw/exodus?sub=0');
  const people = scaled(900, 300);
  for (let round = 0; round < 3; round++) {
    const list = [];
    for (let i = 0; i < people; i++) list.push(await new Listener(server, '/raw/exodus?pub=0', { keep: true }).upgraded);
    const late = list[Math.floor((people * 2) / 3)].socket;
    const begun = within(new Promise((resolve) => late.once('data', resolve)), patience(10000), 'publication');
    publisher.send('during the pass');
    await begun;
    server.child.kill('SIGSTOP');
    const leavers = Math.floor((people * 2) / 5);
    for (let i = 0; i < leavers; i++) {
      list[people - 1 - i].socket.resetAndDestroy();
      list[i].socket.resetAndDestroy();
    }
    server.child.kill('SIGCONT');
    const stayed = list.slice(leavers, people - leavers);
    await until(async () => (await metrics(server)).get('subscriptions') === stayed.length, 'the others are gone');
    publisher.send('after it');
    const size = sizeOf('during the pass') + sizeOf('after it');
    await until(() => stayed.every((l) => l.bytes >= size), 'all who stayed have heard both');
    for (const l of stayed) assert.deepEqual(l.messages(), ['during the pass', 'after it']);
    for (const l of stayed) l.socket.destroy();
    await until(async () => (await metrics(server)).get('subscriptions') === 0, 'nobody is left');
  }
  await fresh(server);
});

/* Some do not read for a while: their sockets take a part of what is sent, or nothing, and the rest comes later, in order. */
for (const [how, args] of [['in batches', []], ['one by one', ['--send-batch', 'off']]]) {
  for (const scheme of ['ws', 'wss']) {
    test(`slow readers among fast ones, sends ${how}, ${scheme}: byte-equal sequences`, async () => {
      const pair = await certificate('ec');
      const server = await serve(['--listen', 'ws://127.0.0.1:0', '--listen', 'wss://127.0.0.1:0', '--cert', pair.cert, '--key', pair.key,
        '--workers', '1', '--client.queue_max_size', '64MiB', '--ping-interval', '0', ...args]);
      const publisher = await connect(server, '/raw/mixed?sub=0');
      const options = { scheme, ca: pair.ca };
      const list = [];
      await spread(60, 20, async () => list.push(await new Listener(server, '/raw/mixed?pub=0', options).upgraded));
      const count = scaled(6000, 2000);
      const text = (i) => `${i}:${'x'.repeat((i * 37) % 1500)}`;
      let total = 0;
      for (const [i, l] of list.entries()) if (i % 3 === 0) l.socket.pause();
      for (let i = 0; i < count; i++) {
        publisher.send(text(i));
        total += sizeOf(text(i));
        if (i % 50 === 49) await new Promise((resolve) => setImmediate(resolve));
      }
      await until(() => list.every((l, i) => i % 3 === 0 || l.bytes >= total), 'the fast ones have all', 60000);
      for (const l of list) l.socket.resume();
      await until(() => list.every((l) => l.bytes >= total), 'the slow ones have all', 60000);
      assert.equal(new Set(list.map((l) => l.sequence())).size, 1);
      for (const l of list) assert.equal(l.bytes, total);
      const m = await metrics(server);
      assert.equal(m.get('sends_batched_total') > 0, how === 'in batches' && /sends=batched/.test(server.log), 'what the log says is done');
      for (const l of list) l.socket.destroy();
      await fresh(server);
    }, { seconds: 120, final: true });
  }
}

test('many channels at once, each by itself', async () => {
  const server = await serve(['--workers', '2']);
  const channels = scaled(200, 40);
  const clients = [];
  await spread(channels * 2, 40, async (i) => {
    clients[i] = await connect(server, `/raw/room-${i % channels}`);
  });
  assert.equal((await metrics(server)).get('channels'), channels);
  for (let round = 0; round < 5; round++) for (let i = 0; i < channels; i++) clients[i].send(`${i}:${round}`);
  for (let i = 0; i < channels * 2; i++) for (let round = 0; round < 5; round++) assert.equal(await clients[i].next(), `${i % channels}:${round}`);
  await spread(channels * 2, 100, (i) => clients[i].end());
  await until(async () => (await metrics(server)).get('channels') === 0, 'no channel is left');
});

test('come and go: the same channel opened and closed again and again from both workers', async () => {
  const server = await serve(['--workers', '2']);
  await spread(scaled(1000, 100), 16, async (i) => {
    const c = await connect(server, '/raw/door');
    const word = `knock ${i}`;
    c.send(word);
    while ((await c.next()) !== word);
    await c.end();
  });
  const m = await metrics(server);
  assert.equal(m.get('subscriptions'), 0);
  assert.equal(m.get('channels'), 0);
  await fresh(server);
});

await done();

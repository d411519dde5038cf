/* Recovery under violence: every subscriber of a channel with history sees every publication once and in order, or is told
 * that it did not (recovered is absent, unsubscribe 2500, close 3010). Joins equal leaves, whatever end a client comes to. */
import { assert, serve, test, done, until, patience, scaled, spread, WebSocket } from './lib.mjs';
import { Speaker, settings, result, ENDPOINT } from './centrifuge.mjs';
import http from 'node:http';

const random = (n) => Math.floor(Math.random() * n);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/* Follower is a client that comes back whenever it is cut, and keeps the books of its channels. */
class Follower {
  constructor(server, channels, tally) {
    this.url = `${server.url()}${ENDPOINT}`;
    this.tally = tally;
    this.books = new Map(channels.map((c) => [c, { epoch: '', offset: 0, last: new Map(), open: false, doubt: new Set() }]));
    this.over = false;
    this.run = this.live();
  }

  async live() {
    for (let first = true; !this.over; first = false) {
      await this.session(first);
      if (!this.over) await pause(random(10) === 0 ? random(1200) : random(60));
    }
  }

  session(first) {
    return new Promise((resolve) => {
      const socket = new WebSocket(this.url, { perMessageDeflate: false });
      this.socket = socket;
      for (const book of this.books.values()) book.open = false;
      socket.on('open', () => {
        const lines = [{ connect: {}, id: 1 }];
        [...this.books.keys()].forEach((c, i) => lines.push(this.subscribe(c, i + 2, first)));
        socket.send(lines.map((l) => JSON.stringify(l)).join('\n'));
      });
      socket.on('message', (data) => {
        try {
          for (const line of data.toString().split('\n')) this.line(JSON.parse(line));
        } catch (error) {
          this.failure ||= error;
        }
      });
      socket.on('error', () => {});
      socket.on('close', (code) => {
        this.tally.closes.set(code, (this.tally.closes.get(code) || 0) + 1);
        resolve();
      });
    });
  }

  subscribe(channel, id, first) {
    const { epoch, offset } = this.books.get(channel);
    return { subscribe: { channel, ...(first ? {} : { recover: true, epoch, offset }) }, id };
  }

  line(l) {
    if (l.id > 1) this.subscribed([...this.books.keys()][(l.id - 2) % this.books.size], l);
    else if (l.push?.pub) this.publication(l.push.channel, l.push.pub, 'live');
    else if (l.push?.unsubscribe) this.unsubscribed(l.push.channel, l.push.unsubscribe);
    else if (!l.id && !l.push) this.socket.send('{}');
  }

  subscribed(channel, { subscribe: r, error }) {
    const book = this.books.get(channel);
    assert.ok(r, `${channel}: ${JSON.stringify(error)}`);
    assert.ok(!book.open, `${channel} twice`);
    if (r.was_recovering) {
      if (r.recovered) {
        this.tally.recovered++;
        assert.equal(r.offset || 0, book.offset, 'offset of a recovery');
        assert.equal(r.epoch, book.epoch || r.epoch);
      } else {
        this.tally.told++;
        assert.ok(!r.publications);
      }
    }
    if (!r.recovered) {
      book.offset = r.offset || 0;
      book.doubt = new Set(['all']);
      book.seen = new Set();
    }
    book.epoch = r.epoch;
    book.open = true;
    for (const p of r.publications || []) this.publication(channel, p, 'recovered');
  }

  /* By offset without a gap; by each publisher's own count without a gap, unless it was told of one. */
  publication(channel, pub, how) {
    const book = this.books.get(channel);
    assert.ok(book.open, `${channel}: ${how} publication before the reply`);
    assert.equal(pub.offset, book.offset + 1, `${channel} ${how}: offset`);
    book.offset = pub.offset;
    const { by, n } = pub.data;
    const last = book.last.get(by) || 0;
    if (book.doubt.has('all') && !book.seen.has(by)) {
      assert.ok(n > last, `${channel} ${how}: ${by} ${n} after ${last}`);
      book.seen.add(by);
    } else {
      assert.equal(n, last + 1, `${channel} ${how}: of ${by}`);
    }
    book.last.set(by, n);
    this.tally.publications++;
  }

  unsubscribed(channel, { code }) {
    assert.equal(code, 2500);
    this.tally.unsubscribed++;
    this.books.get(channel).open = false;
    const i = [...this.books.keys()].indexOf(channel);
    this.socket.send(JSON.stringify(this.subscribe(channel, i + 2 + this.books.size, false)));
  }

  cut() {
    const tcp = this.socket._socket;
    if (tcp && random(2)) tcp.resetAndDestroy();
    else this.socket.terminate();
  }

  async end() {
    this.over = true;
    this.socket.terminate();
    await this.run;
  }
}

/* The flood: for each channel one publisher by the API and one client, at the same time. */
async function publishers(server, channels, count) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  const sent = new Map();
  const note = (channel, by, n) => sent.set(`${channel} ${by}`, n);
  const byApi = async (channel) => {
    for (let n = 1; n <= count; n++) {
      await result(server, 'publish', { channel, data: { by: 'api', n } }, { agent });
      note(channel, 'api', n);
    }
  };
  const byClient = async (channel) => {
    const c = await Speaker.connected(server);
    await c.ok('subscribe', { channel });
    for (let n = 1; n <= count; n++) {
      await c.ok('publish', { channel, data: { by: 'client', n } });
      note(channel, 'client', n);
      c.lines.length = 0;
    }
    await c.end();
  };
  await Promise.all(channels.flatMap((c) => [byApi(c), byClient(c)]));
  agent.destroy();
  return sent;
}

test('200 clients with three channels each, cut at random in a flood: nothing lost in silence, nothing twice', async () => {
  const server = await serve([...settings(), '--workers', '2']);
  const channels = ['long:1', 'long:2', 'long:3', 'hist:1', 'hist:2', 'hist:3'];
  const tally = { closes: new Map(), recovered: 0, told: 0, unsubscribed: 0, publications: 0 };
  const followers = [];
  for (let i = 0; i < scaled(200, 20); i++)
    followers.push(new Follower(server, [0, 1, 2].map((k) => channels[(i + k + (k === 2 ? i >> 2 : 0) % 4) % 6]).filter((c, j, a) => a.indexOf(c) === j), tally));
  await until(() => followers.every((f) => [...f.books.values()].every((b) => b.open)), 'all subscribed', 20000);
  let flooding = true;
  let cuts = 0;
  const violence = (async () => {
    while (flooding) {
      followers[random(followers.length)].cut();
      cuts++;
      await pause(4);
    }
  })();
  const sent = await publishers(server, channels, scaled(400, 60));
  flooding = false;
  await violence;
  const tops = new Map();
  for (const channel of channels) tops.set(channel, (await result(server, 'history', { channel })).offset);
  const complete = (f) => [...f.books].every(([c, b]) => b.open && b.offset === tops.get(c));
  const broken = () => followers.find((f) => f.failure);
  await until(() => broken() || followers.every(complete), 'all at the top', 30000).catch((error) => {
    const f = followers.find((one) => !complete(one));
    const at = [...f.books].map(([c, b]) => `${c} ${b.open} ${b.offset} of ${tops.get(c)}`).join(', ');
    throw new Error(`${error.message}: ${followers.filter((one) => !complete(one)).length} are not: ${at}`);
  });
  for (const f of followers) await f.end();
  if (broken()) throw broken().failure;
  for (const f of followers)
    for (const [channel, book] of f.books)
      for (const [by, n] of book.last) assert.ok(n <= sent.get(`${channel} ${by}`), `${channel}: ${by} ${n} was never sent`);
  console.log(`      ${cuts} cuts, ${tally.publications} publications, ${tally.recovered} recoveries, ${tally.told} told, ${tally.unsubscribed} times 2500, closes ${JSON.stringify([...tally.closes])}`);
  assert.ok(tally.recovered > 0 && tally.told > 0, JSON.stringify(tally));
}, { seconds: 120 });

test('200 clients cut by RST: joins equal leaves for each, presence empty within two seconds', async () => {
  const server = await serve([...settings(), '--workers', '2']);
  const count = scaled(200, 20);
  const observers = [await Speaker.connected(server), await Speaker.connected(server)];
  for (const o of observers) await o.ok('subscribe', { channel: 'pres:crowd', join_leave: true });
  const clients = [];
  await spread(count, 20, async (i) => {
    const c = await Speaker.connected(server, { user: `user${i % 50}` });
    await c.ok('subscribe', { channel: 'pres:crowd', join_leave: true });
    clients.push(c);
  });
  assert.deepEqual(await result(server, 'presence_stats', { channel: 'pres:crowd' }), { num_clients: count + 2, num_users: Math.min(count, 50) + 1 });
  for (let i = 0; i < clients.length; i += 10) { /* some have come and gone before */
    await clients[i].ok('unsubscribe', { channel: 'pres:crowd' });
    await clients[i].ok('subscribe', { channel: 'pres:crowd', join_leave: true });
  }
  const began = performance.now();
  for (const c of clients) c.cut();
  await until(async () => (await result(server, 'presence_stats', { channel: 'pres:crowd' })).num_clients === 2, 'presence without them', 2000);
  assert.ok(performance.now() - began < patience(2000));
  for (const o of observers) {
    const balance = new Map();
    const tally = () => {
      for (const { push } of o.lines.splice(0)) {
        const kind = push?.join ? 'join' : push?.leave ? 'leave' : undefined;
        if (!kind) continue;
        const { client } = push[kind].info;
        const now = balance.get(client) || 0;
        assert.equal(now, kind === 'join' ? 0 : 1, `${kind} of ${client}`);
        balance.set(client, kind === 'join' ? 1 : 0);
      }
      return clients.every((c) => balance.get(c.id) === 0);
    };
    await until(tally, 'as many leaves as joins', 2000);
    for (const other of observers) balance.delete(other.id);
    assert.equal(balance.size, count);
    await o.ok('unsubscribe', { channel: 'nobody-is-here' });
    assert.deepEqual(o.lines, []);
  }
});

await done();

/* Clients that keep the books of their channels: each publication of a history once and in order, or a word that some are
 * missing (a subscribe reply that is not recovered). Publications are {by, n}: the n-th attempt of a publisher.
 *
 * What is acknowledged to its publisher must be seen; what is not (its connection was cut under way) may have been
 * published or not, but at most once, too. So a gap in a publisher's count is written down, and judged at the end. */
import { assert, within, patience, WebSocket } from './lib.mjs';
import { Speaker, result, ENDPOINT } from './centrifuge.mjs';
import http from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
export const random = (n) => Math.floor(Math.random() * n);
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const newTally = () => ({ closes: new Map(), recovered: 0, told: 0, unsubscribed: 0, publications: 0 });

/* Book is one client's view of one channel, over all its connections. */
export class Book {
  constructor(channel, tally) {
    Object.assign(this, { channel, tally, epoch: '', offset: 0, open: false, last: new Map(), gaps: [], seen: new Set() });
  }

  subscribed({ recovering, recovered, offset, epoch }) {
    assert.ok(!this.open, `${this.channel} twice`);
    if (recovering) this.tally[recovered ? 'recovered' : 'told']++;
    if (recovered) {
      assert.equal(offset, this.offset, `${this.channel}: offset of a recovery`);
      if (this.epoch) assert.equal(epoch, this.epoch);
    } else {
      this.offset = offset;
      this.seen = new Set(); /* of each publisher some may be missing before the next */
    }
    this.epoch = epoch;
    this.open = true;
  }

  publication({ offset, data: { by, n } }, how) {
    assert.ok(this.open, `${this.channel}: ${how} publication before the reply`);
    assert.equal(offset, this.offset + 1, `${this.channel} ${how}: offset`);
    this.offset = offset;
    const last = this.last.get(by) || 0;
    assert.ok(n > last, `${this.channel} ${how}: ${by} ${n} after ${last}`);
    if (this.seen.has(by) && n > last + 1) this.gaps.push({ by, from: last + 1, to: n });
    this.seen.add(by);
    this.last.set(by, n);
    this.tally.publications++;
  }

  /* check: what is missing in silence was never acknowledged; sent is what publish() answered. */
  check(sent) {
    for (const { by, from, to } of this.gaps)
      for (let n = from; n < to; n++) assert.ok(!sent.get(by).acknowledged.has(n), `${this.channel}: ${by} ${n} was lost in silence`);
    for (const [by, n] of this.last) assert.ok(n <= sent.get(by).attempts, `${this.channel}: ${by} ${n} was never sent`);
  }
}

/* Follower is a raw WebSocket that comes back whenever it is cut. url() is where the server is now. */
export class Follower {
  constructor(url, channels, tally) {
    this.url = url;
    this.tally = tally;
    this.books = channels.map((c) => new Book(c, tally));
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
      const socket = new WebSocket(`${this.url()}${ENDPOINT}`, { perMessageDeflate: false });
      this.socket = socket;
      for (const book of this.books) book.open = false;
      socket.on('open', () => {
        const lines = [{ connect: {}, id: 1 }, ...this.books.map((book, i) => this.subscribe(book, i + 2, first))];
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

  subscribe({ channel, epoch, offset }, id, first) {
    return { subscribe: { channel, ...(first ? {} : { recover: true, epoch, offset }) }, id };
  }

  line(l) {
    if (l.id > 1) this.reply(this.books[(l.id - 2) % this.books.length], l);
    else if (l.push?.pub) this.book(l.push.channel).publication(l.push.pub, 'live');
    else if (l.push?.unsubscribe) this.unsubscribed(this.book(l.push.channel), l.push.unsubscribe);
    else if (!l.id && !l.push) this.socket.send('{}');
  }

  book(channel) {
    return this.books.find((b) => b.channel === channel);
  }

  reply(book, { subscribe: r, error }) {
    assert.ok(r, `${book.channel}: ${JSON.stringify(error)}`);
    assert.ok(r.recovered || !r.publications, 'publications without a recovery');
    book.subscribed({ recovering: Boolean(r.was_recovering), recovered: Boolean(r.recovered), offset: r.offset || 0, epoch: r.epoch });
    for (const p of r.publications || []) book.publication(p, 'recovered');
  }

  unsubscribed(book, { code }) {
    assert.equal(code, 2500);
    this.tally.unsubscribed++;
    book.open = false;
    this.socket.send(JSON.stringify(this.subscribe(book, this.books.indexOf(book) + 2 + this.books.length, false)));
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

/* SdkFollower is centrifuge-js, which does all that by itself. */
export class SdkFollower {
  constructor(url, channels, tally, name = 'centrifuge5') {
    const { Centrifuge } = require(name);
    const follower = this;
    class Socket extends WebSocket {
      constructor(to) {
        super(to, { perMessageDeflate: false });
        follower.socket = this;
      }
    }
    this.client = new Centrifuge(`${url()}${ENDPOINT}`, { websocket: Socket, minReconnectDelay: 20, maxReconnectDelay: 500 });
    this.books = channels.map((c) => this.follow(new Book(c, tally)));
    this.client.on('disconnected', ({ code }) => (this.failure ||= new Error(`the SDK gave up: ${code}`)));
    this.client.connect();
  }

  follow(book) {
    const sub = this.client.newSubscription(book.channel);
    const keep = (what) => (context) => {
      try {
        what(context);
      } catch (error) {
        this.failure ||= error;
      }
    };
    sub.on('subscribing', () => (book.open = false));
    sub.on('subscribed', keep(({ wasRecovering, recovered, streamPosition }) => {
      /* what it tells is the position that the server told: that of the request after a recovery */
      book.subscribed({ recovering: wasRecovering, recovered, offset: streamPosition?.offset || 0, epoch: streamPosition?.epoch });
    }));
    sub.on('publication', keep((p) => book.publication(p, 'to the SDK')));
    sub.on('unsubscribed', ({ code }) => (this.failure ||= new Error(`unsubscribed for good: ${code}`)));
    sub.subscribe();
    return book;
  }

  cut() {
    this.socket?.terminate();
  }

  async end() {
    this.client.removeAllListeners('disconnected');
    this.client.disconnect();
  }
}

/* publish fills sent, a Map from publisher to {attempts, acknowledged}: for each channel one publisher by the API and one
 * client, count attempts each, at the same time, through a server that may be killed (gone) and started anew. */
export async function publish(server, channels, count, sent, pad = '') {
  const publisher = async (channel, kind, attempt) => {
    const by = `${channel} ${kind}`;
    const record = { attempts: 0, acknowledged: new Set() };
    sent.set(by, record);
    while (record.attempts < count) {
      const n = ++record.attempts;
      const at = server();
      try {
        await within(attempt(at, { by, n, pad }), patience(20000), `an answer to ${by} ${n}`);
        record.acknowledged.add(n);
      } catch (error) {
        if (!at.gone && !/"code":3008/.test(error.message)) throw error;
        await pause(20);
      }
    }
  };
  const byApi = (channel) => publisher(channel, 'api', (at, data) => {
    at.agent ||= new http.Agent({ keepAlive: true, maxSockets: 4 });
    return result(at, 'publish', { channel, data }, { agent: at.agent });
  });
  const byClient = (channel) => {
    let speaker;
    return publisher(channel, 'client', async (at, data) => {
      if (!speaker || speaker.client.close || speaker.at !== at) {
        speaker = await Speaker.connected(at);
        speaker.at = at;
        await speaker.ok('subscribe', { channel });
      }
      await speaker.ok('publish', { channel, data });
      speaker.lines.length = 0;
    });
  };
  await Promise.all(channels.flatMap((c) => [byApi(c), byClient(c)]));
  server().agent.destroy();
}

/* behind answers what followers have not seen yet of what the channels hold now, as text; '' if nothing. */
export async function behind(server, channels, followers) {
  const tops = new Map();
  for (const channel of channels) tops.set(channel, await result(server, 'history', { channel }));
  const late = followers.flatMap((f) => f.books).filter((b) => {
    const { epoch, offset } = tops.get(b.channel);
    return !b.open || b.offset !== offset || b.epoch !== epoch;
  });
  return late.length ? `${late.length} books, such as ${late.slice(0, 3).map((b) => `${b.channel} ${b.open} ${b.offset} of ${tops.get(b.channel).offset}`).join(', ')}` : '';
}

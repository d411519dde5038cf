/* A subscriber of one channel that speaks the Centrifuge protocol in JSON by itself: connects, answers pings, comes back with
 * back-off and jitter, and asks for what it has missed. No page in here.
 *
 * on: { state(state, text), subscribed(result, before), publication(p), membership(kind, info), note(text) }
 * state: idle, busy, open, stopped. before: the position it wanted to go on from, or null. */

const FIRST_MS = 500;
const LAST_MS = 20000;
const REPLY_MS = 5000;
const PING_LATE_MS = 10000;

/* With these the same client would be refused again (docs/centrifuge.md). */
const isFinal = (code) => (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000) || code === 1009;

export class Refused extends Error {} /* by an error of the protocol */

export class Subscriber {
  constructor({ url, channel, token, on }) {
    Object.assign(this, { url, channel, token, on });
    this.socket = null;
    this.wanted = false;
    this.client = '';      /* our id, as the server gave it */
    this.position = null;  /* { epoch, offset } of the last publication that came */
    this.failures = 0;
    this.attempt = 0;      /* so that a token that comes late opens nothing that nobody wants any more */
    this.calls = new Map();
    this.nextId = 0;
  }

  start() {
    this.wanted = true;
    this.failures = 0;
    this.open();
  }

  stop() {
    this.wanted = false;
    this.attempt++;
    clearTimeout(this.retryTimer);
    this.hangUp(1000, 'bye');
  }

  /* hangUp does not wait for the server's Close: what still comes of this socket is not ours, and start may open another one. */
  hangUp(code, reason) {
    const { socket } = this;
    this.closed({ code, reason });
    socket?.close(1000, reason);
  }

  /* now: the network is back, do not wait for the timer. */
  now() {
    if (this.wanted && !this.socket) this.open();
  }

  publish(data) {
    return this.call('publish', { channel: this.channel, data });
  }

  /* ---- opening ---- */

  async open() {
    clearTimeout(this.retryTimer);
    const mine = ++this.attempt;
    this.on.state('busy', `Connecting to ${this.channel}…`);
    let token;
    try {
      token = await this.token();
    } catch (error) {
      if (this.wanted && mine === this.attempt) this.retry(error.message);
      return;
    }
    if (!this.wanted || mine !== this.attempt) return;
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onopen = () => socket === this.socket && this.greet(socket, token);
    socket.onmessage = (event) => socket === this.socket && this.received(event.data);
    socket.onclose = (event) => socket === this.socket && this.closed(event);
  }

  async greet(socket, token) {
    try {
      const hello = await this.call('connect', { token, name: 'console' });
      this.client = hello.client;
      this.ping = hello.ping || 0;
      this.answers = hello.pong;
      this.heard();
      await this.subscribe();
    } catch (error) {
      if (error instanceof Refused && !error.temporary) this.finish(error.message);
      else socket.close(1000, 'not accepted');
    }
  }

  async subscribe() {
    const before = this.position;
    const recover = before ? { recover: true, ...before } : {};
    const result = await this.call('subscribe', { channel: this.channel, recoverable: true, positioned: true, join_leave: true, ...recover });
    this.position = result.recoverable ? { epoch: result.epoch, offset: result.offset || 0 } : null;
    this.on.state('open', `Subscribed to ${this.channel}`);
    this.on.subscribed(result, before);
    for (const p of result.publications || []) this.publication(p);
  }

  /* ---- lines ---- */

  send(line) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(line));
  }

  call(method, params) {
    const id = ++this.nextId;
    this.send({ id, [method]: params });
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.settle(id, () => reject(new Error('no reply'))), REPLY_MS);
      this.calls.set(id, { method, resolve, reject, timer });
    });
  }

  settle(id, end) {
    const call = this.calls.get(id);
    if (!call) return;
    clearTimeout(call.timer);
    this.calls.delete(id);
    end(call);
  }

  received(text) {
    this.heard();
    for (const line of text.split('\n')) {
      const reply = JSON.parse(line);
      if (reply.id) this.settle(reply.id, (call) => this.replied(call, reply));
      else if (reply.push) this.pushed(reply.push);
      else if (this.answers) this.send({});
    }
  }

  replied({ method, resolve, reject }, { error, [method]: result }) {
    if (!error) {
      resolve(result);
      return;
    }
    const refused = new Refused(`${error.code} ${error.message}`);
    refused.temporary = error.temporary || error.code === 109; /* token expired: the next one may not be */
    reject(refused);
  }

  pushed(push) {
    if (push.pub) this.publication(push.pub);
    else if (push.join) this.on.membership('joined', push.join.info);
    else if (push.leave) this.on.membership('left', push.leave.info);
    else if (push.unsubscribe) this.unsubscribed(push.unsubscribe);
  }

  publication(p) {
    if (p.offset && this.position) this.position.offset = p.offset;
    this.on.publication(p);
  }

  unsubscribed({ code, reason }) {
    this.on.note(`Unsubscribed by the server: ${code} ${reason}`);
    const { socket } = this;
    if (code < 2500) this.finish(reason);
    else this.subscribe().catch(() => socket.close(1000, 'not subscribed'));
  }

  /* heard: the server lives. Nothing for longer than it may take: it does not. */
  heard() {
    clearTimeout(this.pingTimer);
    if (!this.ping) return;
    this.pingTimer = setTimeout(() => this.hangUp(1006, 'no ping'), this.ping * 1000 + PING_LATE_MS);
  }

  /* ---- the end, and coming back ---- */

  closed({ code, reason }) {
    const opened = this.client !== '';
    this.socket = null;
    this.client = '';
    this.ping = 0;
    clearTimeout(this.pingTimer);
    for (const id of [...this.calls.keys()]) this.settle(id, (call) => call.reject(new Error('connection closed')));
    if (!this.wanted) {
      if (this.refusal) this.on.state('stopped', this.refusal);
      else this.on.state('idle', 'Not connected');
      this.refusal = '';
      return;
    }
    if (opened) this.failures = 0;
    /* a browser does not tell why a handshake was refused; the server's log does */
    const why = reason ? `${code} ${reason}` : code === 1006 && !opened ? 'not let in or not reachable' : code === 1006 ? 'connection lost' : `code ${code}`;
    this.on.note(`Closed: ${why}`);
    if (isFinal(code)) {
      this.wanted = false;
      this.on.state('stopped', why);
    } else {
      this.retry(why);
    }
  }

  /* finish: the server has said that coming back is of no use. */
  finish(why) {
    this.refusal = why;
    this.stop();
  }

  /* Full jitter: many pages that lost the same server do not come back in step. */
  retry(why) {
    const most = Math.min(LAST_MS, FIRST_MS * 2 ** this.failures++);
    const due = performance.now() + 100 + Math.random() * most;
    const tick = () => {
      const left = due - performance.now();
      if (left <= 0) {
        this.open();
        return;
      }
      this.on.state('busy', `Trying again in ${Math.ceil(left / 1000)} s (${why})`);
      this.retryTimer = setTimeout(tick, Math.min(left, 1000));
    };
    tick();
  }
}

/* What the tests of the client protocol share: a configuration with the namespaces of the conformance list, and
 * Speaker, a client that says every line itself. */
import { assert, fs, path, temporary, within, patience, request, connect, token, API_KEY } from './lib.mjs';

const all = (...names) => Object.fromEntries(names.map((n) => [`allow_${n}`, true]));
export const OPEN = all('subscribe_for_client', 'subscribe_for_anonymous', 'publish_for_subscriber', 'publish_for_anonymous');
export const HISTORY = {
  ...OPEN, ...all('history_for_subscriber', 'history_for_anonymous'),
  history_size: 10, history_ttl: '300s', force_recovery: true,
};

export const namespaces = (more = []) => [
  { name: 'hist', ...HISTORY },
  { name: 'long', ...HISTORY, history_size: 100000 },
  {
    name: 'pres', ...OPEN, presence: true, join_leave: true,
    ...all('presence_for_subscriber', 'presence_for_anonymous'),
  },
  { name: 'limited', allow_user_limited_channels: true },
  { name: 'mute', ...all('subscribe_for_client', 'subscribe_for_anonymous') },
  ...more,
];

/* settings writes a configuration file and answers the arguments that name it. */
export function settings({ client = {}, websocket = {}, more = [], ...rest } = {}) {
  const file = path.join(temporary(), 'roost.json');
  fs.writeFileSync(file, JSON.stringify({
    client: { allow_anonymous_connect_without_token: true, expired_close_delay: '1s', expired_sub_close_delay: '1s', ...client },
    channel: { without_namespace: OPEN, namespaces: namespaces(more) },
    websocket,
    ...rest,
  }));
  return ['--config', file];
}

export const ENDPOINT = '/connection/websocket';

/* readable: a reason must be text and must not be JSON, or SDKs act on it (protocol.md 1.7). */
export function readable(close) {
  assert.notEqual(close.reason, '', `${close.code} without a reason`);
  assert.throws(() => JSON.parse(close.reason), `reason ${close.reason}`);
}

/* Speaker checks of every message what must hold of all: text, no empty line, no line end at the end. */
export class Speaker {
  static async open(server, options = {}) {
    const { target = ENDPOINT, pong = true, ...rest } = options;
    return new Speaker(await connect(server, target, { token: null, ...rest }), pong);
  }

  /* connected opens and connects: as tester unless params say otherwise. */
  static async connected(server, { user, params, ...options } = {}) {
    const speaker = await Speaker.open(server, options);
    const claims = user === undefined ? {} : { token: token({ sub: user, roost: undefined }) };
    speaker.hello = await speaker.ok('connect', params || claims);
    speaker.id = speaker.hello.client;
    return speaker;
  }

  constructor(client, pong) {
    this.client = client;
    this.socket = client.socket;
    this.answers = pong;
    this.lines = [];
    this.pings = [];
    this.messages = 0;
    this.nextId = 100;
    this.watchers = new Set();
    client.inbox.splice(0).forEach((m) => this.message(m));
    this.socket.removeAllListeners('message');
    this.socket.on('message', (data, binary) => this.message(binary ? data : data.toString()));
    this.socket.on('close', () => this.wake());
  }

  message(text) {
    this.messages++;
    assert.equal(typeof text, 'string', 'a binary message');
    for (const line of text.split('\n')) {
      assert.notEqual(line, '', `an empty line in ${JSON.stringify(text.slice(0, 300))}`);
      const json = JSON.parse(line);
      if (line !== '{}') this.lines.push({ text: line, ...json });
      else {
        this.pings.push(performance.now());
        if (this.answers) this.socket.send('{}');
      }
    }
    this.wake();
  }

  wake() {
    for (const look of [...this.watchers]) look();
  }

  /* take waits for a line and takes it out. */
  take(matches = () => true, what = 'line', ms = 10000) {
    let look;
    const found = new Promise((resolve, reject) => {
      look = () => {
        const i = this.lines.findIndex(matches);
        if (i >= 0) {
          this.watchers.delete(look); /* another message may come before the caller runs */
          resolve(this.lines.splice(i, 1)[0]);
        } else if (this.client.close) reject(new Error(`closed before ${what}: ${JSON.stringify(this.client.close)}`));
      };
      this.watchers.add(look);
      look();
    });
    return within(found, patience(ms), what).finally(() => this.watchers.delete(look));
  }

  send(...commands) {
    this.client.send(commands.map((c) => (typeof c === 'string' ? c : JSON.stringify(c))).join('\n'));
  }

  reply(id, ms) {
    return this.take((l) => l.id === id, `reply ${id}`, ms);
  }

  push(kind, channel, ms) {
    const is = (l) => l.push && kind in l.push && (channel === undefined || l.push.channel === channel);
    return this.take(is, `push ${kind} of ${channel}`, ms).then((l) => l.push[kind]);
  }

  async call(method, params = {}) {
    const id = ++this.nextId;
    this.send({ [method]: params, id });
    return this.reply(id);
  }

  async ok(method, params) {
    const answer = await this.call(method, params);
    assert.ok(answer[method] && !answer.error, `${method} ${JSON.stringify(params)}: ${answer.text}`);
    return answer[method];
  }

  /* fails calls and expects an error: of one key each, and message never empty. */
  async fails(code, method, params) {
    const { id, text, error, ...rest } = await this.call(method, params);
    assert.equal(error?.code, code, `${method} ${JSON.stringify(params).slice(0, 200)}: ${text}`);
    assert.notEqual(error.message, '');
    assert.deepEqual(rest, {}, text);
    assert.equal('temporary' in error, code === 100 || code === 111);
    return error;
  }

  /* closes waits for the server's Close. */
  async closes(code, ms) {
    const close = await this.client.over(ms);
    assert.equal(close.code, code, `${JSON.stringify(close)}, unread: ${this.lines.map((l) => l.text).join(' ').slice(0, 300)}`);
    readable(close);
    return close;
  }

  /* quiet: everything sent so far has been dealt with, and nothing unread came. */
  async quiet() {
    await this.ok('unsubscribe', { channel: 'nobody-is-here' });
    assert.deepEqual(this.lines.map((l) => l.text), []);
  }

  end() {
    return this.client.end();
  }

  cut() {
    const tcp = this.socket._socket;
    if (tcp.encrypted) tcp.destroy(); /* Node resets no TLS socket */
    else tcp.resetAndDestroy();
  }
}

/* api calls a method of the server API: {status, body, json}. */
export async function api(server, method, body, options = {}) {
  const answer = await request(server, {
    method: 'POST', target: `/api/${method}`, headers: { 'X-API-Key': API_KEY },
    body: typeof body === 'string' ? body : JSON.stringify(body), ...options,
  });
  try {
    answer.json = JSON.parse(answer.body);
  } catch {
    /* an error page */
  }
  return answer;
}

/* result calls and expects success. */
export async function result(server, method, body, options) {
  const answer = await api(server, method, body, options);
  assert.equal(answer.status, 200, `${method}: ${answer.body}`);
  assert.ok(answer.json.result || answer.json.replies, `${method}: ${answer.body}`);
  return answer.json.result || answer.json;
}


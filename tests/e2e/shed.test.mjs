/* client.total_queue_max_size: too much waits for those who do not read. They go, the slowest first; who reads
 * loses nothing; newcomers are refused while that is not enough. */
import { assert, serve, connect, upgraded, refused, fresh, test, done, until, metrics, request, requestHead, Raw, OP, API_KEY } from './lib.mjs';
import { Speaker, settings, result } from './centrifuge.mjs';

const DATA = 'x'.repeat(16 * 1024);
const MIB = 1 << 20;

const start = (budget, more = []) => serve([...more, ...settings({ client: { queue_max_size: '64MiB', total_queue_max_size: budget, ping_interval: '0s' },
  websocket: { close_timeout: '120s' } }), '--workers', '2']);

/* Sleeper reads nothing of a channel of its own. */
class Sleeper {
  constructor(channel) {
    this.channel = channel;
  }

  static async raw(server, channel) {
    const s = new Sleeper(channel);
    s.connection = await upgraded(server, `/raw/${channel}?pub=0`);
    s.socket = s.connection.socket;
    s.socket.pause();
    return s;
  }

  static async sdk(server, channel) {
    const s = new Sleeper(channel);
    s.speaker = await Speaker.connected(server);
    await s.speaker.ok('subscribe', { channel });
    s.socket = s.speaker.socket._socket;
    s.socket.pause();
    return s;
  }

  /* code reads on: what it was closed with, 0 if it was cut. */
  async code() {
    this.socket.resume();
    if (this.speaker) return (await this.speaker.client.over(60000)).code;
    for (;;) {
      const f = await this.connection.frame(60000).catch(() => null);
      if (!f || f.opcode === OP.CLOSE) return f ? f.payload.readUInt16BE() : 0;
    }
  }
}

/* Crowd: sleepers, and readers who must get everything in order. */
class Crowd {
  static async of(server, sleepers) {
    const crowd = new Crowd();
    crowd.server = server;
    crowd.sleepers = [];
    crowd.readers = [];
    crowd.count = 0;
    for (let i = 0; i < 4; i++) crowd.readers.push(await connect(server, '/raw/good?pub=0'));
    while (crowd.sleepers.length < sleepers) await crowd.join();
    return crowd;
  }

  async join() {
    const n = this.sleepers.length;
    this.sleepers.push(await (n % 4 === 3 ? Sleeper.sdk : Sleeper.raw)(this.server, `sleeper-${n}`));
  }

  /* publish gives everybody one more message, and waits until the readers have it. */
  async publish() {
    const data = { n: ++this.count, data: DATA };
    await result(this.server, 'broadcast', { channels: ['good', ...this.sleepers.map((s) => s.channel)], data });
    for (const r of this.readers) assert.equal(JSON.parse(await r.next(60000)).n, this.count);
  }

  async until(condition, what) {
    for (let i = 0; !(await condition()); i++) {
      assert.ok(i < 3000, `never came: ${what}`);
      await this.publish();
    }
  }

  async metric(name) {
    return (await metrics(this.server)).get(name);
  }
}

const ready = async (server) => (await request(server, { target: '/readyz' })).status;

test('the slowest are closed with 3008, those who read lose nothing', async () => {
  const server = await start('24MiB');
  const crowd = await Crowd.of(server, 16);
  await crowd.until(() => crowd.metric('shed_total'), 'somebody is shed');
  for (let i = 0; i < 20; i++) await crowd.publish();
  const shed = await crowd.metric('shed_total');
  assert.ok(shed >= 1 && shed <= crowd.sleepers.length, `${shed} closed`);
  await server.logged(/level=warn msg="too much waits in all queues together/);
  const m = await metrics(server);
  assert.equal(m.get('queue_budget_bytes'), 24 * MIB);
  assert.ok(m.get('connections_open') >= crowd.readers.length);
  await until(async () => (await crowd.metric('queue_budget_used_bytes{in="queues"}')) + (await crowd.metric('queue_budget_used_bytes{in="kernel"}')) <= 24 * MIB, 'below the budget');
  assert.equal(await ready(server), 200);
  for (const s of crowd.sleepers) s.codes = s.code();
  await until(async () => (await crowd.metric('queue_budget_used_bytes{in="queues"}')) === 0, 'all have read on', 60000);
  for (const r of crowd.readers) assert.equal((await r.end()).code, 1000);
  await server.stop();
  server.kept = true;
  const codes = await Promise.all(crowd.sleepers.map((s) => s.codes));
  const told = codes.filter((code) => code === 3008).length;
  assert.ok(told >= 1 && told <= shed, `${codes}`);
  assert.ok(codes.every((code) => [3008, 0, 1006, 1012, 3001].includes(code)), `${codes}`);
  console.log(`      ${shed} of ${codes.length} closed, ${told} read it`);
}, { seconds: 120 });

test('below the budget nobody goes: a reader that has slept gets everything', async () => {
  const server = await start('0');
  const crowd = await Crowd.of(server, 3);
  await crowd.until(async () => (await crowd.metric('queue_budget_used_bytes{in="queues"}')) > MIB, 'a MiB waits');
  assert.ok(await until(() => crowd.metric('queue_budget_used_bytes{in="kernel"}'), 'the kernel is asked'));
  assert.equal(await crowd.metric('shed_total'), 0);
  const last = `"n":${crowd.count},`;
  for (const s of crowd.sleepers) {
    s.socket.resume();
    const texts = [];
    while (!texts.at(-1)?.includes(last)) texts.push((await s.connection.frame(60000)).payload.toString());
    assert.deepEqual(texts.map((t) => JSON.parse(t).n), Array.from({ length: crowd.count }, (_, i) => i + 1));
  }
  await until(async () => (await crowd.metric('queue_budget_used_bytes{in="queues"}')) === 0, 'nothing waits');
  assert.equal(await crowd.metric('queue_budget_used_bytes{in="kernel"}'), 0);
  assert.equal(await crowd.metric('queued_bytes'), 0);
}, { seconds: 120 });

const slow = async (server, target = '/debug/slow', nth = 0) => request(server, { target, nth });

test('/debug/slow: who has most in its queue, over all workers; never what', async () => {
  const server = await start('0');
  const empty = await slow(server);
  assert.equal(empty.status, 200);
  assert.match(empty.headers['content-type'], /^text\/plain/);
  assert.match(empty.body, /^connection +peer +queued_bytes +unsent_bytes +rtt_ms +age_s +subs user\n$/);
  assert.deepEqual(JSON.parse((await slow(server, '/debug/slow?format=json')).body), { slow: [] });
  const crowd = await Crowd.of(server, 24);
  let list = [];
  await crowd.until(async () => {
    list = JSON.parse((await slow(server, '/debug/slow?format=json')).body).slow;
    return list.length === 20 && list.some((row) => row.peer === 'unix' || row.unsent_bytes > 0);
  }, 'twenty are slow');
  for (const [i, row] of list.entries()) {
    assert.deepEqual(Object.keys(row), ['connection', 'user', 'peer', 'queued_bytes', 'unsent_bytes', 'rtt_ms', 'age_s', 'subscriptions']);
    assert.ok(i === 0 || row.queued_bytes <= list[i - 1].queued_bytes);
    assert.ok(row.queued_bytes > 0 && row.rtt_ms > 0 && row.age_s >= 0, JSON.stringify(row));
    assert.match(row.peer, /^127\.0\.0\.1:\d+$/);
    assert.equal(row.subscriptions, 1);
    assert.equal(row.user, row.connection.startsWith('raw-') ? 'tester' : '');
  }
  assert.equal(new Set(list.map((row) => row.connection)).size, 20);
  const table = (await slow(server)).body;
  assert.equal(table.split('\n').length, 22);
  assert.match(table, /\nraw-[01]-\d+ +127\.0\.0\.1:\d+ +\d+ +\d+ +\d+\.\d{3} +\d+ +1 "tester"\n/);
  assert.ok(!table.includes('xxxx'));
  for (const method of ['POST', 'HEAD']) assert.equal((await request(server, { method, target: '/debug/slow' })).status, 405);
  const leaver = await Raw.connect(server); /* one that does not wait for its answer */
  await leaver.written(requestHead('GET', '/debug/slow', { Host: 'a' }).repeat(50));
  leaver.socket.destroy();
  await crowd.publish();
}, { seconds: 120 });

test('/debug/slow is for operators: with an admin listener there alone', async () => {
  const server = await start('0', ['--listen', 'ws://127.0.0.1:0', '--admin-listen', 'ws://127.0.0.1:0']);
  assert.equal((await slow(server)).status, 404);
  assert.equal((await slow(server, '/debug/slow', 1)).status, 200);
});

test('/debug/slow names users: from elsewhere than this machine it wants a key of scope all', async () => {
  const keys = JSON.stringify([{ name: 'reader', key: 'a-key-that-reads-0123456789', scope: 'read' }]);
  const server = await start('0', ['--listen', 'ws://127.0.0.1:0', '--admin-listen', 'ws://127.0.0.1:0', '--http_server.trusted_proxies', '127.0.0.1', '--http_api.keys', keys]);
  const ask = async (headers) => (await request(server, { target: '/debug/slow', nth: 1, headers: { 'X-Forwarded-For': '203.0.113.9', ...headers } })).status;
  assert.deepEqual([await ask({}), await ask({ 'X-API-Key': 'a-key-that-reads-0123456789' }), await ask({ 'X-API-Key': API_KEY })], [401, 403, 200]);
});

test('when that does not help, newcomers get 503 and /readyz says so; those who read go on; then all is well again', async () => {
  const server = await start('32MiB');
  const crowd = await Crowd.of(server, 24);
  await crowd.until(async () => (await ready(server)) === 503, '/readyz says 503');
  const why = await request(server, { target: '/readyz' });
  assert.match(why.body, /too much waits/);
  const before = await crowd.metric('refused_total{reason="queue_budget"}');
  const answer = await refused(server, '/raw/good');
  assert.equal(answer.status, 503);
  assert.match(answer.headers['retry-after'], /^([1-9]|10)$/);
  assert.equal(await crowd.metric('refused_total{reason="queue_budget"}'), before + 1);
  await crowd.publish();
  for (const s of crowd.sleepers) s.socket.destroy();
  await until(async () => (await ready(server)) === 200, 'ready again', 30000);
  await fresh(server);
  await crowd.publish();
  assert.equal((await request(server, { target: '/healthz' })).status, 200);
}, { seconds: 120 });

await done();

/* slow_policy of a namespace: what becomes of one client that does not read, and that nobody else notices. */
import { assert, serve, test, done, until, scaled, metrics, token } from './lib.mjs';
import { Speaker, settings, result, OPEN, HISTORY } from './centrifuge.mjs';
import { Follower, SdkFollower, newTally, behind } from './follower.mjs';

const QUEUE = 64 * 1024;
const DATA = 'x'.repeat(4096);
const KEPT = { ...HISTORY, history_size: 10000 };

const start = () => serve([...settings({
  more: [
    { name: 'skip', ...KEPT, slow_policy: 'skip-and-recover' },
    { name: 'close', ...KEPT, slow_policy: 'close' },
    { name: 'oldest', ...OPEN, slow_policy: 'drop-oldest' },
    { name: 'latest', ...OPEN, slow_policy: 'keep-latest' },
  ],
  client: { queue_max_size: `${QUEUE}`, recovery_max_publication_limit: 10000 },
}), '--workers', '2']);

const slow = async (server, action) => (await metrics(server)).get(`slow_total{action="${action}"}`);

/* flood publishes one by one until the counter of action reaches count, and some more; answers how many. */
async function flood(server, channel, action, count = 1) {
  let n = 0;
  for (let more = 20; more > 0; more -= (await slow(server, action)) >= count ? 1 : 0) {
    assert.ok(n < 5000, `${action} never came`);
    await result(server, 'publish', { channel, data: { by: 'api', n: ++n, pad: DATA } });
  }
  return n;
}

const stop = (speaker) => speaker.socket._socket.pause();
const go = (speaker) => speaker.socket._socket.resume();
const numbers = (speaker) => speaker.lines.filter((l) => l.push?.pub).map((l) => l.push.pub.data.n);

test('skip-and-recover: two of 1,000 do not read: 2500, they recover everything, nobody else notices', async () => {
  const server = await start();
  const channel = 'skip:1';
  const [others, dozers] = [newTally(), newTally()];
  const url = () => server.url();
  const quick = Array.from({ length: scaled(998, 50) }, () => new Follower(url, [channel], others));
  const sleepy = [new Follower(url, [channel], dozers), new SdkFollower(url, [channel], dozers)];
  const told = [];
  sleepy[1].client.getSubscription(channel).on('subscribing', ({ code }) => told.push(code));
  const all = [...quick, ...sleepy];
  await until(() => all.every((f) => f.books[0].open), 'all subscribed', 20000);
  for (const f of sleepy) f.socket._socket.pause();
  const count = await flood(server, channel, 'drop', 2);
  await until(() => quick.every((f) => f.failure || f.books[0].offset === count), 'the others have all', 30000);
  assert.ok(sleepy.every((f) => f.books[0].offset < count));
  for (const f of sleepy) f.socket._socket.resume();
  await until(async () => all.some((f) => f.failure) || !(await behind(server, [channel], all)), 'those two have all', 30000);
  for (const f of all) if (f.failure) throw f.failure;
  assert.deepEqual([others.publications, others.recovered, others.told, others.unsubscribed, [...others.closes]], [quick.length * count, 0, 0, 0, []]);
  assert.deepEqual([dozers.publications, dozers.told, [...dozers.closes]], [2 * count, 0, []]);
  assert.ok(dozers.unsubscribed >= 1 && told.length >= 1 && told.every((code) => code === 2500), `${dozers.unsubscribed} ${told}`);
  assert.equal(dozers.recovered, dozers.unsubscribed + told.length);
  console.log(`      ${count} publications`);
  for (const f of all) await f.end();
}, { seconds: 90 });

/* dozing: a client that reads nothing while channel is flooded, and what it has read when it reads again. */
async function dozing(server, params, channel, action) {
  const speaker = await Speaker.connected(server, params ? { params } : {});
  if (!params) await speaker.ok('subscribe', { channel });
  stop(speaker);
  const count = await flood(server, channel, action);
  go(speaker);
  return { speaker, count };
}

/* whole: what came before the end and what was recovered are everything, once and in order. */
function whole(before, { recovered, publications }, count) {
  assert.ok(before.length < count);
  assert.equal(recovered, true);
  assert.deepEqual([...before, ...publications.map((p) => p.data.n)], Array.from({ length: count }, (_, i) => i + 1));
}

test('skip-and-recover, server-side: closed with 3010; with its position it gets the rest when it comes back', async () => {
  const server = await start();
  const params = { token: token({ sub: 'alice', roost: undefined, channels: ['skip:s'] }) };
  const { speaker, count } = await dozing(server, params, 'skip:s', 'drop');
  await speaker.closes(3010);
  const before = numbers(speaker);
  const { epoch } = speaker.hello.subs['skip:s'];
  const again = await Speaker.connected(server, { params: { ...params, subs: { 'skip:s': { recover: true, epoch, offset: before.length } } } });
  whole(before, again.hello.subs['skip:s'], count);
});

test('close: closed with 3008; with its position it gets the rest when it comes back', async () => {
  const server = await start();
  const { speaker, count } = await dozing(server, null, 'close:1', 'close');
  await speaker.closes(3008);
  const before = numbers(speaker);
  const { epoch } = await result(server, 'history', { channel: 'close:1' });
  const again = await Speaker.connected(server);
  whole(before, await again.ok('subscribe', { channel: 'close:1', recover: true, epoch, offset: before.length }), count);
});

for (const [policy, least, most] of [['oldest', QUEUE / 2 / DATA.length, QUEUE / DATA.length], ['latest', 1, QUEUE / DATA.length]]) {
  test(`${policy === 'oldest' ? 'drop-oldest' : 'keep-latest'}: it stays, in order, with the latest; replies and other channels lose nothing`, async () => {
    const server = await start();
    const speaker = await Speaker.connected(server);
    const channel = `${policy}:1`;
    await speaker.ok('subscribe', { channel });
    await speaker.ok('subscribe', { channel: 'long:1' });
    stop(speaker);
    await result(server, 'publish', { channel: 'long:1', data: { n: 'before' } });
    const count = await flood(server, channel, 'drop', 30);
    const dropped = await slow(server, 'drop');
    await result(server, 'publish', { channel: 'long:1', data: { n: 'behind' } });
    speaker.send({ presence_stats: { channel: 'pres:x' }, id: 7 });
    go(speaker);
    await speaker.reply(7);
    const seen = numbers(speaker);
    const ours = seen.filter((n) => typeof n === 'number');
    assert.deepEqual(seen.filter((n) => typeof n === 'string'), ['before', 'behind']);
    assert.ok(ours.every((n, i) => i === 0 || n > ours[i - 1]), ours.join());
    assert.deepEqual([ours.at(-1), ours.length], [count, count - dropped]);
    let tail = 1;
    while (ours.at(-tail - 1) === count - tail) tail++;
    assert.ok(tail >= least && tail <= most, `${tail} at the end without a gap`);
    console.log(`      ${count} publications, ${dropped} dropped, the last ${tail} without a gap`);
    speaker.lines.length = 0;
    await speaker.quiet();
  });
}

await done();

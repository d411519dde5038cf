/* Recovery under violence: every subscriber of a channel with history sees every publication once and in order, or is told
 * that it did not (recovered is absent, unsubscribe 2500, close 3010). Joins equal leaves, whatever end a client comes to. */
import { assert, serve, test, done, until, patience, scaled, spread } from './lib.mjs';
import { Speaker, settings, result } from './centrifuge.mjs';
import { Follower, SdkFollower, newTally, publish, behind, random, pause } from './follower.mjs';

const CHANNELS = ['long:1', 'long:2', 'long:3', 'long:4', 'hist:1', 'hist:2', 'hist:3', 'hist:4', 'long:5', 'hist:5'];

/* violence cuts clients, five at a time, until it is over. */
function violence(followers) {
  const state = { cuts: 0, over: false };
  state.run = (async () => {
    for (; !state.over; await pause(20)) {
      for (let i = 0; i < 5; i++) followers[random(followers.length)].cut();
      state.cuts += 5;
    }
  })();
  return state;
}

async function complete(server, followers) {
  const broken = () => followers.find((f) => f.failure);
  let late;
  await until(async () => broken() || !(late = await behind(server, CHANNELS, followers)), 'all have all', 40000).catch((error) => {
    throw new Error(`${error.message}: ${late}`);
  });
  for (const f of followers) await f.end();
  if (broken()) throw broken().failure;
}

test('1,000 clients with four channels each, cut at random in a flood, and the server killed in it: nothing lost in silence, nothing twice', async () => {
  const args = [...settings(), '--workers', '2'];
  let server = await serve(args);
  const tally = newTally();
  const sent = new Map();
  const followers = [];
  for (let i = 0; i < scaled(1000, 60); i++) {
    const channels = [0, 1, 2, 3].map((k) => CHANNELS[(i * 3 + k * 7) % CHANNELS.length]);
    followers.push(new (i % 50 ? Follower : SdkFollower)(() => server.url(), [...new Set(channels)], tally));
  }
  const books = followers.flatMap((f) => f.books);
  await until(() => books.every((b) => b.open), 'all subscribed', 20000);
  const storm = violence(followers);
  const count = scaled(200, 80);
  const flood = publish(() => server, CHANNELS, count, sent, 'x'.repeat(200));
  const attempts = () => [...sent.values()].reduce((n, { attempts: a }) => n + a, 0);
  await until(() => attempts() > CHANNELS.length * count, 'half of the flood', 60000);
  const urls = server.urls;
  server.gone = server.kept = true;
  server.child.kill('SIGKILL');
  await server.exited;
  server.check();
  server = await serve([...args, ...urls.flatMap((u) => ['--listen', u])]);
  await flood;
  storm.over = true;
  await storm.run;
  await complete(server, followers);
  for (const b of books) b.check(sent);
  const acknowledged = [...sent.values()].reduce((n, { acknowledged: a }) => n + a.size, 0);
  console.log(`      ${storm.cuts} cuts, ${acknowledged} of ${attempts()} publications acknowledged, ${tally.publications} seen, ${tally.recovered} recoveries, ${tally.told} told, closes ${JSON.stringify([...tally.closes])}`);
  assert.ok(tally.recovered > 0 && tally.told > 0 && acknowledged > attempts() / 2, JSON.stringify(tally));
}, { seconds: 120, final: true });

test('1,000 clients cut by RST: joins equal leaves for each, presence empty within two seconds', async () => {
  const server = await serve([...settings(), '--workers', '2']);
  const count = scaled(1000, 60);
  const observers = [await Speaker.connected(server), await Speaker.connected(server)];
  for (const o of observers) await o.ok('subscribe', { channel: 'pres:crowd', join_leave: true });
  const clients = [];
  await spread(count, 20, async (i) => {
    const c = await Speaker.connected(server, { user: `user${i % 50}` });
    await c.ok('subscribe', { channel: 'pres:crowd', join_leave: i % 10 === 0 }); /* some hear of the others while they go */
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

/* The JavaScript SDK as npm delivers it, current and two older majors, in Node and in headless Chromium. */
import {
  assert, fs, path, serve, certificate, test, done, skip, token, temporary, atEnd, until, within, patience, nowSeconds, WebSocket,
} from './lib.mjs';
import { settings, result, ENDPOINT } from './centrifuge.mjs';
import http from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const VERSIONS = ['centrifuge5', 'centrifuge4', 'centrifuge3'];
const SCHEMES = ['ws', 'wss'];

const versionOf = (name) => JSON.parse(fs.readFileSync(new URL(`./node_modules/${name}/package.json`, import.meta.url))).version;
const sign = (claims) => token({ roost: undefined, exp: undefined, ...claims });

async function start(scheme, { pair, ...options } = {}, urls = []) {
  const args = [...settings(options), '--workers', '2'];
  if (scheme === 'wss') {
    const { cert, key } = pair || (await certificate());
    args.push('--cert', cert, '--key', key);
  }
  const listen = urls.length ? urls : ['ws://127.0.0.1:0', ...(scheme === 'wss' ? ['wss://127.0.0.1:0'] : [])];
  return serve([...args, ...listen.flatMap((u) => ['--listen', u])]);
}

/* sdk makes a client of one version; cut() cuts its TCP connection, said is what it has told so far. */
function sdk(version, url, options) {
  const { Centrifuge } = require(version);
  const sockets = [];
  class Socket extends WebSocket {
    constructor(to, protocols) {
      super(to, protocols || [], { rejectUnauthorized: false, perMessageDeflate: false });
      sockets.push(this);
    }
  }
  const client = new Centrifuge(`${url}${ENDPOINT}`, { websocket: Socket, minReconnectDelay: 50, maxReconnectDelay: 500, ...options });
  client.sockets = sockets;
  client.cut = () => sockets.at(-1)._socket.destroy();
  client.said = heard(client, ['connected', 'connecting', 'disconnected', 'subscribed', 'publication', 'error']);
  atEnd(() => client.disconnect());
  return client;
}

function heard(emitter, names) {
  const said = Object.fromEntries(names.map((n) => [n, []]));
  for (const n of names) emitter.on(n, (ctx) => said[n].push(ctx));
  return said;
}

function subscribe(client, channel, options) {
  const sub = client.newSubscription(channel, options);
  sub.said = heard(sub, ['subscribed', 'subscribing', 'unsubscribed', 'publication', 'join', 'leave', 'error']);
  sub.subscribe();
  return sub;
}

async function connected(version, url, options) {
  const client = sdk(version, url, options);
  client.connect();
  await within(client.ready(), patience(10000), 'connected');
  return client;
}

function each(name, body, options) {
  for (const version of VERSIONS)
    for (const scheme of SCHEMES) test(`centrifuge-js ${versionOf(version)} over ${scheme}: ${name}`, () => body(version, scheme), options);
}

each('token, publish, presence, history, join and leave, unsubscribe', async (version, scheme) => {
  const server = await start(scheme);
  const url = server.url(scheme);
  const alice = await connected(version, url, { token: sign({ sub: 'alice', info: { name: 'A' } }) });
  const bob = await connected(version, url, { token: sign({ sub: 'bob' }) });
  const room = subscribe(alice, 'pres:room', { joinLeave: true });
  await until(() => room.said.join.length === 1, 'her own join');
  const his = subscribe(bob, 'pres:room', { joinLeave: true });
  await until(() => room.said.join.length === 2, 'his join');
  assert.deepEqual(room.said.join.map((j) => j.info.user), ['alice', 'bob']);
  assert.deepEqual(room.said.join[0].info.connInfo, { name: 'A' });
  await his.publish({ text: 'hällo' });
  await until(() => room.said.publication.length === 1, 'publication');
  const { data, info } = room.said.publication[0];
  assert.deepEqual([data, info.user], [{ text: 'hällo' }, 'bob']);
  const { clients } = await room.presence();
  assert.deepEqual(Object.values(clients).map((c) => c.user).sort(), ['alice', 'bob']);
  const stats = await alice.presenceStats('pres:room');
  assert.deepEqual([stats.numClients, stats.numUsers], [2, 2]);
  his.unsubscribe();
  await until(() => room.said.leave.length === 1, 'his leave');
  await result(server, 'publish', { channel: 'pres:room', data: 2 });
  await until(() => room.said.publication.length === 2, 'second publication');
  assert.deepEqual(his.said.publication.map((p) => p.data), [{ text: 'hällo' }]);
  const log = subscribe(alice, 'hist:log');
  await within(log.ready(), patience(10000), 'subscribed');
  for (let n = 1; n <= 3; n++) await log.publish({ n });
  const history = await log.history({ limit: 10 });
  assert.deepEqual([history.publications.map((p) => [p.offset, p.data.n]), history.offset], [[[1, 1], [2, 2], [3, 3]], 3]);
  await assert.rejects(alice.publish('elsewhere', 1), (e) => e.code === 103);
  await assert.rejects(alice.rpc('x', 1), (e) => e.code === 108);
  assert.deepEqual([alice.said.error, alice.said.disconnected, bob.said.connecting.length], [[], [], 1]);
});

each('getToken refreshes before the token ends; a private channel with getToken', async (version, scheme) => {
  const server = await start(scheme);
  let asked = 0;
  const client = await connected(version, server.url(scheme), {
    getToken: async () => {
      asked++;
      return sign({ sub: 'alice', exp: nowSeconds() + 2 });
    },
  });
  let askedSub = 0;
  const sub = subscribe(client, '$private', {
    getToken: async ({ channel }) => {
      askedSub++;
      return sign({ sub: 'alice', channel, exp: nowSeconds() + 2, info: { seat: 7 } });
    },
  });
  await within(sub.ready(), patience(10000), 'subscribed');
  await until(() => asked >= 4 && askedSub >= 4, 'three refreshes each', 15000); /* well past the grace of 1 s */
  await sub.publish(1);
  await until(() => sub.said.publication.length, 'publication');
  assert.deepEqual(sub.said.publication[0].info.chanInfo, { seat: 7 });
  assert.deepEqual([client.said.connected.length, sub.said.subscribed.length, client.said.error, sub.said.error], [1, 1, [], []]);
  const refused = subscribe(client, '$other');
  await until(() => refused.said.unsubscribed.length, 'refusal');
  assert.equal(refused.said.unsubscribed[0].code, 103);
});

each('server-side subscriptions, recovered after a cut', async (version, scheme) => {
  const server = await start(scheme);
  const client = await connected(version, server.url(scheme), { token: sign({ sub: 'alice', channels: ['hist:mine', 'plain'] }), minReconnectDelay: 300, maxReconnectDelay: 800 });
  await until(() => client.said.subscribed.length === 2, 'both');
  await result(server, 'broadcast', { channels: ['hist:mine', 'plain'], data: 1 });
  await until(() => client.said.publication.length === 2, 'both publications');
  client.cut();
  for (let n = 2; n <= 4; n++) await result(server, 'publish', { channel: 'hist:mine', data: n });
  const mine = () => client.said.publication.filter((p) => p.channel === 'hist:mine').map((p) => p.data);
  await until(() => mine().length === 4, 'what was missed');
  assert.deepEqual(mine(), [1, 2, 3, 4]);
  const again = client.said.subscribed.filter((s) => s.channel === 'hist:mine');
  assert.deepEqual([again[1].wasRecovering, again[1].recovered], [true, true]);
});

each('personal channels; the one before is disconnected for good; a token with other channels makes it come back', async (version, scheme) => {
  const server = await start(scheme, { client: { subscribe_to_user_personal_channel: { enabled: true, single_connection: true } } });
  let channels = ['a'];
  const getToken = async () => sign({ sub: 'alice', exp: nowSeconds() + 2, channels });
  const first = await connected(version, server.url(scheme), { getToken });
  await until(() => first.said.subscribed.length === 2, 'both');
  assert.deepEqual(first.said.subscribed.map((s) => s.channel).sort(), ['#alice', 'a']);
  await result(server, 'publish', { channel: '#alice', data: 1 });
  await until(() => first.said.publication.length === 1, 'publication');
  channels = ['b'];
  await until(() => first.said.connected.length === 2, 'the refresh that brought it back', 15000); /* within the token's two seconds */
  assert.equal(first.said.connecting.at(-1).code, 3010);
  await until(() => first.said.subscribed.some((s) => s.channel === 'b'), 'the new channel');
  const second = await connected(version, server.url(scheme), { getToken });
  await until(() => first.said.disconnected.length, 'the end of the first');
  assert.deepEqual([first.said.disconnected[0].code, first.said.disconnected[0].reason], [3504, 'connection limit']);
  assert.deepEqual([second.state, second.said.disconnected], ['connected', []]);
});

each('above the rate of commands: it subscribes to all channels in time, and stays connected', async (version, scheme) => {
  const server = await start(scheme, { client: { command_rate_limit: 20 } });
  const client = sdk(version, server.url(scheme), { token: sign({ sub: 'alice' }) });
  const subs = Array.from({ length: 50 }, (_, i) => subscribe(client, `c${i}`, { minResubscribeDelay: 300, maxResubscribeDelay: 1500 }));
  client.connect();
  await within(Promise.all(subs.map((s) => s.ready())), patience(20000), 'all subscribed');
  assert.ok(subs.some((s) => s.said.error.some((e) => e.error.code === 111)), 'nobody had to wait');
  assert.deepEqual([client.said.connected.length, client.said.disconnected], [1, []]);
}, { seconds: 60 });

each('recovery after a cut: recovered, and told when it is not', async (version, scheme) => {
  const server = await start(scheme);
  const client = await connected(version, server.url(scheme), { token: sign({ sub: 'alice' }), minReconnectDelay: 400, maxReconnectDelay: 1000 });
  const sub = subscribe(client, 'hist:r');
  await within(sub.ready(), patience(10000), 'subscribed');
  let n = 0;
  const publish = async (count) => {
    for (let i = 0; i < count; i++) await result(server, 'publish', { channel: 'hist:r', data: ++n });
  };
  const seen = () => sub.said.publication.map((p) => p.data);
  await publish(2);
  await until(() => seen().length === 2, 'live ones');
  client.cut();
  await publish(5);
  await until(() => seen().length === 7, 'missed ones');
  assert.deepEqual(seen(), [1, 2, 3, 4, 5, 6, 7]);
  assert.deepEqual([sub.said.subscribed[1].wasRecovering, sub.said.subscribed[1].recovered], [true, true]);
  client.cut();
  await publish(15); /* history_size is 10 */
  await until(() => sub.said.subscribed.length === 3, 'subscribed again');
  assert.deepEqual([sub.said.subscribed[2].wasRecovering, sub.said.subscribed[2].recovered], [true, false]);
  await publish(1);
  await until(() => seen().length === 8, 'the next');
  assert.equal(seen().at(-1), 23);
});

each('the server goes and comes back', async (version, scheme) => {
  const pair = scheme === 'wss' ? await certificate() : undefined;
  const first = await start(scheme, { pair });
  const client = await connected(version, first.url(scheme), { token: sign({ sub: 'alice' }) });
  const sub = subscribe(client, 'hist:s');
  await within(sub.ready(), patience(10000), 'subscribed');
  await sub.publish(1);
  await first.stop();
  await until(() => client.said.connecting.length === 2, 'connecting again');
  assert.equal(client.said.connecting[1].code, 3001);
  const second = await start(scheme, { pair }, first.urls);
  await until(() => sub.said.subscribed.length === 2, 'subscribed again', 15000);
  assert.deepEqual([sub.said.subscribed[1].wasRecovering, sub.said.subscribed[1].recovered], [true, false]);
  await result(second, 'publish', { channel: 'hist:s', data: 2 });
  await until(() => sub.said.publication.length === 2, 'publication of the new server');
  assert.equal(client.said.disconnected.length, 0);
});

/* ---- a browser ---- */

const CHROMIUM = process.env.CHROMIUM || ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((f) => fs.existsSync(f));
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--ignore-certificate-errors'];

/* site serves an empty page and the SDK's bundle. */
async function site(name) {
  const bundle = fs.readFileSync(new URL(`./node_modules/${name}/dist/centrifuge.js`, import.meta.url));
  const page = '<!doctype html><title>t</title><link rel="icon" href="data:,"><script src="/centrifuge.js"></script>';
  const web = http.createServer((req, res) => {
    const script = req.url === '/centrifuge.js';
    res.setHeader('Content-Type', script ? 'text/javascript' : 'text/html');
    res.end(script ? bundle : page);
  });
  await new Promise((resolve) => web.listen(0, '127.0.0.1', resolve));
  atEnd(() => web.closeAllConnections() || web.close());
  return `http://127.0.0.1:${web.address().port}`;
}

/* inBrowser runs in the page. */
async function inBrowser({ url }) {
  const sockets = [];
  class Socket extends WebSocket {
    constructor(...args) {
      super(...args);
      sockets.push(this);
    }
  }
  const said = { connected: 0, tokens: 0, subscribed: [], publications: [], joins: [], served: [], secrets: [] };
  const client = new Centrifuge(url, {
    websocket: Socket, minReconnectDelay: 400, maxReconnectDelay: 1000,
    getToken: async () => (said.tokens++, window.getToken()),
  });
  client.on('connected', () => said.connected++);
  client.on('publication', (ctx) => said.served.push(ctx.data)); /* of server-side subscriptions */
  const secret = client.newSubscription('$secret', { getToken: (ctx) => window.getToken(ctx.channel) });
  secret.on('publication', (ctx) => said.secrets.push(ctx.data));
  secret.subscribe();
  const sub = client.newSubscription('hist:web');
  sub.on('subscribed', (ctx) => said.subscribed.push([ctx.wasRecovering, ctx.recovered]));
  sub.on('publication', (ctx) => said.publications.push(ctx.data));
  const room = client.newSubscription('pres:web', { joinLeave: true });
  room.on('join', (ctx) => said.joins.push(ctx.info.user));
  sub.subscribe();
  room.subscribe();
  client.connect();
  await Promise.all([client.ready(5000), sub.ready(5000), room.ready(5000), secret.ready(5000)]);
  await sub.publish({ from: 'page' });
  said.presence = Object.values((await room.presence()).clients).map((c) => c.user);
  said.history = (await sub.history({ limit: 5 })).publications.map((p) => p.data);
  window.said = said;
  window.cut = () => sockets.at(-1).close();
}

for (const name of ['centrifuge5', 'centrifuge4', 'centrifuge3']) test(`centrifuge-js ${versionOf(name)} in Chromium over wss: tokens of client and subscription, publish, presence, history, joins, server-side subscriptions, recovery`, async () => {
  if (!CHROMIUM) skip('no chromium: apt-get install chromium');
  const { chromium } = await import('playwright-core');
  const origin = await site(name);
  const server = await start('wss', { client: { allowed_origins: [origin] } });
  const context = await chromium.launchPersistentContext(temporary(), { executablePath: CHROMIUM, headless: true, args: ARGS, ignoreHTTPSErrors: true, timeout: patience(30000) });
  atEnd(() => context.close());
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (e) => errors.push(e.message));
  await page.exposeFunction('getToken', (channel) => sign({ sub: 'web', exp: nowSeconds() + 3, ...(channel ? { channel } : { channels: ['hist:served'] }) }));
  await page.goto(origin);
  await page.evaluate(inBrowser, { url: `${server.url('wss')}${ENDPOINT}` });
  const said = () => page.evaluate(() => window.said);
  assert.deepEqual([(await said()).presence, (await said()).history], [['web'], [{ from: 'page' }]]);
  await result(server, 'publish', { channel: 'hist:web', data: 'from curl' });
  await result(server, 'broadcast', { channels: ['hist:served', '$secret'], data: 'hush' });
  await until(async () => (await said()).publications.length === 2 && (await said()).served.length === 1 && (await said()).secrets.length === 1, 'all publications');
  await page.evaluate(() => window.cut());
  await until(async () => (await result(server, 'presence_stats', { channel: 'pres:web' })).num_clients === 0, 'its leave');
  for (const data of [3, 4]) await result(server, 'broadcast', { channels: ['hist:web', 'hist:served'], data });
  await until(async () => (await said()).publications.length === 4 && (await said()).served.length === 3, 'missed ones');
  const last = await said();
  assert.deepEqual(last.publications, [{ from: 'page' }, 'from curl', 3, 4]);
  assert.deepEqual([last.served, last.secrets], [['hush', 3, 4], ['hush']]);
  assert.deepEqual(last.subscribed, [[false, false], [true, true]]);
  assert.ok(last.joins.every((u) => u === 'web') && last.joins.length === 2, JSON.stringify(last.joins));
  await until(async () => (await said()).tokens >= 4, 'tokens refreshed', 15000);
  assert.equal((await said()).connected, 2);
  assert.deepEqual(errors, []);
});

await done();

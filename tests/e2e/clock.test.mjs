/* The wall clock jumps (an operator, NTP, a machine that was asleep): what hangs on time that passes goes on; what hangs on the date follows it. */
import { assert, fs, path, serve, connect, refused, test, done, skip, until, metrics, nowSeconds, temporary, token, VARIANT, patience } from './lib.mjs';
import { Speaker } from './centrifuge.mjs';

const DAY = 86400;

/* jumping is a server whose wall clock is as far from ours as set says; its monotonic clock is the kernel's. */
async function jumping(args) {
  const library = fs.globSync?.('/usr/lib/*/faketime/libfaketimeMT.so.1')[0] ?? fs.readdirSync('/usr/lib').map((d) => `/usr/lib/${d}/faketime/libfaketimeMT.so.1`).find((f) => fs.existsSync(f));
  if (VARIANT !== 'release') skip('libfaketime and a sanitizer each want to be first');
  if (!library) skip('libfaketime is not here');
  const file = path.join(temporary(), 'offset');
  const set = (seconds) => {
    fs.writeFileSync(`${file}.new`, `${seconds < 0 ? '' : '+'}${seconds}\n`);
    fs.renameSync(`${file}.new`, file);
  };
  set(0);
  const env = { LD_PRELOAD: library, FAKETIME_TIMESTAMP_FILE: file, FAKETIME_NO_CACHE: '1', DONT_FAKE_MONOTONIC: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1' };
  return { server: await serve(args, { env }), set };
}

test('a day forward, two back, and home: pings go on, nobody is closed, tokens are judged by the new date', async () => {
  const { server, set } = await jumping(['--ping-interval', '1s', '--client.pong_timeout', '900ms', '--workers', '2', '--echo', '--log-level', 'debug', '--client.connection_max_age', '0']);
  const clients = await Promise.all(Array.from({ length: 50 }, (_, i) => connect(server, `/raw/c${i}`, { token: token({ sub: `u${i}`, exp: nowSeconds() + 10 * DAY }) })));
  const pings = clients.map(() => 0);
  clients.forEach((client, i) => client.socket.on('ping', () => pings[i]++));
  const short = () => token({ exp: nowSeconds() + 3600 });
  for (const offset of [DAY, -DAY, 0]) {
    set(offset);
    const before = [...pings];
    await until(() => pings.every((n, i) => n >= before[i] + 3), `three pings each with the clock at ${offset}`, patience(15000));
    await clients[0].echo(`at ${offset}`);
    if (offset > 0) assert.equal((await refused(server, '/raw/new', { token: short() })).status, 401, 'an hour is over');
    else await (await connect(server, '/raw/new', { token: short() })).end();
    await (await connect(server, '/raw/new', { token: token({ exp: nowSeconds() + 2 * DAY }) })).end();
    if (offset < 0) assert.equal((await refused(server, '/raw/new', { token: token({ nbf: nowSeconds() - 60, exp: nowSeconds() + 3600 }) })).status, 401, 'it does not hold yet');
  }
  const m = await metrics(server);
  assert.equal(m.get('connections_open') >= 50, true);
  for (const [name, value] of m) assert.ok(!(value < 0), `${name} ${value}`);
  assert.doesNotMatch(server.log, /=-\d/, 'no negative duration in the log');
  assert.equal(clients.filter((c) => c.socket.readyState === 1).length, 50);
}, { seconds: 90 });

test('a token shown while the clock is a day behind ends on its date all the same, and none ends early', async () => {
  const { server, set } = await jumping(['--ping-interval', '1s', '--client.pong_timeout', '900ms', '--client.expired_close_delay', '0s', '--workers', '1']);
  set(-DAY);
  const exp = nowSeconds() + 5;
  const stays = await connect(server, '/raw/a', { token: token({ exp: nowSeconds() + 3600 }) });
  const ends = await connect(server, '/raw/a', { token: token({ exp }) });
  const speaker = await Speaker.connected(server, { params: { token: token({ exp }) } });
  set(0);
  const codes = await Promise.all([ends.over(30000), speaker.client.over(30000)]);
  assert.ok(Date.now() >= exp * 1000 - 50, 'not before its end');
  assert.deepEqual(codes.map((c) => c.code), [3005, 3005]);
  await stays.echo('still here');
}, { seconds: 90 });

await done();

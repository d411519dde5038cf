/* Lines for CloudWatch on standard output: nothing but JSON on them, field by field; deltas that add up. */
import { assert, serve, connect, test, done, until, command, ROOST } from './lib.mjs';

const linesOf = (server) => server.out.split('\n').slice(0, -1);

function checkLine(line, resolution) {
  const o = JSON.parse(line);
  assert.deepEqual(Object.keys(o).sort(), ['BytesOut', 'Host', 'Messages', 'NewConnections', 'OpenConnections', 'Service', 'SlowDropped', '_aws']);
  assert.deepEqual(Object.keys(o._aws).sort(), ['CloudWatchMetrics', 'Timestamp']);
  assert.ok(Number.isSafeInteger(o._aws.Timestamp) && Math.abs(o._aws.Timestamp - Date.now()) < 60000);
  assert.equal(o._aws.CloudWatchMetrics.length, 1);
  const [directive] = o._aws.CloudWatchMetrics;
  assert.deepEqual(Object.keys(directive).sort(), ['Dimensions', 'Metrics', 'Namespace']);
  assert.equal(directive.Namespace, 'roost');
  assert.deepEqual(directive.Dimensions, [['Service'], ['Service', 'Host']]);
  assert.deepEqual(directive.Metrics, [['OpenConnections', 'Count'], ['NewConnections', 'Count'], ['Messages', 'Count'], ['BytesOut', 'Bytes'], ['SlowDropped', 'Count']]
    .map(([Name, Unit]) => ({ Name, Unit, StorageResolution: resolution })));
  for (const { Name } of directive.Metrics) assert.ok(Number.isSafeInteger(o[Name]) && o[Name] >= 0, Name);
  assert.equal(o.Service, 'roost');
  assert.equal(typeof o.Host, 'string');
  return o;
}

test('a line a second, field by field; what they say adds up, the last line included', async () => {
  const server = await serve(['--echo', '--emf', '1s', '--node.name', 'host-7', '--workers', '2']);
  const clients = [];
  for (let i = 0; i < 3; i++) clients.push(await connect(server));
  for (const c of clients) for (let i = 0; i < 10; i++) await c.echo('x');
  const open = () => linesOf(server).map((l) => JSON.parse(l).OpenConnections);
  await until(() => open().includes(3), 'three connections');
  for (const c of clients) await c.end();
  await until(() => open().at(-1) === 0, 'they are gone');
  clients.push(await connect(server));
  await clients[3].echo('between the last two lines');
  await clients[3].end();
  await server.stop();
  const all = linesOf(server).map((l) => checkLine(l, 1));
  const sum = (name) => all.reduce((n, o) => n + o[name], 0);
  assert.ok(all.length >= 3);
  for (let i = 1; i < all.length - 1; i++) assert.ok(all[i]._aws.Timestamp - all[i - 1]._aws.Timestamp > 500);
  assert.ok(all.every((o) => o.Host === 'host-7'));
  assert.equal(sum('NewConnections'), 4);
  assert.equal(sum('Messages'), 2 * 31);
  assert.equal(sum('SlowDropped'), 0);
  assert.ok(sum('BytesOut') > 31 * 3);
});

test('off unless asked for; below a second is refused', async () => {
  const server = await serve(['--echo']);
  await (await connect(server)).end();
  await server.stop();
  assert.equal(server.out, '');
  const bad = await command(ROOST, ['serve', '--dev', '--emf', '10ms'], { code: null });
  assert.equal(bad.code, 2);
  assert.match(bad.err, /emf must be 1s/);
});

await done();

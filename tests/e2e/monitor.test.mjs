/* Monitoring: the text of /metrics in its formats, dashboards and alerts that ask for what is there, gauges that are exact
 * whatever connections come to, probes in the binary. */
import {
  assert, serve, connect, upgraded, test, done, metrics, request, Raw, until, command, skip, ROOST, token, refused, publish, scaled, path, fs, temporary,
  API_KEY, certificate, sanitizerEnv,
} from './lib.mjs';
import { fileURLToPath } from 'node:url';
import { Speaker, settings } from './centrifuge.mjs';
import { exposition, find, grew } from './exposition.mjs';

const ROOT = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const CENTRIFUGO = ['--prometheus.centrifugo_names', 'true'];
const OPENMETRICS = 'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1';

async function scrape(server, accept = 'text/plain') {
  const answer = await request(server, { target: '/metrics', headers: accept ? { Accept: accept } : {} });
  assert.equal(answer.status, 200);
  const openmetrics = answer.headers['content-type'] === 'application/openmetrics-text; version=1.0.0; charset=utf-8';
  if (!openmetrics) assert.equal(answer.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  return Object.assign(exposition(answer.body, { openmetrics }), { openmetrics });
}

async function post(server, method, body) {
  const answer = await request(server, { method: 'POST', target: `/api/${method}`, headers: { 'X-API-Key': API_KEY }, body: JSON.stringify(body) });
  assert.equal(answer.status, 200);
  return JSON.parse(answer.body);
}

/* traffic does once each thing that has a figure; answers the clients that stay. */
async function traffic(server) {
  const raw = await connect(server, '/raw/chat');
  await raw.echo('hello');
  await refused(server, '/echo', { token: null });
  const js = await Speaker.connected(server, { params: { token: token({ sub: 'js', roost: undefined }), name: 'js' } });
  const odd = await Speaker.connected(server, { params: { token: token({ sub: 'odd', roost: undefined }), name: 'a "name"' } });
  const { epoch } = await js.ok('subscribe', { channel: 'hist:1' });
  await js.ok('publish', { channel: 'hist:1', data: 1 });
  await js.ok('publish', { channel: 'hist:1', data: 2 });
  const again = (offset, e) => odd.ok('subscribe', { channel: 'hist:1', recover: true, offset, epoch: e })
    .then(() => odd.ok('unsubscribe', { channel: 'hist:1' }));
  await again(1, epoch);
  await again(2, epoch);
  await again(1, 'zzzz');
  await odd.fails(102, 'subscribe', { channel: 'unknown:x' });
  const gone = await Speaker.connected(server, { user: 'gone' });
  await post(server, 'disconnect', { user: 'gone', disconnect: { code: 4321, reason: 'bye' } });
  await until(() => gone.socket.readyState === 3, 'the disconnected is gone');
  await publish(server, 'chat', 1);
  assert.ok((await post(server, 'publish', { channel: 'unknown:x', data: 1 })).error);
  return { raw, js, odd };
}

test('/metrics is valid in both formats, with Centrifugo\'s names and without, and what counts never shrinks', async () => {
  for (const names of [[], CENTRIFUGO]) {
    const server = await serve([...settings(), '--workers', '2', ...names]);
    const empty = [await scrape(server), await scrape(server, OPENMETRICS)];
    await traffic(server);
    const full = [await scrape(server), await scrape(server, OPENMETRICS)];
    full.forEach((now, i) => {
      assert.equal(now.openmetrics, i === 1);
      grew(empty[i], now);
      assert.equal([...now.families.keys()].some((n) => n.startsWith('centrifugo_')), names.length > 0);
    });
    assert.deepEqual([...full[1].values.keys()], [...full[0].values.keys()]); /* the same samples in both */
  }
});

test('OpenMetrics is for who asks for it before text', async () => {
  const server = await serve();
  for (const [accept, openmetrics] of [[null, false], ['*/*', false], ['text/plain', false], ['application/openmetrics-text', true], [OPENMETRICS, true],
    ['application/openmetrics-text; version=1.0.0,application/openmetrics-text; version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1', true],
    ['application/openmetrics-text;q=0', false], ['application/openmetrics-text;q=0.1, text/plain', false], ['application/openmetrics-textual', false], [',;q=,', false],
    ['Application/OpenMetrics-Text; q=1.0', true]]) {
    assert.equal((await scrape(server, accept)).openmetrics, openmetrics, accept);
  }
});

test('prometheus.centrifugo_names: Centrifugo\'s names say what ours say', async () => {
  const server = await serve([...settings(), '--workers', '2', ...CENTRIFUGO]);
  const { raw, js, odd } = await traffic(server);
  const m = await scrape(server);
  const c = (name, labels) => find(m, `centrifugo_${name}`, labels);
  assert.equal(c('node_num_clients'), 3);
  assert.equal(c('node_num_subscriptions'), 2);
  assert.equal(c('node_num_channels'), 2);
  assert.equal(c('node_num_nodes'), 1);
  assert.equal(c('node_messages_sent_count', { type: 'publication' }), find(m, 'roost_publications_total'));
  assert.equal(c('client_connections_inflight', { transport: 'websocket', client_name: 'js' }), 1);
  assert.equal(c('client_connections_inflight', { transport: 'websocket', client_name: 'other' }), 1);
  assert.equal(c('client_connections_accepted', { client_name: 'none' }), 1);
  assert.equal(c('client_connections_inflight', { client_name: 'none' }), 0);
  assert.equal(c('client_recover', { recovered: 'yes', has_recovered_publications: 'yes' }), 1);
  assert.equal(c('client_recover', { recovered: 'yes', has_recovered_publications: 'no' }), 1);
  assert.equal(c('client_recover', { recovered: 'no' }), 1);
  assert.equal(c('client_num_server_disconnects', { code: 'other' }), 1);
  assert.equal(c('transport_outgoing_close_count', { transport: 'websocket', code: 'other' }), 1);
  assert.equal(c('client_num_reply_errors', { method: 'subscribe', code: '102' }), 1);
  assert.equal(c('api_command_duration_seconds_count', { protocol: 'http', method: 'publish' }), 2);
  assert.ok(c('api_command_duration_seconds_sum', { protocol: 'http', method: 'publish' }) > 0);
  assert.equal(find(m, 'roost_api_errors_total', { method: 'publish' }), 1);
  assert.equal(c('transport_messages_sent', { transport: 'websocket' }), find(m, 'roost_messages_sent_total'));
  assert.equal(c('node_broadcast_duration_seconds_count', { type: 'publication' }), find(m, 'roost_fanout_seconds_count'));
  assert.equal(find(m, 'roost_clients', { name: 'js' }), 1);
  for (const speaker of [js, odd]) speaker.socket.terminate();
  await raw.end();
  await until(async () => {
    const now = await scrape(server);
    return find(now, 'centrifugo_node_num_clients') + find(now, 'roost_clients', { name: 'js' }) + find(now, 'roost_clients', { name: 'other' }) === 0;
  }, 'all are gone');
});

/* asked: the metrics that an expression names. */
const asked = (expr) => [...expr.matchAll(/\broost_[a-z0-9_]+/g)].map((m) => m[0]);

/* rules reads contrib/alerts.yml, whose YAML is a line a value: words, or strings as JSON has them. */
function rules(text) {
  const all = [];
  let rule;
  for (const line of text.trimEnd().split('\n')) {
    if (/^(#.*|groups:| {2}- name: roost| {4}rules:| {8}(labels|annotations):)$/.test(line)) continue;
    const pair = line.match(/^ {6}(- | {2}| {4})([a-z]+): (".*"|[A-Za-z0-9]+)$/);
    assert.ok(pair, `not understood: ${line}`);
    if (pair[1] === '- ') all.push((rule = {}));
    assert.ok(!(pair[2] in rule), line);
    rule[pair[2]] = pair[3].startsWith('"') ? JSON.parse(pair[3]) : pair[3];
  }
  return all;
}

test('contrib/grafana-roost.json and contrib/alerts.yml ask for metrics that are there', async () => {
  const { cert, key } = await certificate();
  const server = await serve([...settings(), '--workers', '2', '--listen', 'ws://127.0.0.1:0', '--listen', 'wss://127.0.0.1:0', '--cert', cert, '--key', key]);
  await traffic(server);
  const m = await scrape(server);
  const there = new Set([...m.families.values()].flatMap((f) => f.samples.map((s) => s.name)));
  const board = JSON.parse(fs.readFileSync(path.join(ROOT, 'contrib/grafana-roost.json'), 'utf8'));
  assert.ok(board.uid && board.title && board.schemaVersion >= 36);
  assert.deepEqual(board.templating.list.map((v) => [v.name, v.type]), [['datasource', 'datasource'], ['job', 'query'], ['instance', 'query']]);
  assert.equal(new Set(board.panels.map((p) => p.id)).size, board.panels.length);
  const charts = board.panels.filter((p) => p.type !== 'row');
  assert.ok(charts.length > 20);
  for (const p of charts) {
    assert.ok(p.targets.length && p.gridPos.x + p.gridPos.w <= 24 && p.datasource.uid === '${datasource}', p.title);
    for (const t of p.targets) {
      assert.ok(asked(t.expr).length && t.expr.includes('instance=~"$instance"'), t.expr);
      for (const name of asked(t.expr)) assert.ok(there.has(name), `${p.title}: ${name}`);
    }
  }
  for (const v of board.templating.list.slice(1)) for (const name of asked(v.definition)) assert.ok(there.has(name), name);
  const alerts = rules(fs.readFileSync(path.join(ROOT, 'contrib/alerts.yml'), 'utf8'));
  assert.ok(alerts.length > 10);
  assert.equal(new Set(alerts.map((a) => a.alert)).size, alerts.length);
  for (const a of alerts) {
    for (const field of ['alert', 'expr', 'for', 'severity', 'summary', 'meaning', 'action']) assert.ok(a[field], `${a.alert}: ${field}`);
    for (const name of asked(a.expr)) assert.ok(there.has(name), `${a.alert}: ${name}`);
  }
});

test('contrib/alerts.yml is valid to promtool', async () => {
  const found = await command('sh', ['-c', 'command -v promtool'], { code: null });
  if (found.code !== 0) skip('promtool is not here (package prometheus)');
  await command('promtool', ['check', 'rules', path.join(ROOT, 'contrib/alerts.yml')]);
});

/* crowd does what clients do at their worst, so often; `width` at a time. */
async function crowd(times, width, one) {
  let left = times;
  const lane = async () => {
    while (left-- > 0) await one(left);
  };
  await Promise.all(Array.from({ length: width }, lane));
}

test('gauges are exact under churn: 50,000 connections of all kinds and ends, opened is closed and open in every scrape', async () => {
  const server = await serve([...settings(), '--workers', '2', '--log-level', 'info', '--http_server.handshake_timeout', '2s']);
  const before = await metrics(server);
  const key = token({ sub: 'churn' });
  let over = false;
  let scrapes = 0;
  const watch = (async () => {
    for (; !over; scrapes++) {
      const m = await metrics(server);
      assert.equal(m.get('connections_open') + m.get('connections_closed_total'), m.get('connections_upgraded_total'));
    }
  })();
  watch.catch(() => {});
  const bench = (count, ...args) => command(ROOST, ['bench', 'connect', server.url(), '--token', key, '--count', String(scaled(count)), '--seconds', '120', '--quiet', '--json', ...args],
    { env: { PATH: process.env.PATH, HOME: '/nonexistent', ...sanitizerEnv }, code: null, seconds: 150 });
  const partial = 'GET /raw/churn HTTP/1.1\r\nHost: x\r\nUpgr';
  const byHand = crowd(scaled(5000), 20, async (i) => {
    if (i % 5 === 0) {
      await refused(server, '/raw/churn', { token: null });
      return;
    }
    const raw = i % 5 < 3 ? await Raw.connect(server) : await upgraded(server, '/raw/churn', { Authorization: `Bearer ${key}` });
    if (i % 5 < 3) await raw.written(partial);
    if (i % 2) raw.socket.resetAndDestroy();
    else raw.socket.destroy();
  });
  const results = await Promise.all([bench(20000), bench(10000, '--close'), bench(15000, '--dialect', 'centrifuge'), byHand]);
  over = true;
  await watch;
  for (const r of results.slice(0, 3)) assert.ok(JSON.parse(r.out).messages > 0, r.err);
  const end = await until(async () => {
    const m = await metrics(server);
    return m.get('connections_open') === 0 && m.get('subscriptions') === 0 && m.get('channels') === 0 && m.get('sockets_open') === 1 && m;
  }, 'nobody is left', 30000);
  const grown = (name) => end.get(name) - before.get(name);
  assert.equal(grown('connections_upgraded_total'), grown('connections_closed_total'));
  assert.ok(grown('connections_accepted_total') >= scaled(50000) * 0.9, `${grown('connections_accepted_total')} accepted`);
  assert.equal(end.get('queued_bytes'), 0);
  assert.equal(end.get('tls_handshakes_in_flight'), 0);
  for (const [name, value] of end) if (name.startsWith('clients{') || name.startsWith('worker_connections')) assert.equal(value, 0, name);
  console.log(`      ${grown('connections_accepted_total')} accepted, ${grown('connections_upgraded_total')} upgraded, ${scrapes} scrapes`);
}, { seconds: 240 });

await done();

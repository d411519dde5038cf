/* Traces as collectors get them: every field of OTLP in JSON and of Elastic's intake, who is whose child, and that no
 * collector, however it behaves, holds anybody up. */
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import {
  assert, serve, connect, publish, refused, request, metrics, test, done, until, patience, atEnd, certificate, command, fs, API_KEY, ROOST,
} from './lib.mjs';
import { Speaker, settings } from './centrifuge.mjs';

/* ---- collectors ---- */

/* collector keeps every request; answer(request, response) says what it is told. */
async function collector(answer = (_, res) => res.writeHead(200, { 'Content-Type': 'application/json' }).end('{}'), tls = null) {
  const requests = [];
  const take = (req, res) => {
    const parts = [];
    req.on('data', (part) => parts.push(part));
    req.on('end', () => {
      const body = Buffer.concat(parts);
      assert.equal(Number(req.headers['content-length']), body.length);
      requests.push({ method: req.method, url: req.url, headers: req.headers, body: body.toString(), at: performance.now() });
      answer(req, res, requests.length);
    });
  };
  const server = tls ? https.createServer(tls, take) : http.createServer(take);
  const sockets = new Set();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => new Promise((resolve) => {
    server.close(resolve);
    for (const socket of sockets) socket.destroy();
  });
  atEnd(close);
  return { requests, close, connections: () => sockets.size, address: `127.0.0.1:${server.address().port}`, port: server.address().port };
}

async function traced(to, args = [], options = {}) {
  return serve(['--echo', '--workers', '2', '--trace', to, '--trace-sample', '1', ...args], options);
}

const spansOf = (c) => c.requests.flatMap((r) => JSON.parse(r.body).resourceSpans[0].scopeSpans[0].spans);
const named = (spans, name, channel) => spans.filter((s) => s.name === name && (!channel || value(s, 'messaging.destination.name') === channel));
const value = (span, key) => {
  const found = (span.attributes || []).filter((a) => a.key === key);
  assert.ok(found.length <= 1, `${key} twice`);
  return found.length ? Object.values(found[0].value)[0] : undefined;
};
const gotten = (c, wanted, what) => until(() => {
  const spans = spansOf(c);
  return wanted(spans) && spans;
}, what);

/* ---- the schema of OTLP in JSON ---- */

function keys(object, required, optional = []) {
  for (const key of required) assert.ok(key in object, `no ${key} in ${JSON.stringify(object)}`);
  for (const key of Object.keys(object)) assert.ok([...required, ...optional].includes(key), `unknown ${key}`);
}

function checkAttributes(list) {
  const seen = new Set();
  for (const a of list) {
    keys(a, ['key', 'value']);
    assert.ok(!seen.has(a.key), a.key);
    seen.add(a.key);
    keys(a.value, [], ['stringValue', 'intValue', 'boolValue', 'doubleValue']);
    const [[kind, v]] = Object.entries(a.value);
    assert.equal(typeof v, 'string', a.key);
    if (kind === 'intValue') assert.match(v, /^\d{1,19}$/, a.key);
  }
}

function checkSpan(s) {
  keys(s, ['traceId', 'spanId', 'name', 'kind', 'startTimeUnixNano', 'endTimeUnixNano', 'attributes', 'status'], ['parentSpanId']);
  assert.match(s.traceId, /^[0-9a-f]{32}$/);
  assert.match(s.spanId, /^[0-9a-f]{16}$/);
  if (s.parentSpanId !== undefined) assert.match(s.parentSpanId, /^[0-9a-f]{16}$/);
  assert.doesNotMatch(s.traceId + s.spanId, /^0+$/);
  assert.equal(s.kind, { Connection: 2, Message: 5, PUBLISH: 4 }[s.name]);
  for (const at of [s.startTimeUnixNano, s.endTimeUnixNano]) {
    assert.equal(typeof at, 'string');
    assert.match(at, /^\d{19}$/);
    assert.ok(Math.abs(Number(at) / 1e6 - Date.now()) < 120000, `${at} is not now`);
  }
  assert.ok(BigInt(s.endTimeUnixNano) >= BigInt(s.startTimeUnixNano));
  checkAttributes(s.attributes);
  keys(s.status, [], ['code']);
}

function checkRequest(r) {
  assert.equal(r.method, 'POST');
  assert.equal(r.url, '/v1/traces');
  assert.equal(r.headers['content-type'], 'application/json');
  assert.match(r.headers['user-agent'], /^roost\/\d/);
  const body = JSON.parse(r.body);
  keys(body, ['resourceSpans']);
  assert.equal(body.resourceSpans.length, 1);
  keys(body.resourceSpans[0], ['resource', 'scopeSpans']);
  const { resource, scopeSpans } = body.resourceSpans[0];
  keys(resource, ['attributes']);
  checkAttributes(resource.attributes);
  assert.equal(value(resource, 'service.name'), 'roost');
  for (const key of ['service.version', 'service.instance.id', 'host.name']) assert.ok(value(resource, key), key);
  assert.equal(value(resource, 'telemetry.sdk.language'), 'c');
  assert.equal(scopeSpans.length, 1);
  keys(scopeSpans[0], ['scope', 'spans']);
  keys(scopeSpans[0].scope, ['name', 'version']);
  const { spans } = scopeSpans[0];
  assert.ok(spans.length >= 1 && spans.length <= 512);
  spans.forEach(checkSpan);
}

/* ---- OTLP ---- */

test('OTLP: Connection, Message and PUBLISH, field by field', async () => {
  const c = await collector();
  const server = await traced(`otlp+http://${c.address}`, ['--node.name', 'node-7']);
  const parent = { trace: '0af7651916cd43dd8448eb211c80319c', span: 'b7ad6b7169203331' };
  const a = await connect(server, '/raw/chat', { headers: { traceparent: `00-${parent.trace}-${parent.span}-01` } });
  const b = await connect(server, '/raw/chat');
  await a.echo('four');
  assert.equal(await b.next(), 'four');
  await refused(server, '/raw/secret?token=not-a-token', { token: null });
  const spans = await gotten(c, (s) => named(s, 'PUBLISH').length === 1 && named(s, 'Connection').length === 3, 'all spans');
  c.requests.forEach(checkRequest);
  assert.equal(value(JSON.parse(c.requests[0].body).resourceSpans[0].resource, 'service.instance.id'), 'node-7');

  const [message] = named(spans, 'Message');
  const [published] = named(spans, 'PUBLISH');
  assert.equal(named(spans, 'Message').length, 1);
  assert.equal(value(message, 'type'), 'Message');
  assert.equal(value(message, 'messaging.system'), 'roost');
  assert.equal(value(message, 'messaging.operation.type'), 'receive');
  assert.equal(value(message, 'messaging.destination.name'), 'chat');
  assert.equal(value(message, 'messaging.message.body.size'), '4');
  assert.equal(value(message, 'roost.protocol'), 'raw');
  assert.equal(message.parentSpanId, undefined);
  assert.deepEqual(message.status, {});
  assert.equal(published.parentSpanId, message.spanId);
  assert.equal(published.traceId, message.traceId);
  assert.equal(value(published, 'messaging.operation.type'), 'send');
  assert.equal(value(published, 'messaging.destination.name'), 'chat');
  assert.equal(value(published, 'messaging.message.envelope.size'), '6'); /* with the frame's header */
  assert.ok(BigInt(published.startTimeUnixNano) >= BigInt(message.startTimeUnixNano));

  const opened = named(spans, 'Connection').filter((s) => value(s, 'http.response.status_code') === '101');
  const [refusal] = named(spans, 'Connection').filter((s) => value(s, 'http.response.status_code') === '401');
  const [child] = opened.filter((s) => s.parentSpanId);
  assert.equal(opened.length, 2);
  assert.equal(child.traceId, parent.trace);
  assert.equal(child.parentSpanId, parent.span);
  assert.equal(value(child, 'type'), 'Connection');
  assert.equal(value(child, 'http.request.method'), 'GET');
  assert.equal(value(child, 'url.path'), '/raw/chat');
  assert.ok(Number(value(child, 'roost.since_accept_ms')) < 60000);
  assert.equal(value(child, 'roost.worker'), value(message, 'roost.worker'));
  assert.equal(value(child, 'roost.conn'), value(message, 'roost.conn')); /* a sent it */
  assert.equal(value(refusal, 'url.path'), '/raw/secret');
  assert.equal(new Set(spans.map((s) => s.spanId)).size, spans.length);
  for (const r of c.requests) assert.ok(!/not-a-token|four|eyJ/.test(r.body), 'a secret or a payload is in a span');
});

test('SDK clients, API calls, echo: a Message each, a PUBLISH for each publication', async () => {
  const c = await collector();
  const server = await traced(`otlp+http://${c.address}`, settings());
  const speaker = await Speaker.connected(server);
  await speaker.ok('subscribe', { channel: 'news' });
  await speaker.ok('publish', { channel: 'news', data: { a: 1 } });
  await publish(server, 'news', 'from the backend');
  const parent = `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-01`;
  await request(server, {
    method: 'POST', target: '/api/broadcast', headers: { 'X-API-Key': API_KEY, traceparent: parent },
    body: JSON.stringify({ channels: ['news', 'nobody'], data: 1 }),
  });
  await request(server, {
    method: 'POST', target: '/api/batch', headers: { 'X-API-Key': API_KEY },
    body: JSON.stringify({ commands: [{ publish: { channel: 'news', data: 2 } }, { info: {} }, { publish: { channel: 'no:such', data: 2 } }] }),
  });
  const e = await connect(server, '/echo');
  await e.echo('x');
  const via = (spans, name) => named(spans, 'Message').filter((s) => value(s, 'roost.protocol') === name);
  const spans = await gotten(c, (s) => via(s, 'api').length === 4 && via(s, 'echo').length === 1 && named(s, 'PUBLISH').length === 4, 'all spans');
  c.requests.forEach(checkRequest);
  assert.equal(via(spans, 'client').length, 3); /* connect, subscribe, publish */
  const [published] = via(spans, 'client').filter((s) => value(s, 'messaging.destination.name') === 'news');
  const children = (s) => spans.filter((p) => p.parentSpanId === s.spanId);
  assert.equal(children(published).length, 1);
  const [broadcast] = via(spans, 'api').filter((s) => s.parentSpanId === 'cd'.repeat(8));
  assert.equal(broadcast.traceId, 'ab'.repeat(16));
  assert.equal(children(broadcast).length, 1); /* nobody listens to the other channel */
  const [unknown] = via(spans, 'api').filter((s) => value(s, 'roost.result') === '102');
  assert.equal(children(unknown).length, 0);
  for (const p of named(spans, 'PUBLISH')) assert.equal(value(p, 'messaging.destination.name'), 'news');
});

test('traceparent: its sampled flag decides; one that is malformed or given twice counts for nothing', async () => {
  const c = await collector();
  const server = await serve(['--echo', '--trace', `otlp+http://${c.address}`, '--trace-sample', '0']);
  const trace = 'a'.repeat(32);
  const span = 'b'.repeat(16);
  const none = [undefined, `00-${trace}-${span}-00`, `00-${trace}-${'0'.repeat(16)}-01`, `00-${trace.toUpperCase()}-${span}-01`, `00-${trace}-${span}-01-x`,
    `ff-${trace}-${span}-01`, [`00-${trace}-${span}-01`, `00-${trace}-${span}-01`]];
  for (const traceparent of none) await (await connect(server, '/echo', { headers: traceparent ? { traceparent } : {} })).end();
  await (await connect(server, '/echo', { headers: { traceparent: `01-${trace}-${span}-03-later` } })).end();
  const spans = await gotten(c, (s) => s.length, 'a span');
  assert.equal(spans.length, 1);
  assert.equal(spans[0].parentSpanId, span);
  assert.equal((await metrics(server)).get('spans_total{result="sent"}'), 1);
});

test('a token refused by way of the subprotocol: 101, and the code it is closed with', async () => {
  const c = await collector();
  const server = await traced(`otlp+http://${c.address}`);
  const client = await connect(server, '/raw/chat', { token: null, protocols: ['roost.bearer', 'bad-token'] });
  assert.equal((await client.over()).code, 4401);
  const [s] = await gotten(c, (all) => named(all, 'Connection').length, 'the span');
  assert.equal(value(s, 'http.response.status_code'), '101');
  assert.equal(value(s, 'roost.close_code'), '4401');
  assert.ok(!c.requests[0].body.includes('bad-token'));
});

test('one in four: about a quarter of the messages, and each span that is sent is counted', async () => {
  const c = await collector();
  const server = await serve(['--echo', '--workers', '1', '--trace', `otlp+http://${c.address}`, '--trace-sample', '0.25']);
  const client = await connect(server, '/echo');
  const many = 2000;
  for (let i = 0; i < many; i++) client.send('x');
  for (let i = 0; i < many; i++) await client.next();
  await client.end();
  await server.stop(); /* what is left is sent */
  const n = named(spansOf(c), 'Message').length;
  assert.ok(n > many / 4 - 120 && n < many / 4 + 120, `${n} of ${many}`); /* six standard deviations */
});

test('without --trace nothing is traced, and a wrong URL or part is told', async () => {
  const server = await serve(['--echo']);
  await (await connect(server)).echo('x');
  const m = await metrics(server);
  for (const result of ['sent', 'dropped', 'failed']) assert.equal(m.get(`spans_total{result="${result}"}`), 0);
  for (const [flag, text, wanted] of [['--trace', 'http://127.0.0.1:4318', /otlp\+http/], ['--trace', 'otlp+http://a b', /URL|host/],
    ['--trace-sample', '1.5', /0 to 1/], ['--trace_authorization', 'a\nb', /one line/]]) {
    const bad = await command(ROOST, ['serve', '--dev', flag, text], { code: null });
    assert.equal(bad.code, 2, text);
    assert.match(bad.err, wanted);
  }
});

/* ---- Elastic ---- */

const elastic = () => collector((_, res) => res.writeHead(202).end());
const eventsOf = (c) => c.requests.flatMap((r) => r.body.trimEnd().split('\n').slice(1).map((line) => JSON.parse(line)));

function checkCommon(e) {
  assert.match(e.id, /^[0-9a-f]{16}$/);
  assert.match(e.trace_id, /^[0-9a-f]{32}$/);
  if (e.parent_id !== undefined) assert.match(e.parent_id, /^[0-9a-f]{16}$/);
  assert.equal(typeof e.duration, 'number');
  assert.ok(e.duration >= 0 && e.duration < 60000);
  assert.ok(Number.isSafeInteger(e.timestamp) && Math.abs(e.timestamp / 1000 - Date.now()) < 120000);
  assert.ok(['success', 'failure', 'unknown'].includes(e.outcome));
  for (const [key, v] of Object.entries(e.context.tags)) {
    assert.match(key, /^[^.*"]+$/);
    assert.ok(['string', 'number', 'boolean'].includes(typeof v), key);
  }
}

const COMMON = ['id', 'trace_id', 'name', 'duration', 'timestamp', 'outcome', 'type', 'context'];

function checkEvent(event) {
  assert.ok(JSON.stringify(event).length < 307200);
  if (event.span) {
    keys(event, ['span']);
    keys(event.span, [...COMMON, 'parent_id', 'transaction_id', 'subtype', 'action']);
    checkCommon(event.span);
    keys(event.span.context, ['tags'], ['message']);
    return;
  }
  keys(event, ['transaction']);
  keys(event.transaction, [...COMMON, 'result', 'sampled', 'span_count'], ['parent_id', 'sample_rate']);
  checkCommon(event.transaction);
  keys(event.transaction.context, ['tags'], ['request', 'response', 'message']);
  keys(event.transaction.span_count, ['started']);
  assert.ok(Number.isInteger(event.transaction.span_count.started));
}

test('Elastic: transactions Connection and Message, the span PUBLISH, field by field', async () => {
  const c = await elastic();
  const server = await traced(`elastic+http://${c.address}`, ['--node.name', 'node-7', '--trace_authorization', 'ApiKey abc']);
  const a = await connect(server, '/raw/chat', { headers: { traceparent: `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-01` } });
  await a.echo('four');
  await refused(server, '/raw/chat', { token: null });
  await until(() => eventsOf(c).length === 4, 'all events');
  for (const r of c.requests) {
    assert.equal(r.method, 'POST');
    assert.equal(r.url, '/intake/v2/events');
    assert.equal(r.headers['content-type'], 'application/x-ndjson');
    assert.equal(r.headers.authorization, 'ApiKey abc');
    const first = JSON.parse(r.body.split('\n')[0]);
    keys(first, ['metadata']);
    keys(first.metadata, ['service', 'system']);
    keys(first.metadata.service, ['name', 'version', 'agent', 'language', 'node']);
    assert.match(first.metadata.service.name, /^[a-zA-Z0-9 _-]+$/);
    keys(first.metadata.service.agent, ['name', 'version']);
    assert.equal(first.metadata.service.node.configured_name, 'node-7');
    assert.ok(first.metadata.system.detected_hostname);
  }
  const events = eventsOf(c);
  events.forEach(checkEvent);
  const transactions = events.filter((e) => e.transaction).map((e) => e.transaction);
  const [message] = transactions.filter((t) => t.type === 'Message');
  const [opened] = transactions.filter((t) => t.type === 'Connection' && t.result === '101');
  const [refusal] = transactions.filter((t) => t.type === 'Connection' && t.result === '401');
  const [{ span }] = events.filter((e) => e.span);
  assert.equal(opened.trace_id, 'ab'.repeat(16));
  assert.equal(opened.parent_id, 'cd'.repeat(8));
  assert.equal(opened.sample_rate, undefined); /* the parent's counts */
  assert.deepEqual(opened.context.request, { method: 'GET', url: { pathname: '/raw/chat' } });
  assert.deepEqual(opened.context.response, { status_code: 101 });
  assert.deepEqual(refusal.context.response, { status_code: 401 });
  assert.equal(message.result, 'ok');
  assert.equal(message.sample_rate, 1);
  assert.equal(message.span_count.started, 1);
  assert.deepEqual(message.context.message, { queue: { name: 'chat' } });
  assert.equal(message.context.tags.bytes, 4);
  assert.equal(message.context.tags.protocol, 'raw');
  assert.equal(span.name, 'PUBLISH');
  assert.equal(span.parent_id, message.id);
  assert.equal(span.transaction_id, message.id);
  assert.equal(span.trace_id, message.trace_id);
  assert.deepEqual([span.type, span.subtype, span.action], ['messaging', 'roost', 'send']);
  assert.deepEqual(span.context.message, { queue: { name: 'chat' } });
  await until(async () => (await metrics(server)).get('spans_total{result="sent"}') === 4, 'counted');
  assert.ok(!server.log.includes('ApiKey abc'));
});

test('Elastic over TLS; 503 is tried again', async () => {
  const { cert, key } = await certificate();
  const c = await collector((_, res, n) => res.writeHead(n === 1 ? 503 : 202).end(), { cert: fs.readFileSync(cert), key: fs.readFileSync(key) });
  const server = await traced(`elastic+https://localhost:${c.port}`, [], { env: { SSL_CERT_FILE: cert } });
  await (await connect(server)).end();
  await until(() => c.requests.length === 2, 'another attempt');
  assert.equal(c.requests[0].body, c.requests[1].body);
  await until(async () => (await metrics(server)).get('spans_total{result="sent"}') === 1, 'sent');
});

/* ---- collectors that are not well ---- */

/* flows: messages are echoed while the collector is as it is. */
async function flows(server, count = 300) {
  const client = await connect(server, '/raw/flow');
  const start = performance.now();
  for (let i = 0; i < count; i++) await client.echo(`${i}`);
  assert.ok(performance.now() - start < 20000);
  await client.end();
}

/* stopsSoon: what is left is sent for two seconds at most (trace/export.h), so that main need not give up, after five. */
async function stopsSoon(server) {
  await server.stop();
  assert.ok(!server.log.includes('what was left of the traces is given up'));
}

test('a collector that is away: messages flow, spans are counted, the log says so once', async () => {
  const c = await collector();
  await c.close();
  const server = await traced(`otlp+http://${c.address}`, ['--workers', '1']);
  await flows(server);
  await until(async () => (await metrics(server)).get('spans_total{result="failed"}') > 0, 'failed spans');
  const client = await connect(server, '/echo'); /* more than a ring holds: while it is waited for */
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 500; i++) client.send('x');
    for (let i = 0; i < 500; i++) await client.next();
  }
  await until(async () => (await metrics(server)).get('spans_total{result="dropped"}') > 0, 'dropped spans');
  await server.logged(/traces do not reach the collector/);
  assert.equal(server.log.match(/traces do not reach the collector/g).length, 1);
  assert.equal((await metrics(server)).get('spans_total{result="sent"}'), 0);
}, { seconds: 120 });

test('a collector that accepts and never answers holds nobody up, not even the end', async () => {
  const silent = net.createServer((socket) => socket.on('error', () => {}));
  await new Promise((resolve) => silent.listen(0, '127.0.0.1', resolve));
  atEnd(() => silent.close());
  const server = await traced(`otlp+http://127.0.0.1:${silent.address().port}`);
  await flows(server);
  await stopsSoon(server);
});

test('a collector that says 103 and never anything else: counted, and it holds nobody up', async () => {
  const hint = 'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n'.repeat(500);
  const endless = net.createServer((socket) => {
    const more = () => socket.writable && socket.write(hint, more);
    socket.on('error', () => {});
    socket.once('data', more);
    socket.resume();
  });
  await new Promise((resolve) => endless.listen(0, '127.0.0.1', resolve));
  atEnd(() => endless.close());
  const server = await traced(`otlp+http://127.0.0.1:${endless.address().port}`);
  await flows(server);
  await server.logged(/traces do not reach the collector.*only 1xx/);
  await until(async () => (await metrics(server)).get('spans_total{result="failed"}') > 0, 'failed spans');
  await stopsSoon(server);
});

for (const status of [429, 502, 503, 504]) {
  test(`${status} is tried again, later; the same spans, once counted`, async () => {
    const c = await collector((_, res, n) => {
      if (n === 1) res.writeHead(status, { 'Retry-After': '1' }).end('later');
      else res.writeHead(200).end('{}');
    });
    const server = await traced(`otlp+http://${c.address}`);
    await (await connect(server)).end();
    await until(() => c.requests.length >= 2, 'another attempt');
    assert.equal(c.requests[0].body, c.requests[1].body);
    assert.ok(c.requests[1].at - c.requests[0].at >= 900, 'Retry-After');
    await until(async () => (await metrics(server)).get('spans_total{result="sent"}') === 1, 'counted');
    assert.equal((await metrics(server)).get('spans_total{result="failed"}'), 0);
    await server.logged(/traces reach the collector again/);
  });
}

test('400 is not tried again; what a 200 rejects counts as failed', async () => {
  const c = await collector((_, res, n) => {
    if (n === 1) res.writeHead(400).end('no');
    else res.writeHead(200).end('{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}');
  });
  const server = await traced(`otlp+http://${c.address}`);
  const failed = async () => (await metrics(server)).get('spans_total{result="failed"}');
  await (await connect(server)).end();
  await until(async () => (await failed()) === 1, 'refused');
  const client = await connect(server);
  await client.echo('x');
  await until(async () => (await metrics(server)).get('spans_total{result="sent"}') >= 1, 'the rest');
  assert.ok((await failed()) >= 2);
  for (let i = 1; i < c.requests.length; i++) assert.notEqual(c.requests[i].body, c.requests[0].body);
});

test('answers of every kind: in chunks, long, closing, HTTP/1.0, without a body; the connection is kept where it can be', async () => {
  const answers = [
    (res) => res.writeHead(200).end('{}'.padEnd(30000)),
    (res) => { res.writeHead(200); res.write('{'); res.write(' '.repeat(100)); res.end('}'); },
    (res) => res.writeHead(204).end(),
    (res) => res.writeHead(200, { Connection: 'close' }).end('{}'),
    (res) => { res.socket.end('HTTP/1.0 200 OK\r\n\r\n{}'); },
    (res) => { res.socket.write('HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}'); res.socket.resume(); },
  ];
  const ports = [];
  const c = await collector((req, res, n) => {
    ports.push(req.socket.remotePort);
    answers[Math.min(n, answers.length) - 1](res);
  });
  const server = await traced(`otlp+http://${c.address}/base/?k=v`, ['--trace_authorization', 'Bearer of-the-collector']);
  for (let i = 1; i <= answers.length; i++) {
    await (await connect(server)).end();
    await until(async () => (await metrics(server)).get('spans_total{result="sent"}') === i, `answer ${i}`);
  }
  assert.equal(c.requests[0].url, '/base/v1/traces?k=v');
  assert.equal(c.requests[0].headers.authorization, 'Bearer of-the-collector');
  assert.equal(c.requests[0].headers.host, c.address);
  assert.equal(ports[1], ports[2], 'kept behind an answer in chunks');
  assert.equal(ports[2], ports[3], 'kept behind 204');
  assert.notEqual(ports[3], ports[4]);
  assert.ok(!server.log.includes('of-the-collector'));
});

test('garbage for an answer: counted, and the next batch goes on', async () => {
  const c = await collector((req, res, n) => {
    if (n === 1) req.socket.end('SSH-2.0-OpenSSH_9.2\r\n\r\n');
    else if (n === 2) req.socket.write(`HTTP/1.1 200 OK\r\nX: ${'y'.repeat(20000)}\r\n\r\n`);
    else if (n === 3) req.socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n');
    else res.writeHead(200).end('{}');
  });
  const server = await traced(`otlp+http://${c.address}`);
  const total = async (result) => (await metrics(server)).get(`spans_total{result="${result}"}`);
  for (let i = 1; i <= 3; i++) {
    await (await connect(server)).end();
    await until(async () => (await total('failed')) === i, `garbage ${i}`);
  }
  await (await connect(server)).end();
  await until(async () => (await total('sent')) === 1, 'it goes on');
}, { seconds: 120 });

test('TLS: a collector whose certificate is trusted, and one whose is not', async () => {
  const { cert, key } = await certificate();
  const c = await collector(undefined, { cert: fs.readFileSync(cert), key: fs.readFileSync(key) });
  const server = await traced(`otlp+https://${c.address}`, [], { env: { SSL_CERT_FILE: cert } });
  const client = await connect(server, '/raw/chat');
  for (let round = 0; round < 2; round++) {
    await client.echo('x');
    await until(() => c.requests.length > round, 'a batch');
  }
  await client.end();
  await until(() => named(spansOf(c), 'PUBLISH').length === 2, 'all');
  c.requests.forEach(checkRequest);
  const other = await certificate();
  const wary = await traced(`otlp+https://localhost:${c.port}`, [], { env: { SSL_CERT_FILE: other.cert } });
  await (await connect(wary)).end();
  await wary.logged(/traces do not reach the collector.*certificate/);
  assert.equal((await metrics(wary)).get('spans_total{result="sent"}'), 0);
});

await done();

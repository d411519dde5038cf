/* The HTTP side (RFC 9112): refusals with the right status and one line of reason, deadlines, keep-alive. */
import {
  assert, serve, connect, upgraded, upgradeHead, requestHead, bearer, frame, fresh, test, done, until, metrics,
  Raw, OP, KEY, oneLine, request, refused, within, patience, token, API_KEY, SANITIZED, certificate,
} from './lib.mjs';

/* Sends bytes on a connection of their own: the response; the server must end the connection if it says so. */
async function exchange(server, bytes, options) {
  const raw = await Raw.connect(server, options);
  raw.write(bytes);
  const answer = await raw.response();
  if ((answer.headers.connection || '').toLowerCase() === 'close') await raw.over();
  raw.socket.destroy();
  return answer;
}

async function statusOf(server, bytes, status, what) {
  const answer = await exchange(server, bytes);
  assert.equal(answer.status, status, `${what}: ${answer.status} ${answer.body}`);
  oneLine(answer);
  assert.match(answer.headers['content-type'] || '', /^text\/plain/);
  return answer;
}

const up = (headers, ...rest) => upgradeHead('/echo', { ...bearer(), ...headers }, ...rest);

test('400 for malformed heads', async () => {
  const server = await serve(['--echo']);
  const rows = {
    'bare LF': 'GET / HTTP/1.1\nHost: a\n\n',
    'bare LF behind a header': 'GET / HTTP/1.1\r\nHost: a\n\r\n',
    'bare CR in a value': 'GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n',
    folding: 'GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n',
    'white space before the colon': 'GET / HTTP/1.1\r\nHost : a\r\n\r\n',
    'no name': 'GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n',
    'no colon': 'GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n',
    NUL: 'GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n',
    'no Host': 'GET / HTTP/1.1\r\n\r\n',
    'two Hosts': 'GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n',
    'two spaces': 'GET  / HTTP/1.1\r\nHost: a\r\n\r\n',
    'a word too many': 'GET / x HTTP/1.1\r\nHost: a\r\n\r\n',
    'no version': 'GET /\r\nHost: a\r\n\r\n',
    'a space in a name': 'GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n',
    'two Content-Lengths': 'POST /api/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}',
    'a list as Content-Length': 'POST /api/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n{}',
    'a negative Content-Length': 'POST /api/publish HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\n',
    'a Content-Length that overflows': 'POST /api/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551618\r\n\r\n{}',
    'Content-Length and Transfer-Encoding': 'POST /api/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    TLS: Buffer.from('160301020001', 'hex').toString('latin1').padEnd(60, 'x') + '\r\n\r\n',
  };
  for (const [what, bytes] of Object.entries(rows)) {
    await statusOf(server, Buffer.from(bytes, 'latin1'), 400, what);
    await statusOf(server, Buffer.from(bytes, 'latin1'), 400, `${what}, again`);
  }
  await fresh(server);
  assert.equal((await metrics(server)).get('refused_total{reason="bad_request"}') >= Object.keys(rows).length, true);
});

test('400 for opening handshakes that are wrong (RFC 6455 section 4.2.1)', async () => {
  const server = await serve(['--echo']);
  const rows = {
    'no key': up({ 'Sec-WebSocket-Key': null }),
    'a short key': up({ 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZQ==' }),
    'a key that is not base64': up({ 'Sec-WebSocket-Key': '!GhlIHNhbXBsZSBub25jZQ==' }),
    'two keys': up({ 'Sec-WebSocket-Key': [KEY, KEY] }),
    'Content-Length with an upgrade': up({ 'Content-Length': '0' }),
    'Transfer-Encoding with an upgrade': `${up({ 'Transfer-Encoding': 'chunked' })}0\r\n\r\n`,
    'a body with an upgrade': `${up({ 'Content-Length': '2' })}hi`,
  };
  for (const [what, bytes] of Object.entries(rows)) await statusOf(server, bytes, 400, what);
  await fresh(server);
});

test('426 with Sec-WebSocket-Version: 13', async () => {
  const server = await serve(['--echo']);
  for (const version of ['8', '14', '0', null]) {
    const answer = await statusOf(server, up({ 'Sec-WebSocket-Version': version }), 426, `version ${version}`);
    assert.equal(answer.headers['sec-websocket-version'], '13');
  }
  /* RFC 9110 section 7.8: an Upgrade in HTTP/1.0 is to be ignored, so this is a plain GET */
  await statusOf(server, up({}, 'GET', 'HTTP/1.0'), 426, 'HTTP/1.0');
  const plain = await exchange(server, requestHead('GET', '/echo', { Host: 'a', ...bearer() }));
  assert.equal(plain.status, 426); /* a GET without an upgrade (RFC 9110 section 15.5.22) */
  assert.match(plain.headers.upgrade, /websocket/i);
  assert.match(plain.headers.connection, /^upgrade$/i); /* RFC 9110 section 7.8; and the connection goes on */
  const last = await exchange(server, requestHead('GET', '/echo', { Host: 'a', Connection: 'close', ...bearer() }));
  assert.match(last.headers.connection, /^upgrade, close$/i);
  oneLine(plain);
  await fresh(server);
});

test('405 with Allow, 404, 501, 505', async () => {
  const server = await serve(['--echo']);
  for (const method of ['POST', 'PUT', 'DELETE']) {
    const answer = await statusOf(server, up({}, method), 405, method);
    assert.equal(answer.headers.allow, 'GET');
  }
  for (const [target, allow] of [['/raw/x', 'GET'], ['/healthz', 'GET, HEAD']]) {
    const raw = await Raw.connect(server);
    raw.write(requestHead(target === '/raw/x' ? 'HEAD' : 'POST', target, { Host: 'a', 'Content-Length': null }));
    const answer = await raw.response({ head: target === '/raw/x' });
    assert.deepEqual([answer.status, answer.headers.allow], [405, allow], target);
  }
  await statusOf(server, requestHead('GET', '/nowhere', { Host: 'a' }), 404, 'unknown path');
  await statusOf(server, upgradeHead('/nowhere', bearer()), 404, 'unknown path, upgrade');
  await statusOf(server, upgradeHead('/Echo', bearer()), 404, 'paths are case-sensitive');
  await statusOf(server, requestHead('POST', '/api/publish', { Host: 'a', 'Transfer-Encoding': 'gzip', 'X-API-Key': API_KEY }), 501, 'gzip');
  await statusOf(server, requestHead('GET', '/', { Host: 'a' }, 'HTTP/2.0'), 505, 'HTTP/2.0');
  await fresh(server);
});

test('/echo is 404 unless --echo', async () => {
  const server = await serve();
  assert.equal((await refused(server, '/echo')).status, 404);
  await fresh(server);
});

test('414 and 431', async () => {
  const server = await serve(['--echo']);
  await statusOf(server, requestHead('GET', `/${'x'.repeat(8300)}`, { Host: 'a' }), 414, 'long target');
  await statusOf(server, up({ 'X-Long': 'x'.repeat(8200) }), 431, 'long header');
  const many = Object.fromEntries(Array.from({ length: 70 }, (_, i) => [`X-${i}`, 'y']));
  await statusOf(server, up(many), 431, '75 headers');
  /* and it is told before the head ends */
  const raw = await Raw.connect(server);
  raw.write(`GET / HTTP/1.1\r\nHost: a\r\nX-Endless: ${'x'.repeat(9000)}`);
  assert.equal((await raw.response()).status, 431);
  await raw.over();
  await fresh(server);
});

test('a head of nearly 8 KiB is taken, also in pieces', async () => {
  const server = await serve(['--echo']);
  const head = up({ 'X-Padding': 'x'.repeat(7000) });
  const raw = await Raw.connect(server);
  for (let at = 0; at < head.length; at += 500) await raw.written(head.slice(at, at + 500));
  assert.equal((await raw.response()).status, 101);
});

test('413 for a body above the limit, before it is sent', async () => {
  const server = await serve(['--http_api.max_body_size', '1KiB']);
  const head = requestHead('POST', '/api/publish', { Host: 'a', 'X-API-Key': API_KEY, 'Content-Length': '2000' });
  await statusOf(server, head, 413, 'Content-Length');
  const chunk = `7d0\r\n${'x'.repeat(2000)}\r\n0\r\n\r\n`;
  await statusOf(server, requestHead('POST', '/api/publish', { Host: 'a', 'X-API-Key': API_KEY, 'Transfer-Encoding': 'chunked' }) + chunk, 413, 'chunked');
  await fresh(server);
});

test('429 above the rate of handshakes, before the token is looked at', async () => {
  const server = await serve(['--echo', '--client.connection_rate_limit', '2', '--workers', '1']);
  const statuses = [];
  for (let i = 0; i < 30; i++) statuses.push((await exchange(server, upgradeHead('/echo', bearer('bad')))).status);
  assert.ok(statuses.includes(401) && statuses.includes(429), statuses.join(' '));
  const answer = await statusOf(server, upgradeHead('/echo', bearer('bad')), 429, 'still');
  assert.match(answer.headers['retry-after'], /^[1-9]\d?$/);
  oneLine(answer);
  assert.ok((await metrics(server)).get('refused_total{reason="connection_rate"}') >= 1);
  await until(async () => (await exchange(server, upgradeHead('/echo', bearer('bad')))).status === 401, 'the bucket fills again');
});

test('503 above the connection limit, with Retry-After; served again below it', async () => {
  const server = await serve(['--echo', '--client.connection_limit', '3', '--workers', '2']);
  const clients = [];
  for (let i = 0; i < 3; i++) clients.push(await connect(server));
  const seconds = new Set();
  for (let i = 0; i < 12; i++) {
    const answer = await refused(server, '/echo');
    assert.ok([429, 503].includes(answer.status), String(answer.status));
    assert.match(answer.headers['retry-after'], /^[1-9]\d*$/);
    seconds.add(answer.headers['retry-after']);
  }
  assert.ok(seconds.size > 1, 'Retry-After has no jitter');
  assert.equal((await request(server, { target: '/healthz' })).status, 200);
  assert.equal((await request(server, { target: '/readyz' })).status, 503); /* full */
  assert.equal((await metrics(server)).get('refused_total{reason="connection_limit"}'), 12);
  for (const c of clients) await c.echo('as before');
  await clients[0].end();
  await until(async () => (await metrics(server)).get('connections_open') === 2, 'one less');
  await fresh(server);
});

test('the head has one deadline, which single bytes do not extend', async () => {
  const server = await serve(['--echo', '--http_server.handshake_timeout', '700ms', '--workers', '1']);
  const silent = await Raw.connect(server);
  const slow = await Raw.connect(server);
  const start = performance.now();
  const head = up({ 'X-Padding': 'x'.repeat(4000) });
  let at = 0;
  const drip = setInterval(() => slow.write(head[at++]), 20);
  slow.socket.on('error', () => {});
  try {
    await Promise.all([silent.over(), slow.over()]);
  } finally {
    clearInterval(drip);
  }
  const took = performance.now() - start;
  assert.ok(took > 600 && took < patience(3000), `${took} ms`);
  assert.ok(at > 5, 'bytes went out meanwhile');
  if (slow.bytes.length) assert.match(slow.bytes.toString(), /^HTTP\/1\.1 408 /);
  assert.ok((await metrics(server)).get('timeouts_total{what="handshake"}') >= 2);
  await fresh(server);
});

test('a WebSocket is not cut by the deadline of its head', async () => {
  const server = await serve(['--echo', '--http_server.handshake_timeout', '300ms']);
  const client = await connect(server);
  const other = await Raw.connect(server);
  await other.over(); /* 300 ms have passed */
  await client.echo('still here');
});

test('keep-alive and pipelining', async () => {
  const server = await serve(['--echo']);
  const raw = await Raw.connect(server);
  for (let i = 0; i < 3; i++) {
    raw.write(requestHead('GET', '/healthz', { Host: 'a' }));
    const answer = await raw.response();
    assert.equal(answer.status, 200);
    assert.notEqual((answer.headers.connection || '').toLowerCase(), 'close');
  }
  const body = JSON.stringify({ channel: 'x', data: 1 });
  const post = requestHead('POST', '/api/publish', { Host: 'a', 'X-API-Key': API_KEY, 'Content-Length': body.length }) + body;
  raw.write(requestHead('GET', '/healthz', { Host: 'a' }) + post + requestHead('GET', '/nowhere', { Host: 'a' }) +
    requestHead('HEAD', '/healthz', { Host: 'a' }) + requestHead('GET', '/readyz', { Host: 'a' }));
  assert.equal((await raw.response()).status, 200);
  const published = await raw.response();
  assert.equal(published.status, 200);
  assert.deepEqual(JSON.parse(published.body), { result: {} });
  assert.equal((await raw.response()).status, 404);
  const head = await raw.response({ head: true });
  assert.equal(head.status, 200);
  assert.ok(Number(head.headers['content-length']) > 0);
  assert.equal((await raw.response()).status, 200);
  raw.write(requestHead('GET', '/healthz', { Host: 'a', Connection: 'close' }));
  const last = await raw.response();
  assert.equal(last.headers.connection.toLowerCase(), 'close');
  await raw.over();
});

test('200 pipelined requests at once, and an upgrade behind them', async () => {
  const server = await serve(['--echo', '--worker.reads_per_turn', '1', '--worker.receive_buffer', '16KiB']);
  const raw = await Raw.connect(server);
  raw.write(Buffer.concat([
    Buffer.from(requestHead('GET', '/healthz', { Host: 'a' }).repeat(200) + up({})), frame(OP.TEXT, 'and on'),
  ]));
  for (let i = 0; i < 200; i++) assert.equal((await raw.response()).status, 200);
  assert.equal((await raw.response()).status, 101);
  assert.equal((await raw.frame()).payload.toString(), 'and on');
});

test('a head that has begun behind requests that waited has its deadline as well', async () => {
  const server = await serve(['--workers', '1', '--client.queue_max_size', '64KiB', '--http_server.handshake_timeout', '700ms', '--http_server.idle_timeout', '60s']);
  const raw = await Raw.connect(server);
  raw.socket.pause();
  const count = 600;
  raw.write(requestHead('GET', '/metrics', { Host: 'a' }).repeat(count) + 'GET /hea');
  await until(async () => (await metrics(server)).get('http_requests_total') > 10, 'it has begun');
  const before = (await metrics(server)).get('http_requests_total');
  assert.ok(before < count, 'none had to wait');
  raw.socket.resume();
  for (let i = 0; i < count; i++) assert.equal((await raw.response()).status, 200);
  const start = performance.now();
  assert.equal((await raw.response()).status, 408);
  assert.ok(performance.now() - start < patience(3000));
  await raw.over();
  await fresh(server);
});

test('requests that wait while answers are not read are answered though close_notify came with them', async () => {
  const { cert, key } = await certificate();
  const server = await serve(['--workers', '1', '--client.queue_max_size', '64KiB', '--listen', 'ws://127.0.0.1:0', '--listen', 'wss://127.0.0.1:0', '--cert', cert, '--key', key]);
  const raw = await Raw.connect(server, { scheme: 'wss' });
  raw.socket.pause();
  const count = 600;
  server.child.kill('SIGSTOP'); /* so that it finds all of it in one receive */
  await new Promise((resolve) => raw.socket.end(requestHead('GET', '/metrics', { Host: 'a' }).repeat(count), resolve));
  server.child.kill('SIGCONT');
  await until(async () => (await metrics(server)).get('http_requests_total') > 10, 'it has begun');
  assert.ok((await metrics(server)).get('http_requests_total') < count, 'none had to wait');
  raw.socket.resume();
  for (let i = 0; i < count; i++) assert.equal((await raw.response()).status, 200, `answer ${i}`);
  await raw.over();
  await until(async () => (await metrics(server)).get('sockets_open') === 1, 'its socket is gone');
});

test('each answer has a Date, which goes on', async () => {
  const server = await serve();
  const raw = await Raw.connect(server);
  const seen = new Set();
  await until(async () => {
    const before = Math.floor(Date.now() / 1000);
    raw.write(requestHead('GET', seen.size % 2 ? '/nowhere' : '/healthz', { Host: 'a' }));
    const { date } = (await raw.response()).headers;
    assert.match(date, /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT$/);
    const told = Date.parse(date) / 1000;
    assert.ok(told >= before - 1 && told <= Date.now() / 1000, `${date} at ${before}`);
    return seen.add(date).size === 3;
  }, 'three dates');
});

test('HTTP/1.0 closes, unless asked to keep alive', async () => {
  const server = await serve();
  const raw = await Raw.connect(server);
  raw.write('GET /healthz HTTP/1.0\r\n\r\n');
  assert.equal((await raw.response()).status, 200);
  await raw.over();
  await fresh(server);
});

test('an idle keep-alive connection is closed', async () => {
  const server = await serve(['--http_server.idle_timeout', '300ms', '--http_server.handshake_timeout', '20s']);
  const raw = await Raw.connect(server);
  raw.write(requestHead('GET', '/healthz', { Host: 'a' }));
  assert.equal((await raw.response()).status, 200);
  assert.equal((await raw.over()).length, 0);
  assert.ok((await metrics(server)).get('timeouts_total{what="http_idle"}') >= 1);
});

test('methods, case and forms that RFC 9110 allows', async () => {
  const server = await serve(['--echo']);
  const headers = { connection: 'keep-alive, UpGrade', Connection: null, upgrade: 'WebSocket', Upgrade: null };
  await upgraded(server, '/echo', { ...bearer(), ...headers });
  await upgraded(server, 'http://127.0.0.1/echo'); /* absolute form */
  await upgraded(server, '/echo', { authorization: `bearer ${token()}` });
  const raw = await Raw.connect(server);
  raw.write(`\r\n${up({})}`); /* one CRLF before the request line */
  assert.equal((await raw.response()).status, 101);
});

test('every prefix of a request, then FIN or RST: nothing is left behind', async () => {
  const server = await serve(['--echo']);
  const head = up({});
  const step = SANITIZED ? 7 : 1;
  for (let n = 0; n <= head.length; n += step) {
    const raw = await Raw.connect(server);
    if (n) await raw.written(head.slice(0, n));
    if (n % 2) raw.reset();
    else raw.end();
  }
  /* the one that asks is the only socket left */
  await until(async () => (await metrics(server)).get('sockets_open') <= 1, 'all sockets are gone', 20000);
  await fresh(server);
}, { seconds: 90 });

await done();

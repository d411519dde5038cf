/* Behind a balancer: the PROXY protocol and X-Forwarded-For, from whom they are believed (docs/operations.md). */
import { assert, serve, test, done, upgradeHead, bearer, until, metrics, certificate, fresh } from './lib.mjs';
import { api } from './centrifuge.mjs';
import net from 'node:net';
import tls from 'node:tls';

const V1 = 'PROXY TCP4 192.0.2.77 198.51.100.7 56324 443\r\n';
const V2 = Buffer.concat([Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'), Buffer.from([0x21, 0x21, 0, 36]), Buffer.from('20010db8000000000000000000000001', 'hex'),
  Buffer.from('20010db8000000000000000000000002', 'hex'), Buffer.from([0x12, 0x34, 0x01, 0xbb])]);
const LOCAL = Buffer.concat([Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'), Buffer.from([0x20, 0, 0, 0])]);

const from = (...blocks) => blocks.flatMap((b) => ['--http_server.proxy_protocol_from', b]);
const trust = (...blocks) => blocks.flatMap((b) => ['--http_server.trusted_proxies', b]);
/* The API and what only operators may see come by a listener of their own, from where no proxy is. */
const start = async (args) => serve(['--workers', '1', '--listen', 'ws://127.0.0.1:0', ...args]);

/* peers are what the server calls the other ends of its WebSocket connections. */
async function peers(server) {
  const { json } = await api(server, 'connections', {}, { });
  return Object.values(json.result.connections).map((c) => c.peer);
}

function dial(server, localAddress, scheme = 'ws') {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: '127.0.0.1', port: server.port(scheme), localAddress });
    socket.on('connect', () => resolve(socket)).on('error', reject);
  });
}

/* heard answers what comes until there is a blank line, or the end. */
const heard = (socket) => new Promise((resolve) => {
  let text = '';
  socket.on('data', (d) => { text += d.toString('latin1'); if (text.includes('\r\n\r\n')) resolve(text); });
  socket.on('close', () => resolve(text));
  socket.on('error', () => {});
});

test('PROXY version 1 and 2, whole, in bytes, with the request behind it: the client is who it says', async () => {
  const server = await start(from('127.0.0.2'));
  const rows = [[V1, '192.0.2.77:56324', false], [V2, '[2001:db8::1]:4660', false], [V1, '192.0.2.77:56324', true], [V2, '[2001:db8::1]:4660', true], [LOCAL, /^127\.0\.0\.2:/, false],
    ['PROXY UNKNOWN\r\n', /^127\.0\.0\.2:/, false]];
  for (const [header, peer, slowly] of rows) {
    const socket = await dial(server, '127.0.0.2');
    socket.setNoDelay(true);
    const bytes = Buffer.concat([Buffer.from(header), Buffer.from(upgradeHead('/raw/a', bearer()))]);
    const answer = heard(socket);
    if (slowly) {
      for (let i = 0; i < header.length + 20; i++) {
        socket.write(bytes.subarray(i, i + 1));
        if (i % 8 === 0) await new Promise((r) => setTimeout(r, 2));
      }
      socket.write(bytes.subarray(header.length + 20));
    } else socket.write(bytes);
    assert.match(await answer, /^HTTP\/1.1 101/);
    const seen = await peers(server);
    assert.equal(seen.length, 1);
    if (typeof peer === 'string') assert.equal(seen[0], peer);
    else assert.match(seen[0], peer);
    socket.destroy();
    await until(async () => (await peers(server)).length === 0, 'it has gone');
  }
});

test('over TLS the header comes before the handshake', async () => {
  const { cert, key } = await certificate();
  const server = await serve(['--workers', '1', '--listen', 'ws://127.0.0.1:0', '--listen', 'wss://127.0.0.1:0', '--cert', cert, '--key', key, ...from('127.0.0.2')]);
  const socket = await dial(server, '127.0.0.2', 'wss');
  socket.write(V1);
  const secure = tls.connect({ socket, rejectUnauthorized: false, servername: 'localhost' });
  secure.write(upgradeHead('/raw/a', bearer()));
  assert.match(await heard(secure), /^HTTP\/1.1 101/);
  assert.deepEqual(await peers(server), ['192.0.2.77:56324']);
  secure.destroy();
});

test('no header, a wrong one, half a one and then the end: refused and counted; others need none, and may give none', async () => {
  const server = await start([...from('127.0.0.2'), '--http_server.handshake_timeout', '1s']);
  const bad = [upgradeHead('/raw/a', bearer()), 'PROXY TCP4 nonsense\r\n', Buffer.alloc(300, 'PROXY '), V1.replace('\r\n', '\n')];
  for (const bytes of bad) {
    const socket = await dial(server, '127.0.0.2');
    const answer = heard(socket);
    socket.write(bytes);
    assert.equal(await answer, '');
  }
  const half = await dial(server, '127.0.0.2');
  half.end(V1.slice(0, 20));
  assert.equal(await heard(half), '');
  const never = await dial(server, '127.0.0.2');
  never.write(V1.slice(0, 20)); /* the handshake's deadline ends it */
  assert.equal(await heard(never), '');
  assert.ok((await metrics(server)).get('refused_total{reason="proxy_header"}') >= 5);
  const other = await dial(server, '127.0.0.3');
  other.write(V1 + upgradeHead('/raw/a', bearer()));
  assert.match(await heard(other), /^HTTP\/1.1 400/);
  other.destroy();
  await fresh(server);
});

test('who comes from elsewhere through a balancer on this host sees nothing that is for operators', async () => {
  const server = await start(from('127.0.0.2'));
  for (const [header, status] of [[V1, 404], ['PROXY TCP4 127.0.0.1 127.0.0.1 5 6\r\n', 200]]) {
    const socket = await dial(server, '127.0.0.2');
    socket.write(`${header}GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    assert.match(await heard(socket), new RegExp(`^HTTP/1.1 ${status}`));
    socket.destroy();
  }
});

test('whoever a trusted proxy on this host speaks for is not local, be it said in words that nobody can read', async () => {
  const server = await start(trust('127.0.0.2'));
  for (const [header, status] of [['', 200], ['X-Forwarded-For: 203.0.113.5\r\n', 404], ['X-Forwarded-For: unknown\r\n', 404], ['X-Forwarded-For: fe80::1%eth0\r\n', 404], ['X-Forwarded-For: \r\n', 404]]) {
    const socket = await dial(server, '127.0.0.2');
    socket.write(`GET /metrics HTTP/1.1\r\nHost: x\r\n${header}Connection: close\r\n\r\n`);
    assert.match(await heard(socket), new RegExp(`^HTTP/1.1 ${status}`), header);
    socket.destroy();
  }
});

test('X-Forwarded-For: the last address that is no trusted proxy\'s; only from trusted proxies', async () => {
  const server = await start(trust('127.0.0.2', '10.0.0.0/8'));
  const rows = [
    ['127.0.0.2', ['192.0.2.1'], '192.0.2.1'], ['127.0.0.2', ['6.6.6.6, 192.0.2.1'], '192.0.2.1'], ['127.0.0.2', ['6.6.6.6, 192.0.2.1, 10.1.2.3'], '192.0.2.1'],
    ['127.0.0.2', ['6.6.6.6', '192.0.2.1 , 10.1.2.3'], '192.0.2.1'], ['127.0.0.2', ['192.0.2.1:4711'], '192.0.2.1:4711'], ['127.0.0.2', ['[2001:db8::9]:1'], '[2001:db8::9]:1'],
    ['127.0.0.2', ['2001:db8::9'], '[2001:db8::9]'], ['127.0.0.2', ['10.9.9.9'], '10.9.9.9'], ['127.0.0.2', ['unknown'], /^127\.0\.0\.2:/], ['127.0.0.2', ['192.0.2.1, _secret'], /^127\.0\.0\.2:/],
    ['127.0.0.2', [''], /^127\.0\.0\.2:/], ['127.0.0.2', null, /^127\.0\.0\.2:/], ['127.0.0.3', ['192.0.2.1'], /^127\.0\.0\.3:/],
  ];
  for (const [local, forwarded, peer] of rows) {
    const socket = await dial(server, local);
    socket.write(upgradeHead('/raw/a', { ...bearer(), ...(forwarded && { 'X-Forwarded-For': forwarded }) }));
    assert.match(await heard(socket), /^HTTP\/1.1 101/);
    const [seen] = await peers(server);
    if (typeof peer === 'string') assert.equal(seen, peer, JSON.stringify(forwarded));
    else assert.match(seen, peer, JSON.stringify(forwarded));
    socket.destroy();
    await until(async () => (await peers(server)).length === 0, 'it has gone');
  }
});

test('both: the balancer says by PROXY who the proxy is, and that one whom it speaks for', async () => {
  const server = await start([...from('127.0.0.2'), ...trust('10.0.0.0/8')]);
  const rows = [['PROXY TCP4 10.0.0.5 198.51.100.7 1 2\r\n', '192.0.2.9'], [V1, '192.0.2.77:56324']];
  for (const [header, peer] of rows) {
    const socket = await dial(server, '127.0.0.2');
    socket.write(header + upgradeHead('/raw/a', { ...bearer(), 'X-Forwarded-For': '192.0.2.9' }));
    assert.match(await heard(socket), /^HTTP\/1.1 101/);
    assert.deepEqual(await peers(server), [peer]);
    socket.destroy();
    await until(async () => (await peers(server)).length === 0, 'it has gone');
  }
});

test('blocks that are none are said at the start', async () => {
  for (const block of ['10.0.0.1/8', 'balancer', '10.0.0.0/33'])
    await assert.rejects(start(from(block)), /is no address, and no block/);
});

await done();

/* wss://: versions, certificates, resumption, ALPN, and handshakes that break off anywhere. */
import {
  assert, serve, connect, upgraded, upgradeHead, bearer, fresh, test, done, command, certificate, metrics, until, Raw, frame, closeFrame, OP,
  SANITIZED, spread, scaled, token, request, requestHead, within, patience, path, temporary, fs,
} from './lib.mjs';
import crypto from 'node:crypto';
import net from 'node:net';
import stream from 'node:stream';
import tls from 'node:tls';

async function secure(args = [], kind = 'ec') {
  const pair = await certificate(kind);
  const server = await serve(['--listen', 'wss://127.0.0.1:0', '--listen', 'ws://127.0.0.1:0', '--cert', pair.cert, '--key', pair.key, '--echo', ...args]);
  return Object.assign(server, pair);
}

const served = (server, options = {}) => fresh(server, '/raw/fresh', { scheme: 'wss', rejectUnauthorized: true, ca: server.ca, ...options });
const sclient = (server, args, input, options) =>
  command('openssl', ['s_client', '-connect', `127.0.0.1:${server.port('wss')}`, '-CAfile', server.cert, '-verify_return_error', '-ign_eof', ...args], { input, ...options });
const GET = `${requestHead('GET', '/healthz', { Host: 'a', Connection: 'close' })}`;

for (const kind of ['ec', 'rsa']) {
  test(`openssl s_client with an ${kind} certificate: TLS 1.2 and 1.3`, async () => {
    const server = await secure([], kind);
    for (const version of ['1_2', '1_3']) {
      const { out } = await sclient(server, [`-tls${version}`, '-alpn', 'h2,http/1.1'], GET);
      assert.match(out, /Verify return code: 0 \(ok\)|Verification: OK/);
      assert.match(out, new RegExp(`TLSv1\\.${version[2]}`));
      assert.match(out, /ALPN protocol: http\/1\.1/);
      assert.match(out, /HTTP\/1\.1 200 /);
    }
    await served(server);
  });
}

test('TLS 1.1, h2 alone, a foreign group: refused with an alert', async () => {
  const server = await secure();
  for (const args of [['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0'], ['-alpn', 'h2'], ['-tls1_2', '-cipher', 'AES128-SHA']]) {
    const result = await sclient(server, args, GET, { code: null });
    assert.notEqual(result.code, 0, args.join(' '));
    assert.doesNotMatch(result.out, /HTTP\/1\.1 200/);
  }
  await served(server);
  assert.ok((await metrics(server)).get('tls_handshakes_total{result="failed"}') >= 2);
});

test('renegotiation is not done', async () => {
  const server = await secure();
  const result = await sclient(server, ['-tls1_2'], 'R\nx', { code: null });
  assert.doesNotMatch(result.out + result.err, /HTTP\/1\.1 101/);
  await served(server);
});

test('messages of every size, both ways', async () => {
  const server = await secure(['--max-message', '16MiB', '--workers', '2']);
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const client = await connect(server, '/echo', { scheme: 'wss', minVersion: version, maxVersion: version });
    for (const n of [0, 1, 125, 16384 - 4, 16384, 16385, 65536, 1 << 20, SANITIZED ? 2 << 20 : 16 << 20]) {
      const bytes = Buffer.alloc(n, crypto.randomBytes(1009));
      client.send(bytes);
      assert.ok(bytes.equals(await client.next(60000)), `${n} bytes`);
    }
    for (let i = 0; i < 2000; i++) client.send(`m${i}`);
    for (let i = 0; i < 2000; i++) assert.equal(await client.next(), `m${i}`);
    assert.equal((await client.end(1000)).code, 1000);
  }
});

test('raw channels over TLS and plain TCP together', async () => {
  const server = await secure(['--workers', '2']);
  const clients = [];
  for (let i = 0; i < 10; i++) clients.push(await connect(server, '/raw/mix', { scheme: i % 2 ? 'ws' : 'wss' }));
  for (let i = 0; i < 300; i++) clients[i % 10].send(`m${i}`.padEnd(i * 10, '.'));
  for (const c of clients) await until(() => c.inbox.length === 300, 'all have all');
  for (const c of clients) assert.deepEqual(c.inbox, clients[0].inbox);
});

test('an echo client over TLS that does not read loses nothing', async () => {
  const server = await secure(['--client.queue_max_size', '64KiB', '--workers', '1']);
  const raw = await upgraded(server, '/echo', bearer(), { scheme: 'wss' });
  raw.socket.pause();
  const count = scaled(2000, 400);
  const all = Buffer.concat(Array.from({ length: count }, (_, i) => frame(OP.BINARY, Buffer.alloc(8192, i & 255))));
  raw.write(all);
  let before = -1;
  await until(async () => {
    const now = (await metrics(server)).get('bytes_received_total');
    const stuck = now - before < 4000; /* the one that asks */
    before = now;
    await (await connect(server)).end();
    return stuck || now > all.length;
  }, 'the server reads no further', 20000);
  raw.socket.resume();
  for (let i = 0; i < count; i++) {
    const f = await raw.frame(30000);
    assert.ok(f.payload.length === 8192 && f.payload[0] === (i & 255));
  }
});

function sessionClient(server, version, session) {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host: '127.0.0.1', port: server.port('wss'), ca: server.ca, minVersion: version, maxVersion: version, session, ALPNProtocols: ['http/1.1'] });
    let ticket = null;
    let text = '';
    socket.on('session', (s) => (ticket = s));
    socket.on('secureConnect', () => socket.write(GET));
    socket.on('data', (d) => (text += d));
    socket.on('end', () => resolve({ reused: socket.isSessionReused(), ticket: ticket || socket.getSession(), text }));
    socket.on('error', reject);
  });
}

for (const version of ['TLSv1.2', 'TLSv1.3']) {
  test(`${version}: a session resumes on whatever worker it lands`, async () => {
    const server = await secure(['--workers', '2']);
    const first = await sessionClient(server, version);
    assert.equal(first.reused, false);
    let ticket = first.ticket;
    const count = 16;
    for (let i = 0; i < count; i++) {
      const next = await sessionClient(server, version, ticket);
      assert.equal(next.reused, true, `connection ${i}`);
      assert.match(next.text, /^HTTP\/1\.1 200 /);
      if (version === 'TLSv1.3') ticket = next.ticket; /* a ticket is for one use */
    }
    assert.equal((await metrics(server)).get('tls_handshakes_total{result="resumed"}'), count);
  });
}

test('http_server.tls.ticket_key: sessions resume after a restart, on another host, and while a key is replaced', async () => {
  const dir = temporary();
  const file = (name) => {
    const at = path.join(dir, name);
    fs.writeFileSync(at, crypto.randomBytes(80), { mode: 0o600 });
    return at;
  };
  const [old, next] = [file('old'), file('next')];
  const link = path.join(dir, 'ticket.key'); /* what the servers are given */
  fs.copyFileSync(old, link);
  const one = await secure(['--http_server.tls.ticket_key', link]);
  const pair = { cert: one.cert, key: one.key, ca: one.ca };
  const { ticket } = await sessionClient(one, 'TLSv1.3');
  const again = Object.assign(await serve(['--listen', 'wss://127.0.0.1:0', '--cert', pair.cert, '--key', pair.key, '--http_server.tls.ticket_key', next, '--http_server.tls.ticket_key', link]), pair);
  assert.equal((await sessionClient(again, 'TLSv1.3', ticket)).reused, true, 'the other host has the key as its second');
  const newer = (await sessionClient(again, 'TLSv1.3')).ticket;
  assert.equal((await sessionClient(one, 'TLSv1.3', newer)).reused, false, 'this one has not the new key yet');
  fs.copyFileSync(next, link);
  one.child.kill('SIGHUP');
  await one.logged(/certificates read again/);
  assert.equal((await sessionClient(one, 'TLSv1.3', newer)).reused, true, 'now it has');
  fs.writeFileSync(link, 'too short');
  one.child.kill('SIGHUP');
  await one.logged(/the old certificates stay/);
  assert.equal((await sessionClient(one, 'TLSv1.3', newer)).reused, true, 'a file that is none changes nothing');
  await served(one);
});

test('a ticket of another server, or of another certificate, is no way in', async () => {
  const one = await secure();
  const other = await secure();
  const { ticket } = await sessionClient(one, 'TLSv1.3');
  const result = await sessionClient(Object.assign(Object.create(other), { ca: [one.ca, other.ca] }), 'TLSv1.3', ticket);
  assert.equal(result.reused, false);
  await served(other);
});

/* ---- handshakes in pieces ---- */

/* A TLS client whose bytes to the server go through gate(chunk, socket, done). */
function through(server, gate, version) {
  const socket = net.connect({ host: '127.0.0.1', port: server.port('wss'), noDelay: true });
  const pipe = new stream.Duplex({
    read() {},
    write(chunk, encoding, callback) {
      gate(chunk, socket, callback);
    },
  });
  socket.on('data', (d) => pipe.push(d));
  socket.on('end', () => pipe.push(null));
  socket.on('error', () => pipe.destroy());
  const client = tls.connect({ socket: pipe, rejectUnauthorized: false, minVersion: version, maxVersion: version });
  client.on('error', () => {});
  return { socket, client };
}

async function handshakeSize(server, version) {
  let sent = 0;
  const { socket, client } = through(server, (chunk, s, callback) => {
    sent += chunk.length;
    s.write(chunk, callback);
  }, version);
  await within(new Promise((resolve) => client.once('secureConnect', resolve)), patience(5000), 'handshake');
  client.write(upgradeHead('/echo', bearer()));
  await within(new Promise((resolve) => client.once('data', resolve)), patience(5000), '101');
  socket.destroy();
  return sent;
}

for (const version of ['TLSv1.2', 'TLSv1.3']) {
  test(`${version}: the client is gone at every byte of handshake and upgrade`, async () => {
    const server = await secure(['--workers', '1']);
    const size = await handshakeSize(server, version);
    const auth = bearer();
    const step = SANITIZED ? 11 : 1;
    const cuts = [];
    for (let n = 0; n <= size; n += step) cuts.push(n);
    await spread(cuts.length, 8, (i) => {
      const n = cuts[i];
      let left = n;
      return within(new Promise((resolve) => {
        const { socket, client } = through(server, (chunk, s, callback) => {
          const part = chunk.subarray(0, left);
          left -= part.length;
          s.write(part, () => {
            if (left === 0) {
              if (n % 2) s.resetAndDestroy();
              else s.end();
            }
            callback();
          });
        }, version);
        client.on('secureConnect', () => client.write(upgradeHead('/echo', auth)));
        socket.on('end', () => socket.destroy());
        socket.on('close', resolve);
        if (n === size) client.on('data', () => socket.destroy());
        client.on('close', () => socket.destroy());
      }), patience(10000), `end after ${n} bytes`);
    });
    await until(async () => {
      const m = await metrics(server);
      return m.get('sockets_open') <= 1 && m.get('tls_handshakes_in_flight') === 0;
    }, 'nothing is left', 20000);
    await served(server);
  }, { seconds: 120 });
}

test('a handshake that comes byte by byte', async () => {
  const server = await secure();
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const { client, socket } = through(server, async (chunk, s, callback) => {
      for (const byte of chunk) await new Promise((resolve) => s.write(Buffer.from([byte]), resolve));
      callback();
    }, version);
    await within(new Promise((resolve) => client.once('secureConnect', resolve)), patience(10000), 'handshake');
    client.write(GET);
    const data = await within(new Promise((resolve) => client.once('data', resolve)), patience(10000), 'answer');
    assert.match(data.toString(), /^HTTP\/1\.1 200 /);
    socket.destroy();
  }
});

test('what is no TLS on a TLS port, and TLS on a plain port', async () => {
  const server = await secure();
  for (const bytes of [GET, '\0', Buffer.alloc(1000, 0x16), Buffer.from('1603010005', 'hex'), Buffer.from('160301ffff', 'hex'), crypto.randomBytes(5000), Buffer.concat([Buffer.from('1603010200', 'hex'), crypto.randomBytes(512)])]) {
    const socket = net.connect(server.port('wss'), '127.0.0.1');
    socket.on('error', () => {}).resume();
    socket.end(bytes);
    await within(new Promise((resolve) => socket.on('close', resolve)), patience(10000), 'end');
  }
  await assert.rejects(within(new Promise((_, reject) => tls.connect({ port: server.port('ws'), host: '127.0.0.1' }).on('error', reject)), patience(10000), 'end'));
  await served(server);
});

test('the deadline covers TLS and head together', async () => {
  const server = await secure(['--http_server.handshake_timeout', '600ms']);
  const silent = net.connect(server.port('wss'), '127.0.0.1');
  const half = net.connect(server.port('wss'), '127.0.0.1', () => half.write(Buffer.from('1603010200', 'hex')));
  const headless = await Raw.connect(server, { scheme: 'wss' }); /* TLS done, no request */
  const gone = (s) => within(new Promise((resolve) => s.on('close', resolve).on('error', resolve).resume()), patience(5000), 'cut');
  await Promise.all([gone(silent), gone(half), headless.over()]);
  await until(async () => (await metrics(server)).get('tls_handshakes_in_flight') === 0, 'none in flight');
  await served(server);
});

test('half-open handshakes are capped; others are served when they are gone', async () => {
  const server = await secure(['--http_server.tls.max_handshakes', '4', '--http_server.handshake_timeout', '800ms']);
  const halves = [];
  for (let i = 0; i < 30; i++) {
    const s = net.connect(server.port('wss'), '127.0.0.1', () => s.write(Buffer.from('16030102000100', 'hex')));
    halves.push(within(new Promise((resolve) => s.on('close', resolve).on('error', resolve).resume()), patience(10000), 'cut'));
  }
  await until(async () => (await metrics(server)).get('tls_handshakes_in_flight') > 0, 'some are in flight');
  assert.ok((await metrics(server)).get('tls_handshakes_in_flight') <= 4);
  await Promise.all(halves);
  await served(server);
});

test('close_notify ends both sides', async () => {
  const server = await secure();
  const raw = await upgraded(server, '/echo', bearer(), { scheme: 'wss' });
  raw.write(Buffer.concat([frame(OP.TEXT, 'a'), closeFrame(1000)]));
  assert.equal((await raw.frame()).payload.toString(), 'a');
  assert.equal((await raw.closeFrame()).code, 1000);
  await raw.over();
  raw.end();
  const quiet = await upgraded(server, '/echo', bearer(), { scheme: 'wss' });
  quiet.end();
  await quiet.over();
  await until(async () => (await metrics(server)).get('sockets_open') <= 1, 'gone');
  await served(server);
});

test('a key that does not belong to the certificate: exit with one line', async () => {
  const a = await certificate();
  const b = await certificate();
  await assert.rejects(serve(['--listen', 'wss://127.0.0.1:0', '--cert', a.cert, '--key', b.key]), /server ended.*(key|certificate)/s);
}, {});

test('many TLS clients', async () => {
  const server = await secure(['--workers', '2']);
  const auth = token();
  const clients = [];
  await spread(scaled(500, 50), 20, async (i) => {
    const c = await connect(server, '/echo', { scheme: 'wss', token: auth });
    await c.echo(`client ${i}`);
    clients.push(c);
  });
  await spread(clients.length, 100, (i) => clients[i].echo('again'));
  assert.equal((await metrics(server)).get('connections_open'), clients.length);
});

await done();

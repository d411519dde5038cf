/* A reload: SIGHUP replaces the configuration as a whole while connections go on, or nothing; certificates also
 * by themselves when their files change (docs/operations.md). */
import { assert, bearer, frame, OP, upgraded, fs, path, serve, connect, refused, request, metrics, token, test, done, until, patience, temporary, scaled, spread } from './lib.mjs';
import { Speaker, OPEN, HISTORY } from './centrifuge.mjs';
import tls from 'node:tls';
import { spawnSync } from 'node:child_process';

/* make writes a certificate for names, as a tool that renews them does: each file whole, one after the other. */
function make(dir, names, { key = true } = {}) {
  const [certFile, keyFile] = [path.join(dir, 'cert.pem'), path.join(dir, 'key.pem')];
  const made = spawnSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', '/CN=roost',
    '-addext', `subjectAltName=${names.map((n) => `DNS:${n}`).join(',')}`, '-keyout', `${keyFile}.new`, '-out', `${certFile}.new`]);
  assert.equal(made.status, 0, made.stderr.toString());
  fs.renameSync(`${certFile}.new`, certFile);
  if (key) fs.renameSync(`${keyFile}.new`, keyFile);
  return { cert: certFile, key: keyFile };
}

const shown = (server, servername) => new Promise((resolve, reject) => {
  const socket = tls.connect({ host: '127.0.0.1', port: server.port('wss'), servername, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] }, () => {
    resolve({ print: socket.getPeerCertificate().fingerprint256, names: socket.getPeerCertificate().subjectaltname });
    socket.destroy();
  });
  socket.on('error', reject);
});

const start = (pairs, args = []) => serve(['--listen', 'wss://127.0.0.1:0', '--workers', '2', ...pairs.flatMap((p) => ['--cert', p.cert, '--key', p.key]), ...args]);

test('several certificates: the one with the name that is asked for', async () => {
  const [a, b, c] = [make(temporary(), ['localhost']), make(temporary(), ['a.test', 'b.test']), make(temporary(), ['*.c.test'])];
  const server = await start([a, b, c]);
  const rows = [['localhost', 'DNS:localhost'], ['b.test', 'DNS:a.test, DNS:b.test'], ['x.c.test', 'DNS:*.c.test'], ['y.x.c.test', 'DNS:localhost'], ['other.test', 'DNS:localhost']];
  for (const [name, names] of rows) assert.equal((await shown(server, name)).names, names, name);
});

test('SIGHUP: new handshakes see the renewed certificate, connections go on, a bad one is refused', async () => {
  const dir = temporary();
  const pair = make(dir, ['localhost']);
  const server = await start([pair]);
  const before = await shown(server, 'localhost');
  const clients = [];
  await spread(scaled(100, 20), 10, async () => clients.push(await connect(server, '/raw/a', { scheme: 'wss' })));
  make(dir, ['localhost']);
  server.child.kill('SIGHUP');
  await until(async () => (await shown(server, 'localhost')).print !== before.print, 'the new one');
  await server.logged(/msg="certificates read again" count=1/);
  clients[0].send('still here');
  for (const c of clients) assert.equal(await c.next(), 'still here');
  const good = await shown(server, 'localhost');
  fs.writeFileSync(pair.cert, 'not a certificate');
  server.child.kill('SIGHUP');
  await server.logged(/reload failed: nothing has changed/);
  assert.equal((await shown(server, 'localhost')).print, good.print);
  clients[1].send('and now');
  for (const c of clients) assert.equal(await c.next(), 'and now');
});

test('a renewed file is noticed without a signal; a certificate without its key is not taken', async () => {
  const dir = temporary();
  make(dir, ['localhost']);
  const server = await start([{ cert: path.join(dir, 'cert.pem'), key: path.join(dir, 'key.pem') }]);
  const before = await shown(server, 'localhost');
  make(dir, ['localhost'], { key: false }); /* caught in the middle */
  await server.logged(/the old certificates stay/);
  assert.equal((await shown(server, 'localhost')).print, before.print);
  fs.renameSync(path.join(dir, 'key.pem.new'), path.join(dir, 'key.pem'));
  await until(async () => (await shown(server, 'localhost')).print !== before.print, 'the new one', patience(20000));
}, { seconds: 60 });

test('the deploy hook for certbot, as docs/operations.md has it', async () => {
  const [etc, lineage] = [temporary(), temporary()];
  make(etc, ['localhost']);
  const server = await start([{ cert: path.join(etc, 'cert.pem'), key: path.join(etc, 'key.pem') }], ['--listen', 'ws://127.0.0.1:0']);
  const before = await shown(server, 'localhost');
  const renewed = make(lineage, ['localhost']);
  fs.renameSync(renewed.cert, path.join(lineage, 'fullchain.pem'));
  fs.renameSync(renewed.key, path.join(lineage, 'privkey.pem'));
  const text = fs.readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8').match(/```sh-example\n(#!\/bin\/sh[^`]*RENEWED_LINEAGE[^]*?)```/)[1];
  const group = spawnSync('id', ['-gn']).stdout.toString().trim();
  const hook = spawnSync('/bin/sh', ['-c', text.replaceAll('/etc/roost', etc).replaceAll('-g roost', `-g ${group}`)], { env: { PATH: process.env.PATH, RENEWED_LINEAGE: lineage } });
  assert.equal(hook.status, 0, hook.stderr.toString());
  assert.equal(fs.statSync(path.join(etc, 'key.pem')).mode & 0o777, 0o640);
  await until(async () => (await shown(server, 'localhost')).print !== before.print, 'the new one', patience(20000));
  const end = (file) => Date.parse(spawnSync('openssl', ['x509', '-in', file, '-noout', '-enddate']).stdout.toString().trim().slice('notAfter='.length)) / 1000;
  const reads = (m, result) => m.get(`certificate_reads_total{result="${result}"}`);
  const m = await until(async () => { const now = await metrics(server); return reads(now, 'ok') && now; }, 'told to /metrics', patience(20000));
  assert.equal(m.get('certificate_not_after_seconds'), end(path.join(etc, 'cert.pem')));
  fs.writeFileSync(path.join(etc, 'cert.pem'), 'no certificate');
  await until(async () => reads(await metrics(server), 'failed') > reads(m, 'failed'), 'one that is refused is counted', patience(20000));
  assert.equal((await metrics(server)).get('certificate_not_after_seconds'), m.get('certificate_not_after_seconds'));
}, { seconds: 60 });

test('what does not fit is said at the start', async () => {
  const [a, b] = [make(temporary(), ['a.test']), make(temporary(), ['b.test'])];
  await assert.rejects(serve(['--listen', 'wss://127.0.0.1:0', '--cert', a.cert, '--cert', b.cert, '--key', a.key]), /2 certificates and 1 keys/);
  await assert.rejects(serve(['--listen', 'wss://127.0.0.1:0', '--cert', a.cert, '--cert', b.cert, '--key', b.key, '--key', a.key]), /does not belong/);
});

/* ---- the configuration ---- */

const KEY = 'reload-api-key-0123456789';
const secret = (n) => `reload-secret-number-${n}-that-is-long-enough`;
const signed = (n, claims) => token(claims, { secret: secret(n), watched: false });

/* base is a configuration with the n-th secret, the one before it still good. */
const base = (n, { client = {}, channel = {}, ...rest } = {}) => ({
  client: { token: { hmac_secret_key: secret(n), hmac_previous_secret_key: secret(n - 1) }, ...client },
  channel: { without_namespace: OPEN, ...channel },
  http_api: { key: KEY },
  ...rest,
});

/* configured serves a configuration; server.reload(text or object) puts another one in place and waits for the result. */
async function configured(config, args = []) {
  const file = path.join(temporary(), 'roost.json');
  const write = (c) => {
    fs.writeFileSync(`${file}.new`, typeof c === 'string' ? c : JSON.stringify(c));
    fs.renameSync(`${file}.new`, file);
  };
  write(config);
  const server = await serve(['--config', file, '--workers', '2', ...args], { env: { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: '', ROOST_HTTP_API_KEY: '' } });
  const times = (text) => server.log.split(text).length - 1;
  server.again = async (outcome, change) => {
    const before = times(outcome);
    change();
    server.child.kill('SIGHUP');
    await until(() => times(outcome) > before, `${outcome}; log: ${server.log.slice(-1500)}`, patience(20000));
  };
  server.reload = (c) => server.again('msg=reloaded', () => write(c));
  server.fails = (c) => server.again('reload failed: nothing has changed', () => write(c));
  server.with = (n, claims) => ({ token: signed(n, claims) });
  server.api = async (method, body) => JSON.parse((await request(server, {
    method: 'POST', target: `/api/${method}`, headers: { 'X-API-Key': KEY }, body: JSON.stringify(body),
  })).body);
  return server;
}

const counted = (socket, seen) => socket.on('message', (data) => {
  for (const [, n] of data.toString().matchAll(/n(\d+)\./g)) seen.push(Number(n));
});

test('20 reloads under traffic: other secrets, limits and namespaces each time; nobody is closed and nothing is lost', async () => {
  const each = scaled(500, 40);
  const server = await configured(base(1));
  const all = [];
  const add = (socket) => {
    const one = { seen: [], closed: null };
    counted(socket, one.seen);
    socket.on('close', (code) => { one.closed = code; });
    all.push(one);
  };
  await spread(each, 20, async (i) => add((await connect(server, '/raw/load', server.with(1, { sub: `r${i}` }))).socket));
  await spread(each, 20, async (i) => {
    const speaker = await Speaker.connected(server, { params: { token: signed(1, { sub: `s${i}`, roost: undefined }) } });
    await speaker.ok('subscribe', { channel: 'load' });
    add(speaker.socket);
  });
  const publisher = await connect(server, '/raw/load', server.with(1));
  let published = 0;
  let over = false;
  const traffic = (async () => {
    do {
      for (let k = 0; k < 3; k++) publisher.send(`n${published++}.`);
      await until(() => all.every((one) => one.seen.length >= published || one.closed), 'delivery', patience(30000));
    } while (!over && all.every((one) => !one.closed));
  })();
  for (let n = 2; n <= 21; n++) {
    const odd = n % 2;
    await server.reload(base(n, {
      client: { channel_limit: 100 + n, command_rate_limit: odd ? 1000 : 0, queue_max_size: odd ? '1MiB' : '2MiB' },
      channel: { without_namespace: odd ? HISTORY : OPEN, namespaces: odd ? [{ name: 'only-odd', ...OPEN }] : [] },
    }));
    const c = await connect(server, '/raw/load2', server.with(n));
    await c.echo(`with secret ${n}`);
    await (await connect(server, '/raw/load2', server.with(n - 1))).end(); /* the one before */
    assert.equal((await refused(server, '/raw/load2', server.with(n - 2))).status, 401);
    await c.end();
  }
  over = true;
  await traffic;
  const numbers = Array.from({ length: published }, (_, i) => i);
  for (const one of all) {
    assert.equal(one.closed, null);
    assert.deepEqual(one.seen, numbers);
  }
  const m = await metrics(server);
  assert.equal(m.get('reload_total{result="ok"}'), 20);
  assert.equal(m.get('reload_total{result="failed"}'), 0);
  assert.equal(m.get('config_generation'), 21);
  assert.ok(m.get('reload_success_timestamp_seconds') > 1e9);
  assert.match(server.log, /msg=reloaded generation=2 changed="client\.token\.hmac_secret_key client\.token\.hmac_previous_secret_key/);
  assert.ok(!server.log.includes('reload-secret-number'), 'a secret in the log');
}, { seconds: 170 });

test('a configuration that is wrong changes nothing, and the log says where and what', async () => {
  const dir = temporary();
  const file = path.join(dir, 'secret');
  const good = base(1);
  const server = await configured(good);
  const stays = await connect(server, '/raw/a', server.with(1));
  const bad = [
    ['{"client": ', /roost\.json:1:\d+: not valid JSON/],
    [{ ...base(2), clent: {} }, /unknown|there is no such|clent/],
    [base(2, { client: { token: { hmac_secret_key: 'short' } } }), /the token secret has 5 bytes and needs 32/],
    [base(2, { client: { token: { hmac_secret_key_file: file } } }), /can not be read/],
    [base(2, { channel: { namespaces: [{ name: 'x', ...OPEN, channel_regex: '([' }] } }), /channel\.namespaces\[0\]\.channel_regex is no POSIX extended regular expression/],
    [base(2, { client: { ping_interval: '1s', pong_timeout: '2s' } }), /client\.pong_timeout \(2s\) must be less/],
  ];
  for (const [config, problem] of bad) {
    const from = server.log.length;
    await server.fails(config);
    assert.match(server.log.slice(from), problem);
    assert.equal((await refused(server, '/raw/a', server.with(2))).status, 401);
    await (await connect(server, '/raw/a', server.with(1))).end();
  }
  await stays.echo('still here');
  const m = await metrics(server);
  assert.equal(m.get('reload_total{result="failed"}'), bad.length);
  assert.equal(m.get('config_generation'), 1);
  await server.reload(base(2));
  await (await connect(server, '/raw/a', server.with(2))).end();
});

test('a secret file, a certificate and a secret in one reload: all or nothing', async () => {
  const [one, two] = [make(temporary(), ['a.test']), make(temporary(), ['b.test'])];
  const file = path.join(temporary(), 'secret');
  const config = (pair) => base(1, { client: { token: { hmac_secret_key_file: file } }, http_server: { tls: { cert_pem: [pair.cert], key_pem: [pair.key] } } });
  fs.writeFileSync(file, secret(1));
  const server = await configured(config(one), ['--listen', 'ws://127.0.0.1:0', '--listen', 'wss://127.0.0.1:0']);
  fs.writeFileSync(file, secret(2));
  await server.fails(config({ cert: two.cert, key: one.key })); /* do not fit */
  await server.logged(/the old certificates stay/);
  assert.equal((await refused(server, '/raw/a', server.with(2))).status, 401);
  await (await connect(server, '/raw/a', server.with(1))).end();
  fs.writeFileSync(file, 'short');
  await server.fails(config(two));
  assert.equal((await shown(server, 'a.test')).names, 'DNS:a.test');
  fs.writeFileSync(file, secret(2));
  await server.reload(config(two));
  assert.equal((await shown(server, 'b.test')).names, 'DNS:b.test');
  await (await connect(server, '/raw/a', server.with(2))).end();
  assert.match(server.log, /msg=reloaded .*client\.token\.hmac_secret_key_file/);
});

test('a TLS session is resumed after a reload', async () => {
  const pair = make(temporary(), ['localhost']);
  const server = await configured(base(1), ['--listen', 'wss://127.0.0.1:0', '--listen', 'ws://127.0.0.1:0', '--cert', pair.cert, '--key', pair.key]);
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const talk = (session) => new Promise((resolve, reject) => {
      let ticket = null;
      const socket = tls.connect({ host: '127.0.0.1', port: server.port('wss'), servername: 'localhost', rejectUnauthorized: false, minVersion: version, maxVersion: version, session });
      const reused = () => socket.isSessionReused();
      socket.on('session', (s) => { ticket = s; });
      socket.on('secureConnect', () => socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'));
      socket.on('data', () => {});
      socket.on('end', () => { resolve({ ticket, reused: reused() }); socket.destroy(); });
      socket.on('error', reject);
    });
    const first = await talk();
    assert.equal(first.reused, false);
    assert.ok(first.ticket, `a ticket of ${version}`);
    await server.reload(base(version === 'TLSv1.2' ? 2 : 3));
    assert.equal((await talk(first.ticket)).reused, true, version);
  }
});

test('limits up and down: who is there stays, also above a limit', async () => {
  const limits = (n, more = {}) => base(1, { client: { connection_limit: n, ...more } });
  const server = await configured(limits(2));
  const [a, b] = [await connect(server, '/raw/a', server.with(1)), await connect(server, '/raw/b', server.with(1))];
  assert.equal((await refused(server, '/raw/a', server.with(1))).status, 503);
  await server.reload(limits(3));
  const c = await connect(server, '/raw/c', server.with(1));
  await server.reload(limits(1));
  for (const [i, one] of [a, b, c].entries()) await one.echo(`stays ${i}`);
  assert.equal((await refused(server, '/raw/a', server.with(1))).status, 503);
  await server.reload({ ...limits(0), websocket: { message_size_limit: '1KiB' } });
  a.send('x'.repeat(1025));
  assert.equal((await a.over()).code, 1009);
  await b.echo('x'.repeat(1024));
  await server.reload(base(1));
  await b.echo('x'.repeat(1025));
});

test('limits that were off: a client that is there keeps to them', async () => {
  const server = await configured(base(1));
  const sdk = await Speaker.connected(server, { params: { token: signed(1, { sub: 'u', roost: undefined }) } });
  await sdk.ok('subscribe', { channel: 'a' });
  await server.reload(base(1, { client: { command_rate_limit: 1, user_connection_limit: 1 } }));
  const codes = [];
  for (let i = 0; i < 3; i++) sdk.send({ id: 50 + i, publish: { channel: 'a', data: i } });
  for (let i = 0; i < 3; i++) codes.push((await sdk.reply(50 + i)).error?.code);
  assert.ok(codes.includes(111), `${codes}`);
  const user = () => connect(server, '/raw/a', server.with(1, { sub: 'v' }));
  const first = await user();
  assert.equal((await refused(server, '/raw/a', server.with(1, { sub: 'v' }))).status, 429);
  await server.reload(base(1));
  await user();
  await first.end();
  await sdk.ok('publish', { channel: 'a', data: 9 });
});

test('namespaces come, change and go: subscriptions stay until they end', async () => {
  const spaces = (...namespaces) => base(1, { channel: { namespaces } });
  const server = await configured(spaces({ name: 'old', ...OPEN }));
  const raw = await connect(server, '/raw/old:x', server.with(1));
  const connected = () => Speaker.connected(server, { params: { token: signed(1, { sub: 'u', roost: undefined }) } });
  const sdk = await connected();
  await sdk.ok('subscribe', { channel: 'old:x' });
  await sdk.fails(102, 'subscribe', { channel: 'new:x' });
  await server.reload(spaces({ name: 'new', ...HISTORY }));
  raw.send('"goes on"');
  assert.equal(await raw.next(), '"goes on"');
  assert.match((await sdk.take((l) => l.push?.pub, 'publication')).text, /goes on/);
  assert.equal((await refused(server, '/raw/old:x', server.with(1))).status, 404);
  await sdk.fails(102, 'publish', { channel: 'old:x', data: 1 });
  assert.equal((await server.api('publish', { channel: 'old:x', data: 1 })).error.code, 102);
  const other = await connected();
  await other.fails(102, 'subscribe', { channel: 'old:x' });
  await other.ok('subscribe', { channel: 'new:x' });
  await server.api('publish', { channel: 'new:x', data: 1 });
  assert.equal((await server.api('history', { channel: 'new:x', limit: 10 })).result.publications.length, 1);
  await server.reload(spaces({ name: 'old', ...OPEN }, { name: 'new', allow_subscribe_for_client: true }));
  await other.fails(103, 'publish', { channel: 'new:x', data: 1 });
  assert.equal((await server.api('history', { channel: 'new:x', limit: 10 })).error.code, 108);
  await server.api('publish', { channel: 'new:x', data: 2 });
  await server.reload(spaces({ name: 'old', ...OPEN }, { name: 'new', ...HISTORY }));
  await server.api('publish', { channel: 'new:x', data: 3 });
  const kept = (await server.api('history', { channel: 'new:x', limit: 10 })).result;
  assert.deepEqual(kept.publications.map((p) => [p.data, p.offset]), [[3, 3]], 'what came without a history counts as missed');
  await sdk.ok('publish', { channel: 'old:x', data: 4 });
});

test('ping interval: a client keeps the one that it was told', async () => {
  const server = await configured(base(1));
  const hello = async () => (await Speaker.connected(server, { params: { token: signed(1, { sub: 'u', roost: undefined }) } })).hello;
  assert.equal((await hello()).ping, 25);
  const quick = { client: { ping_interval: '1s', pong_timeout: '900ms' } };
  await server.reload(base(1, quick));
  assert.equal((await hello()).ping, 1);
  const deaf = await Speaker.connected(server, { pong: false, params: { token: signed(1, { sub: 'w', roost: undefined }) } });
  await server.reload(base(1));
  assert.equal((await deaf.client.over(patience(10000))).code, 3012);
  for (let s = 2; s <= 6; s++) await server.reload(base(1, { client: { ping_interval: `${s * 10}s` } }));
  const from = server.log.length;
  await server.fails(base(1, { client: { ping_interval: '100s' } }));
  assert.match(server.log.slice(from), /client\.ping_interval and client\.pong_timeout have been too many different ones: restart/);
});

test('what only a restart changes is named, and the rest is taken', async () => {
  const server = await configured(base(1, { worker: { fanout_slice: 100 } }));
  await server.reload({ ...base(2), pid_file: '/nowhere/pid', worker: { fanout_slice: 200 } });
  await server.logged(/these options change with a restart only: the old values stay" keys="pid_file worker\.fanout_slice"/);
  await (await connect(server, '/raw/a', server.with(2))).end();
});

/* What guards the doors is judged by which doors there are. */
test('other listeners, or dev, with a reload: refused whole, and nobody gets in who did not before', async () => {
  const server = await configured(base(1));
  const info = async () => (await request(server, { method: 'POST', target: '/api/info', body: '{}' })).status;
  assert.equal(await info(), 401);
  for (const more of [{ admin_listen: ['ws://127.0.0.1:0'], http_api: { insecure: true } }, { dev: true }, { dev: true, client: { token: { hmac_secret_key: 'short' } } }]) {
    const from = server.log.length;
    await server.fails({ ...base(2), ...more });
    assert.match(server.log.slice(from), /that needs a restart|there is no such option|--dev|level=error/);
    assert.equal(await info(), 401);
    await (await connect(server, '/raw/a', server.with(1))).end();
    assert.equal((await refused(server, '/raw/a', server.with(2))).status, 401);
  }
});

test('a console of --dev whose password goes with a reload opens nothing', async () => {
  const password = path.join(temporary(), 'password');
  fs.writeFileSync(password, 'a password for the console\n');
  const file = path.join(temporary(), 'roost.json');
  const write = (admin) => fs.writeFileSync(file, JSON.stringify({ dev: true, listen: ['ws://127.0.0.1:0'], admin }));
  write({ password_file: password });
  const server = await serve(['--config', file, '--listen', 'ws://127.0.0.1:0']);
  const ask = async () => (await request(server, { method: 'POST', target: '/admin/api/info', headers: { 'X-Roost-Console': '1', Host: 'localhost' }, body: '{}' })).status;
  assert.equal(await ask(), 401);
  write({});
  server.child.kill('SIGHUP');
  await server.logged(/msg=reloaded/);
  assert.equal(await ask(), 401);
});

test('a smaller message limit, where a rate of bytes counts with it: nobody is given what another client sent', async () => {
  const limited = (size) => base(1, { client: { byte_rate_limit: 1000 }, websocket: { message_size_limit: size } });
  const server = await configured(limited(131072), ['--echo', '--workers', '1']);
  const [a, b] = [await upgraded(server, '/echo', bearer(signed(1))), await upgraded(server, '/echo', bearer(signed(1)))];
  a.write(frame(OP.BINARY, Buffer.alloc(100000)));
  assert.equal((await a.frame()).payload.length, 100000);
  await server.reload(limited(1024));
  b.write(frame(OP.TEXT, 'private '.repeat(60)));
  assert.equal((await b.frame()).payload.length, 480);
  a.write(Buffer.from([0x82, 0xfe, 0, 200, 0, 0, 0, 0])); /* the head of a message, and no more */
  const f = await a.frame();
  assert.deepEqual([f.opcode, f.payload.readUInt16BE(0)], [OP.CLOSE, 1008]);
}, { final: true });

await done();

/* TLS with other people's libraries, once the handshake is over: keys that are replaced, padding, renegotiation, ends. Node's own (OpenSSL)
 * is in every other file; Chromium in page.test.mjs. */
import { assert, serve, test, done, bound, command, certificate, metrics, until, within, patience, requestHead, atEnd, skip, fresh, API_KEY } from './lib.mjs';

async function secure(args = []) {
  const pair = await certificate('ec');
  const server = await serve(['--listen', 'wss://127.0.0.1:0', '--listen', 'ws://127.0.0.1:0', '--cert', pair.cert, '--key', pair.key, '--http_server.handshake_timeout', '60s', ...args]);
  return Object.assign(server, pair);
}

/* Talk is a program for the terminal: what is typed, and what it prints. */
class Talk {
  constructor(program, args) {
    this.text = '';
    this.child = bound(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) stream.setEncoding('utf8').on('data', (t) => (this.text += t));
    this.child.stdin.on('error', () => {});
    this.ended = new Promise((resolve) => this.child.on('close', resolve));
    atEnd(() => this.child.kill('SIGKILL'));
  }

  type(text) {
    this.child.stdin.write(text);
  }

  seen(pattern) {
    return (this.text.match(new RegExp(pattern, 'g')) || []).length;
  }

  async until(pattern, times) {
    await until(() => this.seen(pattern) >= times, `${pattern} ${times} times in: ${this.text.slice(-2000)}`);
  }
}

const GET = requestHead('GET', '/healthz', { Host: 'a' });

const VERIFIED = 'Verify return code: 0 \\(ok\\)';
const openssl = (server, ...args) =>
  new Talk('openssl', ['s_client', '-connect', `127.0.0.1:${server.port('wss')}`, '-CAfile', server.cert, '-verify_return_error', ...args]);

/* Keys are replaced again and again, by one side and by both, with requests between. */
test('openssl s_client: KeyUpdate of both kinds, four times each', async () => {
  const server = await secure();
  const talk = openssl(server, '-tls1_3');
  await talk.until(VERIFIED, 1);
  for (let i = 0; i < 8; i++) {
    talk.type(i % 2 ? 'k\n' : 'K\n');
    await talk.until('KEYUPDATE', i + 1);
    talk.type(GET);
    await talk.until('HTTP/1\\.1 200 OK', i + 1);
  }
  assert.equal((await metrics(server)).get('tls_sessions_detached'), 1);
  talk.type('Q\n');
  await within(talk.ended, patience(10000), 'end of s_client');
  await until(async () => (await metrics(server)).get('tls_sessions_detached') === 0, 'the session is gone');
});

test('openssl s_client: each suite, and records padded to 16 KiB', async () => {
  const server = await secure();
  const suites = [
    ['-tls1_3', '-ciphersuites', 'TLS_AES_128_GCM_SHA256'],
    ['-tls1_3', '-ciphersuites', 'TLS_AES_128_GCM_SHA256', '-record_padding', '16384'],
    ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-GCM-SHA256'],
    ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES256-GCM-SHA384'],
    ['-tls1_2', '-cipher', 'ECDHE-ECDSA-CHACHA20-POLY1305'],
  ];
  for (const args of suites) {
    const talk = openssl(server, ...args);
    await talk.until(VERIFIED, 1);
    for (let i = 1; i <= 3; i++) {
      talk.type(GET);
      await talk.until('HTTP/1\\.1 200 OK', i);
    }
    talk.type('Q\n');
    await within(talk.ended, patience(10000), 'end of s_client');
  }
  await fresh(server);
});

test('openssl s_client: a renegotiation is refused, and nobody else notices', async () => {
  const server = await secure();
  const talk = openssl(server, '-tls1_2');
  await talk.until(VERIFIED, 1);
  talk.type(GET);
  await talk.until('HTTP/1\\.1 200 OK', 1);
  talk.type('R\n');
  await talk.until('RENEGOTIATING', 1);
  await talk.until('no renegotiation', 1); /* what OpenSSL makes of the alert */
  await fresh(server);
});

test('gnutls-cli: rekeying, by it alone and by both', async () => {
  try {
    await command('gnutls-cli', ['--version']);
  } catch {
    skip('gnutls-cli is not here (package gnutls-bin)');
  }
  const server = await secure();
  for (const priority of ['NORMAL:-VERS-ALL:+VERS-TLS1.3', 'NORMAL:-VERS-ALL:+VERS-TLS1.2', 'NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305:+AES-128-GCM']) {
    const rekeys = /TLS1\.3/.test(priority);
    const talk = new Talk('gnutls-cli', ['--inline-commands', `--x509cafile=${server.cert}`, `--priority=${priority}`, `--port=${server.port('wss')}`, 'localhost']);
    await talk.until('Simple Client Mode', 1);
    for (let i = 1; i <= 4; i++) {
      talk.type(GET);
      await talk.until('HTTP/1\\.1 200 OK', i);
      if (!rekeys) continue;
      talk.type(i % 2 ? '^rekey^\n' : '^rekey1^\n');
      await talk.until('Rekey was completed', i);
    }
    talk.child.stdin.end();
    await within(talk.ended, patience(10000), 'end of gnutls-cli');
  }
  await fresh(server);
});

/* Python's ssl over memory: the client's last flight and its request in one segment, then byte by byte; sizes around a record's. */
const PYTHON = `
import socket, ssl, sys
host, port, ca, key = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4].encode()
def run(version, cut, size):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = version
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(inside, outside, server_hostname='localhost')
    s = socket.create_connection((host, port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    def send():
        data = outside.read()
        for i in range(0, len(data), cut or len(data) or 1): s.sendall(data[i:i + (cut or len(data))])
    request = b'POST /api/info HTTP/1.1\\r\\nHost: a\\r\\nX-API-Key: %s\\r\\nContent-Length: %d\\r\\n\\r\\n{}' % (key, size + 2) + b' ' * size
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            send()
            inside.write(s.recv(65536))
    for i in range(0, len(request), 16384): tls.write(request[i:i + 16384])
    send() # with what is left of the handshake in front
    answer = b''
    while b'\\r\\n\\r\\n' not in answer:
        try:
            answer += tls.read(65536)
        except ssl.SSLWantReadError:
            data = s.recv(65536)
            if not data: raise SystemExit('the server has hung up: %r' % answer)
            inside.write(data)
    s.close()
    if not answer.startswith(b'HTTP/1.1 200 '): raise SystemExit('answer: %r' % answer)
n = 0
for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
    for cut in 0, 1, 7, 1000:
        for size in 0, 100, 16000, 16384, 40000:
            if cut == 1 and size > 16000: continue
            run(version, cut, size)
            n += 1
print(n, 'sessions')
`;

test('Python ssl over memory: coalesced with the handshake, and cut anywhere', async () => {
  const server = await secure();
  try {
    await command('python3', ['-c', 'import ssl']);
  } catch {
    skip('python3 is not here');
  }
  const result = await command('python3', ['-c', PYTHON, '127.0.0.1', String(server.port('wss')), server.cert, API_KEY], { seconds: 60 });
  assert.match(result.out, /^36 sessions/);
  assert.ok((await metrics(server)).get('tls_handshakes_total{result="full"}') >= 36);
  await fresh(server);
}, { seconds: 90 });

/* mbedTLS has no KeyUpdate: there the connection ends, cleanly, and the others live. */
test('--tls-backend mbedtls: sessions stay attached, and work', async () => {
  const server = await secure(['--tls-backend', 'mbedtls']);
  const talk = openssl(server, '-tls1_3');
  await talk.until(VERIFIED, 1);
  talk.type(GET);
  await talk.until('HTTP/1\\.1 200 OK', 1);
  const m = await metrics(server);
  assert.equal(m.get('tls_sessions_detached'), 0);
  assert.equal(m.get('tls_backend_info{records="attached (mbedTLS)"}'), 1);
  talk.type('K\n');
  await within(talk.ended, patience(10000), 'end of s_client');
  await fresh(server);
});

await done();

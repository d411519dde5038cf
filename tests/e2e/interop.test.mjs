/* TLS with other people's libraries, once the handshake is over: keys that are replaced, padding, renegotiation, ends. Node's own (OpenSSL)
 * is in every other file; Chromium in page.test.mjs. */
import { assert, serve, test, done, bound, command, certificate, metrics, until, within, patience, requestHead, atEnd, skip, fresh } from './lib.mjs';

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

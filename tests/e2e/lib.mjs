/* What every end-to-end test uses: the server under test, clients, tokens, bytes on a socket.
 *
 * A test file calls test() for each promise and ends with `await done()`. Nothing sleeps: a test waits for
 * an event or, where there is none, asks again until a deadline. ROOST is the binary, VARIANT its
 * build; SCALE (0..1) makes counts smaller where a sanitizer makes everything slower. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';

export { assert, fs, path, WebSocket };

const HERE = path.dirname(fileURLToPath(import.meta.url));
export const ROOST = path.resolve(process.env.ROOST || path.join(HERE, '../../roost'));
export const VARIANT = process.env.VARIANT || 'release';
export const SANITIZED = VARIANT === 'asan' || VARIANT === 'tsan';
export const SCALE = Number(process.env.SCALE || { asan: 0.2, tsan: 0.1 }[VARIANT] || 1);
const SLOWER = { asan: 4, tsan: 8 }[VARIANT] || 1; /* deadlines, never what is measured */

export const scaled = (n, least = 1) => Math.max(least, Math.round(n * SCALE));
export const patience = (ms) => ms * SLOWER;

/* ---- tests ---------------------------------------------------------------------------------------- */

class Skip extends Error {}
export function skip(reason) {
  throw new Skip(reason);
}

const tests = [];
const cleanups = [];

/* test names a promise and how it is shown. With RETRY=1, as `make test` has it, a test that failed is run once more, and
 * if it passes then it is FLAKY: told with what had failed, counted apart. Not so what no busy machine can cause:
 * a report of a sanitizer, a crash, a secret in a log (`final` on the error), and promises that nothing is lost (`final` in options). */
export function test(name, body, options = {}) {
  tests.push({ name, body, seconds: options.seconds || 60, final: options.final });
}

/* atEnd: what is to be undone when the present test is over, latest first. */
export function atEnd(undo) {
  cleanups.push(undo);
}

export function within(promise, ms, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function runOne({ body, seconds }) {
  let failure = null;
  try {
    await within(Promise.resolve().then(body), patience(seconds * 1000), 'end of the test');
  } catch (error) {
    failure = error;
  }
  while (cleanups.length) {
    try {
      await within(Promise.resolve(cleanups.pop()(failure)), patience(45000), 'clean-up');
    } catch (error) {
      if (failure && !(failure instanceof Skip)) failure.final ||= error.final;
      else failure = error;
    }
  }
  if (failure) throw failure;
}

function explain(error) {
  const at = (error.stack || '').split('\n').filter((l) => l.includes('/tests/e2e/') && !l.includes('/node_modules/'));
  const where = at.map((l) => l.replace(/.*\/tests\/e2e\//, '').replace(/\)$/, '')).slice(0, 4).join(' < ');
  return `${String(error.message || error).trim()}\n(${where})`.split('\n').map((l) => `    ${l}`).join('\n');
}

/* outcome runs a test: 'ok', 'SKIP', 'FLAKY' or 'FAIL', and what is to be said of it. */
async function outcome(t) {
  const start = performance.now();
  const attempt = () => runOne(t).then(() => null, (error) => error);
  const first = await attempt();
  const took = () => ` (${Math.round(performance.now() - start)} ms)`;
  if (!first) return ['ok', took()];
  if (first instanceof Skip) return ['SKIP', `: ${first.message}`];
  if (!process.env.RETRY || t.final || first.final || await attempt()) return ['FAIL', `\n${explain(first)}`];
  return ['FLAKY', `${took()} passed when run again; before:\n${explain(first)}`];
}

let running = 'before the first test'; /* for what no test awaits */

/* One line a test: the runner counts them. E2E_ONLY is a part of a test's name. */
export async function done() {
  const file = path.basename(process.argv[1], '.test.mjs');
  const only = process.env.E2E_ONLY || '';
  for (const t of tests) {
    if (only && !`${file}: ${t.name}`.includes(only)) continue;
    running = t.name;
    const [word, more] = await outcome(t);
    console.log(`${word.padEnd(5)} ${file}: ${t.name}${more}`);
    if (word === 'FAIL') process.exitCode = 1;
  }
  console.log(`end   ${file}`);
  process.exit();
}

for (const event of ['unhandledRejection', 'uncaughtException']) {
  process.on(event, (error) => {
    console.log(`FAIL  ${path.basename(process.argv[1], '.test.mjs')}: ${running}: ${event}\n${explain(error)}`);
    process.exit(1);
  });
}

/* until asks again and again, for what no event tells. */
export async function until(condition, what, ms = 10000) {
  const end = performance.now() + patience(ms);
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > end) throw new Error(`never came true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/* ---- tokens --------------------------------------------------------------------------------------- */

export const SECRET = 'e2e-secret-that-is-long-enough-0123456789';
export const API_KEY = 'e2e-api-key-0123456789';
const shown = new Set([SECRET, API_KEY]); /* what no log may hold */

export const secretText = (text) => {
  shown.add(text);
  return text;
};
const b64 = (data) => Buffer.from(data).toString('base64url');
export const nowSeconds = () => Math.floor(Date.now() / 1000);

/* token({sub: 'alice', ...}): HS256; everything is allowed unless claims.roost says less. header overrides. Logs are
 * searched for each that is watched, which thousands need not be. */
export function token(claims = {}, { secret = SECRET, header = {}, watched = true } = {}) {
  const body = { sub: 'tester', exp: nowSeconds() + 3600, roost: { pub: ['*'], sub: ['*'] }, ...claims };
  const signed = `${b64(JSON.stringify({ alg: 'HS256', typ: 'JWT', ...header }))}.${b64(JSON.stringify(body))}`;
  const signature = crypto.createHmac('sha256', secret).update(signed).digest('base64url');
  const text = `${signed}.${signature}`;
  return watched ? secretText(text) : text;
}

/* ---- the server ----------------------------------------------------------------------------------- */

const REPORT = /ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|SUMMARY: \w+Sanitizer|Assertion .* failed/;

export function temporary() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'roost-e2e-'));
  atEnd(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export const sanitizerEnv = {
  ASAN_OPTIONS: 'detect_leaks=1:detect_stack_use_after_return=1:allocator_may_return_null=1',
  UBSAN_OPTIONS: 'print_stacktrace=1',
  TSAN_OPTIONS: 'halt_on_error=0:second_deadlock_stack=1',
};

/* decisive: what fails here is no matter of time, and is not tried again. */
function decisive(check) {
  try {
    check();
  } catch (error) {
    error.final = true;
    throw error;
  }
}

export class Server {
  constructor(child, dir) {
    this.child = child;
    this.dir = dir;
    this.log = '';
    this.out = '';
    this.urls = [];
    this.watchers = new Set();
    child.stdout.setEncoding('utf8').on('data', (text) => {
      this.out += text;
      this.notify();
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      this.log += text;
      this.notify();
    });
    this.exited = new Promise((resolve) => {
      child.on('close', (code, signal) => {
        this.exit = { code, signal };
        this.notify();
        resolve(this.exit);
      });
    });
  }

  notify() {
    for (const look of [...this.watchers]) look();
  }

  /* logged waits for a line that matches; answers the match. */
  logged(pattern, ms = 20000) {
    let look;
    const found = new Promise((resolve, reject) => {
      look = () => {
        const match = this.log.match(pattern);
        if (match) resolve(match);
        else if (this.exit) reject(new Error(`server ended (${JSON.stringify(this.exit)}):\n${this.log.slice(-2000)}`));
      };
      this.watchers.add(look);
      look();
    });
    return within(found, patience(ms), `log line ${pattern}; log: ${this.log.slice(-1500)}`).finally(() =>
      this.watchers.delete(look));
  }

  async ready() {
    await this.logged(/msg=ready\b/);
    this.urls = [...this.log.matchAll(/msg=listening url="?([^\s"]+)/g)].map((m) => m[1]);
    return this;
  }

  url(scheme = 'ws', nth = 0) {
    const urls = this.urls.filter((u) => u.startsWith(`${scheme}:`));
    assert.ok(urls[nth], `no ${scheme} listener in ${this.urls}`);
    return urls[nth];
  }

  port(scheme = 'ws', nth = 0) {
    return Number(new URL(this.url(scheme, nth)).port);
  }

  /* stop asks politely and checks what must hold of every server at its end. */
  async stop({ signal = 'SIGTERM', code = 0 } = {}) {
    if (!this.exit) this.child.kill(signal);
    try {
      await within(this.exited, patience(20000), 'exit after SIGTERM');
    } finally {
      if (!this.exit) this.child.kill('SIGKILL');
    }
    this.check();
    decisive(() => assert.deepEqual(this.exit, { code, signal: null }, this.log.slice(-2000)));
  }

  check() {
    decisive(() => {
      const report = this.log.search(REPORT);
      assert.equal(report, -1, this.log.slice(Math.max(0, report - 200), report + 4000));
      for (const text of shown) assert.ok(!this.log.includes(text), `the log holds a secret: ${text.slice(0, 40)}...`);
    });
  }
}

/* bound is spawn for what must not outlive us: however we end, the kernel ends it (PR_SET_PDEATHSIG). */
export function bound(program, args, options) {
  return spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], options);
}

const KEEPER = 'read -r over || kill -KILL "-$1"'; /* our end of the pipe is closed when we are gone */

/* boundGroup starts a shell with a process group of its own; all of the group ends with us. */
export function boundGroup(program, args, options) {
  const child = spawn(program, args, { ...options, detached: true });
  const keeper = spawn('/bin/sh', ['-c', KEEPER, 'keeper', `${child.pid}`], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  keeper.stdin.on('error', () => {});
  keeper.unref();
  child.on('close', () => keeper.stdin.end('over\n'));
  return child;
}

/* launch starts the binary with any arguments, in a folder of its own. */
export function launch(args, { env = {}, cwd, prefix = [] } = {}) {
  const dir = cwd || temporary();
  const command = [...prefix, ROOST, ...args];
  const child = bound(command[0], command.slice(1), {
    cwd: dir,
    env: { PATH: process.env.PATH, HOME: dir, ...sanitizerEnv, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const server = new Server(child, dir);
  atEnd(async () => {
    if (server.kept) return;
    await server.stop(server.expected);
  });
  return server;
}

/* serve starts `roost serve` with a secret, an API key and one plain listener, and waits until it is ready. */
export async function serve(args = [], options = {}) {
  const defaults = {
    ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET,
    ROOST_HTTP_API_KEY: API_KEY,
  };
  const listen = args.includes('--listen') || args.includes('--dev') ? [] : ['--listen', 'ws://127.0.0.1:0'];
  const quick = args.includes('--shutdown.timeout') ? [] : ['--shutdown.timeout', '3s'];
  const server = launch(['serve', ...listen, ...quick, '--log-level', 'debug', ...args], {
    ...options,
    env: { ...defaults, ...options.env },
  });
  try {
    return await server.ready();
  } catch (error) {
    server.kept = Boolean(server.exit); /* it ended by itself: nothing to stop */
    throw error;
  }
}

/* freePort is below those that the kernel gives to whoever asks for any, and that somebody may get before our server does. */
export async function freePort() {
  for (;;) {
    const probe = net.createServer();
    const bound = new Promise((resolve) => probe.on('error', () => resolve(false)).on('listening', () => resolve(true)));
    const port = 10000 + crypto.randomInt(20000);
    probe.listen(port, '127.0.0.1');
    if (!(await bound)) continue;
    await new Promise((resolve) => probe.close(resolve));
    return port;
  }
}

/* certificate makes a self-signed pair with openssl: {cert, key} file names. */
export async function certificate(kind = 'ec') {
  const dir = temporary();
  const cert = path.join(dir, 'cert.pem');
  const key = path.join(dir, 'key.pem');
  const algorithm = kind === 'rsa' ? ['-newkey', 'rsa:2048'] : ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
  await command('openssl', ['req', '-x509', ...algorithm, '-nodes', '-keyout', key, '-out', cert, '-days', '2',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1']);
  return { cert, key, ca: fs.readFileSync(cert) };
}

/* command runs a program to its end: {code, out, err}; throws unless it exits with the code wanted (null: any). */
export async function command(program, args, { input, code = 0, env, cwd, seconds = 30 } = {}) {
  const child = bound(program, args, { env: env || process.env, cwd, stdio: ['pipe', 'pipe', 'pipe'] });
  const result = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (t) => (result.out += t));
  child.stderr.setEncoding('utf8').on('data', (t) => (result.err += t));
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const ended = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  try {
    result.code = await within(ended, patience(seconds * 1000), `end of ${program} ${args.join(' ').slice(0, 200)}`);
  } finally {
    child.kill('SIGKILL');
  }
  if (code !== null) assert.equal(result.code, code, `${program}: ${result.err || result.out}`);
  return result;
}

/* ---- bytes on a socket ---------------------------------------------------------------------------- */

/* Raw is a TCP or TLS connection of which a test says every byte. */
export class Raw {
  constructor(socket) {
    this.socket = socket;
    this.bytes = Buffer.alloc(0);
    this.ended = false; /* the peer's FIN */
    this.error = null;
    this.waiting = new Set();
    const wake = () => {
      for (const look of [...this.waiting]) look();
    };
    socket.on('data', (data) => {
      this.bytes = this.bytes.length ? Buffer.concat([this.bytes, data]) : data;
      wake();
    });
    socket.on('end', () => {
      this.ended = true;
      wake();
    });
    socket.on('error', (error) => {
      this.error = error;
      wake();
    });
    socket.on('close', () => {
      this.closed = true;
      wake();
    });
    atEnd(() => socket.destroy());
  }

  static connect(server, { scheme = 'ws', nth = 0, tlsOptions = {} } = {}) {
    const port = server.port(scheme, nth);
    return new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port, noDelay: true, allowHalfOpen: true };
      const socket = scheme === 'wss'
        ? tls.connect({ ...options, rejectUnauthorized: false, ...tlsOptions }, () => resolve(new Raw(socket)))
        : net.connect(options, () => resolve(new Raw(socket)));
      socket.once('error', reject);
    });
  }

  write(data) {
    return this.socket.write(data);
  }

  /* written resolves when the kernel has taken it. */
  written(data) {
    return new Promise((resolve) => this.socket.write(data, resolve));
  }

  /* wait asks look() after every event until it answers something. */
  wait(look, what, ms = 10000) {
    let again;
    const found = new Promise((resolve, reject) => {
      again = () => {
        const value = look();
        if (value !== undefined) resolve(value);
        else if (this.closed || this.error)
          reject(new Error(`connection ended before ${what}: ${this.error || 'FIN'}; have ${JSON.stringify(this.bytes.toString('latin1').slice(0, 200))}`));
      };
      this.waiting.add(again);
      again();
    });
    return within(found, patience(ms), what).finally(() => this.waiting.delete(again));
  }

  take(n) {
    const part = this.bytes.subarray(0, n);
    this.bytes = this.bytes.subarray(n);
    return part;
  }

  read(n) {
    return this.wait(() => (this.bytes.length >= n ? this.take(n) : undefined), `${n} bytes`);
  }

  /* response reads one HTTP response: {status, headers, body}. */
  async response({ head = false } = {}) {
    const end = await this.wait(() => {
      const at = this.bytes.indexOf('\r\n\r\n');
      return at === -1 ? undefined : at;
    }, 'response head');
    const lines = this.take(end + 4).toString('latin1').trimEnd().split('\r\n');
    const [, status] = lines[0].match(/^HTTP\/1\.1 (\d{3}) /) || assert.fail(`status line: ${lines[0]}`);
    const headers = {};
    for (const line of lines.slice(1)) {
      const colon = line.indexOf(':');
      assert.ok(colon > 0, `header line: ${line}`);
      const name = line.slice(0, colon).toLowerCase();
      assert.ok(!(name in headers), `${name} twice`);
      headers[name] = line.slice(colon + 1).trim();
    }
    let body = '';
    if (status !== '101' && !head && headers['content-length'])
      body = (await this.read(Number(headers['content-length']))).toString();
    return { status: Number(status), headers, body };
  }

  /* frame reads one WebSocket frame of the server: {fin, rsv, opcode, payload}; never masked. */
  async frame(ms) {
    const head = await this.wait(() => frameHead(this.bytes), 'frame', ms);
    const bytes = this.take(head.size + head.length);
    return { ...head, payload: bytes.subarray(head.size) };
  }

  /* closeFrame reads on to the Close: {code, reason}; code 1005 when it is empty. */
  async closeFrame(ms) {
    for (;;) {
      const f = await this.frame(ms);
      if (f.opcode !== 8) continue;
      return f.payload.length
        ? { code: f.payload.readUInt16BE(0), reason: f.payload.subarray(2).toString() }
        : { code: 1005, reason: '' };
    }
  }

  /* over waits for the peer's FIN or RST and says what was still unread. */
  async over(ms = 10000) {
    await this.wait(() => (this.ended || this.error || this.closed ? true : undefined), 'end of the connection', ms);
    return this.bytes;
  }

  reset() {
    this.socket.resetAndDestroy();
  }

  end(data) {
    this.socket.end(data);
  }
}

function frameHead(bytes) {
  if (bytes.length < 2) return undefined;
  assert.equal(bytes[1] & 0x80, 0, 'a server must not mask');
  let length = bytes[1] & 0x7f;
  let size = 2;
  if (length === 126) {
    if (bytes.length < 4) return undefined;
    length = bytes.readUInt16BE(2);
    assert.ok(length > 125, 'length is not minimal');
    size = 4;
  } else if (length === 127) {
    if (bytes.length < 10) return undefined;
    length = Number(bytes.readBigUInt64BE(2));
    assert.ok(length > 65535, 'length is not minimal');
    size = 10;
  }
  if (bytes.length < size + length) return undefined;
  return { fin: (bytes[0] & 0x80) !== 0, rsv: (bytes[0] >> 4) & 7, opcode: bytes[0] & 15, size, length };
}

export const OP = { CONT: 0, TEXT: 1, BINARY: 2, CLOSE: 8, PING: 9, PONG: 10 };

/* frame makes a client's frame. lengthBytes forces a longer form than needed; announce another length. */
export function frame(opcode, payload = '', { fin = true, rsv = 0, mask = true, announce, lengthBytes } = {}) {
  const body = Buffer.from(payload);
  const length = announce ?? body.length;
  const form = lengthBytes ?? (length < 126 ? 0 : length < 65536 ? 2 : 8);
  const head = Buffer.alloc(2 + form);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (mask ? 0x80 : 0) | (form === 0 ? Number(length) : form === 2 ? 126 : 127);
  if (form === 2) head.writeUInt16BE(Number(length), 2);
  if (form === 8) head.writeBigUInt64BE(BigInt(length), 2);
  if (!mask) return Buffer.concat([head, body]);
  const key = crypto.randomBytes(4);
  const masked = Buffer.alloc(body.length);
  for (let i = 0; i < body.length; i++) masked[i] = body[i] ^ key[i & 3];
  return Buffer.concat([head, key, masked]);
}

export function closeFrame(code, reason = '') {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  return frame(OP.CLOSE, Buffer.concat([payload, Buffer.from(reason)]));
}

export const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='; /* RFC 6455 section 1.3 */
export const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

/* upgradeHead is an opening handshake; a header set to null is left out, an array comes several times. */
export function upgradeHead(target, headers = {}, method = 'GET', version = 'HTTP/1.1') {
  const all = {
    Host: '127.0.0.1', Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': KEY, ...headers,
  };
  return requestHead(method, target, all, version);
}

export function requestHead(method, target, headers = {}, version = 'HTTP/1.1') {
  let text = `${method} ${target} ${version}\r\n`;
  for (const [name, value] of Object.entries(headers))
    for (const one of [value].flat()) if (one !== null) text += `${name}: ${one}\r\n`;
  return `${text}\r\n`;
}

export const bearer = (t = token()) => ({ Authorization: `Bearer ${t}` });

/* upgraded opens a WebSocket by hand and answers the Raw behind the 101. */
export async function upgraded(server, target = '/echo', headers = bearer(), options = {}) {
  const raw = await Raw.connect(server, options);
  raw.write(upgradeHead(target, headers));
  const answer = await raw.response();
  assert.equal(answer.status, 101, answer.body);
  assert.equal(answer.headers['sec-websocket-accept'], ACCEPT);
  raw.answer = answer;
  return raw;
}

/* ---- clients -------------------------------------------------------------------------------------- */

/* Client is a WebSocket of npm's ws with an inbox. */
export class Client {
  constructor(socket) {
    this.socket = socket;
    this.inbox = [];
    this.waiting = [];
    this.opened = new Promise((resolve, reject) => {
      socket.on('open', () => resolve(this));
      socket.on('error', reject);
    });
    this.opened.catch(() => {});
    this.closed = new Promise((resolve) => {
      socket.on('close', (code, reason) => {
        this.close = { code, reason: reason.toString() };
        while (this.waiting.length) this.waiting.shift()(null);
        resolve(this.close);
      });
    });
    socket.on('message', (data, binary) => {
      const message = binary ? data : data.toString();
      if (this.waiting.length) this.waiting.shift()(message);
      else this.inbox.push(message);
    });
    atEnd(() => socket.terminate());
  }

  send(data, options) {
    this.socket.send(data, options || {});
  }

  async next(ms = 10000) {
    if (this.inbox.length) return this.inbox.shift();
    if (this.close) throw new Error(`closed: ${JSON.stringify(this.close)}`);
    const message = await within(new Promise((resolve) => this.waiting.push(resolve)), patience(ms), 'message');
    if (message === null) throw new Error(`closed: ${JSON.stringify(this.close)}`);
    return message;
  }

  async echo(text) {
    this.send(text);
    assert.deepEqual(await this.next(), text);
  }

  async end(code = 1000, reason = '') {
    this.socket.close(code, reason);
    return within(this.closed, patience(10000), 'close');
  }

  over(ms = 10000) {
    return within(this.closed, patience(ms), 'close');
  }
}

/* connect opens path on server. options: token (null = none), protocols, scheme, nth and what ws takes. */
export async function connect(server, target = '/echo', options = {}) {
  const { token: t = token(), protocols = [], scheme = 'ws', nth = 0, headers = {}, ...rest } = options;
  const auth = t === null ? {} : bearer(t);
  const client = new Client(new WebSocket(`${server.url(scheme, nth)}${target}`, protocols, {
    headers: { ...auth, ...headers }, perMessageDeflate: false, rejectUnauthorized: false, ...rest,
  }));
  await within(client.opened, patience(10000), `open of ${target}`);
  return client;
}

/* refused opens target and expects an HTTP status instead of the upgrade: {status, headers, body}. */
export async function refused(server, target, options = {}) {
  const { token: t = token(), headers = {}, what = target, ...rest } = options;
  const raw = await Raw.connect(server, rest);
  raw.write(upgradeHead(target, { ...(t === null ? {} : bearer(t)), ...headers }));
  const answer = await raw.response();
  assert.notEqual(answer.status, 101, `was upgraded: ${what}`);
  oneLine(answer);
  raw.socket.destroy();
  return answer;
}

/* Each refusal says in one line what is wrong. */
export function oneLine(answer) {
  assert.match(answer.body, /^[^\n]{3,200}\n?$/, `body of ${answer.status}`);
}

export function request(server, { method = 'GET', target = '/', headers = {}, body, scheme = 'ws', nth = 0, agent } = {}) {
  const answered = new Promise((resolve, reject) => {
    const r = http.request({ host: '127.0.0.1', port: server.port(scheme, nth), method, path: target, headers, agent }, (res) => {
      let text = '';
      res.setEncoding('utf8').on('data', (t) => (text += t));
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: text }));
    });
    r.on('error', reject);
    r.end(body);
  });
  return within(answered, patience(10000), `answer to ${method} ${target}`);
}

export function publish(server, channel, data, options = {}) {
  return request(server, {
    method: 'POST', target: '/api/publish', headers: { 'X-API-Key': API_KEY },
    body: JSON.stringify({ channel, data }), ...options,
  });
}

/* metrics: a Map from `name` and `name{labels}` to number. */
export async function metrics(server, options = {}) {
  const answer = await request(server, { target: '/metrics', ...options });
  assert.equal(answer.status, 200);
  const all = new Map();
  for (const line of answer.body.split('\n')) {
    if (!line || line.startsWith('#')) continue;
    const at = line.lastIndexOf(' ');
    all.set(line.slice(0, at).replace(/^roost_/, ''), Number(line.slice(at + 1)));
  }
  return all;
}

/* fresh: whatever was done to the server, a new client is served. Every test of bad input ends with it. */
export async function fresh(server, target = '/raw/fresh', options = {}) {
  const client = await connect(server, target, options);
  await client.echo(`fresh ${Math.random()}`);
  assert.equal((await client.end()).code, 1000);
}

/* lines: a stream's lines as they come, for a program under test; null behind the last. */
export function lines(stream) {
  const waiting = [];
  const ready = [];
  let rest = '';
  let over = false;
  stream.setEncoding('utf8').on('data', (text) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop();
    for (const line of parts) {
      if (waiting.length) waiting.shift()(line);
      else ready.push(line);
    }
  });
  stream.on('close', () => {
    over = true;
    while (waiting.length) waiting.shift()(null);
  });
  return (ms = 10000) => {
    if (ready.length) return Promise.resolve(ready.shift());
    if (over) return Promise.resolve(null);
    let mine;
    const line = new Promise((resolve) => waiting.push((mine = resolve)));
    return within(line, patience(ms), 'line').catch((error) => {
      waiting.splice(waiting.indexOf(mine), 1); /* so that the next line is not for one who has gone */
      throw error;
    });
  };
}

/* spread runs body(i) for i < count, at most width at once. */
export async function spread(count, width, body) {
  let next = 0;
  const one = async () => {
    while (next < count) await body(next++);
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, one));
}

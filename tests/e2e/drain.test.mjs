/* Stopping without losing anybody: not ready first, then closed at a rate; the next server on the same port or the same
 * socket; what a service manager is told (docs/operations.md). */
import { assert, freePort, fresh, fs, path, ROOST, VARIANT, serve, connect, test, done, within, patience, request, metrics, until, scaled, spread, temporary, skip, SECRET, API_KEY, token, WebSocket } from './lib.mjs';
import { Speaker, settings, result } from './centrifuge.mjs';
import { spawn, spawnSync } from 'node:child_process';

const ready = async (server) => (await request(server, { target: '/readyz' })).status;

test('shutdown.delay: not ready, but served as before; then closed, and closed to newcomers', async () => {
  const server = await serve(['--shutdown.delay', '1500ms']);
  const old = await connect(server, '/raw/a');
  assert.equal(await ready(server), 200);
  server.child.kill('SIGTERM');
  await until(async () => await ready(server) === 503, 'readyz');
  const late = await connect(server, '/raw/a');
  late.send('hello');
  assert.equal(await old.next(), 'hello');
  assert.equal((await metrics(server)).get('draining'), 1);
  for (const c of [old, late]) assert.equal((await c.over()).code, 1012);
  await within(server.exited, patience(10000), 'exit');
  assert.equal(server.exit.code, 0);
});

test('a second signal in the delay ends it', async () => {
  const server = await serve(['--shutdown.delay', '60s', '--shutdown.timeout', '60s']);
  const c = await connect(server, '/raw/a');
  server.child.kill('SIGTERM');
  await until(async () => await ready(server) === 503, 'readyz');
  server.child.kill('SIGTERM');
  await c.over();
  await within(server.exited, patience(10000), 'exit');
});

/* A client that comes back by itself, as the documents advise; it notes how each connection ended, and whether, while it is connected, it misses any of what a
 * Teller says: numbers, behind the name of the teller's connection. */
class Comer {
  constructor(url) {
    this.url = url;
    this.ends = [];
    this.opened = this.heard = this.gaps = 0;
    this.open();
  }

  open() {
    this.socket = new WebSocket(this.url, { headers: { Authorization: `Bearer ${token()}` } });
    const last = new Map();
    this.socket.on('open', () => { this.opened++; this.isOpen = true; });
    this.socket.on('message', (text) => {
      const [name, n] = String(text).split(' ');
      if (last.has(name) && Number(n) !== last.get(name) + 1) this.gaps++;
      last.set(name, Number(n));
      this.heard++;
    });
    this.socket.on('error', (e) => this.ends.push(e.message));
    this.socket.on('close', (code) => {
      if (this.isOpen) this.ends.push(code);
      this.isOpen = false;
      if (!this.stopped) setTimeout(() => this.open(), 20 + Math.random() * 80);
    });
  }

  stop() {
    this.stopped = true;
    this.socket.terminate();
  }
}

/* Teller speaks all the time, on whichever server it is. */
class Teller extends Comer {
  open() {
    super.open();
    const { socket } = this;
    const name = Math.random().toString(36).slice(2);
    let n = 0;
    const timer = setInterval(() => { if (socket.readyState === 1) socket.send(`${name} ${n++}`); }, 10);
    socket.on('close', () => clearInterval(timer));
  }
}

test('the new server beside the old one on one port, traffic flowing: everybody is told, nobody is cut or misses anything while connected, all come back', async () => {
  const port = await freePort();
  const args = ['--listen', `ws://127.0.0.1:${port}`, '--http_server.reuse_port', '--workers', '2', '--shutdown.close_rate', '400', '--shutdown.timeout', '20s'];
  const old = await serve(args);
  const n = scaled(1000, 100);
  const comers = Array.from({ length: n }, (_, i) => new Comer(`ws://127.0.0.1:${port}/raw/c${i % 5}`));
  const tellers = Array.from({ length: 5 }, (_, i) => new Teller(`ws://127.0.0.1:${port}/raw/c${i}?self=0`));
  const all = [...comers, ...tellers];
  await until(() => all.every((c) => c.isOpen), 'all are there', patience(20000));
  await until(() => comers.every((c) => c.heard > 2), 'all hear', patience(20000));
  const fresh = await serve(args);
  let flow = true, refused = 0;
  const traffic = Promise.all(Array.from({ length: 20 }, async () => { /* connections come and go all the time, on both */
    while (flow) {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/raw/x`, { headers: { Authorization: `Bearer ${token()}` } });
      await new Promise((resolve) => {
        socket.on('open', () => { socket.send('x'); socket.close(1000); });
        socket.on('error', (e) => { if (!/503/.test(e.message)) refused++; });
        socket.on('close', resolve);
      });
    }
  }));
  old.child.kill('SIGTERM');
  await within(old.exited, patience(30000), 'the end of the old server');
  assert.equal(old.exit.code, 0);
  await until(() => all.every((c) => c.isOpen), 'all are back', patience(20000));
  const heard = comers.map((c) => c.heard);
  await until(() => comers.every((c, i) => c.heard > heard[i] + 2), 'all hear again', patience(20000));
  flow = false;
  await traffic;
  for (const c of all) {
    assert.ok(c.ends.every((e) => e === 1012 || /503/.test(e)), JSON.stringify(c.ends));
    assert.ok(c.opened >= 2 && c.gaps === 0, `${c.opened} connections, ${c.gaps} gaps`);
  }
  assert.equal(refused, 0, 'connections reset or refused by the kernel');
  await until(async () => (await metrics(fresh)).get('connections_open') === n + 5, 'all of them on the new server');
  all.forEach((c) => c.stop());
}, { seconds: 120 });

/* rate: closes a second by the server's own clock, from the first to the last of its log's lines. */
function rate(server, code) {
  const at = [...server.log.matchAll(new RegExp(`^ts=(\\S+) .*msg="close sent".* code=${code} `, 'gm'))].map((m) => Date.parse(m[1]));
  return { n: at.length, rate: (at.length - 1) / (Math.max(...at) - Math.min(...at)) * 1000 };
}

for (const [kind, asked, code] of [['SDK clients', 100, 3001], ['raw clients', 400, 1012]]) {
  test(`${kind}: ${code}, at the rate, never above it`, async () => {
    const server = await serve([...settings(), '--workers', '2', '--shutdown.close_rate', `${asked}`, '--shutdown.timeout', '30s']);
    const n = asked * 2;
    const clients = [];
    await spread(n, 10, async () => clients.push(code === 3001 ? (await Speaker.connected(server)).client : await connect(server, '/raw/a')));
    server.child.kill('SIGTERM');
    for (const c of clients) assert.equal((await c.over(30000)).code, code);
    await within(server.exited, patience(30000), 'exit');
    const seen = rate(server, code);
    assert.equal(seen.n, n);
    console.log(`      asked ${asked} a second, seen ${seen.rate.toFixed(1)}`);
    assert.ok(seen.rate <= asked * 1.1, `${seen.rate}`); /* below it a busy machine may be */
    assert.ok(seen.rate >= asked / 3, `${seen.rate}`);
  }, { seconds: 90 });
}

/* ---- a service manager ---- */

/* Perl is part of every Debian and knows datagrams on Unix sockets, which Node does not. */
const MANAGER = `
use strict; use Socket; use IO::Handle; STDOUT->autoflush(1);
my $path = shift; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; bind($s, pack_sockaddr_un($path)) or die "$path: $!";
print "bound\\n"; while (defined recv($s, my $m, 4096, 0)) { $m =~ s/\\n/ /g; print "$m\\n"; }`;

const hasPerl = () => spawnSync('perl', ['-MSocket', '-e', '1']).status === 0 || skip('perl is not here');

async function manager() {
  hasPerl();
  const file = path.join(temporary(), 'notify');
  const child = spawn('perl', ['-e', MANAGER, file], { stdio: ['ignore', 'pipe', 'inherit'] });
  const said = [];
  child.stdout.on('data', (d) => said.push(...d.toString().split('\n').filter(Boolean)));
  await until(() => said.includes('bound'), 'the manager');
  return { file, said, end: () => child.kill() };
}

test('sd_notify: READY, WATCHDOG by every worker, STOPPING, STATUS with who is left', async () => {
  const m = await manager();
  const server = await serve(['--workers', '2', '--shutdown.close_rate', '20', '--shutdown.timeout', '20s'], { env: { NOTIFY_SOCKET: m.file, WATCHDOG_USEC: '200000' } });
  await until(() => m.said.some((l) => /^READY=1 STATUS=serving/.test(l)), 'READY');
  await until(() => m.said.filter((l) => l === 'WATCHDOG=1').length >= 5, 'WATCHDOG', patience(10000));
  const clients = [];
  await spread(60, 10, async () => clients.push(await connect(server, '/raw/a')));
  server.child.kill('SIGTERM');
  for (const c of clients) await c.over(20000);
  await within(server.exited, patience(20000), 'exit');
  assert.ok(m.said.some((l) => /^STOPPING=1 STATUS=stopping: 60 connections/.test(l)), m.said.slice(-5).join('|'));
  assert.ok(m.said.some((l) => /^STATUS=stopping: \d+ of 60 connections are left/.test(l)), m.said.slice(-5).join('|'));
  m.end();
}, { seconds: 60 });

test('sd_notify: a reload is told, also one that fails', async () => {
  const m = await manager();
  const file = path.join(temporary(), 'roost.json');
  fs.writeFileSync(file, '{}');
  const server = await serve(['--config', file], { env: { NOTIFY_SOCKET: m.file } });
  const ready = (n) => until(() => m.said.filter((l) => l.startsWith('READY=1')).length >= n, `READY ${n}`, patience(10000));
  await ready(1);
  server.child.kill('SIGHUP');
  await ready(2);
  fs.writeFileSync(file, '{');
  server.child.kill('SIGHUP');
  await ready(3);
  const said = m.said.filter((l) => /^(READY|RELOADING)=1/.test(l));
  assert.match(said.join('|'), /^READY=1 STATUS=serving[^|]*\|RELOADING=1 MONOTONIC_USEC=\d+ STATUS=[^|]*\|READY=1 STATUS=serving[^|]*\|RELOADING=1 [^|]*\|READY=1 STATUS=the last reload failed/);
  m.end();
});

test('a worker that hangs: the watchdog is told no more, the log says why; the manager ends and restarts it, clients come back', async () => {
  if (VARIANT !== 'asan' && VARIANT !== 'debug') skip('only builds for tests can make a worker hang');
  const m = await manager();
  const url = `ws://127.0.0.1:${await freePort()}`;
  const env = { NOTIFY_SOCKET: m.file, WATCHDOG_USEC: '400000' };
  const server = await serve(['--workers', '2', '--listen', url], { env: { ...env, ROOST_TEST_WEDGE: '1' } });
  const comer = new Comer(`${url}/raw/a`);
  await server.logged(/a worker has made no turn/);
  const told = () => m.said.filter((l) => l === 'WATCHDOG=1').length;
  await until(async () => { /* one may be on its way still; then none for three times the interval, and a manager acts */
    const before = told();
    await new Promise((r) => setTimeout(r, 1200));
    return told() === before;
  }, 'silence', patience(10000));
  server.kept = true;
  server.child.kill('SIGKILL');
  await server.exited;
  server.check();
  const next = await serve(['--workers', '2', '--listen', url], { env });
  await until(() => comer.isOpen, 'the client is back', patience(20000));
  comer.stop();
  const before = told();
  await until(() => told() > before, 'the watchdog is fed again', patience(10000));
  await fresh(next);
  m.end();
});

const ACTIVATE = `
use strict; use Socket; use POSIX ();
my ($port, $path, @command) = @ARGV; $^F = 100;
socket(my $t, AF_INET, SOCK_STREAM, 0) or die; setsockopt($t, SOL_SOCKET, SO_REUSEADDR, 1);
bind($t, pack_sockaddr_in($port, inet_aton('127.0.0.1'))) or die $!; listen($t, 100) or die;
socket(my $u, AF_UNIX, SOCK_STREAM, 0) or die; bind($u, pack_sockaddr_un($path)) or die $!; listen($u, 100) or die;
POSIX::dup2(fileno($t), 20); POSIX::dup2(fileno($u), 21); POSIX::dup2(20, 3); POSIX::dup2(21, 4);
my $n = 0;
while (1) { # a manager keeps the sockets while the server comes and goes
  my $pid = fork();
  if (!$pid) { $ENV{LISTEN_FDS} = 2; $ENV{LISTEN_PID} = $$; exec(@command); }
  print "started $pid\\n"; STDOUT->flush(); waitpid($pid, 0); last if ++$n == 2; sleep 1;
}`;

test('sockets of a service manager: TCP and Unix; who comes while there is no server is served by the next', async () => {
  hasPerl();
  const [port, file] = [await freePort(), path.join(temporary(), 'roost.sock')];
  const child = spawn('perl', ['-MIO::Handle', '-e', ACTIVATE, port, file, ROOST, 'serve', '--listen', `ws://127.0.0.1:${port}`, '--listen', `unix:${file}`, '--workers', '2'],
    { env: { ...process.env, ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET, ROOST_HTTP_API_KEY: API_KEY }, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '', log = '';
  child.stdout.on('data', (d) => { said += d; });
  child.stderr.on('data', (d) => { log += d; });
  const pids = () => [...said.matchAll(/started (\d+)/g)].map((m) => Number(m[1]));
  const hello = (target) => new Promise((resolve, reject) => {
    const socket = new WebSocket(target, { headers: { Authorization: `Bearer ${token()}` } });
    socket.on('open', () => socket.send('hi'));
    socket.on('message', (m) => { socket.terminate(); resolve(m.toString()); });
    socket.on('error', reject);
  });
  await until(() => /msg=ready/.test(log), 'ready', patience(10000));
  for (const target of [`ws://127.0.0.1:${port}/raw/a`, `ws+unix:${file}:/raw/a`]) assert.equal(await hello(target), 'hi');
  process.kill(pids()[0], 'SIGTERM');
  await until(() => /msg=stopped/.test(log), 'the end of the first');
  const waiting = Array.from({ length: 20 }, (_, i) => hello(i % 2 ? `ws://127.0.0.1:${port}/raw/a` : `ws+unix:${file}:/raw/a`));
  for (const answer of await Promise.all(waiting)) assert.equal(answer, 'hi'); /* by the next one */
  /* its workers may answer before its own thread has said that it is ready */
  await until(() => pids().length === 2 && (log.match(/msg=ready/g) || []).length === 2, 'ready, a second time', patience(10000));
  assert.ok(fs.existsSync(file), 'the socket is the manager\'s to remove');
  process.kill(pids()[1], 'SIGTERM');
  await within(new Promise((r) => child.on('exit', r)), patience(10000), 'the end');
  assert.ok(!/fit no listener/.test(log));
});

await done();

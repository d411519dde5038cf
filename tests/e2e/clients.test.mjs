/* docs/clients.md: each of its blocks as it stands, against a server that is killed, frozen, busy, and that refuses.
 *
 * keep.mjs runs in this process, keep.js in Chromium, keep.py in Python: the scenarios are the same. What is expected has no
 * upper bound but patience; that something does not come too early is what is measured. */
import {
  assert, fs, path, serve, test, skip, done, temporary, token, nowSeconds, publish, metrics, until, within, patience, bound, atEnd, certificate,
  command, freePort, lines, request, sanitizerEnv, API_KEY,
} from './lib.mjs';
import { settings, result } from './centrifuge.mjs';
import { browser } from './browser.mjs';
import { install, PYTHON_ENV } from './python.mjs';
import http from 'node:http';
import { WebSocketServer } from 'ws';
import { fileURLToPath, pathToFileURL } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const PAGE = fs.readFileSync(path.join(HERE, '../../docs/clients.md'), 'utf8');
const TOLERATED = /WebSocket|net::ERR_/; /* what a browser says of a server that is away */

/* ---- the blocks of the page ---- */

const blocks = new Map(); /* name of a file -> text; sh and html have one each */
for (const [, language, text] of PAGE.matchAll(/^```(\w*)\n([^]*?)^```/gm)) {
  const name = text.match(/^(?:\/\/|#) ([\w-]+\.(?:m?js|py))\n/)?.[1] ?? language;
  assert.ok(!blocks.has(name), `two blocks ${name}`);
  blocks.set(name, text);
}
const unused = new Set(blocks.keys());

/* block answers one with the ports of this test. */
function block(name, ports = {}) {
  assert.ok(blocks.has(name), `no block ${name}`);
  unused.delete(name);
  return blocks.get(name).replace(/\b(9443|9000)\b/g, (port) => ports[port] ?? port);
}

/* folder has files of the page, and what they import. */
function folder(names, ports) {
  const dir = temporary();
  fs.mkdirSync(path.join(dir, 'node_modules'));
  for (const [name, target] of [['ws', 'ws'], ['centrifuge', 'centrifuge5']]) fs.symlinkSync(path.join(HERE, 'node_modules', target), path.join(dir, 'node_modules', name));
  for (const name of names) fs.writeFileSync(path.join(dir, name), block(name, ports));
  return dir;
}

/* ---- a client under test: told so far, and tokens from the test ---- */

class Subject {
  constructor(giveToken) {
    this.giveToken = giveToken;
    this.asked = 0;
    this.opened = 0;
    this.heard = [];
  }

  token() {
    return this.giveToken(++this.asked);
  }

  took(event, data) {
    if (event === 'open') this.opened++;
    if (event === 'message') this.heard.push(data);
    if (event === 'end') this.ended = String(data);
  }

  opens(n) {
    return until(() => this.opened >= n, `opened ${n} times, and not ${this.opened}; ended: ${this.ended}`, 30000);
  }

  hears(data) {
    return until(() => this.heard.includes(data), `${data} among ${this.heard}`, 20000);
  }

  ends(pattern) {
    return until(() => this.ended, 'the end', 30000).then(() => assert.match(this.ended, pattern));
  }
}

const node = {
  name: 'Node',
  ready: async () => {},
  async start(url, giveToken, silenceMs = SILENCE_MS) {
    const { keep } = await import(pathToFileURL(path.join(folder(['keep.mjs']), 'keep.mjs')));
    const subject = new Subject(giveToken);
    const kept = keep({
      url, silenceMs, getToken: async () => subject.token(), onOpen: () => subject.took('open'),
      onMessage: (data) => subject.took('message', data), onEnd: (why) => subject.took('end', why),
    });
    atEnd(() => kept.close());
    subject.send = async (data) => kept.send(data);
    return subject;
  },
};

/* site serves what a folder has; its origin is allowed by origins. */
async function site(files) {
  const web = http.createServer((req, res) => {
    const name = req.url === '/' ? 'page.html' : req.url.slice(1);
    res.setHeader('Content-Type', name.endsWith('.js') ? 'text/javascript' : 'text/html');
    res.end(files[name] ?? '');
  });
  await new Promise((resolve) => web.listen(0, '127.0.0.1', resolve));
  atEnd(() => web.closeAllConnections() || web.close());
  return `http://127.0.0.1:${web.address().port}`;
}

const EMPTY = '<!doctype html><link rel="icon" href="data:,"><body>';

let context; /* one browser a test */

async function tab(files) {
  if (!context) {
    atEnd(() => (context = undefined));
    context = await browser();
    context.tolerated = TOLERATED;
  }
  return context.tab(await site(files));
}

const chromium = {
  name: 'Chromium',
  inPage: true,
  ready: async () => {},
  async start(url, giveToken, silenceMs = SILENCE_MS) {
    const page = await tab({ 'page.html': `${EMPTY}<script src="keep.js"></script>`, 'keep.js': block('keep.js') });
    const subject = new Subject(giveToken);
    await page.exposeFunction('giveToken', () => subject.token());
    await page.exposeFunction('took', (event, data) => subject.took(event, data));
    await page.evaluate(([target, lateMs]) => {
      window.kept = keep({
        url: `${target}?heartbeat=5`, lateMs, getToken: () => giveToken(), onOpen: () => took('open'),
        onMessage: (data) => took('message', data), onEnd: (why) => took('end', why),
      });
    }, [url, silenceMs]);
    subject.send = (data) => page.evaluate((text) => window.kept.send(text), data);
    return subject;
  },
};

const DRIVER = `
import asyncio, json, sys
from keep import keep

def say(event, data=None):
    print(json.dumps([event, data]), flush=True)

connection = None

def opened(c):
    global connection
    connection = c
    say("open")

tokens = asyncio.Queue()

async def commands():
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, data = json.loads(line)
        if what == "token":
            tokens.put_nowait(data)
        else:
            await connection.send(data)

async def get_token():
    say("token")
    return await tokens.get()

async def heard(message):
    say("message", message)

async def main():
    reading = asyncio.create_task(commands())
    say("end", await keep(sys.argv[1], get_token, heard, opened, silence=float(sys.argv[2])))

asyncio.run(main())
`;

const python = {
  name: 'Python',
  async ready() {
    const reason = await install();
    if (reason) skip(reason);
    if ((await command('python3', ['-c', 'import sys; sys.exit(sys.version_info < (3, 11))'], { code: null })).code !== 0) skip('no Python 3.11 here');
  },
  async start(url, giveToken, silenceMs = SILENCE_MS) {
    const subject = new Subject(giveToken);
    const child = bound('python3', ['-c', DRIVER, url, `${silenceMs / 1000}`], { cwd: folder(['keep.py']), env: { PATH: process.env.PATH, ...PYTHON_ENV }, stdio: ['pipe', 'pipe', 'pipe'] });
    const write = (...what) => child.stdin.write(`${JSON.stringify(what)}\n`);
    let errors = '';
    child.stdin.on('error', () => {});
    child.stderr.setEncoding('utf8').on('data', (t) => (errors += t));
    const over = new Promise((resolve) => child.on('close', resolve));
    atEnd(async () => {
      child.kill('SIGKILL');
      await over;
      assert.equal(errors, '');
    });
    const next = lines(child.stdout);
    (async () => {
      for (let line; (line = await next(120000)) !== null;) {
        const [event, data] = JSON.parse(line);
        if (event === 'token') write('token', subject.token());
        else subject.took(event, data);
      }
    })().catch((error) => (errors += error));
    subject.send = async (data) => write('send', data);
    return subject;
  },
};

/* ---- scenarios ---- */

const ANY_PAGE = ['--allowed-origin', '*'];
const PINGS = ['--ping-interval', '2s', '--client.pong_timeout', '1900ms']; /* so that silence is noticed soon */
const SILENCE_MS = 20000; /* where none is expected */
const good = () => token({ sub: 'keeper' });

async function begin(args = []) {
  return serve(['--listen', `ws://127.0.0.1:${await freePort()}`, ...ANY_PAGE, ...args]);
}

async function kill(server) {
  server.kept = true; /* not to be stopped */
  server.child.kill('SIGKILL');
  await within(server.exited, patience(10000), 'end');
}

async function hears(subject, server, text) {
  await until(async () => (await metrics(server)).get('subscriptions') >= 1, 'subscribed');
  await publish(server, 'chat', text);
  await subject.hears(JSON.stringify(text));
}

/* other is a server of the test's own: steps are what it does with one opening handshake after the other, the last one with all that follow. */
async function other(steps) {
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => 'roost.bearer' });
  const web = http.createServer();
  const seen = [];
  web.on('upgrade', (req, socket, head) => {
    const step = steps[Math.min(seen.length, steps.length - 1)];
    socket.on('error', () => {});
    seen.push(performance.now());
    if (typeof step === 'string') socket.end(`HTTP/1.1 ${step}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    else sockets.handleUpgrade(req, socket, head, (ws) => ws.close(...step));
  });
  await new Promise((resolve) => web.listen(0, '127.0.0.1', resolve));
  atEnd(() => web.closeAllConnections() || web.close());
  return { url: `ws://127.0.0.1:${web.address().port}/raw/chat`, seen };
}

for (const kind of [node, chromium, python]) {
  const scenario = (name, body, seconds = 60) => test(`${kind.name}: ${name}`, async () => {
    await kind.ready();
    await body();
  }, { seconds });

  scenario('the server is killed and started again: it comes back, hears and speaks', async () => {
    const first = await begin();
    const subject = await kind.start(`${first.url()}/raw/chat`, good);
    await subject.opens(1);
    await hears(subject, first, 'one');
    await kill(first);
    await until(() => subject.asked >= 3, 'attempts without a server', 30000);
    const second = await serve(['--listen', first.url(), ...ANY_PAGE]);
    await subject.opens(2);
    await hears(subject, second, 'two');
    await subject.send('from the client');
    await subject.hears('from the client');
    assert.deepEqual(subject.heard, ['"one"', '"two"', 'from the client']); /* and no heartbeat */
  });

  scenario('the server is frozen: it notices, tries again, and is back when the server is', async () => {
    const server = await begin(PINGS);
    const subject = await kind.start(`${server.url()}/raw/chat`, good, 6000);
    await subject.opens(1);
    const before = subject.asked;
    server.child.kill('SIGSTOP');
    try {
      await until(() => subject.asked > before, 'another attempt, since nothing is heard', 40000);
    } finally {
      server.child.kill('SIGCONT');
    }
    await subject.opens(2);
    await until(async () => (await metrics(server)).get('connections_open') === 1, 'one connection', 40000);
    await hears(subject, server, 'awake');
  }, 90);

  scenario('a token that ends: it comes with a new one before the server has to end the connection', async () => {
    const server = await begin();
    const subject = await kind.start(`${server.url()}/raw/chat`, (n) => (n === 1 ? token({ exp: nowSeconds() + 5 }) : good()));
    await subject.opens(2);
    assert.equal(subject.asked, 2);
    const m = await until(async () => {
      const now = await metrics(server);
      return now.get('connections_open') === 1 && now;
    }, 'the old one closed');
    assert.equal(m.get('timeouts_total{what="token"}'), 0);
    await hears(subject, server, 'with the new one');
  });

  scenario('a token that has ended: it asks for another, but shows none twice', async () => {
    const server = await begin();
    const old = token({ exp: nowSeconds() - 100 });
    const subject = await kind.start(`${server.url()}/raw/chat`, (n) => (n === 1 ? old : good()));
    await subject.opens(kind.inPage ? 2 : 1); /* a page is told after the upgrade */
    await hears(subject, server, 'with another');
    const stubborn = await kind.start(`${server.url()}/raw/chat`, () => old);
    await stubborn.ends(/gives a token that was refused/);
    assert.equal(stubborn.asked, 2);
  });

  scenario('it does not come back when it may not: no permission, closed by the API', async () => {
    const server = await begin();
    const mute = await kind.start(`${server.url()}/raw/chat`, () => token({ roost: {} }));
    await mute.ends(/^4?403/);
    assert.equal(mute.asked, 1);
    const subject = await kind.start(`${server.url()}/raw/chat`, good);
    await subject.opens(1);
    await result(server, 'disconnect', { user: 'keeper' });
    await subject.ends(/^35/);
    assert.equal(subject.asked, 1);
  });

  scenario('it waits as long as a Close says, and ends by the codes of the page', async () => {
    const { url, seen } = await other([[1012, 'shutdown, come back in 2 s'], [1008, 'rate'], [3999, 'enough']]);
    const subject = await kind.start(url, good);
    await subject.ends(/^3999/);
    assert.equal(seen.length, 3);
    assert.ok(seen[1] - seen[0] >= 1990, `back after ${seen[1] - seen[0]} ms`);
    for (const code of [1002, 1007, 1008, 1009, 3500, 4403]) {
      const another = await other([[code, 'no']]);
      await (await kind.start(another.url, good)).ends(new RegExp(`^${code}`));
      assert.equal(another.seen.length, 1);
    }
  });

  if (!kind.inPage) scenario('it waits as long as Retry-After says, and ends by the statuses of the page', async () => {
    const { url, seen } = await other(['503 Service Unavailable\r\nRetry-After: 2', '429 Too Many Requests\r\nRetry-After: 1', '404 Not Found']);
    const subject = await kind.start(url, good);
    await subject.ends(/^404/);
    assert.equal(seen.length, 3);
    assert.ok(seen[1] - seen[0] >= 1990 && seen[2] - seen[1] >= 990, `${seen}`);
    const odd = await other(['503 Service Unavailable\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT', '502 Bad Gateway', '400 Bad Request']);
    await (await kind.start(odd.url, good)).ends(/^400/);
    assert.equal(odd.seen.length, 3);
  });
}

/* ---- the programs ---- */

async function secureServer(args = [], port) {
  const pair = await certificate();
  port ??= await freePort();
  const start = () => serve(['--listen', `wss://127.0.0.1:${port}`, '--listen', 'ws://127.0.0.1:0', '--cert', pair.cert, '--key', pair.key, ...ANY_PAGE, ...args]);
  return { port, start, ...pair };
}

/* program starts a file of the page beside the others; said is what it has printed. */
function program(file, names, where, claims = {}, env = {}) {
  const dir = folder([...names, file], { 9443: where.port });
  fs.writeFileSync(path.join(dir, 'cert.pem'), where.ca);
  fs.writeFileSync(path.join(dir, 'alice.token'), `${token({ sub: 'alice', ...claims })}\n`);
  const [interpreter, flags] = file.endsWith('.py') ? ['python3', []] : [process.execPath, []];
  const child = bound(interpreter, [...flags, file], { cwd: dir, env: { PATH: process.env.PATH, NODE_EXTRA_CA_CERTS: where.cert, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  child.said = '';
  for (const out of [child.stdout, child.stderr]) out.setEncoding('utf8').on('data', (t) => (child.said += t));
  const over = new Promise((resolve) => child.on('close', resolve));
  atEnd(() => child.kill('SIGKILL') && over);
  child.dir = dir;
  child.says = (pattern, ms = 30000) => until(() => pattern.test(child.said), `${pattern} in ${child.said}`, ms).catch((error) => assert.fail(`${error.message}\n${child.said}`));
  return child;
}

/* twice: it hears, the server is killed and comes back, it hears again. */
async function twice(child, where, said = (text) => new RegExp(`^"${text}"$`, 'm')) {
  for (const text of ['one', 'two']) {
    const server = await where.start();
    await until(async () => (await metrics(server)).get('subscriptions') >= 1, `subscribed; ${child.said}`, 40000);
    await publish(server, 'chat', text);
    await child.says(said(text));
    if (text === 'one') await kill(server);
  }
}

test('listen.mjs as it stands', async () => {
  const where = await secureServer();
  await twice(program('listen.mjs', ['keep.mjs'], where), where);
});

test('listen.py as it stands', async () => {
  await python.ready();
  const where = await secureServer();
  await twice(program('listen.py', ['keep.py'], where, {}, PYTHON_ENV), where);
});

test('the page for a browser as it stands', async () => {
  const where = await secureServer();
  const page = await tab({ 'page.html': EMPTY + block('html', { 9443: where.port }), 'keep.js': block('keep.js'), 'alice.token': token({ sub: 'alice' }) });
  const child = { said: '', says: (text) => page.locator('body', { hasText: text }).waitFor({ timeout: patience(30000) }) };
  await twice(child, where, (text) => `"${text}"`);
});

test('sdk.mjs as it stands: killed, frozen, a new token in time, sent away', async () => {
  const where = await secureServer([...settings(), ...PINGS]);
  const exp = nowSeconds() + 8;
  const child = program('sdk.mjs', [], where, { exp, roost: undefined });
  const server = await where.start();
  await child.says(/^subscribed /m);
  const fresh = token({ sub: 'alice', roost: undefined });
  fs.writeFileSync(path.join(child.dir, 'alice.token'), fresh);
  await until(() => Date.now() > (exp + 2) * 1000, 'the end of the first token, and of the grace', 20000);
  await publish(server, 'chat', 'after it');
  await child.says(/^publication "after it"$/m);
  assert.equal((await metrics(server)).get('timeouts_total{what="token"}'), 0);
  server.child.kill('SIGSTOP');
  try {
    await child.says(/^connecting \d+ no ping$/m, 40000);
  } finally {
    server.child.kill('SIGCONT');
  }
  const times = (n) => until(() => child.said.match(/^subscribed /gm).length >= n, `subscribed ${n} times: ${child.said}`, 40000);
  await times(2);
  await kill(server);
  const second = await where.start();
  await times(3);
  await result(second, 'disconnect', { user: 'alice' });
  await child.says(/^disconnected 3503 /m);
}, { seconds: 90 });

test('the call by curl as it stands: tried again as late as it is told, published once', async () => {
  const server = await serve();
  const seen = [];
  const web = http.createServer((req, res) => {
    let body = '';
    req.setEncoding('utf8').on('data', (t) => (body += t));
    req.on('end', async () => {
      seen.push({ at: performance.now(), body });
      const answer = await request(server, { method: 'POST', target: req.url, headers: { 'X-API-Key': req.headers['x-api-key'] }, body });
      if (seen.length === 1) res.writeHead(503, { 'Retry-After': '2' }).end('lost on the way back'); /* it was published all the same */
      else res.writeHead(answer.status).end(answer.body);
    });
  });
  await new Promise((resolve) => web.listen(0, '127.0.0.1', resolve));
  atEnd(() => web.closeAllConnections() || web.close());
  const dir = temporary();
  fs.writeFileSync(path.join(dir, 'api_key'), `${API_KEY}\n`);
  const { out } = await command('/bin/sh', ['-c', block('sh', { 9000: web.address().port })], { cwd: dir, env: { PATH: process.env.PATH, HOME: dir, ...sanitizerEnv } });
  assert.match(out, /\{"result":\{\}\}/);
  assert.equal(seen.length, 2);
  assert.equal(seen[0].body, seen[1].body);
  assert.ok(seen[1].at - seen[0].at >= 1990);
  const m = await metrics(server);
  assert.equal(m.get('publications_total'), 1);
  assert.equal(m.get('idempotency_repeats_total'), 1);
});

test('every block of the page was run', async () => {
  if (process.env.E2E_ONLY?.split(': ')[1]) skip('only some tests were asked for');
  assert.deepEqual([...unused].filter((name) => name !== 'keep.py' && name !== 'listen.py'), []);
});

await done();

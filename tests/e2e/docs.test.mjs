/* The documents: each command in README.md, docs/raw.md, docs/api.md, docs/console.md and docs/tokens.md does what the text
 * says.
 *
 * The ```sh blocks of them run in order in one folder, with other ports. Each has a row below, so a new block
 * needs one. A block with a server, `roost sub` or chat.js stays running; its word is waited for, and later more of it. ```js blocks that begin with
 * a file name, and ```json ones, become files. */
import { assert, boundGroup, fs, path, ROOST, test, done, atEnd, temporary, within, patience, until, sanitizerEnv, command } from './lib.mjs';
import net from 'node:net';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const ROOT = path.join(HERE, '../..');
const READY = /msg=ready\b/;
const GOOD_TOKEN = /signature +good/;

/* stays: it goes on running; says: what is waited for; later: what else it says until its document is over */
const EXPECTED = {
  'README.md': [
    { block: 'serve --dev', stays: true, says: READY },
    { block: 'sub wss:', stays: true, says: /connected/, later: /^hello$/m },
    { block: "--message 'hello'", says: /1 messages published/ },
    { block: 'openssl req', says: /^/ },
    { block: '--admin-listen', stays: true, says: READY },
    { block: 'check config.json', says: /"name": "room"/ },
    { block: 'token make', says: GOOD_TOKEN },
    { block: '/api/publish', says: /\{"result":\{\}\}/ },
    { block: '--json', stays: true, says: /connected/, later: /"data":"one"[^]*"data":"two"[^]*"data":"hello from node"/ },
    { block: "printf 'one", says: /2 messages published/ },
    { block: 'node chat.js', stays: true, says: /hello from node/ },
    { block: 'bench idle', skip: true }, /* bench.test.mjs */
  ],
  'docs/raw.md': [
    { block: '--http1.1', says: /426 Upgrade Required[^]*401 Unauthorized: no token/ },
    { block: 'b64data', says: /\{"result":\{\}\}\{"result":\{\}\}\{"error":\{"code":102,[^]* 404 Not Found[^]*\{"code":102,/ },
    { block: '/readyz', says: /^ok\n[^]*roost_publications_total [1-9]/ },
  ],
  'docs/api.md': [
    { block: '/api/info', says: /"num_clients":\d[^]*\{"connections":\{[^]*\{"result":\{\}\}[^]*\{"replies":\[\{"publish":\{\}\},\{"channels":/ },
  ],
  'docs/console.md': [
    { block: 'console_password', stays: true, says: READY },
    { block: '/admin/login', says: /\{"result":\{"nodes":\[\{"uid":/ },
  ],
  'docs/tokens.md': [
    { block: 'rand -hex 32 > token_secret', says: /^/ },
    { block: 'token make', says: GOOD_TOKEN },
    { block: 'node make-token.js', says: /"bob"[^]*signature +good/ },
    { block: 'mv token_secret', says: /^/ },
    { block: '--token-cmd', stays: true, says: /connected/ },
  ],
};

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = net.createServer().on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

class Folder {
  constructor(ports) {
    this.dir = temporary();
    this.ports = ports;
    this.env = { PATH: process.env.PATH, HOME: this.dir, NODE_PATH: path.join(HERE, 'node_modules'), ...sanitizerEnv };
    fs.symlinkSync(ROOST, path.join(this.dir, 'roost'));
  }

  /* What is printed, but for the ports, and for the tarball, which dist-test.sh unpacks. */
  adapt(text) {
    const dev = `serve --dev --listen wss://127.0.0.1:${this.ports[8443]}`;
    return text
      .replace(/^tar xf .* && cd \S+ && /m, '')
      .replace('serve --dev\n', `${dev}\n`)
      .replace(/\b(8443|9443|9000)\b/g, (port) => this.ports[port]);
  }

  start(text) {
    const child = boundGroup('/bin/sh', ['-c', text], { cwd: this.dir, env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    child.said = '';
    for (const out of [child.stdout, child.stderr]) out.setEncoding('utf8').on('data', (t) => (child.said += t));
    child.over = new Promise((resolve) => child.on('close', (code) => resolve((child.code = code))));
    child.end = async () => {
      if (child.code === undefined) process.kill(-child.pid, 'SIGTERM');
      await within(child.over, patience(20000), 'end after SIGTERM');
      assert.doesNotMatch(child.said, /Sanitizer|runtime error/);
    };
    atEnd(child.end);
    return child;
  }

  async run(text, want) {
    const child = this.start(text);
    const said = () => want.says.test(child.said);
    if (want.stays) {
      await until(() => said() || child.code !== undefined, `${want.says} from\n${text}`, 15000);
      assert.ok(said(), child.said);
      return child;
    }
    await within(child.over, patience(30000), `end of\n${text}`);
    assert.equal(child.code, 0, child.said);
    assert.ok(said(), `${want.says} from\n${text}\n${child.said}`);
    return child;
  }
}

/* follow runs a document. json is told that a configuration was written. */
async function follow(folder, document, json = () => {}) {
  const rows = [...EXPECTED[document]];
  const running = [];
  const text = fs.readFileSync(path.join(ROOT, document), 'utf8');
  for (const [, language, body] of text.matchAll(/^```(\w+)\n([^]*?)^```/gm)) {
    const block = folder.adapt(body);
    const name = block.match(/^\/\/ ([\w-]+\.js)/);
    if (language === 'js' && name) fs.writeFileSync(path.join(folder.dir, name[1]), block);
    if (language === 'json') {
      fs.writeFileSync(path.join(folder.dir, 'config.json'), block);
      await json();
    }
    if (language !== 'sh') continue;
    const row = rows.shift();
    assert.ok(row && body.includes(row.block), `a row for this block of ${document}?\n${body}`);
    if (row.skip) continue;
    const child = await folder.run(block, row);
    if (row.stays) running.push({ child, row });
  }
  assert.equal(rows.length, 0, `${document} has no block ${rows[0]?.block}`);
  for (const { child, row } of running)
    if (row.later) await until(() => row.later.test(child.said), `${row.later} from ${row.block}: ${child.said}`);
  return running;
}

test('README, raw mode, API, console and tokens: every command, in order, does what the text says', async () => {
  const folder = new Folder({ 8443: await freePort(), 9443: await freePort(), 9000: await freePort() });
  const running = await follow(folder, 'README.md');
  await follow(folder, 'docs/raw.md');
  await follow(folder, 'docs/api.md');
  await running.find(({ row }) => row.block === '--admin-listen').child.end();
  const [{ child: withConsole }] = await follow(folder, 'docs/console.md');
  await withConsole.end();
  await follow(folder, 'docs/tokens.md', async () => {
    await folder.run('exec ./roost serve --config config.json', { stays: true, says: READY });
  });
  const { ports } = folder;
  const pub = (token) => ['pub', `wss://localhost:${ports[9443]}`, 'chat', '--cacert', 'cert.pem', '--token-file', token, '--message', 'x'];
  await command(ROOST, pub('alice.token'), { cwd: folder.dir, env: folder.env }); /* made with the secret that is the previous one now */
}, { seconds: 120 });

await done();

/* The documents: each command in README.md, docs/raw.md, docs/api.md, docs/console.md and docs/tokens.md does what the text
 * says.
 *
 * The ```sh blocks of them run in order in one folder, with other ports. Each has a row below, so a new block
 * needs one. A block with a server, `roost sub` or chat.js stays running; its word is waited for, and later more of it. ```js blocks that begin with
 * a file name, and ```json ones, become files. */
import { assert, boundGroup, fs, path, ROOST, test, done, atEnd, temporary, within, patience, until, sanitizerEnv, command, freePort } from './lib.mjs';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const ROOT = path.join(HERE, '../..');
const MODULES = path.join(HERE, 'node_modules');
const SDK = JSON.parse(fs.readFileSync(path.join(MODULES, 'centrifuge5/package.json'))).version;
const PORTS = [8443, 8080, 9443, 9000, 9610, 9611, 9612];
const READY = /msg=ready\b/;
const GOOD_TOKEN = /signature +good/;

const TRANSCRIPT = Symbol('what the document shows in a block without a language');

/* needs: a program that may not be there; stays: it goes on running; says: what is waited for; later: what else it says until its document is over */
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
    { block: 'roost tune', skip: true }, /* tune.test.mjs */
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
  'docs/centrifuge.md': [
    { block: 'serve --dev', stays: true, says: READY, later: /^ +eyJ/m },
    { block: 'node chat.mjs', stays: true, says: /\{ hello: 'from the SDK' \}[^]*clients: \{/, later: /^from roost pub$/m },
    { block: 'check config.json', stays: true, says: READY },
    { block: 'token make', says: /^/ },
    { block: 'node listen.mjs', stays: true, says: /1 in the room/, later: TRANSCRIPT },
    { block: 'kill -USR1', says: /"offset":1,"epoch":[^]*"offset":2,"epoch":[^]*"publications":\[\{"data":\{"text":"while you were away"\},"offset":2\}\]/ },
    { block: 'http.server', stays: true, says: /Serving HTTP/, needs: 'python3' },
  ],
};

class Folder {
  static async make() {
    const found = new Set();
    while (found.size < PORTS.length) found.add(await freePort());
    return new Folder(Object.fromEntries([...found].map((port, i) => [PORTS[i], port])));
  }

  constructor(ports) {
    this.dir = temporary();
    this.ports = ports;
    this.env = { PATH: process.env.PATH, HOME: this.dir, NODE_PATH: MODULES, PYTHONUNBUFFERED: '1', ...sanitizerEnv };
    fs.symlinkSync(ROOST, path.join(this.dir, 'roost'));
    fs.mkdirSync(path.join(this.dir, 'node_modules'));
    for (const [name, target] of [['ws', 'ws'], ['centrifuge', 'centrifuge5']]) fs.symlinkSync(path.join(MODULES, target), path.join(this.dir, 'node_modules', name));
  }

  /* What is printed, but for the ports, for the tarball, which dist-test.sh unpacks, and for what run has installed. */
  adapt(text) {
    const dev = `serve --dev --listen wss://127.0.0.1:${this.ports[8443]} --listen ws://127.0.0.1:${this.ports[8080]}`;
    return text
      .replace(/^tar xf .* && cd \S+ && /m, '')
      .replace('serve --dev\n', `${dev}\n`)
      .replace(`npm install centrifuge@${SDK} ws\n`, '')
      .replace('eyJ...', () => this.token)
      .replace(new RegExp(`\\b(${PORTS.join('|')})\\b`, 'g'), (port) => this.ports[port]);
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

/* file is the name that a block has in the folder, if it becomes a file. */
function file(language, block) {
  if (language === 'json') return 'config.json';
  if (language === 'html') return 'page.html';
  return language === 'js' ? block.match(/^\/\/ ([\w-]+\.m?js)/)?.[1] : undefined;
}

/* follow runs a document. json is told that a configuration was written. */
async function follow(folder, document, json = () => {}) {
  const rows = [...EXPECTED[document]];
  const running = [];
  const text = fs.readFileSync(path.join(ROOT, document), 'utf8');
  for (const [, language, body] of text.matchAll(/^```(\w*)\n([^]*?)^```/gm)) {
    const block = folder.adapt(body);
    const name = file(language, block);
    if (name) fs.writeFileSync(path.join(folder.dir, name), block);
    if (language === 'json') await json();
    if (language === '') for (const { row } of running) row.shown ??= body;
    if (language !== 'sh') continue;
    const row = { ...rows.shift() };
    assert.ok(row.block && body.includes(row.block), `a row for this block of ${document}?\n${body}`);
    if (row.skip || (row.needs && spawnSync(row.needs, ['--version']).error)) continue;
    const child = await folder.run(block, row);
    if (row.stays) running.push({ child, row });
    folder.token ??= child.said.match(/^ +(eyJ\S+)$/m)?.[1];
  }
  assert.equal(rows.length, 0, `${document} has no block ${rows[0]?.block}`);
  for (const { child, row } of running) {
    const said = row.later === TRANSCRIPT ? () => child.said === row.shown : () => row.later.test(child.said);
    if (row.later) await until(said, `${row.later === TRANSCRIPT ? row.shown : row.later} from ${row.block}: ${child.said}`);
  }
  return running;
}

test('README, raw mode, API, console and tokens: every command, in order, does what the text says', async () => {
  const folder = await Folder.make();
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

test('Centrifuge SDKs: every command, in order, does what the text says', async () => {
  const folder = await Folder.make();
  await follow(folder, 'docs/centrifuge.md', async () => { /* by then chat.mjs listens */
    await command(ROOST, ['pub', `ws://127.0.0.1:${folder.ports[8080]}`, 'chat', '--message', 'from roost pub'], { cwd: folder.dir, env: folder.env });
  });
}, { seconds: 120 });

await done();

#!/usr/bin/env node
/* bench/peers/run.mjs FOLDER: roost beside its peers, one server at a time on loopback, each driven by `roost bench`.
 *
 * Rounds are interleaved: every server once, then all again. What is compared is work per second of the server's CPU time
 * (all its threads and children). Writes FOLDER/results.json, results.md and a picture for each row (SVG). A server that is not
 * there is left out, and said. ROUNDS, SECONDS_EACH, ONLY (names, semicolons between) may be set. Bounded: every run has a deadline. */
import { spawn, spawnSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const ROOT = path.join(HERE, '../..');
const FOLDER = path.resolve(process.argv[2] || path.join(ROOT, 'build/peers'));
const BUILD = path.join(ROOT, 'build/release');
const ROUNDS = Number(process.env.ROUNDS) || 3;
const SECONDS = Number(process.env.SECONDS_EACH) || 2;
const SECRET = crypto.randomBytes(32).toString('hex');
const MODULES = path.join(FOLDER, 'node_modules');

/* ---- servers ---------------------------------------------------------------------------------------- */

const cert = path.join(FOLDER, 'cert.pem');
const key = path.join(FOLDER, 'key.pem');

const nodePeer = (file) => (port, tls) => [process.execPath, path.join(HERE, file), port, MODULES, ...(tls ? [cert, key] : [])];

function nginx(port, tls) {
  const conf = path.join(FOLDER, 'nginx.conf');
  const text = fs.readFileSync(path.join(HERE, 'nginx.conf'), 'utf8').replaceAll('@FOLDER@', FOLDER).replace('@PORT@', port)
    .replace('@LISTEN@', tls ? 'ssl' : '').replace('        @TLS@', tls ? `        ssl_certificate ${cert}; ssl_certificate_key ${key};` : '');
  fs.writeFileSync(conf, text.replace(/load_module .*/, (line) => (fs.existsSync('/usr/lib/nginx/modules/ngx_nchan_module.so') ? line.replace('modules/', '/usr/lib/nginx/modules/') : '')));
  return ['nginx', '-c', conf, '-p', FOLDER];
}

const PEERS = {
  roost: { start: (port, tls) => [path.join(BUILD, 'roost'), 'serve', '--workers', '1', '--echo', '--listen', `${tls ? 'wss' : 'ws'}://127.0.0.1:${port}`, ...(tls ? ['--cert', cert, '--key', key] : [])], version: () => said(path.join(BUILD, 'roost'), ['--version']) },
  'bare epoll loop': { bare: (row) => path.join(BUILD, row.mode === 'fanout' ? 'bare_fanout' : 'bare_echo'), only: (row) => ['echo', 'fanout'].includes(row.mode) && !row.tls, version: () => 'bench/bare_*.c' },
  'uWebSockets.js': { start: nodePeer('uws.mjs'), needs: () => fs.existsSync(path.join(MODULES, 'uwebsockets')), version: () => moduleVersion('uwebsockets') },
  ws: { start: nodePeer('ws.mjs'), needs: () => fs.existsSync(path.join(MODULES, 'ws')), version: () => moduleVersion('ws') },
  libwebsockets: { start: (port, tls) => [path.join(FOLDER, 'lws'), port, ...(tls ? [cert, key] : [])], needs: () => fs.existsSync(path.join(FOLDER, 'lws')), version: () => said('dpkg-query', ['-W', '-f', '${Version}', 'libwebsockets-dev']) },
  'nginx, nchan': { start: nginx, needs: () => fs.existsSync('/usr/lib/nginx/modules/ngx_nchan_module.so'), channels: true, version: () => said('dpkg-query', ['-W', '-f', '${Version}', 'libnginx-mod-nchan']) },
};

function said(program, args) {
  const result = spawnSync(program, args, { encoding: 'utf8' });
  return (result.stdout || result.stderr || '').trim().split('\n')[0] || 'not known';
}
const moduleVersion = (name) => JSON.parse(fs.readFileSync(path.join(MODULES, name, 'package.json'), 'utf8')).version;

/* ---- rows: the tests of peers.md --------------------------------------------------------------------- */

const echo = (name, more) => ({ name, mode: 'echo', ...more });
const fanout = (name, more) => ({ name, mode: 'fanout', ...more });
const ROWS = [
  echo('echo 64 B, 64 connections', { connections: 64 }),
  echo('echo 64 B, 1,000 connections', { connections: 1000 }),
  echo('echo 16 KiB, 64 connections', { connections: 64, size: 16384 }),
  echo('echo 64 B, 16 in flight', { connections: 64, window: 16 }),
  fanout('fan-out 128 B to 1,000, one at a time', { connections: 1000 }),
  fanout('fan-out 128 B to 1,000, 16 under way', { connections: 1000, window: 16 }),
  fanout('fan-out 128 B to 10,000, one at a time', { connections: 10000 }),
  echo('echo 64 B over TLS', { connections: 64, tls: true }),
  fanout('fan-out 128 B to 1,000 over TLS', { connections: 1000, tls: true }),
  { name: 'connects, plain', mode: 'connect', unit: 'each' },
  { name: 'connects over TLS, full handshakes', mode: 'connect', tls: true, unit: 'each' },
  { name: 'idle, bytes of user memory a connection, plain', mode: 'idle', connections: 10000, unit: 'bytes' },
  { name: 'idle, bytes of user memory a connection, TLS', mode: 'idle', connections: 3000, tls: true, unit: 'bytes' },
];

/* ---- one run -------------------------------------------------------------------------------------------- */

const freePort = () => new Promise((resolve) => {
  const probe = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address();
    probe.close(() => resolve(String(port)));
  });
});

async function reachable(port, child) {
  for (const end = Date.now() + 15000; Date.now() < end && child.exitCode === null;) {
    const open = await new Promise((resolve) => net.connect(port, '127.0.0.1', function () { this.destroy(); resolve(true); }).on('error', () => resolve(false)));
    if (open) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}

const ended = (child) => new Promise((resolve) => (child.exitCode !== null || child.signalCode ? resolve() : child.on('exit', resolve)));

async function stop(child) {
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 10000);
  await ended(child);
  clearTimeout(timer);
}

/* benchArgs: target is where the server is, or how `roost bench` starts one. */
function benchArgs(row, peer, target) {
  const args = ['bench', row.mode, ...target, '--json', '--quiet', '--seconds', SECONDS];
  for (const option of ['connections', 'size', 'window']) if (row[option]) args.push(`--${option}`, row[option]);
  if (row.mode === 'echo') args.push('--dialect', peer.channels ? 'raw' : 'echo'); /* a channel of its own for each */
  if (row.tls) args.push('--insecure');
  return args.map(String);
}

/* drive runs the client; answers the figure, or null if anything was lost. */
async function drive(row, args) {
  const client = spawn(path.join(BUILD, 'roost'), args, { stdio: ['ignore', 'pipe', 'ignore'], env: { PATH: process.env.PATH, ROOST_TOKEN: token() } });
  let out = '';
  client.stdout.on('data', (text) => { out += text; });
  const timer = setTimeout(() => client.kill('SIGKILL'), (SECONDS + 90) * 1000);
  await new Promise((resolve) => client.on('close', resolve));
  clearTimeout(timer);
  const answer = out ? JSON.parse(out) : null;
  if (!answer?.ok) return null;
  return row.mode === 'idle' ? answer.bytes_per_connection : answer.per_server_cpu_second;
}

async function run(peer, row) {
  if (peer.bare) return drive(row, benchArgs(row, peer, ['--bare', peer.bare(row)]));
  const port = await freePort();
  const [program, ...args] = peer.start(port, row.tls);
  const server = spawn(program, args, { stdio: 'ignore', env: { PATH: process.env.PATH, ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET } });
  server.on('error', () => {});
  try {
    if (!(await reachable(port, server))) return null;
    return await drive(row, benchArgs(row, peer, [`${row.tls ? 'wss' : 'ws'}://127.0.0.1:${port}`, '--server-pid', server.pid]));
  } finally {
    await stop(server);
  }
}

function token() {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: crypto.randomUUID(), exp: Math.floor(Date.now() / 1000) + 36000, roost: { pub: ['*'], sub: ['*'] } })}`;
  return `${text}.${crypto.createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

/* ---- all of them ------------------------------------------------------------------------------------------ */

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const shown = (row, n) => (row.unit ? Math.round(n).toLocaleString('en') : (n / 1000).toFixed(n < 10000 ? 1 : 0).replace(/\B(?=(\d{3})+(?!\d))/g, ','));

function cell(row, list) {
  if (!list.length) return '-';
  return `${shown(row, median(list))} (${shown(row, Math.min(...list))}-${shown(row, Math.max(...list))})`;
}

function table(names, results) {
  const lines = [`| thousands per server-CPU-second, or as said | ${names.join(' | ')} |`, `|---|${'---|'.repeat(names.length)}`];
  for (const row of ROWS) lines.push(`| ${row.name} | ${names.map((name) => cell(row, results[row.name][name])).join(' | ')} |`);
  return `${lines.join('\n')}\n`;
}

const escape = (text) => text.replace(/[<&]/g, (c) => ({ '<': '&lt;', '&': '&amp;' })[c]);

/* A bar for each server, the spread of its runs as a line. */
function picture(row, names, lists) {
  const most = Math.max(...names.flatMap((name) => lists[name]), 1);
  const x = (n) => 190 + (n / most) * 400;
  const bars = names.map((name, i) => {
    const y = 44 + i * 26;
    const list = lists[name];
    if (!list.length) return `<text x="180" y="${y + 13}" text-anchor="end">${escape(name)}</text><text x="196" y="${y + 13}">not run</text>`;
    return `<text x="180" y="${y + 13}" text-anchor="end">${escape(name)}</text><rect x="190" y="${y}" width="${(x(median(list)) - 190).toFixed(1)}" height="18" fill="${name === 'roost' ? '#b4552d' : '#8a8f98'}"/>`
      + `<path d="M${x(Math.min(...list)).toFixed(1)} ${y + 9}H${x(Math.max(...list)).toFixed(1)}" stroke="#222"/><text x="${(x(Math.max(...list)) + 6).toFixed(1)}" y="${y + 13}">${shown(row, median(list))}</text>`;
  });
  const what = row.unit === 'bytes' ? 'bytes, less is better' : `${row.unit ? '' : 'thousands '}per server-CPU-second, more is better`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="700" height="${60 + names.length * 26}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>`
    + `<text x="10" y="20" font-size="14">${escape(row.name)}</text><text x="10" y="36" fill="#555">${what}; median, line: lowest to highest of ${ROUNDS}</text>${bars.join('')}</svg>\n`;
}

function machine() {
  const cpu = os.cpus()[0]?.model ?? 'a CPU';
  return `${new Date().toISOString().slice(0, 10)}, ${os.cpus().length} CPUs (${cpu}), Linux ${os.release()}, ${Math.round(os.totalmem() / 2 ** 30)} GiB, load ${os.loadavg()[0].toFixed(1)} at the end`;
}

const only = process.env.ONLY?.split(';');
const names = Object.keys(PEERS).filter((name) => (!only || only.includes(name)));
const there = names.filter((name) => PEERS[name].needs?.() ?? true);
for (const name of names) if (!there.includes(name)) console.log(`SKIP ${name}: it is not installed (bench/peers/install.sh)`);
const results = Object.fromEntries(ROWS.map((row) => [row.name, Object.fromEntries(there.map((name) => [name, []]))]));
fs.mkdirSync(FOLDER, { recursive: true });
spawnSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', '/CN=localhost', '-keyout', key, '-out', cert], { stdio: 'ignore' });

for (let round = 0; round < ROUNDS; round++) {
  for (const row of ROWS) {
    for (const name of there) {
      if (PEERS[name].only && !PEERS[name].only(row)) continue;
      const figure = await run(PEERS[name], row);
      if (figure !== null && figure !== undefined) results[row.name][name].push(figure);
      console.log(`round ${round + 1}/${ROUNDS}  ${row.name}  ${name}  ${figure === null || figure === undefined ? 'failed' : shown(row, figure)}`);
    }
  }
}

const versions = there.map((name) => `${name}: ${PEERS[name].version()}`).join('; ');
const page = `${machine()}.\n${versions}.\nMedian (lowest-highest) of ${ROUNDS} interleaved rounds of ${SECONDS} s; - is a run that the peer has not, or that lost messages.\n\n${table(there, results)}`;
fs.writeFileSync(path.join(FOLDER, 'results.json'), JSON.stringify(results, null, 1));
fs.writeFileSync(path.join(FOLDER, 'results.md'), page);
ROWS.forEach((row, i) => fs.writeFileSync(path.join(FOLDER, `${String(i + 1).padStart(2, '0')}.svg`), picture(row, there, results[row.name])));
console.log(`\n${page}\npictures: ${FOLDER}/*.svg`);

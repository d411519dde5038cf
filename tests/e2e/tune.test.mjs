/* roost tune: looks at this host, sets and takes back on a tree that stands for one. */
import { assert, fs, path, ROOST, test, done, command, temporary, sanitizerEnv } from './lib.mjs';

const run = (args, options = {}) => command(ROOST, ['tune', ...args], { ...options, env: { PATH: process.env.PATH, ...sanitizerEnv, ...options.env } });
const CONF = 'etc/sysctl.d/90-roost.conf';

/* A host of 24 GiB with the kernel's defaults. */
function host(changes = {}) {
  const root = temporary();
  const files = {
    'proc/meminfo': 'MemTotal:       25000000 kB\n', 'proc/self/limits': 'Max open files            1024                 1048576              files     \n',
    'proc/sys/fs/nr_open': '1048576\n', 'proc/sys/fs/file-max': '2466174\n', 'proc/sys/fs/file-nr': '1000\t0\t2466174\n', 'proc/sys/fs/epoll/max_user_watches': '5491489\n',
    'proc/sys/net/ipv4/tcp_mem': '287898\t383866\t575796\n', 'proc/sys/net/core/somaxconn': '4096\n', 'proc/sys/net/ipv4/tcp_synack_retries': '5\n', 'proc/sys/net/ipv4/tcp_rmem': '4096\t131072\t6291456\n',
    'etc/sysctl.d/10-other.conf': 'kernel.panic = 1\n', ...changes,
  };
  for (const [file, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
    fs.writeFileSync(path.join(root, file), text);
  }
  const read = (file) => fs.readFileSync(path.join(root, file), 'utf8');
  return { root, read, exists: (file) => fs.existsSync(path.join(root, file)), sysctl: (name) => read(`proc/sys/${name.replaceAll('.', '/')}`).trim().replaceAll('\t', ' ') };
}

test('this host: a table, JSON with every check, exit code by what fails', async () => {
  const few = await run(['--connections', '1'], { code: null });
  assert.equal(few.code, /^FAIL/m.test(few.out) ? 1 : 0, few.out);
  assert.match(few.out, /^OK +memory /m);
  assert.doesNotMatch(few.out, /\x1b/, 'colours are for terminals');
  const { checks, connections } = JSON.parse((await run(['--connections', '100M', '--json'], { code: 1 })).out);
  assert.equal(connections, 100000000);
  assert.ok(checks.length > 40);
  for (const check of checks) {
    assert.deepEqual(Object.keys(check), ['name', 'now', 'want', 'verdict', 'why']);
    assert.ok(['OK', 'WARN', 'FAIL', 'UNKNOWN'].includes(check.verdict) && check.why, JSON.stringify(check));
  }
  assert.equal(checks.find((c) => c.name === 'memory').verdict, 'FAIL');
  const limit = fs.readFileSync('/proc/self/limits', 'utf8').match(/Max open files +\d+ +(\d+)/)[1];
  assert.equal(checks.find((c) => c.name === 'RLIMIT_NOFILE').now, limit);
});

test('--apply shows the difference, writes the file, sets; a second one for more connections; --undo takes all back', async () => {
  const h = host();
  const first = await run(['--root', h.root, '--connections', '1000', '--apply']);
  assert.match(first.out, /^- net\.ipv4\.tcp_synack_retries = 5\n\+ net\.ipv4\.tcp_synack_retries = 3$/m);
  assert.doesNotMatch(first.out, /^\+ net\.core\.somaxconn/m);
  assert.equal(h.sysctl('net.ipv4.tcp_synack_retries'), '3');
  const second = await run(['--root', h.root, '--connections', '1M', '--apply'], { code: 0 });
  assert.match(second.out, /^\+ net\.ipv4\.tcp_mem = 300000 400000 600000$/m);
  assert.match(second.out, /LimitNOFILE=1001000/);
  assert.deepEqual([h.sysctl('net.core.somaxconn'), h.sysctl('net.ipv4.tcp_mem'), h.sysctl('net.ipv4.tcp_rmem')], ['62500', '300000 400000 600000', '4096 131072 320000']);
  const lines = h.read(CONF).split('\n');
  assert.deepEqual([lines.includes('net.core.somaxconn = 62500'), lines.includes('net.ipv4.tcp_synack_retries = 3')], [true, true]);
  assert.ok(lines.every((l) => !l || l.startsWith('#') || /^[a-z0-9._]+ = [0-9 ]+$/.test(l)), 'sysctl -p reads it');
  assert.match((await run(['--root', h.root, '--connections', '1M', '--apply'])).out, /Nothing to set/);
  fs.writeFileSync(path.join(h.root, 'proc/sys/net/core/somaxconn'), '65000\n'); /* by somebody who knows better */
  fs.writeFileSync(path.join(h.root, 'proc/sys/net/ipv4/tcp_synack_retries'), '5\n');
  const third = await run(['--root', h.root, '--connections', '1M', '--apply']);
  assert.match(third.out, /^\+ net\.ipv4\.tcp_synack_retries = 3$/m);
  assert.doesNotMatch(third.out, /^\+ net\.core/m);
  assert.deepEqual([h.sysctl('net.core.somaxconn'), h.sysctl('net.ipv4.tcp_synack_retries')], ['65000', '3']);
  assert.ok(h.read(CONF).includes('\nnet.core.somaxconn = 65000\n'), 'what is enough stays, also after the next start');
  const undone = await run(['--root', h.root, '--undo']);
  assert.match(undone.out, /Removed/);
  assert.deepEqual([h.sysctl('net.core.somaxconn'), h.sysctl('net.ipv4.tcp_mem'), h.sysctl('net.ipv4.tcp_synack_retries'), h.sysctl('net.ipv4.tcp_rmem')], ['4096', '287898 383866 575796', '5', '4096 131072 6291456']);
  assert.deepEqual([h.exists(CONF), h.exists('etc/sysctl.d/10-other.conf')], [false, true]);
  assert.match((await run(['--root', h.root, '--undo'])).out, /Nothing to undo/);
});

test('what can not be set is said, and the exit code is 1; a file of somebody else is left alone', async () => {
  const foreign = host({ [CONF]: 'net.core.somaxconn = 1\n' });
  const refused = await run(['--root', foreign.root, '--apply', '--connections', '1M'], { code: 1 });
  assert.match(refused.err, /was not made by roost tune: move it away/);
  assert.deepEqual([foreign.read(CONF), foreign.sysctl('net.core.somaxconn')], ['net.core.somaxconn = 1\n', '4096']);
  assert.match((await run(['--root', foreign.root, '--undo'], { code: 1 })).err, /was not made by/);
  const gone = host();
  await run(['--root', gone.root, '--apply', '--connections', '1M']);
  fs.rmSync(path.join(gone.root, 'proc/sys/net/core/somaxconn'));
  const half = await run(['--root', gone.root, '--undo'], { code: 1 });
  assert.match(half.err, /net\.core\.somaxconn = 4096: No such file/);
  assert.ok(gone.exists(CONF), 'what was is kept until it is set back');
  assert.match((await run(['--root', path.join(gone.root, 'etc')], { code: 1 })).err, /meminfo: No such file/);
});

test('the command line: help, numbers, opposites', async () => {
  assert.match((await run(['--help'])).out, /usage: roost tune/);
  for (const args of [['--connections', '0'], ['--connections', 'many'], ['--connections', '-5'], ['--connections', '101M'], ['--processes', '0'], ['--apply', '--undo'], ['--json', '--apply'], ['more'], ['--no']])
    assert.match((await run(args, { code: 2 })).err, /--help` says more/, args.join(' '));
});

test('bench/TUNING.md holds the table that --markdown prints', async () => {
  const page = fs.readFileSync(new URL('../../bench/TUNING.md', import.meta.url), 'utf8');
  assert.ok(page.includes((await run(['--markdown'])).out), 'run: roost tune --markdown, and put it into bench/TUNING.md');
});

await done();

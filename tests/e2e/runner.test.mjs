/* The runner itself: however it ends, nothing that a test started stays behind. */
import { assert, boundGroup, fs, path, serve, test, done, atEnd, until, within, patience, lines, temporary, VARIANT } from './lib.mjs';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const RUN = path.join(path.dirname(fileURLToPath(import.meta.url)), 'run');

/* Gone is also one that nobody has waited for yet. */
function gone(pid) {
  try {
    return /^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}

/* What a runner below runs: a server, and a shell with a child that holds no pipe of ours. */
if (process.env.E2E_STAYS) {
  test('stays', async () => {
    const server = await serve();
    const shell = boundGroup('/bin/sh', ['-c', 'sleep 600 >/dev/null 2>&1 & echo $!; wait'], { cwd: temporary(), stdio: ['ignore', 'pipe', 'ignore'] });
    console.log(`pids ${process.pid} ${server.child.pid} ${shell.pid} ${await lines(shell.stdout)()}`);
    await new Promise(() => {});
  });
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL']) {
  test(`a runner ended by ${signal}: its test, the server and the shell of it end too`, async () => {
    const tmp = temporary();
    const runner = spawn(RUN, [VARIANT, 'runner: stays'], { env: { ...process.env, E2E_STAYS: '1', TMPDIR: tmp }, stdio: ['ignore', 'pipe', 'inherit'] });
    atEnd(() => runner.kill('SIGKILL'));
    const over = new Promise((resolve) => runner.on('close', resolve));
    const said = await lines(runner.stdout)(20000);
    const pids = said.match(/^pids (\d+) (\d+) (\d+) (\d+)$/)?.slice(1) ?? assert.fail(said);
    assert.ok(!pids.some(gone), said);
    runner.kill(signal);
    await within(over, patience(5000), 'end of the runner');
    await until(() => pids.every(gone), `the end of ${said}`, 5000);
  });
}

await done();

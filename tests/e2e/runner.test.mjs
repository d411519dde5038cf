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

/* And these: one that passes the second time, one that never does, one whose failure decides. */
const again = (name, options) => {
  let runs = 0;
  test(name, async () => assert.equal(++runs, 2, `run ${runs}`), options);
};
if (process.env.E2E_AGAIN) {
  again('again: at the second time');
  test('again: never', async () => assert.fail('as ever'));
  again('again: decided', { final: true });
}

for (const retry of ['', '1']) {
  test(`RETRY=${retry}: what failed and passes when run again is told apart, what is decided is not run again`, async () => {
    const runner = spawn(RUN, [VARIANT, 'runner: again'], { env: { ...process.env, E2E_AGAIN: '1', RETRY: retry }, stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    runner.stdout.on('data', (text) => { said += text; });
    const code = await within(new Promise((resolve) => runner.on('close', resolve)), patience(30000), 'end of the runner');
    assert.equal(code, 1, said);
    assert.match(said, retry ? /^FLAKY runner: again: at the second time .*before:\n    run 1/m : /^FAIL {2}runner: again: at the second time\n    run 1/m);
    assert.match(said, /^FAIL {2}runner: again: never\n    as ever/m);
    assert.match(said, /^FAIL {2}runner: again: decided\n    run 1/m);
    assert.match(said, retry ? /: 1 passed, 2 failed, 0 skipped \(1 passed when run again/ : /: 0 passed, 3 failed, 0 skipped\n/);
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

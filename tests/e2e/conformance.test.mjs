/* RFC 6455 against /echo with a limit of 16 MiB: the cases of cases.mjs, strictly. */
import { assert, serve, upgraded, frame, closeFrame, fresh, test, done, OP, scaled, spread, token, bearer } from './lib.mjs';
import { cases } from './cases.mjs';

async function sendAll(raw, c, chop) {
  if (c.apart) {
    for (const f of c.send) await raw.written(f);
    return;
  }
  const bytes = Buffer.concat(c.send);
  if (!chop) {
    raw.write(bytes);
    return;
  }
  for (let at = 0; at < bytes.length && !raw.ended && !raw.error; at += chop) await raw.written(bytes.subarray(at, at + chop));
}

async function expectFrames(raw, expected) {
  for (const [opcode, payload] of expected) {
    const f = await raw.frame(30000);
    const got = `fin ${f.fin} rsv ${f.rsv} opcode ${f.opcode}, ${f.payload.length} bytes ${f.payload.subarray(0, 40).toString('hex')}`;
    assert.ok(f.fin && f.rsv === 0 && f.opcode === opcode && f.payload.equals(payload),
      `wanted opcode ${opcode}, ${payload.length} bytes ${payload.subarray(0, 40).toString('hex')}, got ${got}`);
  }
}

async function expectClose(raw, payload) {
  const f = await raw.frame();
  assert.equal(f.opcode, OP.CLOSE, `opcode ${f.opcode}: ${f.payload.subarray(0, 40)}`);
  if (payload === null) assert.ok(f.payload.length === 0 || f.payload.readUInt16BE() === 1000);
  else assert.equal(f.payload.subarray(0, 2).toString('hex'), payload.subarray(0, 2).toString('hex'));
}

async function runCase(server, c, auth, chop = c.chop) {
  const made = c.make ? c.make() : {};
  c = { ...c, ...made };
  const raw = await upgraded(server, '/echo', bearer(auth));
  const fail = c.fail ? Buffer.from([c.fail >> 8, c.fail & 255]) : null;
  if (c.wait) {
    for (const f of c.send.slice(0, c.wait)) await raw.written(f);
    await expectClose(raw, fail); /* before the rest is sent */
    return;
  }
  const sending = sendAll(raw, c, chop);
  for (let i = 0; i < (c.times || 1); i++) {
    if (i) raw.write(Buffer.concat(c.send));
    await expectFrames(raw, c.expect);
  }
  if (fail || c.answered) {
    await expectClose(raw, fail || c.answered);
    if (fail) raw.write(closeFrame(c.fail));
  } else {
    await sending;
    raw.write(frame(OP.CLOSE, c.close));
    await expectClose(raw, 'answer' in c ? c.answer : c.close);
  }
  assert.equal((await raw.over()).length, 0, 'bytes behind the Close');
  raw.socket.destroy();
}

async function runAll(chosen, chop, width = 4) {
  const server = await serve(['--echo', '--max-message', '16MiB']);
  const auth = token();
  const failed = [];
  await spread(chosen.length, width, async (i) => {
    try {
      await runCase(server, chosen[i], auth, chop ?? chosen[i].chop);
    } catch (error) {
      failed.push(`${chosen[i].id}: ${error.message.split('\n')[0].slice(0, 300)}`);
    }
  });
  await fresh(server);
  assert.equal(failed.length, 0, `${failed.length} of ${chosen.length}:\n${failed.slice(0, 20).join('\n')}`);
}

const section = (n) => cases.filter((c) => c.id.startsWith(`${n}.`));
const titles = {
  1: 'framing', 2: 'pings and pongs', 3: 'reserved bits', 4: 'reserved opcodes', 5: 'fragments', 6: 'UTF-8',
  7: 'closing', mask: 'masks', length: 'lengths', 10: 'odd fragment sizes',
};
for (const [n, title] of Object.entries(titles))
  test(`section ${n}: ${title}, ${section(n).length} cases`, () => runAll(section(n)));

const chopped = cases.filter((c) => !c.make && !c.apart && Buffer.concat(c.send).length < 2000);
test(`${chopped.length} of them again, octet by octet`, () => runAll(chopped, 1, 8), { seconds: 120 });

/* A sanitizer's build gets the small ones. */
const large = section('9').filter((c, i) => scaled(100) === 100 || i % 6 < 2);
test(`section 9: large messages, ${large.length} cases`, () => runAll(large, undefined, 2), { seconds: 240 });

await done();

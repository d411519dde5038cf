/* The API's methods on the connections of users, on several workers; batch; keys with scopes; the audit line
 * (protocol.md section 7, docs/api.md). */
import { assert, fs, path, serve, connect, test, done, Raw, API_KEY, requestHead, nowSeconds, token, until, scaled, temporary } from './lib.mjs';
import { Speaker, settings, api, result } from './centrifuge.mjs';

const start = (more = {}, args = []) => serve([...settings(more), '--workers', '2', ...args]);
const as = (server, user, options) => Speaker.connected(server, { user, ...options });
const crowd = (server, user, n) => Promise.all(Array.from({ length: n }, () => as(server, user)));
const call = (method, body) => requestHead('POST', `/api/${method}`, { Host: 'x', 'X-API-Key': API_KEY, 'Content-Length': Buffer.byteLength(body) }) + body;

test('a call reaches every connection of the user on all workers, and no other', async () => {
  const server = await start();
  const many = await crowd(server, 'many', 16);
  const other = await as(server, 'other');
  const nobody = await Speaker.connected(server);
  await result(server, 'subscribe', { user: 'many', channel: 'a', data: { hello: [1] } });
  for (const c of many) assert.deepEqual((await c.push('subscribe', 'a')).data, { hello: [1] });
  const { connections } = await result(server, 'connections', { user: 'many' });
  assert.equal(Object.keys(connections).length, 16);
  assert.equal(new Set(Object.values(connections).map((c) => c.worker)).size, 2, 'all on one worker: the test shows nothing');
  assert.equal((await result(server, 'channels', { pattern: '?' })).channels.a.num_clients, 16);
  await result(server, 'publish', { channel: 'a', data: 1 });
  for (const c of many) assert.equal((await c.push('pub', 'a')).data, 1);
  await result(server, 'unsubscribe', { user: 'many', channel: 'a' });
  await result(server, 'publish', { channel: 'a', data: 2 });
  for (const c of many) assert.equal((await c.push('unsubscribe', 'a')).code, 2000);
  for (const c of [...many, other, nobody]) await c.quiet();
  await result(server, 'disconnect', { user: 'many' });
  for (const c of many) await c.closes(3503);
  await other.quiet();
  await result(server, 'disconnect', {}); /* no user: the anonymous connections, not everybody */
  await nobody.closes(3503);
  await other.quiet();
});

test('client narrows, whitelist spares, a session is nobody\'s', async () => {
  const server = await start();
  const [a, b, c] = await crowd(server, 'u', 3);
  await result(server, 'subscribe', { user: 'u', client: b.id, channel: 'x' });
  await b.push('subscribe', 'x');
  await result(server, 'subscribe', { user: 'u', session: 's', channel: 'y' });
  await result(server, 'subscribe', { user: 'u', client: 'no-such', channel: 'y' });
  for (const s of [a, b, c]) await s.quiet();
  await result(server, 'disconnect', { user: 'u', whitelist: [a.id, 'no-such', b.id] });
  await c.closes(3503);
  await result(server, 'disconnect', { user: 'u', client: a.id, disconnect: { code: 4100, reason: 'bye' } });
  await a.closes(4100);
  await b.quiet();
});

test('raw connections of the user are closed as well, those of others not', async () => {
  const server = await start();
  const [mine, echo, theirs] = [await connect(server, '/raw/a', { token: token({ sub: 'u' }) }), await connect(server, '/raw/b', { token: token({ sub: 'u' }) }),
    await connect(server, '/raw/a', { token: token({ sub: 'v' }) })];
  const { connections } = await result(server, 'connections', { user: 'u' });
  const [id] = Object.entries(connections).find(([, c]) => c.protocol === 'raw');
  assert.match(id, /^raw-\d+-\d+$/);
  await result(server, 'disconnect', { user: 'u', client: id });
  await until(() => [mine, echo].filter((c) => c.close).length === 1, 'the one that was named');
  await result(server, 'disconnect', { user: 'u' });
  assert.equal((await mine.over()).code, 3503);
  assert.equal((await echo.over()).code, 3503);
  theirs.send('still here');
  assert.equal(await theirs.next(), 'still here');
});

test('subscribe: what is missed comes behind the push; expiry; override; who has it keeps it', async () => {
  const server = await start();
  const c = await as(server, 'u');
  for (let i = 1; i <= 3; i++) await result(server, 'publish', { channel: 'hist:s', data: i });
  const { epoch } = await result(server, 'history', { channel: 'hist:s' });
  await result(server, 'subscribe', { user: 'u', channel: 'hist:s', recover_since: { offset: 1, epoch }, info: { a: 1 } });
  const push = await c.push('subscribe', 'hist:s');
  assert.deepEqual([push.recoverable, push.positioned, push.epoch, push.offset], [true, true, epoch, 1]);
  assert.deepEqual([(await c.push('pub')).offset, (await c.push('pub')).offset], [2, 3]);
  await result(server, 'subscribe', { user: 'u', channel: 'hist:s' });
  await c.quiet();
  await result(server, 'subscribe', { user: 'u', channel: 'hist:o', override: { force_recovery: { value: false } }, b64info: Buffer.from('{"b":1}').toString('base64') });
  assert.equal((await c.push('subscribe', 'hist:o')).recoverable, undefined);
  await result(server, 'subscribe', { user: 'u', channel: 'pres:p', info: { chan: true } });
  await c.push('subscribe', 'pres:p');
  assert.deepEqual((await result(server, 'presence', { channel: 'pres:p' })).presence[c.id], { user: 'u', client: c.id, chan_info: { chan: true } });
  await result(server, 'subscribe', { user: 'u', channel: 'gone', expire_at: nowSeconds() + 1 });
  await c.push('subscribe', 'gone');
  await c.closes(3006); /* a server-side subscription that is not renewed */
});

test('refresh: moves the end, tells it, changes the info; expired ends it', async () => {
  const server = await start();
  const c = await Speaker.connected(server, { params: { token: token({ sub: 'u', exp: nowSeconds() + 2, roost: undefined }) } });
  await result(server, 'refresh', { user: 'u', expire_at: nowSeconds() + 100, info: { name: 'new' } });
  const push = await c.push('refresh');
  assert.ok(push.expires && push.ttl >= 90 && push.ttl <= 101, JSON.stringify(push));
  await c.ok('subscribe', { channel: 'pres:p' });
  assert.deepEqual((await c.ok('presence', { channel: 'pres:p' })).presence[c.id].conn_info, { name: 'new' });
  await new Promise((r) => setTimeout(r, 3500)); /* past the token's exp and its grace */
  await c.ok('presence', { channel: 'pres:p' });
  await result(server, 'refresh', { user: 'u' });
  assert.equal((await c.push('refresh')).expires, undefined);
  await result(server, 'refresh', { user: 'u', expired: true });
  await c.closes(3005);
});

test('wrong requests: 107 or 102 or 400, and nothing happens', async () => {
  const server = await start();
  const c = await as(server, 'u');
  const code = async (method, body) => {
    const answer = await api(server, method, body);
    return answer.status === 400 ? 400 : answer.json.error?.code;
  };
  const rows = [
    ['subscribe', { user: 'u' }, 107], ['subscribe', { user: 'u', channel: '' }, 107], ['subscribe', { user: 'u', channel: 'no:x' }, 102],
    ['subscribe', { user: 1, channel: 'a' }, 400], ['subscribe', { user: 'u', channel: 'a', info: 1, b64info: 'eyJ9' }, 400],
    ['subscribe', { user: 'u', channel: 'a', b64data: '***' }, 400], ['subscribe', { user: 'u', channel: 'a', expire_at: 1 }, 107],
    ['subscribe', { user: 'u', channel: 'a', override: { presence: { value: 1 } } }, 400], ['subscribe', { user: 'u', channel: 'a', override: 1 }, 400],
    ['subscribe', { user: 'u', channel: 'a', recover_since: { offset: -1 } }, 400],
    ['unsubscribe', { user: 'u', channel: '' }, 107], ['unsubscribe', { user: 'u' }, 107],
    ['disconnect', { user: 'u', disconnect: { code: 2999, reason: 'x' } }, 107], ['disconnect', { user: 'u', disconnect: { code: 5000, reason: 'x' } }, 107],
    ['disconnect', { user: 'u', disconnect: { code: 4000 } }, 107], ['disconnect', { user: 'u', disconnect: { code: 4000, reason: '{"a":1}' } }, 107],
    ['disconnect', { user: 'u', disconnect: { code: 4000, reason: 'x'.repeat(124) } }, 107], ['disconnect', { user: 'u', disconnect: 1 }, 400],
    ['disconnect', { user: 'u', whitelist: [1] }, 400], ['disconnect', { user: 'u', whitelist: Array(1025).fill('x') }, 400],
    ['refresh', { user: 'u', expired: 1 }, 400], ['refresh', { user: 'u', expire_at: 'soon' }, 400],
    ['connections', { limit: 0 }, 107], ['connections', { limit: 1001 }, 107], ['channels', { pattern: '*a*b*c*d*e' }, 107],
    ['rpc', {}, 107], ['rpc', { method: 'x' }, 104], ['batch', {}, 107], ['batch', { commands: 1 }, 400], ['info', '[]', 400],
  ];
  for (const [method, body, wanted] of rows) assert.equal(await code(method, body), wanted, `${method} ${JSON.stringify(body).slice(0, 100)}`);
  await c.quiet();
  const longest = 'x'.repeat(123);
  await result(server, 'disconnect', { user: 'u', disconnect: { code: 4999, reason: longest } });
  assert.equal((await c.closes(4999)).reason, longest);
});

test('a user over its channels: closed 3505', async () => {
  const server = await start({ client: { channel_limit: 2 } });
  const c = await as(server, 'u');
  for (const channel of ['a', 'b']) await result(server, 'subscribe', { user: 'u', channel });
  await result(server, 'subscribe', { user: 'u', channel: 'a' });
  assert.equal(c.client.close, undefined);
  await result(server, 'subscribe', { user: 'u', channel: 'c' });
  await c.closes(3505);
});

test('batch: in order, each in its place, methods that wait among them; not in itself', async () => {
  const server = await start();
  const c = await as(server, 'u');
  const commands = [
    { subscribe: { user: 'u', channel: 'hist:b' } }, { publish: { channel: 'hist:b', data: 1 } }, null, {}, { nope: {} }, { batch: { commands: [] } },
    { publish: { channel: 'no:x', data: 1 } }, { publish: 1 }, { history: { channel: 'hist:b', limit: 1 } }, { unsubscribe: { user: 'u', channel: 'hist:b' } },
    { publish: { channel: 'hist:b', data: 2 } }, { subscribe: { user: 'u', channel: '' } },
  ];
  const { json } = await api(server, 'batch', { commands, parallel: true });
  const epoch = json.replies[1].publish.epoch;
  const error = (code, message) => ({ error: { code, message } });
  assert.deepEqual(json, {
    replies: [
      { subscribe: {} }, { publish: { offset: 1, epoch } }, error(107, 'bad request'), error(107, 'bad request'), error(104, 'not found'), error(104, 'not found'),
      error(102, 'unknown channel'), error(107, 'bad request'), { history: { publications: [{ data: 1, offset: 1 }], epoch, offset: 1 } }, { unsubscribe: {} },
      { publish: { offset: 2, epoch } }, error(107, 'bad request'),
    ],
  });
  await c.push('subscribe', 'hist:b');
  assert.equal((await c.push('pub')).offset, 1);
  await c.push('unsubscribe', 'hist:b');
  await c.quiet();
  const n = 4000;
  const full = await api(server, 'batch', { commands: Array(n).fill({ publish: { channel: 'hist:n', data: 0 } }) });
  assert.equal(full.json.replies[n - 1].publish.offset, n);
  assert.deepEqual((await api(server, 'batch', { commands: [] })).json, { replies: [] });
});

test('batch: 4,095 commands and one more; answers of 32 MiB, behind which nothing is done', async () => {
  const server = await start();
  const c = await as(server, 'u');
  const some = (n) => api(server, 'batch', { commands: Array(n).fill({ publish: { channel: 'a', data: 0 } }) });
  assert.equal((await some(4095)).json.replies.length, 4095);
  assert.equal((await some(4096)).json.error.code, 107);
  for (let i = 0; i < 10; i++) await result(server, 'publish', { channel: 'hist:big', data: 'x'.repeat(900000) });
  const commands = [...Array(8).fill({ history: { channel: 'hist:big', limit: -1 } }), { subscribe: { user: 'u', channel: 'late' } }];
  const { replies } = (await api(server, 'batch', { commands })).json;
  const full = replies.findIndex((r) => r.error);
  assert.ok(full >= 3 && full <= 5, `${full}`);
  for (const r of replies.slice(full)) assert.deepEqual(r, { error: { code: 106, message: 'limit exceeded' } });
  await c.quiet();
});

test('pipelined behind a call that waits: answered in order', async () => {
  const server = await start();
  const c = await as(server, 'u');
  const raw = await Raw.connect(server);
  const n = 50;
  let bytes = '';
  for (let i = 0; i < n; i++) {
    bytes += call('subscribe', `{"user":"u","channel":"p${i}"}`) + call('publish', `{"channel":"p${i}","data":${i}}`) + call('unsubscribe', `{"user":"u","channel":"p${i}"}`);
  }
  raw.write(bytes);
  for (let i = 0; i < 3 * n; i++) assert.equal((await raw.response()).body, '{"result":{}}');
  for (let i = 0; i < n; i++) {
    await c.push('subscribe', `p${i}`);
    assert.equal((await c.push('pub', `p${i}`)).data, i); /* so the publish came after the subscribe */
    await c.push('unsubscribe', `p${i}`);
  }
});

test('callers that go away while their call is under way', async () => {
  const server = await start();
  const c = await as(server, 'u');
  const body = '{"user":"u","channel":"a"}';
  for (let i = 0; i < scaled(300, 30); i++) {
    const raw = await Raw.connect(server);
    raw.write(call(i % 2 ? 'subscribe' : 'unsubscribe', body));
    if (i % 3) raw.socket.resetAndDestroy();
    else raw.socket.end();
  }
  await result(server, 'disconnect', { user: 'u' });
  await c.closes(3503);
});

test('a key for one purpose: its methods, 403 to the others; told to the log; rotated by SIGHUP', async () => {
  const file = path.join(temporary(), 'keys.json');
  const keys = (reader) => fs.writeFileSync(file, JSON.stringify({
    client: { allow_anonymous_connect_without_token: true },
    http_api: {
      keys: [{ name: 'shop', key: 'shop-key-0123456789', scope: 'publish' }, { name: 'graphs', key: reader, scope: 'read' },
        { name: 'ops', key: 'ops-key-0123456789', scope: 'all' }],
    },
  }));
  keys('reader-key-0123456789');
  const server = await serve(['--config', file, '--workers', '2']);
  const status = async (key, method, body = {}) => (await api(server, method, body, { headers: { 'X-API-Key': key } })).status;
  const rows = { publish: [200, 403, 200], broadcast: [200, 403, 200], presence: [403, 200, 200], history: [403, 200, 200], info: [403, 200, 200], channels: [403, 200, 200],
    connections: [403, 200, 200], subscribe: [403, 403, 200], unsubscribe: [403, 403, 200], disconnect: [403, 403, 200], refresh: [403, 403, 200], history_remove: [403, 403, 200], rpc: [403, 403, 200] };
  for (const [method, wanted] of Object.entries(rows)) {
    const seen = [];
    for (const key of ['shop-key-0123456789', 'reader-key-0123456789', 'ops-key-0123456789']) seen.push(await status(key, method));
    assert.deepEqual(seen, wanted, method);
  }
  const { json } = await api(server, 'batch', { commands: [{ publish: { channel: 'a', data: 1 } }, { disconnect: { user: 'x' } }] }, { headers: { 'X-API-Key': 'shop-key-0123456789' } });
  assert.deepEqual(json.replies, [{ publish: {} }, { error: { code: 103, message: 'permission denied' } }]);
  await status('ops-key-0123456789', 'disconnect', { user: 'alice\n"x"' });
  await status('ops-key-0123456789', 'disconnect', { user: 1 });
  await server.logged(/msg="api call" .*method=disconnect key=ops peer=127\.0\.0\.1:\d+ user="" channel="" result="bad request"/);
  await until(() => server.log.includes('msg="api call"') && /method=disconnect key=ops .*user="alice\\n\\"x\\"/.test(server.log), 'the audit line');
  assert.ok(!server.log.includes('method=publish'), 'publications are not told unless asked');
  keys('reader-key-new-0123456789');
  server.child.kill('SIGHUP');
  await until(async () => await status('reader-key-new-0123456789', 'info') === 200, 'the new key');
  assert.equal(await status('reader-key-0123456789', 'info'), 401);
  fs.writeFileSync(file, '{"http_api":{"keys":[{"name":"x"}]}}');
  server.child.kill('SIGHUP');
  await until(() => server.log.includes('reload failed: nothing has changed'), 'the refusal');
  assert.equal(await status('reader-key-new-0123456789', 'info'), 200);
});

test('http_api.audit_publications: a line for each', async () => {
  const server = await start({ http_api: { audit_publications: true } });
  await result(server, 'publish', { channel: 'a', data: 'secret-payload' });
  await until(() => /msg="api call" .*method=publish .*channel=a/.test(server.log), 'the line');
  assert.ok(!server.log.includes('secret-payload'));
});

test('calls under way when the server stops are answered, and it ends in time', async () => {
  const server = await start();
  await crowd(server, 'u', 8);
  const calls = [];
  for (let i = 0; i < 50; i++) calls.push(api(server, 'subscribe', { user: 'u', channel: `c${i}` }).catch((e) => e));
  server.child.kill('SIGTERM');
  const answers = await Promise.all(calls);
  for (const a of answers.filter((x) => x.status)) assert.ok(a.status === 200 || a.status === 503, `${a.status}`);
  await until(() => server.child.exitCode !== null, 'the end');
  assert.equal(server.child.exitCode, 0);
});

await done();

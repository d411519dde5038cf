/* Who may connect: tokens on every path, origins, and that no log ever shows a token. */
import {
  assert, fs, serve, connect, upgraded, upgradeHead, bearer, fresh, test, done, refused, token, secretText, SECRET,
  nowSeconds, Raw, frame, closeFrame, OP, Client, WebSocket, within, metrics,
} from './lib.mjs';
import crypto from 'node:crypto';

const part = (t, n) => t.split('.')[n];
const forged = (t) => secretText(`${part(t, 0)}.${part(t, 1)}.${'A'.repeat(43)}`);
const signed = (claims) => {
  const text = `${b64({ alg: 'HS256' })}.${b64(claims)}`;
  return secretText(`${text}.${crypto.createHmac('sha256', SECRET).update(text).digest('base64url')}`);
};
const b64 = (v) => Buffer.from(typeof v === 'string' ? v : JSON.stringify(v)).toString('base64url');

/* name: token. None of them may open a connection. */
function badTokens() {
  const good = token();
  return {
    'forged signature': forged(good),
    'other secret': token({}, { secret: 'another-secret-that-is-also-long-enough' }),
    expired: token({ exp: nowSeconds() - 10 }),
    'not yet valid': token({ nbf: nowSeconds() + 600 }),
    'alg none': secretText(`${b64({ alg: 'none' })}.${part(good, 1)}.`),
    'alg HS512': token({}, { header: { alg: 'HS512' } }),
    'alg hs256': token({}, { header: { alg: 'hs256' } }),
    crit: token({}, { header: { crit: ['exp'] } }),
    'two parts': secretText(`${part(good, 0)}.${part(good, 1)}`),
    'four parts': secretText(`${good}.x`),
    padding: secretText(`${good}=`),
    'claims are a list': signed('[]'),
    'claims twice the same': signed('{"exp":9999999999,"exp":9999999999}'),
    'exp is text': token({ exp: 'tomorrow' }),
    'roost is a list': token({ roost: [] }),
    'sub is a number': token({ sub: 7 }),
    'signature cut': secretText(good.slice(0, -2)),
    empty: '',
  };
}

test('no token: 401 on /raw and /echo, with WWW-Authenticate', async () => {
  const server = await serve(['--echo']);
  for (const path of ['/raw/chat', '/echo']) {
    const answer = await refused(server, path, { token: null });
    assert.equal(answer.status, 401);
    assert.match(answer.headers['www-authenticate'], /^Bearer/);
  }
  await fresh(server);
});

test('bad tokens in Authorization: 401 on /raw and /echo', async () => {
  const server = await serve(['--echo']);
  for (const [what, bad] of Object.entries(badTokens())) {
    for (const path of ['/raw/chat', '/echo']) {
      const answer = await refused(server, path, { token: bad, what });
      assert.equal(answer.status, 401, `${path}, ${what}: ${answer.body}`);
      if (bad) assert.ok(!answer.body.includes(bad.slice(0, 20)), 'the body repeats the token');
    }
  }
  for (const scheme of ['Basic dGVzdDp0ZXN0', 'Bearer', `Bearer  `, token(), `Bearer ${token()} x`])
    assert.equal((await refused(server, '/echo', { token: null, headers: { Authorization: scheme } })).status, 401, scheme.slice(0, 12));
  await fresh(server);
  const m = await metrics(server);
  assert.ok(m.get('refused_total{reason="token"}') > 20);
  assert.equal(m.get('refused_total{reason="token_expired"}') > 0, true);
});

test('expired and invalid are told apart; a forged expired token is invalid', async () => {
  const server = await serve(['--echo']);
  const old = token({ exp: nowSeconds() - 10 });
  assert.match((await refused(server, '/echo', { token: old })).body, /expired/i);
  assert.doesNotMatch((await refused(server, '/echo', { token: forged(old) })).body, /expired/i);
  await fresh(server);
});

test('roost.bearer: answered alone, on /raw and /echo', async () => {
  const server = await serve(['--echo']);
  for (const path of ['/raw/chat', '/echo']) {
    for (const offer of [`roost.bearer, ${token()}`, `chat, roost.bearer,${token()}`, ['roost.bearer', token()]]) {
      const raw = await upgraded(server, path, { 'Sec-WebSocket-Protocol': offer });
      assert.equal(raw.answer.headers['sec-websocket-protocol'], 'roost.bearer');
      raw.write(frame(OP.TEXT, 'hi'));
      assert.equal((await raw.frame()).payload.toString(), 'hi', JSON.stringify(offer).slice(0, 40));
    }
    const client = await connect(server, path, { token: null, protocols: ['roost.bearer', token()] });
    assert.equal(client.socket.protocol, 'roost.bearer');
    await client.echo('with ws');
  }
});

test('a bad token in roost.bearer: accepted, then 4401 with a reason', async () => {
  const server = await serve(['--echo']);
  for (const path of ['/raw/chat', '/echo']) {
    for (const [what, bad] of Object.entries(badTokens())) {
      if (bad.includes('=')) continue; /* is no token of RFC 9110: the handshake itself is wrong */
      const raw = await upgraded(server, path, { 'Sec-WebSocket-Protocol': bad ? `roost.bearer, ${bad}` : 'roost.bearer' });
      assert.equal(raw.answer.headers['sec-websocket-protocol'], 'roost.bearer');
      const close = await raw.closeFrame().catch((e) => assert.fail(`${what}: ${e.message}`));
      assert.equal(close.code, 4401, what);
      assert.match(close.reason, /^[\x20-\x7e]{3,}$/, what);
      assert.ok(!bad || !close.reason.includes(bad.slice(0, 20)));
      raw.write(closeFrame(4401));
      await raw.over();
    }
  }
  await fresh(server);
});

test('what a client with a bad token sends before our Close arrives is not published', async () => {
  const server = await serve();
  const listener = await connect(server, '/raw/chat');
  const raw = await Raw.connect(server);
  const bad = forged(token());
  raw.write(Buffer.concat([
    Buffer.from(upgradeHead('/raw/chat', { 'Sec-WebSocket-Protocol': `roost.bearer, ${bad}` })), frame(OP.TEXT, 'smuggled'),
  ]));
  await raw.response();
  assert.equal((await raw.closeFrame()).code, 4401);
  await listener.echo('first'); /* would come behind the other */
});

test('other subprotocols are not answered', async () => {
  const server = await serve(['--echo']);
  const raw = await upgraded(server, '/echo', { ...bearer(), 'Sec-WebSocket-Protocol': 'chat, superchat' });
  assert.equal(raw.answer.headers['sec-websocket-protocol'], undefined);
});

test('?token= only when switched on', async () => {
  const off = await serve(['--echo']);
  for (const path of ['/raw/chat', '/echo']) assert.equal((await refused(off, `${path}?token=${token()}`, { token: null })).status, 401);
  await fresh(off);
  const on = await serve(['--echo', '--token-query']);
  for (const path of ['/raw/chat', '/echo']) {
    const client = await connect(on, `${path}?token=${token()}`, { token: null });
    await client.echo('by query');
    assert.equal((await refused(on, `${path}?token=${forged(token())}`, { token: null })).status, 401);
  }
  await fresh(on);
});

test('a bad token anywhere is not saved by a good one elsewhere', async () => {
  const server = await serve(['--echo', '--token-query']);
  assert.equal((await refused(server, `/echo?token=${token()}`, { token: forged(token()) })).status, 401);
  await fresh(server);
});

test('anonymous: no token needed, a bad one is refused all the same', async () => {
  const server = await serve(['--echo', '--anonymous']);
  const client = await connect(server, '/echo', { token: null });
  await client.echo('nobody');
  assert.equal((await refused(server, '/echo', { token: forged(token()) })).status, 401);
  /* without a token there is no claim, and without a claim nothing is allowed on a channel */
  assert.ok([401, 403].includes((await refused(server, '/raw/chat', { token: null })).status));
  await fresh(server);
});

test('client.insecure: no token, everything allowed', async () => {
  const server = await serve(['--client.insecure', 'true']);
  const client = await connect(server, '/raw/anything', { token: null });
  await client.echo('open house');
});

test('audience, issuer and leeway', async () => {
  const server = await serve(['--echo', '--client.token.audience', 'roost', '--client.token.issuer', 'e2e', '--client.token.leeway', '60s']);
  const good = { aud: ['x', 'roost'], iss: 'e2e' };
  await connect(server, '/echo', { token: token(good) });
  await connect(server, '/echo', { token: token({ ...good, aud: 'roost', exp: nowSeconds() - 30 }) });
  for (const bad of [{}, { ...good, aud: 'roosters' }, { ...good, iss: 'E2E' }, { ...good, exp: nowSeconds() - 90 }])
    assert.equal((await refused(server, '/echo', { token: token(bad) })).status, 401, JSON.stringify(bad));
  await fresh(server, '/raw/fresh', { token: token(good) });
});

test('the previous secret and named keys', async () => {
  const previous = 'the-previous-secret-that-was-long-enough';
  const named = 'the-named-secret-that-is-long-enough-too';
  secretText(previous), secretText(named);
  const server = await serve(['--echo', '--client.token.keys', JSON.stringify([{ kid: 'k1', secret: named }])],
    { env: { ROOST_CLIENT_TOKEN_HMAC_PREVIOUS_SECRET_KEY: previous } });
  await connect(server, '/echo', { token: token({}, { secret: previous }) });
  await connect(server, '/echo', { token: token({}, { secret: named, header: { kid: 'k1' } }) });
  assert.equal((await refused(server, '/echo', { token: token({}, { header: { kid: 'k1' } }) })).status, 401);
  await fresh(server);
});

test('origins: none by default, patterns, and the log names the option', async () => {
  const none = await serve(['--echo']);
  const answer = await refused(none, '/echo', { headers: { Origin: 'https://shop.example.com' } });
  assert.equal(answer.status, 403);
  const line = await none.logged(/^.*shop\.example\.com.*$/m);
  assert.match(line[0], /allowed[-_]origin/);
  await fresh(none);

  const some = await serve(['--echo', '--allowed-origin', 'https://*.example.com', '--allowed-origin', 'http://localhost:3000']);
  for (const origin of ['https://shop.example.com', 'https://a.b.example.com', 'HTTPS://SHOP.example.com', 'http://localhost:3000'])
    await connect(some, '/echo', { headers: { Origin: origin } });
  for (const origin of ['https://example.com', 'http://shop.example.com', 'https://shop.example.com.evil.org', 'http://localhost:3001', 'null'])
    assert.equal((await refused(some, '/echo', { headers: { Origin: origin } })).status, 403, origin);
  assert.equal((await refused(some, '/raw/chat', { headers: { Origin: 'https://evil.org' } })).status, 403);
  await fresh(some);
  assert.ok((await metrics(some)).get('refused_total{reason="origin"}') >= 5);

  const all = await serve(['--echo', '--allowed-origin', '*']);
  await connect(all, '/echo', { headers: { Origin: 'https://any.where' } });
  await connect(all, '/echo', { headers: { Origin: 'null' } });
});

test('an Origin can not forge a log line', async () => {
  const server = await serve(['--echo']);
  await refused(server, '/echo', { headers: { Origin: 'https://x.org" level=error msg="forged' } });
  await server.logged(/x\.org/);
  assert.doesNotMatch(server.log, /^.* level=error msg="?forged/m);
  await fresh(server);
});

await done();

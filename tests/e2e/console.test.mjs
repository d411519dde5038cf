/* The console: nobody gets in who should not; and in headless Chromium every view, by clicking. */
import http from 'node:http';
import {
  assert, fs, path, serve, test, done, temporary, atEnd, request, requestHead, Raw, metrics, until, secretText, token, connect, command,
} from './lib.mjs';
import { Speaker, result, settings as channels } from './centrifuge.mjs';
import { browser, sees, shot, sticksOut, tooSmall } from './browser.mjs';

const PASSWORD = secretText('the password of the e2e console');
const IMG = '<img src=x onerror=alert(1)>';
const HEADER = { 'X-Roost-Console': '1' };

/* holds waits until f(arg) is true in the page; not by waitForFunction, which wants eval, and the page's policy has none. */
const holds = (page, f, arg) => until(() => page.evaluate(f, arg), String(f));

/* A server with the console behind a password, on the listener for clients, which is on loopback. */
async function start(args = [], more = {}) {
  const server = await serve([...channels({ client: { allowed_origins: ['http://127.0.0.1:*'] }, ...more }), '--workers', '2', '--admin.enabled', ...args],
    { env: { ROOST_ADMIN_PASSWORD: PASSWORD } });
  server.page = `${server.url().replace('ws:', 'http:')}/`;
  return server;
}

const post = (server, target, body, headers = HEADER, options = {}) => request(server, { method: 'POST', target, headers, body: JSON.stringify(body), ...options });

async function signIn(server) {
  const answer = await post(server, '/admin/login', { password: PASSWORD });
  assert.equal(answer.status, 200, answer.body);
  assert.equal(answer.headers['cache-control'], 'no-store');
  assert.equal(answer.headers['set-cookie'], undefined);
  return { ...HEADER, Authorization: `Bearer ${secretText(JSON.parse(answer.body).token)}` };
}

/* ---- who gets in --------------------------------------------------------------------------------- */

test('signing in: a wrong password, a right one, a session that calls methods; each in the log', async () => {
  const server = await start();
  const wrong = await post(server, '/admin/login', { password: 'wrong' });
  assert.equal(wrong.status, 401);
  await server.logged(/level=warn msg="console: wrong password" worker=\d peer=127\.0\.0\.1:\d+/);
  assert.equal((await metrics(server)).get('refused_total{reason="console_password"}'), 1);
  const session = await signIn(server);
  await server.logged(/level=info msg="console: signed in" worker=\d peer=127\.0\.0\.1:\d+/);
  const info = await post(server, '/admin/api/info', {}, session);
  assert.equal(JSON.parse(info.body).result.nodes.length, 1);
  /* every method, and the log tells who it was */
  assert.equal((await post(server, '/admin/api/disconnect', { user: 'nobody' }, session)).status, 200);
  await server.logged(/msg="api call" worker=\d method=disconnect key=console peer=127\.0\.0\.1:\d+ user=nobody channel="" result=ok/);
  assert.equal((await post(server, '/admin/api/publish', { channel: 'a', data: 1 }, session)).body, '{"result":{}}');
});

test('each refusal: no header, no session, a made-up one, the API\'s key, a client\'s token, another path', async () => {
  const server = await start();
  const session = await signIn(server);
  const status = async (headers, target = '/admin/api/info') => (await post(server, target, {}, headers)).status;
  assert.equal(await status(session), 200);
  assert.equal(await status({ Authorization: session.Authorization }), 403);
  assert.equal(await status(HEADER), 401);
  assert.equal(await status({ ...HEADER, Authorization: `${session.Authorization}x` }), 401);
  assert.equal(await status({ ...HEADER, Authorization: session.Authorization.slice(0, -40) }), 401);
  assert.equal(await status({ ...HEADER, Authorization: `Bearer ${token()}` }), 401);
  assert.equal(await status({ ...HEADER, 'X-API-Key': 'e2e-api-key-0123456789' }), 401);
  assert.equal(await status({ ...HEADER, Cookie: `session=${session.Authorization}` }), 401);
  assert.equal(await status({}, '/admin/login'), 403);
  assert.equal(await status(session, '/admin/token'), 404); /* tokens are made with --dev only */
  /* and the session opens nothing else */
  assert.equal(await status(session, '/api/info'), 401);
  const raw = await Raw.connect(server);
  raw.write(requestHead('GET', '/admin/api/info', { Host: 'x', ...session }));
  assert.equal((await raw.response()).status, 405);
});

test('wrong passwords in a row: 429, in all and from wherever; who is in stays in', async () => {
  const server = await start();
  const session = await signIn(server);
  for (let i = 0; i < 10; i++) assert.equal((await post(server, '/admin/login', { password: `wrong ${i}` })).status, 401);
  const answer = await post(server, '/admin/login', { password: PASSWORD });
  assert.equal(answer.status, 429);
  assert.match(answer.headers['retry-after'], /^\d+$/);
  assert.equal((await post(server, '/admin/api/info', {}, session)).status, 200);
  assert.equal((await metrics(server)).get('refused_total{reason="console_password"}'), 11);
});

test('SIGHUP reads the password again: another one ends all sessions, the same one none', async () => {
  const file = path.join(temporary(), 'password');
  fs.writeFileSync(file, `${PASSWORD}\n`);
  const server = await serve(['--admin.enabled', '--admin.password_file', file]);
  const session = await signIn(server);
  const again = async (nth) => {
    server.child.kill('SIGHUP');
    await until(() => server.log.split('msg=reloaded').length > nth, 'SIGHUP');
  };
  await again(1);
  assert.equal((await post(server, '/admin/api/info', {}, session)).status, 200);
  fs.writeFileSync(file, secretText('another password for the console'));
  await again(2);
  assert.equal((await post(server, '/admin/api/info', {}, session)).status, 401);
  assert.equal((await post(server, '/admin/login', { password: PASSWORD })).status, 401);
  assert.equal((await post(server, '/admin/login', { password: 'another password for the console' })).status, 200);
});

test('where it is served: on the admin listener alone if there is one; never in public; off, it says how to switch it on', async () => {
  const both = await start(['--listen', 'ws://127.0.0.1:0', '--admin-listen', 'ws://127.0.0.1:0']);
  for (const target of ['/', '/app.js', '/admin/settings']) {
    assert.equal((await request(both, { target, nth: 0 })).status, 404, target);
    assert.equal((await request(both, { target, nth: 1 })).status, 200, target);
  }
  assert.equal((await post(both, '/admin/login', { password: PASSWORD }, HEADER, { nth: 0 })).status, 404);
  assert.equal((await post(both, '/admin/login', { password: PASSWORD }, HEADER, { nth: 1 })).status, 200);
  assert.equal(JSON.parse((await request(both, { target: '/admin/settings', nth: 1 })).body).websocket, null); /* no clients there */

  const open = await start(['--listen', 'ws://0.0.0.0:0']);
  const { port } = new URL(open.urls[0].replace('0.0.0.0', '127.0.0.1'));
  for (const target of ['/', '/admin/settings', '/admin/login']) {
    const { out } = await command('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', '-H', 'X-Roost-Console: 1', ...(target === '/admin/login' ? ['-d', '{}'] : []), `http://127.0.0.1:${port}${target}`]);
    assert.equal(out, '404', target);
  }

  const off = await serve();
  const answer = await request(off, { target: '/' });
  assert.equal(answer.status, 404);
  assert.match(answer.body, /admin\.enabled and admin\.password_file/);
  assert.equal((await request(off, { target: '/app.js' })).status, 404);
  assert.equal((await post(off, '/admin/login', { password: '' })).status, 404);
  assert.equal((await post(off, '/admin/api/info', {})).status, 404);
});

test('with --dev nobody signs in, but a foreign name that points here is refused; with a password there, it is asked for', async () => {
  const args = ['--dev', '--listen', 'ws://127.0.0.1:0'];
  const dev = await serve(args);
  assert.equal((await post(dev, '/admin/api/info', {})).status, 200);
  assert.equal((await post(dev, '/admin/api/info', {}, {})).status, 403);
  assert.equal((await post(dev, '/admin/api/info', {}, { ...HEADER, Host: 'evil.example' })).status, 403);
  assert.equal((await post(dev, '/admin/token', { sub: 'a' }, { ...HEADER, Host: 'evil.example' })).status, 403);
  const made = secretText(JSON.parse((await post(dev, '/admin/token', { sub: 'a', roost: { pub: ['x'], sub: ['x'] } })).body).token);
  const client = await connect(dev, '/raw/x', { token: made }); /* with the secret that the server goes by, here one of the test's */
  await client.echo('with a token that was made for it');
  const closed = await serve(args, { env: { ROOST_ADMIN_PASSWORD: PASSWORD } });
  assert.equal((await post(closed, '/admin/api/info', {})).status, 401);
  assert.equal((await post(closed, '/admin/token', { sub: 'a' })).status, 401);
  assert.equal((await post(closed, '/admin/token', { sub: 'a' }, await signIn(closed))).status, 200);
});

/* A page somewhere else. */
async function elsewhere() {
  const web = http.createServer((req, res) => res.setHeader('Content-Type', 'text/html').end('<!doctype html><title>elsewhere</title><link rel="icon" href="data:,">'));
  await new Promise((resolve) => web.listen(0, '127.0.0.1', resolve));
  atEnd(() => web.closeAllConnections() || web.close());
  return `http://localhost:${web.address().port}/`;
}

/* attack runs in that page: what a fetch came to. */
async function attack({ url, body, headers, mode }) {
  try {
    const answer = await fetch(url, { method: 'POST', body, headers, mode });
    return `${answer.type} ${answer.status} ${await answer.text()}`;
  } catch (error) {
    return error.name;
  }
}

test('a page of another origin gets nothing and does nothing, with --dev and with a password', async () => {
  const dev = await serve(['--dev', '--listen', 'ws://127.0.0.1:0', '--http_api.audit_publications']);
  const closed = await start();
  const context = await browser();
  context.tolerated = /CORS|net::ERR_FAILED|status of 40[34]|request to/;
  const page = await context.tab(await elsewhere());
  for (const server of [dev, closed]) {
    const base = server.url().replace('ws:', 'http:');
    const body = JSON.stringify({ channel: 'a', data: 1 });
    const refused = (metric) => metrics(server).then((m) => m.get(metric));
    for (const target of ['/admin/api/publish', '/admin/api/disconnect', '/admin/token', '/admin/login']) {
      assert.equal(await page.evaluate(attack, { url: base + target, body, headers: { 'X-Roost-Console': '1' } }), 'TypeError', target);
      assert.match(await page.evaluate(attack, { url: base + target, body, mode: 'no-cors' }), /^(opaque 0 |TypeError)$/, target);
    }
    assert.equal(await refused('api_requests_total'), 0);
    assert.equal(await refused('refused_total{reason="console_password"}'), 0);
    assert.ok(!/msg="api call"/.test(server.log));
  }
});

/* ---- by clicking --------------------------------------------------------------------------------- */

test('signing in and out by clicking; after a restart the page asks again', async () => {
  const server = await start();
  const context = await browser();
  context.tolerated = /status of 4\d\d|net::ERR/;
  const page = await context.tab(server.page);
  await page.locator('#view-sign-in').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'password');
  assert.equal(await page.locator('#nav').isVisible(), false);
  await page.fill('#password', 'not it');
  await page.keyboard.press('Enter');
  await sees(page, '#sign-in-wrong', 'Wrong password.');
  await shot(page, 'sign-in-desktop');
  await page.fill('#password', PASSWORD);
  await page.click('#sign-in');
  await page.locator('#view-overview').waitFor();
  assert.equal(await page.inputValue('#password'), '');
  assert.equal(await page.locator('#nav-tokens').isVisible(), false);
  await page.reload(); /* still in */
  await sees(page, '#figure-connections', '0');
  await page.click('#sign-out');
  await page.locator('#view-sign-in').waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.fill('#password', PASSWORD);
  await page.click('#sign-in');
  await sees(page, '#figure-connections', '0');
  for (let i = 0; i < 11; i++) await post(server, '/admin/login', { password: 'x' });
  await page.click('#sign-out');
  await page.fill('#password', PASSWORD);
  await page.click('#sign-in');
  await sees(page, '#sign-in-wrong', 'Too many wrong passwords');
});

test('a session that has ended: the page asks for the password again', async () => {
  const server = await start();
  const context = await browser();
  context.tolerated = /status of 401|net::ERR/;
  const page = await context.tab(server.page);
  await page.fill('#password', PASSWORD);
  await page.click('#sign-in');
  await sees(page, '#figure-connections', '0');
  await server.stop();
  await sees(page, '#brief', 'does not answer');
  await start(['--listen', server.url()]);
  await page.locator('#view-sign-in').waitFor();
  await page.fill('#password', PASSWORD);
  await page.click('#sign-in');
  await sees(page, '#figure-connections', '0');
});

/* signed opens the page and signs in. */
async function signed(server, { tolerated, ...options } = {}) {
  const context = await browser(options);
  context.tolerated = tolerated;
  const page = await context.tab(server.page);
  await page.fill('#password', PASSWORD);
  await page.click('#sign-in');
  await page.locator('#nav').waitFor();
  return page;
}

test('the policy holds: no markup from data, no script but ours', async () => {
  const server = await start();
  const { headers } = await request(server, { target: '/' });
  const policy = headers['content-security-policy'];
  for (const rule of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "require-trusted-types-for 'script'"])
    assert.ok(policy.includes(rule), rule);
  const page = await signed(server, { tolerated: /requires 'TrustedHTML' assignment/ });
  const blocked = await page.evaluate((img) => {
    try {
      document.body.innerHTML = img;
      return 'written';
    } catch (error) {
      return error.name;
    }
  }, IMG);
  assert.equal(blocked, 'TypeError');
});

test('overview: the figures are the server\'s, and the chart draws', async () => {
  const server = await start();
  const page = await signed(server);
  const a = await Speaker.connected(server, { user: 'a' });
  const b = await Speaker.connected(server, { user: 'b' });
  for (const c of [a, b]) await c.ok('subscribe', { channel: 'hist:x' });
  for (const [id, text] of [['connections', '2'], ['users', '2'], ['subscriptions', '2'], ['channels', '1']]) await sees(page, `#figure-${id}`, new RegExp(`^${text}$`));
  await sees(page, '#node', '2 workers');
  let busy = true;
  const pump = (async () => {
    while (busy) await a.ok('publish', { channel: 'hist:x', data: 1 });
  })();
  await sees(page, '#figure-in', /^[1-9]/);
  await sees(page, '#figure-out', /^[1-9]/);
  await sees(page, '#figure-publications', /^[1-9]/);
  await holds(page, () => /L/.test(document.getElementById('chart-out').getAttribute('d')));
  busy = false;
  await pump;
  await sees(page, '#figure-publications', /^0$/);
  await shot(page, 'overview-desktop');
});

test('channels: pattern, history, presence, publish, remove the history; names are text', async () => {
  const server = await start();
  const page = await signed(server);
  const c = await Speaker.connected(server, { user: IMG });
  for (const channel of [`hist:${IMG}`, 'pres:room', 'other']) await c.ok('subscribe', { channel });
  await page.click('#nav-channels');
  await sees(page, '#channel-rows tr', `hist:${IMG}`);
  assert.equal(await page.locator('#channel-rows tr').count(), 3);
  await page.fill('#pattern', '*room');
  await holds(page, () => document.querySelectorAll('#channel-rows tr').length === 1);
  await page.fill('#pattern', 'hist:nobody');
  await sees(page, '#channel-other', 'Nobody is subscribed to it: hist:nobody');
  await page.fill('#pattern', '');
  await page.click(`#channel-rows a:text("${IMG}")`);
  await sees(page, '#channel-name', `hist:${IMG}`);
  await sees(page, '#channel-subscribers', /^1 subscriber\.$/);
  await sees(page, '#presence-count', 'This channel has no presence.');
  for (const data of ['{"html":"<img src=y onerror=alert(2)>"}', 'a text']) {
    await page.fill('#publish-data', data);
    await page.click('#publish');
    await sees(page, '#history .body', data);
  }
  assert.deepEqual((await c.push('pub')).data, { html: '<img src=y onerror=alert(2)>' });
  assert.equal((await c.push('pub')).data, 'a text');
  await c.ok('publish', { channel: `hist:${IMG}`, data: 3 });
  await sees(page, '#history li', IMG); /* who published it */
  assert.deepEqual(await page.locator('#history .offset').allTextContents(), ['3', '2', '1']);
  await sees(page, '#history-position', /^Epoch [a-zA-Z]{8}, offset 3\.$/);
  await page.click('#history-remove');
  await sees(page, '#remove-what', `hist:${IMG}`);
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('#history li').count(), 3);
  await page.click('#history-remove');
  await page.click('#remove-yes');
  await sees(page, '#history-position', 'offset 3. Nothing is kept now');
  assert.equal(await page.locator('#history li').count(), 0);
  assert.equal((await result(server, 'history', { channel: `hist:${IMG}`, limit: 10 })).publications.length, 0);
  await page.click('#all-channels');
  await page.click('#channel-rows a:text("pres:room")');
  await sees(page, '#presence-count', '1 client of 1 user.');
  await sees(page, '#history-position', 'This channel has no history.');
  await page.click(`#presence a:text("${IMG}")`); /* to the connections of that user */
  await holds(page, (img) => document.getElementById('user').value === img, IMG);
  await sees(page, '#connection-rows tr', IMG);
  assert.equal(await page.locator('img').count(), 0);
  await page.goBack();
  await sees(page, '#channel-name', 'pres:room');
  await shot(page, 'channel-desktop');
});

test('connections: of one user, and disconnect one by clicking, with code and reason', async () => {
  const server = await start();
  const page = await signed(server);
  const alice = await Speaker.connected(server, { user: 'alice' });
  const other = await Speaker.connected(server, { user: 'alice' });
  const bob = await connect(server, '/raw/a', { token: token({ sub: 'bob' }) });
  await page.click('#nav-connections');
  await sees(page, '#connection-count', '3 connections.');
  const row = (text) => page.locator('#connection-rows tr', { hasText: text });
  assert.match(await row(alice.id).textContent(), /^aliceclient127\.0\.0\.1:\d+\d+ s0 B01 \/ 1/);
  assert.match(await row('bob').textContent(), /raw/);
  await page.fill('#user', 'alice');
  await sees(page, '#connection-count', '2 connections.');
  await row(alice.id).getByRole('button').click();
  await sees(page, '#disconnect-what', /^alice, 127\.0\.0\.1:\d+$/);
  await shot(page, 'disconnect-desktop');
  await page.click('#disconnect-dialog [data-cancel]');
  await alice.quiet();
  await row(alice.id).getByRole('button').click();
  await page.fill('#disconnect-code', '4123');
  await page.fill('#disconnect-reason', 'by e2e');
  await page.click('#disconnect-yes');
  assert.equal((await alice.closes(4123)).reason, 'by e2e');
  await sees(page, '#disconnected', 'Disconnected: alice');
  await sees(page, '#connection-count', '1 connection.');
  await other.quiet();
  await page.fill('#user', 'bob');
  await row('bob').getByRole('button').click();
  await page.fill('#disconnect-code', '3503');
  await page.press('#disconnect-reason', 'Enter');
  assert.equal((await bob.over()).code, 3503);
  await sees(page, '#connection-count', '0 connections.');
  await server.logged(/method=disconnect key=console peer=\S+ user=bob/);
});

test('try, without --dev: a token that is pasted; a bad one stops it; no tokens are made here', async () => {
  const server = await start();
  const page = await signed(server);
  await page.click('#nav-try');
  await page.fill('#channel', 'hist:try');
  await page.fill('#token', 'no token');
  await page.click('#connect');
  await page.locator('#status[data-state=stopped]').waitFor();
  assert.match(await page.textContent('#status-text'), /3500 invalid token/);
  await page.fill('#token', token({ sub: 'pasted', roost: undefined }));
  await page.click('#connect');
  await page.locator('#status[data-state=open]').waitFor();
  await page.fill('#text', 'hello');
  await page.press('#text', 'Enter');
  await sees(page, '#messages li.own', 'hello');
  await result(server, 'unsubscribe', { user: 'pasted', channel: 'hist:try' });
  await page.locator('#status[data-state=stopped]').waitFor();
  await page.fill('#channel', 'unknown:x');
  await page.click('#connect');
  await page.locator('#status[data-state=stopped]').waitFor();
  assert.match(await page.textContent('#status-text'), /102 unknown channel/);

  /* stopped and started in one breath: one subscriber, the old socket is not heard any more */
  await page.fill('#channel', 'hist:try');
  await page.click('#connect');
  await page.locator('#status[data-state=open]').waitFor();
  await page.evaluate(() => [0, 1].forEach(() => document.getElementById('connect').click()));
  await page.locator('#status[data-state=open]').waitFor();
  await until(async () => (await metrics(server)).get('subscriptions') === 1, 'the other socket is gone');
  await result(server, 'publish', { channel: 'hist:try', data: 'once' });
  await sees(page, '#messages li.other', 'once');
  assert.equal(await page.locator('#messages li.other').filter({ hasText: 'once' }).count(), 1);

  await page.click('#sign-out');
  await until(async () => (await metrics(server)).get('subscriptions') === 0, 'who signs out leaves no subscriber');
  assert.equal(await page.inputValue('#token'), '');
  assert.equal(await page.locator('#messages li').count(), 0);
});

test('why nothing was recovered: more than the limit, a history that was dropped, a restart behind a password', async () => {
  const brief = { name: 'brief', allow_subscribe_for_client: true, history_size: 10, history_ttl: '1s', history_meta_ttl: '1s', allow_recovery: true };
  const settings = { more: [brief], client: { allowed_origins: ['http://127.0.0.1:*'], recovery_max_publication_limit: 2 } };
  const server = await start([], settings);
  const page = await signed(server, { tolerated: /status of 401|net::ERR|WebSocket connection to/ });
  const open = (state) => page.locator(`#status[data-state=${state}]`).waitFor();
  const subscribe = async (channel) => {
    await page.fill('#channel', channel);
    await page.fill('#token', token({ sub: 'pasted', roost: undefined }));
    await page.click('#connect');
    await open('open');
  };
  const away = async (meanwhile) => {
    await page.click('#connect');
    await open('idle');
    await meanwhile();
    await page.click('#connect');
    await open('open');
  };
  await page.click('#nav-try');
  await subscribe('hist:limit');
  await away(async () => {
    for (const data of [1, 2, 3]) await result(server, 'publish', { channel: 'hist:limit', data });
  });
  await sees(page, '#messages li.bad', /^Not recovered\. 3 publications were missed, more than one recovery gives back \(client\.recovery_max_publication_limit\)\./);
  await page.click('#connect');
  await open('idle');
  await subscribe('brief:x');
  await result(server, 'publish', { channel: 'brief:x', data: 'seen' });
  await sees(page, '#messages li.other', 'seen');
  await away(async () => {
    await until(async () => (await metrics(server)).get('channels') === 1, 'that of hist:limit alone is left', 20000);
  });
  await sees(page, '#messages li.bad', /^Not recovered\. The history of the channel was dropped and began anew .* epoch of the channel changed from \w{8} to \w{8}\./);
  await page.click('#connect');
  await open('idle');
  await subscribe('hist:restart');
  await result(server, 'publish', { channel: 'hist:restart', data: 'seen' });
  await sees(page, '#messages li.other', /^.*1.*seen/);
  await server.stop();
  await open('busy');
  await start(['--listen', server.url()], settings);
  await page.locator('#view-sign-in').waitFor(); /* the new server does not know our session */
  await page.fill('#password', PASSWORD);
  await page.click('#sign-in');
  await open('open');
  await sees(page, '#messages li.bad', /^Not recovered\. The server was restarted, or it dropped|^Not recovered\. The server was restarted\. Histories/);
}, { seconds: 90 });

test('the token maker: its token is good, what the server would refuse is said', async () => {
  const server = await serve(['--dev', '--listen', 'ws://127.0.0.1:0']);
  const context = await browser();
  context.tolerated = /status of 400/;
  const page = await context.tab(`${server.url().replace('ws:', 'http:')}/#tokens`);
  await page.fill('#token-sub', IMG);
  await page.selectOption('#token-life', '60');
  await page.fill('#token-pub', 'a, b*');
  await page.fill('#token-sub-to', '');
  await page.fill('#token-info', '{"name":"ä"}');
  await page.fill('#token-more', '{"channels":["news"]}');
  await page.click('#make-token');
  await page.locator('#made').waitFor();
  const made = secretText(await page.inputValue('#made-token'));
  const claims = JSON.parse(Buffer.from(made.split('.')[1], 'base64url'));
  assert.deepEqual([claims.sub, claims.exp - claims.iat, claims.roost, claims.info, claims.channels], [IMG, 60, { pub: ['a', 'b*'], sub: [] }, { name: 'ä' }, ['news']]);
  assert.match(await page.textContent('#decoded'), /"name": "ä"/);
  await (await connect(server, '/raw/b1', { token: made })).end();
  const c = await Speaker.connected(server, { params: { token: made } });
  assert.deepEqual(Object.keys(c.hello.subs), ['news']);
  await page.fill('#token-more', '{"nbf":"tomorrow"}');
  await page.click('#make-token');
  await sees(page, '#token-wrong', 'No token: ');
  assert.equal(await page.locator('#made').isVisible(), false);
  await page.fill('#token-more', '[1]');
  await page.click('#make-token');
  await sees(page, '#token-wrong', 'More claims is not a JSON object');
  await page.fill('#token-more', '');
  await page.click('#make-token');
  await page.locator('#made').waitFor();
  await page.click('#use-token');
  await sees(page, '#messages li.note', `${IMG} joined`);
  await page.click('#nav-tokens');
  const used = await page.inputValue('#made-token');
  await page.fill('#token-sub', 'another');
  await page.click('#make-token');
  await holds(page, (old) => document.getElementById('made-token').value !== old, used);
  await page.click('#use-token');
  await sees(page, '#messages li.note', 'another joined');
});

test('a phone of 360 pixels and a desktop: no view sticks out, targets are large enough, both in the dark', async () => {
  const server = await start();
  const name = `hist:${'long'.repeat(50)}`;
  const c = await Speaker.connected(server, { user: 'u'.repeat(200) });
  await c.ok('subscribe', { channel: name });
  await result(server, 'publish', { channel: name, data: { text: 'unbreakable'.repeat(60) } });
  for (const [kind, options] of [['phone', { viewport: { width: 360, height: 740 }, hasTouch: true, deviceScaleFactor: 2 }], ['desktop', {}]]) {
    const page = await signed(server, { colorScheme: 'dark', ...options });
    const fits = async (view) => {
      assert.equal(await sticksOut(page), false, `${kind} ${view}`);
      assert.deepEqual(await tooSmall(page), [], `${kind} ${view}`);
      await shot(page, `${view}-${kind}-dark`);
    };
    await sees(page, '#figure-connections', '1');
    await fits('overview');
    await page.click('#nav-channels');
    await sees(page, '#channel-rows tr', name);
    await fits('channels');
    await page.click('#channel-rows a');
    await sees(page, '#history li', 'unbreakable');
    await fits('channel');
    await page.click('#nav-connections');
    await sees(page, '#connection-rows tr', 'uuu');
    await fits('connections');
    await page.click('#connection-rows button');
    await page.locator('#disconnect-dialog').waitFor();
    await fits('disconnect');
    await page.keyboard.press('Escape');
    await page.click('#nav-try');
    await fits('try');
    await page.click('#sign-out');
    await fits('sign-in');
  }
});

test('the server is not asked while the tab is hidden', async () => {
  const server = await start();
  const page = await signed(server);
  await sees(page, '#figure-connections', '0');
  const asked = async () => (await metrics(server)).get('api_requests_total');
  const before = await asked();
  await until(async () => (await asked()) >= before + 2, 'it is asked once a second');
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { get: () => window.away, configurable: true });
    window.away = true;
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await page.waitForTimeout(1500); /* what was under way may come to its end */
  const away = await asked();
  await page.waitForTimeout(2500);
  assert.equal(await asked(), away);
  await page.evaluate(() => {
    window.away = false;
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await until(async () => (await asked()) > away, 'it is asked again');
});

await done();

/* The view Try of --dev in headless Chromium over WSS: a live subscriber, what it says about recovery; by keyboard alone, and on
 * a phone. The rest of the console is in console.test.mjs. */
import { assert, fs, path, serve, test, done, temporary, publish, within } from './lib.mjs';
import { Speaker, result } from './centrifuge.mjs';
import { browser, sees, shot, sticksOut, tooSmall } from './browser.mjs';

const ENV = { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: '', ROOST_HTTP_API_KEY: '' };
const LISTEN = ['--dev', '--listen', 'wss://127.0.0.1:0', '--listen', 'ws://127.0.0.1:0'];

async function dev(args = LISTEN, options = {}) {
  const server = await serve([...args, '--workers', '2'], { env: ENV, ...options });
  server.page = `${server.url('wss').replace('wss:', 'https:')}/`;
  server.key = { headers: { 'X-API-Key': fs.readFileSync(path.join(server.dir, '.local/state/roost/api_key'), 'utf8').trim() } };
  return server;
}

const connected = (page) => page.locator('#status[data-state=open]').waitFor();
const idle = (page) => page.locator('#status[data-state=idle]').waitFor();
const says = (page, text) => sees(page, '#messages li', text);
const told = (page, kind) => page.locator(`#messages li.note.${kind}`).last().textContent();

test('connect over WSS, publish in one tab, see it in the other', async () => {
  const server = await dev();
  const context = await browser();
  const one = await context.tab(server.page);
  const two = await context.tab(server.page);
  await connected(one);
  await connected(two);
  await one.fill('#text', 'seen by both <b>&amp; escaped');
  await one.click('#send');
  await says(one, 'seen by both <b>&amp; escaped');
  await says(two, 'seen by both <b>&amp; escaped');
  assert.match(await one.locator('#messages li:not(.note)').last().getAttribute('class'), /own/);
  assert.match(await two.locator('#messages li:not(.note)').last().getAttribute('class'), /other/);
  await one.fill('#text', '{"n": [1, null]}');
  await one.press('#text', 'Enter');
  await says(two, '{"n":[1,null]}');
  await publish(server, 'chat', 'x', server.key);
  await says(two, 'by the API');
  const offsets = await two.locator('#messages li:not(.note) .offset').allTextContents();
  assert.deepEqual(offsets, ['1', '2', '3']);
  await shot(one, 'try-desktop');
});

test('by keyboard alone: Tab order, Enter sends, focus is visible', async () => {
  const server = await dev();
  const context = await browser();
  const page = await context.tab(server.page);
  await connected(page);
  const focus = () => page.evaluate(() => document.activeElement.id);
  assert.equal(await focus(), 'text'); /* ready to type */
  await page.keyboard.type('typed');
  await page.keyboard.press('Enter');
  await says(page, 'typed');
  assert.equal(await focus(), 'text');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineWidth);
  assert.notEqual(outline, '0px');
  await page.focus('#nav-try');
  const order = [];
  for (let i = 0; i < 8; i++) {
    await page.keyboard.press('Tab');
    order.push(await focus());
  }
  assert.deepEqual(order, ['nav-overview', 'nav-channels', 'nav-connections', 'nav-tokens', 'connect', 'messages', 'text', 'send']);
  await page.focus('#connect');
  await page.keyboard.press('Space');
  await idle(page);
  await page.focus('#channel');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('another room/~');
  await page.keyboard.press('Enter');
  await connected(page);
  assert.match(await page.textContent('#status-text'), /another room\/~/);
  await page.keyboard.type('here');
  await page.keyboard.press('Enter');
  await says(page, 'here');
});

test('a phone of 320 pixels: nothing sticks out, targets are large enough', async () => {
  const server = await dev();
  for (const colorScheme of ['light', 'dark']) {
    const context = await browser({ viewport: { width: 320, height: 568 }, colorScheme, hasTouch: true, deviceScaleFactor: 2 });
    const page = await context.tab(server.page);
    await connected(page);
    await page.fill('#text', `long ${'unbreakable'.repeat(40)}`);
    await page.tap('#send');
    await says(page, 'unbreakable');
    assert.equal(await sticksOut(page), false);
    assert.deepEqual(await tooSmall(page), []);
    const send = await page.locator('#send').boundingBox();
    assert.ok(send.y + send.height <= 568, 'publishing needs no scrolling');
    await shot(page, `try-phone-${colorScheme}`);
    await context.close();
  }
});

test('away and back: what was missed is brought back, with a word about it', async () => {
  const server = await dev();
  const context = await browser();
  const page = await context.tab(server.page);
  await connected(page);
  await publish(server, 'chat', 'before', server.key);
  await says(page, 'before');
  await page.click('#connect');
  await idle(page);
  for (const data of ['one', 'two', 'three']) await publish(server, 'chat', data, server.key);
  await page.click('#connect');
  await says(page, 'three');
  await page.locator('#messages li.note.good').waitFor();
  assert.equal(await told(page, 'good'), 'Recovered 3 publications.');
  const heard = await page.locator('#messages li:not(.note) .body').allTextContents();
  assert.deepEqual(heard, ['before', 'one', 'two', 'three']);

  await page.click('#connect');
  await idle(page);
  for (let i = 0; i < 120; i++) await publish(server, 'chat', i, server.key);
  await page.click('#connect');
  await page.locator('#messages li.note.bad').waitFor();
  assert.match(await told(page, 'bad'), /^Not recovered\. More was missed than the history keeps: this page had seen offset 4, and of the 120 publications after it the history has the last 100 \(25 to 124; history_size\)\./);

  await page.click('#connect');
  await idle(page);
  await publish(server, 'chat', 'gone', server.key);
  await result(server, 'history_remove', { channel: 'chat' }, server.key);
  await page.click('#connect');
  await page.locator('#messages li.note.bad').nth(1).waitFor();
  assert.match(await told(page, 'bad'), /^Not recovered\. 1 publication was missed, and the history keeps none of them any more/);
  await publish(server, 'chat', 'goes on', server.key);
  await says(page, 'goes on');
});

test('the server is killed and comes back: the page reconnects by itself and says why nothing was recovered', async () => {
  const home = temporary();
  const first = await dev(LISTEN, { cwd: home });
  const context = await browser();
  const page = await context.tab(first.page);
  await connected(page);
  await publish(first, 'chat', 'lost with it', first.key);
  await says(page, 'lost with it');
  /* what the browser says about the time without a server is not the page's fault */
  context.tolerated = /net::ERR_|WebSocket connection to/;
  first.kept = true; /* not to be stopped again */
  first.child.kill('SIGKILL');
  await within(first.exited, 10000, 'end');
  await page.locator('#status[data-state=busy]').waitFor();
  await sees(page, '#brief', 'does not answer');
  await dev(['--dev', '--listen', first.url('wss'), '--listen', first.url('ws')], { cwd: home });
  await connected(page);
  await page.locator('#messages li.note.bad').waitFor();
  assert.match(await told(page, 'bad'), /^Not recovered\. The server was restarted\. Histories live in its memory, so the epoch of the channel changed from [a-zA-Z]{8} to [a-zA-Z]{8}\. Load the state from your backend/);
  await shot(page, 'try-restarted');
  await page.fill('#text', 'back again');
  await page.press('#text', 'Enter');
  await says(page, 'back again');
  await sees(page, '#brief', 'connected');
});

test('a flood does not freeze the page', async () => {
  const server = await dev();
  const context = await browser();
  const page = await context.tab(server.page);
  await connected(page);
  await page.click('#nav-tokens');
  await page.click('#make-token');
  await page.locator('#made').waitFor();
  const client = await Speaker.connected(server, { params: { token: await page.inputValue('#made-token') } });
  await page.click('#nav-try');
  await client.ok('subscribe', { channel: 'chat' });
  for (let i = 0; i < 5000; i++) client.send({ publish: { channel: 'chat', data: `flood ${i}` }, id: 1000 + i });
  await says(page, 'flood 4999');
  assert.ok((await page.locator('#messages li').count()) <= 300);
  assert.equal(await page.locator('#status').getAttribute('data-state'), 'open');
});

await done();

/* The page of --dev in headless Chromium over WSS, as a person uses it: also by keyboard alone, and on a phone. */
import { assert, fs, path, serve, connect, test, done, skip, temporary, atEnd, until, patience, publish, request } from './lib.mjs';
import { chromium } from 'playwright-core';

const CHROMIUM = process.env.CHROMIUM || ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((f) => fs.existsSync(f));
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];

async function dev() {
  const server = await serve(['--dev', '--listen', 'wss://127.0.0.1:0', '--listen', 'ws://127.0.0.1:0'], { env: { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: '', ROOST_HTTP_API_KEY: '' } });
  server.page = server.url('wss').replace('wss:', 'https:') + '/';
  return server;
}

/* A browser with a profile of its own; whatever a page complains about fails the test. */
async function browser(options = {}) {
  if (!CHROMIUM) skip('no chromium: apt-get install chromium');
  const context = await chromium.launchPersistentContext(temporary(), {
    executablePath: CHROMIUM, headless: true, args: ARGS, ignoreHTTPSErrors: true, viewport: { width: 1100, height: 720 }, timeout: patience(30000), ...options,
  });
  const complaints = [];
  atEnd(async (failure) => {
    await context.close();
    if (!failure) assert.deepEqual(complaints.filter((c) => !context.tolerated || !context.tolerated.test(c)), []);
  });
  context.setDefaultTimeout(patience(15000));
  context.tab = async (url) => {
    const page = await context.newPage();
    page.on('pageerror', (e) => complaints.push(`error: ${e.message}`));
    page.on('console', (m) => ['error', 'warning'].includes(m.type()) && complaints.push(`${m.type()}: ${m.text()}`));
    page.on('request', (r) => new URL(r.url()).host === new URL(url).host || r.url().startsWith('data:') || complaints.push(`request to ${r.url()}`));
    await page.goto(url);
    return page;
  };
  return context;
}

const connected = (page) => page.locator('#status[data-state=open]').waitFor();
const says = (page, text) => page.locator('#messages li', { hasText: text }).first().waitFor();

test('connect over WSS, publish in one tab, see it in the other', async () => {
  const server = await dev();
  const context = await browser();
  const one = await context.tab(server.page);
  const two = await context.tab(server.page);
  await connected(one);
  await connected(two);
  assert.match(await one.textContent('#status-text'), /chat over WSS/);
  await one.fill('#text', 'seen by both <b>&amp; escaped');
  await one.click('#send');
  await says(one, 'seen by both <b>&amp; escaped');
  await says(two, 'seen by both <b>&amp; escaped');
  assert.match(await one.locator('#messages li').last().getAttribute('class'), /own/);
  assert.match(await two.locator('#messages li').last().getAttribute('class'), /other/);
  await publish(server, 'chat', 'x', { headers: { 'X-API-Key': fs.readFileSync(path.join(server.dir, '.local/state/roost/api_key'), 'utf8').trim() } });
  await says(two, '"x"');
  const shots = process.env.E2E_SHOTS;
  if (shots) await one.screenshot({ path: path.join(shots, 'desktop.png') });
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
  await page.focus('#channel');
  const order = [await focus()];
  for (let i = 0; i < 4; i++) {
    await page.keyboard.press('Tab');
    order.push(await focus());
  }
  assert.deepEqual(order, ['channel', 'connect', 'messages', 'text', 'send']);
  await page.focus('#connect');
  await page.keyboard.press('Space');
  await page.locator('#status[data-state=idle]').waitFor();
  await page.focus('#channel');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('another room/ä');
  await page.keyboard.press('Enter');
  await connected(page);
  assert.match(await page.textContent('#status-text'), /another room\/ä/);
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
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 320);
    for (const id of ['channel', 'connect', 'text', 'send']) {
      const box = await page.locator(`#${id}`).boundingBox();
      assert.ok(box.height >= 44 && box.x >= 0 && box.x + box.width <= 320 && box.y + box.height <= 568, `${id} ${JSON.stringify(box)}`);
    }
    const shots = process.env.E2E_SHOTS;
    if (shots) await page.screenshot({ path: path.join(shots, `phone-${colorScheme}.png`) });
    await context.close();
  }
});

test('live counters', async () => {
  const server = await dev();
  const context = await browser();
  const page = await context.tab(server.page);
  await connected(page);
  await page.locator('#count-connections', { hasText: /^1$/ }).waitFor();
  await page.locator('#count-in', { hasText: /^\d/ }).waitFor();
  const other = await context.tab(server.page);
  await connected(other);
  await other.bringToFront();
  await other.locator('#count-connections', { hasText: /^2$/ }).waitFor();
});

test('the server goes and comes back: the page reconnects by itself', async () => {
  const home = temporary();
  const env = { ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY: '', ROOST_HTTP_API_KEY: '' };
  const first = await serve(['--dev', '--listen', 'wss://127.0.0.1:0', '--listen', 'ws://127.0.0.1:0'], { cwd: home, env });
  const context = await browser();
  const page = await context.tab(`${first.url('wss').replace('wss:', 'https:')}/`);
  await connected(page);
  /* what the browser says about the time without a server is not the page's fault */
  context.tolerated = /net::ERR_|WebSocket connection to/;
  await first.stop();
  await page.locator('#status[data-state=busy]').waitFor();
  await says(page, '1012');
  await serve(['--dev', '--listen', first.url('wss'), '--listen', first.url('ws')], { cwd: home, env });
  await connected(page);
  await page.fill('#text', 'back again');
  await page.press('#text', 'Enter');
  await says(page, 'back again');
});

test('a flood does not freeze the page', async () => {
  const server = await dev();
  const context = await browser();
  const page = await context.tab(server.page);
  await connected(page);
  const { token } = JSON.parse((await request(server, { target: '/dev/token?channel=chat' })).body);
  const client = await connect(server, '/raw/chat', { token });
  for (let i = 0; i < 5000; i++) client.send(`flood ${i}`);
  await says(page, 'flood 4999');
  assert.ok((await page.locator('#messages li').count()) <= 300);
  assert.equal(await page.locator('#status').getAttribute('data-state'), 'open');
});

await done();

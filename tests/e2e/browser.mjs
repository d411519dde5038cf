/* Headless Chromium, as a person uses it. */
import { assert, fs, skip, temporary, atEnd, patience } from './lib.mjs';
import { chromium } from 'playwright-core';

const CHROMIUM = process.env.CHROMIUM || ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((f) => fs.existsSync(f));
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];

/* A browser with a profile of its own; whatever a page complains about fails the test, unless context.tolerated matches it. */
export async function browser(options = {}) {
  if (!CHROMIUM) skip('no chromium: apt-get install chromium');
  const context = await chromium.launchPersistentContext(temporary(), {
    executablePath: CHROMIUM, headless: true, args: ARGS, ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, timeout: patience(30000), ...options,
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
    page.on('dialog', (d) => complaints.push(`dialog: ${d.message()}`) && d.dismiss());
    page.on('request', (r) => new URL(r.url()).host === new URL(url).host || r.url().startsWith('data:') || complaints.push(`request to ${r.url()}`));
    await page.goto(url);
    return page;
  };
  return context;
}

/* sees waits for an element that has the text. */
export const sees = (page, selector, text) => page.locator(selector, { hasText: text }).first().waitFor();
export const sticksOut = (page) => page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);

/* tooSmall names what is shown, can be touched and is lower than 36 pixels or beyond the edge. */
export const tooSmall = (page) => page.evaluate(() => [...document.querySelectorAll('button, input, select, nav a')]
  .map((e) => [e.id || e.className, e.getBoundingClientRect()])
  .filter(([, box]) => box.width > 0 && (box.height < 36 || box.left < 0 || box.right > innerWidth))
  .map(([name]) => name));

/* shot keeps a picture in the folder E2E_SHOTS, for people. */
export async function shot(page, name) {
  if (process.env.E2E_SHOTS) await page.screenshot({ path: `${process.env.E2E_SHOTS}/${name}.png` });
}

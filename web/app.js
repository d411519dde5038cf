/* The console: which view is shown, who has signed in, and the look at the server once a second. */
import { $, keep, short } from './dom.js';
import { server, start, signedIn, signIn, signOut } from './server.js';
import { stats, look } from './stats.js';
import { overview } from './overview.js';
import { channels } from './channels.js';
import { connections } from './connections.js';
import { live } from './live.js';
import { tokens } from './tokens.js';

/* A view has build, once; show(what stands behind its name in the address); tick, once a second while it is shown; end, when
 * somebody signs out. */
const VIEWS = { overview, channels, connections, try: live, tokens };
const EVERY_MS = 1000;

let shown = '';

/* ---- views --------------------------------------------------------------------------------------- */

/* where: #channels/a%20name is [channels, "a name"]; the default view for anything else. */
function where() {
  const [, name, rest] = location.hash.match(/^#(\w+)(?:\/(.*))?$/) || [];
  const first = server.settings.tokens ? 'try' : 'overview';
  try {
    return VIEWS[name] && !$(`nav-${name}`).hidden ? [name, decodeURIComponent(rest || '')] : [first, ''];
  } catch {
    return [first, ''];
  }
}

function route() {
  const [name, rest] = where();
  for (const view of Object.keys(VIEWS)) {
    $(`view-${view}`).hidden = view !== name;
    if (view === name) $(`nav-${view}`).setAttribute('aria-current', 'page');
    else $(`nav-${view}`).removeAttribute('aria-current');
  }
  shown = name;
  VIEWS[name].show?.(rest);
  again();
}

/* ---- once a second ------------------------------------------------------------------------------- */

let timer = 0;
let looking = false;
let asked = false; /* to look again at once, while looking */

function header() {
  keep($('brief'), stats.failure || (stats.node ? `${short(stats.node.num_clients)} connected${stats.rates ? `, ${short(stats.rates.out)}/s out` : ''}` : ''));
  $('brief').classList.toggle('bad', stats.failure !== '');
}

async function lookOnce() {
  await look();
  if (!signedIn()) return;
  header();
  const problem = $('problem');
  try {
    if (!stats.failure) await VIEWS[shown].tick?.();
    problem.hidden = true;
  } catch (failure) {
    keep(problem, failure.message);
    problem.hidden = !signedIn();
  }
}

/* One look under way at most, none while the tab is hidden; a server that takes long to answer is asked less often. */
async function again() {
  clearTimeout(timer);
  if (looking) {
    asked = true;
    return;
  }
  if (document.hidden || !signedIn()) return;
  looking = true;
  asked = false;
  const began = performance.now();
  await lookOnce();
  looking = false;
  timer = setTimeout(again, asked ? 0 : Math.max(EVERY_MS, 10 * (performance.now() - began)));
}

document.addEventListener('visibilitychange', () => document.hidden || again());

/* ---- signing in ---------------------------------------------------------------------------------- */

function showConsole() {
  $('view-sign-in').hidden = true;
  $('nav').hidden = false;
  $('sign-out').hidden = !server.settings.sign_in;
  route();
}

function showSignIn() {
  for (const view of Object.keys(VIEWS)) $(`view-${view}`).hidden = true;
  $('nav').hidden = $('sign-out').hidden = true;
  $('problem').hidden = true;
  keep($('brief'), '');
  $('view-sign-in').hidden = false;
  $('password').focus();
}

async function trySignIn(event) {
  event.preventDefault();
  try {
    await signIn($('password').value);
    $('password').value = '';
    keep($('sign-in-wrong'), '');
    showConsole();
  } catch (failure) {
    keep($('sign-in-wrong'), { 401: 'Wrong password.', 429: 'Too many wrong passwords: wait a little.' }[failure.status] || failure.message);
    $('password').select();
  }
}

/* A session that ends by itself ends no more than that: who signs in again finds Try as it was. */
function leave() {
  for (const view of Object.values(VIEWS)) view.end?.();
  signOut();
}

/* ---- the start ----------------------------------------------------------------------------------- */

async function begin() {
  await start();
  $('nav-tokens').hidden = !server.settings.tokens;
  for (const view of Object.values(VIEWS)) view.build?.({ again });
  server.signedOut = showSignIn;
  $('sign-in-form').addEventListener('submit', trySignIn);
  $('sign-out').addEventListener('click', leave);
  window.addEventListener('hashchange', () => signedIn() && route());
  if (signedIn()) showConsole();
  else showSignIn();
}

begin().catch((failure) => {
  keep($('problem'), failure.message);
  $('problem').hidden = false;
});

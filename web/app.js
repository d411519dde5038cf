/* The page of roost: a raw-mode client (docs: /raw/CHANNEL) with the server's counters beside it.
 * Everything comes from this server; the token stays in memory. */
'use strict';

const $ = (id) => document.getElementById(id);

const KEPT = 300;            /* messages in the list */
const A_FRAME = 60;          /* of a flood, how many are drawn before the browser paints */
const SHOWN_CHARACTERS = 4000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_LAST_MS = 20000;

/* Close codes after which the same token would be refused again (docs/closing): a new one is needed. */
const TOKEN_REFUSED = new Set([4401, 4403, 3005]);

/* ---- status -------------------------------------------------------------------------------------- */

function show(state, text) {
  $('status').dataset.state = state;
  if ($('status-text').textContent !== text) $('status-text').textContent = text;
  const open = state === 'open';
  $('text').disabled = $('send').disabled = !open;
  $('connect').textContent = state === 'idle' || state === 'stopped' ? 'Connect' : 'Disconnect';
}

/* ---- the list ------------------------------------------------------------------------------------ */

const waiting = []; /* items not drawn yet */

function clock(date) {
  const two = (n) => String(n).padStart(2, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.` +
    String(date.getMilliseconds()).padStart(3, '0');
}

function element(tag, className, text) {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

function drawn(item) {
  const li = document.createElement('li');
  li.className = item.kind;
  if (!item.kind.startsWith('note')) {
    const head = element('span', 'head', '');
    const time = element('time', '', clock(item.at));
    time.dateTime = item.at.toISOString();
    head.append(time, element('span', 'who', item.who));
    li.append(head);
  }
  li.append(element('span', 'body', item.text));
  return li;
}

function draw() {
  const list = $('messages');
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const skipped = Math.max(0, waiting.length - KEPT);
  if (skipped) waiting.splice(0, skipped, { kind: 'note', text: `${skipped} more, too many to show` });
  /* A flood read aloud helps nobody: the status line says that messages come. */
  list.setAttribute('aria-live', waiting.length > 5 ? 'off' : 'polite');
  list.append(...waiting.splice(0, A_FRAME).map(drawn));
  while (list.childElementCount > KEPT) list.firstElementChild.remove();
  $('empty').hidden = list.childElementCount > 0;
  if (atEnd) list.scrollTop = list.scrollHeight;
  $('newest').hidden = atEnd;
  if (waiting.length) requestAnimationFrame(draw);
}

function add(item) {
  /* A hidden tab gets no frames: it draws when it is looked at, and keeps no more than it would show. */
  if (waiting.push(item) === 1) requestAnimationFrame(draw);
  else if (waiting.length > 4 * KEPT) waiting.splice(0, KEPT);
}

function note(text) {
  add({ kind: 'note', text });
}

function cut(text) {
  return text.length <= SHOWN_CHARACTERS ? text : `${text.slice(0, SHOWN_CHARACTERS)}… (${text.length} characters)`;
}

function hex(buffer) {
  const bytes = new Uint8Array(buffer, 0, Math.min(64, buffer.byteLength));
  const digits = Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(' ');
  return `${buffer.byteLength} bytes: ${digits}${buffer.byteLength > 64 ? ' …' : ''}`;
}

/* ---- the connection ------------------------------------------------------------------------------ */

let socket = null;    /* the one in use, or null */
let wanted = false;   /* the user asked to be connected */
let failures = 0;     /* in a row, for the back-off */
let openedAt = 0;
let attempt = 0;      /* so that a token that comes late does not open a connection nobody wants any more */
let retryTimer = 0;
let dev = false;      /* the server hands out tokens: GET /dev/token */
let sent = [];        /* our messages that have not come back yet: {text, at} */

async function devToken(channel) {
  const answer = await fetch(`/dev/token?channel=${encodeURIComponent(channel)}`, { cache: 'no-store' });
  if (!answer.ok) return '';
  return (await answer.json()).token || '';
}

function received(event) {
  const at = new Date();
  if (typeof event.data !== 'string') {
    add({ kind: 'other binary', at, who: 'other', text: hex(event.data) });
    return;
  }
  /* Ours come back in the order in which they went: only the oldest one can be this one. */
  if (sent.length && sent[0].text === event.data) {
    const took = Math.round(performance.now() - sent.shift().at);
    add({ kind: 'own', at, who: `you, ${took} ms`, text: cut(event.data) });
  } else {
    add({ kind: 'other', at, who: 'other', text: cut(event.data) });
  }
}

function why(event) {
  /* A browser does not tell a page why a handshake was refused; the server's log does. */
  if (event.code === 1006) return openedAt ? 'connection lost' : 'not let in or not reachable';
  return event.reason ? `${event.code} ${event.reason}` : `code ${event.code}`;
}

function closed(event) {
  if (event.target !== socket) return;
  socket = null;
  sent = [];
  if (!wanted) {
    show('idle', 'Not connected');
    return;
  }
  const reason = why(event);
  note(`Closed: ${reason}`);
  if (openedAt && performance.now() - openedAt > 10000) failures = 0;
  openedAt = 0;
  if (TOKEN_REFUSED.has(event.code) && !dev) {
    wanted = false;
    show('stopped', `The server wants another token (${reason})`);
    $('token').focus();
    return;
  }
  retry(reason);
}

/* Full jitter: many pages that lost the same server do not come back in step. */
function retry(reason) {
  const most = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** failures++);
  const due = performance.now() + 100 + Math.random() * most;
  const tick = () => {
    const left = due - performance.now();
    if (left <= 0) {
      connect();
      return;
    }
    show('busy', `Trying again in ${Math.ceil(left / 1000)} s (${reason})`);
    retryTimer = setTimeout(tick, Math.min(left, 1000));
  };
  tick();
}

function open(channel, token) {
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  const url = `${scheme}://${location.host}/raw/${encodeURIComponent(channel)}`;
  socket = token ? new WebSocket(url, ['roost.bearer', token]) : new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  openedAt = 0;
  socket.onopen = () => {
    openedAt = performance.now(); /* no success yet: a bad token is told by a close right behind it */
    show('open', `Connected to ${channel} over ${scheme.toUpperCase()}`);
    $('text').focus();
  };
  socket.onmessage = (event) => {
    failures = 0;
    received(event);
  };
  socket.onclose = closed;
}

async function connect() {
  clearTimeout(retryTimer);
  const mine = ++attempt;
  const channel = $('channel').value;
  show('busy', `Connecting to ${channel}…`);
  let token = $('token').value.trim();
  try {
    if (dev && !token) token = await devToken(channel);
    if (wanted && mine === attempt) open(channel, token);
  } catch (error) {
    if (mine !== attempt) return;
    if (error instanceof DOMException) { /* a token or channel that can not be in a handshake */
      wanted = false;
      show('stopped', 'This token can not be sent: is it complete?');
    } else if (wanted) {
      retry('not reachable');
    }
  }
}

function disconnect() {
  wanted = false;
  attempt++;
  clearTimeout(retryTimer);
  if (socket) socket.close(1000, 'bye');
  else show('idle', 'Not connected');
}

/* ---- counters ------------------------------------------------------------------------------------ */

const METRICS = {
  connections: 'roost_connections_open',
  in: 'roost_messages_received_total',
  out: 'roost_messages_sent_total',
};
const history = [];
let last = null;

/* Sums the samples of each name over their labels (Prometheus text format 0.0.4). */
function sums(text) {
  const total = new Map();
  for (const [, name, value] of text.matchAll(/^([a-z_]\w*)(?:\{[^\n]*\})? (\S+)/gm))
    total.set(name, (total.get(name) || 0) + Number(value));
  return total;
}

function short(n) {
  if (n >= 1e6) return `${(n / 1e6).toFixed(2)} M`;
  return n >= 1e4 ? `${(n / 1e3).toFixed(1)} k` : String(Math.round(n));
}

function spark(value) {
  history.push(value);
  if (history.length > 60) history.shift();
  const top = Math.max(...history, 1);
  const points = history.map((v, i) => `${((60 - history.length + i) * 120) / 59},${30 - (28 * v) / top}`);
  $('spark').firstElementChild.setAttribute('points', points.join(' '));
}

async function count() {
  const answer = await fetch('/metrics', { cache: 'no-store' });
  if (!answer.ok) return false;
  const now = { at: performance.now(), total: sums(await answer.text()) };
  const of = (key) => now.total.get(METRICS[key]) || 0;
  $('counters').hidden = false;
  $('count-connections').textContent = short(of('connections'));
  if (last) {
    const rate = (key) => Math.max(0, ((of(key) - (last.total.get(METRICS[key]) || 0)) * 1000) / (now.at - last.at));
    $('count-in').textContent = short(rate('in'));
    $('count-out').textContent = short(rate('out'));
    spark(rate('out'));
  }
  last = now;
  return true;
}

/* One request under way at most; none while the tab is hidden; never again if there are no metrics. */
async function countForever() {
  let there = true;
  try {
    if (!document.hidden) there = await count();
  } catch {
    $('count-connections').textContent = $('count-in').textContent = $('count-out').textContent = '–';
    last = null;
  }
  if (there) setTimeout(countForever, 1000);
}

/* ---- wiring -------------------------------------------------------------------------------------- */

$('connect-form').addEventListener('submit', (event) => {
  event.preventDefault();
  if (wanted) {
    disconnect();
    return;
  }
  wanted = true;
  failures = 0;
  location.hash = encodeURIComponent($('channel').value);
  connect();
});

$('send-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('text').value;
  if (!socket || socket.readyState !== WebSocket.OPEN || !text) return;
  sent.push({ text, at: performance.now() });
  socket.send(text);
  $('text').value = '';
  $('text').focus();
});

$('messages').addEventListener('scroll', () => {
  const list = $('messages');
  if (list.scrollHeight - list.scrollTop - list.clientHeight < 40) $('newest').hidden = true;
});

$('newest').addEventListener('click', () => {
  $('messages').scrollTop = $('messages').scrollHeight;
  $('text').focus();
});

/* The network is back: do not wait for the timer. */
window.addEventListener('online', () => {
  if (wanted && !socket) connect();
});

async function start() {
  try {
    $('channel').value = decodeURIComponent(location.hash.slice(1)) || 'chat';
  } catch {
    $('channel').value = 'chat';
  }
  countForever();
  try {
    dev = (await devToken($('channel').value)) !== '';
  } catch {
    dev = false;
  }
  $('token-label').hidden = dev;
  if (dev) {
    wanted = true;
    connect();
  } else {
    $('token').focus();
  }
}

start();

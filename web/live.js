/* Trying it out: a live subscriber, what it hears, and what a recovery brought back. */
import { $, keep, shown, data } from './dom.js';
import { server, call, makeToken } from './server.js';
import { Subscriber } from './centrifuge.js';
import { explain } from './recovery.js';
import { add, note, clear, build as buildFeed } from './feed.js';

const DAY_S = 86400;

let subscriber = null;
let uid = '';     /* of the server that the subscriber's position is of */
let sent = [];    /* when our publications went that have not come back yet */

function state(name, text) {
  const idle = name === 'idle' || name === 'stopped';
  const open = name === 'open';
  $('status').dataset.state = name;
  keep($('status-text'), text);
  $('text').disabled = $('send').disabled = !open;
  keep($('connect'), idle ? 'Connect' : 'Disconnect');
  $('channel').disabled = $('token').disabled = !idle;
  if (!open) sent = [];
  else if (!$('view-try').hidden) $('text').focus();
}

/* The own ones, those of client, come back in the order in which they went. */
function publication(client, { offset, info, data: payload }) {
  const at = new Date();
  if (info && info.client === client && sent.length) {
    const took = Math.round(performance.now() - sent.shift());
    add({ kind: 'own', at, offset, who: `you, ${took} ms`, text: shown(payload) });
  } else {
    add({ kind: 'other', at, offset, who: info ? info.user || 'anonymous' : 'by the API', text: shown(payload) });
  }
}

async function subscribed(channel, result, before) {
  const was = before && { ...before, uid };
  try {
    ({ nodes: [{ uid }] } = await call('info'));
  } catch {
    uid = null; /* our session has ended, or it is away again */
  }
  if (was) note(await explain(channel, was, result, uid), result.recovered ? 'note good' : 'note bad');
  else if (!result.recoverable) note('This channel does not let clients recover: what is published while this page is away is missed.');
}

async function token() {
  const given = $('token').value.trim();
  if (given || !server.settings.tokens) return given;
  const now = Math.floor(Date.now() / 1000);
  return makeToken({ sub: 'dev', iat: now, exp: now + DAY_S });
}

function subscriberOf(channel) {
  /* the same one for the same channel: it knows how far it has heard */
  if (subscriber && subscriber.channel === channel) return subscriber;
  const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${server.settings.websocket}`;
  const mine = new Subscriber({
    url, channel, token,
    on: {
      state: (...args) => mine === subscriber && state(...args), /* the last words of one that was given up are not ours */
      subscribed: (result, before) => subscribed(channel, result, before),
      publication: (p) => publication(mine.client, p),
      note,
      membership: (kind, info) => note(`${info.user || 'anonymous'} ${kind}`),
    },
  });
  return mine;
}

function connect() {
  subscriber = subscriberOf($('channel').value);
  subscriber.start();
}

function toggle(event) {
  event.preventDefault();
  if (subscriber && subscriber.wanted) {
    subscriber.stop();
    return;
  }
  location.hash = `try/${encodeURIComponent($('channel').value)}`;
  connect();
}

async function publish(event) {
  event.preventDefault();
  const text = $('text').value;
  if (!subscriber || !subscriber.client || !text) return;
  $('text').value = '';
  $('text').focus();
  const at = performance.now();
  sent.push(at);
  try {
    await subscriber.publish(data(text));
  } catch (error) {
    sent = sent.filter((one) => one !== at);
    note(`Not published: ${error.message}`, 'note bad');
  }
}

export const live = {
  build() {
    buildFeed();
    const served = server.settings.websocket !== null;
    $('try-not-served').hidden = served;
    $('try-served').hidden = !served;
    $('connect-form').addEventListener('submit', toggle);
    $('send-form').addEventListener('submit', publish);
    window.addEventListener('online', () => subscriber?.now());
    $('channel').value = 'chat';
    if (server.settings.tokens) $('token').placeholder = 'made if empty';
  },
  /* use: a token of the maker's, so that it is another client from now on. */
  use(text) {
    subscriber?.stop();
    subscriber = null;
    $('token').value = text;
  },
  /* end: who has signed out leaves nobody connected, and no token behind. */
  end() {
    this.use('');
    clear();
  },
  show(channel) {
    const busy = subscriber && subscriber.wanted;
    if (channel && !busy) $('channel').value = channel;
    if (server.settings.websocket === null || busy || subscriber) return;
    if (server.settings.tokens) connect(); /* nothing stands in the way: the first minute begins at once */
  },
};

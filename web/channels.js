/* Channels with subscribers, and one of them: its history, who is present, publishing. */
import { $, el, keep, table, ask, count, shown, data, user } from './dom.js';
import { call, calls, Failure } from './server.js';

const LISTED = 200;     /* channels */
const HISTORY = 50;     /* publications */
const PRESENT = 200;    /* clients: above it they are counted only */

const link = (name) => `#channels/${encodeURIComponent(name)}`;
const open = (name) => el('a', { href: link(name) }, name);

/* ---- the list ------------------------------------------------------------------------------------ */

function list(channels, pattern) {
  const all = Object.entries(channels).sort(([a, x], [b, y]) => y.num_clients - x.num_clients || (a < b ? -1 : 1));
  table($('channel-rows'), all.slice(0, LISTED).map(([name, { num_clients: n }]) => (
    { key: name, cells: [['Channel', () => open(name)], ['Subscribers', n.toLocaleString('en')]] })));
  const rest = all.length > LISTED ? `, the ${LISTED} with most subscribers are shown` : '';
  keep($('channel-count'), all.length ? `${count(all.length, 'channel')} with subscribers${rest}.` : 'No channel with subscribers.');
  /* one without subscribers may have a history all the same */
  const other = pattern && !/[*?[]/.test(pattern) && !channels[pattern];
  $('channel-other').hidden = !other;
  if (other && $('channel-other').dataset.channel !== pattern) {
    $('channel-other').dataset.channel = pattern;
    $('channel-other').replaceChildren('Nobody is subscribed to it: ', open(pattern));
  }
}

async function look() {
  const pattern = $('pattern').value.trim();
  const { channels } = await call('channels', pattern ? { pattern } : {});
  if (pattern === $('pattern').value.trim()) list(channels, pattern);
}

/* ---- one channel --------------------------------------------------------------------------------- */

let channel = '';
let drawn = ''; /* what is on the screen: it is left alone while nothing changes */
let present = Infinity; /* as it was last counted: who is present is asked for when they are known to be few */

/* literally: a pattern that is this name alone. */
const literally = (name) => name.replace(/[\\*?[]/g, '\\$&');

const why = (failure, feature) => (failure.code === 108 ? `This channel has no ${feature}.` : `${feature}: ${failure.message}`);

function subscribers(result) {
  const n = result instanceof Failure ? NaN : result.channels[channel]?.num_clients ?? 0;
  keep($('channel-subscribers'), Number.isNaN(n) ? '' : `${count(n, 'subscriber')}.`);
}

function history(result) {
  if (result instanceof Failure) {
    keep($('history-position'), why(result, 'history'));
    $('history').replaceChildren();
    $('history-remove').hidden = true;
    return;
  }
  const { publications, epoch, offset } = result;
  const newest = publications.length === HISTORY ? `, the newest ${HISTORY} are shown` : '';
  keep($('history-position'), `Epoch ${epoch}, offset ${offset}${publications.length ? newest : '. Nothing is kept now'}.`);
  $('history-remove').hidden = publications.length === 0;
  $('history').replaceChildren(...publications.map((p) => el('li', {},
    el('span', { className: 'head' }, el('span', { className: 'offset' }, String(p.offset)), el('span', {}, p.info ? p.info.user || 'anonymous' : 'by the API')),
    el('span', { className: 'body' }, shown(p.data)))));
}

function presence(stats, result) {
  if (stats instanceof Failure) {
    present = Infinity;
    keep($('presence-count'), why(stats, 'presence'));
    $('presence').replaceChildren();
    return;
  }
  present = stats.num_clients;
  keep($('presence-count'), `${count(stats.num_clients, 'client')} of ${count(stats.num_users, 'user')}.`);
  const clients = result && !(result instanceof Failure) ? Object.values(result.presence).slice(0, PRESENT) : [];
  $('presence').replaceChildren(...clients.map((c) => el('li', {},
    user(c.user), ' ', el('code', {}, c.client))));
}

async function lookAtOne() {
  const mine = channel;
  const list = [['channels', { pattern: literally(channel) }], ['history', { channel, limit: HISTORY, reverse: true }], ['presence_stats', { channel }]];
  if (present <= PRESENT) list.push(['presence', { channel }]);
  const replies = await calls(list);
  const now = JSON.stringify(replies);
  if (mine !== channel || now === drawn) return;
  drawn = now;
  subscribers(replies[0]);
  history(replies[1]);
  presence(replies[2], replies[3]);
}

function show(name) {
  channel = name;
  drawn = '';
  present = Infinity;
  $('channel-list').hidden = name !== '';
  $('channel-one').hidden = name === '';
  keep($('channel-name'), name);
  keep($('published'), '');
  $('try-channel').href = `#try/${encodeURIComponent(name)}`;
  $('history').replaceChildren();
  $('presence').replaceChildren();
}

async function publish(event) {
  event.preventDefault();
  try {
    const { offset } = await call('publish', { channel, data: data($('publish-data').value) });
    keep($('published'), offset ? `Published, offset ${offset}.` : 'Published.');
    $('publish-data').select();
    await lookAtOne();
  } catch (failure) {
    keep($('published'), `Not published: ${failure.message}`);
  }
}

async function removeHistory() {
  keep($('remove-what'), channel);
  if (!(await ask($('remove-dialog')))) return;
  try {
    await call('history_remove', { channel });
    await lookAtOne();
  } catch (failure) {
    keep($('published'), `Not removed: ${failure.message}`);
  }
}

export const channels = {
  build({ again }) {
    $('pattern-form').addEventListener('submit', (event) => {
      event.preventDefault();
      again();
    });
    $('pattern').addEventListener('input', again);
    $('publish-form').addEventListener('submit', publish);
    $('history-remove').addEventListener('click', removeHistory);
  },
  show,
  tick: () => (channel ? lookAtOne() : look()),
};

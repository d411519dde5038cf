/* The figures of the whole server, and a chart of the last minutes. */
import { $, el, keep, short, bytes, age, count } from './dom.js';
import { stats } from './stats.js';

const FIGURES = [
  ['connections', 'connections', (n) => short(n.num_clients)],
  ['users', 'users', (n) => short(n.num_users)],
  ['subscriptions', 'subscriptions', (n) => short(n.num_subs)],
  ['channels', 'channels in use', (n) => short(n.num_channels)],
  ['in', 'messages in / s', (n, r) => (r ? short(r.in) : '–')],
  ['out', 'messages out / s', (n, r) => (r ? short(r.out) : '–')],
  ['publications', 'publications / s', (n, r) => (r ? short(r.publications) : '–')],
  ['queued', 'waiting to be sent', (n) => bytes(n.metrics.items.queued_bytes)],
];
const WIDTH = 300; /* one unit a sample */
const HEIGHT = 100;

/* top: the next 1, 2 or 5 with zeros behind it. */
function top(most) {
  const ten = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
  return ten * [1, 2, 5, 10].find((n) => n * ten >= most);
}

/* path draws the samples of a name; a gap where nobody looked. */
function path(name, scale) {
  const first = WIDTH - stats.samples.length;
  let pen = 'M';
  return stats.samples.map((sample, i) => {
    if (!sample) {
      pen = 'M';
      return '';
    }
    const point = `${pen}${first + i} ${(HEIGHT - (HEIGHT * sample[name]) / scale).toFixed(1)}`;
    pen = 'L';
    return point;
  }).join('');
}

function draw() {
  const seen = stats.samples.filter(Boolean);
  const scale = top(Math.max(1, ...seen.map((s) => Math.max(s.in, s.out))));
  $('chart-in').setAttribute('d', path('in', scale));
  $('chart-out').setAttribute('d', path('out', scale));
  keep($('chart-top'), `${short(scale)} / s`);
}

export const overview = {
  build() {
    $('figures').append(...FIGURES.map(([id, name]) => el('div', {}, el('b', { id: `figure-${id}` }, '–'), el('span', {}, name))));
  },
  tick() {
    const { node } = stats;
    if (!node) return;
    for (const [id, , text] of FIGURES) keep($(`figure-${id}`), text(node, stats.rates));
    keep($('node'), `${node.name}, roost ${node.version}, up for ${age(node.uptime)}, ${count(node.workers, 'worker')}`);
    draw();
  },
};

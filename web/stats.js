/* What the server counts, once a second while somebody looks; the last minutes are kept. */
import { call } from './server.js';

const KEPT = 300;

export const stats = {
  node: null,   /* of the method info */
  rates: null,  /* a second: { in, out, publications, deliveries } */
  samples: [],  /* { in, out }, oldest first; null where nobody looked */
  failure: '',
};

let last = null; /* { at, node } */

function keep(sample) {
  stats.samples.push(sample);
  if (stats.samples.length > KEPT) stats.samples.shift();
}

function rates(now) {
  const s = (now.at - last.at) / 1000;
  const of = (name) => Math.max(0, now.node.metrics.items[name] - last.node.metrics.items[name]) / s;
  return { in: of('messages_received'), out: of('messages_sent'), publications: of('publications'), deliveries: of('deliveries') };
}

/* look asks once. After a pause (the tab was hidden, the server away) there is a gap, and no rate over it. */
export async function look() {
  try {
    const { nodes: [node] } = await call('info');
    const now = { at: performance.now(), node };
    const goesOn = last && last.node.uid === node.uid && now.at - last.at < 10000;
    if (last && !goesOn) keep(null);
    stats.node = node;
    stats.rates = goesOn ? rates(now) : null;
    if (stats.rates) keep(stats.rates);
    last = now;
    stats.failure = '';
  } catch (failure) {
    stats.rates = null;
    stats.failure = failure.message;
  }
}

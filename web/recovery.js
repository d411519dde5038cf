/* Why a subscriber got back what it had missed, or why not. */
import { count } from './dom.js';
import { call, Failure } from './server.js';

/* kept: the offsets of the oldest and the newest publication of the history, or null. */
async function keptOf(channel) {
  const { publications, offset } = await call('history', { channel, limit: 1 });
  return publications.length ? { from: publications[0].offset, to: offset } : null;
}

const RESTARTED = 'The server was restarted. Histories live in its memory, so';
const DROPPED = 'The history of the channel was dropped and began anew (nobody used it for channel.history_meta_ttl, or all histories together reached channel.history_max_size):';
const EITHER = 'The server was restarted, or it dropped the history of the channel:';

function epochChanged(before, result, uid) {
  const why = uid === null || before.uid === null ? EITHER : uid === before.uid ? DROPPED : RESTARTED;
  return `${why} the epoch of the channel changed from ${before.epoch} to ${result.epoch}.`;
}

function tooMuch(before, kept, top) {
  const missed = top - before.offset;
  if (!kept) return `${count(missed, 'publication was', 'publications were')} missed, and the history keeps none of them any more: they are older than its history_ttl, or it was removed.`;
  if (kept.from > before.offset + 1) {
    return `More was missed than the history keeps: this page had seen offset ${before.offset}, and of the ${count(missed, 'publication')} after it the history has the last ${kept.to - kept.from + 1} (${kept.from} to ${kept.to}; history_size).`;
  }
  return `${count(missed, 'publication was', 'publications were')} missed, more than one recovery gives back (client.recovery_max_publication_limit).`;
}

/* explain: before is { epoch, offset, uid } as it was, uid the server's now, null if it does not tell us; result the reply to
 * subscribe. */
export async function explain(channel, before, result, uid) {
  if (result.recovered) {
    const n = (result.publications || []).length;
    return n ? `Recovered ${count(n, 'publication')}.` : 'Recovered: nothing was missed.';
  }
  const cure = 'Load the state from your backend and go on from here.';
  if (!result.recoverable) return `Not recovered: this channel does not let clients recover (allow_recovery). ${cure}`;
  if (result.epoch !== before.epoch) return `Not recovered. ${epochChanged(before, result, uid)} ${cure}`;
  try {
    return `Not recovered. ${tooMuch(before, await keptOf(channel), result.offset)} ${cure}`;
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    return `Not recovered. ${cure}`;
  }
}

/* Connections: those with most in their queues first, then the youngest; of one user if asked. */
import { $, el, keep, table, ask, count, bytes, age, user } from './dom.js';
import { call } from './server.js';

const LIMIT = 100; /* of each worker, as the server counts it, and shown in all */

async function disconnect(id, connection) {
  keep($('disconnect-what'), `${connection.user || 'anonymous'}, ${connection.peer}`);
  if (!(await ask($('disconnect-dialog')))) return;
  try {
    await call('disconnect', {
      user: connection.user,
      client: id,
      disconnect: { code: Number($('disconnect-code').value), reason: $('disconnect-reason').value },
    });
    keep($('disconnected'), `Disconnected: ${connection.user || 'anonymous'}, ${connection.peer}.`);
    await connections.tick();
  } catch (failure) {
    keep($('disconnected'), `Not disconnected: ${failure.message === 'bad request' ? 'the code is from 3000 to 4999, the reason has 1 to 123 bytes and is not JSON' : failure.message}`);
  }
}

function row([id, c]) {
  const button = () => el('button', {
    type: 'button', className: 'small plain', onclick: () => disconnect(id, c), 'aria-label': `Disconnect ${c.user || 'anonymous'}, ${c.peer}`,
  }, 'Disconnect');
  return {
    key: id,
    cells: [
      ['User', () => user(c.user)],
      ['Protocol', c.protocol],
      ['Peer', c.peer + (c.tls ? ', TLS' : '')],
      ['Age', age(c.age)],
      ['Queue', bytes(c.queued_bytes)],
      ['Channels', String(c.channels)],
      ['In / out', `${c.messages_received} / ${c.messages_sent}`],
      ['Id', () => el('code', {}, id)],
      ['', button],
    ],
  };
}

function list(all) {
  const sorted = Object.entries(all).sort(([, a], [, b]) => b.queued_bytes - a.queued_bytes || a.age - b.age);
  table($('connection-rows'), sorted.slice(0, LIMIT).map(row));
  keep($('connection-count'), sorted.length >= LIMIT
    ? `${LIMIT} connections are shown: those with most in their queues, then the youngest. Name a user to see all of theirs.`
    : `${count(sorted.length, 'connection')}.`);
}

export const connections = {
  build({ again }) {
    $('user-form').addEventListener('submit', (event) => {
      event.preventDefault();
      location.hash = `connections/${encodeURIComponent($('user').value)}`;
      again();
    });
    $('user').addEventListener('input', again);
  },
  show(user) {
    $('user').value = user;
    keep($('disconnected'), '');
  },
  async tick() {
    const name = $('user').value;
    const all = await call('connections', name ? { user: name, limit: LIMIT } : { limit: LIMIT });
    if (name === $('user').value) list(all.connections);
  },
};

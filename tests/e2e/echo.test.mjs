/* /echo with Node's ws and with bytes of our own: every kind of message, and every kind of end. */
import {
  assert, serve, connect, upgraded, upgradeHead, bearer, frame, closeFrame, fresh, test, done, until, metrics,
  Raw, OP, scaled, within, patience, spread, Client, token,
} from './lib.mjs';
import crypto from 'node:crypto';

const MIB = 1 << 20;

test('text and binary of every length form', async () => {
  const server = await serve(['--echo']);
  const client = await connect(server);
  for (const n of [0, 1, 125, 126, 127, 65535, 65536, 100000, 131072]) {
    const text = 'ä'.repeat(n / 2) + 'x'.repeat(n % 2);
    await client.echo(text);
    const bytes = crypto.randomBytes(n);
    client.send(bytes);
    assert.ok(bytes.equals(await client.next()), `${n} bytes`);
  }
  assert.equal((await client.end(4000, 'wiedersehen')).code, 4000);
});

test('messages in flight come back in order', async () => {
  const server = await serve(['--echo']);
  const client = await connect(server);
  const count = scaled(20000);
  for (let i = 0; i < count; i++) client.send(`message ${i}`);
  for (let i = 0; i < count; i++) assert.equal(await client.next(), `message ${i}`);
});

test('fragments, with control frames between them', async () => {
  const server = await serve(['--echo']);
  const client = await connect(server);
  const pongs = [];
  client.socket.on('pong', (data) => pongs.push(data.toString()));
  for (let i = 0; i < 50; i++) {
    client.send(`part ${i} `, { fin: i === 49 });
    if (i % 10 === 0) client.socket.ping(`p${i}`);
  }
  assert.equal(await client.next(), Array.from({ length: 50 }, (_, i) => `part ${i} `).join(''));
  assert.deepEqual(pongs, ['p0', 'p10', 'p20', 'p30', 'p40']);
});

test('65,536 fragments are taken, one more is not', async () => {
  const server = await serve(['--echo', '--max-message', '1MiB']);
  const raw = await upgraded(server);
  const fragments = (n) => {
    const parts = [];
    for (let i = 0; i < n; i++) parts.push(frame(i ? OP.CONT : OP.BINARY, 'x', { fin: i === n - 1 }));
    return Buffer.concat(parts);
  };
  raw.write(fragments(65536));
  assert.equal((await raw.frame(30000)).payload.length, 65536);
  raw.write(fragments(65537));
  assert.equal((await raw.closeFrame(30000)).code, 1009);
  await fresh(server);
});

test('1 MiB and 16 MiB with --max-message', async () => {
  const server = await serve(['--echo', '--max-message', '16MiB']);
  const client = await connect(server);
  for (const n of [MIB, 16 * MIB]) {
    const bytes = Buffer.alloc(n, crypto.randomBytes(4099));
    client.send(bytes);
    assert.ok(bytes.equals(await client.next(60000)));
  }
  client.send('still here');
  assert.equal(await client.next(), 'still here');
});

test('a message above the limit: 1009 as soon as it is announced', async () => {
  const server = await serve(['--echo']);
  const raw = await upgraded(server);
  raw.write(frame(OP.TEXT, 'only these', { announce: 131073 }));
  const { code, reason } = await raw.closeFrame();
  assert.equal(code, 1009);
  assert.notEqual(reason, '');
  raw.write(closeFrame(1009));
  await raw.over();
  await fresh(server);
  const second = await upgraded(server); /* the sum of fragments counts too */
  second.write(Buffer.concat([frame(OP.TEXT, 'x'.repeat(131072), { fin: false }), frame(OP.CONT, 'y')]));
  assert.equal((await second.closeFrame()).code, 1009);
  await fresh(server);
});

test('1 MiB in one burst with one read per turn', async () => {
  const server = await serve(['--echo', '--worker.reads_per_turn', '1', '--worker.receive_buffer', '16KiB',
    '--workers', '1', '--max-message', '2MiB']);
  const other = await connect(server);
  const raw = await upgraded(server);
  const messages = Array.from({ length: 1024 }, (_, i) => Buffer.alloc(1024 - 8, i & 255));
  raw.write(Buffer.concat(messages.map((m) => frame(OP.BINARY, m))));
  await other.echo('not starved');
  for (const m of messages) assert.ok(m.equals((await raw.frame()).payload));
  raw.write(frame(OP.BINARY, Buffer.alloc(MIB, 7)));
  assert.equal((await raw.frame()).payload.length, MIB);
});

test('an echo client that does not read is read no further, and loses nothing', async () => {
  const server = await serve(['--echo', '--client.queue_max_size', '64KiB', '--workers', '1']);
  const raw = await upgraded(server);
  raw.socket.pause();
  const count = scaled(4000, 800);
  const message = (i) => Buffer.alloc(8192, i & 255);
  let written = 0;
  const writing = (async () => {
    for (; written < count; written++) await raw.written(frame(OP.BINARY, message(written)));
  })();
  /* 32 MiB do not fit the socket buffers of both sides: the writer stops. */
  let before = -1;
  await until(async () => {
    const stuck = written === before && written > 0;
    before = written;
    await (await connect(server)).end(); /* meanwhile others are served */
    return stuck || written === count;
  }, 'the writer is stuck', 30000);
  const m = await metrics(server);
  const queued = m.get('queued_bytes');
  assert.ok(queued < MIB, `queued_bytes ${queued}`);
  if (written < count) assert.ok(m.get('pauses_total{what="replies"}') > 0);
  raw.socket.resume();
  for (let i = 0; i < count; i++) {
    const f = await raw.frame(30000);
    assert.equal(f.payload.length, 8192);
    assert.equal(f.payload[0], i & 255);
  }
  await writing;
});

test('FIN right behind data: everything is answered first', async () => {
  const server = await serve(['--echo']);
  for (const n of [1, 100, 1000]) {
    const raw = await upgraded(server);
    const all = [];
    for (let i = 0; i < n; i++) all.push(frame(OP.TEXT, `last words ${i}`));
    raw.end(Buffer.concat(all));
    for (let i = 0; i < n; i++) assert.equal((await raw.frame()).payload.toString(), `last words ${i}`);
    await raw.over();
  }
  await fresh(server);
});

test('FIN right behind a Close', async () => {
  const server = await serve(['--echo']);
  const raw = await upgraded(server);
  raw.end(Buffer.concat([frame(OP.TEXT, 'a'), closeFrame(1000, 'bye')]));
  assert.equal((await raw.frame()).payload.toString(), 'a');
  assert.equal((await raw.closeFrame()).code, 1000);
  assert.equal((await raw.over()).length, 0);
  await fresh(server);
});

test('half-close of an idle connection ends it', async () => {
  const server = await serve(['--echo']);
  const raw = await upgraded(server);
  raw.end();
  await raw.over();
  await until(async () => (await metrics(server)).get('connections_open') === 0, 'connection is gone');
  await fresh(server);
});

test('cut sockets: RST while idle, within a message, with unread echoes', async () => {
  const server = await serve(['--echo']);
  await spread(scaled(300, 30), 10, async (i) => {
    const raw = await upgraded(server);
    if (i % 3 === 1) await raw.written(frame(OP.TEXT, 'cut', { announce: 1000 }));
    if (i % 3 === 2) await raw.written(Buffer.concat(Array.from({ length: 50 }, () => frame(OP.BINARY, Buffer.alloc(1000)))));
    raw.reset();
  });
  await until(async () => (await metrics(server)).get('connections_open') === 0, 'all are gone');
  assert.equal((await metrics(server)).get('queued_bytes'), 0);
  await fresh(server);
});

test('bytes behind the upgrade request', async () => {
  const server = await serve(['--echo']);
  const raw = await Raw.connect(server);
  raw.write(Buffer.concat([Buffer.from(upgradeHead('/echo', bearer())), frame(OP.TEXT, 'early'), frame(OP.PING, 'bird')]));
  assert.equal((await raw.response()).status, 101);
  assert.equal((await raw.frame()).payload.toString(), 'early');
  const pong = await raw.frame();
  assert.equal(pong.opcode, OP.PONG);
  assert.equal(pong.payload.toString(), 'bird');
});

test('upgrade and messages that come byte by byte', async () => {
  const server = await serve(['--echo']);
  const raw = await Raw.connect(server);
  const bytes = Buffer.concat([Buffer.from(upgradeHead('/echo', bearer())), frame(OP.TEXT, 'dröge', { fin: false }), frame(OP.CONT, 'ß'), closeFrame(1000)]);
  for (let i = 0; i < bytes.length; i++) await raw.written(bytes.subarray(i, i + 1));
  assert.equal((await raw.response()).status, 101);
  assert.equal((await raw.frame()).payload.toString(), 'drögeß');
  assert.equal((await raw.closeFrame()).code, 1000);
});

test('the server ends TCP after the closing handshake', async () => {
  const server = await serve(['--echo']);
  const raw = await upgraded(server);
  raw.write(closeFrame(1000));
  assert.equal((await raw.closeFrame()).code, 1000);
  await raw.over();
  raw.end();
  await until(async () => (await metrics(server)).get('sockets_open') <= 1, 'socket is gone');
});

test('a flood of pings is answered, and slows only its sender', async () => {
  const server = await serve(['--echo', '--workers', '1']);
  const raw = await upgraded(server);
  const other = await connect(server);
  const count = 150; /* above 100 a second */
  raw.write(Buffer.concat(Array.from({ length: count }, (_, i) => frame(OP.PING, String(i)))));
  await other.echo('served meanwhile');
  let last = -1;
  while (last !== count - 1) {
    const f = await raw.frame();
    assert.equal(f.opcode, OP.PONG);
    const n = Number(f.payload.toString());
    assert.ok(n > last, `pong ${n} after ${last}`);
    last = n;
  }
  raw.write(frame(OP.TEXT, 'and on'));
  assert.equal((await raw.frame()).payload.toString(), 'and on');
  assert.ok((await metrics(server)).get('control_floods_total') >= 1);
});

test('permessage-deflate and odd offers are declined, not refused', async () => {
  const server = await serve(['--echo']);
  for (const offer of ['permessage-deflate; client_max_window_bits', 'x-unknown; a="b, c"', ', ,', 'permessage-deflate; =']) {
    const raw = await upgraded(server, '/echo', { ...bearer(), 'Sec-WebSocket-Extensions': offer });
    assert.equal(raw.answer.headers['sec-websocket-extensions'], undefined);
    raw.write(frame(OP.TEXT, offer));
    assert.equal((await raw.frame()).payload.toString(), offer);
    raw.socket.destroy();
  }
  const client = await connect(server, '/echo', { perMessageDeflate: true });
  await client.echo('plain after all');
});

test('many connections: each is served, each is counted, all are let go', async () => {
  const count = scaled(10000, 500);
  const server = await serve(['--echo', '--workers', '2']);
  const auth = token();
  const clients = [];
  await spread(count, 200, async (i) => {
    const client = await connect(server, '/echo', { token: auth });
    await client.echo(`client ${i}`);
    clients.push(client);
  });
  let m = await metrics(server);
  assert.equal(m.get('connections_open'), count);
  assert.equal(m.get('worker_connections{worker="0"}') + m.get('worker_connections{worker="1"}'), count);
  await spread(count, 500, (i) => clients[i].echo('again'));
  await spread(count, 500, (i) => clients[i].end());
  m = await metrics(server);
  assert.equal(m.get('connections_open'), 0);
  assert.equal(m.get('connections_closed_total'), count);
  assert.equal(m.get('messages_received_total'), 2 * count);
  assert.equal(m.get('messages_sent_total'), 2 * count);
  await fresh(server);
}, { seconds: 120 });

await done();

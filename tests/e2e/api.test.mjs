/* POST /api/publish, for a backend (protocol.md section 7). */
import {
  assert, serve, connect, fresh, test, done, request, requestHead, Raw, API_KEY, publish, command, metrics, secretText,
  scaled, spread, oneLine, token, until,
} from './lib.mjs';

const post = (server, body, headers = { 'X-API-Key': API_KEY }, target = '/api/publish', method = 'POST') =>
  request(server, { method, target, headers, body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body) });
const good = { channel: 'news', data: { t: 'hi' } };

test('publish arrives on all workers; the answer is {"result":{}}', async () => {
  const server = await serve(['--workers', '2']);
  const clients = [];
  for (let i = 0; i < 8; i++) clients.push(await connect(server, '/raw/news'));
  const answer = await post(server, good);
  assert.equal(answer.status, 200);
  assert.match(answer.headers['content-type'], /^application\/json/);
  assert.deepEqual(JSON.parse(answer.body), { result: {} });
  for (const c of clients) assert.equal(await c.next(), '{"t":"hi"}');
});

test('data keeps its bytes: numbers, order, escapes, white space', async () => {
  const server = await serve();
  const c = await connect(server, '/raw/news');
  const rows = [
    ['1.50', '1.50'], ['1e3', '1e3'], ['12345678901234567890', '12345678901234567890'], ['"\\u00e9\\/"', '"\\u00e9\\/"'],
    ['{"b":1,"a":[1, 2]}', '{"b":1,"a":[1, 2]}'], ['[1,\n 2]', '[1,\n 2]'], ['true', 'true'], ['"\\ud800"', '"\\ud800"'], ['""', '""'],
    ['{"a":1,"a":2}', '{"a":1,"a":2}'],
  ];
  for (const [sent, seen] of rows) {
    const answer = await post(server, `{"channel":"news","data":${sent}}`);
    assert.deepEqual(JSON.parse(answer.body), { result: {} }, sent);
    assert.equal(await c.next(), seen);
  }
});

test('b64data arrives as its bytes; an empty one is as absent', async () => {
  const server = await serve();
  const c = await connect(server, '/raw/news');
  assert.deepEqual(JSON.parse((await post(server, { channel: 'news', b64data: '', data: 7 })).body), { result: {} });
  assert.equal(await c.next(), '7');
  await post(server, { channel: 'news', b64data: Buffer.from('{"x":1}').toString('base64') });
  assert.equal(String(await c.next()), '{"x":1}');
});

test('unknown fields are ignored', async () => {
  const server = await serve();
  const answer = await post(server, { ...good, skip_history: true, tags: { k: 'v' }, whatever: [1, { x: null }] });
  assert.deepEqual(JSON.parse(answer.body), { result: {} });
});

test('the key: X-API-Key, else Authorization: apikey, else ?api_key=', async () => {
  const server = await serve();
  const ways = [
    [{ 'x-api-key': API_KEY }], [{ Authorization: `apikey ${API_KEY}` }], [{ Authorization: `APIKEY ${API_KEY}` }],
    [{}, `/api/publish?api_key=${API_KEY}`], [{ 'X-API-Key': API_KEY, Authorization: 'apikey wrong' }],
  ];
  for (const [headers, target] of ways) assert.equal((await post(server, good, headers, target)).status, 200, JSON.stringify(headers));
  const wrong = [
    [{}], [{ 'X-API-Key': 'wrong' }], [{ 'X-API-Key': '' }], [{ 'X-API-Key': API_KEY.slice(0, -1) }], [{ 'X-API-Key': `${API_KEY}x` }],
    [{ Authorization: `Bearer ${API_KEY}` }], [{ Authorization: API_KEY }], [{ 'X-API-Key': 'wrong', Authorization: `apikey ${API_KEY}` }],
    [{ 'X-API-Key': 'wrong' }, `/api/publish?api_key=${API_KEY}`], [{}, '/api/publish?api_key='], [{ Authorization: `Bearer ${token()}` }],
  ];
  for (const [headers, target] of wrong) {
    const answer = await post(server, good, headers, target);
    assert.equal(answer.status, 401, JSON.stringify(headers));
    assert.equal(answer.body, '');
  }
  await fresh(server);
});

test('without a key the API is off: 401', async () => {
  const server = await serve([], { env: { ROOST_HTTP_API_KEY: '' } });
  for (const headers of [{}, { 'X-API-Key': '' }, { 'X-API-Key': API_KEY }]) assert.equal((await post(server, good, headers)).status, 401);
  await fresh(server);
});

test('http_api.insecure asks for no key; http_api.disabled has no API', async () => {
  const open = await serve(['--http_api.insecure', 'true'], { env: { ROOST_HTTP_API_KEY: '' } });
  assert.equal((await post(open, good, {})).status, 200);
  const off = await serve(['--http_api.disabled', 'true']);
  assert.ok([401, 404].includes((await post(off, good)).status));
});

test('not POST is 405, before the key is looked at; unknown methods are 404', async () => {
  const server = await serve();
  for (const method of ['GET', 'PUT', 'DELETE']) {
    const answer = await request(server, { method, target: '/api/publish' });
    assert.equal(answer.status, 405);
    assert.equal(answer.headers.allow, 'POST');
  }
  assert.equal((await post(server, good, undefined, '/api/nonsense')).status, 404);
  assert.equal((await post(server, good, undefined, '/api/')).status, 404);
  await fresh(server);
});

test('bodies that are not JSON, of a wrong type or empty: 400', async () => {
  const server = await serve();
  const rows = [
    '', ' ', '{', '[]', '"x"', '7', 'null', '{"channel":"news","data":}', '{"channel":"news","data":1}x', '{"channel":7,"data":1}', '{"channel":["news"],"data":1}',
    '{"channel":"news","data":1,}', "{'channel':'news','data':1}", '{"channel":"news","data":tru}', '{"channel":"news","data":01}', '{"channel":"news","data":"a\nb"}',
    '{"channel":"news","b64data":7}', Buffer.from('{"channel":"news","data":"\xff"}', 'latin1'), '\ufeff{"channel":"news","data":1}', `{"channel":"news","data":${'['.repeat(70)}${']'.repeat(70)}}`,
  ];
  for (const body of rows) {
    const answer = await post(server, body);
    assert.equal(answer.status, 400, String(body));
    assert.equal(answer.body.trim(), 'Bad Request');
  }
  await fresh(server);
});

test('errors 102 and 107 in both modes', async () => {
  const server = await serve(['--channel.namespaces', JSON.stringify([{ name: 'chat' }])]);
  const rows = [
    [{ channel: '', data: 1 }, 107, 400, 'bad request'],
    [{ data: 1 }, 107, 400, 'bad request'],
    [{ channel: null, data: 1 }, 107, 400, 'bad request'],
    [{ channel: 'news' }, 107, 400, 'bad request'],
    [{ channel: 'news', b64data: '***' }, 107, 400, 'bad request'],
    [{ channel: 'news', b64data: '***', data: 1 }, 107, 400, 'bad request'],
    [{ channel: 'news', b64data: '' }, 107, 400, 'bad request'],
    [{ channel: 'x'.repeat(256), data: 1 }, 107, 400, 'bad request'],
    [{ channel: 'nowhere:x', data: 1 }, 102, 404, 'unknown channel'],
  ];
  for (const [body, code, status, message] of rows) {
    const plain = await post(server, body);
    assert.equal(plain.status, 200, JSON.stringify(body));
    assert.deepEqual(JSON.parse(plain.body), { error: { code, message } }, JSON.stringify(body));
    const transport = await post(server, body, { 'X-API-Key': API_KEY, 'X-Centrifugo-Error-Mode': 'transport' });
    assert.equal(transport.status, status);
    assert.deepEqual(JSON.parse(transport.body), { code, message });
  }
  assert.deepEqual(JSON.parse((await post(server, { channel: 'chat:x', data: 1 })).body), { result: {} });
  await fresh(server);
});

test('curl: plain, chunked, Expect: 100-continue, HTTP/1.0', async () => {
  const server = await serve();
  const c = await connect(server, '/raw/news');
  const url = `http://127.0.0.1:${server.port()}/api/publish`;
  const key = ['-H', `X-API-Key: ${API_KEY}`];
  const body = '{"channel":"news","data":"from curl"}';
  const ways = [['-d', body], ['-H', 'Transfer-Encoding: chunked', '-d', body], ['--http1.0', '-d', body], ['-H', 'Expect: 100-continue', '-d', body], ['-T', '-']];
  for (const way of ways) {
    const args = way[0] === '-T' ? ['-X', 'POST', ...way] : way;
    const { out } = await command('curl', ['-sS', '--max-time', '20', ...key, ...args, url], { input: way[0] === '-T' ? body : undefined });
    assert.deepEqual(JSON.parse(out), { result: {} }, way.join(' ').slice(0, 60));
    assert.equal(await c.next(), '"from curl"');
  }
  const large = JSON.stringify({ channel: 'news', data: 'x'.repeat(100000) }); /* curl expects 100 by itself above 1 MiB, and streams */
  const { out } = await command('curl', ['-sS', '--max-time', '20', ...key, '-H', 'Expect: 100-continue', '-d', '@-', url], { input: large });
  assert.deepEqual(JSON.parse(out), { result: {} });
  assert.equal((await c.next()).length, 100002);
});

test('Expect: 100-continue is answered before the body; a refusal comes instead of it', async () => {
  const server = await serve();
  const body = JSON.stringify(good);
  const head = (headers) => requestHead('POST', '/api/publish', { Host: 'a', Expect: '100-continue', 'Content-Length': body.length, ...headers });
  const raw = await Raw.connect(server);
  raw.write(head({ 'X-API-Key': API_KEY }));
  assert.equal((await raw.response({ head: true })).status, 100);
  raw.write(body);
  assert.equal((await raw.response()).status, 200);
  const bad = await Raw.connect(server);
  bad.write(head({ 'X-API-Key': 'wrong' }));
  assert.equal((await bad.response()).status, 401);
  await fresh(server);
});

test('keep-alive, bodies in pieces, chunks with extensions and trailers, pipelined', async () => {
  const server = await serve();
  const c = await connect(server, '/raw/news');
  const raw = await Raw.connect(server);
  const auth = { Host: 'a', 'X-API-Key': API_KEY };
  const body = (i) => `{"channel":"news","data":${i}}`;
  const plain = (i) => requestHead('POST', '/api/publish', { ...auth, 'Content-Length': body(i).length }) + body(i);
  const chunked = (i) => {
    const b = body(i);
    return `${requestHead('POST', '/api/publish', { ...auth, 'Transfer-Encoding': 'chunked' })}5;ext="a;b"\r\n${b.slice(0, 5)}\r\n${(b.length - 5).toString(16)}\r\n${b.slice(5)}\r\n0\r\nX-Trailer: y\r\n\r\n`;
  };
  const all = Array.from({ length: 20 }, (_, i) => (i % 2 ? chunked(i) : plain(i))).join('');
  for (let at = 0; at < all.length; at += 37) await raw.written(all.slice(at, at + 37));
  for (let i = 0; i < 20; i++) {
    assert.equal((await raw.response()).status, 200);
    assert.equal(await c.next(), String(i));
  }
  raw.write(all);
  for (let i = 0; i < 20; i++) {
    assert.equal((await raw.response()).status, 200);
    assert.equal(await c.next(), String(i));
  }
});

test('malformed chunks: 400 and the end of the connection', async () => {
  const server = await serve();
  for (const chunk of ['x\r\n', '-1\r\n', '5\r\nabcdefgh\r\n', '5\nabcde\n', 'fffffffffffffffff\r\n', '0x5\r\nabcde\r\n', ' 5\r\nabcde\r\n', '5;\x00\r\nabcde\r\n', `5;${'e'.repeat(9000)}`]) {
    const raw = await Raw.connect(server);
    raw.write(requestHead('POST', '/api/publish', { Host: 'a', 'X-API-Key': API_KEY, 'Transfer-Encoding': 'chunked' }) + chunk);
    assert.equal((await raw.response()).status, 400, JSON.stringify(chunk.slice(0, 30)));
    await raw.over();
  }
  await fresh(server);
});

test('a body that does not come is cut off by a deadline', async () => {
  const server = await serve(['--http_server.handshake_timeout', '400ms', '--http_server.idle_timeout', '600ms']);
  const raw = await Raw.connect(server);
  raw.write(requestHead('POST', '/api/publish', { Host: 'a', 'X-API-Key': API_KEY, 'Content-Length': '1000' }) + '{"channel"');
  await raw.over();
  await fresh(server);
});

test('order: what one connection publishes arrives in its order', async () => {
  const server = await serve(['--workers', '2']);
  const clients = [];
  for (let i = 0; i < 4; i++) clients.push(await connect(server, '/raw/news'));
  const count = scaled(2000, 200);
  const raw = await Raw.connect(server);
  const one = (i) => {
    const body = `{"channel":"news","data":${i}}`;
    return requestHead('POST', '/api/publish', { Host: 'a', 'X-API-Key': API_KEY, 'Content-Length': body.length }) + body;
  };
  raw.write(Array.from({ length: count }, (_, i) => one(i)).join(''));
  for (let i = 0; i < count; i++) assert.equal((await raw.response()).status, 200);
  for (const c of clients) for (let i = 0; i < count; i++) assert.equal(await c.next(), String(i));
  const m = await metrics(server);
  assert.equal(m.get('publications_total'), count);
  assert.equal(m.get('deliveries_total'), 4 * count);
  assert.equal(m.get('api_requests_total'), count);
});

test('a client that pipelines and does not read the answers is read no further', async () => {
  const server = await serve(['--workers', '1', '--client.queue_max_size', '64KiB']);
  const raw = await Raw.connect(server);
  raw.socket.pause();
  const count = scaled(60000, 20000);
  const one = requestHead('GET', '/metrics', { Host: 'a' }); /* small question, large answer */
  const written = raw.written(one.repeat(count));
  let before = -1;
  await until(async () => {
    const now = (await metrics(server)).get('http_requests_total');
    const stuck = now - before <= 1;
    before = now;
    return stuck;
  }, 'the server reads no further');
  const m = await metrics(server);
  assert.ok(m.get('queued_bytes') < 1 << 20, `queued ${m.get('queued_bytes')}`);
  assert.ok(m.get('http_requests_total') < count);
  raw.socket.resume();
  for (let i = 0; i < 200; i++) assert.equal((await raw.response()).status, 200);
  raw.reset();
  written.catch(() => {});
  await fresh(server);
});

test('... and when it does read, gets every answer, in order', async () => {
  const server = await serve(['--workers', '1', '--client.queue_max_size', '32KiB']);
  const raw = await Raw.connect(server);
  raw.socket.pause();
  const count = scaled(2000, 400);
  const body = (i) => `{"channel":"none","data":${i}}`;
  const one = (i) => {
    if (i % 3 === 0) return requestHead('GET', '/metrics', { Host: 'a' });
    if (i % 3 === 1) return requestHead('POST', '/api/publish', { Host: 'a', 'X-API-Key': API_KEY, 'Content-Length': body(i).length }) + body(i);
    return requestHead('GET', `/nowhere/${i}`, { Host: 'a' });
  };
  raw.write(Array.from({ length: count }, (_, i) => one(i)).join(''));
  await until(async () => (await metrics(server)).get('http_requests_total') > 10, 'it has begun');
  raw.socket.resume();
  for (let i = 0; i < count; i++) assert.equal((await raw.response()).status, [200, 200, 404][i % 3], `answer ${i}`);
  await fresh(server);
});

test('--admin-listen takes the API away from the listeners of clients', async () => {
  const server = await serve(['--listen', 'ws://127.0.0.1:0', '--admin-listen', 'ws://127.0.0.1:0']);
  const answers = [await post(server, good), await request(server, { method: 'POST', target: '/api/publish', headers: { 'X-API-Key': API_KEY }, body: JSON.stringify(good), nth: 1 })];
  assert.deepEqual(answers.map((a) => a.status).sort(), [200, 404]);
});

await done();

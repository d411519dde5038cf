/* What the tests of SDKs in other languages share: a program that does what this file says, over ws and wss, and the
 * scenarios that each SDK must come through. */
import {
  assert, bound, serve, certificate, test, skip, token, lines, atEnd, until, nowSeconds,
} from './lib.mjs';
import { settings, result, ENDPOINT } from './centrifuge.mjs';
import net from 'node:net';

const sign = (claims) => token({ roost: undefined, exp: undefined, ...claims });

/* sdk runs the scenarios with one: name and version; install answers a reason why it is not here, or nothing; program
 * is [command, arguments, environment] of what drives it, as sdk-python/client.py describes. */
export function sdk({ name, version, install, program }) {
  let installed;

  /* Program is a running one. said(event, channel) is what it has told so far; tokens are made by makeToken(channel). */
  class Program {
    static start(url, { trusted = '', makeToken, ...options } = {}) {
      const [file, args, env] = program;
      const child = bound(file, [...args, `${url}${ENDPOINT}`, JSON.stringify(options), trusted], { env: { PATH: process.env.PATH, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
      return new Program(child, makeToken);
    }

    constructor(child, makeToken) {
      this.child = child;
      this.makeToken = makeToken;
      this.events = [];
      this.errors = '';
      child.stderr.setEncoding('utf8').on('data', (t) => (this.errors += t));
      child.stdin.on('error', () => {});
      const over = new Promise((resolve) => child.on('close', resolve));
      this.read = this.listen(lines(child.stdout));
      atEnd(async () => {
        child.kill('SIGKILL');
        await over;
        await this.read;
        assert.equal(this.errors, '', 'what it says on standard error');
      });
    }

    async listen(next) {
      for (let line; (line = await next(60000)) !== null;) {
        const event = JSON.parse(line);
        this.events.push(event);
        if (event.event === 'token_wanted') this.write({ do: 'token', ask: event.ask, token: this.makeToken(event.channel) });
      }
    }

    write(command) {
      this.child.stdin.write(`${JSON.stringify(command)}\n`);
    }

    said(event, channel) {
      return this.events.filter((e) => e.event === event && (channel === undefined || (e.sub ?? e.channel) === channel));
    }

    count(n, event, channel, ms) {
      const look = () => this.said(event, channel).length >= n && this.said(event, channel);
      return until(look, `${n} times ${event} ${channel ?? ''}`, ms).catch((error) => {
        throw new Error(`${error.message}; said: ${JSON.stringify(this.events)} ${this.errors}`);
      });
    }

    async call(name, params = {}) {
      const id = (this.lastId = (this.lastId ?? 0) + 1);
      this.write({ id, do: name, ...params });
      return until(() => this.events.find((e) => e.id === id && ['done', 'failed'].includes(e.event)), `the end of ${name}`);
    }

    async ok(name, params) {
      const answer = await this.call(name, params);
      assert.equal(answer.event, 'done', JSON.stringify(answer));
      return answer.result;
    }

    async subscribed(channel, options = {}) {
      await this.ok('subscribe', { channel, ...options });
      await this.count(1, 'subscribed', channel);
    }
  }

  /* line is a way to the server; cut() cuts every connection that is on it. */
  async function line(server, scheme) {
    const pairs = new Set();
    const relay = net.createServer((near) => {
      const far = net.connect(server.port(scheme), '127.0.0.1');
      const pair = [near, far];
      pairs.add(pair);
      near.pipe(far).pipe(near);
      const end = () => {
        pairs.delete(pair);
        for (const s of pair) s.destroy();
      };
      for (const s of pair) s.on('error', end).on('close', end);
    });
    await new Promise((resolve) => relay.listen(0, '127.0.0.1', resolve));
    const cut = () => [...pairs].flat().forEach((s) => s.destroy());
    atEnd(() => {
      relay.close();
      cut();
    });
    return { url: `${scheme}://localhost:${relay.address().port}`, cut };
  }

  async function start(scheme, options) {
    const pair = scheme === 'wss' ? await certificate() : undefined;
    const listen = pair ? ['--listen', 'wss://127.0.0.1:0', '--cert', pair.cert, '--key', pair.key] : [];
    const server = await serve([...settings(options), '--workers', '2', '--listen', 'ws://127.0.0.1:0', ...listen]);
    const way = await line(server, scheme);
    server.cut = way.cut;
    server.client = async (o) => {
      const client = Program.start(way.url, { trusted: pair?.cert, ...o });
      await client.ok('connect');
      return client;
    };
    server.connected = async (o) => {
      const client = await server.client(o);
      await client.count(1, 'connected');
      return client;
    };
    return server;
  }

  function each(what, body) {
    for (const scheme of ['ws', 'wss']) {
      test(`${name} ${version} over ${scheme}: ${what}`, async () => {
        installed ??= await install();
        if (installed) skip(installed);
        await body(scheme);
      }, { seconds: 90 });
    }
  }

  const datas = (events) => events.map((e) => e.pub.data);

  each('token, publish, presence, history, join and leave, unsubscribe', async (scheme) => {
    const server = await start(scheme);
    const [alice, bob] = await Promise.all([
      server.connected({ token: sign({ sub: 'alice', info: { name: 'A' } }) }), server.connected({ token: sign({ sub: 'bob' }) }),
    ]);
    await alice.subscribed('pres:room', { join_leave: true });
    await bob.subscribed('pres:room', { join_leave: true });
    const joins = await alice.count(2, 'join', 'pres:room');
    assert.deepEqual(joins.map((j) => j.info.user), ['alice', 'bob']);
    assert.deepEqual(joins[0].info.conn_info, { name: 'A' });
    await bob.ok('publish', { channel: 'pres:room', data: { text: 'hällo' } });
    const [{ pub }] = await alice.count(1, 'publication', 'pres:room');
    assert.deepEqual([pub.data, pub.info.user], [{ text: 'hällo' }, 'bob']);
    const { clients } = await alice.ok('presence', { channel: 'pres:room' });
    assert.deepEqual(Object.values(clients).map((c) => c.user).sort(), ['alice', 'bob']);
    assert.deepEqual(await alice.ok('presence_stats', { channel: 'pres:room' }), { num_clients: 2, num_users: 2 });
    await bob.ok('unsubscribe', { channel: 'pres:room' });
    assert.equal((await alice.count(1, 'leave', 'pres:room'))[0].info.user, 'bob');
    await result(server, 'publish', { channel: 'pres:room', data: 2, tags: { k: 'v' } });
    assert.deepEqual((await alice.count(2, 'publication', 'pres:room'))[1].pub.tags, { k: 'v' });
    assert.deepEqual(datas(bob.said('publication')), [{ text: 'hällo' }]);
    await alice.subscribed('hist:log');
    for (let n = 1; n <= 3; n++) await alice.ok('publish', { channel: 'hist:log', data: { n } });
    const history = await alice.ok('history', { channel: 'hist:log', limit: 10 });
    assert.deepEqual([history.publications.map((p) => [p.offset, p.data.n]), history.offset], [[[1, 1], [2, 2], [3, 3]], 3]);
    assert.deepEqual((await alice.ok('history', { channel: 'hist:log', limit: 1, reverse: true })).publications.map((p) => p.offset), [3]);
    assert.equal((await alice.call('publish', { channel: 'elsewhere', data: 1 })).code, 103);
    assert.equal((await alice.call('rpc', { method: 'x', data: 1 })).code, 108);
    assert.deepEqual([...alice.said('error'), ...alice.said('disconnected'), ...bob.said('error')], []);
    await alice.ok('disconnect');
    assert.equal((await alice.count(1, 'disconnected'))[0].code, 0);
  });

  each('get_token refreshes before the token ends; a private channel with get_token', async (scheme) => {
    const server = await start(scheme);
    const makeToken = (channel) => sign({ sub: 'alice', exp: nowSeconds() + 2, ...(channel ? { channel, info: { seat: 7 } } : {}) });
    const client = await server.connected({ ask_token: true, makeToken });
    await client.subscribed('$private', { ask_token: true });
    const wanted = (channel) => client.said('token_wanted').filter((e) => e.channel === channel).length;
    await until(() => wanted(null) >= 4 && wanted('$private') >= 4, 'three refreshes each', 15000); /* well past the grace of 1 s */
    await client.ok('publish', { channel: '$private', data: 1 });
    const [{ pub }] = await client.count(1, 'publication', '$private');
    assert.deepEqual(pub.info.chan_info, { seat: 7 });
    assert.deepEqual([client.said('connected').length, client.said('subscribed').length, client.said('error')], [1, 1, []]);
    await client.ok('subscribe', { channel: '$other' });
    assert.equal((await client.count(1, 'unsubscribed', '$other'))[0].code, 103);
  });

  each('server-side subscriptions, recovered after a cut', async (scheme) => {
    const server = await start(scheme);
    const client = await server.connected({ token: sign({ sub: 'alice', channels: ['hist:mine', 'plain'] }), min_reconnect_delay: 0.3 });
    await client.count(1, 'subscribed', 'hist:mine');
    await client.count(1, 'subscribed', 'plain');
    await result(server, 'broadcast', { channels: ['hist:mine', 'plain'], data: 1 });
    await client.count(2, 'publication');
    server.cut();
    for (let n = 2; n <= 4; n++) await result(server, 'publish', { channel: 'hist:mine', data: n });
    assert.deepEqual(datas(await client.count(4, 'publication', 'hist:mine')), [1, 2, 3, 4]);
    const [, again] = client.said('subscribed', 'hist:mine');
    assert.deepEqual([again.was_recovering, again.recovered], [true, true]);
  });

  each('recovery after a cut: recovered, and told when it is not', async (scheme) => {
    const server = await start(scheme);
    const client = await server.connected({ token: sign({ sub: 'alice' }), min_reconnect_delay: 0.4 });
    await client.subscribed('hist:r');
    let n = 0;
    const publish = async (count) => {
      for (let i = 0; i < count; i++) await result(server, 'publish', { channel: 'hist:r', data: ++n });
    };
    await publish(2);
    await client.count(2, 'publication');
    server.cut();
    await publish(5);
    assert.deepEqual(datas(await client.count(7, 'publication')), [1, 2, 3, 4, 5, 6, 7]);
    server.cut();
    await publish(15); /* history_size is 10 */
    await client.count(3, 'subscribed');
    assert.deepEqual(client.said('subscribed').map((s) => [s.was_recovering, s.recovered]), [[false, false], [true, true], [true, false]]);
    await publish(1);
    assert.equal((await client.count(8, 'publication')).at(-1).pub.data, 23);
  });

  each('closed for good and closed to come back; protobuf is refused for good', async (scheme) => {
    const server = await start(scheme);
    const client = await server.connected({ token: sign({ sub: 'alice' }), min_reconnect_delay: 0.05 });
    await result(server, 'disconnect', { user: 'alice', disconnect: { code: 3011, reason: 'force reconnect' } });
    await client.count(2, 'connected');
    assert.equal(client.said('connecting')[1].code, 3011);
    await result(server, 'disconnect', { user: 'alice' });
    assert.equal((await client.count(1, 'disconnected'))[0].code, 3503);
    const forged = await server.client({ token: `${sign({ sub: 'alice' })}x` });
    assert.equal((await forged.count(1, 'disconnected'))[0].code, 3500);
    const binary = await server.client({ token: sign({ sub: 'alice' }), use_protobuf: true });
    assert.equal((await binary.count(1, 'disconnected'))[0].code, 3506);
    assert.equal(binary.said('connecting').length, 1);
  });
}

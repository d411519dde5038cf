/* Conformance cases against an echo server, written from RFC 6455; numbered like the sections that conformance
 * suites use. A case: what is sent (frames), what must come back (messages and pongs, in order), how it ends:
 *   fail: the server's Close code;  close: we send this Close payload, and expect `answer` (default: the same).
 * chop: octets a write. wait: after which frame the failure must already have been told (fails fast). */
import { OP, frame } from './lib.mjs';

export const cases = [];
const add = (id, send, expect, end = {}) =>
  cases.push({ id, send: send.flat(), expect, ...(end.fail || end.close ? {} : { close: code(1000) }), ...end });

export function code(n, reason = '') {
  return Buffer.concat([Buffer.from([n >> 8, n & 255]), Buffer.from(reason)]);
}
const text = (s, o) => frame(OP.TEXT, s, o);
const binary = (s, o) => frame(OP.BINARY, s, o);
const cont = (s, o) => frame(OP.CONT, s, o);
const ping = (s, o) => frame(OP.PING, s, o);
const pong = (s, o) => frame(OP.PONG, s, o);
const open = { fin: false };
const T = (s) => [OP.TEXT, Buffer.from(s)];
const B = (s) => [OP.BINARY, Buffer.from(s)];
const P = (s) => [OP.PONG, Buffer.from(s)];
const hex = (s) => Buffer.from(s.replace(/ /g, ''), 'hex');

/* ---- 1: framing, every length form (section 5.2) ---- */
[0, 125, 126, 127, 128, 65535, 65536].forEach((n, i) => {
  add(`1.1.${i + 1}`, [text('*'.repeat(n))], [T('*'.repeat(n))]);
  add(`1.2.${i + 1}`, [binary(Buffer.alloc(n, 0xfe))], [B(Buffer.alloc(n, 0xfe))]);
});
add('1.1.8', [text('*'.repeat(65536))], [T('*'.repeat(65536))], { chop: 997 });
add('1.2.8', [binary(Buffer.alloc(65536, 0xfe))], [B(Buffer.alloc(65536, 0xfe))], { chop: 997 });

/* ---- 2: pings and pongs (sections 5.5.2, 5.5.3) ---- */
const odd = hex('00 ff fe fd fc fb 00 ff');
add('2.1', [ping('')], [P('')]);
add('2.2', [ping('Hello, world!')], [P('Hello, world!')]);
add('2.3', [ping(odd)], [P(odd)]);
add('2.4', [ping(Buffer.alloc(125, 0xfe))], [P(Buffer.alloc(125, 0xfe))]);
add('2.5', [ping(Buffer.alloc(126, 0xfe))], [], { fail: 1002 });
add('2.6', [ping(Buffer.alloc(125, 0xfe))], [P(Buffer.alloc(125, 0xfe))], { chop: 1 });
add('2.7', [pong('')], []);
add('2.8', [pong('unsolicited')], []);
add('2.9', [pong('unsolicited'), ping('asked')], [P('asked')]);
const ten = Array.from({ length: 10 }, (_, i) => `payload-${i}`);
add('2.10', ten.map((s) => ping(s)), ten.map(P));
add('2.11', ten.map((s) => ping(s)), ten.map(P), { chop: 1 });

/* ---- 3: reserved bits (section 5.2) ---- */
add('3.1', [text('hi', { rsv: 1 })], [], { fail: 1002 });
add('3.2', [text('hi'), text('hi', { rsv: 2 }), ping('')], [T('hi')], { fail: 1002 });
add('3.3', [text('hi'), text('hi', { rsv: 3 }), ping('')], [T('hi')], { fail: 1002, chop: 20 });
add('3.4', [text('hi'), text('hi', { rsv: 4 }), ping('')], [T('hi')], { fail: 1002, chop: 1 });
add('3.5', [binary(odd, { rsv: 5 })], [], { fail: 1002 });
add('3.6', [ping('hi', { rsv: 6 })], [], { fail: 1002 });
add('3.7', [frame(OP.CLOSE, code(1000), { rsv: 7 })], [], { fail: 1002 });

/* ---- 4: reserved opcodes (section 5.2) ---- */
[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].forEach((opcode, i) => {
  const id = `4.${opcode < 8 ? 1 : 2}.${(i % 5) + 1}`;
  const payload = i % 5 === 0 ? '' : 'reserved';
  if (i % 5 < 2) add(id, [frame(opcode, payload)], [], { fail: 1002 });
  else add(id, [text('hi'), frame(opcode, payload), ping('')], [T('hi')], { fail: 1002, chop: i % 5 === 4 ? 1 : 0 });
});

/* ---- 5: fragments (section 5.4) ---- */
const one = 'fragment1';
const two = 'fragment2';
add('5.1', [ping(one, open), cont(two)], [], { fail: 1002 });
add('5.2', [pong(one, open), cont(two)], [], { fail: 1002 });
[0, 0, 1].forEach((chop, i) => {
  add(`5.${3 + i}`, [text(one, open), cont(two)], [T(one + two)], { chop, apart: i === 1 });
  add(`5.${6 + i}`, [text(one, open), ping('between'), cont(two)], [P('between'), T(one + two)], { chop, apart: i === 1 });
  add(`5.${9 + i}`, [cont('nothing begun'), text('hi')], [], { fail: 1002, chop, apart: i === 1 });
  add(`5.${12 + i}`, [cont('nothing begun', open), text('hi')], [], { fail: 1002, chop, apart: i === 1 });
});
add('5.15', [text(one, open), cont(two), cont('nothing begun', open), text('hi')], [T(one + two)], { fail: 1002 });
add('5.16', [cont('', open), text('', open), cont('')], [], { fail: 1002 });
add('5.17', [cont(''), text('', open), cont('')], [], { fail: 1002 });
add('5.18', [text(one, open), text(two)], [], { fail: 1002 });
const five = ['f1', 'f2', 'f3', 'f4', 'f5'];
const withPings = [text('f1', open), cont('f2', open), ping('p1'), cont('f3', open), cont('f4', open), ping('p2'), cont('f5')];
add('5.19', withPings, [P('p1'), P('p2'), T(five.join(''))], { apart: true });
add('5.20', withPings, [P('p1'), P('p2'), T(five.join(''))], { chop: 1 });

/* ---- 6: UTF-8 (section 8.1, RFC 3629) ---- */
const octets = (bytes) => {
  const all = Buffer.from(bytes);
  return Array.from(all, (b, i) => frame(i ? OP.CONT : OP.TEXT, Buffer.from([b]), { fin: i === all.length - 1 }));
};
const hello = 'Hello-µ@ßöäüàá-UTF-8!!';
const kosme = 'κόσμε';
const broken = Buffer.concat([Buffer.from(kosme), hex('eda080'), Buffer.from('edited')]);
add('6.1.1', [text('')], [T('')]);
add('6.1.2', [text('', open), cont('', open), cont('')], [T('')]);
add('6.1.3', [text('', open), cont('middle', open), cont('')], [T('middle')]);
add('6.2.1', [text(hello)], [T(hello)]);
add('6.2.2', [text(hello.slice(0, 12), open), cont(hello.slice(12))], [T(hello)]);
add('6.2.3', octets(hello), [T(hello)]);
add('6.2.4', octets(kosme), [T(kosme)]);
add('6.3.1', [text(broken)], [], { fail: 1007 });
add('6.3.2', octets(broken), [], { fail: 1007 });
/* Fails at the first bad byte, not at the end of message, frame or character. */
const beyond = hex('f4 90 80 80');
add('6.4.1', [text(kosme, open), cont(beyond, open), cont('edited')], [], { fail: 1007, wait: 2 });
add('6.4.2', [text(Buffer.concat([Buffer.from(kosme), hex('f4')]), open), cont(hex('90'), open), cont(hex('8080'))], [], { fail: 1007, wait: 2 });
const whole = text(Buffer.concat([Buffer.from(kosme), beyond, Buffer.from('edited')]));
const headSize = 6;
const cutAt = (n) => [whole.subarray(0, headSize + n), whole.subarray(headSize + n)];
add('6.4.3', cutAt(Buffer.from(kosme).length + 4), [], { fail: 1007, wait: 1 });
add('6.4.4', cutAt(Buffer.from(kosme).length + 2), [], { fail: 1007, wait: 1 });

const utf8 = (section, valid, list) => {
  const at = (i) => (list.length > 1 || section.split('.').length < 3 ? `${section}.${i + 1}` : section);
  list.forEach((h, i) => {
    const bytes = hex(h);
    add(at(i), [text(bytes)], valid ? [[OP.TEXT, bytes]] : [], valid ? {} : { fail: 1007 });
  });
};
utf8('6.5', true, ['ceba', 'e1bdb9', 'cf83', 'cebc', 'ceb5']);
/* a character that is not complete */
utf8('6.6', false, ['ce', 'cebae1', 'cebae1bd', 'cebae1bdb9cf', 'cebae1bdb9cf83ce', 'cebae1bdb9cf83cebcce']);
utf8('6.7', true, ['00', 'c280', 'e0a080', 'f0908080']);
/* five- and six-octet forms do not exist */
utf8('6.8', false, ['f888808080', 'fc8480808080']);
utf8('6.9', true, ['7f', 'dfbf', 'efbfbf', 'f48fbfbf']);
utf8('6.10', false, ['f7bfbfbf', 'fbbfbfbfbf', 'fdbfbfbfbfbf']);
utf8('6.11', true, ['ed9fbf', 'ee8080', 'efbfbd', 'f48fbfbf']);
utf8('6.11b', false, ['f4908080']);
/* continuation octets alone */
utf8('6.12', false, ['80', 'bf', '80bf', '80bf80', '80bf80bf', '80bf80bf80', '80bf80bf80bf', 'bf80bf80bf80']);
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => (from + i).toString(16).padStart(2, '0'));
/* first octets followed by a space */
utf8('6.13', false, [range(0xc0, 0xdf), range(0xe0, 0xef), range(0xf0, 0xf7), range(0xf8, 0xfb), range(0xfc, 0xfd)].map((r) => r.map((b) => `${b}20`).join('')));
/* last octet missing */
utf8('6.14', false, ['c0', 'e080', 'f08080', 'f8808080', 'fc80808080', 'df', 'efbf', 'f7bfbf', 'fbbfbfbf', 'fdbfbfbfbf']);
utf8('6.15', false, ['c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf']);
utf8('6.16', false, ['fe', 'ff', 'fefeffff']);
/* overlong forms */
utf8('6.17', false, ['c0af', 'e080af', 'f08080af', 'f8808080af', 'fc80808080af']);
utf8('6.18', false, ['c1bf', 'e09fbf', 'f08fbfbf', 'f887bfbfbf', 'fc83bfbfbfbf']);
utf8('6.19', false, ['c080', 'e08080', 'f0808080', 'f880808080', 'fc8080808080']);
/* surrogates, alone and in pairs */
utf8('6.20', false, ['eda080', 'edadbf', 'edae80', 'edafbf', 'edb080', 'edbe80', 'edbfbf']);
utf8('6.21', false, ['eda080edb080', 'eda080edbfbf', 'edadbfedb080', 'edadbfedbfbf', 'edae80edb080', 'edae80edbfbf', 'edafbfedb080', 'edafbfedbfbf']);
/* noncharacters are characters here */
const planes = ['efbfbe', 'efbfbf'];
for (let plane = 1; plane <= 16; plane++)
  for (const low of [0xfffe, 0xffff]) planes.push(Buffer.from(String.fromCodePoint(plane * 0x10000 + low)).toString('hex'));
utf8('6.22', true, planes);
utf8('6.23', true, ['efbfb9', 'efbfba', 'efbfbb', 'efbfbc', 'efbfbd', 'efbfbe', 'efbfbf']);

/* ---- 7: closing (sections 5.5.1, 7) ---- */
add('7.1.1', [text('Hello')], [T('Hello')]);
add('7.1.2', [frame(OP.CLOSE, code(1000)), frame(OP.CLOSE, code(1000))], [], { answered: code(1000) });
add('7.1.3', [frame(OP.CLOSE, code(1000)), ping('')], [], { answered: code(1000) });
add('7.1.4', [frame(OP.CLOSE, code(1000)), text('late')], [], { answered: code(1000) });
add('7.1.5', [text(one, open), frame(OP.CLOSE, code(1000)), cont(two)], [], { answered: code(1000) });
add('7.1.6', [text('*'.repeat(262144)), text('after'), frame(OP.CLOSE, code(1000)), ping('')],
  [T('*'.repeat(262144)), T('after')], { answered: code(1000) });
add('7.3.1', [], [], { close: Buffer.alloc(0), answer: null });
add('7.3.2', [frame(OP.CLOSE, 'a')], [], { fail: 1002 });
add('7.3.3', [], [], { close: code(1000) });
add('7.3.4', [], [], { close: code(1000, 'Hello World!') });
add('7.3.5', [], [], { close: code(1000, '*'.repeat(123)) });
add('7.3.6', [frame(OP.CLOSE, code(1000, '*'.repeat(124)))], [], { fail: 1002 });
add('7.5.1', [frame(OP.CLOSE, Buffer.concat([code(1000), broken]))], [], { fail: 1007 });
[1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999].forEach((n, i) =>
  add(`7.7.${i + 1}`, [], [], { close: code(n) }));
[0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535].forEach((n, i) =>
  add(`7.9.${i + 1}`, [frame(OP.CLOSE, code(n))], [], { fail: 1002 }));

/* ---- masks and lengths (sections 5.1, 5.2): not in the suites, but in the RFC ---- */
add('mask.1', [text('unmasked', { mask: false })], [], { fail: 1002 });
add('mask.2', [text('hi'), ping('', { mask: false })], [T('hi')], { fail: 1002 });
add('length.1', [text('x'.repeat(125), { lengthBytes: 2 })], [], { fail: 1002 });
add('length.2', [text('x'.repeat(65535), { lengthBytes: 8 })], [], { fail: 1002 });
add('length.3', [text('x', { lengthBytes: 8, announce: 1n << 63n })], [], { fail: 1002 });
add('length.4', [text('x', { lengthBytes: 8, announce: (1n << 63n) - 1n })], [], { fail: 1009 });
add('length.5', [ping('x', { lengthBytes: 2 })], [], { fail: 1002 });

/* ---- 9: large messages; 10: odd fragment sizes ---- */
const KIB = 1024;
const MIB = KIB * KIB;
const fragmented = (opcode, payload, size) => {
  const all = [];
  for (let at = 0; at < payload.length; at += size)
    all.push(frame(at ? OP.CONT : opcode, payload.subarray(at, at + size), { fin: at + size >= payload.length }));
  return all;
};
/* Made when they run, not all at once: they are large. */
const later = (id, make, options = {}) => cases.push({ id, make, close: code(1000), ...options });
const big = (opcode, n) => (opcode === OP.TEXT ? Buffer.alloc(n, 'BAsd7&jh23') : Buffer.alloc(n, 0xfe));
for (const [kind, opcode] of [[0, OP.TEXT], [1, OP.BINARY]]) {
  [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB].forEach((n, i) =>
    later(`9.${1 + kind}.${i + 1}`, () => ({ send: [frame(opcode, big(opcode, n))], expect: [[opcode, big(opcode, n)]] })));
  [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB].forEach((size, i) =>
    later(`9.${3 + kind}.${i + 1}`, () => ({ send: fragmented(opcode, big(opcode, 4 * MIB), size), expect: [[opcode, big(opcode, 4 * MIB)]] })));
  [64, 128, 256, 512, KIB, 2 * KIB].forEach((chop, i) =>
    later(`9.${5 + kind}.${i + 1}`, () => ({ send: [frame(opcode, big(opcode, MIB))], expect: [[opcode, big(opcode, MIB)]] }), { chop }));
  [0, 16, 64, 256, KIB, 4 * KIB].forEach((n, i) =>
    later(`9.${7 + kind}.${i + 1}`, () => ({ send: [frame(opcode, big(opcode, n))], expect: [[opcode, big(opcode, n)]] }), { times: 1000 }));
}
later('10.1.1', () => ({ send: fragmented(OP.TEXT, big(OP.TEXT, 65536), 1300), expect: [[OP.TEXT, big(OP.TEXT, 65536)]] }));

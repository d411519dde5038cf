/* A list of messages that stands a flood: it keeps the newest, and draws some before each paint. */
import { $, el } from './dom.js';

const KEPT = 300;
const A_FRAME = 60;

const waiting = []; /* { kind, at, who, offset, text }, not drawn yet */

function clock(date) {
  const two = (n) => String(n).padStart(2, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

function drawn({ kind, at, who, offset, text }) {
  const head = kind.startsWith('note') ? null : el('span', { className: 'head' },
    el('time', { dateTime: at.toISOString() }, clock(at)), el('span', { className: 'offset' }, offset ? String(offset) : ''), el('span', { className: 'who' }, who));
  return el('li', { className: kind }, head, el('span', { className: 'body' }, text));
}

const atEnd = (list) => list.scrollHeight - list.scrollTop - list.clientHeight < 40;

function draw() {
  const list = $('messages');
  const follow = atEnd(list);
  const skipped = Math.max(0, waiting.length - KEPT);
  if (skipped) waiting.splice(0, skipped, { kind: 'note', text: `${skipped} more, too many to show` });
  /* A flood read aloud helps nobody: the status line says that messages come. */
  list.setAttribute('aria-live', waiting.length > 5 ? 'off' : 'polite');
  list.append(...waiting.splice(0, A_FRAME).map(drawn));
  while (list.childElementCount > KEPT) list.firstElementChild.remove();
  $('empty').hidden = list.childElementCount > 0;
  if (follow) list.scrollTop = list.scrollHeight;
  $('newest').hidden = follow;
  if (waiting.length) requestAnimationFrame(draw);
}

export function add(item) {
  /* A hidden tab gets no frames: it draws when it is looked at, and keeps no more than it would show. */
  if (waiting.push(item) === 1) requestAnimationFrame(draw);
  else if (waiting.length > 4 * KEPT) waiting.splice(0, KEPT);
}

export const note = (text, kind = 'note') => add({ kind, text });

export function clear() {
  waiting.length = 0;
  $('messages').replaceChildren();
  $('empty').hidden = false;
}

export function build() {
  const list = $('messages');
  list.addEventListener('scroll', () => {
    if (atEnd(list)) $('newest').hidden = true;
  });
  $('newest').addEventListener('click', () => {
    list.scrollTop = list.scrollHeight;
    $('text').focus();
  });
}

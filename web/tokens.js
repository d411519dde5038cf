/* Tokens for clients, as a backend would make them; --dev only. */
import { $, keep } from './dom.js';
import { makeToken } from './server.js';
import { live } from './live.js';

const patterns = (text) => text.split(/[\s,]+/).filter(Boolean);

/* json: a field that may be empty; what is wrong names it. */
function json(id, name) {
  const text = $(id).value.trim();
  if (!text) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${name} is not JSON`);
  }
}

function claims() {
  const now = Math.floor(Date.now() / 1000);
  const more = json('token-more', 'More claims') ?? {};
  if (typeof more !== 'object' || Array.isArray(more)) throw new Error('More claims is not a JSON object');
  const pub = patterns($('token-pub').value);
  const sub = patterns($('token-sub-to').value);
  return {
    sub: $('token-sub').value,
    iat: now,
    exp: now + Number($('token-life').value),
    info: json('token-info', 'Info'),
    roost: pub.length || sub.length ? { pub, sub } : undefined,
    ...more,
  };
}

/* decoded: header and claims of a token, for people. */
function decoded(token) {
  const part = (text) => JSON.stringify(JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0)))), null, 2);
  return token.split('.').slice(0, 2).map(part).join('\n.\n');
}

async function make(event) {
  event.preventDefault();
  try {
    const token = await makeToken(claims());
    $('made-token').value = token;
    keep($('decoded'), decoded(token));
    $('made').hidden = false;
    keep($('token-wrong'), '');
  } catch (error) {
    $('made').hidden = true;
    keep($('token-wrong'), `No token: ${error.message}`);
  }
}

async function copy() {
  $('made-token').select();
  try {
    await navigator.clipboard.writeText($('made-token').value);
    keep($('copied'), 'Copied.');
  } catch {
    keep($('copied'), 'It is selected: copy it by hand.');
  }
}

export const tokens = {
  build() {
    $('token-form').addEventListener('submit', make);
    $('copy-token').addEventListener('click', copy);
    $('use-token').addEventListener('click', () => {
      live.use($('made-token').value);
      location.hash = 'try';
    });
  },
  end() {
    $('made').hidden = true;
    $('made-token').value = '';
    keep($('decoded'), '');
  },
};

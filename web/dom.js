/* Elements and texts. Data become text nodes and properties, never markup; the policy of the page (Trusted Types)
 * holds everybody to that. */

export const $ = (id) => document.getElementById(id);

/* el('li', { className: 'own', onclick: f }, 'text', child): properties; data-* and aria-* are attributes. */
export function el(tag, properties = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes('-') || name === 'for') e.setAttribute(name, value);
    else e[name] = value;
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

/* user: the way to a user's connections. Who is anonymous has none of their own: no name asks for everybody. */
export const user = (name) => (name ? el('a', { href: `#connections/${encodeURIComponent(name)}` }, name) : el('i', {}, 'anonymous'));

/* keep changes an element's text only if it is another one: a screen reader does not say it again. */
export function keep(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/* table fills a table's body with rows { key, cells: [[column's name, text or a function that makes an element]] }. A row that
 * was there stays the same element, so that a click between two looks is not lost. On a phone each row is a card. */
export function table(body, rows) {
  const old = new Map([...body.rows].map((tr) => [tr.dataset.key, tr]));
  const now = rows.map(({ key, cells }) => {
    const tr = old.get(key);
    if (!tr) {
      const made = el('tr', {}, ...cells.map(([name, value]) => el('td', { 'data-name': name }, typeof value === 'string' ? value : value())));
      made.dataset.key = key;
      return made;
    }
    cells.forEach(([, value], i) => typeof value === 'string' && keep(tr.cells[i], value));
    return tr;
  });
  if (now.length === body.rows.length && now.every((tr, i) => tr === body.rows[i])) return;
  const focused = document.activeElement;
  body.replaceChildren(...now);
  if (body.contains(focused)) focused.focus();
}

/* ask shows a dialog (a <dialog> with a form) and answers whether it was confirmed. */
export function ask(dialog) {
  const form = dialog.querySelector('form');
  return new Promise((resolve) => {
    const end = (yes) => {
      form.onsubmit = dialog.onclose = null;
      dialog.close();
      resolve(yes);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      end(true);
    };
    form.querySelector('[data-cancel]').onclick = () => end(false);
    dialog.onclose = () => end(false); /* Escape */
    dialog.showModal();
  });
}

/* ---- texts --------------------------------------------------------------------------------------- */

const CUT = 4000;

export function short(n) {
  if (n >= 1e6) return `${(n / 1e6).toFixed(2)} M`;
  if (n >= 1e4) return `${(n / 1e3).toFixed(1)} k`;
  return n < 10 && n % 1 ? n.toFixed(1) : String(Math.round(n));
}

export function bytes(n) {
  if (n >= 1 << 20) return `${(n / (1 << 20)).toFixed(1)} MiB`;
  return n >= 1024 ? `${(n / 1024).toFixed(1)} KiB` : `${n} B`;
}

export function age(s) {
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const count = (n, one, many = `${one}s`) => `${n === 1 ? n : n.toLocaleString('en')} ${n === 1 ? one : many}`;

export function cut(text) {
  return text.length <= CUT ? text : `${text.slice(0, CUT)}… (${text.length} characters)`;
}

/* shown: data as a person would write it. */
export const shown = (data) => cut(typeof data === 'string' ? data : JSON.stringify(data));

/* data: what is typed, as JSON if it is that, else as a text. */
export function data(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/* The text of /metrics, read as strictly as its two formats are defined: Prometheus' text format 0.0.4 and OpenMetrics 1.0.0. */
import { assert } from './lib.mjs';

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const LABELS = /^\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)*)\}$/;
const SAMPLE = new RegExp(`^(${NAME})(\\{[^\\n]*\\})? (\\S+)$`);
const SUFFIXES = { counter: [''], gauge: [''], unknown: [''], summary: ['_sum', '_count'], histogram: ['_bucket', '_sum', '_count'] };

function labelsOf(text, line) {
  const inside = text.match(LABELS);
  assert.ok(inside, line);
  const pairs = [...inside[1].matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g)].map(([, k, v]) => [k, v]);
  assert.equal(new Set(pairs.map(([k]) => k)).size, pairs.length, `a label twice: ${line}`);
  return Object.fromEntries(pairs);
}

/* A histogram's buckets, for each set of its other labels: they grow, and the last is +Inf and the count. */
function checkHistogram(name, family) {
  const groups = new Map();
  for (const s of family.samples) {
    const { le, ...rest } = s.labels;
    const key = JSON.stringify(rest);
    if (!groups.has(key)) groups.set(key, { buckets: [] });
    if (s.name === `${name}_bucket`) groups.get(key).buckets.push([le === '+Inf' ? Infinity : Number(le), s.value]);
    else groups.get(key)[s.name.slice(name.length)] = s.value;
  }
  for (const { buckets, _sum, _count } of groups.values()) {
    assert.equal(buckets.at(-1)[0], Infinity, name);
    assert.equal(buckets.at(-1)[1], _count, name);
    assert.ok(_sum >= 0, name);
    for (let i = 1; i < buckets.length; i++) assert.ok(buckets[i][0] > buckets[i - 1][0] && buckets[i][1] >= buckets[i - 1][1], name);
  }
}

/* exposition answers {families, values}: a Map of name to {type, help, samples}, one of "name{labels}" to number. Throws at what the format forbids. */
export function exposition(text, { openmetrics = false } = {}) {
  assert.ok(text.endsWith(openmetrics ? '\n# EOF\n' : '\n'));
  const families = new Map();
  const values = new Map();
  const lines = text.slice(0, -1).split('\n');
  if (openmetrics) lines.pop();
  let family;
  let name;
  for (const line of lines) {
    const meta = line.match(new RegExp(`^# (HELP|TYPE) (${NAME}) (.+)$`));
    if (meta && meta[1] === 'HELP') {
      [, , name] = meta;
      assert.ok(!families.has(name), `${name} twice`);
      families.set(name, (family = { help: meta[3], samples: [] }));
      assert.doesNotMatch(meta[3], /["\\]/, line);
      continue;
    }
    if (meta) {
      assert.equal(meta[2], name, line);
      assert.equal(family.type, undefined, line);
      assert.ok(SUFFIXES[meta[3]], line);
      assert.ok(meta[3] !== 'unknown' || openmetrics, line);
      family.type = meta[3];
      continue;
    }
    const sample = line.match(SAMPLE);
    assert.ok(sample && family?.type, `not a line of the format: ${JSON.stringify(line)}`);
    const labels = sample[2] ? labelsOf(sample[2], line) : {};
    const suffixes = openmetrics && family.type === 'counter' ? ['_total'] : SUFFIXES[family.type];
    assert.ok(suffixes.some((s) => sample[1] === name + s), `${line} in family ${name}`);
    const value = sample[3] === '+Inf' ? Infinity : Number(sample[3]);
    assert.ok(Number.isFinite(value) && value >= 0, line);
    const id = `${sample[1]}${JSON.stringify(Object.entries(labels).sort())}`;
    assert.ok(!values.has(id), `twice: ${line}`);
    values.set(id, value);
    family.samples.push({ name: sample[1], labels, value });
  }
  for (const [n, f] of families) {
    assert.ok(f.type, n);
    if (f.type === 'counter' && n.startsWith('roost_')) assert.equal(n.endsWith('_total'), !openmetrics, n);
    if (f.type === 'histogram') checkHistogram(n, f);
  }
  return { families, values };
}

/* find: the one sample of that name and these labels (others may be there). */
export function find({ families }, name, labels = {}) {
  const all = [...families.values()].flatMap((f) => f.samples)
    .filter((s) => s.name === name && Object.entries(labels).every(([k, v]) => s.labels[k] === v));
  assert.equal(all.length, 1, `${name} ${JSON.stringify(labels)}: ${all.length} samples`);
  return all[0].value;
}

/* grew asserts that nothing that only grows became less from one exposition to the next. */
export function grew(before, after) {
  for (const [name, f] of after.families) {
    if (f.type === 'gauge' || f.type === 'unknown') continue;
    for (const s of f.samples) {
      const id = `${s.name}${JSON.stringify(Object.entries(s.labels).sort())}`;
      assert.ok(s.value >= (before.values.get(id) ?? 0), `${name} shrank`);
    }
    for (const s of before.families.get(name).samples) /* what was shown once stays */
      assert.ok(after.values.has(`${s.name}${JSON.stringify(Object.entries(s.labels).sort())}`), name);
  }
}

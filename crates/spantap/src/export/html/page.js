'use strict';
// The data is untrusted: it is only ever set as text, by `put`, and shown without characters that hide or turn text.
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const HIDDEN = /[\p{C}\u034f\u115f\u1160\u17b4\u17b5\u2028\u2029\u3164\uffa0\ufe00-\ufe0f]/gu;
const NAMES = {'\n': '\\n', '\r': '\\r', '\t': '\\t'};
const safe = text => String(text).replace(HIDDEN, c => NAMES[c] ?? '\\u{' + c.codePointAt(0).toString(16) + '}');

function put(parent, tag, text, look) {
  const element = document.createElement(tag);
  if (look) element.className = look;
  if (text !== undefined && text !== null) element.textContent = safe(text);
  parent?.append(element);
  return element;
}

function time(ns) {
  if (ns < 1000) return ns + ' ns';
  for (const [unit, of] of [['µs', 1e3], ['ms', 1e6], ['s', 1e9]]) {
    const value = ns / of;
    const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    if (value < 999.5 && !(unit === 's' && value >= 59.95)) return value.toFixed(digits) + ' ' + unit;
  }
  const seconds = Math.round(ns / 1e9);
  const two = n => String(n).padStart(2, '0');
  return seconds < 3600 ? Math.floor(seconds / 60) + 'm ' + two(seconds % 60) + 's'
    : Math.floor(seconds / 3600) + 'h ' + two(Math.floor(seconds % 3600 / 60)) + 'm';
}
const count = n => n.toLocaleString('en');
const many = (n, one) => count(n) + ' ' + (n === 1 ? one : one + 's');

// What is shown.
const TABS = ['spans', 'traces', 'graph', 'flame'];
const state = {tab: 'spans', at: {spans: 0, traces: 0, rows: 0}, trace: null, only: null, sort: ['total_ns', -1], zoom: data.flame, open: new Set()};
const words = () => $('search').value.toLowerCase().split(/\s+/).filter(Boolean);
const has = (text, all) => all.every(word => text.includes(word));
const texts = new Map();
function textOf(trace) {
  if (!texts.has(trace)) {
    const processes = trace.processes.map(process => [process.service, ...Object.values(process.resource)]);
    const spans = trace.spans.map(span => spanText(trace, span));
    texts.set(trace, (flat([trace.trace_id, trace.start_time, processes]) + ' ' + spans.join(' ')).toLowerCase());
  }
  return texts.get(trace);
}
// Names of fields are searched, but not the words of the data's own structure, which are in each span.
const flat = value => value === null || typeof value !== 'object' ? String(value ?? '')
  : (Array.isArray(value) ? value : Object.entries(value)).map(flat).join(' ');
const spanText = (trace, span) => flat([
  trace.processes[span.process].service, span.name, span.span_id, span.error ? 'error' : '', span.status_message, span.attributes,
  span.events.map(event => [event.name, event.attributes]),
  span.links.map(link => [link.trace_id, link.span_id, link.attributes]),
]).toLowerCase();

let lists = {spans: [], traces: [], rows: []};

function draw() {
  for (const tab of TABS) {
    $('page-' + tab).hidden = tab !== state.tab;
    $('tab-' + tab).setAttribute('aria-selected', tab === state.tab);
  }
  ({spans: drawSpans, traces: drawTraces, graph() {}, flame: drawFlame})[state.tab]();
}

function mark(kind, list) {
  lists[kind] = list;
  state.at[kind] = Math.max(0, Math.min(state.at[kind], list.length - 1));
  list.forEach((element, at) => element.classList.toggle('here', at === state.at[kind]));
}

function move(kind, to) {
  const list = lists[kind];
  if (!list.length) return;
  list[state.at[kind]]?.classList.remove('here');
  state.at[kind] = Math.max(0, Math.min(to, list.length - 1));
  const here = list[state.at[kind]];
  here.classList.add('here');
  here.scrollIntoView({block: 'nearest'});
}

const COLUMNS = [
  ['service', 'service'], ['name', 'span'], ['spans', 'spans'], ['errors', 'errors'], ['p50_ns', 'p50'], ['p95_ns', 'p95'],
  ['p99_ns', 'p99'], ['max_ns', 'max'], ['own_ns', 'self time'], ['total_ns', 'total time'],
];

function drawSpans() {
  const all = words(), [key, way] = state.sort;
  const rows = data.names.filter(row => has((row.service + ' ' + row.name).toLowerCase() + (row.errors ? ' error' : ''), all));
  rows.sort((a, b) => way * (typeof a[key] === 'string' ? a[key].localeCompare(b[key]) : a[key] - b[key]));
  const most = Math.max(1, ...data.names.map(row => row.own_ns));
  const body = $('names');
  body.replaceChildren();
  const head = put(body.appendChild(document.createElement('thead')), 'tr');
  for (const [column, title] of COLUMNS) {
    const isText = column === 'service' || column === 'name';
    const th = put(head, 'th', null, isText ? 't' : '');
    const button = put(th, 'button', title + (column === key ? (way < 0 ? ' ↓' : ' ↑') : ''));
    if (column === key) th.setAttribute('aria-sort', way < 0 ? 'descending' : 'ascending');
    button.onclick = () => { state.sort = [column, column === key ? -way : isText ? 1 : -1]; draw(); };
  }
  const into = put(body, 'tbody'), list = [];
  for (const row of rows) {
    const tr = put(into, 'tr');
    put(tr, 'td', row.service || '(no service)', 't muted');
    put(tr, 'td', row.name || '(no name)', 't');
    put(tr, 'td', count(row.spans));
    const errors = row.errors ? count(row.errors) + ' (' + (100 * row.errors / row.spans).toPrecision(2) * 1 + '%)' : '0';
    put(tr, 'td', errors, row.errors ? 'bad' : 'muted');
    for (const of of ['p50_ns', 'p95_ns', 'p99_ns', 'max_ns']) put(tr, 'td', time(row[of]));
    const own = put(tr, 'td', time(row.own_ns), 'share');
    put(own, 'i').style.width = Math.round(94 * row.own_ns / most) + 'px';
    put(tr, 'td', time(row.total_ns));
    const at = list.push(tr) - 1;
    tr.onclick = () => { move('spans', at); enter(); };
    tr.of = row;
  }
  if (!rows.length) put(put(into, 'tr'), 'td', 'No span matches.', 't muted');
  mark('spans', list);
}

// What is wrong in the traces, above the table. It does not change.
function drawFindings() {
  const {list, more} = data.findings;
  const into = $('findings');
  into.hidden = !list.length;
  if (!list.length) return;
  put(into, 'h2', many(list.length + more, 'finding'));
  const all = put(into, 'ol');
  for (const finding of list) {
    const item = put(all, 'li');
    const head = put(item, 'p');
    put(head, 'b', finding.title);
    put(head, 'span', ' ' + (finding.service || '(no service)'), 'muted');
    put(item, 'p', finding.what);
    put(item, 'p', finding.why + ' ' + finding.cost, 'muted');
    // A trace may be too large for the report.
    if (!data.traces.some(trace => trace.trace_id === finding.trace)) continue;
    put(item, 'a', 'show a trace').href = '#trace-' + finding.trace;
  }
  if (more) put(into, 'p', 'And ' + count(more) + ' more.', 'muted');
}

function drawTraces() {
  const one = state.trace;
  $('list').hidden = !!one;
  $('one').hidden = !one;
  if (one) return drawTrace(one);
  const all = words();
  const only = state.only;
  $('only').hidden = !only;
  if (only) $('only').textContent = safe('with ' + (only.name || '(no name)') + ' of ' + (only.service || '(no service)')) + '  ×';
  const found = data.traces.filter(trace => (!only || trace.rows.includes(only.id)) && has(textOf(trace), all));
  const most = Math.max(1, ...data.traces.map(trace => trace.duration_ns));
  const into = $('items'), list = [];
  into.replaceChildren();
  for (const trace of found) {
    const root = trace.spans[0];
    const item = put(into, 'div', null, 'item' + (trace.errors ? ' failed' : ''));
    put(item, 'div', time(trace.duration_ns), 'd');
    const name = put(item, 'div', null, 'n');
    put(name, 'span', root.name || '(no name)');
    put(name, 'small', ' ' + trace.processes[root.process].service, 'muted');
    put(put(item, 'div', null, 'track'), 'i').style.width = (100 * trace.duration_ns / most) + '%';
    put(item, 'div', trace.errors ? many(trace.errors, 'error') : '', trace.errors ? 'bad' : 'muted');
    put(item, 'div', many(trace.spans.length + trace.left_out_spans, 'span'), 'r');
    const at = list.push(item) - 1;
    item.title = safe(trace.trace_id + ', ' + trace.start_time);
    item.onclick = () => { move('traces', at); enter(); };
    item.of = trace;
  }
  if (!found.length) put(into, 'p', data.traces.length ? 'No trace in this report matches.' : 'There is no trace.', 'muted');
  mark('traces', list);
}

function drawTrace(trace) {
  const into = $('one');
  into.replaceChildren();
  put(into, 'button', '← all traces', 'back').onclick = close;
  const root = trace.spans[0];
  put(into, 'h2', (root.name || '(no name)') + ', ' + time(trace.duration_ns));
  const facts = [trace.start_time, many(trace.spans.length, 'span')];
  if (trace.errors) facts.push(many(trace.errors, 'error'));
  if (trace.left_out_spans) facts.push(count(trace.left_out_spans) + ' more are not in this report');
  if (trace.missing_parents) facts.push(many(trace.missing_parents, 'parent') + ' missing');
  const line = put(into, 'p', null, 'facts');
  put(line, 'span', trace.trace_id, 'id');
  put(line, 'span', ' · ' + facts.join(' · '));
  put(into, 'p', 'The thin line is the critical path: what the trace waited for. A click shows fields.', 'hint');
  const box = put(into, 'div', null, 'fall');
  const ticks = put(box, 'div', null, 'ticks');
  put(ticks, 'div', 'span');
  const scale = put(ticks, 'div');
  for (let part = 0; part <= 4; part++) put(scale, 'span', time(Math.round(trace.duration_ns * part / 4)));
  put(ticks, 'div');
  const all = words(), list = [], whole = Math.max(1, trace.duration_ns);
  const path = trace.spans.map(() => []);
  for (const part of trace.critical_path) path[part.span]?.push(part);
  let service = null;
  trace.spans.forEach((span, place) => {
    const of = trace.processes[span.process].service;
    const isKernel = 'kernel.count' in span.attributes || trace.kernel.includes(span.span_id);
    const row = put(box, 'div', null, 'row' + (span.error ? ' failed' : '') + (isKernel ? ' kernel' : ''));
    if (all.length && !has(spanText(trace, span), all)) row.style.opacity = .35;
    const name = put(row, 'div', null, 'n');
    name.style.paddingLeft = 8 + 14 * Math.min(span.depth, 14) + 'px';
    put(name, 'span', (span.error ? '✗ ' : '') + (span.name || '(no name)'));
    if (of !== service) put(name, 'small', ' ' + of);
    service = of;
    const lane = put(row, 'div', null, 'lane');
    const bar = put(lane, 'i');
    bar.style.left = 100 * span.offset_ns / whole + '%';
    bar.style.width = 100 * span.duration_ns / whole + '%';
    for (const part of path[place].slice(0, 200)) {
      const thin = put(lane, 'b');
      thin.style.left = 100 * part.offset_ns / whole + '%';
      thin.style.width = 100 * part.duration_ns / whole + '%';
    }
    put(row, 'div', time(span.duration_ns), 'd');
    const at = list.push(row) - 1;
    row.onclick = event => { if (!event.target.closest('.fields')) { move('rows', at); enter(); } };
    row.of = span;
    if (state.open.has(place)) drawFields(row, trace, span);
  });
  mark('rows', list);
}

// A large number is a text, because it would be rounded.
const isTime = value => typeof value === 'number' ? value >= 0 : typeof value === 'string' && /^\d+$/.test(value);

function drawFields(row, trace, span) {
  const fields = put(row, 'div', null, 'fields');
  const table = (title, pairs) => {
    if (!pairs.length) return;
    if (title) put(fields, 'h3', title);
    const into = put(fields, 'dl');
    for (const [key, value] of pairs) {
      put(into, 'dt', key || '(no name)');
      put(into, 'dd', typeof value === 'string' ? value : JSON.stringify(value));
    }
  };
  const own = [['duration', time(span.duration_ns)], ['self time', time(span.self_ns)],
    ['on the critical path', time(span.critical_path_ns)]];
  if (span.busy_ns !== null) own.push(['busy', time(span.busy_ns)]);
  if (span.status_message) own.push(['error', span.status_message]);
  own.push(['span id', span.span_id]);
  table(null, own);
  table('Fields', Object.entries(span.attributes).map(([key, value]) =>
    [key, key.endsWith('_ns') && isTime(value) ? value + '  (' + time(+value) + ')' : value]));
  for (const event of span.events) {
    table('Event at ' + time(Math.max(0, event.offset_ns)) + ': ' + event.name, Object.entries(event.attributes));
    if (!Object.keys(event.attributes).length) put(fields, 'h3', 'Event at ' + time(Math.max(0, event.offset_ns)) + ': ' + event.name);
  }
  for (const link of span.links) table('Link', [['trace id', link.trace_id], ['span id', link.span_id]]);
  table('Process', Object.entries(trace.processes[span.process].resource));
}

// A node of the flame graph is [name, colour, spans, total, self, nodes below].
function drawFlame() {
  const into = $('stacks'), all = words(), ROW = 21;
  into.replaceChildren();
  if (!data.flame || !data.flame[3]) { put(into, 'p', 'There is no time to show.', 'muted'); return; }
  const path = way(data.flame, state.zoom) ?? [data.flame];
  let depth = 0;
  const box = (node, left, width, row, look) => {
    const [name, colour, spans, total, own] = node;
    const element = put(into, 'div', width > 1.2 ? name : '', look);
    if (width <= 1.2) element.classList.add('thin');
    element.style.left = left + '%';
    element.style.width = width + '%';
    element.style.top = row * ROW + 'px';
    element.style.height = ROW + 'px';
    if (colour) element.style.background = 'var(--' + colour + ')'; else element.classList.add('top');
    if (all.length) element.classList.toggle('off', !has(name.toLowerCase(), all));
    const share = (100 * total / data.flame[3]).toFixed(1) + '%';
    element.title = safe(name + ': ' + time(total) + ', ' + share + (spans ? '; self ' + time(own) + '; ' + many(spans, 'span') : ''));
    element.tabIndex = 0;
    element.setAttribute('role', 'button');
    element.setAttribute('aria-label', element.title);
    element.onclick = () => { state.zoom = node; drawFlame(); };
    // The boxes are drawn again: the one that is zoomed stays in focus.
    element.onkeydown = event => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      event.stopPropagation();
      element.onclick();
      into.children[(way(data.flame, state.zoom) ?? [0]).length - 1]?.focus();
    };
    depth = Math.max(depth, row + 1);
  };
  path.slice(0, -1).forEach((node, row) => box(node, 0, 100, row, ''));
  const next = [[state.zoom, 0, 100, path.length - 1]];
  while (next.length) {
    const [node, left, width, row] = next.pop();
    box(node, left, width, row, '');
    let at = left;
    for (const below of node[5]) {
      const of = width * below[3] / Math.max(1, node[3]);
      if (of > 0.04) next.push([below, at, of, row + 1]);
      at += of;
    }
  }
  into.style.height = depth * ROW + 'px';
}

function way(from, to) {
  const next = [[from]];
  while (next.length) {
    const path = next.pop(), last = path[path.length - 1];
    if (last === to) return path;
    if (path.length < 400) for (const below of last[5]) next.push([...path, below]);
  }
  return null;
}

// The parts of the graph are in its picture: each can be reached, and what the mouse would show is said below.
for (const part of document.querySelector('.graph > div')?.shadowRoot?.querySelectorAll('g > title') ?? []) {
  const group = part.parentNode;
  group.setAttribute('tabindex', '0');
  group.setAttribute('role', 'img');
  group.setAttribute('aria-label', part.textContent);
  group.onfocus = () => { $('part').textContent = safe(part.textContent); };
}

// What the user does.
function show(tab) { state.tab = tab; location.hash = tab; draw(); scrollTo(0, 0); }
function openTrace(trace) {
  state.trace = trace;
  state.tab = 'traces';
  state.at.rows = 0;
  state.open = new Set();
  location.hash = 'trace-' + trace.trace_id;
  draw();
  scrollTo(0, 0);
}
function close() {
  state.trace = null;
  show('traces');
  move('traces', state.at.traces);
}
function enter() {
  const kind = current();
  const here = lists[kind]?.[state.at[kind]]?.of;
  if (!here) return;
  if (kind === 'traces') openTrace(here);
  if (kind === 'spans') {
    state.only = here;
    state.trace = null;
    state.at.traces = 0;
    show('traces');
  }
  if (kind === 'rows') {
    const place = state.trace.spans.indexOf(here);
    if (!state.open.delete(place)) state.open.add(place);
    drawTrace(state.trace);
    lists.rows[state.at.rows].scrollIntoView({block: 'nearest'});
  }
}
const current = () => state.tab === 'traces' && state.trace ? 'rows' : state.tab;

function theme() {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  const now = document.documentElement.dataset.theme ?? (dark ? 'dark' : 'light');
  document.documentElement.dataset.theme = now === 'dark' ? 'light' : 'dark';
}

addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const search = $('search'), isTyping = document.activeElement === search, kind = current();
  if (event.key === 'Escape') {
    if ($('help').open) return;
    if (isTyping) { if (search.value) { search.value = ''; draw(); } search.blur(); }
    else if (state.trace && state.tab === 'traces') close();
    else if (state.tab === 'flame' && state.zoom !== data.flame) { state.zoom = data.flame; draw(); }
    else if (state.only && state.tab === 'traces') { state.only = null; draw(); }
    else if (search.value) { search.value = ''; draw(); }
    else return;
  } else if (isTyping) {
    if (event.key !== 'Enter' && event.key !== 'ArrowDown') return;
    search.blur();
    if (event.key === 'Enter' && lists[kind]?.length === 1) enter();
  } else if ($('help').open) return;
  else if (event.key === '/') search.focus(), search.select();
  else if (event.key === 'j' || event.key === 'ArrowDown') { if (!lists[kind]) return; move(kind, state.at[kind] + 1); }
  else if (event.key === 'k' || event.key === 'ArrowUp') { if (!lists[kind]) return; move(kind, state.at[kind] - 1); }
  else if (event.key === 'g') { if (lists[kind]) move(kind, 0); }
  else if (event.key === 'G') { if (lists[kind]) move(kind, Infinity); }
  else if (event.key === 'Enter') { if (document.activeElement?.tagName === 'BUTTON') return; enter(); }
  else if (event.key >= '1' && event.key <= '4') show(TABS[event.key - 1]);
  else if (event.key === 't') theme();
  else if (event.key === '?') $('help').showModal();
  else return;
  event.preventDefault();
});
$('search').addEventListener('input', draw);
$('only').onclick = () => { state.only = null; draw(); };
for (const tab of TABS) $('tab-' + tab).onclick = () => { if (tab === 'traces') state.trace = null; show(tab); };
$('tab-help').onclick = () => $('help').showModal();
$('tab-theme').onclick = theme;

// Also called by what `show` sets, which is drawn by then.
function follow(event) {
  const to = location.hash.slice(1);
  const trace = data.traces.find(trace => 'trace-' + trace.trace_id === to);
  if (trace && trace !== state.trace) openTrace(trace);
  else if (TABS.includes(to) && (to !== state.tab || state.trace)) { state.trace = null; state.tab = to; draw(); }
  else if (!event) draw();
}
addEventListener('hashchange', follow);
drawFindings();
follow();

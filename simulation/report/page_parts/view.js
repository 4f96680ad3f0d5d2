"use strict";
// What is looked at: which rows, which stretch of the axis, which lanes; and where things lie on the canvas.
const GUTTER = 118, TOP = 66, LANE = 34, SUBLANE = 21;
const state = {
  axis: chain.size ? "step" : "time", from: 0, to: 1, hidden: new Set(["gossip", "timer"]), hiddenNodes: new Set(),
  open: new Set(), only: chain.size > 0, query: "", match: -1, selected: 0, hover: 0,
};
let shown = [], matches = [], ranks = new Map(), ordered = [], places = new Map(), height = 0, width = 0;

const hasCopies = () => !state.only && !state.hidden.has("copy");
function isShown(row) {
  if (chain.has(row.id) || harm.has(row.id)) return !state.hiddenNodes.has(nodeOf(row.source)) || !row.source;
  if (state.only || state.hidden.has(row.kind)) return false;
  for (const lane of [row.source, row.target]) if (lane && state.hiddenNodes.has(nodeOf(lane))) return false;
  return true;
}

// After a change of filters: which rows, in which columns. Clients that asked a hidden node are hidden with it.
function choose() {
  shown = rows.filter(isShown);
  const steps = new Set();
  for (const row of shown) { steps.add(row.step); steps.add(row.endStep); }
  for (const violation of data.violations) { const row = rowById.get(violation.anchor); if (row) steps.add(row.endStep + 0.5); }
  if (hasCopies()) for (const copy of copies) if (!state.hiddenNodes.has(copy.node)) steps.add(copy.step);
  ordered = [...steps].sort((a, b) => a - b);
  ranks = new Map(ordered.map((step, rank) => [step, rank]));
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  matches = words.length ? shown.filter(row => words.every(word => row.text.includes(word))) : [];
  layOut();
}

function layOut() {
  places = new Map();
  let y = TOP + 8;
  const clients = data.clients.filter(client => !state.hidden.has("client"));
  for (const client of clients) { places.set(client, y + SUBLANE / 2); y += SUBLANE; }
  if (clients.length) y += 8;
  for (const node of data.nodes) {
    if (state.hiddenNodes.has(node)) continue;
    places.set(node, y + LANE / 2);
    y += LANE;
    for (const part of SUBLANES) {
      if (state.open.has(node)) { places.set(`${node}.${part}`, y + SUBLANE / 2); y += SUBLANE; }
      else places.set(`${node}.${part}`, places.get(node));
    }
    y += state.open.has(node) ? 10 : data.nodes.length <= 4 ? 62 : 26;
  }
  height = Math.max(y + 6, 220);
}

const yOf = lane => places.get(lane) ?? places.get(nodeOf(lane));

// Positions on the axis: seconds, or columns.
function rank(step) {
  const exact = ranks.get(step);
  if (exact !== undefined) return exact;
  let low = 0, high = ordered.length;
  while (low < high) { const middle = (low + high) >> 1; if (ordered[middle] < step) low = middle + 1; else high = middle; }
  return low;
}
const along = (time, step) => state.axis === "time" ? time : rank(step);
const startOf = row => along(row.start, row.step);
const endOf = row => along(row.end, row.endStep);
const whole = () => {
  if (state.axis === "time") {
    const first = rows.length ? Math.min(rows[0].start, copies.length ? copies[0].time : Infinity) : 0;
    const pad = Math.max(endOfRun - first, 1e-3) * 0.015;
    return [first - pad, endOfRun + pad];
  }
  return [-1, Math.max(ordered.length, 2)];
};
const xOf = at => GUTTER + (at - state.from) / (state.to - state.from) * (width - GUTTER);
const atX = x => state.from + (x - GUTTER) / (width - GUTTER) * (state.to - state.from);

function look(from, to) {
  const [low, high] = whole();
  const least = state.axis === "time" ? 1e-6 : 2;
  let span = Math.min(Math.max(to - from, least), high - low);
  let begin = Math.min(Math.max((from + to) / 2 - span / 2, low), high - span);
  state.from = begin; state.to = begin + span;
  draw();
}
const fit = () => look(...whole());
function zoom(factor, around = (state.from + state.to) / 2) {
  look(around - (around - state.from) * factor, around + (state.to - around) * factor);
}
// The same stretch of the run, on the other axis.
function setAxis(axis) {
  if (axis === state.axis) return;
  const inside = shown.filter(row => startOf(row) >= state.from && startOf(row) <= state.to);
  state.axis = axis;
  if (!inside.length) { fit(); return; }
  const first = startOf(inside[0]), last = endOf(inside[inside.length - 1]);
  look(first - (last - first) * 0.03, last + (last - first) * 0.03);
}
// Where a violation is marked: right of all that led to it.
function markOf(violation) {
  if (state.axis === "time") return violation.time;
  const row = rowById.get(violation.anchor);
  return row ? rank(row.endStep + 0.5) : ordered.length;
}
// From where a record was produced to where its last copy was stored.
function lookAtJourney() {
  const counts = new Map();
  for (const copy of copies) counts.set(copy.identity, (counts.get(copy.identity) ?? 0) + 1);
  const most = [...counts].reduce((best, entry) => entry[1] > best[1] ? entry : best)[0];
  const mine = copies.filter(copy => copy.identity === most).map(copy => along(copy.time, copy.step));
  const from = Math.min(...mine), to = Math.max(...mine), pad = Math.max((to - from) * 0.1, 1e-3);
  look(from - pad, to + pad * 1.6);
}
function lookAtChain() {
  const chained = rows.filter(row => chain.has(row.id) && isShown(row));
  if (!chained.length) { fit(); return; }
  const marks = data.violations.map(markOf);
  const from = Math.min(...chained.map(startOf)), to = Math.max(...chained.map(endOf), ...marks);
  const pad = Math.max((to - from) * 0.08, state.axis === "time" ? 1e-3 : 3);
  look(from - pad, to + pad);
}
// Move so that the row is well inside, and show its lanes.
function reveal(row) {
  const at = startOf(row), span = state.to - state.from;
  if (at < state.from + span * 0.08 || at > state.to - span * 0.08) look(at - span / 2, at + span / 2); else draw();
  const y = yOf(row.source || row.target);
  const scroller = document.getElementById("scroller");
  if (y !== undefined && (y < scroller.scrollTop + TOP || y > scroller.scrollTop + scroller.clientHeight - 30)) scroller.scrollTop = y - scroller.clientHeight / 2;
}

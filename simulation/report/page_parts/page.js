"use strict";
// The page around the canvases: buttons, keys, the mouse, the panel beside, and the address's fragment.
const find = id => document.getElementById(id);
const explained = rows.filter(row => chain.has(row.id) || harm.has(row.id)).sort((a, b) => a.step - b.step);

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}
const seconds = at => `${at.toFixed(6)} s`;
const wayOf = row => row.source && row.target ? `${row.source} → ${row.target}` : row.source || row.target || "everywhere";

function item(row, className = "") {
  const li = element("li", "", className);
  li.append(element("small", `${seconds(row.start)} · ${wayOf(row)}`), element("b", row.label), ` ${row.detail}`);
  if (row.endDetail) li.append(element("small", `→ ${row.endDetail}`));
  li.onclick = () => select(row.id);
  return li;
}

function fillSide() {
  const side = find("side");
  side.replaceChildren();
  const row = rowById.get(state.selected);
  if (row) {
    side.append(element("h3", row.label), element("p", row.detail, "detail"));
    const facts = element("dl");
    const fact = (name, text) => { if (text) { const div = element("div"); div.append(element("dt", name), element("dd", text)); facts.append(div); } };
    fact("where", wayOf(row)); fact("from", seconds(row.start));
    fact(row.isOpen ? "never handled" : row.isLost ? "lost" : "until", row.isOpen ? "still under way when the record ends" : seconds(row.end));
    fact("outcome", row.endDetail);
    side.append(facts, element("p"));
    const list = (title, found) => {
      if (!found.length) return;
      const ol = element("ol");
      found.slice(0, 40).forEach(other => ol.append(item(other)));
      side.append(element("h3", title), ol);
    };
    list("What led to it", causesOf(row));
    list("What it led to", (effects.get(row.id) ?? []).map(id => rowById.get(id)));
  }
  if (explained.length) {
    const ol = element("ol", "", "explained");
    for (const step of explained) ol.append(item(step, `${harm.has(step.id) ? "harm" : ""} ${step.id === state.selected ? "at" : ""}`));
    side.append(element("h3", "Steps to the violation", "bad"), ol);
  } else if (!row) {
    side.append(element("h3", "Nothing is selected"), element("p", "Click an arrow or a mark: here it will say what it was, what led to it, and what it led to. Click a node's name to see its actors.", "detail"));
  }
}

function causesOf(row) {
  const found = [], seen = new Set([row.id]);
  for (let id = row.endCause || row.cause; id && !seen.has(id) && rowById.has(id); id = rowById.get(id).cause) { seen.add(id); found.unshift(rowById.get(id)); }
  return found.slice(-25);
}

function select(id) { state.selected = id; fillSide(); const row = rowById.get(id); if (row) reveal(row); else draw(); }

// ---------------------------------------------------------------- filters and search

function toggle(set, value) { if (set.has(value)) set.delete(value); else set.add(value); refresh(); }
function refresh() {
  const before = whole(), isWhole = state.from <= before[0] && state.to >= before[1];
  choose(); fillBar();
  if (state.axis === "step" || isWhole) fit(); else look(state.from, state.to);
}
function fillBar() {
  const present = new Set(rows.map(row => row.kind));
  if (copies.length) present.add("copy");
  const swatch = { message: colours.n0, packet: colours.n2, client: colours.good, disk: colours.disk, fault: colours.harm, copy: colours.again };
  const fill = (place, values, hidden, name, colour) => place.replaceChildren(...values.map(value => {
    const button = element("button");
    const square = element("i"); square.style.background = colour(value);
    button.append(square, name(value));
    button.setAttribute("aria-pressed", String(!hidden.has(value)));
    button.onclick = () => toggle(hidden, value);
    return button;
  }));
  fill(find("kinds"), Object.keys(KIND_NAMES).filter(kind => present.has(kind) && kind !== "phase"), state.hidden, kind => KIND_NAMES[kind], kind => swatch[kind] ?? colours.soft);
  fill(find("nodes"), data.nodes, state.hiddenNodes, node => node, nodeColour);
  find("only").setAttribute("aria-pressed", String(state.only));
  find("by-time").setAttribute("aria-pressed", String(state.axis === "time"));
  find("by-step").setAttribute("aria-pressed", String(state.axis === "step"));
  find("matches").textContent = state.query ? (matches.length ? `${state.match + 1 || "–"} of ${matches.length}` : "none") : "";
}
function search(text) { state.query = text.trim(); state.match = -1; choose(); fillBar(); draw(); }
function nextMatch(by) {
  if (!matches.length) return;
  state.match = state.match < 0 ? (by > 0 ? 0 : matches.length - 1) : (state.match + by + matches.length) % matches.length;
  fillBar(); select(matches[state.match].id);
}

// ---------------------------------------------------------------- the mouse

function distance(x, y, x1, y1, x2, y2) {
  const long = (x2 - x1) ** 2 + (y2 - y1) ** 2;
  const at = long ? Math.max(0, Math.min(1, ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / long)) : 0;
  return Math.hypot(x - x1 - at * (x2 - x1), y - y1 - at * (y2 - y1));
}
function under(x, y) {
  let best = null, nearest = 7;
  for (let at = targets.length - 1; at >= 0; at--) {
    const target = targets[at];
    if (x < target.x - 4 || x > target.x + target.w + 4 || y < target.y - 4 || y > target.y + target.h + 4) continue;
    if (target.toggle) return x < GUTTER ? target : null;
    const row = target.row, y1 = yOf(row.source), y2 = yOf(row.target);
    const isLine = !target.copy && y1 !== undefined && y2 !== undefined && !["client", "fault", "node", "note"].includes(row.kind);
    const away = isLine ? distance(x, y, xOf(startOf(row)), y1, xOf(endOf(row)), y2) : target.copy ? 0 : 1;
    if (away < nearest) { nearest = away; best = target; }
  }
  return best;
}
let drag = null;
function place(event) { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; }
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const by = event.deltaY || event.deltaX;
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) { const move = (state.to - state.from) * by / 900; look(state.from + move, state.to + move); }
  else zoom(Math.exp(by / 500), atX(Math.max(place(event)[0], GUTTER)));
}, { passive: false });
canvas.addEventListener("pointerdown", event => { const [x, y] = place(event); drag = { x, y: event.clientY, from: state.from, to: state.to, top: find("scroller").scrollTop, moved: false }; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", event => {
  const [x, y] = place(event);
  if (drag) {
    if (Math.abs(x - drag.x) + Math.abs(event.clientY - drag.y) > 4) drag.moved = true;
    if (!drag.moved) return;
    canvas.classList.add("moving");
    const move = (drag.x - x) / (width - GUTTER) * (drag.to - drag.from);
    find("scroller").scrollTop = drag.top + drag.y - event.clientY;
    look(drag.from + move, drag.to + move);
    return;
  }
  const target = under(x, y), row = target?.row, tip = find("tip");
  if ((row?.id ?? 0) !== state.hover) { state.hover = row?.id ?? 0; draw(); }
  tip.hidden = !row;
  if (row) {
    tip.replaceChildren(element("b", target.copy ? `${target.copy.value} at offset ${target.copy.offset}` : row.label), element("small", `${seconds(row.start)} · ${wayOf(row)}`), target.copy ? `way ${target.copy.way.join(" → ")}` : row.detail);
    if (row.endDetail) tip.append(element("small", `→ ${row.endDetail}`));
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 450)}px`; tip.style.top = `${event.clientY + 16}px`;
  }
});
canvas.addEventListener("pointerleave", () => { find("tip").hidden = true; state.hover = 0; draw(); });
canvas.addEventListener("pointerup", event => {
  canvas.classList.remove("moving");
  const wasClick = drag && !drag.moved;
  drag = null;
  if (!wasClick) return;
  const target = under(...place(event));
  if (target?.toggle) { toggle(state.open, target.toggle); return; }
  select(target?.row?.id ?? 0);
});
canvas.addEventListener("dblclick", event => zoom(0.4, atX(place(event)[0])));
{
  const move = event => {
    const box = map.getBoundingClientRect(), [low, high] = whole(), span = state.to - state.from;
    const at = low + (event.clientX - box.left - GUTTER) / (box.width - GUTTER) * (high - low);
    look(at - span / 2, at + span / 2);
  };
  map.addEventListener("pointerdown", event => { map.setPointerCapture(event.pointerId); move(event); });
  map.addEventListener("pointermove", event => { if (event.buttons) move(event); });
}

// ---------------------------------------------------------------- buttons and keys

find("zoom-in").onclick = () => zoom(0.5);
find("zoom-out").onclick = () => zoom(2);
find("fit").onclick = fit;
find("to-cause").onclick = lookAtChain;
find("to-cause").hidden = find("only").hidden = !chain.size;
find("only").onclick = () => { state.only = !state.only; choose(); fillBar(); lookAtChain(); };
const choose_axis = axis => { setAxis(axis); fillBar(); };
find("by-time").onclick = () => choose_axis("time");
find("by-step").onclick = () => choose_axis("step");
find("find").oninput = event => search(event.target.value);
find("find").onkeydown = event => { if (event.key === "Enter") nextMatch(event.shiftKey ? -1 : 1); if (event.key === "Escape") { event.target.value = ""; search(""); canvas.focus(); } };
find("next").onclick = () => nextMatch(1);
find("previous").onclick = () => nextMatch(-1);
document.addEventListener("keydown", event => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const span = state.to - state.from;
  const keys = {
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": fit, f: fit, v: lookAtChain, t: () => choose_axis("time"), s: () => choose_axis("step"),
    ArrowLeft: () => look(state.from - span / 5, state.to - span / 5), ArrowRight: () => look(state.from + span / 5, state.to + span / 5),
    n: () => nextMatch(1), o: () => find("only").onclick(), N: () => nextMatch(-1), "/": () => find("find").focus(), Escape: () => select(0),
  };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); fillBar(); draw(); });

// The fragment says what to look at, so that a view can be handed on:
// #find=foo&axis=step&only=no&hide=gossip,disk&without=n3&open=n1,n2&from=1.5&to=2&select=12
function obeyFragment() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const many = name => (wanted.get(name) ?? "").split(",").filter(Boolean);
  if (wanted.has("hide")) state.hidden = new Set(many("hide"));
  if (wanted.has("without")) state.hiddenNodes = new Set(many("without"));
  if (wanted.has("open")) state.open = new Set(many("open"));
  if (wanted.has("only")) state.only = wanted.get("only") === "yes";
  if (["time", "step"].includes(wanted.get("axis"))) state.axis = wanted.get("axis");
  if (wanted.has("find")) { state.query = wanted.get("find"); find("find").value = state.query; }
  choose(); fillBar();
  if (wanted.has("from") && wanted.has("to")) look(+wanted.get("from"), +wanted.get("to"));
  else if (chain.size) lookAtChain();
  else if (copies.some(copy => copy.back)) lookAtJourney();
  else fit();
  if (wanted.has("select")) select(+wanted.get("select"));
}
if (chain.size && data.nodes.length <= 4) for (const row of explained) for (const lane of [row.source, row.target]) if (lane.includes(".")) state.open.add(nodeOf(lane));
addEventListener("hashchange", obeyFragment);
obeyFragment();
fillSide();
paint();
document.body.dataset.ready = "yes";

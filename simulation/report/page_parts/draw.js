"use strict";
// Everything on the two canvases.
const canvas = document.getElementById("timeline"), pen = canvas.getContext("2d");
const map = document.getElementById("map"), mapPen = map.getContext("2d");
const FONT = 'system-ui, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif';
let targets = [], queued = false;

function draw() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => { queued = false; paint(); });
}

function prepare(element, context, wanted) {
  const scale = window.devicePixelRatio || 1;
  width = element.parentElement.clientWidth;
  element.style.height = wanted + "px";
  element.width = Math.round(width * scale); element.height = Math.round(wanted * scale);
  context.setTransform(scale, 0, 0, scale, 0, 0);
}

function paint() {
  prepare(canvas, pen, height);
  targets = [];
  pen.clearRect(0, 0, width, height);
  pen.save();
  pen.beginPath(); pen.rect(GUTTER, 0, width - GUTTER, height); pen.clip();
  paintBands();
  paintLanes();
  const visible = shown.filter(row => endOf(row) >= state.from && startOf(row) <= state.to);
  const isFocused = chain.size > 0 && visible.some(row => chain.has(row.id));
  const labels = new Labels();
  const density = visible.length / Math.max(width, 1);
  const alpha = density > 3 ? 0.16 : density > 1 ? 0.35 : density > 0.4 ? 0.6 : 0.9;
  const matched = new Set(matches);
  for (const row of visible) {
    const isChain = chain.has(row.id) || harm.has(row.id);
    if (!isChain) paintRow(row, state.query ? (matched.has(row) ? 1 : 0.12) : isFocused ? alpha * 0.35 : alpha, labels, density < 0.6);
  }
  if (hasCopies()) paintCopies(isFocused ? 0.35 : 1, labels);
  for (const row of visible) if (chain.has(row.id) || harm.has(row.id)) paintRow(row, 1, labels, true);
  labels.flush();
  paintNumbers();
  paintViolations();
  for (const id of [state.selected, state.hover]) { const row = rowById.get(id); if (row) paintRow(row, 1, null, false, id === state.selected ? 3.5 : 2.5); }
  pen.restore();
  paintAxis();
  paintGutter();
  paintMap();
  document.getElementById("counted").textContent = `${visible.length} of ${rows.length} rows in view` + (data.dropped ? `; ${data.dropped} earlier ones were not kept` : "") + ".";
  Object.assign(document.body.dataset, { shown: shown.length, visible: visible.length, matches: matches.length, axis: state.axis });
}

// Labels are written where there is room: those that matter first, else the first come first.
class Labels {
  constructor() { this.wanted = []; this.taken = new Map(); }
  write(text, x, y, colour, matters = false) { if (text) this.wanted.push({ text, x, y, colour, matters }); }
  flush() {
    this.wanted.sort((a, b) => b.matters - a.matters);
    for (const { text, x, y, colour, matters } of this.wanted) {
      const line = Math.round(y / 12);
      pen.font = `${matters ? "600 " : ""}11px ${FONT}`;
      const wide = pen.measureText(text).width + 8;
      const spans = this.taken.get(line) ?? [];
      if (x < GUTTER - wide || x > width || spans.some(([a, b]) => x < b && x + wide > a)) continue;
      spans.push([x, x + wide]); this.taken.set(line, spans);
      pen.globalAlpha = 1; pen.lineWidth = 3; pen.strokeStyle = colours.card; pen.strokeText(text, x, y);
      pen.fillStyle = colour; pen.fillText(text, x, y);
    }
  }
}

function paintBands() {
  const band = (from, to, y, tall, colour) => {
    const a = Math.max(xOf(along(from.start, from.step)), GUTTER), b = Math.min(xOf(along(to.start, to.step)), width);
    if (b <= a) return null;
    pen.fillStyle = colour; pen.fillRect(a, y, b - a, tall);
    return [a, b];
  };
  pen.font = `11px ${FONT}`;
  for (const phase of phases) {
    const at = band(phase.from, phase.to, 24, 17, phase.name === "safety" ? colours.harm + "26" : phase.name === "liveness" ? colours.accent + "26" : colours.good + "26");
    if (at && at[1] - at[0] > 60) { pen.fillStyle = colours.soft; pen.fillText(phase.name, at[0] + 6, 36.5); }
  }
  for (const cut of cuts) {
    const at = band(cut.from, cut.to, 43, height, colours.cut + "2e");
    if (!at) continue;
    pen.fillStyle = colours.cut; pen.fillRect(at[0], 43, at[1] - at[0], 17);
    if (at[1] - at[0] > 90) { pen.fillStyle = colours.ink; pen.fillText(cut.row.label, at[0] + 6, 55.5); }
    targets.push({ row: cut.row, x: at[0], y: 43, w: at[1] - at[0], h: 17 });
  }
  for (const down of downs) {
    const y = places.get(down.node);
    if (y === undefined) continue;
    const tall = state.open.has(down.node) ? LANE + SUBLANES.length * SUBLANE : LANE;
    const at = band(down.from, down.to, y - LANE / 2, tall, down.what === "down" ? colours.down : colours.cut + "40");
    if (at && at[1] - at[0] > 44) { pen.fillStyle = colours.soft; pen.font = `italic 11px ${FONT}`; pen.fillText(down.what, at[0] + 14, y + LANE / 2 - 5); pen.font = `11px ${FONT}`; }
  }
}

function paintLanes() {
  for (const [lane, y] of places) {
    const isNode = data.nodes.includes(lane);
    if (lane.includes(".") && !state.open.has(nodeOf(lane))) continue;
    pen.strokeStyle = isNode ? nodeColour(lane) : colours.line; pen.globalAlpha = isNode ? 0.55 : 1; pen.lineWidth = isNode ? 2 : 1;
    pen.beginPath(); pen.moveTo(GUTTER, y); pen.lineTo(width, y); pen.stroke();
  }
  pen.globalAlpha = 1;
}

function arrow(x1, y1, x2, y2, head = 5) {
  pen.beginPath(); pen.moveTo(x1, y1); pen.lineTo(x2, y2); pen.stroke();
  const long = Math.hypot(x2 - x1, y2 - y1);
  if (long < 7) return;
  const ux = (x2 - x1) / long, uy = (y2 - y1) / long;
  pen.beginPath(); pen.moveTo(x2, y2);
  pen.lineTo(x2 - ux * head * 1.6 - uy * head * 0.7, y2 - uy * head * 1.6 + ux * head * 0.7);
  pen.lineTo(x2 - ux * head * 1.6 + uy * head * 0.7, y2 - uy * head * 1.6 - ux * head * 0.7);
  pen.fill();
}
function cross(x, y, r) { pen.beginPath(); pen.moveTo(x - r, y - r); pen.lineTo(x + r, y + r); pen.moveTo(x + r, y - r); pen.lineTo(x - r, y + r); pen.stroke(); }
function diamond(x, y, r) { pen.beginPath(); pen.moveTo(x, y - r); pen.lineTo(x + r, y); pen.lineTo(x, y + r); pen.lineTo(x - r, y); pen.fill(); }

function paintRow(row, alpha, labels, isLabelled, thick = 0) {
  const x1 = xOf(startOf(row)), x2 = xOf(endOf(row)), y1 = yOf(row.source), y2 = yOf(row.target);
  const isChain = chain.has(row.id), colour = isChain && row.kind !== "fault" && row.kind !== "node" ? colours.accent : colourOf(row);
  pen.globalAlpha = alpha; pen.strokeStyle = pen.fillStyle = colour; pen.lineWidth = thick || (isChain ? 2.4 : 1.2);
  const hit = (x, y, w, h) => { if (labels) targets.push({ row, x, y, w, h }); };
  switch (row.kind) {
    case "network": case "phase": return;
    case "node":
      if (y1 === undefined) return;
      pen.lineWidth = 3;
      if (row.label === "crashed") cross(x1, y1, 7);
      else if (row.label.endsWith("started")) { pen.beginPath(); pen.moveTo(x1 - 5, y1 - 7); pen.lineTo(x1 + 7, y1); pen.lineTo(x1 - 5, y1 + 7); pen.fill(); }
      else { pen.fillRect(x1 - 4, y1 - 6, 3, 12); pen.fillRect(x1 + 1, y1 - 6, 3, 12); }
      labels?.write(row.label, x1 + 10, y1 - 8, colour, true);
      return hit(x1 - 9, y1 - 9, 18, 18);
    case "fault": case "note":
      if (y1 === undefined) return;
      if (row.kind === "fault") diamond(x1, y1, 6); else { pen.beginPath(); pen.arc(x1, y1, 3.5, 0, 7); pen.fill(); }
      if (isLabelled || row.kind === "fault") labels?.write(row.label, x1 + 8, y1 + 14, colour);
      return hit(x1 - 7, y1 - 7, 14, 14);
    case "client": {
      if (y1 === undefined) return;
      const wide = Math.max(x2 - x1, 4);
      pen.globalAlpha = alpha * 0.85; pen.fillRect(x1, y1 - 5, wide, 10);
      if (thick) pen.strokeRect(x1 - 1, y1 - 6, wide + 2, 12);
      pen.globalAlpha = alpha * 0.5; pen.lineWidth = isChain ? 2 : 1;
      const isCarried = (effects.get(row.id) ?? []).some(id => rowById.get(id).kind === "packet");
      if (y2 !== undefined && !isCarried) { arrow(x1, y1 + 5, x1, y2 - 3, 4); if (!row.isOpen) { pen.setLineDash([3, 3]); arrow(x2, y2 - 3, x2, y1 + 6, 4); pen.setLineDash([]); } }
      if (isLabelled) labels?.write(`${row.detail} → ${row.endDetail || "no answer"}`, x1 + wide + 4, y1 + 4, colours.ink);
      return hit(x1 - 2, y1 - 8, wide + 4, 16);
    }
    default: {
      if (y1 === undefined && y2 === undefined) return;
      if (y1 === undefined || ((y2 ?? y1) === y1 && x2 - x1 < 3)) {
        const y = y2 ?? y1;
        pen.beginPath(); pen.arc(x1, y, isChain || thick ? 4 : 2.2, 0, 7);
        if (row.kind === "timer") pen.stroke(); else pen.fill();
        if (isLabelled) labels?.write(row.label, x1 + 5, isChain ? y + 14 : y - 4, isChain ? colour : colours.soft, isChain);
        return hit(x1 - 4, y - 5, 8, 10);
      }
      if (row.isLost) {
        const xm = x1 + (x2 - x1) * 0.6, ym = y1 + ((y2 ?? y1) - y1) * 0.6;
        pen.setLineDash([4, 3]); pen.beginPath(); pen.moveTo(x1, y1); pen.lineTo(xm, ym); pen.stroke(); pen.setLineDash([]);
        pen.strokeStyle = colours.harm; pen.lineWidth = 1.8; cross(xm, ym, 3.5);
      } else if (row.isOpen) {
        pen.setLineDash([2, 3]); arrow(x1, y1, x1 + 8, y1 + ((y2 ?? y1) - y1) * 0.7, 3); pen.setLineDash([]);
      } else if (row.kind === "packet" || row.kind === "gossip") { pen.setLineDash(row.kind === "gossip" ? [2, 2] : [6, 2]); arrow(x1, y1, x2, y2); pen.setLineDash([]); }
      else arrow(x1, y1, x2, y2 ?? y1);
      if (isLabelled && row.kind !== "gossip") labels?.write(row.label, (x1 + x2) / 2 + 5, (y1 + (y2 ?? y1)) / 2 + (isChain ? 14 : 4), isChain ? colour : colours.soft, isChain);
      return hit(Math.min(x1, x2) - 3, Math.min(y1, y2 ?? y1), Math.abs(x2 - x1) + 6, Math.abs((y2 ?? y1) - y1));
    }
  }
}

function paintCopies(alpha, labels) {
  for (const copy of copies) {
    const y = places.get(copy.node), at = along(copy.time, copy.step);
    if (y === undefined) continue;
    const x = xOf(at), from = copy.from, colour = copy.back ? colours.again : nodeColour(copy.node);
    const fromX = from ? xOf(along(from.time, from.step)) : x;
    if (x < GUTTER - 20 || fromX > width + 20) continue;
    pen.globalAlpha = alpha; pen.strokeStyle = pen.fillStyle = colour; pen.lineWidth = copy.back ? 2.6 : 2;
    const fromY = from && places.get(from.node);
    if (from && fromY !== undefined) { pen.globalAlpha = alpha * 0.8; arrow(fromX, fromY, x, y + (fromY > y ? 7 : -7), 6); pen.globalAlpha = alpha; }
    pen.beginPath(); pen.arc(x, y, 5.5, 0, 7); pen.fill();
    pen.strokeStyle = colours.card; pen.lineWidth = 1.5; pen.stroke();
    labels.write(`${copy.value} @${copy.offset}`, x + 8, y + 15, colour, true);
    const row = rowById.get(copy.via);
    if (row) targets.push({ row, copy, x: x - 6, y: y - 6, w: 12, h: 12 });
  }
  pen.globalAlpha = 1;
}

// The steps of the chain, numbered as in the list beside.
function paintNumbers() {
  let last = -99;
  explained.forEach((row, at) => {
    const x = xOf(startOf(row)), y = yOf(row.source || row.target);
    if (y === undefined || x < GUTTER || x > width || Math.abs(x - last) < 9) return;
    last = x;
    pen.globalAlpha = 1; pen.fillStyle = harm.has(row.id) ? colours.harm : colours.accent;
    pen.beginPath(); pen.arc(x, y - 12, 7.5, 0, 7); pen.fill();
    pen.fillStyle = "#fff"; pen.font = `600 9.5px ${FONT}`; pen.textAlign = "center"; pen.fillText(at + 1, x, y - 8.5); pen.textAlign = "left";
  });
}

function paintViolations() {
  for (const violation of data.violations) {
    const x = xOf(markOf(violation));
    if (x < GUTTER || x > width + 1) continue;
    pen.globalAlpha = 1; pen.strokeStyle = pen.fillStyle = colours.bad; pen.lineWidth = 2;
    pen.beginPath(); pen.moveTo(x, 22); pen.lineTo(x, height); pen.stroke();
    pen.font = `600 11.5px ${FONT}`;
    const text = `✗ ${violation.claim}`, wide = pen.measureText(text).width + 14, left = Math.min(x, width - wide);
    pen.fillRect(left, 24, wide, 19); pen.fillStyle = colours.card; pen.fillText(text, left + 7, 37.5);
  }
}

function paintAxis() {
  pen.globalAlpha = 1; pen.font = `11px ${FONT}`; pen.fillStyle = colours.soft; pen.strokeStyle = colours.line; pen.lineWidth = 1;
  const count = Math.max(2, Math.floor((width - GUTTER) / 110));
  if (state.axis === "time") {
    const raw = (state.to - state.from) / count, power = 10 ** Math.floor(Math.log10(raw));
    const gap = [1, 2, 5, 10].map(n => n * power).find(n => n >= raw);
    const unit = gap < 1e-3 ? ["µs", 1e6] : gap < 0.5 ? ["ms", 1e3] : ["s", 1];
    for (let at = Math.ceil(state.from / gap) * gap; at <= state.to; at += gap) {
      const x = xOf(at);
      if (x < GUTTER) continue;
      pen.beginPath(); pen.moveTo(x, 18); pen.lineTo(x, 23); pen.stroke();
      pen.fillText(`${+(at * unit[1]).toFixed(gap * unit[1] < 1 ? 2 : 0)} ${unit[0]}`, x + 3, 14);
    }
  } else {
    const gap = Math.max(1, Math.round((state.to - state.from) / count));
    const times = new Map();
    let before = "";
    for (const row of shown) { times.set(row.step, row.start); times.set(row.endStep, row.end); }
    for (let at = Math.max(0, Math.ceil(state.from / gap) * gap); at <= state.to && at < ordered.length; at += gap) {
      const x = xOf(at), time = times.get(ordered[at]);
      if (x < GUTTER || time === undefined) continue;
      pen.beginPath(); pen.moveTo(x, 18); pen.lineTo(x, 23); pen.stroke();
      const text = `${time.toFixed(4)} s`;
      if (text !== before) pen.fillText(text, x + 3, 14);
      before = text;
    }
  }
}

function paintGutter() {
  pen.fillStyle = colours.card; pen.fillRect(0, 0, GUTTER, height);
  pen.strokeStyle = colours.line; pen.lineWidth = 1; pen.beginPath(); pen.moveTo(GUTTER - 0.5, 0); pen.lineTo(GUTTER - 0.5, height); pen.stroke();
  pen.fillStyle = colours.soft; pen.font = `11px ${FONT}`; pen.fillText(state.axis === "time" ? "virtual time" : "step by step", 14, 14);
  for (const [lane, y] of places) {
    if (data.nodes.includes(lane)) {
      pen.fillStyle = nodeColour(lane); pen.font = `700 13px ${FONT}`;
      pen.fillText(`${state.open.has(lane) ? "▾" : "▸"} ${lane}`, 12, y + 5);
      targets.push({ toggle: lane, x: 0, y: y - LANE / 2, w: GUTTER, h: LANE });
    } else if (lane.includes(".")) {
      if (!state.open.has(nodeOf(lane))) continue;
      pen.fillStyle = colours.soft; pen.font = `11.5px ${FONT}`; pen.fillText(lane.slice(lane.lastIndexOf(".") + 1), 30, y + 4);
    } else { pen.fillStyle = colours.client; pen.font = `600 12px ${FONT}`; pen.fillText(lane, 14, y + 4); }
  }
}

// The whole run, as densities, with the window that is looked at.
function paintMap() {
  prepare(map, mapPen, 46);
  const [low, high] = whole(), wide = width - GUTTER, bins = new Float32Array(Math.ceil(wide / 3));
  const x = at => GUTTER + (at - low) / (high - low) * wide;
  for (const row of shown) bins[Math.min(bins.length - 1, Math.max(0, Math.floor((x(startOf(row)) - GUTTER) / 3)))]++;
  const most = Math.max(...bins, 1);
  mapPen.clearRect(0, 0, width, 46);
  mapPen.fillStyle = colours.rail;
  bins.forEach((count, at) => { const tall = Math.sqrt(count / most) * 34; mapPen.fillRect(GUTTER + at * 3, 44 - tall, 2.4, tall); });
  for (const row of shown) if (row.kind === "fault" || row.label === "crashed") { mapPen.fillStyle = colours.harm; mapPen.fillRect(x(startOf(row)) - 1, 2, 2, 7); }
  for (const violation of data.violations) {
    mapPen.fillStyle = colours.bad; mapPen.fillRect(x(markOf(violation)) - 1, 0, 3, 46);
  }
  mapPen.fillStyle = colours.accent + "22"; mapPen.fillRect(x(state.from), 0, Math.max(x(state.to) - x(state.from), 3), 46);
  mapPen.strokeStyle = colours.accent; mapPen.strokeRect(x(state.from) + 0.5, 0.5, Math.max(x(state.to) - x(state.from), 3) - 1, 45);
  mapPen.fillStyle = colours.soft; mapPen.font = `11px ${FONT}`; mapPen.fillText("whole run", 14, 27);
}

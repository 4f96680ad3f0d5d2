"use strict";
// The rows as they are in the page, and everything that follows from them alone: lanes, causes, spans.
const data = JSON.parse(document.getElementById("data").textContent);
const KINDS = data.kinds;
const KIND_NAMES = {
  message: "messages", packet: "network", client: "clients", disk: "disks", fault: "faults", node: "crashes",
  note: "notes", network: "partitions", phase: "phases", timer: "timers", gossip: "gossip", copy: "record copies",
};
const SUBLANES = ["server", "election", "replicator", "store", "membership", "disk"];

const rows = data.rows.map(([id, kind, start, step, source, target, label, detail, end, endStep, endDetail, lost, cause, endCause, outcome]) => ({
  id, kind: KINDS[kind], start, step, source: data.lanes[source], target: data.lanes[target], label: data.labels[label],
  detail, end: end === null ? start : end, endStep: end === null ? step : endStep, isOpen: end === null, endDetail,
  isLost: lost === 1, cause, endCause, outcome,
}));
const rowById = new Map(rows.map(row => [row.id, row]));
const effects = new Map();
for (const row of rows) {
  for (const cause of new Set([row.cause, row.endCause])) {
    if (cause) { if (!effects.has(cause)) effects.set(cause, []); effects.get(cause).push(row.id); }
  }
  row.text = `${row.label} ${row.detail} ${row.endDetail} ${row.source} ${row.target}`.toLowerCase();
}

const nodeOf = lane => { const dot = lane.lastIndexOf("."); return dot < 0 ? lane : lane.slice(0, dot); };
const colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "card", "ink", "soft", "line", "rail", "bad", "good", "accent", "again", "harm", "disk", "client", "down", "cut",
    "n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"]) colours[name] = style.getPropertyValue("--" + name).trim();
}
readColours();
const nodeColour = node => { const at = data.nodes.indexOf(node); return at < 0 ? colours.client : colours["n" + at % 8]; };
function colourOf(row) {
  switch (row.kind) {
    case "fault": return colours.harm;
    case "disk": return colours.disk;
    case "client": return row.outcome === "ok" ? colours.good : row.outcome === "unknown" || row.isOpen ? colours.cut : colours.soft;
    case "node": return row.label === "crashed" ? colours.harm : colours.good;
    case "timer": case "gossip": return colours.soft;
    default: return nodeColour(nodeOf(row.source || row.target));
  }
}

// Copies as arrows between the appearance that was pulled and the one that came of it.
const copies = data.copies.map(([time, step, node, offset, identity, way, value, via, back], at) =>
  ({ at, time, step, node: data.nodes[node], offset, identity, way: way.map(n => data.nodes[n]), value, via, back: back === 1, from: null }));
{
  const latest = new Map();
  for (const copy of copies) {
    copy.from = latest.get(copy.identity + "/" + copy.way.slice(0, -1).join(">")) ?? null;
    latest.set(copy.identity + "/" + copy.way.join(">"), copy);
  }
}

// Times when something is as it should not be: nodes down or paused, links cut.
const endOfRun = Math.max(data.end, ...rows.slice(-1).map(row => row.end));
const lastStep = rows.reduce((most, row) => Math.max(most, row.endStep), 0) + 1;
const downs = [], cuts = [], phases = [];
{
  const down = new Map(), paused = new Map();
  let cut = null;
  const close = (open, node, row, what) => {
    const begun = open.get(node);
    if (begun) downs.push({ node, what, from: begun, to: row });
    open.delete(node);
  };
  const last = { start: endOfRun, step: lastStep };
  for (const row of rows) {
    if (row.kind === "node") {
      if (row.label === "crashed" || row.label === "stopped") { close(paused, row.source, row, "paused"); down.set(row.source, row); }
      else if (row.label === "started" || row.label === "restarted") close(down, row.source, row, "down");
      else if (row.label === "paused") paused.set(row.source, row);
      else if (row.label === "resumed") close(paused, row.source, row, "paused");
    } else if (row.kind === "network") {
      if (cut) cuts.push({ row: cut, from: cut, to: row });
      cut = row.label === "healed" ? null : row;
    } else if (row.kind === "phase") {
      if (phases.length) phases[phases.length - 1].to = row;
      phases.push({ name: row.label, from: row, to: last });
    }
  }
  for (const node of [...down.keys()]) close(down, node, last, "down");
  for (const node of [...paused.keys()]) close(paused, node, last, "paused");
  if (cut) cuts.push({ row: cut, from: cut, to: last });
}

const chain = new Set(data.violations.flatMap(violation => violation.chain));
const harm = new Set(data.violations.flatMap(violation => violation.harm));

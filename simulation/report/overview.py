"""Three pictures at the top of a report: who pulled from whom, where a record went, how logs grew.

They are inline SVG, made here, so that they are shown without scripts, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from math import cos, hypot, pi, sin
from typing import Final

from ourolog.simulation.checker import Violation
from ourolog.simulation.report.rows import Copy, Window
from ourolog.storage.types import NodeId

_MOST_HOPS: Final = 16
_PALETTE: Final = 8


def returned(window: Window) -> set[tuple[NodeId, NodeId]]:
    """The arrows along which copies travelled to nodes that had the record already."""
    if not window.multiplies:
        return set()
    return {(copy.path[-2], copy.path[-1]) for copy in window.copies if copy.came_back}


def headline(window: Window, *, has_failed: bool = False) -> tuple[str, str]:
    """("again", "neutral" or "good", one sentence): what happened to the records.

    has_failed: a claim was violated. Then only what was written is told, not what nodes hold: that is in question.
    """
    produced, stored, nodes = window.produced, window.stored, len(window.nodes)
    back = sum(copy.count for copy in window.copies if copy.came_back)
    if not produced:
        return "neutral", "No record was produced."
    records = "1 record was" if produced == 1 else f"{produced} records were"
    if has_failed:
        return "neutral", f"{records} produced, and {_copies(stored)} written to disk in all."
    if back and not window.multiplies:
        return "neutral", (
            f"{records} produced; {back} came back to a node that had lost them, and {_copies(stored)} written in all."
        )
    if back:
        return "again", (
            f"{records} produced, and {stored} are stored. {back} of them came back to a node that had them: "
            "every copy was copied again."
        )
    if stored == produced * nodes:
        who = window.nodes[0] if nodes == 1 else f"each of the {nodes} nodes"
        where = f"{who} holds {'it' if produced == 1 else 'them'} once"
        return "good", f"{records} produced, and {where}: {stored} in all."
    many = "1 node" if nodes == 1 else f"{nodes} nodes"
    return "neutral", f"{records} produced; {_copies(stored)} written to the disks of {many} in all."


def _copies(count: int) -> str:
    return "1 copy was" if count == 1 else f"{count} copies were"


# ---------------------------------------------------------------- the pull graph


def pull_graph(window: Window) -> str:
    """The nodes in a circle, an arrow for each pull, as records flow; yellow where copies came back."""
    size, radius, node_radius = 260, 88, 23
    centre = size / 2
    places = {}
    for number, node in enumerate(window.nodes):
        angle = 2 * pi * number / len(window.nodes) - (pi if len(window.nodes) == 2 else pi / 2)
        places[node] = (centre + radius * cos(angle), centre + radius * sin(angle))
    back = returned(window)
    parts = []
    for source, puller in window.pulls:
        if source not in places or puller not in places:
            continue
        (x1, y1), (x2, y2) = places[source], places[puller]
        length = hypot(x2 - x1, y2 - y1) or 1.0
        ux, uy = (x2 - x1) / length, (y2 - y1) / length
        bend = 26 if length < 2.2 * radius else 34
        mx, my = (x1 + x2) / 2 - uy * bend, (y1 + y2) / 2 + ux * bend
        ax, ay = _towards(x1, y1, mx, my, node_radius + 2)
        bx, by = _towards(x2, y2, mx, my, node_radius + 7)
        kind = "back" if (source, puller) in back else "flow"
        parts.append(
            f'<path class="{kind}" d="M{ax:.1f} {ay:.1f} Q{mx:.1f} {my:.1f} {bx:.1f} {by:.1f}" '
            f'marker-end="url(#head-{kind})"><title>{escape(puller)} pulls from {escape(source)}</title></path>'
        )
    totals = Counter[NodeId]()
    for copy in window.copies:
        totals[copy.node_id] += copy.count
    for number, (node, (x, y)) in enumerate(places.items()):
        parts.append(
            f'<circle class="n{number % _PALETTE}" cx="{x:.1f}" cy="{y:.1f}" r="{node_radius}"/>'
            f'<text class="name" x="{x:.1f}" y="{y - 1:.1f}">{escape(node)}</text>'
            f'<text class="sum" x="{x:.1f}" y="{y + 12:.1f}">{totals[node]}</text>'
        )
    return f'<svg class="graph" viewBox="0 0 {size} {size}" role="img" aria-label="pull graph">{"".join(parts)}</svg>'


def _towards(x: float, y: float, to_x: float, to_y: float, by: float) -> tuple[float, float]:
    length = hypot(to_x - x, to_y - y) or 1.0
    return x + (to_x - x) / length * by, y + (to_y - y) / length * by


# ---------------------------------------------------------------- one record's journey


def most_copied(window: Window, violations: Sequence[Violation] = ()) -> list[Copy]:
    """All appearances of one record: one that a violation is about, else the one with the most of them."""
    named = [copy for copy in window.copies if any(copy.record in violation.records for violation in violations)]
    counts = Counter(copy.identity for copy in named or window.copies)
    if not counts:
        return []
    identity = max(counts, key=lambda key: counts[key])
    return [copy for copy in window.copies if copy.identity == identity]


def journey(window: Window, copies: Sequence[Copy]) -> str:
    """A lane per node, a column per hop: where one record went, and how often each node has it."""
    cells = Counter[tuple[int, NodeId]]()
    offsets: dict[tuple[int, NodeId], int] = {}
    links = Counter[tuple[int, NodeId, NodeId]]()
    for copy in copies:
        hop = len(copy.way) - 1
        if hop > _MOST_HOPS:
            continue
        cells[hop, copy.node_id] += 1
        offsets.setdefault((hop, copy.node_id), copy.offset)
        if hop:
            links[hop, copy.way[-2], copy.node_id] += 1
    if not cells:
        return '<p class="empty">No record reached a disk in what was kept.</p>'
    hops = max(hop for hop, _ in cells)
    seen_at = {node: min((hop for hop, at in cells if at == node), default=0) for node in window.nodes}
    step = max(34.0, min(84.0, 640.0 / (hops + 1)))
    left, top, height = 48, 30, 44
    width = left + step * (hops + 1) + 10
    places = {node: top + number * height for number, node in enumerate(window.nodes)}
    parts = [
        f'<line class="rail" x1="{left - 8}" x2="{width:.0f}" y1="{y}" y2="{y}"/>'
        f'<text class="lane" x="{left - 16}" y="{y + 4}">{escape(node)}</text>'
        for node, y in places.items()
    ]
    for (hop, source, node), count in sorted(links.items()):
        if source not in places or node not in places:
            continue
        x1, x2 = left + (hop - 0.5) * step, left + (hop + 0.5) * step
        kind = "back" if window.multiplies and hop > seen_at[node] else "flow"
        ax, ay = _towards(x1, places[source], x2, places[node], 12)
        bx, by = _towards(x2, places[node], x1, places[source], 17)
        parts.append(
            f'<line class="{kind}" x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}" '
            f'marker-end="url(#head-{kind})">'
            f"<title>{escape(node)} copied it from {escape(source)}, {count}×</title></line>"
        )
    numbers = {node: number % _PALETTE for number, node in enumerate(window.nodes)}
    for (hop, node), count in sorted(cells.items()):
        x, y = left + (hop + 0.5) * step, places[node]
        is_back = window.multiplies and hop > seen_at[node]
        text = f"×{count}" if count > 1 else str(offsets[hop, node])
        title = f"{node}, {count} at hop {hop}" if count > 1 else f"{node}, offset {offsets[hop, node]}, hop {hop}"
        parts.append(
            f'<g><title>{escape(title)}</title><circle class="n{numbers[node]}{" again" if is_back else ""}" '
            f'cx="{x:.1f}" cy="{y}" r="12"/><text class="cell" x="{x:.1f}" y="{y + 4}">{text}</text></g>'
        )
    bottom = top + height * len(places)
    return (
        f'<svg class="journey" viewBox="0 0 {width:.0f} {bottom:.0f}" role="img" aria-label="journey of one record" '
        f'style="max-width:{width * 1.25:.0f}px">{"".join(parts)}</svg>'
    )


# ---------------------------------------------------------------- growth


def growth(window: Window) -> str:
    """Records produced and records stored, over virtual time."""
    width, height, left, bottom = 300, 190, 34, 22
    copies = sorted(window.copies, key=lambda copy: copy.step)
    first_s = copies[0].time_s if copies else 0.0
    begin_s = max(0.0, first_s - 0.05 * max(window.end_s - first_s, 0.1))
    span_s = max(window.end_s - begin_s, 1e-6)
    stored = produced = 0
    stored_at, produced_at = [(begin_s, 0)], [(begin_s, 0)]
    for copy in copies:
        stored += copy.count
        stored_at.append((copy.time_s, stored))
        if copy.is_original:
            produced += copy.count
            produced_at.append((copy.time_s, produced))
    most = max(stored, 1)

    def line(points: list[tuple[float, int]]) -> str:
        parts = []
        for number, (time_s, count) in enumerate([*points, (window.end_s, points[-1][1])]):
            x = left + (time_s - begin_s) / span_s * (width - left - 30)
            y = height - bottom - count / most * (height - bottom - 14)
            parts.append(f"M{x:.1f} {y:.1f}" if not number else f"H{x:.1f}V{y:.1f}")
        return "".join(parts)

    def end(count: int, name: str) -> str:
        y = height - bottom - count / most * (height - bottom - 14)
        return f'<text class="end {name}" x="{width - 26}" y="{y + 4:.1f}">{count}</text>'

    return (
        f'<svg class="growth" viewBox="0 0 {width} {height}" role="img" aria-label="records over time">'
        f'<line class="rail" x1="{left}" x2="{width - 30}" y1="{height - bottom}" y2="{height - bottom}"/>'
        f'<path class="stored" d="{line(stored_at)}"/><path class="produced" d="{line(produced_at)}"/>'
        f"{end(stored, 'stored')}{end(produced, 'produced') if produced != stored else ''}"
        f'<text class="tick" x="{left}" y="{height - 6}">{begin_s:.1f} s</text>'
        f'<text class="tick last" x="{width - 30}" y="{height - 6}">{window.end_s:.1f} s</text></svg>'
    )

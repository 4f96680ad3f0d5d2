"""The chart: how many times as good ours is as each peer, on a logarithmic axis, as an SVG for light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

from bench.report import number

_WIDTH: Final = 930
_LEFT: Final = 318
_RIGHT: Final = 664
_TOP: Final = 92
_ROW: Final = 20
_HEAD: Final = 34
_BAR: Final = 11
_STYLE: Final = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
  .title { font-size: 17px; font-weight: 600; }
  .peer { font-weight: 600; }
  .quiet { fill: #59636e; font-size: 11px; }
  .grid { stroke: #d1d9e0; stroke-width: 1; }
  .equal { stroke: #59636e; stroke-width: 1.5; }
  .better { fill: #1a7f37; stroke: #1a7f37; }
  .worse { fill: #bc4c00; stroke: #bc4c00; }
  .unlike { fill-opacity: 0.12; }
  .spread { stroke: #1f2328; stroke-width: 1; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .quiet { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    .equal { stroke: #9198a1; }
    .better { fill: #3fb950; stroke: #3fb950; }
    .worse { fill: #f0883e; stroke: #f0883e; }
    .spread { stroke: #e6edf3; }
  }
"""

# What is compared with a file, or with ourselves, is in the table.
_LEFT_OUT: Final = {"catchup", "growth"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One comparison, so that more is always better.

    peer: with whom, and how it was set.
    title: what was measured.
    median, least, most: how many times as good ours is.
    figures: ours and theirs, for a reader.
    is_like: whether both sync to disk before they acknowledge.
    """

    peer: str
    title: str
    median: float
    least: float
    most: float
    figures: str
    is_like: bool


def bars(run: Mapping[str, Any], us: str = "ourolog") -> list[Bar]:
    """Of a run's comparisons those that belong into the chart: with a peer, medians of what was measured."""
    peers = _settings(run)
    return [
        _bar(one, peers.get(one["peer"], one["peer"]))
        for session in run["sessions"]
        for one in session["comparisons"]
        if one["us"] == us and one["measure"] not in _LEFT_OUT and "p99" not in one["unit"] and one["peer"] != "against"
    ]


def _bar(one: Mapping[str, Any], peer: str) -> Bar:
    ratio = one["ratio"]
    unit = one["unit"].partition(" ")[0]
    least, median, most = ratio["min"], ratio["median"], ratio["max"]
    if unit == "µs":  # less is better
        least, median, most = 1 / most, 1 / median, 1 / least
    figures = f"{number(one['ours']['median'])} / {number(one['theirs']['median'])} {unit}"
    return Bar(peer, one["title"], median, least, most, figures, one["is_like"])


def _settings(run: Mapping[str, Any]) -> dict[str, str]:
    """The peers' names in comparisons, with version and settings."""
    found = {}
    for session in run["sessions"]:
        for each in session["contenders"]:
            for peer in {one["peer"] for one in session["comparisons"]}:
                if peer == each["label"] or peer.partition(",")[0] == each["label"]:
                    found[peer] = f"{peer} · {each['version']} · {each['settings']}"
    return found


def draw(run: Mapping[str, Any], us: str = "ourolog") -> str:
    """The SVG. Raises ValueError where there is nothing to draw."""
    groups = _by_peer(bars(run, us))
    if not groups:
        raise ValueError("the run has no comparison with a peer")
    axis = Axis.of([bar.median for group in groups.values() for bar in group])
    height = _TOP + sum(_HEAD + _ROW * len(group) for group in groups.values()) + 56
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">',
        f'<title id="title">{escape(us)} beside its peers: how many times as good, by measure</title>',
        f"<style>{_STYLE}</style>",
        *_heading(run, us),
    ]
    top = _TOP
    for peer, group in groups.items():
        lines.append(_text(16, top + 22, peer, "peer"))
        top += _HEAD
        for ratio in axis.ticks():
            at = axis.across(ratio)
            lines.append(_line(at, top - 3, at, top + _ROW * len(group), "equal" if ratio == 1 else "grid"))
        for bar in group:
            lines += _drawn(bar, top, axis)
            top += _ROW
    for ratio in axis.ticks():
        lines.append(_text(axis.across(ratio), top + 16, f"{ratio:g}x", "quiet", "middle"))
    lines += [_text(16, top + 36 + 14 * at, text, "quiet") for at, text in enumerate(_notes(run, us))]
    return "\n".join([*lines, "</svg>", ""])


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis from one power of ten to another, with 1 in it."""

    low: int
    high: int

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Axis:
        return cls(math.floor(math.log10(min(0.5, *ratios))), math.ceil(math.log10(max(2.0, *ratios))))

    def across(self, ratio: float) -> float:
        """Where a ratio is, from left to right; what lies beyond the axis is at its end."""
        share = (math.log10(ratio) - self.low) / (self.high - self.low)
        return _LEFT + min(1.0, max(0.0, share)) * (_RIGHT - _LEFT)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def _by_peer(all_bars: Sequence[Bar]) -> dict[str, list[Bar]]:
    groups: dict[str, list[Bar]] = {}
    for bar in all_bars:
        groups.setdefault(bar.peer, []).append(bar)
    return groups


def _heading(run: Mapping[str, Any], us: str) -> Iterable[str]:
    machine = run["machine"].partition(", Python")[0]
    yield _text(16, 28, f"{us} beside its peers", "title")
    yield _text(
        16, 48, "How many times as good ours is, on a logarithmic axis: to the right of 1 ours is ahead.", "quiet"
    )
    yield _text(
        16, 63, "Filled: both sync to disk before they answer. Pale: theirs by default, which syncs later.", "quiet"
    )
    about = f"Medians of {run['rounds']} rounds, lines from the least to the most; {run['date']}; {machine}."
    yield _text(16, 78, about, "quiet")
    yield _text(_RIGHT + 68, _TOP - 14, "ours / theirs", "quiet")


def _drawn(bar: Bar, top: float, axis: Axis) -> Iterable[str]:
    across = axis.across
    equal, end = across(1.0), across(bar.median)
    kind = f"{'better' if bar.median >= 1 else 'worse'}{'' if bar.is_like else ' unlike'}"
    middle = top + _ROW / 2
    yield _text(_LEFT - 10, middle + 4, bar.title, "", "end")
    yield (
        f'<rect class="{kind}" x="{min(equal, end):.1f}" y="{middle - _BAR / 2:.1f}" '
        f'width="{max(1.0, abs(end - equal)):.1f}" height="{_BAR}" rx="2"/>'
    )
    yield _line(across(bar.least), middle, across(bar.most), middle, "spread")
    yield _text(_RIGHT + 12, middle + 4, f"{_short(bar.median)}x")
    yield _text(_RIGHT + 68, middle + 4, bar.figures, "quiet")


def _short(ratio: float) -> str:
    """Two digits, or all before the point."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _notes(run: Mapping[str, Any], us: str) -> Sequence[str]:
    ours = next((each for session in run["sessions"] for each in session["contenders"] if each["label"] == us), None)
    notes = (
        [f"{us} {ours['version']}: {ours['settings']}. Records of 100 B where nothing else is said."] if ours else []
    )
    if run["skipped"]:
        notes.append(f"Not measured: {', '.join(run['skipped'])}.")
    return notes


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    words = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor != "start" else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{words}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'

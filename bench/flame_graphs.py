"""Flame graphs as SVG without a script: how much of a process's time was spent beneath which calls (Gregg, 2016).

Input is what samplers call folded stacks, one a line: `outermost;…;innermost COUNT`, each frame `name (file:line)`.
A box is as wide as its share of all samples; what it called stands on it. The text of a box is in its title, too,
which browsers show under the pointer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 1200
_ROW: Final = 17
_HEAD: Final = 46
_CHAR: Final = 6.3
_LEAST_SHARE: Final = 0.002

COLOURS: Final = {
    "storage": "#8fb8de",
    "actors": "#9ad0a5",
    "rpc": "#f2c879",
    "gRPC": "#e59a8f",
    "loop": "#c9b6e4",
    "other": "#cfcfcf",
}
"""What the colour of a box says: which room of the house its function is in, or which library."""

_STARTING: Final = ("<frozen", "ourolog/__main__", "ourolog/cli", "ourolog/commands", "click/", "threading.py")

_FRAME: Final = re.compile(r"(?P<name>.*?) \((?P<file>[^()]*?)(?::\d+)?\)$")


@dataclass(slots=True)
class Call:
    """A function, called by one path of callers.

    label: its name and file.
    samples: how many samples were in it, or in what it called.
    callees: what it called, by label.
    """

    label: str
    samples: int = 0
    callees: dict[str, Call] = field(default_factory=dict)


def label_of(frame: str) -> str:
    """A frame without its line and without the path of the machine it was sampled on; "" for one that says nothing."""
    found = _FRAME.match(frame)
    if found is None:
        return frame
    name, file = found["name"], found["file"]
    for root in ("site-packages/", "/lib/python3"):
        if root in file:
            file = file.rpartition(root)[2]
    file = file.lstrip("/")
    if file.endswith((".c", ".h")) or "libpython" in file:
        return ""  # the interpreter's own
    if file.startswith(_STARTING):
        return ""  # how a process begins
    if ".so" in file:
        file = file.rpartition("/")[2].partition(".")[0]
        if name.startswith("0x"):
            return "" if file == "libc" else f"compiled ({file})"
    return f"{name} ({file})"


def room_of(label: str, caller_room: str) -> str:
    """Which of COLOURS a box has: that of whoever calls it, if it is of no room itself."""
    file = label.rpartition("(")[2]
    if file.startswith("ourolog/"):
        room = file.split("/")[1]
        return room if room in COLOURS else "other"
    if "grpc" in file:
        return "gRPC"
    return "loop" if re.match(r"(lib/)?asyncio|uvloop|loop\b", file) else caller_room


def fold(stacks: Iterable[str], thread: str = "") -> Call:
    """The calls that these stacks show, as a tree; callers that all samples share are left out.

    thread: part of the name of the thread to look at, which is the outermost frame; "" for all.
    """
    root = Call("all")
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        outermost, *labels = frames.split(";")
        if thread not in outermost:
            continue
        root.samples += int(count)
        at = root
        for label in map(label_of, labels):
            if label in ("", at.label):  # a function that calls itself, and compiled code
                continue
            at = at.callees.setdefault(label, Call(label))
            at.samples += int(count)
    while len(root.callees) == 1:
        (only,) = root.callees.values()
        if only.samples < root.samples or not only.callees:
            break
        root = Call(root.label, root.samples, only.callees)
    return root


def render(root: Call, title: str) -> str:
    """The flame graph, an SVG document."""
    boxes: list[str] = []
    depth = _draw(root, "other", 0.0, WIDTH, 0, max(1, root.samples), boxes)
    height = _HEAD + (depth + 1) * _ROW + 8
    legend = "".join(
        f'<rect x="{10 + 90 * at}" y="26" width="11" height="11" fill="{colour}"/>'
        f'<text x="{25 + 90 * at}" y="36">{room}</text>'
        for at, (room, colour) in enumerate(COLOURS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="monospace" font-size="11">\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f'<text x="10" y="17" font-size="13">{escape(title)} ({root.samples} samples)</text>{legend}\n'
        + "\n".join(boxes)
        + "\n</svg>\n"
    )


def _draw(call: Call, caller_room: str, x: float, width: float, depth: int, total: int, boxes: list[str]) -> int:
    """Draw a call and what it called; returns how deep that goes."""
    share = call.samples / total
    if share < _LEAST_SHARE:
        return depth - 1
    y = _HEAD + depth * _ROW
    room = room_of(call.label, caller_room)
    shown = call.label[: max(0, int((width - 6) / _CHAR))] if width > 3 * _CHAR else ""
    boxes.append(
        f"<g><title>{escape(call.label)}: {share:.1%}</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{max(0.4, width - 0.4):.1f}" '
        f'height="{_ROW - 1}" fill="{COLOURS[room]}"/>'
        + (f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(shown)}</text>' if shown else "")
        + "</g>"
    )
    deepest = depth
    for callee in sorted(call.callees.values(), key=lambda each: -each.samples):
        callee_width = width * callee.samples / max(1, call.samples)
        deepest = max(deepest, _draw(callee, room, x, callee_width, depth + 1, total, boxes))
        x += callee_width
    return deepest


def shares(root: Call) -> dict[str, float]:
    """How much of the samples were in functions of each room, and not in what they called; 0 to 1, the most first."""
    own: dict[str, int] = {}

    def add(call: Call, caller_room: str) -> None:
        inner = sum(callee.samples for callee in call.callees.values())
        room = room_of(call.label, caller_room)
        own[room] = own.get(room, 0) + call.samples - inner
        for callee in call.callees.values():
            add(callee, room)

    add(root, "other")
    total = max(1, root.samples)
    return {room: count / total for room, count in sorted(own.items(), key=lambda item: -item[1]) if count}

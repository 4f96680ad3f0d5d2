"""What a run leaves in the repository: docs/peers.json, docs/peers.svg, and the table in README.md."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from bench.peers.chart import draw
from bench.report import number

BEGIN: Final = "<!-- peers:begin -->"
END: Final = "<!-- peers:end -->"
_HEADING: Final = "## Beside its peers"
_BEFORE: Final = "## License"


class PublishError(Exception):
    """A run that is not fit to be shown; the text says why."""


def publish(run: Mapping[str, Any], root: str) -> None:
    """Write all three. Raises PublishError for a quick look, and for a run that broke."""
    if run["quick"]:
        raise PublishError("a quick look is not published: its samples are too short")
    if run["broken"]:
        raise PublishError("a run that broke is not published")
    drawing = draw(run)
    readme = os.path.join(root, "README.md")
    with open(readme, encoding="utf-8") as file:
        text = with_table(file.read(), table(run))
    for name, content in (("peers.json", plain_json(run)), ("peers.svg", drawing)):
        with open(os.path.join(root, "docs", name), "w", encoding="utf-8") as file:
            file.write(content)
    with open(readme, "w", encoding="utf-8") as file:
        file.write(text)


def plain_json(run: Mapping[str, Any]) -> str:
    """The run, of what failed and was made again only how often: the texts name files and folders of this machine."""
    sessions = [
        {**session, "loads": [{**load, "failures": len(load["failures"])} for load in session["loads"]]}
        for session in run["sessions"]
    ]
    return json.dumps({**run, "sessions": sessions}, indent=1, ensure_ascii=False) + "\n"


def table(run: Mapping[str, Any], us: str = "ourolog") -> str:
    """What is like for like, as Markdown."""
    lines = [
        "![How many times as good ours is as each peer](docs/peers.svg)",
        "",
        _about(run),
        "",
        "| measure | peer | ours | theirs | | ours by theirs | wanted |",
        "| --- | --- | ---: | ---: | --- | ---: | --- |",
    ]
    for session in run["sessions"]:
        lines += [_row(one) for one in session["comparisons"] if one["us"] == us and one["is_like"]]
        for one in session["idle"]:
            if one["label"] == us and session["name"] == "ours":
                shares = ", ".join(f"{share:.1f} %" for share in one["percent"])
                lines.append(f"| idle cluster, processor time of each node | | {shares} | | | | {_wanted(one)} |")
    lines += [f"\n{peer} was not measured: {why}." for peer, why in run["skipped"].items()]
    return "\n".join(lines)


def _about(run: Mapping[str, Any]) -> str:
    return (
        f"Measured on {run['date']}, {run['machine']}: three nodes each but for Redis, fsync before each "
        "acknowledgement on both sides, 100 B where nothing else is said, loads in turns, medians of "
        f"{run['rounds']} rounds (least to most). "
        f"Other processes had {run['others']:.0%} of the processors' time meanwhile. "
        "[docs/benchmarks.md](docs/benchmarks.md#beside-peers) says how, and "
        "[docs/peers.json](docs/peers.json) has all of it."
    )


def _row(one: Mapping[str, Any]) -> str:
    ratio = one["ratio"]
    spread = f"**{number(ratio['median'])}** ({number(ratio['min'])} to {number(ratio['max'])})"
    return (
        f"| {one['title']} | {one['peer']} | {number(one['ours']['median'])} | {number(one['theirs']['median'])} "
        f"| {one['unit']} | {spread} | {_wanted(one)} |"
    )


def _wanted(one: Mapping[str, Any]) -> str:
    if "wanted" not in one:
        return ""
    text = one["wanted"]["text"] if isinstance(one["wanted"], dict) else one["wanted"]
    return f"{text}: {one['verdict'].lower()}"


def with_table(readme: str, text: str) -> str:
    """README.md with this between the markers; a section with markers is made where there is none yet."""
    if BEGIN not in readme or END not in readme:
        section = f"{_HEADING}\n\n{BEGIN}\n{END}\n\n"
        before, found, after = readme.partition(_BEFORE)
        readme = before + section + found + after if found else f"{readme.rstrip()}\n\n{section}"
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"

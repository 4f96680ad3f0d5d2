"""The fenced blocks of the pages that users read, and what a command printed held against what a page shows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.installed import ROOT

PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))


@dataclass(frozen=True)
class Block:
    """A fenced block. page: its path in the repository. line: of its fence. language: what follows the fence."""

    page: str
    line: int
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def name(self) -> str:
        """The page and the block's first line: what tells it from the others."""
        return f"{self.page}: {self.lines[0].strip()}"


def blocks_of(page: str) -> list[Block]:
    found = []
    text = (ROOT / page).read_text()
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        found.append(Block(page, text[: match.start()].count("\n") + 1, match[1], match[2]))
    return found


def block(name: str) -> Block:
    """The block of that name; see Block."""
    (found,) = (one for one in blocks_of(name.split(":")[0]) if one.name == name)
    return found


def transcript_of(text: str) -> list[tuple[str, str]]:
    """A terminal's lines as (command, what it printed); commands stand behind "$ "."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    assert parts[0] == "", "a transcript begins with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def assert_shown(shown: str, printed: str, *, in_order: bool = True) -> None:
    """What a page shows was printed, line by line.

    Any number stands for any other, and blanks for blanks. "…" at the end of a line stands for the rest of it; alone
    on a line, for any lines. in_order=False: lines of several nodes come in an order that nobody promises.
    """
    lines = printed.splitlines()
    at = 0
    may_skip = True
    for expected in shown.splitlines():
        if expected.strip() == "…":
            may_skip = True
            continue
        pattern = _pattern(expected)
        matching = [number for number in range(at if in_order else 0, len(lines)) if pattern.fullmatch(lines[number])]
        assert matching, f"{expected!r} was not printed after line {at}:\n{printed}"
        assert may_skip or not in_order or matching[0] == at, f"{expected!r} does not follow:\n{printed}"
        at = matching[0] + 1
        may_skip = False


def _pattern(shown: str) -> re.Pattern[str]:
    escaped = re.escape(shown.rstrip())
    escaped = re.sub(r"(\\ )+", r"\\s+", escaped)
    escaped = re.sub(r"(?<![A-Za-z\d])\d+", r"\\d+", escaped)  # the name n3 is no number
    return re.compile(escaped.removesuffix("…") + (".*" if escaped.endswith("…") else r"\s*"))

"""How `ourolog cycle` reports: chapters, pictures of who copies from whom, and claims that were seen or not."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from ourolog.live_view import coloured

Graph = Mapping[str, Sequence[str]]

_Key = tuple[tuple[str, tuple[str, ...]], ...]


def _star(leader: str, left: str, right: str) -> tuple[_Key, str]:
    graph = {leader: (), left: (leader,), right: (leader,)}
    return tuple(sorted(graph.items())), f"     {leader}\n    /  \\\n   v    v\n  {left}    {right}"


# Which way records flow: to whoever pulls. Keyed by the pull graph itself, so no picture is shown of
# what did not happen.
_PICTURES: dict[_Key, str] = {
    (("n1", ("n2",)), ("n2", ("n1",))): "n1 <-----> n2",
    (("n1", ("n2", "n3")), ("n2", ("n1", "n3")), ("n3", ("n1", "n2"))): (
        "     n1\n    ^  ^\n   /    \\\n  v      v\n n2 <--> n3"  #
    ),
    **dict([_star("n1", "n2", "n3"), _star("n2", "n1", "n3"), _star("n3", "n1", "n2")]),
}


def picture(graph: Graph) -> str:
    """A drawing of the pull graph (node to the nodes it pulls from), with arrows in the direction of records."""
    key = tuple((node, tuple(sorted(graph[node]))) for node in sorted(graph))
    fallback = "\n".join(f"{node} <- {', '.join(sources) or 'nobody'}" for node, sources in key)
    return _PICTURES.get(key, fallback)


class Narration:
    """Prints the report, and counts the claims. Readable without colours and without a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        encoding = (getattr(sys.stdout, "encoding", "") or "").lower().replace("-", "")
        self._seen_mark, self._missed_mark = ("✓", "✗") if encoding.startswith("utf") else ("[seen]", "[NOT SEEN]")
        self._started_s = time.monotonic()
        self.seen = 0
        self.missed = 0

    def chapter(self, number: int, title: str, flags: str) -> None:
        self.tell()
        self._print(Text(f"{number}. {title}", style="bold"))
        self._print(Text(f"   ourolog node {flags}", style="dim"))

    def tell(self, text: str = "") -> None:
        self._print(coloured(Text(f"   {text}".rstrip())))

    def draw(self, graph: Graph) -> None:
        self.tell()
        for line in picture(graph).splitlines():
            self.tell(f"      {line}")
        self.tell()

    def check(self, claim: str, seen: bool, evidence: str = "") -> None:
        """Print the claim with a mark, and what was seen."""
        if seen:
            self.seen += 1
        else:
            self.missed += 1
        mark, style = (self._seen_mark, "bold green") if seen else (self._missed_mark, "bold red")
        text = coloured(Text(f"   {mark} {claim}{f': {evidence}' if evidence else ''}"))
        text.stylize(style, 3, 3 + len(mark))
        self._print(text)

    def end(self) -> bool:
        """Print the last line. Returns whether there were claims, and all were seen."""
        took_s = time.monotonic() - self._started_s
        self.tell()
        self.tell(f"{self.seen} of {self.seen + self.missed} claims seen, in {took_s:.1f} s.")
        return self.missed == 0 and self.seen > 0

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True, markup=False)

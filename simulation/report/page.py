"""The page itself: one HTML file with its style, script, pictures and data inside, which loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

from ourolog.simulation.checker import Violation
from ourolog.simulation.report.causes import explain
from ourolog.simulation.report.leads import leaders
from ourolog.simulation.report.overview import growth, headline, journey, most_copied, pull_graph
from ourolog.simulation.report.rows import RowKind, Window

_SCRIPTS: Final = ("data.js", "view.js", "draw.js", "page.js")
_KINDS: Final = tuple(RowKind)


@dataclass(frozen=True, slots=True)
class Header:
    """What stands above the pictures.

    title: the page's title.
    replay: the command that runs the run again; "" if there is none.
    facts: name to value, in order.
    statements: claim to its sentence.
    note: what stands below the headline; "" for the title.
    """

    title: str
    replay: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    statements: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def render_report(window: Window, header: Header, violations: Sequence[Violation] = ()) -> str:
    """The whole page, as a function of its arguments: the same run makes the same bytes."""
    kind, sentence = headline(window, has_failed=bool(violations))
    journeyed = most_copied(window, violations)
    return Template(_part("page.html")).substitute(
        title=escape(header.title),
        style=_part("style.css"),
        script="\n".join(_part(name) for name in _SCRIPTS),
        verdict_kind="bad" if violations else "good",
        mark="✗" if violations else "✓",
        verdict=escape(_verdict(violations)),
        verdict_detail=escape(header.note or header.title),
        facts="".join(f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in header.facts.items()),
        violations="".join(_violation(violation, header) for violation in violations) or _replay_card(header),
        headline_kind=kind,
        headline=escape(sentence),
        journey=journey(window, journeyed),
        journey_of=escape(f"the record {journeyed[0].value}") if journeyed else "a record",
        graph=pull_graph(window),
        growth=growth(window),
        leaders=_leaders(window),
        data=_embedded(_data(window, violations)),
    )


def _part(name: str) -> str:
    return (files(__package__) / "page_parts" / name).read_text(encoding="utf-8")


def _verdict(violations: Sequence[Violation]) -> str:
    if not violations:
        return "No claim was violated"
    claims = sorted({violation.claim for violation in violations})
    return f"Violated: {', '.join(claims)}"


def _violation(violation: Violation, header: Header) -> str:
    statement = header.statements.get(violation.claim, "")
    replay = f'<code class="replay">{escape(header.replay)}</code>' if header.replay else ""
    return (
        f'<section class="violation"><h2>{escape(violation.claim)}</h2>'
        f'<p class="claim">{escape(statement)}</p>'
        f"<p>{escape(violation.detail)} <small>at {violation.time_s:.6f} virtual seconds</small></p>{replay}</section>"
    )


def _leaders(window: Window) -> str:
    picture = leaders(window)
    if not picture:
        return ""
    return (
        f'<figure class="across"><figcaption>Who led when</figcaption>{picture}<p class="legend">A bar is a time in '
        "which that node said it leads, with the term. A dot is a vote of that node, in the colour of the candidate; "
        "hollow: it was refused. Grey: the node is down.</p></figure>"
    )


def _replay_card(header: Header) -> str:
    return f'<p><code class="replay">{escape(header.replay)}</code></p>' if header.replay else ""


def _data(window: Window, violations: Sequence[Violation]) -> dict[str, Any]:
    """Rows as arrays, with lanes, labels and kinds by number: a page of 20,000 rows stays small."""
    lanes, labels = _Numbers(), _Numbers()
    nodes = {node: number for number, node in enumerate(window.nodes)}
    identities = _Numbers()
    rows = [
        [
            row.row_id,
            _KINDS.index(row.kind),
            round(row.start_s, 9),
            row.step,
            lanes.of(row.source),
            lanes.of(row.target),
            labels.of(row.label),
            row.detail,
            None if row.end_s is None else round(row.end_s, 9),
            row.end_step,
            row.end_detail,
            int(row.is_lost),
            row.cause,
            row.end_cause,
            row.outcome,
        ]
        for row in window.rows
    ]
    copies = [
        [
            round(copy.time_s, 9),
            copy.step,
            nodes[copy.node_id],
            copy.offset,
            identities.of("/".join(map(str, copy.identity))),
            [nodes[node] for node in copy.way if node in nodes],
            copy.value,
            copy.via,
            int(copy.came_back and window.multiplies),
        ]
        for copy in window.copies
        if copy.node_id in nodes
    ]
    explained = [(violation, explain(window, violation)) for violation in violations]
    return {
        "kinds": [kind.value for kind in _KINDS],
        "lanes": lanes.names,
        "labels": labels.names,
        "nodes": list(window.nodes),
        "clients": window.clients,
        "end": window.end_s,
        "dropped": window.dropped,
        "rows": rows,
        "copies": copies,
        "violations": [
            {
                "claim": violation.claim,
                "detail": violation.detail,
                "time": violation.time_s,
                "chain": explanation.chain,
                "harm": explanation.harm,
                "anchor": explanation.anchor,
            }
            for violation, explanation in explained
        ],
    }


def _embedded(data: object) -> str:
    """JSON that cannot end the script element that contains it, whatever a record's value is."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


class _Numbers:
    """Gives each name a number, in the order of asking."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = list(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def of(self, name: str) -> int:
        number = self._numbers.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return number

"""A report agrees with itself: what its verdict, its headline, its words and its colours say is one thing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from importlib.resources import files

import pytest

from ourolog.simulation import Cluster, Violation
from ourolog.simulation.checkers import ALL
from ourolog.simulation.report import Header, Recorder, render_report
from ourolog.simulation.report.rows import Window
from ourolog.simulation.run_claims import STATEMENTS

CLAIMS = {checker.name: checker.statement for checker in ALL.values()} | STATEMENTS
"""Every claim that a run can violate, with its sentence."""

RUNS: dict[str, dict[str, object]] = {
    "each node holds it": {"cycle": "break"},
    "one node": {"nodes": 1},
    "a leader": {"election": "static"},
    "copied again and again": {"nodes": 2, "cycle": "allow", "max_hops": 3},
}


def top_of(page: str) -> str:
    """The page down to the timeline: all that is there without a script."""
    return page[page.index("<header") : page.index('<section class="explorer"')]


def verdict_of(page: str) -> tuple[str, str, str]:
    """The class that colours the verdict, its mark and its words."""
    found = re.search(
        r'<header class="(\w+)">\s*<div class="verdict"><span class="mark">(.)</span><div><h1>(.*?)</h1>', page
    )
    assert found is not None
    return found.group(1), found.group(2), unescape(found.group(3))


def headline_of(page: str) -> tuple[str, str]:
    """The class that colours the headline, and its words."""
    found = re.search(r'<figcaption><b class="(\w+)">(.*?)</b>', page)
    assert found is not None
    return found.group(1), unescape(found.group(2))


@pytest.fixture(scope="module")
def windows() -> dict[str, Window]:
    def window(**settings: object) -> Window:
        recorder = Recorder()
        with Cluster(**{"seed": 1, "nodes": 3, **settings}, observers=(recorder,)) as cluster:  # type: ignore[arg-type]
            cluster.run_for(1.0)
            cluster.produce("n1", "foo")
            cluster.run_for(2.0)
        return recorder.window()

    return {name: window(**settings) for name, settings in RUNS.items()}


# ---------------------------------------------------------------- words


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_whatever_claim_is_violated_nothing_on_the_page_says_that_all_is_well(
    claim: str, windows: dict[str, Window]
) -> None:
    for window in windows.values():
        page = render_report(window, Header("A run", statements=CLAIMS), [Violation(claim, "it was not so", 2.0)])
        assert verdict_of(page) == ("bad", "✗", f"Violated: {claim}")
        top = unescape(top_of(page))
        sentence = f'<p class="claim">{CLAIMS[claim]}</p>'
        assert sentence in top
        kind, told = headline_of(page)
        assert kind == "neutral"
        assert "produced" in told
        for all_is_well in ("holds", "copied again", "No claim was violated", "✓", 'class="good"'):
            assert all_is_well not in top.replace(sentence, "")


@pytest.mark.parametrize(
    ("run", "kind", "words"),
    [
        ("each node holds it", "good", "each of the 3 nodes holds it once"),
        ("one node", "good", "n1 holds it once"),
        ("a leader", "good", "each of the 3 nodes holds it once"),
        ("copied again and again", "again", "every copy was copied again"),
    ],
)
def test_a_run_without_a_violation_is_told_as_one(run: str, kind: str, words: str, windows: dict[str, Window]) -> None:
    page = render_report(windows[run], Header("A run", statements=CLAIMS))
    assert verdict_of(page) == ("good", "✓", "No claim was violated")
    told, sentence = headline_of(page)
    assert told == kind
    assert words in sentence


def lose_records(recorder: Recorder, nodes: int, election: str) -> None:
    """All logs are gone when the nodes come back, and nobody was told of any fault."""
    with Cluster(seed=3, nodes=nodes, election=election, observers=(recorder,)) as cluster:
        cluster.run_for(1.0)
        for value in ("precious and rare", "another", "one more"):
            cluster.produce("n1", value)
        cluster.run_for(1.0)
        for name in cluster.names:
            cluster.crash(name)
            disk = cluster.durable(name)
            cluster.disks[name].load({path: content for path, content in disk.items() if "/log/" not in path})
        for name in cluster.names:
            cluster.restart(name)
        cluster.run_for(20.0)


@pytest.mark.parametrize(("nodes", "election"), [(1, "none"), (3, "none"), (3, "static")])
def test_the_page_of_a_lost_record_names_it_and_says_of_no_node_that_it_holds_it(nodes: int, election: str) -> None:
    recorder = Recorder()
    with pytest.raises(Violation) as raised:
        lose_records(recorder, nodes, election)
    lost = raised.value
    assert (lost.claim, lost.records, lost.nodes) == ("acknowledged_kept", (b"precious and rare",), ("n1",))
    page = render_report(recorder.window(), Header("A run", statements=CLAIMS), [lost])
    assert verdict_of(page)[2] == "Violated: acknowledged_kept"
    text = unescape(top_of(page))
    assert "n1 lost b'precious and rare'" in text
    assert "The way of the record “precious and rare”" in text
    assert "another" not in text
    assert "one more" not in text
    assert "holds" not in text
    assert headline_of(page)[0] == "neutral"


# ---------------------------------------------------------------- colours


def red_rules() -> Iterator[str]:
    """The selectors of the style that draw in the colour of violations."""
    style = (files("ourolog.simulation.report") / "page_parts" / "style.css").read_text(encoding="utf-8")
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", style):
        if "var(--bad" in body:
            yield from (selector.strip() for selector in selectors.split(","))


def is_in(selector: str, page: str) -> bool:
    """Whether something on the page may be drawn by that rule: every class, id and element that it names is there."""
    names = re.findall(r"([.#]?)([\w-]+)", re.sub(r":+[\w-]+|\[[^]]*\]", "", selector))
    patterns = {
        ".": r'class="[^"]*(?<![\w-]){}(?![\w-])',
        "#": r'<[^>]*(?<!\w)id="{}"(?![^>]* hidden)',
        "": r"<{}[\s>]",
    }
    return all(re.search(patterns[mark].format(re.escape(name)), page) for mark, name in names)


@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_drawn_in_red_where_no_claim_was_violated(run: str, windows: dict[str, Window]) -> None:
    clean = render_report(windows[run], Header("A run"))
    failed = render_report(windows[run], Header("A run"), [Violation("claim", "it was not so", 2.0)])
    clean, failed = (re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL) for page in (clean, failed))
    rules = set(red_rules())
    assert {rule for rule in rules if is_in(rule, clean)} == set()
    assert {"header.bad", ".violation", ".bad h1"} <= {rule for rule in rules if is_in(rule, failed)}


def test_the_growth_of_stored_records_is_not_red(recorded: Callable[..., Recorder]) -> None:
    assert 'class="stored"' in render_report(recorded().window(), Header("A run"))
    assert not [rule for rule in red_rules() if "stored" in rule or "growth" in rule]

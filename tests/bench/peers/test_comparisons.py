"""Which measures are chosen, what a ratio is judged by, and what two checkouts are compared in."""

from __future__ import annotations

import pytest

from bench.peers.comparisons import P50, RATE, Comparison, Entry, Wanted, between_versions, chosen
from bench.peers.samples import Load


def entry(name: str) -> Entry:
    return Entry.one(Load(name, list, list))


def comparison(measure: str, us: str = "ourolog") -> Comparison:
    return Comparison(measure, measure, us, "etcd", entry(f"{us}: {measure}"), entry("etcd: Put"), RATE)


@pytest.mark.parametrize(
    ("wanted", "ratio", "verdict"),
    [
        (Wanted(0.45, 0.6), 0.44, "NOT REACHED"),
        (Wanted(0.45, 0.6), 0.45, "reached"),
        (Wanted(0.45, 0.6), 0.6, "aim reached"),
        (Wanted(1.6, 1.2, at_most=True), 1.61, "NOT REACHED"),
        (Wanted(1.6, 1.2, at_most=True), 1.6, "reached"),
        (Wanted(1.6, 1.2, at_most=True), 1.0, "aim reached"),
        (Wanted(1.1, at_most=True), 1.0, "reached"),
    ],
)
def test_a_ratio_is_judged_by_its_limit_and_its_aim(wanted: Wanted, ratio: float, verdict: str) -> None:
    assert wanted.verdict(ratio) == verdict


def test_a_limit_says_on_which_side_of_it_is_well() -> None:
    assert str(Wanted(1.6, 1.2, at_most=True)) == "<= 1.6 (aim 1.2)"
    assert str(Wanted(3, 5)) == ">= 3 (aim 5)"


def test_a_name_chooses_all_measures_that_begin_with_it() -> None:
    known = [comparison(name) for name in ("unary", "calls64", "client64", "client1000")]
    assert [one.measure for one in chosen(known, ["unary", "client"])] == ["unary", "client64", "client1000"]
    assert chosen(known, []) == known


def test_two_checkouts_are_compared_once_for_each_of_our_loads_and_figures() -> None:
    first, second = ([comparison("unary", us), comparison("unary", us)] for us in ("ourolog", "against"))
    found = between_versions(first, second, "against")
    assert [(one.us, one.peer, one.ours.name, one.theirs.name) for one in found] == [
        ("ourolog", "against", "ourolog: unary", "against: unary")
    ]


def test_percentiles_and_rates_of_one_load_are_two_comparisons() -> None:
    def two(us: str) -> list[Comparison]:
        one = comparison("unary", us)
        return [one, Comparison("unary", "p50", us, "etcd", one.ours, one.theirs, P50)]

    assert len(between_versions(two("ourolog"), two("against"), "against")) == 2

"""In which order loads take turns, which candidate is taken, and what becomes of samples that fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from bench.peers import turns
from bench.peers.comparisons import RATE, Comparison, Entry
from bench.peers.samples import Load, Sample, SampleError, Span
from bench.peers.turns import take_turns

SPAN = Span(0, 1, 1)


@dataclass
class Loads:
    """Loads whose samples are made up.

    rates: of each load, by name.
    failing: how many samples of a load fail first.
    taken: the names of the loads, in the order in which they were sampled.
    """

    rates: dict[str, int]
    failing: dict[str, int] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)

    def sample(self, load: Load, span: Span) -> Sample:
        self.taken.append(load.name)
        if self.failing.get(load.name, 0):
            self.failing[load.name] -= 1
            raise SampleError("no leader")
        return Sample(self.rates[load.name], span.seconds, 0, 0, 0.1, 0.1, 0)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loads]:
    def make(**rates: int) -> Loads:
        loads = Loads(rates)

        def sample(load: Load, span: Span) -> Sample:
            return loads.sample(load, span)

        monkeypatch.setattr(Load, "sample", sample)
        monkeypatch.setattr(turns, "_REST_S", 0)
        monkeypatch.setattr(turns.os, "sync", lambda: None)
        return loads

    return make


def entry(*names: str) -> Entry:
    return Entry("/".join(names), tuple(Load(name, list, list) for name in names))


def compare(measure: str, ours: Entry, theirs: Entry) -> Comparison:
    return Comparison(measure, measure, "ourolog", "etcd", ours, theirs, RATE)


def silent(_: str) -> None:
    pass


def test_the_order_is_turned_round_from_round_to_round(made_up: Callable[..., Loads]) -> None:
    loads = made_up(a=1, b=1)
    take_turns([compare("unary", entry("a"), entry("b"))], 2, SPAN, silent)
    assert loads.taken == ["a", "b", *("a", "b"), *("b", "a")]


def test_an_entry_of_two_comparisons_takes_one_turn_a_round(made_up: Callable[..., Loads]) -> None:
    loads = made_up(a=1, b=1, c=1)
    both = [compare("unary", entry("a"), entry("b")), compare("calls", entry("c"), entry("b"))]
    series = take_turns(both, 3, SPAN, silent)
    assert {name: len(one.samples) for name, one in series.items()} == {"a": 3, "b": 3, "c": 3}
    assert loads.taken.count("b") == 4


def test_of_several_loads_the_one_with_the_highest_rate_is_measured(made_up: Callable[..., Loads]) -> None:
    loads = made_up(a=1, slow=5, fast=7)
    series = take_turns([compare("calls", entry("a"), entry("slow", "fast"))], 2, SPAN, silent)["slow/fast"]
    assert series.load.name == "fast"
    assert series.tried == {"slow": 5.0, "fast": 7.0}
    assert loads.taken.count("slow") == 1


def test_a_sample_that_fails_is_made_again_and_noted(made_up: Callable[..., Loads]) -> None:
    loads = made_up(a=1, b=1)
    loads.failing["b"] = 2
    series = take_turns([compare("unary", entry("a"), entry("b"))], 1, SPAN, silent)
    assert series["b"].failures == ["b: no leader", "b: no leader"]
    assert len(series["b"].samples) == 1


def test_a_load_that_goes_on_failing_ends_the_session(made_up: Callable[..., Loads]) -> None:
    loads = made_up(a=1, b=1)
    loads.failing["b"] = 9
    with pytest.raises(SampleError, match="no leader"):
        take_turns([compare("unary", entry("a"), entry("b"))], 1, SPAN, silent)

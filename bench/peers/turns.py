"""Rounds in which loads take turns, so that what is compared shares whatever else the machine does.

Within a round the entries of a measure follow each other, in one order in even rounds and in the other in odd ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from bench.peers.comparisons import Comparison, Entry
from bench.peers.samples import Sample, Sampled, SampleError, Span

_TRIES: Final = 3
_REST_S: Final = 0.2


@dataclass(slots=True)
class Series:
    """The samples of one entry, one a round.

    load: which of the candidates was taken.
    samples: of it.
    tried: the rates of the candidates where there were several, by name.
    failures: what samples failed with that were made again.
    empty_rate: records/s that the same generator reaches where an empty handler answers, 0 if that was not tried.
    """

    load: Sampled
    samples: list[Sample] = field(default_factory=list)
    tried: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    empty_rate: float = 0.0


def take_turns(
    comparisons: Sequence[Comparison], rounds: int, span: Span, say: Callable[[str], None]
) -> dict[str, Series]:
    """Series by the entries' names."""
    series: dict[str, Series] = {}
    measures = [(name, _entries(group)) for name, group in groupby(comparisons, lambda one: one.measure)]
    for name, entries in measures:
        for entry in entries:
            if entry.name not in series:
                say(f"{name}: first a try of {entry.name}")
                series[entry.name] = _best_of(entry, span)
    for number in range(rounds):
        sampled: set[str] = set()
        for name, entries in measures:
            for entry in entries if number % 2 == 0 else reversed(entries):
                if entry.name not in sampled:
                    sampled.add(entry.name)
                    say(f"{name}, round {number + 1} of {rounds}: {series[entry.name].load.name}")
                    one = series[entry.name]
                    one.samples.append(_sample(one.load, span, one.failures))
    return series


def _entries(comparisons: Iterable[Comparison]) -> list[Entry]:
    found: dict[str, Entry] = {}
    for one in comparisons:
        found.setdefault(one.ours.name, one.ours)
        found.setdefault(one.theirs.name, one.theirs)
    return list(found.values())


def _best_of(entry: Entry, span: Span) -> Series:
    """The candidate with the highest rate in one sample each; that is a warm-up of each, too."""
    failures: list[str] = []
    rates = {load: _sample(load, span, failures).rate for load in entry.candidates}
    best = max(rates, key=lambda load: rates[load])
    tried = {load.name: rate for load, rate in rates.items()} if len(rates) > 1 else {}
    return Series(best, tried=tried, failures=failures)


def _sample(load: Sampled, span: Span, failures: list[str]) -> Sample:
    """One sample; what fails, for instance since another node leads now, is tried again, and noted."""
    for left in reversed(range(_TRIES)):
        # What earlier loads left in the page cache is written now, and not in the time of this one.
        os.sync()
        time.sleep(_REST_S)
        try:
            return load.sample(span)
        except SampleError as error:
            failures.append(f"{load.name}: {error}")
            if not left:
                raise
    raise AssertionError("unreachable")

"""What is compared with what, and what is wanted of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.peers.samples import Sample, Sampled


@dataclass(frozen=True, slots=True)
class Figure:
    """What is read off a sample.

    unit: of it.
    of: the figure of one sample.
    """

    unit: str
    of: Callable[[Sample], float]


RATE: Final = Figure("records/s", lambda sample: sample.rate)
MEGABYTES: Final = Figure("MB/s", lambda sample: sample.rate / 1e6)
SERVERS_US: Final = Figure("µs of servers", lambda sample: sample.servers_us)
P50: Final = Figure("µs (p50)", lambda sample: sample.p50_us)
P99: Final = Figure("µs (p99)", lambda sample: sample.p99_us)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a ratio has to be.

    limit: the least that will do.
    aim: what is hoped for, None if there is nothing better than the limit.
    at_most: whether less is better, and `limit` is the most that will do.
    """

    limit: float
    aim: float | None = None
    at_most: bool = False

    def verdict(self, ratio: float) -> str:
        def reaches(bound: float) -> bool:
            return ratio <= bound if self.at_most else ratio >= bound

        if not reaches(self.limit):
            return "NOT REACHED"
        return "aim reached" if self.aim is not None and reaches(self.aim) else "reached"

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{sign} {self.limit:g}" + (f" (aim {self.aim:g})" if self.aim is not None else "")


@dataclass(frozen=True, slots=True)
class Entry:
    """What takes one turn in each round: a load, or the best of several, which is found before the rounds.

    name: by which its samples are kept; the same entry in two comparisons takes one turn.
    candidates: one load, or those of which the one with the highest rate is taken.
    """

    name: str
    candidates: tuple[Sampled, ...]

    @classmethod
    def one(cls, load: Sampled) -> Entry:
        return cls(load.name, (load,))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One ratio: ours by theirs.

    measure: the name by which --measures chooses it.
    title: what is measured, for a reader.
    us: which of our clusters this is.
    peer: whom it is compared with.
    ours: what takes our turn.
    theirs: what takes the other one.
    figure: of which the ratio is taken.
    wanted: None where nothing is asked for.
    is_like: whether both keep what they acknowledge equally safe; else theirs is as it comes, and syncs later.
    """

    measure: str
    title: str
    us: str
    peer: str
    ours: Entry
    theirs: Entry
    figure: Figure
    wanted: Wanted | None = None
    is_like: bool = True


def marked(comparisons: Sequence[Comparison], *, is_like: bool) -> list[Comparison]:
    """Copies that are said to be like for like, or not; consuming syncs nothing, and always is."""
    return [replace(one, is_like=is_like or one.measure == "consume") for one in comparisons]


def chosen(comparisons: Sequence[Comparison], measures: Sequence[str]) -> list[Comparison]:
    """Those of these measures; a name stands for all measures that begin with it, none for all."""
    return [one for one in comparisons if is_chosen(one.measure, measures)]


def is_chosen(measure: str, measures: Sequence[str]) -> bool:
    return not measures or any(measure.startswith(name) for name in measures)


def between_versions(first: Sequence[Comparison], second: Sequence[Comparison], label: str) -> list[Comparison]:
    """Our loads in one list of comparisons against the same loads of another checkout, in a list made alike.

    label: of the other checkout.
    """
    found: dict[tuple[str, str, str], Comparison] = {}
    for ours, theirs in zip(first, second, strict=True):
        if ours.ours.name != theirs.ours.name:
            key = (ours.measure, ours.ours.name, ours.figure.unit)
            found.setdefault(
                key, Comparison(ours.measure, ours.title, ours.us, label, ours.ours, theirs.ours, ours.figure)
            )
    return list(found.values())

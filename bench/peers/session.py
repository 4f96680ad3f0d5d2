"""One session: clusters of ours and of a peer run, and nothing else, while their loads take turns."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

from bench.peers.binaries import ROOT, load_generator
from bench.peers.clusters.ours import Ours
from bench.peers.comparisons import Comparison, between_versions, chosen, is_chosen
from bench.peers.idle import idle_percent
from bench.peers.samples import Load, Span
from bench.peers.servers import Server, free_ports, is_open, running, wait_until
from bench.peers.turns import Series, take_turns

OURS: Final = "ourolog"
AGAINST: Final = "against"
IDLE: Final = "idle"


@dataclass(frozen=True, slots=True)
class Settings:
    """How, and how much, is measured.

    directory: where data goes while it lasts, on a real disk.
    rounds: how often each load takes its turn.
    span: of one sample.
    fill_bytes: values in a log that is consumed.
    warm_up_s: for how long a JVM runs its load before anything is measured.
    idle_s: how long idle clusters are watched.
    copied_bytes: values in a log that an empty replica copies.
    few, many: records in the two logs on which the cost of a record is measured.
    measures: beginnings of the names of those wanted, none for all.
    against: another checkout of ours that is measured beside this one, "" for none.
    say: told what is being done.
    """

    directory: str
    rounds: int
    span: Span
    fill_bytes: int
    warm_up_s: float
    idle_s: float
    copied_bytes: int
    few: int
    many: int
    measures: tuple[str, ...]
    against: str
    say: Callable[[str], None]

    def wants(self, measure: str) -> bool:
        return is_chosen(measure, self.measures)


class Contender(Protocol):
    """A cluster that is measured."""

    label: str
    version: str
    settings: str

    @property
    def servers(self) -> Sequence[Server]: ...


@dataclass(slots=True)
class Outcome:
    """What a session has found.

    name: of the session.
    comparisons: in the order of the measures.
    series: of the entries that are compared, by name.
    contenders: label, version, settings and the highest resident memory of each process, in MiB.
    idle: processor time of each process while nothing is asked, in % of one processor, by label.
    """

    name: str
    comparisons: list[Comparison] = field(default_factory=list)
    series: dict[str, Series] = field(default_factory=dict)
    contenders: list[tuple[str, str, str, list[float]]] = field(default_factory=list)
    idle: Mapping[str, Sequence[float]] = field(default_factory=dict)


def our_clusters(settings: Settings, name: str, stack: contextlib.ExitStack) -> list[Ours]:
    """Our cluster, and beside it that of the other checkout, if there is one; the stack stops them."""
    checkouts = {OURS: ROOT, **({AGAINST: settings.against} if settings.against else {})}
    return [
        stack.enter_context(Ours(label, checkout, os.path.join(settings.directory, f"{name}-{label}")).started())
        for label, checkout in checkouts.items()
    ]


def measured(
    name: str,
    settings: Settings,
    ours: Sequence[Ours],
    peers: Sequence[Contender],
    against: Callable[[Ours], list[Comparison]],
) -> Outcome:
    """Rounds of all comparisons that are wanted.

    against: makes those of one of our clusters with the peers.
    """
    lists = [against(us) for us in ours]
    comparisons = [one for each in lists for one in each]
    if all(lists[1:]) and len(lists) > 1:
        comparisons += between_versions(lists[0], lists[1], AGAINST)
    # Those of one measure stand together, in the order in which the measures are first named.
    order = {one.measure: at for at, one in reversed(list(enumerate(comparisons)))}
    comparisons = sorted(chosen(comparisons, settings.measures), key=lambda one: order[one.measure])
    found = Outcome(name, comparisons)
    found.series = take_turns(comparisons, settings.rounds, settings.span, settings.say)
    _try_generators(found, settings, ours[0])
    everybody: list[Contender] = [*ours, *peers]
    if settings.wants(IDLE):
        settings.say(f"idle for {settings.idle_s:g} s")
        pids = {each.label: [server.pid for server in each.servers] for each in everybody}
        found.idle = idle_percent(pids, settings.idle_s)
    found.contenders = [
        (each.label, each.version, each.settings, [server.peak_mib() for server in each.servers]) for each in everybody
    ]
    return found


def _try_generators(found: Outcome, settings: Settings, ours: Ours) -> None:
    """What the generators of our loads reach where nothing is done: proof that they could have sent more."""
    loads = [
        (one, one.load, one.load.to_empty)
        for one in found.series.values()
        if isinstance(one.load, Load) and one.load.to_empty is not None and one.load.pids == ours.pids
    ]
    if not loads:
        return
    addr = f"127.0.0.1:{free_ports(1)[0]}"
    words = [load_generator(settings.say).path, "-addr", addr, "ours", "empty"]
    server = Server("the empty handler", words, os.path.join(settings.directory, "empty.log"))
    with running([server]):
        wait_until(lambda: is_open(addr), "empty handler", [server])
        for series, load, to_empty in loads:
            settings.say(f"the generator against an empty handler: {load.name}")
            series.empty_rate = replace(load, command=partial(to_empty, addr)).sample(settings.span).rate

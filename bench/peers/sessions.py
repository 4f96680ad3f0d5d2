"""One session for each peer: its cluster and ours run, and nothing else, while their loads take turns."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from bench.peers import etcd
from bench.peers.binaries import ROOT, load_generator
from bench.peers.comparisons import P50, P99, RATE, Comparison, Entry, Wanted, between_versions, chosen
from bench.peers.ours import Ours
from bench.peers.samples import Span
from bench.peers.servers import Server, free_ports, is_open, running, wait_until
from bench.peers.turns import Series, take_turns

OURS = "ourolog"
AGAINST = "against"


@dataclass(frozen=True, slots=True)
class Settings:
    """How, and how much, is measured.

    directory: where data goes while it lasts, on a real disk.
    rounds: how often each load takes its turn.
    span: of one sample.
    measures: beginnings of the names of those wanted, none for all.
    against: another checkout of ours that is measured beside this one, "" for none.
    client_loop: the event loop of LogClient's program.
    say: told what is being done.
    """

    directory: str
    rounds: int
    span: Span
    measures: tuple[str, ...]
    against: str
    client_loop: str
    say: Callable[[str], None]


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
    contenders: label, version, settings and the highest resident memory of each process, in MiB.
    """

    name: str
    comparisons: list[Comparison] = field(default_factory=list)
    series: dict[str, Series] = field(default_factory=dict)
    contenders: list[tuple[str, str, str, list[float]]] = field(default_factory=list)


def with_etcd(settings: Settings) -> Outcome:
    """Single records. Raises MissingError."""
    generator = load_generator(settings.say).path
    built = etcd.program(settings.say)
    with contextlib.ExitStack() as stack:
        ours = _ours(settings, "etcd", stack)
        peer = stack.enter_context(etcd.Etcd(built, os.path.join(settings.directory, "etcd")).started())
        put = {number: Entry.one(peer.put(generator, number)) for number in (1, 64)}
        best = Entry(
            "etcd: Put, at its best",
            tuple(
                peer.put(generator, in_flight, connections)
                for in_flight in (64, 256, 1_000, 2_000)
                for connections in (1, 8)
            ),
        )

        def against(us: Ours) -> list[Comparison]:
            one, many = (Entry.one(us.produce(generator, number)) for number in (1, 64))
            tasks, more_tasks = (Entry.one(us.client(number, settings.client_loop)) for number in (64, 1_000))
            pair = (us.label, "etcd")
            single = "gRPC unary from Go, one at a time, 100 B"
            calls = "gRPC unary from Go, 64 in flight, 100 B"
            return [
                Comparison("unary", f"{single}: p50", *pair, one, put[1], P50, Wanted(1.6, 1.2, at_most=True)),
                Comparison("unary", f"{single}: p99", *pair, one, put[1], P99),
                Comparison("calls64", calls, *pair, many, put[64], RATE, Wanted(0.45, 0.6)),
                Comparison("calls64", f"{calls}, against its best", *pair, many, best, RATE),
                Comparison(
                    "client64", "LogClient.produce(), 64 tasks, 100 B", *pair, tasks, put[64], RATE, Wanted(3, 5)
                ),
                Comparison(
                    "client1000",
                    "LogClient.produce(), 1,000 tasks, 100 B, against its best",
                    *pair,
                    more_tasks,
                    best,
                    RATE,
                    Wanted(10, 18),
                ),
            ]

        return _measured("etcd", settings, ours, [peer], against)


SESSIONS = {"etcd": with_etcd}


def _ours(settings: Settings, name: str, stack: contextlib.ExitStack) -> list[Ours]:
    """Our cluster, and beside it that of the other checkout, if there is one."""
    checkouts = {OURS: ROOT, **({AGAINST: settings.against} if settings.against else {})}
    return [
        stack.enter_context(Ours(label, checkout, os.path.join(settings.directory, f"{name}-{label}")).started())
        for label, checkout in checkouts.items()
    ]


def _measured(
    name: str,
    settings: Settings,
    ours: Sequence[Ours],
    peers: Sequence[Contender],
    against: Callable[[Ours], list[Comparison]],
) -> Outcome:
    lists = [against(us) for us in ours]
    comparisons = [one for each in lists for one in each]
    if len(lists) > 1:
        comparisons += between_versions(lists[0], lists[1], AGAINST)
    # Those of one measure stand together, in the order in which the measures are first named.
    order = {one.measure: at for at, one in reversed(list(enumerate(comparisons)))}
    comparisons = sorted(chosen(comparisons, settings.measures), key=lambda one: order[one.measure])
    found = Outcome(name, comparisons)
    found.series = take_turns(comparisons, settings.rounds, settings.span, settings.say)
    _try_generators(found, settings, ours[0])
    found.contenders = [
        (each.label, each.version, each.settings, [server.peak_mib() for server in each.servers])
        for each in (*ours, *peers)
    ]
    return found


def _try_generators(found: Outcome, settings: Settings, ours: Ours) -> None:
    """What the generators of our loads reach where nothing is done: proof that they could have sent more."""
    loads = [one for one in found.series.values() if one.load.to_empty is not None and one.load.pids == ours.pids]
    if not loads:
        return
    addr = f"127.0.0.1:{free_ports(1)[0]}"
    words = [load_generator(settings.say).path, "-addr", addr, "ours", "empty"]
    server = Server("the empty handler", words, os.path.join(settings.directory, "empty.log"))
    with running([server]):
        wait_until(lambda: is_open(addr), "empty handler", [server])
        for one in loads:
            assert one.load.to_empty is not None
            settings.say(f"the generator against an empty handler: {one.load.name}")
            one.empty_rate = replace(one.load, command=partial(one.load.to_empty, addr)).sample(settings.span).rate

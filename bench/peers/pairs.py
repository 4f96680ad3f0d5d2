"""The sessions: with whom we are compared, in what, and what is wanted of each ratio."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from itertools import count
from typing import Final

from bench.peers.binaries import MissingError, load_generator
from bench.peers.catch_up import catch_up
from bench.peers.clusters import etcd, kafka, nats, redis
from bench.peers.clusters.ours import Ours
from bench.peers.comparisons import P50, P99, RATE, Comparison, Entry, Figure, Wanted, marked
from bench.peers.growth import growth
from bench.peers.samples import Load, Span
from bench.peers.session import AGAINST, OURS, Outcome, Settings, measured, our_clusters

SIZES: Final = (100, 1_000, 10_000)
KIB: Final = 1_024
_SINGLE: Final = "unary from Go, one at a time"
_CALLS: Final = "unary from Go, 64 in flight"
_CLIENT: Final = "LogClient.produce(), {} tasks"
_BATCHES: Final = "bulk, batches of {:,}"
_FILLED_WITHIN_S: Final = 60.0


def with_etcd(settings: Settings) -> Outcome:
    """Single records. Raises MissingError."""
    generator = load_generator(settings.say).path
    built = etcd.program(settings.say)
    with contextlib.ExitStack() as stack:
        ours = our_clusters(settings, "etcd", stack)
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
            pair = (us.label, peer.label)
            return [
                Comparison("unary", f"{_SINGLE}: p50", *pair, one, put[1], P50, Wanted(1.6, 1.2, at_most=True)),
                Comparison("unary", f"{_SINGLE}: p99", *pair, one, put[1], P99),
                Comparison("calls64", _CALLS, *pair, many, put[64], RATE, Wanted(0.45, 0.6)),
                Comparison("callsbest", f"{_CALLS}, etcd at its best", *pair, many, best, RATE),
                Comparison(
                    "client64", _CLIENT.format(64), *pair, Entry.one(us.client(64)), put[64], RATE, Wanted(3, 5)
                ),
                *(
                    Comparison(
                        "client1000",
                        f"{_CLIENT.format('1,000')} on {loop}, etcd at its best",
                        *pair,
                        Entry.one(us.client(1_000, loop)),
                        best,
                        RATE,
                        Wanted(10, 18),
                    )
                    for loop in ("asyncio", "uvloop")
                ),
            ]

        return measured("etcd", settings, ours, [peer], against)


def with_nats(settings: Settings) -> Outcome:
    """Single records, bulk, and consuming. Raises MissingError."""
    generator = load_generator(settings.say).path
    built = nats.program(settings.say)
    with contextlib.ExitStack() as stack:
        ours = our_clusters(settings, "nats", stack)
        peers = [
            stack.enter_context(nats.Nats(built, generator, directory, is_synced=is_synced).started())
            for is_synced, directory in (
                (True, os.path.join(settings.directory, "nats-synced")),
                (False, os.path.join(settings.directory, "nats-default")),
            )
        ]
        if settings.wants("consume"):
            for us in ours:
                us.fill(generator, settings.fill_bytes)
            for peer in peers:
                settings.say(f"filling a stream of {peer.label} that is consumed")
                _fill(peer.filling(), settings.fill_bytes)

        def bulk(peer: nats.Nats, size: int) -> Entry:
            return Entry(
                f"{peer.label}: bulk, {size:,} B",
                (
                    *(peer.publish_async(pending, size) for pending in (1_024, 4_096, 16_384)),
                    *(peer.publish_atomic(records, 8, size) for records in (100, 1_000)),
                ),
            )

        def against(us: Ours) -> list[Comparison]:
            return [one for peer in peers for one in marked(with_one(us, peer), is_like=peer.is_synced)]

        def with_one(us: Ours, peer: nats.Nats) -> list[Comparison]:
            pair = (us.label, peer.label)
            wanted: Mapping[str, Wanted] = _NATS if peer.is_synced else {"consume": _NATS["consume"]}
            one, many = (Entry.one(us.produce(generator, number)) for number in (1, 64))
            callers = Entry(f"{peer.label}: 64 in flight", (peer.publish(64), peer.publish_async(64)))
            consumers = tuple(peer.consume(number) for number in (500, 5_000, 20_000))
            return [
                Comparison("unary", f"{_SINGLE}: p50", *pair, one, Entry.one(peer.publish(1)), P50),
                Comparison("calls64", _CALLS, *pair, many, callers, RATE),
                *(
                    Comparison(
                        f"bulk{records}",
                        _BATCHES.format(records),
                        *pair,
                        Entry.one(us.batches(generator, records, 100)),
                        bulk(peer, 100),
                        RATE,
                        wanted.get(f"bulk{records}"),
                    )
                    for records in SIZES
                ),
                Comparison(
                    "kib",
                    "bulk, 1 KiB, batches of 1,000",
                    *pair,
                    Entry.one(us.batches(generator, 1_000, KIB)),
                    bulk(peer, KIB),
                    RATE,
                    wanted.get("kib"),
                ),
                Comparison(
                    "consume",
                    "bulk consume from a follower",
                    *pair,
                    Entry.one(us.consume(generator)),
                    Entry(f"{peer.label}: consume", consumers),
                    RATE,
                    wanted.get("consume"),
                ),
            ]

        return measured("nats", settings, ours, peers, against)


_NATS: Final = {
    "bulk100": Wanted(6, 10),
    "bulk1000": Wanted(12, 16),
    "bulk10000": Wanted(16, 22),
    "kib": Wanted(4, 6),
    "consume": Wanted(3, 6),
}


def with_redis(settings: Settings) -> Outcome:
    """Single records and bulk, on one server without replicas. Raises MissingError."""
    generator = load_generator(settings.say).path
    found = redis.program()
    with contextlib.ExitStack() as stack:
        ours = our_clusters(settings, "redis", stack)
        peer = stack.enter_context(redis.Redis(found, generator, os.path.join(settings.directory, "redis")).started())

        def bulk(sync: str, size: int) -> Entry:
            choices = ((100, 1), (100, 8), (1_000, 1), (1_000, 8), (10_000, 2))
            loads = (peer.pipeline(records, connections, sync, size) for records, connections in choices)
            return Entry(f"Redis, {sync}: bulk, {size:,} B", tuple(loads))

        def against(us: Ours) -> list[Comparison]:
            syncs = ("always", "everysec")
            return [one for sync in syncs for one in marked(with_sync(us, sync), is_like=sync == "always")]

        def with_sync(us: Ours, sync: str) -> list[Comparison]:
            pair = (us.label, f"Redis, {sync}")
            one, many = (Entry.one(us.produce(generator, number)) for number in (1, 64))
            of_100, of_kib = (Entry.one(us.batches(generator, 1_000, size)) for size in (100, KIB))
            return [
                Comparison("unary", f"{_SINGLE}: p50", *pair, one, Entry.one(peer.add(1, sync)), P50),
                Comparison("calls64", _CALLS, *pair, many, Entry.one(peer.add(64, sync)), RATE),
                Comparison("bulk1000", _BATCHES.format(1_000), *pair, of_100, bulk(sync, 100), RATE),
                Comparison("kib", "bulk, 1 KiB, batches of 1,000", *pair, of_kib, bulk(sync, KIB), RATE),
            ]

        return measured("redis", settings, ours, [peer], against)


def with_kafka(settings: Settings) -> Outcome:
    """Single records, bulk, and consuming, once the JVMs are warm. Raises MissingError."""
    generator = load_generator(settings.say).path
    java = shutil.which("java")
    if java is None:
        raise MissingError("there is no java on the PATH")
    libraries = kafka.program(settings.say)
    with contextlib.ExitStack() as stack:
        ours = our_clusters(settings, "kafka", stack)
        peer = stack.enter_context(
            kafka.Kafka(libraries, java, generator, os.path.join(settings.directory, "kafka")).started()
        )
        settings.say(f"warming the JVMs for {settings.warm_up_s:g} s")
        for load in (peer.bulk("default", 1_000, "0s"), peer.produce("synced", 64)):
            load.sample(Span(0, settings.warm_up_s / 2, 1 << 40))
        if settings.wants("consume"):
            for us in ours:
                us.fill(generator, settings.fill_bytes)
            _fill(peer.bulk("consumed", 1_000, "0s"), settings.fill_bytes)

        def bulk(topic: str, size: int) -> Entry:
            choices = ((1_000, "0s"), (1_000, "5ms"), (10_000, "0s"), (10_000, "5ms"))
            loads = (peer.bulk(topic, *choice, size) for choice in choices)
            return Entry(f"Kafka, {topic}: bulk, {size:,} B", tuple(loads))

        def against(us: Ours) -> list[Comparison]:
            consumed = Comparison(
                "consume",
                "bulk consume from a follower",
                us.label,
                "Kafka",
                Entry.one(us.consume(generator)),
                Entry.one(peer.consume()),
                RATE,
            )
            by_default = marked(with_topic(us, "default"), is_like=False)
            return [*with_topic(us, "synced"), *by_default, consumed]

        def with_topic(us: Ours, topic: str) -> list[Comparison]:
            pair = (us.label, f"Kafka, {topic}")
            wanted = Wanted(3, 8) if topic == "synced" else None
            one, many = (Entry.one(us.produce(generator, number)) for number in (1, 64))

            def batches(records: int, size: int) -> Comparison:
                ours = Entry.one(us.batches(generator, records, size, idempotent=True))
                title = f"bulk{', 1 KiB' if size == KIB else ''}, numbered batches of {records:,}"
                measure = "kib" if size == KIB else f"bulk{records}"
                return Comparison(measure, title, *pair, ours, bulk(topic, size), RATE, wanted)

            return [
                Comparison("unary", f"{_SINGLE}: p50", *pair, one, Entry.one(peer.produce(topic, 1)), P50),
                Comparison("calls64", _CALLS, *pair, many, Entry.one(peer.produce(topic, 64)), RATE),
                batches(1_000, 100),
                batches(10_000, 100),
                batches(1_000, KIB),
            ]

        return measured("kafka", settings, ours, [peer], against)


def _fill(load: Load, size_bytes: int) -> None:
    """Produce so many bytes of values, at most, and for a minute, at most."""
    load.sample(Span(0, _FILLED_WITHIN_S, size_bytes))


def alone(settings: Settings) -> Outcome:
    """What needs no peer: an empty replica, a long log, an idle cluster. Raises MissingError."""
    with contextlib.ExitStack() as stack:
        ours = our_clusters(settings, "alone", stack)
        fresh = count(1)

        def another(us: Ours) -> Ours:
            return Ours(us.label, us.checkout, os.path.join(settings.directory, f"short-{us.label}-{next(fresh)}"))

        def against(us: Ours) -> list[Comparison]:
            found: list[Comparison] = []
            if settings.wants("catchup"):
                found += catch_up(us, settings.copied_bytes, settings.say)
            if settings.wants("growth"):
                found += growth(us, settings.few, settings.many, lambda: another(us), settings.say)
            return found

        return measured("ours", settings, ours, [], against)


def versions(settings: Settings) -> Outcome:
    """Two checkouts of ours beside each other, without a peer. Raises MissingError."""
    if not settings.against:
        raise MissingError("--against names no other checkout")
    generator = load_generator(settings.say).path
    with contextlib.ExitStack() as stack:
        ours = our_clusters(settings, "versions", stack)
        if settings.wants("consume"):
            for us in ours:
                us.fill(generator, settings.fill_bytes)

        def loads(us: Ours) -> list[tuple[str, str, Load, Figure]]:
            return [
                ("unary", f"{_SINGLE}: p50", us.produce(generator, 1), P50),
                ("calls64", _CALLS, us.produce(generator, 64), RATE),
                *((f"client{tasks}", _CLIENT.format(f"{tasks:,}"), us.client(tasks), RATE) for tasks in (64, 1_000)),
                *(
                    (
                        f"bulk{records}",
                        _BATCHES.format(records),
                        us.batches(generator, records, 100),
                        RATE,
                    )
                    for records in SIZES
                ),
                ("kib", "bulk, 1 KiB, batches of 1,000", us.batches(generator, 1_000, KIB), RATE),
                ("consume", "bulk consume from a follower", us.consume(generator), RATE),
            ]

        first, second = (loads(us) for us in ours)
        comparisons = [
            Comparison(measure, title, OURS, AGAINST, Entry.one(load), Entry.one(other), figure)
            for (measure, title, load, figure), (_, _, other, _) in zip(first, second, strict=True)
        ]
        return measured("versions", settings, ours, [], lambda us: comparisons if us is ours[0] else [])


SESSIONS: Final[Mapping[str, Callable[[Settings], Outcome]]] = {
    "etcd": with_etcd,
    "nats": with_nats,
    "redis": with_redis,
    "kafka": with_kafka,
    "ours": alone,
    "versions": versions,
}

"""Batches whose checksums are right and whose claims are not, from a peer or a leader: none ends a log."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ourolog.actors.config import Cycle, NodeConfig
from ourolog.actors.messages.events import LogOpened
from ourolog.actors.messages.observer import NodeFailed
from ourolog.actors.messages.store import (
    AppendBatch,
    AppendFetched,
    AppendPulled,
    BatchAppended,
    FetchedAppended,
    FetchedRejected,
    OpenLog,
    PulledAppended,
    PullRejected,
    SaveBallot,
)
from ourolog.actors.occupants import parse_election
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.store import StoreActor
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import MAX_BODY_BYTES, Batch, BatchHead, Codec, Kind, NewBatch, encode_batch, path_of, scan
from ourolog.storage.batch_limits import LIMIT
from ourolog.storage.log import Log
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.disks import empty_disk

N1, N2 = NodeId("n1"), NodeId("n2")
TOP = (1 << 64) - 1
STATIC = parse_election("static:n2,n1")


class Victim:
    """The store of n1 with one record of its own, which it is told about by n2."""

    def __init__(self, files: SimulatedDisk | None = None, **config: Any) -> None:
        self.runtime, self.files = SteppingRuntime(), files or empty_disk()
        self.replicator, self.observer, self.peer = Probe(), Probe(), Probe()
        self.config = config
        self.ref = self.runtime.spawn(
            StoreActor,
            config=NodeConfig(N1, "/n1", "127.0.0.1:1", "127.0.0.1:2", **config),
            ports=stepping_ports(self.runtime, self.files, observer=self.observer),
            replicator=self.replicator,
            server=Probe(),
            election=Probe(),
        )
        self.tell(OpenLog())
        if "election" in config:
            self.tell(SaveBallot(1, Ballot(Term(3), None, N2), Probe()))

    def tell(self, message: object) -> None:
        self.ref.tell(message)
        self.runtime.run_until_idle()

    @property
    def epoch(self) -> int:
        return self.replicator.last(LogOpened).log_epoch

    @property
    def log(self) -> Log:
        actor = self.ref._actor_weakref()
        assert isinstance(actor, StoreActor)
        return actor.log

    def content(self) -> list[bytes]:
        names = [f"/n1/log/{name}" for name in self.files.list("/n1/log") if name.endswith(".log")]
        return [bytes(self.files.content(name)) for name in names]

    def produce(self, term: int = 0) -> Position:
        client = Probe()
        self.tell(AppendBatch(7, NewBatch(b"\x0a\x01x", 1), Term(term), client))
        return client.last(BatchAppended).end

    def pull(self, *batches: Batch | bytes, first: int = 0, epoch: int = 5) -> PulledAppended | PullRejected:
        blob = b"".join(batch if isinstance(batch, bytes) else encode_batch(batch) for batch in batches)
        self.tell(AppendPulled(N2, epoch, Index(first), blob, self.peer))
        (answer,) = self.peer.take()
        return answer  # type: ignore[no-any-return]

    def fetch(self, *batches: Batch) -> FetchedAppended | FetchedRejected:
        self.tell(AppendFetched(N2, Term(3), b"".join(map(encode_batch, batches)), self.peer))
        (answer,) = self.peer.take()
        return answer  # type: ignore[no-any-return]

    def heads(self) -> list[tuple[BatchHead, tuple[NodeId, ...]]]:
        """All that its log holds, each with its path."""
        return [(head, path_of(content, head)) for content in self.content() for head in scan(content)]

    def own_sequences(self) -> list[int]:
        """Of the batches in its log that say they are of its making, in the log's order."""
        return [head.origin_sequence for head, path in self.heads() if (path[0], head.origin_epoch) == (N1, self.epoch)]

    def goes_on(self) -> Victim:
        """It produces, is killed, and produces again: the one that did."""
        term = 3 if "election" in self.config else 0
        end = self.produce(term)
        again = Victim(self.files.after_crash(keep_unsynced=False), **self.config)
        assert again.log.end == end
        assert again.produce(term).index == end.index + 1
        assert again.observer.all(NodeFailed) == self.observer.all(NodeFailed) == []
        return again


def good(**fields: Any) -> Batch:
    batch = Batch(Index(0), Term(0), Offset(0), 1, 5, Kind.DATA, Codec.NONE, (N2,), 5, 0, b"\x0a\x01x")
    return replace(batch, **fields)


NEWER = b'{"type":"newer","version":1}'

HOSTILE: dict[str, dict[str, Any]] = {
    "a sequence at the end of its field": {"origin_sequence": TOP},
    "a sequence that no node reaches": {"origin_sequence": LIMIT},
    "an epoch at the end of its field": {"origin_epoch": TOP},
    "an offset at the end of its field": {"base_offset": Offset(TOP)},
    "a term at the end of its field": {"term": Term(TOP)},
    "no records": {"record_count": 0},
    "more records than bytes": {"record_count": 4_000_000_000},
    "more compressed records than any batch unfolds to": {"record_count": 4_000_000_000, "codec": Codec.ZSTD},
    "a time before 1970": {"timestamp_ms": -1},
    "a time after the year 9999": {"timestamp_ms": (1 << 63) - 1},
    "a source epoch at the end of its field": {"source_epoch": TOP},
    "a source index at the end of its field": {"source_index": TOP},
    "a path without room for another node": {"path": tuple([NodeId("a" * 63)] * 1023 + [NodeId("a" * 61)])},
    "a path of what are no node ids": {"path": (NodeId("\x1b[2J"), N2)},
    "a body without room for another node": {
        "payload": b"x" * (MAX_BODY_BYTES - 91),
    },
}


@pytest.mark.parametrize("claim", HOSTILE)
def test_what_cannot_be_is_refused_from_a_peer_with_a_sentence_and_nothing_is_appended(claim: str) -> None:
    victim = Victim()
    victim.produce()
    before = victim.content()
    answer = victim.pull(good(), good(index=Index(1), base_offset=Offset(1), origin_sequence=1), first=0)
    assert isinstance(answer, PulledAppended)
    before = victim.content()
    fields = {"index": Index(2), "base_offset": Offset(2), "origin_sequence": 2} | HOSTILE[claim]
    refused = victim.pull(replace(good(), **fields), first=2)
    assert isinstance(refused, PullRejected)
    assert "2" in refused.reason
    assert victim.content() == before
    victim.goes_on()


@pytest.mark.parametrize("sequence", [1, 2, 1 << 40, LIMIT - 1, TOP])
@pytest.mark.parametrize("cycle", Cycle)
def test_an_own_number_that_this_node_never_gave_out_is_refused(sequence: int, cycle: Cycle) -> None:
    victim = Victim(cycle=cycle)
    victim.produce()
    before = victim.content()
    refused = victim.pull(good(path=(N1, N2), origin_epoch=victim.epoch, origin_sequence=sequence))
    assert isinstance(refused, PullRejected)
    assert "n1" in refused.reason
    assert victim.content() == before
    victim.goes_on()


def test_own_batches_that_come_back_are_known_and_those_of_a_lost_log_are_taken() -> None:
    victim = Victim()
    victim.produce()
    back = victim.pull(
        good(path=(N1, N2), origin_epoch=victim.epoch),
        good(path=(N1, N2), index=Index(1), origin_epoch=victim.epoch - 1, origin_sequence=9),
    )
    assert isinstance(back, PulledAppended)
    assert (back.duplicates, back.appended) == (1, 1)


def test_one_bad_batch_among_good_ones_and_a_run_refuses_the_run() -> None:
    victim = Victim()
    refused = victim.pull(good(), good(index=Index(1), origin_sequence=TOP))
    assert isinstance(refused, PullRejected)
    assert victim.log.end.index == 0
    victim.goes_on()


def test_a_run_that_is_cut_off_is_refused() -> None:
    victim = Victim()
    assert isinstance(victim.pull(encode_batch(good()) + encode_batch(good(index=Index(1)))[:-1]), PullRejected)
    assert isinstance(victim.pull(encode_batch(good())[:50]), PullRejected)


def test_a_leaders_own_entries_are_not_copied_when_nobody_is_elected() -> None:
    victim = Victim()
    answer = victim.pull(good(kind=Kind.CONTROL, term=Term(9), payload=b""), good(index=Index(1), term=Term(9)))
    assert isinstance(answer, PulledAppended)
    assert (answer.appended, answer.next_index) == (1, 2)
    assert victim.log.terms.last_term == 0
    victim.goes_on()


def test_a_replica_pulled_from_who_did_not_make_it_says_so_in_its_path_and_moves_no_other_pull() -> None:
    victim = Victim()
    victim.pull(good(path=(NodeId("n3"),)))
    assert victim.log.pull_positions == {N2: (5, 1)}
    again = Victim(victim.files.after_crash(keep_unsynced=False))
    assert again.log.pull_positions == {N2: (5, 1)}


def test_an_entry_that_was_left_out_before_it_got_here_is_passed_over_for_good() -> None:
    victim = Victim()
    assert isinstance(victim.pull(good()), PulledAppended)
    passed = victim.pull(first=2)
    assert isinstance(passed, PulledAppended)
    assert (passed.appended, passed.next_index) == (0, 2)
    assert victim.log.pull_positions == {N2: (5, 2)}
    victim.runtime.stop(victim.ref)
    assert Victim(victim.files.after_crash(keep_unsynced=False)).log.pull_positions == {N2: (5, 2)}


@pytest.mark.parametrize(
    "claim", [name for name in HOSTILE if "room for another" not in name and "no node" not in name]
)
def test_what_cannot_be_is_refused_from_a_leader(claim: str) -> None:
    victim = Victim(election=STATIC)
    victim.fetch(good(term=Term(2)))
    before = victim.content()
    fields = {"index": Index(1), "base_offset": Offset(1), "term": Term(2)}
    assert isinstance(victim.fetch(replace(good(), **fields | HOSTILE[claim])), FetchedRejected)
    assert victim.content() == before
    assert isinstance(victim.fetch(replace(good(), **fields)), FetchedAppended)
    victim.goes_on()


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"{}", b'{"type":"voters-set","version":1,"voters":[["n1",0,"h:1","h:2"]]}']
)
def test_a_control_batch_that_no_node_writes_is_refused_from_a_leader(payload: bytes) -> None:
    victim = Victim(election=STATIC)
    victim.fetch(good(term=Term(2)))
    before = victim.content()
    fields: dict[str, Any] = {"index": Index(1), "base_offset": Offset(1), "term": Term(2), "kind": Kind.CONTROL}
    refused = victim.fetch(replace(good(), **fields, payload=payload))
    assert isinstance(refused, FetchedRejected)
    assert "control batch" in refused.reason
    packed = victim.fetch(replace(good(), **fields, payload=NEWER, codec=Codec.ZSTD))
    assert isinstance(packed, FetchedRejected)
    assert victim.content() == before
    assert isinstance(victim.fetch(replace(good(), **fields, payload=NEWER)), FetchedAppended)
    victim.goes_on()


def test_an_entry_of_a_higher_term_than_its_leaders_is_refused() -> None:
    victim = Victim(election=STATIC)
    refused = victim.fetch(good(term=Term(4)))
    assert isinstance(refused, FetchedRejected)
    assert "term 4" in refused.reason
    victim.goes_on()


def test_from_a_leader_a_node_takes_what_its_own_disk_has_forgotten_but_no_number_out_of_reach() -> None:
    victim = Victim(election=STATIC)
    own = good(path=(N1,), term=Term(2), origin_epoch=victim.epoch)
    assert isinstance(victim.fetch(replace(own, origin_sequence=LIMIT - 1)), FetchedRejected)
    assert isinstance(victim.fetch(replace(own, origin_sequence=70)), FetchedAppended)
    victim.goes_on()


@pytest.mark.parametrize("sequence", [TOP, LIMIT])
def test_a_log_that_an_older_version_has_let_be_poisoned_opens_and_takes_records(sequence: int) -> None:
    victim = Victim()
    victim.produce()
    log = victim.log
    log.append_copy(good(path=(N1, N2), origin_epoch=victim.epoch, origin_sequence=sequence), 5)
    log.commit()
    log._save_checkpoint()
    victim.goes_on()
    for lost in ("checkpoint", ""):
        files = victim.files.after_crash(keep_unsynced=True)
        if lost:
            files.remove(f"/n1/log/{lost}")
        again = Victim(files)
        assert again.produce().index == again.log.end.index
        again.log.truncate(Index(1))
        again.goes_on()


# ---------------------------------------------------------------- anything at all

NUMBERS = st.one_of(
    st.integers(0, 5),
    st.sampled_from([TOP, TOP - 1, LIMIT, LIMIT - 1, 1 << 63, (1 << 63) - 1, 1 << 32, 1 << 33, 1 << 40]),
    st.integers(0, LIMIT) | st.integers(0, TOP),
)
NAMES = st.sampled_from(["n1", "n2", "n3", "x" * 63, "x" * 255, "é", "\n"]).map(NodeId)


def path_with_room(room_bytes: int) -> tuple[NodeId, ...]:
    """A path that takes all but so many of the 65,535 bytes that there are for one."""
    return (N1, *[NodeId("a" * 63)] * 1023, NodeId("b" * (56 - room_bytes)), N2)


PATHS = st.one_of(
    st.lists(NAMES, min_size=1, max_size=4).map(tuple),
    st.integers(0, 4).map(path_with_room),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "index": NUMBERS,
    "term": NUMBERS,
    "base_offset": NUMBERS,
    "record_count": st.one_of(st.integers(0, 3), st.integers(0, (1 << 32) - 1)),
    "timestamp_ms": st.integers(-(1 << 63), (1 << 63) - 1),
    "kind": st.sampled_from(Kind),
    "codec": st.sampled_from(Codec),
    "path": PATHS,
    "origin_epoch": NUMBERS,
    "origin_sequence": NUMBERS,
    "payload": st.binary(max_size=40),
    "source_epoch": NUMBERS,
    "source_index": NUMBERS,
    "producer_id": st.integers(0, TOP),
    "producer_sequence": st.integers(0, (1 << 32) - 1),
}
# A few at a time: a batch with many lies in it is refused for the first of them. Sequences and
# paths are drawn more often, since only some of them do any harm.
FIELDS = st.lists(
    st.sampled_from([*sorted(VALUES), *["origin_sequence", "path"] * 5]).flatmap(
        lambda name: st.tuples(st.just(name), VALUES[name])
    ),
    max_size=2,
).map(dict)


@dataclass(frozen=True)
class Run:
    """What a peer sends at once. first: the index that was asked for. own: as if the victim had made it."""

    fields: list[dict[str, Any]]
    first: int
    epoch: int
    own: bool
    cut_bytes: int

    def encode(self, victim: Victim, start: Position, term: int) -> bytes:
        blob = b""
        for at, fields in enumerate(self.fields):
            place = {"index": start.index + at & TOP, "base_offset": start.offset + at & TOP, "term": term}
            if self.own:
                place |= {"origin_epoch": victim.epoch, "path": (N1, N2)}
            blob += encode_batch(replace(good(), **(place | fields)))
        return blob[: len(blob) - self.cut_bytes]


RUNS = st.builds(
    Run,
    fields=st.lists(FIELDS, min_size=1, max_size=3),
    first=NUMBERS,
    epoch=NUMBERS,
    own=st.booleans(),
    cut_bytes=st.sampled_from([0, 0, 0, 0, 0, 3]),
)


def is_sane(head: BatchHead, term: Term) -> bool:
    """Whether a log can stand behind it: written out once more, so that nothing here leans on `batch_limits`."""
    numbers = (head.index, head.term, head.base_offset, head.origin_epoch, head.origin_sequence)
    held = max(1, head.end - head.payload_start)
    return (
        max(*numbers, head.source_epoch, head.source_index) < 1 << 62
        and head.term <= term
        and 0 <= head.timestamp_ms < 253_402_300_800_000
        and (head.kind is Kind.CONTROL or 0 < head.record_count <= (held if head.codec is Codec.NONE else 1 << 26))
    )


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs=st.lists(RUNS, min_size=1, max_size=3), cycle=st.sampled_from(Cycle), elected=st.booleans())
def test_no_batch_with_a_right_checksum_ends_a_store(runs: list[Run], cycle: Cycle, elected: bool) -> None:
    term = 3 if elected else 0
    victim = Victim(election=STATIC) if elected else Victim(cycle=cycle)
    victim.produce(term)
    for run in runs:
        start = victim.log.end if elected else Position(Index(run.first), Offset(0))
        before, made = victim.content(), max(victim.own_sequences())
        blob = run.encode(victim, start, term)
        if elected:
            victim.tell(AppendFetched(N2, Term(term), blob, victim.peer))
        else:
            victim.tell(AppendPulled(N2, run.epoch, start.index, blob, victim.peer))
        (answer,) = victim.peer.take()
        assert isinstance(answer, PulledAppended | PullRejected | FetchedAppended | FetchedRejected)
        if isinstance(answer, PullRejected | FetchedRejected):
            assert victim.content() == before
            assert answer.reason
        else:
            assert not run.cut_bytes
        heads = victim.heads()
        assert [head for head, _ in heads if not is_sane(head, Term(term))] == []
        assert elected or all(re.fullmatch("[a-z0-9]{1,63}", node) for _, path in heads for node in path)
        assert max(victim.own_sequences()) <= made + (1 << 32 if elected else 0)
        victim = victim.goes_on()
        *earlier, last = victim.own_sequences()
        assert last not in earlier

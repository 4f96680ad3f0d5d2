"""The claim that there are never fewer copies than promised, broken in streams of events; and how often it counts."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.messages.events import CommitAdvanced, LogAppended
from ourolog.actors.messages.server import Produce, Produced
from ourolog.actors.messages.store import LogTruncated
from ourolog.actors.messages.values import Acks
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers import default_checkers
from ourolog.simulation.checkers.copies import CopiesKept
from ourolog.simulation.events import FaultInjected, FileReplaced
from ourolog.simulation.options import Options
from ourolog.simulation.simulate import simulate
from ourolog.storage.batch import Batch, NewBatch
from ourolog.storage.control import VoterSet, VotersSet
from ourolog.storage.segment import stem_of
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, SEGMENT, Scene, batch, sized
from tests.simulation.test_voter_changes import NODES, RAFT, control, key, names

N4 = NodeId("n4")


def entry(index: int, **more: Any) -> Batch:
    return batch(index, f"v{index}", term=Term(1), origin_epoch=key(N1).log_epoch, **more)


class Copied(Scene):
    """Three voters, which entry 0 names, and n4, which stands by; n1 leads them in term 1."""

    def __init__(self) -> None:
        super().__init__("copies_kept")
        for node_id in NODES:
            self.start(node_id, settings={"election": RAFT}, log_epoch=key(node_id).log_epoch)
        self.put(control(0, names(N1, N2, N3)), *NODES)
        self.named(0, names(N1, N2, N3))
        self.committed(1)

    def put(self, one: Batch, *node_ids: NodeId) -> None:
        for node_id in node_ids:
            self.append(node_id, one)

    def named(self, index: int, entry: VotersSet) -> None:
        voters = VoterSet(Index(index), Term(1), entry.voters)
        ends = (Position(Index(index + 1), Offset(0)),)
        for node_id in NODES:
            self.tell(f"{node_id}.store", f"{node_id}.replicator", LogAppended(ends, TermHistory(), voters))

    def committed(self, index: int) -> None:
        self.tell("n1.replicator", "n1.server", CommitAdvanced(Position(Index(index), Offset(0))))

    def cut(self, node_id: NodeId, *kept: Batch) -> None:
        """Let that node cut its log to these entries."""
        self.truncate(node_id, sized(*kept))

    def acknowledge(self, index: int, *replicas: NodeId, acks: Acks = Acks.ALL) -> None:
        self.tell("c1", "n1.server", Produce(7, NewBatch(b"", 1), acks, 1.0, Probe()))
        self.tell("n1.server", "c1", Produced(7, Offset(index), Term(1), Index(index), replicas))


SECOND_SEGMENT = f"/data/log/{stem_of(Position(Index(1), Offset(1)))}.log"
FIRST = control(0, names(N1, N2, N3))


def test_what_a_majority_has_and_keeps_is_enough() -> None:
    scene = Copied()
    scene.put(entry(1), N1, N2, N4)
    scene.committed(2)
    scene.put(entry(1), N3)
    scene.put(entry(2), N1, N3)
    scene.committed(3)
    scene.cut(N4, FIRST)
    scene.finish()


def test_what_is_committed_on_a_minority_is_found_out() -> None:
    scene = Copied()
    scene.put(entry(1), N1, N4)
    with pytest.raises(Violation, match="of the voters n1, n2, n3 only n1 has it on disk"):
        scene.committed(2)


def test_what_a_majority_had_and_one_of_them_dropped_is_found_out() -> None:
    scene = Copied()
    scene.put(entry(1), N1, N2)
    scene.committed(2)
    with pytest.raises(Violation, match="only n1 has it on disk: n2 has dropped what is from index 1 on"):
        scene.cut(N2, FIRST)


def test_what_another_copy_makes_up_for_may_be_dropped() -> None:
    scene = Copied()
    scene.put(entry(1), N1, N2, N3)
    scene.committed(2)
    scene.cut(N2, FIRST)
    with pytest.raises(Violation, match="n3 has dropped"):
        scene.cut(N3, FIRST)


def test_once_other_voters_are_committed_it_is_they_that_count() -> None:
    scene = Copied()
    scene.put(entry(1), N1, N2)
    scene.committed(2)
    added = control(2, names(N1, N2, N3, N4))
    scene.put(added, N1, N2)
    scene.named(2, names(N1, N2, N3, N4))
    with pytest.raises(Violation, match="of the voters n1, n2, n3, n4 only n1, n2 has it"):
        scene.committed(3)


def test_before_they_are_committed_a_majority_of_either_set_is_enough() -> None:
    scene = Copied()
    scene.put(entry(1), N1, N2)
    scene.put(control(2, names(N1, N2)), N1)
    scene.named(2, names(N1, N2))
    scene.committed(2)


def test_what_a_fault_has_taken_counts_and_what_its_new_disk_lacks_does_not() -> None:
    scene = Copied()
    scene.put(entry(1), N1, N2)
    scene.committed(2)
    scene.crash(N2)
    scene.see(FaultInjected(scene.tick(), "disk_lost", N2))
    scene.files[N2] = {}
    scene.start(N2, settings={"election": RAFT}, log_epoch=EPOCH + 99)
    scene.finish()
    scene.put(entry(2), N1)
    with pytest.raises(Violation, match="only n1 has it"):
        scene.committed(3)


@pytest.mark.parametrize("acks", [Acks.ALL, Acks.QUORUM])
def test_a_disk_that_was_named_keeps_what_all_have(acks: Acks) -> None:
    scene = Copied()
    scene.put(entry(1), N1, N2, N3)
    scene.committed(2)
    scene.acknowledge(1, N1, N2, N3, acks=acks)
    if acks is Acks.ALL:
        with pytest.raises(Violation, match=r"n3 has dropped entry 1 .*, and was named as one that has it"):
            scene.cut(N3, FIRST)
    else:
        scene.cut(N3, FIRST)


@pytest.mark.parametrize("start", [1, 2])
def test_a_log_may_begin_anew_behind_what_it_had_and_not_before(start: int) -> None:
    scene = Copied()
    scene.put(entry(1), N1, N2, N3)
    scene.committed(2)
    scene.acknowledge(1, N1, N2, N3)
    scene.see(FileReplaced(scene.tick(), N3, "/data/log/checkpoint", b'{"resetting":true}'))
    scene.cut(N3)
    scene.see(FileReplaced(scene.tick(), N3, "/data/log/checkpoint", b'{"resetting":false}'))
    at = Position(Index(start), Offset(start))
    begun = LogTruncated(at, at, TermHistory())
    if start > 1:
        scene.tell("n3.store", "n3.replicator", begun)
    else:
        with pytest.raises(Violation, match="n3 has dropped entry 1"):
            scene.tell("n3.store", "n3.replicator", begun)


@pytest.mark.parametrize(("kept_bytes", "is_too_much"), [(None, True), (200, True), (100, False)])
def test_retention_that_removes_more_than_it_is_told_to_is_found_out(
    kept_bytes: int | None, *, is_too_much: bool
) -> None:
    scene = Scene("copies_kept")
    scene.start(N1, settings={"election": RAFT, "retention_bytes": kept_bytes, "segment_bytes": 100})
    scene.append(N1, entry(0))
    assert 100 <= sized(entry(1)) < 200
    scene.append(N1, entry(1), path=SECOND_SEGMENT)
    if is_too_much:
        with pytest.raises(Violation, match=r"n1 has removed entry 0 .*, and 1\d\d bytes are left, where"):
            scene.remove(N1, SEGMENT)
    else:
        scene.remove(N1, SEGMENT)


@pytest.mark.parametrize("mode", ["raft", "oracle", "static"])
def test_in_whole_runs_copies_are_counted_often(mode: str) -> None:
    options = Options(3, nodes=4, election=mode, minutes=0.3)
    checkers = default_checkers(options)
    (copies,) = (checker for checker in checkers if isinstance(checker, CopiesKept))
    assert simulate(options, checkers).violations == ()
    assert copies.counted > 50
    assert copies.named > 50

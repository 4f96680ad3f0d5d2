"""Damage that the store meets: reads wait for the repair, for a while; each place is warned of once, and counted."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.messages.observer import NodeFailed, NodeWarned, WarningKind
from ourolog.actors.messages.repair import BatchRepaired, DamageFound, RepairAbandoned, RepairBatch, RepairRejected
from ourolog.actors.messages.status import ReportStatus, StatusReported, StoreStatus
from ourolog.actors.messages.store import BatchesRead, ReadBatches, ReadProblem, SaveBallot, TruncateLog
from ourolog.actors.occupants import parse_election
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.storing.damaged_places import MAX_ASKED, MAX_WAITING_READERS, DamagedPlaces
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.storage.ballot import Ballot
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.actors.store_stage import Stage
from tests.disks import empty_disk

N2 = NodeId("n2")
ELECTED = {"election": parse_election("static:n1,n2,n3")}
COUNT = 40


class Damaged:
    """A store with a log of several segments, of which some batches are damaged."""

    def __init__(self, *indexes: int, **config: Any) -> None:
        self.stage = Stage(segment_bytes=1000, **config)
        stage = self.stage
        term = 1 if config else 0
        if term:
            stage.tell(SaveBallot(1, Ballot(Term(1), NodeId("n1"), NodeId("n1")), Probe()))
        stage.append(*(b"%03d" % at + b"x" * 60 for at in range(COUNT)), term=term)
        self.good = {index: self.batch(index) for index in range(COUNT)}
        for index in indexes:
            self.spoil(index)
        stage.client.take()
        stage.replicator.take()

    def batch(self, index: int) -> bytes:
        self.stage.tell(ReadBatches(1, 0, Index(index + 1), self.stage.client, index=Index(index)))
        return self.stage.client.last(BatchesRead).batches

    def spoil(self, index: int) -> None:
        """Flip a byte in the middle of the entry's payload."""
        for path in sorted(self.stage.files.durable()):
            if path.endswith(".log"):
                content = bytes(self.stage.files.content(path))
                at = content.find(b"%03dx" % index)
                if at >= 0:
                    self.stage.files.flip_bit(path, at + 20, 3)
                    return
        raise AssertionError(index)

    def read(self, offset: int, request_id: int = 1, wait_s: float = 2.0) -> None:
        read = ReadBatches(request_id, 0, Index(COUNT), self.stage.client, offset=Offset(offset), repair_wait_s=wait_s)
        self.stage.tell(read)

    def repair(self, index: int, batch: bytes | None = None) -> BatchRepaired | RepairRejected:
        probe = Probe()
        self.stage.tell(RepairBatch(Index(index), self.good[index] if batch is None else batch, N2, probe))
        (answer,) = probe.received
        return answer

    @property
    def answers(self) -> list[Any]:
        return self.stage.client.take()

    @property
    def asked(self) -> list[int]:
        return [found.index for found in self.stage.replicator.all(DamageFound)]

    def warned(self, kind: WarningKind = WarningKind.DAMAGED) -> list[str]:
        return [warning.reason for warning in self.stage.observer.all(NodeWarned) if warning.kind is kind]

    @property
    def status(self) -> StoreStatus:
        probe = Probe()
        self.stage.tell(ReportStatus(1, probe))
        status = probe.last(StatusReported).status
        assert isinstance(status, StoreStatus)
        return status


def test_a_read_waits_for_the_repair_and_is_answered_with_the_good_batch() -> None:
    log = Damaged(7, **ELECTED)
    log.read(7)
    assert log.answers == []
    assert log.stage.replicator.all(DamageFound) == [DamageFound(Index(7), Offset(7))]
    assert log.repair(7) == BatchRepaired(Index(7), N2)
    (read,) = log.answers
    assert read == BatchesRead(1, log.good[7], Position(Index(8), Offset(8)))
    (damaged,) = log.warned()
    assert "is damaged at byte" in damaged
    assert "index 7, offset 7" in damaged
    assert "fetched again" in damaged
    (repaired,) = log.warned(WarningKind.REPAIRED)
    assert "(index 7) was replaced by the copy of n2" in repaired
    assert (log.status.damaged_found, log.status.repaired) == (1, 1)


def test_reads_of_other_places_go_on_and_what_stands_before_the_damage_is_answered() -> None:
    log = Damaged(7, **ELECTED)
    log.read(7)
    log.read(8, 2)
    log.stage.tell(ReadBatches(3, 10_000, Index(COUNT), log.stage.client, index=Index(5)))
    assert [answer.request_id for answer in log.answers] == [2, 3]


def test_a_read_that_has_waited_long_enough_is_sent_elsewhere_and_the_repair_goes_on() -> None:
    log = Damaged(7, **ELECTED)
    log.read(7, 1, wait_s=0.5)
    log.read(7, 2, wait_s=2.0)
    log.stage.runtime.run_for(0.51)
    (refused,) = log.answers
    assert (refused.request_id, refused.problem) == (1, ReadProblem.REPAIRING)
    assert "read from another node" in refused.detail
    log.repair(7)
    assert [type(answer) for answer in log.answers] == [BatchesRead]
    log.stage.runtime.run_for(5.0)
    assert log.answers == []


def test_a_read_that_waits_less_long_than_those_before_it_does_not_wait_for_their_time() -> None:
    log = Damaged(7, **ELECTED)
    log.read(7, 1, wait_s=2.0)
    log.read(7, 2, wait_s=0.25)
    log.stage.runtime.run_for(0.1)
    log.read(7, 3, wait_s=0.05)
    log.stage.runtime.run_for(0.06)
    assert [answer.request_id for answer in log.answers] == [3]
    log.stage.runtime.run_for(0.1)
    assert [answer.request_id for answer in log.answers] == [2]
    log.stage.runtime.run_for(1.8)
    assert [answer.request_id for answer in log.answers] == [1]


def test_a_read_that_may_not_wait_is_refused_at_once_and_asks_for_the_repair() -> None:
    log = Damaged(7, **ELECTED)
    log.read(7, wait_s=0.0)
    (refused,) = log.answers
    assert refused.problem is ReadProblem.REPAIRING
    assert log.asked == [7]


def test_reads_that_wait_are_answered_when_the_node_stops() -> None:
    log = Damaged(7, 9, **ELECTED)
    log.read(7, 1)
    log.read(9, 2)
    log.stage.runtime.stop(log.stage.ref)
    log.stage.runtime.run_until_idle()
    assert [(answer.request_id, answer.problem) for answer in log.answers] == [
        (1, ReadProblem.REPAIRING),
        (2, ReadProblem.REPAIRING),
    ]


def test_few_readers_wait_and_others_are_refused_so_that_no_place_holds_up_all() -> None:
    log = Damaged(7, **ELECTED)
    for request_id in range(MAX_WAITING_READERS + 3):
        log.read(7, request_id)
    assert [answer.problem for answer in log.answers] == [ReadProblem.REPAIRING] * 3
    log.stage.tell(ReadBatches(99, 0, Index(COUNT), log.stage.client, index=Index(7), repair_wait_s=1.0))
    assert log.answers == [], "a fetch waits: its sender would ask again at once"
    log.repair(7)
    assert len(log.answers) == MAX_WAITING_READERS + 1


def test_what_nobody_has_is_data_loss_until_it_is_worth_asking_again() -> None:
    log = Damaged(7, **ELECTED)
    log.read(7)
    log.stage.tell(RepairAbandoned(Index(7), "it is damaged on n2 as well", 10.0))
    (refused,) = log.answers
    assert refused.problem is ReadProblem.DAMAGED
    assert "cannot be repaired from another replica: it is damaged on n2 as well" in refused.detail
    assert "move this data directory away" not in refused.detail
    log.read(7)
    assert [answer.problem for answer in log.answers] == [ReadProblem.DAMAGED]
    assert log.asked == [7]
    log.stage.runtime.run_for(10.0)
    log.read(7)
    assert log.answers == []
    assert log.asked == [7, 7]
    log.repair(7)
    assert [type(answer) for answer in log.answers] == [BatchesRead]
    assert len(log.warned()) == 2, "once that it is there, once that nobody has it"
    assert log.status.damaged_found == 1


def test_what_does_not_belong_there_is_rejected_and_the_reads_go_on_waiting() -> None:
    log = Damaged(7, **ELECTED)
    log.read(7)
    rejected = log.repair(7, log.good[8])
    assert isinstance(rejected, RepairRejected)
    assert "entry 7 was expected" in rejected.reason
    assert log.answers == []
    assert log.warned(WarningKind.REPAIRED) == []


def test_damage_in_a_row_is_repaired_one_after_another() -> None:
    log = Damaged(7, 8, 9, **ELECTED)
    for index in (7, 8, 9):
        log.read(index, index)
        assert log.asked[-1] == index
        log.repair(index)
        assert log.answers[-1].batches == log.good[index]


def test_damage_that_nobody_can_repair_does_not_stand_in_the_way_of_what_is_behind_it() -> None:
    log = Damaged(7, 8, **ELECTED)
    log.read(7)
    log.stage.tell(RepairAbandoned(Index(7), "nobody has it", 10.0))
    log.read(8)
    assert log.asked == [7, 8]
    log.repair(8)
    log.read(9)
    assert [getattr(answer, "batches", b"") for answer in log.answers] == [b"", log.good[8], log.good[9]]


def test_only_so_many_places_are_asked_for_at_once_and_the_others_have_their_turn() -> None:
    spoiled = range(0, COUNT, 2)
    log = Damaged(*spoiled, **ELECTED)
    segments = {}
    for index in spoiled:
        log.stage.tell(ReadBatches(index, 0, Index(COUNT), log.stage.client, index=Index(index), repair_wait_s=9.0))
        segments[index] = None
    assert len(log.asked) <= MAX_ASKED
    for _ in range(len(spoiled) * 2):
        waiting = [index for index in log.asked if index in segments]
        if not waiting:
            break
        for index in waiting:
            log.repair(index)
            segments.pop(index, None)
    assert segments == {}
    assert len([answer for answer in log.answers if isinstance(answer, BatchesRead)]) == len(spoiled)


def test_a_place_that_nobody_has_makes_room_for_one_that_was_not_asked_for_yet() -> None:
    log = Damaged(*range(0, COUNT, 2), **ELECTED)
    for index in range(0, COUNT, 2):
        log.read(index, index)
    asked = log.asked
    assert len(asked) == MAX_ASKED < COUNT // 2
    log.stage.tell(RepairAbandoned(Index(asked[0]), "nobody has it", 10.0))
    assert len(log.asked) == MAX_ASKED + 1


def test_what_the_scrub_makes_again_and_what_it_cannot_is_warned_of_and_counted() -> None:
    seen: list[tuple[WarningKind, str]] = []
    places = DamagedPlaces(
        stepping_ports(SteppingRuntime(), empty_disk()),
        Probe(),
        Probe(),
        is_elected=True,
        warn=lambda kind, text, _: seen.append((kind, text)),
        read=lambda _: None,
        refuse=lambda *_: None,
    )
    places.note_rebuilt("an index was made again")
    assert (places.found, places.repaired) == (1, 1)
    places.note_lost("a state file is gone")
    assert (places.found, places.repaired) == (2, 1)
    assert seen == [
        (WarningKind.REPAIRED, "an index was made again"),
        (WarningKind.DAMAGED, "a state file is gone"),
    ]


def test_what_is_cut_off_needs_no_repair_and_its_readers_hear_of_it() -> None:
    log = Damaged(COUNT - 1, **ELECTED)
    log.read(COUNT - 1)
    log.stage.tell(TruncateLog(Index(COUNT - 1), Term(1), Probe()))
    (refused,) = log.answers
    assert refused.problem is ReadProblem.OUT_OF_RANGE
    assert isinstance(log.repair(COUNT - 1), BatchRepaired), "there is nothing to be done any more"
    assert log.status.repaired == 0


def test_where_nobody_is_elected_each_log_is_its_own_and_damage_is_warned_of_once_for_each_place() -> None:
    log = Damaged(7, 30)
    for offset in (7, 7, 30, 7):
        log.read(offset)
    answers = log.answers
    assert [answer.problem for answer in answers] == [ReadProblem.DAMAGED] * 4
    assert "Restore the file from a backup" in answers[0].detail
    assert log.asked == []
    assert len(log.warned()) == 2
    assert log.status.damaged_found == 2


def test_a_disk_that_fails_in_a_repair_stops_the_node() -> None:
    log = Damaged(7, **ELECTED)
    log.read(7)
    log.stage.files.fail("sync", 5)
    probe = Probe()
    log.stage.tell(RepairBatch(Index(7), log.good[7], N2, probe))
    assert probe.received == []
    assert log.answers == []
    assert log.stage.observer.all(NodeFailed)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_good_batch_stays_as_it_is(is_damaged: bool) -> None:
    log = Damaged(*((7,) if is_damaged else ()), **ELECTED)
    before = log.stage.files.durable()
    assert log.repair(9) == BatchRepaired(Index(9), N2)
    assert log.stage.files.durable() == before

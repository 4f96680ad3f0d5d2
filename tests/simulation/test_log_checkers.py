"""The checkers of what logs hold: terms, places, bounds and ranges. Each sees its bug, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, LogAppended, LogStartMoved, ReplicasAdvanced
from ourolog.actors.messages.peer_calls import CallAnswer, CallCancelled, FetchOutcome
from ourolog.actors.messages.server import CancelRequest, Consume, Refusal, RequestRefused
from ourolog.actors.messages.status import ReplicatorStatus, StatusReported
from ourolog.actors.messages.store import (
    AppendBatch,
    AppendRefused,
    BatchAppended,
    ReadBatches,
    ReadProblem,
    ReadRefused,
)
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Kind, NewBatch, encode_batch
from ourolog.storage.terms import Place, TermHistory
from ourolog.storage.types import Index, NodeId, Offset, Term
from tests.simulation.scene import EPOCH, N1, N2, SEGMENT, Scene, ballot_saved, batch
from tests.simulation.scene_messages import STATIC, at, consume, fetch, led_by_n1, refused, response

# ---------------------------------------------------------------- leading


def test_a_term_that_does_not_begin_with_a_control_batch_is_seen() -> None:
    scene = Scene("terms_begin")
    scene.start("n1", STATIC)
    scene.append("n1", batch(0, "", term=Term(1), kind=Kind.CONTROL), batch(1, "a", term=Term(1)))
    with pytest.raises(Violation, match="it is no control batch"):
        scene.append("n1", batch(2, "b", term=Term(2)))


def test_an_append_under_another_term_than_the_ballots_is_seen() -> None:
    scene = Scene("appends_in_term")
    scene.start("n1", STATIC)
    scene.tell("n1.store", "n1.election", ballot_saved(Ballot(Term(1), N1, N1)))
    scene.tell("n1.store", "n1.server", BatchAppended(1, Offset(0), Index(0), Term(1), at(1)))
    scene.tell("n1.store", "n1.election", ballot_saved(Ballot(Term(2), N2, N2)))
    with pytest.raises(Violation, match="its ballot is of term 2"):
        scene.tell("n1.store", "n1.server", BatchAppended(2, Offset(1), Index(1), Term(1), at(2)))


def test_a_leader_that_counts_what_a_voter_had_once_is_seen() -> None:
    for message, what in (
        (CommitAdvanced(at(5)), "commits up to index 5"),
        (ReplicasAdvanced(Term(1), Index(3)), "all voters have what is below index 3"),
    ):
        scene = led_by_n1("counts_honestly")
        scene.tell("n1.store", "n1.replicator", LogAppended((at(5),), TermHistory()))
        scene.tell("", "n1.replicator", fetch("n2", 1, 5))
        scene.tell("", "n1.replicator", fetch("n3", 2, 3))
        scene.tell("n1.replicator", "n1.server", CommitAdvanced(at(4)))
        scene.tell("n1.replicator", "n1.server", ReplicasAdvanced(Term(1), Index(2)))
        scene.wait(0.2)
        # It has lost its disk. An old request that comes once more is of another term.
        scene.tell("", "n1.replicator", fetch("n2", 3, 0))
        scene.tell("", "n1.replicator", fetch("n2", 4, 5, term=0))
        scene.wait(0.2)
        with pytest.raises(Violation, match=what):
            scene.tell("n1.replicator", "n1.server", message)


def test_an_old_fetch_that_parts_from_the_leaders_log_takes_nothing_back() -> None:
    scene = led_by_n1("counts_honestly")
    for name in ("n1", "n2", "n3"):
        scene.append(name, batch(0, "a", term=Term(1)), batch(1, "b", term=Term(1)))
    scene.tell("n1.store", "n1.replicator", LogAppended((at(2),), TermHistory()))
    for request_id, name in ((1, "n2"), (2, "n3")):
        scene.tell("", "n1.replicator", fetch(name, request_id, 2))
    scene.wait(0.2)
    parting = fetch("n2", 3, 1)
    request = replace(parting.request, last=Place(Term(0), (N2, 1)))
    scene.tell("", "n1.replicator", replace(parting, request=request))
    scene.wait(0.2)
    scene.tell("n1.replicator", "n1.server", ReplicasAdvanced(Term(1), Index(2)))


def test_a_leader_that_commits_with_an_entry_of_an_earlier_term_is_seen() -> None:
    scene = led_by_n1("counts_honestly")
    scene.append("n1", batch(0, "a", term=Term(1)))
    scene.tell("n1.store", "n1.replicator", LogAppended((at(1),), TermHistory()))
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(2), N1))
    scene.wait(0.2)
    scene.tell("", "n1.replicator", fetch("n2", 1, 1, term=2))
    with pytest.raises(Violation, match="leads in term 2 and commits up to entry 0"):
        scene.tell("n1.replicator", "n1.server", CommitAdvanced(at(1)))


# ---------------------------------------------------------------- places


def test_two_entries_in_one_place_are_seen_on_disk_and_on_the_wire() -> None:
    scene = Scene("same_place_same_bytes")
    for name in ("n1", "n2"):
        scene.start(name, STATIC)
    entry, other = batch(0, "a", term=Term(1)), batch(0, "b", term=Term(1))
    scene.append("n1", entry)
    scene.tell("n1.replicator", "n2", CallAnswer(1, response(batches=encode_batch(entry))))
    with pytest.raises(Violation, match="serves another entry 0 of term 1"):
        scene.tell("n1.replicator", "n2", CallAnswer(1, response(batches=encode_batch(other))))
    with pytest.raises(Violation, match="n2 has another entry 0 of term 1"):
        scene.append("n2", other)


def test_entries_of_other_makers_or_epochs_are_in_other_places() -> None:
    scene = Scene("same_place_same_bytes")
    for name in ("n1", "n2", "n3"):
        scene.start(name, STATIC)
    scene.append("n1", batch(0, "a", term=Term(1)))
    scene.append("n2", batch(0, "b", term=Term(1), path="n2"))
    scene.append("n3", batch(0, "c", term=Term(1), origin_epoch=EPOCH + 1))


def test_who_starts_again_on_an_old_disk_may_make_another_entry_in_the_same_place() -> None:
    scene = Scene("same_place_same_bytes")
    for name in ("n1", "n2"):
        scene.start(name, STATIC)
    scene.append("n1", batch(0, "a", term=Term(1)))
    scene.see(FaultInjected(scene.tick(), "old_disk", "n1"))
    scene.append("n2", batch(0, "b", term=Term(1)))


# ---------------------------------------------------------------- bounds


def test_too_many_open_files_are_seen() -> None:
    scene = Scene("stays_bounded")
    scene.start("n1")
    scene.files_open[N1] = 20
    scene.wait(1.0)
    scene.files_open[N1] = 21
    with pytest.raises(Violation, match="has 21 files open"):
        scene.wait(1.0)


def status(**more: Any) -> StatusReported:
    return StatusReported(1, ReplicatorStatus(**more))


def test_long_polls_that_are_over_and_kept_are_seen() -> None:
    scene = Scene("stays_bounded")
    scene.start("n1", STATIC)
    scene.wait(1.0)
    for request_id in (1, 2, 3):
        scene.tell("", "n1.replicator", fetch("n2", request_id, 0))
    scene.tell("n1.replicator", "console", status(parked_fetches=3))
    scene.tell("n1.replicator", "n2", CallAnswer(1, response()))
    scene.tell("", "n1.replicator", CallCancelled(2))
    scene.tell("n1.replicator", "console", status(parked_fetches=1))
    with pytest.raises(Violation, match="keeps 2 fetches, and only 1"):
        scene.tell("n1.replicator", "console", status(parked_fetches=2))


def test_boundaries_of_what_is_committed_are_seen() -> None:
    scene = Scene("stays_bounded")
    scene.start("n1", STATIC)
    scene.wait(1.0)
    scene.append("n1", *(batch(index, "a", term=Term(1)) for index in range(9)))
    scene.tell("n1.replicator", "console", status(committed=at(3), boundaries=8))
    with pytest.raises(Violation, match="keeps 9 boundaries between batches, where 8 would do"):
        scene.tell("n1.replicator", "console", status(committed=at(3), boundaries=9))


def test_produces_beyond_the_bound_are_seen() -> None:
    scene = Scene("stays_bounded")
    scene.start("n1", STATIC)
    large = NewBatch(b"x" * 2**20, 1)
    for request_id in range(1, 70):
        scene.tell("n1.server", "n1.store", AppendBatch(request_id, large, Term(1), Probe()))
        if request_id < 5:
            scene.tell("n1.store", "n1.server", AppendRefused(request_id, Term(2), ""))
    with pytest.raises(Violation, match="bytes of produces in its store"):
        scene.tell("n1.server", "n1.store", AppendBatch(70, large, Term(1), Probe()))


UNCOMMITTED = [({"max_uncommitted_entries": 3}, "4 entries"), ({"max_uncommitted_bytes": 30}, "4 entries of 40 bytes")]


@pytest.mark.parametrize(("bound", "seen"), UNCOMMITTED)
def test_a_leader_that_appends_more_than_it_may_without_a_majority_is_seen(bound: dict[str, int], seen: str) -> None:
    scene = Scene("stays_bounded")
    scene.start("n1", STATIC, settings=bound)

    def lead(term: int, leader: str = "n1") -> None:
        scene.tell("n1.election", "n1.server", LeaderChanged(Term(term), NodeId(leader)))

    def appended(index: int, term: int) -> None:
        scene.tell("n1.server", "n1.store", AppendBatch(index, NewBatch(b"x" * 10, 1), Term(term), Probe()))
        end = at(index + 1)
        scene.tell("n1.store", "n1.server", BatchAppended(index, Offset(index), Index(index), Term(term), end))

    lead(1)
    for index in range(3):
        appended(index, 1)
    scene.commit("n1", 2)
    appended(3, 1)
    appended(4, 1)
    lead(2, "n2")
    appended(5, 1)  # of its old lead: for the next one that does not count
    lead(3)
    for index in range(4, 7):
        appended(index, 3)
    with pytest.raises(Violation, match=seen):
        appended(7, 3)


def test_more_readers_than_may_wait_are_seen() -> None:
    scene = Scene("stays_bounded")
    scene.start("n1", settings={"max_waiting_requests": 2})

    def wait_at_end(request_id: int) -> None:
        scene.tell("", "n1.server", Consume(request_id, Offset(0), 1, True, Probe()))

    for request_id in range(5):
        wait_at_end(request_id)
    scene.tell("n1.server", "n1.store", ReadBatches(0, 1, Index(1), Probe(), offset=Offset(0)))
    scene.tell("n1.server", "c1", RequestRefused(1, Refusal.OVERLOADED, "2 readers wait already"))
    scene.tell("", "n1.server", CancelRequest(2, Probe()))
    scene.wait(1.0)
    wait_at_end(5)
    with pytest.raises(Violation, match="3 readers wait at the end of n1's log, where 2 may"):
        scene.wait(1.0)


def test_retention_of_what_is_not_committed_is_seen_and_a_log_begun_anew_is_none() -> None:
    scene = Scene("retention_waits_for_commit")
    scene.start("n1", STATIC)
    scene.append("n1", batch(0, "a", term=Term(1)))
    scene.append("n1", batch(1, "b", term=Term(1)), path="/data/log/00000000000000000001-00000000000000000001.log")
    scene.tell("n1.replicator", "n1.server", LogStartMoved(at(1)))
    with pytest.raises(Violation, match="above its commit position 0"):
        scene.tell("n1.store", "n1.server", LogStartMoved(at(1)))
    with pytest.raises(Violation, match="retention took entry 0"):
        scene.remove("n1", SEGMENT)


# ---------------------------------------------------------------- ranges


def retained() -> Scene:
    """n1's log holds [1, 3), of which 2 is committed."""
    scene = Scene("ranges_true")
    scene.start("n1", STATIC)
    scene.append("n1", batch(0, "a", term=Term(1)))
    rest = (batch(1, "b", term=Term(1)), batch(2, "c", term=Term(1)))
    scene.append("n1", *rest, path="/data/log/00000000000000000001-00000000000000000001.log")
    scene.commit("n1", 2)
    scene.tell("", "n1.server", consume(1, 9))
    scene.tell("n1.server", "c1", refused(1, first=Offset(0), end=Offset(2)))
    scene.remove("n1", SEGMENT)
    scene.wait(1.0)
    return scene


@pytest.mark.parametrize(("first", "end"), [(0, 2), (2, 2), (1, 1), (1, 3)])
def test_a_client_that_is_told_another_range_is_seen(first: int, end: int) -> None:
    scene = retained()
    scene.tell("", "n1.server", consume(2, 9))
    scene.tell("n1.server", "c1", refused(2, first=Offset(1), end=Offset(2)))
    scene.tell("", "n1.server", consume(3, 9))
    with pytest.raises(Violation, match=r"where there was \[1, 2\)"):
        scene.tell("n1.server", "c1", refused(3, first=Offset(first), end=Offset(end)))
    scene.tell("", "n1.server", consume(4, 9))
    with pytest.raises(Violation, match=r"where there was \[1, 2\)"):
        scene.tell("n1.store", "c1", ReadRefused(4, ReadProblem.OUT_OF_RANGE, "", at(first), at(end)))


def test_a_peer_that_is_told_another_range_is_seen() -> None:
    scene = retained()
    scene.tell("", "n1.replicator", fetch("n2", 2, 0))
    honest = response(FetchOutcome.OUT_OF_RANGE, start=at(1), end=at(3))
    scene.tell("n1.replicator", "n2", CallAnswer(2, honest))
    scene.tell("", "n1.replicator", fetch("n2", 3, 0))
    with pytest.raises(Violation, match=r"where there were \[1, 3\)"):
        scene.tell("n1.replicator", "n2", CallAnswer(3, response(FetchOutcome.OUT_OF_RANGE, start=at(0), end=at(3))))

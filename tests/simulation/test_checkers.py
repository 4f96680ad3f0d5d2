"""Each checker on a small stream of events made by hand: it sees the bug that it is for, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import FailureKind, NodeFailed, PullStarted
from ourolog.actors.messages.peer_calls import CallReceived, FetchRequest
from ourolog.actors.messages.server import Consume, Produce, Produced
from ourolog.actors.messages.store import BatchAppended, BatchesRead
from ourolog.actors.messages.values import Acks, PullPosition
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation import linearizability
from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers import ALL, default_checkers
from ourolog.simulation.checkers.cycle import count_walks
from ourolog.simulation.checkers.log_model import records_of
from ourolog.simulation.checkers.numbers import Numbers
from ourolog.simulation.events import (
    FaultInjected,
    FileRemoved,
    FileReplaced,
    FileRewritten,
    FileTruncated,
    NodeSaid,
    Phase,
    PhaseBegan,
)
from ourolog.simulation.options import Options
from ourolog.simulation.run_claims import RUN_CLAIMS
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Batch, NewBatch, encode_batch
from ourolog.storage.checksummed_json import encode
from ourolog.storage.record_set import encode_record
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, SEGMENT, Scene, ballot_saved, batch, sized

ROOT = Path(__file__).resolve().parents[2]

# ---------------------------------------------------------------- the logs on disk


def test_bytes_that_are_no_batch_are_seen_at_once() -> None:
    scene = Scene("batches_intact")
    scene.start("n1")
    damaged = bytearray(encode_batch(batch(0, "a")))
    damaged[-1] ^= 1
    with pytest.raises(Violation, match="the checksum"):
        scene.append("n1", bytes(damaged))


def test_a_batch_may_arrive_in_pieces() -> None:
    scene = Scene("batches_intact")
    scene.start("n1")
    whole = encode_batch(batch(0, "a"))
    scene.append("n1", whole[:50])
    scene.append("n1", whole[50:], batch(1, "b"))
    assert scene.checker.model.nodes[N1].log.end == Position(Index(2), Offset(2))  # type: ignore[attr-defined]


def test_a_record_that_no_client_sent_is_seen() -> None:
    scene = Scene("batches_intact")
    scene.start("n1")
    scene.produced("n1", "a", 0)
    scene.append("n1", batch(0, "a"))
    with pytest.raises(Violation, match="which no client sent"):
        scene.append("n1", batch(1, "b"))


def test_a_copy_with_other_records_is_seen() -> None:
    scene = Scene("batches_intact")
    scene.start("n1")
    scene.start("n2")
    scene.append("n1", batch(0, "a"))
    with pytest.raises(Violation, match="other records"):
        scene.append("n2", batch(0, "b", path="n1 n2"))


def test_a_number_that_only_a_crash_has_seen_may_be_given_out_again() -> None:
    scene = Scene("batches_intact")
    scene.start("n1")
    scene.append("n1", batch(0, "a"), sync=False)
    scene.crash("n1")
    scene.start("n1")
    scene.append("n1", batch(0, "b"))


@pytest.mark.parametrize(
    ("second", "what"),
    [
        (batch(2, "b", sequence=1), "index 1 and offset 1 come next"),
        (batch(1, "b", base_offset=Offset(0)), "index 1 and offset 1 come next"),
        (batch(1, "b", sequence=0), "in its log already"),
    ],
)
def test_what_does_not_follow_on_or_comes_twice_is_seen(second: Batch, what: str) -> None:
    scene = Scene("contiguous")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    with pytest.raises(Violation, match=what):
        scene.append("n1", second)


def test_a_segment_begins_where_the_one_before_ends() -> None:
    scene = Scene("contiguous")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.append("n1", batch(1, "b"), path="/data/log/00000000000000000001-00000000000000000001.log")
    with pytest.raises(Violation, match="is a new segment"):
        scene.append("n1", batch(3, "c"), path="/data/log/00000000000000000003-00000000000000000003.log")


def test_a_batch_that_retention_took_is_still_not_to_be_appended_again() -> None:
    scene = Scene("contiguous")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.append("n1", batch(1, "b"), path="/data/log/00000000000000000001-00000000000000000001.log")
    scene.see(FileRemoved(scene.tick(), N1, SEGMENT))
    with pytest.raises(Violation, match="in its log already"):
        scene.append("n1", batch(2, "a", sequence=0), path="/data/log/00000000000000000001-00000000000000000001.log")


# ---------------------------------------------------------------- promises


def appended(end: int) -> BatchAppended:
    position = Position(Index(end), Offset(end))
    return BatchAppended(1, Offset(end - 1), Index(end - 1), Term(0), position)


def test_an_acknowledgement_before_the_sync_is_seen() -> None:
    scene = Scene("promised_on_disk")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.tell("n1.store", "n1.server", appended(1))
    scene.append("n1", batch(1, "b"), sync=False)
    with pytest.raises(Violation, match="only what is below index 1 is on its disk"):
        scene.tell("n1.store", "n1.server", appended(2))


def test_an_acknowledgement_from_a_segment_without_a_durable_name_is_seen() -> None:
    scene = Scene("promised_on_disk")
    scene.nameless.add(SEGMENT)
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    with pytest.raises(Violation, match="lose that file's name"):
        scene.tell("n1.store", "n1.server", appended(1))


def ballot_file(term: int, leader: str) -> bytes:
    return encode("ballot", 1, {"leader_id": leader, "term": term, "voted_for": leader, "voted_for_epoch": 0})


def write_ballot(scene: Scene, term: int, leader: str) -> None:
    path, content = "/data/ballot", ballot_file(term, leader)
    scene.files.setdefault(N1, {})[path] = content
    scene.synced.setdefault(N1, {})[path] = len(content)
    scene.see(FileReplaced(scene.tick(), N1, path, content))


def test_a_term_announced_before_its_ballot_is_written_is_seen() -> None:
    scene = Scene("ballots_on_disk")
    scene.start("n1", "static:n1")
    write_ballot(scene, 1, "n1")
    scene.tell("n1.store", "n1.election", ballot_saved(Ballot(Term(1), N1, N1)))
    scene.tell("n1.election", "n1.server", LeaderChanged(Term(1), N1))
    with pytest.raises(Violation, match="announced term 2"):
        scene.tell("n1.election", "n1.server", LeaderChanged(Term(2), N1))


def test_a_leader_that_was_started_again_and_leads_no_more_may_be_behind() -> None:
    scene = Scene("linearizable")
    for name in ("n1", "n2"):
        scene.start(name, "static:n1,n2")
        scene.tell(f"{name}.election", f"{name}.server", LeaderChanged(Term(1), N1))
    scene.append("n1", batch(0, "a", term=Term(1)))
    scene.commit("n1", 1)
    scene.produced("n1", "a", 0)
    scene.crash("n1")
    scene.start("n1", "static:n1,n2")
    scene.tell("n1.election", "n1.server", LeaderChanged(Term(1), None))
    # Who has not heard of that says so once more.
    scene.tell("n2.election", "n2.server", LeaderChanged(Term(1), N1))
    scene.found_end("n1", 0, 0)
    scene.tell("n1.election", "n1.server", LeaderChanged(Term(2), N1))
    with pytest.raises(Violation, match="told by the leader n1 that the log ends at 0"):
        scene.found_end("n1", 0, 0)


def test_a_ballot_said_to_be_saved_that_is_not_there_is_seen() -> None:
    scene = Scene("ballots_on_disk")
    scene.start("n1", "static:n1")
    with pytest.raises(Violation, match="a power cut would leave"):
        scene.tell("n1.store", "n1.election", ballot_saved(Ballot(Term(1), N1, N1)))


def test_a_second_vote_in_a_term_is_seen() -> None:
    scene = Scene("ballots_on_disk")
    scene.start("n1", "static:n1")
    write_ballot(scene, 1, "n1")
    scene.tell("n1.store", "n1.election", ballot_saved(Ballot(Term(1), N1, N1)))
    with pytest.raises(Violation, match="voted for n1 and n2 in term 1"):
        write_ballot(scene, 1, "n2")


@pytest.mark.parametrize(
    "changed", [FileTruncated(1.0, N1, "/data/ballot", 0), FileRewritten(1.0, N1, "/data/ballot", 0, b"foo")]
)
def test_a_ballot_that_is_written_over_where_it_stands_is_seen(changed: FileTruncated | FileRewritten) -> None:
    scene = Scene("ballots_on_disk")
    scene.start("n1", "static:n1")
    write_ballot(scene, 1, "n1")
    scene.see(replace(changed, path="/data/ballot.tmp"))
    with pytest.raises(Violation, match="n1 writes over its ballot"):
        scene.see(changed)


def test_a_ballot_forgotten_by_a_restart_is_seen() -> None:
    scene = Scene("ballots_on_disk")
    scene.start("n1", "static:n1")
    write_ballot(scene, 3, "n1")
    scene.tell("n1.store", "n1.election", ballot_saved(Ballot(Term(3), N1, N1)))
    scene.crash("n1")
    with pytest.raises(Violation, match="came back with"):
        scene.start("n1", "static:n1")


def fetch(node: str, next_index: int, log_epoch: int = EPOCH) -> CallReceived[FetchRequest]:
    request = FetchRequest(
        "ourolog", NodeId(node), log_epoch, True, Term(1), Index(next_index), None, 0, Index(0), 1, 1.0
    )
    return CallReceived(1, request, Probe())


def test_a_fetch_that_claims_more_than_is_on_the_disk_is_seen() -> None:
    scene = Scene("fetches_honest")
    scene.start("n2", "static:n1,n2")
    scene.append("n2", batch(0, "a"))
    scene.tell("", "n1.replicator", fetch("n2", 1))
    scene.append("n2", batch(1, "b"), sync=False)
    with pytest.raises(Violation, match="never had more there"):
        scene.tell("", "n1.replicator", fetch("n2", 2))


def test_a_fetch_from_when_nobody_could_see_the_disk_is_not_judged() -> None:
    scene = Scene("fetches_honest")
    scene.start("n2", "static:n1,n2")
    scene.checker.model.node(N2).seen_since_s = scene.time_s  # type: ignore[attr-defined]
    scene.tell("", "n1.replicator", fetch("n2", 2))
    scene.wait(4.0)
    with pytest.raises(Violation, match="never had more there"):
        scene.tell("", "n1.replicator", fetch("n2", 2))


def test_a_fetch_in_the_name_of_another_disk_is_seen_and_one_of_a_disk_that_was_wiped_meanwhile_is_not() -> None:
    scene = Scene("fetches_honest")
    scene.start("n2", "static:n1,n2")
    scene.tell("", "n1.replicator", fetch("n2", 0))
    scene.crash("n2")
    scene.start("n2", "static:n1,n2", log_epoch=EPOCH + 1)
    scene.tell("", "n1.replicator", fetch("n2", 0))  # it was under way for long
    scene.tell("", "n1.replicator", fetch("n2", 0, EPOCH + 1))
    with pytest.raises(Violation, match="names 5 in a fetch as its log's epoch"):
        scene.tell("", "n1.replicator", fetch("n2", 0, 5))


def test_a_pull_position_behind_or_ahead_of_the_copies_on_disk_is_seen() -> None:
    for position, what in ((1, "pulls from 1 again"), (3, "has no copy of entry 2")):
        scene = Scene("fetches_honest")
        scene.start("n1")
        scene.start("n2")
        scene.append("n1", batch(0, "a"), batch(1, "b"), batch(2, "c"))
        copies = [batch(at, "ab"[at], path="n1 n2", source_epoch=EPOCH, source_index=at) for at in (0, 1)]
        scene.append("n2", *copies)
        scene.crash("n2")
        with pytest.raises(Violation, match=what):
            scene.start("n2", pull_positions=((N1, PullPosition(EPOCH, Index(position))),))


# ---------------------------------------------------------------- acknowledgements


def ask_and_acknowledge(scene: Scene, value: str, offset: int, acks: Acks) -> None:
    new = NewBatch(encode_record(value.encode()), 1)
    scene.tell("", "n1.server", Produce(7, new, acks, 1.0, Probe()))
    scene.tell("n1.server", "c1", Produced(7, Offset(offset), Term(1), Index(0)))


def test_an_acknowledgement_by_too_few_disks_is_seen() -> None:
    scene = Scene("acknowledged_durable")
    for name in ("n1", "n2", "n3"):
        scene.start(name, "static:n1,n2,n3")
    scene.append("n1", batch(0, "a"))
    ask_and_acknowledge(scene, "a", 0, Acks.LEADER)
    with pytest.raises(Violation, match="of the voters only n1 had it"):
        ask_and_acknowledge(scene, "a", 0, Acks.QUORUM)
    scene.append("n2", batch(0, "a"))
    ask_and_acknowledge(scene, "a", 0, Acks.QUORUM)
    with pytest.raises(Violation, match="acks=all while of the voters only n1, n2"):
        ask_and_acknowledge(scene, "a", 0, Acks.ALL)


def test_an_acknowledgement_with_another_record_s_offset_is_seen() -> None:
    scene = Scene("acknowledged_durable")
    scene.start("n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    with pytest.raises(Violation, match="holds b'a'"):
        ask_and_acknowledge(scene, "b", 0, Acks.DEFAULT)


def test_an_acknowledged_record_that_a_restart_loses_is_seen() -> None:
    scene = Scene("acknowledged_kept")
    scene.start("n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.produced("n1", "b", 1)
    scene.crash("n1")
    scene.files[N1][SEGMENT] = encode_batch(batch(0, "a"))
    with pytest.raises(Violation, match="lost b'b', acknowledged at offset 1"):
        scene.start("n1")


def test_an_acknowledged_record_that_is_cut_off_is_seen() -> None:
    scene = Scene("acknowledged_kept")
    scene.start("n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.produced("n1", "b", 1)
    with pytest.raises(Violation, match="lost b'b'"):
        scene.truncate("n1", sized(batch(0, "a")))


def test_what_a_destroyed_disk_took_is_not_held_against_its_node() -> None:
    scene = Scene("acknowledged_kept")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.produced("n1", "a", 0)
    scene.crash("n1")
    scene.files[N1] = {}
    scene.see(FaultInjected(scene.tick(), "disk_lost", "n1"))
    scene.start("n1")
    scene.finish()


def test_a_record_that_was_refused_for_certain_and_is_there_is_seen() -> None:
    scene = Scene("refused_not_written")
    scene.start("n1")
    scene.refused("n1", "a")
    with pytest.raises(Violation, match="which a client was told is refused"):
        scene.append("n1", batch(0, "a"))
    scene = Scene("refused_not_written")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    with pytest.raises(Violation, match="n1 has it in its log"):
        scene.refused("n1", "a")


# ---------------------------------------------------------------- readers


def test_a_read_above_the_commit_position_is_seen() -> None:
    scene = Scene("readers_see_committed")
    scene.start("n1", "static:n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.commit("n1", 1)
    scene.consumed("n1", 0, "a")
    with pytest.raises(Violation, match="where what is below 1 is committed"):
        scene.consumed("n1", 1, "b")


def test_a_read_of_what_is_not_there_is_seen() -> None:
    scene = Scene("readers_see_committed")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.commit("n1", 1)
    with pytest.raises(Violation, match="which holds b'a'"):
        scene.consumed("n1", 0, "b")


@pytest.mark.parametrize(
    ("answered", "following", "what"),
    [
        ((1,), 2, "answered from"),
        ((0, 2), 3, "goes from 1 to 2"),
        ((0,), 2, "says 2 is next"),
    ],
)
def test_an_answer_with_a_gap_is_seen(answered: Iterable[int], following: int, what: str) -> None:
    scene = Scene("readers_move_forward")
    scene.start("n1")
    scene.tell("", "n1.server", Consume(9, Offset(0), 100, False, Probe()))
    batches = b"".join(encode_batch(batch(at, "x")) for at in answered)
    with pytest.raises(Violation, match=what):
        scene.tell("n1.store", "c1", BatchesRead(9, batches, Position(Index(following), Offset(following))))


# ---------------------------------------------------------------- linearizability, online


def test_an_offset_below_what_was_known_when_the_record_was_sent_is_seen() -> None:
    scene = Scene("linearizable")
    scene.start("n1")
    scene.produced("n1", "a", 1)
    with pytest.raises(Violation, match="offset 1 was known to be there"):
        scene.produced("n1", "b", 0)


def test_a_record_at_two_offsets_or_two_at_one_are_seen() -> None:
    scene = Scene("linearizable")
    scene.start("n1")
    scene.produced("n1", "a", 0)
    scene.produced("n1", "b", 1)
    with pytest.raises(Violation, match="it was at offset 0 before"):
        scene.consumed("n1", 2, "a")
    with pytest.raises(Violation, match="where b'a' was seen before"):
        scene.consumed("n1", 0, "b")


def test_a_node_that_does_not_find_what_it_has_acknowledged_is_seen() -> None:
    scene = Scene("linearizable")
    scene.start("n1")
    scene.produced("n1", "a", 0)
    with pytest.raises(Violation, match="after that node had acknowledged offset 0"):
        scene.found_end("n1", 1, 0)


def test_a_value_that_nobody_wrote_is_seen() -> None:
    scene = Scene("linearizable")
    scene.start("n1")
    with pytest.raises(Violation, match="nobody ever wrote"):
        scene.consumed("n1", 0, "a")


def test_a_gap_that_nobody_can_have_filled_is_seen_in_the_end() -> None:
    scene = Scene("linearizable")
    scene.start("n1", "static:n1")
    scene.produced("n1", "b", 1)
    with pytest.raises(Violation, match="at most 1 can have been written"):
        scene.finish()


# ---------------------------------------------------------------- agreement


def test_entries_of_the_same_term_and_index_are_the_same() -> None:
    scene = Scene("log_matching")
    scene.start("n1", "static:n1,n2")
    scene.start("n2", "static:n1,n2")
    scene.append("n1", batch(0, "a", term=Term(1)))
    with pytest.raises(Violation, match="n2 has entry 0"):
        scene.append("n2", batch(0, "b", term=Term(1)))


def test_entries_of_the_same_term_and_index_have_the_same_past() -> None:
    scene = Scene("log_matching")
    scene.start("n1", "static:n1,n2")
    scene.start("n2", "static:n1,n2")
    scene.append("n1", batch(0, "a", term=Term(1)), batch(1, "c", term=Term(3)))
    scene.append("n2", batch(0, "b", term=Term(2)))
    with pytest.raises(Violation, match="behind another past"):
        scene.append("n2", batch(1, "c", term=Term(3)))


def test_a_commit_position_that_no_majority_has_is_seen() -> None:
    scene = Scene("committed_agree")
    for name in ("n1", "n2", "n3"):
        scene.start(name, "static:n1,n2,n3")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.append("n2", batch(0, "a"))
    scene.commit("n1", 1)
    with pytest.raises(Violation, match="only n1 has it on disk"):
        scene.commit("n1", 2)


def test_two_committed_histories_are_seen() -> None:
    scene = Scene("committed_agree")
    for name in ("n1", "n2", "n3"):
        scene.start(name, "static:n1,n2,n3")
    scene.append("n1", batch(0, "a"))
    scene.append("n2", batch(0, "a"))
    scene.append("n3", batch(0, "b"))
    scene.commit("n1", 1)
    with pytest.raises(Violation, match="and another node"):
        scene.commit("n3", 1)


def test_a_committed_entry_that_is_cut_off_is_seen() -> None:
    scene = Scene("committed_agree")
    scene.start("n1", "static:n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.commit("n1", 1)
    scene.truncate("n1", sized(batch(0, "a")))
    with pytest.raises(Violation, match="dropped entry 0"):
        scene.truncate("n1", 0)


def test_two_leaders_in_a_term_are_seen() -> None:
    scene = Scene("one_leader_a_term")
    scene.start("n1", "static:n1,n2")
    scene.tell("n1.election", "n1.server", LeaderChanged(Term(1), N1))
    with pytest.raises(Violation, match="whose leader is n1"):
        scene.tell("n2.election", "n2.server", LeaderChanged(Term(1), N2))


def test_a_term_that_falls_is_seen() -> None:
    scene = Scene("one_leader_a_term")
    scene.start("n1", "static:n1,n2")
    scene.tell("n1.election", "n1.server", LeaderChanged(Term(2), N1))
    with pytest.raises(Violation, match="announced term 1 after term 2"):
        scene.tell("n1.election", "n1.server", LeaderChanged(Term(1), N1))


def test_entries_of_a_term_that_are_not_its_leader_s_are_seen() -> None:
    scene = Scene("one_leader_a_term")
    scene.start("n1", "static:n1,n2")
    scene.tell("n1.election", "n1.server", LeaderChanged(Term(1), N1))
    with pytest.raises(Violation, match="has entries of n2 as leader of term 1"):
        scene.append("n1", batch(0, "a", path="n2", term=Term(1)))


def test_a_commit_position_that_falls_is_seen() -> None:
    scene = Scene("commit_forward")
    scene.start("n1", "static:n1")
    scene.commit("n1", 2)
    with pytest.raises(Violation, match="fell from"):
        scene.commit("n1", 1)


def test_a_commit_position_remembered_higher_than_it_ever_was_is_seen() -> None:
    scene = Scene("commit_forward")
    scene.start("n1", "static:n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.commit("n1", 1)
    scene.crash("n1")
    with pytest.raises(Violation, match="nobody ever committed more"):
        scene.start("n1", "static:n1", committed=Position(Index(2), Offset(2)))


# ---------------------------------------------------------------- the cycle


def test_walks_in_the_pull_graph_are_counted() -> None:
    triangle = {N1: [N2, N3], N2: [N1, N3], N3: [N1, N2]}
    assert count_walks(triangle, N1, 0) == {N1: 1}
    assert count_walks(triangle, N1, 1) == {N1: 1, N2: 1, N3: 1}
    assert count_walks(triangle, N1, 2) == {N1: 3, N2: 2, N3: 2}
    assert count_walks({N1: [N2], N2: []}, N1, 5) == {N1: 1}


@pytest.mark.parametrize(
    ("copy", "what"),
    [
        (batch(0, "a", path="n1", source_epoch=EPOCH), "does not end with it"),
        (batch(0, "a", path="n3 n1 n2", source_epoch=EPOCH), "as a copy of n1's"),
        (batch(0, "a", path="n1 n2", source_epoch=EPOCH, source_index=5), "which is not there"),
        (batch(0, "a", path="n1 n2 n1 n2 n1 n2", source_epoch=EPOCH), "over a limit of 4 hops"),
    ],
)
def test_an_unfaithful_copy_is_seen(copy: Batch, what: str) -> None:
    scene = Scene("copies_faithful")
    scene.start("n1", cycle="allow")
    scene.start("n2", cycle="allow")
    scene.append("n1", batch(0, "a"))
    with pytest.raises(Violation, match=what):
        scene.append("n2", copy)


def settled_cycle(copies_of_n2: int) -> Scene:
    """n2 pulls from n1, and has the one batch there is so many times."""
    scene = Scene("cycle_growth")
    scene.start("n1", cycle="allow")
    scene.start("n2", cycle="allow")
    scene.see(NodeSaid(scene.tick(), N2, PullStarted(N2, N1)))
    scene.append("n1", batch(0, "a"))
    for at in range(copies_of_n2):
        copy = batch(at, "a", path="n1 n2", sequence=0, source_epoch=EPOCH, source_index=at)
        scene.append("n2", copy)
    scene.see(PhaseBegan(scene.tick(), Phase.SETTLED, (N1, N2)))
    return scene


def test_growth_is_as_the_walks_say() -> None:
    settled_cycle(1).finish()
    for wrong in (0, 2):
        with pytest.raises(Violation, match=rf"{wrong} times; the pull graph has 1 walks"):
            settled_cycle(wrong).finish()


# ---------------------------------------------------------------- crashes, and the end


def test_a_log_shorter_than_what_was_on_disk_is_seen() -> None:
    scene = Scene("restart_keeps")
    scene.start("n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.append("n1", batch(2, "c"), sync=False)
    scene.crash("n1")
    scene.start("n1")
    scene.crash("n1")
    scene.files[N1][SEGMENT] = encode_batch(batch(0, "a"))
    with pytest.raises(Violation, match=r"had entry 1 .* and came back without it"):
        scene.start("n1")


def test_a_node_that_misstates_its_own_log_is_seen() -> None:
    scene = Scene("restart_keeps")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.crash("n1")
    with pytest.raises(Violation, match="says that its log is"):
        scene.start("n1", end=START)


def test_a_node_that_gives_up_though_nothing_was_wrong_is_seen() -> None:
    scene = Scene("fails_for_cause")
    scene.start("n1")
    with pytest.raises(Violation, match="although nothing was wrong"):
        scene.see(NodeSaid(scene.tick(), N1, NodeFailed(N1, "store", FailureKind.DISK_FULL, "cannot")))
    scene.see(FaultInjected(scene.tick(), "disk_full", "n1"))
    scene.see(NodeSaid(scene.tick(), N1, NodeFailed(N1, "store", FailureKind.DISK_FULL, "cannot")))
    with pytest.raises(Violation, match="a bug ended n1's store"):
        scene.see(NodeSaid(scene.tick(), N1, NodeFailed(N1, "store", FailureKind.BUG, "KeyError")))


def test_nodes_that_hold_other_sets_in_the_end_are_seen() -> None:
    scene = Scene("convergence")
    scene.start("n1")
    scene.start("n2")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.append("n2", batch(0, "b", path="n1 n2", sequence=1), batch(1, "a", path="n1 n2", sequence=0))
    scene.see(PhaseBegan(scene.tick(), Phase.SETTLED, (N1, N2)))
    scene.finish()
    scene.append("n1", batch(2, "c"))
    with pytest.raises(Violation, match="n2 does not have n1's batch 2"):
        scene.finish()


def test_logs_of_one_leader_that_differ_in_the_end_are_seen() -> None:
    scene = Scene("convergence")
    for name in ("n1", "n2"):
        scene.start(name, "static:n1,n2")
        scene.append(name, batch(0, "a"))
        scene.commit(name, 1)
    scene.see(PhaseBegan(scene.tick(), Phase.SETTLED, (N1, N2)))
    scene.finish()
    scene.append("n1", batch(1, "b"))
    with pytest.raises(Violation, match="n2's log ends at"):
        scene.finish()


def test_a_healthy_core_that_answers_nobody_is_seen() -> None:
    scene = Scene("progress")
    scene.start("n1")
    scene.see(PhaseBegan(scene.tick(), Phase.LIVENESS, (N1,)))
    for at in range(10):
        scene.refused("n1", f"v{at}")
    scene.time_s += 60.0
    with pytest.raises(Violation, match="of 10 produces asked of the healthy nodes n1 none succeeded"):
        scene.see(PhaseBegan(scene.tick(), Phase.SETTLED, (N1,)))


# ---------------------------------------------------------------- what destroyed disks excuse


def test_a_lost_disk_is_another_log_with_offsets_of_its_own() -> None:
    scene = Scene("linearizable")
    scene.start("n1")
    scene.produced("n1", "a", 0)
    scene.produced("n1", "b", 1)
    scene.crash("n1")
    scene.files[N1] = {}
    scene.see(FaultInjected(scene.tick(), "disk_lost", "n1"))
    scene.start("n1", log_epoch=EPOCH + 1)
    scene.append("n1", batch(0, "c"))
    scene.produced("n1", "c", 0)
    with pytest.raises(Violation, match="where b'c' was seen before"):
        scene.consumed("n1", 0, "d")


def test_a_node_with_a_new_disk_is_held_to_its_word_again() -> None:
    scene = Scene("acknowledged_kept")
    scene.start("n1")
    scene.crash("n1")
    scene.see(FaultInjected(scene.tick(), "disk_lost", "n1"))
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.produced("n1", "a", 0)
    with pytest.raises(Violation, match="lost b'a'"):
        scene.truncate("n1", 0)


def test_a_rotten_file_of_a_disk_that_lied_is_not_taken_for_what_was_written() -> None:
    scene = Scene("log_matching")
    scene.start("n1", "static:n1,n2")
    scene.start("n2", "static:n1,n2")
    whole = [batch(at, "abc"[at], term=Term(1)) for at in range(3)]
    scene.append("n1", *whole)
    scene.see(FaultInjected(scene.tick(), "fsync_lies", "n2"))
    scene.append("n2", *whole[:2])
    scene.crash("n2", keep=True)
    good = scene.files[N2][SEGMENT]
    scene.files[N2][SEGMENT] = bytes((good[0] ^ 1, *good[1:]))
    scene.see(FaultInjected(scene.tick(), "bit_rot", "n2"))
    scene.start("n2", "static:n1,n2")
    scene.append("n2", whole[2])
    scene.crash("n2", keep=True)
    scene.files[N2][SEGMENT] = good + encode_batch(whole[2])
    scene.start("n2", "static:n1,n2")
    assert scene.checker.model.nodes[N2].log.end == Position(Index(3), Offset(3))  # type: ignore[attr-defined]


# ---------------------------------------------------------------- the set of checkers


def test_every_checker_says_what_it_claims_in_a_sentence() -> None:
    assert len(ALL) >= 20
    for name, checker in ALL.items():
        assert checker.name == name
        assert checker.statement.endswith(".")
        assert checker.__doc__


def test_every_claim_of_a_run_has_a_name_of_its_own_and_a_sentence() -> None:
    for name, claim in RUN_CLAIMS.items():
        assert claim.name == name
        assert claim.statement.endswith(".")
        assert name not in ALL


def test_nobody_makes_up_a_claim_that_is_not_registered() -> None:
    """Only those who know a claim by its registered name make a Violation."""
    makers = {
        str(path.relative_to(ROOT))
        for folder in ("simulation", "ourolog/commands", "mutants")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bViolation\(", path.read_text(encoding="utf-8").replace("class Violation(", ""))
    }
    assert makers == {"simulation/checkers/base.py", "simulation/linearizability.py", "simulation/run_claims.py"}
    assert linearizability.CLAIM in ALL


def test_the_checkers_of_a_run_fit_its_mode_and_share_one_model() -> None:
    peers = default_checkers(Options(1))
    elected = default_checkers(Options(1, election="static"))
    assert {"cycle_growth"} <= {checker.name for checker in peers}
    assert {"log_matching", "ballots_on_disk"} <= {checker.name for checker in elected}
    assert not {"cycle_growth"} & {checker.name for checker in elected}
    assert len({id(checker.model) for checker in peers}) == 1  # type: ignore[attr-defined]
    assert [checker.drives for checker in peers].count(True) == 1  # type: ignore[attr-defined]


def test_records_are_read_from_payloads_and_what_is_none_counts_as_one() -> None:
    assert records_of(encode_record(b"a") + encode_record(b"b" * 300), 2) == (b"a", b"b" * 300)
    assert records_of(b"plain", 1) == (b"plain",)
    assert records_of(b"plain", 2) == ()


def test_numbers_are_kept_as_ranges() -> None:
    numbers = Numbers()
    for number in (5, 3, 4, 9, 1, 0, 4, 8):
        numbers.add(number)
    assert [number for number in range(12) if number in numbers] == [0, 1, 3, 4, 5, 8, 9]
    assert len(numbers) == 7

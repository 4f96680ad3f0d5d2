"""Each checker of logs on disk and of promises, on a few events made by hand: it sees the bug that it is for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.peer_calls import CallReceived, FetchRequest
from ourolog.actors.messages.store import BatchAppended
from ourolog.actors.messages.values import PullPosition
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FileRemoved, FileReplaced, FileRewritten, FileTruncated
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Batch, encode_batch
from ourolog.storage.checksummed_json import encode
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, N2, SEGMENT, Scene, ballot_saved, batch

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


def fetch(
    node: str, next_index: int, log_epoch: int = EPOCH, *, wants: int | None = None
) -> CallReceived[FetchRequest]:
    """A fetch that claims all below next_index, and wants that next, or another one."""
    request = FetchRequest(
        "ourolog",
        NodeId(node),
        log_epoch,
        True,
        Term(1),
        Index(next_index if wants is None else wants),
        None,
        0,
        Index(0),
        1,
        1.0,
        disk_index=Index(next_index),
    )
    return CallReceived(1, request, Probe())


def test_a_fetch_that_claims_more_than_is_on_the_disk_is_seen() -> None:
    scene = Scene("fetches_honest")
    scene.start("n2", "static:n1,n2")
    scene.append("n2", batch(0, "a"))
    scene.tell("", "n1.replicator", fetch("n2", 1))
    scene.append("n2", batch(1, "b"), sync=False)
    scene.tell("", "n1.replicator", fetch("n2", 1, wants=2))
    with pytest.raises(Violation, match="never had more there"):
        scene.tell("", "n1.replicator", fetch("n2", 2))


def test_a_fetch_that_wants_what_it_claims_is_seen() -> None:
    scene = Scene("fetches_honest")
    scene.start("n2", "static:n1,n2")
    scene.append("n2", batch(0, "a"))
    with pytest.raises(Violation, match="asks for what follows index 0, and says that it has all below 1"):
        scene.tell("", "n1.replicator", fetch("n2", 1, wants=0))


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

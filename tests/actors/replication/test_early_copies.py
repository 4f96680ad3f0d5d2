"""Followers copy what a leader is about to write: what they are sent, and what counts."""

from __future__ import annotations

from ourolog.actors.messages.events import (
    CommitAdvanced,
    LeaderChanged,
    LogAppended,
    LogStartMoved,
    ReplicasAdvanced,
    VotersChanged,
)
from ourolog.actors.messages.peer_calls import FetchOutcome
from ourolog.actors.messages.store import BatchesGathered, ReadBatches
from ourolog.storage.types import Term
from tests.replicator_stage import N1, N2, N3, STATIC, Stage, at, history, place

A, B = (b"head-a", b"payload-a"), (b"head-b", b"payload-b")


def gathered(first: int, *batches: tuple[bytes, bytes], term: int = 1, begins: int = 0) -> BatchesGathered:
    return BatchesGathered(Term(term), batches, at(first + len(batches), 10), history((term, begins)))


def leader(**config: object) -> Stage:
    """n1 leads term 1 with its control batch on disk, and n2 and n3 wait behind it."""
    stage = Stage(election=STATIC, **config)
    stage.lead()
    stage.fetch(1, N2, 1)
    stage.fetch(2, N3, 1, committed=1)
    stage.fetch(3, N2, 1, committed=1)
    return stage


def test_who_waits_is_sent_what_the_leader_is_about_to_write_and_the_disk_is_not_read() -> None:
    stage = leader()
    stage.tell(gathered(1, A, B))
    for request_id in (2, 3):
        answer = stage.answer_to(request_id)
        assert answer is not None
        assert (answer.outcome, answer.batches) == (FetchOutcome.BATCHES, b"head-apayload-ahead-bpayload-b")
        assert (answer.end, answer.committed) == (at(3, 10), at(1, 0))
    assert stage.store.all(ReadBatches) == []


def test_who_comes_late_is_sent_the_same() -> None:
    stage = leader()
    stage.tell(gathered(1, A, B))
    stage.fetch(4, N2, 2, committed=1)
    answer = stage.answer_to(4)
    assert answer is not None
    assert answer.batches == b"head-bpayload-b"
    stage.fetch(5, N2, 0)
    assert stage.answer_to(5) is None, "what is older is read"
    assert stage.store.last(ReadBatches).until == 1, "no further than the disk has it"


def test_a_follower_that_has_it_first_is_no_follower_whose_log_has_parted() -> None:
    stage = leader()
    stage.tell(gathered(1, A, B))
    stage.fetch(4, N2, 3, committed=1)
    assert stage.answer_to(4) is None, "it waits for more"
    stage.fetch(5, N2, 4, committed=1)
    answer = stage.answer_to(5)
    assert answer is not None
    assert answer.outcome is FetchOutcome.DIVERGED


def test_nothing_commits_before_the_leaders_own_disk_has_it() -> None:
    stage = leader()
    stage.tell(gathered(1, A, B))
    stage.fetch(4, N2, 3, committed=1)
    stage.fetch(5, N3, 3, committed=1)
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(1, 0))
    assert stage.server.last(ReplicasAdvanced).ends == ((N1, 1), (N2, 3), (N3, 3))
    stage.tell(LogAppended((at(2, 5), at(3, 10)), history((1, 0))))
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(3, 10))


def test_what_is_not_on_the_leaders_disk_it_does_not_count_for_itself() -> None:
    stage = leader()
    stage.tell(gathered(1, A, B))
    stage.tell(LogAppended((at(2, 5),), history((1, 0))))
    stage.fetch(4, N2, 3, committed=1)
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(2, 5))


def test_what_the_store_says_before_this_node_leads_is_left_to_the_disk() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(gathered(0, A), LeaderChanged(Term(1), N1))
    stage.fetch(1, N2, 0)
    assert stage.answer_to(1) is None
    stage.appended(1, 0)
    assert stage.store.last(ReadBatches).index == 0


def test_what_was_gathered_in_another_term_is_not_sent() -> None:
    stage = leader()
    stage.tell(gathered(1, A, B), LeaderChanged(Term(2), N2), LeaderChanged(Term(3), N1))
    stage.fetch(4, N2, 1, committed=1, term=Term(3))
    assert stage.answer_to(4) is None
    stage.fetch(5, N3, 2, term=Term(3))
    answer = stage.answer_to(5)
    assert answer is not None
    assert (answer.outcome, answer.end) == (FetchOutcome.DIVERGED, at(1, 0))
    stage.tell(gathered(1, A, term=2))
    assert stage.answer_to(4) is None


def test_what_has_left_memory_and_is_not_on_disk_is_waited_for() -> None:
    stage = leader(fetch_max_bytes=4)
    stage.tell(gathered(1, A, B))
    answer = stage.answer_to(2)
    assert answer is None, "16 bytes are kept, and B takes 15"
    stage.tell(LogAppended((at(2, 5), at(3, 10)), history((1, 0))))
    assert stage.store.last(ReadBatches).index == 1


def test_retention_takes_it_from_memory_too() -> None:
    stage = leader()
    stage.tell(gathered(1, A, B), LogAppended((at(2, 5), at(3, 10)), history((1, 0))), LogStartMoved(at(2, 5)))
    stage.fetch(4, N2, 1, committed=1)
    answer = stage.answer_to(4)
    assert answer is not None
    assert answer.outcome is FetchOutcome.OUT_OF_RANGE


def test_what_begins_a_term_is_known_to_its_followers_before_the_leaders_disk_has_it() -> None:
    stage = Stage(election=STATIC)
    stage.open(at(2), history((1, 0)))
    stage.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(2), N1))
    stage.tell(BatchesGathered(Term(2), (A,), at(3, 2), history((1, 0), (2, 2))))
    stage.fetch(1, N2, 3, term=Term(2), last=place(2))
    assert stage.answer_to(1) is None, "it waits for more, and its log has not parted"


def test_from_memory_no_more_is_sent_than_is_configured() -> None:
    stage = leader(fetch_max_bytes=16)
    stage.tell(gathered(1, A, B))
    stage.fetch(4, N2, 1, committed=1, max_bytes=1000)
    answer = stage.answer_to(4)
    assert answer is not None
    assert answer.batches == b"head-apayload-a"

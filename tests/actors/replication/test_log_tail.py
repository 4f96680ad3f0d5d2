"""The end of a leader's log in memory: what it keeps, and what it gives."""

from __future__ import annotations

from ourolog.actors.messages.store import BatchesGathered
from ourolog.actors.replication.log_tail import LogTail
from ourolog.storage.batch import EncodedBatch
from ourolog.storage.types import Index, Term
from tests.replicator_stage import at, history


def gathered(first: int, *batches: EncodedBatch) -> BatchesGathered:
    return BatchesGathered(Term(1), batches, at(first + len(batches)), history((1, 0)))


A, B, C = (b"head-a", b"payload-a"), (b"head-b", b"payload-b"), (b"head-c", b"payload-c")
SIZE = 15


def read(tail: LogTail, index: int, max_bytes: int) -> bytes:
    return tail.read(Index(index), max_bytes)


def test_it_gives_whole_batches_from_an_entry_on_and_one_however_large() -> None:
    tail = LogTail(1000)
    tail.extend(gathered(5, A, B))
    tail.extend(gathered(7, C))
    assert tail.end == at(8)
    assert read(tail, 5, 1000) == b"head-apayload-ahead-bpayload-bhead-cpayload-c"
    assert read(tail, 6, 2 * SIZE) == b"head-bpayload-bhead-cpayload-c"
    assert read(tail, 6, 2 * SIZE - 1) == b"head-bpayload-b"
    assert read(tail, 6, 0) == b"head-bpayload-b"


def test_it_holds_what_it_was_given_and_nothing_else() -> None:
    tail = LogTail(1000)
    assert not tail.holds(Index(0))
    tail.extend(gathered(5, A, B))
    assert [tail.holds(Index(index)) for index in (4, 5, 6, 7)] == [False, True, True, False]
    tail.clear()
    assert [tail.holds(Index(index)) for index in (0, 4, 5, 6, 7)] == [False] * 5
    assert len(tail) == 0


def test_beyond_its_bound_the_oldest_go_and_the_last_one_stays() -> None:
    tail = LogTail(2 * SIZE)
    tail.extend(gathered(5, A, B, C))
    assert [tail.holds(Index(index)) for index in (5, 6, 7)] == [False, True, True]
    tail.extend(gathered(8, (b"h", b"x" * 1000)))
    assert len(tail) == 1
    assert read(tail, 8, 10) == b"h" + b"x" * 1000


def test_what_does_not_follow_begins_anew() -> None:
    tail = LogTail(1000)
    tail.extend(gathered(5, A))
    tail.extend(gathered(7, C))
    assert [tail.holds(Index(index)) for index in (5, 6, 7)] == [False, False, True]


def test_after_it_was_cleared_it_keeps_as_much_as_before() -> None:
    tail = LogTail(2 * SIZE)
    tail.extend(gathered(5, A, B))
    tail.clear()
    tail.extend(gathered(5, A, B))
    assert tail.holds(Index(5))

"""Whose disks have a record, and what is said of those that do not."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.config import Fsync, NodeConfig
from ourolog.actors.messages.events import ReplicasAdvanced
from ourolog.actors.requests.replicas import Replicas
from ourolog.storage.types import Index, NodeId, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
THREE = (N1, N2, N3)


def told(index: int, *ends: int, term: int = 1, in_sync: tuple[NodeId, ...] = THREE) -> ReplicasAdvanced:
    by_voter = tuple((voter, Index(end)) for voter, end in zip(THREE, ends, strict=False))
    return ReplicasAdvanced(Term(term), Index(index), by_voter, in_sync)


def replicas(news: ReplicasAdvanced, **settings: Any) -> Replicas:
    found = Replicas(NodeConfig(N1, "/d", "h:1", "h:2", **settings))
    found.advanced(news)
    return found


def test_who_has_an_entry_has_all_below_a_higher_index() -> None:
    known = replicas(told(4, 9, 7, 4))
    assert known.that_have(Index(3)) == THREE
    assert known.that_have(Index(4)) == (N1, N2)
    assert known.that_have(Index(7)) == (N1,)
    assert (known.all_have(Index(3)), known.all_have(Index(4))) == (True, False)


def test_what_a_node_has_written_is_on_its_disk_unless_it_syncs_at_intervals() -> None:
    assert replicas(told(0)).that_have(Index(3)) == (N1,)
    lazy = replicas(told(0, 3, 4, 4), fsync=Fsync.INTERVAL)
    assert lazy.that_have(Index(3)) == (N2, N3)
    assert lazy.that_have(Index(2)) == THREE


def test_what_an_earlier_term_had_is_forgotten_and_only_more_for_all_is_worth_a_look() -> None:
    known = replicas(told(4, 9, 7, 4))
    assert not known.advanced(told(4, 9, 8, 4))
    assert known.advanced(told(5, 9, 8, 5))
    known.begin_term(Term(1))
    assert known.all_have(Index(4))
    known.begin_term(Term(2))
    assert (known.all_have(Index(0)), known.that_have(Index(0))) == (False, (N1,))
    assert known.advanced(told(0, term=3))


@pytest.mark.parametrize(
    ("wanted", "ends", "in_sync", "sentence"),
    [
        (None, (9, 9, 4), THREE, "n3 does not have it yet"),
        (None, (9, 4, 4), THREE, "n2 and n3 do not have it yet"),
        (2, (9, 9, 4), THREE, "n3 does not have it yet; n3 is in sync"),
        (2, (9, 4, 4), (N1,), "n2 and n3 do not have it yet; --min-in-sync asks for 2"),
        (4, (9, 9, 9), THREE, "--min-in-sync asks for 4, and there are 3 voters only"),
        (2, (9,), (N1,), "--min-in-sync asks for 2, and there is 1 voter only"),
    ],
)
def test_it_is_said_who_does_not_have_it(
    wanted: int | None, ends: tuple[int, ...], in_sync: tuple[NodeId, ...], sentence: str
) -> None:
    assert replicas(told(0, *ends, in_sync=in_sync), min_in_sync=wanted).why_not_all(Index(5)) == sentence


def test_of_what_is_not_committed_it_is_said_which_voters_lack_it() -> None:
    assert replicas(told(0, 9, 4, 4)).why_no_quorum(Index(5)) == "n2 and n3 do not have it yet"
    assert replicas(told(0, 9, 4, 9)).why_no_quorum(Index(5)) == "n2 does not have it yet"
    assert replicas(told(9, 9, 9, 9)).why_no_quorum(Index(5)) == ""

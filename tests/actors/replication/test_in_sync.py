"""Which voters are in sync, and what may be acknowledged for all of them."""

from __future__ import annotations

import pytest

from ourolog.actors.config import NodeConfig
from ourolog.actors.replication.in_sync import IN_SYNC_ELECTIONS, InSync
from ourolog.storage.types import Index, NodeId

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
THREE = (N1, N2, N3)


def in_sync(min_in_sync: int | None, now_s: float = 100.0) -> InSync:
    config = NodeConfig(N1, "/d", "h:1", "h:2", min_in_sync=min_in_sync, election_timeout_s=2.0)
    return InSync(config, now_s)


def test_every_voter_is_waited_for_where_nobody_said_otherwise_however_long_it_is_silent() -> None:
    assert in_sync(None).members(THREE, 10_000.0) == THREE


def test_a_voter_is_in_sync_for_three_election_timeouts_after_its_last_fetch_or_the_leads_begin() -> None:
    sync = in_sync(2)
    assert IN_SYNC_ELECTIONS == 3
    assert sync.members(THREE, 106.0) == THREE
    assert sync.members(THREE, 106.1) == (N1,), "the leader need not fetch from itself"
    sync.fetched(N3, 106.0)
    assert sync.members(THREE, 112.0) == (N1, N3)
    assert sync.members(THREE, 112.1) == (N1,)
    sync.fetched(N2, 112.0)
    sync.set_voters(THREE, (N1, N2), 112.0)
    assert sync.members((N1, N2), 118.0) == (N1, N2)
    sync.set_voters((N1, N2), THREE, 120.0)
    assert sync.members(THREE, 126.0) == (N1, N3), "a new voter has time to fetch"
    assert sync.members(THREE, 126.1) == (N1,)


@pytest.mark.parametrize(
    ("wanted", "members", "index"),
    [
        (None, THREE, 3),
        (1, (N1,), 9),
        (1, (N1, N2), 7),
        (2, (N1,), 7),
        (2, (N1, N3), 3),
        (3, (N1,), 3),
        (4, (N1,), 0),
        (1, (), 0),
    ],
)
def test_as_many_as_asked_for_have_it_and_all_that_are_in_sync(
    wanted: int | None, members: tuple[NodeId, ...], index: int
) -> None:
    on_disk = {N1: Index(9), N2: Index(7), N3: Index(3)}
    assert in_sync(wanted).index(THREE, on_disk, members) == index


def test_what_was_said_to_be_on_all_stays_said_within_a_term() -> None:
    sync = in_sync(2)
    on_disk = {N1: Index(9), N2: Index(7)}
    assert sync.index(THREE, on_disk, (N1, N2)) == 7
    assert sync.index(THREE, on_disk, THREE) == 7

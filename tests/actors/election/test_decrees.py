"""Whole nodes on virtual time: decrees that change, all at once and one by one, and terms out of nowhere.

The three ways in which two leaders of one term once went unnoticed, with replicas that differed for
good; and what must be said, refused and kept on each of them.
"""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.messages.election import ClaimHeard
from ourolog.actors.messages.membership import LeaveCluster
from ourolog.actors.messages.observer import NodeNotReady, NodeReady, NodeWarned
from ourolog.actors.messages.peer_calls import CallReceived, FetchRequest
from ourolog.actors.messages.server import Produced, Refusal, RequestRefused
from ourolog.actors.messages.values import Acks, ElectionClaim
from ourolog.actors.occupants import parse_election
from ourolog.actors.testing.testkit import Probe
from ourolog.actors.testing.virtual_cluster import VirtualCluster
from ourolog.storage.batch import Batch
from ourolog.storage.memory import MemoryFiles
from ourolog.storage.terms import Place
from ourolog.storage.types import Index, NodeId, Term

NAMES = ("n1", "n2", "n3")
OLD, NEW = "static:n1,n2,n3", "static:n2,n1,n3"


def cluster_of(decree: str = OLD, **config: Any) -> VirtualCluster:
    cluster = VirtualCluster()
    for name in NAMES:
        start(cluster, name, decree, **config)
    cluster.runtime.run_for(3)
    return cluster


def start(cluster: VirtualCluster, name: str, decree: str, **config: Any) -> None:
    config.setdefault("join", tuple(f"{other}:8401" for other in NAMES))
    cluster.start(name, election=parse_election(decree), **config)


def restart(cluster: VirtualCluster, name: str, decree: str) -> None:
    cluster.stop(name)
    start(cluster, name, decree)


def entries(cluster: VirtualCluster, name: str) -> list[Batch]:
    """All that a reader of this node gets: what it holds for committed."""
    return list(cluster.batches(name))


def values(cluster: VirtualCluster, name: str) -> list[bytes]:
    return [batch.payload for batch in entries(cluster, name)]


def said(cluster: VirtualCluster, name: str) -> str:
    return "\n".join(event.reason for event in cluster.events(name) if isinstance(event, NodeWarned | NodeNotReady))


def disputes(cluster: VirtualCluster, name: str) -> list[NodeNotReady]:
    return [event for event in cluster.events(name) if isinstance(event, NodeNotReady) and event.needs_person]


def is_ready(cluster: VirtualCluster, name: str) -> bool:
    last = [event for event in cluster.events(name) if isinstance(event, NodeReady | NodeNotReady)][-1]
    return isinstance(last, NodeReady)


def assert_nothing_differs(cluster: VirtualCluster) -> None:
    """What two nodes hold for committed at one place is the same."""
    logs = {name: entries(cluster, name) for name in cluster.nodes}
    longest = max(logs.values(), key=len)
    for name, log in logs.items():
        assert [(batch.base_offset, batch.payload) for batch in log] == [
            (batch.base_offset, batch.payload) for batch in longest[: len(log)]
        ], name


def test_an_old_leader_that_comes_back_with_its_old_flags_is_noticed_and_its_entries_go() -> None:
    cluster = cluster_of()
    assert isinstance(cluster.produce("n1", b"first", acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1.5)
    for name in NAMES:
        cluster.stop(name)
    for name in ("n2", "n3"):
        start(cluster, name, NEW)
    cluster.runtime.run_for(3)
    assert isinstance(cluster.produce("n2", b"acknowledged by quorum", acks=Acks.QUORUM), Produced)
    start(cluster, "n1", OLD)
    assert not isinstance(cluster.produce("n1", b"times out", acks=Acks.QUORUM), Produced)
    cluster.runtime.run_for(3)
    for name in NAMES:
        (dispute,) = disputes(cluster, name)
        assert OLD in dispute.reason
        assert NEW in dispute.reason
        assert not is_ready(cluster, name)
        refused = cluster.produce(name, b"now", acks=Acks.LEADER)
        assert isinstance(refused, RequestRefused)
        assert refused.refusal is Refusal.NOT_READY
    restart(cluster, "n1", NEW)
    cluster.runtime.run_for(10)
    assert all(is_ready(cluster, name) for name in NAMES)
    assert isinstance(cluster.produce("n2", b"after", acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1)
    for name in NAMES:
        assert values(cluster, name) == [b"first", b"acknowledged by quorum", b"after"]


def test_the_entries_of_two_leaders_of_one_term_are_told_apart_though_nobody_ever_heard_of_the_other() -> None:
    cluster = cluster_of()
    cluster.produce("n1", b"first", acks=Acks.ALL)
    cluster.runtime.run_for(1.5)
    for name in NAMES:
        cluster.stop(name)
    for name in ("n2", "n3"):
        start(cluster, name, NEW)
    cluster.runtime.run_for(3)
    assert isinstance(cluster.produce("n2", b"acknowledged by quorum", acks=Acks.QUORUM), Produced)
    for name in ("n2", "n3"):
        cluster.stop(name)
    start(cluster, "n1", OLD)
    assert not isinstance(cluster.produce("n1", b"times out", acks=Acks.QUORUM), Produced)
    cluster.stop("n1")
    for name in NAMES:
        start(cluster, name, NEW)
    cluster.runtime.run_for(10)
    assert isinstance(cluster.produce("n2", b"after", acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1)
    for name in NAMES:
        assert values(cluster, name) == [b"first", b"acknowledged by quorum", b"after"]
    assert "n1 drops its entries" in said(cluster, "n1")


def test_an_old_leader_that_a_supervisor_starts_again_while_flags_change_acknowledges_nothing() -> None:
    cluster = cluster_of()
    cluster.produce("n1", b"first", acks=Acks.ALL)
    cluster.runtime.run_for(1.5)
    restart(cluster, "n2", NEW)
    cluster.runtime.run_for(1)
    restart(cluster, "n1", OLD)  # as a supervisor would
    cluster.runtime.run_for(3)
    acknowledged = [
        number for number in range(10) if isinstance(cluster.produce("n1", b"n%d" % number, acks=Acks.QUORUM), Produced)
    ]
    assert acknowledged == []
    restart(cluster, "n3", NEW)
    restart(cluster, "n1", NEW)
    cluster.runtime.run_for(10)
    assert isinstance(cluster.produce("n2", b"after", acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1)
    for name in NAMES:
        assert values(cluster, name) == [b"first", b"after"]
        assert is_ready(cluster, name)


@pytest.mark.parametrize("crash", [False, True])
def test_what_was_acknowledged_before_a_change_one_by_one_is_kept_or_the_change_is_refused_loudly(crash: bool) -> None:
    cluster = cluster_of()
    cluster.kill("n2")
    for number in range(10):
        assert isinstance(cluster.produce("n1", b"n%d" % number, acks=Acks.QUORUM), Produced)
    cluster.runtime.run_for(1.5)
    start(cluster, "n2", NEW)
    for name in ("n3", "n1"):
        if crash:
            cluster.kill(name)
            start(cluster, name, NEW)
        else:
            restart(cluster, name, NEW)
    cluster.runtime.run_for(10)
    for name in ("n1", "n3"):
        assert values(cluster, name) == [b"n%d" % number for number in range(10)]
        assert "keeps its copy and does not follow" in said(cluster, name)
    assert not isinstance(cluster.produce("n2", b"lonely", acks=Acks.QUORUM), Produced)
    assert not is_ready(cluster, "n2")
    assert_nothing_differs(cluster)


def test_a_leader_that_lost_its_disk_gives_up_what_it_wrote_since_when_another_is_decreed() -> None:
    cluster = cluster_of()
    old = [b"old %d" % number for number in range(20)]
    for value in old:
        assert isinstance(cluster.produce("n1", value, acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1.5)
    cluster.kill("n1")
    cluster.files[NodeId("n1")] = MemoryFiles()
    cluster.runtime.run_for(1)
    start(cluster, "n1", OLD)
    for number in range(20):
        assert not isinstance(cluster.produce("n1", b"other %d" % number, acks=Acks.QUORUM), Produced)
    assert_nothing_differs(cluster)
    for name in ("n2", "n3"):
        assert "n1 has lost its disk" in said(cluster, name)
    for name in NAMES:
        cluster.stop(name)
    for name in NAMES:
        start(cluster, name, NEW)
    cluster.runtime.run_for(10)
    assert isinstance(cluster.produce("n2", b"after", acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1)
    for name in NAMES:
        assert values(cluster, name) == [*old, b"after"]


def test_a_node_under_another_decree_is_not_ready_says_why_once_and_is_well_again_without_a_restart() -> None:
    cluster = cluster_of()
    restart(cluster, "n3", "static:n1,n3")
    cluster.runtime.run_for(20)
    assert [len(disputes(cluster, name)) for name in NAMES] == [1, 1, 1]
    assert "n3 with static:n1,n3" in disputes(cluster, "n1")[0].reason
    restart(cluster, "n3", OLD)
    cluster.runtime.run_for(5)
    assert all(is_ready(cluster, name) for name in NAMES)
    assert isinstance(cluster.produce("n1", b"again", acks=Acks.ALL), Produced)


def test_a_rival_that_was_stopped_disputes_nothing_any_more() -> None:
    cluster = cluster_of()
    restart(cluster, "n3", "static:n3")
    cluster.runtime.run_for(5)
    assert not is_ready(cluster, "n1")
    cluster.nodes[NodeId("n3")].membership.tell(LeaveCluster(1, Probe()))
    cluster.runtime.run_for(1)
    cluster.stop("n3")
    cluster.runtime.run_for(5)
    assert is_ready(cluster, "n1")
    assert isinstance(cluster.produce("n1", b"two of three", acks=Acks.QUORUM), Produced)


def test_a_rival_that_is_not_heard_of_any_more_may_lead_on_where_it_is_until_a_person_has_decided() -> None:
    cluster = cluster_of()
    restart(cluster, "n3", "static:n3")
    cluster.runtime.run_for(5)
    cluster.kill("n3")
    cluster.runtime.run_for(60)
    (dispute,) = disputes(cluster, "n1")
    assert "n3 with static:n3" in dispute.reason
    assert not isinstance(cluster.produce("n1", b"not yet", acks=Acks.LEADER), Produced)
    restart(cluster, "n1", OLD)
    restart(cluster, "n2", OLD)
    cluster.runtime.run_for(10)
    assert is_ready(cluster, "n1")
    assert isinstance(cluster.produce("n1", b"decided", acks=Acks.QUORUM), Produced)


# ---------------------------------------------------------------- terms out of nowhere


TERMS = (0, 1, 2, 3, 2**20, 2**20 + 1, 2**31, 2**32, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


@pytest.mark.parametrize("liar", ["n2", "n3", "stranger"])
def test_no_term_that_anybody_asks_with_ends_the_cluster(liar: str) -> None:
    cluster = cluster_of()
    assert isinstance(cluster.produce("n1", b"before", acks=Acks.ALL), Produced)
    client = Probe()
    for number, term in enumerate(TERMS):
        for at, target in enumerate(NAMES):
            request = FetchRequest(
                cluster="ourolog",
                node_id=NodeId(liar),
                log_epoch=term,
                elected=True,
                term=Term(term),
                next_index=Index(TERMS[-number]),
                last=Place(Term(term), (NodeId(liar), term)) if number % 2 else None,
                source_epoch=term,
                committed=Index(term),
                max_bytes=100,
                max_wait_s=0.1,
            )
            cluster.nodes[NodeId(target)].replicator.tell(CallReceived(1000 + 10 * number + at, request, client))
    cluster.runtime.run_for(3)
    assert isinstance(cluster.produce("n1", b"after", acks=Acks.ALL), Produced)
    for event in cluster.events("n1"):
        assert getattr(event, "term", 1) == 1, "no term was burnt"
    for name in NAMES:
        cluster.kill(name)
    for name in NAMES:
        start(cluster, name, OLD)
    cluster.runtime.run_for(5)
    assert isinstance(cluster.produce("n1", b"after restarts", acks=Acks.ALL), Produced)
    for name in ("n1", "n2"):
        cluster.kill(name)
    cluster.files[NodeId("n2")] = MemoryFiles()
    for name in ("n1", "n2"):
        start(cluster, name, OLD)
    cluster.runtime.run_for(5)
    assert isinstance(cluster.produce("n1", b"after a fresh disk", acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1)
    assert values(cluster, "n2") == [b"before", b"after", b"after restarts", b"after a fresh disk"]


def test_a_term_that_somebody_claims_in_a_dead_voters_name_shuts_nobody_out() -> None:
    cluster = cluster_of()
    cluster.kill("n3")
    cluster.runtime.run_for(10)
    for claimed in (2**32 + 1, 2**33 + 2**32, 2**62 - 2**32):
        claim = ElectionClaim(OLD, Term(claimed), NodeId("n1"))
        cluster.nodes[NodeId("n1")].election.tell(ClaimHeard(NodeId("n3"), claim))
        cluster.runtime.run_for(3)
    cluster.files[NodeId("n3")] = MemoryFiles()
    start(cluster, "n3", OLD)
    cluster.runtime.run_for(20)
    assert isinstance(cluster.produce("n1", b"by all", acks=Acks.ALL), Produced)
    for name in ("n1", "n2"):
        cluster.kill(name)
    cluster.files[NodeId("n1")] = MemoryFiles()
    for name in ("n1", "n2"):
        start(cluster, name, NEW)
    restart(cluster, "n3", NEW)
    cluster.runtime.run_for(20)
    assert isinstance(cluster.produce("n2", b"by all again", acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1)
    assert values(cluster, "n1") == [b"by all", b"by all again"]


def test_strangers_however_many_do_not_outvote_a_majority_of_the_voters() -> None:
    cluster = cluster_of()
    for number in range(8):
        claim = ElectionClaim("static:x1", Term(1), NodeId("x1"))
        cluster.nodes[NodeId("n1")].election.tell(ClaimHeard(NodeId(f"x{number}"), claim))
    cluster.runtime.run_for(1)
    assert disputes(cluster, "n1") == []
    assert isinstance(cluster.produce("n1", b"all the same", acks=Acks.QUORUM), Produced)


def test_a_leader_goes_past_the_terms_that_its_followers_have_reached_without_it() -> None:
    cluster = cluster_of()
    for decree in (NEW, "static:n3,n2", "static:n2,n3"):
        for name in ("n2", "n3"):
            cluster.stop(name)
        if "n1" in cluster.nodes:
            cluster.stop("n1")
        for name in ("n2", "n3"):
            start(cluster, name, decree)
        cluster.runtime.run_for(3)
    for name in ("n2", "n3"):
        cluster.stop(name)
    for name in NAMES:
        start(cluster, name, "static:n1,n2,n3")
    cluster.runtime.run_for(5)
    # n1 lacks the control batches of the terms that it missed, all of them committed by the others.
    assert "keeps its copy" in said(cluster, "n2")
    for name in NAMES:
        cluster.stop(name)
    for name in NAMES:
        start(cluster, name, NEW)
    cluster.runtime.run_for(5)
    assert isinstance(cluster.produce("n2", b"v", acks=Acks.ALL), Produced)


def test_a_data_directory_at_the_last_term_there_is_says_so_and_changes_nothing() -> None:
    cluster = VirtualCluster()
    start(cluster, "n1", "static:n1")
    cluster.stop("n1")
    from ourolog.storage.ballot import Ballot, save_ballot

    files = cluster.files[NodeId("n1")]
    save_ballot(files, "/n1/ballot", Ballot(Term(2**64 - 1), NodeId("n1"), NodeId("n1")))
    start(cluster, "n1", "static:n1")
    assert any("beyond which there is none" in str(getattr(event, "reason", "")) for event in cluster.events("n1"))

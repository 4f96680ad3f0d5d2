"""What a leader, and gossip, may not take for more than it is; each with the bug that the checkers must catch."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import MemberFailed
from ourolog.actors.messages.observer import PullStopped
from ourolog.actors.server import ServerActor
from ourolog.simulation import Cluster, Violation
from ourolog.simulation.checkers.linearizable import Linearizable
from ourolog.simulation.client import OutOfRangeError, RefusedError
from ourolog.simulation.events import Event, NodeSaid

STATIC = "static:n1,n2,n3"


def leader_alone_after_a_crash(cluster: Cluster) -> None:
    cluster.run_for(3)
    for number in range(5):
        cluster.produce("n1", b"%d" % number, acks="quorum")
    cluster.crash("n1")
    cluster.stop("n2", "n3")
    cluster.start("n1", force_lead=True)


def test_a_leader_alone_after_a_crash_claims_no_end_and_serves_all_once_it_has_a_quorum() -> None:
    with Cluster(seed=1, election=STATIC) as cluster:
        leader_alone_after_a_crash(cluster)
        for _ in range(5):
            with pytest.raises(RefusedError, match="not known"):
                cluster.consume("n1", 4)
        cluster.start("n2")
        cluster.run_for(3)
        assert cluster.consume("n1", 4) == b"4"
        with pytest.raises(OutOfRangeError):
            cluster.consume("n1", 5)


def test_a_leader_that_takes_what_it_knows_for_the_end_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServerActor, "_knows_end", property(lambda _: True))

    def ask_it() -> None:
        with Cluster(1, election=STATIC, checkers=(Linearizable(),)) as cluster:
            leader_alone_after_a_crash(cluster)
            cluster.consume("n1", 4)

    with pytest.raises(Violation, match="after offset 4 had been acknowledged"):
        ask_it()


@pytest.mark.parametrize(("election", "filtered"), [(STATIC, "n1"), (STATIC, "n2"), ("none", "n1")])
def test_what_works_over_tcp_goes_on_when_gossip_does_not_pass(election: str, filtered: str) -> None:
    said: list[Event] = []
    with Cluster(seed=3, election=election) as cluster:
        cluster.run_for(3)
        cluster.subscribe(said.append)
        cluster.filter_datagrams(filtered)
        for number in range(40):
            cluster.produce("n1", b"%d" % number, acks="all")
            cluster.run_for(0.5)
        assert any(isinstance(event, NodeSaid) and isinstance(event.event, MemberFailed) for event in said)
        for name in ("n2", "n3"):
            assert [record.value for record in cluster.records(name)] == [b"%d" % number for number in range(40)]
        stopped = [event for event in said if isinstance(event, NodeSaid) and isinstance(event.event, PullStopped)]
        assert stopped == []
        cluster.heal()
        cluster.run_for(30)


def test_a_follower_that_restarts_where_gossip_does_not_pass_is_back_when_it_does() -> None:
    with Cluster(seed=3, election=STATIC) as cluster:
        cluster.run_for(3)
        cluster.filter_datagrams("n1")
        cluster.run_for(20)
        cluster.crash("n1")
        cluster.run_for(5)
        cluster.start("n1", force_lead=True)  # who cannot be found cannot be asked
        cluster.produce("n1", b"to followers that never forgot where the leader was", acks="all")
        cluster.heal()

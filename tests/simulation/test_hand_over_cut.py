"""A leader hands over, and in the middle of it one of the three loses its power: nothing is lost, one leads again."""

from __future__ import annotations

import pytest

from ourolog.simulation import Cluster
from ourolog.simulation.events import Event, MessageHandled
from ourolog.storage.types import NodeId

STEPS = 36
"""More messages than the three handle in a hand-over, gossip aside."""


class CutHandOver(Cluster):
    """Three voters; after that many messages that they handle in a hand-over, the victim's power is cut."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.victim: NodeId | None = None
        super().__init__(steps, 3, "raft", observers=(self._see,))

    def _see(self, event: Event) -> None:
        if self.victim is None or not isinstance(event, MessageHandled) or event.receiver.endswith(".membership"):
            return
        self.left -= 1
        if self.left < 0:
            victim, self.victim = self.victim, None
            self.after(0.0, lambda: self.crash(victim, power=True))

    def is_led(self) -> bool:
        leader_id = self.leader_id
        return leader_id in self.running and self.status(leader_id).election.leader_id == leader_id


@pytest.mark.parametrize("victim", ["the leader", "the first follower", "the second follower"])
def test_a_hand_over_that_is_cut_at_any_step_loses_nothing(victim: str) -> None:
    cut = 0
    for steps in range(0, STEPS, 3):
        with CutHandOver(steps) as cluster:
            cluster.run_until(cluster.is_led, 10.0)
            leader_id = cluster.leader_id
            assert leader_id is not None
            offset = cluster.produce(leader_id, b"before", acks="all")
            first, second = (name for name in cluster.names if name != leader_id)
            cluster.victim = {"the leader": leader_id, "the first follower": first}.get(victim, second)
            cluster.begin_stop(leader_id)
            cluster.run_until(lambda stopped=leader_id: stopped not in cluster.running, 10.0)
            cluster.victim = None
            cluster.start()
            cluster.run_until(cluster.is_led, 10.0)
            client = cluster.client()
            assert client.produce(b"after", acks="all") > offset
            assert client.consume(offset) == b"before"
            cut += cluster.states.counts.get("hand_over_cut", 0)
    assert cut or victim == "the second follower", "it is not asked to take over"

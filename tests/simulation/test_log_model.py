"""What checkers know of a log that no file tells."""

from __future__ import annotations

from ourolog.actors.messages.store import LogTruncated
from ourolog.simulation import Cluster
from ourolog.simulation.checkers import ClusterModel
from ourolog.simulation.events import MessageTold
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import Index, NodeId, Offset, Position


def test_a_log_that_was_reset_begins_where_its_node_says() -> None:
    model = ClusterModel()
    cluster = Cluster(seed=1, nodes=3, election="static")
    cluster.subscribe(lambda event: model.see(event, cluster))
    with cluster:
        cluster.run_for(2.0)
        log = model.node(NodeId("n2")).log
        assert log.end.index > 0
        start = Position(Index(9), Offset(6))
        reset = MessageTold(3.0, "n2.store", "n2.replicator", LogTruncated(start, start, TermHistory()))
        model.see(reset, cluster)
        assert log.start.index == 0, "what has entries is believed, and not what is said"
        log.entries.clear()
        model.see(MessageTold(3.0, "n2.store", "n2.replicator", reset.message), cluster)
        assert (log.start, log.end, log.durable_index) == (start, start, 9)

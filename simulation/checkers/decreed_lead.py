"""Who may lead because a person said so: not without what a majority has."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_end_answers import QUESTION
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted, PacketSent
from ourolog.storage.types import Index, NodeId, Term


class DecreedLeaderNotBehind(EventChecker):
    """Compares the log of a decreed leader, when it begins to lead, with the disks of the voters.

    What they have answered does not matter here, nor whether they were asked (see `decreed_leader_asked`). Of one
    that was asked, its log counts as it was at its shortest since: what it got from another leader after its answer,
    while the question was still being decided, nobody could know.

    Where a node was told to lead without asking (`--force-lead`), or a disk lies or has lost something, nothing
    can be said of it.
    """

    name: ClassVar[str] = "decreed_leader_not_behind"
    statement: ClassVar[str] = (
        "A decreed leader that was not forced begins to lead only where a majority of the voters, it among them, has "
        "no log that ends later than its own: then it has all that a quorum acknowledged (Raft section 5.4.1)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started, PacketSent: self._on_sent}
        self.on_told = {LeaderChanged: self._on_leader_changed}
        self.on_log = self._on_log_changed
        # Of each that has asked, the ends of those that it asked, at their least since.
        self._least: dict[NodeId, dict[NodeId, tuple[Term, Index] | None]] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._least.pop(event.node_id, None)

    def _on_sent(self, event: PacketSent) -> None:
        if event.what == QUESTION:
            voter = self.model.nodes.get(event.target)
            self._least.setdefault(event.source, {})[event.target] = _end_of(voter) if voter is not None else None

    def _on_log_changed(self, node: NodeModel) -> None:
        for asked in self._least.values():
            least = asked.get(node.node_id)
            if least is not None:
                end = _end_of(node)
                asked[node.node_id] = min(least, end) if end is not None else None

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        node = self.model.nodes.get(node_id)
        if actor != "replicator" or changed.leader_id != node_id or node is None or node.config is None:
            return
        election = node.config.election
        asked = self._least.pop(node_id, {})
        if not election.is_decreed or node.config.force_lead or len(election.voters) == 1:
            return
        own = _end_of(node)
        if own is None:
            return
        ahead = {}
        for voter in election.voters:
            other = self.model.nodes.get(voter)
            end = _end_of(other) if other is not None and voter != node_id else None
            if end is not None:
                end = asked.get(voter, end)
            if end is not None and end > own:
                ahead[voter] = end
        if 2 * (len(election.voters) - len(ahead)) <= len(election.voters):
            theirs = ", ".join(f"{voter} at {index} in term {term}" for voter, (term, index) in sorted(ahead.items()))
            raise self.violated(
                f"{node_id} leads term {changed.term} with a log that ends at {own[1]} in term {own[0]}, and no "
                f"majority of the voters is with it, for these are ahead: {theirs}"
            )


def _end_of(node: NodeModel) -> tuple[Term, Index] | None:
    """Term of the last entry on its disk and the index after it; None where that is not known."""
    log = node.log
    if node.spoiled or node.was_spoiled or not log.opened or (not log.entries and log.durable_index):
        return None
    return log.durable_place

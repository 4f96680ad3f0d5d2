"""Who may lead because a person said so."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold
from ourolog.storage.types import Index, Term


class DecreedLeaderNotBehind(EventChecker):
    """Holds the log of a decreed leader, when it begins to lead, against those of the voters.

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
        self.on_told = {LeaderChanged: self._on_leader_changed}

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        node = self.model.nodes.get(node_id)
        if actor != "replicator" or changed.leader_id != node_id or node is None or node.config is None:
            return
        election = node.config.election
        if not election.is_decreed or node.config.force_lead or len(election.voters) == 1:
            return
        own = _end_of(node)
        if own is None:
            return
        ahead = {}
        for voter in election.voters:
            other = self.model.nodes.get(voter)
            end = _end_of(other) if other is not None and voter != node_id else None
            if end is not None and end > own:
                ahead[voter] = end
        if len(ahead) > len(election.voters) // 2:
            theirs = ", ".join(f"{voter} at {index} in term {term}" for voter, (term, index) in sorted(ahead.items()))
            raise self.violated(
                f"{node_id} leads term {changed.term} with a log that ends at {own[1]} in term {own[0]}, and most "
                f"voters are ahead: {theirs}"
            )


def _end_of(node: NodeModel) -> tuple[Term, Index] | None:
    """Term of the last entry on its disk and the index after it; None where that is not known."""
    log = node.log
    if node.spoiled or node.was_spoiled or not log.opened or (not log.entries and log.durable_index):
        return None
    return log.durable_place

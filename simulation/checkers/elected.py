"""Who may lead because others voted for it: not without a majority of the votes, on the voters' own disks."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged, LogOpened
from ourolog.actors.messages.store import BallotSaved
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId, Term


class LeaderElected(EventChecker):
    """Collects the votes that stores say are on disk, each with the disk, and counts them when a node says it leads."""

    name: ClassVar[str] = "leader_elected"
    statement: ClassVar[str] = (
        "Who says that it leads is one of the voters that its log names, and has the votes of a majority of them for "
        "that term on disk (Raft section 5.2): each on the very disk that is named, for a node with another disk is "
        "another voter."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {BallotSaved: self._on_saved, LogOpened: self._on_opened, LeaderChanged: self._on_leader_changed}
        self._votes: dict[tuple[Term, NodeId], set[VoterKey]] = {}

    def _on_saved(self, told: MessageTold) -> None:
        saved = told.message
        assert isinstance(saved, BallotSaved)
        node = self.model.sender_of(told)
        if node is not None:
            self._note(node.key, saved.ballot)

    def _on_opened(self, told: MessageTold) -> None:
        """Note a vote that a crash had kept the store from reporting."""
        opened = told.message
        assert isinstance(opened, LogOpened)
        node = self.model.receiver_of(told)
        if node is not None:
            self._note(node.key, opened.ballot)

    def _note(self, voter: VoterKey, ballot: Ballot) -> None:
        if ballot.voted_for is not None:
            self._votes.setdefault((ballot.term, ballot.voted_for), set()).add(voter)

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node = self.model.receiver_of(told)
        if node is None or changed.leader_id != node.node_id or self.model.place(told.receiver)[1] != "replicator":
            return
        voters = self.model.voters_of(node)
        if node.key not in voters:
            raise self.violated(f"{node.node_id} leads term {changed.term} with a disk that has no vote")
        votes = self._votes.get((changed.term, node.node_id), set())
        granted = [voter.node_id for voter in voters if voter in votes]
        if len(granted) <= len(voters) // 2:
            raise self.violated(
                f"{node.node_id} leads term {changed.term}, and of the voters {', '.join(v.node_id for v in voters)} "
                f"only {', '.join(granted) or 'nobody'} has a vote for it on disk"
            )

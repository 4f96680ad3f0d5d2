"""What a leader must have when it begins to lead."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged
from ourolog.simulation.checkers.acknowledged import is_on_disk
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import Entry
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.checkers.voter_sets import set_in
from ourolog.simulation.events import FileSynced, MessageTold, NodeStarted
from ourolog.storage.control import VoterKey
from ourolog.storage.types import Index, NodeId, Term


class LeaderCompleteness(EventChecker):
    """Follows how far each voter's disk has got with entries of its present term, and what nodes hold for committed.

    An entry is committed when a majority of the voters have it on disk while they are in the term in which it was
    made, whether or not its leader ever learns of it: each of them votes later only for a log that has it (Raft
    section 5.4.3). Of each term the last such entry is kept. All before it is the same wherever it stands, which is
    the claim of `log_matching`.
    """

    name: ClassVar[str] = "leader_completeness"
    statement: ClassVar[str] = (
        "Who begins to lead has on its disk all that was committed in earlier terms: what a majority of the voters had "
        "on disk in the term in which it was made, and what any node held for committed (Raft section 5.4.3, the "
        "leader completeness property)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {FileSynced: self._on_synced, NodeStarted: self._on_started}
        self.on_told = {LeaderChanged: self._on_leader_changed, CommitAdvanced: self._on_committed}
        self._reached: dict[Term, dict[VoterKey, Index]] = {}
        self._on_majority: dict[Term, Entry] = {}
        self._held: dict[Term, Entry] = {}
        self._terms: dict[NodeId, Term] = {}
        self.on_log = self._on_log_changed
        self._named: dict[NodeId, tuple[Index, tuple[VoterKey, ...]]] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._terms.pop(event.node_id, None)
        self._named.pop(event.node_id, None)

    def _on_log_changed(self, node: NodeModel) -> None:
        """Note who is named in a log from the bytes: its store says so only once they are on disk."""
        named = self._named.get(node.node_id)
        if named is not None and any(entry.index == named[0] for entry in self.model.gone):
            del self._named[node.node_id]
        for entry in self.model.fresh:
            voters = set_in(entry)
            if voters is not None:
                keys = tuple(VoterKey(NodeId(node_id), epoch) for node_id, epoch, *_ in voters[2])
                self._named[node.node_id] = entry.index, keys

    def _voters_of(self, node: NodeModel, last: Entry) -> tuple[VoterKey, ...]:
        """Who votes by what is on that node's disk up to its last entry."""
        named, told = self._named.get(node.node_id), node.voter_set
        if (
            node.is_vote_of_disk
            and named is not None
            and (told.index if told is not None else -1) < named[0] <= last.index
        ):
            return named[1]
        return self.model.voters_of(node)

    def _on_synced(self, event: FileSynced) -> None:
        node = self.model.nodes.get(event.node_id)
        if node is None or not node.is_lead_passed_on or not node.log.opened:
            return
        last = node.log.entry(node.log.durable_index - 1)
        if last is None or not last.term or last.term != node.ballot.term:
            return
        voters = self._voters_of(node, last)
        reached = self._reached.setdefault(last.term, {})
        if node.key not in voters or reached.get(node.key, 0) > last.index:
            return
        reached[node.key] = Index(last.index + 1)
        index = sorted((reached.get(voter, Index(0)) for voter in voters), reverse=True)[len(voters) // 2]
        known = self._on_majority.get(last.term)
        entry = node.log.entry(index - 1)
        # A majority may have no more of the term than what it began with, or nothing.
        if entry is not None and entry.term == last.term and (known is None or entry.index > known.index):
            self._on_majority[last.term] = entry

    def _on_committed(self, told: MessageTold) -> None:
        """Note it with the term that the node is in: what a later leader commits is not known to an earlier one."""
        advanced, node = told.message, self.model.receiver_of(told)
        assert isinstance(advanced, CommitAdvanced)
        if node is None or not node.is_lead_passed_on or not node.log.opened or node.spoiled:
            return
        entry = node.log.entry(advanced.committed.index - 1)
        term = self._terms.get(node.node_id)
        if entry is not None and term is not None:
            known = self._held.get(term)
            if known is None or entry.index > known.index:
                self._held[term] = entry

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor != "replicator":
            return
        self._terms[node_id] = changed.term
        node = self.model.nodes.get(node_id)
        if changed.leader_id == node_id and node is not None and node.is_lead_passed_on:
            self._check(node, changed.term, self._on_majority, "a majority of the voters had on disk in")
            self._check(node, changed.term, self._held, "was held for committed in")

    def _check(self, node: NodeModel, term: Term, committed: dict[Term, Entry], how: str) -> None:
        if not node.log.opened or node.spoiled or node.is_blind:
            return
        earlier = [before for before in committed if before < term]
        if not earlier:
            return
        before = max(earlier, key=lambda before: committed[before].index)
        if not is_on_disk(node, committed[before]):
            raise self.violated(
                f"{node.node_id} leads term {term} with a log that ends at index {node.log.durable_index}, and lacks "
                f"{committed[before]}, which {how} term {before}"
            )

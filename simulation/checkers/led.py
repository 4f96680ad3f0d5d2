"""A majority that can talk is led: the liveness that Raft can give."""

from __future__ import annotations

from itertools import combinations
from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.events import CommitKnown, LeaderChanged
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CallReceived
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.check_quorum import Contacts, election_timeout_s
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.types import NodeId, Term

LED_WITHIN_S: Final = 5.0
"""What nodes may need to find each other again, besides the election itself."""

LED_WITHIN: Final = 5.0
"""Election timeouts: to miss the old leader, and for a few rounds in which nobody has a majority."""

_HEARD_WITHIN: Final = 1.5
"""Election timeouts: a leader that a majority has not asked for longer leads nobody."""


class MajorityIsLed(EventChecker):
    """Looks for a leader that a majority follows, and, when there is none for long, at who could have had one.

    No more can be asked of Raft: where each of a majority can talk to some of the others only, the one that can talk
    to all may lack what is committed. Before the first leader has committed anything all voters are needed, since
    each founds the cluster with a promise.
    """

    name: ClassVar[str] = "majority_is_led"
    statement: ClassVar[str] = (
        "Where nothing is in the way of a majority of the voters, with the disks that vote, and of any two of them "
        f"for {LED_WITHIN_S:g} s and {LED_WITHIN:g} election timeouts, a node leads from which a majority fetches, and "
        "has committed an entry of its term."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self._contacts = Contacts(self.model)
        self.on = {NodeStarted: self._on_changed, NodeStopped: self._on_changed, NodeCrashed: self._on_changed}
        self.on_told = {
            LeaderChanged: self._contacts.note_leader,
            CallReceived: self._contacts.note_call,
            CommitKnown: self._on_commit_known,
            ProbeDue: self._look,
        }
        self._known: dict[NodeId, Term] = {}
        self._led_s = 0.0
        self._is_founded = False

    def _on_changed(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._contacts.forget(event.node_id)
        self._known.pop(event.node_id, None)

    def _on_commit_known(self, told: MessageTold) -> None:
        known = told.message
        assert isinstance(known, CommitKnown)
        self._known[self.model.place(told.receiver)[0]] = known.term
        self._is_founded = True

    def _look(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        if node is None or node.config is None:
            return
        timeout_s = election_timeout_s(node)
        for node_id, term in self._contacts.leaders.items():
            leader = self.model.nodes[node_id]
            heard_s = self._contacts.majority_s(leader)
            if self._known.get(node_id) == term and heard_s > self.time_s - _HEARD_WITHIN * timeout_s:
                self._led_s = self.time_s
        within_s = LED_WITHIN_S + LED_WITHIN * timeout_s
        if self.time_s <= self._led_s + within_s:
            return
        clear_s, able = self._clear(node)
        if self.time_s > clear_s + within_s:
            raise self.violated(
                f"nothing is in the way of {', '.join(able)} since {clear_s:.3f} s, and nobody leads them since "
                f"{self._led_s:.3f} s"
            )

    def _clear(self, node: NodeModel) -> tuple[float, tuple[NodeId, ...]]:
        """Since when a majority of the voters has had nothing in its way, and which; inf if there is none."""
        model = self.model
        voters = model.voters_of(node)
        able = [voter.node_id for voter in voters if _is_able(model.nodes.get(voter.node_id), voter.log_epoch)]
        size = len(voters) // 2 + 1 if self._is_founded else len(voters)
        quorums = model.newest_voters()
        if quorums and set(quorums[0]) != set(voters):
            return inf, ()  # it has been left behind: others say who can be elected
        if len(quorums) > 1:
            # A log may still end before the last change, and want the votes of those before it.
            size = max(size, len(quorums[1]) // 2 + 1)
        best: tuple[float, tuple[NodeId, ...]] = inf, ()
        # Gossip is needed only to find the others for the first time.
        gossip = not self._is_founded
        for some in combinations(able, size):
            if any(2 * sum(voter.node_id in some for voter in quorum) <= len(quorum) for quorum in quorums[1:]):
                continue
            pairs_s = [model.hindrances.pair_clear_s(*pair, gossip=gossip) for pair in combinations(some, 2)]
            alone_s = [model.hindrances.node_clear_s(node_id) for node_id in some]
            best = min(best, (max(pairs_s + alone_s), some))
        return best


def _is_able(node: NodeModel | None, epoch: int) -> bool:
    """Whether the node runs with the disk that votes, and nothing is wrong with it."""
    return (
        node is not None
        and node.epoch == epoch
        and node.opened is not None
        and not (node.spoiled or node.is_rotten or node.is_blind)
    )

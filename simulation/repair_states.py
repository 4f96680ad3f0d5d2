"""Rare states of damage and its repair: who found it, who had it as well, and what happened meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ourolog.actors.messages.events import LeaderChanged, LogOpened
from ourolog.actors.messages.peer_calls import CallReturned, RepairResponse
from ourolog.actors.messages.repair import BatchRepaired, DamageFound, RepairAbandoned
from ourolog.actors.messages.store import ReadBatches, ReadProblem, ReadRefused, ScrubDue
from ourolog.simulation.events import MessageTold
from ourolog.storage.types import Index, NodeId

REPAIR_STATES: Final[dict[str, str]] = {
    "batch_repaired": "A damaged batch was replaced by another replica's copy.",
    "repaired_leader": "The batch that was replaced was the leader's.",
    "repaired_by_follower": "A batch was replaced by the copy of a node that did not lead.",
    "repaired_in_a_row": "The batch behind one that had just been replaced was replaced as well.",
    "damaged_on_two": "Who was asked for a damaged batch had a damaged one, too.",
    "repair_over_change": "The lead passed on while a damaged batch was asked for.",
    "repair_abandoned": "Nobody had what was damaged.",
    "repair_uncommitted": "What was damaged was not known to be committed, and nobody was asked for it.",
    "damaged_fetch": "A follower fetched what was damaged.",
    "read_waited_for_repair": "A read waited for a repair for as long as it could, and was sent elsewhere.",
    "scrub_found_rot": "The scrub found damage that nobody had read.",
}


class RepairStates:
    """Watches the repairs of all nodes.

    note: called with the name of each state that is reached.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._leaders: dict[NodeId, NodeId | None] = {}
        self._open: dict[NodeId, set[Index]] = {}
        self._repaired: dict[NodeId, Index] = {}
        self._fetched: dict[NodeId, Index] = {}
        self._scrubbed_s: dict[NodeId, float] = {}
        self._read_s: dict[NodeId, float] = {}
        self.on_message: dict[type, Callable[[MessageTold], None]] = {
            LogOpened: self._on_opened,
            LeaderChanged: self._on_leader,
            DamageFound: self._on_found,
            BatchRepaired: self._on_repaired,
            RepairAbandoned: self._on_abandoned,
            CallReturned: self._on_returned,
            ReadBatches: self._on_read,
            ReadRefused: self._on_refused,
            ScrubDue: self._on_scrub,
        }

    def _on_opened(self, told: MessageTold) -> None:
        node_id = _node_of(told.receiver)
        self._open.pop(node_id, None)
        self._repaired.pop(node_id, None)
        self._fetched.pop(node_id, None)
        self._leaders.pop(node_id, None)

    def _on_leader(self, told: MessageTold) -> None:
        changed: Any = told.message
        node_id, _, actor = told.receiver.rpartition(".")
        if actor == "replicator":
            if self._open.get(NodeId(node_id)):
                self._note("repair_over_change")
            self._leaders[NodeId(node_id)] = changed.leader_id

    def _on_found(self, told: MessageTold) -> None:
        found: Any = told.message
        node_id = _node_of(told.receiver)
        self._open.setdefault(node_id, set()).add(found.index)
        if self._fetched.get(node_id) == found.index:
            self._note("damaged_fetch")
        elif self._scrubbed_s.get(node_id) == told.time_s != self._read_s.get(node_id):
            self._note("scrub_found_rot")

    def _on_repaired(self, told: MessageTold) -> None:
        repaired: Any = told.message
        node_id = _node_of(told.receiver)
        self._open.get(node_id, set()).discard(repaired.index)
        self._note("batch_repaired")
        leader_id = self._leaders.get(node_id)
        if leader_id == node_id:
            self._note("repaired_leader")
        if leader_id != repaired.source_id:
            self._note("repaired_by_follower")
        if self._repaired.get(node_id) == repaired.index - 1:
            self._note("repaired_in_a_row")
        self._repaired[node_id] = repaired.index

    def _on_abandoned(self, told: MessageTold) -> None:
        abandoned: Any = told.message
        self._open.get(_node_of(told.receiver), set()).discard(abandoned.index)
        self._note("repair_uncommitted" if "committed" in abandoned.reason else "repair_abandoned")

    def _on_returned(self, told: MessageTold) -> None:
        returned: Any = told.message
        response = returned.response
        if isinstance(response, RepairResponse) and response.is_final and "damaged" in response.why_not:
            self._note("damaged_on_two")

    def _on_read(self, told: MessageTold) -> None:
        read: Any = told.message
        node_id = _node_of(told.receiver)
        self._read_s[node_id] = told.time_s
        if read.index is not None and read.repair_wait_s:
            self._fetched[node_id] = read.index

    def _on_refused(self, told: MessageTold) -> None:
        refused: Any = told.message
        if refused.problem is ReadProblem.REPAIRING:
            self._note("read_waited_for_repair")

    def _on_scrub(self, told: MessageTold) -> None:
        self._scrubbed_s[_node_of(told.receiver)] = told.time_s


def _node_of(name: str) -> NodeId:
    return NodeId(name.rpartition(".")[0])

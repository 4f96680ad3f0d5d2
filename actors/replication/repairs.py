"""Repair of damaged entries: asks other replicas for them, and answers when others ask.

Any replica may be asked, whoever leads: an entry that is committed is the same wherever it stands (Raft section 5.3,
log matching; 5.4, leader completeness). So only committed entries are asked for, and only committed ones are sent: an
entry that is not may be another one elsewhere, or be dropped. What is not committed on a damaged leader is left to
the election, since its followers cannot go on with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    RepairRequest,
    RepairResponse,
)
from ourolog.actors.messages.repair import (
    BatchRepaired,
    DamageFound,
    RepairAbandoned,
    RepairBatch,
    RepairDue,
    RepairRejected,
)
from ourolog.actors.messages.store import BatchesRead, ReadBatches, ReadProblem, ReadRefused
from ourolog.actors.messages.values import Peer
from ourolog.actors.ports import Timer
from ourolog.actors.replication.state import ReplicationState, Role
from ourolog.storage.types import Index, NodeId, Offset

FIRST_REPAIR_ID: Final = 2**48
"""The ids of these calls begin there: the other parts of the replicator are told of the same failures."""

ASK_AGAIN_AFTER_S: Final = 10.0
"""After all replicas have answered that they do not have an entry, they are not asked for it again for so long."""

NOT_COMMITTED_AGAIN_AFTER_S: Final = 0.25
"""The same for an entry that is not known to be committed; whatever becomes of it is decided soon."""


@dataclass(frozen=True, slots=True)
class _ReadAnswer:
    """Turns what the store read into the answer to a repair, without passing through the replicator."""

    answer_to: Mailbox[CallAnswer[RepairResponse]]
    request_id: int
    node_id: NodeId
    log_epoch: int

    def tell(self, message: BatchesRead | ReadRefused) -> None:
        batch, why_not, is_final = b"", "", False
        match message:
            case BatchesRead():
                batch = message.batches
            case ReadRefused(problem=ReadProblem.DAMAGED | ReadProblem.REPAIRING):
                # It may yet be repaired here. Then somebody else has it, who is asked, too.
                why_not, is_final = f"it is damaged on {self.node_id} as well", True
            case ReadRefused():
                why_not = message.detail
        response = RepairResponse(self.node_id, self.log_epoch, batch, why_not, is_final)
        self.answer_to.tell(CallAnswer(self.request_id, response))


@dataclass(slots=True)
class _Wanted:
    """One damaged entry.

    index, offset: of the entry.
    to_ask: who is still to be asked in this round.
    why_not: why those do not have it who have said so in this round.
    is_open: whether somebody in this round did not say whether it has the entry.
    rounds: how often all were asked.
    request_id, asked_id: of the call under way, and who is asked; None and "" if there is none.
    timer, serial: of the present wait, None if it does not wait; and the count of waits.
    """

    index: Index
    offset: Offset
    to_ask: list[NodeId] = field(default_factory=list)
    why_not: dict[NodeId, str] = field(default_factory=dict)
    is_open: bool = False
    rounds: int = 0
    request_id: int | None = None
    asked_id: NodeId = NodeId("")
    timer: Timer | None = None
    serial: int = 0


class Repairs:
    """The repairs under way on this node, and its answers to others."""

    def __init__(self, state: ReplicationState, voters: Callable[[], tuple[NodeId, ...]]) -> None:
        self._state = state
        self._voters = voters
        self._wanted: dict[Index, _Wanted] = {}
        self._request_ids = itertools.count(FIRST_REPAIR_ID)

    # ------------------------------------------------------------ answering

    def on_asked(self, received: CallReceived[RepairRequest]) -> None:
        """Answer another replica: with the entry that it asks for, or why there is none."""
        state, request = self._state, received.request
        if request.cluster != state.config.cluster or state.is_of_other_cluster(request.node_id, request.cluster_id):
            self._answer(received, CallRefused(f"{state.node_id} is of another cluster than {request.node_id}"))
        elif state.role is Role.PEER:
            self._answer(received, CallRefused(f"{state.node_id} runs without leaders, and has a log of its own"))
        elif state.role is not Role.STARTING and request.index >= state.end.index:
            # It would wait for the asker, which waits for it: who leads has the entry, or nobody gets it from there.
            detail = f"the log of {state.node_id} ends at index {state.end.index}"
            self._decline(received, detail, is_final=True)
        elif state.role is Role.STARTING or request.index >= state.committed.index:
            committed = state.committed.index
            self._decline(received, f"{state.node_id} has committed the entries below {committed} so far")
        elif request.index < state.start.index:
            detail = f"the log of {state.node_id} starts at index {state.start.index}"
            self._decline(received, detail, is_final=True)
        elif state.terms.place_of(request.index) != request.place:
            self._decline(received, f"{state.node_id} has another entry there", is_final=True)
        else:
            answer = _ReadAnswer(received.reply_to, received.request_id, state.node_id, state.log_epoch)
            state.store.tell(ReadBatches(0, 0, Index(request.index + 1), answer, index=request.index))

    def _decline(self, received: CallReceived[RepairRequest], why_not: str, *, is_final: bool = False) -> None:
        state = self._state
        self._answer(received, RepairResponse(state.node_id, state.log_epoch, b"", why_not, is_final))

    def _answer(self, received: CallReceived[RepairRequest], response: RepairResponse | CallRefused) -> None:
        received.reply_to.tell(CallAnswer(received.request_id, response))

    # ------------------------------------------------------------ asking

    def on_found(self, found: DamageFound) -> None:
        if found.index not in self._wanted:
            wanted = self._wanted[found.index] = _Wanted(found.index, found.offset)
            self._begin_round(wanted)

    def on_due(self, due: RepairDue) -> None:
        wanted = self._wanted.get(due.index)
        if wanted is not None and wanted.timer is not None and wanted.serial == due.serial:
            wanted.timer = None
            self._begin_round(wanted)

    def on_returned(self, returned: CallReturned[RepairResponse]) -> None:
        wanted = self._ended(returned)
        if wanted is None:
            return
        response = returned.response
        if response.batch:
            self._state.store.tell(RepairBatch(wanted.index, response.batch, returned.peer_id, self._state.me))
            return
        if response.is_final:
            wanted.why_not[returned.peer_id] = response.why_not
        else:
            wanted.is_open = True
        self._ask_next(wanted)

    def on_failed(self, failed: CallFailed) -> None:
        """Handle a call that failed; ignored if it is no repair's."""
        wanted = self._ended(failed)
        if wanted is not None:
            if failed.is_declined:
                wanted.why_not[failed.peer_id] = failed.reason
            else:
                wanted.is_open = True
            self._ask_next(wanted)

    def on_rejected(self, rejected: RepairRejected) -> None:
        wanted = self._wanted.get(rejected.index)
        if wanted is not None and rejected.is_too_early:
            self._wait(wanted)
        elif wanted is not None:
            wanted.why_not[rejected.source_id] = f"what {rejected.source_id} sent does not fit: {rejected.reason}"
            self._ask_next(wanted)

    def on_repaired(self, repaired: BatchRepaired) -> None:
        self._wanted.pop(repaired.index, None)

    def _ended(self, end: CallReturned[RepairResponse] | CallFailed) -> _Wanted | None:
        """The entry that the call was about which has ended; None if nobody waits for its answer."""
        wanted = next((wanted for wanted in self._wanted.values() if wanted.request_id == end.request_id), None)
        if wanted is not None:
            wanted.request_id = None
        return wanted

    def _begin_round(self, wanted: _Wanted) -> None:
        wanted.rounds += 1
        wanted.why_not.clear()
        voters, others = self._replicas()
        # Nobody is asked by all at once, and who votes has all that is committed sooner than who does not.
        self._state.ports.rng.shuffle(voters)
        self._state.ports.rng.shuffle(others)
        wanted.to_ask = [*voters, *others]
        wanted.is_open = not self._voters()
        self._ask_next(wanted)

    def _replicas(self) -> tuple[list[NodeId], list[NodeId]]:
        """The other voters, and the other members that gossip does not count as gone."""
        state = self._state
        voters = [node_id for node_id in self._voters() if node_id != state.node_id]
        others = [node_id for node_id in sorted(state.members) if node_id not in voters and node_id not in state.gone]
        return voters, others

    def _ask_next(self, wanted: _Wanted) -> None:
        state = self._state
        place = state.terms.place_of(wanted.index)
        if wanted.index >= state.committed.index or place is None:
            reason = f"entry {wanted.index} is not known to be committed, so that others may have another one there"
            self._abandon(wanted, reason, NOT_COMMITTED_AGAIN_AFTER_S)
            return
        while wanted.to_ask:
            node_id = wanted.to_ask.pop(0)
            addr = state.address_of(node_id)
            if addr is None:
                wanted.is_open = True
                continue
            wanted.request_id, wanted.asked_id = next(self._request_ids), node_id
            request = RepairRequest(
                cluster=state.config.cluster,
                cluster_id=state.cluster_id,
                node_id=state.node_id,
                log_epoch=state.log_epoch,
                index=wanted.index,
                place=place,
            )
            state.ports.network.call(Peer(node_id, addr), wanted.request_id, request, state.me)
            return
        if wanted.is_open:
            self._wait(wanted)
        else:
            why = "; ".join(wanted.why_not[node_id] for node_id in sorted(wanted.why_not))
            self._abandon(wanted, why or "no other node has a copy of this log", ASK_AGAIN_AFTER_S)

    def _abandon(self, wanted: _Wanted, reason: str, again_after_s: float) -> None:
        del self._wanted[wanted.index]
        self._state.store.tell(RepairAbandoned(wanted.index, reason, again_after_s))

    def _wait(self, wanted: _Wanted) -> None:
        """Back off with jitter: somebody who may have it did not answer."""
        config, ports = self._state.config, self._state.ports
        ceiling_s = min(config.pull_backoff_max_s, config.pull_backoff_min_s * 2 ** min(wanted.rounds, 16))
        wanted.serial += 1
        due = RepairDue(wanted.index, wanted.serial)
        wanted.timer = ports.timers.after(ceiling_s * ports.rng.uniform(0.5, 1.0), self._state.me, due)

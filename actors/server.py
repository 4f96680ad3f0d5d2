"""The server: what clients asked, and who still waits for an answer.

Produces that wait in the inbox are merged into one batch (payloads concatenate, see
`ourolog.storage.batch`), so that the cost behind this actor is per group and not per client.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, assert_never

from ourolog.actors.actor import NodeActor
from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitAdvanced,
    CommitKnown,
    HoldProduces,
    LeaderChanged,
    LogOpened,
    LogStartMoved,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    NobodyElected,
    ProducesHeld,
    ReleaseProduces,
    ReplicasAdvanced,
    VotersChanged,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import NodeNotReady, NodeReady
from ourolog.actors.messages.replicator import ConfirmRead, ForgetRead, ReadConfirmed, ReadNotConfirmed
from ourolog.actors.messages.server import (
    CancelRequest,
    Consume,
    DrainExpired,
    FlushProduces,
    GatherExpired,
    HeldExpired,
    ListServers,
    Produce,
    Produced,
    Refusal,
    RegisterProducer,
    RequestRefused,
    RequestsExpired,
    ServerMessage,
    ServersListed,
    StopHolding,
)
from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended, ReadBatches, StoreMessage
from ourolog.actors.messages.values import Acks, Member, ReadLevel
from ourolog.actors.ports import Ports, Timer
from ourolog.actors.replication.commit import why_commit_unknown
from ourolog.actors.requests.behind import BehindReads
from ourolog.actors.requests.produces import OpenProduces, PendingProduce
from ourolog.actors.requests.readers import TailingReaders
from ourolog.actors.requests.replicas import Replicas
from ourolog.actors.requests.unconfirmed import UnconfirmedReads
from ourolog.storage.batch import Kind, NewBatch
from ourolog.storage.control import ProducerRegistered, encode_control
from ourolog.storage.producers import ProducerProblem
from ourolog.storage.types import START, NodeId, Offset, Position, Term

EXPIRY_CHECK_S: Final = 0.01
"""How far apart two looks for requests whose time is up are at least, in seconds."""
HELD_CHECK_S: Final = 0.05

GATHERS_AT_MOST_S: Final = 0.005
"""How long a produce waits at the most for company behind others, when those are not committed sooner."""

HELD_AT_LEAST_S: Final = 2.0
HELD_ELECTIONS: Final = 3
"""How many election timeouts, but at least HELD_AT_LEAST_S, a produce is held at the most. An election takes less.

After that another node may know more, and the client had better ask there.
"""

REPAIR_WAIT_S: Final = 2.0
"""How long a read waits at the most for the repair of damage that it met; then another node had better be asked."""

# A held produce is refused somewhat before its client gives up, which then knows that nothing was appended.
_HELD_MARGIN_FRACTION: Final = 0.1
_MAX_HELD_MARGIN_S: Final = 0.5

_REGISTRATION: Final = NewBatch(encode_control(ProducerRegistered()), record_count=0, kind=Kind.CONTROL)

_REFUSALS: Final = {
    ProducerProblem.EXPIRED: Refusal.PRODUCER_EXPIRED,
    ProducerProblem.FORGOTTEN: Refusal.SEQUENCE_FORGOTTEN,
    ProducerProblem.GAP: Refusal.SEQUENCE_GAP,
    ProducerProblem.REUSED: Refusal.SEQUENCE_REUSED,
}

_ACKS_TOO_WEAK: Final = (
    "acks=leader and a producer_id exclude each other: what only the leader has may be gone with it, and the batches "
    "after it could then never be appended; use acks=quorum or all, or produce without producer_id"
)


class ServerActor(NodeActor):
    """The server: answers each Produce and Consume exactly once, cancelled ones not at all."""

    actor_name = "server"

    def __init__(
        self,
        *,
        config: NodeConfig,
        ports: Ports,
        store: Mailbox[StoreMessage],
        replicator: Mailbox[ConfirmRead | ForgetRead],
    ) -> None:
        super().__init__(config.node_id, ports.observer)
        self.config = config
        self.ports = ports
        self.store = store
        self.replicator = replicator
        self._me_as_member = Member(
            config.node_id, config.rpc_addr, config.gossip_addr, own_peer_addr=config.own_peer_addr
        )
        self._members: dict[NodeId, Member] = {config.node_id: self._me_as_member}
        self._opened = False
        self._elected: bool | None = None
        self._term = Term(0)
        self._leader_id: NodeId | None = None
        self._why_nobody = ""
        self._needs_person = False
        self._start = START
        self._committed = START
        self._replicas = Replicas(config)
        self._is_ready = False
        self._not_ready: str | None = None
        self._dispute = ""
        self._commit_known = Term(0)
        self._gone_leader: Member | None = None
        self._voter_addrs: dict[NodeId, str] = {}
        self._produces = OpenProduces(config)
        self._readers = TailingReaders()
        self._unconfirmed = UnconfirmedReads()
        self._behind = BehindReads()
        self._expiry: tuple[float, Timer] | None = None
        self._gathering: Timer | None = None
        self._is_handing_over = False
        self._hold: HoldProduces | None = None  # until it is answered
        self._is_stopping = False
        self._held_check_is_due = False

    def on_receive(self, message: ServerMessage) -> None:
        match message:
            case Produce():
                self._produce(message)
            case RegisterProducer():
                self._produce(
                    Produce(message.request_id, _REGISTRATION, Acks.QUORUM, message.timeout_s, message.reply_to)
                )
            case Consume():
                self._consume(message)
            case FlushProduces():
                self._flush_when_due()
            case GatherExpired():
                self._gathering = None
                self._flush()
            case BatchAppended():
                self._on_appended(message)
            case CommitAdvanced():
                self._advance(message.committed)
            case CommitKnown():
                self._commit_known = message.term
                self._update_readiness()
                self._wake_tailing()
            case ReplicasAdvanced():
                # One of an older term may count entries that a voter has dropped since.
                if message.term >= self._term and self._replicas.advanced(message):
                    self._acknowledge()
            case AppendRefused():
                for pending in self._produces.end_append(message.request_id):
                    pending.may_be_stored = False
                    refusal = Refusal.DEPOSED if message.problem is None else _REFUSALS[message.problem]
                    self._refuse_produce(pending, refusal, message.reason)
                self._flush_when_due()
            case ReadConfirmed():
                self._on_read_confirmed(message)
            case ReadNotConfirmed():
                consume = self._unconfirmed.take(message.request_id)
                if consume is not None:
                    consume.reply_to.tell(RequestRefused(consume.request_id, Refusal.NOT_CONFIRMED, message.detail))
            case CancelRequest():
                self._cancel(message)
            case RequestsExpired():
                self._expire()
            case HoldProduces():
                self._begin_hand_over(message)
            case ReleaseProduces():
                self._end_hand_over()
                self._settle_held()
            case StopHolding():
                self._is_stopping = True
                self._settle_held()
            case DrainExpired():
                if self._hold is not None and self._hold.request_id == message.request_id:
                    self._answer_hold(is_drained=False)
            case HeldExpired():
                self._expire_held()
            case LogOpened():
                self._opened = True
                self._start = message.start
                self._committed = max(self._committed, message.committed)
                self._update_readiness()
            case LogStartMoved():
                self._start = message.start
            case NobodyElected():
                self._elected = False
                self._update_readiness()
            case LeaderChanged():
                self._on_leader_changed(message)
            case MemberJoined() | MemberUpdated():
                self._members[message.member.node_id] = message.member
            case MemberFailed() | MemberLeft():
                if message.member.node_id == self._leader_id:
                    self._gone_leader = message.member  # gone according to gossip; clients may still reach it
                self._members.pop(message.member.node_id, None)
            case ListServers():
                self._list_servers(message)
            case ClaimsDisputed():
                self._dispute = message.reason
                self._update_readiness()
                self._settle_held()
                self._settle_behind()
            case ClaimsSettled():
                self._dispute = ""
                self._update_readiness()
                self._acknowledge()
            case VotersChanged():
                self._voter_addrs = message.addr_by_voter
            case _:
                assert_never(message)
        if self._hold is not None and self._produces.is_drained:
            self._answer_hold(is_drained=True)

    @property
    def _knows_end(self) -> bool:
        """Whether the commit position is the end of what is committed; a leader knows it after its first own entry."""
        return self._leader_id != self.node_id or self._commit_known == self._term

    def _update_readiness(self) -> None:
        """Tell, once for each change, whether clients should be sent here, and why not."""
        if not self._opened or self._elected is None:
            return
        self._is_ready = True
        reason = self._dispute
        if not reason and not self._knows_end:
            reason = why_commit_unknown(self.node_id, self._term)
        if not reason and self._elected:
            reason = self._why_nobody
        kind = "dispute" if self._dispute else reason
        if kind != self._not_ready:  # a dispute that more members join is the same one
            self._not_ready = kind
            self.observer.tell(
                NodeNotReady(self.node_id, reason, bool(self._dispute) or self._needs_person)
                if reason
                else NodeReady(self.node_id)
            )

    def on_stop(self) -> None:
        detail = f"{self.node_id} is stopping"
        for pending in self._produces:
            self._refuse_produce(pending, Refusal.STOPPING, detail)
        for consume in (*self._readers, *self._unconfirmed, *self._behind):
            consume.reply_to.tell(RequestRefused(consume.request_id, Refusal.STOPPING, detail))
        self._end_hand_over()

    # ------------------------------------------------------------ produce

    def _produce(self, produce: Produce) -> None:
        refusal = self._why_not_produce(produce)
        if refusal is not None:
            produce.reply_to.tell(refusal)
            return
        acks = produce.acks if produce.acks is not Acks.DEFAULT else self.config.acks
        if produce.batch.producer_id and acks is Acks.LEADER:
            acks = Acks.QUORUM  # the node's default, since a client's wish for it was refused
        now_s, timeout_s = self.ports.clock.monotonic_s(), produce.timeout_s
        margin_s = min(HELD_CHECK_S + timeout_s * _HELD_MARGIN_FRACTION, _MAX_HELD_MARGIN_S)
        held_at_most_s = max(HELD_AT_LEAST_S, HELD_ELECTIONS * self.config.election_timeout_s)
        pending = PendingProduce(
            produce.request_id,
            produce.reply_to,
            produce.batch,
            produce.batch.record_count,
            acks if self._elected else Acks.LEADER,
            timeout_s,
            now_s + timeout_s,
            held_until_s=now_s + min(timeout_s - margin_s, held_at_most_s),
        )
        if self._holds:
            self._produces.hold(pending)
            self._watch_held()
        elif self._produces.add(pending):
            self.me.tell(FlushProduces())
        self._expire_at(pending.deadline_s)

    def _why_not_produce(self, produce: Produce) -> RequestRefused | None:
        request_id = produce.request_id
        if not self._is_ready:
            return RequestRefused(request_id, Refusal.NOT_READY, f"{self.node_id} is starting; try again shortly")
        if self._dispute:
            return RequestRefused(request_id, Refusal.NOT_READY, self._dispute)
        is_of_producer = produce.batch.producer_id != 0 or produce.batch.kind is Kind.CONTROL
        if is_of_producer and not self._elected:
            return RequestRefused(request_id, Refusal.NOBODY_ELECTED, self._why_no_producers())
        if is_of_producer and produce.acks is Acks.LEADER:
            return RequestRefused(request_id, Refusal.ACKS_TOO_WEAK, _ACKS_TOO_WEAK)
        why_not_held = self._why_not_held(request_id)
        if why_not_held is not None:
            return why_not_held
        why_full = self._produces.why_full(produce.batch, is_elected=bool(self._elected))
        if why_full is not None:
            return RequestRefused(request_id, Refusal.OVERLOADED, why_full)
        return None

    def _why_no_producers(self) -> str:
        return (
            f"{self.node_id} runs with --election {self.config.election}: nobody leads, and each node has a log of its "
            "own, so no log remembers what a producer has sent to another node; produce without producer_id"
        )

    def _refuse_as(self, pending: PendingProduce, refused: RequestRefused) -> None:
        """Refuse a produce that the store was never told of."""
        assert not pending.may_be_stored, "its outcome is known"
        self._produces.close(pending)
        pending.reply_to.tell(refused)

    def _flush_when_due(self) -> None:
        """Hand what has gathered to the store, unless it had better wait for what is on its way: not for long."""
        if not self._produces.has_unflushed:
            return
        if self._produces.may_flush:
            self._flush()
        elif self._gathering is None:
            self._gathering = self.ports.timers.after(GATHERS_AT_MOST_S, self.me, GatherExpired())

    def _flush(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        for append_id, batch in self._produces.flush():
            self.store.tell(AppendBatch(append_id, batch, self._term, self.me))

    def _on_appended(self, appended: BatchAppended) -> None:
        base_offset = appended.base_offset
        if not self._elected:
            # On this disk is committed then. The replicator says so too, but the client who is
            # acknowledged here may ask for its record before that.
            self._advance(appended.end)
        elif (
            not appended.is_duplicate
            and self._leader_id == self.node_id
            and appended.term == self._term
            and appended.index >= self._committed.index
        ):
            written_bytes = sum(pending.cost_bytes for pending in self._produces.in_append(appended.request_id))
            self._produces.note_uncommitted(appended.index, written_bytes)
        for pending in self._produces.end_append(appended.request_id):
            pending.base_offset = base_offset
            pending.index = appended.index
            pending.term = appended.term
            base_offset = Offset(base_offset + pending.record_count)
            if not pending.done:
                if self._is_acknowledged(pending):
                    self._answer_produced(pending)
                else:
                    self._produces.await_acks(pending)
        self._flush_when_due()

    def _advance(self, committed: Position) -> None:
        if committed > self._committed:
            self._committed = committed
            self._produces.note_committed(committed.index)
            self._flush_when_due()
            self._acknowledge()
            while (consume := self._behind.take(committed.offset)) is not None:
                self._consume(consume)
            self._wake_tailing()

    def _is_acknowledged(self, pending: PendingProduce) -> bool:
        assert pending.index is not None
        if self._dispute:
            return False
        match pending.acks:
            case Acks.LEADER:
                return True
            case Acks.QUORUM:
                return pending.index < self._committed.index
            case Acks.ALL:
                return pending.index < self._committed.index and self._replicas.all_have(pending.index)
            case _:
                raise AssertionError("the default was resolved when the produce came in")

    def _acknowledge(self) -> None:
        """Answer what waited for other disks."""
        for pending in self._produces.acknowledged(self._is_acknowledged):
            self._answer_produced(pending)

    def _answer_produced(self, pending: PendingProduce) -> None:
        assert pending.base_offset is not None
        assert pending.index is not None
        self._produces.close(pending)
        replicas = self._replicas.that_have(pending.index)
        pending.reply_to.tell(Produced(pending.request_id, pending.base_offset, pending.term, pending.index, replicas))

    def _refuse_produce(self, pending: PendingProduce, refusal: Refusal, detail: str) -> None:
        """Refuse a produce. Its outcome is unknown from when the store was told of it until the store refused it."""
        if pending.done:
            return
        self._produces.close(pending)
        pending.reply_to.tell(
            RequestRefused(pending.request_id, refusal, detail, self._leader_id, outcome_unknown=pending.may_be_stored)
        )

    def _expire(self) -> None:
        self._expiry = None
        now_s = self.ports.clock.monotonic_s()
        next_s = math.inf
        for pending in self._produces:
            if pending.deadline_s <= now_s:
                by = pending.acks.name.lower()
                why = self._why_not_acknowledged(pending)
                detail = f"not acknowledged by {by} within {pending.timeout_s:.3g} s" + (f": {why}" if why else "")
                self._refuse_produce(pending, Refusal.TIMED_OUT, detail)
            else:
                next_s = min(next_s, pending.deadline_s)
        for consume in self._behind.expired(now_s):
            self._refuse_behind(consume)
        next_s = min(next_s, self._behind.next_deadline_s or math.inf)
        if next_s < math.inf:
            self._expire_at(max(next_s, now_s + EXPIRY_CHECK_S))

    def _expire_at(self, at_s: float) -> None:
        """Look then, or before, whose time is up."""
        if self._expiry is not None and self._expiry[0] <= at_s:
            return
        if self._expiry is not None:
            self._expiry[1].cancel()
        after_s = max(0.0, at_s - self.ports.clock.monotonic_s())
        self._expiry = at_s, self.ports.timers.after(after_s, self.me, RequestsExpired())

    def _why_not_acknowledged(self, pending: PendingProduce) -> str:
        """What keeps a produce of an elected leader from being acknowledged, as part of a sentence; "" if unknown."""
        if self._dispute:
            return self._dispute
        if pending.index is None:
            return f"the disk of {self.node_id} has not taken it yet" if pending.may_be_stored else ""
        if pending.index >= self._committed.index:
            return self._replicas.why_no_quorum(pending.index)
        return self._replicas.why_not_all(pending.index)

    def _on_leader_changed(self, changed: LeaderChanged) -> None:
        led = self._leader_id == self.node_id and self._elected is not None
        self._elected = True
        self._term = changed.term
        self._leader_id = changed.leader_id
        self._why_nobody, self._needs_person = changed.why_nobody, changed.needs_person
        self._replicas.begin_term(changed.term)
        self._end_hand_over()
        if led and changed.leader_id != self.node_id:
            # What the store was not told of can still be appended by whoever leads next.
            self._produces.hold_unflushed()
            for pending in self._produces:
                if not self._produces.is_held(pending):
                    self._refuse_produce(pending, Refusal.DEPOSED, f"{self.node_id} lost the lead")
            self._produces.forget_uncommitted()
        self._settle_held()
        self._settle_behind()
        self._update_readiness()
        self._wake_tailing()

    # ------------------------------------------------------------ held produces

    @property
    def _holds(self) -> bool:
        """Whether a produce is held that comes now and is not refused."""
        return bool(self._elected) and (self._is_handing_over or self._leader_id != self.node_id)

    def _why_not_held(self, request_id: int) -> RequestRefused | None:
        """Why a produce that the store was not told of is neither appended here nor held; None if it is."""
        if self._dispute:
            return RequestRefused(request_id, Refusal.NOT_READY, self._dispute)
        if not self._elected or (self._leader_id == self.node_id and not self._is_handing_over):
            return None
        if self._leader_id not in (None, self.node_id):
            return self._not_leader(request_id, self._leader_id)
        if self._is_stopping:
            return RequestRefused(request_id, Refusal.STOPPING, f"{self.node_id} is stopping")
        if self._leader_id is None and self._why_nobody:
            return RequestRefused(request_id, Refusal.LEADER_UNKNOWN, self._why_nobody)
        return None

    def _not_leader(self, request_id: int, leader_id: NodeId) -> RequestRefused:
        addr = self._addr_of_leader(leader_id)
        detail = f"{self.node_id} is not the leader; {leader_id} is" + (f", at {addr}" if addr else "")
        return RequestRefused(request_id, Refusal.NOT_LEADER, detail, leader_id, addr)

    def _addr_of_leader(self, leader_id: NodeId) -> str:
        """The gRPC address of that node, "" if it is not known."""
        leader = self._members.get(leader_id) or self._gone_leader
        if leader is not None and leader.node_id == leader_id:
            return leader.rpc_addr
        return self._voter_addrs.get(leader_id, "")

    def _begin_hand_over(self, hold: HoldProduces) -> None:
        if self._leader_id != self.node_id:
            hold.reply_to.tell(ProducesHeld(hold.request_id, is_drained=False))
            return
        self._flush()
        if self._hold is not None:
            self._answer_hold(is_drained=False)
        self._is_handing_over, self._hold = True, hold
        self.ports.timers.after(hold.within_s, self.me, DrainExpired(hold.request_id))

    def _end_hand_over(self) -> None:
        self._is_handing_over = False
        if self._hold is not None:
            self._answer_hold(is_drained=False)

    def _answer_hold(self, *, is_drained: bool) -> None:
        hold, self._hold = self._hold, None
        assert hold is not None
        hold.reply_to.tell(ProducesHeld(hold.request_id, is_drained))

    def _settle_held(self) -> None:
        """Append what is held if this node leads and keeps the lead, refuse what need not wait any longer."""
        for pending in self._produces.held:
            refused = self._why_not_held(pending.request_id)
            if refused is not None:
                self._refuse_as(pending, refused)
        if not self._holds and self._produces.release():
            self.me.tell(FlushProduces())
        self._watch_held()

    def _watch_held(self) -> None:
        if self._produces.held and not self._held_check_is_due:
            self._held_check_is_due = True
            self.ports.timers.after(HELD_CHECK_S, self.me, HeldExpired())

    def _expire_held(self) -> None:
        self._held_check_is_due = False
        now_s = self.ports.clock.monotonic_s()
        for pending in self._produces.held:
            if pending.held_until_s <= now_s:
                why = (
                    f"{self.node_id} hands over the lead"
                    if self._is_handing_over
                    else f"{self.node_id} knows of no leader"
                )
                detail = f"{why}, and nobody has taken it meanwhile; nothing was appended, try again shortly"
                self._refuse_as(pending, RequestRefused(pending.request_id, Refusal.LEADER_UNKNOWN, detail))
        self._watch_held()

    # ------------------------------------------------------------ consume

    def _consume(self, consume: Consume) -> None:
        if not self._is_ready:
            refusal = RequestRefused(consume.request_id, Refusal.NOT_READY, f"{self.node_id} is starting")
            consume.reply_to.tell(refusal)
        elif consume.read is ReadLevel.LATEST:
            self._confirm(consume)
        elif self._elected and consume.seen_end > self._committed.offset:
            self._await_seen(consume)
        elif self._start.offset <= consume.offset < self._committed.offset:
            self._read(consume)
        elif not self._knows_end and not consume.wait:
            detail = why_commit_unknown(self.node_id, self._term)
            consume.reply_to.tell(RequestRefused(consume.request_id, Refusal.COMMIT_UNKNOWN, detail))
        elif self._knows_end and (consume.offset < self._start.offset or not consume.wait):
            consume.reply_to.tell(self._out_of_range(consume))
        elif self._may_wait(consume):
            self._readers.add(consume)

    def _may_wait(self, consume: Consume) -> bool:
        """Whether there is room for one more reader that waits; it is told if there is none."""
        waiting = len(self._readers) + len(self._unconfirmed) + len(self._behind)
        if waiting < self.config.max_waiting_requests:
            return True
        consume.reply_to.tell(RequestRefused(consume.request_id, Refusal.OVERLOADED, f"{waiting} readers wait already"))
        return False

    def _confirm(self, consume: Consume) -> None:
        """Have the replicator make sure what the latest state is, before this is read."""
        if not self._elected:
            detail = (
                f"{self.node_id} runs with --election {self.config.election}: nobody leads, and each node has a log of "
                "its own, so there is no latest state to read; read what is committed here"
            )
            consume.reply_to.tell(RequestRefused(consume.request_id, Refusal.NOBODY_ELECTED, detail))
        elif self._may_wait(consume):
            read_id = self._unconfirmed.add(consume)
            self.replicator.tell(ConfirmRead(read_id, consume.timeout_s, self.me))

    def _on_read_confirmed(self, confirmed: ReadConfirmed) -> None:
        self._advance(confirmed.committed)
        consume = self._unconfirmed.take(confirmed.request_id)
        if consume is not None:
            # More than the latest state nobody can wait for: it has had its time.
            self._consume(replace(consume, read=ReadLevel.COMMITTED, timeout_s=0.0))

    def _await_seen(self, consume: Consume) -> None:
        """Have a read wait until this node has committed what its client has seen."""
        if consume.timeout_s <= 0 or self._why_behind():
            self._refuse_behind(consume)
        elif self._may_wait(consume):
            deadline_s = self.ports.clock.monotonic_s() + consume.timeout_s
            self._behind.add(consume, deadline_s)
            self._expire_at(deadline_s)

    def _why_behind(self) -> str:
        """Why this node will have no more than it has for a time that nobody knows; "" if it may have it soon."""
        return self._dispute or (self._why_nobody if self._leader_id is None else "")

    def _settle_behind(self) -> None:
        """Refuse the reads that wait for what will not come soon."""
        if self._why_behind():
            for consume in self._behind.take_all():
                self._refuse_behind(consume)

    def _refuse_behind(self, consume: Consume) -> None:
        leader_id = self._leader_id if self._leader_id != self.node_id else None
        addr = self._addr_of_leader(leader_id) if leader_id is not None else ""
        detail = (
            f"{self.node_id} has committed what is below offset {self._committed.offset}, and this client has seen "
            f"all below {consume.seen_end}"
        )
        if why := self._why_behind():
            detail += f"; {why}"
        elif leader_id is not None:
            detail += f"; {leader_id} leads" + (f", at {addr}" if addr else "")
        elif self._leader_id is not None:
            detail += f"; {self.node_id} leads, so the rest is not committed" + (
                "" if self._knows_end else ", as far as is known yet"
            )
        consume.reply_to.tell(RequestRefused(consume.request_id, Refusal.BEHIND, detail, leader_id, addr))

    def _read(self, consume: Consume) -> None:
        self.store.tell(
            ReadBatches(
                consume.request_id,
                consume.max_bytes,
                self._committed.index,
                consume.reply_to,
                offset=consume.offset,
                repair_wait_s=min(consume.timeout_s, REPAIR_WAIT_S),
            )
        )

    def _out_of_range(self, consume: Consume) -> RequestRefused:
        first, end = self._start.offset, max(self._start.offset, self._committed.offset)
        held = f"{self.node_id} has [{first}, {end})" if end > first else f"{self.node_id} has no records yet"
        detail = f"offset {consume.offset} is out of range: {held}"
        return RequestRefused(consume.request_id, Refusal.OUT_OF_RANGE, detail, first=first, end=end)

    def _wake_tailing(self) -> None:
        while (consume := self._readers.take(self._is_answerable)) is not None:
            self._consume(consume)

    def _is_answerable(self, offset: Offset) -> bool:
        if offset < self._start.offset:
            return self._knows_end  # then the answer can give the readable range
        return offset < self._committed.offset

    def _cancel(self, cancel: CancelRequest) -> None:
        """Forget a waiting request. What a produce has appended stays appended."""
        if self._readers.cancel(cancel) or self._behind.cancel(cancel):
            return
        read_id = self._unconfirmed.cancel(cancel)
        if read_id is not None:
            self.replicator.tell(ForgetRead(read_id))
            return
        pending = self._produces.cancelled(cancel)
        if pending is not None:
            self._produces.close(pending)

    # ------------------------------------------------------------ servers

    def _list_servers(self, request: ListServers) -> None:
        servers = tuple(self._members[node_id] for node_id in sorted(self._members))
        request.reply_to.tell(ServersListed(request.request_id, servers, self._leader_id))

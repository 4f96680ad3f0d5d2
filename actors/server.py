"""The server: what clients asked, and who still waits for an answer.

Produces that wait in the inbox are merged into one batch (payloads concatenate, see
`ourolog.storage.batch`), so that the cost behind this actor is per group and not per client.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from ourolog.actors.actor import NodeActor
from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitAdvanced,
    CommitKnown,
    LeaderChanged,
    LogOpened,
    LogStartMoved,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    NobodyElected,
    ReplicasAdvanced,
    VotersChanged,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import NodeNotReady, NodeReady
from ourolog.actors.messages.replicator import ConfirmRead, ForgetRead, ReadConfirmed, ReadNotConfirmed
from ourolog.actors.messages.server import (
    CancelRequest,
    Consume,
    FlushProduces,
    ListServers,
    Produce,
    Produced,
    Refusal,
    RequestRefused,
    RequestsExpired,
    ServerMessage,
    ServersListed,
)
from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended, ReadBatches, StoreMessage
from ourolog.actors.messages.values import Acks, Member, ReadLevel
from ourolog.actors.ports import Ports
from ourolog.actors.replication.commit import why_commit_unknown
from ourolog.actors.requests.produces import OpenProduces, PendingProduce
from ourolog.actors.requests.readers import TailingReaders
from ourolog.actors.requests.unconfirmed import UnconfirmedReads
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

EXPIRY_CHECK_S = 0.25


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
        self._me_as_member = Member(config.node_id, config.rpc_addr, config.gossip_addr)
        self._members: dict[NodeId, Member] = {config.node_id: self._me_as_member}
        self._opened = False
        self._elected: bool | None = None
        self._term = Term(0)
        self._leader_id: NodeId | None = None
        self._why_nobody = ""
        self._needs_person = False
        self._start = START
        self._committed = START
        self._on_all_replicas = ReplicasAdvanced(Term(0), Index(0))
        self._is_ready = False
        self._not_ready: str | None = None
        self._dispute = ""
        self._commit_known = Term(0)
        self._gone_leader: Member | None = None
        self._produces = OpenProduces(config)
        self._readers = TailingReaders()
        self._unconfirmed = UnconfirmedReads()
        self._expiry_is_due = False

    def on_receive(self, message: ServerMessage) -> None:
        match message:
            case Produce():
                self._produce(message)
            case Consume():
                self._consume(message)
            case FlushProduces():
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
                if message.term >= self._term:
                    self._on_all_replicas = message
                    self._acknowledge()
            case AppendRefused():
                for pending in self._produces.end_append(message.request_id):
                    pending.may_be_stored = False
                    self._refuse_produce(pending, Refusal.DEPOSED, message.reason)
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
            case ClaimsSettled():
                self._dispute = ""
                self._update_readiness()
                self._acknowledge()
            case VotersChanged():
                pass
            case _:
                assert_never(message)

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
        for consume in (*self._readers, *self._unconfirmed):
            consume.reply_to.tell(RequestRefused(consume.request_id, Refusal.STOPPING, detail))

    # ------------------------------------------------------------ produce

    def _produce(self, produce: Produce) -> None:
        refusal = self._why_not_produce(produce)
        if refusal is not None:
            produce.reply_to.tell(refusal)
            return
        acks = produce.acks if produce.acks is not Acks.DEFAULT else self.config.acks
        pending = PendingProduce(
            produce.request_id,
            produce.reply_to,
            produce.batch,
            produce.batch.record_count,
            acks if self._elected else Acks.LEADER,
            produce.timeout_s,
            self.ports.clock.monotonic_s() + produce.timeout_s,
        )
        if self._produces.add(pending):
            self.me.tell(FlushProduces())
        if not self._expiry_is_due:
            self._expiry_is_due = True
            self.ports.timers.after(EXPIRY_CHECK_S, self.me, RequestsExpired())

    def _why_not_produce(self, produce: Produce) -> RequestRefused | None:
        request_id = produce.request_id
        if not self._is_ready:
            return RequestRefused(request_id, Refusal.NOT_READY, f"{self.node_id} is starting; try again shortly")
        if self._dispute:
            return RequestRefused(request_id, Refusal.NOT_READY, self._dispute)
        if self._elected and self._leader_id is None:
            return RequestRefused(
                request_id, Refusal.LEADER_UNKNOWN, self._why_nobody or "no leader is known; try again shortly"
            )
        if self._elected and self._leader_id != self.node_id:
            assert self._leader_id is not None
            leader = self._members.get(self._leader_id) or self._gone_leader
            addr = leader.rpc_addr if leader and leader.node_id == self._leader_id else ""
            detail = f"{self.node_id} is not the leader; {self._leader_id} is" + (f", at {addr}" if addr else "")
            return RequestRefused(request_id, Refusal.NOT_LEADER, detail, self._leader_id, addr)
        why_full = self._produces.why_full(produce.batch, is_elected=bool(self._elected))
        if why_full is not None:
            return RequestRefused(request_id, Refusal.OVERLOADED, why_full)
        return None

    def _flush(self) -> None:
        for append_id, batch in self._produces.flush():
            self.store.tell(AppendBatch(append_id, batch, self._term, self.me))

    def _on_appended(self, appended: BatchAppended) -> None:
        base_offset = appended.base_offset
        if not self._elected:
            # On this disk is committed then. The replicator says so too, but the client who is
            # acknowledged here may ask for its record before that.
            self._advance(appended.end)
        elif (
            self._leader_id == self.node_id and appended.term == self._term and appended.index >= self._committed.index
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

    def _advance(self, committed: Position) -> None:
        if committed > self._committed:
            self._committed = committed
            self._produces.note_committed(committed.index)
            self._acknowledge()
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
                return pending.index < min(self._committed.index, self._on_all_replicas.index)
            case _:
                raise AssertionError("the default was resolved when the produce came in")

    def _acknowledge(self) -> None:
        """Answer what waited for other disks."""
        for pending in self._produces.acknowledged(self._is_acknowledged):
            self._answer_produced(pending)

    def _answer_produced(self, pending: PendingProduce) -> None:
        assert pending.base_offset is not None
        self._produces.close(pending)
        pending.reply_to.tell(Produced(pending.request_id, pending.base_offset, pending.term))

    def _refuse_produce(self, pending: PendingProduce, refusal: Refusal, detail: str) -> None:
        """Refuse a produce. Its outcome is unknown from when the store was told of it until the store refused it."""
        if pending.done:
            return
        self._produces.close(pending)
        pending.reply_to.tell(
            RequestRefused(pending.request_id, refusal, detail, self._leader_id, outcome_unknown=pending.may_be_stored)
        )

    def _expire(self) -> None:
        self._expiry_is_due = False
        now_s = self.ports.clock.monotonic_s()
        still_open = False
        for pending in self._produces:
            if pending.deadline_s <= now_s:
                by = pending.acks.name.lower()
                detail = f"not acknowledged by {by} within {pending.timeout_s:g} s"
                self._refuse_produce(pending, Refusal.TIMED_OUT, detail)
            else:
                still_open = True
        if still_open:
            self._expiry_is_due = True
            self.ports.timers.after(EXPIRY_CHECK_S, self.me, RequestsExpired())

    def _on_leader_changed(self, changed: LeaderChanged) -> None:
        led = self._leader_id == self.node_id and self._elected is not None
        self._elected = True
        self._term = changed.term
        self._leader_id = changed.leader_id
        self._why_nobody, self._needs_person = changed.why_nobody, changed.needs_person
        if self._on_all_replicas.term < changed.term:
            self._on_all_replicas = ReplicasAdvanced(changed.term, Index(0))
        if led and changed.leader_id != self.node_id:
            detail = f"{self.node_id} lost the lead"
            for pending in self._produces:
                self._refuse_produce(pending, Refusal.DEPOSED, detail)
            self._produces.forget_uncommitted()
        self._update_readiness()
        self._wake_tailing()

    # ------------------------------------------------------------ consume

    def _consume(self, consume: Consume) -> None:
        if not self._is_ready:
            refusal = RequestRefused(consume.request_id, Refusal.NOT_READY, f"{self.node_id} is starting")
            consume.reply_to.tell(refusal)
        elif consume.read is ReadLevel.LATEST:
            self._confirm(consume)
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
        waiting = len(self._readers) + len(self._unconfirmed)
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
            self._consume(replace(consume, read=ReadLevel.COMMITTED))

    def _read(self, consume: Consume) -> None:
        self.store.tell(
            ReadBatches(
                consume.request_id,
                consume.max_bytes,
                self._committed.index,
                consume.reply_to,
                offset=consume.offset,
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
        if self._readers.cancel(cancel):
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

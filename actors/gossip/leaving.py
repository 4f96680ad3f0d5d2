"""Leaving: announce it to a few members until they have acknowledged it, or for a bounded time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Final

from ourolog.actors.gossip.codec import Ack, Challenge, Datagram, Ping
from ourolog.actors.gossip.probes import ping
from ourolog.actors.gossip.sender import GossipSender
from ourolog.actors.gossip.table import MemberTable, pick
from ourolog.actors.messages.membership import LeaveCluster, LeaveRetryDue, LeftCluster
from ourolog.actors.messages.values import Member, MemberState
from ourolog.actors.ports import Timer
from ourolog.storage.types import NodeId

LEAVE_FANOUT: Final = 5
_ATTEMPTS: Final = 3


class LeaveAnnouncement:
    """The announcement that this node leaves: a ping by a sender whose own state is LEFT, acknowledged by its Ack."""

    def __init__(self, sender: GossipSender, targets: Iterable[Member]) -> None:
        self._sender = sender
        self._pending = {member.node_id: member for member in targets}
        self._sequences: dict[int, NodeId] = {}

    def send(self, attempt: int) -> bool:
        """Send it to those who have not acknowledged it; False when there is nobody left, or no attempt left."""
        if not self._pending or attempt > _ATTEMPTS:
            return False
        for node_id in sorted(self._pending):
            self._sequences[ping(self._sender, self._pending[node_id])] = node_id
        return True

    def challenged(self, answers: int) -> None:
        """Send it again with a new cookie: it was not accepted, since the other node was restarted meanwhile."""
        member = self._pending.get(self._sequences.pop(answers, NodeId("")))
        if member is not None:
            self._sequences[ping(self._sender, member)] = member.node_id

    def acknowledged(self, answers: int) -> bool:
        """Take an Ack. Returns whether all have acknowledged it now."""
        node_id = self._sequences.get(answers)
        if node_id is not None:
            self._pending.pop(node_id, None)
        return not self._pending


class Leaving:
    """The time from the order to leave until this node is silent.

    is_finished: whether this node neither receives nor sends anything any more.
    """

    def __init__(
        self,
        sender: GossipSender,
        rng: Random,
        table: MemberTable,
        timeout_s: float,
        after: Callable[[float, LeaveRetryDue], Timer],
    ) -> None:
        self.is_finished = False
        self._sender = sender
        self._rng = rng
        self._table = table
        self._timeout_s = timeout_s
        self._after = after
        self._announcement: LeaveAnnouncement | None = None
        self._leavers: list[LeaveCluster] = []

    @property
    def has_begun(self) -> bool:
        return self._announcement is not None

    def begin(self, leave: LeaveCluster) -> None:
        """Announce the leaving, then answer the node that ordered it; at once if nothing is left to announce."""
        self._leavers.append(leave)
        if self.is_finished:
            self.finish()
        elif self._announcement is None:
            self._table.me = replace(self._table.me, state=MemberState.LEFT)
            self._announcement = LeaveAnnouncement(self._sender, pick(self._rng, self._table.present(), LEAVE_FANOUT))
            self.announce(attempt=1)

    def announce(self, attempt: int) -> None:
        assert self._announcement is not None, "nothing is announced before the order to leave"
        if self._announcement.send(attempt):
            self._after(self._timeout_s, LeaveRetryDue(attempt + 1))
        else:
            self.finish()

    def handle(self, proven: Datagram) -> None:
        """Handle a datagram while leaving: only acknowledgements count, and questions whether this node has left."""
        assert self._announcement is not None
        match proven.body:
            case Ack(answers):
                if self._announcement.acknowledged(answers):
                    self.finish()
            case Challenge(answers):
                self._announcement.challenged(answers)
            case Ping(target_id) if target_id == self._table.me.node_id:
                # A node that was told by others that this one has left is told so directly.
                self._sender.send(proven.sender.gossip_addr, Ack(proven.sequence))
            case _:
                pass

    def finish(self) -> None:
        self.is_finished = True
        for leave in self._leavers:
            leave.reply_to.tell(LeftCluster(leave.request_id))
        self._leavers = []

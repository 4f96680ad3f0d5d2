"""Leaving: say goodbye to a few members until they have heard it, or for a bounded time."""

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

GOODBYES: Final = 5
_ATTEMPTS: Final = 3


class LeaveAnnouncement:
    """A goodbye is a ping by a sender whose own state is LEFT; the Ack shows that it was heard."""

    def __init__(self, sender: GossipSender, targets: Iterable[Member]) -> None:
        self._sender = sender
        self._unheard = {member.node_id: member for member in targets}
        self._sequences: dict[int, NodeId] = {}

    def say(self, attempt: int) -> bool:
        """Say it to those who have not heard it; False when there is nobody left, or no attempt."""
        if not self._unheard or attempt > _ATTEMPTS:
            return False
        for node_id in sorted(self._unheard):
            self._sequences[ping(self._sender, self._unheard[node_id])] = node_id
        return True

    def challenged(self, answers: int) -> None:
        """It was not believed, since the other one was started again meanwhile: say it with its new cookie."""
        member = self._unheard.get(self._sequences.pop(answers, NodeId("")))
        if member is not None:
            self._sequences[ping(self._sender, member)] = member.node_id

    def is_heard(self, answers: int) -> bool:
        """An Ack came: whether all have heard it now."""
        node_id = self._sequences.get(answers)
        if node_id is not None:
            self._unheard.pop(node_id, None)
        return not self._unheard


class Leaving:
    """The time from the order to leave until this node is silent.

    is_silent: whether it neither hears nor sends anything any more.
    """

    def __init__(
        self,
        sender: GossipSender,
        rng: Random,
        table: MemberTable,
        timeout_s: float,
        after: Callable[[float, LeaveRetryDue], Timer],
    ) -> None:
        self.is_silent = False
        self._sender = sender
        self._rng = rng
        self._table = table
        self._timeout_s = timeout_s
        self._after = after
        self._goodbye: LeaveAnnouncement | None = None
        self._leavers: list[LeaveCluster] = []

    @property
    def has_begun(self) -> bool:
        return self._goodbye is not None

    def begin(self, leave: LeaveCluster) -> None:
        """Say goodbye, then answer whoever ordered it; at once if all is said already."""
        self._leavers.append(leave)
        if self.is_silent:
            self.fall_silent()
        elif self._goodbye is None:
            self._table.me = replace(self._table.me, state=MemberState.LEFT)
            self._goodbye = LeaveAnnouncement(self._sender, pick(self._rng, self._table.present(), GOODBYES))
            self.say(attempt=1)

    def say(self, attempt: int) -> None:
        assert self._goodbye is not None, "nothing is said before the order to leave"
        if self._goodbye.say(attempt):
            self._after(self._timeout_s, LeaveRetryDue(attempt + 1))
        else:
            self.fall_silent()

    def hear(self, proven: Datagram) -> None:
        """While leaving only answers to the goodbye matter, and who asks whether this node has left."""
        assert self._goodbye is not None
        match proven.body:
            case Ack(answers):
                if self._goodbye.is_heard(answers):
                    self.fall_silent()
            case Challenge(answers):
                self._goodbye.challenged(answers)
            case Ping(target_id) if target_id == self._table.me.node_id:
                # Who was told by others that this node has left hears it from itself.
                self._sender.send(proven.sender.gossip_addr, Ack(proven.sequence))
            case _:
                pass

    def fall_silent(self) -> None:
        self.is_silent = True
        for leave in self._leavers:
            leave.reply_to.tell(LeftCluster(leave.request_id))
        self._leavers = []

"""What gossip knows and how it judges updates: pure state, no ports.

SWIM (Das, Gupta, Motivala 2002, section 4.2) orders what is said about a member: the higher
incarnation wins, and at the same incarnation the worse state. Only the member itself raises its
incarnation, so it can always refute. The order is total, so all nodes that have received the
same updates, in whatever order, agree.

Two rules are not in SWIM. That a node exists, and where, is accepted from itself only; what others
say of it is a hint whom to ask (see unconfirmed.py). And a live member's gossip address is not given
up because a node of the same name speaks from elsewhere: that is CONTESTED, and the old address is asked
first whether it still answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from random import Random
from typing import Final

from ourolog.actors.gossip.codec import MAX_INCARNATION, member_size_bytes
from ourolog.actors.messages.events import MemberFailed, MemberJoined, MemberLeft, MembershipEvent, MemberUpdated
from ourolog.actors.messages.values import Member, MemberState
from ourolog.storage.types import NodeId

MAX_MEMBERS: Final = 128
"""Bound of the table, not counting this node: each member may be pulled from, over a connection."""

MAX_QUEUED_UPDATES: Final = 256
"""For how many members updates wait to be sent on; beyond that the one sent most often is dropped."""

_RANK: Final = {MemberState.ALIVE: 0, MemberState.SUSPECT: 1, MemberState.FAILED: 2, MemberState.LEFT: 3}


def is_present(member: Member) -> bool:
    """A suspect is present until it has failed."""
    return member.state is MemberState.ALIVE or member.state is MemberState.SUSPECT


def overrides(update: Member, held: Member) -> bool:
    """Whether an update of a member is newer than what is held of it (SWIM section 4.2)."""
    return (update.incarnation, _RANK[update.state]) > (held.incarnation, _RANK[held.state])


def is_elder(one: Member, other: Member) -> bool:
    """Which of two live nodes of one name keeps it when both are established.

    Incarnations begin at a node's start time, so the lower one has, but for skewed clocks, been
    there longer; the address breaks a tie the same way on every node.
    """
    return (one.incarnation, one.gossip_addr) < (other.incarnation, other.gossip_addr)


def retransmit_limit(member_count: int) -> int:
    """How often one node sends on one update: 3 * ceil(log10(n + 1)) (SWIM section 4.1)."""
    return 3 * math.ceil(math.log10(member_count + 1))


def suspicion_s(base_s: float, member_count: int) -> float:
    """How long a suspect has to refute: updates need time that grows with the logarithm of the members."""
    return base_s * max(1.0, math.log10(member_count))


class Judgement(Enum):
    """What to do about what a node says of itself.

    STALE: nothing, it is known or older.
    ADOPT: adopt it.
    CONTESTED: find out first whether the old address still answers; see the module's docstring.
    OCCUPIED: nothing yet: a present member has that address; once that has failed, a node there may have another name.
    FULL: nothing: the table holds as many members as it may.
    """

    STALE = "stale"
    ADOPT = "adopt"
    CONTESTED = "contested"
    OCCUPIED = "occupied"
    FULL = "full"


@dataclass(slots=True)
class _Entry:
    member: Member
    changed_s: float


class MemberTable:
    """All members except this node, by id, and this node's own entry as `me`."""

    def __init__(self, me: Member, capacity: int = MAX_MEMBERS) -> None:
        self.me = me
        self._capacity = capacity
        self._entries: dict[NodeId, _Entry] = {}

    def get(self, node_id: NodeId) -> Member | None:
        entry = self._entries.get(node_id)
        return entry.member if entry else None

    def everybody(self) -> list[Member]:
        """All members, sorted by id, without this node."""
        return [self._entries[node_id].member for node_id in sorted(self._entries)]

    def present(self) -> list[Member]:
        """Alive and suspected ones, sorted by id, without this node."""
        return [member for member in self.everybody() if is_present(member)]

    def failed(self) -> list[Member]:
        return [member for member in self.everybody() if member.state is MemberState.FAILED]

    def size(self) -> int:
        """How many are present, this node included."""
        return 1 + sum(is_present(entry.member) for entry in self._entries.values())

    def judge(self, update: Member) -> Judgement:
        """Decide what to do about what another node says of itself."""
        assert update.node_id != self.me.node_id, "what is said about this node is for it to refute"
        held = self.get(update.node_id)
        if held is not None and not overrides(update, held):
            return Judgement.STALE
        if held is not None and is_present(held):
            return Judgement.ADOPT if update.gossip_addr == held.gossip_addr else Judgement.CONTESTED
        if not is_present(update):
            # Nobody needs to know that an unknown member is gone.
            return Judgement.STALE if held is None else Judgement.ADOPT
        if any(member.gossip_addr == update.gossip_addr for member in self.present()):
            return Judgement.OCCUPIED
        return Judgement.FULL if held is None and self._is_full() else Judgement.ADOPT

    def correction(self, sender: Member) -> Member | None:
        """What is held against a member that does not know of it: a suspicion, or its end in a former run."""
        held = self.get(sender.node_id)
        return held if held is not None and overrides(held, sender) else None

    def adopt(self, update: Member, now_s: float) -> MembershipEvent | None:
        """Adopt it. Returns the event for listeners that only want to know which members there are, and where."""
        held = self.get(update.node_id)
        if held is None and len(self._entries) >= self._capacity:
            self._drop_longest_gone()
        self._entries[update.node_id] = _Entry(update, now_s)
        was_there = held is not None and is_present(held)
        if is_present(update):
            if held is None or not was_there:
                return MemberJoined(update)
            moved = held.addresses != update.addresses
            return MemberUpdated(update) if moved else None
        if not was_there:
            return None
        return MemberLeft(update) if update.state is MemberState.LEFT else MemberFailed(update)

    def _is_full(self) -> bool:
        return len(self._entries) >= self._capacity and all(is_present(e.member) for e in self._entries.values())

    def _drop_longest_gone(self) -> None:
        gone = [(e.changed_s, e.member.node_id) for e in self._entries.values() if not is_present(e.member)]
        assert gone, "nobody is adopted into a full table"
        del self._entries[min(gone)[1]]

    def refute(self, incarnation: int) -> Member:
        """Raise this node's own incarnation above one that contradicts it. Returns the new `me`."""
        raised = min(max(incarnation, self.me.incarnation) + 1, MAX_INCARNATION)
        self.me = replace(self.me, incarnation=raised)
        return self.me

    def forget_gone(self, before_s: float) -> None:
        """Drop those that failed or left before that moment; until then stale updates cannot revive them."""
        for node_id in [
            node_id
            for node_id, entry in self._entries.items()
            if entry.changed_s < before_s and not is_present(entry.member)
        ]:
            del self._entries[node_id]


@dataclass(slots=True)
class _QueuedUpdate:
    member: Member
    sent: int = 0


class UpdateQueue:
    """Updates to be sent on: the newest of each member, the least often sent first (SWIM section 4.1)."""

    def __init__(self) -> None:
        self._updates: dict[NodeId, _QueuedUpdate] = {}

    def __len__(self) -> int:
        return len(self._updates)

    def push(self, member: Member) -> None:
        """Replaces an older update of the same member; it is sent as often as any new one."""
        if member.node_id not in self._updates and len(self._updates) >= MAX_QUEUED_UPDATES:
            del self._updates[max(self._updates.values(), key=lambda queued: queued.sent).member.node_id]
        self._updates[member.node_id] = _QueuedUpdate(member)

    def take(self, room_bytes: int, limit: int) -> list[Member]:
        """The updates that fit into room_bytes; those that have been sent `limit` times are dropped."""
        taken = []
        for queued in sorted(self._updates.values(), key=lambda queued: (queued.sent, queued.member.node_id)):
            size = member_size_bytes(queued.member)
            if size > room_bytes:
                continue
            room_bytes -= size
            taken.append(queued.member)
            queued.sent += 1
            if queued.sent >= limit:
                del self._updates[queued.member.node_id]
        return taken


class ProbeOrder:
    """Which member to ping next: each once a round, every round in another order (SWIM section 4.3).

    That bounds the time until a failure is noticed, which drawing at random would not.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._round: list[NodeId] = []
        self._known: set[NodeId] = set()

    def next(self, present: Iterable[Member]) -> NodeId | None:
        """The member to ping next; None when nobody is there.

        present: sorted by id.
        """
        ids = [member.node_id for member in present]
        there = set(ids)
        self._round = [node_id for node_id in self._round if node_id in there]
        for node_id in ids:
            if node_id not in self._known:
                self._round.insert(self._rng.randint(0, len(self._round)), node_id)
        self._known = there
        if not self._round:
            self._round = ids
            self._rng.shuffle(self._round)
        return self._round.pop() if self._round else None


def pick(rng: Random, members: Sequence[Member], count: int) -> list[Member]:
    """Up to `count` of them at random. `members` must be sorted, so that the same seed picks the same."""
    return rng.sample(members, min(count, len(members)))

"""Unconfirmed members, which only others have reported: pinged, a few at a time, or forgotten.

Only what a member says of itself, proven by its cookie, makes it a member here. Whatever others say
about which nodes exist and where is a hint whom to ask. The cost is bounded by a number of names,
of datagrams a round, and of attempts; and none of them takes a member's place in the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ourolog.actors.gossip.probes import ping
from ourolog.actors.gossip.sender import GossipSender
from ourolog.actors.gossip.table import overrides
from ourolog.actors.messages.values import Member, MemberState
from ourolog.storage.types import NodeId

MAX_UNCONFIRMED: Final = 128
"""How many names wait for an answer at once; what is reported beyond that is not remembered."""

PINGS_A_ROUND: Final = 32
"""How many pings to unconfirmed members this node sends in a round, which is GossipConfig.probe_timeout_s long."""

ATTEMPTS: Final = 3


@dataclass(slots=True)
class _Unconfirmed:
    member: Member
    attempts: int = 0
    sequence: int | None = None


class UnconfirmedMembers:
    """Members reported by others: `add` one, `ping_again` every round, `confirmed` once it has answered itself."""

    def __init__(self, sender: GossipSender) -> None:
        self._sender = sender
        self._members: dict[NodeId, _Unconfirmed] = {}
        self._budget = PINGS_A_ROUND

    def __len__(self) -> int:
        return len(self._members)

    def add(self, update: Member) -> None:
        """Note a member that another one reports, and ping it, at once if this round allows it."""
        hint = self._members.get(update.node_id)
        if hint is not None and not overrides(update, hint.member):
            return
        if hint is None and len(self._members) >= MAX_UNCONFIRMED:
            return
        hint = self._members[update.node_id] = _Unconfirmed(update, hint.attempts if hint else 0)
        self._ping(hint)

    def ping_again(self) -> None:
        """A round is over: ping again those that were pinged least, and give up those pinged often enough."""
        self._budget = PINGS_A_ROUND
        for name in [name for name, hint in self._members.items() if hint.attempts >= ATTEMPTS]:
            del self._members[name]
        for hint in sorted(self._members.values(), key=lambda hint: (hint.attempts, hint.member.node_id)):
            self._ping(hint)

    def challenged(self, answers: int) -> None:
        """It is there, and wants this node's proof: ping once more, with its cookie."""
        hint = next((hint for hint in self._members.values() if hint.sequence == answers), None)
        if hint is not None:
            hint.sequence = None
            ping(self._sender, hint.member)

    def confirmed(self, node_id: NodeId) -> None:
        """Forget a member that has spoken for itself."""
        self._members.pop(node_id, None)

    def _ping(self, hint: _Unconfirmed) -> None:
        if self._budget > 0 and hint.attempts < ATTEMPTS:
            self._budget -= 1
            hint.attempts += 1
            # The ping carries nothing of the hint, which may be invented and must not be passed on.
            hint.sequence = ping(self._sender, _unjudged(hint.member))


def _unjudged(member: Member) -> Member:
    return replace(member, state=MemberState.ALIVE)

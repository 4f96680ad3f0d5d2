"""Members that this node was told of and has not heard itself: asked, a few at a time, or forgotten.

Only what a member says of itself, proven by its cookie, makes it a member here. Whatever others say
about who is there and where is a hint whom to ask. What that can cost is bounded: so many names,
so many datagrams a round, so many attempts; and none of them takes a member's place in the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ourolog.actors.gossip.probes import ping
from ourolog.actors.gossip.sender import GossipSender
from ourolog.actors.gossip.table import outranks
from ourolog.actors.messages.values import Member, MemberState
from ourolog.storage.types import NodeId

MAX_HEARSAY: Final = 128
"""How many names wait for an answer at once; what is said beyond that is not remembered."""

ASKED_A_ROUND: Final = 32
"""How many pings for hearsay this node sends in a round, which is GossipConfig.probe_timeout_s long."""

ATTEMPTS: Final = 3


@dataclass(slots=True)
class _Hint:
    member: Member
    asked: int = 0
    sequence: int | None = None


class Hearsay:
    """`note` what was heard, `ask` again every round, `settle` who spoke for itself."""

    def __init__(self, sender: GossipSender) -> None:
        self._sender = sender
        self._hints: dict[NodeId, _Hint] = {}
        self._budget = ASKED_A_ROUND

    def __len__(self) -> int:
        return len(self._hints)

    def note(self, heard: Member) -> None:
        """Somebody says that this member is there: ask it, at once if this round allows it."""
        hint = self._hints.get(heard.node_id)
        if hint is not None and not outranks(heard, hint.member):
            return
        if hint is None and len(self._hints) >= MAX_HEARSAY:
            return
        hint = self._hints[heard.node_id] = _Hint(heard, hint.asked if hint else 0)
        self._ask(hint)

    def ask(self) -> None:
        """A round is over: ask those again that were asked least, give up those asked often enough."""
        self._budget = ASKED_A_ROUND
        for name in [name for name, hint in self._hints.items() if hint.asked >= ATTEMPTS]:
            del self._hints[name]
        for hint in sorted(self._hints.values(), key=lambda hint: (hint.asked, hint.member.node_id)):
            self._ask(hint)

    def challenged(self, answers: int) -> None:
        """It is there, and wants this node's proof: with its cookie, ask once more."""
        hint = next((hint for hint in self._hints.values() if hint.sequence == answers), None)
        if hint is not None:
            hint.sequence = None
            ping(self._sender, hint.member)

    def settle(self, node_id: NodeId) -> None:
        """It has spoken for itself."""
        self._hints.pop(node_id, None)

    def _ask(self, hint: _Hint) -> None:
        if self._budget > 0 and hint.asked < ATTEMPTS:
            self._budget -= 1
            hint.asked += 1
            # What is told along is nothing of the hint: it may be invented, and is not to be passed on.
            hint.sequence = ping(self._sender, _unjudged(hint.member))


def _unjudged(member: Member) -> Member:
    return Member(member.node_id, member.rpc_addr, member.gossip_addr, MemberState.ALIVE, member.incarnation)

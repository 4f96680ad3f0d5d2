"""Two nodes, one name: find out who is really there before anybody gives way.

A node of a known, present name shows up at another address. Either it moved, or somebody else
took its name by mistake. The difference is whether the old address still answers under that
name, so it is asked, directly and through others, before a table changes or a node is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from actors.gossip import MemberTable, is_elder
from actors.gossip_codec import Datagram, Reject, Rumours
from actors.gossip_probes import ask_others, ping
from actors.gossip_voice import Voice
from actors.messages import Member
from storage.types import NodeId

ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody who says that the name is theirs: this node, or one that has proven to be where it says.

    sequence: of what it said. joining: it asked to be let in, so nobody knows it under that name yet.
    """

    member: Member
    sequence: int = 0
    joining: bool = False


@dataclass(slots=True)
class NameCheck:
    """held: who has the name so far, or is said to, and is being asked. claim: who else wants it.

    asked: whom each question went to, by its sequence: only they can answer it.
    """

    held: Member
    claim: Claim
    attempts: int = 0
    asked: dict[int, NodeId] = field(default_factory=dict)


class NameGuard:
    """The open checks, one a name."""

    def __init__(self, voice: Voice, rng: Random, table: MemberTable, helpers: int) -> None:
        self._voice = voice
        self._rng = rng
        self._table = table
        self._helpers = helpers
        self._checks: dict[NodeId, NameCheck] = {}

    def open(self, held: Member, claim: Claim) -> bool:
        """Begin to ask the holder, unless that is under way; whether it began."""
        name = held.node_id
        under_way = self._checks.get(name)
        if under_way is not None:
            if claim.member.gossip_addr == under_way.claim.member.gossip_addr:
                under_way.claim = replace(claim, joining=claim.joining or under_way.claim.joining)
            return False
        self._checks[name] = NameCheck(held, claim)
        self.ask(name, attempt=1)
        return True

    def is_open(self, name: NodeId, attempt: int) -> bool:
        """Whether a check of that name waits for that attempt."""
        check = self._checks.get(name)
        return check is not None and attempt == check.attempts + 1

    def ask(self, name: NodeId, attempt: int) -> NameCheck | None:
        """Ask once more; after the last attempt the check, closed: nobody answered."""
        check = self._checks[name]
        if attempt > ATTEMPTS:
            return self._checks.pop(name)
        check.attempts = attempt
        check.asked[ping(self._voice, check.held)] = name
        if attempt > 1:
            check.asked |= ask_others(self._voice, self._rng, self._table, check.held, self._helpers)
        return None

    def answered(self, answers: int, answerer: Member, *, vouches: bool) -> NameCheck | None:
        """An answer came: the check that it settles, closed, if it comes from the holder or a relay.

        A claimant that answers at the holder's old address, say under a host name for the same
        machine, is no proof that the holder lives.
        """
        for name, check in list(self._checks.items()):
            if check.asked.get(answers) != answerer.node_id or not (vouches or answerer.node_id == name):
                continue
            if answerer.node_id == name and answerer.gossip_addr != check.held.gossip_addr:
                return None
            return self._checks.pop(name)
        return None

    def settle(self, check: NameCheck, answer: Datagram, *, self_is_established: bool) -> bool:
        """The holder of a contested name lives: refuse the newcomer, whoever of the two that is.

        Whether it is this very node that has to give way. A node that is only joining is the
        newcomer; of two that are established, as after a partition, it is the younger, and only
        when the elder has answered it itself. A holder is never refused on a claimant's word: it
        is told of the claimant, to ask for itself.
        """
        directly = answer.sender.node_id == check.held.node_id
        holder = answer.sender if directly else check.held
        claim = check.claim
        if holder.node_id == self._table.me.node_id:
            if not self_is_established:
                return True
            if directly and is_elder(holder, self._table.me):
                return True
            if directly:
                self._voice.send(holder.gossip_addr, Reject(self._table.me.gossip_addr))
        elif claim.joining or is_elder(holder, claim.member):
            self._voice.send(claim.member.gossip_addr, Reject(holder.gossip_addr))
        else:
            self._voice.send(holder.gossip_addr, Rumours(), first=claim.member)
        return False

"""Name conflicts, two nodes of one name: find out which of them is really there before either gives way.

A node of a known, present name appears at another address. Either it moved, or somebody else
took its name by mistake. The difference is whether the old address still answers under that
name, so it is asked, directly and through others, before a table changes or a node is refused.

`NameChecks` asks, and evaluates the answer; `NameConflicts` draws the conclusions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from ourolog.actors.gossip.codec import Datagram, Reject, Updates
from ourolog.actors.gossip.joining import Joining
from ourolog.actors.gossip.probes import ping, ping_indirectly
from ourolog.actors.gossip.sender import GossipSender
from ourolog.actors.gossip.table import Judgement, MemberTable, is_elder, is_present, overrides
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.membership import NameCheckDue
from ourolog.actors.messages.observer import NameContested, NodeEvent
from ourolog.actors.messages.values import Member, MemberState
from ourolog.actors.ports import Timer
from ourolog.storage.types import NodeId

ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class NameClaim:
    """A node that claims a name: this one, or one that has proven to be where it says.

    member: the claimant.
    sequence: of the datagram with which it claimed the name.
    joining: whether it asked to be let in, so that nobody knows it under that name yet.
    """

    member: Member
    sequence: int = 0
    joining: bool = False


@dataclass(slots=True)
class NameCheck:
    """An open check of who holds a name.

    held: the node that has the name so far, or is said to, and is being asked.
    claim: the other claim to the name.
    attempts: how often the holder was asked.
    asked: whom each question went to, by its sequence; only they can answer it.
    """

    held: Member
    claim: NameClaim
    attempts: int = 0
    asked: dict[int, NodeId] = field(default_factory=dict)


class NameChecks:
    """The open checks, one for each name."""

    def __init__(self, sender: GossipSender, rng: Random, table: MemberTable, helpers: int) -> None:
        self._sender = sender
        self._rng = rng
        self._table = table
        self._helpers = helpers
        self._checks: dict[NodeId, NameCheck] = {}

    def open(self, held: Member, claim: NameClaim) -> bool:
        """Begin to ask the holder, unless that is under way. Returns whether it began."""
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
        """Whether a check of that name waits for an answer to that attempt."""
        check = self._checks.get(name)
        return check is not None and attempt == check.attempts + 1

    def ask(self, name: NodeId, attempt: int) -> NameCheck | None:
        """Ask once more. After the last attempt, close the check and return it: nobody answered."""
        check = self._checks[name]
        if attempt > ATTEMPTS:
            return self._checks.pop(name)
        check.attempts = attempt
        check.asked[ping(self._sender, check.held)] = name
        if attempt > 1:
            check.asked |= ping_indirectly(self._sender, self._rng, self._table, check.held, self._helpers)
        return None

    def answered(self, answers: int, answerer: Member, *, vouches: bool) -> NameCheck | None:
        """Take an answer; if it settles a check, close that and return it. The holder or a relay must have sent it.

        A claimant that answers at the holder's old address, for instance under a host name for the same
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
        """Refuse the newcomer to a contested name whose holder is alive. Returns whether that is this node.

        A node that is only joining is the newcomer. Of two established nodes, as after a partition, it is the younger,
        and only when the elder has answered it itself. A holder is never refused on a claimant's word: it
        is told of the claimant, and asks for itself.
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
                self._sender.send(holder.gossip_addr, Reject(self._table.me.gossip_addr))
        elif claim.joining or is_elder(holder, claim.member):
            self._sender.send(claim.member.gossip_addr, Reject(holder.gossip_addr))
        else:
            self._sender.send(holder.gossip_addr, Updates(), first=claim.member)
        return False


class NameConflicts:
    """Has contested names checked, and acts on the result.

    adopt: adopts a member.
    refute: raises this node's own incarnation above that one.
    give_up_name: makes this node give way to the one at that address.
    """

    def __init__(
        self,
        checks: NameChecks,
        sender: GossipSender,
        table: MemberTable,
        joining: Joining,
        observer: Mailbox[NodeEvent],
        *,
        timeout_s: float,
        after: Callable[[float, NameCheckDue], Timer],
        adopt: Callable[[Member], None],
        refute: Callable[[int], None],
        give_up_name: Callable[[str], None],
    ) -> None:
        self._checks = checks
        self._sender = sender
        self._table = table
        self._joining = joining
        self._observer = observer
        self._timeout_s = timeout_s
        self._after = after
        self._adopt = adopt
        self._refute = refute
        self._give_up_name = give_up_name

    def check(self, held: Member, claim: NameClaim) -> None:
        """Handle a claim to the name of a known member, or this node's own claim against another node of its name."""
        if self._checks.open(held, claim):
            me = self._table.me.node_id
            self._observer.tell(NameContested(me, held.node_id, held.gossip_addr, claim.member.gossip_addr))
            self._after(self._timeout_s, NameCheckDue(held.node_id, attempt=2))

    def check_rejection(self, holder_addr: str) -> None:
        """Handle the news that this node's name is taken: ask at that address, and go by the answer only."""
        me = self._table.me
        if holder_addr != me.gossip_addr:
            self.check(replace(me, gossip_addr=holder_addr, incarnation=0), NameClaim(me))

    def ask_again(self, name: NodeId, attempt: int) -> None:
        """Ask again: there is still no answer."""
        if not self._checks.is_open(name, attempt):
            return
        check = self._checks.ask(name, attempt)
        if check is not None:
            self._give_name_to_claimant(check)
        else:
            self._after(self._timeout_s, NameCheckDue(name, attempt + 1))

    def answered(self, answers: int, answer: Datagram, *, vouches: bool) -> None:
        """Handle the answer to a ping: if that was a question about a name, the holder has it."""
        check = self._checks.answered(answers, answer.sender, vouches=vouches)
        if check is not None and self._checks.settle(check, answer, self_is_established=self._joining.is_established):
            self._give_up_name(check.held.gossip_addr)

    def _give_name_to_claimant(self, check: NameCheck) -> None:
        """Give the name to the claimant, since nobody answers at the address that the name had."""
        table, claim = self._table, check.claim
        if check.held.node_id == table.me.node_id:
            if check.held.incarnation >= table.me.incarnation:
                self._refute(check.held.incarnation)
            return
        held = table.get(check.held.node_id)
        if held is None or not is_present(held) or overrides(claim.member, held):
            if table.judge(claim.member) in (Judgement.ADOPT, Judgement.CONTESTED):
                self._adopt(claim.member)
        elif held.gossip_addr == check.held.gossip_addr:
            # The claimant's clock is behind that of its former run. Told that this one failed, it overrides it.
            self._adopt(replace(held, state=MemberState.FAILED))
        addr = claim.member.gossip_addr
        if claim.joining:
            self._sender.send_table(addr, asks_back=False, answers=claim.sequence)
        else:
            self._sender.send(addr, Updates(), first=table.correction(claim.member))

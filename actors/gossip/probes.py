"""Failure detection: ping one member at a time, and ask others to ping it before suspecting it.

SWIM section 3.1. A second ping of our own goes out with the indirect ones, so that a single
lost datagram in a cluster of two does not cause a suspicion.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final

from ourolog.actors.gossip.codec import Ack, Ping, PingRequest
from ourolog.actors.gossip.sender import GossipSender
from ourolog.actors.gossip.table import MemberTable, pick
from ourolog.actors.messages.values import Member, MemberState
from ourolog.storage.types import NodeId

MAX_RELAYS: Final = 512
"""How many pings for others may wait for their answer; the oldest are forgotten."""


def ping(sender: GossipSender, target: Member) -> int:
    """Ping a member, and tell it if it is under suspicion. Returns the ping's sequence."""
    return sender.send(target.gossip_addr, Ping(target.node_id), first=update_for(target))


def update_for(target: Member) -> Member | None:
    """What a member must be told about itself, so that it can refute it."""
    return target if target.state is not MemberState.ALIVE else None


def ping_indirectly(
    sender: GossipSender, rng: Random, table: MemberTable, target: Member, count: int
) -> dict[int, NodeId]:
    """Have up to `count` other members ping the target. Returns which member each request went to, by sequence.

    They hear what is said against the target, so that their pings tell it: it refutes what it hears of, and what this
    node told others before may have gone to such as it cannot reach.
    """
    others = [member for member in table.present() if member.node_id != target.node_id]
    request, news = PingRequest(target.node_id, target.gossip_addr), update_for(target)
    return {sender.send(other.gossip_addr, request, first=news): other.node_id for other in pick(rng, others, count)}


@dataclass(slots=True)
class _Probe:
    """An open probe of one member.

    asked: which member each of its datagrams went to, by sequence: only they can answer it.
    """

    target_id: NodeId
    asked: dict[int, NodeId] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Relay:
    asker_addr: str
    asker_sequence: int
    target_id: NodeId
    target_addr: str


class Prober:
    """The open probes of this node, each named by the sequence of its first ping, and what it relays for others."""

    def __init__(self, sender: GossipSender, rng: Random, table: MemberTable, helpers: int) -> None:
        self._sender = sender
        self._rng = rng
        self._table = table
        self._helpers = helpers
        self._probes: dict[int, _Probe] = {}
        self._relays: dict[int, _Relay] = {}

    def begin(self, target: Member) -> int:
        """Ping the target. Returns the probe's name."""
        sequence = ping(self._sender, target)
        self._probes[sequence] = _Probe(target.node_id, {sequence: target.node_id})
        return sequence

    def ping_indirectly(self, name: int) -> None:
        """No answer yet: ping again and ask others to, unless the probe is over."""
        probe = self._probes.get(name)
        target = self._table.get(probe.target_id) if probe else None
        if probe is None or target is None:
            return
        probe.asked[ping(self._sender, target)] = target.node_id
        probe.asked |= ping_indirectly(self._sender, self._rng, self._table, target, self._helpers)

    def conclude(self, name: int) -> NodeId | None:
        """End the probe. Returns the member that stayed silent, or None when it answered."""
        probe = self._probes.pop(name, None)
        return probe.target_id if probe else None

    def answered(self, answers: int, answerer: Member, *, vouches: bool) -> NodeId | None:
        """Take an answer of a target, or of a relay. Returns the target, if a relay's answer ended the probe.

        vouches: whether a relay's answer speaks for the target.
        """
        for name, probe in list(self._probes.items()):
            if probe.asked.get(answers) == answerer.node_id and (vouches or answerer.node_id == probe.target_id):
                del self._probes[name]
                if answerer.node_id != probe.target_id:
                    return probe.target_id
        return None

    def relay(self, request: PingRequest, asker_addr: str, asker_sequence: int) -> None:
        """Ping for another member, if the target is known here at that address.

        Otherwise anybody could make us send datagrams to any address.
        """
        target = self._table.get(request.target_id)
        if target is None or target.gossip_addr != request.target_addr:
            return
        if len(self._relays) >= MAX_RELAYS:
            del self._relays[next(iter(self._relays))]
        sequence = ping(self._sender, target)
        self._relays[sequence] = _Relay(asker_addr, asker_sequence, target.node_id, target.gossip_addr)

    def relay_answer(self, answers: int, answerer: Member) -> None:
        """Take an answer; if it is to a ping for another member, pass it on.

        Only an answer from that same node at that same address counts: the asker may want to know
        which of two nodes holds a name.
        """
        relay = self._relays.pop(answers, None)
        if relay and (relay.target_id, relay.target_addr) == (answerer.node_id, answerer.gossip_addr):
            self._sender.send(relay.asker_addr, Ack(relay.asker_sequence))

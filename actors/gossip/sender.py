"""How this node speaks: every datagram introduces it, carries updates and stays within its size."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.gossip.codec import (
    MIN_DATAGRAM_BYTES,
    Body,
    Challenge,
    Datagram,
    Exchange,
    check_member,
    encode,
    member_size_bytes,
    room_bytes,
    split,
)
from ourolog.actors.gossip.cookies import Cookies
from ourolog.actors.gossip.table import MemberTable, UpdateQueue, retransmit_limit
from ourolog.actors.messages.values import ElectionClaim, Member
from ourolog.actors.ports import Ports

_SEQUENCES: Final = 2**32


class GossipSender:
    """Sends datagrams. Sequences begin at a random number, so that answers to a former run of this node match none."""

    def __init__(self, config: NodeConfig, ports: Ports, table: MemberTable, updates: UpdateQueue) -> None:
        """Prepare the sender. Raises ValueError for names, addresses or sizes that gossip cannot carry."""
        self._max_bytes = config.gossip.max_datagram_bytes
        if self._max_bytes < MIN_DATAGRAM_BYTES:
            raise ValueError(f"a gossip datagram needs {MIN_DATAGRAM_BYTES} bytes, {self._max_bytes} are too few")
        check_member(table.me, config.cluster)
        self.cookies = Cookies(ports.rng)
        self._cluster = config.cluster
        self._datagrams = ports.datagrams
        self._table = table
        self._updates = updates
        self.claim = ElectionClaim(config.election.claimed)
        self._sequence = ports.rng.randrange(_SEQUENCES)

    def send(self, addr: str, body: Body, first: Member | None = None) -> int:
        """Send one datagram with updates, and return its sequence.

        A suspect is told of the suspicion with whatever it is sent, so that it can refute at
        once (Lifeguard, Dadgar et al. 2017, section IV-C, the buddy system). A receiver that has
        echoed no cookie yet gets no updates: it could not accept them.

        first: an update that this receiver must get.
        """
        bare = self._datagram(addr, body)
        updates = []
        if bare.echoed_cookie:
            room = room_bytes(bare, self._max_bytes)
            if first is not None:
                updates.append(first)
                room -= member_size_bytes(first)
            updates += self._updates.take(room, retransmit_limit(self._table.size()))
        self._datagrams.send(addr, encode(replace(bare, updates=tuple(updates))))
        return bare.sequence

    def challenge(self, unproven: Datagram) -> None:
        """Answer a stranger at the address that it claims, with just enough to prove that this node is there."""
        addr = unproven.sender.gossip_addr
        bare = self._datagram(addr, Challenge(unproven.sequence))
        self._datagrams.send(addr, encode(replace(bare, echoed_cookie=unproven.issued_cookie, claim=None)))

    def send_table(self, addr: str, *, asks_back: bool, answers: int = 0) -> int:
        """Send the whole table in as many datagrams as it takes. Returns the sequence of the last.

        Only the last asks for the receiver's table, which then already includes all of ours.
        """
        body = Exchange(asks_back=False, answers=answers)
        runs = split(self._datagram(addr, body), self._table.everybody(), self._max_bytes)
        sequence = 0
        for at, run in enumerate(runs, 1):
            part = self._datagram(addr, replace(body, asks_back=asks_back and at == len(runs)))
            self._datagrams.send(addr, encode(replace(part, updates=run)))
            sequence = part.sequence
        return sequence

    def _datagram(self, addr: str, body: Body) -> Datagram:
        self._sequence = (self._sequence + 1) % _SEQUENCES
        return Datagram(
            self._cluster,
            self._table.me,
            self._sequence,
            body,
            echoed_cookie=self.cookies.received_from(addr),
            issued_cookie=self.cookies.issue(addr),
            claim=self.claim,
        )

"""How this node speaks: every datagram introduces it, carries news and stays within its size."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from actors.config import NodeConfig
from actors.gossip import MemberTable, RumourQueue, retransmit_limit
from actors.gossip_codec import (
    MIN_DATAGRAM_BYTES,
    Body,
    Datagram,
    Exchange,
    check_member,
    encode,
    member_size_bytes,
    room_bytes,
    split,
)
from actors.messages import Member
from actors.ports import Ports

_RECENT: Final = 4096
_SEQUENCES: Final = 2**32


class Voice:
    """Sequences begin at a random number: who cannot read our datagrams cannot answer them."""

    def __init__(self, config: NodeConfig, ports: Ports, table: MemberTable, rumours: RumourQueue) -> None:
        """Raises ValueError for names, addresses or sizes that gossip cannot carry."""
        self._max_bytes = config.gossip.max_datagram_bytes
        if self._max_bytes < MIN_DATAGRAM_BYTES:
            raise ValueError(f"a gossip datagram needs {MIN_DATAGRAM_BYTES} bytes, {self._max_bytes} are too few")
        check_member(table.me, config.cluster)
        self._cluster = config.cluster
        self._datagrams = ports.datagrams
        self._table = table
        self._rumours = rumours
        self._sequence = ports.rng.randrange(_SEQUENCES)
        self._spoken = 0

    def send(self, addr: str, body: Body, first: Member | None = None) -> int:
        """Send one datagram with news; its sequence. first: news that this receiver must get.

        A suspect is told of the suspicion with whatever it is sent, so that it can refute at
        once (Lifeguard, Dadgar et al. 2017, section IV-C, the buddy system).
        """
        bare = self._datagram(body)
        room = room_bytes(bare, self._max_bytes)
        updates = []
        if first is not None:
            updates.append(first)
            room -= member_size_bytes(first)
        updates += self._rumours.take(room, retransmit_limit(self._table.size()))
        self._datagrams.send(addr, encode(replace(bare, updates=tuple(updates))))
        return bare.sequence

    def send_table(self, addr: str, *, asks_back: bool, answers: int = 0) -> int:
        """Send the whole table in as many datagrams as it takes; the sequence of the last.

        Only the last asks for the receiver's table, which then already counts all of ours.
        """
        body = Exchange(asks_back=False, answers=answers)
        runs = split(self._datagram(body), self._table.everybody(), self._max_bytes)
        sequence = 0
        for at, run in enumerate(runs, 1):
            part = self._datagram(replace(body, asks_back=asks_back and at == len(runs)))
            self._datagrams.send(addr, encode(replace(part, updates=run)))
            sequence = part.sequence
        return sequence

    def used_lately(self, sequence: int) -> bool:
        """Whether a datagram of this node had that sequence, not long ago."""
        return (self._sequence - sequence) % _SEQUENCES < min(self._spoken, _RECENT)

    def _datagram(self, body: Body) -> Datagram:
        self._sequence = (self._sequence + 1) % _SEQUENCES
        self._spoken += 1
        return Datagram(self._cluster, self._table.me, self._sequence, body)

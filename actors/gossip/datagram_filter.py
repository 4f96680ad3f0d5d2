"""Filters received datagrams: damaged ones, and those of other clusters and versions, are dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.gossip.codec import VERSION, Datagram, GossipDecodeError, Join, OtherVersion, decode
from ourolog.actors.gossip.table import MemberTable
from ourolog.actors.messages.membership import DatagramReceived
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.ports import Ports

_MAX_WARNED: Final = 256
_YEAR_MS: Final = 365 * 24 * 3600 * 1000
_SELF_AHEAD_MS: Final = 70 * _YEAR_MS
_UPDATES_AHEAD_MS: Final = 69 * _YEAR_MS


class DatagramFilter:
    """Decodes received datagrams and drops those that are not meant for this node.

    dropped: how many datagrams were dropped.
    """

    def __init__(
        self, config: NodeConfig, ports: Ports, actor_name: str, answer: Callable[[Datagram], None] = lambda _: None
    ) -> None:
        """Prepare a filter that has dropped nothing.

        answer: shows a node of another cluster, which calls to join, that this one is there, so that both sides warn.
        """
        self.dropped = 0
        self._answer = answer
        self._node_id = config.node_id
        self._cluster = config.cluster
        self._clock = ports.clock
        self._observer = ports.observer
        self._actor_name = actor_name
        self._warned: set[tuple[WarningKind, str]] = set()

    def accept(self, received: DatagramReceived, table: MemberTable) -> Datagram | None:
        """The datagram, decoded; None if it is not meant for this node."""
        source = received.source_addr
        try:
            datagram = decode(received.payload)
        except GossipDecodeError as error:
            self._drop(WarningKind.GOSSIP_DAMAGED, source, f"{source} sent what is not gossip, or damaged: {error}")
            return None
        if isinstance(datagram, OtherVersion):
            name = next((m.node_id for m in table.everybody() if m.gossip_addr == source), "a node")
            self._drop(
                WarningKind.GOSSIP_OF_OTHER_VERSION,
                source,
                f"{name} at {source} speaks gossip version {datagram.version}, this node {VERSION}",
            )
            return None
        if datagram.cluster != self._cluster:
            self._drop(
                WarningKind.GOSSIP_OF_OTHER_CLUSTER,
                source,
                f"{datagram.sender.node_id} at {source} belongs to cluster {datagram.cluster!r}, this node to "
                f"{self._cluster!r}: what it sends is dropped",
            )
            if isinstance(datagram.body, Join):  # and nothing else, or two clusters would answer each other for ever
                self._answer(datagram)
            return None
        # Incarnations are start times. Without a bound that moves with time, one forged datagram
        # could raise a node's incarnation beyond what it can ever refute; with 70 years a clock at
        # 1970 is still accepted. What is said about others is bounded a year lower: a node that
        # refutes the highest such incarnation is still believed where clocks are behind its own.
        now_ms = max(0, self._clock.wall_ms())
        if datagram.sender.incarnation > now_ms + _SELF_AHEAD_MS:
            self._drop(
                WarningKind.GOSSIP_FROM_THE_FUTURE, source, f"{source} sent gossip from the far future: it is dropped"
            )
            return None
        updates = tuple(member for member in datagram.updates if member.incarnation <= now_ms + _UPDATES_AHEAD_MS)
        if len(updates) == len(datagram.updates):
            return datagram
        self._drop(
            WarningKind.GOSSIP_FROM_THE_FUTURE, source, f"{source} sent updates from the far future: they are dropped"
        )
        return replace(datagram, updates=updates)

    def warn_of_full_table(self) -> None:
        self._warn_once(
            WarningKind.TOO_MANY_MEMBERS,
            "",
            "gossip speaks of more members than this node will remember; the rest is ignored",
        )

    def _drop(self, kind: WarningKind, source: str, text: str) -> None:
        self.dropped += 1
        self._warn_once(kind, source, text)

    def _warn_once(self, kind: WarningKind, source: str, text: str) -> None:
        """Warn once per source, for a bounded number of sources, so that strangers can fill neither memory nor log."""
        if (kind, source) in self._warned or len(self._warned) > _MAX_WARNED:
            return
        self._warned.add((kind, source))
        if len(self._warned) > _MAX_WARNED:
            text += "; many others did the like, from here on it is only counted"
        self._observer.tell(NodeWarned(self._node_id, self._actor_name, kind, text))

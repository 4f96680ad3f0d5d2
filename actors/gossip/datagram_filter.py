"""What comes in from the network, and what stays outside: damage, other clusters, other versions."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.gossip.codec import VERSION, Datagram, GossipDecodeError, OtherVersion, decode
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

    def __init__(self, config: NodeConfig, ports: Ports, actor_name: str) -> None:
        self.dropped = 0
        self._node_id = config.node_id
        self._cluster = config.cluster
        self._clock = ports.clock
        self._observer = ports.observer
        self._actor_name = actor_name
        self._warned: set[tuple[WarningKind, str]] = set()

    def accept(self, received: DatagramReceived, table: MemberTable) -> Datagram | None:
        """What is in a datagram, if it is meant for this node at all."""
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
            return None
        # Incarnations are start times. Without a bound that moves with time, one forged datagram
        # could put a node's own beyond what it can ever refute; 70 years leave a clock that
        # stands at 1970 in the cluster. What is said about others is bounded a year lower: whoever
        # refutes the highest that it can be told is still believed where clocks are behind its own.
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
        """Once per source, and of a bounded number: neither memory nor log is a stranger's to fill."""
        if (kind, source) in self._warned or len(self._warned) > _MAX_WARNED:
            return
        self._warned.add((kind, source))
        if len(self._warned) > _MAX_WARNED:
            text += "; many others did the like, from here on it is only counted"
        self._observer.tell(NodeWarned(self._node_id, self._actor_name, kind, text))

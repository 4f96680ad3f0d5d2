"""The nodes of one scenario: real processes, within the limits that it sets, and what /proc knows of them."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from ourolog.local_cluster import LocalCluster, LogLine, NodeProcess
from torture.relay import Relay, free_udp_addr

_KEPT_LINES: Final = 50_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process takes.

    resident_mib, peak_mib: resident memory now and at its highest (VmRSS and VmHWM).
    files: open descriptors.
    """

    resident_mib: float
    peak_mib: float
    files: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """What that process takes now. Raises OSError when the process has gone."""
        found = {"VmRSS": 0.0, "VmHWM": 0.0}
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key in found:
                    found[key] = int(value.split()[0]) / 1024
        return cls(found["VmRSS"], found["VmHWM"], len(os.listdir(f"/proc/{pid}/fd")))


def reset_peak(pid: int) -> None:
    """Let VmHWM count from here on (proc(5), clear_refs)."""
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


class TorturedNode(NodeProcess):
    """A node whose log is kept across its restarts, with a limit of open files where one is set."""

    open_files: int | None = None
    is_relayed: bool = False
    log: deque[tuple[float, LogLine]]

    def command(self, join: Sequence[str] = ()) -> list[str]:
        words = super().command(join)
        if self.open_files is None:
            return words
        return ["sh", "-c", f'ulimit -n {self.open_files}; exec "$@"', "sh", *words]


class Stage(LocalCluster):
    """Nodes n1, n2, … of one scenario in `directory`; a context, as LocalCluster is.

    open_files: the limit of descriptors of every node, soft and hard; None for that of this process.
    relayed: gossip goes by relays, see `open_relays`; those in `cut` can neither be sent any nor send any.
    """

    def __init__(
        self,
        directory: str,
        nodes: int,
        *,
        flags: Sequence[str] = (),
        open_files: int | None = None,
        relayed: bool = False,
    ) -> None:
        super().__init__(directory, nodes)
        self.directory = directory
        self.cut: set[str] = set()
        self.datagrams_dropped = 0
        self._relays: dict[str, Relay] = {}
        self._nodes = {}
        for name in (f"n{number + 1}" for number in range(nodes)):
            gossip_addr = free_udp_addr() if relayed else "127.0.0.1:0"
            node = TorturedNode(
                name, str(Path(directory) / name), gossip_addr=gossip_addr, flags=flags, on_log=self._keep
            )
            node.open_files = open_files
            node.is_relayed = relayed
            node.log = deque(maxlen=_KEPT_LINES)
            self._nodes[name] = node

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(timeout_s=5.0)
        for relay in self._relays.values():
            relay.close()

    async def open_relays(self) -> None:
        """Open the relays before the start, on the loop that passes gossip on; none if gossip goes directly."""
        for node in self:
            assert isinstance(node, TorturedNode)
            if node.is_relayed:
                relay = await Relay.open(node.gossip_addr, self._pass_on)
                self._relays[node.node_id] = relay
                # Calls do not pass the relay.
                node.flags = (*node.flags, "--advertise-gossip-addr", relay.addr, "--peer-addr", "127.0.0.1:0")

    def seeds_of(self, node: NodeProcess) -> list[str]:
        if self._relays:
            return [relay.addr for name, relay in self._relays.items() if name != node.node_id]
        return super().seeds_of(node)

    @property
    def addresses(self) -> list[str]:
        return [node.rpc_addr for node in self]

    def log_since(self, node_id: str, since_s: float) -> list[LogLine]:
        """What a node has logged since then (time.monotonic), including its restarts."""
        node = self[node_id]
        assert isinstance(node, TorturedNode)
        return [line for at_s, line in list(node.log) if at_s >= since_s]

    def usage(self) -> dict[str, Usage]:
        """What each running node takes."""
        found = {}
        for node in self:
            try:
                found[node.node_id] = Usage.of(node.pid)
            except OSError:
                continue  # it has just ended
        return found

    def _pass_on(self, to: Relay, payload: bytes, source: str) -> None:
        sender = next((relay for relay in self._relays.values() if relay.node_addr == source), None)
        if any(self._relays[name] in {to, sender} for name in self.cut):
            self.datagrams_dropped += 1
        elif sender is not None:
            sender.send(to.node_addr, payload)

    def _keep(self, line: LogLine) -> None:
        node = self[line.node_id]
        assert isinstance(node, TorturedNode)
        node.log.append((time.monotonic(), line))

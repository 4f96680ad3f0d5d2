"""The cluster under torture: real nodes, each on a host and a disk of its own where the machine allows it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ourolog.local_cluster import ClusterError, LocalCluster, LogLine, NodeProcess
from torture.elections.network import Network, addresses

_RPC_PORT: Final = 8400
_GOSSIP_PORT: Final = 8401
_STOP_S: Final = 10.0


class TorturedNode(NodeProcess):
    """A node that knows whether its end was wanted.

    prefix: stands before its command line.
    may_end: the exit statuses that are no failure now; a node that runs by itself may not end at all.
    is_frozen: whether it is stopped (SIGSTOP).
    is_wiped: whether it has lost a disk.
    """

    prefix: Sequence[str] = ()
    may_end: frozenset[int] = frozenset()
    is_frozen = False
    is_wiped = False

    def command(self, join: Sequence[str] = ()) -> list[str]:
        return [*self.prefix, *super().command(join)]

    def freeze(self) -> None:
        self.is_frozen = True
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send_signal(signal.SIGCONT)
        self.is_frozen = False


class TorturedCluster(LocalCluster):
    """Nodes n1, n2, … under one election; a context that ends them all, frozen ones too.

    directory: holds a data directory for each node, and its log as <node>.log.
    network: where they run; None for loopback.
    on_leader: is told each term and leader that a node names for the first time.
    failures: a sentence for each node that ended by itself, and each term with two leaders.
    """

    def __init__(
        self,
        directory: str,
        nodes: int,
        flags: Sequence[str],
        network: Network | None,
        on_leader: Callable[[int, str], None] = lambda _term, _leader: None,
    ) -> None:
        super().__init__(directory, nodes)
        self.failures: list[str] = []
        self.directory = directory
        self.is_closing = False
        self._on_leader = on_leader
        self._leaders: dict[int, str] = {}
        self._lock = threading.Lock()
        self._told: set[int] = set()
        names = [f"n{number + 1}" for number in range(nodes)]
        rpc, gossip = addresses(network, names, _RPC_PORT), addresses(network, names, _GOSSIP_PORT)
        self._nodes = {}
        self._files = {name: open(Path(directory) / f"{name}.log", "a", encoding="utf-8") for name in names}  # noqa: SIM115  # closed in __exit__
        for name in names:
            node = TorturedNode(
                name,
                os.path.join(directory, name),
                rpc_addr=rpc[name],
                gossip_addr=gossip[name],
                flags=flags,
                on_log=self._on_log,
                on_exit=self._on_exit,
            )
            if network is not None:
                node.prefix = network.command(name)
            self._nodes[name] = node

    def __enter__(self) -> TorturedCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closing = True
        for node in self.tortured:
            node.thaw()
        self.stop(_STOP_S)
        for file in self._files.values():
            file.close()

    @property
    def tortured(self) -> list[TorturedNode]:
        return [self.node(name) for name in self._nodes]

    @property
    def names(self) -> list[str]:
        return list(self._nodes)

    def node(self, name: str) -> TorturedNode:
        node = self._nodes[name]
        assert isinstance(node, TorturedNode)
        return node

    @property
    def addresses(self) -> dict[str, str]:
        """The gRPC address by node."""
        return {node.node_id: node.rpc_addr for node in self}

    @property
    def leaders(self) -> Mapping[int, str]:
        """Whom nodes have named the leader, by term."""
        with self._lock:
            return dict(sorted(self._leaders.items()))

    @property
    def newest_leader(self) -> str | None:
        """The leader of the highest term that any node has named one of."""
        with self._lock:
            return self._leaders[max(self._leaders)] if self._leaders else None

    def begin(self, name: str) -> None:
        """Start a node again; returns before it is ready. Nothing happens if it runs, or all is over."""
        node = self.node(name)
        if not self.is_closing and not node.is_running:
            node.wait()  # for its last words to be read
            node.may_end = frozenset()
            node.start(self.seeds_of(node))

    # ------------------------------------------------------------ what nodes say, in their readers' threads

    def _on_log(self, line: LogLine) -> None:
        text = json.dumps({"at_s": round(time.monotonic(), 4), **line.fields}, default=str)
        with contextlib.suppress(ValueError):  # closed: all is over
            self._files[line.node_id].write(text + "\n")
        if line.event != "leader_changed" or not line.fields.get("leader"):
            return
        term, leader = int(line.fields["term"]), str(line.fields["leader"])
        with self._lock:
            known = self._leaders.setdefault(term, leader)
            is_first = known == leader and term not in self._told
            self._told.add(term)
        if known != leader:
            self.failures.append(f"term {term} had two leaders, {known} and {leader}; {line.node_id} named the second")
        elif is_first:
            self._on_leader(term, leader)

    def _on_exit(self, node: NodeProcess, status: int) -> None:
        assert isinstance(node, TorturedNode)
        if not self.is_closing and status not in node.may_end:
            self.failures.append(f"{node.node_id} ended by itself with status {status}: {node.last_words()}")


async def ended(node: NodeProcess, timeout_s: float) -> int | None:
    """The exit status once the node has ended; None if it has not within that time."""
    try:
        return await asyncio.to_thread(node.wait, timeout_s)
    except ClusterError:
        return None

"""etcd: three members, which sync each write to disk by default."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from bench.peers.binaries import Program, go_server
from bench.peers.samples import Load
from bench.peers.servers import Server, free_ports, running, wait_until

MEMBERS: Final = 3
_MODULE: Final = "go.etcd.io/etcd/server/v3"
_ASKED_FOR_S: Final = 5.0


def program(say: Callable[[str], None]) -> Program:
    """Raises MissingError."""
    return go_server("etcd", "etcd", _MODULE, ".", say)


class Etcd:
    """A cluster; a put is in the write-ahead logs of a majority, synced, before it is answered."""

    def __init__(self, built: Program, directory: str) -> None:
        self.label = "etcd"
        self.version = built.version
        self.settings = "3 members, defaults: fsync before each answer"
        self._directory = directory
        clients, peers = (free_ports(2 * MEMBERS)[half * MEMBERS :][:MEMBERS] for half in (0, 1))
        self.addresses = [f"127.0.0.1:{port}" for port in clients]
        initial = ",".join(f"m{at + 1}=http://127.0.0.1:{peers[at]}" for at in range(MEMBERS))
        self.servers: Sequence[Server] = [
            Server(
                f"etcd m{at + 1}",
                [
                    built.path,
                    *("--name", f"m{at + 1}", "--data-dir", os.path.join(directory, f"m{at + 1}")),
                    *("--listen-client-urls", f"http://127.0.0.1:{clients[at]}"),
                    *("--advertise-client-urls", f"http://127.0.0.1:{clients[at]}"),
                    *("--listen-peer-urls", f"http://127.0.0.1:{peers[at]}"),
                    *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peers[at]}"),
                    *("--initial-cluster", initial, "--initial-cluster-state", "new"),
                    # What a run writes is more than the default of 2 GiB.
                    *("--quota-backend-bytes", str(8 << 30), "--log-level", "error"),
                ],
                os.path.join(directory, f"m{at + 1}.log"),
            )
            for at in range(MEMBERS)
        ]

    @contextlib.contextmanager
    def started(self) -> Iterator[Etcd]:
        os.makedirs(self._directory)
        with running(self.servers):
            wait_until(self._leader, "leader", self.servers)
            yield self

    def pids(self) -> list[int]:
        return [server.pid for server in self.servers]

    def put(self, generator: str, in_flight: int, connections: int = 1) -> Load:
        """Put to the leader, under a new key each time."""
        spread = f" on {connections} connections" if connections > 1 else ""
        words = ["-in-flight", str(in_flight), "-connections", str(connections), "etcd", "put"]

        def command() -> list[str]:
            wait_until(self._leader, "leader", self.servers)
            return [generator, "-addr", self._leader(), *words]

        return Load(f"etcd: Put, {in_flight:,} in flight{spread}", command, self.pids)

    def _leader(self) -> str:
        """Its address, "" if nobody leads."""
        for addr in self.addresses:
            said = _ask(addr)
            if said.get("leader") and said["leader"] == said.get("header", {}).get("member_id"):
                return addr
        return ""


def _ask(addr: str) -> dict[str, Any]:
    """The status of a member, as its JSON gateway tells it; nothing if it does not answer."""
    request = urllib.request.Request(f"http://{addr}/v3/maintenance/status", data=b"{}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=_ASKED_FOR_S) as answer:
            said = json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return {}
    return said if isinstance(said, dict) else {}

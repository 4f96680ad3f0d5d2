"""NATS JetStream: three servers, a stream on all of them, with every write synced to disk or by default."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from bench.peers.binaries import Program, go_server
from bench.peers.samples import Load, run_generator
from bench.peers.servers import Server, free_ports, running, wait_until

SERVERS: Final = 3
_MODULE: Final = "github.com/nats-io/nats-server/v2"
_ASKED_FOR_S: Final = 5.0
_PRODUCED: Final = "produced"
_CONSUMED: Final = "consumed"


def program(say: Callable[[str], None]) -> Program:
    """Raises MissingError."""
    return go_server("nats", "nats-server", _MODULE, _MODULE, say)


class Nats:
    """A cluster with one stream of three replicas.

    is_synced: with `sync_interval: always`; else by default, which is every two minutes.
    """

    def __init__(self, built: Program, generator: str, directory: str, *, is_synced: bool) -> None:
        self.is_synced = is_synced
        self.label = "NATS, synced" if is_synced else "NATS, default"
        self.version = built.version
        self.settings = f"3 servers, stream R3, {'sync_interval: always' if is_synced else 'sync_interval: 2m'}"
        self._generator = generator
        self._directory = directory
        self._clients, routes, self._monitors = (
            free_ports(3 * SERVERS)[part * SERVERS :][:SERVERS] for part in range(3)
        )
        self.servers: Sequence[Server] = [
            Server(
                f"{self.label} s{at + 1}",
                [built.path, "--config", os.path.join(directory, f"s{at + 1}.conf")],
                os.path.join(directory, f"s{at + 1}.log"),
            )
            for at in range(SERVERS)
        ]
        sync = "sync_interval: always" if is_synced else ""
        others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self._configurations = [
            f"""server_name: s{at + 1}
listen: "127.0.0.1:{self._clients[at]}"
http: "127.0.0.1:{self._monitors[at]}"
jetstream {{ store_dir: "{directory}/s{at + 1}", max_file_store: 100GB, {sync} }}
cluster {{ name: bench, listen: "127.0.0.1:{routes[at]}", routes: [{others}] }}
"""
            for at in range(SERVERS)
        ]

    @contextlib.contextmanager
    def started(self) -> Iterator[Nats]:
        """Running, with two streams whose three replicas are up to date: one to produce to, one to consume from."""
        os.makedirs(self._directory)
        for at, text in enumerate(self._configurations):
            with open(os.path.join(self._directory, f"s{at + 1}.conf"), "w", encoding="utf-8") as file:
                file.write(text)
        with running(self.servers):
            wait_until(self._is_well, "servers that are well", self.servers)
            addresses = ",".join(f"127.0.0.1:{port}" for port in self._clients)
            for stream in (_PRODUCED, _CONSUMED):
                run_generator([self._generator, "-addr", addresses, "-name", stream, "nats", "create"])
            yield self

    def pids(self) -> list[int]:
        return [server.pid for server in self.servers]

    def _is_well(self) -> bool:
        """Whether every server says so, and that JetStream has a leader."""
        return all(self._ask(at, "healthz").get("status") == "ok" for at in range(SERVERS))

    def _leader(self, stream: str) -> int:
        """Which server leads a stream now; the first one if none does."""
        said = self._ask(0, "jsz?accounts=true&streams=true")
        for account in said.get("account_details", ()):
            for detail in account.get("stream_detail", ()):
                if detail["name"] == stream:
                    return int(detail.get("cluster", {}).get("leader", "s1").removeprefix("s") or 1) - 1
        return 0

    def _ask(self, at: int, what: str) -> dict[str, Any]:
        """What a server's monitoring says; nothing if it does not answer."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._monitors[at]}/{what}", timeout=_ASKED_FOR_S
            ) as answer:
                said = json.load(answer)
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    # ------------------------------------------------------------ loads

    def publish(self, in_flight: int) -> Load:
        """Publish, each caller waiting for its acknowledgement, to the server that leads the stream."""
        return self._load(f"Publish, {in_flight} in flight", ["-in-flight", str(in_flight), "nats", "publish"])

    def publish_async(self, pending: int, size: int = 100) -> Load:
        """PublishAsync, with so many not acknowledged yet."""
        words = ["-in-flight", str(pending), "-size", str(size), "nats", "async"]
        return self._load(f"PublishAsync, {size:,} B, {pending:,} pending", words, size)

    def publish_atomic(self, records: int, in_flight: int, size: int = 100) -> Load:
        """Batches that are stored all or none."""
        words = ["-in-flight", str(in_flight), "-batch", str(records), "-size", str(size), "nats", "atomic"]
        return self._load(f"atomic batches, {size:,} B x {records:,}, {in_flight} in flight", words, size)

    def filling(self) -> Load:
        """Into the stream that is consumed from."""
        return self._load("fill", ["-in-flight", "8", "-batch", "1000", "nats", "atomic"], stream=_CONSUMED)

    def consume(self, messages: int) -> Load:
        """An ordered pull consumer on a server that does not lead the stream."""
        words = ["-in-flight", str(messages), "nats", "consume"]
        name = f"ordered pull consumer on a follower, {messages:,} at a time"
        return self._load(name, words, stream=_CONSUMED, after_leader=1)

    def _load(
        self,
        name: str,
        words: Sequence[str],
        record_bytes: int = 100,
        *,
        stream: str = _PRODUCED,
        after_leader: int = 0,
    ) -> Load:
        """A load on one server.

        after_leader: which server the client calls, counted from the stream's leader on.
        """

        def command() -> list[str]:
            at = (self._leader(stream) + after_leader) % SERVERS
            return [self._generator, "-addr", f"127.0.0.1:{self._clients[at]}", "-name", stream, *words]

        return Load(f"{self.label}: {name}", command, self.pids, record_bytes)

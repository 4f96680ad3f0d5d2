"""Redis: one server with an append-only file, which is synced for each answer or once a second."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

from bench.peers.binaries import MissingError, Program, first_version
from bench.peers.samples import Load
from bench.peers.servers import Server, free_ports, is_open, running, wait_until

_STREAM: Final = "bench"
_ASKED_FOR_S: Final = 30.0


def program() -> Program:
    """The one on the PATH. Raises MissingError."""
    found = shutil.which("redis-server")
    if found is None:
        raise MissingError("there is no redis-server on the PATH; Debian's package redis-server has it")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    return Program(found, first_version(said))


class Redis:
    """One server. Before each sample it is told how to sync, and the stream is dropped, since it is all in memory."""

    def __init__(self, found: Program, generator: str, directory: str) -> None:
        self.label = "Redis"
        self.version = found.version
        self.settings = "1 server, no replica, appendonly yes, appendfsync always or everysec"
        self._generator = generator
        self._directory = directory
        self._port = free_ports(1)[0]
        words = [found.path, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", directory]
        words += ["--appendonly", "yes", "--save", ""]
        self.servers: Sequence[Server] = [Server("redis", words, os.path.join(directory, "redis.log"))]

    @contextlib.contextmanager
    def started(self) -> Iterator[Redis]:
        os.makedirs(self._directory)
        with running(self.servers):
            wait_until(lambda: is_open(f"127.0.0.1:{self._port}"), "answer", self.servers)
            yield self

    def pids(self) -> list[int]:
        return [server.pid for server in self.servers]

    # ------------------------------------------------------------ loads

    def add(self, in_flight: int, sync: str) -> Load:
        """XADD, each caller waiting for its answer.

        sync: the value of appendfsync.
        """
        return self._load(f"XADD, {in_flight} in flight", sync, ["-in-flight", str(in_flight), "redis", "add"])

    def pipeline(self, records: int, connections: int, sync: str, size: int = 100) -> Load:
        """So many XADDs in one write, on several connections."""
        words = ["-in-flight", str(connections), "-batch", str(records), "-size", str(size), "redis", "pipeline"]
        return self._load(
            f"pipelined XADD, {size:,} B x {records:,} on {connections} connection{'s' if connections > 1 else ''}",
            sync,
            words,
            size,
        )

    def _load(self, name: str, sync: str, words: Sequence[str], record_bytes: int = 100) -> Load:
        def command() -> list[str]:
            self._tell(f"CONFIG SET appendfsync {sync}", f"UNLINK {_STREAM}")
            return [self._generator, "-addr", f"127.0.0.1:{self._port}", "-name", _STREAM, *words]

        return Load(f"Redis, {sync}: {name}", command, self.pids, record_bytes)

    def _tell(self, *commands: str) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=_ASKED_FOR_S) as connection:
            for text in commands:
                connection.sendall(text.encode() + b"\r\n")
                if connection.recv(1024)[:1] == b"-":
                    raise RuntimeError(f"Redis refused {text}")

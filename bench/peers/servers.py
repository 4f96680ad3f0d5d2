"""Server processes: started, watched, and stopped by their ids."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from bench.processes import resident_mib

_STOPS_WITHIN_S: Final = 20.0
_LAST_LINES: Final = 5


class ServerError(Exception):
    """A server did not start, or ended by itself."""


def bound_to_this(words: Sequence[str]) -> list[str]:
    """A command line whose process is killed when this one dies, however it dies, where the system can do that."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *words] if setpriv else list(words)


class Server:
    """One process, whose output goes to a file.

    name: of the server, for errors.
    command: its command line.
    log_path: where its output goes.
    """

    def __init__(
        self, name: str, command: Sequence[str], log_path: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = list(command)
        self._log_path = log_path
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "only a server that was started has a process"
        return self._process.pid

    def start(self) -> None:
        with open(self._log_path, "ab") as log:
            self._process = subprocess.Popen(
                bound_to_this(self._command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises ServerError if it has ended."""
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self.name} ended by itself: {self.last_words()}")

    def last_words(self) -> str:
        with open(self._log_path, encoding="utf-8", errors="replace") as log:
            return " / ".join(line.strip() for line in log.readlines()[-_LAST_LINES:]) or "it said nothing"

    def peak_mib(self) -> float:
        """Its resident memory at its highest."""
        return resident_mib(self.pid)[1]

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float = _STOPS_WITHIN_S) -> None:
        """Until it has ended; what does not end in time is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def running(servers: Sequence[Server]) -> Iterator[None]:
    """Start all of them, and stop them at the end, whatever happens."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.signal(signal.SIGTERM)
        for server in servers:
            server.wait()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on now, for TCP and UDP."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            stream = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            stream.bind(("127.0.0.1", 0))
            port = stream.getsockname()[1]
            datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                datagrams.bind(("127.0.0.1", port))
                ports.append(port)
        return ports


def wait_until(is_so: Callable[[], object], what: str, servers: Sequence[Server], timeout_s: float = 60.0) -> None:
    """Ask again and again. Raises ServerError when a server ends or the time is up."""
    give_up_at_s = time.monotonic() + timeout_s
    while not is_so():
        for server in servers:
            server.check()
        if time.monotonic() > give_up_at_s:
            said = "; ".join(f"{server.name}: {server.last_words()}" for server in servers)
            raise ServerError(f"no {what} within {timeout_s:g} s: {said}")
        time.sleep(0.05)


def is_open(addr: str) -> bool:
    """Whether somebody listens there."""
    host, _, port = addr.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False

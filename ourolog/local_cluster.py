"""Clusters of real `ourolog node` processes on this machine, for `dev`, `cycle` and the end-to-end tests.

Every node is a process of its own, started afresh (never forked: gRPC does not survive a fork) in
a session of its own, so that a Ctrl-C meant for the parent does not reach it twice. A node ends
when its standard input does, so none outlives a parent that was killed. What a node does is read
from its JSON logs as they come.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from ourolog.child_processes import child_environment, python_command

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 20.0
LEADS_WITHIN_S: Final = 5.0
_KEPT_LINES: Final = 10_000
_PORTS_PER_NODE: Final = 10


class ClusterError(Exception):
    """A node did not start, ended by itself, or did not do in time what was waited for."""


class PortInUseError(ClusterError):
    """A port that a node needs cannot be bound."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a node's log. `event` is "" for output that is not JSON, its text in `fields["text"]`."""

    node_id: str
    event: str
    level: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, node_id: str, text: str) -> LogLine:
        try:
            fields = json.loads(text)
        except ValueError:
            return cls(node_id, "", fields={"text": text})
        if not isinstance(fields, dict):
            return cls(node_id, "", fields={"text": text})
        return cls(node_id, str(fields.get("event", "")), str(fields.get("level", "")), fields)


OnLog = Callable[[LogLine], None]
OnExit = Callable[["NodeProcess", int], None]


class NodeProcess:
    """One node as a child process. It can be started again after it ended, on the same directory.

    The first start may ask for port 0; later ones use the ports the first was given. Where `flags` say nothing of an
    election, nobody is elected.
    """

    def __init__(
        self,
        node_id: str,
        data_dir: str,
        *,
        rpc_addr: str = "127.0.0.1:0",
        gossip_addr: str = "127.0.0.1:0",
        flags: Sequence[str] = (),
        on_log: OnLog | None = None,
        on_exit: OnExit | None = None,
    ) -> None:
        self.node_id = node_id
        self.data_dir = data_dir
        self.rpc_addr = rpc_addr
        self.gossip_addr = gossip_addr
        self.flags = tuple(flags)
        self.lines: deque[LogLine] = deque(maxlen=_KEPT_LINES)
        self._on_log = on_log
        self._on_exit = on_exit
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._ended = False

    def arguments(self, join: Sequence[str] = ()) -> list[str]:
        """What follows `ourolog` on the command line of this node, as a person could type it too."""
        words = ["node", "--node-id", self.node_id, "--data-dir", self.data_dir]
        words += ["--rpc-addr", self.rpc_addr, "--gossip-addr", self.gossip_addr]
        for address in join:
            words += ["--join", address]
        elects = any(flag.partition("=")[0] == "--election" for flag in self.flags)
        return [*words, *(() if elects else ("--election", "none")), *self.flags]

    def command(self, join: Sequence[str] = ()) -> list[str]:
        """The command line of the process that start() makes, but for what concerns its parent alone."""
        return python_command("-m", "ourolog", *self.arguments(join))

    def start(self, join: Sequence[str] = ()) -> None:
        """Start the process; returns before it is ready. `join`: gossip addresses of others."""
        assert not self.is_running, f"{self.node_id} runs already"
        self.lines.clear()
        self._ended = False
        self._process = subprocess.Popen(  # noqa: S603  # our own command line, no shell
            [*self.command(join), "--log-format", "json", "--exit-with-parent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=child_environment(),
            start_new_session=True,
        )
        self._reader = threading.Thread(
            target=self._read_log, args=(self._process,), name=f"{self.node_id} log", daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        assert self._process is not None, "only a node that was started has a process"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_for(self, event: str, timeout_s: float = START_TIMEOUT_S, **fields: Any) -> LogLine:
        """The first line since the start with this event and these fields, now or when it comes.

        Raises ClusterError with the node's last lines if it ends, or time does, before that.
        """
        return self.wait_until(
            lambda line: line.event == event and all(line.fields.get(key) == value for key, value in fields.items()),
            event,
            timeout_s,
        )

    def wait_until(self, is_it: Callable[[LogLine], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> LogLine:
        """The first line since the start for which `is_it` holds, now or when it comes.

        what: the line, in words, for the error.
        Raises ClusterError like `wait_for`.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                line = next(filter(is_it, self.lines), None)
                if line is not None:
                    return line
                if self._ended:
                    raise ClusterError(f"{self.node_id} ended before {what}: {self.last_words()}")
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise ClusterError(f"{self.node_id}: no {what} within {timeout_s:g} s; {self.last_words()}")
                self._changed.wait(left_s)

    def last_words(self) -> str:
        """Why it ended, as far as its log says; for a person."""
        for line in reversed(self.lines):
            if line.level == "error" and "reason" in line.fields:
                return str(line.fields["reason"])
        texts = [str(line.fields.get("text") or line.event) for line in list(self.lines)[-5:]]
        return " | ".join(texts) or "it said nothing"

    def terminate(self) -> None:
        """Ask it to drain and stop (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as kill -9 does, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens if the process has ended already."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """The exit status (negative: the ending signal), once its log is read. ClusterError if time runs out."""
        assert self._process is not None, "only a node that was started can be waited for"
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{self.node_id} did not stop within {timeout_s:g} s") from None
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(timeout_s)
        return status

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        assert process.stdin is not None
        with process.stderr as stream:
            for raw in stream:
                line = LogLine.parse(self.node_id, raw.decode(errors="replace").rstrip("\n"))
                if line.event == "listening":
                    self.rpc_addr = str(line.fields["rpc_addr"])
                    self.gossip_addr = str(line.fields["gossip_addr"])
                # First shown, then told to those who wait for it: what they say next must not come before it.
                if self._on_log is not None:
                    self._on_log(line)
                with self._changed:
                    self.lines.append(line)
                    self._changed.notify_all()
        status = process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()
        if self._on_exit is not None:
            self._on_exit(self, status)
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class LocalCluster:
    """Nodes n1, n2, … that know each other. Used as a context, it stops them at the end.

    rpc_port: gRPC port of n1, its gossip port the next one, n2 ten above it, and so on; 0 for any.
    flags: handed to every node, e.g. ("--cycle", "allow").
    """

    def __init__(
        self,
        directory: str,
        nodes: int,
        *,
        rpc_port: int = 0,
        flags: Sequence[str] = (),
        on_log: OnLog | None = None,
        on_exit: OnExit | None = None,
    ) -> None:
        self._nodes: dict[str, NodeProcess] = {}
        for number in range(nodes):
            node_id = f"n{number + 1}"
            port = rpc_port + _PORTS_PER_NODE * number if rpc_port else 0
            self._nodes[node_id] = NodeProcess(
                node_id,
                str(Path(directory) / node_id),
                rpc_addr=f"127.0.0.1:{port}",
                gossip_addr=f"127.0.0.1:{port + 1 if port else 0}",
                flags=flags,
                on_log=on_log,
                on_exit=on_exit,
            )

    def __iter__(self) -> Iterator[NodeProcess]:
        return iter(self._nodes.values())

    def __getitem__(self, node_id: str) -> NodeProcess:
        return self._nodes[node_id]

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start all nodes and return when each of them serves clients. ClusterError if one does not."""
        deadline_s = time.monotonic() + timeout_s
        for node in self:
            node.start(self.seeds_of(node))
            if node.gossip_addr.endswith(":0"):
                node.wait_for("listening", deadline_s - time.monotonic())
        for node in self:
            node.wait_for("ready", deadline_s - time.monotonic())
        self._wait_until_led()

    def _wait_until_led(self) -> None:
        """Wait until every node says who leads, but at most LEADS_WITHIN_S: without a majority, nobody leads."""
        deadline_s = time.monotonic() + LEADS_WITHIN_S
        with contextlib.suppress(ClusterError):
            for node in self:
                node.wait_until(_says_who_leads, "leader", deadline_s - time.monotonic())

    def leader(self) -> NodeProcess | None:
        """The running node that leads in the latest term of which the nodes' logs say who does; None if none does."""
        told = [
            (line.fields["term"], line.fields["leader"])
            for node in self
            for line in list(node.lines)
            if line.event == "leader_changed" and line.fields["leader"]
        ]
        found = self._nodes.get(max(told)[1]) if told else None
        return found if found is not None and found.is_running else None

    def wait_until_joined(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when every running node has discovered every other one."""
        deadline_s = time.monotonic() + timeout_s
        running = [node for node in self if node.is_running]
        for node in running:
            for other in running:
                if other is not node:
                    node.wait_for("member_joined", deadline_s - time.monotonic(), member=other.node_id)

    def restart(self, node_id: str) -> None:
        """Start one again that has ended, on the same ports and directory; returns when it serves."""
        node = self[node_id]
        node.start(self.seeds_of(node))
        node.wait_for("ready")

    def seeds_of(self, node: NodeProcess) -> list[str]:
        """Where it finds the others: all gossip addresses that are known already."""
        return [other.gossip_addr for other in self if other is not node and not other.gossip_addr.endswith(":0")]

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Drain and stop all of them; what does not stop in time is killed. None is left when this returns."""
        running = [node for node in self if node.is_running]
        try:
            for node in running:
                node.terminate()
            deadline_s = time.monotonic() + timeout_s
            for node in running:
                with contextlib.suppress(ClusterError):
                    node.wait(max(0.0, deadline_s - time.monotonic()))
        finally:
            for node in running:
                if node.is_running:
                    node.kill()


def _says_who_leads(line: LogLine) -> bool:
    """Whether it says who leads, or that nobody ever does."""
    return line.event == "nobody_elected" or (line.event == "leader_changed" and bool(line.fields["leader"]))


def check_ports_free(cluster: LocalCluster) -> None:
    """Raises PortInUseError naming the first port that is taken, before anything is started."""
    for node in cluster:
        for kind, address, use in (
            (socket.SOCK_STREAM, node.rpc_addr, "gRPC"),
            (socket.SOCK_DGRAM, node.gossip_addr, "gossip"),
            (socket.SOCK_STREAM, node.gossip_addr, "calls"),
        ):
            host, _, port = address.rpartition(":")
            with socket.socket(socket.AF_INET, kind) as sock:
                if kind == socket.SOCK_STREAM:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is not "in use"
                try:
                    sock.bind((host, int(port)))
                except (OSError, OverflowError) as error:
                    reason = error.strerror if isinstance(error, OSError) else "there is no such port"
                    raise PortInUseError(
                        f"port {port}, for {use} of {node.node_id}, cannot be used: {reason}"
                    ) from None

"""`ourolog dev`: a cluster of real node processes on this machine, watched live."""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final

import click
from rich.console import Console

from ourolog.actors.occupants import parse_election
from ourolog.live_view import LiveView
from ourolog.local_cluster import (
    STOP_TIMEOUT_S,
    ClusterError,
    LocalCluster,
    LogLine,
    NodeProcess,
    PortInUseError,
    check_ports_free,
)
from ourolog.options import (
    DEFAULT_ADDR,
    RunningError,
    config_option,
    election_option,
    option,
    replicas_options,
    replication_options,
)
from ourolog.rpc.open_files import raise_open_files_limit
from ourolog.storage.disk import holder_of
from ourolog.storage.identity import LOCK_NAME
from ourolog.storage.types import NodeId

_LOOKS_EVERY_S: Final = 1.0
"""For nodes that were started again from another terminal."""

EPILOG = """
\b
Examples:
  ourolog dev                                    three nodes, which elect their leader
  ourolog dev --election static                  n1 leads, all vote
  ourolog dev --election none                    nobody leads; everyone pulls from everyone
  ourolog dev --election none --cycle allow      as in the book: copies of copies
  ourolog dev --nodes 5                          three vote, two stand by for one that is gone
  ourolog dev --nodes 5 --data-dir ./cluster     keep the data
  ourolog dev --rpc-port 0                       on any free ports

Node i serves gRPC on --rpc-port + 10 * (i - 1) and gossips on the port above.
Ctrl-C takes all of them down.
"""


class _Stop(BaseException):
    """SIGINT or SIGTERM arrived."""


@click.command(epilog=EPILOG)
@config_option
@option("--nodes", type=click.IntRange(1, 50), default=3, help="How many.")
@election_option(
    help="Who leads. [default: raft:n1,n2,n3, elected by the first --replicas nodes]",
)
@replicas_options
@replication_options
@option(
    "--data-dir",
    type=click.Path(file_okay=False),
    help="Keep the logs here, a directory for each node. [default: a temporary one, removed at the end]",
)
@option("--rpc-port", type=click.IntRange(0, 65535), default=8400, help="gRPC port of n1; 0 means any.")
def dev(
    *,
    nodes: int,
    election: str | None,
    replicas: int,
    replace_after_s: float,
    cycle: str,
    max_hops: int,
    acks: str,
    min_in_sync: int | None,
    fsync: str,
    data_dir: str | None,
    rpc_port: int,
) -> int:
    """Run a cluster on this machine and watch it live."""
    names = tuple(NodeId(f"n{number + 1}") for number in range(nodes))
    try:
        chosen = parse_election(election or "raft", nodes=names)
        if chosen.elects and not chosen.is_decreed:
            chosen = parse_election(election or "raft", nodes=names[:replicas])  # the others stand by
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="'--election'") from error
    strangers = [voter for voter in chosen.voters if voter not in names]
    if strangers:
        raise click.UsageError(f"--election names {', '.join(strangers)}, but the nodes are {names[0]} to {names[-1]}.")
    flags = ["--election", str(chosen), "--replicas", str(replicas), "--replace-after", f"{replace_after_s:g}s"]
    flags += ["--cycle", cycle, "--max-hops", str(max_hops), "--acks", acks, "--fsync", fsync]
    flags += ["--min-in-sync", str(min_in_sync)] if min_in_sync is not None else []
    raise_open_files_limit()  # nodes inherit it, and `dev` itself reads from all of them
    directory = data_dir or tempfile.mkdtemp(prefix="ourolog-dev-")
    try:
        return _Dev(
            directory, nodes, rpc_port, flags, is_temporary=data_dir is None, is_decreed=chosen.is_decreed
        ).run()
    finally:
        if data_dir is None:
            shutil.rmtree(directory, ignore_errors=True)


class _Dev:
    """One run of the command."""

    def __init__(
        self, directory: str, nodes: int, rpc_port: int, flags: list[str], *, is_temporary: bool, is_decreed: bool
    ) -> None:
        self._directory = directory
        self._is_temporary = is_temporary
        self._is_decreed = is_decreed
        self._view = LiveView(Console())
        self._ended: queue.SimpleQueue[tuple[NodeProcess, int] | None] = queue.SimpleQueue()
        self._is_starting = True
        self._is_stopping = False
        self._told_ready: set[str] = set()
        self._cluster = LocalCluster(
            directory,
            nodes,
            rpc_port=rpc_port,
            flags=flags,
            on_log=self._show,
            on_exit=lambda node, status: self._ended.put((node, status)),
        )

    def run(self) -> int:
        """0 after Ctrl-C or SIGTERM; 1 if the cluster could not start or all its nodes ended by themselves."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP, and means it
                signal.signal(number, self._request_stop)
        try:
            check_ports_free(self._cluster)
            Path(self._directory).mkdir(parents=True, exist_ok=True)
            self._cluster.start()
            self._cluster.wait_until_joined()
            self._tell_next_steps()
            return self._watch()
        except PortInUseError as error:
            raise RunningError(f"{error}; choose others with --rpc-port, or 0 for any") from error
        except ClusterError as error:
            raise RunningError(str(error)) from error
        except _Stop:
            self._view.print("\nStopping all nodes …")
            return 0
        finally:
            self._is_stopping = True
            self._cluster.stop()
            self._stop_others()

    def _watch(self) -> int:
        """Until a signal: say when a node ends by itself. Returns when none is left, from here or from elsewhere."""
        while True:
            try:
                ended = self._ended.get(timeout=_LOOKS_EVERY_S)
            except queue.Empty:
                if self._is_any_left():
                    continue
                self._view.print("No node is left.")
                return 1
            if ended is None:
                return 0
            node, status = ended
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
            self._view.say(node.node_id, "ended", f"the process {how}")
            if not self._is_any_left():
                self._view.print("No node is left.")
                return 1
            again = _as_typed(node.arguments(self._cluster.seeds_of(node)))
            self._view.print(f"       start it again, from another terminal: {again}")

    def _is_any_left(self) -> bool:
        return any(node.is_running for node in self._cluster) or bool(self._others())

    def _others(self) -> list[int]:
        """The processes of nodes that were started again from another terminal, on the directories of this cluster."""
        holders = [holder_of(f"{node.data_dir}/{LOCK_NAME}") for node in self._cluster if not node.is_running]
        return [holder for holder in holders if holder is not None]

    def _stop_others(self) -> None:
        """Take those down, too, as was promised: nothing may run on data that is about to be removed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._others():
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            until_s = time.monotonic() + STOP_TIMEOUT_S
            while self._others() and time.monotonic() < until_s:
                time.sleep(0.05)

    def _show(self, line: LogLine) -> None:
        if self._is_stopping:
            return  # when all nodes stop, their leaving is not worth a line
        if self._is_starting and self._is_usual(line):
            return
        try:
            self._view.show(line)
        except BrokenPipeError:  # nobody reads any more: `ourolog dev | head`
            self._ended.put(None)

    def _is_usual(self, line: LogLine) -> bool:
        """Whether it is what each node says again and again until all of them are there and one leads."""
        if line.event == "ready":
            was_told = line.node_id in self._told_ready
            self._told_ready.add(line.node_id)
            return was_told
        return line.event == "not_ready" and line.level != "error"

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if not self._is_stopping:
            self._is_stopping = True
            raise _Stop
        for node in self._cluster:
            node.send_signal(signal.SIGKILL)

    def _tell_next_steps(self) -> None:
        self._is_starting = False
        command = own_command()
        nodes = list(self._cluster)
        last = nodes[-1]
        steps = [
            (f'{command} produce "hello"', "append a record, print its offset"),
            (f"{command} consume --follow --addr {last.rpc_addr}", f"read from {last.node_id}, and wait for more"),
            (f"{command} status", "who is there, who leads, who pulls from whom"),
        ]
        leader = self._cluster.leader() if len(nodes) > 2 and not self._is_decreed else None
        if leader is not None:
            steps.append((f"kill -9 {leader.pid}", f"that is {leader.node_id}, which leads: watch the others elect"))
        else:
            steps.append((f"kill -9 {last.pid}", f"that is {last.node_id}: watch the others notice"))
        addresses = ",".join(node.rpc_addr for node in nodes)
        if addresses != DEFAULT_ADDR:
            steps.insert(0, (f"export OUROLOG_ADDR={addresses}", ""))
        width = max(len(step) for step, why in steps if why)
        lines = ["", f"{len(nodes)} node{'s are' if len(nodes) > 1 else ' is'} up. Next, in another terminal:"]
        lines += (f"  {step:<{width}}   # {why}" if why else f"  {step}" for step, why in steps)
        where = "and removes their data" if self._is_temporary else f"and keeps their data in {self._directory}"
        lines.append(f"Ctrl-C here takes all of them down {where}.\n")
        self._view.print("\n".join(lines))  # at once, so that no event of a node comes in between


def own_command() -> str:
    """How this command can be typed in the present directory."""
    typed = sys.argv[0]
    if Path(typed).name != "ourolog":
        return f"{shlex.quote(sys.executable)} -m ourolog"
    found = shutil.which("ourolog")
    if found is not None and Path(found).resolve() == Path(typed).resolve():
        return "ourolog"
    path = Path(typed).resolve()
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _as_typed(words: list[str]) -> str:
    """The command with these arguments, as one would type it here."""
    return f"{own_command()} {shlex.join(words)}"

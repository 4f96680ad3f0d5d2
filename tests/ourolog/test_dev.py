"""`ourolog dev` as a real process with real nodes below it."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ourolog.local_cluster import LogLine, NodeProcess

Run = Callable[..., Any]


class Dev:
    """The command, its lines as they come."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ourolog", "dev", "--rpc-port", "0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []

    def until(self, pattern: str) -> re.Match[str]:
        """The next line that matches."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found
        raise AssertionError(f"no {pattern!r} in {''.join(self.lines)}")

    def rest(self) -> str:
        """Everything up to its end."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def children(self) -> list[int]:
        """The nodes' processes."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            found = [int(pid) for pid in file.read().split()]
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/children") as file:
                found += [int(pid) for pid in file.read().split() if int(pid) not in found]
        return found


@pytest.fixture
def dev(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    started: list[Dev] = []

    def start(*words: str) -> Dev:
        started.append(Dev(list(words), {**environment, "TMPDIR": str(tmp_path)}))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        if one.process.stdout is not None:
            one.process.stdout.close()


def all_end(pidfds: list[int], timeout_s: float = 30) -> bool:
    """Whether the processes behind these descriptors end in time."""
    waiting = list(pidfds)
    while waiting:
        ended, _, _ = select.select(waiting, [], [], timeout_s)
        if not ended:
            return False
        waiting = [pidfd for pidfd in waiting if pidfd not in ended]
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_tells_what_to_try_and_leaves_nothing_behind(
    dev: Callable[..., Dev], run: Run, tmp_path: Path, number: signal.Signals
) -> None:
    cluster = dev()
    addresses = cluster.until(r"export OUROLOG_ADDR=(\S+)").group(1)
    assert len(addresses.split(",")) == 3
    cluster.until('produce "hello"  ')
    consume = cluster.until(r"consume --follow --addr (\S+)").group(1)
    cluster.until("Ctrl-C here takes all of them down and removes their data")
    children = cluster.children()
    assert len(children) == 3
    pidfds = [os.pidfd_open(pid) for pid in children]
    try:
        assert run("produce", "hello", OUROLOG_ADDR=addresses).stdout == "0\n"
        assert run("consume", "--follow", "--count", "1", "--addr", consume).stdout == "0\thello\n"
        cluster.process.send_signal(number)
        assert "Stopping all nodes" in cluster.rest()
        assert cluster.process.wait(30) == 0
        assert all_end(pidfds, 0)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
    assert list(tmp_path.iterdir()) == []


def test_events_that_matter_are_one_readable_line_each(dev: Callable[..., Dev]) -> None:
    cluster = dev("--nodes", "2")
    cluster.until("2 nodes are up")
    seen = "".join(cluster.lines)
    for node, other in (("n1", "n2"), ("n2", "n1")):
        for line in (rf"{node} +ready +gRPC on 127\.0\.0\.1:\d+", rf"{node} +joined +{other} at 127"):
            assert re.search(line, seen), f"{line} in {seen}"
    # Who leads has nothing to do with being up, so it is said before or after that.
    leads = r"n1 +leader +n[12] leads term \d"
    if not re.search(leads, seen):
        cluster.until(leads)


@pytest.mark.parametrize(
    ("nodes", "which"),
    [("2", "that is (n2): watch"), ("3", r"that is (n\d), which leads: watch the others elect")],
)
def test_a_node_that_dies_is_told_of_with_how_to_start_it_again(
    dev: Callable[..., Dev], nodes: str, which: str
) -> None:
    cluster = dev("--nodes", nodes)
    pid, victim = cluster.until(rf"kill -9 (\d+) +# {which}").groups()
    os.kill(int(pid), signal.SIGKILL)
    cluster.until(f"{victim} +ended +the process was killed by SIGKILL")
    cluster.until(f"start it again, from another terminal: .* node --node-id {victim} ")
    cluster.process.send_signal(signal.SIGINT)
    cluster.rest()
    assert cluster.process.wait(30) == 0


def test_nodes_that_were_started_again_from_another_terminal_count_and_are_taken_down_too(
    dev: Callable[..., Dev], environment: dict[str, str], tmp_path: Path
) -> None:
    cluster = dev("--nodes", "2")
    cluster.until("2 nodes are up")
    first, second = cluster.children()
    os.kill(first, signal.SIGKILL)
    again = cluster.until("start it again, from another terminal: (.*)").group(1)
    words = shlex.split(again)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "ourolog", *words[words.index("node") :]],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as node:
        try:
            assert node.stderr is not None
            assert any("ready" in line for line in node.stderr)
            os.kill(second, signal.SIGKILL)
            cluster.until("start it again, from another terminal: ")
            cluster.process.send_signal(signal.SIGINT)
            assert "No node is left" not in cluster.rest()
            assert cluster.process.wait(30) == 0
            node.stderr.read()
            assert node.wait(30) == 0
        finally:
            node.kill()
    assert list(tmp_path.iterdir()) == []


def test_dev_ends_when_no_node_is_left(dev: Callable[..., Dev]) -> None:
    cluster = dev("--nodes", "1")
    cluster.until("1 node is up")
    os.kill(cluster.children()[0], signal.SIGKILL)
    cluster.until("No node is left")
    cluster.rest()
    assert cluster.process.wait(30) == 1


def test_nodes_end_when_dev_is_killed(dev: Callable[..., Dev]) -> None:
    cluster = dev("--nodes", "2")
    cluster.until("2 nodes are up")
    pidfds = [os.pidfd_open(pid) for pid in cluster.children()]
    assert len(pidfds) == 2
    cluster.process.kill()
    try:
        assert all_end(pidfds)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def test_data_is_kept_in_the_directory_that_was_named(dev: Callable[..., Dev], run: Run, tmp_path: Path) -> None:
    directory = tmp_path / "kept"
    for offset in range(2):
        cluster = dev("--nodes", "1", "--data-dir", str(directory))
        addr = cluster.until(r"export OUROLOG_ADDR=(\S+)").group(1)
        cluster.until("keeps their data in")
        assert run("produce", "x", "--addr", addr).stdout == f"{offset}\n"
        cluster.process.send_signal(signal.SIGTERM)
        cluster.rest()
        assert cluster.process.wait(30) == 0


def test_a_port_in_use_exits_1_with_one_line_and_starts_nothing(run: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("dev", "--nodes", "1", "--rpc-port", str(port), TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--rpc-port" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_line_is_shown_before_anybody_who_waits_for_it_goes_on(tmp_path: Path) -> None:
    """Else `dev` says "2 nodes are up" before it has said that the second is ready."""
    told_too_early: list[str] = []

    def show(line: LogLine) -> None:
        if line in node.lines:
            told_too_early.append(line.event)

    node = NodeProcess("n1", str(tmp_path), on_log=show)
    node.start()
    try:
        node.wait_for("ready")
    finally:
        node.terminate()
        assert node.wait() == 0
    assert told_too_early == []

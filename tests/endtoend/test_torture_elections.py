"""A short run of the torture of elections, and what it leaves behind when it is stopped: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from ourolog.child_processes import child_environment, python_command
from torture.elections.faults import Fault
from torture.elections.network import Network, NoNetworkError, describe, isolate, split
from torture.elections.recording import read_history
from torture.elections.run import Plan, lines_of, run

SHORT_S = 12.0


@pytest.mark.timeout(300)
def test_a_cluster_under_short_torture_holds_every_claim(tmp_path: Path) -> None:
    told: list[str] = []
    outcome = asyncio.run(run(Plan(3, SHORT_S, seed=4), str(tmp_path), told.append))
    assert not outcome.failures, "\n".join([*told, *lines_of(outcome)])
    assert sum(outcome.fired.values()) >= 3
    assert outcome.acknowledged > 100
    assert outcome.checked > outcome.acknowledged * 2
    assert len(read_history(str(tmp_path / "history.jsonl"))) == outcome.checked
    assert outcome.leaders


@pytest.mark.timeout(120)
def test_a_node_that_ends_by_itself_fails_the_run(tmp_path: Path) -> None:
    told: list[str] = []
    plan = Plan(1, 1.0, seed=1, kinds=frozenset(), flags=("--no-such-flag",))
    outcome = asyncio.run(run(plan, str(tmp_path), told.append))
    assert any("n1 ended by itself with status 2" in text for text in outcome.failures)
    assert any(line.startswith("!! ") for line in lines_of(outcome))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_leaves_no_process_namespace_mount_or_file(tmp_path: Path, number: int) -> None:
    words = python_command("-m", "torture.elections", "--seed", "1", "--directory", str(tmp_path))
    with subprocess.Popen(words, env=child_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "leads" not in (line := process.stdout.readline()):
            assert line, "it ended before anybody led"
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert [one for one in processes() if str(tmp_path) in one] == []
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    assert f"ourolog-{process.pid}-" not in listed


def processes() -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_text())
        except OSError:
            continue
    return found


def test_cut_directions_pass_nothing_and_healed_ones_do() -> None:
    try:
        network = Network(["n1", "n2"])
    except NoNetworkError as error:
        pytest.skip(str(error))
    with network, contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(listening(network, host)) for host in ("n1", "n2"))
        network.cut({("n1", "n2")})
        send(network, "n1", "n2", "lost")
        send(network, "n2", "n1", "the other direction")
        assert first.readline() == "the other direction\n"
        network.cut(isolate("n1", ["n2"]))
        send(network, "n1", "n2", "lost")
        send(network, "n2", "n1", "lost")
        send(network, "clients", "n2", "from elsewhere")
        assert second.readline() == "from elsewhere\n"
        network.heal()
        send(network, "n1", "n2", "found")
        send(network, "n2", "n1", "found")
        assert (first.readline(), second.readline()) == ("found\n", "found\n")


LISTENER = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((sys.argv[1], 9))
    print("listening", flush=True)
    while True:
        print(sock.recv(100).decode(), flush=True)
"""
SENDER = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.sendto(sys.argv[2].encode(), (sys.argv[1], 9))
"""


@contextlib.contextmanager
def listening(network: Network, host: str) -> Iterator[IO[str]]:
    """Whatever comes to that host, a line each."""
    words = [*network.command(host), *python_command("-c", LISTENER, network.address(host))]
    with subprocess.Popen(words, env=child_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield process.stdout
        process.kill()


def send(network: Network, sender: str, receiver: str, text: str) -> None:
    prefix = [] if sender == "clients" else network.command(sender)
    words = [*prefix, *python_command("-c", SENDER, network.address(receiver), text)]
    subprocess.run(words, env=child_environment(), check=True)


def test_cuts_are_told_by_who_no_longer_hears_whom() -> None:
    assert describe(split(["n1", "n2"], ["n3"])) == "n1-n3 n2-n3"
    assert describe({("n2", "n1")}) == "n2>n1"


def test_faults_have_a_sentence_each_on_the_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "torture.md").read_text()
    for kind in Fault:
        assert f"| `{kind}` |" in page

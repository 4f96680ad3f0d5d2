"""`ourolog cluster recover` on a survivor's data directory, as the page shows it: what it prints and asks."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path
from random import Random

import pytest

from ourolog.child_processes import child_environment, python_command
from ourolog.storage.disk import DiskFiles
from ourolog.storage.founding import Founding
from ourolog.storage.identity import DataDirectory
from ourolog.storage.types import NodeId
from tests.documents import assert_shown, block, transcript_of
from tests.ourolog.survivors import survivor_in

PAGE = "docs/running.md: $ ourolog cluster recover --data-dir /var/lib/ourolog"


def recover_typing(data_dir: Path, typed: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it on a terminal at which somebody types that line."""
    command = python_command("-m", "ourolog", "cluster", "recover", "--data-dir", str(data_dir), *words)
    master, slave = pty.openpty()
    try:
        os.write(master, f"{typed}\n".encode())
        return subprocess.run(
            command, env=child_environment(), stdin=slave, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        os.close(master)
        os.close(slave)


def founding_in(data_dir: Path) -> Founding | None:
    directory = DataDirectory.open(DiskFiles(), str(data_dir), NodeId("n1"), "ourolog", Random(1))
    directory.close()
    return directory.founding


def test_who_types_the_cluster_s_name_recovers_it_as_the_page_shows(tmp_path: Path) -> None:
    data_dir = survivor_in(tmp_path / "n1")
    [(_, shown)] = transcript_of(block(PAGE).text)
    done = recover_typing(data_dir, "ourolog", "--timeout", "500ms")
    assert done.returncode == 0, done.stderr
    assert_shown(shown, f"{done.stderr.rstrip()} ourolog\n{done.stdout}")
    founding = founding_in(data_dir)
    assert founding is not None
    assert founding.generation == 2


@pytest.mark.parametrize("typed", ["", "y", "another"])
def test_who_types_anything_else_changes_nothing(tmp_path: Path, typed: str) -> None:
    data_dir = survivor_in(tmp_path / "n1")
    done = recover_typing(data_dir, typed, "--timeout", "500ms")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Nothing was changed." in done.stderr
    founding = founding_in(data_dir)
    assert founding is not None
    assert founding.generation == 1


def test_one_address_alone_is_refused(tmp_path: Path) -> None:
    done = recover_typing(survivor_in(tmp_path / "n1"), "ourolog", "--rpc-addr", "127.0.0.1:1")
    assert (done.returncode, "--rpc-addr and --gossip-addr come together" in done.stderr) == (2, True)


def test_an_address_for_calls_is_written_with_the_two_others_and_refused_without_them(tmp_path: Path) -> None:
    data_dir = survivor_in(tmp_path / "n1")
    peer = ("--peer-addr", "127.0.0.1:8402")
    done = recover_typing(data_dir, "ourolog", *peer)
    assert (done.returncode, "--peer-addr comes with" in done.stderr) == (2, True)
    addresses = ("--rpc-addr", "127.0.0.1:8400", "--gossip-addr", "127.0.0.1:8401", *peer)
    assert recover_typing(data_dir, "ourolog", "--timeout", "500ms", *addresses).returncode == 0
    founding = founding_in(data_dir)
    assert founding is not None
    (me,) = founding.voters
    assert (me.gossip_addr, me.peer_addr) == ("127.0.0.1:8401", "127.0.0.1:8402")


def test_who_stood_by_is_asked_for_its_addresses_before_a_person_is_asked_to_decide(tmp_path: Path) -> None:
    data_dir = survivor_in(tmp_path / "n1", votes=False)
    done = recover_typing(data_dir, "ourolog", "--timeout", "500ms")
    assert (done.returncode, done.stdout) == (1, "")
    assert "n1 had no vote, so the log does not say at which addresses it can be reached" in done.stderr
    assert "Type the cluster's name" not in done.stderr
    addresses = ("--rpc-addr", "127.0.0.1:8400", "--gossip-addr", "127.0.0.1:8401")
    assert recover_typing(data_dir, "ourolog", "--timeout", "500ms", *addresses).returncode == 0


def test_a_directory_that_is_no_node_s_is_refused_with_a_sentence(tmp_path: Path) -> None:
    done = recover_typing(tmp_path, "ourolog")
    assert (done.returncode, "is no data directory of a node" in done.stderr) == (1, True)

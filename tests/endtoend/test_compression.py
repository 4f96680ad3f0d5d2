"""Compressed by the producer, kept so on three disks, read as it was: by the commands, and by a foreign client."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from ourolog.child_processes import child_environment, python_command
from ourolog.cli import cli

LINES = [b"%05d: a line of an access log, as most lines of it are" % number for number in range(20_000)]


def size_bytes_on(directory: Path) -> int:
    return sum(os.path.getsize(path) for path in directory.rglob("*.log"))


def test_what_is_produced_compressed_is_stored_so_on_every_node_and_read_as_it_was(
    start_cluster: Any, connect: Any, tmp_path: Path
) -> None:
    cluster = start_cluster(3, "--election", "raft")
    text = b"".join(line + b"\n" for line in LINES)
    words = ("--addr", cluster["n1"].rpc_addr, "--acks", "all", "--timeout", "20s", "--compress", "zstd")
    command = python_command("-m", "ourolog", "produce", *words)
    produced = subprocess.run(command, input=text, env=child_environment(), capture_output=True, check=True, timeout=60)
    assert produced.stdout == b"".join(b"%d\n" % offset for offset in range(len(LINES)))
    for node in cluster:
        consume = ("consume", "--addr", node.rpc_addr, "--output", "raw")
        assert CliRunner().invoke(cli, consume).stdout_bytes == text
        foreign = connect(node.rpc_addr)
        assert foreign.everything() == LINES
        assert foreign.consume(12_345).record.value == LINES[12_345]
    assert len(list(tmp_path.rglob("*.log"))) >= 3
    assert size_bytes_on(tmp_path) < len(text), "three copies take less than one of the text"

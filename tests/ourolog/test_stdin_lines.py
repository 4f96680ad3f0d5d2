"""Lines of standard input, through a real pipe on file descriptor 0 of a process of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ourolog.child_processes import child_environment, python_command

ROOT = Path(__file__).resolve().parents[2]
READ_ALL = """
import asyncio, json
from ourolog.stdin_lines import stdin_lines
async def main():
    print(json.dumps([line.decode("latin-1") async for lines in stdin_lines() for line in lines]))
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"\n\nx\n", ["", "", "x"]),
        (b"\xff\x00\r\n", ["\xff\x00\r"]),
        (b"x" * 3_000_000 + b"\ny\n", ["x" * 3_000_000, "y"]),
    ],
    ids=["nothing", "lines", "no last end", "empty lines", "any bytes", "longer than a chunk"],
)
def test_lines_come_whole_and_in_order_without_their_ends(given: bytes, lines: list[str]) -> None:
    done = subprocess.run(
        python_command("-c", READ_ALL), input=given, capture_output=True, env=child_environment(), check=True
    )
    assert json.loads(done.stdout) == lines

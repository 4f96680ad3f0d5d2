"""produce, consume and status against a real node."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ourolog.local_cluster import LocalCluster

Run = Callable[..., Any]


@pytest.fixture
def addr(one_node: LocalCluster) -> str:
    return one_node["n1"].rpc_addr


def test_arguments_are_records_and_offsets_begin_at_0(run: Run, addr: str) -> None:
    done = run("produce", "hello", "world", "--addr", addr)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n1\n", "")
    assert run("consume", "--addr", addr).stdout == "0\thello\n1\tworld\n"


def test_lines_of_stdin_are_records_whatever_the_size_of_a_call(run: Run, addr: str) -> None:
    assert run("produce", "--addr", addr, "--batch", "2", given="a\nb\nc\n").stdout == "0\n1\n2\n"
    assert run("produce", "--addr", addr, given="d\ne").stdout == "3\n4\n"
    assert run("consume", "--addr", addr, "--output", "raw").stdout == "a\nb\nc\nd\ne\n"


def test_the_address_can_come_from_the_environment(run: Run, addr: str) -> None:
    assert run("produce", "x", OUROLOG_ADDR=addr).stdout == "0\n"


def test_several_addresses_can_be_given_and_one_where_nobody_is_does_no_harm(
    run: Run, addr: str, unused_addr: str
) -> None:
    assert run("produce", "a", "--addr", f"{unused_addr},{addr}").stdout == "0\n"
    assert run("consume", "--addr", unused_addr, "--addr", addr).stdout == "0\ta\n"
    assert run("consume", OUROLOG_ADDR=f"{unused_addr} {addr}").stdout == "0\ta\n"
    done = run("status", "--addr", f"{unused_addr}, {addr}")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "election none, leader none")


def test_when_nobody_answers_every_address_is_named(run: Run, unused_addr: str) -> None:
    addresses = f"{unused_addr},127.0.0.1:1"
    for words in (["status"], ["produce", "a"]):
        done = run(*words, "--addr", addresses, "--timeout", "300ms")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"none of {unused_addr}, 127.0.0.1:1" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_wrong_address_among_several_is_a_usage_error_that_names_the_flag(run: Run) -> None:
    for words in (["produce", "a"], ["consume"], ["status"]):
        done = run(*words, "--addr", "127.0.0.1:8400,nowhere")
        assert (done.returncode, done.stdout) == (2, "")
        assert "Invalid value for '--addr'" in done.stderr
        assert "'nowhere' is not HOST:PORT" in done.stderr


def test_consume_begins_where_it_is_told_and_ends_after_so_many(run: Run, addr: str) -> None:
    run("produce", *"abcdef", "--addr", addr)
    assert run("consume", "--addr", addr, "--from", "2", "--count", "3").stdout == "2\tc\n3\td\n4\te\n"
    assert run("consume", "--addr", addr, "--from", "6").stdout == ""
    assert run("consume", "--addr", addr, "--from", "end").stdout == ""


def test_with_nobody_elected_the_latest_state_is_refused_with_a_sentence(run: Run, addr: str) -> None:
    run("produce", "a", "--addr", addr)
    assert run("consume", "--addr", addr, "--read", "committed").stdout == "0\ta\n"
    for start in ("first", "end"):
        done = run("consume", "--addr", addr, "--read", "latest", "--from", start)
        assert (done.returncode, done.stdout) == (1, "")
        assert "nobody leads" in done.stderr


def test_a_record_comes_as_json_with_its_provenance(run: Run, addr: str) -> None:
    run("produce", "hello", "--addr", addr)
    record = json.loads(run("consume", "--addr", addr, "--output", "json", "--provenance").stdout)
    assert record.pop("timestamp_ms") > 0
    assert record == {"offset": 0, "value": "hello", "origin": "n1", "path": ["n1"]}
    assert run("consume", "--addr", addr, "--provenance").stdout == "0\thello\tn1\n"


def test_an_offset_above_the_log_exits_1_with_the_range_that_exists(run: Run, addr: str) -> None:
    run("produce", "a", "b", "--addr", addr)
    done = run("consume", "--addr", addr, "--from", "9")
    assert (done.returncode, done.stdout) == (1, "")
    assert "[0, 2)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_empty_record_exits_1_and_what_came_before_it_is_kept(run: Run, addr: str) -> None:
    done = run("produce", "--addr", addr, given="a\n\nb\n")
    assert (done.returncode, done.stdout) == (1, "0\n")
    assert "record 2 is empty" in done.stderr
    assert run("consume", "--addr", addr).stdout == "0\ta\n"


def test_a_record_that_is_too_large_exits_1_and_the_limit_is_named(run: Run, addr: str) -> None:
    done = run("produce", "--addr", addr, given="x" * 1_048_577)
    assert (done.returncode, done.stdout) == (1, "")
    assert "1048576" in done.stderr
    assert run("consume", "--addr", addr).stdout == ""


def test_follow_shows_a_record_that_comes_later_and_ctrl_c_is_quiet(
    run: Run, addr: str, environment: dict[str, str]
) -> None:
    words = [sys.executable, "-P", "-m", "ourolog", "consume", "--follow", "--addr", addr]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as follower:
        assert follower.stdout is not None
        assert follower.stderr is not None
        for number in range(3):
            run("produce", f"record {number}", "--addr", addr)
            assert follower.stdout.readline() == f"{number}\trecord {number}\n".encode()
        follower.send_signal(signal.SIGINT)
        assert follower.stderr.read() == b""
        assert follower.wait(30) == 130


def test_a_reader_that_goes_away_is_no_error_to_speak_of(run: Run, addr: str, environment: dict[str, str]) -> None:
    run("produce", "--addr", addr, given="some record\n" * 50_000)
    words = [sys.executable, "-P", "-m", "ourolog", "consume", "--addr", addr]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as consumer:
        assert consumer.stdout is not None
        assert consumer.stderr is not None
        assert consumer.stdout.readline() == b"0\tsome record\n"
        consumer.stdout.close()
        assert consumer.stderr.read() == b""
        assert consumer.wait(30) == 141


def test_status_has_the_keys_that_programs_read(run: Run, one_node: LocalCluster) -> None:
    node = one_node["n1"]
    run("produce", "a", "--addr", node.rpc_addr)
    found = json.loads(run("status", "--addr", node.rpc_addr, "--output", "json").stdout)
    assert found == {
        "election": "none",
        "leader": None,
        "term": 0,
        "generation": None,
        "voters": [],
        "replicas": None,
        "voter_change": None,
        "nodes": [
            {
                "id": "n1",
                "rpc_addr": node.rpc_addr,
                "gossip_addr": node.gossip_addr,
                "peer_addr": node.gossip_addr,
                "state": "alive",
                "role": "peer",
                "term": 0,
                "leader": None,
                "cluster_id": None,
                "generation": None,
                "first_offset": 0,
                "end_offset": 1,
                "committed_offset": 1,
                "pulls": [],
                "cycles_seen": 0,
                "not_ready": None,
                "damaged_found": 0,
                "repaired": 0,
                "scrubbed_ms": None,
                "claims": [],
            }
        ],
    }


def test_status_as_text_is_a_table_without_colours_off_a_terminal(run: Run, addr: str) -> None:
    done = run("status", "--addr", addr)
    assert done.stdout.startswith("election none, leader none\n")
    assert f"n1    alive  peer     0   [0, 0)          0  -                0  {addr}" in done.stdout
    assert "\x1b" not in done.stdout


class Terminal:
    """A pseudo-terminal as standard output and error of a command, read to its end."""

    def __init__(self, words: list[str], environment: dict[str, str], stdin: Path) -> None:
        ours, theirs = os.openpty()
        with open(stdin, "rb") as given:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ourolog", *words],
                stdin=given,
                stdout=theirs,
                stderr=theirs,
                env=environment,
            )
        os.close(theirs)
        self.shown = b"".join(self._read(ours))
        os.close(ours)
        self.status = process.wait(60)

    @staticmethod
    def _read(descriptor: int) -> Iterator[bytes]:
        while True:
            try:
                chunk = os.read(descriptor, 65536)
            except OSError:  # EIO: the other side is closed, on Linux
                return
            if not chunk:
                return
            yield chunk


def test_no_color_is_respected_on_a_terminal(addr: str, environment: dict[str, str], tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.touch()
    coloured = {**environment, "TERM": "xterm-256color"}
    assert b"\x1b[36m" in Terminal(["status", "--addr", addr], coloured, nothing).shown
    plain = Terminal(["status", "--addr", addr], {**coloured, "NO_COLOR": "1"}, nothing).shown
    assert b"n1" in plain
    assert b"\x1b[3" not in plain


def test_where_nobody_leads_the_lead_cannot_be_given_away(run: Run, addr: str) -> None:
    done = run("cluster", "transfer-leader", "--addr", addr)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: n1 runs with --election none: nobody leads\n"


def test_a_decreed_leader_is_not_changed_by_a_command(run: Run, tmp_path: Path) -> None:
    with LocalCluster(str(tmp_path), 3, flags=("--election", "static:n1,n2,n3")) as nodes:
        nodes.start()
        done = run("cluster", "transfer-leader", "n2", "--addr", nodes["n3"].rpc_addr)
    assert (done.returncode, done.stdout) == (1, "")
    assert "n3 runs with --election static:n1,n2,n3: a person decrees that n1 leads" in done.stderr


def test_the_lead_is_given_to_another_node_and_back(run: Run, tmp_path: Path) -> None:
    with LocalCluster(str(tmp_path), 3, flags=("--election", "raft:n1,n2,n3")) as nodes:
        nodes.start()
        addresses = ",".join(one.rpc_addr for one in nodes)
        leader = json.loads(run("status", "--addr", addresses, "--output", "json").stdout)["leader"]
        other = next(one.node_id for one in nodes if one.node_id != leader)
        done = run("cluster", "transfer-leader", other, "--addr", addresses)
        assert re.fullmatch(rf"{other} leads in term \d+; before it {leader} led\n", done.stdout), done
        again = run("cluster", "transfer-leader", other, "--addr", addresses)
        assert re.fullmatch(rf"{other} leads already, in term \d+\n", again.stdout), again
        stranger = run("cluster", "transfer-leader", "n9", "--addr", addresses)
        assert (stranger.returncode, stranger.stdout) == (1, "")
        assert "n9 has no vote; the voters are" in stranger.stderr

"""`ourolog node` as a real process: ready, signals, exit status."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ourolog.child_processes import python_command
from ourolog.local_cluster import ClusterError, LocalCluster, LogLine, NodeProcess
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc

Run = Callable[..., Any]

START_A_NODE = """
import sys
from ourolog.local_cluster import LocalCluster
cluster = LocalCluster(sys.argv[1], 1)
cluster.start()
print(cluster["n1"].pid, flush=True)
sys.stdin.read()
"""


HANGING_STORE = """
import threading
import ourolog.actors.node
from ourolog.actors.store import StoreActor
from ourolog.__main__ import main
ourolog.actors.node.STORE_STOPS_WITHIN_S = 0.2
StoreActor.on_stop = lambda _: threading.Event().wait()
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_0(one_node: LocalCluster, number: signal.Signals) -> None:
    node = one_node["n1"]
    node.send_signal(number)
    assert node.wait() == 0
    events = [line.event for line in node.lines]
    assert events[-3:] == ["shutdown_requested", "stopping", "stopped"]
    assert "" not in events, "every line of the log is JSON"


def test_the_ready_file_has_the_addresses_in_use_and_goes_with_the_node(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("left by an earlier one")
    node = NodeProcess("n1", str(tmp_path / "n1"), flags=("--ready-file", str(path)))
    node.start()
    try:
        node.wait_for("ready")
        ready = json.loads(path.read_text())
        assert ready == {
            "node_id": "n1",
            "cluster": "ourolog",
            "rpc_addr": node.rpc_addr,
            "gossip_addr": node.gossip_addr,
            "pid": node.pid,
        }
        assert not node.rpc_addr.endswith(":0")
        assert not node.gossip_addr.endswith(":0")
        socket.create_connection(("127.0.0.1", int(node.rpc_addr.rpartition(":")[2])), timeout=5).close()
    finally:
        node.terminate()
        assert node.wait() == 0
    assert not path.exists()


def test_what_was_acknowledged_is_there_after_kill_9_and_a_restart(one_node: LocalCluster, run: Run) -> None:
    node = one_node["n1"]
    assert run("produce", "a", "b", "--addr", node.rpc_addr).stdout == "0\n1\n"
    node.kill()
    one_node.restart("n1")
    assert run("consume", "--addr", node.rpc_addr).stdout == "0\ta\n1\tb\n"


def test_a_node_ends_when_its_parent_is_killed(tmp_path: Path, environment: dict[str, str]) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-c",
            START_A_NODE,
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        try:
            assert wait_for_end(child), "the node is still there"
        finally:
            os.close(child)


def test_a_second_signal_forces_with_status_1(tmp_path: Path, run: Run) -> None:
    """A produce that waits for a quorum that is not there is an open call, for which draining waits."""
    flags = ("--election", "static:n1,n2,n3", "--force-lead", "--drain-timeout", "60s")
    with LocalCluster(str(tmp_path), 1, flags=flags) as cluster:
        cluster.start()
        node = cluster["n1"]
        with grpc.insecure_channel(node.rpc_addr) as channel:
            request = pb.ProduceRequest(record=pb.Record(value=b"x"))
            produce = pb_grpc.LogStub(channel).Produce.future(request, timeout=60)
            while (
                json.loads(run("status", "--addr", node.rpc_addr, "--output", "json").stdout)["nodes"][0]["end_offset"]
                < 1
            ):
                assert not produce.done()
            node.terminate()
            node.wait_for("stopping")
            node.terminate()
            assert node.wait() == 1
            assert node.lines[-1].event == "shutdown_forced"


def test_readiness_is_told_both_ways_in_the_log_to_the_service_manager_and_by_health(tmp_path: Path) -> None:
    """A leader without its quorum runs and is not ready; it is when a follower comes."""

    class Notifying(NodeProcess):
        def command(self, join: Sequence[str] = ()) -> list[str]:
            return ["env", f"NOTIFY_SOCKET={path}", *super().command(join)]

    path = str(tmp_path / "notify")
    said: queue.SimpleQueue[LogLine] = queue.SimpleQueue()
    flags = ("--election", "static:n1,n2")
    leader = Notifying("n1", str(tmp_path / "n1"), flags=flags, on_log=said.put)
    follower = NodeProcess("n2", str(tmp_path / "n2"), flags=flags)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, contextlib.ExitStack() as stack:
        manager.bind(path)
        manager.settimeout(30)
        for node in (leader, follower):
            stack.callback(node.kill)
        leader.start()

        def next_of(*events: str) -> LogLine:
            while (line := said.get(timeout=30)).event not in events:
                pass
            return line

        assert next_of("ready", "not_ready").event == "ready", "it runs"
        not_ready = next_of("ready", "not_ready")
        assert not_ready.event == "not_ready"
        assert "voters" in not_ready.fields["reason"]
        assert manager.recv(1000) == b"READY=1"
        assert manager.recv(1000).startswith(b"STATUS=not ready: ")
        channel = stack.enter_context(grpc.insecure_channel(leader.rpc_addr))
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        follower.start([leader.gossip_addr])
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert next_of("ready").fields["rpc_addr"] == leader.rpc_addr
        while (status := manager.recv(1000)) != b"STATUS=ready":
            assert status.startswith(b"STATUS=not ready: ")
        leader.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert leader.wait() == 0
        assert manager.recv(1000) == b"STOPPING=1"


def test_a_disk_that_hangs_at_the_stop_exits_1_with_a_sentence(tmp_path: Path) -> None:
    class Hanging(NodeProcess):
        def command(self, join: Sequence[str] = ()) -> list[str]:
            return python_command("-c", HANGING_STORE, *self.arguments(join))

    node = Hanging("n1", str(tmp_path))
    node.start()
    node.wait_for("ready")
    node.terminate()
    assert node.wait() == 1
    assert "n1.store did not stop within 0.2 s" in node.wait_for("node_failed").fields["reason"]


@pytest.mark.parametrize("flag", ["--rpc-addr", "--gossip-addr", "--peer-addr"])
def test_a_port_in_use_exits_1_with_a_sentence(flag: str, one_node: LocalCluster, run: Run, tmp_path: Path) -> None:
    taken = one_node["n1"].rpc_addr if flag == "--rpc-addr" else one_node["n1"].gossip_addr
    addresses = {"--rpc-addr": "127.0.0.1:0", "--gossip-addr": "127.0.0.1:0", flag: taken}
    words = [word for pair in addresses.items() for word in pair]
    done = run("node", "--node-id", "n2", "--data-dir", str(tmp_path / "n2"), *words)
    assert done.returncode == 1
    failed = [json.loads(line) for line in done.stderr.splitlines() if '"node_failed"' in line]
    assert len(failed) == 1
    assert taken in failed[0]["reason"]
    assert "in use" in failed[0]["reason"]
    assert "Traceback" not in done.stderr


def test_a_data_directory_in_use_exits_1_and_is_named(one_node: LocalCluster, run: Run) -> None:
    directory = one_node["n1"].data_dir
    done = run(
        *("node", "--node-id", "n1", "--data-dir", directory),
        *("--rpc-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0"),
    )
    assert done.returncode == 1
    failed = [json.loads(line) for line in done.stderr.splitlines() if '"node_failed"' in line]
    assert directory in failed[0]["reason"]


def test_a_data_directory_of_another_node_exits_1_and_both_are_named(one_node: LocalCluster, run: Run) -> None:
    node = one_node["n1"]
    node.terminate()
    node.wait()
    done = run(
        *("node", "--node-id", "n2", "--data-dir", node.data_dir),
        *("--rpc-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0"),
    )
    assert done.returncode == 1
    failed = [json.loads(line) for line in done.stderr.splitlines() if '"node_failed"' in line]
    assert "n1" in failed[0]["reason"]
    assert "n2" in failed[0]["reason"]


def test_a_second_node_of_one_name_is_refused_and_the_first_goes_on(
    one_node: LocalCluster, run: Run, tmp_path: Path
) -> None:
    first = one_node["n1"]
    done = run(
        *("node", "--node-id", "n1", "--data-dir", str(tmp_path / "other"), "--join", first.gossip_addr),
        *("--rpc-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0"),
    )
    assert done.returncode == 1
    clashed = [json.loads(line) for line in done.stderr.splitlines() if '"name_clashed"' in line]
    assert first.gossip_addr in clashed[0]["reason"]
    assert first.is_running


def test_logs_are_text_when_asked_and_without_colours_off_a_terminal(run: Run, tmp_path: Path) -> None:
    taken = socket.socket()
    with taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(
            *("node", "--node-id", "n1", "--data-dir", str(tmp_path), "--log-format", "text"),
            *("--rpc-addr", f"127.0.0.1:{taken.getsockname()[1]}"),
        )
    assert "node_failed" in done.stderr
    assert not done.stderr.startswith("{")
    assert "\x1b" not in done.stderr


def test_waiting_for_what_never_comes_says_what_the_node_said_last(tmp_path: Path) -> None:
    node = NodeProcess("n1", str(tmp_path), flags=("--no-such-flag",))
    node.start()
    with pytest.raises(ClusterError, match="No such option"):
        node.wait_for("ready")
    assert node.wait() == 2


def wait_for_end(pidfd: int, timeout_s: float = 30) -> bool:
    """Whether the process behind the descriptor ends in time; a pidfd is readable from then on."""
    import select

    readable, _, _ = select.select([pidfd], [], [], timeout_s)
    return bool(readable)

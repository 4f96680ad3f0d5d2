"""A node with few open files and hundreds of idle connections: it never fails, and serves when they are gone."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from ourolog.local_cluster import NodeProcess
from ourolog.rpc import open_files
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from tests.raw_http2 import preface

LIMIT = 256
IDLE = 400
# Of whoever is never served or told; nothing that the test waits for is as slow as this on any machine.
PATIENT_S = 60.0


class LimitedNode(NodeProcess):
    """May have so many files open, soft and hard, and no more."""

    def command(self, join: Sequence[str] = ()) -> list[str]:
        return ["sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh", *super().command(join)]


@contextlib.contextmanager
def client(addr: str) -> Iterator[pb_grpc.LogStub]:
    with grpc.insecure_channel(addr, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield pb_grpc.LogStub(channel)


def produce(stub: pb_grpc.LogStub, timeout_s: float) -> int:
    # Larger than a segment, so that the store opens a file for every one of them.
    request = pb.ProduceRequest(record=pb.Record(value=bytes(5000)))
    return int(stub.Produce(request, timeout=timeout_s).offset)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[LimitedNode]:
    node = LimitedNode("n1", str(tmp_path), flags=("--segment-bytes", "4096"))
    node.start()
    try:
        node.wait_for("ready")
        yield node
    finally:
        if node.is_running:
            node.kill()


@pytest.mark.parametrize("said", [b"", preface()], ids=["silent", "http2"])
def test_idle_connections_never_take_the_descriptors_of_the_log(limited: LimitedNode, said: bytes) -> None:
    host, _, port = limited.rpc_addr.rpartition(":")
    with client(limited.rpc_addr) as honest:
        assert produce(honest, PATIENT_S) == 0
        with contextlib.ExitStack() as idle:
            for _ in range(IDLE):
                connection = idle.enter_context(socket.create_connection((host, int(port)), timeout=PATIENT_S))
                with contextlib.suppress(ConnectionError):
                    connection.sendall(said)
            for offset in range(1, 21):
                assert produce(honest, PATIENT_S) == offset
            # Whoever comes now gets in, if some were closed meanwhile, or is told at once that there is no room.
            with client(limited.rpc_addr) as late:
                request = pb.ProduceRequest(record=pb.Record(value=b"late"))
                code = late.Produce.future(request, timeout=PATIENT_S).code()
                assert code is not grpc.StatusCode.DEADLINE_EXCEEDED
        assert serves_within(limited.rpc_addr, PATIENT_S), "it does not serve again"
    assert not [line for line in limited.lines if line.event in {"node_failed", "node_warned"}]
    limited.terminate()
    assert limited.wait() == 0


def serves_within(addr: str, timeout_s: float) -> bool:
    """Whether somebody who connects anew is served in time."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        with client(addr) as anew, contextlib.suppress(grpc.RpcError):
            produce(anew, 5)
            return True
    return False


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    class Soft(NodeProcess):
        def command(self, join: Sequence[str] = ()) -> list[str]:
            return ["sh", "-c", 'ulimit -S -n 128; exec "$@"', "sh", *super().command(join)]

    node = Soft("n1", str(tmp_path))
    node.start()
    try:
        node.wait_for("ready")
        soft, hard = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
        assert soft == hard > 128
    finally:
        node.terminate()
        assert node.wait() == 0


@pytest.mark.parametrize(
    ("limit", "clients", "callers", "called"), [(256, 96, 32, 64), (20_000, 4096, 1024, 1024), (1, 1, 1, 1)]
)
def test_clients_and_other_nodes_get_half_and_calls_to_others_a_quarter_of_the_open_files(
    monkeypatch: pytest.MonkeyPatch, limit: int, clients: int, callers: int, called: int
) -> None:
    monkeypatch.setattr(open_files, "open_files_limit", lambda: limit)
    assert open_files.max_connections() == clients
    assert open_files.max_peer_connections() == callers
    assert open_files.max_peers() == called

"""A producer that numbers its batches, on real processes: whatever dies, what is sent again stands in the log once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb  # type: ignore[import-untyped]
from google.rpc import status_pb2

from ourolog.local_cluster import LocalCluster
from ourolog.rpc.v1 import log_pb2 as pb
from tests.endtoend.conftest import ForeignClient

RAFT = ("--election", "raft", "--bootstrap-expect", "3")

StartCluster = Callable[..., LocalCluster]
Connect = Callable[[str], ForeignClient]
Eventually = Callable[..., Any]


class Producer:
    """A foreign client of whichever node leads, which counts what it sends."""

    def __init__(self, cluster: LocalCluster, connect: Connect, eventually: Eventually) -> None:
        self._cluster = cluster
        self._connect = connect
        self._eventually = eventually
        register = pb.RegisterProducerRequest()
        self.producer_id = eventually(lambda: self.leader().stub.RegisterProducer(register, timeout=5), "it is known")
        self.producer_id = int(self.producer_id.producer_id)

    def leader(self) -> ForeignClient:
        """Of the node that says that it leads."""
        for node in self._cluster:
            if node.is_running:
                client = self._connect(node.rpc_addr)
                status = client.stub.GetStatus(pb.GetStatusRequest(), timeout=5)
                if status.leader == status.node_id:
                    return client
        raise grpc.RpcError("nobody leads")

    def request(self, sequence: int, value: bytes, acks: int = 0) -> pb.ProduceRequest:
        return pb.ProduceRequest(
            record=pb.Record(value=value), acks=acks, producer_id=self.producer_id, sequence=sequence
        )

    def send(self, sequence: int, value: bytes) -> int:
        """Send until there is an answer; the offset that it gives, counted from 1."""
        request = self.request(sequence, value)
        return int(self._eventually(lambda: 1 + self.leader().stub.Produce(request, timeout=5).offset, f"{value!r}"))


def reason_of(error: grpc.RpcError) -> str:
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = details_pb.ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    raise AssertionError("no ErrorInfo")


def test_an_answer_that_was_lost_is_given_again_by_the_next_leader_and_after_a_restart_of_all(
    start_cluster: StartCluster, connect: Connect, eventually: Eventually
) -> None:
    cluster = start_cluster(3, *RAFT)
    producer = Producer(cluster, connect, eventually)
    first = producer.send(0, b"first")
    assert producer.send(0, b"first") == first, "at the same leader"
    leader = cluster.leader()
    assert leader is not None
    leader.kill()
    assert producer.send(0, b"first") == first, "at the next one"
    assert producer.send(1, b"second") == first + 1
    cluster.restart(leader.node_id)
    for node in cluster:
        node.kill()
    for node in cluster:
        node.start(cluster.seeds_of(node))
    for node in cluster:
        node.wait_for("ready")
    assert producer.send(1, b"second") == first + 1, "after a restart of all"
    assert producer.send(0, b"first") == first
    assert producer.send(2, b"third") == first + 2
    values = eventually(lambda: (found := producer.leader().everything())[-1] == b"third" and found, "all is committed")
    assert values == [b"first", b"second", b"third"]


def test_a_batch_whose_leader_was_killed_between_append_and_answer_stands_once(
    start_cluster: StartCluster, connect: Connect, eventually: Eventually
) -> None:
    cluster = start_cluster(3, *RAFT)
    producer = Producer(cluster, connect, eventually)
    leader = cluster.leader()
    assert leader is not None
    follower, frozen = (node for node in cluster if node is not leader)
    producer.send(0, b"before")
    frozen.send_signal(signal.SIGSTOP)
    # With acks=all it is on two disks and committed, and its answer waits for the third.
    call = connect(leader.rpc_addr).stub.Produce.future(producer.request(1, b"under way", pb.ACKS_ALL), timeout=20)
    on_follower = connect(follower.rpc_addr)
    eventually(lambda: on_follower.consume(1).record.value == b"under way", "the follower has it")
    assert not call.done()
    leader.kill()
    with pytest.raises(grpc.RpcError):
        call.result()
    frozen.send_signal(signal.SIGCONT)
    assert producer.send(1, b"under way") == 2
    assert producer.send(2, b"after") == 3
    eventually(lambda: producer.leader().everything() == [b"before", b"under way", b"after"], "each stands once")


def test_two_attempts_at_once_get_one_answer_and_what_is_wrong_with_a_batch_is_said(
    start_cluster: StartCluster, connect: Connect, eventually: Eventually
) -> None:
    cluster = start_cluster(3, "--election", "static:n1,n2,n3")
    producer = Producer(cluster, connect, eventually)
    stub = producer.leader().stub
    attempts = [stub.Produce.future(producer.request(0, b"v"), timeout=10) for _ in range(20)]
    assert {attempt.result().offset for attempt in attempts} == {0}
    wrong = {
        "SEQUENCE_GAP": producer.request(2, b"v"),
        "SEQUENCE_REUSED": producer.request(0, b"w"),
        "ACKS_TOO_WEAK": producer.request(1, b"v", pb.ACKS_LEADER),
        "PRODUCER_EXPIRED": pb.ProduceRequest(record=pb.Record(value=b"v"), producer_id=1 << 40),
    }
    for reason, request in wrong.items():
        with pytest.raises(grpc.RpcError) as raised:
            stub.Produce(request, timeout=10)
        assert reason_of(raised.value) == reason
    with pytest.raises(grpc.RpcError) as raised:
        connect(cluster["n2"].rpc_addr).stub.RegisterProducer(pb.RegisterProducerRequest(), timeout=10)
    assert reason_of(raised.value) == "NOT_LEADER"
    assert producer.leader().everything() == [b"v"]

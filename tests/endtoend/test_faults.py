"""Three real processes on real disks, killed and started again: nothing acknowledged is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from ourolog.rpc.v1 import log_pb2 as pb

STATIC = ("--election", "static:n1,n2,n3")


class Producing:
    """A client that produces without pause, and what it was acknowledged: value by offset."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.acknowledged: dict[int, bytes] = {}
        self.failures = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            value = f"{self._name}-{number}".encode()
            try:
                offset = self._client.produce(value, timeout_s=2.0)
            except grpc.RpcError:
                self.failures += 1
                continue
            with self._changed:
                assert offset not in self.acknowledged, "an offset was acknowledged twice"
                self.acknowledged[offset] = value
                self._changed.notify_all()

    def wait_for_more(self, count: int, timeout_s: float = 30.0) -> None:
        with self._changed:
            target = len(self.acknowledged) + count
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= target, timeout_s)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(15)
            assert not self._thread.is_alive()


@pytest.mark.parametrize("acks", ["quorum", "all"])
def test_under_a_static_leader_every_acknowledged_record_survives_kills_of_every_node(
    start_cluster: Any, connect: Any, eventually: Any, acks: str
) -> None:
    cluster = start_cluster(3, *STATIC, "--acks", acks)
    clients = {node.node_id: connect(node.rpc_addr) for node in cluster}
    producing = Producing(clients["n1"], acks)
    with producing.running():
        for victim in ("n3", "n1", "n2", "n1"):
            producing.wait_for_more(20)
            cluster[victim].kill()
            if victim != "n1" and acks == "quorum":
                producing.wait_for_more(20)  # one voter of three may be away
            cluster.restart(victim)
        producing.wait_for_more(20)
    leaders = clients["n1"].everything()
    for offset, value in producing.acknowledged.items():
        assert leaders[offset] == value
    for name in ("n2", "n3"):
        eventually(lambda n=name: clients[n].everything() == leaders, f"{name} has the leader's log")


def test_with_a_majority_gone_nothing_is_acknowledged_and_afterwards_it_goes_on(
    start_cluster: Any, connect: Any
) -> None:
    cluster = start_cluster(3, *STATIC)
    leader = connect(cluster["n1"].rpc_addr)
    assert leader.produce(b"one") == 0
    cluster["n2"].kill()
    cluster["n3"].kill()
    with pytest.raises(grpc.RpcError) as caught:
        leader.produce(b"two", timeout_s=1.0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert leader.produce(b"three", acks=pb.ACKS_LEADER) == 2
    with pytest.raises(grpc.RpcError) as caught:
        leader.consume(1)  # on the leader's disk, and not committed
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    cluster.restart("n2")
    assert leader.produce(b"four", timeout_s=20) == 3
    assert leader.everything() == [b"one", b"two", b"three", b"four"]


def test_all_with_a_voter_down_says_at_its_deadline_who_is_missing(start_cluster: Any, connect: Any) -> None:
    cluster = start_cluster(3, *STATIC)
    leader = connect(cluster["n1"].rpc_addr)
    response = leader.stub.Produce(pb.ProduceRequest(record=pb.Record(value=b"one"), acks=pb.ACKS_ALL), timeout=20)
    assert list(response.replicas) == ["n1", "n2", "n3"]
    cluster["n3"].kill()
    with pytest.raises(grpc.RpcError) as caught:
        leader.produce(b"two", acks=pb.ACKS_ALL, timeout_s=1.0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "not acknowledged by all within 0." in caught.value.details()
    assert "s: n3 does not have it yet. The outcome is unknown" in caught.value.details()


def test_all_with_a_voter_down_goes_on_where_enough_others_are_in_sync(start_cluster: Any, connect: Any) -> None:
    cluster = start_cluster(3, *STATIC, "--min-in-sync", "2", "--election-timeout", "300ms")
    leader = connect(cluster["n1"].rpc_addr)
    cluster["n3"].kill()
    response = leader.stub.ProduceBatch(
        pb.ProduceBatchRequest(records=b"\n\x05\n\x03two", record_count=1, acks=pb.ACKS_ALL), timeout=20
    )
    assert list(response.replicas) == ["n1", "n2"]


def test_with_nobody_elected_all_nodes_come_to_hold_the_same_records_each_once(
    start_cluster: Any, connect: Any, eventually: Any
) -> None:
    cluster = start_cluster(3)
    clients = {node.node_id: connect(node.rpc_addr) for node in cluster}
    everyone = [Producing(client, name) for name, client in clients.items()]
    with everyone[0].running(), everyone[1].running(), everyone[2].running():
        for victim in ("n2", "n3", "n1"):
            for producing in everyone:
                producing.wait_for_more(15)
            cluster[victim].kill()
            cluster.restart(victim)
        for producing in everyone:
            producing.wait_for_more(15)
    acknowledged = {value for producing in everyone for value in producing.acknowledged.values()}

    def same_everywhere() -> bool:
        logs = [client.everything() for client in clients.values()]
        for log in logs:
            assert len(set(log)) == len(log), "a record is there twice"
        return acknowledged <= set(logs[0]) and all(set(log) == set(logs[0]) for log in logs)

    eventually(same_everywhere, "all nodes hold the same records")
    for producing, client in zip(everyone, clients.values(), strict=True):
        log = client.everything()
        assert all(log[offset] == value for offset, value in producing.acknowledged.items())


def test_a_cycle_that_is_allowed_multiplies_one_record_up_to_the_hop_limit_and_restarts_add_nothing(
    start_cluster: Any, connect: Any, eventually: Any
) -> None:
    cluster = start_cluster(2, "--cycle", "allow", "--max-hops", "7")
    clients = [connect(node.rpc_addr) for node in cluster]
    clients[0].produce(b"foo")
    eventually(lambda: sum(len(client.everything()) for client in clients) == 8, "the record and 7 copies")
    cluster["n1"].kill()
    cluster.restart("n1")
    eventually(lambda: all(pull.connected for c in clients for pull in c.status().pulls), "the pulls are back")
    clients[1].produce(b"bar")
    eventually(lambda: sum(client.everything().count(b"bar") for client in clients) == 8, "the second one, too")
    assert sum(client.everything().count(b"foo") for client in clients) == 8
    consumed = clients[0].consume(1, provenance=True)
    assert list(consumed.provenance.path) == ["n1", "n2", "n1"]
    assert consumed.provenance.origin == "n1"
    assert clients[0].status().cycles_seen > 0


def test_a_reader_at_the_tail_gets_what_comes_and_survives_nothing_but_its_own_node(
    start_cluster: Any, connect: Any
) -> None:
    cluster = start_cluster(3, *STATIC)
    leader, follower = connect(cluster["n1"].rpc_addr), connect(cluster["n2"].rpc_addr)
    stream = follower.stub.ConsumeStream(pb.ConsumeRequest(offset=0), timeout=30)
    for number in range(5):
        leader.produce(b"%d" % number)
        assert next(stream).record == pb.Record(value=b"%d" % number, offset=number)
    cluster["n3"].kill()
    leader.produce(b"still")
    assert next(stream).record.value == b"still"
    cluster["n2"].terminate()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

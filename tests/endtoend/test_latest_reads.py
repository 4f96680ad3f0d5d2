"""Three real processes: what one client was acknowledged, another one reads at any node, or is told why it cannot."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from ourolog.rpc.v1 import log_pb2 as pb


def test_what_was_acknowledged_is_read_at_once_at_every_node_and_a_leader_without_a_majority_says_so(
    start_cluster: Any, connect: Any, eventually: Any
) -> None:
    cluster = start_cluster(3, "--election", "static:n1,n2,n3")
    leader, second, third = (connect(cluster[name].rpc_addr) for name in ("n1", "n2", "n3"))
    for number in range(50):
        value = f"record {number}".encode()
        offset = leader.produce(value, acks=pb.ACKS_QUORUM)
        for reader in (third, second, leader):
            assert reader.consume(offset, read=pb.READ_LATEST).record.value == value
    cluster["n2"].kill()
    assert third.consume(0, read=pb.READ_LATEST).record.value == b"record 0"
    cluster["n3"].kill()
    with pytest.raises(grpc.RpcError) as caught:
        leader.stub.Consume(pb.ConsumeRequest(offset=0, read=pb.READ_LATEST), timeout=2)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "no majority of the voters has confirmed that n1 still leads" in caught.value.details()
    assert leader.consume(0).record.value == b"record 0"
    cluster.restart("n3")
    eventually(
        lambda: leader.consume(49, read=pb.READ_LATEST).record.value == b"record 49", "the leader is confirmed again"
    )

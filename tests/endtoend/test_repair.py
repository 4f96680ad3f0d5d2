"""A byte flipped by hand in the file of a running node: no reader sees it, another node's copy replaces it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from ourolog.local_cluster import LocalCluster, NodeProcess
from ourolog.storage.batch import FRAME_BYTES, BatchHead, scan

RAFT = ("--election", "raft", "--bootstrap-expect", "3", "--segment-bytes", "4096")
VALUES = [b"%03d " % at + b"x" * 300 for at in range(60)]


def sealed_segments(node: NodeProcess) -> list[Path]:
    return sorted(Path(node.data_dir, "log").glob("*.log"))[:-1]


def flip(path: Path, position: int) -> bytes:
    """Flip the bits of one byte of that file; what the file was before."""
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(position)
        file.write(bytes([whole[position] ^ 0xFF]))
    return whole


def batches(whole: bytes) -> list[tuple[BatchHead, bytes]]:
    """Each batch of a segment, without the frame, which is local to each file."""
    return [(head, whole[head.start + FRAME_BYTES : head.end]) for head in scan(whole)]


@pytest.fixture
def filled(start_cluster: Callable[..., LocalCluster], connect: Any, eventually: Any) -> LocalCluster:
    """Three nodes that elect, with all of VALUES in sealed segments and committed everywhere."""
    cluster = start_cluster(3, *RAFT)
    leader = eventually(cluster.leader, "a leader")
    client = connect(leader.rpc_addr)
    for value in VALUES:
        client.produce(value, acks=3)
    for node in cluster:
        reader = connect(node.rpc_addr)
        eventually(lambda r=reader: r.status().committed_offset == len(VALUES), f"{node.node_id} has it all")
    return cluster


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_flipped_byte_in_a_sealed_segment_is_repaired_and_no_reader_sees_it(
    filled: LocalCluster, connect: Any, eventually: Any, role: str
) -> None:
    leader = filled.leader()
    assert leader is not None
    victim = leader if role == "leader" else next(node for node in filled if node is not leader)
    path = sealed_segments(victim)[1]
    head = batches(path.read_bytes())[2][0]
    whole = flip(path, head.payload_start + 5)
    client = connect(victim.rpc_addr)
    assert client.everything() == VALUES
    found = victim.wait_for("node_warned", kind="damaged")
    assert f"{path} is damaged at byte {head.start}" in str(found.fields["reason"])
    repaired = victim.wait_for("node_warned", kind="repaired")
    assert f"{path}: the batch at byte {head.start} (index {head.index})" in str(repaired.fields["reason"])
    assert repaired.fields["about"] in {node.node_id for node in filled if node is not victim}
    assert path.read_bytes() == whole
    for node in filled:
        other = Path(node.data_dir, "log", path.name).read_bytes()
        assert [body for _, body in batches(other)] == [body for _, body in batches(whole)]
    status = client.status()
    assert (status.damaged_found, status.repaired) == (1, 1)


def test_damage_that_only_the_last_of_three_copies_has_not_is_repaired_on_both(
    filled: LocalCluster, connect: Any
) -> None:
    spoiled = list(filled)[:2]
    whole = {}
    for node in spoiled:
        path = sealed_segments(node)[0]
        whole[path] = flip(path, len(path.read_bytes()) - 3)
    for node in spoiled:
        assert connect(node.rpc_addr).everything() == VALUES
    assert {path: path.read_bytes() for path in whole} == whole


def test_what_is_damaged_on_every_replica_is_data_loss_and_the_rest_is_served(
    filled: LocalCluster, connect: Any
) -> None:
    paths = [sealed_segments(node)[0] for node in filled]
    heads = batches(paths[0].read_bytes())
    last = heads[-1][0]
    lost = list(range(last.base_offset, last.end_offset))
    spoiled = {}
    for path in paths:
        flip(path, last.payload_start + 3)
        spoiled[path] = path.read_bytes()
    client = connect(next(iter(filled)).rpc_addr)
    with pytest.raises(grpc.RpcError) as caught:
        client.consume(lost[0])
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert "cannot be repaired from another replica" in caught.value.details()
    assert "keep this data directory" in caught.value.details()
    for offset, value in enumerate(VALUES):
        if offset not in lost:
            assert client.consume(offset).record.value == value
    assert {path: path.read_bytes() for path in paths} == spoiled, "nothing is invented"


def test_alone_a_node_says_data_loss_and_serves_the_rest(
    start_cluster: Callable[..., LocalCluster], connect: Any
) -> None:
    (node,) = cluster = start_cluster(1, "--segment-bytes", "4096")
    client = connect(node.rpc_addr)
    for value in VALUES:
        client.produce(value)
    path = sealed_segments(node)[1]
    head = batches(path.read_bytes())[0][0]
    flip(path, head.payload_start + 3)
    with pytest.raises(grpc.RpcError) as caught:
        client.consume(head.base_offset)
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert "Restore the file from a backup" in caught.value.details()
    assert client.consume(0).record.value == VALUES[0]
    cluster[node.node_id].wait_for("node_warned", kind="damaged")

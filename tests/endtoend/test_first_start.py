"""A cluster's first start on real processes, as docs/running.md shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ourolog.local_cluster import LocalCluster
from tests.endtoend.conftest import ForeignClient

FOUND_THREE = ("--election", "raft", "--bootstrap-expect", "3")


def reasons(cluster: LocalCluster, name: str, event: str = "not_ready") -> list[str]:
    return [line.fields["reason"] for line in cluster[name].lines if line.event == event]


def test_three_nodes_that_expect_each_other_found_a_cluster_and_are_it_again_after_a_restart(
    start_cluster: Callable[..., LocalCluster], connect: Callable[[str], ForeignClient], eventually: Callable[..., Any]
) -> None:
    cluster = start_cluster(3, *FOUND_THREE)
    client = connect(cluster["n2"].rpc_addr)
    status = eventually(lambda: (found := client.status()).leader and found, "a leader")
    assert sorted(status.voters) == ["n1", "n2", "n3"]
    leader = connect(cluster[status.leader].rpc_addr)
    offset = leader.produce(b"first")
    for node in cluster:
        node.kill()
    for node in cluster:
        node.flags = ("--election", "raft")
        node.start(cluster.seeds_of(node))
    for node in cluster:
        node.wait_for("ready")
    eventually(lambda: connect(cluster["n2"].rpc_addr).consume(offset).record.value == b"first", "it is there")


def test_a_node_whose_flags_differ_keeps_the_cluster_from_being_founded_and_both_sides_say_why(
    start_cluster: Callable[..., LocalCluster], eventually: Callable[..., Any]
) -> None:
    cluster = start_cluster(2, "--election", "raft:n1,n2,n3")
    waits = "waits for n3, which has not been discovered yet, to found the cluster: 2 of 3 have agreed"
    eventually(lambda: f"n1 {waits}" in reasons(cluster, "n1"), "n1 says whom it waits for")
    cluster["n2"].kill()
    cluster["n2"].flags = ("--election", "raft:n1,n2")
    cluster["n2"].start(cluster.seeds_of(cluster["n2"]))
    difference = "n2 was started with --election raft:n1,n2, and n1 would found the cluster with n1, n2 and n3"
    eventually(lambda: any(difference in why for why in reasons(cluster, "n1")), "n1 says the difference")
    eventually(lambda: any("refuses" in why for why in reasons(cluster, "n2", "node_warned")), "n2 warns of it")


def test_a_directory_of_another_election_is_refused_with_a_sentence(
    start_cluster: Callable[..., LocalCluster], connect: Callable[[str], ForeignClient]
) -> None:
    cluster = start_cluster(1, "--election", "none")
    node = cluster["n1"]
    connect(node.rpc_addr).produce(b"of nobody's cluster")
    node.terminate()
    node.wait()
    node.flags = ("--election", "raft:n1")
    node.start(cluster.seeds_of(node))
    failed = node.wait_for("node_failed")
    assert "holds 1 record and term 0, and belongs to no cluster that elects its leader" in failed.fields["reason"]

"""Another leader is decreed, on real processes: whoever lacks what was acknowledged does not lead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ourolog.local_cluster import LocalCluster
from tests.endtoend.conftest import ForeignClient

QUORUM = 2


def restart_under(cluster: LocalCluster, election: str, *flags: str) -> None:
    """All nodes that do not run, by that decree from now on."""
    for node in cluster:
        node.flags = ("--election", election, *flags)
        node.start(cluster.seeds_of(node))
    for node in cluster:
        node.wait_for("ready")


def test_a_decreed_leader_that_lacks_500_acknowledged_records_says_who_is_ahead_and_nothing_is_lost(
    start_cluster: Callable[..., LocalCluster], connect: Callable[[str], ForeignClient], eventually: Callable[..., Any]
) -> None:
    cluster = start_cluster(3, "--election", "static:n1,n2,n3")
    values = [b"record %d" % number for number in range(500)]
    client = connect(cluster["n1"].rpc_addr)
    eventually(lambda: client.produce(b"first", acks=3), "all three disks")
    cluster["n2"].kill()
    for value in values:
        client.produce(value, acks=QUORUM)
    for name in ("n1", "n3"):
        cluster[name].kill()

    restart_under(cluster, "static:n2,n1,n3")
    told = eventually(
        lambda: [
            line.fields["reason"]
            for line in cluster["n2"].lines
            if line.event == "not_ready" and "does not lead, though" in line.fields["reason"]
        ],
        "n2 says who is ahead",
    )
    assert "is ahead: its log ends at index" in told[0]
    assert "--force-lead" in told[0]
    status = connect(cluster["n2"].rpc_addr).status()
    assert (status.leader, "does not lead" in status.not_ready) == ("", True)

    # As docs/running.md says: let one that is ahead lead.
    for node in cluster:
        node.terminate()
        node.wait()
    restart_under(cluster, "static:n3,n1,n2")
    leader = connect(cluster["n3"].rpc_addr)
    eventually(lambda: leader.produce(b"last", acks=3), "n3 leads, and all follow")
    for name in ("n1", "n2", "n3"):
        reader = connect(cluster[name].rpc_addr)
        eventually(lambda reader=reader: reader.everything()[-1:] == [b"last"], f"{name} has all")
        kept = reader.everything()
        # The first and the last may be there more than once: a client that was not told in time asked again.
        assert [value for value in kept if value.startswith(b"record")] == values
        assert set(kept) == {b"first", *values, b"last"}

"""A simulated disk whose fsync fails as Linux does it, and the claims that see who trusts it all the same."""

from __future__ import annotations

from random import Random

import pytest

import ourolog.storage.identity
from ourolog.simulation.checker import Violation
from ourolog.simulation.client import OutcomeUnknownError, RefusedError
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.simulation.events import Event, FileAppended, FileSynced
from ourolog.storage.segment import Segment
from ourolog.storage.types import NodeId

SEEDS = range(12)


def fail_and_restart(cluster: Cluster) -> None:
    """The sync of the record "lost" fails on n1, which gives up and is started again."""
    cluster.produce("n1", "kept")
    cluster.disks[NodeId("n1")].faults.sync_fails_in = 0
    with pytest.raises((OutcomeUnknownError, RefusedError)):
        cluster.produce("n1", "lost")
    cluster.run_until(lambda: "n1" not in cluster.running)
    cluster.restart("n1")


def values(cluster: Cluster) -> list[bytes]:
    return [record.value for record in cluster.records("n1")]


def test_what_a_failed_fsync_has_lost_is_written_again_before_it_is_relied_on() -> None:
    found = set()
    for seed in SEEDS:
        with Cluster(seed, nodes=1) as cluster:
            fail_and_restart(cluster)
            before = values(cluster)
            cluster.crash("n1", power=True)
            cluster.restart("n1")
            assert values(cluster) == before
            found.add(len(before))
    assert found == {1, 2}, "both outcomes were drawn: the pages vanish, and they stay"


def test_a_node_that_syncs_and_believes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Segment, "rewrite", lambda *_: None)
    seen = set()
    for seed in SEEDS:
        try:
            with Cluster(seed, nodes=1) as cluster:
                fail_and_restart(cluster)
        except Violation as violation:
            seen.add(violation.claim)
    assert seen == {"restart_keeps"}


def test_a_node_that_believes_a_ballot_whose_name_was_lost_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for seed in SEEDS:
        try:
            with Cluster(seed, nodes=1, election="static:n1") as cluster:
                for nth in range(10):
                    cluster.stop("n1")
                    # Each start takes a new term; here the sync of that rename, or one near it, fails.
                    cluster.disks[NodeId("n1")].faults.sync_fails_in = nth
                    cluster.start("n1", wait=False)
                    cluster.run_until(lambda: "n1" not in cluster.running or cluster.is_ready("n1"))
                    cluster.crash("n1")
                    cluster.disks[NodeId("n1")].repair()
                    with monkeypatch.context() as patch:
                        patch.setattr(ourolog.storage.identity, "_rename_again", lambda *_: None)
                        cluster.start("n1")
        except Violation as violation:
            seen.add(violation.claim)
    assert seen == {"ballots_on_disk"}


def test_a_sync_says_no_more_than_what_is_on_disk() -> None:
    for seed in SEEDS:
        events: list[Event] = []
        disk = SimulatedDisk(NodeId("n1"), Random(seed), events.append, lambda: 0.0, lambda _: None)
        disk.make_directory("/d")
        file = disk.open("/d/a", create=True)
        disk.sync_directory("/d")
        disk.faults.sync_fails_in = 0
        file.append([b"abc"])
        with pytest.raises(OSError, match="Input/output"):
            file.sync()
        disk.end_process()
        again = disk.open("/d/a")
        again.append([b"def"])
        again.sync()
        visible, durable = disk.read_all("/d/a"), disk.durable()["/d/a"]
        said = [event.size for event in events if isinstance(event, FileSynced)][-1]
        assert durable[:said] == visible[:said]
        assert said == len(visible) or durable != visible
        appended = [event for event in events if isinstance(event, FileAppended)][-1]
        assert appended.position == len(visible) - 3

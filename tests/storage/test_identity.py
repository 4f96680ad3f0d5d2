from __future__ import annotations

import errno
import os
from random import Random

import pytest

from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.simulation.runtime import PowerCutError
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import MAX_EPOCH
from ourolog.storage.errors import (
    DamagedFileError,
    DirectoryLockedError,
    StorageFailedError,
    StorageFullError,
    WrongIdentityError,
)
from ourolog.storage.identity import DataDirectory
from ourolog.storage.types import NodeId, Term
from tests.disks import empty_disk


def open_directory(files: SimulatedDisk, node: str = "n1", cluster: str = "c1", seed: int = 5) -> DataDirectory:
    return DataDirectory.open(files, "/data", NodeId(node), cluster, Random(seed))


def test_the_log_epoch_is_drawn_when_the_directory_is_first_used_and_stays(files: SimulatedDisk) -> None:
    first = open_directory(files, seed=5)
    first.close()
    assert open_directory(files, seed=99).log_epoch == first.log_epoch == Random(5).randint(1, MAX_EPOCH)


def test_every_new_disk_has_an_epoch_of_its_own_that_json_can_carry() -> None:
    rng = Random(1)
    epochs = [DataDirectory.open(empty_disk(), "/data", NodeId("n1"), "c1", rng).log_epoch for _ in range(200)]
    assert len(set(epochs)) == 200
    assert all(1 <= epoch <= MAX_EPOCH and int(float(epoch)) == epoch for epoch in epochs)


def test_two_nodes_cannot_use_one_directory(files: SimulatedDisk) -> None:
    held = open_directory(files)
    with pytest.raises(DirectoryLockedError, match="/data"):
        open_directory(files)
    held.close()
    open_directory(files).close()


@pytest.mark.parametrize(("node", "cluster"), [("n2", "c1"), ("n1", "c2")])
def test_a_directory_of_another_node_or_cluster_is_refused_and_left_unlocked(
    files: SimulatedDisk, node: str, cluster: str
) -> None:
    open_directory(files).close()
    with pytest.raises(WrongIdentityError, match=f"node n1 of cluster c1, not to node {node} of cluster {cluster}"):
        open_directory(files, node, cluster)
    open_directory(files).close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format": 2}',
        b'{"format": 2, "cluster": 1, "node_id": "n", "log_epoch": 2}',
        b'{"format": 2, "cluster": "c1", "node_id": "n1", "log_epoch": 0}',
        b'{"format": 2, "cluster": "c1", "node_id": "n1", "log_epoch": true}',
        b'{"format": 2, "cluster": "c1", "node_id": "n1", "log_epoch": 9007199254740992}',
    ],
)
def test_a_damaged_identity_is_refused_and_not_written_anew(files: SimulatedDisk, content: bytes) -> None:
    open_directory(files).close()
    files.replace("/data/identity.json", content)
    with pytest.raises(DamagedFileError, match=r"/data/identity\.json is damaged: (?!\w+Error).*\. Restore it"):
        open_directory(files)
    assert files.read_all("/data/identity.json") == content


@pytest.mark.parametrize("version", [1, 3])
def test_a_directory_of_another_format_is_refused_with_what_to_do(files: SimulatedDisk, version: int) -> None:
    files.make_directory("/data")
    files.replace("/data/identity.json", b'{"format": %d}' % version)
    with pytest.raises(DamagedFileError, match=f"format {version}; this software reads 2.*a data directory of its own"):
        open_directory(files)


def test_a_log_without_an_identity_is_not_adopted(files: SimulatedDisk) -> None:
    directory = open_directory(files)
    files.open(f"{directory.log_directory}/something.log", create=True)
    directory.close()
    files.remove("/data/identity.json")
    with pytest.raises(DamagedFileError, match="is missing, yet"):
        open_directory(files)


def test_a_ballot_comes_back_after_a_restart(files: SimulatedDisk) -> None:
    directory = open_directory(files)
    assert directory.ballot == Ballot()
    directory.save_ballot(Ballot(Term(4), NodeId("n2"), None))
    again = open_directory(files.after_crash(keep_unsynced=False))
    assert again.ballot == Ballot(Term(4), NodeId("n2"), None)


def test_a_ballot_is_the_old_one_or_the_new_one_after_a_crash_at_any_step() -> None:
    old, new = Ballot(Term(1), NodeId("n1"), None), Ballot(Term(2), None, NodeId("n3"))

    def save_both(files: SimulatedDisk, saved: list[Ballot]) -> None:
        directory = open_directory(files)
        for ballot in (old, new):
            directory.save_ballot(ballot)
            saved.append(ballot)

    whole = empty_disk()
    save_both(whole, [])
    for step in range(whole.steps):
        for keep_unsynced in (True, False):
            files, saved = empty_disk(), [Ballot()]
            files.cut_power_after(step)
            with pytest.raises(PowerCutError):
                save_both(files, saved)
            found = open_directory(files.after_crash(keep_unsynced=keep_unsynced)).ballot
            assert found in ([saved[-1], new] if saved[-1] == old else [saved[-1], old]), step


def test_every_flipped_bit_in_a_ballot_is_noticed_and_never_resets_it(files: SimulatedDisk) -> None:
    directory = open_directory(files)
    directory.save_ballot(Ballot(Term(4), NodeId("n2"), NodeId("n2")))
    directory.close()
    good = bytes(files.content("/data/ballot"))
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        files.replace("/data/ballot", bytes(bad))
        with pytest.raises(DamagedFileError, match="this node's vote"):
            open_directory(files)


def test_a_full_disk_is_told_apart_and_leaves_the_old_ballot(files: SimulatedDisk) -> None:
    directory = open_directory(files)
    directory.save_ballot(Ballot(Term(1)))
    files.fail("write", errno.ENOSPC)
    with pytest.raises(StorageFullError, match="ballot"):
        directory.save_ballot(Ballot(Term(2)))
    directory.close()
    assert open_directory(files).ballot.term == 1


def test_a_directory_that_cannot_be_written_is_a_sentence_and_not_a_traceback(files: SimulatedDisk) -> None:
    files.fail("rename", errno.EACCES)
    with pytest.raises(StorageFailedError, match=f"cannot use the data directory /data.*{os.strerror(errno.EACCES)}"):
        open_directory(files)
    open_directory(files).close()


def test_a_ballot_that_a_restarted_process_has_read_is_not_taken_back_by_a_power_loss(files: SimulatedDisk) -> None:
    directory = open_directory(files)
    directory.save_ballot(Ballot(Term(1), NodeId("n1"), None))
    files.fail("sync_directory", errno.EIO)
    with pytest.raises(StorageFailedError):
        directory.save_ballot(Ballot(Term(2), NodeId("n2"), None))
    directory.close()

    restarted = open_directory(files)
    relied_on = restarted.ballot
    after_power_loss = open_directory(files.after_crash(keep_unsynced=False))

    assert relied_on.term == 2
    assert after_power_loss.ballot == relied_on

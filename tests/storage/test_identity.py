from __future__ import annotations

import errno
import os

import pytest

from ourolog.storage.ballot import SavedBallot
from ourolog.storage.errors import (
    DamagedFileError,
    DirectoryLockedError,
    StorageFailedError,
    StorageFullError,
    WrongIdentityError,
)
from ourolog.storage.identity import DataDirectory
from ourolog.storage.memory import MemoryFiles, PowerCutError
from ourolog.storage.types import NodeId, Term


def open_directory(files: MemoryFiles, node: str = "n1", cluster: str = "c1", now_ms: int = 5) -> DataDirectory:
    return DataDirectory.open(files, "/data", NodeId(node), cluster, now_ms)


def test_the_log_epoch_is_when_the_directory_was_first_used(files: MemoryFiles) -> None:
    open_directory(files, now_ms=5).close()
    assert open_directory(files, now_ms=99).log_epoch == 5


def test_two_nodes_cannot_use_one_directory(files: MemoryFiles) -> None:
    held = open_directory(files)
    with pytest.raises(DirectoryLockedError, match="/data"):
        open_directory(files)
    held.close()
    open_directory(files).close()


@pytest.mark.parametrize(("node", "cluster"), [("n2", "c1"), ("n1", "c2")])
def test_a_directory_of_another_node_or_cluster_is_refused_and_left_unlocked(
    files: MemoryFiles, node: str, cluster: str
) -> None:
    open_directory(files).close()
    with pytest.raises(WrongIdentityError, match=f"node n1 of cluster c1, not to node {node} of cluster {cluster}"):
        open_directory(files, node, cluster)
    open_directory(files).close()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"format": 1}', b'{"format": 1, "cluster": 1, "node_id": "n", "log_epoch": 2}'],
)
def test_a_damaged_identity_is_refused_and_not_written_anew(files: MemoryFiles, content: bytes) -> None:
    open_directory(files).close()
    files.replace("/data/identity.json", content)
    with pytest.raises(DamagedFileError, match=r"/data/identity\.json is damaged"):
        open_directory(files)
    assert files.read_all("/data/identity.json") == content


def test_an_identity_of_a_later_format_is_named_as_that(files: MemoryFiles) -> None:
    files.make_directory("/data")
    files.replace("/data/identity.json", b'{"format": 2}')
    with pytest.raises(DamagedFileError, match="format 2"):
        open_directory(files)


def test_a_log_without_an_identity_is_not_adopted(files: MemoryFiles) -> None:
    directory = open_directory(files)
    files.open(f"{directory.log_directory}/something.log", create=True)
    directory.close()
    files.remove("/data/identity.json")
    with pytest.raises(DamagedFileError, match="is missing, yet"):
        open_directory(files)


def test_a_ballot_comes_back_after_a_restart(files: MemoryFiles) -> None:
    directory = open_directory(files)
    assert directory.ballot == SavedBallot()
    directory.save_ballot(Term(4), NodeId("n2"), None)
    again = open_directory(files.after_crash(keep_unsynced=False))
    assert again.ballot == SavedBallot(Term(4), NodeId("n2"), None)


def test_a_ballot_is_the_old_one_or_the_new_one_after_a_crash_at_any_step() -> None:
    old, new = SavedBallot(Term(1), NodeId("n1"), None), SavedBallot(Term(2), None, NodeId("n3"))

    def save_both(files: MemoryFiles, saved: list[SavedBallot]) -> None:
        directory = open_directory(files)
        for ballot in (old, new):
            directory.save_ballot(ballot.term, ballot.voted_for, ballot.leader_id)
            saved.append(ballot)

    whole = MemoryFiles()
    save_both(whole, [])
    for step in range(whole.steps):
        for keep_unsynced in (True, False):
            files, saved = MemoryFiles(), [SavedBallot()]
            files.cut_power_after(step)
            with pytest.raises(PowerCutError):
                save_both(files, saved)
            found = open_directory(files.after_crash(keep_unsynced=keep_unsynced)).ballot
            assert found in ([saved[-1], new] if saved[-1] == old else [saved[-1], old]), step


def test_every_flipped_bit_in_a_ballot_is_noticed_and_never_resets_it(files: MemoryFiles) -> None:
    directory = open_directory(files)
    directory.save_ballot(Term(4), NodeId("n2"), NodeId("n2"))
    directory.close()
    good = bytes(files.content("/data/ballot"))
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        files.replace("/data/ballot", bytes(bad))
        with pytest.raises(DamagedFileError, match="this node's vote"):
            open_directory(files)


def test_a_full_disk_is_told_apart_and_leaves_the_old_ballot(files: MemoryFiles) -> None:
    directory = open_directory(files)
    directory.save_ballot(Term(1), None, None)
    files.fail("append", errno.ENOSPC)
    with pytest.raises(StorageFullError, match="ballot"):
        directory.save_ballot(Term(2), None, None)
    directory.close()
    assert open_directory(files).ballot.term == 1


def test_a_directory_that_cannot_be_written_is_a_sentence_and_not_a_traceback(files: MemoryFiles) -> None:
    files.fail("rename", errno.EACCES)
    with pytest.raises(StorageFailedError, match=f"cannot use the data directory /data.*{os.strerror(errno.EACCES)}"):
        open_directory(files)
    open_directory(files).close()


def test_a_ballot_that_a_restarted_process_has_read_is_not_taken_back_by_a_power_loss(files: MemoryFiles) -> None:
    directory = open_directory(files)
    directory.save_ballot(Term(1), NodeId("n1"), None)
    files.fail("sync_directory", errno.EIO)
    with pytest.raises(StorageFailedError):
        directory.save_ballot(Term(2), NodeId("n2"), None)
    directory.close()

    restarted = open_directory(files)
    relied_on = restarted.ballot
    after_power_loss = open_directory(files.after_crash(keep_unsynced=False))

    assert relied_on.term == 2
    assert after_power_loss.ballot == relied_on

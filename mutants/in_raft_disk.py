"""Bugs in what Raft relies on of a disk: the file that holds the vote, the log's end, and which disk it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ourolog.storage.identity
import ourolog.storage.recovery
from mutants.mutant import RAFT, RAFT_DISKS_LOST, RAFT_POWER_LOST, ROTTEN, doing_nothing, mutant, wrap
from ourolog.simulation.disks.disk import SimulatedDisk, SimulatedFile
from ourolog.storage.ballot import KIND, VERSION, Ballot
from ourolog.storage.checksummed_json import encode
from ourolog.storage.errors import DamagedFileError
from ourolog.storage.files import Files
from ourolog.storage.identity import BALLOT_NAME, DataDirectory, Identity


@mutant("The file with the vote gets its name before its content is synced.", RAFT)
def ballot_renamed_before_sync() -> None:
    def make(original: Any) -> Any:
        def replace_file(self: SimulatedDisk, path: str, content: bytes) -> None:
            if path.endswith(f"/{BALLOT_NAME}"):
                with doing_nothing(SimulatedFile, "sync"):
                    original(self, path, content)
            else:
                original(self, path, content)

        return replace_file

    wrap(SimulatedDisk, "replace", make)


@mutant("The file with the vote is written over in its place.", RAFT_POWER_LOST)
def ballot_written_in_place() -> None:
    def make(original: Any) -> Any:
        def save_ballot(files: Files, path: str, ballot: Ballot) -> None:
            if not files.exists(path):
                original(files, path, ballot)
                return
            file = files.open(path)
            try:
                file.truncate(0)
                file.append([_encoded(ballot)])
                file.sync()
            finally:
                file.close()

        return save_ballot

    wrap(ourolog.storage.identity, "save_ballot", make)


def _encoded(ballot: Ballot) -> bytes:
    value = {
        "leader_id": ballot.leader_id,
        "term": ballot.term,
        "voted_for": ballot.voted_for,
        "voted_for_epoch": ballot.voted_for_epoch,
    }
    return encode(KIND, VERSION, value)


@mutant(
    "A ballot that cannot be read is taken for none.",
    RAFT,
    equivalent="No fault damages that file: it is replaced whole, which no crash tears, and bits flip in files that "
    "are written on only. The tests of the ballot hold that a node with a damaged one does not start.",
)
def unreadable_ballot_is_blank() -> None:
    def make(original: Any) -> Any:
        def load_ballot(files: Files, path: str) -> Ballot:
            try:
                found: Ballot = original(files, path)
            except DamagedFileError:
                return Ballot()
            return found

        return load_ballot

    wrap(ourolog.storage.identity, "load_ballot", make)


@mutant("A node that starts again knows its term, and not for whom it has voted in it.", RAFT)
def vote_forgotten_at_start() -> None:
    def make(original: Any) -> Any:
        def load_ballot(files: Files, path: str) -> Ballot:
            found: Ballot = original(files, path)
            return replace(found, voted_for=None, voted_for_epoch=0)

        return load_ballot

    wrap(ourolog.storage.identity, "load_ballot", make)


@mutant("A node on an empty disk goes on under the key of the disk that it has lost.", RAFT_DISKS_LOST)
def new_disk_old_key() -> None:
    def make(original: Any) -> Any:
        def identify(files: Files, path: str, claimed: Identity) -> Identity:
            found: Identity = original(files, path, replace(claimed, log_epoch=1))
            return found

        return identify

    wrap(ourolog.storage.identity, "_identify", make)


@mutant("Recovery cuts a damaged entry as if a crash had torn it, and all that follows.", ROTTEN)
def damage_cut_as_torn() -> None:
    wrap(ourolog.storage.recovery, "was_synced_beyond", lambda _: lambda *_: False)

    def make(original: Any) -> Any:
        def cut(replayed: Any, fault: Any, _: int, __: bool, progress: Any) -> None:
            original(replayed, fault, 0, False, progress)

        return cut

    wrap(ourolog.storage.recovery, "_cut_torn_tail", make)


@mutant("The vote is saved, and the directory that names its file is not synced.", RAFT_POWER_LOST)
def ballot_directory_not_synced() -> None:
    def make(original: Any) -> Any:
        def save_ballot(self: DataDirectory, ballot: Ballot) -> None:
            with doing_nothing(SimulatedDisk, "sync_directory"):
                original(self, ballot)

        return save_ballot

    wrap(DataDirectory, "save_ballot", make)

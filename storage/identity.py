"""The data directory: locked while in use, and of one node of one cluster for good.

lock            held by the process that uses the directory
identity.json   who it belongs to, written once
ballot          term, vote and leader, replaced atomically (ourolog.storage.ballot)
log/            the log
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from ourolog.storage.ballot import SavedBallot, load_ballot, save_ballot
from ourolog.storage.errors import DamagedFileError, StorageError, WrongIdentityError
from ourolog.storage.failures import as_storage_error
from ourolog.storage.files import File, Files
from ourolog.storage.types import NodeId, Term

LOCK_NAME: Final = "lock"
IDENTITY_NAME: Final = "identity.json"
BALLOT_NAME: Final = "ballot"
LOG_NAME: Final = "log"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """log_epoch: when the log was created, in ms since 1970; a new disk is a new log."""

    cluster: str
    node_id: NodeId
    log_epoch: int


class DataDirectory:
    """An open data directory. Close it to let another process have it."""

    def __init__(self, files: Files, path: str, lock: File, identity: Identity, ballot: SavedBallot) -> None:
        self.identity = identity
        self.ballot = ballot
        self._files = files
        self._path = path
        self._lock = lock

    @classmethod
    def open(cls, files: Files, path: str, node_id: NodeId, cluster: str, now_ms: int) -> DataDirectory:
        """Take the directory, creating it and its identity on first use.

        Raises DirectoryLockedError, WrongIdentityError, DamagedFileError, or StorageFailedError
        when the directory cannot be read or written.
        """
        try:
            files.make_directory(path)
            lock = files.lock(f"{path}/{LOCK_NAME}")
        except OSError as error:
            raise as_storage_error(error, f"cannot use the data directory {path}") from error
        try:
            identity = _identify(files, path, Identity(cluster, node_id, now_ms))
            ballot = load_ballot(files, f"{path}/{BALLOT_NAME}")
            _rename_again(files, path)
            files.make_directory(f"{path}/{LOG_NAME}")
        except OSError as error:
            lock.close()
            raise as_storage_error(error, f"cannot use the data directory {path}") from error
        except StorageError:
            lock.close()
            raise
        return cls(files, path, lock, identity, ballot)

    @property
    def log_directory(self) -> str:
        return f"{self._path}/{LOG_NAME}"

    @property
    def log_epoch(self) -> int:
        return self.identity.log_epoch

    def save_ballot(self, term: Term, voted_for: NodeId | None, leader_id: NodeId | None) -> None:
        """On disk when this returns. Raises StorageFailedError."""
        ballot = SavedBallot(term, voted_for, leader_id)
        path = f"{self._path}/{BALLOT_NAME}"
        try:
            save_ballot(self._files, path, ballot)
        except OSError as error:
            raise as_storage_error(error, f"cannot save {path}") from error
        self.ballot = ballot

    def close(self) -> None:
        self._lock.close()


def _rename_again(files: Files, path: str) -> None:
    """Make sure that what was just read, and is about to be relied on, is not taken back by a power cut.

    A rename may stand in the page cache only: where a killed process left it, or for good, where the
    sync of the directory has failed (see ourolog.storage.names).
    """
    for name in (IDENTITY_NAME, BALLOT_NAME):
        if files.exists(f"{path}/{name}"):
            files.replace(f"{path}/{name}", files.read_all(f"{path}/{name}"))


def _identify(files: Files, path: str, claimed: Identity) -> Identity:
    """Who the directory belongs to: the claimant, if it belongs to nobody yet."""
    identity_path = f"{path}/{IDENTITY_NAME}"
    if not files.exists(identity_path):
        if files.exists(f"{path}/{LOG_NAME}") and files.list(f"{path}/{LOG_NAME}"):
            raise DamagedFileError(
                f"{identity_path} is missing, yet {path} holds a log. Restore the file from a backup, or give this "
                "node a data directory of its own"
            )
        value = {
            "cluster": claimed.cluster,
            "format": _FORMAT,
            "log_epoch": claimed.log_epoch,
            "node_id": claimed.node_id,
        }
        files.replace(identity_path, json.dumps(value, indent=2).encode() + b"\n")
        return claimed
    found = _parse(files.read_all(identity_path), identity_path)
    if (found.cluster, found.node_id) != (claimed.cluster, claimed.node_id):
        raise WrongIdentityError(
            f"{path} belongs to node {found.node_id} of cluster {found.cluster}, not to node {claimed.node_id} of "
            f"cluster {claimed.cluster}. Give this node a data directory of its own"
        )
    return found


def _parse(content: bytes, path: str) -> Identity:
    try:
        value = json.loads(content)
        if value["format"] != _FORMAT:
            raise DamagedFileError(f"{path} has format {value['format']}; this software reads {_FORMAT}")
        cluster, node_id, log_epoch = value["cluster"], value["node_id"], value["log_epoch"]
        if not (isinstance(cluster, str) and isinstance(node_id, str) and isinstance(log_epoch, int)):
            raise TypeError("a field has the wrong type")
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{path} is damaged ({error!r}). Restore it from a backup, or give this node a data directory of its own"
        ) from error
    return Identity(cluster, NodeId(node_id), log_epoch)

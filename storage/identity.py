"""The data directory, which is locked while in use and belongs to one node of one cluster for good.

lock            held by the process that uses the directory
identity.json   who it belongs to and which disk it is, written once
ballot          term, vote and leader, replaced atomically (ourolog.storage.ballot)
founding        to which cluster of voters it belongs, written once (ourolog.storage.founding), and by a recovery
superseded      the later generation of that cluster which has taken over, if there is one (ourolog.storage.superseded)
log/            the log
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Final

from ourolog.storage.ballot import Ballot, load_ballot, save_ballot
from ourolog.storage.control import MAX_EPOCH
from ourolog.storage.errors import DamagedFileError, StorageError, WrongIdentityError
from ourolog.storage.failures import as_storage_error
from ourolog.storage.files import File, Files
from ourolog.storage.founding import Founding, load_founding, save_founding
from ourolog.storage.superseded import Superseded, load_superseded, save_superseded
from ourolog.storage.types import NodeId

LOCK_NAME: Final = "lock"
IDENTITY_NAME: Final = "identity.json"
BALLOT_NAME: Final = "ballot"
FOUNDING_NAME: Final = "founding"
SUPERSEDED_NAME: Final = "superseded"
LOG_NAME: Final = "log"
_FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """Which node a data directory belongs to.

    cluster: the cluster that the node belongs to.
    node_id: the node.
    log_epoch: which disk it is, 1 to MAX_EPOCH. Drawn at random when the directory is first used, so
        that a node that lost its disk is not mistaken for what it was (KIP-853 calls it the directory id).
    """

    cluster: str
    node_id: NodeId
    log_epoch: int


class DataDirectory:
    """An open data directory. Close it before another process can use it."""

    def __init__(
        self,
        files: Files,
        path: str,
        lock: File,
        identity: Identity,
        ballot: Ballot,
        founding: Founding | None,
        superseded: Superseded | None,
    ) -> None:
        self.identity = identity
        self.ballot = ballot
        self.founding = founding
        self.superseded = superseded
        self._files = files
        self._path = path
        self._lock = lock

    @classmethod
    def open(cls, files: Files, path: str, node_id: NodeId, cluster: str, rng: Random) -> DataDirectory:
        """Lock the directory, creating it and its identity on first use.

        rng: what the epoch of a new log is drawn from.
        Raises DirectoryLockedError, WrongIdentityError, DamagedFileError, or StorageFailedError
        when the directory cannot be read or written.
        """
        try:
            files.make_directory(path)
            lock = files.lock(f"{path}/{LOCK_NAME}")
        except OSError as error:
            raise as_storage_error(error, f"cannot use the data directory {path}") from error
        try:
            identity = _identify(files, path, Identity(cluster, node_id, rng.randint(1, MAX_EPOCH)))
            ballot = load_ballot(files, f"{path}/{BALLOT_NAME}")
            founding = load_founding(files, f"{path}/{FOUNDING_NAME}")
            superseded = load_superseded(files, f"{path}/{SUPERSEDED_NAME}")
            _rename_again(files, path)
            files.make_directory(f"{path}/{LOG_NAME}")
        except OSError as error:
            lock.close()
            raise as_storage_error(error, f"cannot use the data directory {path}") from error
        except StorageError:
            lock.close()
            raise
        return cls(files, path, lock, identity, ballot, founding, superseded)

    @property
    def log_directory(self) -> str:
        return f"{self._path}/{LOG_NAME}"

    @property
    def log_epoch(self) -> int:
        return self.identity.log_epoch

    def save_ballot(self, ballot: Ballot) -> None:
        """Put the ballot on disk before this returns. Raises StorageFailedError."""
        path = f"{self._path}/{BALLOT_NAME}"
        try:
            save_ballot(self._files, path, ballot)
        except OSError as error:
            raise as_storage_error(error, f"cannot save {path}") from error
        self.ballot = ballot

    def save_founding(self, founding: Founding) -> None:
        """Put the promise on disk before this returns; there is none yet. Raises StorageFailedError."""
        assert self.founding is None, "a founding promise is made once"
        self._write_founding(founding)

    def recover_as(self, founding: Founding) -> None:
        """Let the disk belong to that later generation of its cluster, on disk before this returns.

        Raises StorageFailedError.
        """
        assert self.founding is not None, "what was never founded is not recovered"
        assert founding.lineage == self.founding.lineage, "it stays the same cluster"
        self._write_founding(founding)

    def _write_founding(self, founding: Founding) -> None:
        path = f"{self._path}/{FOUNDING_NAME}"
        try:
            save_founding(self._files, path, founding)
        except OSError as error:
            raise as_storage_error(error, f"cannot save {path}") from error
        self.founding = founding

    def save_superseded(self, superseded: Superseded) -> None:
        """Put on disk that a later generation has taken over, before this returns. Raises StorageFailedError."""
        path = f"{self._path}/{SUPERSEDED_NAME}"
        try:
            save_superseded(self._files, path, superseded)
        except OSError as error:
            raise as_storage_error(error, f"cannot save {path}") from error
        self.superseded = superseded

    def close(self) -> None:
        self._lock.close()


def read_identity(files: Files, path: str) -> Identity | None:
    """Whose data directory this is; None if it is nobody's. Raises DamagedFileError, OSError."""
    identity_path = f"{path}/{IDENTITY_NAME}"
    return _parse(files.read_all(identity_path), identity_path) if files.exists(identity_path) else None


def _rename_again(files: Files, path: str) -> None:
    """Make sure that a power cut does not take back what was just read and will be relied on.

    A rename may stand in the page cache only: where a killed process left it, or for good, where the
    sync of the directory has failed (see ourolog.simulation.disks.directory_entries).
    """
    for name in (IDENTITY_NAME, BALLOT_NAME, FOUNDING_NAME, SUPERSEDED_NAME):
        if files.exists(f"{path}/{name}"):
            files.replace(f"{path}/{name}", files.read_all(f"{path}/{name}"))


def _identify(files: Files, path: str, claimed: Identity) -> Identity:
    """The identity of the directory; the claimant's, if it has none yet."""
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
            raise DamagedFileError(
                f"{path} has format {value['format']}; this software reads {_FORMAT}. Give this node a data directory "
                "of its own, or run the version that wrote this one"
            )
        cluster, node_id, log_epoch = value["cluster"], value["node_id"], value["log_epoch"]
        if not (type(cluster) is str and type(node_id) is str and type(log_epoch) is int):
            raise TypeError("a field has the wrong type")
        if not 1 <= log_epoch <= MAX_EPOCH:
            raise ValueError(f"{log_epoch} is no epoch of a log")
    except (KeyError, TypeError, ValueError) as error:
        problem = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DamagedFileError(
            f"{path} is damaged: {problem}. Restore it from a backup, or give this node a data directory of its own"
        ) from error
    return Identity(cluster, NodeId(node_id), log_epoch)

"""What can be wrong with a log; the text of each error says what to do about it."""

from ourolog.storage.types import Index, Offset


class StorageError(Exception):
    """Base of everything storage raises on purpose."""


class CorruptBatchError(StorageError):
    """Bytes that should be a batch are not: wrong magic, checksum or size."""


class UnknownVersionError(CorruptBatchError):
    """A batch of a format version that this software does not read."""


class OutOfRangeError(StorageError):
    """A read below the first or above the last position of the log.

    `first` and `end` give the readable range, `end` exclusive, in the coordinate asked for.
    """

    def __init__(self, wanted: int, first: int, end: int, coordinate: str = "offset") -> None:
        super().__init__(
            f"{coordinate} {wanted} is out of range: the log holds [{first}, {end})"
            if end > first
            else f"{coordinate} {wanted} is out of range: the log is empty and starts at {first}"
        )
        self.wanted = wanted
        self.first = first
        self.end = end


class DamagedLogError(StorageError):
    """Acknowledged bytes on disk are not what was written; nothing has been cut off.

    `path` is the segment file, `position_bytes` where the damage begins, `index` and `offset`
    the first entry and record that may be affected. `where` says all that, without what to do about it.
    """

    def __init__(self, path: str, position_bytes: int, index: Index, offset: Offset, reason: str) -> None:
        self.where = f"{path} is damaged at byte {position_bytes} (from index {index}, offset {offset} on): {reason}"
        super().__init__(
            f"{self.where}. Nothing was cut off. Restore the file from a backup, or move this data directory away and "
            "let the node copy the log from its peers"
        )
        self.path = path
        self.position_bytes = position_bytes
        self.index = index
        self.offset = offset
        self.reason = reason


class UnfitBatchError(StorageError):
    """A batch of another replica is not the damaged one, or does not fit where that lies; nothing was written."""


class DirectoryLockedError(StorageError):
    """Another process uses the data directory."""


class WrongIdentityError(StorageError):
    """The data directory belongs to a node of another name or cluster."""


class StorageBusyError(StorageError):
    """A read found no free descriptor or no memory. The disk is fine: try again."""


class StorageFailedError(StorageError):
    """A write or an fsync failed. What the page cache holds can no longer be trusted: stop the node."""


class StorageFullError(StorageFailedError):
    """The disk is full (ENOSPC or EDQUOT)."""


class DiscontinuousBatchError(CorruptBatchError):
    """A whole batch that does not continue the log: another index, another offset, or a term that fell."""


class ImpossibleBatchError(CorruptBatchError):
    """An intact batch whose claims are impossible: see ourolog.storage.batch_limits."""


class DamagedFileError(StorageError):
    """A small file that must be right (identity, ballot) does not hold what was written."""

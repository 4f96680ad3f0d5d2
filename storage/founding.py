"""The founding promise: to which cluster a disk belongs, and who votes in it first. Made once, and never a second time.

Before the first term each founder puts one promise on disk, and nobody stands for election before all of them
have. Since each promises once, two halves of a network cannot form two clusters. Whoever joins later keeps the
cluster alone, without voters: it then takes no other cluster's entries.

A recovery (`ourolog.storage.recovering`) is the one thing that replaces a promise: a survivor's disk belongs to the
next generation of its cluster from then on, which has an id of its own. The ids of two recoveries differ, so that
neither takes the other's entries, and both know by `origin_id` that they were one cluster once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ourolog.storage.checksummed_json import decode, encode
from ourolog.storage.control import MAX_EPOCH, Voter, decode_voters, encode_voters
from ourolog.storage.errors import DamagedFileError
from ourolog.storage.files import Files
from ourolog.storage.types import Term

KIND: Final = "founding"
VERSION: Final = 1
RECOVERED_VERSION: Final = 2
"""The format of a promise that a recovery has made; software that knows none must not take it for another."""

MAX_GENERATION: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Founding:
    """To which cluster a disk belongs.

    cluster_id: drawn at random when the cluster is founded, and again when it is recovered, 1 to MAX_EPOCH.
    voters: the first voters, with their disks; () on the disk of a node that joined later.
    generation: 1 for a cluster as it was founded, one more after each recovery.
    origin_id: the cluster's id in its first generation; 0 stands for `cluster_id`.
    since_term: the term in which the log begins to be this generation's; 0 in the first.
    """

    cluster_id: int
    voters: tuple[Voter, ...] = ()
    generation: int = 1
    origin_id: int = 0
    since_term: Term = Term(0)

    def __post_init__(self) -> None:
        if type(self.cluster_id) is not int or not 1 <= self.cluster_id <= MAX_EPOCH:
            raise ValueError(f"{self.cluster_id} is no cluster's id")
        if type(self.generation) is not int or not 1 <= self.generation <= MAX_GENERATION:
            raise ValueError(f"{self.generation} is no generation of a cluster")
        if type(self.origin_id) is not int or not 0 <= self.origin_id <= MAX_EPOCH:
            raise ValueError(f"{self.origin_id} is no cluster's id")
        if type(self.since_term) is not int or not 0 <= self.since_term < 1 << 62:
            raise ValueError(f"{self.since_term} is no term")

    @property
    def lineage(self) -> int:
        """The id of the first generation: what all generations of one cluster share."""
        return self.origin_id or self.cluster_id

    def encode(self) -> dict[str, Any]:
        """The promise as a value that JSON can carry."""
        value: dict[str, Any] = {"cluster_id": self.cluster_id, "voters": encode_voters(self.voters)}
        if self.generation > 1:
            value |= {"generation": self.generation, "origin_id": self.lineage, "since_term": self.since_term}
        return value

    @classmethod
    def decode(cls, value: Any) -> Founding:
        """The promise that was encoded. Raises ValueError for any other value."""
        match value:
            case {"cluster_id": int(cluster_id), "voters": list(voters), **rest} if not rest:
                return cls(cluster_id, decode_voters(voters) if voters else ())
            case {
                "cluster_id": int(cluster_id),
                "voters": list(voters),
                "generation": int(generation),
                "origin_id": int(origin_id),
                "since_term": int(since_term),
                **rest,
            } if not rest and generation > 1 and origin_id:
                named = decode_voters(voters) if voters else ()
                return cls(cluster_id, named, generation, origin_id, Term(since_term))
            case _:
                raise ValueError("a founding promise has a cluster's id and voters")


def save_founding(files: Files, path: str, founding: Founding) -> None:
    """Write the file at `path`; it is on disk when this returns. Raises OSError."""
    version = VERSION if founding.generation == 1 else RECOVERED_VERSION
    files.replace(path, encode(KIND, version, founding.encode()))


def load_founding(files: Files, path: str) -> Founding | None:
    """The promise in the file at `path`, None if there is no file.

    Raises DamagedFileError for a file that cannot be used: a node that forgets it could found a second cluster.
    """
    try:
        content = files.read_all(path)
    except FileNotFoundError:
        return None
    try:
        return Founding.decode(_decode(content, path))
    except (DamagedFileError, ValueError) as error:
        raise DamagedFileError(
            f"{error}. {path} says to which cluster this disk belongs, so the node will not start without it: restore "
            "the file from a backup, or give this node a new data directory and let it copy the log from its peers"
        ) from error


def _decode(content: bytes, path: str) -> Any:
    try:
        return decode(KIND, VERSION, content, path)
    except DamagedFileError as first:
        try:
            return decode(KIND, RECOVERED_VERSION, content, path)
        except DamagedFileError:
            raise first from None

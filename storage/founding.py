"""The founding promise: to which cluster a disk belongs, and who votes in it first. Made once, and never a second time.

Before the first term each founder puts one promise on disk, and nobody stands for election before all of them
have. Since each promises once, two halves of a network cannot form two clusters. Whoever joins later keeps the
cluster alone, without voters: it then takes no other cluster's entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ourolog.storage.checksummed_json import decode, encode
from ourolog.storage.control import MAX_EPOCH, Voter, decode_voters, encode_voters
from ourolog.storage.errors import DamagedFileError
from ourolog.storage.files import Files

KIND: Final = "founding"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Founding:
    """To which cluster a disk belongs.

    cluster_id: drawn at random when the cluster is founded, 1 to MAX_EPOCH.
    voters: the first voters, with their disks; () on the disk of a node that joined later.
    """

    cluster_id: int
    voters: tuple[Voter, ...] = ()

    def __post_init__(self) -> None:
        if type(self.cluster_id) is not int or not 1 <= self.cluster_id <= MAX_EPOCH:
            raise ValueError(f"{self.cluster_id} is no cluster's id")

    def encode(self) -> dict[str, Any]:
        """The promise as a value that JSON can carry."""
        return {"cluster_id": self.cluster_id, "voters": encode_voters(self.voters)}

    @classmethod
    def decode(cls, value: Any) -> Founding:
        """The promise that was encoded. Raises ValueError for any other value."""
        match value:
            case {"cluster_id": int(cluster_id), "voters": list(voters), **rest} if not rest:
                return cls(cluster_id, decode_voters(voters) if voters else ())
            case _:
                raise ValueError("a founding promise has a cluster's id and voters")


def save_founding(files: Files, path: str, founding: Founding) -> None:
    """Write the file at `path`; it is on disk when this returns. Raises OSError."""
    files.replace(path, encode(KIND, VERSION, founding.encode()))


def load_founding(files: Files, path: str) -> Founding | None:
    """The promise in the file at `path`, None if there is no file.

    Raises DamagedFileError for a file that cannot be used: a node that forgets it could found a second cluster.
    """
    try:
        content = files.read_all(path)
    except FileNotFoundError:
        return None
    try:
        return Founding.decode(decode(KIND, VERSION, content, path))
    except (DamagedFileError, ValueError) as error:
        raise DamagedFileError(
            f"{error}. {path} says to which cluster this disk belongs, so the node will not start without it: restore "
            "the file from a backup, or give this node a new data directory and let it copy the log from its peers"
        ) from error

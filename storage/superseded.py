"""That a disk's cluster was recovered elsewhere: a later generation has taken over, and this disk has no part in it.

Written as soon as the node hears of it, so that it still knows after a restart, when whoever told it may be gone: two
voters of the old generation would otherwise elect a leader among themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ourolog.storage.checksummed_json import decode, encode
from ourolog.storage.control import MAX_EPOCH
from ourolog.storage.errors import DamagedFileError
from ourolog.storage.files import Files
from ourolog.storage.founding import MAX_GENERATION
from ourolog.storage.types import NODE_ID, NodeId

KIND: Final = "superseded"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Superseded:
    """The later generation of a cluster.

    generation: its number.
    cluster_id: its id.
    node_id: the node that said so.
    """

    generation: int
    cluster_id: int
    node_id: NodeId

    def why(self, own_id: NodeId, own_generation: int) -> str:
        """What this means for the node that has it on its disk, and what a person has to do."""
        return (
            f"this cluster was recovered without {own_id}: {self.node_id} belongs to its generation {self.generation}, "
            f"{own_id} to generation {own_generation}, which acknowledges nothing any more. Stop {own_id}, give it an "
            "empty --data-dir, and start it with --join, to copy what was recovered; what it knows to be committed "
            "can be read here until then"
        )


def save_superseded(files: Files, path: str, superseded: Superseded) -> None:
    """Write the file at `path`; it is on disk when this returns. Raises OSError."""
    value = {
        "cluster_id": superseded.cluster_id,
        "generation": superseded.generation,
        "node_id": superseded.node_id,
    }
    files.replace(path, encode(KIND, VERSION, value))


def load_superseded(files: Files, path: str) -> Superseded | None:
    """What the file at `path` says, None if there is no file. Raises DamagedFileError for one that cannot be used."""
    try:
        content = files.read_all(path)
    except FileNotFoundError:
        return None
    value = decode(KIND, VERSION, content, path)
    try:
        return _checked(value)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{path} is damaged ({error!r}). It says that this disk's cluster was recovered elsewhere: give this node "
            "a new data directory and let it copy the log from its peers"
        ) from error


def _checked(value: Any) -> Superseded:
    generation, cluster_id, node_id = value["generation"], value["cluster_id"], value["node_id"]
    if type(generation) is not int or not 1 < generation <= MAX_GENERATION:
        raise ValueError(f"{generation} is no later generation")
    if type(cluster_id) is not int or not 1 <= cluster_id <= MAX_EPOCH:
        raise ValueError(f"{cluster_id} is no cluster's id")
    if type(node_id) is not str or not NODE_ID.fullmatch(node_id):
        raise ValueError(f"{node_id!r} is no node's id"[:200])
    return Superseded(generation, cluster_id, NodeId(node_id))

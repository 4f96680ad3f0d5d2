"""The ballot, which an election must never forget, and the file that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ourolog.storage.checksummed_json import decode, encode
from ourolog.storage.errors import DamagedFileError
from ourolog.storage.files import Files
from ourolog.storage.types import NodeId, Term

KIND: Final = "ballot"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Ballot:
    """A node's vote in its present term.

    term: the latest term that the node knows of.
    voted_for: whom the node voted for in that term, None if it has not voted.
    leader_id: who leads in that term, None if the node does not know.
    voted_for_epoch: the epoch of the log of whom it voted for: a vote goes to a node and its disk (KIP-853). 0 where
        votes go to names alone.
    """

    term: Term = Term(0)
    voted_for: NodeId | None = None
    leader_id: NodeId | None = None
    voted_for_epoch: int = 0

    @property
    def vote(self) -> tuple[NodeId, int] | None:
        """Whom this is a vote for, and with which disk; None if it is no vote."""
        return (self.voted_for, self.voted_for_epoch) if self.voted_for is not None else None


def save_ballot(files: Files, path: str, ballot: Ballot) -> None:
    """Replace the file at `path`; the whole ballot is on disk when this returns.

    Raises OSError; the old ballot is still there then.
    """
    value = {
        "leader_id": ballot.leader_id,
        "term": ballot.term,
        "voted_for": ballot.voted_for,
        "voted_for_epoch": ballot.voted_for_epoch,
    }
    files.replace(path, encode(KIND, VERSION, value))


def load_ballot(files: Files, path: str) -> Ballot:
    """The ballot in the file at `path`; the first one, of term 0, if there is no file yet.

    Raises DamagedFileError for a file that cannot be used: a vote forgotten could elect two leaders
    (Raft section 5.2).
    """
    try:
        content = files.read_all(path)
    except FileNotFoundError:
        return Ballot()
    try:
        value = decode(KIND, VERSION, content, path)
        term, voted_for, leader_id = value["term"], value["voted_for"], value["leader_id"]
        epoch = value["voted_for_epoch"]
        names = (voted_for, leader_id)
        if {type(term), type(epoch)} != {int} or not all(name is None or type(name) is str for name in names):
            raise DamagedFileError(f"{path} is damaged: a field has the wrong type")
    except (DamagedFileError, KeyError, TypeError) as error:
        raise DamagedFileError(
            f"{error}. It holds this node's vote, so the node will not start without it: restore the file from a "
            "backup, or give this node a new data directory and let it copy the log from its peers"
        ) from error
    return Ballot(Term(term), voted_for and NodeId(voted_for), leader_id and NodeId(leader_id), epoch)

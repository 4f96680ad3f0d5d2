"""Whether a cluster has to be recovered from one survivor, by what the others say that can be asked.

A recovery gives up what other disks may have, so it is refused while anything better is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.control import VoterKey
from ourolog.storage.recovering import Survivor
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term


@dataclass(frozen=True, slots=True)
class Asked:
    """Another node that was asked.

    name: its name, or its address where the name is not known.
    status: its answer, None if it has not answered.
    why: why not, as gRPC says.
    """

    name: str
    status: pb.GetStatusResponse | None
    why: str = ""

    @property
    def last(self) -> LastEntry:
        """How far its log reaches."""
        assert self.status is not None, "it has answered"
        return LastEntry(Term(self.status.last_term), Index(self.status.end_index))

    @property
    def key(self) -> VoterKey:
        """The node with its disk."""
        assert self.status is not None, "it has answered"
        return VoterKey(NodeId(self.status.node_id), self.status.log_epoch)


def why_not_recover(survivor: Survivor, asked: Sequence[Asked]) -> str | None:
    """Why recovering from this survivor would be wrong, and what to do instead; None if it would not."""
    me, founding = survivor.identity.node_id, survivor.founding
    answered = [other for other in asked if other.status is not None]
    own = [other for other in answered if _lineage_of(other) == founding.lineage]
    later = [other for other in own if other.status is not None and other.status.generation > founding.generation]
    if later:
        generation = max(other.status.generation for other in later if other.status is not None)
        return (
            f"this cluster was recovered already, from another disk: {_names(later)} belongs to its generation "
            f"{generation}. Give {me} an empty --data-dir, and start it with --join"
        )
    same = [other for other in own if other.status is not None and other.status.cluster_id == founding.cluster_id]
    further = max((other for other in same if other.last > survivor.last), key=lambda other: other.last, default=None)
    if further is not None:
        return (
            f"{further.name} is further: its log reaches to index {further.last.index} in term {further.last.term}, "
            f"that of {me} to index {survivor.last.index} in term {survivor.last.term}. What {me} lacks would be lost: "
            f"recover {further.name} instead, or let it lead if a majority of the voters is left"
        )
    keys = {voter.key for voter in survivor.voters}
    present = [other for other in same if other.key in keys]
    if 2 * (len(present) + survivor.votes) > len(keys) and not survivor.is_unfinished and present:
        if 2 * len(present) > len(keys):
            return f"nothing has to be recovered: {_names(present)} run, and elect a leader among themselves"
        return (
            f"nothing has to be recovered: {_names(present)} runs, and is a majority of the voters together with {me}. "
            f"Start {me} as before"
        )
    if len(keys) == 1 and survivor.votes and not survivor.is_unfinished:
        return f"nothing has to be recovered: {me} is the only voter, and leads when it is started"
    return None


def losses(survivor: Survivor, asked: Sequence[Asked]) -> list[str]:
    """What may be lost and what changes, a sentence each."""
    me = survivor.identity.node_id
    start, end, committed = survivor.start, survivor.end, survivor.committed
    reach = f"entries up to index {end.index} in term {survivor.last.term}"
    lines = [f"{me} has the records of offsets [{start.offset}, {end.offset}), and {reach}."]
    if committed.index < end.index:
        tail = end.index - committed.index
        rest = "The entry" if tail == 1 else f"The {tail} entries"
        lines.append(
            f"It knows of those below offset {committed.offset} that they are committed. {rest} after that, up to "
            f"offset {end.offset}, {'becomes' if tail == 1 else 'become'} so, whether acknowledged or not."
        )
    silent = [other.name for other in asked if other.status is None]
    if silent:
        lost = (
            f"{_listed(silent)} could not be asked. What was acknowledged there and is not in the log of {me} is lost"
        )
        if survivor.votes:
            lines.append(f"{lost}; of what was acknowledged by all replicas, nothing is.")
        else:
            lines.append(
                f"{lost}. {me} had no vote, so nobody waited for its disk: "
                "that may also be what was acknowledged by all."
            )
    voters = _listed([voter.node_id for voter in survivor.voters])
    lines.append(f"The voters are {voters}; afterwards {me} votes alone, and others join it on empty data directories.")
    if survivor.is_unfinished:
        change = f"A recovery as generation {survivor.next_generation} was interrupted; this one finishes it."
    else:
        change = f"The cluster goes from generation {survivor.founding.generation} to {survivor.next_generation}."
    lines.append(f"{change} No disk of the former one takes part any more.")
    return lines


def _lineage_of(other: Asked) -> int:
    status = other.status
    return (status.origin_id or status.cluster_id) if status is not None else 0


def _names(others: Sequence[Asked]) -> str:
    return _listed([other.name for other in others])


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last

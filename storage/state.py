"""What a log knows about itself beyond its bytes: terms and their writers, voters, identities, pulls, producers.

It is derived from the batches below one position, so a scan can rebuild it; checkpoints save that
scan, and keep what the log learnt from batches that retention has removed.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

from ourolog.storage.control import ControlEntry, ProducerRegistered, VoterSet, VotersSet
from ourolog.storage.origins import IdentityRanges, PullPositions
from ourolog.storage.producers import ProducerBatch, ProducerMemory
from ourolog.storage.terms import Run, TermHistory, place_of
from ourolog.storage.types import Index, NodeId, Term
from ourolog.storage.voter_history import VoterHistory


class LogState:
    """The state of a log at one position. It moves forward batch by batch; to go back, start from an older one.

    terms: which term wrote which part, and who in it.
    voters: the voter sets that the log names.
    identities: which batches were ever appended.
    pulls: how far this node has pulled from others.
    producers: which batches of which producers it has.
    sequence_floor: no own sequence below it is given out again, even if truncation took the batch
        that had it: another node may still hold that batch under the same identity.
    """

    __slots__ = ("identities", "node_id", "producers", "pulls", "sequence_floor", "terms", "voters")

    def __init__(
        self,
        node_id: NodeId,
        terms: TermHistory | None = None,
        identities: IdentityRanges | None = None,
        pulls: PullPositions | None = None,
        sequence_floor: int = 0,
        voters: VoterHistory = VoterHistory(),  # noqa: B008  # frozen
        producers: ProducerMemory | None = None,
    ) -> None:
        self.node_id = node_id
        self.terms = terms or TermHistory()
        self.identities = identities or IdentityRanges()
        self.pulls = pulls or PullPositions()
        self.sequence_floor = sequence_floor
        self.voters = voters
        self.producers = producers if producers is not None else ProducerMemory()

    def observe(
        self,
        index: Index,
        term: Term,
        path: tuple[NodeId, ...],
        origin_epoch: int,
        origin_sequence: int,
        source_epoch: int,
        source_index: int,
        timestamp_ms: int,
        control: ControlEntry | None = None,
        producer_id: int = 0,
        produced: ProducerBatch | None = None,
    ) -> None:
        """Move on past the batch with these headers. Raises ValueError if it cannot stand there.

        control: what it says, if it is a control batch that this software understands.
        producer_id, produced: whose batch it is, and what is remembered of it, if a producer numbered it.
        """
        self.terms = self.terms.with_entry(place_of(term, path, origin_epoch), index)
        if isinstance(control, VotersSet):
            self.voters = self.voters.with_set(VoterSet(index, term, control.voters, control.removed))
        self.identities.add(path[0], origin_epoch, origin_sequence)
        # A leader's log may hold what the leader pulled; only own pulls move own positions.
        if len(path) > 1 and path[-1] == self.node_id:
            self.pulls.appended(path[-2], source_epoch, source_index)
        if len(path) == 1:
            if isinstance(control, ProducerRegistered):
                self.producers.registered(index, timestamp_ms)
            elif produced is not None:
                self.producers.appended(producer_id, produced, timestamp_ms)
            else:
                self.producers.passed(timestamp_ms)

    def next_own_sequence(self, log_epoch: int) -> int:
        return max(self.sequence_floor, self.identities.next_sequence(self.node_id, log_epoch))

    def encode(self) -> dict[str, Any]:
        return {
            "identities": self.identities.encode(),
            "producers": b64encode(self.producers.encode()).decode(),
            "pulls": self.pulls.encode(),
            "sequence_floor": self.sequence_floor,
            "terms": [[run.term, *run.writer, run.first] for run in self.terms.runs],
            "voters": self.voters.encode(),
        }

    @classmethod
    def decode(cls, node_id: NodeId, encoded: dict[str, Any]) -> LogState:
        """The state that was encoded. Raises ValueError or the like for any other value."""
        return cls(
            node_id,
            TermHistory(tuple(_decode_run(run) for run in encoded["terms"])),
            IdentityRanges.decode(encoded["identities"]),
            PullPositions.decode(encoded["pulls"]),
            int(encoded["sequence_floor"]),
            VoterHistory.decode(encoded["voters"]),
            # Versions that knew of no producers wrote none, and no log that they wrote to has any.
            ProducerMemory.decode(b64decode(encoded.get("producers", ""), validate=True)),
        )


def _decode_run(encoded: list[Any]) -> Run:
    term, writer, log_epoch, first = encoded
    return Run(Term(term), (NodeId(writer), int(log_epoch)), Index(first))

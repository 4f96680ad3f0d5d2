"""What a log knows about itself beyond its bytes: terms and their writers, identities, pull positions.

All of it is derived from the headers of the batches below one position, so it can always be had
again by a scan; checkpoints only save that scan.
"""

from __future__ import annotations

from typing import Any

from ourolog.storage.origins import IdentityRanges, PullPositions
from ourolog.storage.terms import Run, TermHistory, place_of
from ourolog.storage.types import Index, NodeId, Term


class LogState:
    """Moves forward batch by batch; going back means starting from an older checkpoint.

    sequence_floor: no own sequence below it is given out again, even if truncation took the batch
    that had it: somebody else may still hold that batch under the same identity.
    """

    __slots__ = ("identities", "node_id", "pulls", "sequence_floor", "terms")

    def __init__(
        self,
        node_id: NodeId,
        terms: TermHistory | None = None,
        identities: IdentityRanges | None = None,
        pulls: PullPositions | None = None,
        sequence_floor: int = 0,
    ) -> None:
        self.node_id = node_id
        self.terms = terms or TermHistory()
        self.identities = identities or IdentityRanges()
        self.pulls = pulls or PullPositions()
        self.sequence_floor = sequence_floor

    def observe(
        self,
        index: Index,
        term: Term,
        path: tuple[NodeId, ...],
        origin_epoch: int,
        origin_sequence: int,
        source_epoch: int,
        source_index: int,
    ) -> None:
        """The batch with these headers now stands in the log. Raises ValueError if its place cannot be."""
        self.terms = self.terms.with_entry(place_of(term, path, origin_epoch), index)
        self.identities.add(path[0], origin_epoch, origin_sequence)
        # A leader's log may hold what the leader pulled; only own pulls move own positions.
        if len(path) > 1 and path[-1] == self.node_id:
            self.pulls.appended(path[-2], source_epoch, source_index)

    def next_own_sequence(self, log_epoch: int) -> int:
        return max(self.sequence_floor, self.identities.next_sequence(self.node_id, log_epoch))

    def encode(self) -> dict[str, Any]:
        return {
            "identities": self.identities.encode(),
            "pulls": self.pulls.encode(),
            "sequence_floor": self.sequence_floor,
            "terms": [[run.term, *run.writer, run.first] for run in self.terms.runs],
        }

    @classmethod
    def decode(cls, node_id: NodeId, encoded: dict[str, Any]) -> LogState:
        """Raises ValueError or the like for what is no such state, or one without the writers of its terms."""
        return cls(
            node_id,
            TermHistory(tuple(_decode_run(node_id, run) for run in encoded["terms"])),
            IdentityRanges.decode(encoded["identities"]),
            PullPositions.decode(encoded["pulls"]),
            int(encoded["sequence_floor"]),
        )


def _decode_run(node_id: NodeId, encoded: list[Any]) -> Run:
    if len(encoded) == 2 and encoded[0] == 0:
        # Written before terms had writers, by a node without a leader: then the log was its own.
        return Run(Term(0), (node_id, 0), Index(encoded[1]))
    term, writer, log_epoch, first = encoded
    return Run(Term(term), (NodeId(writer), int(log_epoch)), Index(first))

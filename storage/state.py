"""What a log knows about itself beyond its bytes: terms, identities, pull positions, the last writer.

All of it is derived from the headers of the batches below one position, so it can always be had
again by a scan; checkpoints only save that scan.
"""

from __future__ import annotations

from typing import Any

from storage.origins import IdentityRanges, PullPositions
from storage.terms import TermHistory
from storage.types import Index, NodeId, Term


class LogState:
    """Moves forward batch by batch; going back means starting from an older checkpoint.

    sequence_floor: no own sequence below it is given out again, even if truncation took the batch
    that had it: somebody else may still hold that batch under the same identity.
    writer: the node that made the last batch and the epoch of the log it made it in, None before
    the first; with a leader elected that is who led.
    """

    __slots__ = ("identities", "node_id", "pulls", "sequence_floor", "terms", "writer")

    def __init__(
        self,
        node_id: NodeId,
        terms: TermHistory | None = None,
        identities: IdentityRanges | None = None,
        pulls: PullPositions | None = None,
        sequence_floor: int = 0,
        writer: tuple[NodeId, int] | None = None,
    ) -> None:
        self.node_id = node_id
        self.terms = terms or TermHistory()
        self.identities = identities or IdentityRanges()
        self.pulls = pulls or PullPositions()
        self.sequence_floor = sequence_floor
        self.writer = writer

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
        """The batch with these headers now stands in the log. Raises ValueError if the term fell."""
        self.terms = self.terms.with_entry(term, index)
        self.identities.add(path[0], origin_epoch, origin_sequence)
        self.writer = path[0], origin_epoch
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
            "terms": [list(start) for start in self.terms.starts],
            "writer": self.writer,
        }

    @classmethod
    def decode(cls, node_id: NodeId, encoded: dict[str, Any]) -> LogState:
        writer = encoded["writer"]
        return cls(
            node_id,
            TermHistory(tuple((Term(term), Index(index)) for term, index in encoded["terms"])),
            IdentityRanges.decode(encoded["identities"]),
            PullPositions.decode(encoded["pulls"]),
            int(encoded["sequence_floor"]),
            (NodeId(writer[0]), int(writer[1])) if writer is not None else None,
        )

"""What one node asks another, as it crosses the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ourolog.storage.terms import Place
from ourolog.storage.types import Index, NodeId, Position, Term


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """A node -> the node it pulls from.

    term: 0 and no votes when nobody is elected. next_index: the first entry wanted, in the
    peer's log. committed: the commit index the fetcher knows, so that a change of it can be
    answered at once.
    Nobody elected: source_epoch is that of the log that next_index belongs to, 0 if not known yet.
    A leader elected: last is the place of the entry before next_index in the *fetcher's* log, None
    where it knows of none; all below next_index is on the fetcher's disk.
    """

    cluster: str
    node_id: NodeId
    elected: bool
    term: Term
    next_index: Index
    last: Place | None
    source_epoch: int
    committed: Index
    max_bytes: int
    max_wait_s: float


class FetchOutcome(IntEnum):
    """How a fetch was answered.

    BATCHES: see `batches`, possibly empty. DIVERGED: the logs part, see `diverged`. NOT_LEADER: see
    `leader_id`. STALE_TERM: the fetcher's term is older than `term`. OUT_OF_RANGE: next_index is
    below `start`, retention took it. NEW_LOG (nobody elected): the log is not the one source_epoch
    speaks of. REFUSED: see `detail`; asking again will not help.
    """

    BATCHES = 0
    DIVERGED = 1
    NOT_LEADER = 2
    STALE_TERM = 3
    OUT_OF_RANGE = 4
    NEW_LOG = 5
    REFUSED = 6


@dataclass(frozen=True, slots=True)
class FetchResponse:
    """The answer to a FetchRequest. `end` is the peer's last position, for lag.

    before_start: the place of the entry before `start`, None if there is none or it is not known.
    diverged, diverged_at: what the logs can share at most, see `TermHistory.parting`.
    """

    outcome: FetchOutcome
    term: Term
    log_epoch: int
    start: Position
    end: Position
    committed: Position
    leader_id: NodeId | None = None
    batches: bytes = b""
    before_start: Place | None = None
    diverged: Place | None = None
    diverged_at: Index = Index(0)
    detail: str = ""

"""What is known of one pull: who is pulled from, what is under way, and what has come of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ourolog.actors.messages.store import FetchedTaken
from ourolog.actors.ports import Timer
from ourolog.storage.types import Index, NodeId, Offset, Position


@dataclass(slots=True)
class Pull:
    """One arrow of the pull graph.

    source_id, addr: the node that this one pulls from, and where it is called, HOST:PORT.
    request_id: of the fetch under way, None if there is none.
    failures: how many waits in a row there were, since nothing came of a fetch.
    was_retried: whether a fetch that failed was tried again at once, since the source last answered.
    was_reported: whether the election was told that nobody listens there, since the source last answered.
    waits: how often it has waited, so that an old timer is told from the present one.
    timer: of the present wait, None if it does not wait.
    taken: where the log ends with what the store has taken of this pull and is still writing, None if it takes nothing.
    told_index: the index below which everything is on this node's disk, as the last fetch has said.
    keep_alive_id: of the fetch without batches under way, None if there is none.
    keep_alives: how often one was put off, so that an old timer is told from the present one.
    keep_alive_timer: of the next one, None if the log is not busy.
    told_s: when the election was told of an answer last, in seconds of the monotonic clock.
    connected: whether a fetch was answered with batches, or with none since there are none, and no call failed since.
    source_end: the source's end as last heard.
    next_offset: where the pull stands in the source's offsets, None if not yet known.
    detail: what is wrong with the pull, "" if nothing is.
    left_out: about the last of its entries that nobody could read, "" if there was none.
    """

    source_id: NodeId
    addr: str
    request_id: int | None = None
    failures: int = 0
    was_retried: bool = False
    was_reported: bool = False
    waits: int = 0
    timer: Timer | None = None
    taken: FetchedTaken | None = None
    told_index: Index = Index(0)
    keep_alive_id: int | None = None
    keep_alives: int = 0
    keep_alive_timer: Timer | None = None
    told_s: float = -inf
    connected: bool = False
    source_end: Position | None = None
    next_offset: Offset | None = None
    detail: str = ""
    left_out: str = ""

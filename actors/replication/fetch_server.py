"""The serving side of replication: other nodes' fetches, answered or parked (KIP-595, section Fetch).

A leader answers from memory what stands in its `LogTail`, also what its own disk does not have yet; everything else
is read from the log. News of the commit position alone is worth no answer of its own while there are more records: it
is in the next answer, or in one after COMMIT_NEWS_AFTER_S.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, FetchOutcome, FetchRequest, FetchResponse
from ourolog.actors.messages.replicator import CommitNewsDue, FetchWaitExpired
from ourolog.actors.messages.store import BatchesRead, ReadBatches, ReadProblem, ReadRefused
from ourolog.actors.ports import Timer
from ourolog.actors.replication.divergence import Agrees, Diverged, OutOfRange, compare
from ourolog.actors.replication.state import ReplicationState, Role
from ourolog.storage.terms import Place
from ourolog.storage.types import Index, NodeId

MAX_WAIT_S = 30.0

COMMIT_NEWS_AFTER_S: Final = 0.005
"""How long a fetch that waits may know less of what is committed than its leader, in seconds."""


@dataclass(frozen=True, slots=True)
class _ReadAnswer:
    """Turns what the store read into the fetch's answer, without passing through the replicator."""

    answer_to: Mailbox[CallAnswer[FetchResponse]]
    request_id: int
    header: FetchResponse

    def tell(self, message: BatchesRead | ReadRefused) -> None:
        head = self.header
        match message:
            case BatchesRead():
                outcome, batches, detail = FetchOutcome.BATCHES, message.batches, ""
            case ReadRefused(problem=ReadProblem.OUT_OF_RANGE | ReadProblem.REPAIRING):
                # What is damaged here is fetched from another replica meanwhile, and asked for again until it is here.
                # Or: retention or a truncation overtook the read; the next fetch is told where the log begins now.
                outcome, batches, detail = FetchOutcome.BATCHES, b"", ""
            case ReadRefused():
                outcome, batches, detail = FetchOutcome.REFUSED, b"", message.detail
        response = FetchResponse(
            outcome,
            head.term,
            head.log_epoch,
            head.start,
            head.end,
            head.committed,
            head.leader_id,
            batches,
            before_start=head.before_start,
            voters_before_start=head.voters_before_start,
            producers_before_start=head.producers_before_start,
            detail=detail,
            read_round=head.read_round,
            cluster_id=head.cluster_id,
        )
        self.answer_to.tell(CallAnswer(self.request_id, response))


@dataclass(slots=True)
class _Parked:
    """A fetch that has everything there is, waiting for more.

    disk_index: below which index its sender has everything on disk, as it has said last.
    """

    received: CallReceived[FetchRequest]
    timer: Timer
    disk_index: Index


class FetchServer:
    """Answers fetches, and parks those that have everything there is until there is more."""

    def __init__(self, state: ReplicationState) -> None:
        self._state = state
        self._parked: dict[int, _Parked] = {}
        self._commit_news: Timer | None = None

    @property
    def parked(self) -> int:
        """How many fetches wait for more."""
        return len(self._parked)

    def check(self, received: CallReceived[FetchRequest]) -> FetchResponse | None:
        """Why this fetch gets no batches, or None if it does. Changes nothing."""
        state, request = self._state, received.request
        if request.cluster != state.config.cluster:
            return self._response(
                FetchOutcome.REFUSED,
                detail=f"{state.node_id} is of cluster {state.config.cluster!r}, "
                f"{request.node_id} of {request.cluster!r}",
            )
        if state.is_of_other_cluster(request.node_id, request.cluster_id):
            detail = state.why_of_other_cluster(request.node_id, request.cluster_id)
            return self._response(FetchOutcome.REFUSED, detail=detail)
        if state.role is Role.STARTING:
            return self._response(FetchOutcome.NOT_LEADER, detail=f"{state.node_id} is starting")
        if request.elected != state.elected:
            return self._response(
                FetchOutcome.REFUSED,
                detail=f"{state.node_id} runs with --election {state.config.election}, {request.node_id} does not: "
                "give all nodes of a cluster the same",
            )
        return self._check_elected(request) if state.elected else self._check_peer(request)

    def _check_peer(self, request: FetchRequest) -> FetchResponse | None:
        state = self._state
        if request.source_epoch not in (0, state.log_epoch):
            return self._response(FetchOutcome.NEW_LOG)
        if not state.start.index <= request.next_index <= state.end.index:
            return self._response(FetchOutcome.OUT_OF_RANGE)
        return None

    def _check_elected(self, request: FetchRequest) -> FetchResponse | None:
        state = self._state
        if request.term < state.term:
            return self._response(FetchOutcome.STALE_TERM)
        if state.role is not Role.LEADER or request.term > state.term:
            return self._response(FetchOutcome.NOT_LEADER)
        match compare(state.offered, request.next_index, request.last, request.committed):
            case Agrees():
                return None
            case OutOfRange():
                return self._response(FetchOutcome.OUT_OF_RANGE)
            case Diverged(place, end):
                return self._response(FetchOutcome.DIVERGED, diverged=place, diverged_at=end)
            case unknown:
                assert_never(unknown)

    def serve(self, received: CallReceived[FetchRequest]) -> None:
        """Answer a fetch that `check` accepted: with batches, with news for its sender, or later."""
        state, request = self._state, received.request
        if request.max_bytes == 0:
            self._note_disk(request)
            self.answer(received, self._response(FetchOutcome.BATCHES))
        elif state.tail.holds(request.next_index):
            batches = state.tail.read(request.next_index, self._max_bytes(request))
            self.answer(received, self._response(FetchOutcome.BATCHES, batches=batches))
        elif request.next_index < state.end.index:
            self._read(received)
        elif self._is_of_round(request):
            self.answer(received, self._response(FetchOutcome.BATCHES))
        else:
            wait_s = min(request.max_wait_s, MAX_WAIT_S)
            timer = state.ports.timers.after(wait_s, state.me, FetchWaitExpired(received.request_id))
            parked = self._parked[received.request_id] = _Parked(received, timer, request.disk_index)
            if self._knows_less(parked):
                self._tell_commit_later()

    def answer(self, received: CallReceived[FetchRequest], response: FetchResponse) -> None:
        received.reply_to.tell(CallAnswer(received.request_id, response))

    def wake(self) -> None:
        """The log grew, or a round of reads was opened: answer the fetches that waited for it."""
        for parked in list(self._parked.values()):
            request = parked.received.request
            if self._has_more(request.next_index) or self._is_of_round(request):
                self._unpark(parked.received.request_id)
                self.serve(parked.received)

    def _has_more(self, index: Index) -> bool:
        """Whether the entry at that index can be sent."""
        return index < self._state.end.index or self._state.tail.holds(index)

    def _is_of_round(self, request: FetchRequest) -> bool:
        """Whether the fetcher should hear at once of a round of reads."""
        return self._state.awaits_echoes and request.read_round != self._state.read_round

    def _knows_less(self, parked: _Parked) -> bool:
        """Whether more is committed of what the fetcher has on disk than it knows.

        While it is still writing, more is no news that it could use, and it would ask again at once.
        """
        committed = min(self._state.committed.index, parked.disk_index)
        return self._state.elected and parked.received.request.committed < committed

    def _note_disk(self, request: FetchRequest) -> None:
        """A node whose fetch waits has told what is on its disk meanwhile."""
        for parked in self._parked.values():
            waiting = parked.received.request
            if (waiting.node_id, waiting.log_epoch) == (request.node_id, request.log_epoch):
                parked.disk_index = max(parked.disk_index, request.disk_index)
                if self._knows_less(parked):
                    self._tell_commit_later()

    def commit_moved(self) -> None:
        """More is committed: those who wait hear of it with the next batches, or soon."""
        if any(self._knows_less(parked) for parked in self._parked.values()):
            self._tell_commit_later()

    def _tell_commit_later(self) -> None:
        state = self._state
        if self._commit_news is None:
            self._commit_news = state.ports.timers.after(COMMIT_NEWS_AFTER_S, state.me, CommitNewsDue())

    def tell_commit(self) -> None:
        """Answer the fetches that still wait and know less than this node."""
        self._commit_news = None
        for parked in list(self._parked.values()):
            if self._knows_less(parked):
                self.expire(parked.received.request_id)

    def refuse_all(self) -> None:
        """The role changed: everybody who waits must ask again."""
        if self._commit_news is not None:
            self._commit_news.cancel()
            self._commit_news = None
        for parked in list(self._parked.values()):
            self._unpark(parked.received.request_id)
            response = self.check(parked.received)
            self.answer(parked.received, response or self._response(FetchOutcome.BATCHES))

    def expire(self, request_id: int) -> None:
        """Answer a fetch that has waited long enough, without batches."""
        parked = self._unpark(request_id)
        if parked is not None:
            self.answer(parked.received, self._response(FetchOutcome.BATCHES))

    def cancel(self, request_id: int) -> None:
        self._unpark(request_id)

    def _unpark(self, request_id: int) -> _Parked | None:
        parked = self._parked.pop(request_id, None)
        if parked is not None:
            parked.timer.cancel()
        return parked

    def _read(self, received: CallReceived[FetchRequest]) -> None:
        state, request = self._state, received.request
        answer = _ReadAnswer(received.reply_to, received.request_id, self._response(FetchOutcome.BATCHES))
        # A leader that does not answer for longer than a fetch may wait would be taken for lost.
        wait_s = min(request.max_wait_s, MAX_WAIT_S)
        state.store.tell(
            ReadBatches(
                0, self._max_bytes(request), state.end.index, answer, index=request.next_index, repair_wait_s=wait_s
            )
        )

    def _max_bytes(self, request: FetchRequest) -> int:
        return max(0, min(request.max_bytes, self._state.config.fetch_max_bytes))

    def _response(
        self,
        outcome: FetchOutcome,
        *,
        batches: bytes = b"",
        diverged: Place | None = None,
        diverged_at: Index = Index(0),
        detail: str = "",
    ) -> FetchResponse:
        state = self._state
        leader_id: NodeId | None = state.leader_id if state.elected else None
        return FetchResponse(
            outcome,
            state.term,
            state.log_epoch,
            state.start,
            state.offered.end,
            state.committed,
            leader_id,
            batches,
            before_start=state.extent.before,
            voters_before_start=state.voters_before_start,
            producers_before_start=state.producers_before_start,
            diverged=diverged,
            diverged_at=diverged_at,
            detail=detail,
            read_round=state.read_round,
            cluster_id=state.cluster_id,
        )

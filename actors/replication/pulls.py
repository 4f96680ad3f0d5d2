"""The pulling side of replication: which nodes this node pulls from, and how far each pull has got.

With nobody elected a pull has at most one step under way: a fetch, an append of what it brought, or a wait before the
next try. It walks the source's log by the source's index.

With a leader it asks for what comes after this node's own last entry, and does not always wait for its disk. When the
store has taken what a fetch brought, and there is more to come, the next fetch is sent while that is written. So a
fetch says two things: what it wants next, and what is on this node's disk, which alone counts for the leader. At most
two answers are with the store unwritten, one that is written and one that waits, and no fetch is under way meanwhile;
what is written already may be more, where the store syncs several at once.

Whenever no fetch can tell, one that wants no batches does: that this node is still there while its log is busy for
long (a keep-alive), or what is on its disk while the next fetch waits at the leader.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from math import inf
from typing import Final, assert_never

from ourolog.actors.config import Cycle
from ourolog.actors.messages.election import HigherTermSeen, LeaderAnswered, LeaderHinted, LeaderUnreachable
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import CycleSeen, PullStarted, PullStopped, WarningKind
from ourolog.actors.messages.peer_calls import CallFailed, CallReturned, FetchOutcome, FetchRequest, FetchResponse
from ourolog.actors.messages.replicator import KeepAliveDue, PullRetryDue
from ourolog.actors.messages.status import PullStatus
from ourolog.actors.messages.store import (
    AppendFetched,
    AppendPulled,
    FetchedAppended,
    FetchedRejected,
    FetchedTaken,
    PulledAppended,
    PullRejected,
    ResetLog,
    TruncateLog,
)
from ourolog.actors.messages.values import Peer, PullPosition
from ourolog.actors.replication.divergence import Diverged, OutOfRange, Refuse, Restart, Truncate, reconcile
from ourolog.actors.replication.pull import Pull
from ourolog.actors.replication.state import ReplicationState, Role
from ourolog.storage.types import START, Index, NodeId, Position

_OF_A_LEADER: Final = frozenset({FetchOutcome.BATCHES, FetchOutcome.DIVERGED, FetchOutcome.OUT_OF_RANGE})
"""Answers that only the leader of the fetcher's term gives."""

ANSWERS_TOLD_PER_ELECTION_TIMEOUT: Final = 10
"""How many answers of its leader, at most, an election is told of in one election timeout."""


ASKS_ON_FROM_BYTES: Final = 64 * 1024
"""From an answer of this size on a pull asks for more before its disk is done, though the leader had no more then."""


class Pulls:
    """All pulls of a node. `on_committed` is told the leader's commit position with each answer."""

    def __init__(
        self,
        state: ReplicationState,
        election: Mailbox[HigherTermSeen | LeaderHinted | LeaderUnreachable | LeaderAnswered],
        on_committed: Callable[[Position], None],
    ) -> None:
        self._state = state
        self._election = election
        self._on_committed = on_committed
        self._pulls: dict[NodeId, Pull] = {}
        self._positions: dict[NodeId, PullPosition] = {}
        self._writing: dict[NodeId, int] = {}
        self._is_cutting = False
        self._request_ids = itertools.count(1)
        self._keep_alive_ids = itertools.count(-2, -2)
        self._leader_committed = START
        self._read_round = 0
        self.cycles_seen = 0
        self.duplicates_dropped = 0
        self.expired_dropped = 0

    def restore(self, positions: tuple[tuple[NodeId, PullPosition], ...]) -> None:
        """Set the pulls to where they had got before the restart."""
        self._positions.update(positions)

    # ------------------------------------------------------------ which pulls there are

    def reconcile(self, sources: Mapping[NodeId, str], reason: str) -> None:
        """Make the pulls those from `sources` (node to address), starting and stopping as needed."""
        for source_id in sorted(self._pulls):
            if sources.get(source_id) != self._pulls[source_id].addr:
                self._stop(source_id, reason)
        for source_id in sorted(sources):
            if source_id not in self._pulls:
                pull = Pull(source_id, sources[source_id])
                self._pulls[source_id] = pull
                self._state.observe(PullStarted(self._state.node_id, source_id))
                self._fetch(pull)

    def works(self, source_id: NodeId) -> bool:
        """Whether there is a pull from that node that has not failed since it was last answered, or began."""
        pull = self._pulls.get(source_id)
        return pull is not None and pull.failures == 0

    def restart(self) -> None:
        """Start all pulls over: the role or term changed, and fetches under way no longer count."""
        self._leader_committed = START
        self._read_round = 0
        self._is_cutting = False
        for source_id in sorted(self._pulls):
            self._stop(source_id, "the leader changed")

    def _stop(self, source_id: NodeId, reason: str) -> None:
        pull = self._pulls.pop(source_id)
        if pull.timer is not None:
            pull.timer.cancel()
        self._stop_keep_alives(pull)
        self._state.ports.network.forget(source_id)
        self._state.observe(PullStopped(self._state.node_id, source_id, reason))

    # ------------------------------------------------------------ fetching

    def _fetch(self, pull: Pull) -> None:
        state = self._state
        if self._is_cutting or not self._may_ask(pull):
            # What an earlier fetch brought is still on its way to disk; once it is there, this is called again. The
            # answer about a log that is cut meanwhile would cut it a second time, into what the leader has.
            self._put_off_keep_alive(pull)
            return
        self._stop_keep_alives(pull)
        pull.request_id = next(self._request_ids)
        self._ask(pull, pull.request_id, state.config.fetch_max_bytes, state.fetch_wait_s)

    def _may_ask(self, pull: Pull) -> bool:
        """Whether there is room for another answer: the store has taken the last one, so those before are written."""
        return pull.taken is not None or not self._is_writing(pull)

    def _ask(self, pull: Pull, request_id: int, max_bytes: int, max_wait_s: float) -> None:
        """Send a fetch. With a leader it says what is on this node's disk."""
        state, taken = self._state, pull.taken
        disk_index, source_epoch = Index(0), 0
        if state.elected:
            pull.told_index = disk_index = next_index = state.end.index
            last = state.extent.last
            if max_bytes and taken is not None and taken.end.index > next_index:
                next_index, last = taken.end.index, taken.last
        else:
            position = self._positions.get(pull.source_id, PullPosition(0, Index(0)))
            next_index, last, source_epoch = position.next_index, None, position.source_epoch
        request = FetchRequest(
            cluster=state.config.cluster,
            node_id=state.node_id,
            log_epoch=state.log_epoch,
            elected=state.elected,
            term=state.term,
            next_index=next_index,
            last=last,
            source_epoch=source_epoch,
            committed=state.committed.index,
            max_bytes=max_bytes,
            read_round=self._read_round,
            max_wait_s=max_wait_s,
            cluster_id=state.cluster_id,
            disk_index=disk_index,
        )
        state.ports.network.call(Peer(pull.source_id, pull.addr), request_id, request, state.me)

    def on_returned(self, returned: CallReturned[FetchResponse]) -> None:
        pull = self._pulls.get(returned.peer_id)
        response = returned.response
        if pull is None or returned.request_id not in (pull.request_id, pull.keep_alive_id):
            return
        pull.was_retried = pull.was_reported = False
        pull.source_end = response.end
        if self._state.elected:
            self._tell_election(pull, response)
            if response.term == self._state.term and response.outcome in _OF_A_LEADER:
                self._read_round = response.read_round
        if pull.keep_alive_id == returned.request_id:
            pull.keep_alive_id = None
            self._on_kept_alive(pull, response)
            return
        pull.request_id = None
        match response.outcome:
            case FetchOutcome.BATCHES if response.unreadable and not response.batches:
                self._leave_out(pull, response, response.unreadable)
            case FetchOutcome.BATCHES:
                pull.connected, pull.failures, pull.detail = True, 0, ""
                self._on_batches(pull, response)
            case FetchOutcome.DIVERGED | FetchOutcome.OUT_OF_RANGE if self._is_writing(pull):
                # It is about a log that is still written; once that is done it is asked for again.
                self._put_off_keep_alive(pull)
            case FetchOutcome.DIVERGED:
                self._on_diverged(pull, response)
            case FetchOutcome.OUT_OF_RANGE:
                self._on_out_of_range(pull, response)
            case FetchOutcome.NEW_LOG:
                self._on_new_log(pull, response)
            case FetchOutcome.NOT_LEADER:
                self._wait(pull, response.detail or f"{pull.source_id} does not lead in term {self._state.term}")
            case FetchOutcome.STALE_TERM:
                self._wait(pull, f"{pull.source_id} is in term {response.term} already")
            case FetchOutcome.REFUSED:
                self._complain(pull, WarningKind.PULL_REFUSED, f"{pull.source_id} refused the pull: {response.detail}")
                self._wait(pull, response.detail)
            case _:
                assert_never(response.outcome)

    def _tell_election(self, pull: Pull, response: FetchResponse) -> None:
        """Tell what an answer says of who leads: a later term, another leader, or that this one goes on leading."""
        state, source_id = self._state, pull.source_id
        if state.is_ahead(response.term):
            self._election.tell(HigherTermSeen(response.term, response.leader_id, source_id, response.cluster_id))
        elif response.term == state.term:
            if response.outcome in _OF_A_LEADER:
                now_s = state.ports.clock.monotonic_s()
                if now_s - pull.told_s >= state.config.election_timeout_s / ANSWERS_TOLD_PER_ELECTION_TIMEOUT:
                    pull.told_s = now_s
                    self._election.tell(LeaderAnswered(state.term, source_id, now_s))
            elif response.leader_id not in (None, source_id, state.node_id):
                assert response.leader_id is not None
                self._election.tell(LeaderHinted(state.term, response.leader_id, source_id, response.cluster_id))

    def on_failed(self, failed: CallFailed) -> None:
        pull = self._pulls.get(failed.peer_id)
        if pull is None or failed.request_id not in (pull.request_id, pull.keep_alive_id):
            return
        state = self._state
        pull.connected = False
        if state.elected and failed.is_refused and not pull.was_reported:
            pull.was_reported = True
            self._election.tell(LeaderUnreachable(state.term, pull.source_id))
        # From a leader once more at once: a connection may break though both ends are well.
        retries = state.elected and not failed.is_refused and not pull.was_retried
        pull.was_retried = pull.was_retried or retries
        if failed.request_id == pull.keep_alive_id:
            pull.keep_alive_id = None
            if retries:
                self._keep_alive(pull)
                self._tell_disk(pull)
            return
        pull.request_id = None
        if retries:
            pull.detail = failed.reason
            self._fetch(pull)
        else:
            self._wait(pull, failed.reason)

    def on_retry(self, due: PullRetryDue) -> None:
        pull = self._pulls.get(due.peer_id)
        if pull is not None and pull.timer is not None and pull.waits == due.serial:
            pull.timer = None
            self._fetch(pull)

    # ------------------------------------------------------------ while the log is busy

    def _put_off_keep_alive(self, pull: Pull) -> None:
        """The log is busy with what a fetch brought: after a while tell the leader that this node is still there."""
        state = self._state
        if state.elected and pull.keep_alive_timer is None:
            pull.keep_alives += 1
            pull.keep_alive_timer = state.ports.timers.after(
                state.config.election_timeout_s / 4, state.me, KeepAliveDue(pull.source_id, pull.keep_alives)
            )

    def _stop_keep_alives(self, pull: Pull) -> None:
        if pull.keep_alive_timer is not None:
            pull.keep_alive_timer.cancel()
            pull.keep_alive_timer = None

    def on_keep_alive_due(self, due: KeepAliveDue) -> None:
        pull = self._pulls.get(due.peer_id)
        if pull is not None and pull.keep_alive_timer is not None and pull.keep_alives == due.serial:
            pull.keep_alive_timer = None
            self._keep_alive(pull)

    def _keep_alive(self, pull: Pull) -> None:
        """Send a keep-alive, unless one is under way, or a fetch is or will be."""
        if pull.request_id is None and pull.timer is None:
            self._call(pull)
            self._put_off_keep_alive(pull)

    def _call(self, pull: Pull) -> None:
        """Send a fetch that wants no batches, unless one is under way."""
        if pull.keep_alive_id is None:
            pull.keep_alive_id = next(self._keep_alive_ids)
            self._ask(pull, pull.keep_alive_id, 0, 0.0)

    def _tell_disk(self, pull: Pull) -> None:
        """Tell the leader what is on this node's disk, if no fetch has and the next one cannot yet."""
        if self._state.elected and pull.timer is None and pull.told_index < self._state.end.index:
            self._call(pull)

    def _on_kept_alive(self, pull: Pull, response: FetchResponse) -> None:
        """The leader has answered a keep-alive. What else it says, the next fetch is told as well.

        During a cut its commit position is none for what is still to be cut.
        """
        is_match = response.outcome is FetchOutcome.BATCHES and response.term == self._state.term
        if is_match and not self._is_cutting:
            self._leader_committed = response.committed
            self._on_committed(self._leader_committed)
            self._tell_disk(pull)

    # ------------------------------------------------------------ waiting

    def _wait(self, pull: Pull, detail: str) -> None:
        """Back off exponentially with jitter, so that a cluster does not ask in step.

        A leader is asked sooner: one that comes back shall be found before others take it for lost.
        """
        state = self._state
        config = state.config
        self._stop_keep_alives(pull)
        pull.detail = detail
        pull.failures += 1
        doublings = pull.failures - 1 if state.elected else pull.failures
        longest_s = min(config.pull_backoff_max_s, config.election_timeout_s / 2 if state.elected else inf)
        ceiling_s = min(longest_s, config.pull_backoff_min_s * 2 ** min(doublings, 16))
        pull.waits += 1
        pull.timer = state.ports.timers.after(
            ceiling_s * state.ports.rng.uniform(0.5, 1.0), state.me, PullRetryDue(pull.source_id, pull.waits)
        )

    def _complain(self, pull: Pull, kind: WarningKind, reason: str) -> None:
        if pull.detail != reason:
            pull.detail = reason
            self._state.warn(kind, reason, pull.source_id)

    # ------------------------------------------------------------ what a fetch brought

    def _on_batches(self, pull: Pull, response: FetchResponse) -> None:
        state = self._state
        if state.elected:
            if response.term != state.term:
                self._wait(pull, f"{pull.source_id} answered for term {response.term}")
                return
            self._leader_committed = response.committed
            if not response.batches:
                self._on_committed(self._leader_committed)
                self._fetch(pull)
            else:
                self._append_fetched(pull, response)
            return
        position = self._positions.get(pull.source_id, PullPosition(0, Index(0)))
        self._positions[pull.source_id] = PullPosition(response.log_epoch, position.next_index)
        if not response.batches:
            if position.next_index == response.end.index:
                pull.next_offset = response.end.offset
            self._fetch(pull)
        else:
            self._begin_writing(pull.source_id)
            append = AppendPulled(pull.source_id, response.log_epoch, position.next_index, response.batches, state.me)
            state.store.tell(append)

    def _append_fetched(self, pull: Pull, response: FetchResponse) -> None:
        """Hand what a leader has sent to the store, which says when it has taken it, if there is more to come."""
        state = self._state
        self._begin_writing(pull.source_id)
        pull.taken = None
        is_large = len(response.batches) >= ASKS_ON_FROM_BYTES
        expected = Index(response.end.index + is_large)
        state.store.tell(AppendFetched(pull.source_id, state.term, response.batches, state.me, expected))
        self._put_off_keep_alive(pull)

    def _begin_writing(self, source_id: NodeId) -> None:
        self._writing[source_id] = self._writing.get(source_id, 0) + 1

    def _end_writing(self, source_id: NodeId) -> None:
        """The store has answered for what came from there."""
        writing = self._writing.pop(source_id, 0) - 1
        if writing > 0:
            self._writing[source_id] = writing
        elif source_id in self._pulls:
            self._pulls[source_id].taken = None

    def _is_writing(self, pull: Pull) -> bool:
        return pull.source_id in self._writing

    def _leave_out(self, pull: Pull, response: FetchResponse, reason: str) -> None:
        """Skip the entry that was asked for, like a control batch: nobody can read anything in it.

        Waiting for it would block everything behind it in the source's log for ever. The entry after it is
        asked for after a pause, which grows each time.
        """
        state, source_id = self._state, pull.source_id
        pull.connected = True
        self._complain(pull, WarningKind.ENTRY_LEFT_OUT, reason)
        pull.left_out = reason
        self._wait(pull, reason)
        position = self._positions.get(source_id, PullPosition(0, Index(0)))
        self._begin_writing(source_id)
        behind = Index(position.next_index + 1)
        state.store.tell(AppendPulled(source_id, response.log_epoch, behind, b"", state.me))

    def on_pulled(self, pulled: PulledAppended) -> None:
        state = self._state
        self._end_writing(pulled.source_id)
        self._positions[pulled.source_id] = PullPosition(pulled.source_epoch, pulled.next_index)
        pull = self._pulls.get(pulled.source_id)
        if pull is not None:
            pull.next_offset = pulled.next_offset
        self.duplicates_dropped += pulled.duplicates
        self.expired_dropped += pulled.expired
        if pulled.cycle_count:
            self.cycles_seen += pulled.cycle_count
            broken = state.config.cycle is Cycle.BREAK
            state.observe(CycleSeen(state.node_id, pulled.cycles[0], pulled.cycle_count, broken))
        self._continue(pulled.source_id)

    def on_pull_rejected(self, rejected: PullRejected) -> None:
        self._on_rejected(rejected.source_id, rejected.reason)

    def on_taken(self, taken: FetchedTaken) -> None:
        """The store is about to write what the leader sent, and the leader has more: ask on meanwhile."""
        pull = self._pulls.get(taken.leader_id)
        if pull is not None and taken.term == self._state.term and self._is_writing(pull):
            pull.taken = taken
            self._continue(taken.leader_id)

    def on_fetched(self, fetched: FetchedAppended) -> None:
        self._end_writing(fetched.leader_id)
        if fetched.term == self._state.term:
            self._on_committed(self._leader_committed)
        self._continue(fetched.leader_id)
        if fetched.leader_id in self._pulls:
            self._tell_disk(self._pulls[fetched.leader_id])

    def on_fetched_rejected(self, rejected: FetchedRejected) -> None:
        if rejected.term == self._state.term:
            self._on_rejected(rejected.leader_id, rejected.reason)
        else:
            self._end_writing(rejected.leader_id)
            self._continue(rejected.leader_id)

    def _on_rejected(self, source_id: NodeId, reason: str) -> None:
        self._end_writing(source_id)
        pull = self._pulls.get(source_id)
        if pull is not None:
            self._complain(pull, WarningKind.PULL_NOT_APPENDED, f"what {source_id} sent was not appended: {reason}")
            if pull.request_id is None and pull.timer is None:
                self._wait(pull, pull.detail)

    def _continue(self, source_id: NodeId) -> None:
        pull = self._pulls.get(source_id)
        if pull is not None and pull.request_id is None and pull.timer is None:
            self._fetch(pull)

    def resume(self) -> None:
        """The log was truncated or begun anew: ask for what comes after its new end."""
        self._is_cutting = False
        for source_id in sorted(self._pulls):
            self._continue(source_id)

    # ------------------------------------------------------------ when the logs do not fit

    def _on_diverged(self, pull: Pull, response: FetchResponse) -> None:
        """Drop what the leader does not have (Raft section 5.3), but never what was committed."""
        self._reconcile(pull, response, Diverged(response.diverged, response.diverged_at))

    def _reconcile(self, pull: Pull, response: FetchResponse, answer: Diverged | OutOfRange) -> None:
        state = self._state
        if response.term != state.term or state.role is not Role.FOLLOWER:
            self._wait(pull, f"{pull.source_id} answered for term {response.term}")
            return
        match reconcile(state.extent, state.committed.index, response.start.index, answer):
            case Refuse(index):
                self._complain(pull, WarningKind.KEEPS_ITS_COPY, self._why_not_follow(pull, response, index))
                self._wait(pull, pull.detail)
            case Truncate(index):
                self._warn_of_loss(pull, index)
                self._is_cutting = True
                state.store.tell(TruncateLog(index, state.term, state.me))
                self._put_off_keep_alive(pull)
            case Restart():
                if isinstance(answer, Diverged):
                    self._warn_of_loss(pull, state.start.index)
                else:
                    state.warn(WarningKind.LOG_BEGUN_ANEW, self._why_begin_anew(pull, response), pull.source_id)
                self._is_cutting = True
                state.store.tell(
                    ResetLog(
                        response.start,
                        response.before_start,
                        response.voters_before_start,
                        state.term,
                        state.me,
                        response.producers_before_start,
                    )
                )
                self._put_off_keep_alive(pull)
            case unknown:
                assert_never(unknown)

    def _why_not_follow(self, pull: Pull, response: FetchResponse, index: Index) -> str:
        state, source_id = self._state, pull.source_id
        last = state.extent.last
        has_lost_it = last is not None and last.writer[0] == source_id and last.writer[1] not in (0, response.log_epoch)
        why = (
            f"{source_id} has lost its disk: it has a new log, and it made the last entry here in its old one"
            if has_lost_it
            else f"{source_id} has lost its disk or is of another history"
        )
        return (
            f"the log of leader {source_id} lacks entries from index {index} on that were committed "
            f"(up to {state.committed.index}); {state.node_id} keeps its copy and does not follow. {why}: "
            "let a node that has the data lead"
        )

    def _why_begin_anew(self, pull: Pull, response: FetchResponse) -> str:
        state, source_id, start = self._state, pull.source_id, response.start
        if start.index > state.end.index:
            return (
                f"{source_id} has removed the entries below index {start.index} (offset {start.offset}) that "
                f"{state.node_id} had not copied yet; its log starts again there"
            )
        return (
            f"{source_id} no longer knows which entry stood before its first one, and not all that {state.node_id} "
            f"has is known to be committed: {state.node_id} drops its entries [{state.start.index}, {start.index}), "
            f"and its log starts again at index {start.index}"
        )

    def _warn_of_loss(self, pull: Pull, index: Index) -> None:
        state = self._state
        if index < state.end.index:
            state.warn(
                WarningKind.ENTRIES_DROPPED,
                f"{state.node_id} drops its entries [{index}, {state.end.index}): leader {pull.source_id} does not "
                "have them, and nothing here says that they were committed",
                pull.source_id,
            )

    def _on_out_of_range(self, pull: Pull, response: FetchResponse) -> None:
        state = self._state
        if state.elected:
            if response.start.index >= state.end.index:
                self._reconcile(pull, response, OutOfRange())
            else:
                self._wait(pull, f"{pull.source_id} starts at index {response.start.index}")
            return
        position = self._positions.get(pull.source_id, PullPosition(0, Index(0)))
        nearest = min(max(position.next_index, response.start.index), response.end.index)
        state.warn(
            WarningKind.ENTRIES_SKIPPED,
            f"the log of {pull.source_id} holds entries [{response.start.index}, {response.end.index}); the pull "
            f"stood at {position.next_index} and goes on at {nearest}",
            pull.source_id,
        )
        self._positions[pull.source_id] = PullPosition(response.log_epoch, Index(nearest))
        self._fetch(pull)

    def _on_new_log(self, pull: Pull, response: FetchResponse) -> None:
        state = self._state
        if state.elected:
            self._wait(pull, f"{pull.source_id} answers as if nobody were elected")
            return
        state.warn(
            WarningKind.SOURCE_LOG_REPLACED,
            f"{pull.source_id} has a new log (its data directory was replaced); pulling it from the start",
            pull.source_id,
        )
        self._positions[pull.source_id] = PullPosition(response.log_epoch, response.start.index)
        self._fetch(pull)

    # ------------------------------------------------------------ status

    def statuses(self) -> tuple[PullStatus, ...]:
        return tuple(self._status(self._pulls[source_id]) for source_id in sorted(self._pulls))

    def _status(self, pull: Pull) -> PullStatus:
        state = self._state
        position = self._positions.get(pull.source_id, PullPosition(0, Index(0)))
        next_index = state.end.index if state.elected else position.next_index
        lag = max(0, pull.source_end.index - next_index) if pull.source_end is not None else -1
        next_offset = state.end.offset if state.elected else pull.next_offset
        detail = pull.detail or pull.left_out
        return PullStatus(pull.source_id, next_index, lag, pull.connected, detail, next_offset)

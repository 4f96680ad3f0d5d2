"""Reads of the latest state: those that wait until it is sure what is committed, on the leader and on other nodes.

On the leader a read joins a round (`ourolog.actors.replication.read_rounds`), but not before an entry of the leader's
own term is committed: until then it may not know of all that is. Any other node asks the leader for the index that
such a round confirms, after the read has come, and waits until it has committed that much itself. One question is
under way at a time; reads that come meanwhile wait for the next one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

from ourolog.actors.messages.peer_calls import (
    READ_INDEX_WAIT_S,
    CallAnswer,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    ReadIndexRequest,
    ReadIndexResponse,
)
from ourolog.actors.messages.replicator import (
    ConfirmRead,
    ReadConfirmed,
    ReadIndexDue,
    ReadNotConfirmed,
    ReadsExpired,
)
from ourolog.actors.messages.values import Peer
from ourolog.actors.ports import Timer
from ourolog.actors.replication.commit import why_commit_unknown
from ourolog.actors.replication.read_rounds import ReadRounds
from ourolog.actors.replication.state import ReplicationState, Role
from ourolog.storage.types import Index, NodeId

FIRST_READ_INDEX_ID: Final = 2**32
"""The ids of ReadIndexRequests count up from here: pulls and the search for a leader see the same answers."""

EXPIRY_CHECK_S: Final = 0.25

MAX_FIRST_NUMBER: Final = 2**32

ReadKey = tuple[str, int]
"""Names a read: who asks, "server" or "call", and the id that it came with."""


@dataclass(slots=True)
class _Read:
    """One read that waits.

    deadline_s: when it is given up.
    confirm: tells whoever asked that everything below this index is confirmed.
    refuse: tells them why it is not.
    """

    deadline_s: float
    confirm: Callable[[Index], None]
    refuse: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Question:
    """A ReadIndexRequest under way, and the reads that came before it was sent."""

    leader_id: NodeId
    request_id: int
    reads: tuple[ReadKey, ...]


class LatestReads:
    """The reads of the latest state that wait on this node, its own and those of other nodes that ask it."""

    def __init__(
        self, state: ReplicationState, voters: Callable[[], tuple[NodeId, ...]], wake_fetches: Callable[[], None]
    ) -> None:
        """Prepare for reads.

        voters: gives those whose echoes count now.
        wake_fetches: answers the fetches that wait, if there is news for them.
        """
        self._state = state
        self._voters = voters
        self._wake_fetches = wake_fetches
        self._reads: dict[ReadKey, _Read] = {}
        self._behind: dict[ReadKey, Index] = {}
        self._rounds: ReadRounds[ReadKey] | None = None
        self._is_commit_known = False
        self._dispute = ""
        self._why_nobody = ""
        # Where this node does not lead:
        self._unasked: dict[ReadKey, None] = {}
        self._question: _Question | None = None
        self._request_ids = itertools.count(FIRST_READ_INDEX_ID)
        self._failures = 0
        self._detail = ""
        self._retry: Timer | None = None
        self._serial = 0
        self._expiry_is_due = False

    def __len__(self) -> int:
        """How many reads wait."""
        return len(self._reads)

    # ------------------------------------------------------------ reads come and go

    def on_confirm(self, message: ConfirmRead) -> None:
        """Handle a read of this node."""
        state = self._state

        def confirm(_: Index) -> None:
            message.reply_to.tell(ReadConfirmed(message.request_id, state.committed))

        def refuse(detail: str) -> None:
            message.reply_to.tell(ReadNotConfirmed(message.request_id, detail))

        self._add(("server", message.request_id), message.timeout_s, confirm, refuse)

    def on_asked(self, received: CallReceived[ReadIndexRequest]) -> None:
        """Handle another node's question."""
        state, request = self._state, received.request
        term = state.term

        def answer(response: ReadIndexResponse | CallRefused) -> None:
            received.reply_to.tell(CallAnswer(received.request_id, response))

        def confirm(index: Index) -> None:
            answer(ReadIndexResponse(state.node_id, term, state.node_id, index))

        def refuse(detail: str) -> None:
            answer(ReadIndexResponse(state.node_id, state.term, state.leader_id, None, detail))

        if request.cluster != state.config.cluster:
            answer(
                CallRefused(
                    f"{state.node_id} is of cluster {state.config.cluster!r}, {request.node_id} of {request.cluster!r}"
                )
            )
        elif state.is_of_other_cluster(request.node_id, request.cluster_id):
            answer(CallRefused(state.why_of_other_cluster(request.node_id, request.cluster_id)))
        elif state.role is not Role.LEADER:
            refuse(f"{state.node_id} does not lead")
        elif request.term != term:
            refuse(f"{state.node_id} leads term {term}, and {request.node_id} asked in term {request.term}")
        else:
            self._add(("call", received.request_id), READ_INDEX_WAIT_S, confirm, refuse)

    def forget(self, key: ReadKey) -> None:
        """Nobody waits for this read any more."""
        if self._reads.pop(key, None) is not None:
            self._unasked.pop(key, None)
            self._behind.pop(key, None)
            if self._rounds is not None:
                self._rounds.forget(key)

    def _add(
        self, key: ReadKey, timeout_s: float, confirm: Callable[[Index], None], refuse: Callable[[str], None]
    ) -> None:
        state = self._state
        if (why_never := self._why_never()) != "":
            refuse(why_never)
            return
        self._reads[key] = _Read(state.ports.clock.monotonic_s() + timeout_s, confirm, refuse)
        self._begin(key)
        self._advance()
        if not self._expiry_is_due:
            self._expiry_is_due = True
            state.ports.timers.after(EXPIRY_CHECK_S, state.me, ReadsExpired())

    def _begin(self, key: ReadKey) -> None:
        if self._rounds is not None:
            self._rounds.join(key)
        else:
            self._unasked[key] = None

    def _advance(self) -> None:
        if self._rounds is not None:
            self._advance_rounds()
        else:
            self._ask()

    # ------------------------------------------------------------ what this node is

    def change_role(self) -> None:
        """The role, the term or the leader changed: what was under way proves nothing any more, and begins anew."""
        state = self._state
        self._rounds = None
        state.read_round, state.awaits_echoes = 0, False
        self._is_commit_known = False
        self._unasked.clear()
        self._question = None
        self._failures, self._detail = 0, ""
        self._stop_waiting()
        if state.role is Role.LEADER:
            rng = state.ports.rng
            self._rounds = ReadRounds(state.node_id, lambda: rng.randrange(1, MAX_FIRST_NUMBER))
        why_never = self._why_never()
        for key in list(self._reads):
            if why_never:
                self._refuse(key, why_never)
            elif key[0] == "call":
                self._refuse(key, f"{state.node_id} does not lead that term any more")
            elif key not in self._behind:  # what a leader has confirmed stays true
                self._begin(key)
        if self._reads:
            self._advance()

    def dispute(self, reason: str) -> None:
        """Claims contradict each other, or do not any more: confirm nothing until a person has decided.

        reason: why they do, "" if they do not.
        """
        self._dispute = reason
        self._refuse_all(reason)

    def nobody_leads(self, why: str) -> None:
        """Nobody leads, and that may last: whoever reads is told now, not when their time is up.

        why: why nobody can be elected, "" if that is not known or somebody leads.
        """
        self._why_nobody = why
        self._refuse_all(why)

    def _refuse_all(self, why: str) -> None:
        for key in list(self._reads) if why else ():
            self._refuse(key, why)

    def commit_known(self) -> None:
        """An entry of this leader's own term is committed."""
        self._is_commit_known = True
        self._advance_rounds()

    def recount(self) -> None:
        """The voters changed: other echoes count now."""
        if self._rounds is not None:
            self._rounds.keep(self._voters())
        self._advance_rounds()

    def _why_never(self) -> str:
        """Why no read can be confirmed on this node at present, whatever it waits for; "" if one can."""
        if self._state.role is Role.PEER:
            return "nobody leads here: there is no latest state that all nodes share"
        return self._dispute or self._why_nobody

    # ------------------------------------------------------------ where this node leads

    def on_echo(self, voter: NodeId, number: int) -> None:
        """A fetch of a voter, valid in this term, has arrived with the number that it saw last."""
        if self._rounds is not None:
            self._rounds.echo(voter, number)
            self._advance_rounds()

    def _advance_rounds(self) -> None:
        """End the open round if it is confirmed, and open the next one if a read waits."""
        state, rounds = self._state, self._rounds
        if rounds is None or self._dispute or not self._is_commit_known:
            return
        while True:
            ended = rounds.confirmed(self._voters())
            if ended is not None:
                state.awaits_echoes = False
                index, keys = ended
                for key in keys:
                    self._reads.pop(key).confirm(index)
            if not rounds.open(state.committed.index):
                return
            state.read_round, state.awaits_echoes = rounds.number, True
            self._wake_fetches()

    # ------------------------------------------------------------ where another node leads

    def look_again(self) -> None:
        """The leader's address may have become known: ask it, if a read waits for that."""
        if self._rounds is None and self._retry is None:
            self._ask()

    def on_due(self, due: ReadIndexDue) -> None:
        if self._retry is not None and due.serial == self._serial:
            self._retry = None
            self._ask()

    def on_returned(self, returned: CallReturned[ReadIndexResponse]) -> None:
        """Handle the leader's answer."""
        question, response = self._question, returned.response
        if question is None or (returned.peer_id, returned.request_id) != (question.leader_id, question.request_id):
            return
        self._question = None
        if response.committed is None or response.term != self._state.term:
            detail = response.detail or f"{question.leader_id} answered for term {response.term}"
            self._ask_again(question, detail)
            return
        self._failures, self._detail = 0, ""
        self._behind.update((key, response.committed) for key in question.reads if key in self._reads)
        self.on_committed()
        self._ask()

    def on_failed(self, failed: CallFailed) -> None:
        """Handle a call that failed; ignored if it was none of these."""
        question = self._question
        if question is not None and (failed.peer_id, failed.request_id) == (question.leader_id, question.request_id):
            self._question = None
            self._ask_again(question, failed.reason)

    def on_committed(self) -> None:
        """This node's commit position moved: answer the reads that waited for it."""
        if self._behind:
            committed = self._state.committed.index
            for key in [key for key, index in self._behind.items() if index <= committed]:
                self._reads.pop(key).confirm(self._behind.pop(key))

    def _ask(self) -> None:
        state = self._state
        leader_id = state.leader_id
        addr = state.address_of(leader_id)
        if not self._unasked or self._question is not None or state.role is not Role.FOLLOWER:
            return
        if leader_id is None or addr is None:
            return
        self._stop_waiting()
        self._question = _Question(leader_id, next(self._request_ids), tuple(self._unasked))
        self._unasked.clear()
        request = ReadIndexRequest(state.config.cluster, state.node_id, state.log_epoch, state.term, state.cluster_id)
        state.ports.network.call(Peer(leader_id, addr), self._question.request_id, request, state.me)

    def _ask_again(self, question: _Question, detail: str) -> None:
        """Have these reads wait for another question, after a pause."""
        state, config = self._state, self._state.config
        self._unasked = {key: None for key in question.reads if key in self._reads} | self._unasked
        self._detail = detail
        self._failures += 1
        ceiling_s = min(config.pull_backoff_max_s, config.pull_backoff_min_s * 2 ** min(self._failures, 16))
        self._serial += 1
        self._retry = state.ports.timers.after(
            ceiling_s * state.ports.rng.uniform(0.5, 1.0), state.me, ReadIndexDue(self._serial)
        )

    def _stop_waiting(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    # ------------------------------------------------------------ time is up

    def expire(self) -> None:
        """Give up the reads whose time is up."""
        state = self._state
        self._expiry_is_due = False
        now_s = state.ports.clock.monotonic_s()
        for key, read in list(self._reads.items()):
            if read.deadline_s <= now_s:
                self._refuse(key, self._what_is_missing(key))
        if self._reads:
            self._expiry_is_due = True
            state.ports.timers.after(EXPIRY_CHECK_S, state.me, ReadsExpired())

    def _refuse(self, key: ReadKey, detail: str) -> None:
        read = self._reads[key]
        self.forget(key)
        read.refuse(detail)

    def _what_is_missing(self, key: ReadKey) -> str:
        state, rounds = self._state, self._rounds
        if key in self._behind:
            return (
                f"everything below index {self._behind[key]} is committed, and {state.node_id} has that up to index "
                f"{state.committed.index} only, from {state.leader_id or 'a leader that it does not know'}"
            )
        match state.role:
            case Role.LEADER:
                assert rounds is not None, "a leader has rounds"
                if not self._is_commit_known:
                    return why_commit_unknown(state.node_id, state.term)
                silent = ", ".join(rounds.silent(self._voters()))
                return (
                    f"no majority of the voters has confirmed that {state.node_id} still leads term {state.term}; "
                    f"no word of {silent}"
                )
            case Role.FOLLOWER if state.leader_id is None:
                return f"{state.node_id} knows of no leader in term {state.term}"
            case Role.FOLLOWER if state.address_of(state.leader_id) is None:
                return f"{state.node_id} does not know yet where {state.leader_id} is, which leads term {state.term}"
            case Role.FOLLOWER:
                return self._detail or f"{state.leader_id}, which leads term {state.term}, has not answered yet"
            case Role.STARTING | Role.PEER:
                return f"{state.node_id} is starting"
            case _:
                assert_never(state.role)

"""The decisions of one node, in order: what a rule asks of the disk is done before anything else is decided.

From `SaveThen` until the store has answered whatever else happens waits, since the next decision depends on what is
on disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.rules import Raft, Step
from ourolog.actors.election.raft.steps import Effect, Next, OutwardEffect, ReadEndThen, SaveThen
from ourolog.actors.messages.election import ElectionMessage
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.store import BallotSaved, DescribeLog, LogDescribed, SaveBallot, StoreMessage
from ourolog.actors.ports import Clock
from ourolog.storage.terms import LastEntry

MAX_WAITING_NEWS: Final = 64
"""How much news of terms and leaders waits for the disk; more is dropped, since it is told again."""

Rule = Callable[[Raft], Step]
"""A rule with all that it is told besides the state."""


class Decisions:
    """The state of one node in the election, and the only place where it changes.

    raft: the state; None until the first step is applied, and after `end`.
    """

    def __init__(
        self,
        store: Mailbox[StoreMessage],
        me: Mailbox[ElectionMessage],
        next_id: Callable[[], int],
        clock: Clock,
        carry_out: Callable[[OutwardEffect], None],
    ) -> None:
        """Prepare without a state.

        me: where the store's answers go, to come back by `saved` and `described`.
        next_id: a fresh request id of the election.
        carry_out: does what a rule asks of anybody but the store.
        """
        self.raft: Raft | None = None
        self._store = store
        self._me = me
        self._next_id = next_id
        self._clock = clock
        self._carry_out_elsewhere = carry_out
        self._saving: tuple[int, SaveThen] | None = None
        self._waiting: deque[Rule] = deque()
        self._reading: dict[int, Next] = {}

    @property
    def state(self) -> Raft:
        assert self.raft is not None, "nothing is decided before the log is open"
        return self.raft

    @property
    def now_s(self) -> float:
        """The time of a decision that is made now, by the monotonic clock."""
        return self._clock.monotonic_s()

    def decide(self, rule: Rule, *, is_news: bool = False) -> None:
        """Apply a rule, now or once the disk has answered.

        is_news: whether it may be dropped, since it will be told again.
        """
        if self.raft is None or (is_news and len(self._waiting) >= MAX_WAITING_NEWS):
            return
        if self._saving is None:
            self.apply(rule(self.raft))
        else:
            self._waiting.append(rule)

    def apply(self, step: Step) -> None:
        """Go to that state, and do what follows from it.

        Called from outside for what saves nothing: it does not wait until the disk has answered.
        """
        self.raft, effects = step
        for effect in effects:
            self._carry_out(effect)

    def end(self) -> None:
        """Decide nothing any more."""
        self.raft, self._saving = None, None
        self._waiting.clear()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case SaveThen():
                assert self._saving is None, "one decision at a time waits for the disk"
                request_id = self._next_id()
                self._saving = (request_id, effect)
                self._store.tell(SaveBallot(request_id, effect.ballot, self._me, effect.candidate))
            case ReadEndThen():
                request_id = self._next_id()
                self._reading[request_id] = effect.then
                self._store.tell(DescribeLog(request_id, self._me))
            case _:
                self._carry_out_elsewhere(effect)

    # ------------------------------------------------------------ the disk answers

    def saved(self, saved: BallotSaved) -> None:
        """The store has answered: go on from what is on disk, and with what has waited for that."""
        assert self._saving is not None, "the store answers what it was asked"
        request_id, save = self._saving
        assert saved.request_id == request_id, "one save at a time"
        self._saving = None
        last, granted = LastEntry.of(saved.last, saved.end.index), saved.granted
        self.apply(rules.written(self.state, saved.ballot, last, save.then, is_granted=granted, now_s=self.now_s))
        while self._waiting and self._saving is None:
            self.apply(self._waiting.popleft()(self.state))

    def described(self, described: LogDescribed) -> None:
        """The store has said where the log ends, maybe because a rule has asked."""
        then = self._reading.pop(described.request_id, None)
        if then is not None:
            last = LastEntry.of(described.last, described.end.index)
            self.decide(lambda raft: rules.end_read(raft, last, then, self.now_s))

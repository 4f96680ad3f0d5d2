"""When a client tries again, how long it waits before, and what it says when it gives up."""

from __future__ import annotations

import random
from typing import Final

from ourolog.rpc.client_errors import LogError

# While a leader is looked for. An election takes a fraction of a second, and a client that waits costs more than one
# that asks.
FIRST_SEARCH_WAIT_S: Final = 0.05
MAX_SEARCH_WAIT_S: Final = 0.25
_SEARCH_GROWTH: Final = 1.5
# For a node that has too much to do, or that answers nonsense.
_FIRST_BUSY_WAIT_S: Final = 0.05
_MAX_BUSY_WAIT_S: Final = 1.0
_BUSY_GROWTH: Final = 2.0
# Waits are spread, so that many clients of one leader do not come back together.
_LEAST_OF_WAIT: Final = 0.6
# With less time than this an attempt would only leave the outcome unknown.
LEAST_ATTEMPT_S: Final = 0.02
# A node says that a produce was not acknowledged in time when so much of the call's time is left at the most. What it
# says then, that of so short another attempt would only hide.
_LEFT_WHEN_TIMED_OUT_S: Final = 0.5

# Where nobody leads, only some nodes know what is missing.
_OTHERS_MAY_KNOW_WHY: Final = {"LEADER_UNKNOWN", "NOT_CONFIRMED"}
_SEARCHING: Final = {"UNAVAILABLE", "ABORTED", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED"}


class Attempts:
    """The attempts of one call, or those of a stream since it last worked.

    give_up_at_s: until when they may last, by the loop's clock.
    """

    def __init__(self, now_s: float, timeout_s: float) -> None:
        self.give_up_at_s = now_s + timeout_s
        self._search_wait_s = FIRST_SEARCH_WAIT_S
        self._busy_wait_s = _FIRST_BUSY_WAIT_S
        self._refusal: LogError | None = None
        self._before = ""
        self._said: dict[tuple[str, str], str] = {}
        self._unreachable: dict[str, None] = {}
        self._why_unknown = ""

    def left_s(self, now_s: float) -> float:
        """How much time is left."""
        return max(0.0, self.give_up_at_s - now_s)

    def note(self, failure: LogError) -> None:
        """An attempt has failed so. What it says is completed by what those before it have shown."""
        said = str(failure)
        if failure.code == "DEADLINE_EXCEEDED" and self._before:
            failure.args = (f"{said}; before that: {self._before}",)
        else:
            self._before = said
        if failure.reason:
            self._refusal = failure
            self._said[failure.reason, failure.addr] = said
        if failure.never_sent:
            self._unreachable[failure.addr] = None
        if failure.outcome_unknown:
            self._why_unknown = str(failure)

    def wait_s(self, failure: LogError, now_s: float, *, is_same_node: bool) -> float | None:
        """How long to wait before the next attempt; None if it would come too late.

        is_same_node: whether the node that has failed so is asked again.
        """
        if failure.reason == "TIMED_OUT" and self.left_s(now_s) <= _LEFT_WHEN_TIMED_OUT_S:
            return None
        if failure.code in _SEARCHING:
            most_s = self._search_wait_s
            self._search_wait_s = min(most_s * _SEARCH_GROWTH, MAX_SEARCH_WAIT_S)
        else:
            most_s = self._busy_wait_s
            self._busy_wait_s = min(most_s * _BUSY_GROWTH, _MAX_BUSY_WAIT_S)
        wait_s = most_s * random.uniform(_LEAST_OF_WAIT, 1.0)  # noqa: S311  # no secret
        if is_same_node and failure.retry_after_s is not None:
            wait_s = max(wait_s, failure.retry_after_s)
        return wait_s if now_s + wait_s + LEAST_ATTEMPT_S < self.give_up_at_s else None

    def conclusion(self, failure: LogError) -> LogError:
        """The error to raise after this one, the last: a node's own word is worth more than that another is silent."""
        refusal = self._refusal
        if failure.reason in _OTHERS_MAY_KNOW_WHY:
            others = dict.fromkeys(said for (reason, _), said in self._said.items() if reason == failure.reason)
            failure.args = ("; ".join(dict.fromkeys((str(failure), *others))),)
        if self._why_unknown:
            failure.outcome_unknown = True
            if self._why_unknown not in str(failure):
                failure.args = (f"{failure}; before that: {self._why_unknown}",)
        elif refusal is not None and refusal is not failure and not failure.reason:
            refusal.args = (f"{refusal}; {failure}" if str(refusal) not in str(failure) else str(failure),)
            return refusal
        elif failure.never_sent and len(self._unreachable) > 1:
            failure.args = (f"none of {', '.join(self._unreachable)} can be reached; the last: {failure}",)
        return failure

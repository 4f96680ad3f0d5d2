"""When a client tries again, and what it says in the end."""

from __future__ import annotations

import itertools

import pytest

from ourolog.rpc.client_attempts import Attempts
from ourolog.rpc.client_errors import LogError, never_connected
from ourolog.rpc.errors import OUTCOME_UNKNOWN


def refused(
    reason: str, message: str = "not now", code: str = "UNAVAILABLE", retry_after_s: float | None = None
) -> LogError:
    failure = LogError(message, code, addr="n1:1")
    failure.reason = reason
    failure.retry_after_s = retry_after_s
    return failure


def waits(attempts: Attempts, failure: LogError, count: int, *, is_same_node: bool = False) -> list[float]:
    found = [attempts.wait_s(failure, 0.0, is_same_node=is_same_node) for _ in range(count)]
    return [wait_s for wait_s in found if wait_s is not None]


def test_while_a_leader_is_looked_for_waits_begin_short_and_stay_short() -> None:
    for failure in (
        refused("LEADER_UNKNOWN"),
        refused("NOT_LEADER", code="FAILED_PRECONDITION"),
        never_connected("a:1", 1),
    ):
        found = waits(Attempts(0.0, 1000.0), failure, 50)
        assert 0.02 <= found[0] <= 0.05
        assert all(0.02 <= wait_s <= 0.25 for wait_s in found)
        assert max(found[20:]) - min(found[20:]) > 0.01, "clients must not come back together"


def test_a_busy_node_is_given_more_time_each_time_and_what_it_asks_for() -> None:
    failure = refused("OVERLOADED", code="RESOURCE_EXHAUSTED", retry_after_s=0.3)
    found = waits(Attempts(0.0, 1000.0), failure, 20, is_same_node=True)
    assert min(found) >= 0.3
    assert max(found) > 0.5


def test_how_long_one_node_wants_to_be_left_alone_says_nothing_of_another() -> None:
    failure = refused("LEADER_UNKNOWN", retry_after_s=60.0)
    assert waits(Attempts(0.0, 1000.0), failure, 1, is_same_node=True)[0] == 60.0
    assert waits(Attempts(0.0, 1000.0), failure, 1, is_same_node=False)[0] <= 0.05


@pytest.mark.parametrize("left_s", [0.0, 0.01, 0.03])
def test_an_attempt_for_which_no_time_is_left_is_not_made(left_s: float) -> None:
    assert Attempts(5.0, left_s).wait_s(refused("LEADER_UNKNOWN"), 5.0, is_same_node=False) is None


def test_what_a_node_says_of_the_whole_time_is_not_hidden_by_an_attempt_in_what_is_left_of_it() -> None:
    attempts = Attempts(0.0, 30.0)
    failure = refused("TIMED_OUT", code="DEADLINE_EXCEEDED")
    assert attempts.wait_s(failure, 29.5, is_same_node=True) is None
    assert attempts.wait_s(failure, 20.0, is_same_node=True) is not None, "others wait for longer"
    assert attempts.wait_s(refused("LEADER_UNKNOWN"), 29.5, is_same_node=True) is not None


def test_what_a_node_has_said_is_not_hidden_by_one_that_is_silent() -> None:
    attempts = Attempts(0.0, 1.0)
    for failure in (
        refused("LEADER_UNKNOWN", "2 of 3 voters are missing: n1 and n3"),
        last := never_connected("n1:1", 0.3),
    ):
        attempts.note(failure)
    told = attempts.conclusion(last)
    assert (told.reason, told.outcome_unknown) == ("LEADER_UNKNOWN", False)
    assert str(told).startswith("2 of 3 voters are missing: n1 and n3; cannot reach n1:1")


def test_where_nobody_leads_what_one_node_knows_of_it_is_not_hidden_by_one_that_knows_nothing() -> None:
    attempts = Attempts(0.0, 1.0)
    told = refused("LEADER_UNKNOWN", "2 of 3 voters are missing: n1 and n3")
    told.addr = "n2:1"
    for failure in (told, refused("LEADER_UNKNOWN", "n1 is asking"), last := refused("LEADER_UNKNOWN", "n1 waits")):
        attempts.note(failure)
    assert str(attempts.conclusion(last)) == "n1 waits; 2 of 3 voters are missing: n1 and n3"


def test_a_time_that_is_over_names_what_was_wrong_before_and_names_it_once() -> None:
    attempts = Attempts(0.0, 1.0)
    attempts.note(refused("LEADER_UNKNOWN", "2 of 3 voters are missing"))
    for _ in range(3):
        late = LogError("n2:1 did not answer in time", "DEADLINE_EXCEEDED", addr="n2:1")
        attempts.note(late)
    assert str(attempts.conclusion(late)) == "n2:1 did not answer in time; before that: 2 of 3 voters are missing"


def test_once_a_record_may_be_stored_no_later_failure_says_that_it_is_not() -> None:
    attempts = Attempts(0.0, 1.0)
    attempts.note(LogError(f"broke. {OUTCOME_UNKNOWN}", "UNAVAILABLE", addr="n1:1", outcome_unknown=True))
    attempts.note(refusal := refused("LEADER_UNKNOWN"))
    assert attempts.conclusion(refusal).outcome_unknown


def test_why_it_is_unknown_is_not_hidden_by_a_node_that_cannot_be_reached() -> None:
    attempts = Attempts(0.0, 1000.0)
    lost = refused("DEPOSED", f"the lead was lost. {OUTCOME_UNKNOWN}", "ABORTED")
    lost.outcome_unknown = True
    attempts.note(lost)
    unreachable = never_connected("b:1", 1)
    attempts.note(unreachable)
    error = attempts.conclusion(unreachable)
    assert error.outcome_unknown
    assert "cannot reach b:1" in str(error)
    assert str(error).endswith(f"; before that: the lead was lost. {OUTCOME_UNKNOWN}")
    assert str(attempts.conclusion(unreachable)) == str(error), "said once"


def test_when_no_node_can_be_reached_all_are_named() -> None:
    attempts = Attempts(0.0, 1.0)
    for addr in itertools.islice(itertools.cycle(("n1:1", "n2:1")), 5):
        attempts.note(failure := never_connected(addr, 0.3))
    assert str(attempts.conclusion(failure)).startswith(
        "none of n1:1, n2:1 can be reached; the last: cannot reach n1:1"
    )

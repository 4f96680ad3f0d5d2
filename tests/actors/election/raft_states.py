"""States of Raft in which everything is set, and what follows from them again and again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ourolog.actors.election.raft.rules import Raft, Role
from ourolog.actors.election.raft.steps import Answer, Effect, StopWaiting, TimerName, Wait
from ourolog.actors.terms import MAX_TERM_STEP
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch_limits import LIMIT
from ourolog.storage.types import Term
from tests.raft_requests import N1, N2, N3, N4, N5, ballot, last

THREE, FIVE = (N1, N2, N3), (N1, N2, N3, N4, N5)

NOW = 100.0

FAR = 5 + 2 * MAX_TERM_STEP
"""A term that takes more than one message to reach."""

LAST_TERM = LIMIT - MAX_TERM_STEP

BEYOND = LAST_TERM + 1
"""A term that no node believes."""

ROLES = tuple(Role)

STANDS_LATER = Wait(TimerName.ELECTION, 2.0, 2.4)

STANDS_AGAIN = Wait(TimerName.ELECTION, 0.24, 0.8)
"""After the third canvass in a row that came to nothing."""

WAITS_FOR_VOTES = Wait(TimerName.CANVASS, 1.2, 2.4)
"""After two canvasses that came to nothing."""

LOOKS_AGAIN = Wait(TimerName.LEAD, 0.5, 0.5)

NO_MORE_VOTES = StopWaiting(TimerName.CANVASS)

NO_MORE_LOOKS = StopWaiting(TimerName.LEAD)

BALLOTS = {
    Role.UNATTACHED: ballot(5),
    Role.FOLLOWER: ballot(5, leader=N2),
    Role.PROSPECTIVE: ballot(5, leader=N2),
    Role.CANDIDATE: ballot(5, N1),
    Role.LEADER: ballot(5, N1, N1),
}


def full(role: Role, **changes: Any) -> Raft:
    """Node n1 of three, two seconds of timeout, in a state that leaves nothing at its default.

    It heard of its leader too long ago to hold on to it.
    """
    fields: dict[str, Any] = {
        "ballot": BALLOTS[role],
        "heard_s": NOW - 2.5,
        "canvass": 7,
        "last": last(4, 9),
        "granted": frozenset({N1}),
        "refused": frozenset({N3}),
        "unheard": {N4: "n4 says why"},
        "failures": 2,
        "gave_way_in": Term(3),
        "fetched": {N2: NOW - 0.1},
        "led_since_s": NOW - 9.0,
        "leaves": True,
        **changes,
    }
    return replace(Raft(N1, 2.0, THREE, role=role), **fields)


def entered(state: Raft, to: Ballot, role: Role, **changes: Any) -> Raft:
    """All that is forgotten where a later term, or who leads in this one, is entered."""
    return replace(
        state,
        ballot=to,
        role=role,
        heard_s=None,
        has_given_up=False,
        canvass=8,
        granted=frozenset(),
        refused=frozenset(),
        unheard={},
        failures=0,
        fetched={},
        leaves=False,
        **changes,
    )


def refused(why_not: str) -> tuple[Effect, ...]:
    return (Answer(1, is_granted=False, why_not=why_not),)

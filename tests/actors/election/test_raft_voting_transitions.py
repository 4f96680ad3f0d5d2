"""Transitions of Raft whole, as in test_raft_transitions.py: who is asked for its vote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.rules import Raft, Role
from ourolog.actors.election.raft.steps import (
    Announce,
    Answer,
    AnswerVote,
    Effect,
    ReadEndThen,
    SaveThen,
    TimerName,
    Wait,
)
from ourolog.actors.messages.peer_calls import VoteRequest
from ourolog.actors.terms import MAX_TERM_STEP
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import NodeId, Term
from tests.actors.election.raft_states import (
    BEYOND,
    FAR,
    NO_MORE_LOOKS,
    NO_MORE_VOTES,
    NOW,
    ROLES,
    STANDS_LATER,
    entered,
    full,
    refused,
)
from tests.raft_requests import N2, N3, ballot, last, vote

# ---------------------------------------------------------------- 5.2 and 5.4.1 elections: voting


def test_a_vote_is_asked_of_the_store() -> None:
    for role in ROLES:
        state, request = full(role), vote(6, last(4, 9))
        asked = (SaveThen(ballot(6, N2), AnswerVote(1, request), last(4, 9)),)
        assert rules.vote_asked(state, 1, request, NOW) == (state, asked)
    far = vote(FAR, last(4, 9))
    state = full(Role.FOLLOWER)
    asked = (SaveThen(ballot(5 + MAX_TERM_STEP), AnswerVote(1, far)),)
    assert rules.vote_asked(state, 1, far, NOW) == (state, asked)


@pytest.mark.parametrize(
    ("state", "request_", "why_not"),
    [
        (full(Role.UNATTACHED), vote(4, last(3, 9)), "n1 is in term 5"),
        (full(Role.UNATTACHED), vote(BEYOND, last(3, 9)), "n1 is in term 5"),
        (
            full(Role.UNATTACHED),
            vote(6, last(6, 9)),
            "a log that ends in term 6 belongs to no candidate of term 6",
        ),
        (full(Role.FOLLOWER, heard_s=NOW), vote(6, last(4, 9)), "n1 has heard of leader n2 within 2 s"),
        (full(Role.LEADER, leaves=False), vote(6, last(4, 9)), "n1 has heard of leader n1 within 2 s"),
        (
            full(Role.LEADER, leaves=False),
            vote(6, last(4, 9), by_leave=True),
            "n1 has heard of leader n1 within 2 s",
        ),
        (full(Role.UNATTACHED, ballot=ballot(5, N3)), vote(5, last(4, 9)), "n1 has voted for n3 in term 5"),
        (full(Role.CANDIDATE), vote(5, last(4, 9)), "n1 has voted for n1 in term 5"),
        (full(Role.FOLLOWER), vote(5, last(4, 9), N3), "n2 leads term 5"),
    ],
)
def test_no_vote(state: Raft, request_: VoteRequest, why_not: str) -> None:
    assert rules.vote_asked(state, 1, request_, NOW) == (state, refused(why_not))


def test_a_vote_in_the_present_term() -> None:
    for state in (full(Role.UNATTACHED), full(Role.UNATTACHED, ballot=ballot(5, N2)), full(Role.FOLLOWER)):
        request = vote(5, last(4, 9))
        asked = (SaveThen(ballot(5, N2), AnswerVote(1, request), last(4, 9)),)
        assert rules.vote_asked(state, 1, request, NOW) == (state, asked)


def test_a_vote_that_the_store_has_given() -> None:
    for role in ROLES:
        state, request = full(role), vote(6, last(4, 9))
        step = rules.written(state, ballot(6, N2), last(4, 9), AnswerVote(1, request), is_granted=True, now_s=NOW)
        effects: tuple[Effect, ...] = (Announce(Term(6), None), NO_MORE_VOTES, NO_MORE_LOOKS, STANDS_LATER)
        given = (Answer(1, is_granted=True), STANDS_LATER)
        assert step == (entered(state, ballot(6, N2), Role.UNATTACHED), (*effects, *given))
    # One in the present term changes nothing else.
    state, request = full(Role.UNATTACHED), vote(5, last(4, 9))
    step = rules.written(state, ballot(5, N2), last(4, 9), AnswerVote(1, request), is_granted=True, now_s=NOW)
    assert step == (replace(state, ballot=ballot(5, N2)), given)


def test_a_vote_that_the_store_has_refused() -> None:
    why = refused("the log of n1 reaches further: to index 10 in term 4")
    state, request = full(Role.UNATTACHED, heard_s=None), vote(6, last(4, 9))
    step = rules.written(state, ballot(6), last(4, 10), AnswerVote(1, request), is_granted=False, now_s=NOW)
    effects = (Announce(Term(6), None), NO_MORE_VOTES, NO_MORE_LOOKS, *why)
    assert step == (entered(state, ballot(6), Role.UNATTACHED), effects)
    # What stands there, the candidate's name included, is no vote for this disk of the candidate's.
    other = VoterKey(N2.node_id, 99)
    for to, is_granted in ((ballot(5, other), True), (ballot(5, N2), False), (ballot(5), True)):
        then = AnswerVote(1, vote(5, last(4, 9)))
        step = rules.written(state, to, last(4, 10), then, is_granted=is_granted, now_s=NOW)
        assert step == (replace(state, ballot=to), why)


# ---------------------------------------------------------------- KIP-996: pre-votes


@pytest.mark.parametrize(
    ("state", "term", "why_not"),
    [
        (full(Role.LEADER), 5, "n1 leads term 5"),
        (full(Role.LEADER, leaves=False), 6, "n1 leads term 5"),
        (full(Role.FOLLOWER, heard_s=NOW), 5, "n1 has heard of leader n2 within 2 s"),
        (full(Role.FOLLOWER, heard_s=NOW), 6, "n1 has heard of leader n2 within 2 s"),
        (full(Role.FOLLOWER), 4, "n1 is in term 5"),
        (full(Role.FOLLOWER), BEYOND, "n1 is in term 5"),
    ],
)
def test_no_pre_vote(state: Raft, term: int, why_not: str) -> None:
    request = vote(term, last(3, 9), is_pre_vote=True)
    assert rules.vote_asked(state, 1, request, NOW) == (state, refused(why_not))
    assert rules.end_read(state, last(3, 9), AnswerVote(1, request), NOW) == (state, refused(why_not))


def test_a_pre_vote_of_a_later_term() -> None:
    for role in ROLES:
        for term, to in ((6, ballot(6)), (FAR, ballot(5 + MAX_TERM_STEP))):
            state, request = full(role), vote(term, last(4, 9), is_pre_vote=True)
            asked = (SaveThen(to, AnswerVote(1, request)),)
            assert rules.vote_asked(state, 1, request, NOW) == (state, asked)
        request = vote(6, last(4, 9), is_pre_vote=True)
        effects: tuple[Effect, ...] = (Announce(Term(6), None), NO_MORE_VOTES, NO_MORE_LOOKS, STANDS_LATER)
        for own, given in (
            (last(4, 9), (Answer(1, is_granted=True),)),
            (last(4, 10), refused("the log of n1 reaches further: to index 10 in term 4")),
        ):
            step = rules.written(state, ballot(6), own, AnswerVote(1, request), is_granted=True, now_s=NOW)
            assert step == (entered(state, ballot(6), Role.UNATTACHED), (*effects, *given))


def test_a_pre_vote_of_the_present_term_changes_nothing() -> None:
    request = vote(5, last(4, 9), is_pre_vote=True)
    for role in (Role.UNATTACHED, Role.FOLLOWER, Role.CANDIDATE):
        state = full(role)
        assert rules.vote_asked(state, 1, request, NOW) == (state, (ReadEndThen(AnswerVote(1, request)),))
        for own, given in (
            (last(4, 9), (Answer(1, is_granted=True),)),
            (last(5, 1), refused("the log of n1 reaches further: to index 1 in term 5")),
        ):
            assert rules.end_read(state, own, AnswerVote(1, request), NOW) == (state, given)


@pytest.mark.parametrize(
    ("its_end", "by", "changes", "gives_way"),
    [
        (last(4, 10), N2, {}, True),
        (last(4, 9), N2, {}, True),
        (last(4, 9), VoterKey(NodeId("n0"), 1), {}, False),
        (last(4, 8), N2, {}, False),
        (last(4, 10), N2, {"last": None}, False),
        (last(4, 10), N2, {"gave_way_in": Term(5)}, False),
    ],
)
def test_of_two_that_stand_at_once(
    its_end: LastEntry, by: VoterKey, changes: dict[str, Any], *, gives_way: bool
) -> None:
    request = vote(5, its_end, by, is_pre_vote=True)
    read = ReadEndThen(AnswerVote(1, request))
    for to, role in ((ballot(5, leader=N2), Role.FOLLOWER), (ballot(5), Role.UNATTACHED)):
        state = full(Role.PROSPECTIVE, ballot=to, **changes)
        step = rules.vote_asked(state, 1, request, NOW)
        if gives_way:
            after = replace(state, role=role, canvass=8, gave_way_in=Term(5))
            assert step == (after, (NO_MORE_VOTES, Wait(TimerName.ELECTION, 0.1, 0.2), read))
        else:
            assert step == (state, (read,))

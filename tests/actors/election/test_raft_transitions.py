"""Every transition of Raft whole: from a state in which everything is set to all of the next one, and all its effects.

test_raft_rules.py says what each rule is for. Here nothing goes unseen that a rule forgets, keeps or does besides.
"""

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
    AskForVotes,
    Effect,
    Enter,
    FollowCaller,
    Lead,
    PreVoteCanvass,
    ReadEndThen,
    SaveThen,
    Shout,
    Stand,
    StopWaiting,
    TellLead,
    TellLeave,
    TimerName,
    Wait,
)
from ourolog.actors.messages.peer_calls import VoteRequest
from ourolog.actors.terms import MAX_TERM_STEP
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch_limits import LIMIT
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import NodeId, Term
from tests.raft_requests import N1, N2, N3, N4, N5, answer, ballot, begins, ends, last, vote

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


# ---------------------------------------------------------------- what is known


def test_a_leader_names_itself_and_who_only_led_names_nobody() -> None:
    for role in ROLES:
        by_itself = full(role, ballot=ballot(5, N1, N1))
        assert by_itself.leader_id == (N1.node_id if role is Role.LEADER else None)
        assert full(role, ballot=ballot(5, leader=N2)).leader_id == N2.node_id
        assert full(role, ballot=ballot(5, leader=N2), has_given_up=True).leader_id is None


def test_half_of_the_voters_are_no_majority_and_nobody_else_counts() -> None:
    four = full(Role.CANDIDATE, voters=(N1, N2, N3, N4))
    assert not four.is_majority({N1, N2, N5})
    assert four.is_majority({N1, N2, N3})
    assert not full(Role.CANDIDATE, voters=()).is_majority({N1})


def test_who_holds_on_to_a_leader() -> None:
    for role, heard_s, is_sticky in (
        (Role.FOLLOWER, NOW - 1.9, True),
        (Role.FOLLOWER, NOW - 2.0, False),
        (Role.FOLLOWER, None, False),
        (Role.PROSPECTIVE, NOW - 1.9, True),
        (Role.UNATTACHED, NOW - 1.9, False),
        (Role.CANDIDATE, NOW - 1.9, False),
    ):
        assert full(role, heard_s=heard_s).is_sticky(NOW) is is_sticky
    assert not full(Role.FOLLOWER, heard_s=NOW, has_given_up=True).is_sticky(NOW)
    assert full(Role.LEADER, leaves=False).is_sticky(NOW)
    assert not full(Role.LEADER, leaves=True, heard_s=NOW).is_sticky(NOW)


# ---------------------------------------------------------------- 5.1 terms


@pytest.mark.parametrize(
    ("voters", "to", "role", "leader", "wait"),
    [
        (THREE, ballot(0), Role.UNATTACHED, None, Wait(TimerName.ELECTION, 0.0, 0.6)),
        (THREE, ballot(3), Role.UNATTACHED, None, STANDS_LATER),
        (THREE, ballot(3, N3, N2), Role.FOLLOWER, N2, STANDS_LATER),
        (THREE, ballot(3, N1, N1), Role.UNATTACHED, None, STANDS_LATER),
        ((N1,), ballot(0), Role.UNATTACHED, None, Wait(TimerName.ELECTION, 0.0, 0.0)),
        ((N1,), ballot(3, N1, N1), Role.UNATTACHED, None, Wait(TimerName.ELECTION, 0.0, 0.0)),
    ],
)
def test_opened(voters: tuple[VoterKey, ...], to: Ballot, role: Role, leader: VoterKey | None, wait: Wait) -> None:
    leader_id = leader.node_id if leader else None
    expected = (Raft(N1, 2.0, voters, to, role), (Announce(to.term, leader_id), wait))
    assert rules.opened(N1, 2.0, voters, to) == expected


@pytest.mark.parametrize("role", ROLES)
def test_a_later_term(role: Role) -> None:
    state = full(role)
    for term in (4, 5, BEYOND):
        assert rules.higher_term(state, Term(term), N3.node_id) == (state, ())
    for term, leader, to in (
        (6, None, ballot(6)),
        (6, N3, ballot(6, leader=N3)),
        (6, N1, ballot(6)),
        (FAR, N3, ballot(5 + MAX_TERM_STEP)),
    ):
        leader_id = leader.node_id if leader else None
        assert rules.higher_term(state, Term(term), leader_id) == (state, (SaveThen(to, Enter()),))


@pytest.mark.parametrize("role", ROLES)
def test_a_later_term_on_disk(role: Role) -> None:
    state = full(role, has_given_up=True)
    for to, after, leader_id in (
        (ballot(6), Role.UNATTACHED, None),
        (ballot(6, leader=N3), Role.FOLLOWER, N3.node_id),
    ):
        step = rules.written(state, to, last(4, 9), Enter(), is_granted=True, now_s=NOW)
        effects = (Announce(Term(6), leader_id), NO_MORE_VOTES, NO_MORE_LOOKS, STANDS_LATER)
        assert step == (entered(state, to, after), effects)


@pytest.mark.parametrize("role", ROLES)
def test_a_later_term_puts_off_nobody_who_misses_a_leader(role: Role) -> None:
    state = full(role, heard_s=None)
    _, effects = rules.written(state, ballot(6), last(4, 9), Enter(), is_granted=True, now_s=NOW)
    waits_on = role in (Role.UNATTACHED, Role.FOLLOWER)
    assert effects == (
        Announce(Term(6), None),
        NO_MORE_VOTES,
        NO_MORE_LOOKS,
        *(() if waits_on else (STANDS_LATER,)),
    )
    _, effects = rules.written(state, ballot(6, leader=N3), last(4, 9), Enter(), is_granted=True, now_s=NOW)
    assert effects[-1] == STANDS_LATER


def test_a_leader_of_the_present_term_on_disk() -> None:
    state = full(Role.UNATTACHED, heard_s=None)
    to = ballot(5, leader=N3)
    step = rules.written(state, to, last(4, 9), Enter(), is_granted=True, now_s=NOW)
    effects = (Announce(Term(5), N3.node_id), NO_MORE_VOTES, NO_MORE_LOOKS, STANDS_LATER)
    assert step == (replace(entered(state, to, Role.FOLLOWER), failures=2), effects)


# ---------------------------------------------------------------- 5.2 elections: standing


def test_the_election_timer_means_something_only_to_who_waits_for_a_leader() -> None:
    for role in (Role.PROSPECTIVE, Role.CANDIDATE, Role.LEADER):
        assert rules.election_timed_out(full(role), NOW) == (full(role), ())
    state = full(Role.FOLLOWER, heard_s=NOW - 0.5)
    again = Wait(TimerName.ELECTION, 1.5, 1.5 + (rules.STAND[1] - rules.STAND[0]) * 2.0)
    assert rules.election_timed_out(state, NOW) == (state, (again,))


@pytest.mark.parametrize("role", [Role.UNATTACHED, Role.FOLLOWER])
def test_a_canvass_for_pre_votes(role: Role) -> None:
    state = full(role)
    asking = replace(
        state, role=Role.PROSPECTIVE, canvass=8, last=None, granted=frozenset({N1}), refused=frozenset(), unheard={}
    )
    step = rules.election_timed_out(replace(state, granted=frozenset({N2})), NOW)
    assert step == (asking, (ReadEndThen(PreVoteCanvass(8)), WAITS_FOR_VOTES))
    step = rules.end_read(asking, last(4, 10), PreVoteCanvass(8), NOW)
    assert step == (replace(asking, last=last(4, 10)), (AskForVotes(last(4, 10), is_pre_vote=True),))


def test_votes_are_waited_for_twice_as_long_each_time_and_not_for_ever() -> None:
    for failures, low, high in ((0, 0.3, 0.6), (1, 0.6, 1.2), (2, 1.2, 2.4), (3, 2.0, 4.0), (5_000, 2.0, 4.0)):
        _, effects = rules.election_timed_out(full(Role.FOLLOWER, failures=failures), NOW)
        assert effects[1:] == (Wait(TimerName.CANVASS, low, high),)


def test_the_end_of_the_log_comes_too_late_for_a_canvass_that_is_over() -> None:
    for role in ROLES:
        number = 6 if role is Role.PROSPECTIVE else 7
        assert rules.end_read(full(role), last(4, 10), PreVoteCanvass(number), NOW) == (full(role), ())


def test_a_voter_alone_needs_nobodys_pre_vote() -> None:
    state = full(Role.PROSPECTIVE, voters=(N1,))
    step = rules.end_read(state, last(4, 10), PreVoteCanvass(7), NOW)
    effects = (SaveThen(ballot(6, N1), Stand()), StopWaiting(TimerName.ELECTION))
    assert step == (replace(state, last=last(4, 10)), effects)


def test_a_node_without_a_vote_gives_up_its_leader() -> None:
    state = full(Role.FOLLOWER, voters=(N2, N3))
    given_up = replace(state, role=Role.UNATTACHED, has_given_up=True)
    assert rules.election_timed_out(state, NOW) == (given_up, (Announce(Term(5), None),))
    assert rules.election_timed_out(given_up, NOW) == (given_up, ())


@pytest.mark.parametrize("by_leave", [False, True])
def test_a_candidate_whose_own_vote_is_on_disk(*, by_leave: bool) -> None:
    state = full(Role.PROSPECTIVE, has_given_up=True, granted=frozenset({N1, N2}))
    stands = replace(
        state,
        ballot=ballot(6, N1),
        role=Role.CANDIDATE,
        heard_s=None,
        has_given_up=False,
        canvass=8,
        last=last(4, 7),
        granted=frozenset({N1}),
        refused=frozenset(),
        unheard={},
    )
    step = rules.written(state, ballot(6, N1), last(4, 7), Stand(by_leave), is_granted=True, now_s=NOW)
    asked = AskForVotes(last(4, 7), is_pre_vote=False, by_leave=by_leave)
    assert step == (stands, (Announce(Term(6), None), asked, WAITS_FOR_VOTES))

    state, stands = replace(state, voters=(N1,)), replace(stands, voters=(N1,))
    step = rules.written(state, ballot(6, N1), last(4, 7), Stand(by_leave), is_granted=True, now_s=NOW)
    assert step == (stands, (Announce(Term(6), None), SaveThen(ballot(6, N1, N1), Lead()), NO_MORE_VOTES))


@pytest.mark.parametrize("then", [Stand(), Lead()])
def test_who_may_not_stand_or_lead_goes_where_its_disk_is(then: Stand | Lead) -> None:
    for role in ROLES:
        state = full(role, heard_s=None)
        step = rules.written(state, ballot(6, leader=N3), last(4, 9), then, is_granted=False, now_s=NOW)
        effects = (Announce(Term(6), N3.node_id), NO_MORE_VOTES, NO_MORE_LOOKS, STANDS_LATER)
        assert step == (entered(state, ballot(6, leader=N3), Role.FOLLOWER), effects)
        _, effects = rules.written(state, ballot(6), last(4, 9), then, is_granted=False, now_s=NOW)
        assert effects[-1] == STANDS_LATER


# ---------------------------------------------------------------- 5.2 elections: votes come in


@pytest.mark.parametrize("is_pre_vote", [False, True])
def test_an_answer_counts_in_its_canvass_its_role_and_its_term(*, is_pre_vote: bool) -> None:
    asks = Role.PROSPECTIVE if is_pre_vote else Role.CANDIDATE
    for role in ROLES:
        for granted in (False, True):
            state = full(role, voters=FIVE, unheard={})
            for term, canvass in ((5, 6), (5, 8), (4, 7)):
                step = rules.vote_returned(state, answer(N2, term, granted=granted), canvass, is_pre_vote=is_pre_vote)
                assert step == (state, ())
            step = rules.vote_returned(state, answer(N2, 5, granted=granted), 7, is_pre_vote=is_pre_vote)
            if role is not asks:
                assert step == (state, ())
            elif granted:
                assert step == (replace(state, granted=frozenset({N1, N2})), ())
            else:
                assert step == (replace(state, refused=frozenset({N3, N2})), ())
        step = rules.vote_returned(full(role), answer(N2, 6, granted=True, leader=N3), 0, is_pre_vote=is_pre_vote)
        assert step == (full(role), (SaveThen(ballot(6, leader=N3), Enter()),))


def test_a_majority_of_pre_votes_and_one_of_votes() -> None:
    state = full(Role.PROSPECTIVE)
    step = rules.vote_returned(state, answer(N2, 5, granted=True), 7, is_pre_vote=True)
    effects: tuple[Effect, ...] = (SaveThen(ballot(6, N1), Stand()), StopWaiting(TimerName.ELECTION))
    assert step == (replace(state, granted=frozenset({N1, N2})), effects)

    state = full(Role.CANDIDATE)
    step = rules.vote_returned(state, answer(N2, 5, granted=True), 7, is_pre_vote=False)
    effects = (SaveThen(ballot(5, N1, N1), Lead()), NO_MORE_VOTES)
    assert step == (replace(state, granted=frozenset({N1, N2})), effects)


def test_nobody_stands_for_a_term_that_nobody_believes() -> None:
    state = full(Role.PROSPECTIVE, ballot=ballot(LAST_TERM, leader=N2))
    step = rules.vote_returned(state, answer(N2, LAST_TERM, granted=True), 7, is_pre_vote=True)
    assert step == (replace(state, granted=frozenset({N1, N2})), ())


def over(state: Raft, role: Role, **changes: Any) -> Raft:
    """All that is forgotten where a canvass has come to nothing."""
    return replace(
        state, role=role, failures=3, canvass=8, granted=frozenset(), refused=frozenset(), unheard={}, **changes
    )


def test_a_voter_that_does_not_answer() -> None:
    for role in ROLES:
        state = full(role)
        assert rules.vote_not_returned(state, N2, 6) == (state, ())
        if role not in (Role.PROSPECTIVE, Role.CANDIDATE):
            assert rules.vote_not_returned(state, N2, 7) == (state, ())
    state = full(Role.PROSPECTIVE, refused=frozenset(), unheard={})
    step = rules.vote_not_returned(state, N2, 7, "n2 is starting")
    assert step == (replace(state, unheard={N2: "n2 is starting"}), ())
    step = rules.vote_not_returned(full(Role.PROSPECTIVE), N2, 7)
    assert step == (over(full(Role.PROSPECTIVE), Role.FOLLOWER), (NO_MORE_VOTES, STANDS_AGAIN))


def test_time_is_up_only_for_who_asks() -> None:
    for role in (Role.UNATTACHED, Role.FOLLOWER, Role.LEADER):
        assert rules.canvass_timed_out(full(role)) == (full(role), ())


def test_a_majority_has_answered_and_there_is_a_leader_still() -> None:
    state = full(Role.PROSPECTIVE)
    assert rules.canvass_timed_out(state) == (over(state, Role.FOLLOWER), (NO_MORE_VOTES, STANDS_AGAIN))
    # Who had given it up does not believe in it again for that.
    state = full(Role.PROSPECTIVE, has_given_up=True)
    announced = Announce(Term(5), None)
    assert rules.canvass_timed_out(state) == (over(state, Role.UNATTACHED), (announced, NO_MORE_VOTES, STANDS_AGAIN))


def test_no_majority_has_answered_again() -> None:
    state = full(Role.PROSPECTIVE, refused=frozenset(), unheard={N3: "n3 says why"})
    why = "no leader can be elected: 2 of 3 voters are needed, and n2 does not answer n1; n3 says why"
    effects = (Announce(Term(5), None, why), NO_MORE_VOTES, STANDS_AGAIN)
    assert rules.canvass_timed_out(state) == (over(state, Role.UNATTACHED, has_given_up=True), effects)
    # A disk that has not said where the log ends is no reason: nobody was asked.
    state = replace(state, last=None)
    assert rules.canvass_timed_out(state) == (over(state, Role.FOLLOWER), (NO_MORE_VOTES, STANDS_AGAIN))
    state = replace(state, has_given_up=True)
    _, effects = rules.canvass_timed_out(state)
    assert effects == (Announce(Term(5), None), NO_MORE_VOTES, STANDS_AGAIN)


def test_no_majority_has_answered_for_the_first_time() -> None:
    state = full(Role.PROSPECTIVE, refused=frozenset(), unheard={}, failures=0)
    again = Wait(TimerName.ELECTION, 0.06, 0.2)
    expected = replace(over(state, Role.FOLLOWER), failures=1)
    assert rules.canvass_timed_out(state) == (expected, (NO_MORE_VOTES, again))
    state = full(Role.CANDIDATE, refused=frozenset(), unheard={}, failures=0)
    expected = replace(over(state, Role.UNATTACHED), failures=1)
    assert rules.canvass_timed_out(state) == (expected, (Announce(Term(5), None), NO_MORE_VOTES, again))


def test_a_candidate_has_no_leader_to_give_up() -> None:
    state = full(Role.CANDIDATE, refused=frozenset(), unheard={})
    why = "no leader can be elected: 2 of 3 voters are needed, and n2, n3 do not answer n1"
    effects = (Announce(Term(5), None, why), NO_MORE_VOTES, STANDS_AGAIN)
    assert rules.canvass_timed_out(state) == (over(state, Role.UNATTACHED), effects)
    state = full(Role.CANDIDATE)
    effects = (Announce(Term(5), None), NO_MORE_VOTES, STANDS_AGAIN)
    assert rules.canvass_timed_out(state) == (over(state, Role.UNATTACHED), effects)


def test_a_node_stands_again_twice_as_late_each_time_and_not_ever_later() -> None:
    for failures, low, high in ((0, 0.06, 0.2), (1, 0.12, 0.4), (4, 0.96, 2.0), (5, 1.0, 2.0), (5_000, 1.0, 2.0)):
        _, effects = rules.canvass_timed_out(full(Role.PROSPECTIVE, failures=failures))
        assert effects[-1] == Wait(TimerName.ELECTION, low, high)


# ---------------------------------------------------------------- 5.2 elections: winning


def test_a_leader_whose_lead_is_on_disk() -> None:
    state = full(Role.CANDIDATE, granted=frozenset({N3, N1}))
    leads = replace(
        state,
        ballot=ballot(5, N1, N1),
        role=Role.LEADER,
        failures=0,
        fetched={},
        led_since_s=NOW,
        leaves=False,
        heard_s=None,
    )
    step = rules.written(state, ballot(5, N1, N1), last(4, 9), Lead(), is_granted=True, now_s=NOW)
    announced = Announce(Term(5), N1.node_id, granted_by=(N1.node_id, N3.node_id))
    assert step == (leads, (announced, TellLead((N2, N3)), LOOKS_AGAIN))


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


# ---------------------------------------------------------------- KIP-595: the leader says that it leads


def test_a_leader_of_an_older_or_an_impossible_term() -> None:
    for role in ROLES:
        for term in (4, BEYOND):
            assert rules.begin_term_asked(full(role), 1, begins(term), NOW) == (full(role), refused("n1 is in term 5"))


def test_a_second_leader_of_the_present_term() -> None:
    for role, leader in ((Role.FOLLOWER, N2), (Role.PROSPECTIVE, N2), (Role.LEADER, N1)):
        why = f"n3 says that it leads term 5, in which {leader.node_id} leads"
        step = rules.begin_term_asked(full(role), 1, begins(5, N3), NOW)
        assert step == (full(role), (Shout(why, N3.node_id), *refused(why)))


def test_a_leader_that_says_again_that_it_leads() -> None:
    state = full(Role.FOLLOWER)
    step = rules.begin_term_asked(state, 1, begins(5), NOW)
    assert step == (replace(state, heard_s=NOW), (Answer(1, is_granted=True),))


def test_a_leader_that_says_for_the_first_time_that_it_leads() -> None:
    for role in ROLES:
        step = rules.begin_term_asked(full(role), 1, begins(6), NOW)
        assert step == (full(role), (SaveThen(ballot(6, leader=N2), FollowCaller(1)),))
        far = (*refused("n1 is in term 5"), SaveThen(ballot(5 + MAX_TERM_STEP), Enter()))
        assert rules.begin_term_asked(full(role), 1, begins(FAR), NOW) == (full(role), far)
    for role, to in (
        (Role.UNATTACHED, ballot(5, leader=N2)),
        (Role.PROSPECTIVE, ballot(5, leader=N2)),
        (Role.CANDIDATE, ballot(5, N1, N2)),
    ):
        step = rules.begin_term_asked(full(role), 1, begins(5), NOW)
        assert step == (full(role), (SaveThen(to, FollowCaller(1)),))


@pytest.mark.parametrize("is_granted", [False, True])
def test_a_caller_that_leads_on_disk(*, is_granted: bool) -> None:
    for role in ROLES:
        state, to = full(role), ballot(6, leader=N2)
        step = rules.written(state, to, last(4, 9), FollowCaller(1), is_granted=is_granted, now_s=NOW)
        effects = (Announce(Term(6), N2.node_id), NO_MORE_VOTES, NO_MORE_LOOKS, STANDS_LATER)
        follows = replace(entered(state, to, Role.FOLLOWER), heard_s=NOW)
        assert step == (follows, (*effects, Answer(1, is_granted)))


@pytest.mark.parametrize("is_its_own_word", [False, True])
def test_a_hint(*, is_its_own_word: bool) -> None:
    hinted = {"is_its_own_word": is_its_own_word}
    for role in ROLES:
        for term in (4, 6):
            assert rules.leader_hinted(full(role), Term(term), N2.node_id, **hinted) == (full(role), ())
        assert rules.leader_hinted(full(role), Term(5), N1.node_id, **hinted) == (full(role), ())
    for role in (Role.FOLLOWER, Role.PROSPECTIVE, Role.LEADER):
        assert rules.leader_hinted(full(role), Term(5), N2.node_id, **hinted) == (full(role), ())
    for role, to in ((Role.UNATTACHED, ballot(5, leader=N2)), (Role.CANDIDATE, ballot(5, N1, N2))):
        step = rules.leader_hinted(full(role), Term(5), N2.node_id, **hinted)
        assert step == (full(role), (SaveThen(to, Enter()),))
    given_up = full(Role.UNATTACHED, ballot=ballot(5, leader=N2), has_given_up=True)
    assert rules.leader_hinted(given_up, Term(5), N3.node_id, **hinted) == (given_up, ())
    saved = (SaveThen(ballot(5, leader=N2), Enter()),) if is_its_own_word else ()
    assert rules.leader_hinted(given_up, Term(5), N2.node_id, **hinted) == (given_up, saved)


# ---------------------------------------------------------------- the leader answers, or is gone


def test_a_leader_that_answers() -> None:
    state = full(Role.FOLLOWER)
    assert rules.leader_answered(state, Term(5), N2.node_id, NOW) == (replace(state, heard_s=NOW, failures=0), ())
    state = full(Role.PROSPECTIVE)
    follows = replace(state, role=Role.FOLLOWER, heard_s=NOW, failures=0, canvass=8)
    assert rules.leader_answered(state, Term(5), N2.node_id, NOW) == (follows, (NO_MORE_VOTES, STANDS_LATER))
    for role in ROLES:
        for term, leader in ((4, N2), (6, N2), (5, N3)):
            assert rules.leader_answered(full(role), Term(term), leader.node_id, NOW) == (full(role), ())
    state = full(Role.LEADER)
    assert rules.leader_answered(state, Term(5), N1.node_id, NOW) == (state, ())


def test_a_leader_whose_process_is_gone() -> None:
    state = full(Role.FOLLOWER)
    gone = (replace(state, heard_s=None), (Wait(TimerName.ELECTION, 0.0, 0.16),))
    assert rules.leader_lost(state, N2.node_id) == gone
    assert rules.leader_lost(state, N3.node_id) == (state, ())
    for role in ROLES:
        if role is not Role.FOLLOWER:
            led = full(role, ballot=ballot(5, leader=N2))
            assert rules.leader_lost(led, N2.node_id) == (led, ())


def test_a_leader_that_gossip_has_lost() -> None:
    for heard_s, is_missed in ((None, True), (NOW - 1.0, True), (NOW - 0.9, False)):
        state = full(Role.FOLLOWER, heard_s=heard_s)
        step = rules.leader_suspected(state, N2.node_id, NOW)
        assert step == (rules.leader_lost(state, N2.node_id) if is_missed else (state, ()))


# ---------------------------------------------------------------- D 6.2 check quorum


def test_a_voter_that_fetches() -> None:
    for role in ROLES:
        state = full(role)
        for voter, counts in ((N3, True), (VoterKey(N3.node_id, 99), False), (N4, False)):
            step = rules.voter_fetched(state, voter, NOW)
            fetched = {N2: NOW - 0.1, N3: NOW} if counts and role is Role.LEADER else state.fetched
            assert step == (replace(state, fetched=fetched), ())


def test_a_leader_looks_who_fetches() -> None:
    for role in ROLES:
        if role is not Role.LEADER:
            assert rules.lead_looked_at(full(role), NOW, was_late=False) == (full(role), ())
    for fetched, silent in (
        ({N2: NOW - 0.1, N3: NOW - 1.0}, ()),
        ({N2: NOW - 0.1, N3: NOW - 1.1}, (N3,)),
        ({N2: NOW - 0.1}, (N3,)),
        ({N2: NOW - 3.0}, (N2, N3)),
    ):
        state = full(Role.LEADER, fetched=fetched)
        told = (TellLead(silent),) if silent else ()
        assert rules.lead_looked_at(state, NOW, was_late=False) == (state, (*told, LOOKS_AGAIN))
    lonely = full(Role.LEADER, fetched={N2: NOW - 3.1})
    assert rules.lead_looked_at(lonely, NOW, was_late=True) == (lonely, (LOOKS_AGAIN,))
    assert rules.lead_looked_at(lonely, NOW, was_late=False) == rules.resigned(lonely)
    for since_s in (NOW - 3.0, NOW - 0.2):
        new = replace(lonely, led_since_s=since_s)
        told = (TellLead((N2, N3)),) if since_s < NOW - 1.0 else (TellLead((N2,)),)
        assert rules.lead_looked_at(new, NOW, was_late=False) == (new, (*told, LOOKS_AGAIN))


def test_a_leader_that_resigns() -> None:
    state = full(Role.LEADER, heard_s=None)
    resigned = replace(entered(state, ballot(5, N1, N1), Role.UNATTACHED), failures=2)
    effects = (Announce(Term(5), None), NO_MORE_VOTES, NO_MORE_LOOKS, STANDS_LATER)
    assert rules.resigned(state) == (resigned, effects)


# ---------------------------------------------------------------- D 3.10 hand-over


def test_a_leader_that_leaves_and_one_that_stays() -> None:
    for role in ROLES:
        state = full(role, leaves=False)
        if role is Role.LEADER:
            assert rules.left(state, (N3, N2)) == (replace(state, leaves=True), (TellLeave((N3, N2)),))
        else:
            assert rules.left(state, (N3, N2)) == (state, ())
        assert rules.left(state, ()) == (state, ())
    assert rules.stayed(full(Role.LEADER)) == (full(Role.LEADER, leaves=False), ())


def test_a_leader_asks_to_take_over() -> None:
    accepted = Answer(1, is_granted=True)
    for role in (Role.FOLLOWER, Role.PROSPECTIVE):
        state = full(role)
        heard_nothing = replace(state, heard_s=None)
        stands = (SaveThen(ballot(6, N1), Stand(by_leave=True)), StopWaiting(TimerName.ELECTION))
        assert rules.end_term_asked(state, 1, ends(5, N1, N3)) == (heard_nothing, (accepted, *stands))
        third = Wait(TimerName.ELECTION, 0.2, 0.2)
        assert rules.end_term_asked(state, 1, ends(5, N3, N4, N1)) == (heard_nothing, (accepted, third))
        assert rules.end_term_asked(state, 1, ends(5, N3)) == (heard_nothing, (accepted,))


def test_who_is_not_asked_to_take_over() -> None:
    for state, request in (
        (full(Role.FOLLOWER), ends(4, N1)),
        (full(Role.FOLLOWER), ends(6, N1)),
        (full(Role.FOLLOWER), ends(5, N1, by=N3)),
        (full(Role.FOLLOWER, voters=(N2, N3)), ends(5, N1)),
        (full(Role.FOLLOWER, has_given_up=True), ends(5, N1)),
        (full(Role.CANDIDATE, ballot=ballot(5, N1, N2)), ends(5, N1)),
        (full(Role.LEADER), ends(5, N1, by=N1)),
    ):
        why = f"{request.node_id} does not lead n1"
        assert rules.end_term_asked(state, 1, request) == (state, refused(why))


# ---------------------------------------------------------------- D 4.1 the voters change


def test_other_voters() -> None:
    for role in ROLES:
        state = full(role)
        assert rules.voters_changed(state, FIVE) == (replace(state, voters=FIVE), ())
        assert rules.voters_changed(state, (N2, N3)) == (replace(state, voters=(N2, N3)), ())
        outside = full(role, voters=(N2, N3))
        assert rules.voters_changed(outside, (N2, N4)) == (replace(outside, voters=(N2, N4)), ())
        assert rules.voters_changed(outside, FIVE) == (replace(outside, voters=FIVE), (STANDS_LATER,))


def test_a_voter_that_comes_is_there_since_it_fetched_last_and_one_that_goes_is_forgotten() -> None:
    for role in ROLES:
        state = full(role)
        both = rules.voters_changed(state, FIVE, fetched={N4: NOW - 0.3, N2: NOW - 9, VoterKey(NodeId("n9"), 1): NOW})
        assert both == (replace(state, voters=FIVE, fetched={N2: NOW - 0.1, N4: NOW - 0.3}), ())
        assert rules.voters_changed(state, (N1, N3)) == (replace(state, voters=(N1, N3), fetched={}), ())


def test_who_was_a_voter_before_stands_until_it_is_committed_that_it_is_none() -> None:
    state = full(Role.FOLLOWER)
    outgoing, effects = rules.voters_changed(state, (N2, N3), was_voter_before=True)
    assert (outgoing, effects) == (replace(state, voters=(N2, N3), is_outgoing=True), ())
    prospective, _ = rules.election_timed_out(outgoing, NOW)
    assert (prospective.role, prospective.is_majority(prospective.granted)) == (Role.PROSPECTIVE, False)
    assert rules.voters_committed(outgoing) == (replace(outgoing, is_outgoing=False), ())
    given_up, _ = rules.election_timed_out(replace(outgoing, is_outgoing=False), NOW)
    assert given_up.role is Role.UNATTACHED
    assert rules.voters_changed(outgoing, THREE, was_voter_before=True)[0].is_outgoing is False
    opened, _ = rules.opened(N1, 2.0, (N2, N3), ballot(5), was_voter_before=True)
    assert (opened.may_stand, opened.is_voter) == (True, False)
    asked, _ = rules.end_term_asked(outgoing, 1, ends(5, N1))
    assert asked.heard_s is None

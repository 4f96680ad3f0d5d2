"""Every transition of Raft whole: from a state in which everything is set to all of the next one, and all its effects.

Here are those of a node that starts, stands and wins; test_raft_voting_transitions.py and
test_raft_leader_transitions.py have the others. test_raft_rules.py says what each rule is for. Here nothing goes unseen
that a rule forgets, keeps or does besides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.rules import Raft, Role
from ourolog.actors.election.raft.steps import (
    Announce,
    AskForVotes,
    Effect,
    Enter,
    Lead,
    PreVoteCanvass,
    ReadEndThen,
    SaveThen,
    Stand,
    StopWaiting,
    TellLead,
    TimerName,
    Wait,
)
from ourolog.actors.terms import MAX_TERM_STEP
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.types import Term
from tests.actors.election.raft_states import (
    BEYOND,
    FAR,
    FIVE,
    LAST_TERM,
    LOOKS_AGAIN,
    NO_MORE_LOOKS,
    NO_MORE_VOTES,
    NOW,
    ROLES,
    STANDS_AGAIN,
    STANDS_LATER,
    THREE,
    WAITS_FOR_VOTES,
    entered,
    full,
)
from tests.raft_requests import N1, N2, N3, N4, N5, answer, ballot, last

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

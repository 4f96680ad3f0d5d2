"""Transitions of Raft whole, as in test_raft_transitions.py: where a leader speaks, looks, leaves, or is missed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.rules import Role
from ourolog.actors.election.raft.steps import (
    Announce,
    Answer,
    Enter,
    FollowCaller,
    SaveThen,
    Shout,
    Stand,
    StopWaiting,
    TellLead,
    TellLeave,
    TimerName,
    Wait,
)
from ourolog.actors.terms import MAX_TERM_STEP
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId, Term
from tests.actors.election.raft_states import (
    BEYOND,
    FAR,
    FIVE,
    LOOKS_AGAIN,
    NO_MORE_LOOKS,
    NO_MORE_VOTES,
    NOW,
    ROLES,
    STANDS_LATER,
    THREE,
    entered,
    full,
    refused,
)
from tests.raft_requests import N1, N2, N3, N4, ballot, begins, ends, last

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

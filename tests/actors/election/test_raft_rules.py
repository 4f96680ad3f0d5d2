"""The rules of Raft, called one by one and matched, in the order of the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.rules import Raft, Role, Step
from ourolog.actors.election.raft.steps import (
    Announce,
    Answer,
    AnswerVote,
    AskForVotes,
    Enter,
    FollowCaller,
    Lead,
    PreVoteCanvass,
    ReadEndThen,
    SaveThen,
    Shout,
    Stand,
    TellLead,
    TellLeave,
    TimerName,
    Wait,
)
from ourolog.actors.terms import MAX_TERM_STEP
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import NodeId, Term
from tests.raft_requests import N1, N2, N3, answer, ballot, begins, ends, last, vote

VOTERS = (N1, N2, N3)
NOW = 100.0


def raft(term: int = 5, role: Role = Role.UNATTACHED, **fields: Any) -> Raft:
    """Node n1 of three."""
    return replace(Raft(N1, 1.0, VOTERS, ballot(term), role), **fields)


def follower(term: int = 5, heard_s: float | None = NOW - 0.2, **fields: Any) -> Raft:
    return raft(role=Role.FOLLOWER, ballot=ballot(term, leader=N2), heard_s=heard_s, **fields)


def leader(term: int = 5, **fields: Any) -> Raft:
    return raft(role=Role.LEADER, ballot=ballot(term, N1, N1), led_since_s=NOW - 10, **fields)


def candidate(term: int = 5, **fields: Any) -> Raft:
    return raft(
        role=Role.CANDIDATE, ballot=ballot(term, N1), canvass=3, granted=frozenset({N1}), last=last(4, 9), **fields
    )


def prospective(**fields: Any) -> Raft:
    fields = {"canvass": 3, "granted": frozenset({N1}), "last": last(4, 9), **fields}
    return raft(role=Role.PROSPECTIVE, ballot=ballot(5, leader=N2), **fields)


def found(step: Step, kind: type) -> Any:
    """The only effect of that class."""
    (effect,) = [effect for effect in step[1] if isinstance(effect, kind)]
    return effect


def has(step: Step, kind: type) -> bool:
    return any(isinstance(effect, kind) for effect in step[1])


# ---------------------------------------------------------------- 5.1 terms


def test_a_leader_that_restarts_leads_no_more_in_its_term() -> None:
    state, effects = rules.opened(N1, 1.0, VOTERS, ballot(5, N1, N1))
    assert (state.role, state.leader_id) == (Role.UNATTACHED, None)
    assert Announce(Term(5), None) in effects


def test_a_follower_that_restarts_follows_the_leader_of_its_ballot() -> None:
    state, effects = rules.opened(N1, 1.0, VOTERS, ballot(5, N3, N2))
    assert state.role is Role.FOLLOWER
    assert Announce(Term(5), N2.node_id) in effects


def test_a_later_term_is_on_disk_before_a_leader_gives_way() -> None:
    state, effects = rules.higher_term(leader(), Term(7), None)
    assert state.role is Role.LEADER
    assert effects == (SaveThen(ballot(7), Enter()),)
    state, effects = rules.written(state, ballot(7), last(5, 9), Enter(), is_granted=True, now_s=NOW)
    assert state.role is Role.UNATTACHED
    assert Announce(Term(7), None) in effects


def test_who_has_heard_of_one_leader_has_not_heard_of_the_next_one() -> None:
    state, _ = rules.written(follower(), ballot(6, leader=N3), last(5, 9), Enter(), is_granted=True, now_s=NOW)
    assert (state.role, state.leader_id, state.is_sticky(NOW)) == (Role.FOLLOWER, N3.node_id, False)


def test_an_older_term_changes_nothing() -> None:
    assert rules.higher_term(leader(), Term(5), N2.node_id) == (leader(), ())


def test_a_node_that_is_told_it_leads_a_later_term_does_not_believe_it() -> None:
    assert found(rules.higher_term(follower(), Term(7), N1.node_id), SaveThen).ballot == ballot(7)


def test_one_message_moves_a_node_by_no_more_than_a_step() -> None:
    step = rules.higher_term(follower(), Term(5 + 2 * MAX_TERM_STEP), N2.node_id)
    assert found(step, SaveThen).ballot == ballot(5 + MAX_TERM_STEP)


# ---------------------------------------------------------------- 5.2 standing


def test_a_follower_that_has_heard_of_its_leader_goes_on_waiting() -> None:
    step = rules.election_timed_out(follower(heard_s=NOW - 0.4), NOW)
    assert step[0].role is Role.FOLLOWER
    wait = found(step, Wait)
    assert wait.timer is TimerName.ELECTION
    assert abs(wait.at_least_s - 0.6) < 1e-9


def test_a_pre_vote_changes_neither_term_nor_vote_nor_leader() -> None:
    state, effects = rules.election_timed_out(follower(heard_s=NOW - 1.1), NOW)
    assert (state.role, state.ballot, state.leader_id) == (Role.PROSPECTIVE, ballot(5, leader=N2), N2.node_id)
    assert not has((state, effects), SaveThen)
    step = rules.end_read(state, last(4, 9), found((state, effects), ReadEndThen).then, NOW)
    assert step[1] == (AskForVotes(last(4, 9), is_pre_vote=True),)


def test_a_node_without_a_vote_never_stands_and_asks_who_leads_when_it_misses_its_leader() -> None:
    standby = raft(voters=(N2, N3))
    assert rules.election_timed_out(standby, NOW) == (standby, ())
    standby = follower(voters=(N2, N3))
    assert found(rules.election_timed_out(standby, NOW), Wait).timer is TimerName.ELECTION
    state, effects = rules.election_timed_out(replace(standby, heard_s=NOW - 1.0), NOW)
    assert (state.leader_id, effects) == (None, (Announce(Term(5), None),))
    assert has(rules.leader_hinted(state, Term(5), N2.node_id, is_its_own_word=True), SaveThen)
    assert has(rules.leader_lost(standby, N2.node_id), Wait)


def test_the_end_that_was_read_for_an_older_canvass_does_not_count() -> None:
    assert rules.end_read(prospective(), last(4, 9), PreVoteCanvass(2), NOW)[1] == ()


def test_a_majority_of_pre_votes_makes_a_candidate_whose_own_vote_is_on_disk_first() -> None:
    state, effects = rules.vote_returned(prospective(), answer(N2, 5, granted=True), 3, is_pre_vote=True)
    assert found((state, effects), SaveThen) == SaveThen(ballot(6, N1), Stand())
    assert not has((state, effects), AskForVotes)
    state, effects = rules.written(state, ballot(6, N1), last(4, 9), Stand(), is_granted=True, now_s=NOW)
    assert (state.role, state.granted) == (Role.CANDIDATE, frozenset({N1}))
    assert found((state, effects), AskForVotes) == AskForVotes(last(4, 9), is_pre_vote=False)
    assert Announce(Term(6), None) in effects


def test_a_pre_vote_is_not_taken_for_a_vote() -> None:
    assert rules.vote_returned(candidate(), answer(N2, 5, granted=True), 3, is_pre_vote=True)[1] == ()


def test_a_vote_of_an_older_term_or_an_older_canvass_does_not_count() -> None:
    assert rules.vote_returned(candidate(), answer(N2, 4, granted=True), 3, is_pre_vote=False)[1] == ()
    assert rules.vote_returned(candidate(), answer(N2, 5, granted=True), 2, is_pre_vote=False)[1] == ()


def test_only_voters_of_the_set_in_force_count_each_with_its_disk() -> None:
    wiped = VoterKey(N2.node_id, 99)
    state, effects = rules.vote_returned(candidate(), answer(wiped, 5, granted=True), 3, is_pre_vote=False)
    assert (state.role, effects) == (Role.CANDIDATE, ())


def test_a_refusal_that_names_a_later_term_takes_the_candidate_there() -> None:
    step = rules.vote_returned(candidate(), answer(N2, 8, granted=False, leader=N3), 3, is_pre_vote=False)
    assert found(step, SaveThen) == SaveThen(ballot(8, leader=N3), Enter())


def test_a_split_vote_is_followed_by_another_canvass() -> None:
    state, effects = rules.canvass_timed_out(candidate())
    assert (state.role, state.failures, state.canvass) == (Role.UNATTACHED, 1, 4)
    assert found((state, effects), Wait).timer is TimerName.ELECTION


def test_each_canvass_that_comes_to_nothing_leaves_more_time_to_the_next_one_as_votes_take_time_on_slow_disks() -> None:
    waits = []
    for failures in (0, 1, 2, 3, 9):
        state = candidate(failures=failures)
        step = rules.written(state, ballot(6, N1), last(4, 9), Stand(), is_granted=True, now_s=NOW)
        wait = found(step, Wait)
        waits.append((wait.timer, wait.at_least_s, wait.at_most_s))
    lengths = [(0.15, 0.3), (0.3, 0.6), (0.6, 1.2), (1.0, 2.0), (1.0, 2.0)]
    assert waits == [(TimerName.CANVASS, *length) for length in lengths]


def test_who_is_refused_by_a_majority_or_cannot_reach_one_does_not_wait_for_the_rest() -> None:
    state, _ = rules.vote_returned(candidate(), answer(N2, 5, granted=False), 3, is_pre_vote=False)
    assert state.role is Role.CANDIDATE
    state, _ = rules.vote_not_returned(state, N3, 3)
    assert state.role is Role.UNATTACHED


def test_who_hears_of_no_majority_says_which_voters_are_missing() -> None:
    state, effects = rules.canvass_timed_out(prospective())
    assert (state.role, has((state, effects), Announce)) == (Role.FOLLOWER, False)
    again = replace(state, role=Role.PROSPECTIVE, granted=frozenset({N1}))
    state, effects = rules.canvass_timed_out(again)
    assert (state.role, state.leader_id) == (Role.UNATTACHED, None)
    announced = found((state, effects), Announce)
    assert announced.why_nobody == ("no leader can be elected: 2 of 3 voters are needed, and n2, n3 do not answer n1")


def test_a_voter_that_answers_and_declines_is_not_said_to_be_silent() -> None:
    state, why = prospective(failures=7), "n2 has another disk than the one that votes"
    state, _ = rules.vote_not_returned(state, N2, 3, why)
    step = rules.vote_not_returned(state, N3, 3)
    assert found(step, Announce).why_nobody == (
        f"no leader can be elected: 2 of 3 voters are needed, and n3 does not answer n1; {why}"
    )
    step = rules.vote_not_returned(state, N3, 3, "n3 is starting")
    assert found(step, Announce).why_nobody == (
        f"no leader can be elected: 2 of 3 voters are needed; {why}; n3 is starting"
    )


def test_who_has_not_answered_yet_when_a_canvass_ends_early_is_not_said_to_be_silent() -> None:
    others = tuple(VoterKey(NodeId(f"n{number}"), number) for number in range(2, 6))
    state = prospective(voters=(N1, *others), failures=7)
    state, _ = rules.vote_not_returned(state, others[0], 3)
    state, _ = rules.vote_not_returned(state, others[1], 3)
    step = rules.vote_returned(state, answer(others[2], 5, granted=False), 3, is_pre_vote=True)
    assert step[0].role is Role.FOLLOWER
    step = rules.vote_not_returned(state, others[2], 3)
    assert found(step, Announce).why_nobody.endswith("3 of 5 voters are needed, and n2, n3, n4 do not answer n1")


def test_who_is_refused_by_a_majority_goes_on_following_its_leader() -> None:
    state = prospective(failures=7)
    for voter in (N2, N3):
        state, effects = rules.vote_returned(state, answer(voter, 5, granted=False), 3, is_pre_vote=True)
    assert (state.role, has((state, effects), Announce)) == (Role.FOLLOWER, False)


# ---------------------------------------------------------------- 5.2 winning


def test_a_leader_says_so_once_it_is_on_disk() -> None:
    state, effects = rules.vote_returned(candidate(), answer(N3, 5, granted=True), 3, is_pre_vote=False)
    assert state.role is Role.CANDIDATE
    assert found((state, effects), SaveThen) == SaveThen(ballot(5, N1, N1), Lead())
    assert not has((state, effects), Announce)
    state, effects = rules.written(state, ballot(5, N1, N1), last(4, 9), Lead(), is_granted=True, now_s=NOW)
    assert state.role is Role.LEADER
    assert found((state, effects), Announce) == Announce(Term(5), N1.node_id, granted_by=(N1.node_id, N3.node_id))
    assert found((state, effects), TellLead) == TellLead((N2, N3))


def test_a_voter_alone_elects_itself() -> None:
    state, _ = rules.opened(N1, 1.0, (N1,), ballot(0))
    state, effects = rules.election_timed_out(state, NOW)
    state, effects = rules.end_read(state, last(0, 0), found((state, effects), ReadEndThen).then, NOW)
    assert found((state, effects), SaveThen).then == Stand()
    state, effects = rules.written(state, ballot(1, N1), last(0, 0), Stand(), is_granted=True, now_s=NOW)
    assert found((state, effects), SaveThen).then == Lead()


# ---------------------------------------------------------------- 5.2 and 5.4.1 voting


def test_a_vote_goes_to_the_store_with_the_last_entry_of_the_candidate() -> None:
    request = vote(6, last(4, 9))
    step = rules.vote_asked(raft(), 1, request, NOW)
    assert found(step, SaveThen) == SaveThen(ballot(6, N2), AnswerVote(1, request), last(4, 9))
    assert not has(step, Answer)


def test_a_vote_is_promised_once_the_store_has_granted_it() -> None:
    request = vote(6, last(4, 9))
    step = rules.written(raft(), ballot(6, N2), last(4, 9), AnswerVote(1, request), is_granted=True, now_s=NOW)
    assert found(step, Answer) == Answer(1, is_granted=True)
    assert step[0].ballot == ballot(6, N2)
    assert any(isinstance(effect, Wait) and effect.timer is TimerName.ELECTION for effect in step[1])


def test_a_vote_refused_for_a_short_log_takes_the_voter_to_the_later_term_all_the_same() -> None:
    request = vote(6, last(3, 20))
    step = rules.written(raft(), ballot(6), last(4, 9), AnswerVote(1, request), is_granted=False, now_s=NOW)
    assert step[0].ballot == ballot(6)
    assert not found(step, Answer).is_granted
    assert Announce(Term(6), None) in step[1]


def test_a_candidate_that_gets_no_vote_does_not_put_off_who_misses_its_leader() -> None:
    request = vote(6, last(3, 20))
    for state in (raft(), follower(heard_s=None)):
        step = rules.written(state, ballot(6), last(4, 9), AnswerVote(1, request), is_granted=False, now_s=NOW)
        assert not has(step, Wait)
        step = rules.written(state, ballot(7), last(4, 9), Enter(), is_granted=True, now_s=NOW)
        assert not has(step, Wait)
    for state in (follower(), leader(), candidate(), prospective()):
        step = rules.written(state, ballot(7), last(4, 9), Enter(), is_granted=True, now_s=NOW)
        assert found(step, Wait).timer is TimerName.ELECTION


def test_who_stands_says_of_its_log_what_is_on_disk_with_its_vote_and_not_what_it_was_before() -> None:
    state = prospective()
    step = rules.written(state, ballot(6, N1), last(4, 7), Stand(), is_granted=True, now_s=NOW)
    assert found(step, AskForVotes).last == last(4, 7)


def test_whoever_has_just_heard_of_its_leader_gives_no_vote_and_goes_to_no_later_term() -> None:
    step = rules.vote_asked(follower(), 1, vote(9, last(8, 99), N3), NOW)
    assert not found(step, Answer).is_granted
    assert not has(step, SaveThen)
    assert has(rules.vote_asked(follower(heard_s=NOW - 1.0), 1, vote(9, last(8, 99), N3), NOW), SaveThen)


def test_a_candidate_that_the_leader_asked_to_stand_need_not_wait_for_stickiness() -> None:
    request = vote(6, last(5, 9), N3, by_leave=True)
    assert has(rules.vote_asked(follower(), 1, request, NOW), SaveThen)
    assert not has(rules.vote_asked(leader(), 1, request, NOW), SaveThen)
    assert has(rules.vote_asked(leader(leaves=True), 1, request, NOW), SaveThen)


def test_one_vote_a_term_and_none_against_the_leader_of_it() -> None:
    for state in (raft(ballot=ballot(6, N3)), raft(ballot=ballot(6, leader=N3)), candidate(6)):
        assert not found(rules.vote_asked(state, 1, vote(6, last(5, 99)), NOW), Answer).is_granted
    again = rules.vote_asked(raft(ballot=ballot(6, N2)), 1, vote(6, last(5, 99)), NOW)
    assert has(again, SaveThen)
    wiped = VoterKey(N2.node_id, 99)
    assert not has(rules.vote_asked(raft(ballot=ballot(6, N2)), 1, vote(6, last(5, 99), wiped), NOW), SaveThen)


def test_a_log_that_ends_in_the_term_that_is_stood_for_is_no_candidates() -> None:
    assert not has(rules.vote_asked(raft(), 1, vote(6, last(6, 9)), NOW), SaveThen)


def test_a_pre_vote_is_granted_to_a_log_as_long_as_ones_own_without_a_leader() -> None:
    request = vote(5, last(4, 9), is_pre_vote=True)
    step = rules.vote_asked(raft(), 1, request, NOW)
    assert found(step, ReadEndThen).then == AnswerVote(1, request)
    for own, is_granted in ((last(4, 9), True), (last(4, 10), False), (last(5, 1), False), (last(3, 99), True)):
        step = rules.end_read(raft(), own, AnswerVote(1, request), NOW)
        assert (found(step, Answer).is_granted, has(step, SaveThen)) == (is_granted, False)


def test_a_pre_vote_of_an_older_term_is_answered_with_the_present_one() -> None:
    step = rules.vote_asked(raft(6), 1, vote(5, last(9, 9), is_pre_vote=True), NOW)
    assert not found(step, Answer).is_granted


def test_a_leader_and_who_has_just_heard_of_one_grant_no_pre_vote_and_stay_in_their_term() -> None:
    for state in (leader(), follower()):
        step = rules.vote_asked(state, 1, vote(9, last(8, 99), is_pre_vote=True), NOW)
        assert not found(step, Answer).is_granted
        assert not has(step, SaveThen)


def test_a_pre_vote_of_a_later_term_takes_a_node_without_a_leader_there() -> None:
    request = vote(9, last(8, 99), is_pre_vote=True)
    step = rules.vote_asked(raft(), 1, request, NOW)
    assert found(step, SaveThen) == SaveThen(ballot(9), AnswerVote(1, request))
    step = rules.written(raft(), ballot(9), last(4, 9), AnswerVote(1, request), is_granted=True, now_s=NOW)
    assert found(step, Answer).is_granted
    assert step[0].ballot == ballot(9)


def test_of_two_that_stand_at_once_the_one_with_the_better_log_goes_on_once_a_term() -> None:
    better, worse = vote(5, last(4, 10), is_pre_vote=True), vote(5, last(4, 8), is_pre_vote=True)
    state, _ = rules.vote_asked(prospective(), 1, better, NOW)
    assert (state.role, state.gave_way_in) == (Role.FOLLOWER, 5)
    assert rules.vote_asked(prospective(), 1, worse, NOW)[0].role is Role.PROSPECTIVE
    assert rules.vote_asked(prospective(gave_way_in=Term(5)), 1, better, NOW)[0].role is Role.PROSPECTIVE


# ---------------------------------------------------------------- KIP-595 who leads


def test_a_leader_that_says_so_is_followed_once_that_is_on_disk_and_the_vote_stays() -> None:
    step = rules.begin_term_asked(raft(ballot=ballot(5, N3)), 1, begins(5), NOW)
    assert found(step, SaveThen) == SaveThen(ballot(5, N3, N2), FollowCaller(1))
    state, effects = rules.written(step[0], ballot(5, N3, N2), last(4, 9), FollowCaller(1), is_granted=True, now_s=NOW)
    assert (state.role, state.heard_s) == (Role.FOLLOWER, NOW)
    assert Announce(Term(5), N2.node_id) in effects
    assert found((state, effects), Answer).is_granted


def test_a_candidate_follows_the_leader_of_its_term_and_keeps_its_vote() -> None:
    assert found(rules.begin_term_asked(candidate(), 1, begins(5), NOW), SaveThen).ballot == ballot(5, N1, N2)


def test_a_leader_of_an_older_term_is_refused() -> None:
    assert not found(rules.begin_term_asked(raft(), 1, begins(4), NOW), Answer).is_granted


def test_a_second_leader_of_one_term_is_refused_loudly() -> None:
    for state in (leader(), follower()):
        step = rules.begin_term_asked(state, 1, begins(5, N3), NOW)
        assert has(step, Shout)
        assert not found(step, Answer).is_granted


def test_a_hint_is_followed_where_no_leader_is_known() -> None:
    step = rules.leader_hinted(raft(), Term(5), N2.node_id, is_its_own_word=False)
    assert found(step, SaveThen) == SaveThen(ballot(5, leader=N2), Enter())
    for state in (follower(), leader(), raft(6)):
        assert rules.leader_hinted(state, Term(5), N3.node_id, is_its_own_word=True)[1] == ()


def test_who_has_given_up_its_leader_believes_only_the_leader_itself() -> None:
    state = raft(ballot=ballot(5, leader=N2), has_given_up=True)
    assert rules.leader_hinted(state, Term(5), N2.node_id, is_its_own_word=False)[1] == ()
    assert has(rules.leader_hinted(state, Term(5), N2.node_id, is_its_own_word=True), SaveThen)


def test_a_leader_that_answers_ends_a_pre_vote() -> None:
    state, _ = rules.leader_answered(prospective(), Term(5), N2.node_id, NOW)
    assert (state.role, state.heard_s) == (Role.FOLLOWER, NOW)
    assert rules.leader_answered(follower(), Term(4), N2.node_id, NOW) == (follower(), ())


def test_a_leader_whose_process_is_gone_is_missed_at_once() -> None:
    state, effects = rules.leader_lost(follower(), N2.node_id)
    assert state.heard_s is None
    assert found((state, effects), Wait) == Wait(TimerName.ELECTION, 0.0, 0.08)
    assert rules.leader_lost(follower(), N3.node_id) == (follower(), ())


def test_gossip_shortens_the_wait_for_a_leader_that_is_silent_already() -> None:
    assert rules.leader_suspected(follower(), N2.node_id, NOW)[1] == ()
    assert has(rules.leader_suspected(follower(heard_s=NOW - 0.6), N2.node_id, NOW), Wait)


# ---------------------------------------------------------------- D 6.2 check quorum


def test_a_leader_that_a_majority_does_not_fetch_from_resigns_and_keeps_its_vote() -> None:
    state, effects = rules.lead_looked_at(leader(fetched={N2: NOW - 1.6}), NOW, was_late=False)
    assert (state.role, state.leader_id, state.ballot) == (Role.UNATTACHED, None, ballot(5, N1, N1))
    assert Announce(Term(5), None) in effects
    assert not has((state, effects), SaveThen)


def test_one_voter_of_two_others_is_enough_and_strangers_are_not() -> None:
    assert rules.lead_looked_at(leader(fetched={N2: NOW - 1.4}), NOW, was_late=False)[0].role is Role.LEADER
    stranger = VoterKey(N2.node_id, 99)
    state, _ = rules.voter_fetched(leader(), stranger, NOW)
    assert rules.lead_looked_at(state, NOW, was_late=False)[0].role is Role.UNATTACHED


def test_a_leader_that_does_not_vote_does_not_count_itself() -> None:
    outside = leader(voters=(N2, N3, VoterKey(NodeId("n4"), 44)), fetched={N2: NOW})
    assert rules.lead_looked_at(outside, NOW, was_late=False)[0].role is Role.UNATTACHED


def test_a_new_leader_is_given_time_and_one_that_stood_still_looks_again_first() -> None:
    assert rules.lead_looked_at(leader(), NOW, was_late=True)[0].role is Role.LEADER
    new = replace(leader(), led_since_s=NOW - 1.0)
    step = rules.lead_looked_at(new, NOW, was_late=False)
    assert step[0].role is Role.LEADER
    assert found(step, TellLead) == TellLead((N2, N3))


# ---------------------------------------------------------------- D 3.10 hand-over


def test_a_leader_that_leaves_leads_on_until_it_is_asked_for_its_vote() -> None:
    state, effects = rules.left(leader(), (N3, N2))
    assert (state.role, effects) == (Role.LEADER, (TellLeave((N3, N2)),))
    request = vote(6, last(5, 9), N3, by_leave=True)
    step = rules.written(state, ballot(6, N3), last(5, 9), AnswerVote(1, request), is_granted=True, now_s=NOW)
    assert step[0].role is Role.UNATTACHED
    assert found(step, Answer).is_granted
    assert rules.stayed(state)[0] == leader()


def test_the_first_successor_stands_at_once_and_without_a_pre_vote() -> None:
    state, effects = rules.end_term_asked(follower(), 1, ends(5, N1, N3))
    assert found((state, effects), SaveThen) == SaveThen(ballot(6, N1), Stand(by_leave=True))
    state, effects = rules.written(state, ballot(6, N1), last(5, 9), Stand(by_leave=True), is_granted=True, now_s=NOW)
    assert found((state, effects), AskForVotes).by_leave


def test_the_second_successor_waits_a_little() -> None:
    step = rules.end_term_asked(follower(), 1, ends(5, N3, N1))
    assert found(step, Wait) == Wait(TimerName.ELECTION, 0.05, 0.05)
    assert step[0].heard_s is None


def test_only_the_leader_of_the_present_term_asks_others_to_take_over() -> None:
    for request in (ends(4, N1), ends(5, N1, by=N3)):
        step = rules.end_term_asked(follower(), 1, request)
        assert not found(step, Answer).is_granted
        assert not has(step, SaveThen)
    assert not has(rules.end_term_asked(follower(voters=(N2, N3)), 1, ends(5, N1)), SaveThen)


# ---------------------------------------------------------------- whatever happens

KEYS = st.sampled_from(VOTERS)
ENDS = st.builds(last, st.integers(0, 6), st.integers(0, 20))
STATES = st.sampled_from([raft(), follower(), follower(heard_s=None), leader(), leader(leaves=True), candidate()])


@given(STATES, st.integers(0, 9), ENDS, KEYS, st.booleans(), st.booleans())
def test_a_vote_is_never_asked_of_the_store_in_an_older_term_nor_without_the_candidates_end(
    state: Raft, term: int, its_end: LastEntry, key: VoterKey, is_pre_vote: bool, by_leave: bool
) -> None:
    request = vote(term, its_end, key, is_pre_vote=is_pre_vote, by_leave=by_leave)
    after, effects = rules.vote_asked(state, 1, request, NOW)
    for effect in effects:
        if isinstance(effect, SaveThen):
            assert effect.ballot.term >= state.term
            assert (effect.candidate == its_end) == (effect.ballot.vote is not None)
            assert not is_pre_vote or effect.ballot.vote is None
    assert after.ballot == state.ballot
    assert sum(isinstance(effect, Answer | SaveThen | ReadEndThen) for effect in effects) == 1

"""Which rare states a sweep has to reach, by its mode: a sweep says nothing about a state that it never reached."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ourolog.simulation.options import DECREES, DISASTERS, RAFT, Options
from ourolog.simulation.oracle_election import ORACLE
from ourolog.simulation.rare_states import STATES

_EVERYWHERE: Final = (
    "torn_tail_cut",
    "damage_found",
    "segment_rolled",
    "roll_during_pull",
    "retention",
    "two_crashes_at_once",
    "full_quorum_loss",
    "restart_while_partitioned",
    "crash_in_mid_write",
    "disk_replaced",
    "pull_restarted",
    "duplicate_fetch",
    "member_failed",
    "suspicion_refuted",
    "member_vouched",
    "member_returned",
    "member_left",
    "node_failed",
    "disk_full",
    "outcome_unknown",
    "reader_woken",
)
_PEERS: Final = ("cycle_seen", "new_log_seen", "pull_out_of_range", "retention_below_follower")
_LED: Final = (
    "gather_expired",
    "leader_restart",
    "leader_unreachable",
    "keep_alive_sent",
    "commit_rode_on_data",
    "commit_told_late",
    "fetch_while_writing",
    "sent_while_writing",
    "disk_told_apart",
    "synced_together",
    "higher_term_seen",
    "stale_term_seen",
    "fetch_after_vote",
    "old_term_on_majority",
    "log_reset",
    "inbox_full",
    "latest_read_at_follower",
    "latest_read_by_bare_majority",
    "latest_read_of_new_leader",
    "read_index_ahead",
)
_LEAD_PASSED_ON: Final = (
    "divergence",
    "truncation",
    "truncation_over_segments",
    "truncation_over_terms",
    "cut_then_crash",
    "change_in_flight",
    "append_refused_in_new_term",
    "two_leaders_serve",
    "produce_at_deposed_leader",
    "leader_restarted_shorter",
    "follower_longer_than_leader",
    "leader_lost_what_others_have",
    "parked_fetch_over_term",
    "crash_after_ballot",
    "two_leaders_at_once",
    "leader_lost_disk",
    "vote_granted",
    "vote_refused_short_log",
    "vote_refused_longer_log",
    "second_vote_refused",
    "voters_entry_cut",
    "voters_entry_behind_retention",
    "voters_entry_before_reset",
    "latest_read_beside_later_term",
    "latest_read_voided",
    "latest_read_at_deposed_leader",
)
_DECREED_ANEW: Final = (
    "claims_disputed",
    "lead_withheld",
    "claims_settled",
    "kept_its_copy",
    "two_leaders_at_once",
    "two_claims_to_one_term",
    "leader_lost_disk",
    "leader_restarted_shorter",
    "divergence",
    "truncation",
    "truncation_over_terms",
    "follower_longer_than_leader",
    "produce_at_deposed_leader",
    "crash_after_ballot",
)

_LED_BY_VOTES: Final = (
    "gather_expired",
    "leader_restart",
    "leader_unreachable",
    "higher_term_seen",
    "stale_term_seen",
    "fetch_after_vote",
    "old_term_on_majority",
    "divergence",
    "truncation",
    "leader_restarted_shorter",
    "follower_longer_than_leader",
    "parked_fetch_over_term",
    "crash_after_ballot",
    "two_leaders_at_once",
    "leader_lost_disk",
    "voters_entry_behind_retention",
    "vote_granted",
    "vote_refused_short_log",
    "vote_refused_after_pre_vote",
    "vote_refused_led",
    "vote_of_lost_disk_asked",
    "pre_vote_refused_short_log",
    "pre_vote_refused_led",
    "leader_resigned",
    "lead_given_up",
    "lead_given_up_hung",
    "deposed_with_copied_entries",
    "copied_before_leader_wrote",
    "leader_lost_what_others_have",
    "commit_rode_on_data",
    "commit_told_late",
    "fetch_while_writing",
    "sent_while_writing",
    "disk_told_apart",
    "synced_together",
    "wiped_voter_returned",
    "crash_before_vote_answer",
    "hand_over_asked",
    "hand_over_cut",
    "hand_over_drained",
    "hand_over_undrained",
    "hand_over_called_off",
    "vote_by_leave",
    "two_leaders_serve",
    "produce_at_deposed_leader",
    "append_refused_in_new_term",
    "voters_entry_before_reset",
    "log_reset",
    "inbox_full",
    "retry_of_uncommitted",
    "retry_of_unwritten",
    "retry_of_committed",
    "retry_of_cut",
    "retry_after_retention",
    "retry_after_window",
    "batch_before_its_turn",
    "reset_with_producers",
    "retry_after_expiry",
    "registration_cut",
    "producers_rolled_back",
    "read_waited_for_seen",
    "read_sent_to_leader",
    "voter_added",
    "voter_removed",
    "removed_itself",
    "removed_leader_left",
    "changes_at_once",
    "change_refused",
    "change_cut_short",
    "wiped_voter_replaced",
    "unaware_voter_voted",
    "batch_repaired",
    "repaired_leader",
    "repaired_by_follower",
    "repaired_in_a_row",
    "damaged_on_two",
    "damaged_fetch",
    "repair_over_change",
    "repair_uncommitted",
    "read_waited_for_repair",
    "scrub_found_rot",
)

_RECOVERED: Final = (
    "cluster_recovered",
    "recovered_with_tail",
    "recovery_interrupted",
    "recovery_finished",
    "recovered_twice",
    "rivals_met",
    "superseded",
    "superseded_on_disk",
    "former_majority_led",
    "former_acknowledged",
)

MUST_REACH: Final[dict[str, tuple[str, ...]]] = {
    "none break": (*_EVERYWHERE, *_PEERS, "duplicate_dropped", "damaged_read"),
    "none allow": (*_EVERYWHERE, *_PEERS, "hop_limit_reached"),
    "static": (*_EVERYWHERE, *_LED),
    DECREES: (*_EVERYWHERE, *_LED, *_DECREED_ANEW),
    "elected": _EVERYWHERE,
    ORACLE: (*_EVERYWHERE, *_LED, *_LEAD_PASSED_ON),
    RAFT: (*_EVERYWHERE, *_LED_BY_VOTES),
    DISASTERS: _RECOVERED,
}
"""The rare states to reach in 200 seeds of half a minute, whose other options are the defaults."""


def mode_of(options: Options) -> str:
    """The mode of these options, a key of MUST_REACH."""
    if options.decrees_change:
        return DECREES
    if options.has_disaster:
        return DISASTERS
    if options.has_oracle:
        return ORACLE
    if options.is_vote_of_disk:
        return RAFT
    choice = options.election_choice()
    if not choice.elects:
        return f"none {options.cycle}"
    return "static" if choice.is_decreed else "elected"


def missed_states(options: Options, reached: Collection[str]) -> dict[str, str]:
    """The states that a sweep with these options must reach and has not, each with what it is."""
    return {state: STATES[state] for state in MUST_REACH[mode_of(options)] if state not in reached}


def never_reached(options: Options, reached: Collection[str]) -> tuple[str, ...]:
    """The states, of any mode, that this sweep could have reached and has not."""
    must = MUST_REACH[mode_of(options)]
    elsewhere = {state for states in MUST_REACH.values() for state in states} - set(must)
    return tuple(state for state in STATES if state not in reached and state not in elsewhere)

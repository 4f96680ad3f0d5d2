"""Which change of voters a leader makes: who may be added, who is removed, and why not."""

from __future__ import annotations

from dataclasses import replace

from ourolog.actors.election.raft.voter_changes import (
    Change,
    NoChange,
    Situation,
    Standby,
    asked_to_add,
    asked_to_remove,
    automatic,
)
from ourolog.actors.messages.election import ChangeProblem
from ourolog.storage.control import MAX_REMOVED, Voter, VoterKey
from ourolog.storage.types import NodeId

N1, N2, N3, N4, N5 = (NodeId(f"n{number}") for number in range(1, 6))


def voter(node_id: NodeId, epoch: int = 1) -> Voter:
    return Voter(node_id, epoch, f"{node_id}:1", f"{node_id}:2")


def standby(node_id: NodeId, at_s: float = 99.9, *, lag: int = 0, epoch: int = 1, is_caught_up: bool = True) -> Standby:
    return Standby(voter(node_id, epoch), lag, is_caught_up, at_s)


def situation(*names: NodeId, **fields: object) -> Situation:
    """Node n1 leads since 0 s; now it is 100 s, and all voters have just fetched."""
    voters = tuple(voter(name) for name in names or (N1, N2, N3))
    fetched = {one.key: 99.9 for one in voters if one.node_id != N1}
    known = Situation(voter(N1).key, 100.0, 1.0, 3, 20.0, voters, fetched=fetched)
    return replace(known, **fields)  # type: ignore[arg-type]


def silent(since_s: float, *names: NodeId, of: tuple[NodeId, ...] = (N1, N2, N3)) -> dict[VoterKey, float]:
    return {voter(name).key: since_s if name in names else 99.9 for name in of if name != N1}


def names_of(change: object) -> tuple[NodeId, ...]:
    assert isinstance(change, Change), change
    return tuple(one.node_id for one in change.entry.voters)


def problem_of(change: object) -> ChangeProblem:
    assert isinstance(change, NoChange), change
    assert len(change.why.split()) > 3
    return change.problem


# ---------------------------------------------------------------- by itself


def test_while_too_few_vote_who_keeps_up_is_added_and_of_several_the_one_with_most() -> None:
    standbys = (standby(N3, lag=5), standby(N4, lag=2))
    assert names_of(automatic(situation(N1, N2, standbys=standbys))) == (N1, N2, N4)
    assert names_of(automatic(situation(N1, standbys=standbys[:1]))) == (N1, N3)


def test_nobody_is_added_where_enough_vote_or_who_has_not_caught_up_is_away_or_was_removed_by_a_person() -> None:
    assert automatic(situation(standbys=(standby(N4),))) is None
    two = situation(N1, N2)
    for known in (
        {"standbys": ()},
        {"standbys": (standby(N4, is_caught_up=False),)},
        {"standbys": (standby(N4, at_s=98.9),)},
        {"standbys": (standby(N4),), "gone": frozenset({N4})},
        {"standbys": (standby(N4),), "removed": (voter(N4).key,)},
    ):
        assert automatic(replace(two, **known)) is None  # type: ignore[arg-type]
    wiped = replace(two, standbys=(standby(N4, epoch=2),), removed=(voter(N4).key,))
    assert names_of(automatic(wiped)) == (N1, N2, N4)


def test_a_dead_voter_is_removed_first_and_its_place_taken_then() -> None:
    dead = situation(fetched=silent(80.0, N3), gone=frozenset({N3}), standbys=(standby(N4),))
    assert names_of(automatic(dead)) == (N1, N2)
    assert names_of(automatic(situation(N1, N2, standbys=(standby(N4),)))) == (N1, N2, N4)


def test_a_voter_is_dead_when_it_has_not_fetched_for_long_and_gossip_misses_it_or_its_disk_is_another() -> None:
    long_gone = silent(80.0, N3)
    four = (standby(N4),)
    assert automatic(situation(fetched=long_gone, standbys=four)) is None
    assert automatic(situation(fetched=silent(80.1, N3), gone=frozenset({N3}), standbys=four)) is None
    assert automatic(situation(fetched=long_gone, gone=frozenset({N3}))) is None
    wiped = situation(fetched=long_gone, standbys=(standby(N3, epoch=2), *four))
    assert names_of(automatic(wiped)) == (N1, N2)
    only_itself = situation(fetched=long_gone, standbys=(standby(N3, epoch=2),))
    assert automatic(only_itself) is None  # its name still votes with the other disk


def test_a_voter_that_has_never_fetched_is_waited_for_from_the_beginning_of_the_lead() -> None:
    never = situation(fetched={voter(N2).key: 99.9}, gone=frozenset({N3}), standbys=(standby(N4),))
    assert names_of(automatic(never)) == (N1, N2)
    assert automatic(replace(never, led_since_s=80.1)) is None


def test_the_leader_itself_and_the_living_are_never_removed_however_many_there_are() -> None:
    five = situation(N1, N2, N3, N4, N5, standbys=(standby(NodeId("n6")),), gone=frozenset({N1}))
    assert automatic(five) is None


def test_nothing_is_changed_that_a_majority_of_the_new_set_could_not_commit() -> None:
    fetched = {**silent(80.0, N3), voter(N2).key: 98.9}
    dead = situation(fetched=fetched, gone=frozenset({N3}), standbys=(standby(N4),))
    assert automatic(dead) is None
    assert automatic(situation(N1, N2, fetched={}, standbys=(standby(N4, at_s=98.9),))) is None


# ---------------------------------------------------------------- by a person


def test_a_person_adds_who_keeps_up_also_beyond_the_replicas_and_who_was_removed() -> None:
    change = asked_to_add(situation(standbys=(standby(N4),), removed=(voter(N4).key, voter(N5).key)), N4)
    assert names_of(change) == (N1, N2, N3, N4)
    assert isinstance(change, Change)
    assert change.entry.removed == (voter(N5).key,)


def test_why_a_node_is_not_added_is_said() -> None:
    assert problem_of(asked_to_add(situation(), N3)) is ChangeProblem.IS_VOTER
    assert problem_of(asked_to_add(situation(), N4)) is ChangeProblem.UNKNOWN
    for one in (standby(N4, lag=7, is_caught_up=False), standby(N4, at_s=90.0), standby(N3, epoch=2)):
        assert problem_of(asked_to_add(situation(standbys=(one,)), one.voter.node_id)) is ChangeProblem.IMPOSSIBLE
    gone = situation(standbys=(standby(N4),), gone=frozenset({N4}))
    assert problem_of(asked_to_add(gone, N4)) is ChangeProblem.IMPOSSIBLE
    full = situation(*(NodeId(f"n{number}") for number in range(1, 32)), standbys=(standby(NodeId("n50")),))
    assert problem_of(asked_to_add(full, NodeId("n50"))) is ChangeProblem.IMPOSSIBLE


def test_a_living_voter_is_followed_by_its_successor_before_it_goes() -> None:
    known = situation(standbys=(standby(N4),))
    assert names_of(asked_to_remove(known, N3)) == (N1, N2, N3, N4)
    then = situation(N1, N2, N3, N4)
    assert names_of(asked_to_remove(then, N3, has_successor=True)) == (N1, N2, N4)


def test_a_dead_voter_goes_at_once_and_so_does_one_without_a_successor_or_one_too_many() -> None:
    dead = situation(fetched=silent(80.0, N3), standbys=(standby(N4),))
    assert names_of(asked_to_remove(dead, N3)) == (N1, N2)
    assert names_of(asked_to_remove(situation(), N3)) == (N1, N2)
    four = situation(N1, N2, N3, N4, standbys=(standby(N5),))
    assert names_of(asked_to_remove(four, N4)) == (N1, N2, N3)


def test_what_a_person_removed_is_remembered_and_of_too_many_the_earliest_is_forgotten() -> None:
    many = tuple(VoterKey(N5, epoch) for epoch in range(1, MAX_REMOVED + 1))
    change = asked_to_remove(situation(removed=many), N3)
    assert isinstance(change, Change)
    assert change.entry.removed == (*many[1:], voter(N3).key)
    dead = automatic(situation(fetched=silent(80.0, N3), gone=frozenset({N3}), standbys=(standby(N4),)))
    assert isinstance(dead, Change)
    assert dead.entry.removed == ()


def test_why_a_voter_is_not_removed_is_said() -> None:
    assert problem_of(asked_to_remove(situation(), N4)) is ChangeProblem.UNKNOWN
    last = asked_to_remove(situation(N1, standbys=(standby(N2),)), N1)
    assert problem_of(last) is ChangeProblem.IMPOSSIBLE
    lonely = asked_to_remove(situation(fetched=silent(80.0, N2)), N3)
    assert problem_of(lonely) is ChangeProblem.IMPOSSIBLE
    assert isinstance(lonely, NoChange)
    assert "2 of n1 and n2 would be needed, and n2 has not fetched" in lonely.why


def test_each_change_is_one_key_in_or_out() -> None:
    for change in (
        automatic(situation(N1, N2, standbys=(standby(N4), standby(N5)))),
        automatic(
            situation(fetched=silent(1.0, N2, N3), gone=frozenset({N2, N3}), standbys=(standby(N4), standby(N5)))
        ),
        asked_to_remove(situation(standbys=(standby(N4),)), N3),
        asked_to_add(situation(N1, N2, standbys=(standby(N4), standby(N5))), N5),
    ):
        if change is None:
            continue
        assert isinstance(change, Change)
        assert abs(len(change.entry.voters) - 3) <= 1

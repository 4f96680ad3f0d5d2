"""Changes of voters are made one at a time, and the next one when the last one is committed."""

from __future__ import annotations

from dataclasses import replace

from ourolog.actors.election.raft.voter_changer import VoterChanger
from ourolog.actors.election.raft.voter_changes import Change, Situation
from ourolog.actors.messages.election import ChangeProblem
from ourolog.storage.control import VoterKey, VoterSet, VotersSet
from ourolog.storage.types import Index, NodeId, Term
from tests.actors.election.test_voter_changes import N1, N2, N3, N4, N5, silent, situation, standby, voter


class Leader:
    """A leader whose store and standbys answer when they are told to."""

    def __init__(self, known: Situation | None = None) -> None:
        self.known = known or situation(standbys=(standby(N4),))
        self.appended: list[tuple[NodeId, ...]] = []
        self.entries: list[VotersSet] = []
        self.asked: list[VoterKey] = []
        self.told: list[Change] = []
        self.left = 0
        self.answers: list[tuple[ChangeProblem | None, str]] = []
        self.changer = VoterChanger(self)
        self.index = 0
        self.changer.logged(VoterSet(Index(0), Term(1), self.known.voters))

    def situation(self) -> Situation:
        return self.known

    def append_voters(self, entry: VotersSet) -> int:
        self.entries.append(entry)
        self.appended.append(tuple(one.node_id for one in entry.voters))
        return 100 + len(self.appended)

    def ask_standby(self, key: VoterKey) -> int:
        self.asked.append(key)
        return 200 + len(self.asked)

    def tell_of_change(self, change: Change) -> None:
        self.told.append(change)

    def leave_as_removed(self) -> None:
        self.left += 1

    def answer(self, problem: ChangeProblem | None, detail: str) -> None:
        self.answers.append((problem, detail))

    # what happens

    def lead(self) -> Leader:
        self.changer.lead_begun()
        self.changer.commit_known()
        self.changer.committed(Index(0))
        return self

    def add(self, node_id: NodeId) -> None:
        self.changer.ask(node_id, self.answer, is_addition=True)

    def remove(self, node_id: NodeId) -> None:
        self.changer.ask(node_id, self.answer, is_addition=False)

    def prove(self) -> None:
        self.changer.proven(200 + len(self.asked), self.asked[-1])

    def log(self) -> None:
        entry = self.entries[-1]
        self.index += 5
        fetched = {one.key: 99.9 for one in entry.voters if one.node_id != N1}
        standbys = tuple(one for one in self.known.standbys if one.voter not in entry.voters)
        self.known = replace(self.known, voters=entry.voters, removed=entry.removed, fetched=fetched, standbys=standbys)
        self.changer.logged(VoterSet(Index(self.index), Term(1), entry.voters, entry.removed))

    def commit(self) -> None:
        self.changer.committed(Index(self.index))


def test_a_node_is_added_once_it_has_shown_who_it_is_and_that_is_answered_once_it_is_committed() -> None:
    leader = Leader().lead()
    leader.add(N4)
    assert (leader.asked, leader.appended) == ([voter(N4).key], [])
    leader.prove()
    assert leader.appended == [(N1, N2, N3, N4)]
    leader.log()
    assert leader.answers == []
    leader.commit()
    assert leader.answers == [(None, "")]


def test_nothing_is_changed_before_an_entry_of_the_term_and_the_last_voters_are_committed() -> None:
    leader = Leader(situation(N1, N2, standbys=(standby(N4),)))
    leader.changer.lead_begun()
    leader.changer.committed(Index(0))
    leader.changer.look()
    leader.add(N4)
    assert [problem for problem, _ in leader.answers] == [ChangeProblem.UNDER_WAY]
    assert leader.asked == []
    leader.changer.commit_known()
    assert leader.asked == [voter(N4).key]

    later = Leader(situation(N1, N2, standbys=(standby(N4),)))
    later.changer.logged(VoterSet(Index(7), Term(1), later.known.voters))
    later.changer.lead_begun()
    later.changer.commit_known()
    later.changer.committed(Index(0))
    assert later.asked == []
    later.remove(N2)
    assert [problem for problem, _ in later.answers] == [ChangeProblem.UNDER_WAY]
    later.changer.committed(Index(7))
    assert later.asked == [voter(N4).key]


def test_of_two_that_ask_at_once_the_second_is_told_what_is_under_way() -> None:
    leader = Leader().lead()
    leader.remove(N2)
    leader.add(N5)
    assert leader.answers == [(ChangeProblem.UNDER_WAY, "the voters are being changed: n2 is being removed; try again")]


def test_a_removal_adds_the_successor_first_and_both_are_one_call() -> None:
    leader = Leader().lead()
    leader.remove(N3)
    leader.prove()
    leader.log()
    assert leader.appended == [(N1, N2, N3, N4)]
    leader.commit()
    assert leader.appended[1:] == [(N1, N2, N4)]
    assert leader.answers == []
    leader.log()
    leader.commit()
    assert leader.answers == [(None, "")]
    assert leader.known.removed == (voter(N3).key,)


def test_a_successor_that_does_not_answer_does_not_keep_a_voter_that_a_person_removes() -> None:
    leader = Leader().lead()
    leader.remove(N3)
    leader.changer.not_proven(201, "nobody listens")
    assert leader.appended == [(N1, N2)]


def test_a_node_that_does_not_answer_as_the_one_it_seems_to_be_is_not_added() -> None:
    leader = Leader().lead()
    leader.add(N4)
    leader.changer.proven(201, VoterKey(N4, 99))
    leader.changer.proven(1, voter(N4).key)
    assert leader.appended == []
    leader.changer.not_proven(201, "it has another disk")
    assert leader.answers == [(ChangeProblem.IMPOSSIBLE, "n4 does not follow this leader: it has another disk")]


def test_while_one_is_on_its_way_to_the_disk_no_other_is_begun() -> None:
    leader = Leader(situation(N1, N2, standbys=(standby(N4), standby(N5)))).lead()
    leader.prove()
    assert leader.appended == [(N1, N2, N4)]
    leader.changer.look()
    leader.changer.commit_known()
    leader.log()
    leader.changer.look()
    assert (len(leader.appended), len(leader.asked)) == (1, 1)


def test_a_dead_voter_is_replaced_in_two_changes() -> None:
    dead = situation(fetched=silent(10.0, N3), gone=frozenset({N3}), standbys=(standby(N4),))
    leader = Leader(dead).lead()
    assert leader.appended == [(N1, N2)]
    leader.log()
    leader.commit()
    leader.prove()
    assert leader.appended == [(N1, N2), (N1, N2, N4)]
    assert [change.is_addition for change in leader.told] == [False, True]


def test_a_voter_that_is_back_before_its_removal_is_appended_is_not_removed() -> None:
    dead = situation(fetched=silent(10.0, N3), gone=frozenset({N3}), standbys=(standby(N4),))
    leader = Leader(dead)
    leader.changer.lead_begun()
    leader.changer.commit_known()
    leader.known = situation(standbys=(standby(N4),))
    leader.changer.committed(Index(0))
    assert leader.appended == []


def test_a_leader_that_is_removed_leaves_once_that_is_committed_and_not_before() -> None:
    leader = Leader(situation()).lead()
    leader.remove(N1)
    assert leader.appended == [(N2, N3)]
    leader.log()
    leader.changer.look()
    assert (leader.left, leader.answers) == (0, [])
    leader.commit()
    assert (leader.left, leader.answers) == (1, [(None, "")])
    leader.changer.look()
    assert leader.left == 2  # it says so until it has left


def test_who_asked_is_answered_when_the_lead_is_lost() -> None:
    leader = Leader(situation()).lead()
    leader.remove(N3)
    leader.changer.lead_ended("n1 leads no more")
    assert leader.answers == [(ChangeProblem.LOST, "n1 leads no more")]
    leader.add(N4)
    assert leader.answers[1:] == [(ChangeProblem.NOT_LEADER, "")]
    waiting = Leader().lead()
    waiting.add(N4)
    waiting.changer.lead_ended("n1 leads no more")
    assert waiting.answers == [(ChangeProblem.NOT_LEADER, "n1 leads no more")]
    waiting.prove()
    assert waiting.appended == []


def test_a_change_that_the_store_refused_is_not_waited_for() -> None:
    leader = Leader(situation()).lead()
    leader.remove(N3)
    assert leader.changer.under_way == "n3 is being removed"
    leader.changer.refused(7)
    leader.changer.refused(101)
    leader.changer.lead_ended("over")
    leader.lead()
    assert leader.changer.under_way == ""


def test_a_change_that_the_store_refused_is_made_again() -> None:
    dead = situation(fetched=silent(10.0, N3), gone=frozenset({N3}), standbys=(standby(N4),))
    leader = Leader(dead).lead()
    leader.changer.refused(7)
    leader.changer.look()
    assert leader.appended == [(N1, N2)]
    leader.changer.refused(101)
    leader.changer.look()
    assert leader.appended == [(N1, N2), (N1, N2)]


def test_what_cannot_be_done_is_answered_at_once_and_keeps_nobody_from_asking() -> None:
    leader = Leader().lead()
    leader.add(N5)
    leader.remove(N5)
    assert [problem for problem, _ in leader.answers] == [ChangeProblem.UNKNOWN] * 2
    leader.add(N4)
    assert leader.asked == [voter(N4).key]


def test_beside_what_a_person_asks_for_a_leader_changes_nothing_by_itself() -> None:
    leader = Leader(situation(N1, N2, standbys=(standby(N4), standby(N5)))).lead()
    assert leader.asked == [voter(N4).key]
    leader.changer.not_proven(7, "of another call")
    leader.changer.look()
    leader.changer.not_proven(201, "nobody listens")
    leader.changer.not_proven(201, "nobody listens")
    assert leader.asked == [voter(N4).key]
    leader.add(N5)
    leader.prove()
    assert (leader.asked, leader.appended) == ([voter(N4).key, voter(N5).key], [(N1, N2, N5)])

"""Bugs of Raft: in terms and votes, and in the pre-votes before them. Those of leaders are in `in_raft_lead`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mutants.mutant import (
    RAFT,
    RAFT_DISKS_LOST,
    RAFT_FAR,
    RAFT_FOUR_VOTERS,
    RAFT_HUNG_VOTES,
    RAFT_OVERTAKEN,
    doing_nothing,
    mutant,
    wrap,
)
from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.calls import VoterCalls
from ourolog.actors.election.raft.decisions import Decisions
from ourolog.actors.election.raft.rules import Raft, Role, Step
from ourolog.actors.election.raft.steps import Answer, AnswerVote, AskForVotes, Enter, Lead, SaveThen
from ourolog.actors.messages.peer_calls import VoteRequest, VoteResponse
from ourolog.actors.messages.store import BallotSaved, SaveBallot
from ourolog.actors.store import StoreActor
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.identity import DataDirectory
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Term

# ---------------------------------------------------------------- votes and the disk


@mutant("A voter tells a candidate that it has its vote, and has its disk save it afterwards.", RAFT)
def vote_answered_before_saved() -> None:
    def make(original: Any) -> Any:
        def vote_asked(raft: Raft, call_id: int, request: VoteRequest, now_s: float) -> Step:
            raft, effects = original(raft, call_id, request, now_s)
            match effects:
                case (SaveThen(ballot, AnswerVote(), candidate), *_) if candidate is not None:
                    raft = replace(raft, ballot=ballot)
                    return raft, (Answer(call_id, is_granted=True), SaveThen(ballot, Enter(), candidate))
            return raft, effects

        return vote_asked

    wrap(rules, "vote_asked", make)


@mutant("A candidate with a majority says that it leads, and never saves that it does.", RAFT)
def lead_not_saved() -> None:
    def make(original: Any) -> Any:
        def carry_out(self: Decisions, effect: Any) -> None:
            if isinstance(effect, SaveThen) and isinstance(effect.then, Lead):
                self.apply(rules._leads(self.state, effect.ballot, self.now_s))
            else:
                original(self, effect)

        return carry_out

    wrap(Decisions, "_carry_out", make)


@mutant("A voter keeps its votes for others in memory only.", RAFT)
def vote_only_in_memory() -> None:
    _keep_in_memory(lambda _, message: message.candidate is not None)


@mutant("A candidate keeps its vote for itself in memory only.", RAFT)
def own_vote_only_in_memory() -> None:
    _keep_in_memory(lambda self, message: message.ballot.voted_for == self.node_id and not message.ballot.leader_id)


def _keep_in_memory(is_kept: Callable[[StoreActor, SaveBallot], bool]) -> None:
    def make(original: Any) -> Any:
        def save_ballot(self: StoreActor, message: SaveBallot) -> None:
            if is_kept(self, message):
                with doing_nothing(DataDirectory, "save_ballot"):
                    original(self, message)
            else:
                original(self, message)

        return save_ballot

    wrap(StoreActor, "_save_ballot", make)


@mutant("Who learns who leads its term forgets whom it has voted for in it.", RAFT)
def vote_emptied_by_leader() -> None:
    def make(original: Any) -> Any:
        def save_ballot(self: StoreActor, message: SaveBallot) -> None:
            ballot, present = message.ballot, self._ballot
            if ballot.term == present.term and ballot.leader_id not in (None, self.node_id):
                self._ballot = replace(present, voted_for=None, voted_for_epoch=0)
                message = replace(message, ballot=replace(ballot, voted_for=None, voted_for_epoch=0))
            original(self, message)

        return save_ballot

    wrap(StoreActor, "_save_ballot", make)


@mutant("What a voter writes of a candidate is its name, and not its disk.", RAFT)
def vote_saved_without_disk() -> None:
    def make(original: Any) -> Any:
        def save_ballot(self: DataDirectory, ballot: Ballot) -> None:
            original(self, replace(ballot, voted_for_epoch=0))

        return save_ballot

    wrap(DataDirectory, "save_ballot", make)


# ---------------------------------------------------------------- votes and the log


@mutant("A voter does not compare the candidate's log with its own.", RAFT)
def vote_without_comparing() -> None:
    wrap(StoreActor, "_may_vote", lambda original: lambda self, asked, last, _: original(self, asked, last, last))


@mutant("A voter does not compare the logs when the candidate's term is later than its own.", RAFT)
def later_term_gets_the_vote() -> None:
    def make(original: Any) -> Any:
        def may_vote(self: StoreActor, asked: Ballot, candidates: LastEntry, own: LastEntry) -> bool:
            return asked.term > self._ballot.term or bool(original(self, asked, candidates, own))

        return may_vote

    wrap(StoreActor, "_may_vote", make)


@mutant("Of two logs that end in the same term the names decide before the lengths do.", RAFT)
def name_before_index() -> None:
    def make(original: Any) -> Any:
        def may_vote(self: StoreActor, asked: Ballot, candidates: LastEntry, own: LastEntry) -> bool:
            if candidates.term == own.term and asked.voted_for is not None and asked.voted_for > self.node_id:
                own = candidates
            return bool(original(self, asked, candidates, own))

        return may_vote

    wrap(StoreActor, "_may_vote", make)


@mutant("A candidate says of its log that it ends in the term before the one in which it stands.", RAFT_OVERTAKEN)
def candidate_claims_too_much() -> None:
    def make(original: Any) -> Any:
        def ask_for_votes(self: VoterCalls, asked: AskForVotes, raft: Raft, cluster_id: int) -> None:
            before = raft.term - (not asked.is_pre_vote)
            original(self, replace(asked, last=LastEntry(Term(before), asked.last.index)), raft, cluster_id)

        return ask_for_votes

    wrap(VoterCalls, "ask_for_votes", make)


# ---------------------------------------------------------------- one vote a term


@mutant("A voter votes in one term for everybody who asks.", RAFT_FAR)
def second_vote() -> None:
    def forgetful(original: Any) -> Any:
        def why_no_vote(raft: Raft, request: VoteRequest, now_s: float) -> str | None:
            answer: str | None = original(replace(raft, ballot=_without_vote(raft.ballot)), request, now_s)
            return answer

        return why_no_vote

    def make(original: Any) -> Any:
        def may_vote(self: StoreActor, asked: Ballot, *ends: LastEntry) -> bool:
            present, self._ballot = self._ballot, _without_vote(self._ballot)
            try:
                return bool(original(self, asked, *ends))
            finally:
                self._ballot = present

        return may_vote

    wrap(rules, "_why_no_vote", forgetful)
    wrap(StoreActor, "_may_vote", make)


def _without_vote(ballot: Ballot) -> Ballot:
    return replace(ballot, voted_for=None, voted_for_epoch=0)


@mutant("A voter that refuses its vote in a later term saves it all the same.", RAFT_OVERTAKEN)
def refusal_saved_as_vote() -> None:
    def make(original: Any) -> Any:
        def save_ballot(self: StoreActor, message: SaveBallot) -> None:
            original(self, replace(message, reply_to=_SavesWhatItRefuses(self, message)))

        return save_ballot

    wrap(StoreActor, "_save_ballot", make)


class _SavesWhatItRefuses:
    def __init__(self, store: StoreActor, asked: SaveBallot) -> None:
        self._store = store
        self._asked = asked

    def tell(self, saved: BallotSaved) -> None:
        """Save the vote that was refused, and say so."""
        vote, store = self._asked.ballot, self._store
        if self._asked.candidate is not None and not saved.granted and saved.ballot == Ballot(vote.term):
            assert store._directory is not None
            store._directory.save_ballot(vote)
            store._ballot = vote
            saved = replace(saved, ballot=vote)
        self._asked.reply_to.tell(saved)


@mutant("Half of the voters are enough to elect a leader.", RAFT_FOUR_VOTERS)
def half_elects() -> None:
    def is_majority(self: Raft, keys: Any) -> bool:
        return 2 * sum(voter in keys for voter in self.voters) >= len(self.voters)

    wrap(Raft, "is_majority", lambda _: is_majority)


@mutant("Votes of an earlier term are counted in a later one.", RAFT_HUNG_VOTES)
def old_votes_counted() -> None:
    def make(original: Any) -> Any:
        def vote_returned(raft: Raft, response: VoteResponse, canvass: int, *, is_pre_vote: bool) -> Step:
            if raft.role is Role.CANDIDATE and not is_pre_vote and response.term < raft.term:
                response, canvass = replace(response, term=raft.term), raft.canvass
            step: Step = original(raft, response, canvass, is_pre_vote=is_pre_vote)
            return step

        return vote_returned

    wrap(rules, "vote_returned", make)


@mutant("An answer to a pre-vote that comes late is counted as a vote.", RAFT)
def pre_votes_counted() -> None:
    def make(original: Any) -> Any:
        def vote_returned(raft: Raft, response: VoteResponse, canvass: int, *, is_pre_vote: bool) -> Step:
            if raft.role is Role.CANDIDATE and is_pre_vote and response.term < raft.term:
                response, canvass, is_pre_vote = replace(response, term=raft.term), raft.canvass, False
            step: Step = original(raft, response, canvass, is_pre_vote=is_pre_vote)
            return step

        return vote_returned

    wrap(rules, "vote_returned", make)


@mutant("A voter with a new disk answers for the one that it has lost, and has its vote.", RAFT_DISKS_LOST)
def wiped_disk_votes() -> None:
    def why_not(original: Any) -> Any:
        def why_not_answer(self: VoterCalls, request: Any, key: VoterKey | None, founding: Any) -> str:
            return str(original(self, replace(request, voter=key or request.voter), key, founding))

        return why_not_answer

    def make(original: Any) -> Any:
        def answer(self: VoterCalls, answered: Answer, raft: Raft) -> None:
            received = self._received.get(answered.call_id)
            if received is not None and isinstance(received.request, VoteRequest):
                raft = replace(raft, me=received.request.voter)
            original(self, answered, raft)

        return answer

    wrap(VoterCalls, "_why_not", why_not)
    wrap(VoterCalls, "answer", make)


@mutant("A voter answers a candidate twice.", RAFT)
def vote_answered_twice() -> None:
    def make(original: Any) -> Any:
        def answer(self: VoterCalls, answered: Answer, raft: Raft) -> None:
            received = self._received.get(answered.call_id)
            original(self, answered, raft)
            if received is not None and isinstance(received.request, VoteRequest):
                self._received[answered.call_id] = received
                original(self, answered, raft)

        return answer

    wrap(VoterCalls, "answer", make)


@mutant("Who refuses what it is asked in an earlier term names that term, and not its own.", RAFT)
def refusal_names_asked_term() -> None:
    def make(original: Any) -> Any:
        def answer(self: VoterCalls, answered: Answer, raft: Raft) -> None:
            received = self._received.get(answered.call_id)
            if received is not None and received.request.term < raft.term and not answered.is_granted:
                raft = replace(raft, ballot=replace(raft.ballot, term=received.request.term, leader_id=None))
            original(self, answered, raft)

        return answer

    wrap(VoterCalls, "answer", make)


@mutant("Terms that others are in are ignored where they would end a leader's term.", RAFT)
def leader_ignores_higher_term() -> None:
    def make(original: Any) -> Any:
        def higher_term(raft: Raft, term: Term, leader_id: Any) -> Step:
            step: Step = (raft, ()) if raft.role is Role.LEADER else original(raft, term, leader_id)
            return step

        return higher_term

    wrap(rules, "higher_term", make)

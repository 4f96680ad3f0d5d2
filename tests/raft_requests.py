"""What tests of Raft's rules say in few words: voters of three, ballots, ends of logs, requests and answers."""

from __future__ import annotations

from ourolog.actors.messages.peer_calls import BeginTermRequest, EndTermRequest, VoteRequest, VoteResponse
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term

N1, N2, N3, N4, N5 = (VoterKey(NodeId(f"n{number}"), number * 11) for number in range(1, 6))


def last(term: int, index: int) -> LastEntry:
    return LastEntry(Term(term), Index(index))


def ballot(term: int, voted: VoterKey | None = None, leader: VoterKey | None = None) -> Ballot:
    vote = voted.node_id if voted else None
    return Ballot(Term(term), vote, leader.node_id if leader else None, voted.log_epoch if voted else 0)


def vote(
    term: int, ends: LastEntry, candidate: VoterKey = N2, *, is_pre_vote: bool = False, by_leave: bool = False
) -> VoteRequest:
    """A candidate asks n1."""
    return VoteRequest("c", 1, *candidate, N1, Term(term), ends, is_pre_vote, by_leave)


def answer(voter: VoterKey, term: int, *, granted: bool, leader: VoterKey | None = None) -> VoteResponse:
    return VoteResponse(*voter, Term(term), leader.node_id if leader else None, granted)


def begins(term: int, by: VoterKey = N2) -> BeginTermRequest:
    """A leader tells n1 that it leads."""
    return BeginTermRequest("c", 1, *by, N1, Term(term))


def ends(term: int, *successors: VoterKey, by: VoterKey = N2) -> EndTermRequest:
    """A leader tells n1 who should take over."""
    return EndTermRequest("c", 1, *by, N1, Term(term), successors)

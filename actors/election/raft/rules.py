"""The decisions of Raft, each a pure function: a state and what happened, to the next state and what to do.

The sections are those of the paper (Ongaro and Ousterhout 2014, extended version), of Ongaro's dissertation (D), and
of Kafka's KIPs. docs/raft.md stands beside them and says where the pull form differs, and why it is safe.

Nothing here waits, reads a clock or draws at random. What needs the disk comes in two parts: a decision asks for a
save (`SaveThen`) or for the end of the log (`ReadEndThen`), and `written` or `end_read` goes on from what is on disk
then. Between the two no other decision about terms and votes is made; `RaftElection` sees to that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from ourolog.actors.election.raft.steps import (
    Announce,
    Answer,
    AnswerVote,
    AskForVotes,
    Effect,
    Enter,
    FollowCaller,
    Lead,
    Next,
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
from ourolog.actors.messages.peer_calls import BeginTermRequest, EndTermRequest, VoteRequest, VoteResponse
from ourolog.actors.terms import is_ahead, step_towards
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import NodeId, Term


class Role(StrEnum):
    """What a node is in its term (Raft section 5.1; KIP-595).

    UNATTACHED: it knows of no leader, and waits for one, or to stand.
    FOLLOWER: another node leads.
    PROSPECTIVE: it asks if it would be voted for (pre-vote, KIP-996); term, vote and leader stay.
    CANDIDATE: it has voted for itself, and asks for votes.
    LEADER: a majority has voted for it.
    """

    UNATTACHED = "unattached"
    FOLLOWER = "follower"
    PROSPECTIVE = "prospective"
    CANDIDATE = "candidate"
    LEADER = "leader"


# All in election timeouts.
FIRST_STAND: Final = (0.0, 0.3)
"""When a node of a new cluster stands, in which no leader can have been missed."""
AT_ONCE: Final = (0.0, 0.0)
STAND: Final = (1.0, 1.2)
"""When a node stands that has not heard of its leader; a voter that heard of it more recently refuses."""
CANVASS: Final = (0.15, 0.3)
"""How long votes are waited for (D section 9), at first; twice as long each time."""
LONGEST_CANVASS: Final = (1.0, 2.0)
"""Each vote is on a disk before it is given: with so little time as at first, slow disks would elect nobody ever."""
LEADER_LOST: Final = (0.0, 0.08)
"""When a node stands whose leader's process is gone."""
STAND_AGAIN: Final = (0.03, 0.1)
"""When a node asks again that was refused, at first; twice as late each time."""
GIVE_WAY: Final = (0.05, 0.1)
"""How long a node lets another one go first."""
SUCCESSOR_EVERY: Final = 0.05
"""How much later each further successor stands, if a leader has asked several to take over."""
QUORUM_WITHIN: Final = 1.5
"""A leader resigns when a majority has not fetched for that long (check quorum, D section 6.2; KIP-595)."""
LOOK_EVERY: Final = 0.25
"""How often a leader looks."""
SILENT_AFTER: Final = 0.5
"""A voter that has not fetched for that long is told again who leads."""

GIVES_UP_AFTER: Final = 2
"""After so many canvasses that no majority has answered a node says that nobody leads."""


@dataclass(frozen=True, slots=True)
class Raft:
    """A node's state in the election.

    me: this node and its disk.
    timeout_s: the election timeout in seconds.
    voters: the voters in force as this node's log says, each with its disk.
    ballot: the term, vote and leader that are on disk.
    role: what this node is in that term.
    heard_s: when the leader answered last, by the monotonic clock; None if it has not, or has gone.
    has_given_up: whether this node has announced that the leader named by the ballot does not answer.
    canvass: the number of the present round of questions; answers to another one do not count.
    last: the last entry with which this node stands, None before it is read.
    granted: who votes, or would vote, for this node in this canvass.
    refused: who would not.
    unheard: who cannot be asked, has not answered in time, or has declined to answer; that one's own sentence, "" if
        there is none.
    failures: how many canvasses in a row came to nothing.
    gave_way_in: the term in which this node has let another one go first; it does so once a term.
    fetched: on a leader, when each voter has fetched last.
    led_since_s: on a leader, since when.
    leaves: on a leader, whether it has asked another node to take over.
    is_outgoing: whether this node has no vote any more, and was a voter before the set in force, which is not known to
        be committed. Until it is, this node may be the only one that can be elected: it stands, without a vote of its
        own (D section 4.2.2).
    """

    me: VoterKey
    timeout_s: float
    voters: tuple[VoterKey, ...] = ()
    ballot: Ballot = field(default_factory=Ballot)
    role: Role = Role.UNATTACHED
    heard_s: float | None = None
    has_given_up: bool = False
    canvass: int = 0
    last: LastEntry | None = None
    granted: frozenset[VoterKey] = frozenset()
    refused: frozenset[VoterKey] = frozenset()
    unheard: Mapping[VoterKey, str] = field(default_factory=dict)
    failures: int = 0
    gave_way_in: Term = Term(-1)
    fetched: Mapping[VoterKey, float] = field(default_factory=dict)
    led_since_s: float = 0.0
    leaves: bool = False
    is_outgoing: bool = False

    @property
    def term(self) -> Term:
        return self.ballot.term

    @property
    def is_voter(self) -> bool:
        return self.me in self.voters

    @property
    def may_stand(self) -> bool:
        return self.is_voter or self.is_outgoing

    @property
    def others(self) -> tuple[VoterKey, ...]:
        return tuple(voter for voter in self.voters if voter != self.me)

    @property
    def leader_id(self) -> NodeId | None:
        """Who leads in this term as far as this node knows and believes."""
        named = self.ballot.leader_id
        if named == self.me.node_id:
            return named if self.role is Role.LEADER else None
        return None if self.has_given_up else named

    def is_majority(self, keys: Collection[VoterKey]) -> bool:
        """Whether these are more than half of the voters in force."""
        return 2 * sum(voter in keys for voter in self.voters) > len(self.voters)

    def is_sticky(self, now_s: float) -> bool:
        """Whether this node holds on to its leader (D section 4.2.3): it leads, or has heard of it in time."""
        if self.role is Role.LEADER:
            return not self.leaves
        return self.leader_id is not None and self.heard_s is not None and now_s - self.heard_s < self.timeout_s


Step = tuple[Raft, tuple[Effect, ...]]

NOTHING: Final[tuple[Effect, ...]] = ()


# ---------------------------------------------------------------- 5.1 terms


def opened(
    me: VoterKey,
    timeout_s: float,
    voters: tuple[VoterKey, ...],
    ballot: Ballot,
    *,
    was_voter_before: bool = False,
) -> Step:
    """The log is open. A node that led leads no more: what it had not synced may stand in other logs.

    was_voter_before: whether this node is in the set of voters before the one in force.
    """
    raft = _following(Raft(me, timeout_s, voters, ballot, is_outgoing=was_voter_before and me not in voters))
    soon = FIRST_STAND if ballot.term == 0 else STAND
    wait = _wait(raft, TimerName.ELECTION, soon if raft.others else AT_ONCE)
    return raft, (Announce(ballot.term, raft.leader_id), *wait)


def _following(raft: Raft) -> Raft:
    """Neither lead nor stand: follow the leader that is known, or be without one."""
    raft = replace(raft, role=Role.UNATTACHED)
    return raft if raft.leader_id is None else replace(raft, role=Role.FOLLOWER)


def higher_term(raft: Raft, term: Term, leader_id: NodeId | None) -> Step:
    """A voter is in a later term (section 5.1): go there, whatever this node is, and follow who leads in it."""
    if not is_ahead(term, raft.term):
        return raft, NOTHING
    reached = step_towards(term, raft.term)
    # A node that is told it leads has lost the disk that it led with, or the ballot.
    leader = leader_id if reached == term and leader_id != raft.me.node_id else None
    return raft, (SaveThen(Ballot(reached, None, leader), Enter()),)


def _entered(raft: Raft, ballot: Ballot) -> Step:
    """That ballot is on disk: follow its leader, or be without one."""
    is_new = ballot.term > raft.term
    was_waiting = raft.role in (Role.UNATTACHED, Role.FOLLOWER) and raft.heard_s is None
    raft = replace(
        raft,
        ballot=ballot,
        heard_s=None,
        has_given_up=False,
        canvass=raft.canvass + 1,
        granted=frozenset(),
        refused=frozenset(),
        unheard={},
        failures=0 if is_new else raft.failures,
        fetched={},
        leaves=False,
    )
    raft = _following(raft)
    # A later term without a leader puts off nobody that misses one: whoever has the best log would wait in vain.
    waits_on = was_waiting and raft.leader_id is None
    return raft, (
        Announce(ballot.term, raft.leader_id),
        StopWaiting(TimerName.CANVASS),
        StopWaiting(TimerName.LEAD),
        *(NOTHING if waits_on else _wait(raft, TimerName.ELECTION, STAND)),
    )


# ---------------------------------------------------------------- 5.2 elections: standing


def election_timed_out(raft: Raft, now_s: float) -> Step:
    """Nothing was heard of a leader for the election timeout: ask first if it is any use to stand (D section 9.6)."""
    if raft.role not in (Role.UNATTACHED, Role.FOLLOWER):
        return raft, NOTHING
    if raft.is_sticky(now_s):
        assert raft.heard_s is not None, "who is sticky has heard of its leader"
        left_s = raft.heard_s + raft.timeout_s - now_s
        return raft, (Wait(TimerName.ELECTION, left_s, left_s + (STAND[1] - STAND[0]) * raft.timeout_s),)
    return _prospective(raft) if raft.may_stand else _gave_up(raft)


def _gave_up(raft: Raft) -> Step:
    """A node without a vote misses its leader: nobody will tell it of the next one, so it has to ask who leads."""
    if raft.leader_id is None:
        return raft, NOTHING
    return replace(raft, role=Role.UNATTACHED, has_given_up=True), (Announce(raft.term, None),)


def _prospective(raft: Raft) -> Step:
    raft = replace(
        raft,
        role=Role.PROSPECTIVE,
        canvass=raft.canvass + 1,
        last=None,
        granted=frozenset({raft.me}),
        refused=frozenset(),
        unheard={},
    )
    return raft, (ReadEndThen(PreVoteCanvass(raft.canvass)), *_wait_for_votes(raft))


def _canvass_for_pre_votes(raft: Raft, last: LastEntry, number: int) -> Step:
    """KIP-996: a pre-vote is asked for in the present term, and changes nobody's ballot."""
    if raft.role is not Role.PROSPECTIVE or raft.canvass != number:
        return raft, NOTHING
    raft = replace(raft, last=last)
    if raft.is_majority(raft.granted):
        return _stand(raft)
    return raft, (AskForVotes(last, is_pre_vote=True),)


def _stand(raft: Raft, *, by_leave: bool = False) -> Step:
    """Become a candidate in the next term: the own vote is on disk before anybody is asked."""
    term = Term(raft.term + 1)
    if not is_ahead(term, raft.term):
        return raft, NOTHING
    own_vote = Ballot(term, raft.me.node_id, None, raft.me.log_epoch)
    return raft, (SaveThen(own_vote, Stand(by_leave)), StopWaiting(TimerName.ELECTION))


def _stood(raft: Raft, ballot: Ballot, last: LastEntry, *, by_leave: bool) -> Step:
    raft = replace(
        raft,
        ballot=ballot,
        role=Role.CANDIDATE,
        heard_s=None,
        has_given_up=False,
        canvass=raft.canvass + 1,
        last=last,
        granted=frozenset({raft.me}),
        refused=frozenset(),
        unheard={},
    )
    announced = Announce(ballot.term, None)
    if raft.is_majority(raft.granted):
        raft, effects = _won(raft)
        return raft, (announced, *effects)
    asked = AskForVotes(last, is_pre_vote=False, by_leave=by_leave)
    return raft, (announced, asked, *_wait_for_votes(raft))


def vote_returned(raft: Raft, response: VoteResponse, canvass: int, *, is_pre_vote: bool) -> Step:
    """A voter has answered. It counts only in the canvass in which it was asked, and for the role that asked.

    canvass: the number of the canvass in which it was asked.
    """
    if is_ahead(response.term, raft.term):
        return higher_term(raft, response.term, response.leader_id)
    asks = Role.PROSPECTIVE if is_pre_vote else Role.CANDIDATE
    if canvass != raft.canvass or raft.role is not asks or response.term != raft.term:
        return raft, NOTHING
    if not response.granted:
        raft = replace(raft, refused=raft.refused | {response.key})
        return _came_to_nothing(raft) if _is_hopeless(raft) else (raft, NOTHING)
    raft = replace(raft, granted=raft.granted | {response.key})
    if not raft.is_majority(raft.granted):
        return raft, NOTHING
    return _stand(raft) if is_pre_vote else _won(raft)


def vote_not_returned(raft: Raft, voter: VoterKey, canvass: int, declined: str = "") -> Step:
    """There will be no answer from that voter in this canvass.

    declined: the sentence with which it declines to answer, as a disk does that has no vote; "" if it is silent.
    """
    if canvass != raft.canvass or raft.role not in (Role.PROSPECTIVE, Role.CANDIDATE):
        return raft, NOTHING
    raft = replace(raft, unheard={**raft.unheard, voter: declined})
    return _came_to_nothing(raft) if _is_hopeless(raft) else (raft, NOTHING)


def _is_hopeless(raft: Raft) -> bool:
    """Whether those that could still vote for this node are no majority."""
    return not raft.is_majority([voter for voter in raft.voters if voter not in {*raft.refused, *raft.unheard}])


def canvass_timed_out(raft: Raft) -> Step:
    """Not enough votes have come in time: ask again later (section 5.2, split votes)."""
    if raft.role not in (Role.PROSPECTIVE, Role.CANDIDATE):
        return raft, NOTHING
    silent = {voter: "" for voter in raft.voters if voter not in raft.granted | raft.refused}
    return _came_to_nothing(replace(raft, unheard={**silent, **raft.unheard}))


def _came_to_nothing(raft: Raft) -> Step:
    unheard, may_answer = raft.unheard, [voter for voter in raft.voters if voter not in raft.unheard]
    raft = replace(
        raft,
        failures=raft.failures + 1,
        canvass=raft.canvass + 1,
        granted=frozenset(),
        refused=frozenset(),
        unheard={},
    )
    # Who hears of no majority cannot know whether its leader is there; who is refused by one may still be led.
    is_alone = raft.last is not None and not raft.is_majority(may_answer)
    has_given_up = raft.has_given_up or (is_alone and raft.failures >= GIVES_UP_AFTER)
    raft = _following(replace(raft, has_given_up=has_given_up and raft.ballot.leader_id is not None))
    effects: tuple[Effect, ...] = (StopWaiting(TimerName.CANVASS), *_wait_to_stand_again(raft))
    if raft.leader_id is None:
        why = _why_nobody(raft, unheard) if is_alone and raft.failures >= GIVES_UP_AFTER else ""
        effects = (Announce(raft.term, None, why), *effects)
    return raft, effects


def _wait_for_votes(raft: Raft) -> tuple[Effect, ...]:
    slower = 2 ** min(raft.failures, 16)
    low, high = (min(first * slower, longest) for first, longest in zip(CANVASS, LONGEST_CANVASS, strict=True))
    return _wait(raft, TimerName.CANVASS, (low, high))


def _wait_to_stand_again(raft: Raft) -> tuple[Effect, ...]:
    low, high = STAND_AGAIN
    slower = 2 ** min(raft.failures - 1, 16)
    return _wait(raft, TimerName.ELECTION, (min(low * slower, 0.5), min(high * slower, 1.0)))


def _why_nobody(raft: Raft, unheard: Mapping[VoterKey, str]) -> str:
    silent = [voter.node_id for voter in raft.voters if unheard.get(voter) == ""]
    declined = [unheard[voter] for voter in raft.voters if unheard.get(voter)]
    needed = len(raft.voters) // 2 + 1
    why = f"no leader can be elected: {needed} of {len(raft.voters)} voters are needed"
    if silent:
        do = "does" if len(silent) == 1 else "do"
        why += f", and {', '.join(silent)} {do} not answer {raft.me.node_id}"
    return "; ".join([why, *declined])


# ---------------------------------------------------------------- 5.2 elections: winning


def _won(raft: Raft) -> Step:
    """A majority has voted for this node: that it leads is on disk before it says so."""
    leads = replace(raft.ballot, leader_id=raft.me.node_id)
    return raft, (SaveThen(leads, Lead()), StopWaiting(TimerName.CANVASS))


def _leads(raft: Raft, ballot: Ballot, now_s: float) -> Step:
    granted_by = tuple(voter.node_id for voter in raft.voters if voter in raft.granted)
    raft = replace(
        raft, ballot=ballot, role=Role.LEADER, failures=0, fetched={}, led_since_s=now_s, leaves=False, heard_s=None
    )
    return raft, (
        Announce(ballot.term, raft.me.node_id, granted_by=granted_by),
        TellLead(raft.others),
        *_wait(raft, TimerName.LEAD, (LOOK_EVERY, LOOK_EVERY)),
    )


# ---------------------------------------------------------------- 5.2 and 5.4.1 elections: voting


def vote_asked(raft: Raft, call_id: int, request: VoteRequest, now_s: float) -> Step:
    """A candidate asks for this node's vote, or if it would get it. The store compares the logs, with the vote."""
    if request.is_pre_vote:
        return _pre_vote_asked(raft, call_id, request, now_s)
    if (why_not := _why_no_vote(raft, request, now_s)) is not None:
        return raft, (Answer(call_id, is_granted=False, why_not=why_not),)
    then = AnswerVote(call_id, request)
    reached = step_towards(request.term, raft.term)
    if reached < request.term:
        return raft, (SaveThen(Ballot(reached), then),)
    vote = Ballot(request.term, request.node_id, None, request.log_epoch)
    return raft, (SaveThen(vote, then, candidate=request.last),)


def _why_no_vote(raft: Raft, request: VoteRequest, now_s: float) -> str | None:
    """Why this node does not even look at its log; None if that decides."""
    me, ballot = raft.me.node_id, raft.ballot
    if request.term < ballot.term or (request.term > ballot.term and not is_ahead(request.term, ballot.term)):
        return f"{me} is in term {ballot.term}"
    if request.last.term >= request.term:
        return f"a log that ends in term {request.last.term} belongs to no candidate of term {request.term}"
    # D section 4.2.3: whoever has just heard of the leader does not let itself be led away, nor to a later term.
    is_asked_to = request.by_leave and raft.role is not Role.LEADER
    if raft.is_sticky(now_s) and not is_asked_to:
        return f"{me} has heard of leader {raft.leader_id} within {raft.timeout_s:g} s"
    if request.term == ballot.term:
        if ballot.vote not in (None, (request.node_id, request.log_epoch)):
            return f"{me} has voted for {ballot.voted_for} in term {ballot.term}"
        if ballot.leader_id not in (None, request.node_id):
            return f"{ballot.leader_id} leads term {ballot.term}"
    return None


def _pre_vote_asked(raft: Raft, call_id: int, request: VoteRequest, now_s: float) -> Step:
    """KIP-996. Granting one touches neither vote nor timer: a node that stands itself may grant it, too."""
    then = AnswerVote(call_id, request)
    if is_ahead(request.term, raft.term) and not raft.is_sticky(now_s):
        return raft, (SaveThen(Ballot(step_towards(request.term, raft.term)), then),)
    if (why_not := _why_no_pre_vote(raft, request, None, now_s)) is not None:
        return raft, (Answer(call_id, is_granted=False, why_not=why_not),)
    raft, effects = _given_way(raft, request)
    return raft, (*effects, ReadEndThen(then))


def _why_no_pre_vote(raft: Raft, request: VoteRequest, own: LastEntry | None, now_s: float) -> str | None:
    me = raft.me.node_id
    if raft.role is Role.LEADER:
        return f"{me} leads term {raft.term}"
    if raft.is_sticky(now_s):
        return f"{me} has heard of leader {raft.leader_id} within {raft.timeout_s:g} s"
    if request.term != raft.term:
        return f"{me} is in term {raft.term}"
    if own is not None and request.last < own:
        return _why_too_short(me, own)
    return None


def _given_way(raft: Raft, request: VoteRequest) -> Step:
    """Of two that stand at once the one with the better log goes on: both would vote for themselves."""
    if raft.role is not Role.PROSPECTIVE or raft.last is None or raft.gave_way_in == raft.term:
        return raft, NOTHING
    if (request.last, request.node_id) < (raft.last, raft.me.node_id):
        return raft, NOTHING
    raft = _following(replace(raft, canvass=raft.canvass + 1, gave_way_in=raft.term))
    return raft, (StopWaiting(TimerName.CANVASS), *_wait(raft, TimerName.ELECTION, GIVE_WAY))


def _voted(raft: Raft, ballot: Ballot, last: LastEntry, then: AnswerVote, *, is_granted: bool, now_s: float) -> Step:
    """The store has judged: the vote is on disk, or the candidate's log is too short (section 5.4.1)."""
    effects = NOTHING
    if ballot.term > raft.term:
        raft, effects = _entered(raft, ballot)
    raft = replace(raft, ballot=ballot)
    request = then.request
    if request.is_pre_vote:
        why_not = _why_no_pre_vote(raft, request, last, now_s)
        return raft, (*effects, Answer(then.call_id, why_not is None, why_not or ""))
    if is_granted and ballot.vote == (request.node_id, request.log_epoch):
        # Of votes only one that is given has the election timer begin anew.
        return raft, (*effects, Answer(then.call_id, is_granted=True), *_wait(raft, TimerName.ELECTION, STAND))
    return raft, (*effects, Answer(then.call_id, is_granted=False, why_not=_why_too_short(raft.me.node_id, last)))


def _why_too_short(me: NodeId, own: LastEntry) -> str:
    return f"the log of {me} reaches further: to index {own.index} in term {own.term}"


# ---------------------------------------------------------------- KIP-595: the leader says that it leads


def begin_term_asked(raft: Raft, call_id: int, request: BeginTermRequest, now_s: float) -> Step:
    """A node says that a majority has voted for it in that term (BeginQuorumEpoch)."""
    ballot = raft.ballot
    if request.term < ballot.term or (request.term > ballot.term and not is_ahead(request.term, ballot.term)):
        return raft, (Answer(call_id, is_granted=False, why_not=f"{raft.me.node_id} is in term {ballot.term}"),)
    if request.term == ballot.term and ballot.leader_id not in (None, request.node_id):
        why = f"{request.node_id} says that it leads term {request.term}, in which {ballot.leader_id} leads"
        return raft, (Shout(why, request.node_id), Answer(call_id, is_granted=False, why_not=why))
    if request.term == ballot.term and raft.role is Role.FOLLOWER:
        return replace(raft, heard_s=now_s), (Answer(call_id, is_granted=True),)
    reached = step_towards(request.term, ballot.term)
    if reached < request.term:
        refused = Answer(call_id, is_granted=False, why_not=f"{raft.me.node_id} is in term {ballot.term}")
        return raft, (refused, SaveThen(Ballot(reached), Enter()))
    followed = Ballot(request.term, None, request.node_id)
    if request.term == ballot.term:
        followed = replace(ballot, leader_id=request.node_id)
    return raft, (SaveThen(followed, FollowCaller(call_id)),)


def leader_hinted(raft: Raft, term: Term, leader_id: NodeId, *, is_its_own_word: bool) -> Step:
    """A node of this term says who leads in it.

    is_its_own_word: whether the leader itself says so; a node that has missed it for long believes nobody else.
    """
    if term != raft.term or leader_id == raft.me.node_id or raft.leader_id is not None:
        return raft, NOTHING
    if raft.ballot.leader_id not in (None, leader_id):
        return raft, NOTHING
    if raft.has_given_up and not is_its_own_word:
        return raft, NOTHING
    return raft, (SaveThen(replace(raft.ballot, leader_id=leader_id), Enter()),)


def leader_answered(raft: Raft, term: Term, leader_id: NodeId, at_s: float) -> Step:
    """The leader has answered a fetch: nothing else keeps a follower from standing."""
    if (term, leader_id) != (raft.term, raft.leader_id) or raft.role not in (Role.FOLLOWER, Role.PROSPECTIVE):
        return raft, NOTHING
    raft = replace(raft, heard_s=at_s, failures=0)
    if raft.role is Role.FOLLOWER:
        return raft, NOTHING
    raft = replace(raft, role=Role.FOLLOWER, canvass=raft.canvass + 1)
    return raft, (StopWaiting(TimerName.CANVASS), *_wait(raft, TimerName.ELECTION, STAND))


def leader_lost(raft: Raft, leader_id: NodeId) -> Step:
    """The leader's process is gone. Only a majority that has lost it, too, will grant a pre-vote."""
    if raft.role is not Role.FOLLOWER or leader_id != raft.leader_id:
        return raft, NOTHING
    raft = replace(raft, heard_s=None)
    return raft, _wait(raft, TimerName.ELECTION, LEADER_LOST)


def leader_suspected(raft: Raft, leader_id: NodeId, now_s: float) -> Step:
    """Gossip says that the leader has failed: that shortens the wait of a node that misses it already."""
    if raft.heard_s is not None and now_s - raft.heard_s < SILENT_AFTER * raft.timeout_s:
        return raft, NOTHING
    return leader_lost(raft, leader_id)


# ---------------------------------------------------------------- D 6.2 check quorum


def voter_fetched(raft: Raft, voter: VoterKey, at_s: float) -> Step:
    """A voter has fetched from this leader, in its term and with a log that fits."""
    if raft.role is not Role.LEADER or voter not in raft.voters:
        return raft, NOTHING
    return replace(raft, fetched={**raft.fetched, voter: at_s}), NOTHING


def lead_looked_at(raft: Raft, now_s: float, *, was_late: bool) -> Step:
    """Time to see whether a majority still fetches, and to tell those who do not that this node leads.

    was_late: whether this comes much later than it was due: the process stood still, and what came in meanwhile has to
        be looked at first.
    """
    if raft.role is not Role.LEADER:
        return raft, NOTHING
    again = _wait(raft, TimerName.LEAD, (LOOK_EVERY, LOOK_EVERY))
    if was_late:
        return raft, again
    since_s = now_s - QUORUM_WITHIN * raft.timeout_s
    present = {raft.me} | {voter for voter, at_s in raft.fetched.items() if at_s >= since_s}
    if raft.led_since_s < since_s and not raft.is_majority(present):
        return resigned(raft)
    silent_since_s = now_s - SILENT_AFTER * raft.timeout_s
    silent = tuple(voter for voter in raft.others if raft.fetched.get(voter, raft.led_since_s) < silent_since_s)
    return raft, (*((TellLead(silent),) if silent else NOTHING), *again)


def resigned(raft: Raft) -> Step:
    """Stop leading. The vote for itself stays on disk: it leads no more in this term, and votes for nobody else."""
    return _entered(raft, raft.ballot)


# ---------------------------------------------------------------- D 3.10 hand-over


def left(raft: Raft, successors: tuple[VoterKey, ...]) -> Step:
    """Ask others to take over. This node leads on, and serves fetches, until it is asked for its vote."""
    if raft.role is not Role.LEADER or not successors:
        return raft, NOTHING
    return replace(raft, leaves=True), (TellLeave(successors),)


def stayed(raft: Raft) -> Step:
    """Nobody has taken over: lead on as before."""
    return replace(raft, leaves=False), NOTHING


def end_term_asked(raft: Raft, call_id: int, request: EndTermRequest) -> Step:
    """The leader asks this node to take over (TimeoutNow, D section 3.10; EndQuorumEpoch): no pre-vote is needed."""
    is_leaders = request.term == raft.term and request.node_id == raft.leader_id
    if not is_leaders or not raft.may_stand or raft.role not in (Role.FOLLOWER, Role.PROSPECTIVE):
        return raft, (Answer(call_id, is_granted=False, why_not=f"{request.node_id} does not lead {raft.me.node_id}"),)
    raft = replace(raft, heard_s=None)
    accepted = Answer(call_id, is_granted=True)
    if raft.me not in request.successors:
        return raft, (accepted,)
    at = request.successors.index(raft.me)
    if at > 0:
        wait = _wait(raft, TimerName.ELECTION, (at * SUCCESSOR_EVERY, at * SUCCESSOR_EVERY))
        return raft, (accepted, *wait)
    raft, effects = _stand(raft, by_leave=True)
    return raft, (accepted, *effects)


# ---------------------------------------------------------------- what is on disk


def written(raft: Raft, ballot: Ballot, last: LastEntry, then: Next, *, is_granted: bool, now_s: float) -> Step:
    """The store has answered `SaveThen`: go on from what is on disk, which is not always what was asked for.

    ballot: what is on disk.
    last: the last entry of the log, which holds as long as the ballot does.
    then: what was to follow.
    is_granted: whether what was asked for is what was saved.
    """
    match then:
        case AnswerVote():
            return _voted(raft, ballot, last, then, is_granted=is_granted, now_s=now_s)
        case Stand(by_leave) if is_granted:
            return _stood(raft, ballot, last, by_leave=by_leave)
        case Lead() if is_granted:
            return _leads(raft, ballot, now_s)
        case Stand() | Lead():
            return _entered(replace(raft, role=Role.CANDIDATE), ballot)
        case FollowCaller(call_id):
            raft, effects = _entered(raft, ballot)
            return replace(raft, heard_s=now_s), (*effects, Answer(call_id, is_granted))
        case _:
            return _entered(raft, ballot)


def end_read(raft: Raft, last: LastEntry, then: Next, now_s: float) -> Step:
    """The store has answered `ReadEndThen`."""
    match then:
        case PreVoteCanvass(number):
            return _canvass_for_pre_votes(raft, last, number)
        case AnswerVote(call_id, request):
            why_not = _why_no_pre_vote(raft, request, last, now_s)
            return raft, (Answer(call_id, why_not is None, why_not or ""),)
        case _:
            raise AssertionError(f"the end of the log was not asked for {then}")


def voters_changed(
    raft: Raft,
    voters: tuple[VoterKey, ...],
    *,
    was_voter_before: bool = False,
    fetched: Mapping[VoterKey, float] | None = None,
) -> Step:
    """The log names other voters; they count from now on (D section 4.1).

    was_voter_before: whether this node is in the set before.
    fetched: on a leader, when the nodes that had no vote before have fetched last.
    """
    could_stand = raft.may_stand
    known = {**(fetched or {}), **raft.fetched}
    raft = replace(
        raft,
        voters=voters,
        is_outgoing=was_voter_before and raft.me not in voters,
        fetched={voter: at_s for voter, at_s in known.items() if voter in voters},
    )
    if raft.may_stand and not could_stand:
        return raft, _wait(raft, TimerName.ELECTION, STAND)
    return raft, NOTHING


def voters_committed(raft: Raft) -> Step:
    """The set of voters in force is committed: who has no vote in it is needed no more."""
    return replace(raft, is_outgoing=False), NOTHING


def _wait(raft: Raft, timer: TimerName, timeouts: tuple[float, float]) -> tuple[Effect, ...]:
    """Set a timer, to election timeouts."""
    return (Wait(timer, timeouts[0] * raft.timeout_s, timeouts[1] * raft.timeout_s),)

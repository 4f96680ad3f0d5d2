"""The words of the rules: what a node asks of its disk and of other nodes, what it announces, and its timers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ourolog.actors.messages.peer_calls import VoteRequest
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import NodeId, Term

# ---------------------------------------------------------------- what follows once the disk has answered


@dataclass(frozen=True, slots=True)
class Stand:
    """This node's vote for itself is on disk: ask the others for theirs.

    by_leave: whether the leader asked it to take over.
    """

    by_leave: bool = False


@dataclass(frozen=True, slots=True)
class Lead:
    """That this node leads is on disk: say so."""


@dataclass(frozen=True, slots=True)
class Enter:
    """A later term, or who leads in this one, is on disk: go on from there."""


@dataclass(frozen=True, slots=True)
class FollowCaller:
    """That the caller leads is on disk: follow it, and answer.

    call_id: of the call to be answered.
    """

    call_id: int


@dataclass(frozen=True, slots=True)
class AnswerVote:
    """The vote is on disk, or was refused: answer.

    call_id: of the call to be answered.
    request: what was asked for; also a pre-vote, whose term is on disk now.
    """

    call_id: int
    request: VoteRequest


@dataclass(frozen=True, slots=True)
class PreVoteCanvass:
    """The end of the log is known: ask the others if they would vote for it.

    number: of the canvass, see `Raft.canvass`.
    """

    number: int


Next = Stand | Lead | Enter | FollowCaller | AnswerVote | PreVoteCanvass


# ---------------------------------------------------------------- effects


class TimerName(StrEnum):
    """A node's timers; each is set once at a time.

    ELECTION: no leader is known, or it has not answered: stand.
    CANVASS: votes that have not come by now are not waited for.
    LEAD: look whether a majority still fetches from this leader.
    """

    ELECTION = "election"
    CANVASS = "canvass"
    LEAD = "lead"


@dataclass(frozen=True, slots=True)
class SaveThen:
    """Have the store save the ballot; `written` follows.

    ballot: what to save.
    then: what comes after that.
    candidate: the last entry of the candidate whose vote this is; None for what this node saves of its own accord.
    """

    ballot: Ballot
    then: Next
    candidate: LastEntry | None = None


@dataclass(frozen=True, slots=True)
class ReadEndThen:
    """Have the store say where the log ends; `end_read` follows.

    then: what comes after that.
    """

    then: Next


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a call.

    call_id: which.
    is_granted: whether this node does what it was asked to.
    why_not: if not, a sentence that says why.
    """

    call_id: int
    is_granted: bool
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class AskForVotes:
    """Ask all other voters, in the present term.

    last: the last entry of this node's log.
    is_pre_vote: whether the question is only if they would.
    by_leave: whether the leader asked this node to take over.
    """

    last: LastEntry
    is_pre_vote: bool
    by_leave: bool = False


@dataclass(frozen=True, slots=True)
class TellLead:
    """Tell these voters that this node leads.

    voters: who is told.
    """

    voters: tuple[VoterKey, ...]


@dataclass(frozen=True, slots=True)
class TellLeave:
    """Ask these voters to take over.

    successors: the one that should stand first comes first.
    """

    successors: tuple[VoterKey, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell this node's other actors who leads, if they have not been told.

    term: the present term, which is on disk.
    leader_id: who leads in it, None if nobody is known to.
    why_nobody: for a person, why nobody can be elected; "" if that is known to pass.
    granted_by: where this node leads, who voted for it.
    """

    term: Term
    leader_id: NodeId | None
    why_nobody: str = ""
    granted_by: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Set a timer anew.

    timer: which.
    at_least_s, at_most_s: between which two times from now it is due; when, is drawn.
    """

    timer: TimerName
    at_least_s: float
    at_most_s: float


@dataclass(frozen=True, slots=True)
class StopWaiting:
    """Stop a timer.

    timer: which.
    """

    timer: TimerName


@dataclass(frozen=True, slots=True)
class Shout:
    """Warn a person: something has happened that this election makes impossible.

    reason: what.
    about: the node that it is about.
    """

    reason: str
    about: NodeId


OutwardEffect = Answer | AskForVotes | TellLead | TellLeave | Announce | Wait | StopWaiting | Shout
"""Whatever asks nothing of the disk."""

Effect = SaveThen | ReadEndThen | OutwardEffect

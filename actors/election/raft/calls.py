"""Calls between voters: those of others that wait for an answer, and this node's own to all voters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

from ourolog.actors.config import NodeConfig
from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.decisions import Decisions
from ourolog.actors.election.raft.electorate import Electorate
from ourolog.actors.election.raft.rules import Raft
from ourolog.actors.election.raft.steps import Answer, AskForVotes, TellLead, TellLeave
from ourolog.actors.messages.election import ElectionMessage
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    CallAnswer,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    EndTermRequest,
    PeerRequest,
    TermResponse,
    VoteRequest,
    VoteResponse,
    VoterRequest,
)
from ourolog.actors.messages.values import Peer
from ourolog.actors.ports import PeerNetwork
from ourolog.storage.control import VoterKey
from ourolog.storage.founding import Founding


@dataclass(frozen=True, slots=True)
class Asked:
    """A vote that this node has asked for.

    voter: whose.
    canvass: the number of the canvass.
    is_pre_vote: whether it only asked if it would be given.
    """

    voter: VoterKey
    canvass: int
    is_pre_vote: bool


class VoterCalls:
    """The calls of one node that are open, in both directions. The rules decide what they mean."""

    def __init__(
        self,
        config: NodeConfig,
        network: PeerNetwork,
        me: Mailbox[ElectionMessage],
        next_id: Callable[[], int],
        electorate: Electorate,
        decisions: Decisions,
    ) -> None:
        """Prepare without a call.

        me: where answers go.
        next_id: a fresh request id of the election.
        electorate: knows where the voters are.
        """
        self._node_id = config.node_id
        self._cluster = config.cluster
        self._network = network
        self._me = me
        self._next_id = next_id
        self._electorate = electorate
        self._decisions = decisions
        self._received: dict[int, CallReceived[Any]] = {}
        self._asked: dict[int, Asked] = {}
        self._leaving: set[int] = set()

    # ------------------------------------------------------------ calls of others

    def take(self, received: CallReceived[VoterRequest], key: VoterKey | None, founding: Founding | None) -> bool:
        """Keep a call until `answer`. One that means nothing here is refused at once; returns whether it was not.

        key: this node with its disk, None while it is starting.
        founding: to which cluster its disk belongs, None if to none.
        """
        refusal = self._why_not(received.request, key, founding)
        if refusal:
            received.reply_to.tell(CallAnswer(received.request_id, CallRefused(refusal)))
            return False
        self._received[received.request_id] = received
        return True

    def _why_not(self, request: VoterRequest, key: VoterKey | None, founding: Founding | None) -> str:
        """Why this call means nothing here: another cluster, or another disk than this one is meant."""
        caller, me = request.node_id, self._node_id
        if request.cluster != self._cluster:
            return f"{me} is of cluster {self._cluster!r}, {caller} of {request.cluster!r}"
        if key is None:
            return f"{me} is starting"
        if founding is None:
            return f"{me} belongs to no cluster yet by its disk, and has no vote"
        if founding.cluster_id != request.cluster_id:
            return (
                f"{me} belongs to cluster {founding.cluster_id:x} by its disk, {caller} to {request.cluster_id:x}: "
                "they were founded separately. Give one of them an empty --data-dir, or another --cluster"
            )
        if request.voter != key:
            return f"{me} has another disk than the one that votes: it copies, and has no vote until admitted"
        return ""

    def decide(self, received: CallReceived[VoterRequest]) -> None:
        """Have the rules decide on a call that was taken."""
        call_id, request, decisions = received.request_id, received.request, self._decisions
        match request:
            case VoteRequest():
                decisions.decide(lambda raft: rules.vote_asked(raft, call_id, request, decisions.now_s))
            case BeginTermRequest():
                decisions.decide(lambda raft: rules.begin_term_asked(raft, call_id, request, decisions.now_s))
            case EndTermRequest():
                decisions.decide(lambda raft: rules.end_term_asked(raft, call_id, request))
            case _:
                assert_never(request)

    def forget(self, request_id: int) -> None:
        """Nobody waits for that answer any more."""
        self._received.pop(request_id, None)

    def answer(self, answer: Answer, raft: Raft) -> None:
        received = self._received.pop(answer.call_id, None)
        if received is None:
            return
        response: VoteResponse | TermResponse
        if isinstance(received.request, VoteRequest):
            response = VoteResponse(*raft.me, raft.term, raft.leader_id, answer.is_granted, answer.why_not)
        else:
            response = TermResponse(*raft.me, raft.term, raft.leader_id, answer.is_granted)
        received.reply_to.tell(CallAnswer(received.request_id, response))

    # ------------------------------------------------------------ own calls

    def ask_for_votes(self, asked: AskForVotes, raft: Raft, cluster_id: int) -> None:
        for voter in raft.others:
            request = functools.partial(
                VoteRequest, last=asked.last, is_pre_vote=asked.is_pre_vote, by_leave=asked.by_leave
            )
            request_id = self._call(voter, request, raft, cluster_id)
            self._asked[request_id] = Asked(voter, raft.canvass, asked.is_pre_vote)

    def vote_returned(self, returned: CallReturned[VoteResponse]) -> None:
        asked, response = self._asked.pop(returned.request_id, None), returned.response
        if asked is not None and response.key == asked.voter:
            self._decisions.decide(
                lambda raft: rules.vote_returned(raft, response, asked.canvass, is_pre_vote=asked.is_pre_vote)
            )

    def vote_failed(self, failed: CallFailed) -> bool:
        """A call is over without an answer. Returns whether it has asked for a vote."""
        asked = self._asked.pop(failed.request_id, None)
        if asked is None:
            return False
        declined = failed.reason if failed.is_declined else ""
        self._decisions.decide(lambda raft: rules.vote_not_returned(raft, asked.voter, asked.canvass, declined))
        return True

    def tell_lead(self, told: TellLead, raft: Raft, cluster_id: int) -> None:
        for voter in told.voters:
            self._call(voter, BeginTermRequest, raft, cluster_id)

    def tell_standby(self, key: VoterKey, raft: Raft, cluster_id: int) -> int:
        """Tell a node without a vote that this one leads. Returns the id of the call."""
        return self._call(key, BeginTermRequest, raft, cluster_id)

    def tell_leave(self, told: TellLeave, raft: Raft, cluster_id: int) -> None:
        request = functools.partial(EndTermRequest, successors=told.successors)
        for voter in told.successors:
            self._leaving.add(self._call(voter, request, raft, cluster_id))

    @property
    def tells_successors(self) -> bool:
        """Whether a voter has still to hear that it should take over."""
        return bool(self._leaving)

    def has_told(self, request_id: int) -> None:
        """Note that a call is over, which may have told a successor."""
        self._leaving.discard(request_id)

    def _call(self, voter: VoterKey, request: Callable[..., PeerRequest[Any]], raft: Raft, cluster_id: int) -> int:
        """Ask a voter. Returns the id of the call."""
        addr = self._electorate.address_of(voter.node_id)
        assert addr is not None, "a voter has an address in the log"
        request_id = self._next_id()
        made = request(
            cluster=self._cluster,
            cluster_id=cluster_id,
            node_id=raft.me.node_id,
            log_epoch=raft.me.log_epoch,
            voter=voter,
            term=raft.term,
        )
        self._network.call(Peer(voter.node_id, addr), request_id, made, self._me)
        return request_id

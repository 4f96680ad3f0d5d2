"""Calls between voters: those of others that wait for an answer, and this node's own to all voters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ourolog.actors.election.raft.rules import Raft
from ourolog.actors.election.raft.steps import Answer, AskForVotes, TellLead, TellLeave
from ourolog.actors.messages.election import ElectionMessage
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    CallAnswer,
    CallReceived,
    CallRefused,
    EndTermRequest,
    PeerRequest,
    TermResponse,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.values import Peer
from ourolog.actors.ports import PeerNetwork
from ourolog.storage.control import VoterKey
from ourolog.storage.founding import Founding
from ourolog.storage.types import NodeId

VoterRequest = VoteRequest | BeginTermRequest | EndTermRequest
"""What voters ask each other."""


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
    """The calls of one node that are open, in both directions. It decides nothing about terms and votes."""

    def __init__(
        self,
        node_id: NodeId,
        cluster: str,
        network: PeerNetwork,
        me: Mailbox[ElectionMessage],
        next_id: Callable[[], int],
        address_of: Callable[[NodeId], str | None],
    ) -> None:
        """Prepare without a call.

        node_id: this node.
        cluster: the name of its cluster.
        me: where answers go.
        next_id: a fresh request id of the election.
        address_of: gives the gRPC address of a voter.
        """
        self._node_id = node_id
        self._cluster = cluster
        self._network = network
        self._me = me
        self._next_id = next_id
        self._address_of = address_of
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

    def asked(self, request_id: int) -> Asked | None:
        """The vote that was asked for by that call, which is over; None if it asked for something else."""
        return self._asked.pop(request_id, None)

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
        addr = self._address_of(voter.node_id)
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

"""Rare states of elections that voters hold among themselves: what candidates, voters and leaders come upon.

Taken from what the actors of each node tell each other, and from what becomes of processes and disks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, LogAppended, LogOpened
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    CallReturned,
    EndTermRequest,
    FoundRequest,
    FoundResponse,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.server import Produce
from ourolog.actors.messages.store import BallotSaved, LogDescribed, LogTruncated
from ourolog.simulation.events import (
    Event,
    FaultInjected,
    FileReplaced,
    MessageTold,
    NodeCrashed,
    NodePaused,
    NodeResumed,
    NodeStarted,
    NodeStopped,
)
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.founding import Founding
from ourolog.storage.identity import BALLOT_NAME
from ourolog.storage.terms import LastEntry, TermHistory
from ourolog.storage.types import Index, NodeId, Term

ELECTION_STATES: Final[dict[str, str]] = {
    "split_vote": "Two stood in one term, and neither had led when somebody stood in a later one.",
    "pre_vote_refused_short_log": "A node would not vote for a candidate whose last entry was older than its own.",
    "pre_vote_refused_longer_log": "It would not though that log was longer: its last entry was of an older term.",
    "pre_vote_refused_led": "A node that had just heard of its leader would not vote for another.",
    "vote_refused_led": "Such a node refused its vote, and did not go to the later term.",
    "vote_refused_after_pre_vote": "A node refused its vote to who had been told that it would have it.",
    "vote_answered_late": "A candidate was told of a vote for it in a term that was over for it.",
    "crash_before_vote_answer": "A node crashed between the beginning of a ballot's write and the answer to who asked.",
    "vote_of_lost_disk_asked": "A node was asked for its vote with a disk that it had lost.",
    "wiped_voter_returned": "A node that had a vote was started again on an empty disk.",
    "leader_resigned": "A leader stopped leading while no later term was known to it.",
    "produce_after_freeze": "A leader that stood still for long was asked to produce before it could hear of another.",
    "deposed_with_copied_entries": "A leader lost the lead with entries that were not committed, and another had some.",
    "old_term_on_majority_cut": "Entries of an older term that were on a majority were cut (Raft figure 8).",
    "hand_over_asked": "A leader asked another node to take over.",
    "hand_over_cut": "One of the two crashed before anybody led.",
    "vote_by_leave": "A node voted for whom the leader had asked to take over.",
    "vote_given_to_another": "A node that had voted for one candidate in a term was asked by another one in it.",
    "founding_promised_otherwise": "A node that was asked to found a cluster had promised to found another one.",
}

FREEZES_FOR_S: Final = 2.0
"""Longer than a leader waits for a majority."""

_REMEMBERED: Final = 256


@dataclass(slots=True)
class _Node:
    """What is known of a node; `ballot` and `voted_with` are of its disk.

    open: the votes that it is asked for.
    promises: the founding promises that it is asked for.
    writes_ballot: whether it has written a ballot since it was asked for one of them.
    last: where its log ended when its store was asked last.
    would_vote: for whom it said that it would vote, and in which term.
    paused_s: since when it stands still, None if it does not.
    is_frozen: whether it led when it stood still for long, and has not heard of another leader since.
    epoch: of its log, 0 before one was opened.
    """

    node_id: NodeId
    ballot: Ballot = field(default_factory=Ballot)
    leads_in: Term = Term(0)
    end: Index = Index(0)
    committed: Index = Index(0)
    terms: TermHistory = field(default_factory=TermHistory)
    open: dict[int, VoteRequest] = field(default_factory=dict)
    promises: dict[int, Founding | None] = field(default_factory=dict)
    writes_ballot: bool = False
    last: LastEntry | None = None
    would_vote: tuple[VoterKey, Term] | None = None
    paused_s: float | None = None
    is_frozen: bool = False
    epoch: int = 0


class ElectionStates:
    """Watches candidates, voters and leaders.

    note: called with the name of each state that is reached.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._nodes: dict[NodeId, _Node] = {}
        self._stood: OrderedDict[Term, set[NodeId]] = OrderedDict()
        self._led = Term(0)
        self._votes: dict[int, VoteResponse] = {}
        self._old_on_majority: dict[tuple[Index, Term], None] = {}
        self._handing_over: set[NodeId] = set()
        self._wiped: set[NodeId] = set()
        self._on_message: dict[type, tuple[str, Callable[[_Node, Any, float], None]]] = {
            LogOpened: ("to election", self._on_opened),
            LogAppended: ("to replicator", self._on_appended),
            LogTruncated: ("to replicator", self._on_truncated),
            LogDescribed: ("to election", self._on_described),
            CommitAdvanced: ("to server", self._on_committed),
            BallotSaved: ("to election", self._on_ballot_saved),
            LeaderChanged: ("to replicator", self._on_leader_changed),
            CallReceived: ("to election", self._on_call),
            CallAnswer: ("from election", self._on_answer),
            CallReturned: ("to election", self._on_returned),
            Produce: ("to server", self._on_produce),
        }

    @property
    def messages(self) -> Collection[type]:
        """The classes of message that are of interest."""
        return self._on_message

    def see(self, event: Event) -> None:
        match event:
            case MessageTold():
                place, handle = self._on_message[type(event.message)]
                direction, actor = place.split()
                node_id, _, name = (event.receiver if direction == "to" else event.sender).rpartition(".")
                if name == actor:
                    handle(self._node(NodeId(node_id)), event.message, event.time_s)
            case FileReplaced():
                if event.path.endswith(f"/{BALLOT_NAME}"):
                    self._node(event.node_id).writes_ballot = True
            case NodeStarted():
                self._on_started(event.node_id)
            case NodeStopped():
                self._on_ended(self._node(event.node_id))
            case NodeCrashed():
                self._on_crashed(self._node(event.node_id))
            case NodePaused():
                self._node(event.node_id).paused_s = event.time_s
            case NodeResumed():
                node = self._node(event.node_id)
                is_long = node.paused_s is not None and event.time_s > node.paused_s + FREEZES_FOR_S
                node.is_frozen, node.paused_s = is_long and node.leads_in > 0, None
            case FaultInjected():
                if event.kind == "disk_lost" and self._node(NodeId(event.where)).epoch:
                    self._wiped.add(NodeId(event.where))
            case _:
                pass

    def _node(self, node_id: NodeId) -> _Node:
        node = self._nodes.get(node_id)
        if node is None:
            node = self._nodes[node_id] = _Node(node_id)
        return node

    # ------------------------------------------------------------ processes

    def _on_started(self, node_id: NodeId) -> None:
        before = self._node(node_id)
        self._nodes[node_id] = _Node(node_id, epoch=before.epoch)
        if node_id in self._wiped and before.ballot.term:
            self._wiped.discard(node_id)
            self._note("wiped_voter_returned")

    def _on_crashed(self, node: _Node) -> None:
        if node.writes_ballot and any(not request.is_pre_vote for request in node.open.values()):
            self._note("crash_before_vote_answer")
        if node.node_id in self._handing_over:
            self._note("hand_over_cut")
            self._handing_over.clear()
        self._on_ended(node)

    def _on_ended(self, node: _Node) -> None:
        self._depose(node)
        node.open.clear()
        node.writes_ballot = node.is_frozen = False

    # ------------------------------------------------------------ logs

    def _on_opened(self, node: _Node, opened: LogOpened, _: float) -> None:
        node.ballot, node.epoch = opened.ballot, opened.log_epoch
        node.end, node.terms, node.committed = opened.end.index, opened.terms, opened.committed.index

    def _on_appended(self, node: _Node, appended: LogAppended, _: float) -> None:
        node.end, node.terms = appended.ends[-1].index, appended.terms
        self._look_for_old_term(node)

    def _on_truncated(self, node: _Node, truncated: LogTruncated, _: float) -> None:
        end, terms = truncated.end.index, truncated.terms
        for index, term in list(self._old_on_majority):
            if end <= index < node.end and node.terms.term_of(index) == term:
                self._note("old_term_on_majority_cut")
                del self._old_on_majority[index, term]
        node.end, node.terms = end, terms

    def _on_described(self, node: _Node, described: LogDescribed, _: float) -> None:
        node.last = LastEntry.of(described.last, described.end.index)

    def _on_committed(self, node: _Node, advanced: CommitAdvanced, _: float) -> None:
        node.committed = max(node.committed, advanced.committed.index)

    def _look_for_old_term(self, follower: _Node) -> None:
        """Whether an entry of a term before the present leader's is on a majority now, and is not committed."""
        index = Index(follower.end - 1)
        term = follower.terms.term_of(index)
        if (
            follower.end == 0
            or not term
            or term >= self._led
            or index < max(node.committed for node in self._nodes.values())
        ):
            return
        holders = [n for n in self._nodes.values() if n.end > index and n.terms.term_of(index) == term]
        if 2 * len(holders) > len(self._nodes):
            self._old_on_majority[index, term] = None
            if len(self._old_on_majority) > _REMEMBERED:
                del self._old_on_majority[next(iter(self._old_on_majority))]

    # ------------------------------------------------------------ candidates and leaders

    def _on_ballot_saved(self, node: _Node, saved: BallotSaved, _: float) -> None:
        before, node.ballot = node.ballot, saved.ballot
        ballot = saved.ballot
        if ballot.term > before.term and ballot.voted_for == node.node_id:
            earlier = next(reversed(self._stood), Term(0))
            if earlier < ballot.term and len(self._stood.get(earlier, ())) > 1 and self._led < earlier:
                self._note("split_vote")
            self._stood.setdefault(ballot.term, set()).add(node.node_id)
            if len(self._stood) > _REMEMBERED:
                self._stood.popitem(last=False)

    def _on_leader_changed(self, node: _Node, changed: LeaderChanged, _: float) -> None:
        if node.leads_in and changed.leader_id != node.node_id:
            if changed.leader_id is None and changed.term == node.leads_in == node.ballot.term:
                self._note("leader_resigned")
            self._depose(node)
        node.is_frozen = False
        if changed.leader_id == node.node_id:
            node.leads_in = changed.term
            self._led = max(self._led, changed.term)
            self._handing_over.clear()

    def _depose(self, node: _Node) -> None:
        if node.leads_in and node.end > node.committed:
            first = node.committed
            term = node.terms.term_of(first)
            others = [other for other in self._nodes.values() if other is not node]
            if any(other.end > first and other.terms.term_of(first) == term for other in others):
                self._note("deposed_with_copied_entries")
        node.leads_in = Term(0)

    def _on_produce(self, node: _Node, _: Produce, time_s: float) -> None:
        """It may come while the node stands still, and is looked at when it wakes."""
        stands = node.paused_s is not None and node.leads_in > 0 and time_s > node.paused_s + FREEZES_FOR_S
        if node.is_frozen or stands:
            self._note("produce_after_freeze")
            node.is_frozen = False

    # ------------------------------------------------------------ calls

    def _on_call(self, node: _Node, received: CallReceived[Any], _: float) -> None:
        request = received.request
        if isinstance(request, VoteRequest):
            node.open[received.request_id] = request
            node.writes_ballot = False
            if node.epoch and request.voter.log_epoch != node.epoch:
                self._note("vote_of_lost_disk_asked")
        elif isinstance(request, FoundRequest):
            node.promises[received.request_id] = request.founding
        elif isinstance(request, EndTermRequest) and request.successors[:1] == (request.voter,):
            self._note("hand_over_asked")
            self._handing_over = {request.node_id, node.node_id}

    def _on_answer(self, node: _Node, answer: CallAnswer[Any], _: float) -> None:
        response = answer.response
        promise = node.promises.pop(answer.request_id, None)
        if isinstance(response, FoundResponse) and promise is not None and response.founding not in (None, promise):
            self._note("founding_promised_otherwise")
        request = node.open.pop(answer.request_id, None)
        if request is None or not isinstance(response, VoteResponse):
            return
        if request.is_pre_vote:
            self._on_pre_vote(node, request, response)
        elif response.granted:
            self._votes[id(response)] = response  # kept, so that no other object gets the same id
            if len(self._votes) > _REMEMBERED:
                del self._votes[next(iter(self._votes))]
            if request.by_leave:
                self._note("vote_by_leave")
        else:
            if node.would_vote == (request.key, Term(request.term - 1)):
                self._note("vote_refused_after_pre_vote")
            if response.leader_id is not None and response.term < request.term:
                self._note("vote_refused_led")
            if node.ballot.term == request.term and node.ballot.vote not in (None, request.key):
                self._note("vote_given_to_another")

    def _on_pre_vote(self, node: _Node, request: VoteRequest, response: VoteResponse) -> None:
        if response.granted:
            node.would_vote = request.key, request.term
        elif response.leader_id is not None and response.leader_id != node.node_id:
            self._note("pre_vote_refused_led")
        elif node.last is not None and request.last < node.last and response.term == request.term:
            self._note("pre_vote_refused_short_log")
            if request.last.index > node.last.index:
                self._note("pre_vote_refused_longer_log")

    def _on_returned(self, node: _Node, returned: CallReturned[Any], _: float) -> None:
        vote = self._votes.pop(id(returned.response), None)
        if vote is not None and vote.term < node.ballot.term:
            self._note("vote_answered_late")

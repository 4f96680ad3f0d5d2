"""Rare states of replication: unusual states of logs, terms and fetches when the lead changes.

They are found from nothing but what the actors of each node tell each other, so that it costs little.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from ourolog.actors.messages.events import (
    CommitAdvanced,
    LeaderChanged,
    LogAppended,
    LogOpened,
    LogStartMoved,
    VotersChanged,
)
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, FetchOutcome, FetchRequest, FetchResponse
from ourolog.actors.messages.server import Consume, Produce, Refusal, RequestRefused
from ourolog.actors.messages.store import (
    AppendFetched,
    AppendPulled,
    AppendRefused,
    BallotSaved,
    FetchedAppended,
    FetchedRejected,
    LogTruncated,
    PulledAppended,
    PullRejected,
    ReadBatches,
    ResetLog,
    SaveBallot,
    TruncateLog,
)
from ourolog.actors.messages.values import ReadLevel
from ourolog.actors.replication.commit import majority_index
from ourolog.simulation.events import (
    Event,
    FileRemoved,
    FileReplaced,
    MessageTold,
    NodeCrashed,
    NodeStarted,
    NodeStopped,
)
from ourolog.storage.identity import BALLOT_NAME
from ourolog.storage.segment import LOG_SUFFIX
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

REPLICATION_STATES: Final[dict[str, str]] = {
    "truncation": "A follower cut entries off that its leader does not have.",
    "truncation_over_segments": "What was cut off lay in more than one segment.",
    "truncation_over_terms": "What was cut off was of more than one term.",
    "cut_then_crash": "A node crashed after it had cut its log, with nothing appended in between.",
    "divergence": "A leader found a follower's log to part from its own.",
    "log_reset": "A follower dropped its whole log to begin where the leader's begins.",
    "roll_during_pull": "A segment was sealed while what a pull had brought was being appended.",
    "change_in_flight": "The lead passed on while the one who had it had entries that were not committed.",
    "append_refused_in_new_term": "A store refused to append in a term that was over.",
    "two_leaders_at_once": "A node came to lead while another still did.",
    "two_claims_to_one_term": "A node came to lead in a term in which another led.",
    "two_leaders_serve": "A leader answered a fetch with batches while another led in a later term.",
    "produce_at_deposed_leader": "A leader was asked to produce while another led in a later term.",
    "leader_restarted_shorter": "Who had led was started again with less than it had had, and another had more.",
    "old_term_on_majority": "Entries of an older term, not committed, were on a majority (Raft section 5.4.2).",
    "follower_longer_than_leader": "A follower's log was longer than that of who came to lead.",
    "parked_fetch_over_term": "A fetch waited for entries when the term changed.",
    "fetch_after_vote": "A fetch arrived whose sender had saved a ballot of a later term since.",
    "crash_after_ballot": "A node crashed between writing a ballot and saying so.",
    "append_in_flight_at_ballot": "A ballot was to be saved while appends waited in the store.",
    "duplicate_fetch": "One fetch was received twice.",
    "retention_below_follower": "Retention took what somebody who pulls had not pulled yet.",
    "stale_term_seen": "A fetch came from an older term.",
    "pull_out_of_range": "A pull asked for entries that the source does not have.",
    "new_log_seen": "A pull met another log than it knew under the same name.",
    "reader_woken": "A reader that waited at the end of the log was woken by a new record.",
    "inbox_full": "A client was refused because too much waited already.",
}

_REMEMBERED: Final = 64


@dataclass(slots=True)
class _Node:
    """What is known of a node's present life; `promised` and `cut` are of its disk.

    leads_in: the term it leads in, 0 if it does not.
    has_led: whether it has led in this life or, until its log is open, in the one before.
    fetched: of each who fetched, below which index it has everything.
    """

    node_id: NodeId
    term: Term = Term(0)
    voters: tuple[NodeId, ...] = ()
    leads_in: Term = Term(0)
    has_led: bool = False
    start: Position = START
    end: Position = START
    committed: Position = START
    terms: TermHistory = field(default_factory=TermHistory)
    fetched: dict[NodeId, Index] = field(default_factory=dict)
    open_fetches: dict[int, CallReceived[FetchRequest]] = field(default_factory=dict)
    tailing: dict[int, Offset] = field(default_factory=dict)
    appending: int = 0
    is_truncating: bool = False
    has_cut: bool = False
    writes_ballot: bool = False
    promised: Term = Term(0)


class ReplicationStates:
    """Watches the event stream for rare states of replication.

    note: called with the name of each state that is reached.
    """

    sees: ClassVar[tuple[type, ...]] = (
        MessageTold,
        NodeStarted,
        NodeStopped,
        NodeCrashed,
        FileRemoved,
        FileReplaced,
    )

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._nodes: dict[NodeId, _Node] = {}
        self._places: dict[str, tuple[NodeId, str]] = {}
        self._leading = Term(0)
        self._requests: OrderedDict[int, object] = OrderedDict()
        # By class of message: the node it concerns, and what to do with that and the message.
        self._on_message: dict[type, tuple[str, Callable[[_Node, Any], None]]] = {
            LogOpened: ("to replicator", self._on_opened),
            LogAppended: ("to", self._on_appended),
            LogTruncated: ("to", self._on_truncated),
            LogStartMoved: ("to replicator", self._on_start_moved),
            TruncateLog: ("to", self._on_truncate),
            ResetLog: ("to", lambda *_: note("log_reset")),
            CommitAdvanced: ("to", self._on_committed),
            VotersChanged: ("to replicator", self._on_voters),
            LeaderChanged: ("to replicator", self._on_leader_changed),
            SaveBallot: ("to", self._on_save_ballot),
            BallotSaved: ("from", self._on_ballot_saved),
            AppendRefused: ("from", self._on_append_refused),
            AppendFetched: ("to", self._on_append),
            AppendPulled: ("to", self._on_append),
            FetchedAppended: ("to", self._on_append_ended),
            FetchedRejected: ("to", self._on_fetched_rejected),
            PulledAppended: ("to", self._on_append_ended),
            PullRejected: ("to", self._on_append_ended),
            CallReceived: ("to replicator", self._on_fetch),
            CallAnswer: ("from", self._on_call_answer),
            Consume: ("to", self._on_consume),
            ReadBatches: ("from server", self._on_read),
            Produce: ("to", self._on_produce),
            RequestRefused: ("from", self._on_refused),
        }

    @property
    def messages(self) -> Collection[type]:
        """The classes of message that are of interest."""
        return self._on_message

    def see(self, event: Event) -> None:
        match event:
            case MessageTold():
                self._see_told(event)
            case FileRemoved():
                if event.path.endswith(LOG_SUFFIX) and self._node(event.node_id).is_truncating:
                    self._note("truncation_over_segments")
            case FileReplaced():
                self._on_replaced(event)
            case NodeStarted():
                before = self._node(event.node_id)
                self._nodes[event.node_id] = _Node(
                    event.node_id,
                    promised=before.promised,
                    has_cut=before.has_cut,
                    end=before.end,
                    has_led=before.has_led,
                )
            case NodeStopped() | NodeCrashed():
                self._on_ended(event)
            case _:
                pass

    def _see_told(self, told: MessageTold) -> None:
        whose, handle = self._on_message[type(told.message)]
        direction, _, only = whose.partition(" ")
        node_id, actor = self._place(told.receiver if direction == "to" else told.sender)
        if not only or actor == only:
            handle(self._node(node_id), told.message)

    def _node(self, node_id: NodeId) -> _Node:
        node = self._nodes.get(node_id)
        if node is None:
            node = self._nodes[node_id] = _Node(node_id)
        return node

    def _place(self, name: str) -> tuple[NodeId, str]:
        place = self._places.get(name)
        if place is None:
            node_id, _, actor = name.rpartition(".")
            place = self._places[name] = (NodeId(node_id), actor)
        return place

    # ------------------------------------------------------------ processes and files

    def _on_ended(self, event: NodeStopped | NodeCrashed) -> None:
        node = self._node(event.node_id)
        if isinstance(event, NodeCrashed):
            if node.has_cut:
                self._note("cut_then_crash")
            if node.writes_ballot:
                self._note("crash_after_ballot")
        node.leads_in = Term(0)
        node.writes_ballot = False
        self._leading = max(other.leads_in for other in self._nodes.values())

    def _on_replaced(self, event: FileReplaced) -> None:
        name = event.path.rpartition("/")[2]
        if name == BALLOT_NAME:
            self._node(event.node_id).writes_ballot = True
        elif name.endswith(".state") and self._node(event.node_id).appending:
            self._note("roll_during_pull")

    # ------------------------------------------------------------ logs

    def _on_opened(self, node: _Node, opened: LogOpened) -> None:
        has_lost = opened.end.index < node.end.index
        if node.has_led and has_lost and any(other.end > opened.end for other in self._nodes.values()):
            self._note("leader_restarted_shorter")
        node.has_led = False
        node.start, node.end, node.terms, node.committed = opened.start, opened.end, opened.terms, opened.committed
        node.promised = opened.ballot.term
        node.has_cut = False

    def _on_appended(self, node: _Node, appended: LogAppended) -> None:
        node.end, node.terms = appended.ends[-1], appended.terms
        node.has_cut = False

    def _on_truncate(self, node: _Node, truncate: TruncateLog) -> None:
        node.is_truncating = True
        self._note("truncation")
        cut_terms = {run.term for run in node.terms.runs if run.first >= truncate.index}
        if node.end.index > truncate.index:
            cut_terms.add(node.terms.term_of(truncate.index))
        if len(cut_terms) > 1:
            self._note("truncation_over_terms")

    def _on_truncated(self, node: _Node, truncated: LogTruncated) -> None:
        node.start, node.end, node.terms = truncated.start, truncated.end, truncated.terms
        node.is_truncating = False
        node.has_cut = True

    def _on_start_moved(self, node: _Node, moved: LogStartMoved) -> None:
        node.start = moved.start
        if any(index < moved.start.index for index in node.fetched.values()):
            self._note("retention_below_follower")

    # ------------------------------------------------------------ terms and leaders

    def _on_voters(self, node: _Node, changed: VotersChanged) -> None:
        node.voters = changed.voters

    def _on_ballot_saved(self, node: _Node, saved: BallotSaved) -> None:
        node.promised = max(node.promised, saved.ballot.term)
        node.writes_ballot = False

    def _on_save_ballot(self, node: _Node, _: SaveBallot) -> None:
        if node.appending:
            self._note("append_in_flight_at_ballot")

    def _on_leader_changed(self, node: _Node, changed: LeaderChanged) -> None:
        if any(fetch.request.next_index >= node.end.index for fetch in node.open_fetches.values()):
            self._note("parked_fetch_over_term")
        node.term = changed.term
        node.leads_in = changed.term if changed.leader_id == node.node_id else Term(0)
        self._leading = max(other.leads_in for other in self._nodes.values())
        node.fetched.clear()
        if node.leads_in:
            self._on_leads(node)

    def _on_leads(self, leader: _Node) -> None:
        leader.has_led = True
        for other in self._nodes.values():
            if other is not leader and other.leads_in:
                self._note("two_leaders_at_once")
                if other.leads_in == leader.leads_in:
                    self._note("two_claims_to_one_term")
            if other is not leader and 0 < other.leads_in < leader.leads_in and other.end > other.committed:
                self._note("change_in_flight")
            if other is not leader and other.node_id in leader.voters and other.end.index > leader.end.index:
                self._note("follower_longer_than_leader")

    # ------------------------------------------------------------ commit

    def _on_committed(self, node: _Node, advanced: CommitAdvanced) -> None:
        node.committed = max(node.committed, advanced.committed)

    def _check_old_term(self, leader: _Node) -> None:
        on_disk = {**leader.fetched, leader.node_id: leader.end.index}
        index = min(majority_index(leader.voters, on_disk), leader.end.index)
        if index > leader.committed.index and leader.terms.term_of(Index(index - 1)) < leader.leads_in:
            self._note("old_term_on_majority")

    # ------------------------------------------------------------ pulls

    def _on_append(self, node: _Node, _: AppendFetched | AppendPulled) -> None:
        node.appending += 1

    def _on_append_refused(self, _: _Node, refused: AppendRefused) -> None:
        if refused.problem is None:
            self._note("append_refused_in_new_term")

    def _on_append_ended(self, node: _Node, _: Any) -> None:
        node.appending = max(0, node.appending - 1)

    def _on_fetched_rejected(self, node: _Node, rejected: FetchedRejected) -> None:
        self._on_append_ended(node, rejected)
        if rejected.term < node.promised:
            self._note("append_refused_in_new_term")

    def _on_fetch(self, node: _Node, received: CallReceived[Any]) -> None:
        request = received.request
        if not isinstance(request, FetchRequest):
            return
        if id(request) in self._requests:
            self._note("duplicate_fetch")
        self._requests[id(request)] = request  # kept, so that no other object gets the same id meanwhile
        if len(self._requests) > _REMEMBERED:
            self._requests.popitem(last=False)
        node.open_fetches[received.request_id] = received
        if len(node.open_fetches) > _REMEMBERED:
            del node.open_fetches[next(iter(node.open_fetches))]
        if request.elected and request.term < self._node(request.node_id).promised:
            self._note("fetch_after_vote")
        if not request.elected or request.term == node.leads_in:
            node.fetched[request.node_id] = request.disk_index if request.elected else request.next_index
            if node.leads_in:
                self._check_old_term(node)

    def _on_call_answer(self, node: _Node, answer: CallAnswer[Any]) -> None:
        """Of a fetch: by the replicator, or by the store that has read the batches."""
        response = answer.response
        if not isinstance(response, FetchResponse):
            return
        node.open_fetches.pop(answer.request_id, None)
        state = _OUTCOMES.get(response.outcome)
        if state is not None:
            self._note(state)
        elif response.outcome is FetchOutcome.BATCHES and response.batches and 0 < node.leads_in < self._leading:
            self._note("two_leaders_serve")

    # ------------------------------------------------------------ clients

    def _on_consume(self, node: _Node, consume: Consume) -> None:
        if consume.wait and consume.read is ReadLevel.COMMITTED and consume.offset >= node.committed.offset:
            node.tailing[consume.request_id] = consume.offset
            if len(node.tailing) > _REMEMBERED:
                del node.tailing[next(iter(node.tailing))]

    def _on_read(self, node: _Node, read: ReadBatches) -> None:
        if node.tailing.pop(read.request_id, None) == read.offset:
            self._note("reader_woken")

    def _on_produce(self, node: _Node, _: Produce) -> None:
        if 0 < node.leads_in < self._leading:
            self._note("produce_at_deposed_leader")

    def _on_refused(self, _: _Node, refused: RequestRefused) -> None:
        if refused.refusal is Refusal.OVERLOADED:
            self._note("inbox_full")


_OUTCOMES: Final = {
    FetchOutcome.DIVERGED: "divergence",
    FetchOutcome.OUT_OF_RANGE: "pull_out_of_range",
    FetchOutcome.NEW_LOG: "new_log_seen",
    FetchOutcome.STALE_TERM: "stale_term_seen",
}

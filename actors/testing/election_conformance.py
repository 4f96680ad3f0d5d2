"""What every occupant of the election slot must hold to, as tests to inherit.

    class TestMyElection(ElectionConformance):
        occupant = MyElection
        election = parse_election("static:n1,n2")
        node_id = NodeId("n1")

and pytest runs every claim below against it. An occupant that depends on its peers overrides
`until_announced` to let them speak.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, ClassVar, Final

from ourolog.actors.actor import NodeRef
from ourolog.actors.config import ElectionChoice, NodeConfig
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.election import HandedOver, HandOver, HigherTermSeen, LeaderTransferred, TransferLeader
from ourolog.actors.messages.events import LeaderChanged, LogOpened, MemberJoined, NobodyElected, VotersChanged
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallReturned,
    FoundRequest,
    FoundResponse,
    LogEndRequest,
    LogEndResponse,
    TermResponse,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.status import ElectionStatus, ReportStatus, StatusReported
from ourolog.actors.messages.store import (
    BallotSaved,
    DescribeLog,
    FoundingSaved,
    LogDescribed,
    SaveBallot,
    SaveFounding,
    StoreFailed,
)
from ourolog.actors.messages.values import Member
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.testing.testkit import Probe, ScriptedNetwork, stepping_ports
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import Voter
from ourolog.storage.founding import Founding
from ourolog.storage.terms import LastEntry, Place, TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

OWN_EPOCH: Final = 1
PEERS_EPOCH: Final = 2
"""The epochs of the logs of this node and of its peers."""


class Slot:
    """An occupant in its slot: its store, its listener, and what is on disk.

    on_disk: the ballot.
    end, last: where the log ends, and the place of its last entry; empty at first.
    disk_answers: whether its store answers.
    founding: the founding promise that is on disk, None if there is none.
    peers: the other voters, by where they say that their logs end; those that are not in it do not answer. They vote
        for whoever asks, and follow whoever leads.
    """

    def __init__(
        self,
        occupant: type[ElectionActor],
        config: NodeConfig,
        ballot: Ballot = Ballot(),  # noqa: B008
        founding: Founding | None = None,
    ) -> None:
        self.runtime = SteppingRuntime()
        self.store = Probe()
        self.listener = Probe()
        self.observer = Probe()
        self.on_disk = ballot
        self.end = START
        self.last: Place | None = None
        self.disk_answers = True
        self.founding = founding
        self.peers: dict[NodeId, LogEndResponse] = {
            voter: LogEndResponse(voter, PEERS_EPOCH, Term(0), None, START, None, START)
            for voter in config.election.voters
        }
        self._answered = 0
        self._described = 0
        self._founded = 0
        self.config = config
        self.network = ScriptedNetwork()
        self.ref: NodeRef = self.runtime.spawn(
            occupant,
            config=config,
            ports=stepping_ports(self.runtime, network=self.network, observer=self.observer),
            store=self.store,
            listeners=(self.listener,),
        )

    def open_log(self) -> None:
        self.ref.tell(
            LogOpened(START, START, TermHistory(), OWN_EPOCH, self.on_disk, (), START, founding=self.founding)
        )
        for voter in self.config.election.voters:
            if voter != self.config.node_id:
                self.ref.tell(MemberJoined(Member(voter, f"{voter}:1", f"{voter}:2")))
        self.settle()

    def settle(self, seconds: float = 0.0) -> None:
        """Let everything happen that can, for that much virtual time.

        The store judges ballots and saves them, and says what is on disk. Peers answer where their logs end.
        """
        self.runtime.run_for(seconds)
        while self._store_answers() or self._peers_answer():
            self.runtime.run_until_idle()

    def _store_answers(self) -> bool:
        """Whether there was anything to answer."""
        before = self._answered + self._described + self._founded
        while self.disk_answers and self._answered < len(self.store.all(SaveBallot)):
            asked = self.store.all(SaveBallot)[self._answered]
            self._answered += 1
            granted = self._judge(asked)
            saved = BallotSaved(asked.request_id, self.on_disk, granted, self.end, self.last, None)
            asked.reply_to.tell(saved)
            self.runtime.run_until_idle()

        while self.disk_answers and self._founded < len(self.store.all(SaveFounding)):
            promise = self.store.all(SaveFounding)[self._founded]
            self._founded += 1
            self.founding = self.founding or promise.founding
            promise.reply_to.tell(FoundingSaved(promise.request_id, self.founding))
            self.runtime.run_until_idle()

        while self.disk_answers and self._described < len(self.store.all(DescribeLog)):
            question = self.store.all(DescribeLog)[self._described]
            self._described += 1
            described = LogDescribed(question.request_id, self.on_disk, START, self.end, self.last, START, None)
            question.reply_to.tell(described)
            self.runtime.run_until_idle()
        return self._answered + self._described + self._founded > before

    def _judge(self, message: SaveBallot) -> bool:
        """Save a ballot as the store does, or refuse it. Whether it was granted."""
        present, asked = self.on_disk, message.ballot
        is_newer = asked.term > present.term
        granted = is_newer or (asked.term == present.term and present.voted_for in (None, asked.voted_for))
        if message.candidate is None:
            assert asked.term >= present.term, "terms never fall"
            is_led = not is_newer and present.leader_id not in (None, asked.leader_id or asked.voted_for)
            granted = granted and not (is_led and asked.voted_for is not None)
        else:
            is_led = not is_newer and present.leader_id not in (None, asked.voted_for)
            granted = granted and not is_led and message.candidate >= LastEntry.of(self.last, self.end.index)
        if granted:
            is_known = not is_newer and asked.leader_id is None
            self.on_disk = replace(asked, leader_id=present.leader_id) if is_known else asked
        elif is_newer:
            self.on_disk = Ballot(asked.term)
        return granted

    def _peers_answer(self) -> bool:
        answered = False
        for call in list(self.network.open):
            peer = self.peers.get(call.peer.node_id)
            response = self._answer_of(peer, call.request) if peer is not None else None
            if response is not None:
                self.network.open.remove(call)
                call.answer(response)
                answered = True
        return answered

    def _answer_of(self, peer: LogEndResponse, request: Any) -> Any:
        """What that peer answers; None if it does not."""
        match request:
            case LogEndRequest():
                return peer
            case VoteRequest():
                return VoteResponse(peer.node_id, peer.log_epoch, request.term, None, granted=True)
            case FoundRequest():
                name = peer.node_id
                return FoundResponse(
                    name, peer.log_epoch, f"{name}:1", f"{name}:2", agrees=True, founding=self.founding
                )
            case BeginTermRequest():
                return TermResponse(peer.node_id, peer.log_epoch, request.term, request.node_id, accepted=True)
            case _:
                return None

    def leaders(self) -> list[LeaderChanged]:
        return self.listener.all(LeaderChanged)


class ElectionConformance:
    """Inherit, set the class variables, and let pytest collect it.

    occupant: the class under test.
    election: what it was chosen by.
    node_id: the node that it runs on.
    informant: the node that speaks of later terms; an occupant may believe its leader alone.
    cluster_id: of the cluster that was founded before, where clusters have one: all voters of `election` have promised
        it, this node with a log of OWN_EPOCH, the others with one of PEERS_EPOCH. 0 if clusters have none.
    """

    occupant: ClassVar[type[ElectionActor]]
    election: ClassVar[ElectionChoice]
    node_id: ClassVar[NodeId] = NodeId("n1")
    informant: ClassVar[NodeId] = NodeId("n2")
    cluster_id: ClassVar[int] = 0

    def slot(self, ballot: Ballot = Ballot()) -> Slot:  # noqa: B008
        config = NodeConfig(self.node_id, "/data", "127.0.0.1:1", "127.0.0.1:2", election=self.election)
        return Slot(self.occupant, config, ballot, self._founding())

    def _founding(self) -> Founding | None:
        if not self.cluster_id:
            return None
        epochs = {voter: OWN_EPOCH if voter == self.node_id else PEERS_EPOCH for voter in self.election.voters}
        voters = tuple(Voter(voter, epoch, f"{voter}:1", f"{voter}:2") for voter, epoch in epochs.items())
        return Founding(self.cluster_id, voters)

    def later_term(self, term: int, peer_id: NodeId | None = None) -> HigherTermSeen:
        """That node, or the informant, is in that term."""
        return HigherTermSeen(Term(term), None, peer_id or self.informant, self.cluster_id)

    def until_announced(self, slot: Slot) -> None:
        """Bring the slot to its first announcement."""
        slot.settle(seconds=30)

    def test_it_announces_nothing_before_the_log_is_open(self) -> None:
        slot = self.slot()
        slot.settle(seconds=60)
        assert slot.listener.received == []
        assert slot.store.received == []

    def test_it_announces_something_once_the_log_is_open(self) -> None:
        slot = self.slot()
        slot.open_log()
        self.until_announced(slot)
        assert slot.listener.all(NobodyElected) or slot.leaders()

    def test_it_says_who_votes_before_it_says_who_leads(self) -> None:
        slot = self.slot()
        slot.open_log()
        self.until_announced(slot)
        kinds = [type(message) for message in slot.listener.received]
        if LeaderChanged in kinds:
            assert VotersChanged in kinds[: kinds.index(LeaderChanged)]

    def test_no_term_is_announced_before_its_ballot_is_on_disk(self) -> None:
        slot = self.slot()
        slot.disk_answers = False
        slot.open_log()
        slot.settle(seconds=60)
        assert [change for change in slot.leaders() if change.term > slot.on_disk.term] == []
        slot.disk_answers = True
        self.until_announced(slot)
        for change in slot.leaders():
            assert change.term <= slot.on_disk.term

    def test_terms_never_fall_across_restarts(self) -> None:
        ballot, terms = Ballot(), []
        for _ in range(4):
            slot = self.slot(ballot)
            slot.open_log()
            self.until_announced(slot)
            terms += [change.term for change in slot.leaders()]
            ballot = slot.on_disk
        assert terms == sorted(terms)

    def test_a_crash_while_the_ballot_is_saved_does_not_bring_an_old_term_back(self) -> None:
        first = self.slot()
        first.open_log()
        self.until_announced(first)
        first.disk_answers = False
        first.ref.tell(self.later_term(first.on_disk.term + 7, NodeId("n9")))
        first.settle(seconds=5)
        asked = [message.ballot for message in first.store.all(SaveBallot)]
        for survived in (first.on_disk, asked[-1] if asked else first.on_disk):
            second = self.slot(survived)
            second.open_log()
            self.until_announced(second)
            for change in second.leaders():
                assert change.term >= survived.term

    def test_who_has_voted_for_another_does_not_lead_in_that_term(self) -> None:
        for voter in self.election.voters:
            for term in range(1, len(self.election.voters) + 1):
                for leader_id in (None, voter):
                    slot = self.slot(Ballot(Term(term), voter, leader_id))
                    slot.open_log()
                    self.until_announced(slot)
                    if voter != self.node_id:
                        assert LeaderChanged(Term(term), self.node_id) not in slot.leaders()

    def test_at_most_one_leader_is_announced_for_a_term(self) -> None:
        slot = self.slot()
        slot.open_log()
        self.until_announced(slot)
        for term in (3, 2, 9):
            slot.ref.tell(self.later_term(term))
            slot.settle(seconds=5)
        leaders: dict[Term, NodeId] = {}
        for change in slot.leaders():
            if change.leader_id is not None:
                assert leaders.setdefault(change.term, change.leader_id) == change.leader_id

    def test_a_term_that_was_heard_of_is_never_undercut(self) -> None:
        slot = self.slot()
        slot.open_log()
        self.until_announced(slot)
        if not slot.leaders():
            return  # this election has no leaders
        before = len(slot.leaders())
        slot.ref.tell(self.later_term(41))
        slot.settle()  # a leader whose disk hangs for long may give up the term that it is in
        self.until_announced(slot)
        assert len(slot.leaders()) > before
        assert all(change.term >= 41 for change in slot.leaders()[before:])

    def test_a_ballot_of_a_higher_term_is_followed_by_its_announcement(self) -> None:
        slot = self.slot()
        slot.open_log()
        self.until_announced(slot)
        for term in (3, 17, 40):
            slot.ref.tell(self.later_term(term))
            self.until_announced(slot)
            announced = max((change.term for change in slot.leaders()), default=Term(0))
            assert announced >= slot.on_disk.term, "the store refuses every other term, and nobody was told of this one"

    def test_every_change_is_announced_once(self) -> None:
        slot = self.slot()
        slot.open_log()
        self.until_announced(slot)
        slot.ref.tell(self.later_term(5))
        slot.ref.tell(self.later_term(5, NodeId("n3")))
        slot.settle(seconds=30)
        announced = slot.listener.received
        assert all(one != other for one, other in itertools.pairwise(announced))

    def test_its_status_agrees_with_what_it_announced(self) -> None:
        slot = self.slot()
        slot.open_log()
        self.until_announced(slot)
        probe = Probe()
        slot.ref.tell(ReportStatus(1, probe))
        slot.settle()
        status = probe.last(StatusReported).status
        assert isinstance(status, ElectionStatus)
        if slot.leaders():
            assert (status.term, status.leader_id) == (slot.leaders()[-1].term, slot.leaders()[-1].leader_id)
        else:
            assert status.leader_id is None

    def test_it_hands_over_once_whenever_the_node_stops(self) -> None:
        for is_open in (False, True):
            slot = self.slot()
            if is_open:
                slot.open_log()
                self.until_announced(slot)
            probe = Probe()
            slot.ref.tell(HandOver(7, probe))
            slot.settle(seconds=30)
            assert probe.received == [HandedOver(7)]

    def test_what_a_failed_store_can_no_longer_save_keeps_no_node_from_stopping(self) -> None:
        slot, probe = self.slot(), Probe()
        slot.open_log()
        self.until_announced(slot)
        slot.disk_answers = False
        slot.ref.tell(StoreFailed("the disk is full"))
        slot.ref.tell(HandOver(7, probe))
        slot.settle(seconds=30)
        assert probe.received == [HandedOver(7)]

    def test_it_says_once_who_leads_when_it_is_to_give_the_lead_away(self) -> None:
        for is_open, to in itertools.product((True, False), (None, self.node_id, NodeId("n2"), NodeId("a-stranger"))):
            slot, probe = self.slot(), Probe()
            if is_open:
                slot.open_log()
                self.until_announced(slot)
            slot.ref.tell(TransferLeader(7, to, probe))
            slot.settle(seconds=30)
            answers = probe.all(LeaderTransferred)
            assert [answer.request_id for answer in answers] == [7]
            answer = answers[0]
            assert answer.why_not or answer.leader_id in (self.node_id, to) or to is None

    def test_it_answers_every_call_once_if_only_with_a_refusal(self) -> None:
        for opens_later in (False, True):
            slot, caller = self.slot(), Probe()
            calls = [
                LogEndRequest(cluster, NodeId(name), 1, election, Term(0))
                for cluster in ("ourolog", "another cluster")
                for name in ("n2", "a stranger")
                for election in (str(self.election), "another")
            ]
            if not opens_later:
                slot.open_log()
                self.until_announced(slot)
            for request_id, request in enumerate(calls):
                slot.ref.tell(CallReceived(request_id, request, caller))
                slot.settle()
            if opens_later:
                slot.open_log()
                self.until_announced(slot)
            answers = caller.all(CallAnswer)
            assert sorted(answer.request_id for answer in answers) == list(range(len(calls)))

    def test_where_its_log_ends_it_says_as_the_disk_is_when_it_is_asked(self) -> None:
        slot, caller = self.slot(), Probe()
        slot.open_log()
        self.until_announced(slot)
        for entries in (3, 2):
            slot.end, slot.last = Position(Index(entries), Offset(entries)), Place(Term(1), (NodeId("n1"), 1))
            request = LogEndRequest("ourolog", NodeId("n2"), 1, str(self.election), Term(0))
            slot.ref.tell(CallReceived(entries, request, caller))
            slot.settle(seconds=1)
            response = caller.last(CallAnswer).response
            if isinstance(response, LogEndResponse):
                assert (response.term, response.end, response.last) == (slot.on_disk.term, slot.end, slot.last)

    def test_no_two_of_its_questions_have_one_id(self) -> None:
        slot, caller = self.slot(), Probe()
        slot.open_log()
        self.until_announced(slot)
        for term in (3, 17):
            slot.ref.tell(self.later_term(term))
            request = LogEndRequest("ourolog", NodeId("n2"), 1, str(self.election), Term(0))
            slot.ref.tell(CallReceived(term, request, caller))
            slot.settle(seconds=5)
        for questions in (slot.store.received, slot.network.open):
            ids = [question.request_id for question in questions if hasattr(question, "request_id")]
            assert len(set(ids)) == len(ids)

    def test_what_is_over_with_its_calls_harms_nobody(self) -> None:
        slot, caller = self.slot(), Probe()
        slot.open_log()
        self.until_announced(slot)
        slot.ref.tell(CallReceived(1, LogEndRequest("ourolog", NodeId("n2"), 1, str(self.election), Term(0)), caller))
        for request_id in (1, 2):
            slot.ref.tell(CallCancelled(request_id))
        slot.settle(seconds=5)
        assert len(caller.all(CallAnswer)) <= 1
        end = LogEndResponse(NodeId("n2"), 1, Term(0), None, START, None, START)
        slot.ref.tell(CallReturned(NodeId("n2"), 2**40, end))
        slot.ref.tell(CallFailed(NodeId("n2"), 2**40, "the connection broke"))
        slot.settle(seconds=5)
        assert len(caller.all(CallAnswer)) <= 1

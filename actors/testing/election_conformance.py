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
from typing import ClassVar

from ourolog.actors.actor import NodeRef
from ourolog.actors.config import ElectionChoice, NodeConfig
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.election import HandedOver, HandOver, HigherTermSeen
from ourolog.actors.messages.events import LeaderChanged, LogOpened, MemberJoined, NobodyElected, VotersChanged
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallReturned,
    LogEndRequest,
    LogEndResponse,
)
from ourolog.actors.messages.status import ElectionStatus, ReportStatus, StatusReported
from ourolog.actors.messages.store import BallotSaved, DescribeLog, LogDescribed, SaveBallot
from ourolog.actors.messages.values import Member
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.testing.testkit import Probe, ScriptedNetwork, stepping_ports
from ourolog.storage.ballot import Ballot
from ourolog.storage.terms import LastEntry, Place, TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term


class Slot:
    """An occupant in its slot: its store, its listener, and what is on disk.

    on_disk: the ballot.
    end, last: where the log ends, and the place of its last entry; empty at first.
    disk_answers: whether its store answers.
    peers: the other voters, by where they say that their logs end; those that are not in it do not answer.
    """

    def __init__(self, occupant: type[ElectionActor], config: NodeConfig, ballot: Ballot = Ballot()) -> None:  # noqa: B008
        self.runtime = SteppingRuntime()
        self.store = Probe()
        self.server = Probe()
        self.listener = Probe()
        self.on_disk = ballot
        self.end = START
        self.last: Place | None = None
        self.disk_answers = True
        self.peers: dict[NodeId, LogEndResponse] = {
            voter: LogEndResponse(voter, 2, Term(0), None, START, None, START) for voter in config.election.voters
        }
        self._answered = 0
        self._described = 0
        self.config = config
        self.network = ScriptedNetwork()
        self.ref: NodeRef = self.runtime.spawn(
            occupant,
            config=config,
            ports=stepping_ports(self.runtime, network=self.network),
            store=self.store,
            server=self.server,
            listeners=(self.listener,),
        )

    def open_log(self) -> None:
        self.ref.tell(LogOpened(START, START, TermHistory(), 1, self.on_disk, (), START))
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
        before = self._answered + self._described
        while self.disk_answers and self._answered < len(self.store.all(SaveBallot)):
            asked = self.store.all(SaveBallot)[self._answered]
            self._answered += 1
            granted = self._judge(asked)
            saved = BallotSaved(asked.request_id, self.on_disk, granted, self.end, self.last, None)
            asked.reply_to.tell(saved)
            self.runtime.run_until_idle()

        while self.disk_answers and self._described < len(self.store.all(DescribeLog)):
            question = self.store.all(DescribeLog)[self._described]
            self._described += 1
            described = LogDescribed(question.request_id, self.on_disk, START, self.end, self.last, START, None)
            question.reply_to.tell(described)
            self.runtime.run_until_idle()
        return self._answered + self._described > before

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
            if isinstance(call.request, LogEndRequest) and peer is not None:
                self.network.open.remove(call)
                call.answer(peer)
                answered = True
        return answered

    def leaders(self) -> list[LeaderChanged]:
        return self.listener.all(LeaderChanged)


class ElectionConformance:
    """Inherit, set the class variables, and let pytest collect it.

    occupant: the class under test.
    election: what it was chosen by.
    node_id: the node that it runs on.
    informant: the node that speaks of later terms; an occupant may believe its leader alone.
    """

    occupant: ClassVar[type[ElectionActor]]
    election: ClassVar[ElectionChoice]
    node_id: ClassVar[NodeId] = NodeId("n1")
    informant: ClassVar[NodeId] = NodeId("n2")

    def slot(self, ballot: Ballot = Ballot()) -> Slot:  # noqa: B008
        config = NodeConfig(self.node_id, "/data", "127.0.0.1:1", "127.0.0.1:2", election=self.election)
        return Slot(self.occupant, config, ballot)

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
        first.ref.tell(HigherTermSeen(Term(first.on_disk.term + 7), None, NodeId("n9")))
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
            slot.ref.tell(HigherTermSeen(Term(term), None, self.informant))
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
        slot.ref.tell(HigherTermSeen(Term(41), None, self.informant))
        self.until_announced(slot)
        assert len(slot.leaders()) > before
        assert all(change.term >= 41 for change in slot.leaders()[before:])

    def test_a_ballot_of_a_higher_term_is_followed_by_its_announcement(self) -> None:
        slot = self.slot()
        slot.open_log()
        self.until_announced(slot)
        for term in (3, 17, 40):
            slot.ref.tell(HigherTermSeen(Term(term), None, self.informant))
            self.until_announced(slot)
            announced = max((change.term for change in slot.leaders()), default=Term(0))
            assert announced >= slot.on_disk.term, "the store refuses every other term, and nobody was told of this one"

    def test_every_change_is_announced_once(self) -> None:
        slot = self.slot()
        slot.open_log()
        self.until_announced(slot)
        slot.ref.tell(HigherTermSeen(Term(5), None, self.informant))
        slot.ref.tell(HigherTermSeen(Term(5), None, NodeId("n3")))
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
            slot.ref.tell(HigherTermSeen(Term(term), None, self.informant))
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

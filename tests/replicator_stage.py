"""A replicator alone: a scripted store, scripted peers, virtual time."""

from __future__ import annotations

from typing import Any

from ourolog.actors.config import NOBODY_ELECTED, ElectionChoice, NodeConfig
from ourolog.actors.messages.events import (
    LeaderChanged,
    LogAppended,
    LogOpened,
    MemberJoined,
    VotersChanged,
)
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    FetchOutcome,
    FetchRequest,
    FetchResponse,
)
from ourolog.actors.messages.status import ReplicatorStatus, ReportStatus, StatusReported
from ourolog.actors.messages.values import Member
from ourolog.actors.occupants import parse_election
from ourolog.actors.replicator import ReplicatorActor
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.testing.testkit import Probe, ScriptedNetwork, stepping_ports
from ourolog.storage.ballot import Ballot
from ourolog.storage.terms import Place, Run, TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
ADDR = {N1: "127.0.0.1:1", N2: "127.0.0.1:2", N3: "127.0.0.1:3"}
STATIC = parse_election("static:n1,n2,n3")


def at(index: int, offset: int | None = None) -> Position:
    return Position(Index(index), Offset(index if offset is None else offset))


def member(node_id: NodeId) -> Member:
    return Member(node_id, ADDR[node_id], f"gossip-{node_id}")


WRITERS = {1: (N1, 77), 2: (N2, 78), 3: (N3, 79), 4: (N1, 77)}


def place(term: int) -> Place:
    """Of an entry of that term; each has one writer in these tests."""
    return Place(Term(term), WRITERS.get(term, (N1, 77)) if term else (N1, 0))


def history(*starts: tuple[int, int]) -> TermHistory:
    """Terms and where they begin."""
    return TermHistory(tuple(Run(*place(term), Index(index)) for term, index in starts))


class Stage:
    """A replicator between probes."""

    def __init__(self, node_id: NodeId = N1, election: ElectionChoice | None = None, **config: Any) -> None:
        self.runtime = SteppingRuntime()
        self.store, self.server, self.election, self.observer = Probe(), Probe(), Probe(), Probe()
        self.network = ScriptedNetwork()
        self.edge = Probe()
        self.ref = self.runtime.spawn(
            ReplicatorActor,
            config=NodeConfig(
                node_id, "/data", ADDR[node_id], "127.0.0.1:2", election=election or NOBODY_ELECTED, **config
            ),
            ports=stepping_ports(self.runtime, object(), network=self.network, observer=self.observer),  # type: ignore[arg-type]
            store=self.store,
            server=self.server,
            election=self.election,
        )

    def tell(self, *messages: object) -> None:
        for message in messages:
            self.ref.tell(message)
        self.runtime.run_until_idle()

    def open(self, end: Position = START, terms: TermHistory | None = None, **more: Any) -> None:
        opened: dict[str, Any] = {
            "start": START,
            "end": end,
            "terms": terms or TermHistory(),
            "log_epoch": 77,
            "ballot": Ballot(),
            "pull_positions": (),
            "committed": START,
            **more,
        }
        self.tell(LogOpened(**opened))

    def lead(self, term: int = 1) -> None:
        """Become the leader, with its control batch at index 0 of an empty log."""
        self.open()
        self.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(term), N1))
        self.appended(1, 0, term=term)

    def follow(self, term: int = 1, leader: NodeId = N2) -> None:
        self.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(term), leader), MemberJoined(member(leader)))

    def appended(self, index: int, offset: int, term: int = 1) -> None:
        self.tell(LogAppended((at(index, offset),), history((term, 0))))

    def fetch(self, request_id: int, node_id: NodeId, next_index: int, **changed: Any) -> None:
        fields: dict[str, Any] = {
            "cluster": "ourolog",
            "node_id": node_id,
            "log_epoch": 1,
            "elected": True,
            "term": Term(1),
            "next_index": Index(next_index),
            "last": place(1) if next_index else None,
            "source_epoch": 0,
            "committed": Index(0),
            "max_bytes": 1000,
            "max_wait_s": 0.5,
            "disk_index": Index(next_index),
            **changed,
        }
        self.tell(CallReceived(request_id, FetchRequest(**fields), self.edge))

    def answer_to(self, request_id: int) -> FetchResponse | None:
        for answer in self.edge.all(CallAnswer):
            if answer.request_id == request_id:
                return answer.response
        return None

    def answers_to(self, request_id: int) -> int:
        return sum(answer.request_id == request_id for answer in self.edge.all(CallAnswer))

    def status(self) -> ReplicatorStatus:
        probe = Probe()
        self.tell(ReportStatus(1, probe))
        status = probe.last(StatusReported).status
        assert isinstance(status, ReplicatorStatus)
        return status


def response(outcome: FetchOutcome = FetchOutcome.BATCHES, **changed: Any) -> FetchResponse:
    fields: dict[str, Any] = {
        "outcome": outcome,
        "term": Term(0),
        "log_epoch": 5,
        "start": START,
        "end": at(10),
        "committed": at(10),
        **changed,
    }
    return FetchResponse(**fields)

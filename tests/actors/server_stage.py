"""The server alone: a scripted store, clients as probes, virtual time."""

from __future__ import annotations

from typing import Any

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.events import CommitKnown, HoldProduces, LeaderChanged, LogOpened
from ourolog.actors.messages.replicator import ConfirmRead
from ourolog.actors.messages.server import CancelRequest, Consume, Produce, Refusal, RequestRefused
from ourolog.actors.messages.store import AppendBatch, BatchAppended
from ourolog.actors.messages.values import Acks, ReadLevel
from ourolog.actors.occupants import parse_election
from ourolog.actors.server import GATHERS_AT_MOST_S, ServerActor
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import NewBatch
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def at(index: int, offset: int) -> Position:
    return Position(Index(index), Offset(offset))


class Stage:
    """A server between a scripted store and a client."""

    def __init__(self, **settings: Any) -> None:
        self.runtime = SteppingRuntime()
        self.store, self.client, self.observer = Probe(), Probe(), Probe()
        self.replicator, self.election = Probe(), Probe()
        election = parse_election("static:n1,n2,n3")
        config = NodeConfig(N1, "/data", "127.0.0.1:1", "127.0.0.1:2", election=election, **settings)
        self.ref = self.runtime.spawn(
            ServerActor,
            config=config,
            ports=stepping_ports(self.runtime, object(), observer=self.observer),  # type: ignore[arg-type]
            store=self.store,
            replicator=self.replicator,
        )

    def tell(self, *messages: object) -> None:
        for message in messages:
            self.ref.tell(message)
        self.runtime.run_until_idle()

    def open(self, end: Position = START, committed: Position = START, start: Position = START) -> None:
        self.tell(LogOpened(start, end, TermHistory(), 1, Ballot(), (), committed))

    def lead(self, term: int = 1) -> None:
        """Lead, and know how far the log is committed."""
        self.open()
        self.tell(LeaderChanged(Term(term), N1), CommitKnown(Term(term)))

    def produce(self, *requests: tuple[int, bytes], acks: Acks = Acks.DEFAULT, **batch: Any) -> None:
        self.tell(
            *(
                Produce(request_id, NewBatch(payload, batch.pop("record_count", 1), **batch), acks, 5.0, self.client)
                for request_id, payload in requests
            )
        )

    def appended(self, base_offset: int, index: int) -> None:
        """Answer the last append, for which a produce behind others may have to wait."""
        self.runtime.run_for(GATHERS_AT_MOST_S)
        append = self.store.last(AppendBatch)
        end = at(index + 1, base_offset + append.batch.record_count)
        self.tell(BatchAppended(append.request_id, Offset(base_offset), Index(index), Term(1), end))

    def give_up(self, count: int) -> list[Probe]:
        """Clients whose produces are appended, and who then go away."""
        clients = [Probe() for _ in range(count)]
        for index, client in enumerate(clients, start=2):
            self.tell(Produce(index, NewBatch(b"v", 1), Acks.QUORUM, 5.0, client))
            self.appended(index - 1, index)
            self.tell(CancelRequest(index, client))
        return clients

    def read_latest(self, request_id: int, offset: int, *, wait: bool = False, client: Probe | None = None) -> None:
        reply_to = client or self.client
        self.tell(Consume(request_id, Offset(offset), 1000, wait, reply_to, ReadLevel.LATEST, timeout_s=2.5))

    def asked(self) -> ConfirmRead:
        return self.replicator.last(ConfirmRead)

    def refused(self) -> RequestRefused:
        return self.client.last(RequestRefused)

    def refusals(self) -> dict[int, Refusal]:
        return {refused.request_id: refused.refusal for refused in self.client.all(RequestRefused)}

    def hand_over(self, request_id: int = 1, within_s: float = 1.0) -> None:
        self.tell(HoldProduces(request_id, within_s, self.election))


def numbered(sequence: int, payload: bytes = b"v") -> NewBatch:
    return NewBatch(payload, 1, producer_id=9, producer_sequence=sequence)

"""The store alone, on files in memory."""

from __future__ import annotations

from typing import Any

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.events import LogOpened
from ourolog.actors.messages.store import AppendBatch, BatchesRead, OpenLog, ReadBatches, SaveBallot
from ourolog.actors.occupants import parse_election
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.store import StoreActor
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import NewBatch, decode_batch, scan
from ourolog.storage.control import Voter, VotersSet
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.disks import empty_disk

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
STATIC = {"election": parse_election("static:n1")}
VOTERS = VotersSet((Voter(N1, 5, "h:1", "h:2"), Voter(N2, 6, "h:3", "h:4")))


def at(index: int, offset: int | None = None) -> Position:
    return Position(Index(index), Offset(index if offset is None else offset))


class Stage:
    """A store between probes, on files that can be given to the next one."""

    def __init__(self, files: SimulatedDisk | None = None, node_id: NodeId = N1, **config: Any) -> None:
        self.runtime = SteppingRuntime()
        self.node_id = node_id
        self.files = files or empty_disk()
        self.replicator, self.server, self.election, self.observer = Probe(), Probe(), Probe(), Probe()
        self.client = Probe()
        self.ref = self.runtime.spawn(
            StoreActor,
            config=NodeConfig(node_id, f"/{node_id}", "127.0.0.1:1", "127.0.0.1:2", **config),
            ports=stepping_ports(self.runtime, self.files, observer=self.observer),
            replicator=self.replicator,
            server=self.server,
            election=self.election,
        )
        self.tell(OpenLog())

    def tell(self, *messages: object) -> None:
        for message in messages:
            self.ref.tell(message)
        self.runtime.run_until_idle()

    def append(self, *payloads: bytes, term: int = 0) -> None:
        self.tell(
            *(AppendBatch(i, NewBatch(payload, 1), Term(term), self.client) for i, payload in enumerate(payloads))
        )

    def read(self, index: int = 0, until: int = 1_000) -> BatchesRead:
        self.tell(ReadBatches(1, 1 << 20, Index(until), self.client, index=Index(index)))
        return self.client.last(BatchesRead)

    def payloads(self) -> list[bytes]:
        read = self.read()
        return [decode_batch(read.batches, head).payload for head in scan(read.batches)]

    @property
    def log_epoch(self) -> int:
        return self.replicator.last(LogOpened).log_epoch

    def crash(self) -> SimulatedDisk:
        self.runtime.kill(self.ref)
        return self.files.after_crash(keep_unsynced=False)


def voter() -> Stage:
    """In term 3, led by n1, with two entries of it."""
    stage = Stage()
    stage.tell(SaveBallot(1, Ballot(Term(3), N1, N1), stage.client))
    stage.append(b"a", b"b", term=3)
    return stage


def leader_and_follower(**config: Any) -> tuple[Stage, Stage]:
    leader, follower = Stage(**STATIC, **config), Stage(node_id=N2, **STATIC, **config)
    for stage in (leader, follower):
        stage.tell(SaveBallot(1, Ballot(Term(1), N1, N1), Probe()))
    return leader, follower

"""A stream of events made by hand for one checker, and a world whose disks are what the events made of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ourolog.actors.config import Cycle, NodeConfig
from ourolog.actors.messages.events import CommitAdvanced, LogOpened
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.store import BallotSaved
from ourolog.actors.occupants import parse_election
from ourolog.simulation.checkers import ALL
from ourolog.simulation.checkers.log_model import LogModel
from ourolog.simulation.events import (
    ClientInvoked,
    ClientReturned,
    Event,
    FileAppended,
    FileRemoved,
    FileSynced,
    FileTruncated,
    MessageTold,
    NodeCrashed,
    NodeStarted,
    Operation,
    OperationKind,
    OperationResult,
    Outcome,
)
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Batch, Codec, Kind, encode_batch
from ourolog.storage.record_set import encode_record
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
SEGMENT = "/data/log/00000000000000000000-00000000000000000000.log"
EPOCH = 1_700_000_000_000


def config(name: str, election: str = "none", cycle: str = "break", max_hops: int = 4) -> NodeConfig:
    return NodeConfig(
        NodeId(name),
        "/data",
        f"{name}:8400",
        f"{name}:8401",
        election=parse_election(election),
        cycle=Cycle(cycle),
        max_hops=max_hops,
    )


def batch(index: int, value: str, path: str = "n1", sequence: int | None = None, **more: Any) -> Batch:
    fields: dict[str, Any] = {
        "index": Index(index),
        "term": Term(0),
        "base_offset": Offset(index),
        "record_count": 1,
        "timestamp_ms": 5,
        "kind": Kind.DATA,
        "codec": Codec.NONE,
        "path": tuple(NodeId(name) for name in path.split()),
        "origin_epoch": EPOCH,
        "origin_sequence": index if sequence is None else sequence,
        "payload": encode_record(value.encode()),
    }
    return Batch(**(fields | more))


class Scene:
    """claim: the name of the checker. Methods are what happens; the checker raises Violation out of them."""

    def __init__(self, claim: str) -> None:
        self.checker = ALL[claim]()
        self.time_s = 0.0
        self.files: dict[NodeId, dict[str, bytes]] = {}
        self.synced: dict[NodeId, dict[str, int]] = {}
        self.nameless: set[str] = set()
        self.files_open: dict[NodeId, int] = {}
        self.configs: dict[NodeId, NodeConfig] = {}
        self.running: dict[NodeId, Any] = {}
        self.operations = 0

    def durable(self, node_id: NodeId) -> dict[str, bytes]:
        sizes = self.synced.get(node_id, {})
        return {
            path: content[: sizes.get(path, 0)]
            for path, content in self.files.get(node_id, {}).items()
            if path not in self.nameless
        }

    def open_files(self, node_id: NodeId) -> int:
        return self.files_open.get(node_id, 0)

    def see(self, event: Event) -> None:
        self.checker.see(event, self)

    def tell(self, sender: str, receiver: str, message: object) -> None:
        self.see(MessageTold(self.tick(), sender, receiver, message))

    def wait(self, seconds: float) -> None:
        """Let time pass; then something regular happens at every node, when checkers look at the clock."""
        self.time_s += seconds
        for node_id in self.configs:
            self.tell("", f"{node_id}.membership", ProbeDue())

    def tick(self) -> float:
        self.time_s += 0.001
        return self.time_s

    # ------------------------------------------------------------ nodes

    def start(
        self,
        name: str,
        election: str = "none",
        cycle: str = "break",
        settings: dict[str, Any] | None = None,
        **opened: Any,
    ) -> None:
        node_id = NodeId(name)
        self.configs[node_id] = replace(config(name, election, cycle), **(settings or {}))
        self.see(NodeStarted(self.tick(), node_id, self.configs[node_id]))
        # Recovery syncs what it finds before it says so.
        self.synced[node_id] = {path: len(content) for path, content in self.files.get(node_id, {}).items()}
        log = LogModel(node_id)
        log.reopened(self.durable(node_id), START, trusts=False)
        fields: dict[str, Any] = {
            "start": log.start,
            "end": log.end,
            "terms": TermHistory(),
            "log_epoch": EPOCH,
            "ballot": Ballot(),
            "pull_positions": (),
            "committed": START,
        }
        self.tell(f"{name}.store", f"{name}.replicator", LogOpened(**(fields | opened)))

    def crash(self, name: str, *, keep: bool = False) -> None:
        node_id = NodeId(name)
        if not keep:
            self.files[node_id] = self.durable(node_id)
        self.see(NodeCrashed(self.tick(), node_id, not keep))

    # ------------------------------------------------------------ disks

    def append(self, name: str, *batches: Batch | bytes, path: str = SEGMENT, sync: bool = True) -> None:
        node_id = NodeId(name)
        data = b"".join(one if isinstance(one, bytes) else encode_batch(one) for one in batches)
        files = self.files.setdefault(node_id, {})
        position = len(files.get(path, b""))
        files[path] = files.get(path, b"") + data
        self.see(FileAppended(self.tick(), node_id, path, position, data))
        if sync:
            self.sync(name, path)

    def sync(self, name: str, path: str = SEGMENT) -> None:
        node_id = NodeId(name)
        size = len(self.files[node_id][path])
        self.synced.setdefault(node_id, {})[path] = size
        self.see(FileSynced(self.tick(), node_id, path, size))

    def truncate(self, name: str, size: int, path: str = SEGMENT) -> None:
        node_id = NodeId(name)
        self.files[node_id][path] = self.files[node_id][path][:size]
        self.see(FileTruncated(self.tick(), node_id, path, size))

    def remove(self, name: str, path: str) -> None:
        node_id = NodeId(name)
        del self.files[node_id][path]
        self.see(FileRemoved(self.tick(), node_id, path))

    # ------------------------------------------------------------ clients

    def invoke(self, name: str, operation: Operation) -> int:
        self.operations += 1
        self.see(ClientInvoked(self.tick(), "c1", self.operations, NodeId(name), operation))
        return self.operations

    def answer(self, name: str, operation_id: int, operation: Operation, result: OperationResult) -> None:
        self.see(ClientReturned(self.tick(), "c1", operation_id, NodeId(name), operation, result))

    def produced(self, name: str, value: str, offset: int, acks: str = "default") -> None:
        operation = Operation(OperationKind.PRODUCE, value.encode(), acks=acks)
        self.answer(name, self.invoke(name, operation), operation, OperationResult(Outcome.OK, Offset(offset)))

    def refused(self, name: str, value: str) -> None:
        operation = Operation(OperationKind.PRODUCE, value.encode())
        self.answer(name, self.invoke(name, operation), operation, OperationResult(Outcome.REFUSED))

    def consumed(self, name: str, offset: int, value: str) -> None:
        operation = Operation(OperationKind.CONSUME, offset=Offset(offset))
        result = OperationResult(Outcome.OK, Offset(offset), value.encode())
        self.answer(name, self.invoke(name, operation), operation, result)

    def found_end(self, name: str, asked: int, end: int) -> None:
        operation = Operation(OperationKind.CONSUME, offset=Offset(asked))
        result = OperationResult(Outcome.REFUSED, end_offset=Offset(end))
        self.answer(name, self.invoke(name, operation), operation, result)

    def commit(self, name: str, index: int, offset: int | None = None) -> None:
        position = Position(Index(index), Offset(index if offset is None else offset))
        self.tell(f"{name}.replicator", f"{name}.server", CommitAdvanced(position))

    def finish(self) -> None:
        self.checker.finish(self)


def sized(*batches: Batch) -> int:
    return len(b"".join(encode_batch(one) for one in batches))


def ballot_saved(ballot: Ballot, *, granted: bool = True) -> BallotSaved:
    """The store's word that the ballot is on disk."""
    return BallotSaved(1, ballot, granted, START, None, None)

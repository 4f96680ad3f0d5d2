"""What tests of the network edge share: a scripted Server actor, a loop in virtual time, calls without gRPC."""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from ourolog.actors.messages.server import (
    CancelRequest,
    Consume,
    ListServers,
    Produce,
    Produced,
    Refusal,
    RegisterProducer,
    RequestRefused,
    ServersListed,
)
from ourolog.actors.messages.store import BatchesRead
from ourolog.actors.messages.values import Member
from ourolog.rpc.errors import STATUS_METADATA_KEY
from ourolog.storage.batch import Batch, Kind, NewBatch, encode_batch
from ourolog.storage.control import ProducerRegistered, encode_control
from ourolog.storage.types import Index, NodeId, Offset, Position, Term


class _Selector(selectors.DefaultSelector):
    """A selector for a loop without sockets: instead of waiting for input, it moves the virtual time forward."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "every task waits for something that never happens"
        self.loop.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time, which moves only when every task waits for it.

    now_s: the virtual time.
    problems: what the loop's exception handler was given.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.problems: list[Mapping[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.problems.append(context))

    def time(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        """Run everything that happens within this many virtual seconds."""
        self.run_until_complete(asyncio.sleep(seconds))


class FakeContext:
    """A gRPC ServicerContext whose client is the test.

    client: the connection's name.
    reads: whether the client reads; while it does not, writes wait for `take`.
    sent: what the server wrote.
    code, trailing: how the call was aborted, if it was.
    """

    def __init__(self, client: str, remaining_s: float | None = None, *, reads: bool = True) -> None:
        self.client = client
        self.reads = reads
        self.sent: list[Any] = []
        self.code: grpc.StatusCode | None = None
        self.trailing: dict[str, Any] = {}
        self._remaining_s = remaining_s
        self._came: deque[Any] = deque()
        self._news = asyncio.Event()
        self._taken = asyncio.Event()

    def peer(self) -> str:
        return self.client

    def time_remaining(self) -> float | None:
        return self._remaining_s

    def send(self, message: Any) -> None:
        """The client sends these bytes, or grpc.aio.EOF."""
        self._came.append(message)
        self._news.set()

    def take(self) -> None:
        """The client reads, from now on."""
        self.reads = True
        self._taken.set()

    async def read(self) -> Any:
        while not self._came:
            self._news.clear()
            await self._news.wait()
        return self._came.popleft()

    async def write(self, message: Any) -> None:
        if not self.reads:
            await self._taken.wait()
        self.sent.append(message)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:  # noqa: ARG002
        assert self.code is None, "a call ends once"
        self.code = code
        self.trailing = dict(trailing_metadata)
        assert STATUS_METADATA_KEY in self.trailing
        raise grpc.aio.AbortError


class ScriptedServer:
    """A stand-in for the Server actor: a log in memory, and refusals on demand.

    received: every message it was told, in order.
    hold: whether produces stay unanswered.
    refuse: given a request id, the refusal that every produce and consume gets.
    members: who is in the cluster, as far as it knows.
    batches, end: the log.
    tailing: the consumes that wait at its end.
    replicas: whose disks every answer to a produce names.
    numbered: where the batches stand that producers have numbered, index and first offset of each.
    changed: set after every message.
    """

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.hold = False
        self.leader_id: NodeId | None = None
        self.members = tuple(Member(NodeId(f"n{i}"), f"h{i}:1", f"h{i}:2") for i in (1, 2))
        self.refuse: Callable[[int], RequestRefused] | None = None
        self.batches: list[Batch] = []
        self.end = Position(Index(0), Offset(0))
        self.tailing: list[Consume] = []
        self.replicas: tuple[NodeId, ...] = ()
        self.numbered: dict[tuple[int, int], tuple[Index, Offset]] = {}
        self.changed = asyncio.Event()

    def tell(self, message: Any) -> None:
        self.received.append(message)
        match message:
            case Produce() | Consume() if self.refuse is not None:
                message.reply_to.tell(self.refuse(message.request_id))
            case Produce():
                if not self.hold:
                    self.produced(message)
            case RegisterProducer() if self.refuse is not None:
                message.reply_to.tell(self.refuse(message.request_id))
            case RegisterProducer():
                if not self.hold:
                    index = self.end.index
                    if not index:  # 0 is no producer's id
                        self.append(NewBatch(encode_control(ProducerRegistered()), 0, Kind.CONTROL))
                        index = self.end.index
                    self.append(NewBatch(encode_control(ProducerRegistered()), 0, Kind.CONTROL))
                    message.reply_to.tell(Produced(message.request_id, self.end.offset, Term(1), index))
            case Consume():
                self._consume(message)
            case CancelRequest():
                self.tailing = [waiting for waiting in self.tailing if waiting.request_id != message.request_id]
            case ListServers():
                message.reply_to.tell(ServersListed(message.request_id, self.members, self.leader_id))
        self.changed.set()

    def produced(self, produce: Produce) -> None:
        """Append a batch, or find that its producer has sent it before, and answer."""
        batch = produce.batch
        key = batch.producer_id, batch.producer_sequence
        placed = self.numbered.get(key) if batch.producer_id else None
        if placed is None:
            placed = self.end.index, self.append(batch)
            self.numbered[key] = placed
        index, base_offset = placed
        produce.reply_to.tell(Produced(produce.request_id, base_offset, Term(1), index, self.replicas))

    def append(self, new: NewBatch, path: tuple[str, ...] = ("n1",)) -> Offset:
        base = self.end.offset
        batch = Batch(
            index=self.end.index,
            term=Term(1),
            base_offset=base,
            record_count=new.record_count,
            timestamp_ms=5,
            kind=new.kind,
            codec=new.codec,
            path=tuple(NodeId(name) for name in path),
            origin_epoch=7,
            origin_sequence=len(self.batches),
            payload=new.payload,
        )
        self.batches.append(batch)
        self.end = Position(Index(self.end.index + 1), batch.end_offset)
        tailing, self.tailing = self.tailing, []
        for consume in tailing:
            self._consume(consume)
        return base

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once `holds()`, which is evaluated after every message."""
        while not holds():
            self.changed.clear()
            await self.changed.wait()

    def all(self, kind: type) -> list[Any]:
        return [message for message in self.received if isinstance(message, kind)]

    def _consume(self, consume: Consume) -> None:
        if consume.offset >= self.end.offset:
            if consume.wait:
                self.tailing.append(consume)
                return
            detail = f"offset {consume.offset} is out of range: n1 has [0, {self.end.offset})"
            refused = RequestRefused(consume.request_id, Refusal.OUT_OF_RANGE, detail, end=self.end.offset)
            consume.reply_to.tell(refused)
            return
        parts: list[bytes] = []
        end = Position(Index(0), Offset(0))
        for batch in self.batches:
            if (batch.kind is Kind.CONTROL and not parts) or batch.end_offset <= consume.offset:
                continue
            encoded = encode_batch(batch)
            if parts and sum(map(len, parts)) + len(encoded) > consume.max_bytes:
                break
            parts.append(encoded)
            end = Position(Index(batch.index + 1), batch.end_offset)
        consume.reply_to.tell(BatchesRead(consume.request_id, b"".join(parts), end))


class SilentActor:
    """An actor that never answers."""

    def tell(self, message: Any) -> None:
        pass

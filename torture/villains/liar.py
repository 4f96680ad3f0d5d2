"""A node that lies: it gossips as nodes do, is pulled from, and gives answers that no node would give.

With nobody elected every node pulls from every node that it discovers, so anybody who can gossip is a
source. Each fetch gets the next of a list of hostile answers.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from ourolog.actors.gossip.codec import Ack, Body, Datagram, Exchange, Join, Ping, decode, encode
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    EndTermRequest,
    FetchRequest,
    FoundRequest,
    LogEndRequest,
    PeerRequest,
    ReadIndexRequest,
    RepairRequest,
    VoteRequest,
)
from ourolog.actors.messages.values import Member, MemberState
from ourolog.rpc.peer.frames import Frame, FrameKind
from ourolog.rpc.peer.hello import Lane
from ourolog.rpc.peer.testing import frames_of
from ourolog.rpc.peer_codec import CODECS
from ourolog.rpc.peer_values import PROTOCOL
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.batch import Batch, Codec, Kind, encode_batch
from ourolog.storage.compression import compress
from ourolog.storage.record_set import encode_records
from ourolog.storage.types import Index, NodeId, Offset, Term
from torture.villains.peers import ask, connected
from torture.villains.target import NodeAddress, Target, villain

LIAR: Final = NodeId("liar")
EPOCH: Final = 1_700_000_000_000
_MAX_U64: Final = 2**64 - 1
_PING_EVERY_S: Final = 0.3
_LARGE_BYTES: Final = 1024 * 1024
_LARGE_AT_MOST: Final = 60
_TWO_RECORDS: Final = encode_records([b"villain", b"villain"])
Told = tuple[pb.FetchResponse, bytes]
"""An answer to a fetch, and its batches."""

Lie = tuple[str, Callable[[pb.FetchRequest], Told | None]]


@dataclass(slots=True)
class Lies:
    """Makes the answers to one node.

    Every second answer is a good one, so that the node does not pause for longer and longer.

    victim: the node.
    victim_epoch: the epoch of its log.
    poisons: whether to tell only lies that a log could hold, and no consumer could read.
    told: how many answers were made.
    large: how many batches were sent in answers larger than what was asked for.
    """

    victim: NodeAddress
    victim_epoch: int
    poisons: bool = False
    told: int = 0
    large: int = 0

    def next(self, request: pb.FetchRequest) -> tuple[str, Told | None]:
        """The name of a lie and an answer; None for never answering."""
        self.told += 1
        if self.told % 2:
            return "", self._batches(request, self._batch(request))
        lies = self._poisons() if self.poisons else self._lies()
        name, make = lies[self.told // 2 % len(lies)]
        return name, make(request)

    def _poisons(self) -> list[Lie]:
        zstd = compress(encode_records([b"villain"]))
        return [
            ("count that lies", lambda r: self._batches(r, self._batch(r, record_count=5))),
            ("payload that is none", lambda r: self._batches(r, self._batch(r, payload=b"\xff" * 50))),
            ("zstd that is none", lambda r: self._batches(r, self._batch(r, codec=Codec.ZSTD))),
            ("zstd cut short", lambda r: self._batches(r, self._batch(r, codec=Codec.ZSTD, payload=zstd[:-3]))),
            ("too few", lambda r: self._batches(r, self._batch(r, record_count=1, payload=_TWO_RECORDS))),
            ("other fields", lambda r: self._batches(r, self._batch(r, payload=b"\x1a\x03abc"))),
        ]

    def _lies(self) -> list[Lie]:
        return [
            ("own epoch, last sequence", lambda r: self._batches(r, self._of_victim(r, _MAX_U64))),
            ("own epoch, next to last sequence", lambda r: self._batches(r, self._of_victim(r, _MAX_U64 - 1))),
            ("own epoch, far sequence", lambda r: self._batches(r, self._of_victim(r, 2**63))),
            ("epoch of the future", lambda r: self._batches(r, self._batch(r, origin_epoch=_MAX_U64))),
            ("path of 65,534 bytes", lambda r: self._batches(r, self._batch(r, path=_long_path()))),
            ("path through the victim", lambda r: self._batches(r, self._batch(r, path=("x", self.victim.node_id)))),
            ("last index", lambda r: self._batches(r, self._batch(r, index=_MAX_U64))),
            ("last offset", lambda r: self._batches(r, self._batch(r, base_offset=_MAX_U64))),
            ("last term", lambda r: self._batches(r, self._batch(r, term=_MAX_U64))),
            ("a term where nobody is elected", lambda r: self._batches(r, self._batch(r, term=7))),
            ("first millisecond", lambda r: self._batches(r, self._batch(r, timestamp_ms=-(2**63)))),
            ("last millisecond", lambda r: self._batches(r, self._batch(r, timestamp_ms=2**63 - 1))),
            ("4,294,967,295 records", lambda r: self._batches(r, self._batch(r, record_count=2**32 - 1))),
            ("no records", lambda r: self._batches(r, self._batch(r, record_count=0))),
            ("control batch", lambda r: self._batches(r, self._batch(r, kind=Kind.CONTROL))),
            ("last producer", lambda r: self._batches(r, self._batch(r, producer_id=_MAX_U64))),
            ("wrong checksum", lambda r: self._batches(r, _damaged(self._batch(r)))),
            ("half a batch", lambda r: self._batches(r, self._batch(r)[:-7])),
            ("noise", lambda r: self._batches(r, b"\xde\xad" * 500)),
            ("frame of 4 GiB", lambda r: self._batches(r, struct.pack("<HBBIII", 0x4C4F, 1, 0, 2**32 - 1, 0, 0))),
            ("the same twice", lambda r: self._batches(r, self._batch(r) * 2)),
            ("backwards", lambda r: self._batches(r, self._batch(r, index=r.next_index + 1) + self._batch(r))),
            ("a gap", lambda r: self._batches(r, self._batch(r, index=r.next_index + 1_000_000))),
            ("more than was asked for", self._large),
            ("nothing, and more to come", lambda r: self._batches(r, b"", end=_MAX_U64)),
            ("a log that ends before it begins", lambda r: self._answer(r, start=9, end=3)),
            ("far term", lambda r: self._answer(r, term=2**40)),
            ("last term of all", lambda r: self._answer(r, term=_MAX_U64)),
            ("commits everything", lambda r: self._answer(r, committed=_MAX_U64)),
            ("diverged at the last index", lambda r: self._answer(r, outcome=pb.DIVERGED, diverged_at=_MAX_U64)),
            ("diverged at 0", lambda r: self._answer(r, outcome=pb.DIVERGED)),
            ("a new log each time", lambda r: self._answer(r, outcome=pb.NEW_LOG, epoch=EPOCH + self.told)),
            ("out of any range", lambda r: self._answer(r, outcome=pb.OUT_OF_RANGE, start=_MAX_U64)),
            ("not the leader, ask nobody", lambda r: self._answer(r, outcome=pb.NOT_LEADER, leader="no\nbody")),
            ("outcome 99", lambda r: self._answer(r, outcome=99)),
            ("a sentence of 1 MiB", lambda r: self._answer(r, outcome=pb.REFUSED, detail="lie " * 2**18)),
            ("protocol 77", lambda _: (pb.FetchResponse(protocol=77, detail="lie " * 1000), b"")),
            ("never", lambda _: None),
        ]

    def _batch(self, request: pb.FetchRequest, **fields: Any) -> bytes:
        """A good batch at the place that was asked for, except for `fields`."""
        good: dict[str, Any] = {
            "index": Index(request.next_index),
            "term": Term(0),
            "base_offset": Offset(request.next_index),
            "record_count": 1,
            "timestamp_ms": int(time.time() * 1000),
            "kind": Kind.DATA,
            "codec": Codec.NONE,
            "path": (LIAR,),
            "origin_epoch": EPOCH,
            "origin_sequence": request.next_index + 1,
            "payload": encode_records([b"villain"]),
        }
        return encode_batch(Batch(**(good | fields)))

    def _of_victim(self, request: pb.FetchRequest, sequence: int) -> bytes:
        path = (NodeId(self.victim.node_id), LIAR)
        return self._batch(request, path=path, origin_epoch=self.victim_epoch, origin_sequence=sequence)

    def _large(self, request: pb.FetchRequest) -> Told:
        if self.large >= _LARGE_AT_MOST:
            return self._answer(request)
        self.large += 60
        payload = encode_records([b"villain" + bytes(_LARGE_BYTES)])
        batches = [
            self._batch(
                request, index=request.next_index + n, origin_sequence=request.next_index + n + 1, payload=payload
            )
            for n in range(60)
        ]
        return self._batches(request, b"".join(batches))

    def _batches(self, request: pb.FetchRequest, batches: bytes, *, end: int | None = None) -> Told:
        return self._answer(request, end=end)[0], batches

    def _answer(
        self,
        request: pb.FetchRequest,
        *,
        outcome: int = pb.BATCHES,
        term: int = 0,
        epoch: int = EPOCH,
        start: int = 0,
        end: int | None = None,
        committed: int = 0,
        diverged_at: int = 0,
        leader: str = "",
        detail: str = "",
    ) -> Told:
        last = min(request.next_index + 100, _MAX_U64) if end is None else end
        answer = pb.FetchResponse(
            protocol=PROTOCOL,
            outcome=outcome,  # type: ignore[arg-type]  # one that does not exist is among them
            term=term,
            log_epoch=epoch,
            start=pb.Position(index=start, offset=start),
            end=pb.Position(index=last, offset=last),
            committed=pb.Position(index=committed, offset=committed),
            leader_id=leader,
            diverged_at=diverged_at,
            detail=detail,
        )
        return answer, b""


class LyingPeer:
    """Answers the calls of nodes."""

    def __init__(self, target: Target, lies: dict[str, Lies]) -> None:
        self._target = target
        self._lies = lies

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        answers: set[asyncio.Task[None]] = set()
        async for frame in frames_of(reader):
            if frame.kind is FrameKind.HELLO:
                writer.write(frame.head_and_message())
            elif frame.kind is FrameKind.REQUEST:
                answer = asyncio.create_task(self._answer(frame, writer))
                answers.add(answer)
                answer.add_done_callback(answers.discard)
        for answer in answers:
            answer.cancel()
        writer.close()

    async def _answer(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        kind = next(kind for kind, codec in CODECS.items() if codec.number == frame.method)
        request: Any = CODECS[kind].request_class.FromString(frame.message)
        if kind is FetchRequest:
            message, payload = await self._fetched(request)
        else:
            self._target.count("lies")
            message, payload = _claim(kind, request), b"villain" if kind is RepairRequest else b""
        answer = Frame(FrameKind.ANSWER, frame.call_id, message=message.SerializeToString(), payload=payload)
        writer.write(answer.head_and_message())
        writer.write(payload)

    async def _fetched(self, request: pb.FetchRequest) -> Told:
        name, told = self._lies[request.node_id].next(request)
        self._target.count("lies" if name else "good answers")
        if told is None:
            await asyncio.sleep(self._target.left_s)
            return pb.FetchResponse(), b""
        answer, batches = told
        if not batches and answer.end.index == _MAX_U64:  # the node asks again at once
            await asyncio.sleep(0.05)
        return answer, batches


def _claim(kind: type[PeerRequest[Any]], request: Any) -> Any:
    """Claims to have everything, and more; to lead; to have voted, and promised."""
    far = 1 << 50
    end = pb.Position(index=2**62, offset=2**62)
    me: dict[str, Any] = {"protocol": PROTOCOL, "node_id": LIAR}
    disk: dict[str, Any] = {**me, "log_epoch": 1}
    answers: dict[type[PeerRequest[Any]], Callable[[], Any]] = {
        VoteRequest: lambda: pb.VoteResponse(**disk, term=far, leader_id=LIAR, granted=True),
        BeginTermRequest: lambda: pb.TermResponse(**disk, term=far, leader_id=LIAR),
        EndTermRequest: lambda: pb.TermResponse(**disk, term=far, accepted=True),
        FoundRequest: lambda: pb.FoundResponse(**disk, agrees=True, founding=request.founding),
        LogEndRequest: lambda: pb.LogEndResponse(
            **disk,
            term=2**62,
            leader_id=LIAR,
            end=end,
            last=pb.Place(term=2**62, writer=LIAR, writer_epoch=1),
            committed=end,
        ),
        ReadIndexRequest: lambda: pb.ReadIndexResponse(**me, term=request.term, leader_id=LIAR, committed_index=2**62),
        RepairRequest: lambda: pb.RepairResponse(**disk),
    }
    return answers[kind]()


class LyingGossip(asyncio.DatagramProtocol):
    """Answers pings and joins, and pings others, so that it counts as a live member."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._sequence = 0
        self._cookies: dict[str, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        host, port = transport.get_extra_info("sockname")
        addr = f"{host}:{port}"
        self.me = Member(LIAR, addr, addr, MemberState.ALIVE, int(time.time() * 1000))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        heard = decode(data)
        if not isinstance(heard, Datagram):
            return
        self._cookies[heard.sender.gossip_addr] = heard.issued_cookie
        for news in heard.updates:
            if news.node_id == LIAR and news.state is not MemberState.ALIVE:
                # It answers quickly that it is alive, as a healthy node would.
                self.me = replace(self.me, incarnation=max(self.me.incarnation, news.incarnation + 1))
        if isinstance(heard.body, Ping):
            self._send(addr, Ack(heard.sequence))
        elif isinstance(heard.body, Join) or (isinstance(heard.body, Exchange) and heard.body.asks_back):
            self._send(addr, Exchange(asks_back=False, answers=heard.sequence), (self.me,))

    async def ping_all(self) -> None:
        while not self._target.is_over:
            for node in self._target.nodes:
                host, _, port = node.gossip_addr.rpartition(":")
                self._send((host, int(port)), Ping(NodeId(node.node_id)), (self.me,))
            await asyncio.sleep(_PING_EVERY_S)

    def _send(self, addr: tuple[str, int], body: Body, updates: tuple[Member, ...] = ()) -> None:
        self._sequence += 1
        echoed = self._cookies.get(f"{addr[0]}:{addr[1]}", 0)
        datagram = Datagram(self._target.cluster, self.me, self._sequence, body, updates, echoed, 7)
        self._transport.sendto(encode(datagram), addr)


@villain
async def lying_peer(target: Target) -> None:
    """A member that every node pulls from, and that answers each fetch with another lie."""
    await _be_pulled_from(target, poisons=False)


@villain
async def poisoning_peer(target: Target) -> None:
    """A member whose batches have right checksums, and hold what nobody can read."""
    await _be_pulled_from(target, poisons=True)


async def _be_pulled_from(target: Target, *, poisons: bool) -> None:
    lies = {node.node_id: Lies(node, await _epoch_of(target, node), poisons) for node in target.nodes}
    # It is called where it gossips.
    server = await asyncio.start_server(LyingPeer(target, lies).serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    loop = asyncio.get_running_loop()
    _, gossip = await loop.create_datagram_endpoint(lambda: LyingGossip(target), local_addr=address)
    async with server:
        await target.until_over(gossip.ping_all())


async def _epoch_of(target: Target, node: NodeAddress) -> int:
    async with connected(node.peer_addr, Lane.BULK) as client:
        answer, _ = await ask(
            client, pb.FetchRequest(protocol=PROTOCOL, cluster=target.cluster, node_id=LIAR, max_bytes=1), 10
        )
        return int(answer.log_epoch)


def _long_path() -> tuple[NodeId, ...]:
    """A path of 65,534 bytes on the wire, which leaves no room for one more name."""
    names = [NodeId("p" * 63)] * (65_534 // 64 - 1)
    left = 65_534 - 64 * len(names)
    return (*names, NodeId("p" * (left // 2 - 1)), NodeId("p" * (left - left // 2 - 1)))


def _damaged(batch: bytes) -> bytes:
    return batch[:-1] + bytes((batch[-1] ^ 1,))

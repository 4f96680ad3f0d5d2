"""Reading what one has seen: what a client says of it, how long a node waits, and where the client goes then."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb  # type: ignore[import-untyped]

from ourolog.actors.messages.server import CancelRequest, Consume, Refusal, RequestRefused
from ourolog.actors.messages.values import Acks, ReadLevel
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.consume_handler import SEEN_WITHIN_S
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_record


def filled(e: Any, *values: bytes) -> None:
    for value in values:
        e.server.append(NewBatch(encode_record(value), 1))


class Behind:
    """A node of an elected cluster that has committed less than some clients have seen: their reads wait."""

    def __init__(self, server: Any) -> None:
        self.waiting: list[Consume] = []
        self._server, self._tell = server, server.tell
        server.tell = self.tell

    def tell(self, message: Any) -> None:
        if isinstance(message, Consume) and message.seen_end > self._server.end.offset:
            self.waiting.append(message)
            self._server.changed.set()
        else:
            self._tell(message)

    def refuse(self, leader_addr: str = "") -> None:
        consume = self.waiting.pop()
        refused = RequestRefused(consume.request_id, Refusal.BEHIND, "n1 is behind", None, leader_addr)
        consume.reply_to.tell(refused)

    def catch_up(self, *values: bytes) -> None:
        waiting, self.waiting = self.waiting, []
        filled(self, *values)
        for consume in waiting:
            self._tell(consume)

    @property
    def server(self) -> Any:
        return self._server


def said(e: Any) -> list[int]:
    return [consume.seen_end for consume in e.server.all(Consume)]


async def test_a_client_remembers_what_it_was_acknowledged_and_has_read() -> None:
    client = LogClient("127.0.0.1:1", seen_end=5)
    assert client.seen_end == 5
    await client.close()


async def test_every_read_says_what_the_client_has_seen(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        filled(e, b"a", b"b", b"c")
        ends = [client.seen_end]
        await client.consume(1)
        ends.append(client.seen_end)
        async for _ in client.consume_batches(stop_at_end=True):
            pass
        ends.append(client.seen_end)
        await client.produce(b"d")
        ends.append(client.seen_end)
        await client.produce_batch([b"e", b"f"])
        ends.append(client.seen_end)
        await client.produce(b"g", acks=Acks.LEADER)
        ends.append(client.seen_end)
        async for _ in client.produce_batch_stream([[b"h", b"i"]]):
            ends.append(client.seen_end)
        async for _ in client.produce_stream([b"j"]):
            ends.append(client.seen_end)
        assert ends == [0, 2, 3, 4, 6, 6, 9, 10]
        with pytest.raises(LogError, match="out of range"):
            await client.consume(99, read=ReadLevel.LATEST)
        filled(e, b"k")
        with pytest.raises(LogError, match="out of range"):
            await client.consume(99, read=ReadLevel.LATEST)
        assert client.seen_end == 11
        assert [record.value async for record in client.consume_stream(9, stop_at_end=True)] == [b"j", b"k"]


async def test_a_node_asks_once_whether_it_has_what_was_seen_and_then_knows(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        Behind(e.server)
        await client.produce(b"a")
        for _ in range(3):
            await client.consume(0)
        assert said(e) == [1, 0, 0, 0]
        await client.produce(b"b")
        assert (await client.consume(1)).value == b"b"
        assert said(e) == [1, 0, 0, 0, 2, 0]
        filled(e, b"c")
        stub_read = e.stub.ConsumeBatchStream(pb.ConsumeBatchRequest(seen_end=3, stop_at_end=True))
        assert (await stub_read.read()) is not grpc.aio.EOF
        assert said(e)[6] == 3


async def test_where_offsets_of_other_nodes_mean_nothing_it_is_asked_once_only(edge: Any) -> None:
    async with edge() as e:
        filled(e, b"a")
        for _ in range(3):
            await e.stub.Consume(pb.ConsumeRequest(seen_end=50))
        assert said(e) == [50, 0, 0, 0]


async def test_a_read_is_answered_once_the_node_has_caught_up(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, seen_end=2) as client:
        behind = Behind(e.server)
        filled(e, b"a")
        stream = client.consume_stream(stop_at_end=True)

        async def read() -> list[bytes]:
            return [record.value async for record in stream]

        reading = asyncio.create_task(read())
        await e.server.until(lambda: bool(behind.waiting))
        assert behind.waiting[0].timeout_s == SEEN_WITHIN_S
        behind.catch_up(b"b")
        assert await reading == [b"a", b"b"]


async def test_a_client_goes_to_the_leader_that_is_named_and_stays_there(edge: Any) -> None:
    async with edge() as follower, edge() as other, edge() as leader:
        client = LogClient([follower.address, other.address, leader.address])
        behind = Behind(follower.server)
        filled(leader, b"a", b"b")
        client._seen_end = 2
        reading = asyncio.create_task(client.consume(1))
        await follower.server.until(lambda: bool(behind.waiting))
        assert 0 < behind.waiting[0].timeout_s < 0.6, "there is time left to ask the leader"
        behind.refuse(leader.address)
        assert (await reading).value == b"b"
        assert (await client.consume(0)).value == b"a"
        assert follower.server.all(Consume) == other.server.all(Consume) == []
        await client.close()


async def test_what_a_node_does_not_have_in_time_is_unavailable_with_the_leader(edge: Any, details_of: Any) -> None:
    async with edge() as e:
        behind = Behind(e.server)
        calls = [
            lambda: e.stub.Consume(pb.ConsumeRequest(seen_end=9)),
            lambda: e.stub.ConsumeStream(pb.ConsumeRequest(seen_end=9)).read(),
            lambda: e.stub.ConsumeBatchStream(pb.ConsumeBatchRequest(seen_end=9)).read(),
        ]
        for call in calls:
            waiting = asyncio.ensure_future(_outcome(call()))
            await e.server.until(lambda: bool(behind.waiting))
            behind.refuse("127.0.0.1:7")
            error = await waiting
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert details_of(error, details_pb.ErrorInfo).reason == "BEHIND"
            assert details_of(error, pb.LeaderHint).leader_addr == "127.0.0.1:7"


async def test_a_client_that_gives_up_is_forgotten(edge: Any) -> None:
    async with edge() as e:
        behind = Behind(e.server)
        with pytest.raises(grpc.aio.AioRpcError):
            await e.stub.Consume(pb.ConsumeRequest(seen_end=2**64 - 1), timeout=0.1)
        await e.server.until(lambda: bool(e.server.all(CancelRequest)))
        assert len(behind.waiting) == 1


async def _outcome(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value

"""The client while leaders change: nodes that die, freeze, know no leader, or lead no more."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from ourolog.actors.messages.server import ListServers, Produce, Refusal, RequestRefused
from ourolog.actors.messages.values import Acks, Member
from ourolog.rpc.blocking_client import BlockingLogClient
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.client_liveness import Liveness
from ourolog.rpc.client_nodes import ClientNodes
from ourolog.rpc.client_types import LogRecord, ServerInfo
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_records
from ourolog.storage.types import NodeId
from tests.scripted_produces import Script


class Line:
    """A TCP line to a node, which can be cut, or frozen: it then carries nothing and stays open.

    carries_bytes: it freezes by itself once it has carried that much; None for as much as may come.
    """

    def __init__(self, target: str, carries_bytes: int | None = None) -> None:
        self._target = target
        self._left_bytes = carries_bytes
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._writers: list[asyncio.StreamWriter] = []
        self.address = ""

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    def freeze(self) -> None:
        self._thawed.clear()

    def cut(self) -> None:
        """Close the port and all connections."""
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        other_reader, other_writer = await asyncio.open_connection(host, int(port))
        self._writers += [writer, other_writer]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    await self._thawed.wait()
                    if self._left_bytes is not None:
                        self._left_bytes -= len(data)
                        if self._left_bytes < 0:
                            self.freeze()
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))


@pytest.fixture
def frozen_addr() -> Iterator[str]:
    """Where connections are accepted by the kernel, and nobody ever says anything."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def members(*addresses: str) -> tuple[Member, ...]:
    return tuple(Member(NodeId(f"n{number}"), addr, f"g{number}:1") for number, addr in enumerate(addresses, 1))


def lead(number: int, addresses: list[str], *edges: Any) -> None:
    """Let these nodes name that one as the leader, and the others refuse produces with a hint to it."""
    for at, edge in enumerate(edges, 1):
        edge.server.members = members(*addresses)
        edge.server.leader_id = NodeId(f"n{number}")
        edge.server.refuse = None if at == number else not_leader(f"n{number}", addresses[number - 1])


def not_leader(leader_id: str, leader_addr: str) -> Callable[[int], RequestRefused]:
    return lambda request_id: RequestRefused(
        request_id, Refusal.NOT_LEADER, f"{leader_id} leads", NodeId(leader_id), leader_addr
    )


def refusing(refusal: Refusal, message: str = "not now", **more: Any) -> Callable[[int], RequestRefused]:
    return lambda request_id: RequestRefused(request_id, refusal, message, **more)


def of_data(server: Any) -> list[bytes]:
    return [batch.payload for batch in server.batches]


# ---------------------------------------------------------------- which nodes are asked


def test_a_node_that_could_not_be_reached_is_left_alone_for_a_while() -> None:
    nodes = ClientNodes(["a:1", "b:1", "a:1"])
    nodes.told_of([ServerInfo("n1", "a:1", False), ServerInfo("n3", "c:1", False)], 0.0)
    assert nodes.addresses == ("a:1", "b:1", "c:1")
    nodes.unreachable("b:1", 0.0, is_silent=True)
    nodes.leave("a:1", 0.0)
    assert nodes.current_addr == "c:1"
    nodes.leave("a:1", 0.0)  # another call, which failed earlier
    assert nodes.current_addr == "c:1"
    nodes.leave("c:1", 0.0)
    nodes.leave("a:1", 60.0)
    assert nodes.current_addr == "b:1", "by then it may be back"


def test_when_none_can_be_reached_they_take_turns() -> None:
    nodes = ClientNodes(["a:1", "b:1", "c:1"])
    asked = []
    for number in range(6):
        now_s = number * 0.01
        asked.append(nodes.current_addr)
        nodes.unreachable(nodes.current_addr, now_s, is_silent=False)
        nodes.leave(nodes.current_addr, now_s)
    assert asked == ["a:1", "b:1", "c:1"] * 2


def test_a_node_that_left_the_cluster_is_asked_no_more() -> None:
    nodes = ClientNodes(["a:1"])
    nodes.told_of([ServerInfo("n1", "a:1", False), ServerInfo("n2", "b:1", True)], 0.0)
    assert nodes.leader_addr == "b:1"
    nodes.leave("a:1", 0.0)
    nodes.told_of([ServerInfo("n1", "a:1", True)], 0.0)
    assert (nodes.addresses, nodes.current_addr) == (("a:1",), "a:1")


@pytest.mark.parametrize("addresses", [[], "", ["127.0.0.1:1", ""], "127.0.0.1:1,"])
def test_a_client_needs_an_address(addresses: Any) -> None:
    with pytest.raises(ValueError, match="address"):
        LogClient(addresses)
    with pytest.raises(ValueError, match="address"):
        BlockingLogClient(addresses)


async def test_addresses_may_stand_in_one_text(edge: Any) -> None:
    async with edge() as e, LogClient(f"127.0.0.1:1, {e.address}") as client:
        assert await client.produce(b"a") == 0


async def test_a_client_reads_what_it_has_written_though_others_do_not_know_of_it_yet(edge: Any) -> None:
    async with edge() as behind, edge() as leader:
        lead(2, [behind.address, leader.address], behind, leader)
        for stream in (False, True):
            async with LogClient(behind.address) as client:
                if stream:
                    (offset,) = [offset async for offset in client.produce_stream([b"a"])]
                else:
                    offset = await client.produce(b"a")
                assert (await client.consume(offset)).value == b"a"
                records = [record async for record in client.consume_stream(offset, stop_at_end=True)]
                assert records == [LogRecord(offset, b"a")]


# ---------------------------------------------------------------- nodes that are gone


async def test_a_client_that_knows_one_address_goes_on_when_that_node_is_gone(edge: Any) -> None:
    async with edge() as one, edge() as two, Line(one.address) as line:
        for e in (one, two):
            e.server.members = members(line.address, two.address)
        async with LogClient(line.address) as client:
            assert await client.produce(b"a") == 0
            while two.address not in client._nodes.addresses:
                assert client._calls._learning is not None
                await client._calls._learning
            line.cut()
            two.server.append(NewBatch(encode_records([b"a"]), 1))
            assert (await client.consume(0)).value == b"a"
            assert await client.produce(b"b") == 1


async def test_a_leader_that_is_gone_is_not_asked_each_time_that_somebody_still_names_it(edge: Any) -> None:
    async with edge() as one, edge() as two, edge() as three:
        gone = "127.0.0.1:1"
        for e in (one, two):
            e.server.refuse = not_leader("n3", gone)
        failures: list[LogError] = []

        def elected(failure: LogError) -> None:
            failures.append(failure)
            if len(failures) == 4:
                for e in (one, two):
                    e.server.refuse = not_leader("n3", three.address)

        async with LogClient([one.address, two.address], on_retry=elected) as client:
            assert await client.produce(b"a") == 0
        assert sum(failure.addr == gone for failure in failures) <= 2
        assert len(failures) <= 6


async def test_when_no_leader_can_be_elected_the_nodes_own_sentence_is_what_the_caller_is_told(edge: Any) -> None:
    sentence = "no leader can be elected: 2 of 3 voters are missing (n1 and n3)"
    async with edge() as e:
        e.server.refuse = refusing(Refusal.LEADER_UNKNOWN, sentence)
        async with LogClient(["127.0.0.1:1", e.address, "127.0.0.1:2"], timeout_s=0.6) as client:
            for call in (client.produce(b"a"), client.produce_batch([b"a", b"b"])):
                with pytest.raises(LogError, match="2 of 3 voters are missing") as raised:
                    await call
                assert str(raised.value).startswith(sentence)
                assert (raised.value.code, raised.value.reason) == ("UNAVAILABLE", "LEADER_UNKNOWN")
                assert not raised.value.outcome_unknown
            with pytest.raises(LogError, match="2 of 3 voters are missing"):
                async for _ in client.produce_stream([b"a"]):
                    pass
        assert len(e.server.all(Produce)) < 60


# ---------------------------------------------------------------- nodes that are frozen


async def test_a_node_that_accepts_connections_and_says_nothing_keeps_nobody_waiting(
    edge: Any, frozen_addr: str
) -> None:
    async with edge() as e, LogClient([frozen_addr, e.address], timeout_s=50.0) as client:
        assert await client.produce(b"a") == 0
        assert (await client.consume(0)).value == b"a"
        assert [record.value async for record in client.consume_stream(0, stop_at_end=True)] == [b"a"]
    async with edge() as e, LogClient([frozen_addr, e.address], timeout_s=50.0) as client:
        assert [offset async for offset in client.produce_stream([b"a", b"b"])] == [0, 1]


async def test_that_nothing_was_sent_to_a_silent_node_is_known(frozen_addr: str) -> None:
    async with LogClient(frozen_addr, timeout_s=0.5) as client:
        with pytest.raises(LogError, match=f"cannot reach {frozen_addr}: it did not answer within") as raised:
            await client.produce(b"a")
        assert not raised.value.outcome_unknown


@contextlib.asynccontextmanager
async def freezing(edge: Any) -> AsyncIterator[tuple[Any, Any, Line, LogClient]]:
    """A client that has spoken to a leader; the leader's line can be frozen, the other node can lead."""
    async with edge() as one, edge() as two, Line(one.address) as line:
        addresses = [line.address, two.address]
        lead(1, addresses, one, two)
        async with LogClient(addresses, timeout_s=55.0) as client:
            assert await client.produce(b"first") == 0
            yield one, two, line, client


async def test_an_unnumbered_produce_that_a_frozen_leader_has_ends_when_another_leads_and_its_outcome_is_unknown(
    edge: Any,
) -> None:
    async with freezing(edge) as (one, two, line, client):
        line.freeze()
        producing = asyncio.ensure_future(client.produce(b"second", acks=Acks.LEADER))
        asked = len(two.server.all(ListServers))
        await two.server.until(lambda: len(two.server.all(ListServers)) > asked + 1)
        assert not producing.done(), "nobody else leads yet"
        lead(2, [line.address, two.address], one, two)
        with pytest.raises(LogError, match=f"the node at {two.address} leads meanwhile") as raised:
            await producing
        assert raised.value.outcome_unknown
        assert "outcome is unknown" in str(raised.value)
        assert two.server.all(Produce) == []
        assert await client.produce(b"third") == 0, "at the one that leads now"


async def test_a_node_that_was_silent_is_waited_for_less_when_it_is_asked_again_until_it_has_answered() -> None:
    waited: list[float] = []

    class Silent:
        addr = "frozen:1"

    class Asked(Liveness):
        answers: list[ServerInfo] | None = None

        async def servers(self, connection: Any, within_s: float) -> list[ServerInfo] | None:
            if connection.addr == Silent.addr:
                waited.append(within_s)
                return self.answers
            return []

    nodes = ClientNodes([Silent.addr, "other:1"])
    liveness = Asked(nodes)
    connection: Any = Silent()
    await liveness.produce_failure(connection)
    await liveness.produce_failure(connection)
    nodes.reached(Silent.addr)
    await liveness.produce_failure(connection)
    liveness.answers = []
    await liveness.produce_failure(connection)
    await liveness.produce_failure(connection)
    await nodes.close()
    first, again, *_ = waited
    assert again < first
    assert waited == [first, again, first, again, first]


async def test_a_numbered_one_is_sent_again_to_the_new_leader_under_its_number(edge: Any) -> None:
    async with freezing(edge) as (one, two, line, client):
        line.freeze()
        producing = asyncio.ensure_future(client.produce(b"second"))
        asked = len(two.server.all(ListServers))
        await two.server.until(lambda: len(two.server.all(ListServers)) > asked)
        lead(2, [line.address, two.address], one, two)
        assert await producing == 0
        (produce,) = two.server.all(Produce)
        assert (produce.batch.producer_id, produce.batch.producer_sequence) == (1, 1)


async def test_a_leader_that_is_only_slow_is_waited_for(edge: Any) -> None:
    async with freezing(edge) as (one, two, line, client):
        one.server.hold = True
        producing = asyncio.ensure_future(client.produce(b"second"))
        await one.server.until(lambda: bool(one.server.all(Produce)))
        lead(2, [line.address, two.address], two)  # by mistake: n1 answers, and still leads
        two.server.leader_id = NodeId("n2")
        asked = len(one.server.all(ListServers))
        await one.server.until(lambda: len(one.server.all(ListServers)) > asked + 3)
        assert not producing.done()
        producing.cancel()
        await asyncio.gather(producing, return_exceptions=True)


async def test_a_consume_stream_goes_on_elsewhere_when_its_node_freezes(edge: Any) -> None:
    async with freezing(edge) as (_, two, line, client):
        two.server.refuse = None
        for value in (b"first", b"second"):
            two.server.append(NewBatch(encode_records([value]), 1))
        records = client.consume_stream(0)
        assert (await anext(records)).value == b"first"
        line.freeze()
        record = await anext(records)
        assert (record.offset, record.value) == (1, b"second")
        await records.aclose()


async def test_a_consume_stream_waits_for_a_node_that_has_less_than_the_one_before(edge: Any) -> None:
    async with freezing(edge) as (one, two, line, client):
        two.server.refuse = None
        records = client.consume_stream(0)
        one.server.append(NewBatch(encode_records([b"second"]), 1))
        assert [(await anext(records)).value, (await anext(records)).value] == [b"first", b"second"]
        line.cut()
        following = asyncio.ensure_future(anext(records))
        await two.server.until(lambda: bool(two.server.tailing))
        for value in (b"first", b"second", b"third"):
            two.server.append(NewBatch(encode_records([value]), 1))
        record = await following
        assert (record.offset, record.value) == (2, b"third")
        await records.aclose()


async def test_one_that_stops_at_the_end_does_not_end_at_a_node_that_has_less(edge: Any) -> None:
    values = [b"%d" % number * 1_000_000 for number in range(4)]
    async with edge() as one, edge() as two, Line(one.address, carries_bytes=1_500_000) as line:
        for value in values:
            one.server.append(NewBatch(encode_records([value]), 1))
        failures: list[LogError] = []

        def failed(failure: LogError) -> None:
            failures.append(failure)
            if failure.is_out_of_range and not two.server.batches:
                for value in values:
                    two.server.append(NewBatch(encode_records([value]), 1))

        async with LogClient([line.address, two.address], on_retry=failed) as client:
            records = client.consume_stream(0, stop_at_end=True)
            got = [await anext(records)]
            line.cut()
            got += [record async for record in records]
        assert got == [LogRecord(offset, value) for offset, value in enumerate(values)]
        assert any(failure.is_out_of_range for failure in failures)


# ---------------------------------------------------------------- produce streams


class Source:
    """An asynchronous source of records that a test feeds, and that says whether it was cancelled."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.was_cancelled = False

    def give(self, *values: bytes | None) -> None:
        for value in values:
            self.items.put_nowait(value)

    async def values(self) -> AsyncIterator[bytes]:
        try:
            while (value := await self.items.get()) is not None:
                yield value
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def test_a_produce_stream_goes_on_at_the_new_leader_with_all_that_was_refused(edge: Any) -> None:
    async with edge() as one, edge() as two:
        addresses = [one.address, two.address]
        lead(1, addresses, one, two)
        async with LogClient(addresses) as client:
            source = Source()
            offsets = client.produce_stream(source.values())
            source.give(b"a", b"b")
            assert [await anext(offsets), await anext(offsets)] == [0, 1]
            for value in (b"a", b"b"):
                two.server.append(NewBatch(encode_records([value]), 1))
            lead(2, addresses, one, two)
            source.give(b"c", b"d", None)
            assert [offset async for offset in offsets] == [2, 3]
            assert b"".join(of_data(two.server)) == encode_records([b"a", b"b", b"c", b"d"])
            assert not source.was_cancelled


@pytest.mark.parametrize("is_cut", [True, False])
async def test_a_produce_stream_that_has_nothing_unanswered_survives_its_node(edge: Any, is_cut: bool) -> None:
    async with edge() as one, edge() as two, Line(one.address) as line:
        addresses = [line.address, two.address]
        lead(1, addresses, one, two)
        noticed = asyncio.Event()
        async with LogClient(addresses, timeout_s=55.0, on_retry=lambda _: noticed.set()) as client:
            source = Source()
            offsets = client.produce_stream(source.values())
            source.give(b"a")
            assert await anext(offsets) == 0
            lead(2, addresses, one, two)
            following = asyncio.ensure_future(anext(offsets))
            if is_cut:
                line.cut()
            else:
                line.freeze()
            await noticed.wait()
            source.give(b"b", None)
            assert await following == 0
            assert [offset async for offset in offsets] == []
            assert of_data(two.server) == [encode_records([b"b"])]
            assert not source.was_cancelled


@pytest.mark.parametrize("acks", [Acks.LEADER, Acks.DEFAULT])
async def test_what_a_lost_node_had_not_answered_is_sent_again_where_it_is_numbered(edge: Any, acks: Acks) -> None:
    async with edge() as one, edge() as two, Line(one.address) as line:
        addresses = [line.address, two.address]
        lead(1, addresses, one, two)
        async with LogClient(addresses) as client:
            source = Source()
            offsets = client.produce_stream(source.values(), acks=acks)
            source.give(b"first")
            assert await anext(offsets) == 0
            one.server.hold = True
            following = asyncio.ensure_future(anext(offsets))
            source.give(b"a")
            await one.server.until(lambda: len(one.server.all(Produce)) == 2)
            source.give(b"b", None)
            await one.server.until(lambda: len(one.server.all(Produce)) == 3)
            lead(2, addresses, one, two)
            line.cut()
            if acks is Acks.DEFAULT:
                assert [await following, await anext(offsets)] == [0, 1]
                numbers = [
                    [produce.batch.producer_sequence for produce in node.server.all(Produce)] for node in (one, two)
                ]
                assert numbers == [[0, 1, 2], [1, 2]]
            else:
                with pytest.raises(
                    LogError, match=r"2 produces of the stream were not answered\. The outcome"
                ) as raised:
                    await following
                assert raised.value.outcome_unknown
                assert two.server.all(Produce) == []
            await offsets.aclose()


async def test_a_refusal_by_another_node_does_not_hide_that_the_first_one_may_have_stored_it(edge: Any) -> None:
    async with edge(max_message_bytes=20_000) as one, edge(max_record_bytes=10) as two:
        addresses = [one.address, two.address]
        lead(1, addresses, one, two)

        def keep(produce: Produce) -> None:
            one.server.append(produce.batch)
            lead(2, addresses, one, two)

        async def batches() -> AsyncIterator[list[bytes]]:
            yield [b"a" * 500] * 30
            await one.server.until(lambda: len(one.server.all(Produce)) == 1)
            yield [b"b" * 500] * 60

        async with LogClient(addresses) as client:
            Script(one.server, keep)
            with pytest.raises(LogError, match="this node takes at most 10 ") as raised:
                await anext(client.produce_batch_stream(batches()))
        assert raised.value.outcome_unknown


async def test_where_nobody_can_be_reached_any_more_what_was_sent_is_said_to_be_of_unknown_outcome(edge: Any) -> None:
    async with edge() as one, Line(one.address) as line, LogClient(line.address, timeout_s=1.0) as client:
        source = Source()
        offsets = client.produce_stream(source.values())
        source.give(b"first")
        assert await anext(offsets) == 0
        one.server.hold = True
        source.give(b"a")
        following = asyncio.ensure_future(anext(offsets))
        await one.server.until(lambda: len(one.server.all(Produce)) == 2)
        line.cut()
        with pytest.raises(LogError, match="1 produces of the stream were not answered") as raised:
            await following
        assert raised.value.outcome_unknown


@pytest.mark.parametrize("error", [RuntimeError("the source is dry"), LogError("the source is dry", "UNAVAILABLE")])
async def test_a_source_that_fails_ends_the_stream_with_its_own_error_after_the_answers(
    edge: Any, error: Exception
) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"a"
        raise error

    tried_again: list[LogError] = []
    async with edge() as e, LogClient(e.address, on_retry=tried_again.append) as client:
        offsets = client.produce_stream(failing())
        assert await anext(offsets) == 0
        with pytest.raises(type(error), match="the source is dry"):
            await anext(offsets)
        assert (len(e.server.all(Produce)), tried_again) == (1, [])

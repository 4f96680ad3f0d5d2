"""The stream of a lane: when there is one, what becomes of what it has not answered, and that all is stored once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ourolog.actors.messages.server import CancelRequest, Produce, Refusal, RequestRefused
from ourolog.actors.messages.values import Acks
from ourolog.rpc import client_batches, client_lane, client_lane_calls, client_producers
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_calls import ClientCalls
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.record_checks import RecordLimits
from tests.failing_server import FailingServer, Failure, failures
from tests.scripted_produces import (
    Script,
    held_first,
    hidden_end,
    lost_after_append,
    numbers,
    refused,
    stored,
    unanswered,
)

DEADLINE_S = 0.6


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two records are a full batch, so that several are on their way."""
    monkeypatch.setattr(client_batches, "GATHERED_RECORDS", 2)


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC never tells with which status a node has ended a stream, as where more is being sent on it meanwhile."""
    responses = ClientCalls.responses

    async def without_reason(calls: ClientCalls, *arguments: Any) -> AsyncIterator[Any]:
        try:
            async for response in responses(calls, *arguments):
                yield response
        except LogError as error:
            raise hidden_end(error.addr) from error

    monkeypatch.setattr(ClientCalls, "responses", without_reason)


def open_streams(e: Any) -> int:
    count: int = e.service._produces.open_streams
    return count


async def until_streams(e: Any, count: int) -> None:
    async with asyncio.timeout(10):
        while open_streams(e) != count:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.005)


# ---------------------------------------------------------------- when there is one


async def test_one_record_opens_no_stream_and_many_share_one(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"a")
        assert open_streams(e) == 0
        for _ in range(3):
            await asyncio.gather(*(client.produce(b"v") for _ in range(10)))
            assert open_streams(e) == 1


async def test_a_stream_on_which_nothing_is_sent_ends_and_the_next_produce_opens_another(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_lane, "STREAM_IDLE_S", 0.05)
    async with edge() as e, LogClient(e.address) as client:
        for number in range(6):
            assert await client.produce(b"v") == number
            if number % 2:
                assert open_streams(e) == 1
                await until_streams(e, 0)
        assert [number for _, number in numbers(e)] == list(range(6))


@pytest.mark.usefixtures("pairs")
async def test_a_stream_is_kept_while_something_is_on_its_way(edge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_lane, "STREAM_IDLE_S", 0.02)
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=True)
        await asyncio.sleep(0.1)  # several times as long as an idle one lasts
        Script(e.server, unanswered)
        later = [asyncio.create_task(client.produce(b"v")) for _ in range(2)]
        await e.server.until(lambda: len(numbers(e)) == 3)
        first.answer()
        e.server.produced(e.server.all(Produce)[-1])
        assert await asyncio.gather(first.caller, *later) == [1, 2, 3]
        await until_streams(e, 0)


async def test_a_node_that_has_no_room_for_a_stream_is_not_asked_for_one_each_time(edge: Any) -> None:
    async with edge(max_produce_streams=1) as e, LogClient(e.address) as client, LogClient(e.address) as other:
        await other.produce(b"a")
        await other.produce(b"b")
        asked = []
        pipeline = e.service._produces.pipeline

        async def noted(*arguments: Any) -> None:
            asked.append(None)
            await pipeline(*arguments)

        with patch.object(e.service._produces, "pipeline", noted):
            for number in range(2, 8):
                assert await client.produce(b"v") == number
        assert len(asked) == 1
        assert len(numbers(e)) == 8


async def test_a_stream_that_has_brought_a_large_batch_ends_as_soon_as_nothing_is_on_its_way(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_batches, "GATHERED_BYTES", 900)
    monkeypatch.setattr(client_batches, "MESSAGE_BYTES", 1000)
    monkeypatch.setattr(client_lane, "STREAM_IDLE_S", 60.0)
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"before")
        calls = (client.produce(b"a"), *(client.produce_batch([bytes(600)] * 2) for _ in range(3)))
        assert await asyncio.gather(*calls) == [1, 2, 4, 6]
        await until_streams(e, 0)
        assert await client.produce(b"b") == 8
        assert open_streams(e) == 1
        assert [number for _, number in numbers(e)] == list(range(6))


# ---------------------------------------------------------------- what it has not answered


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("is_hidden", [False, True])
async def test_all_that_a_broken_stream_has_not_answered_is_sent_again_in_order_and_stored_once(
    edge: Any, request: pytest.FixtureRequest, *, is_hidden: bool
) -> None:
    if is_hidden:
        request.getfixturevalue("hidden")
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"before")
        # However far the server has read before the first of them ends the call.
        lost = lost_after_append(e.server)
        Script(e.server, None, lost, lost, refused(Refusal.SEQUENCE_GAP))
        later = [client.produce(b"%d" % number) for number in range(7)]
        assert await asyncio.gather(*later) == list(range(1, 8))
        assert stored(e) == [b"before", *(b"%d" % number for number in range(7))]
        (producer_id,) = {producer_id for producer_id, _ in numbers(e)}
        assert {number for _, number in numbers(e)} == set(range(5))
        assert await client.produce(b"c") == 8
        assert numbers(e)[-1] == (producer_id, 5)


@pytest.mark.usefixtures("pairs")
async def test_where_a_batch_of_a_stream_stays_unknown_those_behind_it_do_too_and_none_goes_under_another_id(
    edge: Any,
) -> None:
    async with edge() as e, LogClient(e.address, timeout_s=1.0) as client:
        first = await held_first(e, client, by_stream=True)
        later = [asyncio.create_task(client.produce(b"%d" % number)) for number in range(5)]
        await e.server.until(lambda: len(numbers(e)) == 4)
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.DEPOSED, "lost", outcome_unknown=True)
        refused(Refusal.DEPOSED, outcome_unknown=True)(e.server.all(Produce)[1])
        outcomes = await asyncio.gather(first.caller, *later, return_exceptions=True)
        assert all(isinstance(outcome, LogError) for outcome in outcomes)
        e.server.refuse = None
        sent = [outcome.outcome_unknown for outcome in outcomes if isinstance(outcome, LogError)]
        assert sent == [True] * 5 + [False], "the last was never sent"
        assert len({producer_id for producer_id, _ in numbers(e)}) == 1
        await client.produce(b"c")
        assert numbers(e)[-1][1] == 0
        assert len({producer_id for producer_id, _ in numbers(e)}) == 2


async def test_what_is_gathered_is_never_too_large_for_a_message_of_a_stream() -> None:
    loop = asyncio.get_running_loop()
    for size in (1, 125, 126, 250, 300, 1024, 20_000, 2**20 - 40_000):
        batch = client_batches.Batch(Acks.DEFAULT)
        while batch.has_room(1, size):
            batch.add(loop.create_future(), bytes(size), 1.0)
        assert not batch.is_large
        assert len(batch.message(1, 1.0).records) <= client_batches.MESSAGE_BYTES
        assert batch.record_count
    many = client_batches.Batch(Acks.DEFAULT)
    many.add_many(loop.create_future(), [b"x"] * 250_000, 250_000, 1.0)
    assert many.is_large, "encoded it is larger than its values"


@pytest.mark.usefixtures("pairs")
async def test_a_batch_whose_caller_has_gone_is_sent_again_for_as_long_as_those_behind_it_need_to_know(
    edge: Any,
) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"before")
        Script(e.server, unanswered, unanswered)
        hasty = asyncio.create_task(client.produce(b"a", timeout_s=0.4))
        await e.server.until(lambda: len(numbers(e)) == 2)
        patient = [asyncio.create_task(client.produce(b"%d" % number)) for number in range(2)]
        await e.server.until(lambda: len(numbers(e)) == 3)
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.DEPOSED, "lost", outcome_unknown=True)
        refused(Refusal.DEPOSED, outcome_unknown=True)(e.server.all(Produce)[1])
        with pytest.raises(LogError):
            await hasty
        e.server.refuse = None
        assert await asyncio.gather(*patient) == [2, 3]
        assert stored(e) == [b"before", b"a", b"0", b"1"]


@pytest.mark.usefixtures("pairs")
async def test_what_was_sent_behind_a_batch_whose_id_is_lost_never_goes_under_another_one(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=True)
        Script(e.server, unanswered, unanswered, refused(Refusal.SEQUENCE_REUSED))
        later = [asyncio.create_task(client.produce(b"%d" % number)) for number in range(5)]
        await e.server.until(lambda: len(numbers(e)) == 4)
        refused(Refusal.DEPOSED, outcome_unknown=True)(e.server.all(Produce)[1])
        *unknown, last = await asyncio.gather(*later, return_exceptions=True)
        assert [isinstance(outcome, LogError) and outcome.outcome_unknown for outcome in unknown] == [True] * 4
        assert last == 1, "it was not sent before"
        assert stored(e) == [b"before", b"4"]
        with pytest.raises(LogError):
            await first.caller


@pytest.mark.parametrize("repeated", range(3))
async def test_a_message_that_is_too_large_for_the_connection_fails_alone_and_for_certain(
    edge: Any, repeated: int
) -> None:
    async with edge(max_message_bytes=20_000) as e, LogClient(e.address) as client:
        await client.produce(b"before")
        sizes = (10, 10, 30, 10, 10)
        calls = [client.produce_batch([b"%d" % at * 900] * size) for at, size in enumerate(sizes)]
        outcomes = await asyncio.gather(*calls, client.produce(b"last"), return_exceptions=True)
        too_large = outcomes.pop(2)
        assert outcomes == [1, 11, 21, 31, 41]
        assert isinstance(too_large, LogError)
        assert "split it" in str(too_large)
        assert not too_large.outcome_unknown
        assert len(stored(e)) == 42
        assert await client.produce(b"%d" % repeated) == 42
        assert len({producer_id for producer_id, _ in numbers(e)}) == 1


async def test_what_was_on_its_way_before_a_message_that_is_too_large_may_be_stored(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_batches, "GATHERED_BYTES", 900)
    async with edge(max_message_bytes=20_000) as e, LogClient(e.address, timeout_s=1.0) as client:
        await client.produce(b"before")
        Script(e.server, lambda produce: e.server.append(produce.batch))
        small = asyncio.create_task(client.produce_batch([bytes(900)]))
        await e.server.until(lambda: len(numbers(e)) == 2)
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.NOT_READY, "not now")
        outcomes = await asyncio.gather(small, client.produce_batch([bytes(900)] * 30), return_exceptions=True)
        assert stored(e) == [b"before", bytes(900)]
        assert [isinstance(outcome, LogError) and outcome.outcome_unknown for outcome in outcomes] == [True, False]


@pytest.mark.usefixtures("pairs")
async def test_a_producer_that_is_forgotten_in_a_stream_registers_again_and_nothing_is_lost(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=True)
        expired = refused(Refusal.PRODUCER_EXPIRED)
        later = [asyncio.create_task(client.produce(b"%d" % number)) for number in range(4)]
        Script(e.server, expired, expired)
        await e.server.until(lambda: len(numbers(e)) == 4)
        first.answer()
        assert await asyncio.gather(first.caller, *later) == list(range(1, 6))
        assert len({producer_id for producer_id, _ in numbers(e)}) == 2
        assert stored(e)[1:] == [b"first", b"0", b"1", b"2", b"3"]


async def test_behind_the_last_number_comes_another_producer_in_a_stream_too(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_producers, "MAX_SEQUENCE", 2)
    monkeypatch.setattr(client_batches, "GATHERED_RECORDS", 2)
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"a")
        offsets = await asyncio.gather(*(client.produce(b"v") for _ in range(11)))
        assert offsets == list(range(1, 12))
        assert [number for _, number in numbers(e)] == [0, 1, 2, 0, 1, 2, 0]


async def test_whoever_has_less_time_hears_what_was_missing_and_the_others_go_on(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"before")
        Script(e.server, unanswered)
        hasty = asyncio.create_task(client.produce(b"a", timeout_s=0.5))
        patient = asyncio.create_task(client.produce(b"b"))
        with pytest.raises(LogError, match="was not acknowledged as this node's --acks wants within") as raised:
            await hasty
        assert raised.value.outcome_unknown
        assert await patient == 2
        assert stored(e) == [b"before", b"a", b"b"]


async def test_a_caller_that_is_cancelled_does_not_cancel_what_its_stream_has_sent(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=True)
        first.caller.cancel()
        await asyncio.gather(first.caller, return_exceptions=True)
        first.answer()
        assert await client.produce(b"c") == 2
        assert e.server.all(CancelRequest) == []
        assert client.seen_end == 3


async def test_a_stream_that_a_server_ends_too_early_is_not_believed() -> None:
    async with FailingServer([], numbers=True, ends_streams=True) as server, LogClient(server.address) as client:
        await client.produce(b"first")
        with patch.object(client_batches, "GATHERED_RECORDS", 2):
            assert await asyncio.gather(*(client.produce(b"%d" % number) for number in range(7))) == list(range(1, 8))
        assert server.log == [b"first", *(b"%d" % number for number in range(7))]


async def test_an_answer_to_nothing_ends_a_stream_and_harms_nobody() -> None:
    class Talkative(FailingServer):
        async def _produce_stream(self, _: Any, context: Any) -> None:
            async def say() -> None:
                await says.wait()
                await context.write(b"")

            saying = asyncio.create_task(say())
            await super()._produce_stream(_, context)
            saying.cancel()

    says = asyncio.Event()
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with Talkative([], numbers=True) as server, LogClient(server.address) as client:
        assert [await client.produce(b"0"), await client.produce(b"1")] == [0, 1]
        says.set()
        async with asyncio.timeout(10):
            while client._lanes._lanes[Acks.DEFAULT]._stream is not None:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.005)
        says.clear()
        assert [await client.produce(b"2"), await client.produce(b"3")] == [2, 3]
        assert server.log == [b"0", b"1", b"2", b"3"]
        assert server.streams == 2
        assert problems == []


# ---------------------------------------------------------------- where it is not told why it has ended


@pytest.mark.usefixtures("hidden", "pairs")
async def test_what_is_refused_by_a_stream_whose_end_is_hidden_fails_alone_and_for_certain(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"before")
        wrong = [b"", bytes(1001)]
        calls = [client.produce(value) for value in (b"0", wrong[0], b"1", b"2", wrong[1], b"3", b"4")]
        calls.append(client.produce_payload(b"\xff", 1))
        calls.append(client.produce(b"5"))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [outcome for outcome in outcomes if isinstance(outcome, int)] == list(range(1, 7))
        for at in (1, 4, 7):
            assert isinstance(failed := outcomes[at], LogError)
            assert failed.reason == "INVALID"
            assert not failed.outcome_unknown
        assert stored(e) == [b"before", *(b"%d" % number for number in range(6))]
        assert len({producer_id for producer_id, _ in numbers(e)}) == 1


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_refusal_says_nothing_of_what_was_sent_before_once_another_call_may_have_brought_it(
    edge: Any, *, elsewhere: bool
) -> None:
    async with edge() as e, edge() as other, LogClient(e.address) as client:
        await client.produce(b"before")
        refuses = other if elsewhere else e

        def goes_wrong_again(produce: Produce) -> None:
            refuses.service._limits = RecordLimits(1, 1)
            if elsewhere:
                answer = RequestRefused(produce.request_id, Refusal.NOT_LEADER, "", leader_addr=other.address)
                produce.reply_to.tell(answer)
            else:
                lost_after_append(e.server)(produce)

        Script(e.server, lost_after_append(e.server), goes_wrong_again)
        with pytest.raises(LogError, match="takes at most 1") as raised:
            await client.produce(b"stored")
        assert raised.value.outcome_unknown
        assert stored(e) == [b"before", b"stored"]
        assert refuses.address == raised.value.addr


@pytest.mark.usefixtures("pairs")
async def test_nor_does_it_where_the_stream_has_said_itself_that_it_may_be_stored(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"before")
        Script(e.server, unanswered, lambda produce: e.server.append(produce.batch))
        first = [asyncio.create_task(client.produce(b"%d" % number)) for number in range(2)]
        second = [asyncio.create_task(client.produce(b"stored")) for _ in range(2)]
        await e.server.until(lambda: len(numbers(e)) == 3)
        e.service._limits = RecordLimits(1, 100)
        refused(Refusal.DEPOSED, outcome_unknown=True)(e.server.all(Produce)[1])
        assert await asyncio.gather(*first) == [3, 4]
        for failed in await asyncio.gather(*second, return_exceptions=True):
            assert isinstance(failed, LogError)
            assert "takes at most 1" in str(failed)
            assert failed.outcome_unknown


@pytest.mark.usefixtures("hidden", "pairs")
async def test_nothing_is_stored_of_what_a_stream_has_brought_behind_what_was_refused(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, timeout_s=0.5) as client:
        await client.produce(b"before")
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.NOT_READY, "not now")
        wrong, *behind = await asyncio.gather(
            *(client.produce(value) for value in (b"", b"0", b"1", b"2")), return_exceptions=True
        )
        assert isinstance(wrong, LogError)
        assert wrong.reason == "INVALID"
        for failed in behind:
            assert isinstance(failed, LogError)
            assert not failed.outcome_unknown
        assert stored(e) == [b"before"]


# ---------------------------------------------------------------- whatever happens


async def produced(script: list[Failure | None], records: int) -> None:
    """Callers of all kinds at a server that fails as the script says, and numbers."""
    values = [b"%d" % number for number in range(records)]
    with patch.object(client_batches, "GATHERED_RECORDS", 2), patch.object(client_lane_calls, "EXPIRED_AFTER_S", 0.2):
        async with (
            FailingServer([None, *script], numbers=True) as server,
            LogClient(server.address, timeout_s=DEADLINE_S) as client,
        ):
            await client.produce(b"first")
            calls = [client.produce(value) for value in values]
            async with asyncio.timeout(10 * DEADLINE_S):
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                while client.pending_bytes:  # noqa: ASYNC110  # nothing tells of it
                    await asyncio.sleep(0.005)
        for value, outcome in zip(values, outcomes, strict=True):
            assert server.log.count(value) <= 1, "stored twice"
            if isinstance(outcome, int):
                assert server.log[outcome] == value
            else:
                assert isinstance(outcome, LogError), outcome
                assert outcome.outcome_unknown or value not in server.log, "it was said that nothing was stored"
        at = [server.log.index(value) for value in values if value in server.log]
        assert all(earlier < later for earlier, later in itertools.pairwise(at)), "not in the order of the calls"


HOWS = [
    Failure(how, appended)
    for how in ("foreign", "unknown", "garbage", "silence", "hang up")
    for appended in (False, True)
]


@pytest.mark.parametrize("failure", [*HOWS, Failure("certain")], ids=str)
@pytest.mark.parametrize("before", [0, 1, 2])
async def test_no_failure_of_a_stream_makes_the_client_store_twice_or_say_what_is_not_so(
    failure: Failure, before: int
) -> None:
    await produced([None] * before + [failure], 9)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(st.none() | failures, max_size=8),
    records=st.integers(1, 20),
)
def test_nor_does_any_series_of_failures(script: list[Failure | None], records: int) -> None:
    asyncio.run(produced(script, records))


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK], ids=str)
async def test_whatever_status_ends_a_stream_what_it_has_appended_is_acknowledged_where_it_stands(
    code: grpc.StatusCode,
) -> None:
    script = [None, None, Failure("unknown", appended=True, code=code)]
    async with FailingServer(script, numbers=True) as server, LogClient(server.address, timeout_s=5.0) as client:
        assert [await client.produce(b"a"), await client.produce(b"b")] == [0, 1]
        (outcome,) = await asyncio.gather(client.produce(b"c"), return_exceptions=True)
        assert server.streamed == 2
        assert outcome == 2 or (isinstance(outcome, LogError) and outcome.outcome_unknown)
        assert server.log == [b"a", b"b", b"c"]

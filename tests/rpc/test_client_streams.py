"""Produce streams of the client: what goes together, what is sent again, and what is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ourolog.actors.messages.server import Produce, Refusal
from ourolog.actors.messages.values import Acks
from ourolog.rpc import client_requests, client_streams
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_calls import ClientCalls
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.client_producers import GATHERED_RECORDS, MAX_UNANSWERED
from ourolog.rpc.client_requests import UnansweredRequests
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.record_set import encode_records
from tests.scripted_produces import Script, hidden_end, lost_after_append, numbers, refused, stored, unanswered


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item goes in a message of its own."""
    monkeypatch.setattr(client_requests, "GATHERED_RECORDS", 1)


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """While several messages of a stream are on their way gRPC does not tell why the call was ended, as at times."""
    responses, messages = ClientCalls.responses, UnansweredRequests.messages
    opened: list[UnansweredRequests[Any]] = []

    def noted(requests: UnansweredRequests[Any]) -> Any:
        opened.append(requests)
        return messages(requests)

    async def without_reason(calls: ClientCalls, *arguments: Any) -> AsyncIterator[Any]:
        try:
            async for response in responses(calls, *arguments):
                yield response
        except LogError as error:
            if opened[-1].outstanding < 2:
                raise
            raise hidden_end(error.addr) from error

    monkeypatch.setattr(UnansweredRequests, "messages", noted)
    monkeypatch.setattr(ClientCalls, "responses", without_reason)


def counts(e: Any) -> list[int]:
    """How many records each produce had, in order of arrival."""
    return [produce.batch.record_count for produce in e.server.all(Produce)]


# ---------------------------------------------------------------- what goes together


async def test_what_is_there_already_goes_together(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        many = 2 * GATHERED_RECORDS + 500
        values = [b"%d" % number for number in range(many)]
        assert [offset async for offset in client.produce_stream(values)] == list(range(many))
        assert stored(e) == values
        assert len(counts(e)) < many // 10
        assert max(counts(e)) <= GATHERED_RECORDS


@pytest.mark.parametrize("acks", [Acks.DEFAULT, Acks.LEADER])
async def test_what_comes_while_as_many_as_may_be_are_on_their_way_goes_together(edge: Any, acks: Acks) -> None:
    async with edge() as e, LogClient(e.address) as client:
        came = asyncio.Event()
        Script(e.server, *[unanswered] * MAX_UNANSWERED)

        async def values() -> AsyncIterator[bytes]:
            for number in range(MAX_UNANSWERED):
                yield b"%d" % number
                await e.server.until(lambda number=number: len(e.server.all(Produce)) == number + 1)
            for number in range(MAX_UNANSWERED, MAX_UNANSWERED + 50):
                yield b"%d" % number
                await asyncio.sleep(0)
            came.set()

        offsets = client.produce_stream(values(), acks=acks)
        first = asyncio.ensure_future(anext(offsets))
        await came.wait()
        assert counts(e) == [1] * MAX_UNANSWERED
        for held in e.server.all(Produce):
            e.server.produced(held)
        assert [await first] + [offset async for offset in offsets] == list(range(MAX_UNANSWERED + 50))
        assert counts(e) == [1] * MAX_UNANSWERED + [50]


async def test_nothing_waits_for_company(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        answered: list[int] = []
        more = asyncio.Event()

        async def values() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"%d" % number
                while len(answered) <= number:  # goes on only when this one is answered
                    await more.wait()
                    more.clear()

        async for offset in client.produce_stream(values()):
            answered.append(offset)
            more.set()
        assert (answered, counts(e)) == ([0, 1, 2], [1, 1, 1])


async def test_a_source_that_has_to_be_waited_for_keeps_nothing_back_that_it_gave(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_requests, "TAKES_S", 0.0)  # each item takes longer than that
    async with edge() as e, LogClient(e.address) as client:
        assert [offset async for offset in client.produce_stream(iter([b"a", b"b"]))] == [0, 1]
        assert counts(e) == [1, 1]


async def test_large_records_go_in_batches_of_bounded_size(edge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_requests, "TAKES_S", 60.0)  # however slow this machine is
    monkeypatch.setattr(client_requests, "GATHERED_BYTES", 2048)
    async with edge() as e, LogClient(e.address) as client:
        assert [offset async for offset in client.produce_stream([bytes(900)] * 5)] == list(range(5))
        assert counts(e) == [2, 2, 1]


async def test_batches_of_the_caller_go_together_whole_and_each_is_answered(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_requests, "TAKES_S", 60.0)  # however slow this machine is
    async with edge() as e, LogClient(e.address) as client:
        batches = [[b"a"] * 600, [b"b"] * 400, [b"c"], [b"d"] * 1500, [b"e"]]
        assert [base async for base in client.produce_batch_stream(batches)] == [0, 600, 1000, 1001, 2501]
        assert counts(e) == [1000, 1, 1500, 1]
        assert stored(e) == [value for batch in batches for value in batch]
        assert client.seen_end == 2502


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("acks", [Acks.DEFAULT, Acks.LEADER])
@pytest.mark.parametrize(("bad", "why"), [(b"", "the record is empty"), (bytes(1001), "the record holds 1001 bytes")])
async def test_a_bad_record_ends_the_stream_after_all_that_came_before_it(
    edge: Any, acks: Acks, bad: bytes, why: str
) -> None:
    async with edge() as e, LogClient(e.address) as client:
        offsets = client.produce_stream([b"a", b"b", bad, b"c"], acks=acks)
        assert [await anext(offsets), await anext(offsets)] == [0, 1]
        with pytest.raises(LogError, match=why) as raised:
            await anext(offsets)
        assert (raised.value.code, raised.value.outcome_unknown) == ("INVALID_ARGUMENT", False)
        assert stored(e) == [b"a", b"b"]


async def test_a_batch_without_records_ends_the_stream_after_those_before_it(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        offsets = client.produce_batch_stream([[b"a"], [], [b"b"]])
        assert await anext(offsets) == 0
        with pytest.raises(LogError, match="the batch holds no records"):
            await anext(offsets)
        assert stored(e) == [b"a"]


@pytest.mark.parametrize(
    ("limit", "records"), [({"max_batch_bytes": 10_000}, 200), ({"max_message_bytes": 20_000}, 2000)]
)
async def test_a_node_that_takes_smaller_batches_or_messages_gets_them(
    edge: Any, limit: dict[str, int], records: int
) -> None:
    async with edge(**limit) as e, LogClient(e.address) as client:
        values = [b"%0900d" % number for number in range(records)]
        assert [offset async for offset in client.produce_stream(values)] == list(range(records))
        assert stored(e) == values
        assert max(counts(e)) > 1


@pytest.mark.parametrize("gathered", [1, GATHERED_RECORDS])
async def test_a_message_too_large_for_the_connection_fails_alone(
    edge: Any, monkeypatch: pytest.MonkeyPatch, gathered: int
) -> None:
    """What was on its way with it may be stored, and is: it is sent again until that is known."""
    monkeypatch.setattr(client_requests, "GATHERED_RECORDS", gathered)
    async with edge(max_message_bytes=20_000) as e, LogClient(e.address) as client:
        batches = [[b"a" * 500] * 30, [b"b" * 500] * 30, [bytes(999)] * 30, [b"never"]]
        offsets = client.produce_batch_stream(batches)
        assert [await anext(offsets), await anext(offsets)] == [0, 30]
        with pytest.raises(LogError, match="split it") as raised:
            await anext(offsets)
        assert not raised.value.outcome_unknown
        assert stored(e) == batches[0] + batches[1]


async def test_what_one_node_may_have_stored_is_unknown_whatever_another_one_says() -> None:
    batches = [[b"a"] * 1000, [b"b"] * 1000]
    requests = UnansweredRequests(batches, lambda values: (encode_records(values), 1000), pb.ACKS_DEFAULT)
    messages = requests.messages()
    assert [(await anext(messages)).record_count for _ in range(2)] == [1000, 1000]
    requests.note_too_large("one")
    assert requests.is_unknown
    await anext(requests.messages())
    assert not requests.take_apart()  # refused for its content, or by the connections of another node
    assert not requests.take_apart("two")
    assert requests.is_unknown
    assert not requests.take_apart("one")  # it is this one that was too large there, and nothing is behind it
    assert not requests.is_unknown
    requests.note_too_large("one")
    requests.note_too_large("two")
    assert not requests.take_apart("two")
    assert requests.is_unknown


# ---------------------------------------------------------------- what is sent again


@pytest.mark.usefixtures("alone")
async def test_a_stream_has_no_more_on_its_way_than_the_log_remembers(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        Script(e.server, *[unanswered] * MAX_UNANSWERED)
        offsets = client.produce_stream(b"%d" % number for number in range(MAX_UNANSWERED + 10))
        first = asyncio.ensure_future(anext(offsets))
        await e.server.until(lambda: len(e.server.all(Produce)) == MAX_UNANSWERED)
        await client.get_servers()
        held = e.server.all(Produce)
        assert len(held) == MAX_UNANSWERED
        for produce in held:
            e.server.produced(produce)
        assert [await first] + [offset async for offset in offsets] == list(range(MAX_UNANSWERED + 10))
        assert [number for _, number in numbers(e)] == list(range(MAX_UNANSWERED + 10))


@pytest.mark.usefixtures("alone")
async def test_a_stream_sends_again_all_that_was_not_answered_and_it_is_stored_once(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        # However far the server has read before the first of them ends the call.
        Script(e.server, None, lost_after_append(e.server), lost_after_append(e.server), refused(Refusal.SEQUENCE_GAP))
        batches = [[b"a"], [b"b", b"c"], [b"d"], [b"e"]]
        assert [offset async for offset in client.produce_batch_stream(batches)] == [0, 1, 3, 4]
        assert stored(e) == [b"a", b"b", b"c", b"d", b"e"]


async def test_a_source_that_is_cancelled_ends_the_stream(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:

        async def values() -> AsyncIterator[bytes]:
            yield b"a"
            raise asyncio.CancelledError

        offsets = client.produce_stream(values())
        assert await anext(offsets) == 0
        with pytest.raises(asyncio.CancelledError):
            await anext(offsets)


async def test_a_source_that_never_waits_does_not_keep_its_records_back(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        answered: list[int] = []

        async def values() -> AsyncIterator[bytes]:
            for number in range(2000):
                if answered:
                    return
                yield b"%d" % number
                time.sleep(0.005)  # noqa: ASYNC251  # it holds up the loop, as the lines of a terminal do

        async for offset in client.produce_stream(values()):
            answered.append(offset)
        assert counts(e)[0] < 100


@pytest.mark.usefixtures("alone")
async def test_a_stream_goes_on_when_a_leader_that_may_have_stored_something_leads_no_more(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        Script(e.server, None, refused(Refusal.NOT_LEADER, outcome_unknown=True))
        assert [offset async for offset in client.produce_stream([b"a", b"b"])] == [0, 1]
        assert stored(e) == [b"a", b"b"]


@pytest.mark.usefixtures("alone", "hidden")
async def test_a_call_that_has_ended_without_a_reason_sends_one_by_one_until_it_is_known(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, timeout_s=1.0) as client:
        offsets = client.produce_stream([b"a", b"", b"b", b"c"])
        assert await anext(offsets) == 0
        with pytest.raises(LogError, match="is empty") as raised:
            await anext(offsets)
        assert raised.value.outcome_unknown  # what was behind it may have been stored, for all that the client knows
        assert stored(e) == [b"a"]


@pytest.mark.usefixtures("alone")
async def test_a_stream_whose_producer_is_forgotten_numbers_the_rest_anew(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        expired = refused(Refusal.PRODUCER_EXPIRED)
        Script(e.server, None, expired, expired)
        assert [offset async for offset in client.produce_stream([b"a", b"b", b"c"])] == [0, 1, 2]
        (first_id, _), *_, (second_id, last) = numbers(e)
        assert (first_id != second_id, last) == (True, 1)
        assert stored(e) == [b"a", b"b", b"c"]


@pytest.mark.usefixtures("alone")
async def test_a_stream_whose_producer_is_forgotten_with_batches_of_unknown_outcome_says_so(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_streams, "EXPIRED_AFTER_S", 0.3)
    async with edge() as e, LogClient(e.address) as client:
        expired = refused(Refusal.PRODUCER_EXPIRED)
        Script(e.server, None, refused(Refusal.DEPOSED, outcome_unknown=True), *[expired] * 200)
        offsets = client.produce_stream([b"a", b"b", b"c"])
        assert await anext(offsets) == 0
        with pytest.raises(LogError, match=r"\d produces of the stream were not answered") as raised:
            await anext(offsets)
        assert raised.value.outcome_unknown
        assert len({producer_id for producer_id, _ in numbers(e)}) == 1

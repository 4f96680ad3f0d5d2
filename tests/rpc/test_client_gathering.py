"""What a client gathers while something is on its way: what goes together, in which order, and how much may wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ourolog.actors.messages.server import CancelRequest, Produce, Refusal, RequestRefused
from ourolog.actors.messages.values import Acks
from ourolog.rpc import client_batches, client_lane
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_batches import GATHERED_RECORDS, RECORD_COSTS_BYTES
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.client_lane import WINDOW
from ourolog.storage.record_set import encode_records
from tests.scripted_produces import Script, held_first, numbers, refused, stored, unanswered


def counts(e: Any) -> list[int]:
    """How many records each produce had, in order of arrival."""
    return [produce.batch.record_count for produce in e.server.all(Produce)]


# ---------------------------------------------------------------- what goes together


async def test_nothing_waits_while_nothing_is_on_its_way(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        for number in range(4):
            assert await client.produce(b"v") == number
        assert counts(e) == [1] * 4


async def test_produces_that_are_called_together_go_together_though_nothing_is_on_its_way(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        for round_number in range(3):  # by a call, and then by a stream
            offsets = await asyncio.gather(*(client.produce(b"v") for _ in range(50)))
            assert offsets == list(range(50 * round_number, 50 * round_number + 50))
        assert counts(e) == [50] * 3


@pytest.mark.parametrize("acks", [Acks.DEFAULT, Acks.LEADER])
async def test_callers_that_are_answered_together_and_go_on_at_once_go_together_again(edge: Any, acks: Acks) -> None:
    async with edge() as e, LogClient(e.address) as client:

        async def caller() -> None:
            for _ in range(4):
                await client.produce(b"v", acks=acks)

        await asyncio.gather(*(caller() for _ in range(20)))
        assert counts(e) == [20] * 4


@pytest.mark.parametrize("acks", [Acks.DEFAULT, Acks.LEADER])
async def test_a_caller_that_is_answered_and_goes_on_at_once_goes_with_those_that_waited(edge: Any, acks: Acks) -> None:
    async with edge() as e, LogClient(e.address) as client:
        Script(e.server, unanswered)

        async def caller() -> list[int]:
            return [await client.produce(b"v", acks=acks), await client.produce(b"again", acks=acks)]

        first = asyncio.create_task(caller())
        await e.server.until(lambda: len(counts(e)) == 1)
        later = [asyncio.create_task(client.produce(b"v", acks=acks)) for _ in range(5)]
        await asyncio.sleep(0)
        e.server.produced(e.server.all(Produce)[0])
        await asyncio.gather(first, *later)
        assert counts(e) == [1, 6]


@pytest.mark.parametrize("by_stream", [False, True])
async def test_what_comes_while_a_batch_is_on_its_way_goes_together_and_each_hears_of_its_own_records(
    edge: Any, by_stream: bool
) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=by_stream)
        later = [asyncio.create_task(client.produce_batch([b"x"] * 2)) for _ in range(5)]
        later.append(asyncio.create_task(client.produce(b"y")))
        await client.get_servers()  # there and back: what goes at once has come
        before = len(counts(e))
        first.answer()
        offset = await first.caller
        assert await asyncio.gather(*later) == [offset + at for at in (1, 3, 5, 7, 9, 11)]
        assert counts(e)[before:] == [11]


async def test_what_needs_other_acknowledgements_goes_by_itself_and_waits_for_nobody_else(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client)
        every = [client.produce(b"v", acks=acks) for acks in (Acks.ALL, Acks.QUORUM, Acks.ALL)]
        assert sorted(await asyncio.gather(*every)) == [0, 1, 2]
        sent = e.server.all(Produce)[1:]
        assert sorted((produce.acks, produce.batch.record_count) for produce in sent) == [
            (Acks.QUORUM, 1),
            (Acks.ALL, 2),
        ]
        assert len({producer_id for producer_id, _ in numbers(e)}) == 3
        first.answer()
        await first.caller


HALF = [b"x"] * (GATHERED_RECORDS // 2)


@pytest.mark.parametrize(
    ("most_bytes", "batches", "together"),
    [
        (1_500, [[b"y" * 900], [b"z" * 900], [b"z"]], [1, 2]),
        (1_000_000, [HALF, HALF, HALF], [2 * len(HALF), len(HALF)]),
    ],
)
async def test_what_goes_together_is_bounded(
    edge: Any, monkeypatch: pytest.MonkeyPatch, most_bytes: int, batches: list[list[bytes]], together: list[int]
) -> None:
    monkeypatch.setattr(client_batches, "GATHERED_BYTES", most_bytes)
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client)
        later = [asyncio.create_task(client.produce_batch(batch)) for batch in batches]
        await asyncio.sleep(0)
        first.answer()
        await asyncio.gather(first.caller, *later)
        assert counts(e)[1:] == together


async def test_a_batch_that_is_full_waits_for_no_answer_and_no_more_than_a_window_of_them_go(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_batches, "GATHERED_RECORDS", 3)
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=True)
        before = len(counts(e)) - 1
        Script(e.server, *[unanswered] * (WINDOW - 1))
        later = [asyncio.create_task(client.produce(b"%d" % number)) for number in range(2 + 3 * WINDOW)]
        await e.server.until(lambda: len(counts(e)) == before + WINDOW)
        await client.get_servers()
        assert counts(e)[before:] == [1] + [3] * (WINDOW - 1)
        for produce in e.server.all(Produce)[before:]:
            e.server.produced(produce)
        offset = await first.caller
        assert await asyncio.gather(*later) == [offset + 1 + at for at in range(2 + 3 * WINDOW)]
        assert counts(e)[before:] == [1] + [3] * WINDOW + [2]


async def test_a_batch_to_which_the_next_record_does_not_fit_waits_for_no_answer(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_batches, "GATHERED_BYTES", 10)
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=True)
        before = len(counts(e))
        large = asyncio.create_task(client.produce(b"6 long"))
        await client.get_servers()
        assert len(counts(e)) == before, "there is room for more in it"
        larger = asyncio.create_task(client.produce(b"7 longer"))
        await e.server.until(lambda: len(counts(e)) == before + 1)
        first.answer()
        await asyncio.gather(first.caller, large, larger)


async def test_records_stand_in_the_log_in_the_order_in_which_they_were_called(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_batches, "GATHERED_RECORDS", 7)
    async with edge() as e, LogClient(e.address, max_pending_bytes=1000) as client:
        calls = []
        for number in range(0, 60, 4):
            calls.append(client.produce(b"%02d" % number))
            calls.append(client.produce_batch([b"%02d" % (number + 1), b"%02d" % (number + 2)]))
            calls.append(client.produce_payload(encode_records([b"%02d" % (number + 3)]), 1))
        await asyncio.gather(*calls)
        assert stored(e) == [b"%02d" % number for number in range(60)]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("by_stream", [False, True])
@pytest.mark.parametrize(("bad", "why"), [(b"", "must not be empty"), (bytes(1001), "must not exceed 1000 bytes")])
async def test_a_bad_record_among_others_fails_alone(edge: Any, by_stream: bool, bad: bytes, why: str) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=by_stream)
        before = len(counts(e))
        values = [b"%03d" % number for number in range(100)]
        values[20] = values[70] = bad
        later = [asyncio.create_task(client.produce(value)) for value in values]
        await asyncio.sleep(0)
        first.answer()
        offset = await first.caller
        answers = await asyncio.gather(*later, return_exceptions=True)
        good = [value for value in values if value != bad]
        assert stored(e)[offset + 1 :] == good
        assert [answer for answer in answers if isinstance(answer, int)] == [offset + 1 + at for at in range(98)]
        for failed in (answers[20], answers[70]):
            assert isinstance(failed, LogError)
            assert failed.fields == {"record.value": why}
            assert not failed.outcome_unknown
        assert len(counts(e)) - before <= 5, "what is refused is named, and the rest goes together"
        assert await client.produce(b"d") == offset + 99


@pytest.mark.parametrize("by_stream", [False, True])
async def test_one_bad_record_is_refused_in_the_words_for_one(edge: Any, by_stream: bool) -> None:
    async with edge() as e, LogClient(e.address) as client:
        if by_stream:
            await client.produce(b"before")
        with pytest.raises(LogError, match="the record is empty") as raised:
            await client.produce(b"")
        assert raised.value.fields == {"record.value": "must not be empty"}


@pytest.mark.parametrize("by_stream", [False, True])
async def test_a_batch_that_is_too_large_for_the_node_goes_in_smaller_ones(edge: Any, by_stream: bool) -> None:
    async with edge(max_batch_bytes=3000) as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=by_stream)
        later = [asyncio.create_task(client.produce(b"%0500d" % number)) for number in range(16)]
        await asyncio.sleep(0)
        first.answer()
        offset = await first.caller
        assert await asyncio.gather(*later) == [offset + 1 + at for at in range(16)]
        assert max(counts(e)) > 1


async def test_batches_that_their_callers_have_made_wrong_fail_alone(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client)
        payload = encode_records([b"a", b"b"])
        later = [
            asyncio.create_task(call)
            for call in (
                client.produce(b"c"),
                client.produce_batch([]),
                client.produce_payload(payload, 3),
                client.produce_payload(b"\xff", 1),
                client.produce(b"d"),
            )
        ]
        await asyncio.sleep(0)
        first.answer()
        await first.caller
        good, empty, count, nothing, also_good = await asyncio.gather(*later, return_exceptions=True)
        assert (good, also_good) == (1, 2)
        assert "record_count says 3, the batch holds 2" in str(count)
        assert "the batch holds no records" in str(empty)
        assert "not an encoded log.v1.RecordSet" in str(nothing)


async def test_what_is_not_bytes_is_refused_where_it_is_called(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        wrong: Any = "text"
        for call in (client.produce(wrong), client.produce_batch([b"v", wrong]), client.produce_payload(wrong, 1)):
            with pytest.raises(TypeError, match="a record is bytes, not str"):
                await call
        mine = bytearray(b"a")
        call = client.produce(memoryview(mine))  # type: ignore[arg-type]
        task = asyncio.create_task(call)
        await asyncio.sleep(0)
        mine[0] = 0
        assert await task == 0
        assert stored(e) == [b"a"]


# ---------------------------------------------------------------- how much may wait


async def test_whoever_calls_beyond_the_bound_waits_in_line_and_goes_on_in_order(edge: Any) -> None:
    room = 3 * (100 + RECORD_COSTS_BYTES)
    async with edge() as e, LogClient(e.address, max_pending_bytes=room) as client:
        first = await held_first(e, client)
        later = [asyncio.create_task(client.produce(b"%0100d" % number)) for number in range(20)]
        await asyncio.sleep(0)
        assert client.pending_bytes <= room
        first.answer()
        assert await first.caller == 0
        assert await asyncio.gather(*later) == list(range(1, 21))
        assert max(counts(e)) <= 3
        assert client.pending_bytes == 0


async def test_a_record_larger_than_the_bound_goes_when_nothing_else_does(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, max_pending_bytes=100) as client:
        small, large = client.produce(b"a"), client.produce(bytes(900))
        assert await asyncio.gather(small, large) == [0, 1]
        assert counts(e) == [1, 1]


async def test_whoever_waits_in_line_hears_in_time_that_nothing_was_sent(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, max_pending_bytes=100) as client:
        first = await held_first(e, client)
        hasty = asyncio.create_task(client.produce(bytes(99), timeout_s=0.1))
        patient = asyncio.create_task(client.produce(b"c"))
        with pytest.raises(LogError, match="as many as may be") as raised:
            await hasty
        assert (raised.value.code, raised.value.outcome_unknown) == ("DEADLINE_EXCEEDED", False)
        first.answer()
        assert await asyncio.gather(first.caller, patient) == [0, 1]
        assert stored(e) == [b"first", b"c"]


async def test_what_waits_in_line_when_its_caller_is_cancelled_is_never_sent(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, max_pending_bytes=100) as client:
        first = await held_first(e, client)
        later = [asyncio.create_task(client.produce(bytes(99))), asyncio.create_task(client.produce(b"c"))]
        await asyncio.sleep(0)
        later[0].cancel()
        await asyncio.sleep(0)
        first.answer()
        assert await asyncio.gather(first.caller, later[1]) == [0, 1]
        assert stored(e) == [b"first", b"c"]
        assert client.pending_bytes == 0


async def test_the_room_of_what_is_refused_or_given_up_is_free_again(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, timeout_s=0.3) as client:
        first = await held_first(e, client)
        later = [asyncio.create_task(client.produce(value)) for value in (b"a", b"", b"b")]
        await asyncio.sleep(0)
        later[2].cancel()
        first.answer()
        await asyncio.gather(first.caller, *later, return_exceptions=True)
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.DEPOSED, "lost", outcome_unknown=True)
        with pytest.raises(LogError):
            await client.produce(b"c")
        e.server.refuse = None
        await client.produce(b"d")
        assert client.pending_bytes == 0


# ---------------------------------------------------------------- deadlines and the end


async def test_what_finds_no_room_on_its_way_in_its_time_was_not_sent(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client)
        async with asyncio.timeout(10):
            with pytest.raises(LogError, match="not acknowledged in time") as raised:
                await client.produce(b"b", timeout_s=0.2)
        assert (raised.value.code, raised.value.outcome_unknown) == ("DEADLINE_EXCEEDED", False)
        first.answer()
        await first.caller
        assert stored(e) == [b"first"]


async def test_each_of_many_callers_hears_by_its_own_deadline(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client)
        timeouts_s = (0.3, 0.1, 20.0, 0.2)
        callers = [asyncio.create_task(client.produce(b"v", timeout_s=timeout_s)) for timeout_s in timeouts_s]
        ended: list[float] = []
        for caller, timeout_s in zip(callers, timeouts_s, strict=True):
            caller.add_done_callback(lambda _, timeout_s=timeout_s: ended.append(timeout_s))
        await asyncio.wait([callers[0], callers[1], callers[3]])
        assert ended == [0.1, 0.2, 0.3]
        first.answer()
        assert await asyncio.gather(first.caller, callers[2]) == [0, 1]


@pytest.mark.parametrize("by_stream", [False, True])
async def test_what_was_not_sent_when_its_caller_was_cancelled_is_never_sent(edge: Any, by_stream: bool) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=by_stream)
        later = [asyncio.create_task(client.produce(value)) for value in (b"b", b"c")]
        await asyncio.sleep(0)
        later[0].cancel()
        await asyncio.sleep(0)
        first.answer()
        await asyncio.gather(first.caller, *later, return_exceptions=True)
        assert stored(e)[-2:] == [b"first", b"c"]
        assert e.server.all(CancelRequest) == []


@pytest.mark.parametrize("by_stream", [False, True])
async def test_a_client_that_is_closed_says_of_each_produce_whether_it_may_be_stored(
    edge: Any, by_stream: bool
) -> None:
    async with edge() as e:
        client = LogClient(e.address, max_pending_bytes=200)
        first = await held_first(e, client, by_stream=by_stream)
        callers = [first.caller, *(asyncio.create_task(client.produce(bytes(50))) for _ in range(2))]
        await asyncio.sleep(0)
        await client.close()
        errors = await asyncio.gather(*callers, client.produce(b"late"), return_exceptions=True)
        assert [str(error) for error in errors] == ["the client was closed"] * 4
        assert [error.outcome_unknown for error in errors if isinstance(error, LogError)] == [True, False, False, False]


async def test_a_window_of_one_takes_one_batch_at_a_time(edge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_lane, "WINDOW", 1)
    monkeypatch.setattr(client_batches, "GATHERED_RECORDS", 2)
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, by_stream=True)
        before = len(counts(e))
        later = [asyncio.create_task(client.produce(b"v")) for _ in range(4)]
        await client.get_servers()
        assert len(counts(e)) == before
        first.answer()
        await asyncio.gather(first.caller, *later)


async def test_without_numbers_what_waits_goes_together_too(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client, acks=Acks.LEADER)
        values = [b"a", b"", b"c", b"d"]
        later = [asyncio.create_task(client.produce(value, acks=Acks.LEADER)) for value in values]
        await asyncio.sleep(0)
        Script(e.server, None, None, refused(Refusal.DEPOSED, outcome_unknown=True))
        first.answer()
        assert await first.caller == 0
        good, bad, *others = await asyncio.gather(*later, return_exceptions=True)
        assert good == 1
        assert "the record is empty" in str(bad)
        assert others == [2, 3]
        with pytest.raises(LogError) as raised:
            await client.produce(b"e", acks=Acks.LEADER)
        assert raised.value.outcome_unknown
        assert set(numbers(e)) == {(0, 0)}

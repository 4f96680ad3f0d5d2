"""Produces of the client that are stored once: numbers, what is sent again, and what becomes of a producer's id."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from ourolog.actors.messages.server import CancelRequest, Produce, Refusal, RegisterProducer, RequestRefused
from ourolog.actors.messages.values import Acks
from ourolog.rpc import client_lane_calls, client_producers
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.record_set import decode_records
from tests.scripted_produces import Script, held_first, lost_after_append, numbers, refused, stored, unanswered


async def test_one_call_after_the_other_is_numbered_in_one_lane(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        assert await client.produce(b"a") == 0
        assert await client.produce_batch([b"b", b"c"]) == 1
        assert await client.produce(b"d") == 3
        ((producer_id, _), *_) = numbers(e)
        assert numbers(e) == [(producer_id, 0), (producer_id, 1), (producer_id, 2)]
        assert len(e.server.all(RegisterProducer)) == 1


async def test_what_is_stored_though_its_answer_was_lost_is_stored_once_and_acknowledged_where_it_stands(
    edge: Any,
) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"a")
        Script(e.server, lost_after_append(e.server), refused(Refusal.NOT_READY))
        assert await client.produce_batch([b"b", b"c"]) == 1
        assert await client.produce(b"d") == 3
        assert stored(e) == [b"a", b"b", b"c", b"d"]
        assert [number for _, number in numbers(e)] == [0, 1, 1, 1, 2]


async def test_a_caller_that_is_cancelled_does_not_cancel_what_its_lane_has_sent(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"a")
        Script(e.server, unanswered)
        caller = asyncio.create_task(client.produce(b"b"))
        await e.server.until(lambda: len(e.server.all(Produce)) == 2)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        e.server.produced(e.server.all(Produce)[-1])
        assert await client.produce(b"c") in (1, 2)
        assert sorted(stored(e)) == [b"a", b"b", b"c"]
        assert e.server.all(CancelRequest) == []


async def test_where_it_stays_unknown_the_lane_is_given_up_and_nothing_is_sent_under_another_id(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, timeout_s=0.5) as client:
        await client.produce(b"a")
        (producer_id, _), *_ = numbers(e)
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.DEPOSED, "lost", outcome_unknown=True)
        with pytest.raises(LogError, match=r"lost\. The outcome is unknown") as raised:
            await client.produce(b"b")
        assert raised.value.outcome_unknown
        assert set(numbers(e)[1:]) == {(producer_id, 1)}, "the same bytes under the same number, each time"
        e.server.refuse = None
        tried = len(numbers(e))
        assert await client.produce(b"c") == 1
        ((other_id, number),) = numbers(e)[tried:]
        assert (other_id != producer_id, number) == (True, 0)
        assert stored(e) == [b"a", b"c"]


async def test_whoever_has_less_time_hears_in_time_and_the_others_go_on(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"a")
        Script(e.server, unanswered)
        hasty = asyncio.create_task(client.produce(b"b", timeout_s=0.5))
        with pytest.raises(LogError, match="not acknowledged") as raised:
            await hasty
        assert raised.value.outcome_unknown
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.OVERLOADED, "full")
        patient = asyncio.create_task(client.produce(b"c"))
        with pytest.raises(LogError, match="full") as raised:
            await client.produce(b"d", timeout_s=0.3)
        assert not raised.value.outcome_unknown
        assert not patient.done()
        e.server.refuse = None
        assert await patient in (1, 2), "what the hasty one gave up may be stored"


async def test_a_producer_that_is_forgotten_registers_again_without_a_word(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"a")
        Script(e.server, refused(Refusal.PRODUCER_EXPIRED))
        assert await client.produce(b"b") == 1
        assert len(e.server.all(RegisterProducer)) == 2
        assert [number for _, number in numbers(e)] == [0, 1, 0]


@pytest.mark.parametrize("refusal", [Refusal.SEQUENCE_REUSED, Refusal.SEQUENCE_FORGOTTEN])
async def test_where_something_else_stands_under_its_number_what_follows_goes_under_another_id(
    edge: Any, refusal: Refusal
) -> None:
    async with edge() as e, LogClient(e.address) as client:
        Script(e.server, refused(refusal))
        with pytest.raises(LogError) as raised:
            await client.produce(b"a")
        assert raised.value.reason == refusal.name
        assert await client.produce(b"b") == 0
        (first, _), (second, number) = numbers(e)
        assert (first != second, number) == (True, 0)


async def test_a_producer_that_is_forgotten_with_a_batch_of_unknown_outcome_says_so(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_lane_calls, "EXPIRED_AFTER_S", 0.3)
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"a")
        expired = refused(Refusal.PRODUCER_EXPIRED)
        Script(e.server, refused(Refusal.DEPOSED, outcome_unknown=True), *[expired] * 100)
        with pytest.raises(LogError) as raised:
            await client.produce(b"b")
        assert (raised.value.reason, raised.value.outcome_unknown) == ("PRODUCER_EXPIRED", True)
        assert 2 < len(numbers(e)) < 100, "an old leader may not know of it, so more than one is asked"
        assert len(set(numbers(e)[1:])) == 1


async def test_a_leader_that_was_replaced_and_knows_no_such_producer_is_not_believed(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"a")
        Script(e.server, lost_after_append(e.server), refused(Refusal.PRODUCER_EXPIRED))
        assert await client.produce(b"b") == 1
        assert await client.produce(b"c") == 2
        assert stored(e) == [b"a", b"b", b"c"]
        assert [number for _, number in numbers(e)] == [0, 1, 1, 1, 2]


async def test_a_lane_goes_on_until_it_knows_what_became_of_a_batch_whose_caller_has_gone(edge: Any) -> None:
    failed = asyncio.Event()
    async with edge() as e, LogClient(e.address, on_retry=lambda _: failed.set()) as client:
        await client.produce(b"a")
        Script(e.server, lost_after_append(e.server))
        caller = asyncio.create_task(client.produce(b"b"))
        await failed.wait()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        await e.server.until(lambda: len(numbers(e)) == 3)
        assert await client.produce(b"c") == 2
        assert stored(e) == [b"a", b"b", b"c"]


async def test_behind_the_last_number_comes_another_producer(edge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_producers, "MAX_SEQUENCE", 2)
    async with edge() as e, LogClient(e.address) as client:
        assert [await client.produce(b"a") for _ in range(5)] == list(range(5))
        (first_id, _), *_, (second_id, _) = numbers(e)
        expected = [(first_id, 0), (first_id, 1), (first_id, 2), (second_id, 0), (second_id, 1)]
        assert numbers(e) == expected
        assert first_id != second_id


async def test_what_goes_apart_goes_on_under_another_id_when_this_one_is_lost(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client)
        hasty = asyncio.create_task(client.produce(b"a", timeout_s=1.0))
        bad, patient = [asyncio.create_task(client.produce(value, timeout_s=20.0)) for value in (b"", b"c")]
        await asyncio.sleep(0)
        tell = e.server.tell
        lost = asyncio.Event()

        def lose_a(message: Any) -> None:
            if isinstance(message, Produce) and decode_records(message.batch.payload) == [b"a"]:
                refused(Refusal.DEPOSED, outcome_unknown=True)(message)
                lost.set()
            else:
                tell(message)

        e.server.tell = lose_a
        first.answer()
        assert await first.caller == 0
        await lost.wait()
        behind = asyncio.create_task(client.produce(b"d"))
        with pytest.raises(LogError) as raised:
            await hasty
        assert raised.value.outcome_unknown
        with pytest.raises(LogError, match="empty"):
            await bad
        assert await asyncio.gather(patient, behind) == [1, 2]
        assert stored(e) == [b"first", b"c", b"d"]
        assert len({producer_id for producer_id, _ in numbers(e)}) == 2


@pytest.mark.parametrize("refusal", [Refusal.NOBODY_ELECTED, None])
async def test_where_there_are_no_ids_produces_go_without_and_the_cluster_is_not_asked_each_time(
    edge: Any, refusal: Refusal | None
) -> None:
    async with edge() as e, LogClient(e.address) as client:

        def refuse(register: RegisterProducer) -> None:
            register.reply_to.tell(RequestRefused(register.request_id, Refusal.NOBODY_ELECTED, "nobody leads"))

        tell = e.server.tell
        e.server.tell = lambda message: refuse(message) if isinstance(message, RegisterProducer) else tell(message)
        asked: list[object] = []
        if refusal is None:

            async def unimplemented(*_: Any, **__: Any) -> None:
                asked.append(None)
                raise LogError("no such call", "UNIMPLEMENTED")

            client._lanes._ids._calls = _Calls(unimplemented)  # type: ignore[assignment]
        assert await client.produce_batch([b"a", b"b"]) == 0
        assert await client.produce(b"c") == 2
        assert [offset async for offset in client.produce_stream([b"d"])] == [3]
        assert numbers(e) == [(0, 0)] * 3
        assert len(asked) <= 1
        Script(e.server, refused(Refusal.STOPPING, outcome_unknown=True))
        with pytest.raises(LogError, match="outcome is unknown"):
            await client.produce(b"e")


class _Calls:
    """Calls that all end the same way."""

    def __init__(self, call: Any) -> None:
        self.call = call


async def test_what_only_the_leader_must_have_goes_without_a_number(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"a", acks=Acks.LEADER)
        assert [offset async for offset in client.produce_stream([b"b"], acks=Acks.LEADER)] == [1]
        assert numbers(e) == [(0, 0), (0, 0)]
        assert e.server.all(RegisterProducer) == []


async def test_a_stub_without_a_number_works_beside_numbered_ones(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        await client.produce(b"a")
        async with grpc.aio.insecure_channel(e.address):
            response = await e.stub.Produce(pb.ProduceRequest(record=pb.Record(value=b"b")))
        assert response.offset == 1


# ---------------------------------------------------------------- told that nothing of it was stored


@pytest.mark.parametrize("has_id", [True, False])
async def test_what_was_refused_for_certain_is_not_sent_with_those_who_wait_on(edge: Any, has_id: bool) -> None:
    async with edge() as e, LogClient(e.address) as client:
        if has_id:
            await client.produce(b"before")
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.NOT_READY, "not now")
        hasty = asyncio.create_task(client.produce(b"hasty", timeout_s=0.3))
        patient = asyncio.create_task(client.produce(b"patient"))
        with pytest.raises(LogError) as raised:
            await hasty
        assert not raised.value.outcome_unknown
        e.server.refuse = None
        await patient
        assert stored(e)[-1] == b"patient"
        assert b"hasty" not in stored(e)
        assert client.pending_bytes == 0


async def test_what_was_refused_for_certain_while_another_part_is_on_its_way_is_not_sent(edge: Any) -> None:
    async with edge(max_record_bytes=10) as e, LogClient(e.address) as client:
        Script(e.server, unanswered)
        first = asyncio.create_task(client.produce(b"first", acks=Acks.LEADER))
        bad = asyncio.create_task(client.produce(b"too long by far", acks=Acks.LEADER))
        hasty = asyncio.create_task(client.produce(b"hasty", acks=Acks.LEADER, timeout_s=0.3))
        patient = asyncio.create_task(client.produce(b"patient", acks=Acks.LEADER))
        with pytest.raises(LogError) as raised:
            await hasty
        assert not raised.value.outcome_unknown
        e.server.produced(e.server.all(Produce)[-1])
        assert (await first, await patient) == (0, 1)
        with pytest.raises(LogError, match="at most 10"):
            await bad
        assert stored(e) == [b"first", b"patient"]
        assert client.pending_bytes == 0

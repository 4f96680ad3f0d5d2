"""The Log service over a scripted Server actor: what clients see, call by call."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb

from ourolog.actors.messages.server import CancelRequest, Produce, Refusal, RegisterProducer, RequestRefused
from ourolog.actors.messages.values import Acks
from ourolog.rpc.admission import ProduceLimiter
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import Codec, Kind, NewBatch
from ourolog.storage.compression import compress
from ourolog.storage.types import NodeId


def record(value: bytes, **more: Any) -> pb.ProduceRequest:
    return pb.ProduceRequest(record=pb.Record(value=value), **more)


def record_set(*values: bytes) -> bytes:
    return pb.RecordSet(records=[pb.Record(value=value) for value in values]).SerializeToString()


async def test_what_was_produced_is_consumed_as_exactly_value_and_offset(edge: Any) -> None:
    async with edge() as e:
        for expected, value in enumerate([b"first", b"second", bytes(500)]):
            assert (await e.stub.Produce(record(value))).offset == expected
        for offset, value in enumerate([b"first", b"second", bytes(500)]):
            response = await e.stub.Consume(pb.ConsumeRequest(offset=offset))
            assert response == pb.ConsumeResponse(record=pb.Record(value=value, offset=offset))


async def test_fields_that_only_a_server_may_set_are_not_stored(edge: Any) -> None:
    async with edge() as e:
        await e.stub.Produce(pb.ProduceRequest(record=pb.Record(value=b"v", offset=9, term=8, type=7)))
        assert e.server.batches[0].payload == record_set(b"v")


async def test_a_read_beyond_the_end_is_out_of_range_with_the_readable_range(edge: Any, details_of: Any) -> None:
    async with edge() as e:
        await e.stub.Produce(record(b"only"))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await e.stub.Consume(pb.ConsumeRequest(offset=1))
        assert raised.value.code() == grpc.StatusCode.OUT_OF_RANGE
        assert details_of(raised.value, pb.ReadableRange) == pb.ReadableRange(first_offset=0, end_offset=1)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ProduceRequest(), "record"),
        (pb.ProduceRequest(record=pb.Record()), "record.value"),
        (pb.ProduceRequest(record=pb.Record(value=bytes(1001))), "record.value"),
        (pb.ProduceRequest(record=pb.Record(value=b"v"), acks=9), "acks"),  # type: ignore[arg-type]
    ],
)
async def test_a_bad_record_is_an_invalid_argument_naming_its_field(
    edge: Any, details_of: Any, request_: pb.ProduceRequest, field: str
) -> None:
    async with edge() as e:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await e.stub.Produce(request_)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        bad = details_of(raised.value, details_pb.BadRequest)
        assert [violation.field for violation in bad.field_violations] == [field]
        assert not e.server.received
        assert e.admission.produces.limit.count == 0


@pytest.mark.parametrize("refusal", list(Refusal))
async def test_every_refusal_has_its_code_and_a_reason_that_programs_can_read(
    edge: Any, details_of: Any, refusal: Refusal
) -> None:
    codes = {
        Refusal.NOT_LEADER: "FAILED_PRECONDITION",
        Refusal.LEADER_UNKNOWN: "UNAVAILABLE",
        Refusal.OUT_OF_RANGE: "OUT_OF_RANGE",
        Refusal.TIMED_OUT: "DEADLINE_EXCEEDED",
        Refusal.OVERLOADED: "RESOURCE_EXHAUSTED",
        Refusal.DEPOSED: "ABORTED",
        Refusal.NOT_READY: "UNAVAILABLE",
        Refusal.COMMIT_UNKNOWN: "UNAVAILABLE",
        Refusal.NOT_CONFIRMED: "UNAVAILABLE",
        Refusal.NOBODY_ELECTED: "FAILED_PRECONDITION",
        Refusal.STOPPING: "UNAVAILABLE",
        Refusal.PRODUCER_EXPIRED: "FAILED_PRECONDITION",
        Refusal.SEQUENCE_FORGOTTEN: "ALREADY_EXISTS",
        Refusal.SEQUENCE_GAP: "ABORTED",
        Refusal.SEQUENCE_REUSED: "INVALID_ARGUMENT",
        Refusal.ACKS_TOO_WEAK: "INVALID_ARGUMENT",
        Refusal.BEHIND: "UNAVAILABLE",
    }
    async with edge() as e:
        e.server.refuse = lambda request_id: RequestRefused(request_id, refusal, "because")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await e.stub.Produce(record(b"v"))
        assert raised.value.code().name == codes[refusal]
        assert raised.value.details() == "because"
        info = details_of(raised.value, details_pb.ErrorInfo)
        assert (info.reason, info.domain) == (refusal.name, "ourolog")


async def test_not_the_leader_names_the_leader_and_its_address(edge: Any, details_of: Any) -> None:
    async with edge() as e:
        e.server.refuse = lambda request_id: RequestRefused(
            request_id, Refusal.NOT_LEADER, "n2 leads", NodeId("n2"), "host:8400"
        )
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await e.stub.Produce(record(b"v"))
        hint = details_of(raised.value, pb.LeaderHint)
        assert hint == pb.LeaderHint(leader_id="n2", leader_addr="host:8400")


async def test_an_unknown_outcome_is_said_in_words_and_in_the_details(edge: Any, details_of: Any) -> None:
    async with edge() as e:
        e.server.refuse = lambda request_id: RequestRefused(
            request_id, Refusal.DEPOSED, "n1 lost the lead", outcome_unknown=True
        )
        with pytest.raises(grpc.aio.AioRpcError, match="outcome is unknown") as raised:
            await e.stub.Produce(record(b"v"))
        assert details_of(raised.value, details_pb.ErrorInfo).metadata == {"outcome": "unknown"}


@pytest.mark.parametrize(
    ("refusal", "earlier"), [(Refusal.PRODUCER_EXPIRED, "unknown"), (Refusal.SEQUENCE_FORGOTTEN, "stored")]
)
async def test_where_only_an_earlier_attempt_can_have_stored_a_batch_the_details_say_so(
    edge: Any, details_of: Any, refusal: Refusal, earlier: str
) -> None:
    async with edge() as e:
        e.server.refuse = lambda request_id: RequestRefused(request_id, refusal, "because")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await e.stub.Produce(pb.ProduceRequest(record=pb.Record(value=b"v"), producer_id=3, sequence=4))
        assert details_of(raised.value, details_pb.ErrorInfo).metadata == {"earlier_attempts": earlier}


async def test_a_producer_is_registered_and_its_number_and_id_come_with_each_of_the_four_calls(edge: Any) -> None:
    async with edge() as e:
        await e.stub.Produce(record(b"before"))
        producer_id = (await e.stub.RegisterProducer(pb.RegisterProducerRequest())).producer_id
        assert producer_id == 1
        one = pb.ProduceRequest(record=pb.Record(value=b"v"), producer_id=1, sequence=7)
        many = pb.ProduceBatchRequest(
            records=pb.RecordSet(records=[pb.Record(value=b"v")]).SerializeToString(),
            record_count=1,
            producer_id=1,
            sequence=7,
        )
        await e.stub.Produce(one)
        await e.stub.ProduceBatch(many)
        assert [response.offset async for response in e.stub.ProduceStream([one])] == [1]
        assert [response.base_offset async for response in e.stub.ProduceBatchStream([many])] == [1]
        batches = [produce.batch for produce in e.server.all(Produce)]
        assert [(batch.producer_id, batch.producer_sequence) for batch in batches] == [(0, 0)] + 4 * [(1, 7)]
        assert e.admission.produces.limit.count == 0


async def test_a_registration_that_takes_too_long_is_given_up_with_a_sentence_and_no_unknown_outcome(
    edge: Any, details_of: Any
) -> None:
    async with edge() as e:
        e.server.hold = True
        with pytest.raises(grpc.aio.AioRpcError, match="not registered on a majority") as raised:
            await e.stub.RegisterProducer(pb.RegisterProducerRequest(), timeout=0.5)
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert not details_of(raised.value, details_pb.ErrorInfo).metadata
        (register,) = e.server.all(RegisterProducer)
        assert [cancel.request_id for cancel in e.server.all(CancelRequest)] == [register.request_id]
        assert e.admission.produces.limit.count == 0


async def test_a_full_server_refuses_at_once_and_says_when_to_retry(edge: Any, details_of: Any) -> None:
    async with edge(produces=ProduceLimiter(max_requests=1)) as e:
        e.server.hold = True
        first = asyncio.ensure_future(e.stub.Produce(record(b"waits")))
        await e.server.until(lambda: bool(e.server.all(Produce)))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await e.stub.Produce(record(b"too many"))
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details_of(raised.value, details_pb.RetryInfo).retry_delay.ToMilliseconds() > 0
        held = e.server.all(Produce)[0]
        e.server.hold = False
        e.server.tell(held)
        assert (await first).offset == 0
        await e.stub.Produce(record(b"room again"))


async def test_a_deadline_is_answered_with_the_outcome_unknown_and_frees_the_waiter(edge: Any, details_of: Any) -> None:
    async with edge() as e:
        e.server.hold = True
        with pytest.raises(grpc.aio.AioRpcError, match="outcome is unknown") as raised:
            await e.stub.Produce(record(b"v", acks=pb.ACKS_ALL), timeout=2.0)
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert details_of(raised.value, details_pb.ErrorInfo).reason == "TIMED_OUT"
        (produce,) = e.server.all(Produce)
        assert 0 < produce.timeout_s < 2.0
        assert produce.acks is Acks.ALL
        await e.server.until(lambda: bool(e.server.all(CancelRequest)))
        assert e.service.pending_requests == 0


async def test_a_client_that_goes_away_frees_its_produce(edge: Any) -> None:
    async with edge() as e:
        e.server.hold = True
        call = e.stub.Produce(record(b"v"))
        waiting = asyncio.ensure_future(_outcome(call))
        await e.server.until(lambda: bool(e.server.all(Produce)))
        call.cancel()
        await waiting
        await e.server.until(lambda: bool(e.server.all(CancelRequest)))
        assert e.service.pending_requests == 0


async def _outcome(call: Any) -> None:
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_produces_of_one_moment_reach_the_actor_in_order(edge: Any) -> None:
    async with edge() as e:
        responses = await asyncio.gather(*(e.stub.Produce(record(b"%d" % n)) for n in range(50)))
        stored = [pb.RecordSet.FromString(batch.payload).records[0].value for batch in e.server.batches]
        assert [stored[response.offset] for response in responses] == [b"%d" % n for n in range(50)]


async def test_a_batch_gets_consecutive_offsets_and_its_bytes_pass_through(edge: Any) -> None:
    async with edge() as e:
        await e.stub.Produce(record(b"before"))
        payload = record_set(b"a", b"b", b"c")
        response = await e.stub.ProduceBatch(pb.ProduceBatchRequest(records=payload, record_count=3))
        assert response == pb.ProduceBatchResponse(base_offset=1, record_count=3)
        assert e.server.batches[-1].payload == payload


async def test_a_compressed_batch_stays_compressed_and_is_consumed_plain(edge: Any) -> None:
    async with edge() as e:
        payload = compress(record_set(*[b"text " * 20] * 100))
        request = pb.ProduceBatchRequest(records=payload, record_count=100, codec=pb.CODEC_ZSTD)
        await e.stub.ProduceBatch(request)
        assert (e.server.batches[0].codec, e.server.batches[0].payload) == (Codec.ZSTD, payload)
        assert (await e.stub.Consume(pb.ConsumeRequest(offset=99))).record.value == b"text " * 20
        for accept in (False, True):
            consume = pb.ConsumeBatchRequest(stop_at_end=True, accept_zstd=accept)
            responses = [response async for response in e.stub.ConsumeBatchStream(consume)]
            (batch,) = responses[0].batches
            assert batch.codec == (pb.CODEC_ZSTD if accept else pb.CODEC_NONE)
            assert (batch.records == payload) is accept


async def test_provenance_comes_only_when_asked_for(edge: Any) -> None:
    async with edge() as e:
        e.server.append(NewBatch(record_set(b"v"), 1), path=("n2", "n1"))
        plain = await e.stub.Consume(pb.ConsumeRequest(offset=0))
        assert not plain.HasField("provenance")
        told = await e.stub.Consume(pb.ConsumeRequest(offset=0, provenance=True))
        assert (told.provenance.origin, list(told.provenance.path)) == ("n2", ["n2", "n1"])
        assert (told.provenance.origin_epoch, told.provenance.timestamp_ms, told.provenance.term) == (7, 5, 1)


async def test_control_batches_are_never_seen_by_consumers(edge: Any) -> None:
    async with edge() as e:
        e.server.append(NewBatch(b"", 0, kind=Kind.CONTROL))
        e.server.append(NewBatch(record_set(b"a"), 1))
        e.server.append(NewBatch(b"", 0, kind=Kind.CONTROL))
        e.server.append(NewBatch(record_set(b"b"), 1))
        stream = e.stub.ConsumeStream(pb.ConsumeRequest())
        assert [(await stream.read()).record.value for _ in range(2)] == [b"a", b"b"]
        batches = e.stub.ConsumeBatchStream(pb.ConsumeBatchRequest(stop_at_end=True))
        assert [batch.base_offset async for response in batches for batch in response.batches] == [0, 1]


async def test_servers_are_listed_with_the_leader_marked(edge: Any) -> None:
    async with edge() as e:
        e.server.leader_id = NodeId("n2")
        response = await e.stub.GetServers(pb.GetServersRequest())
        listed = [(server.id, server.rpc_addr, server.is_leader) for server in response.servers]
        assert listed == [("n1", "h1:1", False), ("n2", "h2:1", True)]


async def test_a_status_that_no_actor_answers_names_the_silent_ones(edge: Any) -> None:
    async with edge() as e:
        with pytest.raises(grpc.aio.AioRpcError, match="store and membership and replicator and election") as raised:
            await e.stub.GetStatus(pb.GetStatusRequest(), timeout=2.0)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE

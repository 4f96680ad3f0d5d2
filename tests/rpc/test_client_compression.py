"""What a client compresses: passed through to the disk and to readers, who all see the records as they were."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ourolog.actors.messages.server import Produce, Refusal
from ourolog.actors.messages.values import Acks
from ourolog.child_processes import child_environment, python_command
from ourolog.rpc.admission import IN_FLIGHT_COPIES, READ_COPIES, ReadBudget
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_compression import Compression, compressed
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.consume_handler import CHUNK_BYTES
from ourolog.rpc.consume_responses import encoded_record_batch
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import MAX_BODY_BYTES, Codec, NewBatch
from ourolog.storage.compression import compress, decompress
from ourolog.storage.record_set import decode_records, encode_records
from tests.scripted_produces import Script, held_first, lost_after_append, refused

TEXTS = [b"%03d: some text, and some more of it" % number for number in range(100)]
ZSTD, NONE = Codec.ZSTD, Codec.NONE


def batches_of(e: Any) -> list[tuple[Codec, list[bytes]]]:
    """How each batch is stored, and its records."""
    return [
        (batch.codec, decode_records(decompress(batch.payload, 10**6) if batch.codec is ZSTD else batch.payload))
        for batch in e.server.batches
        if batch.record_count
    ]


async def read(client: LogClient) -> list[bytes]:
    return [record.value async for record in client.consume_stream(stop_at_end=True)]


@pytest.mark.parametrize("by_stream", [False, True])
async def test_what_is_gathered_is_compressed_together_and_everybody_reads_it_as_it_was(
    edge: Any, by_stream: bool
) -> None:
    async with edge() as e, LogClient(e.address, compression="zstd") as client:
        await held(client, by_stream)
        before = len(batches_of(e))
        await asyncio.gather(*(client.produce(text) for text in TEXTS))
        assert batches_of(e)[before:] == [(ZSTD, TEXTS)]
        base = len(await read(client)) - 100
        assert (await read(client))[base:] == TEXTS
        # As clients do that know nothing of batches.
        assert (await client.consume(base + 57)).value == TEXTS[57]
        assert (await e.stub.Consume(pb.ConsumeRequest(offset=base + 99))).record.value == TEXTS[99]
        stream = e.stub.ConsumeStream(pb.ConsumeRequest(offset=base + 1))
        assert [(await stream.read()).record.value for _ in range(99)] == TEXTS[1:]
        stream.cancel()
        plain = e.stub.ConsumeBatchStream(pb.ConsumeBatchRequest(offset=base, stop_at_end=True))
        (response,) = [response async for response in plain]
        assert decode_records(response.batches[0].records) == TEXTS


async def held(client: LogClient, by_stream: bool) -> None:
    if by_stream:
        await client.produce(b"before")


@pytest.mark.parametrize("acks", [Acks.DEFAULT, Acks.LEADER])
async def test_streams_and_batches_are_compressed_too(edge: Any, acks: Acks) -> None:
    async with edge() as e, LogClient(e.address, compression="zstd") as client:
        await client.produce_batch(TEXTS, acks=acks)
        await client.produce_payload(encode_records(TEXTS), 100, acks=acks)
        assert [base async for base in client.produce_batch_stream([TEXTS], acks=acks)] == [200]
        assert [codec for codec, _ in batches_of(e)] == [ZSTD] * 3
        assert await read(client) == TEXTS * 3


async def test_one_batch_may_be_compressed_or_not_by_itself(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        first = await held_first(e, client)
        calls = [client.produce(b"a"), client.produce_batch(TEXTS, compression="zstd"), client.produce(b"b")]
        later = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)
        first.answer()
        assert await asyncio.gather(first.caller, *later) == [0, 1, 2, 102]
        assert batches_of(e)[1:] == [(NONE, [b"a"]), (ZSTD, TEXTS), (NONE, [b"b"])]
    async with edge() as e, LogClient(e.address, compression="zstd") as client:
        await client.produce_batch(TEXTS, compression="none")
        await client.produce_payload(encode_records(TEXTS), 100, compression="none")
        assert batches_of(e) == [(NONE, TEXTS)] * 2


async def test_what_would_not_become_smaller_goes_as_it_is(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, compression="zstd") as client:
        noise = bytes(range(256)) * 3
        await client.produce(b"short")
        await client.produce(noise[:250])
        await client.produce_batch([noise])
        assert [codec for codec, _ in batches_of(e)] == [NONE, NONE, ZSTD]


async def test_what_is_compressed_and_sent_again_is_the_same_bytes(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, compression="zstd") as client:
        await client.produce(b"before")
        Script(e.server, lost_after_append(e.server), refused(Refusal.NOT_READY))
        assert await asyncio.gather(*(client.produce(text) for text in TEXTS)) == list(range(1, 101))
        assert [base async for base in client.produce_batch_stream([TEXTS])] == [101]
        sent = e.server.all(Produce)[1:-1]
        assert len(sent) > 1
        assert len({produce.batch.payload for produce in sent}) == 1
        assert batches_of(e)[1:] == [(ZSTD, TEXTS)] * 2


async def test_a_bad_record_among_compressed_ones_fails_alone(edge: Any) -> None:
    async with edge() as e, LogClient(e.address, compression="zstd") as client:
        values = [*TEXTS[:50], b"x" * 1001, *TEXTS[50:]]
        outcomes = await asyncio.gather(*(client.produce(value) for value in values), return_exceptions=True)
        bad = outcomes.pop(50)
        assert "at most 1000" in str(bad)
        assert outcomes == list(range(100))
        assert await read(client) == TEXTS


async def test_a_batch_that_unfolds_to_more_than_the_node_takes_is_split(edge: Any) -> None:
    async with edge(max_batch_bytes=3000) as e, LogClient(e.address, compression="zstd") as client:
        assert await asyncio.gather(*(client.produce(text) for text in TEXTS)) == list(range(100))
        assert len(batches_of(e)) > 1
        with pytest.raises(LogError, match="unfolds to more than 3000 bytes"):
            await client.produce_batch(TEXTS)


async def test_another_compression_is_refused_where_it_is_named(edge: Any) -> None:
    unknown: Any = "lz4"
    with pytest.raises(ValueError, match="'lz4' is unknown; it is none or zstd"):
        LogClient("127.0.0.1:1", compression=unknown)
    async with edge() as e, LogClient(e.address) as client:
        with pytest.raises(ValueError, match="'lz4' is unknown"):
            await client.produce_batch([b"a"], compression=unknown)
        assert client.pending_bytes == 0


# ---------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize(
    ("codec", "payload", "code", "why"),
    [
        (pb.CODEC_ZSTD, compress(bytes(MAX_BODY_BYTES + 1)), "DATA_LOSS", "unfolds to more than"),
        (pb.CODEC_ZSTD, compress(encode_records(TEXTS))[:-3], "DATA_LOSS", "is cut off"),
        (pb.CODEC_ZSTD, b"nothing", "DATA_LOSS", "not valid Zstandard"),
        (pb.CODEC_ZSTD, compress(encode_records(TEXTS[:-1])), "DATA_LOSS", "something else than the records"),
        (7, compress(encode_records(TEXTS)), "UNIMPLEMENTED", r"\(codec 7\): use a client of the node's version"),
    ],
)
async def test_a_reader_that_cannot_unfold_a_batch_says_why(
    edge: Any, monkeypatch: pytest.MonkeyPatch, codec: int, payload: bytes, code: str, why: str
) -> None:
    async with edge() as e, LogClient(e.address, timeout_s=1.0) as client:
        await client.produce_batch(TEXTS)
        sent = encoded_record_batch(0, 100, payload, codec=pb.Codec.ValueType(codec))
        monkeypatch.setattr("ourolog.rpc.consume_responses.encoded_record_batch", lambda *_: sent)
        with pytest.raises(LogError, match=why) as raised:
            await read(client)
        assert raised.value.code == code


async def test_what_the_reader_unfolds_itself_takes_no_room_for_that_at_the_node(edge: Any) -> None:
    # Room for what is read and sent, and none for the largest batch decompressed.
    budget = ReadBudget(max_bytes=4 * READ_COPIES * CHUNK_BYTES)
    async with edge(reads=budget) as e, LogClient(e.address) as client:
        e.server.append(NewBatch(compress(encode_records(TEXTS)), 100, codec=ZSTD))
        held_bytes = []
        resize = budget.resize

        def noted(reservation: Any, size_bytes: int) -> bool:
            held_bytes.append(size_bytes)
            return resize(reservation, size_bytes)

        monkeypatch = pytest.MonkeyPatch()
        with monkeypatch.context() as patched:
            patched.setattr(budget, "resize", noted)
            assert await read(client) == TEXTS
            plain = e.stub.ConsumeBatchStream(pb.ConsumeBatchRequest(stop_at_end=True))
            assert len([response async for response in plain]) == 1
        unfolded, kept = max(held_bytes), min(held_bytes)
        assert unfolded >= READ_COPIES * MAX_BODY_BYTES
        assert kept < IN_FLIGHT_COPIES * 100_000


def test_the_same_bytes_come_of_the_same_records() -> None:
    payload = encode_records(TEXTS)
    wanted: Compression = "zstd"
    assert compressed(payload, wanted) == compressed(payload, wanted)
    assert compressed(payload, "none") == (payload, pb.CODEC_NONE)


# ---------------------------------------------------------------- the command


async def test_the_command_compresses_if_it_is_told_to(edge: Any) -> None:
    async with edge() as e:
        for words, codec in (((), NONE), (("--compress", "zstd"), ZSTD)):
            process = await asyncio.create_subprocess_exec(
                *python_command("-m", "ourolog", "produce", "--addr", e.address, *words),
                env=child_environment(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, _ = await process.communicate(b"".join(text + b"\n" for text in TEXTS))
            assert len(out.splitlines()) == 100
            assert batches_of(e)[-1] == (codec, TEXTS)

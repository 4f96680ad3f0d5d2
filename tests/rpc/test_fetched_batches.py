"""What a peer's batches hold, with nobody elected: nothing that no consumer could read is handed on to be appended."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, CallReturned
from ourolog.actors.messages.values import Peer
from ourolog.rpc import fetched_batches
from ourolog.rpc.fetched_batches import readable_prefix
from ourolog.storage.batch import MAX_BODY_BYTES, Batch, Codec, Kind, encode_batch
from ourolog.storage.compression import compress
from ourolog.storage.record_set import encode_records
from ourolog.storage.types import Index, NodeId, Offset, Term
from tests.rpc.peers import N2, REQUEST, Answers, Replicator, network, response, service_of, serving

RECORDS = encode_records([b"one", b"two"])


def batch(index: int = 4, **fields: Any) -> bytes:
    good = Batch(
        Index(index), Term(0), Offset(index * 2), 2, 5, Kind.DATA, Codec.NONE, (NodeId("n8"),), 7, index, RECORDS
    )
    return encode_batch(dataclasses.replace(good, **fields))


def zstd(payload: bytes, count: int = 2) -> dict[str, Any]:
    return {"codec": Codec.ZSTD, "payload": payload, "record_count": count}


BAD: dict[str, dict[str, Any]] = {
    "zstd that is none": zstd(RECORDS),
    "zstd cut short": zstd(compress(RECORDS)[:-3]),
    "zstd of what is no RecordSet": zstd(compress(b"\xff" * 50)),
    "a bomb": zstd(compress(bytes(MAX_BODY_BYTES + 1))),
    "bytes that are no protobuf": {"payload": b"\xff" * 50},
    "five records claimed and two held": {"record_count": 5, "payload": RECORDS + b"\x1a\x20" + bytes(32)},
    "one record claimed and two held": {"record_count": 1},
    "other fields and no record": {"payload": b"\x1a\x10" + bytes(16)},
    "an empty record": {"payload": encode_records([b"", b"a record"])},
    "records without a value": {"payload": b"\x0a\x00\x0a\x06\x0a\x04abcd"},
}


@pytest.mark.parametrize("what", BAD)
async def test_what_no_consumer_could_read_is_not_handed_on_and_the_entry_is_named(what: str) -> None:
    replicator, answers = Replicator(), Answers()
    async with serving(service_of(replicator)) as addr, network() as net:
        for good, handed_on in ((batch(4), batch(4)), (b"", b"")):
            index = 5 if good else 4
            net.call(Peer(N2, addr), 7, REQUEST, answers)
            received = await replicator.next(CallReceived)
            answer = response(good + batch(index, **BAD[what]) + batch(index + 1))
            received.reply_to.tell(CallAnswer(received.request_id, answer))
            returned = await answers.queue.get()
            assert isinstance(returned, CallReturned)
            unreadable = returned.response.unreadable
            assert returned.response == dataclasses.replace(answer, batches=handed_on, unreadable=unreadable)
            assert f"entry {index} of n2" in unreadable
            assert f"batch {index} of 'n8'" in unreadable


@pytest.mark.parametrize(
    "good",
    [
        b"",
        batch(4),
        batch(4) + batch(5, **zstd(compress(RECORDS))) + batch(6),
        batch(4, kind=Kind.CONTROL, payload=b"\xff", record_count=0) + batch(5),
        batch(4, payload=encode_records([bytes(3_000_000), b"v"])),
        batch(4, payload=RECORDS + b"\x1a\x03abc"),
    ],
)
async def test_what_can_be_read_passes_as_it_is(good: bytes) -> None:
    assert await readable_prefix(good, N2, Index(4)) == (good, "")


async def test_from_a_leader_bytes_pass_unread() -> None:
    replicator, answers = Replicator(), Answers()
    async with serving(service_of(replicator)) as addr, network() as net:
        net.call(Peer(N2, addr), 7, dataclasses.replace(REQUEST, elected=True), answers)
        received = await replicator.next(CallReceived)
        answer = response(batch(4, payload=b"\xff" * 50))
        received.reply_to.tell(CallAnswer(received.request_id, answer))
        assert await answers.queue.get() == CallReturned(N2, 7, answer)


@pytest.mark.parametrize(
    "run",
    [
        b"noise" * 30,
        batch(4)[:-1],
        batch(4)[:-1] + b"x",
        batch(9, payload=b"\xff" * 50),
        batch(4) + batch(4, payload=b"\xff" * 50),
        batch(4) + batch(5, payload=b"\xff" * 50)[:-1],
    ],
)
async def test_what_the_store_refuses_anyway_is_left_to_it(run: bytes) -> None:
    """A run that is damaged, cut off or out of order is refused there as a whole."""
    assert await readable_prefix(run, N2, Index(4)) == (run, "")


async def test_one_fetch_unfolds_so_much_and_no_more_and_others_get_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bomb = zstd(compress(encode_records([bytes(2_000_000)])), count=1)
    run = b"".join(batch(index, **bomb) for index in range(4, 40))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    part, unreadable = await readable_prefix(run, N2, Index(4))
    counting.cancel()
    assert turns > 10
    assert (part, unreadable) == (run[: 17 * len(batch(4, **bomb))], "")  # 17 * 2,000,000 are the first above 32 MiB
    monkeypatch.setattr(fetched_batches, "MAX_DECOMPRESSED_BYTES", 1)
    assert await readable_prefix(run, N2, Index(4)) == (batch(4, **bomb), "")  # one always comes through

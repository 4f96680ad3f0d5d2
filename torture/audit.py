"""What the logs hold at the end, compared with what was promised: nothing lost, nothing twice, all alike."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc

from ourolog.rpc.channels import open_channel
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from ourolog.storage.record_set import decode_records
from torture.honest import PREFIX

_CATCH_UP_S: Final = 30.0
_ASK_EVERY_S: Final = 0.1
_READ_S: Final = 120.0
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Contents:
    """What one node lets its readers see.

    end_offset: the offset after the last record.
    digest: a digest of everything that can be read.
    honest: the offsets by value, of honest records only.
    """

    end_offset: int
    digest: str
    honest: Mapping[bytes, tuple[int, ...]]


async def audit(addresses: Mapping[str, str], acknowledged: Mapping[int, bytes], *, alike: bool) -> list[str]:
    """What is wrong, a sentence each.

    addresses: rpc_addr by node, the node that acknowledged first.
    alike: whether all nodes must hold the same log, as they do with somebody elected; otherwise
        they must come to hold the same honest records, each once.
    """
    wrong: list[str] = []
    first, *others = addresses
    held = await contents(addresses[first])
    wrong += _promises(first, held, acknowledged)
    for name in others:
        copy = await _caught_up(addresses[name], held, alike=alike)
        if alike and copy.digest != held.digest:
            wrong.append(f"{name} ends at {copy.end_offset} and {first} at {held.end_offset}, and their logs differ")
        missing = held.honest.keys() - copy.honest.keys()
        if missing:
            wrong.append(f"{name} has not got {len(missing)} of {first}'s honest records: {sorted(missing)[:_SHOWN]}")
        wrong += _twice(name, copy)
    return wrong


async def contents(addr: str) -> Contents:
    """Everything that can be read from a node now. Raises AioRpcError."""
    digest = hashlib.blake2b(digest_size=16)
    honest: dict[bytes, tuple[int, ...]] = {}
    end = 0
    async with open_channel(addr) as channel:
        request = pb.ConsumeBatchRequest(stop_at_end=True)
        async for response in pb_grpc.LogStub(channel).ConsumeBatchStream(request, timeout=_READ_S):
            for batch in response.batches:
                for at, value in enumerate(decode_records(batch.records), batch.base_offset):
                    if at < end:
                        continue
                    assert at == end, f"{addr} gave offset {at} after {end - 1}"
                    end = at + 1
                    digest.update(b"%d %d " % (at, len(value)))
                    digest.update(value)
                    if value.startswith(PREFIX):
                        honest[value] = (*honest.get(value, ()), at)
    return Contents(end, digest.hexdigest(), honest)


def _promises(name: str, held: Contents, acknowledged: Mapping[int, bytes]) -> list[str]:
    lost = [offset for offset, value in sorted(acknowledged.items()) if offset not in held.honest.get(value, ())]
    wrong = []
    if lost:
        shown = ", ".join(f"{acknowledged[offset]!r} at {offset}" for offset in lost[:_SHOWN])
        wrong.append(f"{len(lost)} of {len(acknowledged)} acknowledged records are not where {name} said: {shown}")
    return wrong + _twice(name, held)


def _twice(name: str, held: Contents) -> list[str]:
    twice = {value: offsets for value, offsets in held.honest.items() if len(offsets) > 1}
    if not twice:
        return []
    return [f"{len(twice)} honest records stand more than once in {name}'s log: {dict(list(twice.items())[:_SHOWN])}"]


async def _caught_up(addr: str, held: Contents, *, alike: bool) -> Contents:
    """What a copy holds once it has everything that it should, or when the time for that is over."""
    loop = asyncio.get_running_loop()
    give_up_at_s = loop.time() + _CATCH_UP_S
    async with open_channel(addr) as channel:
        stub = pb_grpc.LogStub(channel)
        while True:
            try:
                status = await stub.GetStatus(pb.GetStatusRequest(), timeout=5)
            except grpc.aio.AioRpcError:
                status = pb.GetStatusResponse()
            late = loop.time() >= give_up_at_s
            if late or status.committed_offset >= held.end_offset or not alike:
                found = await contents(addr)
                if late or alike or held.honest.keys() <= found.honest.keys():
                    return found
            await asyncio.sleep(_ASK_EVERY_S)

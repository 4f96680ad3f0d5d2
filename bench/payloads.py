"""Records to produce: random values, so that nothing on the way can make them smaller."""

from __future__ import annotations

import random
from typing import Final

from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.record_set import encode_records

_SEED: Final = 1


def values_of(count: int, size_bytes: int) -> list[bytes]:
    draw = random.Random(_SEED)
    return [draw.randbytes(size_bytes) for _ in range(count)]


def batch_request(count: int, size_bytes: int) -> pb.ProduceBatchRequest:
    """A request made beforehand; only gRPC's own serialisation of it is left to be measured."""
    return pb.ProduceBatchRequest(records=encode_records(values_of(count, size_bytes)), record_count=count)

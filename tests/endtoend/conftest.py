"""Three real processes, and a client that knows nothing but the generated stubs, as a foreign one would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from ourolog.local_cluster import LocalCluster
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc

StartCluster = Callable[..., LocalCluster]


class ForeignClient:
    """A synchronous client of one node. Every call has a deadline."""

    def __init__(self, addr: str) -> None:
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
        self.channel = grpc.insecure_channel(addr, options=options)
        self.stub = pb_grpc.LogStub(self.channel)

    def produce(self, value: bytes, acks: int = 0, timeout_s: float = 10.0) -> int:
        request = pb.ProduceRequest(record=pb.Record(value=value), acks=acks)
        return int(self.stub.Produce(request, timeout=timeout_s, wait_for_ready=True).offset)

    def consume(self, offset: int, **fields: Any) -> pb.ConsumeResponse:
        request = pb.ConsumeRequest(offset=offset, **fields)
        return self.stub.Consume(request, timeout=10, wait_for_ready=True)

    def everything(self) -> list[bytes]:
        """All records that can be consumed now, from offset 0."""
        request = pb.ConsumeBatchRequest(stop_at_end=True)
        values: list[bytes] = []
        for response in self.stub.ConsumeBatchStream(request, timeout=30, wait_for_ready=True):
            for batch in response.batches:
                records = pb.RecordSet.FromString(batch.records).records
                assert batch.base_offset <= len(values) <= batch.base_offset + len(records)
                values += [record.value for record in records][len(values) - batch.base_offset :]
        return values

    def status(self) -> pb.GetStatusResponse:
        return self.stub.GetStatus(pb.GetStatusRequest(), timeout=10, wait_for_ready=True)

    def close(self) -> None:
        self.channel.close()


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[StartCluster]:
    """Start so many nodes with these flags; all have discovered each other when it returns."""
    with ExitStack() as stack:

        def start(nodes: int, *flags: str) -> LocalCluster:
            cluster = stack.enter_context(LocalCluster(str(tmp_path), nodes, flags=flags))
            cluster.start()
            cluster.wait_until_joined()
            return cluster

        yield start


@pytest.fixture
def connect() -> Iterator[Callable[[str], ForeignClient]]:
    with ExitStack() as stack:

        def connect(addr: str) -> ForeignClient:
            client = ForeignClient(addr)
            stack.callback(client.close)
            return client

        yield connect


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Ask again until the answer is true, at most timeout_s; the answer, or the last one in the failure."""

    def eventually(ask: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while True:
            answer: Any
            try:
                answer = ask()
            except grpc.RpcError as error:
                answer = None
                last: object = error
            else:
                last = answer
            if answer:
                return answer
            assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s} s; last: {last}"
            time.sleep(0.02)  # between two questions, not instead of one

    return eventually

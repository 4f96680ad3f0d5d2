"""The client for programs without asyncio: the same calls as LogClient's, each blocks until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from ourolog.actors.messages.values import Acks, ReadLevel
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_types import Acknowledgement, LeaderTransfer, LogBatch, LogRecord, ServerInfo, VotersChange

T = TypeVar("T")


class BlockingLogClient:
    """A client of one cluster that blocks. Use it as a context manager, from one thread, outside of any loop.

    Arguments, results and errors are those of LogClient.
    """

    def __init__(
        self, addresses: str | Sequence[str] = "127.0.0.1:8400", *, timeout_s: float = 30.0, seen_end: int = 0
    ) -> None:
        self._runner = asyncio.Runner()
        self._client = LogClient(addresses, timeout_s=timeout_s, seen_end=seen_end)

    @property
    def seen_end(self) -> int:
        """The offset after the last record that this client was acknowledged, or has read."""
        return self._client.seen_end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        try:
            self._run(self._client.close())
        finally:
            self._runner.close()

    def produce(self, value: bytes, *, acks: Acks = Acks.DEFAULT, timeout_s: float | None = None) -> int:
        """Append one record and return its offset."""
        return self._run(self._client.produce(value, acks=acks, timeout_s=timeout_s))

    def produce_batch(
        self, values: Sequence[bytes], *, acks: Acks = Acks.DEFAULT, timeout_s: float | None = None
    ) -> int:
        """Append many records, all or none, and return the first's offset."""
        return self._run(self._client.produce_batch(values, acks=acks, timeout_s=timeout_s))

    def produce_acknowledged(
        self, values: Sequence[bytes], *, acks: Acks = Acks.DEFAULT, timeout_s: float | None = None
    ) -> Acknowledgement:
        """As produce_batch, and says which replicas have the records on disk."""
        return self._run(self._client.produce_acknowledged(values, acks=acks, timeout_s=timeout_s))

    def consume(
        self,
        offset: int,
        *,
        provenance: bool = False,
        read: ReadLevel = ReadLevel.COMMITTED,
        timeout_s: float | None = None,
    ) -> LogRecord:
        """The record at `offset`."""
        return self._run(self._client.consume(offset, provenance=provenance, read=read, timeout_s=timeout_s))

    def consume_stream(
        self,
        offset: int = 0,
        *,
        provenance: bool = False,
        stop_at_end: bool = False,
        read: ReadLevel = ReadLevel.COMMITTED,
    ) -> Iterator[LogRecord]:
        """Every record from `offset` on; blocks at the end for more unless stop_at_end."""
        batches = self._client.consume_batches(offset, provenance=provenance, stop_at_end=stop_at_end, read=read)

        async def next_batch() -> LogBatch | None:
            return await anext(batches, None)

        try:
            while (batch := self._run(next_batch())) is not None:
                for at, value in enumerate(batch.values, batch.base_offset):
                    if at >= offset:
                        yield LogRecord(at, value, batch.provenance)
        finally:
            self._run(batches.aclose())

    def get_servers(self, *, timeout_s: float | None = None) -> list[ServerInfo]:
        """Who is alive in the cluster, sorted by name, and who leads."""
        return self._run(self._client.get_servers(timeout_s=timeout_s))

    def transfer_leader(self, to: str | None = None, *, timeout_s: float | None = None) -> LeaderTransfer:
        """Let another node lead, and return once it does."""
        return self._run(self._client.transfer_leader(to, timeout_s=timeout_s))

    def add_voter(self, node_id: str, *, timeout_s: float | None = None) -> VotersChange:
        """Have a node vote that copies, and return once that is committed."""
        return self._run(self._client.add_voter(node_id, timeout_s=timeout_s))

    def remove_voter(self, node_id: str, *, timeout_s: float | None = None) -> VotersChange:
        """Have a voter vote no more, and return once that is committed. It goes on copying."""
        return self._run(self._client.remove_voter(node_id, timeout_s=timeout_s))

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)

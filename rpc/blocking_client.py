"""The client for programs without asyncio: the same calls as LogClient's, each blocks until it is done."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from ourolog.actors.messages.values import Acks, ReadLevel
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_compression import Compression
from ourolog.rpc.client_lanes import MAX_PENDING_BYTES
from ourolog.rpc.client_threads import LoopThread
from ourolog.rpc.client_types import Acknowledgement, LeaderTransfer, LogRecord, ServerInfo, VotersChange

T = TypeVar("T")


class BlockingLogClient:
    """A client of one cluster that blocks. Use it as a context manager, from any number of threads.

    Arguments, results and errors are those of LogClient; after `close` every call raises RuntimeError. What several
    threads produce at a time is gathered into batches, as what several tasks do.
    """

    def __init__(
        self,
        addresses: str | Sequence[str] = "127.0.0.1:8400",
        *,
        timeout_s: float = 30.0,
        seen_end: int = 0,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        compression: Compression = "none",
    ) -> None:
        self._client = LogClient(
            addresses,
            timeout_s=timeout_s,
            seen_end=seen_end,
            max_pending_bytes=max_pending_bytes,
            compression=compression,
        )
        self._thread = LoopThread("ourolog client")

    @property
    def seen_end(self) -> int:
        """The offset after the last record that this client was acknowledged, or has read."""
        return self._client.seen_end

    @property
    def pending_bytes(self) -> int:
        """How much this client was given to produce that is not acknowledged yet."""
        return self._client.pending_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; open calls of other threads fail."""
        if not self._thread.is_closed:
            self._thread.run(self._client.close())
            self._thread.close()

    def produce(self, value: bytes, *, acks: Acks = Acks.DEFAULT, timeout_s: float | None = None) -> int:
        """Append one record and return its offset."""
        return self._thread.wait_for(lambda: self._client.enqueue(value, acks=acks, timeout_s=timeout_s))[0]

    def produce_batch(
        self,
        values: Sequence[bytes],
        *,
        acks: Acks = Acks.DEFAULT,
        compression: Compression | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Append many records, all or none, and return the first's offset."""
        return self._run(self._client.produce_batch(values, acks=acks, compression=compression, timeout_s=timeout_s))

    def produce_acknowledged(
        self,
        values: Sequence[bytes],
        *,
        acks: Acks = Acks.DEFAULT,
        compression: Compression | None = None,
        timeout_s: float | None = None,
    ) -> Acknowledgement:
        """As produce_batch, and says which replicas have the records on disk."""
        return self._run(
            self._client.produce_acknowledged(values, acks=acks, compression=compression, timeout_s=timeout_s)
        )

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
        """Every record from `offset` on; blocks at the end for more unless stop_at_end.

        A batch is fetched and taken apart while the caller is at work on the one before it.
        """
        batches = self._client.consume_batches(offset, provenance=provenance, stop_at_end=stop_at_end, read=read)
        with contextlib.closing(self._thread.iterate(batches)) as following:
            for batch in following:
                yield from batch.records_from(offset)

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
        return self._thread.run(call)

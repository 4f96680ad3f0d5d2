"""Reads of the latest state: consumes that wait until the replicator knows what the latest state is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ourolog.actors.messages.server import CancelRequest, Consume


class UnconfirmedReads:
    """The consumes that wait for a confirmation, each under an id of its own: clients choose theirs independently."""

    def __init__(self) -> None:
        self._waiting: dict[int, Consume] = {}
        self._read_ids = itertools.count(1)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Consume]:
        return iter(self._waiting.values())

    def add(self, consume: Consume) -> int:
        """Keep a consume; the id under which it waits."""
        read_id = next(self._read_ids)
        self._waiting[read_id] = consume
        return read_id

    def take(self, read_id: int) -> Consume | None:
        """Remove and return what waits under that id, None if it was cancelled."""
        return self._waiting.pop(read_id, None)

    def cancel(self, cancel: CancelRequest) -> int | None:
        """Forget a consume; the id under which it waited, None if it did not."""
        for read_id, consume in self._waiting.items():
            if consume.request_id == cancel.request_id and consume.reply_to is cancel.reply_to:
                del self._waiting[read_id]
                return read_id
        return None

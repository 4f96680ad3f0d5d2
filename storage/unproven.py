"""The end of the last segment, as far as nothing proves that it is on disk.

A process that was killed, or whose fsync failed, may leave batches that can be read and are not on
disk, and that no later sync writes (see `File.sync`). What was on disk is proven by records that
are never made after a failed sync: the checkpoint, a block of the sparse index,
and the `synced` of a later frame. Everything behind that is written again, from the bytes that
were read and checked, before it is relied on.
"""

from __future__ import annotations

from collections import deque


class UnprovenTail:
    """Collects the unproven batches; takes them in order, and holds no more of them than one group of writes."""

    def __init__(self, proven_bytes: int) -> None:
        self._batches: deque[tuple[int, bytes]] = deque()
        self._proven_bytes = proven_bytes

    def add(self, position_bytes: int, batch: bytes, synced: int) -> None:
        """Add a good batch, and what its frame says of the file before it."""
        self.prove(synced)
        if position_bytes + len(batch) > self._proven_bytes:
            self._batches.append((position_bytes, batch))

    def prove(self, until_bytes: int) -> None:
        """Note that everything below was on disk."""
        self._proven_bytes = max(self._proven_bytes, until_bytes)
        while self._batches and self._batches[0][0] + len(self._batches[0][1]) <= self._proven_bytes:
            self._batches.popleft()

    def __bool__(self) -> bool:
        return bool(self._batches)

    @property
    def begins_at(self) -> int:
        return self._batches[0][0]

    @property
    def parts(self) -> list[bytes]:
        return [batch for _, batch in self._batches]

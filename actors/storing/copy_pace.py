"""How often a replica that copies a long log syncs: not after each answer, so that its disk works while more comes.

Each answer is written at once, and the kernel is asked to bring it to disk at once; the sync that waits for it comes
after several. Until then nothing of it is announced or acknowledged: it counts for nothing.
"""

from __future__ import annotations

from typing import Final

ANSWERS_TO_A_SYNC: Final = 4
"""How much a replica far behind writes before it syncs, in answers of the largest size."""

ANSWERS_FAR: Final = 16
"""How far behind is far, in the same."""

SYNC_AFTER_S: Final = 0.1
"""How long what was written waits for its sync at most when no more comes, in seconds."""


class CopyPace:
    """Knows from the last answer of a leader how far behind this log is."""

    def __init__(self, fetch_max_bytes: int) -> None:
        """Know of nothing to come.

        fetch_max_bytes: the largest size of an answer.
        """
        self._sync_bytes = ANSWERS_TO_A_SYNC * fetch_max_bytes
        self._far_bytes = ANSWERS_FAR * fetch_max_bytes
        self._behind_bytes = 0

    def took(self, size_bytes: int, entries: int, missing: int) -> None:
        """Note an answer of that size and so many entries, behind which the leader has `missing` more.

        What those take is estimated by what these took.
        """
        self._behind_bytes = missing * size_bytes // max(1, entries) if missing > 0 else 0

    @property
    def is_far(self) -> bool:
        """Whether there is so much to come that the sync can wait for it."""
        return self._behind_bytes >= self._far_bytes

    def may_wait(self, unsynced_bytes: int) -> bool:
        """Whether what is written, that many bytes of it not synced yet, may wait for its sync."""
        return self.is_far and unsynced_bytes < self._sync_bytes

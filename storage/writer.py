"""The writing end of a log: batches gathered in memory, and the active segment that they go to.

Appending only gathers. Writing hands all that was gathered to one writev for each segment. A roll
syncs and seals the old segment before the new one exists, so a sealed segment is whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ourolog.storage.batch import EncodedBatch
from ourolog.storage.checkpoint import Checkpoint
from ourolog.storage.files import Files, Part
from ourolog.storage.index import SparseIndex
from ourolog.storage.segment import Segment
from ourolog.storage.state import LogState
from ourolog.storage.types import Position


@dataclass(slots=True)
class _Run:
    """Parts that go to one segment.

    parts: two of each batch.
    opening_state: what its .state file will hold, for a new segment.
    """

    segment: Segment
    parts: list[Part] = field(default_factory=list)
    opening_state: bytes | None = None


class SegmentWriter:
    """Gathers batches and writes them. `segments` is the log's own list, its last one active.

    Errors are OSError; after one the writer must not be used any more.
    """

    def __init__(self, files: Files, segments: list[Segment], segment_bytes: int, interval_bytes: int) -> None:
        self._files = files
        self._segments = segments
        self._segment_bytes = segment_bytes
        self._interval_bytes = interval_bytes
        self.start_over()

    def start_over(self) -> None:
        """Forget what was gathered, and go on at the end of the active segment."""
        self._runs: list[_Run] = []
        self._tail = self._segments[-1]
        self._tail_bytes = self._tail.size_bytes

    @property
    def has_gathered(self) -> bool:
        return bool(self._runs)

    @property
    def gathered(self) -> tuple[EncodedBatch, ...]:
        """The batches that the next `write` writes."""
        parts = self._runs[0].parts if len(self._runs) == 1 else [part for run in self._runs for part in run.parts]
        return tuple(zip(parts[::2], parts[1::2], strict=True))

    @property
    def is_synced(self) -> bool:
        """Whether everything, gathered or written, is on disk."""
        return not self._runs and self._tail.synced_bytes == self._tail.size_bytes

    @property
    def synced_bytes(self) -> int:
        """The `synced` of the next batch's frame: below this position its segment is on disk."""
        return self._tail.synced_bytes

    @property
    def tail_began_ms(self) -> int | None:
        """The timestamp of the tail's first batch; None while it is empty."""
        assert self._tail.index is not None, "the tail is open"
        first = self._tail.index.first
        return first.timestamp_ms if first is not None else None

    def must_roll(self, size_bytes: int) -> bool:
        """Whether the tail has no room for that many more bytes. An empty segment takes anything."""
        return self._tail_bytes > 0 and self._tail_bytes + size_bytes > self._segment_bytes

    def roll(self, base: Position, state: LogState, committed: Position) -> None:
        """Begin a new segment at `base`, which takes what is gathered from now on."""
        segment = Segment(self._tail.directory, base, index=SparseIndex(base, self._interval_bytes))
        opening = Checkpoint(base, segment.stem, 0, state, committed)
        self._runs.append(_Run(segment, opening_state=opening.encode()))
        self._tail = segment
        self._tail_bytes = 0

    def gather(self, parts: EncodedBatch, size_bytes: int, position: Position, timestamp_ms: int) -> None:
        """Take one encoded batch that stands at `position`."""
        if not self._runs:
            self._runs.append(_Run(self._tail))
        self._runs[-1].parts.extend(parts)
        begins_at = self._tail_bytes
        self._tail_bytes = begins_at + size_bytes
        assert self._tail.index is not None, "the tail is open"
        self._tail.index.note(begins_at, self._tail_bytes, position.index, position.offset, timestamp_ms)

    def write(self, *, write_back: bool = False) -> int:
        """Write what was gathered, and return the number of bytes.

        write_back: as `Log.commit`.
        """
        runs, self._runs = self._runs, []
        written = 0
        for run in runs:
            segment = run.segment
            if run.opening_state is not None:
                self._segments[-1].seal(self._files, write_back=write_back)
                segment.create(self._files)
                self._segments.append(segment)
                self._files.replace(segment.state_path, run.opening_state)
            assert segment.file is not None, "the segment was created above or is active"
            segment.file.append(run.parts)
            size_bytes = sum(map(len, run.parts))
            segment.size_bytes += size_bytes
            written += size_bytes
        if write_back:
            self._segments[-1].write_back()
        return written

    def sync(self) -> None:
        self._segments[-1].sync()

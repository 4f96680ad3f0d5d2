"""What is in one node's log, as its disk saw it: built from file events, without the Log class.

Only `ourolog.storage.batch` is shared with the code under test, and the only result taken from it is that
a batch's checksum holds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import Final, NamedTuple
from zlib import crc32

from ourolog.simulation.events import FileAppended
from ourolog.storage.batch import BatchHead, Kind, path_of, payload_of, scan
from ourolog.storage.errors import CorruptBatchError
from ourolog.storage.segment import LOG_SUFFIX, parse_stem
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

NO_PAST: Final = b""


class Entry(NamedTuple):
    """One batch in a log.

    index, term, base_offset, end_offset: its place in the log, and the term in which it was made.
    kind: whether it holds users' records or a control entry.
    path: the nodes that it passed, its origin first.
    origin_epoch, origin_sequence: with the origin its identity.
    source_epoch, source_index: where a pulled copy stood in the log it was pulled from.
    crc: the checksum over all of its body; it is the same on every replica.
    payload_crc: a checksum over what users wrote, and nothing else.
    values: its records.
    control: what a control entry says, as it is on disk; empty for records.
    end_byte: where it ends in its segment.
    past: a hash over this entry and all before it, if those are known, otherwise empty.
    timestamp_ms: when it was first appended, by the clock of the node that did.
    producer_id, producer_sequence: whose batch it is, and which one; (0, 0) if no producer numbered it.
    """

    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    term: Term
    base_offset: Offset
    end_offset: Offset
    kind: Kind
    path: tuple[NodeId, ...]
    origin_epoch: int
    origin_sequence: int
    source_epoch: int
    source_index: int
    crc: int
    payload_crc: int
    values: tuple[bytes, ...]
    control: bytes
    end_byte: int
    past: bytes
    timestamp_ms: int = 0
    producer_id: int = 0
    producer_sequence: int = 0

    @property
    def identity(self) -> tuple[NodeId, int, int]:
        return self.path[0], self.origin_epoch, self.origin_sequence

    def __str__(self) -> str:
        return (
            f"entry {self.index} (term {self.term}, offsets [{self.base_offset}, {self.end_offset}), "
            f"{self.path[0]}'s number {self.origin_sequence}, path {' '.join(self.path)})"
        )


@dataclass(slots=True)
class Segment:
    """size and durable_size in bytes; `rest` has not become a whole batch yet."""

    path: str
    base: Position
    size: int = 0
    durable_size: int = 0
    rest: bytes = b""
    is_name_durable: bool = False


@dataclass(slots=True)
class LogModel:
    """The log of one node.

    node_id: the node.
    chains: whether entries get their `past`.
    segments: the segment files, in order.
    entries: the batches, in order.
    start, end: where the log begins and ends.
    durable_index: every entry below is on disk, as far as the disk says.
    highest_durable_index: the highest that `durable_index` has been.
    opened: whether the log is known at all; nothing is kept up to date while a node opens its log.
    damage: which bytes are no batch; None if all are.
    gap: which batch does not follow the one before it; None if all do.
    """

    node_id: NodeId
    chains: bool = False
    segments: list[Segment] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    start: Position = START
    end: Position = START
    durable_index: Index = Index(0)
    highest_durable_index: Index = Index(0)
    opened: bool = False
    damage: str | None = None
    gap: str | None = None

    # ------------------------------------------------------------ looking

    def entry(self, index: int) -> Entry | None:
        at = index - self.start.index
        return self.entries[at] if 0 <= at < len(self.entries) else None

    def entry_with(self, offset: int) -> Entry | None:
        """The entry that holds the record at `offset`."""
        at = bisect_right(self.entries, offset, key=_end_offset)
        if at < len(self.entries) and self.entries[at].base_offset <= offset:
            return self.entries[at]
        return None

    def value_at(self, offset: int) -> bytes | None:
        entry = self.entry_with(offset)
        if entry is None or offset - entry.base_offset >= len(entry.values):
            return None
        return entry.values[offset - entry.base_offset]

    @property
    def durable_place(self) -> tuple[Term, Index]:
        """Term of the last entry on disk, 0 without one, and the index after it."""
        last = self.entry(self.durable_index - 1)
        return last.term if last is not None else Term(0), self.durable_index

    def entry_at(self, path: str, position: int) -> Entry | None:
        """The entry that begins at that byte of that segment; None if none does."""
        segment = self._known(path)
        begins_at = 0
        for entry in self._entries_of(segment) if segment is not None else ():
            if begins_at == position:
                return entry
            begins_at = entry.end_byte
        return None

    def extent_of(self, index: int) -> tuple[str, int, int] | None:
        """The segment that the entry is in, and the bytes where it begins and ends; None if it is not in the log."""
        entry = self.entry(index)
        if entry is None:
            return None
        segment = self.segments[bisect_right(self.segments, index, key=_base_index) - 1]
        before = self.entry(index - 1) if index > segment.base.index else None
        return segment.path, before.end_byte if before is not None else 0, entry.end_byte

    def durable_bytes(self, path: str) -> int:
        """How much of that segment is whole batches on disk, 0 for one that is not known."""
        segment = self._known(path)
        ends = [entry.end_byte for entry in self._entries_of(segment)] if segment is not None else []
        return max((end for end in ends if segment is not None and end <= segment.durable_size), default=0)

    # ------------------------------------------------------------ what the disk did

    def appended(self, event: FileAppended) -> list[Entry]:
        """The entries that this append has completed."""
        segment = self._segment(event.path)
        if segment is None:
            return []
        if event.position != segment.size:
            self.damage = f"{event.path} has {segment.size} bytes and was written to at byte {event.position}"
            return []
        segment.size += len(event.data)
        segment.rest += event.data
        return self._decode(segment)

    def synced(self, path: str, size: int) -> None:
        segment = self._known(path)
        if segment is not None:
            segment.durable_size = max(segment.durable_size, min(size, segment.size))
            self._advance_durable()
            self.highest_durable_index = max(self.highest_durable_index, self.durable_index)

    def truncated(self, path: str, size: int) -> tuple[list[Entry], bool]:
        """The entries that are gone, and whether they were the oldest, as retention takes them.

        Retention empties a file before it removes it.
        """
        segment = self._known(path)
        if segment is None or size >= segment.size:
            return [], False
        if size == 0 and segment is not self.segments[-1]:
            return self.removed(path)
        segment.size = size
        segment.durable_size = min(segment.durable_size, size)
        kept = 0
        cut = Index(segment.base.index)
        for entry in self._entries_of(segment):
            if entry.end_byte > size:
                break
            kept, cut = entry.end_byte, Index(entry.index + 1)
        segment.rest = b""
        if kept != size:
            self.damage = f"{path} was cut at byte {size}, which is in the middle of a batch"
        return self._cut(cut), False

    def rewritten(self, path: str, position: int) -> None:
        if self._known(path) is not None:
            self.damage = f"{path} was written over at byte {position}"

    def removed(self, path: str) -> tuple[list[Entry], bool]:
        """The entries that are gone, and whether they were the oldest, as retention takes them."""
        segment = self._known(path)
        if segment is None:
            return [], False
        is_oldest = segment is self.segments[0] and len(self.segments) > 1
        gone = self._entries_of(segment)
        self.segments.remove(segment)
        if is_oldest:
            del self.entries[: len(gone)]
            self.start = self.segments[0].base
            return gone, True
        return self._cut(segment.base.index), False

    def reopened(
        self, durable: Mapping[str, bytes], start: Position, *, trusts: bool
    ) -> tuple[list[Entry], list[Entry]]:
        """Compare with the disk after a restart, when all that is there is durable.

        start: where the node says that its log begins; that counts only where a disk shows nothing
            but empty files.
        trusts: whether what was durable before cannot have changed, and is not decoded again.
        Returns the entries that are gone and those that are new.
        """
        before = {segment.path: segment for segment in self.segments}
        old = {entry.index: entry for entry in self.entries}
        found = _segments_on(durable, start)
        keep = {
            path: [entry for entry in self._entries_of(before[path]) if entry.end_byte <= before[path].durable_size]
            for _, path in found
            if trusts and path in before
        }
        self.segments, self.entries = [], []
        self.start = self.end = found[0][0] if found else START
        for base, path in found:
            content = durable[path]
            segment = Segment(path, base, size=len(content), durable_size=len(content), is_name_durable=True)
            if base != self.end:
                self.gap = f"{path} begins where {self.end} was expected"
            self.end = base
            self.segments.append(segment)
            at = 0
            for entry in keep.get(path, ()):
                if entry.end_byte <= len(content):
                    self.entries.append(entry)
                    self.end = Position(Index(entry.index + 1), entry.end_offset)
                    at = entry.end_byte
            segment.rest = content[at:]
            self._decode(segment)
        self.durable_index = self.end.index
        self.highest_durable_index = max(self.highest_durable_index, self.durable_index)
        self.opened = True
        present = {entry.index: entry for entry in self.entries}
        gone = [entry for index, entry in old.items() if not _is_same(present.get(index), entry)]
        new = [entry for index, entry in present.items() if not _is_same(old.get(index), entry)]
        return gone, new

    def begin_at(self, start: Position) -> None:
        """Set where the next entry of a log without entries will be, which no file tells."""
        self.start = self.end = start
        self.durable_index = start.index
        self.highest_durable_index = max(self.highest_durable_index, start.index)

    # ------------------------------------------------------------ inside

    def _known(self, path: str) -> Segment | None:
        return next((segment for segment in reversed(self.segments) if segment.path == path), None)

    def _segment(self, path: str) -> Segment | None:
        segment = self._known(path)
        if segment is None:
            base = _base_of(path)
            if base is None:
                return None
            segment = Segment(path, base)
            if not self.entries:
                self.start = self.end = base
            elif base != self.end:
                self.gap = f"{path} is a new segment, and the log ends at {self.end}"
            self.segments.append(segment)
        return segment

    def _entries_of(self, segment: Segment) -> list[Entry]:
        at = self.segments.index(segment)
        stop = self.segments[at + 1].base.index if at + 1 < len(self.segments) else self.end.index
        return self.entries[segment.base.index - self.start.index : stop - self.start.index]

    def _cut(self, index: Index) -> list[Entry]:
        at = max(0, index - self.start.index)
        gone = self.entries[at:]
        del self.entries[at:]
        last = self.entries[-1] if self.entries else None
        self.end = Position(Index(last.index + 1), last.end_offset) if last is not None else self.start
        self.durable_index = min(self.durable_index, self.end.index)
        return gone

    def _decode(self, segment: Segment) -> list[Entry]:
        fresh: list[Entry] = []
        buffer = segment.rest
        begin = segment.size - len(buffer)
        at = 0
        try:
            for head in scan(buffer):
                self._check_place(segment, head)
                entry = self._entry(buffer, head, begin + head.end)
                self.entries.append(entry)
                self.end = Position(Index(head.index + 1), head.end_offset)
                fresh.append(entry)
                at = head.end
        except CorruptBatchError as error:
            self.damage = f"{segment.path} holds no batch at byte {begin + at}: {error}"
        segment.rest = buffer[at:]
        return fresh

    def _check_place(self, segment: Segment, head: BatchHead) -> None:
        if self.gap is not None:
            return
        last = self.entries[-1] if self.entries else None
        if (head.index, head.base_offset) != (self.end.index, self.end.offset):
            self.gap = (
                f"the batch with index {head.index} and offset {head.base_offset} stands in {segment.path} where "
                f"index {self.end.index} and offset {self.end.offset} come next"
            )
        elif last is not None and head.term < last.term:
            self.gap = f"entry {head.index} of term {head.term} follows one of term {last.term}"

    def _entry(self, buffer: bytes, head: BatchHead, end_byte: int) -> Entry:
        payload = payload_of(buffer, head)
        path = path_of(buffer, head)
        is_data = head.kind is Kind.DATA
        return Entry(
            head.index,
            head.term,
            head.base_offset,
            head.end_offset,
            head.kind,
            path,
            head.origin_epoch,
            head.origin_sequence,
            head.source_epoch,
            head.source_index,
            head.crc,
            crc32(payload),
            records_of(payload, head.record_count) if is_data else (),
            b"" if is_data else payload,
            end_byte,
            self._past(head) if self.chains else NO_PAST,
            head.timestamp_ms,
            head.producer_id,
            head.producer_sequence,
        )

    def _past(self, head: BatchHead) -> bytes:
        if self.entries:
            before = self.entries[-1].past
            if not before:
                return NO_PAST
        elif head.index == 0:
            before = b"start"
        else:
            return NO_PAST
        return blake2b(before + head.crc.to_bytes(4, "little"), digest_size=12).digest()

    def _advance_durable(self) -> None:
        """Advance to the first batch that is not on disk; a later segment counts once all before it does."""
        first = len(self.segments) - 1
        while first > 0 and self.segments[first].base.index > self.durable_index:
            first -= 1
        for at in range(first, len(self.segments)):
            segment = self.segments[at]
            if segment.durable_size < segment.size - len(segment.rest):
                for entry in reversed(self._entries_of(segment)):
                    if entry.end_byte <= segment.durable_size:
                        self.durable_index = max(self.durable_index, Index(entry.index + 1))
                        break
                return
            is_last = at + 1 == len(self.segments)
            self.durable_index = self.end.index if is_last else self.segments[at + 1].base.index


_end_offset = attrgetter("end_offset")


def _segments_on(durable: Mapping[str, bytes], start: Position) -> list[tuple[Position, str]]:
    """In order. An empty file may be one that was being removed, and says nothing unless there is no other."""
    found = sorted(
        (base, path) for path in durable if path.endswith(LOG_SUFFIX) and (base := _base_of(path)) is not None
    )
    full = [(base, path) for base, path in found if durable[path]]
    return full or [(base, path) for base, path in found if base == start] or found[-1:]


def _base_index(segment: Segment) -> Index:
    return segment.base.index


def _base_of(path: str) -> Position | None:
    name = path.rpartition("/")[2]
    return parse_stem(name.removesuffix(LOG_SUFFIX)) if name.endswith(LOG_SUFFIX) else None


def _is_same(one: Entry | None, other: Entry) -> bool:
    return one is not None and one.crc == other.crc


def records_of(payload: bytes, record_count: int) -> tuple[bytes, ...]:
    """The values in a RecordSet (proto/log.proto) of records that carry nothing else.

    A payload that is something else, as in plays, counts as one value if it is one record, and as
    none that could be told otherwise.
    """
    values = []
    at = 0
    try:
        while at < len(payload):
            size, at = _read_field(payload, at)
            value_size, value_at = _read_field(payload, at)
            if value_at + value_size != at + size:
                raise ValueError
            at += size
            values.append(payload[value_at:at])
    except (ValueError, IndexError):
        values = []
    if len(values) != record_count:
        return (payload,) if record_count == 1 else ()
    return tuple(values)


def _read_field(buffer: bytes, at: int) -> tuple[int, int]:
    """Length and beginning of field 1, length-delimited. Raises ValueError or IndexError if it is none."""
    if buffer[at] != 0x0A:
        raise ValueError
    size = shift = 0
    while True:
        at += 1
        size |= (buffer[at] & 0x7F) << shift
        if buffer[at] < 0x80:
            break
        shift += 7
    if at + 1 + size > len(buffer):
        raise ValueError
    return size, at + 1

"""Opening a log: from the newest checkpoint to the end, checking every batch on the way.

What was written but never synced may come back torn after a crash, and is cut off at the last
good batch. What was synced must be there: a bad batch below a point that was on disk is damage,
and nothing is cut. Three things prove such a point: the checkpoint, a block of the sparse index,
and the `synced` of a later batch (see ourolog.storage.batch). Sealed segments were synced whole.

Nothing else proves that data is on disk: not that it can be read, nor that a sync succeeds now. A sync
that failed in an earlier process has left pages marked clean that are not. What is not proven is
written again (`ourolog.storage.unproven`), and so is the checkpoint, since its own name may be lost the same
way. Only a clean close leaves nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from ourolog.storage.batch import BatchHead
from ourolog.storage.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint
from ourolog.storage.errors import CorruptBatchError, DamagedLogError, UnknownVersionError
from ourolog.storage.files import Files
from ourolog.storage.index import SparseIndex
from ourolog.storage.inventory import find_segments, list_segments
from ourolog.storage.repair_note import RepairNote
from ourolog.storage.scan import SegmentScan, observe, was_synced_beyond
from ourolog.storage.segment import Segment
from ourolog.storage.state import LogState
from ourolog.storage.types import Index, NodeId, Position
from ourolog.storage.unproven import UnprovenTail


class RecoveryStep(StrEnum):
    """What recovery tells of while it is under way.

    CHECKING: many segments have to be checked, since there is no checkpoint.
    CHECKED: one of them is good.
    TAIL_CUT: an unfinished write was cut off the log's end.
    """

    CHECKING = "checking"
    CHECKED = "checked"
    TAIL_CUT = "tail_cut"


Progress = Callable[[RecoveryStep, str], None]
"""Called with each step, and with a sentence about it for a person."""


@dataclass(slots=True)
class Recovered:
    """A log ready to go on. The last segment is active: its file and index are open.

    segments: all of them, in order.
    state: the state of the log at its end.
    end: where the log ends, all of it on disk.
    committed: a lower bound of the commit position.
    checkpoint: what the checkpoint file holds, None if nothing usable.
    needs_checkpoint: whether that file may not be on disk, so that a new one must be before the log is relied on.
    """

    segments: list[Segment]
    state: LogState
    end: Position
    committed: Position
    checkpoint: Checkpoint | None
    needs_checkpoint: bool = False


@dataclass(slots=True)
class Replayed:
    """Where a replay ended: the state below `position`, which lies at byte_position of `segment`."""

    segment: Segment
    byte_position: int
    position: Position
    state: LogState


def recover(
    files: Files, directory: str, node_id: NodeId, interval_bytes: int, progress: Progress | None = None
) -> Recovered:
    """Open the log in `directory`. Raises DamagedLogError, having changed nothing that matters."""
    # A killed process may have left names in the page cache only; what follows relies on them.
    files.sync_directory(directory)
    RepairNote(files, directory).finish()
    checkpoint = load_checkpoint(files, f"{directory}/{CHECKPOINT_NAME}", node_id)
    if checkpoint is not None and checkpoint.resetting:
        return finish_reset(files, directory, checkpoint, interval_bytes)
    segments, begins_at = find_segments(files, directory, checkpoint)
    if not segments:
        first = Segment(directory, begins_at, index=SparseIndex(begins_at, interval_bytes))
        first.create(files)
        return Recovered([first], LogState(node_id), begins_at, begins_at, None)

    active = segments[-1]
    active.file = files.open(active.log_path)
    try:
        replayed = _recover_active(files, segments, node_id, interval_bytes, checkpoint, progress)
    except BaseException:
        active.close()
        raise
    committed = checkpoint.committed if checkpoint is not None else segments[0].base
    is_clean = checkpoint is not None and checkpoint.clean
    return Recovered(segments, replayed.state, replayed.position, committed, checkpoint, needs_checkpoint=not is_clean)


def finish_reset(files: Files, directory: str, checkpoint: Checkpoint, interval_bytes: int) -> Recovered:
    """Empty the log, as the checkpoint says; after a crash this can be repeated."""
    for segment in reversed(list_segments(files, directory)):
        segment.remove(files)
    first = Segment(directory, checkpoint.position, index=SparseIndex(checkpoint.position, interval_bytes))
    first.create(files)
    done = Checkpoint(checkpoint.position, first.stem, 0, checkpoint.state, checkpoint.committed)
    # No file holds any more what the entries below said; a truncation down to here needs it again.
    files.replace(first.state_path, done.encode())
    files.replace(f"{directory}/{CHECKPOINT_NAME}", done.encode())
    return Recovered([first], checkpoint.state, checkpoint.position, checkpoint.committed, done)


def best_checkpoint(
    files: Files,
    segments: Sequence[Segment],
    node_id: NodeId,
    checkpoint: Checkpoint | None,
    until: Index | None = None,
) -> Checkpoint:
    """The newest usable one at or below `until`; at worst the empty state where the log begins.

    The caller may change the state inside: every call returns a fresh one.
    """
    for segment in reversed(segments):
        if until is not None and segment.base.index > until:
            continue
        if (
            checkpoint is not None
            and checkpoint.segment == segment.stem
            and (until is None or checkpoint.position.index <= until)
        ):
            return checkpoint
        snapshot = _opening_snapshot(files, segment, node_id)
        if snapshot is not None:
            return snapshot
    first = segments[0]
    return Checkpoint(first.base, first.stem, 0, LogState(node_id), first.base)


def _opening_snapshot(files: Files, segment: Segment, node_id: NodeId) -> Checkpoint | None:
    snapshot = load_checkpoint(files, segment.state_path, node_id)
    return snapshot if snapshot is not None and snapshot.position == segment.base else None


def state_where_begins(files: Files, segment: Segment, node_id: NodeId) -> LogState | None:
    """The state that was saved of everything below that segment; None if there is none that can be used."""
    snapshot = _opening_snapshot(files, segment, node_id)
    return snapshot.state if snapshot is not None else None


def replay(files: Files, segments: Sequence[Segment], start: Checkpoint, until: Index) -> Replayed:
    """Move the state of `start` on to `until`, an entry of the last of `segments` or the place after it.

    Raises DamagedLogError where the log is damaged in between.
    """
    state = start.state
    for segment in segments[_at(segments, start) :]:
        with _scanning(files, segment, start, state) as scan:
            for buffer, head, path in scan:
                if head.index >= until:
                    break
                observe(state, buffer, head, path)
        # What is damaged from there on need not be read: it is about to be cut.
        if scan.fault is not None and scan.position.index < until:
            raise _damaged(segment, scan, str(scan.fault))
    assert scan.position.index == until, f"entry {until} is not in the last segment"
    return Replayed(segment, scan.byte_position, scan.position, state)


# ---------------------------------------------------------------- the scan


def _load_active_index(files: Files, active: Segment, interval_bytes: int) -> SparseIndex:
    try:
        content = files.read_all(active.index_path)
    except FileNotFoundError:
        return SparseIndex(active.base, interval_bytes)
    return SparseIndex.decode(content, active.base, interval_bytes)


def _at(segments: Sequence[Segment], start: Checkpoint) -> int:
    return next(at for at, segment in enumerate(segments) if segment.stem == start.segment)


def _recover_active(
    files: Files,
    segments: list[Segment],
    node_id: NodeId,
    interval_bytes: int,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
) -> Replayed:
    """Scan to the end of the last segment and leave it ready to be written, all of it on disk."""
    active = segments[-1]
    index = _load_active_index(files, active, interval_bytes)
    proven_bytes = index.covered_to
    start = best_checkpoint(files, segments, node_id, checkpoint)
    is_clean = start.clean and start.segment == active.stem
    tail = UnprovenTail(proven_bytes)
    replayed, fault = _replay_to_end(files, segments, start, checkpoint, index, tail, progress)
    must_cut = fault is not None or replayed.byte_position < proven_bytes
    if must_cut:
        _cut_torn_tail(replayed, fault, proven_bytes, is_clean, progress)
    if tail:
        active.rewrite(tail.begins_at, tail.parts)
    if not is_clean:
        # This also covers a truncation by a process that failed or was killed, which may still wait for a sync.
        active.sync()
    active.index = index
    return replayed


def _replay_to_end(
    files: Files,
    segments: list[Segment],
    start: Checkpoint,
    checkpoint: Checkpoint | None,
    index: SparseIndex,
    tail: UnprovenTail,
    progress: Progress | None,
) -> tuple[Replayed, CorruptBatchError | None]:
    at = _at(segments, start)
    active = segments[-1]
    if progress is not None and checkpoint is None and at + 1 < len(segments):
        progress(
            RecoveryStep.CHECKING,
            f"no usable checkpoint: checking {len(segments) - at} segments from {segments[at].log_path} on",
        )
    for following, segment in zip(segments[at + 1 :], segments[at:-1], strict=True):
        with _scanning(files, segment, start, start.state) as scan:
            for buffer, head, path in scan:
                observe(start.state, buffer, head, path)
        if scan.fault is not None:
            raise _damaged(segment, scan, str(scan.fault))
        if scan.position != following.base:
            raise _damaged(segment, scan, f"the next segment is {following.log_path}; entries are missing")
        if progress is not None and checkpoint is None:
            progress(RecoveryStep.CHECKED, f"{segment.log_path} is good")

    if active.stem == start.segment and index.covered_to < start.byte_position:
        _index_below(active, start.byte_position, index)
    with _scanning(files, active, start, start.state) as scan:
        tail.prove(scan.byte_position)
        for buffer, head, path in scan:
            observe(start.state, buffer, head, path)
            _note(index, scan, head)
            tail.add(scan.byte_position, buffer[head.start : head.end], head.synced)
    return Replayed(active, scan.byte_position, scan.position, start.state), scan.fault


def _index_below(active: Segment, until_bytes: int, index: SparseIndex) -> None:
    """Index the segment from its beginning to the checkpoint, since the saved index ends below that."""
    assert active.file is not None
    scan = SegmentScan(active.file, min(until_bytes, active.size_bytes), 0, active.base)
    for _, head, _path in scan:
        _note(index, scan, head)
    if scan.byte_position < until_bytes:
        raise _damaged(active, scan, str(scan.fault or "the file is shorter than what was on disk"))


def _note(index: SparseIndex, scan: SegmentScan, head: BatchHead) -> None:
    if scan.byte_position >= index.covered_to:
        end = scan.byte_position + head.size_bytes
        index.note(scan.byte_position, end, head.index, head.base_offset, head.timestamp_ms)


@contextmanager
def _scanning(files: Files, segment: Segment, start: Checkpoint, state: LogState) -> Iterator[SegmentScan]:
    """A scan of the segment from `start` if that is in it, otherwise from where it begins."""
    is_start = segment.stem == start.segment
    byte_position, position = (start.byte_position, start.position) if is_start else (0, segment.base)
    if byte_position > segment.size_bytes:
        at = segment.size_bytes
        raise DamagedLogError(
            segment.log_path, at, segment.base.index, segment.base.offset, f"{byte_position} bytes of it were on disk"
        )
    file = segment.file or files.open(segment.log_path)  # which may use the reserve of descriptors
    try:
        yield SegmentScan(file, segment.size_bytes, byte_position, position, state.terms.last_place)
    finally:
        if file is not segment.file:
            file.close()


# ---------------------------------------------------------------- the tail


def _damaged(segment: Segment, scan: SegmentScan, reason: str) -> DamagedLogError:
    position = scan.position
    return DamagedLogError(segment.log_path, scan.byte_position, position.index, position.offset, reason)


def _cut_torn_tail(
    replayed: Replayed,
    fault: CorruptBatchError | None,
    proven_bytes: int,
    is_clean: bool,
    progress: Progress | None,
) -> None:
    """Cut what a crash tore; raise DamagedLogError if it cannot have been a crash."""
    active, at, position = replayed.segment, replayed.byte_position, replayed.position
    assert active.file is not None, "the last segment is open"
    reason = str(fault) if fault is not None else "the file ends early"
    rest = active.file.read(at, active.size_bytes - at)
    if at < proven_bytes or was_synced_beyond(rest, at):
        reason += ", and other marks prove that more than this was on disk"
    elif is_clean:
        reason += ", although the log was closed cleanly"
    elif not isinstance(fault, UnknownVersionError):
        active.file.truncate(at)
        active.size_bytes = at
        if progress is not None:
            progress(
                RecoveryStep.TAIL_CUT,
                f"{active.log_path}: cut {len(rest)} bytes of an unfinished write at byte {at}",
            )
        return
    raise DamagedLogError(active.log_path, at, position.index, position.offset, reason)

"""The log: consecutive batches from `start` to `end`, on disk in segments.

Invariants:
- Index and offset are contiguous over all segments; terms never fall.
- Nothing below `synced` is ever cut unless `truncate`, `reset` or `retain` was called.
  Each of these is on disk before it returns, and a crash at any point leaves a valid log.
- What a checkpoint, an index block or a frame's `synced` claims to be on disk is on disk.
- After a failed write or sync nothing more is written: what the page cache holds can no longer
  be trusted (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).

It is not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ourolog.storage.batch import (
    FRAME_BYTES,
    HEADER_BYTES,
    Batch,
    BatchHead,
    Codec,
    EncodedBatch,
    Kind,
    NewBatch,
    decode_batch,
    decode_path,
    encode_frame,
    encode_parts,
    encoded_path_of,
    scan,
)
from ourolog.storage.batch_limits import GAP, impossible, too_long
from ourolog.storage.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint
from ourolog.storage.control import VoterSet, decode_control
from ourolog.storage.errors import (
    CorruptBatchError,
    DamagedLogError,
    DiscontinuousBatchError,
    ImpossibleBatchError,
    OutOfRangeError,
    StorageFailedError,
)
from ourolog.storage.failures import as_storage_error, busy_when_short
from ourolog.storage.files import Files
from ourolog.storage.producers import ProducerBatch, ProducerMemory, ProducerRefusal, payload_checksum
from ourolog.storage.reader import LogReader, Read
from ourolog.storage.recovery import Progress, Recovered, finish_reset, recover, state_where_begins
from ourolog.storage.repair import Repaired, Repairs
from ourolog.storage.retention import committed_part, expired_segments
from ourolog.storage.scan import continues, control_in, observe
from ourolog.storage.scrub import LogScrub, Scrubbed
from ourolog.storage.segment import Segment, stem_of
from ourolog.storage.segment_cache import SegmentCache
from ourolog.storage.state import LogState
from ourolog.storage.terms import Place, TermHistory, place_of, why_not_behind
from ourolog.storage.truncation import cut_segments, find_cut
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term
from ourolog.storage.voter_history import VoterHistory
from ourolog.storage.writer import SegmentWriter

_MIB: Final = 1024 * 1024
# Positions within a segment are 32 bits wide in frames and indexes; a batch may overshoot the roll.
_MAX_SEGMENT_BYTES: Final = 2048 * _MIB


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The sizes and ages at which a log rolls, indexes and removes. Raises ValueError for an impossible segment size.

    segment_bytes: a segment that would grow beyond this is sealed first.
    index_interval_bytes: how far apart the batches are that the sparse index holds.
    checkpoint_interval_bytes, checkpoint_interval_entries: how much is written between two checkpoints, whichever is
        reached first. It is what an opening reads, at a cost for each entry more than for its bytes; and it is how
        rarely a replica that copies a long log has to stop for the two syncs of a checkpoint.
    segment_roll_ms: a segment whose first batch is this much older than the next one is sealed; None for never.
    retention_bytes: old segments go while this much is left without them; None keeps all.
    retention_ms: segments go whose batches all are older than this; None keeps all.
    """

    segment_bytes: int = 64 * _MIB
    index_interval_bytes: int = 16 * 1024
    checkpoint_interval_bytes: int = 32 * _MIB
    checkpoint_interval_entries: int = 32_768
    segment_roll_ms: int | None = None
    retention_bytes: int | None = None
    retention_ms: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.segment_bytes <= _MAX_SEGMENT_BYTES:
            raise ValueError(f"segment_bytes must be 1 to {_MAX_SEGMENT_BYTES}, not {self.segment_bytes}")


class Placed(NamedTuple):
    """Where an appended batch stands.

    index: the place of its entry.
    term: the term in which the entry was made.
    base_offset: the offset of its first record.
    end: the position after it.
    """

    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    term: Term
    base_offset: Offset
    end: Position


class Log:
    """The log of one node: append, commit, read, truncate. Made by `Log.open`; not thread-safe.

    held_back_bytes: what the last `retain` kept only because it was not committed.
    """

    def __init__(
        self, files: Files, directory: str, node_id: NodeId, log_epoch: int, config: LogConfig, recovered: Recovered
    ) -> None:
        self.node_id = node_id
        self.log_epoch = log_epoch
        self.config = config
        self._files = files
        self._directory = directory
        self._checkpoint_path = f"{directory}/{CHECKPOINT_NAME}"
        self._failure: StorageFailedError | None = None
        self.held_back_bytes = 0
        self._segments: list[Segment] = recovered.segments
        self._segment_cache = SegmentCache(files, config.index_interval_bytes)
        self._reader = LogReader(self._segments, self._segment_cache, config.index_interval_bytes)
        self._repairs = Repairs(files, self._segments, self._segment_cache)
        self._scrub = LogScrub(files, self._segments, self._segment_cache, node_id, config.index_interval_bytes)
        self._writer = SegmentWriter(files, self._segments, config.segment_bytes, config.index_interval_bytes)
        self._adopt(recovered)
        self._producers_before_start = self._producers_where(self._segments[0])

    @classmethod
    def open(
        cls,
        files: Files,
        directory: str,
        node_id: NodeId,
        log_epoch: int,
        config: LogConfig = LogConfig(),
        progress: Progress | None = None,
    ) -> Log:
        """Open the log in that directory, recovering it if need be; an empty directory is an empty log.

        progress: is told, in sentences, what recovery cuts and what takes long.
        Raises DamagedLogError, StorageFailedError.
        """
        try:
            recovered = recover(files, directory, node_id, config.index_interval_bytes, progress)
            log = cls(files, directory, node_id, log_epoch, config, recovered)
            if recovered.needs_checkpoint:
                log._save_checkpoint()
        except OSError as error:
            raise as_storage_error(error, f"cannot open the log in {directory}") from error
        return log

    def _adopt(self, recovered: Recovered) -> None:
        self._segments[:] = recovered.segments
        self._state = recovered.state
        self._appended_end = self._end = self._synced = recovered.end
        self._committed = recovered.committed
        self._has_notes = False
        self._size_bytes = sum(segment.size_bytes for segment in self._segments)
        self._bytes_since_checkpoint = 0
        self._checkpoint_index = recovered.end.index
        checkpoint = recovered.checkpoint
        self._checkpoint_segment = checkpoint.segment if checkpoint is not None else None
        # A log that is written to is not closed cleanly: this replaces the checkpoint that says so.
        self._unclean = self._checkpoint().encode() if checkpoint is not None and checkpoint.clean else None
        self._writer.start_over()

    # ------------------------------------------------------------ what it is

    @property
    def start(self) -> Position:
        return self._segments[0].base

    @property
    def end(self) -> Position:
        """The position after the last batch that is written, synced or not; reads go up to here."""
        return self._end

    @property
    def appended_end(self) -> Position:
        """The position after the last batch that was appended, written or not."""
        return self._appended_end

    @property
    def gathered(self) -> tuple[EncodedBatch, ...]:
        """The batches that were appended and not written yet, up to `appended_end`, as they will stand on disk."""
        return self._writer.gathered

    @property
    def synced(self) -> Position:
        """The position below which everything is on disk."""
        return self._synced

    @property
    def unsynced_bytes(self) -> int:
        """How much is written and not known to be on disk."""
        return self._segments[-1].size_bytes - self._segments[-1].synced_bytes

    @property
    def terms(self) -> TermHistory:
        """The terms of everything appended, including what retention removed."""
        return self._state.terms

    @property
    def voters(self) -> VoterSet | None:
        """The voter set that was appended last, even if retention removed its entry; None if the log names none."""
        return self._state.voters.latest

    @property
    def voters_replaced(self) -> VoterSet | None:
        """The voter set before the last one, None if the log knows of none."""
        return self._state.voters.replaced

    @property
    def voters_before_start(self) -> VoterSet | None:
        """The voter set in force where the log starts; None if nothing below it named one."""
        return self._state.voters.in_force_before(self.start.index)

    @property
    def producers(self) -> ProducerMemory:
        """What is remembered of producers at `appended_end`; not to be changed."""
        return self._state.producers

    @property
    def producers_before_start(self) -> bytes:
        """What is remembered of producers where the log starts, encoded; b"" if nothing, or if that is not known."""
        return self._producers_before_start

    def _producers_where(self, segment: Segment) -> bytes:
        """What was remembered of producers where that segment begins, encoded. Raises OSError."""
        if segment.base == START:
            return b""
        state = state_where_begins(self._files, segment, self.node_id)
        return state.producers.encode() if state is not None else b""

    @property
    def committed(self) -> Position:
        """The commit position that was noted last, limited to what the log holds."""
        return min(max(self._committed, self.start), self._end)

    @property
    def pull_positions(self) -> dict[NodeId, tuple[int, Index]]:
        """For each source, sorted: the epoch of its log and the next index to pull. Includes what is only appended."""
        return self._state.pulls.as_dict()

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    def has_identity(self, origin: NodeId, epoch: int, sequence: int) -> bool:
        """Whether a batch of that identity was ever appended, including those not yet written or no longer retained."""
        return self._state.identities.contains(origin, epoch, sequence)

    # ------------------------------------------------------------ appending

    def judge(self, batch: NewBatch) -> Placed | ProducerRefusal | None:
        """What is to become of a batch that a producer numbered, if it is appended next.

        Where it stands already; why it must not be appended; or None: `append_new` may take it. What is
        appended and not yet written counts, so this and the append must be one step.
        """
        verdict = self._state.producers.judge(
            batch.producer_id, batch.producer_sequence, batch.record_count, payload_checksum(batch.payload)
        )
        if isinstance(verdict, ProducerBatch):
            return Placed(verdict.index, self.terms.term_of(verdict.index), verdict.base_offset, verdict.end)
        return verdict

    def append_new(self, batch: NewBatch, term: Term, now_ms: int) -> Placed:
        """Append what was produced here; it gets a place and an identity. Raises ValueError for an impossible term."""
        end = self._appended_end
        return self._append(
            Batch(
                index=end.index,
                term=term,
                base_offset=end.offset,
                record_count=batch.record_count,
                timestamp_ms=now_ms,
                kind=batch.kind,
                codec=batch.codec,
                path=(self.node_id,),
                origin_epoch=self.log_epoch,
                origin_sequence=self._state.next_own_sequence(self.log_epoch),
                payload=batch.payload,
                producer_id=batch.producer_id,
                producer_sequence=batch.producer_sequence,
            )
        )

    def check_copies(self, blob: bytes, source_id: NodeId) -> list[Batch]:
        """The batches of a run from another log, nobody elected, each fit for `append_copy`.

        The path of a batch that its source got as a leader's replica does not name the source yet.
        Raises CorruptBatchError, ImpossibleBatchError.
        """
        batches, end = [], 0
        next_own = self._state.next_own_sequence(self.log_epoch)
        for head in scan(blob):
            batch = decode_batch(blob, head)
            more = (self.node_id,) if batch.path[-1] == source_id else (source_id, self.node_id)
            problem = impossible(head, batch.path) or too_long(head, *more)
            if problem is None and self._is_own(batch.path[0], batch.origin_epoch) and head.origin_sequence >= next_own:
                problem = (
                    f"entry {head.index} claims to be batch {head.origin_sequence} of {self.node_id}, which has made "
                    f"only those below {next_own}. If {self.node_id} runs on an old copy of its disk, give it a new "
                    "data directory"
                )
            if problem is not None:
                raise ImpossibleBatchError(problem)
            batches.append(replace(batch, path=(*batch.path, *more[:-1])))
            end = head.end
        if end != len(blob):
            raise CorruptBatchError("the last batch is cut off")
        return batches

    def _is_own(self, origin: NodeId, epoch: int) -> bool:
        return origin == self.node_id and epoch == self.log_epoch

    def append_copy(self, batch: Batch, source_epoch: int) -> Placed:
        """Append a batch of another log, nobody elected: it gets a place here, and this node is added to its path.

        Identity and timestamp stay those of the original.
        """
        end = self._appended_end
        return self._append(
            replace(
                batch,
                index=end.index,
                term=self._state.terms.last_term,
                base_offset=end.offset,
                path=(*batch.path, self.node_id),
                source_epoch=source_epoch,
                source_index=batch.index,
            )
        )

    def append_raw(self, blob: bytes, term: Term | None = None) -> tuple[Position, ...]:
        """Append a leader's batches as they are, and return the position after each.

        term: that of the leader, above which it has none; None for any.
        Raises CorruptBatchError, DiscontinuousBatchError where they do not continue the log, and
        ImpossibleBatchError; nothing was appended then.
        """
        self._check_usable()
        next_own = self._state.next_own_sequence(self.log_epoch)
        position, last = self._appended_end, self._state.terms.last_place
        checked = []
        path: tuple[NodeId, ...] = ()
        encoded_path: bytes | None = None  # of the batch before; most have the same
        size_bytes = 0
        for head in scan(blob):
            size_bytes = head.end
            if (encoded := encoded_path_of(blob, head)) != encoded_path:
                encoded_path, path = encoded, decode_path(encoded)
            place = place_of(head.term, path, head.origin_epoch)
            problem = continues(head, position) or why_not_behind(last, place)
            if problem:
                raise DiscontinuousBatchError(problem)
            position, last = Position(Index(head.index + 1), head.end_offset), place
            problem = impossible(head, path)
            if problem is None and term is not None and head.term > term:
                problem = f"entry {head.index} is of term {head.term}, and the leader of term {term} sent it"
            if problem is None and self._is_own(path[0], head.origin_epoch) and head.origin_sequence >= next_own + GAP:
                problem = f"entry {head.index} claims to be batch {head.origin_sequence} of {self.node_id}"
            if problem is None:
                problem = _unreadable_control(blob, head)
            if problem is not None:
                raise ImpossibleBatchError(problem)
            checked.append((head, path, position))
        if size_bytes != len(blob):
            raise CorruptBatchError("the last batch is cut off")
        view = memoryview(blob)
        for head, path, end in checked:
            self._roll_if_due(head.size_bytes, head.timestamp_ms)
            frame = encode_frame(head.size_bytes - FRAME_BYTES, self._writer.synced_bytes)
            parts = (frame, view[head.start + FRAME_BYTES : head.end])
            self._writer.gather(parts, head.size_bytes, self._appended_end, head.timestamp_ms)
            observe(self._state, blob, head, path)
            self._appended_end = end
        return tuple(end for _, _, end in checked)

    def _append(self, batch: Batch) -> Placed:
        self._check_usable()
        problem = why_not_behind(self._state.terms.last_place, place_of(batch.term, batch.path, batch.origin_epoch))
        if problem:
            raise ValueError(problem)
        at = self._appended_end
        self._roll_if_due(HEADER_BYTES + len(batch.payload), batch.timestamp_ms)
        head, payload = encode_parts(batch, self._writer.synced_bytes)
        self._writer.gather((head, payload), len(head) + len(payload), at, batch.timestamp_ms)
        self._state.observe(
            batch.index,
            batch.term,
            batch.path,
            batch.origin_epoch,
            batch.origin_sequence,
            batch.source_epoch,
            batch.source_index,
            batch.timestamp_ms,
            decode_control(batch.payload) if batch.kind is Kind.CONTROL else None,
            batch.producer_id,
            _produced(batch),
        )
        self._appended_end = end = Position(Index(batch.index + 1), batch.end_offset)
        return Placed(batch.index, batch.term, batch.base_offset, end)

    def _roll_if_due(self, size_bytes: int, timestamp_ms: int) -> None:
        is_due = self._writer.must_roll(size_bytes)
        if not is_due and self.config.segment_roll_ms is not None:
            began_ms = self._writer.tail_began_ms
            is_due = began_ms is not None and timestamp_ms - began_ms >= self.config.segment_roll_ms
        if is_due:
            self._writer.roll(self._appended_end, self._state, self._committed)

    # ------------------------------------------------------------ writing

    def commit(self, *, sync: bool = True, write_back: bool = False) -> None:
        """Write everything appended, and with `sync` put it on disk. Raises StorageFailedError.

        write_back: have the system begin at once to bring it to disk, and keep in memory nothing that is there: for a
            log that takes up much more than will soon be read.
        """
        self._check_usable()
        if self._writer.is_synced or not (sync or self._writer.has_gathered):
            return
        with self._failing("cannot write the log"):
            if self._unclean is not None:
                self._files.replace(self._checkpoint_path, self._unclean)
                self._unclean = None
            active = self._segments[-1]
            written_bytes = self._writer.write(write_back=write_back)
            self._size_bytes += written_bytes
            self._bytes_since_checkpoint += written_bytes
            self._end = self._appended_end
            if self._segments[-1] is not active:
                # A checkpoint follows every roll, so that the loss of a segment is noticed.
                self._synced = self._segments[-1].base
                self._bytes_since_checkpoint = self.config.checkpoint_interval_bytes
            if sync:
                self._writer.sync()
                self._synced = self._end
                if self._checkpoint_is_due:
                    self._save_checkpoint()

    def write(self) -> None:
        """Write everything appended: it can then be read, and survives the end of the process."""
        self.commit(sync=False)

    def sync(self) -> None:
        """Put everything appended on disk."""
        self.commit(sync=True)

    @property
    def _checkpoint_is_due(self) -> bool:
        config = self.config
        return (
            self._bytes_since_checkpoint >= config.checkpoint_interval_bytes
            or self._end.index - self._checkpoint_index >= config.checkpoint_interval_entries
        )

    def _checkpoint(self, *, clean: bool = False) -> Checkpoint:
        """The checkpoint of everything there is, which must be synced."""
        active = self._segments[-1]
        return Checkpoint(self._end, active.stem, active.size_bytes, self._state, self.committed, clean=clean)

    def _save_checkpoint(self, *, clean: bool = False) -> None:
        assert self._writer.is_synced, "a checkpoint claims nothing that is not on disk"
        self._segments[-1].save_index(self._files)
        self._files.replace(self._checkpoint_path, self._checkpoint(clean=clean).encode())
        self._checkpoint_segment = self._segments[-1].stem
        self._bytes_since_checkpoint = 0
        self._checkpoint_index = self._end.index
        self._unclean = None
        self._has_notes = False

    # ------------------------------------------------------------ reading

    def read_from_index(self, index: Index, max_bytes: int, until: Index) -> Read:
        """Whole batches from the entry at `index` on, none at or above `until`.

        There is at least one, however large, and more while they fit into max_bytes. There may be fewer
        than would fit: a read ends with its segment.
        Raises OutOfRangeError below `start` and from `until` or `end` on; DamagedLogError.
        """
        return self._reader.read_from_index(index, max_bytes, until, self._end)

    def read_from_offset(self, offset: Offset, max_bytes: int, until: Index) -> Read:
        """Whole batches from the one that holds `offset`, which may begin below it; else as `read_from_index`."""
        return self._reader.read_from_offset(offset, max_bytes, until, self._end)

    # ------------------------------------------------------------ repairing

    def damage_at(self, index: Index) -> DamagedLogError | None:
        """What is damaged where a read met damage at that entry, by walking the file itself.

        That is the entry, or else the last damaged one before it in its segment. None if all that is good: the read
        was led astray, and may be tried again.
        Raises OutOfRangeError below `start` and from `end` on.
        """
        self._check_in_range(index, self._end.index)
        with busy_when_short():
            damage = self._repairs.damage_at(index)
        if damage is None:
            self._reader.forget()
        return damage

    def repair(self, index: Index, batch: bytes) -> Repaired | None:
        """Replace the damaged batch of the entry at `index`, on disk before this returns; None if it is good already.

        batch: the same batch, as it stands in another replica's log.
        Raises UnfitBatchError for any other batch, OutOfRangeError below `start` and from `synced` on, DamagedLogError
        for another damaged batch that has to be repaired first; nothing was written then.
        """
        self._check_usable()
        self._check_in_range(index, self._synced.index)
        size_bytes = self._segment_bytes
        with self._failing("cannot repair the log"):
            repaired = self._repairs.repair(index, batch, self._state.terms.place_of(index))
        self._size_bytes += self._segment_bytes - size_bytes
        self._reader.forget()
        return repaired

    def scrub(self, max_bytes: int) -> Scrubbed:
        """Read on where the last call ended, about max_bytes and one batch at least, and check what lies there.

        Raises StorageBusyError, StorageFailedError.
        """
        self._check_usable()
        with self._failing("cannot check the log"), busy_when_short():
            return self._scrub.step(max_bytes, self._synced)

    def begin_scrub_at(self, segment_number: int) -> None:
        """Let the next `scrub` begin with that segment, counted from 0."""
        self._scrub.begin_at(segment_number)

    @property
    def scrub_position(self) -> Position:
        """The entry that `scrub` reads next."""
        return self._scrub.position

    @property
    def _segment_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self._segments)

    def _check_in_range(self, index: Index, end: Index) -> None:
        if not self.start.index <= index < end:
            raise OutOfRangeError(index, self.start.index, max(self.start.index, end), "index")

    # ------------------------------------------------------------ removing

    def truncate(self, index: Index) -> None:
        """Drop every entry at `index` and above, on disk before this returns.

        A crash on the way leaves the log cut here or further up, never with a hole.
        Raises OutOfRangeError below `start`.
        """
        self.commit(sync=True)
        if index >= self._end.index:
            return
        if index < self.start.index:
            raise OutOfRangeError(index, self.start.index, self._end.index, "index")
        sequence_floor = self._state.next_own_sequence(self.log_epoch)
        with self._failing("cannot truncate the log"):
            checkpoint = load_checkpoint(self._files, self._checkpoint_path, self.node_id)
            cut = find_cut(self._files, self._segments, self.node_id, checkpoint, index)
            cut.state.sequence_floor = sequence_floor
            committed = min(self._committed, cut.position)
            lowered = Checkpoint(cut.position, cut.segment.stem, cut.byte_position, cut.state, committed)
            self._forget_places()
            self._files.replace(self._checkpoint_path, lowered.encode())
            cut_segments(self._files, self._segments, cut, self.config.index_interval_bytes)
            self._adopt(Recovered(self._segments, cut.state, cut.position, committed, lowered))

    def reset(
        self,
        start: Position,
        before: Place | None = None,
        voters: VoterSet | None = None,
        producers: bytes = b"",
    ) -> None:
        """Drop everything and begin again at `start`, on disk before this returns.

        All below `start` counts as committed. A crash on the way leaves the old log or the new one; the
        checkpoint decides which. Identities are forgotten with the entries that carried them; own
        sequences go on.

        before: the place of the entry that stands before `start` in the log that is to be copied.
        voters: the voter set in force there.
        producers: what is remembered of producers there, encoded. Raises ValueError for what no log remembers there.
        """
        self._check_usable()
        memory = ProducerMemory.decode(producers, below=start)
        state = LogState(
            self.node_id,
            TermHistory.before(start.index, before),
            sequence_floor=self._state.next_own_sequence(self.log_epoch),
            voters=VoterHistory.before(voters),
            producers=memory,
        )
        intent = Checkpoint(start, stem_of(start), 0, state, start, resetting=True)
        with self._failing("cannot reset the log"):
            self._forget_places()
            self._files.replace(self._checkpoint_path, intent.encode())
            self._segments[-1].close()
            self._adopt(finish_reset(self._files, self._directory, intent, self.config.index_interval_bytes))
        self._producers_before_start = producers

    def retain(self, now_ms: int, until: Index | None = None) -> bool:
        """Remove old segments as configured, but never the active one. Returns whether any was removed.

        `terms`, voters, identities and producers keep what they learnt from the removed segments.

        until: no segment is removed that holds an entry at or above this index; None where all that is on disk is
            committed. An entry that was not committed may have to be dropped for a leader's, and where a log starts
            everything below counts as committed.
        """
        self._check_usable()
        config = self.config
        segments = self._segments
        with busy_when_short():
            due = expired_segments(segments, self._segment_cache, now_ms, config.retention_bytes, config.retention_ms)
        expired = committed_part(segments, due, until)
        self.held_back_bytes = sum(segment.size_bytes for segment in due[len(expired) :])
        if not expired:
            return False
        with busy_when_short():
            producers_before_start = self._producers_where(segments[len(expired)])
        with self._failing("cannot remove old segments"):
            # Recovery reports a segment as lost when the checkpoint names it and it is gone.
            if self._checkpoint_segment in (None, *(segment.stem for segment in expired)):
                self.commit(sync=True)
                self._save_checkpoint()
            self._forget_places()
            # Oldest first, each removal on disk before the next: no crash leaves a hole.
            for segment in expired:
                segment.remove(self._files)
                del self._segments[0]
                self._size_bytes -= segment.size_bytes
        self._state.voters = self._state.voters.since(self.start.index)
        self._producers_before_start = producers_before_start
        return True

    # ------------------------------------------------------------ notes and the end

    def note_committed(self, position: Position) -> None:
        """Note a lower bound of what is committed; it is kept with the next checkpoint, see `save_notes`."""
        if position > self._committed:
            self._committed = position
            self._has_notes = True

    def note_pull_position(self, source: NodeId, epoch: int, next_index: Index) -> None:
        """Note that a pull moved on although nothing was appended; it is kept with the next checkpoint."""
        self._state.pulls.note(source, epoch, next_index)

    def save_notes(self) -> None:
        """Write a checkpoint for a commit position that was noted; this waits while there is unsynced data."""
        self._check_usable()
        if self._has_notes and self._writer.is_synced:
            with self._failing("cannot keep the commit position"):
                self._save_checkpoint()

    def close(self) -> None:
        """Put everything on disk and close the files. After a failure only close the files."""
        try:
            if self._failure is None:
                self.commit(sync=True)
                with self._failing("cannot close the log"):
                    self._save_checkpoint(clean=True)
        finally:
            self._reader.forget()
            self._segments[-1].close()
            self._failure = self._failure or StorageFailedError("the log is closed")

    def _forget_places(self) -> None:
        """Segments are about to be cut or removed."""
        self._reader.forget()
        self._repairs.forget()

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(f"the log takes nothing more: {self._failure}")

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failure = as_storage_error(error, f"{what} in {self._directory}")
            raise self._failure from error


def _produced(batch: Batch) -> ProducerBatch | None:
    """What is remembered of a batch that a producer numbered; None if none did."""
    if batch.producer_id == 0 or batch.kind is not Kind.DATA:
        return None
    checksum = payload_checksum(batch.payload)
    return ProducerBatch(batch.producer_sequence, batch.record_count, batch.index, batch.base_offset, checksum)


def _unreadable_control(blob: bytes, head: BatchHead) -> str | None:
    """Why no node writes such a control batch; None if one may have."""
    if head.kind is not Kind.CONTROL:
        return None
    if head.codec is not Codec.NONE:
        return f"entry {head.index} is a control batch and compressed"
    try:
        control_in(blob, head)
    except ValueError as error:
        return f"entry {head.index} is a control batch that no node writes: {error}"
    return None

"""The store: the only actor that touches the log on disk.

Group commit needs no clock: the first append tells the store FlushAppends, which queues behind
everything that waits already; all of that is gathered, written with one writev and put on disk
with one fdatasync, and only then acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf
from typing import assert_never

from ourolog.actors.actor import NodeActor
from ourolog.actors.config import Cycle, Fsync, NodeConfig
from ourolog.actors.messages.events import LogAppended, LogCut, LogOpened, LogStartMoved, VotersLogged
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import FailureKind, NodeFailed, NodeWarned, WarningKind
from ourolog.actors.messages.repair import (
    BatchRepaired,
    DamagedReadsExpired,
    DamageFound,
    RepairAbandoned,
    RepairBatch,
    RepairRejected,
)
from ourolog.actors.messages.status import ReportStatus, StatusReported, StoreStatus
from ourolog.actors.messages.store import (
    AppendBatch,
    AppendControl,
    AppendFetched,
    AppendPulled,
    AppendRefused,
    BallotSaved,
    BatchAppended,
    BatchesGathered,
    BatchesRead,
    BeginTerm,
    DescribeLog,
    FetchedAppended,
    FetchedRejected,
    FetchedTaken,
    FlushAppends,
    FoundingSaved,
    FsyncDue,
    LogDescribed,
    LogTruncated,
    NoteCommitted,
    OpenLog,
    PulledAppended,
    PullRejected,
    ReadBatches,
    ReadProblem,
    ReadRefused,
    ResetLog,
    RetentionDue,
    SaveBallot,
    SaveFounding,
    SaveSuperseded,
    ScrubDue,
    StoreFailed,
    StoreMessage,
    TruncateLog,
)
from ourolog.actors.messages.values import PullPosition
from ourolog.actors.ports import Ports
from ourolog.actors.storing.copy_pace import SYNC_AFTER_S, CopyPace
from ourolog.actors.storing.damaged_places import DamagedPlaces
from ourolog.actors.storing.scrubber import STEP_BYTES, Scrubber
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Batch, Kind, NewBatch
from ourolog.storage.batch_limits import LIMIT
from ourolog.storage.control import ControlEntry, LeaderStarted, VoterKey, VoterSet, encode_control
from ourolog.storage.errors import (
    CorruptBatchError,
    DamagedFileError,
    DamagedLogError,
    DirectoryLockedError,
    ImpossibleBatchError,
    OutOfRangeError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    UnfitBatchError,
    WrongIdentityError,
)
from ourolog.storage.identity import DataDirectory
from ourolog.storage.log import Log, LogConfig, Placed
from ourolog.storage.producers import ProducerRefusal
from ourolog.storage.reader import Read
from ourolog.storage.recovery import RecoveryStep
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import NODE_ID, Index, NodeId, Offset, Position

MAX_REPORTED_CYCLES = 64


class StoreActor(NodeActor):
    """The store: appends to the log, cuts it, reads it, and keeps the ballot.

    After a failed write or fsync it handles nothing more: the node stops.
    """

    actor_name = "store"
    blocks = True

    def __init__(
        self,
        *,
        config: NodeConfig,
        ports: Ports,
        replicator: Mailbox[LogOpened | BatchesGathered | LogAppended | LogStartMoved | DamageFound],
        server: Mailbox[LogOpened | LogStartMoved],
        election: Mailbox[LogOpened | LogAppended | LogCut | VotersLogged | StoreFailed],
    ) -> None:
        super().__init__(config.node_id, ports.observer)
        self.config = config
        self.ports = ports
        self.replicator = replicator
        self.server = server
        self.election = election
        self.failed = False
        self._directory: DataDirectory | None = None
        self._log: Log | None = None
        self._ballot = Ballot()
        self._gathered: list[Callable[[], None]] = []
        self._flush_is_due = False
        self._sync_due_s = inf
        self._has_fetched = False
        self._pace = CopyPace(config.fetch_max_bytes)
        self._unannounced: list[Position] = []
        self._voters_told: VoterSet | None = None
        self._damaged = DamagedPlaces(
            ports,
            self.me,
            replicator,
            is_elected=config.election.elects,
            warn=self._warn,
            read=self._read,
            refuse=self._refuse_read,
        )

        self._scrubber = Scrubber(config, ports, self.me)

    # ------------------------------------------------------------ one message

    def on_receive(self, message: StoreMessage) -> None:
        if self.failed:
            return
        try:
            self._handle(message)
        except (StorageError, OSError) as error:
            self._fail(error)

    def _handle(self, message: StoreMessage) -> None:
        match message:
            case AppendBatch():
                self._append_batch(message)
            case AppendControl():
                self._append_control(message)
            case BeginTerm():
                self._begin_term(message)
            case ReadBatches():
                self._read(message)
            case FlushAppends():
                self._flush_is_due = False
                self._flush()
            case AppendFetched():
                self._append_fetched(message)
            case AppendPulled():
                self._append_pulled(message)
            case TruncateLog():
                self._settle()
                if message.term == self._ballot.term:
                    # Retention may have removed what was to be kept, since the replicator looked.
                    self.log.truncate(max(message.index, self.log.start.index))
                    self._answer_truncated(message.reply_to)
            case ResetLog():
                self._settle()
                if message.term == self._ballot.term:
                    self.log.reset(message.start, message.before, message.voters, message.producers)
                    self._answer_truncated(message.reply_to)
            case SaveBallot():
                self._save_ballot(message)
            case SaveFounding():
                self._save_founding(message)
            case SaveSuperseded():
                assert self._directory is not None
                self._directory.save_superseded(message.superseded)
            case DescribeLog():
                self._describe(message)
            case RepairBatch():
                self._repair(message)
            case RepairAbandoned():
                self._damaged.abandon(message)
            case DamagedReadsExpired():
                self._damaged.expire()
            case NoteCommitted():
                self.log.note_committed(message.committed)
                self.log.save_notes()
            case FsyncDue():
                self._sync_due_s = inf
                self._settle()
                self.log.save_notes()
            case RetentionDue():
                self._retain()
            case ScrubDue():
                self._scrub()
            case ReportStatus():
                log = self.log
                status = StoreStatus(
                    log.start,
                    log.end,
                    log.size_bytes,
                    log.segment_count,
                    log.log_epoch,
                    damaged_found=self._damaged.found,
                    repaired=self._damaged.repaired,
                    last_term=log.terms.last_term,
                    scrubbed_bytes=self._scrubber.read_bytes,
                    scrub_next=log.scrub_position if self._scrubber.is_on else None,
                    scrubbed_ms=self._scrubber.completed_ms,
                )
                message.reply_to.tell(StatusReported(message.request_id, status))
            case OpenLog():
                self._open()
            case _:
                assert_never(message)

    @property
    def log(self) -> Log:
        assert self._log is not None, "nobody tells the store anything before LogOpened"
        return self._log

    def on_stop(self) -> None:
        self._damaged.stop()
        if self._log is not None and not self.failed:
            try:
                self._settle()
                self._log.close()
            except (StorageError, OSError) as error:
                self._fail(error)
        if self._directory is not None:
            self._directory.close()

    def _fail(self, error: Exception) -> None:
        """Stop the node. What was not acknowledged yet never will be; peers and clients time out or reconnect."""
        self.failed = True
        self._gathered.clear()
        if self._log is not None:
            self.election.tell(StoreFailed(str(error)))
        self.observer.tell(NodeFailed(self.node_id, self.actor_name, _failure_kind(error), str(error)))

    def _warn(self, kind: WarningKind, reason: str, about: NodeId = NodeId("")) -> None:
        self.observer.tell(NodeWarned(self.node_id, self.actor_name, kind, reason, about))

    # ------------------------------------------------------------ opening

    def _open(self) -> None:
        config = self.config
        self._directory = DataDirectory.open(
            self.ports.files, config.data_dir, config.node_id, config.cluster, self.ports.rng
        )
        self._ballot = self._directory.ballot
        self._log = Log.open(
            self.ports.files,
            self._directory.log_directory,
            config.node_id,
            self._directory.log_epoch,
            LogConfig(
                segment_bytes=config.segment_bytes,
                retention_bytes=config.retention_bytes,
                retention_ms=int(config.retention_s * 1000) if config.retention_s is not None else None,
            ),
            progress=self._on_progress,
        )
        log = self._log
        opened = LogOpened(
            start=log.start,
            end=log.end,
            terms=log.terms,
            log_epoch=log.log_epoch,
            ballot=self._ballot,
            pull_positions=tuple(
                (node, PullPosition(epoch, index)) for node, (epoch, index) in sorted(log.pull_positions.items())
            ),
            committed=log.committed,
            voters=log.voters,
            voters_before_start=log.voters_before_start,
            founding=self._directory.founding,
            voters_replaced=log.voters_replaced,
            superseded=self._directory.superseded,
            producers_before_start=log.producers_before_start,
        )
        self._voters_told = log.voters
        self.replicator.tell(opened)
        self.server.tell(opened)
        self.election.tell(opened)
        if config.retention_bytes is not None or config.retention_s is not None:
            self._retain()
        self._scrubber.begin(log)

    def _on_progress(self, step: RecoveryStep, text: str) -> None:
        is_cut = step is RecoveryStep.TAIL_CUT
        self._warn(WarningKind.TORN_TAIL_CUT if is_cut else WarningKind.RECOVERY_PROGRESS, text)

    # ------------------------------------------------------------ appending

    def _gather(self, ends: Iterable[Position], acknowledge: Callable[[], None]) -> None:
        """Add what was just appended, up to each of `ends`, to what the next group commit acknowledges."""
        self._unannounced.extend(ends)
        self._gathered.append(acknowledge)
        if not self._flush_is_due:
            self._flush_is_due = True
            self.me.tell(FlushAppends())

    def _flush(self) -> None:
        """Write what was gathered, and answer for it.

        With `--fsync interval` an answer promises a written record, no more. Peers see only what is on disk, and
        nothing else counts for a quorum: otherwise an entry that a power cut took back would have been counted, and
        with nobody elected its identity would be given out twice. What a leader sent is answered for when it is
        synced, since the next fetch says that it is on disk: at once, or, by a replica far behind, with what comes
        after it. Only the followers of a leader that voters have elected see more.
        """
        if not self._gathered:
            return
        self._announce_gathered()
        if not self._has_fetched:
            self._commit(sync=self.config.fsync is Fsync.ALWAYS)
            return
        if self._pace.is_far:
            self.log.commit(sync=False, write_back=True)
        if self._pace.may_wait(self.log.unsynced_bytes):
            self._sync_after(SYNC_AFTER_S)
        else:
            self._commit(sync=True)

    def _commit(self, *, sync: bool) -> None:
        """Write everything that was appended, sync it or have it synced later, and answer for it."""
        self.log.commit(sync=sync)
        gathered, self._gathered = self._gathered, []
        if sync:
            self._has_fetched = False
            self._announce_appended()
        else:
            self._sync_after(self.config.fsync_interval_s)
        for acknowledge in gathered:
            acknowledge()

    def _sync_after(self, delay_s: float) -> None:
        due_s = self.ports.clock.monotonic_s() + delay_s
        if due_s < self._sync_due_s:
            self._sync_due_s = due_s
            self.ports.timers.after(delay_s, self.me, FsyncDue())

    def _announce_gathered(self) -> None:
        """A leader's followers may write what it has gathered while it does so itself."""
        election = self.config.election
        if not election.elects or election.is_decreed or self._has_fetched:
            return
        batches = self.log.gathered
        if batches:
            gathered = BatchesGathered(self._ballot.term, batches, self.log.appended_end, self.log.terms)
            self.replicator.tell(gathered)

    def _settle(self) -> None:
        """Finish everything under way: all that was appended is then on disk, announced and answered."""
        if self._gathered:
            self._announce_gathered()
        self._commit(sync=True)

    def _announce_appended(self) -> None:
        if self._unannounced:
            ends, self._unannounced = tuple(self._unannounced), []
            appended = LogAppended(ends, self.log.terms, self.log.voters)
            self.replicator.tell(appended)
            self.election.tell(appended)
            self._tell_voters()

    def _tell_voters(self) -> None:
        if self.log.voters != self._voters_told:
            self._voters_told = self.log.voters
            self.election.tell(VotersLogged(self.log.voters, self.log.voters_replaced))

    def _append_batch(self, message: AppendBatch) -> None:
        if message.term != self._ballot.term:
            # Raft section 5.4.2: a leader that was deposed must not write under its old term.
            reason = f"term {message.term} is over: this node is in term {self._ballot.term}"
            message.reply_to.tell(AppendRefused(message.request_id, self._ballot.term, reason))
            return
        if message.batch.producer_id and self._was_judged(message):
            return
        placed = self.log.append_new(message.batch, message.term, self.ports.clock.wall_ms())
        answer = BatchAppended(message.request_id, placed.base_offset, placed.index, placed.term, placed.end)
        self._gather((placed.end,), lambda: message.reply_to.tell(answer))

    def _was_judged(self, message: AppendBatch) -> bool:
        """Answer for a batch that its producer has sent before, or that may not be appended; False for the next one.

        The first copy may only be gathered yet, so the answer waits for the group commit as that of an append does.
        """
        verdict = self.log.judge(message.batch)
        match verdict:
            case None:
                return False
            case Placed(index, term, base_offset, end):
                answer = BatchAppended(message.request_id, base_offset, index, term, end, is_duplicate=True)
                self._gather((), lambda: message.reply_to.tell(answer))
            case ProducerRefusal(problem, reason):
                message.reply_to.tell(AppendRefused(message.request_id, self._ballot.term, reason, problem))
            case _:
                assert_never(verdict)
        return True

    def _append_control(self, message: AppendControl) -> None:
        batch = _control_batch(message.entry)
        self._append_batch(AppendBatch(message.request_id, batch, message.term, message.reply_to))

    def _begin_term(self, message: BeginTerm) -> None:
        if message.term == self._ballot.term:
            key = VoterKey(self.node_id, self.log.log_epoch)
            batch = _control_batch(LeaderStarted(key, message.voters, message.granted_by))
            placed = self.log.append_new(batch, message.term, self.ports.clock.wall_ms())
            self._gather((placed.end,), _nobody_waits)

    def _append_fetched(self, message: AppendFetched) -> None:
        if message.term != self._ballot.term:
            reason = f"term {message.term} is over: this node is in term {self._ballot.term}"
            message.reply_to.tell(FetchedRejected(message.leader_id, message.term, reason))
            return
        try:
            ends = self.log.append_raw(message.batches, message.term)
        except CorruptBatchError as error:
            message.reply_to.tell(FetchedRejected(message.leader_id, message.term, str(error)))
            return
        self._has_fetched = True
        end = self.log.appended_end
        self._pace.took(len(message.batches), len(ends), message.expected - end.index)
        answer = FetchedAppended(message.leader_id, message.term, end)
        self._gather(ends, lambda: message.reply_to.tell(answer))
        if end.index < message.expected:
            message.reply_to.tell(FetchedTaken(message.leader_id, message.term, end, self.log.terms.last_place))

    def _append_pulled(self, message: AppendPulled) -> None:
        try:
            batches = self.log.check_copies(message.batches, message.source_id)
            _check_run(batches, message)
        except CorruptBatchError as error:
            message.reply_to.tell(PullRejected(message.source_id, str(error)))
            return
        ends: list[Position] = []
        answer = self._copy(batches, message, ends)
        if answer.appended:
            self._gather(ends, lambda: message.reply_to.tell(answer))
        else:
            self.log.note_pull_position(answer.source_id, answer.source_epoch, answer.next_index)
            message.reply_to.tell(answer)

    def _copy(self, batches: list[Batch], message: AppendPulled, ends: list[Position]) -> PulledAppended:
        """Append what can be taken of a pull, adding to `ends`; a batch that was here before shows as a cycle."""
        breaks = self.config.cycle is Cycle.BREAK
        appended = duplicates = expired = cycle_count = 0
        cycles: list[tuple[NodeId, ...]] = []
        for batch in batches:
            if self.node_id in batch.path:
                cycle_count += 1
                if len(cycles) < MAX_REPORTED_CYCLES:
                    cycles.append((*batch.path, self.node_id))
            if batch.kind is Kind.CONTROL:
                continue  # a control batch concerns only the log that it stands in, and takes no offset
            if breaks and self.log.has_identity(batch.origin, batch.origin_epoch, batch.origin_sequence):
                duplicates += 1
            elif not breaks and len(batch.path) > self.config.max_hops:
                expired += 1
            else:
                ends.append(self.log.append_copy(batch, message.source_epoch).end)
                appended += 1
        return PulledAppended(
            source_id=message.source_id,
            source_epoch=message.source_epoch,
            next_index=Index(batches[-1].index + 1) if batches else message.first_index,
            next_offset=batches[-1].end_offset if batches else None,
            appended=appended,
            duplicates=duplicates,
            expired=expired,
            cycles=tuple(cycles),
            cycle_count=cycle_count,
        )

    def _answer_truncated(self, reply_to: Mailbox[LogTruncated]) -> None:
        log = self.log
        self._damaged.look_again(log)
        truncated = LogTruncated(log.start, log.end, log.terms, log.voters_before_start, log.producers_before_start)
        reply_to.tell(truncated)
        self.election.tell(LogCut(log.start, log.end, log.terms, log.voters))
        self._tell_voters()

    # ------------------------------------------------------------ the ballot

    def _save_ballot(self, message: SaveBallot) -> None:
        # What is still gathered was promised under the old term, and goes to disk under it. It counts
        # for the vote, too: a leader may be about to acknowledge it.
        self._settle()
        log, present, asked = self.log, self._ballot, message.ballot
        last = log.terms.last_place
        if message.candidate is None:
            assert asked.term >= present.term, "terms never fall"
            granted = asked.term > present.term or (
                present.vote in (None, asked.vote)
                # Who votes has one leader in a term; who does not may be told of another by a second decree.
                and (asked.voted_for is None or present.leader_id in (None, asked.leader_id or asked.voted_for))
            )
        else:
            assert asked.voted_for is not None, "a candidate has a name"
            granted = self._may_vote(asked, message.candidate, LastEntry.of(last, log.end.index))
        if granted:
            ballot = asked
            if asked.term == present.term and asked.leader_id is None:
                ballot = replace(asked, leader_id=present.leader_id)
        else:
            ballot = Ballot(asked.term) if asked.term > present.term else present
        if ballot != present:
            assert self._directory is not None
            self._directory.save_ballot(ballot)
            self._ballot = ballot
        message.reply_to.tell(BallotSaved(message.request_id, ballot, granted, log.end, last, log.voters))

    def _may_vote(self, asked: Ballot, candidates: LastEntry, own: LastEntry) -> bool:
        """Whether the candidate gets this node's vote (Raft sections 5.2 and 5.4.1).

        Only term and index of the last entries are compared: the makers of a term's entries have no order.
        """
        present = self._ballot
        is_free = asked.term > present.term or (
            asked.term == present.term
            and present.vote in (None, asked.vote)
            and present.leader_id in (None, asked.voted_for)
        )
        # A log that was begun anew may not know the term before its start; that all of it was committed it knows.
        has_committed = own.term > 0 or candidates.index >= own.index
        return is_free and candidates >= own and has_committed

    def _save_founding(self, message: SaveFounding) -> None:
        directory = self._directory
        assert directory is not None
        if directory.founding is None:
            directory.save_founding(message.founding)
        present = directory.founding
        assert present is not None
        message.reply_to.tell(FoundingSaved(message.request_id, present))

    def _describe(self, message: DescribeLog) -> None:
        self._settle()
        log = self.log
        described = LogDescribed(
            message.request_id, self._ballot, log.start, log.end, log.terms.last_place, log.committed, log.voters
        )
        message.reply_to.tell(described)

    # ------------------------------------------------------------ reading

    def _read(self, message: ReadBatches) -> None:
        try:
            read = self._read_log(message)
        except OutOfRangeError as error:
            self._refuse_out_of_range(message, error)
        except DamagedLogError as error:
            self._on_damage(message, error)
        except StorageBusyError as error:
            self._refuse_read(message, ReadProblem.BUSY, str(error))
        else:
            message.reply_to.tell(BatchesRead(message.request_id, read.batches, read.next))

    def _read_log(self, message: ReadBatches) -> Read:
        """Raises OutOfRangeError, DamagedLogError, StorageBusyError."""
        if message.index is not None:
            return self.log.read_from_index(message.index, message.max_bytes, message.until)
        assert message.offset is not None, "a read is by index or by offset"
        return self.log.read_from_offset(message.offset, message.max_bytes, message.until)

    def _on_damage(self, message: ReadBatches, error: DamagedLogError) -> None:
        """Have repaired what a read met, which may follow from damage further up in the file."""
        try:
            damage = self.log.damage_at(error.index)
            if damage is not None:
                self._damaged.meet(message, damage)
                return
            read = self._read_log(message)
        except DamagedLogError as again:
            self._refuse_read(message, ReadProblem.DAMAGED, str(again))
        except StorageBusyError as busy:
            self._refuse_read(message, ReadProblem.BUSY, str(busy))
        else:
            message.reply_to.tell(BatchesRead(message.request_id, read.batches, read.next))

    def _refuse_out_of_range(self, message: ReadBatches, error: OutOfRangeError) -> None:
        """Say what there is for this reader: what is at or above `until` is not for everybody to know of."""
        start, end = self.log.start, self.log.end
        if message.offset is not None:
            end = max(start, Position(min(message.until, end.index), Offset(error.end)))
        refused = ReadRefused(message.request_id, ReadProblem.OUT_OF_RANGE, str(error), start, end)
        message.reply_to.tell(refused)

    def _refuse_read(self, message: ReadBatches, problem: ReadProblem, detail: str) -> None:
        message.reply_to.tell(ReadRefused(message.request_id, problem, detail))

    def _repair(self, message: RepairBatch) -> None:
        index, source_id = message.index, message.source_id
        try:
            repaired = self.log.repair(index, message.batch)
        except UnfitBatchError as error:
            message.reply_to.tell(RepairRejected(index, source_id, str(error)))
            return
        except DamagedLogError as error:
            self._damaged.find(error)
            message.reply_to.tell(RepairRejected(index, source_id, error.where, is_too_early=True))
            return
        except OutOfRangeError:
            repaired = None
        if repaired is not None:
            self._damaged.mend(index, source_id, repaired.path, repaired.position_bytes)
        self._damaged.forget(index)
        message.reply_to.tell(BatchRepaired(index, source_id))

    def _scrub(self) -> None:
        try:
            scrubbed = self.log.scrub(STEP_BYTES)
        except StorageBusyError:
            self._scrubber.put_off()
            return
        for damage in scrubbed.damages:
            self._damaged.find(damage)
        for text in scrubbed.rebuilt:
            self._damaged.note_rebuilt(text)
        for text in scrubbed.lost:
            self._damaged.note_lost(text)
        self._scrubber.go_on(self.log, scrubbed)

    # ------------------------------------------------------------ retention

    def _retain(self) -> None:
        # Nobody may be told of a start beyond the end that they know.
        self._settle()
        log = self.log
        was_held_back = log.held_back_bytes > 0
        # With nobody elected all that is on disk is committed, and what is not synced is in the last segment.
        until = log.committed.index if self.config.election.elects else None
        try:
            has_removed = log.retain(self.ports.clock.wall_ms(), until)
        except StorageBusyError:
            has_removed = False  # next time
        if has_removed:
            self._damaged.look_again(log)
            moved = LogStartMoved(log.start, log.voters_before_start, log.producers_before_start)
            self.replicator.tell(moved)
            self.server.tell(moved)
        if log.held_back_bytes and not was_held_back:
            text = (
                f"retention keeps {log.held_back_bytes} bytes beyond its limits: they are not known to be committed "
                f"(the commit position is {log.committed.index})"
            )
            self._warn(WarningKind.RETENTION_HELD_BACK, text)
        self.ports.timers.after(self.config.retention_check_s, self.me, RetentionDue())


def _control_batch(entry: ControlEntry) -> NewBatch:
    return NewBatch(encode_control(entry), record_count=0, kind=Kind.CONTROL)


def _nobody_waits() -> None:
    """What follows from the entry, LogAppended tells."""


def _failure_kind(error: Exception) -> FailureKind:
    match error:
        case DamagedLogError() | DamagedFileError():
            return FailureKind.DAMAGED
        case DirectoryLockedError() | WrongIdentityError():
            return FailureKind.WRONG_DIRECTORY
        case StorageFullError():
            return FailureKind.DISK_FULL
        case _:
            return FailureKind.STORAGE_FAILED


def _check_run(batches: list[Batch], message: AppendPulled) -> None:
    """Raises CorruptBatchError unless the batches are consecutive from first_index on, and were made by nodes."""
    if message.source_epoch >= LIMIT:
        raise ImpossibleBatchError(f"{message.source_id} claims the log epoch {message.source_epoch}")
    for at, batch in enumerate(batches):
        if batch.index != message.first_index + at:
            raise CorruptBatchError(f"entry {message.first_index + at} was expected, and entry {batch.index} came")
        for node in batch.path:
            if not NODE_ID.fullmatch(node):
                raise ImpossibleBatchError(f"entry {batch.index} names {node!r} in its path, which is no node's id")

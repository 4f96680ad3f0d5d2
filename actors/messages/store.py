"""The mailbox of the store: appends, cuts, reads and ballots, and how each is answered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.repair import DamagedReadsExpired, RepairAbandoned, RepairBatch
from ourolog.actors.messages.status import ReportStatus
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import EncodedBatch, NewBatch
from ourolog.storage.control import ControlEntry, VoterSet
from ourolog.storage.founding import Founding
from ourolog.storage.producers import ProducerProblem
from ourolog.storage.superseded import Superseded
from ourolog.storage.terms import LastEntry, Place, TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term


@dataclass(frozen=True, slots=True)
class OpenLog:
    """Node wiring -> Store, once all actors are in place: open the log and announce LogOpened."""


@dataclass(frozen=True, slots=True)
class AppendBatch:
    """Server -> Store: append what was produced here.

    Answered by BatchAppended once it is on disk, or AppendRefused. `term` is the sender's;
    the store refuses one that is not its ballot's, so a deposed leader cannot append. A batch that a producer
    numbered is judged by what the log remembers of that producer, in the order of the appends; one that is there
    already is not appended again.
    """

    request_id: int
    batch: NewBatch
    term: Term
    reply_to: Mailbox[BatchAppended | AppendRefused]


@dataclass(frozen=True, slots=True)
class AppendControl:
    """Election -> Store: append a control entry about the cluster.

    Answered like AppendBatch, once it is on disk. CommitAdvanced tells that it is committed; LogCut, that it was cut.

    request_id: comes back in the answer.
    entry: what the control batch says.
    term: the sender's; the store refuses any other than its ballot's.
    reply_to: where the answer goes.
    """

    request_id: int
    entry: ControlEntry
    term: Term
    reply_to: Mailbox[BatchAppended | AppendRefused]


@dataclass(frozen=True, slots=True)
class BeginTerm:
    """Election -> Store: this node leads in that term; append the entry that begins it, before anything else of it.

    The entry is a LeaderStarted, so that entries of earlier terms can be committed (Raft section 8). There is no
    answer: LogAppended says that it is on disk, and if another term has begun nothing is appended.

    term: the term; the store does nothing if it is not its ballot's.
    voters: whose disks count for a quorum.
    granted_by: who voted for this node; () if nobody had to.
    """

    term: Term
    voters: tuple[NodeId, ...]
    granted_by: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchAppended:
    """Store -> the sender of the append: the batch is on disk.

    request_id: that of the append.
    base_offset: the offset of its first record.
    index: the place of its entry.
    term: the term in which the entry was made.
    end: the position after it.
    is_duplicate: whether nothing was appended, since a producer had sent the batch before; all the rest is about the
        entry that stands in the log since then, which may still be uncommitted.
    """

    request_id: int
    base_offset: Offset
    index: Index
    term: Term
    end: Position
    is_duplicate: bool = False


@dataclass(frozen=True, slots=True)
class BatchesGathered:
    """Store -> Replicator, where voters elect, before a group commit of what this node appends as a leader.

    These batches are about to be written. Followers may have them before this node's disk does (Raft dissertation
    section 10.2.1); LogAppended says when it has. After a crash in between this node may lack what others have, so it
    leads no more in that term. Where a person decreed who leads, nothing is told: a voter that is ahead of the one
    leader that there can be would keep it from leading.

    term: in which this node appends them.
    batches: as they will stand on disk; the bytes are those that are written, not copies.
    end: the position after the last of them.
    terms: the terms of the whole log up to there.
    """

    term: Term
    batches: tuple[EncodedBatch, ...]
    end: Position
    terms: TermHistory

    @property
    def first(self) -> Index:
        """The index of the first of them."""
        return Index(self.end.index - len(self.batches))


@dataclass(frozen=True, slots=True)
class AppendRefused:
    """Store -> the sender of the append: nothing was appended.

    request_id: that of the append.
    term: the store's present term.
    reason: why, as a sentence for a person.
    problem: what is wrong with a batch that a producer numbered; None if the append's term is over.
    """

    request_id: int
    term: Term
    reason: str
    problem: ProducerProblem | None = None


@dataclass(frozen=True, slots=True)
class AppendPulled:
    """Replicator -> Store, nobody elected: append copies of another node's batches to this node's own log.

    source_id: the node that they were pulled from.
    source_epoch: the epoch of its log.
    first_index: the index of the first of them there.
    batches: encoded batches as they stand in that log.
    """

    source_id: NodeId
    source_epoch: int
    first_index: Index
    batches: bytes
    reply_to: Mailbox[PulledAppended | PullRejected]


@dataclass(frozen=True, slots=True)
class PulledAppended:
    """Store -> Replicator: the pulled batches are on disk, or were dropped for a reason.

    source_id: the node that they were pulled from.
    source_epoch: the epoch of its log.
    next_index, next_offset: where the pull goes on, in the source's log.
    appended: how many batches were appended here.
    duplicates: how many were dropped because their identity was already here.
    expired: how many were dropped at the hop limit.
    cycles: the path of each batch that had been here before, this node last; at most 64 of them.
    cycle_count: how many such batches there were.
    """

    source_id: NodeId
    source_epoch: int
    next_index: Index
    next_offset: Offset | None
    appended: int
    duplicates: int
    expired: int
    cycles: tuple[tuple[NodeId, ...], ...]
    cycle_count: int


@dataclass(frozen=True, slots=True)
class PullRejected:
    """Store -> Replicator: what was pulled is not a run of valid batches; nothing was appended."""

    source_id: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class AppendFetched:
    """Replicator -> Store, a leader elected: append the leader's batches as they are.

    leader_id: the node that they were fetched from.
    term: the leader's; refused when the ballot has moved on.
    batches: encoded batches as they stand in the leader's log.
    expected: the leader's log has entries below this index, or will have them soon. If the batches do not reach there,
        FetchedTaken says when they are taken.
    """

    leader_id: NodeId
    term: Term
    batches: bytes
    reply_to: Mailbox[FetchedTaken | FetchedAppended | FetchedRejected]
    expected: Index = Index(0)


@dataclass(frozen=True, slots=True)
class FetchedTaken:
    """Store -> Replicator: the fetched batches continue the log and will be written; they are not on disk yet.

    What comes after them can be fetched meanwhile. FetchedAppended follows.

    leader_id: the node that they were fetched from.
    term: the leader's.
    end: where the log ends with them.
    last: the place of the last of them.
    """

    leader_id: NodeId
    term: Term
    end: Position
    last: Place | None


@dataclass(frozen=True, slots=True)
class FetchedAppended:
    """Store -> Replicator: the fetched batches are on disk."""

    leader_id: NodeId
    term: Term
    end: Position


@dataclass(frozen=True, slots=True)
class FetchedRejected:
    """Store -> Replicator: the batches do not continue the log or are damaged; nothing was appended."""

    leader_id: NodeId
    term: Term
    reason: str


@dataclass(frozen=True, slots=True)
class TruncateLog:
    """Replicator -> Store: drop every entry at `index` and above; these were never committed."""

    index: Index
    term: Term
    reply_to: Mailbox[LogTruncated]


@dataclass(frozen=True, slots=True)
class ResetLog:
    """Replicator -> Store: nothing here can be kept; begin again at `start`, where the leader's log begins.

    start: where the leader's log begins.
    before: the place of the entry before it there, None if the leader does not know.
    voters: the voter set in force there, None if there is none.
    term: the leader's.
    reply_to: where the answer goes.
    producers: what is remembered of producers there, see `ourolog.storage.producers`; b"" if nothing is.
    """

    start: Position
    before: Place | None
    voters: VoterSet | None
    term: Term
    reply_to: Mailbox[LogTruncated]
    producers: bytes = b""


@dataclass(frozen=True, slots=True)
class LogTruncated:
    """Store -> Replicator: the log was cut or begun anew, and that is on disk.

    start: where it begins now.
    end: where it ends now.
    terms: the terms of the whole log.
    voters_before_start: the voter set in force where it begins, None if there is none.
    producers_before_start: what is remembered of producers there; b"" if nothing is.
    """

    start: Position
    end: Position
    terms: TermHistory
    voters_before_start: VoterSet | None = None
    producers_before_start: bytes = b""


@dataclass(frozen=True, slots=True)
class ReadBatches:
    """Server or Replicator -> Store: read whole batches from `index`, or those with `offset`.

    Exactly one of index and offset is given. Never reads at or above `until`. At least one
    batch is answered when there is one, however large; more up to max_bytes. `repair_wait_s` is how long the
    read may wait, in seconds, while damage that it met is repaired.
    """

    request_id: int
    max_bytes: int
    until: Index
    reply_to: Mailbox[BatchesRead | ReadRefused]
    index: Index | None = None
    offset: Offset | None = None
    repair_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchesRead:
    """Store -> `reply_to` of ReadBatches: what was read.

    batches: encoded batches, back to back.
    next: the position after the last of them.
    """

    request_id: int
    batches: bytes
    next: Position


class ReadProblem(StrEnum):
    """Why a read was refused.

    OUT_OF_RANGE: what was asked for lies outside of the readable range.
    DAMAGED: the log is damaged there, and nobody can repair it.
    REPAIRING: the log is damaged there, and other replicas are asked for what it should hold.
    BUSY: no file descriptor or no memory was available; trying again helps.
    """

    OUT_OF_RANGE = "out of range"
    DAMAGED = "damaged"
    REPAIRING = "repairing"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class ReadRefused:
    """Store -> `reply_to` of ReadBatches: nothing could be read.

    problem: why, for a program.
    detail: why, as a sentence for a person.
    first, end: with OUT_OF_RANGE what there is to be read below `until`, `end` exclusive.
    """

    request_id: int
    problem: ReadProblem
    detail: str
    first: Position = START
    end: Position = START


@dataclass(frozen=True, slots=True)
class SaveBallot:
    """Election -> Store: put the ballot on disk, then answer with BallotSaved. Nothing is promised before that.

    With a candidate the save is conditional, and one step: only the store knows ballot and end of the log
    at once. It puts all that was appended on disk, compares the candidate's last entry with its own as
    it is then, and saves the vote or refuses it. Judging by a remembered end could elect a leader that
    lacks what was acknowledged since (Raft section 5.4.1).

    A vote is never taken back: no second one is granted in a term, whoever asks, and none for another
    than the leader that the ballot names. Afterwards the store refuses appends, cuts and resets of
    every other term.

    request_id: comes back in the answer.
    ballot: what to save. With a candidate, it holds the term it asks in and its name as `voted_for`.
    candidate: the last entry of the candidate that asks for this vote; None for what this node saves
        of its own accord (a term that it heard of, who leads, its vote for itself). A term below the
        present one is then a bug; a candidate may ask in one, and is refused.
    """

    request_id: int
    ballot: Ballot
    reply_to: Mailbox[BallotSaved]
    candidate: LastEntry | None = None


@dataclass(frozen=True, slots=True)
class BallotSaved:
    """Store -> Election: the answer to SaveBallot, and how the log ends as long as that ballot holds.

    Nothing is appended or cut until the next ballot, unless in the ballot's own term.

    request_id: that of the question.
    ballot: the one on disk now. If a candidate was refused: a ballot of the term it asked in, without a vote, if
        that was later; otherwise the ballot as it was before.
    granted: whether what was asked for is what was saved.
    end: where the log ends, all of it on disk.
    last: the place of its last entry, None for a log that knows of none.
    voters: the last voter set in the log, None if there is none.
    """

    request_id: int
    ballot: Ballot
    granted: bool
    end: Position
    last: Place | None
    voters: VoterSet | None


@dataclass(frozen=True, slots=True)
class SaveFounding:
    """Election -> Store: put the founding promise on disk, then answer with FoundingSaved.

    A disk makes one promise and never a second: if there is one already it stays, whatever it says.

    request_id: comes back in the answer.
    founding: the promise.
    """

    request_id: int
    founding: Founding
    reply_to: Mailbox[FoundingSaved]


@dataclass(frozen=True, slots=True)
class FoundingSaved:
    """Store -> Election: the answer to SaveFounding.

    request_id: that of the question.
    founding: the promise that is on disk, which may be an earlier one.
    """

    request_id: int
    founding: Founding


@dataclass(frozen=True, slots=True)
class SaveSuperseded:
    """Election -> Store: put on disk that a later generation of the cluster has taken over. Nobody waits for it.

    superseded: that generation.
    """

    superseded: Superseded


@dataclass(frozen=True, slots=True)
class DescribeLog:
    """Election -> Store: put all that was appended on disk, then report ballot and log as they are.

    request_id: comes back in the answer, LogDescribed.
    """

    request_id: int
    reply_to: Mailbox[LogDescribed]


@dataclass(frozen=True, slots=True)
class LogDescribed:
    """Store -> the sender of DescribeLog: ballot and log as they are.

    request_id: that of the question.
    ballot: the one on disk.
    start: where the log begins.
    end: where it ends, all of it on disk.
    last: the place of its last entry, None for a log that knows of none.
    committed: a lower bound of what is committed, as noted last.
    voters: the last voter set in the log, None if there is none.
    """

    request_id: int
    ballot: Ballot
    start: Position
    end: Position
    last: Place | None
    committed: Position
    voters: VoterSet | None


@dataclass(frozen=True, slots=True)
class NoteCommitted:
    """Replicator -> Store: a lower bound of the commit position, to be kept for the next start, without haste."""

    committed: Position


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """Store -> Election: the disk cannot be written any more; the store handles nothing from now on, the node stops.

    A leader can still ask another voter to take over, if it does so at once. Not told where the log was never opened.

    reason: what has failed, a sentence for a person.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class FlushAppends:
    """Store -> itself: write and sync everything that was gathered since the first append."""


@dataclass(frozen=True, slots=True)
class FsyncDue:
    """Timer -> Store, with `--fsync interval`: sync what was written since the last time."""


@dataclass(frozen=True, slots=True)
class ScrubDue:
    """Timer -> Store: read and check the next part of the log."""


@dataclass(frozen=True, slots=True)
class RetentionDue:
    """Timer -> Store: remove segments that are past their age or size."""


StoreMessage = (
    OpenLog
    | AppendBatch
    | AppendControl
    | AppendPulled
    | AppendFetched
    | TruncateLog
    | ResetLog
    | ReadBatches
    | BeginTerm
    | SaveBallot
    | SaveFounding
    | SaveSuperseded
    | DescribeLog
    | NoteCommitted
    | RepairBatch
    | RepairAbandoned
    | DamagedReadsExpired
    | FlushAppends
    | FsyncDue
    | RetentionDue
    | ScrubDue
    | ReportStatus
)

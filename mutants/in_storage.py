"""Bugs in the log on disk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ourolog.storage.identity
import ourolog.storage.log
import ourolog.storage.recovery
from mutants.mutant import BREAK, BUSY, ELECTED, EVERY, LATE, ORACLE, PEERS, STATIC, doing_nothing, mutant, wrap
from ourolog.actors.messages.store import BallotSaved, SaveBallot
from ourolog.actors.store import StoreActor
from ourolog.storage.ballot import Ballot
from ourolog.storage.identity import DataDirectory, Identity
from ourolog.storage.log import Log
from ourolog.storage.origins import IdentityRanges, PullPositions
from ourolog.storage.reader import LogReader, _Wanted
from ourolog.storage.segment import Segment
from ourolog.storage.state import LogState
from ourolog.storage.terms import LastEntry, TermHistory
from ourolog.storage.types import Index, Position
from ourolog.storage.voter_history import VoterHistory
from ourolog.storage.writer import SegmentWriter


@mutant("Segments are never synced.", EVERY)
def skip_fsync() -> None:
    def sync(self: Segment) -> None:
        self.synced_bytes = self.size_bytes

    wrap(Segment, "sync", lambda _: sync)


@mutant("A segment is sealed without being synced.", EVERY)
def skip_fsync_at_roll() -> None:
    def make(original: Any) -> Any:
        def seal(self: Segment, files: Any) -> None:
            with doing_nothing(type(self.file), "sync"):
                original(self, files)

        return seal

    wrap(Segment, "seal", make)


@mutant("The file of a segment that is sealed is never closed.", BUSY)
def segment_left_open() -> None:
    def close(self: Segment) -> None:
        self.file = self.index = None

    wrap(Segment, "close", lambda _: close)


@mutant("The directory is not synced when a segment is made.", EVERY)
def skip_directory_sync_at_roll() -> None:
    def make(original: Any) -> Any:
        def create(self: Segment, files: Any) -> None:
            with doing_nothing(type(files), "sync_directory"):
                original(self, files)

        return create

    wrap(Segment, "create", make)


@mutant("A failed fsync is taken for a good one.", EVERY)
def ignore_failed_fsync() -> None:
    def make(original: Any) -> Any:
        def sync(self: Segment) -> None:
            try:
                original(self)
            except OSError:
                self.synced_bytes = self.size_bytes

        return sync

    wrap(Segment, "sync", make)


@mutant("A write that failed half way is taken for a whole one.", EVERY)
def ignore_failed_write() -> None:
    def make(original: Any) -> Any:
        def write(self: SegmentWriter) -> int:
            try:
                return int(original(self))
            except OSError:
                return 0

        return write

    wrap(SegmentWriter, "write", make)


@mutant("A new segment is named after the index behind its first batch.", EVERY)
def roll_off_by_one() -> None:
    def make(original: Any) -> Any:
        def roll(self: SegmentWriter, base: Position, state: Any, committed: Any) -> None:
            original(self, Position(Index(base.index + 1), base.offset), state, committed)

        return roll

    wrap(SegmentWriter, "roll", make)


@mutant("A roll forgets what was gathered for the old segment and not written yet.", BUSY)
def roll_loses_gathered() -> None:
    def make(original: Any) -> Any:
        def roll(self: SegmentWriter, *arguments: Any) -> None:
            if self._runs:
                self._runs[-1].parts.clear()
            original(self, *arguments)

        return roll

    wrap(SegmentWriter, "roll", make)


@mutant("Recovery leaves the torn tail in the file and goes on behind it.", EVERY)
def keep_torn_tail() -> None:
    def make(original: Any) -> Any:
        def cut(replayed: Any, *rest: Any) -> None:
            file = replayed.segment.file
            with doing_nothing(type(file), "truncate"):
                original(replayed, *rest)

        return cut

    wrap(ourolog.storage.recovery, "_cut_torn_tail", make)


@mutant("Recovery cuts off the last good batch too.", EVERY)
def cut_good_batch() -> None:
    def make(original: Any) -> Any:
        def open_log(*arguments: Any, **named: Any) -> Log:
            log: Log = original(*arguments, **named)
            if log.end.index > log.start.index:
                log.truncate(Index(log.end.index - 1))
            return log

        return open_log

    wrap(Log, "open", make)


@mutant("Frames say that everything before them was on disk, whether it was or not.", BUSY)
def claim_too_much_synced() -> None:
    wrap(SegmentWriter, "synced_bytes", lambda _: property(lambda self: self._tail_bytes))


@mutant("Pull positions are forgotten with the process.", PEERS)
def forget_pull_position() -> None:
    wrap(PullPositions, "appended", lambda _: lambda *_: None)


@mutant("A pull goes on one entry too far.", PEERS)
def skip_after_restart() -> None:
    def make(original: Any) -> Any:
        def appended(self: PullPositions, source: Any, epoch: int, index: int) -> None:
            original(self, source, epoch, index + 1)

        return appended

    wrap(PullPositions, "appended", make)


@mutant("Copies of what is there already are not recognised.", (BREAK,))
def drop_identity_check() -> None:
    wrap(IdentityRanges, "contains", lambda _: lambda *_: False)


@mutant("The newest batch of each origin is not recognised when it comes again.", (BREAK,))
def identity_off_by_one() -> None:
    def make(original: Any) -> Any:
        def contains(self: IdentityRanges, origin: Any, epoch: int, sequence: int) -> bool:
            return bool(original(self, origin, epoch, sequence)) and sequence + 1 < self.next_sequence(origin, epoch)

        return contains

    wrap(IdentityRanges, "contains", make)


@mutant("A node begins to number its batches anew when it starts.", PEERS)
def forget_own_sequence() -> None:
    def make(original: Any) -> Any:
        def open_log(*arguments: Any, **named: Any) -> Log:
            log: Log = original(*arguments, **named)
            state = log._state
            for key in [key for key in state.identities._ranges if key[0] == log.node_id]:
                del state.identities._ranges[key]
            return log

        return open_log

    wrap(Log, "open", make)


@mutant("Every log of a node has the same epoch, a new one on a new disk too.", (BREAK,))
def reuse_epoch() -> None:
    def make(original: Any) -> Any:
        def identify(files: Any, path: str, claimed: Identity) -> Identity:
            found: Identity = original(files, path, replace(claimed, log_epoch=1_700_000_000_000))
            return found

        return identify

    wrap(ourolog.storage.identity, "_identify", make)


@mutant("A copy does not get the copying node added to its path.", PEERS)
def path_not_extended() -> None:
    def make(original: Any) -> Any:
        def without_path(batch: Any, **changes: Any) -> Any:
            if "source_index" in changes:
                changes["path"] = batch.path
            return original(batch, **changes)

        return without_path

    wrap(ourolog.storage.log, "replace", make)


@mutant("A copy counts as a batch of the copying node's own log.", PEERS)
def copy_loses_origin_epoch() -> None:
    def make(original: Any) -> Any:
        def with_other_epoch(batch: Any, **changes: Any) -> Any:
            if "source_index" in changes:
                changes["origin_epoch"] = batch.origin_epoch + 1
            return original(batch, **changes)

        return with_other_epoch

    wrap(ourolog.storage.log, "replace", make)


@mutant("The ballot is only remembered, not written.", (STATIC,))
def ballot_not_written() -> None:
    def save_ballot(self: DataDirectory, ballot: Ballot) -> None:
        self.ballot = ballot

    wrap(DataDirectory, "save_ballot", lambda _: save_ballot)


@mutant("A read by offset begins one batch too late.", EVERY)
def read_skips_batch() -> None:
    def is_below(self: _Wanted, head: Any) -> bool:
        if self.index is not None:
            return bool(head.index < self.index)
        assert self.offset is not None
        return bool(head.end_offset <= self.offset + 1)

    wrap(_Wanted, "is_below", lambda _: is_below)


@mutant("A read does not stop at the commit position but at the end of what is written.", (STATIC,))
def read_past_limit() -> None:
    def make(original: Any) -> Any:
        def read(self: LogReader, offset: Any, max_bytes: int, _: Any, end: Any, *rest: Any) -> Any:
            return original(self, offset, max_bytes, end.index, end, *rest)

        return read

    wrap(LogReader, "read_from_offset", make)


@mutant("After a restart the terms of the log are forgotten.", (STATIC,))
def forget_terms() -> None:
    def make(original: Any) -> Any:
        def open_log(*arguments: Any, **named: Any) -> Log:
            log: Log = original(*arguments, **named)
            state: LogState = log._state
            state.terms = TermHistory()
            return log

        return open_log

    wrap(Log, "open", make)


SYNCS_FAIL = tuple(f"{mode} --faults fsync_fails,kill,power_loss" for mode in (BREAK, STATIC, ORACLE))


@mutant(
    "What was found in the page cache is synced and believed, although a sync of it may have failed before.", SYNCS_FAIL
)
def sync_and_believe() -> None:
    wrap(Segment, "rewrite", lambda _: lambda *_: None)


@mutant("A truncation is not synced.", (ORACLE,))
def truncation_not_synced() -> None:
    def make(original: Any) -> Any:
        def cut(files: Any, segments: Any, cut_at: Any, interval_bytes: int) -> None:
            with doing_nothing(Segment, "sync"):
                original(files, segments, cut_at, interval_bytes)

        return cut

    wrap(ourolog.storage.log, "cut_segments", make)


@mutant("A truncation leaves the checkpoint as it is.", (ORACLE,))
def truncation_keeps_checkpoint() -> None:
    def make(original: Any) -> Any:
        def truncate(self: Log, index: Index) -> None:
            with doing_nothing(type(self._files), "replace"):
                original(self, index)

        return truncate

    wrap(Log, "truncate", make)


@mutant("Retention does not look at what is committed.", BUSY[1:])
def retention_ignores_commit() -> None:
    wrap(ourolog.storage.log, "committed_part", lambda _: lambda _segments, expired, _until: expired)


@mutant("Retention leaves half of what it is told to.", ELECTED)
def retention_leaves_half() -> None:
    def make(original: Any) -> Any:
        def expired(segments: Any, cache: Any, now_ms: int, kept_bytes: int | None, kept_ms: int | None) -> Any:
            return original(segments, cache, now_ms, kept_bytes and kept_bytes // 2, kept_ms)

        return expired

    wrap(ourolog.storage.log, "expired_segments", make)


@mutant("A ballot that is found when a node starts is relied on as it is.", (f"{ORACLE} --faults fsync_fails",))
def believe_ballot() -> None:
    wrap(ourolog.storage.identity, "_rename_again", lambda _: lambda *_: None)


@mutant("A batch that comes later than others of its origin is not remembered.", LATE)
def forget_late_identity() -> None:
    wrap(IdentityRanges, "_insert", lambda _: staticmethod(lambda *_: None))


@mutant("A vote is judged by where the log ended when the node was last asked for one.", (ORACLE,))
def vote_by_remembered_end() -> None:
    def make(original: Any) -> Any:
        def may_vote(self: StoreActor, asked: Ballot, candidates: LastEntry, own: LastEntry) -> Any:
            before = getattr(self, "_before", own)
            self._before = own  # type: ignore[attr-defined]
            return original(self, asked, candidates, before)

        return may_vote

    wrap(StoreActor, "_may_vote", make)


@mutant("A vote is judged by the length of the log alone, whatever the term of its last entry.", (ORACLE,))
def vote_by_length() -> None:
    def make(original: Any) -> Any:
        def may_vote(self: StoreActor, asked: Ballot, candidates: LastEntry, own: LastEntry) -> Any:
            return original(self, asked, candidates._replace(term=own.term), own)

        return may_vote

    wrap(StoreActor, "_may_vote", make)


@mutant("A node votes for whoever asks, also twice in a term.", (ORACLE,))
def second_vote_in_a_term() -> None:
    def make(_: Any) -> Any:
        def may_vote(self: StoreActor, asked: Ballot, candidates: LastEntry, own: LastEntry) -> bool:
            return asked.term >= self._ballot.term and candidates >= own

        return may_vote

    wrap(StoreActor, "_may_vote", make)


@mutant("A candidate whose log is as long as the voter's is refused.", (ORACLE,))
def vote_refused_to_an_equal() -> None:
    def make(original: Any) -> Any:
        def may_vote(self: StoreActor, asked: Ballot, candidates: LastEntry, own: LastEntry) -> Any:
            return candidates > own and original(self, asked, candidates, own)

        return may_vote

    wrap(StoreActor, "_may_vote", make)


@mutant("Retention loses the voters that the log named before its start.", (ORACLE,))
def retention_loses_voters() -> None:
    def make(_: Any) -> Any:
        def since(self: VoterHistory, start: Index) -> VoterHistory:
            return VoterHistory(tuple(voters for voters in self.sets if voters.index >= start))

        return since

    wrap(VoterHistory, "since", make)


@mutant("A truncation keeps the voters whose entry it cuts.", (ORACLE,))
def truncation_keeps_voters() -> None:
    def make(original: Any) -> Any:
        def truncate(self: Log, index: Index) -> None:
            voters = self._state.voters
            original(self, index)
            self._state.voters = voters

        return truncate

    wrap(Log, "truncate", make)


@mutant("A log that begins anew forgets the voters in force at its start.", (ORACLE,))
def reset_forgets_voters() -> None:
    def make(original: Any) -> Any:
        def reset(self: Log, start: Position, before: Any = None, _: Any = None) -> None:
            original(self, start, before, None)

        return reset

    wrap(Log, "reset", make)


@mutant("A checkpoint does not keep the voters.", (ORACLE,))
def checkpoint_forgets_voters() -> None:
    wrap(VoterHistory, "encode", lambda _: lambda _: [])


@mutant("A node votes against the leader of the term that it knows.", (ORACLE,))
def vote_against_the_leader() -> None:
    def make(original: Any) -> Any:
        def may_vote(self: StoreActor, asked: Ballot, candidates: LastEntry, own: LastEntry) -> Any:
            present = self._ballot
            self._ballot = replace(present, leader_id=None, voted_for=None)
            try:
                return original(self, asked, candidates, own)
            finally:
                self._ballot = present

        return may_vote

    wrap(StoreActor, "_may_vote", make)


@mutant("A node that refuses its vote stays in the term that it was in.", (ORACLE,))
def refusal_keeps_the_term() -> None:
    def make(original: Any) -> Any:
        def save_ballot(self: StoreActor, message: SaveBallot) -> None:
            last = self.log.terms.last_place
            own = LastEntry.of(last, self.log.appended_end.index)
            if message.candidate is None or self._may_vote(message.ballot, message.candidate, own):
                original(self, message)
                return
            saved = BallotSaved(message.request_id, self._ballot, False, self.log.end, last, self.log.voters)
            message.reply_to.tell(saved)

        return save_ballot

    wrap(StoreActor, "_save_ballot", make)

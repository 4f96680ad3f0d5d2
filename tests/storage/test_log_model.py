"""Any sequence of what can be done to a log, against a list that has the same done to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ourolog.storage.batch import Batch, Codec, Kind, NewBatch, decode_batch, encode_batch, scan
from ourolog.storage.control import Voter, VoterSet, VotersSet, decode_control, encode_control
from ourolog.storage.errors import DiscontinuousBatchError, OutOfRangeError
from ourolog.storage.log import Log, LogConfig
from ourolog.storage.terms import TermHistory, place_of
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term
from tests.disks import empty_disk

DIRECTORY = "/data/log"
N1, N2, EPOCH = NodeId("n1"), NodeId("n2"), 7
CONFIG = LogConfig(
    segment_bytes=600,
    index_interval_bytes=200,
    checkpoint_interval_bytes=900,
    retention_bytes=900,
    retention_ms=20,
)
KINDS = st.sampled_from(Kind)
COUNTS = st.integers(1, 4)
SIZES = st.sampled_from([0, 5, 30, 200, 700])


@dataclass
class Model:
    """entries: all from start on, of which `written` and `synced` ones count from start.

    voters_before_start: the set that the entries below start left in force.
    """

    start: Position = START
    voters_before_start: VoterSet | None = None
    entries: tuple[Batch, ...] = ()
    written: int = 0
    synced: int = 0

    def end(self, count: int) -> Position:
        if count == 0:
            return self.start
        last = self.entries[count - 1]
        return Position(Index(last.index + 1), last.end_offset)


class LogMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.files = empty_disk()
        self.files.make_directory(DIRECTORY)
        self.model = Model()
        self.now_ms = 0
        self.sequence = 0
        self.source_index = 0
        self.cursors: dict[str, int] = {}
        self.open()

    def open(self) -> None:
        self.log = Log.open(self.files, DIRECTORY, N1, EPOCH, CONFIG)

    # ------------------------------------------------------------ appending

    @property
    def appended_end(self) -> Position:
        return self.model.end(len(self.model.entries))

    @property
    def last_term(self) -> Term:
        return self.log.terms.last_term

    def place(self, kind: Kind, count: int, size: int, term: Term, **fields: object) -> Batch:
        end = self.appended_end
        self.now_ms += 1
        payload = b"%d " % self.now_ms + b"." * size if kind is Kind.DATA else self.control(size)
        batch = Batch(
            index=end.index,
            term=term,
            base_offset=end.offset,
            record_count=count,
            timestamp_ms=self.now_ms,
            kind=kind,
            codec=Codec.NONE,
            path=(N1,),
            origin_epoch=EPOCH,
            origin_sequence=0,
            payload=payload,
        )
        return replace(batch, **fields)  # type: ignore[arg-type]

    def control(self, size: int) -> bytes:
        """Voters as often as not, and what only a newer software knows."""
        if size in (0, 30):
            return encode_control(VotersSet((Voter(N2, self.now_ms, "h:1", "h:2"),)))
        return b'{"text":"%s","type":"newer","version":1}' % (b"." * size)

    @rule(kind=KINDS, count=COUNTS, size=SIZES, grows=st.booleans())
    def append_new(self, kind: Kind, count: int, size: int, grows: bool) -> None:
        last = self.log.terms.last_place
        # A term that another node wrote is not this one's to go on with.
        grows = grows or (last is not None and last.writer[0] != N1)
        batch = self.place(kind, count, size, Term(self.last_term + grows))
        placed = self.log.append_new(NewBatch(batch.payload, count, kind), batch.term, self.now_ms)
        sequence = self.log._state.next_own_sequence(EPOCH) - 1
        assert sequence >= self.sequence, "an own sequence was given out twice"
        self.sequence = sequence + 1
        self.model.entries += (replace(batch, origin_sequence=sequence),)
        assert placed.end == self.appended_end == self.log.appended_end

    @precondition(lambda self: self.last_term == 0)
    @rule(kind=KINDS, count=COUNTS, size=SIZES, skipped=st.integers(0, 2))
    def append_copy(self, kind: Kind, count: int, size: int, skipped: int) -> None:
        self.source_index += skipped
        source = self.place(kind, count, size, Term(0), path=(N2,), origin_sequence=self.source_index)
        source = replace(source, index=Index(self.source_index), base_offset=Offset(900))
        self.log.append_copy(source, 55)
        end = self.appended_end
        self.model.entries += (
            replace(
                source,
                index=end.index,
                base_offset=end.offset,
                term=self.last_term,
                path=(N2, N1),
                source_epoch=55,
                source_index=self.source_index,
            ),
        )
        self.source_index += 1

    @rule(kinds=st.lists(KINDS, min_size=1, max_size=3), size=SIZES)
    def append_raw(self, kinds: list[Kind], size: int) -> None:
        before, blob = self.model.entries, b""
        for kind in kinds:
            batch = self.place(kind, 2, size, Term(self.last_term + 1), path=(N2,), origin_sequence=self.source_index)
            self.source_index += 1
            self.model.entries += (batch,)
            blob += encode_batch(batch, 99)
        ends = self.log.append_raw(blob, Term(self.last_term + 1))
        assert ends[-1] == self.appended_end
        assert len(ends) == len(self.model.entries) - len(before)

    @rule(ahead=st.integers(1, 3))
    def refuse_raw_with_a_gap(self, ahead: int) -> None:
        batch = self.place(Kind.DATA, 1, 1, self.last_term)
        with pytest.raises(DiscontinuousBatchError):
            self.log.append_raw(encode_batch(replace(batch, index=Index(batch.index + ahead))), self.last_term)

    # ------------------------------------------------------------ writing, removing, reopening

    @rule()
    def write(self) -> None:
        self.log.write()
        self.model.written = len(self.model.entries)
        self.model.synced = self.log.synced.index - self.model.start.index

    @rule()
    def commit(self) -> None:
        self.log.commit()
        self.model.written = self.model.synced = len(self.model.entries)

    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        start = self.model.start.index
        index = data.draw(st.integers(start, start + len(self.model.entries) + 1))
        self.log.truncate(Index(index))
        self.keep(index - start)

    def keep(self, count: int) -> None:
        self.model.entries = self.model.entries[:count]
        self.model.written = self.model.synced = len(self.model.entries)

    @rule(index=st.integers(0, 30), offset=st.integers(0, 30))
    def reset(self, index: int, offset: int) -> None:
        voters = VoterSet(Index(index - 1), Term(0), (Voter(N1, 9, "h:1", "h:2"),)) if index else None
        self.log.reset(Position(Index(index), Offset(offset)), voters=voters)
        self.model = Model(Position(Index(index), Offset(offset)), voters)

    @rule()
    def retain(self) -> None:
        start = self.model.start
        has_removed = self.log.retain(self.now_ms)
        assert has_removed == (self.log.start != start)
        assert self.log.start.index <= self.model.end(self.model.written).index
        gone = self.log.start.index - start.index
        self.model.voters_before_start = self.voters_after(self.model.entries[:gone])
        self.model.entries = self.model.entries[gone:]
        self.model.start = self.log.start
        self.model.written -= gone
        # Nothing else says whether it had to sync.
        self.model.synced = self.log.synced.index - self.log.start.index
        self.model.written = self.log.end.index - self.log.start.index

    @rule()
    def reopen(self) -> None:
        pulls, identities = self.log.pull_positions, self.log._state.encode()
        self.log.close()
        self.open()
        assert (self.log.pull_positions, self.log._state.encode()) == (pulls, identities)
        self.keep(len(self.model.entries))

    @rule()
    def be_killed(self) -> None:
        self.files = self.files.after_crash(keep_unsynced=True)
        self.open()
        self.keep(self.model.written)
        self.forget_lost_sequences()

    @rule(seed=st.integers(0, 10**6) | st.none())
    def lose_power(self, seed: int | None) -> None:
        synced = self.model.synced
        self.files = self.files.after_crash(keep_unsynced=False, chance=None if seed is None else Random(seed))
        self.open()
        kept = self.log.end.index - self.model.start.index
        assert synced <= kept <= self.model.written
        self.keep(kept)
        self.forget_lost_sequences()

    def forget_lost_sequences(self) -> None:
        """What was never acknowledged may be given out again."""
        self.sequence = self.log._state.next_own_sequence(EPOCH)
        own = [batch.origin_sequence for batch in self.model.entries if batch.path == (N1,)]
        assert self.sequence > max(own, default=-1)

    # ------------------------------------------------------------ reading

    @property
    def readable(self) -> tuple[Batch, ...]:
        return self.model.entries[: self.model.written]

    def check(self, got: bytes, following: Position, expected: list[Batch], max_bytes: int) -> None:
        """A whole run from the first expected batch on, no longer than allowed, at least one batch."""
        batches = [decode_batch(got, head) for head in scan(got)]
        assert batches == expected[: len(batches)]
        assert batches
        assert len(batches) == 1 or len(got) <= max_bytes
        assert following.index > batches[-1].index

    @precondition(lambda self: self.readable)
    @rule(data=st.data(), max_bytes=st.sampled_from([0, 300, 5000]))
    def read_index(self, data: st.DataObject, max_bytes: int) -> None:
        start = self.model.start.index
        at = data.draw(st.integers(0, len(self.readable) - 1))
        until = data.draw(st.integers(at + 1, len(self.readable) + 1))
        read = self.log.read_from_index(Index(start + at), max_bytes, Index(start + until))
        self.check(read.batches, read.next, list(self.readable[at:until]), max_bytes)
        assert read.next == self.model.end(read.next.index - start)

    @rule(data=st.data(), max_bytes=st.sampled_from([0, 300, 5000]))
    def read_offset(self, data: st.DataObject, max_bytes: int) -> None:
        start = self.model.start
        until = data.draw(st.integers(0, len(self.readable) + 1))
        end = self.model.end(min(until, len(self.readable)))
        offset = data.draw(st.integers(max(0, start.offset - 1), end.offset + 1))
        until_index = Index(start.index + until)
        if not start.offset <= offset < end.offset:
            with pytest.raises(OutOfRangeError) as caught:
                self.log.read_from_offset(Offset(offset), max_bytes, until_index)
            assert (caught.value.first, caught.value.end) == (start.offset, end.offset)
            return
        read = self.log.read_from_offset(Offset(offset), max_bytes, until_index)
        expected = [batch for batch in self.readable[:until] if batch.end_offset > offset]
        while expected[0].kind is Kind.CONTROL:
            expected.pop(0)
        self.check(read.batches, read.next, expected, max_bytes)

    @precondition(lambda self: self.readable)
    @rule(name=st.sampled_from(["a", "b"]))
    def read_on(self, name: str) -> None:
        """Two readers that stream, each from where it was."""
        start, count = self.model.start.index, len(self.readable)
        at = self.cursors.get(name, start)
        if not start <= at < start + count:
            at = start
        read = self.log.read_from_index(Index(at), 400, Index(start + count))
        self.check(read.batches, read.next, list(self.readable[at - start :]), 400)
        self.cursors[name] = read.next.index

    # ------------------------------------------------------------ always

    def voters_after(self, entries: tuple[Batch, ...]) -> VoterSet | None:
        """The set in force behind these entries, which follow the model's start."""
        for batch in reversed(entries):
            said = decode_control(batch.payload) if batch.kind is Kind.CONTROL else None
            if isinstance(said, VotersSet):
                return VoterSet(batch.index, batch.term, said.voters)
        return self.model.voters_before_start

    @invariant()
    def coordinates_agree(self) -> None:
        if not hasattr(self, "log"):
            return
        log, model = self.log, self.model
        assert (log.start, log.end, log.appended_end) == (
            model.start,
            model.end(model.written),
            self.appended_end,
        )
        assert model.end(model.synced) <= log.synced <= log.end
        assert (log.voters_before_start, log.voters) == (model.voters_before_start, self.voters_after(model.entries))
        assert log.size_bytes == sum(
            len(self.files.content(f"{DIRECTORY}/{name}"))
            for name in self.files.list(DIRECTORY)
            if name.endswith(".log")
        )
        terms = TermHistory()
        for batch in model.entries:
            terms = terms.with_entry(place_of(batch.term, batch.path, batch.origin_epoch), batch.index)
            assert log.has_identity(batch.origin, batch.origin_epoch, batch.origin_sequence)
            assert log.terms.term_of(batch.index) == batch.term
        assert log.terms.runs[len(log.terms.runs) - len(terms.runs) :][1:] == terms.runs[1:]
        copies = [batch for batch in model.entries if len(batch.path) == 2]
        if copies:
            assert log.pull_positions[N2] == (55, copies[-1].source_index + 1)


LogMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestALogBehavesLikeAList = LogMachine.TestCase

"""Open produces: what was asked to be appended, from its arrival until it is answered."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.server import CancelRequest, Produced, RequestRefused
from ourolog.actors.messages.values import Acks
from ourolog.storage.batch import Codec, Kind, NewBatch
from ourolog.storage.types import Index, Offset, Term

MERGED_MAX_BYTES = 1024 * 1024
MAX_UNWRITTEN_BYTES = 64 * 1024 * 1024
PRODUCE_OVERHEAD_BYTES = 1024

MAX_ENTRIES_UNDER_WAY = 1
"""While so many entries are on their way to the disks that must have them, produces gather."""

GATHERED_BYTES = 256 * 1024
"""When so many bytes have gathered nothing is gained by more."""


@dataclass(slots=True)
class PendingProduce:
    """A produce on its way: held or not flushed yet, then in the store, then waiting for other disks.

    request_id, reply_to: who is answered, and about which request.
    batch: what is appended; None once the store has written it, since what waits for other disks, for as long as its
        client does, must not keep its payload in memory.
    record_count: how many records are in the batch.
    acks: whose disks it must be on before it is acknowledged.
    timeout_s: how long the client waits, in seconds.
    deadline_s: when that ends, by the monotonic clock.
    may_be_stored: whether the store was told to append it, and has not said that it did not.
    held_until_s: when it is refused if it is held and still cannot be appended, by the monotonic clock.
    base_offset, index: of its first record and of its entry; None until it is on this node's disk.
    term: of that entry.
    done: whether it is answered, or nobody waits for its answer any more.
    """

    request_id: int
    reply_to: Mailbox[Produced | RequestRefused]
    batch: NewBatch | None
    record_count: int
    acks: Acks
    timeout_s: float
    deadline_s: float
    may_be_stored: bool = False
    base_offset: Offset | None = None
    index: Index | None = None
    term: Term = Term(0)
    held_until_s: float = 0.0
    done: bool = False

    @property
    def key(self) -> tuple[int, int]:
        return (id(self.reply_to), self.request_id)

    @property
    def cost_bytes(self) -> int:
        """Roughly how much memory it takes until it is written."""
        return _cost(self.batch) if self.batch is not None else 0


class OpenProduces:
    """The open produces of one node, in order of arrival, and how much they and uncommitted entries hold."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._open: dict[tuple[int, int], PendingProduce] = {}
        self._unflushed: list[PendingProduce] = []
        self._unflushed_bytes = 0
        self._held: dict[tuple[int, int], PendingProduce] = {}
        self._in_store: dict[int, list[PendingProduce]] = {}
        self._append_ids = itertools.count(1)
        # What is not flushed yet, or in the store: it takes memory until it is written, even if its client gave up.
        self._unwritten_bytes = 0
        self._unwritten = 0
        self._awaiting_acks: dict[Acks, OrderedDict[tuple[int, int], PendingProduce]] = {
            Acks.LEADER: OrderedDict(),  # only those that a dispute holds up
            Acks.QUORUM: OrderedDict(),
            Acks.ALL: OrderedDict(),
        }
        # Those that wait for an entry below others that wait already: what a producer sent again.
        self._awaiting_earlier: dict[tuple[int, int], PendingProduce] = {}
        self._uncommitted: deque[tuple[Index, int]] = deque()
        self._uncommitted_bytes = 0

    def __iter__(self) -> Iterator[PendingProduce]:
        """All that are open now, the oldest first; they may be closed meanwhile."""
        return iter(list(self._open.values()))

    def cancelled(self, cancel: CancelRequest) -> PendingProduce | None:
        """The open produce that this message cancels; None if it is not here."""
        return self._open.get((id(cancel.reply_to), cancel.request_id))

    def why_full(self, batch: NewBatch, *, is_elected: bool) -> str | None:
        """Why there is no space for a produce of this batch, as a sentence; None if there is.

        is_elected: whether what a majority lacks counts, too.
        """
        if len(self._open) >= self._config.max_waiting_requests:
            return f"{len(self._open)} produces wait already"
        if self._unwritten_bytes and self._unwritten_bytes + _cost(batch) > MAX_UNWRITTEN_BYTES:
            return f"{self._unwritten_bytes} bytes wait for the disk already"
        # What is on its way to this disk is uncommitted, too; a single batch is always accepted.
        entries = len(self._uncommitted) + self._unwritten
        entries_bytes = self._uncommitted_bytes + self._unwritten_bytes
        is_full = entries >= self._config.max_uncommitted_entries
        is_full = is_full or entries_bytes + _cost(batch) > self._config.max_uncommitted_bytes
        if is_elected and entries and is_full:
            return f"{entries_bytes} bytes in {entries} entries wait for a majority of the voters already"
        return None

    # ------------------------------------------------------------ held: the store is not to hear of them yet

    @property
    def held(self) -> tuple[PendingProduce, ...]:
        """Those that are held, the oldest first."""
        return tuple(self._held.values())

    def is_held(self, pending: PendingProduce) -> bool:
        """Whether that open produce is held."""
        return pending.key in self._held

    @property
    def is_drained(self) -> bool:
        """Whether all that are not held are answered, and the store has answered every append."""
        return len(self._open) == len(self._held) and not self._in_store and not self._unflushed

    def hold(self, pending: PendingProduce) -> None:
        """Take a produce that is not to be flushed until `release`."""
        self._take(pending)
        self._held[pending.key] = pending

    def hold_unflushed(self) -> None:
        """Hold what was not flushed yet, too."""
        unflushed = self._take_unflushed()
        for pending in unflushed:
            if pending.done:
                self._written(pending)
            else:
                self._held[pending.key] = pending

    def release(self) -> bool:
        """Let what is held be flushed like anything else. Returns whether it is the first that waits for that."""
        is_first = bool(self._held) and not self._unflushed
        self._unflushed += self._held.values()
        self._unflushed_bytes += sum(pending.cost_bytes for pending in self._held.values())
        self._held.clear()
        return is_first

    # ------------------------------------------------------------ on the way to the store

    def add(self, pending: PendingProduce) -> bool:
        """Take a produce that is not flushed yet. Returns whether to see now if there is enough for a flush."""
        self._take(pending)
        self._unflushed.append(pending)
        had_enough = self._unflushed_bytes >= GATHERED_BYTES
        self._unflushed_bytes += pending.cost_bytes
        return len(self._unflushed) == 1 or (not had_enough and self._unflushed_bytes >= GATHERED_BYTES)

    @property
    def has_unflushed(self) -> bool:
        """Whether anything waits for a flush."""
        return bool(self._unflushed)

    @property
    def may_flush(self) -> bool:
        """Whether what has gathered is to go to the store now.

        It waits for company only behind others: one entry after the other costs each node as much as one with all in
        it, and those in front are on their way for about as long as the next ones need to come.
        """
        under_way = len(self._in_store) + len(self._uncommitted)
        return under_way < MAX_ENTRIES_UNDER_WAY or self._unflushed_bytes >= GATHERED_BYTES

    def _take_unflushed(self) -> list[PendingProduce]:
        unflushed, self._unflushed, self._unflushed_bytes = self._unflushed, [], 0
        return unflushed

    def _take(self, pending: PendingProduce) -> None:
        self._open[pending.key] = pending
        self._unwritten_bytes += pending.cost_bytes
        self._unwritten += 1

    def flush(self) -> Iterator[tuple[int, NewBatch]]:
        """Make batches for the store of what is not flushed yet, small plain ones merged; each with its append's id."""
        unflushed = self._take_unflushed()
        group: list[PendingProduce] = []
        group_bytes = 0
        for pending in unflushed:
            batch = pending.batch
            assert batch is not None, "held until it is written"
            if pending.done:  # given up before it was appended, so it never will be
                self._written(pending)
                continue
            size = len(batch.payload)
            # A producer's batch is one entry, and a control batch is no records.
            mergeable = batch.codec is Codec.NONE and batch.producer_id == 0 and batch.kind is Kind.DATA
            if group and (not mergeable or group_bytes + size > MERGED_MAX_BYTES):
                yield self._merged(group)
                group, group_bytes = [], 0
            group.append(pending)
            group_bytes += size if mergeable else MERGED_MAX_BYTES
        if group:
            yield self._merged(group)

    def in_append(self, append_id: int) -> tuple[PendingProduce, ...]:
        """The produces in that append."""
        return tuple(self._in_store.get(append_id, ()))

    def end_append(self, append_id: int) -> list[PendingProduce]:
        """The produces of an append that the store has answered; their batches are released."""
        group = self._in_store.pop(append_id, [])
        for pending in group:
            self._written(pending)
        return group

    def _merged(self, group: list[PendingProduce]) -> tuple[int, NewBatch]:
        batches = [pending.batch for pending in group if pending.batch is not None]
        batch = batches[0]
        if len(batches) > 1:
            batch = NewBatch(
                payload=b"".join(part.payload for part in batches),
                record_count=sum(part.record_count for part in batches),
            )
        for pending in group:
            pending.may_be_stored = True
        append_id = next(self._append_ids)
        self._in_store[append_id] = group
        return append_id, batch

    def _written(self, pending: PendingProduce) -> None:
        """Release a payload: the store has written it, or never will."""
        self._unwritten_bytes -= pending.cost_bytes
        self._unwritten -= 1
        pending.batch = None

    # ------------------------------------------------------------ on other disks

    def note_uncommitted(self, index: Index, size_bytes: int) -> None:
        """Count an own entry that was written and is not committed yet."""
        self._uncommitted.append((index, size_bytes))
        self._uncommitted_bytes += size_bytes

    def note_committed(self, committed: Index) -> None:
        """Everything below that index is committed."""
        while self._uncommitted and self._uncommitted[0][0] < committed:
            self._uncommitted_bytes -= self._uncommitted.popleft()[1]

    def forget_uncommitted(self) -> None:
        """Forget own entries: this node no longer leads, and another node decides which of them are committed."""
        self._uncommitted.clear()
        self._uncommitted_bytes = 0

    def await_acks(self, pending: PendingProduce) -> None:
        """Let a produce that is on this node's disk wait for other disks."""
        queue = self._awaiting_acks[pending.acks]
        last = next(reversed(queue.values())) if queue else None
        assert pending.index is not None, "it is in the log"
        if last is not None and last.index is not None and pending.index < last.index:
            self._awaiting_earlier[pending.key] = pending
        else:
            queue[pending.key] = pending

    def acknowledged(self, is_acknowledged: Callable[[PendingProduce], bool]) -> Iterator[PendingProduce]:
        """The produces that need not wait for other disks any more, each to be closed; in the order of the log.

        What was sent again comes first.
        """
        for pending in list(self._awaiting_earlier.values()):
            if is_acknowledged(pending):
                yield pending
        for queue in self._awaiting_acks.values():
            while queue and is_acknowledged(first := next(iter(queue.values()))):
                yield first

    def close(self, pending: PendingProduce) -> None:
        """The produce is answered, or nobody waits for its answer any more."""
        pending.done = True
        del self._open[pending.key]
        if self._held.pop(pending.key, None) is not None:
            self._written(pending)
        if pending.acks in self._awaiting_acks:
            self._awaiting_acks[pending.acks].pop(pending.key, None)
        self._awaiting_earlier.pop(pending.key, None)


def _cost(batch: NewBatch) -> int:
    """Roughly how many bytes of memory a produce of it takes until it is written."""
    return len(batch.payload) + PRODUCE_OVERHEAD_BYTES

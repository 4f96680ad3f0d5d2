"""The values that the client returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Final, NamedTuple

from ourolog.rpc.v1 import log_pb2 as pb


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a node has said of records that it has appended.

    base_offset: of the first of them; the others follow on.
    record_count: how many they are.
    replicas: the nodes whose disks were known to have them, sorted by name.
    """

    base_offset: int
    record_count: int
    replicas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a record came from.

    origin: the node that it was produced to.
    path: the nodes that it passed, its origin first.
    origin_epoch: identifies the origin's log: drawn at random for each new disk.
    origin_sequence: the number of its batch in the origin's log.
    timestamp_ms: when it was first appended, ms since 1970.
    index: the place of its batch among all log entries of the node that was asked.
    term: in which that entry was made.
    """

    origin: str
    path: tuple[str, ...]
    origin_epoch: int
    origin_sequence: int
    timestamp_ms: int
    index: int
    term: int


class LogRecord(NamedTuple):
    """One record.

    offset: its place in the log.
    value: its bytes.
    provenance: where it came from, if that was asked for.
    """

    offset: int
    value: bytes
    provenance: Provenance | None = None


_NEW_RECORD: Final[Callable[[tuple[int, bytes, Provenance | None]], LogRecord]] = partial(tuple.__new__, LogRecord)


class LogBatch(NamedTuple):
    """Consecutive records that were stored together.

    base_offset: the offset of the first; it may be below the offset asked for, since batches come whole.
    values: the records' bytes, in order.
    provenance: where they came from, if that was asked for.
    """

    base_offset: int
    values: list[bytes]
    provenance: Provenance | None = None

    @property
    def end_offset(self) -> int:
        """The offset after the last record."""
        return self.base_offset + len(self.values)

    def records_from(self, offset: int) -> Iterator[LogRecord]:
        """Its records, one by one, without those below that offset."""
        skipped = max(0, offset - self.base_offset)
        values = self.values[skipped:] if skipped else self.values
        offsets = range(self.base_offset + skipped, self.end_offset)
        # As LogRecord(*fields) does, without a step of the interpreter for each record.
        return map(_NEW_RECORD, zip(offsets, values, repeat(self.provenance)))  # `repeat` never ends


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server of the cluster.

    node_id: its name.
    rpc_addr: where its gRPC services are, HOST:PORT.
    is_leader: whether produces go to it.
    """

    node_id: str
    rpc_addr: str
    is_leader: bool


@dataclass(frozen=True, slots=True)
class LeaderTransfer:
    """A change of leader that was asked for, and has happened.

    leader: who leads now.
    term: in which term.
    previous_leader: who led before; the same node if it was the one that was asked for.
    """

    leader: str
    term: int
    previous_leader: str


@dataclass(frozen=True, slots=True)
class VotersChange:
    """A change of voters that was asked for, and is committed.

    voters: who votes now.
    term: in which term it was committed.
    """

    voters: tuple[str, ...]
    term: int


def provenance_from(provenance: pb.Provenance) -> Provenance:
    """The value for the contract's message."""
    return Provenance(
        provenance.origin,
        tuple(provenance.path),
        provenance.origin_epoch,
        provenance.origin_sequence,
        provenance.timestamp_ms,
        provenance.index,
        provenance.term,
    )

"""What the client hands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ourolog.rpc.v1 import log_pb2 as pb


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a record came from.

    path: the nodes it passed, its origin first. origin_epoch: which log of the origin, drawn at
    random for each new disk; origin_sequence: its batch's number there. timestamp_ms: when it was
    first appended, ms since 1970. index: its batch's place among all log entries of the node asked.
    """

    origin: str
    path: tuple[str, ...]
    origin_epoch: int
    origin_sequence: int
    timestamp_ms: int
    index: int
    term: int


class LogRecord(NamedTuple):
    """One record; `provenance` only if asked for."""

    offset: int
    value: bytes
    provenance: Provenance | None = None


class LogBatch(NamedTuple):
    """Consecutive records as they were stored together; the first has `base_offset`.

    `base_offset` may lie below the offset asked for, since batches come whole.
    """

    base_offset: int
    values: list[bytes]
    provenance: Provenance | None = None

    @property
    def end_offset(self) -> int:
        """The offset after the last record."""
        return self.base_offset + len(self.values)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server of the cluster."""

    node_id: str
    rpc_addr: str
    is_leader: bool


def provenance_from(provenance: pb.Provenance) -> Provenance:
    return Provenance(
        provenance.origin,
        tuple(provenance.path),
        provenance.origin_epoch,
        provenance.origin_sequence,
        provenance.timestamp_ms,
        provenance.index,
        provenance.term,
    )

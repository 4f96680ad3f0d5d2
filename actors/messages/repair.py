"""Repair of a damaged batch: what store and replicator of a node tell each other about it.

The life of a repair: a read, or the scrub, meets a batch that is not what was written. The store tells the replicator
DamageFound. That asks other replicas for the entry, one after another, and hands what they send to the store with
RepairBatch. The store checks it, replaces the damaged batch in place and tells BatchRepaired, or RepairRejected,
and the next replica is asked. Where none can have it the replicator tells RepairAbandoned.
"""

from __future__ import annotations

from dataclasses import dataclass

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.storage.types import Index, NodeId, Offset


@dataclass(frozen=True, slots=True)
class DamageFound:
    """Store -> Replicator, somebody elected: this entry is not what was written; get it from another replica.

    Answered by RepairBatch, as often as some replica sends something, or by RepairAbandoned.

    index, offset: of the entry.
    """

    index: Index
    offset: Offset


@dataclass(frozen=True, slots=True)
class RepairBatch:
    """Replicator -> Store: what another replica has at that index; check it and put it in place of the damaged batch.

    Answered by BatchRepaired or RepairRejected.

    index: of the entry.
    batch: what that replica sent, not checked yet.
    source_id: the replica.
    """

    index: Index
    batch: bytes
    source_id: NodeId
    reply_to: Mailbox[BatchRepaired | RepairRejected]


@dataclass(frozen=True, slots=True)
class BatchRepaired:
    """Store -> Replicator: the entry is good, and on disk; or it is not in the log any more.

    index: of the entry.
    source_id: the replica that sent it.
    """

    index: Index
    source_id: NodeId


@dataclass(frozen=True, slots=True)
class RepairRejected:
    """Store -> Replicator: what that replica sent is not what belongs there; nothing was written.

    index: of the entry.
    source_id: the replica that sent it.
    reason: why not, a sentence.
    is_too_early: whether it may be right, and another damaged entry has to be repaired before.
    """

    index: Index
    source_id: NodeId
    reason: str
    is_too_early: bool = False


@dataclass(frozen=True, slots=True)
class RepairAbandoned:
    """Replicator -> Store: nobody can be asked for that entry, or all have answered and none has it.

    index: of the entry.
    reason: why, a sentence without a full stop.
    again_after_s: after how many seconds it is worth asking again, if somebody still wants to read the entry.
    """

    index: Index
    reason: str
    again_after_s: float


@dataclass(frozen=True, slots=True)
class RepairDue:
    """Timer -> Replicator: ask the next replica for that entry.

    index: of the entry.
    serial: the count of such waits, so that an old timer can be told from the present one.
    """

    index: Index
    serial: int


@dataclass(frozen=True, slots=True)
class DamagedReadsExpired:
    """Timer -> Store: refuse the reads that have waited long enough for a repair."""

"""Copies of records, read from what nodes write to their logs, which is the truth about replication.

A batch carries its identity and the path it took, so what multiplies, and through which nodes, can be seen
without asking any node.
"""

from __future__ import annotations

from collections.abc import Iterator

from ourolog.simulation.events import FileAppended
from ourolog.simulation.report.rows import Copy
from ourolog.simulation.report.summary import first_value, shown_bytes
from ourolog.storage.batch import Kind, path_of, payload_of, scan
from ourolog.storage.errors import CorruptBatchError, UnknownVersionError
from ourolog.storage.segment import LOG_SUFFIX


def copies_in(event: FileAppended, step: int, via: int) -> Iterator[Copy]:
    """Every whole data batch in a write to a log. Damage ends the list: checkers deal with that."""
    if not event.path.endswith(LOG_SUFFIX):
        return
    try:
        for head in scan(event.data):
            if head.kind is not Kind.DATA:
                continue
            path = path_of(event.data, head)
            record = first_value(payload_of(event.data, head))
            yield Copy(
                time_s=event.time_s,
                step=step,
                node_id=event.node_id,
                offset=head.base_offset,
                identity=(path[0], head.origin_epoch, head.origin_sequence),
                path=path,
                value=shown_bytes(record),
                record=record,
                via=via,
                count=head.record_count,
            )
    except (CorruptBatchError, UnknownVersionError):
        return

"""The values that the client returns."""

from __future__ import annotations

import pytest

from ourolog.rpc.client_types import LogBatch, LogRecord, Provenance

PROVENANCE = Provenance("n1", ("n1",), 1, 2, 3, 4, 5)


@pytest.mark.parametrize("provenance", [None, PROVENANCE])
def test_the_records_of_a_batch_are_those_from_the_offset_on(provenance: Provenance | None) -> None:
    batch = LogBatch(7, [b"a", b"b", b"c"], provenance)
    every = [LogRecord(7, b"a", provenance), LogRecord(8, b"b", provenance), LogRecord(9, b"c", provenance)]
    for offset, skipped in ((0, 0), (7, 0), (8, 1), (9, 2), (10, 3), (11, 3)):
        records = list(batch.records_from(offset))
        assert records == every[skipped:]
        assert all(type(record) is LogRecord for record in records)

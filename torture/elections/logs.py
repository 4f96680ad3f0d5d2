"""What is in the data directories of nodes that have ended: every entry, whether clients can read it or not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from random import Random
from typing import Final, NamedTuple

from ourolog.storage.batch import scan
from ourolog.storage.disk import DiskFiles
from ourolog.storage.identity import LOG_NAME, DataDirectory
from ourolog.storage.log import Log
from ourolog.storage.types import NodeId

_READ_BYTES: Final = 4 * 1024 * 1024
_CLUSTER: Final = "ourolog"


class Entry(NamedTuple):
    """One entry of a log, as its header has it.

    term: in which it was made.
    kind: what it holds.
    base_offset: the offset of its first record.
    maker: in which epoch of its maker's log it was made.
    checksum: of its contents.
    """

    term: int
    kind: int
    base_offset: int
    maker: int
    checksum: int


def entries_of(data_dir: str, node_id: str) -> dict[int, Entry]:
    """The entries in a node's data directory by index. Raises StorageError when it cannot be read."""
    files = DiskFiles()
    directory = DataDirectory.open(files, data_dir, NodeId(node_id), _CLUSTER, Random(0))
    try:
        path = os.path.join(data_dir, LOG_NAME)
        log = Log.open(files, path, NodeId(node_id), directory.identity.log_epoch)
        try:
            return _entries(log)
        finally:
            log.close()
    finally:
        directory.close()


def _entries(log: Log) -> dict[int, Entry]:
    found: dict[int, Entry] = {}
    at, end = log.start.index, log.end.index
    while at < end:
        read = log.read_from_index(at, _READ_BYTES, end)
        for head in scan(read.batches):
            entry = Entry(head.term, int(head.kind), head.base_offset, head.origin_epoch, head.crc)
            found[int(head.index)] = entry
        assert read.next.index > at, f"nothing could be read at index {at}"
        at = read.next.index
    return found


def differences(logs: Mapping[str, Mapping[int, Entry]], until: int) -> list[str]:
    """A sentence for each log that differs from the first one below an index, which all of them have to reach."""
    wrong = []
    (first, model), *others = logs.items()
    for name, entries in others:
        for index in range(max(min(model, default=0), min(entries, default=0)), until):
            mine, theirs = model.get(index), entries.get(index)
            if mine != theirs:
                wrong.append(f"the logs of {first} and {name} differ at index {index}: {mine} and {theirs}")
                break
    return wrong

"""What the storage tests share: logs in memory, batches to put in, and ways to look at both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import settings

from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.storage.batch import Batch, Kind, NewBatch, decode_batch, scan
from ourolog.storage.files import Files
from ourolog.storage.log import Log, LogConfig
from ourolog.storage.types import Index, NodeId, Term
from tests.disks import empty_disk

# Several workers share the machine: how long one example takes says nothing.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

DIRECTORY = "/data/log"


@dataclass(frozen=True)
class Bench:
    """Functions rather than fixtures, so that loops and property tests can call them often."""

    directory: str = DIRECTORY

    def open(
        self,
        files: Files,
        node: str = "n1",
        epoch: int = 7,
        progress: Callable[[str], None] | None = None,
        **config: int | None,
    ) -> Log:
        files.make_directory(DIRECTORY)
        return Log.open(files, DIRECTORY, NodeId(node), epoch, LogConfig(**config), progress)  # type: ignore[arg-type]

    def data(self, payload: bytes = b"x" * 20, count: int = 1) -> NewBatch:
        return NewBatch(payload, count)

    def control(self, payload: bytes = b"c") -> NewBatch:
        """Of a type that only a newer software knows, with that payload inside."""
        return NewBatch(b'{"text":"%s","type":"newer","version":1}' % payload, 1, kind=Kind.CONTROL)

    def fill(self, log: Log, count: int, term: int = 1, size: int = 20, first: int = 0) -> None:
        """So many batches of one record, each committed; the payload says which it is."""
        for at in range(first, first + count):
            log.append_new(self.data(f"{at:08d}".encode().ljust(size, b".")), Term(term), 1000 + at)
            log.commit()

    def everything(self, log: Log) -> list[Batch]:
        """All that can be read, in small reads, each checked."""
        batches: list[Batch] = []
        at = log.start.index
        while at < log.end.index:
            read = log.read_from_index(at, 300, log.end.index)
            batches.extend(decode_batch(read.batches, head) for head in scan(read.batches))
            assert read.next.index > at
            at = read.next.index
        assert [batch.index for batch in batches] == list(range(log.start.index, log.end.index))
        return batches

    def payloads(self, log: Log) -> list[bytes]:
        return [batch.payload for batch in self.everything(log)]

    def paths(self, files: SimulatedDisk, suffix: str = "") -> list[str]:
        return [f"{DIRECTORY}/{name}" for name in files.list(DIRECTORY) if name.endswith(suffix)]

    def index(self, value: int) -> Index:
        return Index(value)


@pytest.fixture(scope="session")
def bench() -> Bench:
    return Bench()


@pytest.fixture
def files() -> SimulatedDisk:
    return empty_disk()

"""A client that reads what has just rotted: few read a damaged batch by chance while it is being repaired."""

from __future__ import annotations

from random import Random
from typing import Final

from ourolog.simulation.calls import ClientCalls
from ourolog.simulation.disks.rot import Rotted
from ourolog.simulation.events import Operation, OperationKind, OperationResult
from ourolog.simulation.paced_clients import TIMEOUT_S
from ourolog.simulation.runtime import SimulatedRuntime
from ourolog.storage.batch import read_head
from ourolog.storage.errors import CorruptBatchError
from ourolog.storage.segment import LOG_SUFFIX, parse_stem
from ourolog.storage.types import NodeId, Offset

READ_SHARE: Final = 0.6
"""How much of what rots it reads; the rest is left to the scrub."""

READS: Final = 4
"""How often it reads each of these batches."""

WITHIN_S: Final = 4.0


class RotReader:
    """Reads, of the node whose disk has rotted, from the first record that is damaged on, a few times."""

    def __init__(self, name: str, runtime: SimulatedRuntime, calls: ClientCalls, rng: Random) -> None:
        self.name = name
        self.node_ids: tuple[NodeId, ...] = ()
        self._runtime = runtime
        self._calls = calls
        self._rng = rng

    def start(self, node_ids: tuple[NodeId, ...]) -> None:
        """Ask these nodes from now on."""
        self.node_ids = node_ids

    def rotted(self, node_id: NodeId, rotted: Rotted, content: bytes) -> None:
        """Bytes of that node's file have rotted; `content` is what is in it."""
        offset = damaged_offset(rotted, content)
        if offset is not None and self._rng.random() < READ_SHARE:
            for _ in range(READS):
                self._runtime.call_later(WITHIN_S * self._rng.random() ** 2, lambda: self._read(node_id, offset))

    def _read(self, node_id: NodeId, offset: Offset) -> None:
        def returned(_: OperationResult, __: NodeId | None) -> None:
            """Whatever it is, it is for the checkers."""

        if node_id in self.node_ids:
            operation = Operation(OperationKind.CONSUME, offset=offset)
            self._calls.consume(self.name, node_id, operation, TIMEOUT_S, returned, wait=False)


def damaged_offset(rotted: Rotted, content: bytes) -> Offset | None:
    """The first record in the batch that holds the first byte that rotted; None if the file is no segment of a log."""
    base = parse_stem(rotted.path.rpartition("/")[2].removesuffix(LOG_SUFFIX))
    if base is None or not rotted.path.endswith(LOG_SUFFIX):
        return None
    at, offset = 0, base.offset
    while at < rotted.position:
        try:
            head = read_head(content, at)
        except CorruptBatchError:
            break
        if head is None or head.end > rotted.position:
            break
        at, offset = head.end, head.end_offset
    return offset

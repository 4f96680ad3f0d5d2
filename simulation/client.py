"""A client for an application's code to call: it blocks, and while it blocks, virtual time passes.

It behaves as a careful client of the real service does: it finds the leader, goes to another node
when one does not answer, and never sends a record again that may have been appended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ourolog.actors.messages.values import ReadLevel
from ourolog.simulation.calls import ClientCalls, Returned
from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.storage.types import NodeId, Offset

ATTEMPTS = 10
BACKOFF_S = 0.25


class RefusedError(Exception):
    """The cluster certainly did not do it: asking again does no harm."""


class OutcomeUnknownError(Exception):
    """The record may have been appended, or may still be: appending it again may store it twice."""


class OutOfRangeError(RefusedError):
    """There is no record at that offset. `first` and `end` give the readable range, `end` exclusive."""

    def __init__(self, offset: int, first: int, end: int) -> None:
        super().__init__(f"offset {offset} is out of range: the node holds [{first}, {end})")
        self.first = first
        self.end = end


@dataclass(frozen=True, slots=True)
class Record:
    """One record, as a reader of one node gets it.

    offset: its offset on that node.
    value: what was produced.
    path: the nodes that it passed, from the one that took it from a client to the one that was read.
    """

    offset: int
    value: bytes
    path: tuple[NodeId, ...]


class Home(Protocol):
    """The cluster, as a client sees it."""

    calls: ClientCalls

    @property
    def names(self) -> tuple[NodeId, ...]: ...

    def run_for(self, seconds: float) -> None: ...

    def run_until(self, happened: Callable[[], bool], timeout_s: float = 60.0) -> None: ...


class Client:
    """A client of a simulated cluster, which blocks until it has an answer.

    name: its name in events and on the network.
    home: the cluster.
    timeout_s: how long it waits for one answer, in seconds.
    nodes: which nodes it asks, in turn when one does not answer; all by default.
    attempts: how often it asks before it gives up.
    """

    def __init__(
        self, name: str, home: Home, timeout_s: float, nodes: tuple[NodeId, ...] = (), attempts: int = ATTEMPTS
    ) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._home = home
        self._nodes = nodes or home.names
        self._attempts = attempts
        self._at = 0

    def produce(self, value: bytes | str, *, acks: str = "default") -> int:
        """Append one record and return its offset. Raises RefusedError, OutcomeUnknownError."""
        data = value.encode() if isinstance(value, str) else value
        operation = Operation(OperationKind.PRODUCE, value=data, acks=acks)

        def ask(node_id: NodeId, returned: Returned) -> None:
            self._home.calls.produce(self.name, node_id, operation, self.timeout_s, returned)

        return self._ask(operation, ask).offset

    def consume(self, offset: int, *, wait: bool = False, read: ReadLevel = ReadLevel.COMMITTED) -> bytes:
        """The record at `offset`. Raises OutOfRangeError, RefusedError.

        wait: whether to wait until there is one, or the client's time is up.
        read: how recent the log must be that is read.
        """
        return self._consume(offset, wait=wait, read=read).value

    def _consume(self, offset: int, *, wait: bool = False, read: ReadLevel = ReadLevel.COMMITTED) -> OperationResult:
        operation = Operation(OperationKind.CONSUME, offset=Offset(offset), read=read)

        def ask(node_id: NodeId, returned: Returned) -> None:
            self._home.calls.consume(self.name, node_id, operation, self.timeout_s, returned, wait=wait)

        return self._ask(operation, ask)

    def records(self, offset: int = 0) -> Iterator[Record]:
        """Every record from `offset` to the present end of the log."""
        while True:
            try:
                read = self._consume(offset)
            except OutOfRangeError as error:
                if error.first > offset:
                    offset = error.first
                    continue
                return
            yield Record(offset, read.value, read.path)
            offset += 1

    def _ask(self, operation: Operation, ask: Callable[[NodeId, Returned], None]) -> OperationResult:
        for attempt in range(1, self._attempts + 1):
            result, leader_id = self._once(ask)
            match result.outcome:
                case Outcome.OK:
                    return result
                case Outcome.UNKNOWN:
                    self._at = (self._at + 1) % len(self._nodes)
                    raise OutcomeUnknownError(result.detail)
                case Outcome.REFUSED if result.end_offset is not None:
                    raise OutOfRangeError(operation.offset, result.offset, result.end_offset)
                case Outcome.REFUSED if attempt == self._attempts:
                    raise RefusedError(result.detail)
                case Outcome.REFUSED:
                    self._move(leader_id)
        raise AssertionError("the last attempt returned or raised")

    def _once(self, ask: Callable[[NodeId, Returned], None]) -> tuple[OperationResult, NodeId | None]:
        answers: list[tuple[OperationResult, NodeId | None]] = []
        ask(self._nodes[self._at], lambda result, leader_id: answers.append((result, leader_id)))
        self._home.run_until(lambda: bool(answers), self.timeout_s * 2 + 10.0)
        return answers[0]

    def _move(self, leader_id: NodeId | None) -> None:
        if leader_id is not None and leader_id in self._nodes:
            self._at = self._nodes.index(leader_id)
        else:
            self._at = (self._at + 1) % len(self._nodes)
            self._home.run_for(BACKOFF_S)

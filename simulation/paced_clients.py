"""What clients of a simulated cluster that run all the time have in common: a pace, and values of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random
from typing import Protocol

from ourolog.simulation.calls import ClientCalls
from ourolog.simulation.events import OperationResult, Outcome
from ourolog.simulation.runtime import SimulatedRuntime
from ourolog.storage.types import NodeId

TIMEOUT_S = 5.0
BACKOFF_S = 0.5
VALUE_BYTES = (1, 400)


class Pace(Protocol):
    """How fast a client works."""

    def pause_s(self) -> float | None:
        """How long to wait before the next operation; None to end."""


class PacedClient(ABC):
    """A client that begins one operation after the other, with pauses between them.

    name: how it is called in the history.
    node_ids: the nodes that it asks; () before it has started.
    """

    def __init__(self, name: str, runtime: SimulatedRuntime, calls: ClientCalls, rng: Random, pace: Pace) -> None:
        self.name = name
        self.node_ids: tuple[NodeId, ...] = ()
        self._runtime = runtime
        self._calls = calls
        self._rng = rng
        self._pace = pace

    def start(self, node_ids: tuple[NodeId, ...]) -> None:
        """Ask these nodes from now on."""
        self.node_ids = node_ids
        self._rest()

    @property
    def _is_stopped(self) -> bool:
        return self._pace.pause_s() is None

    def _rest(self) -> None:
        pause_s = self._pause_s()
        if pause_s is not None:
            self._runtime.call_later(pause_s, self._begin)

    def _pause_s(self) -> float | None:
        """How long to wait now; None to end."""
        return self._pace.pause_s()

    @abstractmethod
    def _begin(self) -> None:
        """Begin the next operation. Whatever comes of it, `_rest` follows."""


class PacedWriter(PacedClient):
    """A client that writes values that are unique in the run, to whoever leads as far as it has heard."""

    def __init__(self, name: str, runtime: SimulatedRuntime, calls: ClientCalls, rng: Random, pace: Pace) -> None:
        super().__init__(name, runtime, calls, rng, pace)
        self._number = 0
        self._leader_id: NodeId | None = None

    def _value(self, *, is_padded: bool) -> bytes:
        """The next one: the client's name, a number, and padding of a random size."""
        self._number += 1
        value = f"{self.name}/{self._number}/".encode()
        if not is_padded:
            return value
        # Mostly small records, some of several hundred bytes, so that segments roll at all sorts of places.
        low, high = VALUE_BYTES
        return value + b"." * int(low + (high - low) * self._rng.random() ** 3)

    def _node(self) -> NodeId:
        """The node that leads as far as this client knows, or any."""
        node_id = self._leader_id if self._leader_id in self.node_ids else self._rng.choice(self.node_ids)
        assert node_id is not None
        return node_id

    def _heard(self, node_id: NodeId, result: OperationResult, leader_id: NodeId | None) -> None:
        """Note who leads, by what that node has answered."""
        self._leader_id = leader_id or (node_id if result.outcome is Outcome.OK else None)

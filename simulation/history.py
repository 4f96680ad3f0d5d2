"""What clients did, as a history of calls: when each was invoked, when it returned, and with what result.

Times are positions in the stream of events and not seconds, so that no two of them are ever equal:
virtual time often does not move while several things happen.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ourolog.simulation.events import ClientInvoked, ClientReturned, Event, Operation, OperationResult
from ourolog.storage.types import NodeId


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of one client on one log.

    returned_at and result are None for a call that never returned. Like one whose outcome is UNKNOWN, it may take
    effect at any time after `invoked_at`, or never.
    """

    operation_id: int
    node_id: NodeId
    operation: Operation
    invoked_at: int
    returned_at: int | None = None
    result: OperationResult | None = None


@dataclass(slots=True)
class History:
    """Collects calls from the stream. Keeps all of them: it is for runs that end."""

    at: int = 0
    _open: dict[int, tuple[int, ClientInvoked]] = field(default_factory=dict)
    _calls: list[Call] = field(default_factory=list)

    def see(self, event: Event) -> None:
        self.at += 1
        if isinstance(event, ClientInvoked):
            self._open[event.operation_id] = (self.at, event)
        elif isinstance(event, ClientReturned):
            invoked = self._open.pop(event.operation_id, None)
            if invoked is not None:
                call = Call(event.operation_id, event.node_id, event.operation, invoked[0], self.at, event.result)
                self._calls.append(call)

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls that returned, in the order in which they did, then those that are still open."""
        still_open = (
            Call(invoked.operation_id, invoked.node_id, invoked.operation, at) for at, invoked in self._open.values()
        )
        return (*self._calls, *still_open)

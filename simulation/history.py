"""What clients did, as a history of calls: when each was invoked, when it returned, and with what result.

Times are positions in the stream of events and not seconds, so that no two of them are ever equal:
virtual time often does not move while several things happen.
"""

from __future__ import annotations

from dataclasses import dataclass

from ourolog.simulation.events import Operation, OperationResult
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

"""Suspicions: the members that will soon count as gone, when, and whether as failed or left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ourolog.actors.messages.membership import SuspicionExpired
from ourolog.actors.messages.values import Member, MemberState
from ourolog.actors.ports import Clock, Timer
from ourolog.storage.types import NodeId


@dataclass(frozen=True, slots=True)
class _Suspicion:
    timer: Timer
    expired: SuspicionExpired
    wait_s: float


class Suspicions:
    """The open suspicions, one for each suspected member, each with its timer."""

    def __init__(self, clock: Clock, after: Callable[[float, SuspicionExpired], Timer]) -> None:
        self._clock = clock
        self._after = after
        self._open: dict[NodeId, _Suspicion] = {}

    def arm(self, suspect: Member, wait_s: float, verdict: MemberState = MemberState.FAILED) -> None:
        """Give the member this long to refute; an open suspicion of the same member is replaced."""
        self.drop(suspect.node_id)
        expired = SuspicionExpired(suspect.node_id, suspect.incarnation, self._clock.monotonic_s() + wait_s, verdict)
        self._open[suspect.node_id] = _Suspicion(self._after(wait_s, expired), expired, wait_s)

    def shorten(self, suspect: Member, wait_s: float, verdict: MemberState) -> bool:
        """Let the suspicion end this soon, with that verdict; False when it ends as soon already."""
        suspicion = self._open.get(suspect.node_id)
        if suspicion is not None and suspicion.expired.due_s <= self._clock.monotonic_s() + wait_s:
            return False
        self.arm(suspect, wait_s, verdict)
        return True

    def drop(self, node_id: NodeId) -> None:
        suspicion = self._open.pop(node_id, None)
        if suspicion is not None:
            suspicion.timer.cancel()

    def restart(self, suspect: Member, expired: SuspicionExpired) -> None:
        """Give the member the same time again, since this node was held up and could not hear it."""
        suspicion = self._open.get(suspect.node_id)
        if suspicion is not None and suspicion.expired is expired:
            self.arm(suspect, suspicion.wait_s, expired.verdict)

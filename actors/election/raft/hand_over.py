"""How a leader that stops lets another voter take over without a gap (D section 3.10).

It does not resign first: successors would have to miss it, and produces would fail meanwhile. Step by step:
1. Produces are held, so that what the log gets is fixed; what was taken before is appended and acknowledged.
2. The store says where the log ends.
3. The furthest voter, or the one that was asked for, is waited for until it has all of it.
4. It is asked to take over, and the others after it, while this node leads on and serves their fetches.
5. It asks for this node's vote, and gets it. As soon as somebody leads, held produces are sent there.
6. If that does not happen in time, this node goes on as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ourolog.storage.control import VoterKey
from ourolog.storage.types import Index

NAME: Final = "hand over"
"""What its timer is called."""

# In election timeouts.
DRAINS_WITHIN: Final = 0.5
"""How long what was taken before may take until it is acknowledged."""
FETCHED_WITHIN: Final = 0.5
"""A voter that has not fetched for that long is no successor."""
GIVES_UP_AFTER: Final = 1.0
"""How long each of the other steps may take."""


class Phase(StrEnum):
    """How far a hand-over has come.

    HOLDING: waits until what was taken before is acknowledged.
    MEASURING: waits for the store to say where the log ends.
    CATCHING_UP: waits for the successor to have all of it.
    ASKED: has asked the successors to take over.
    """

    HOLDING = "holding"
    MEASURING = "measuring"
    CATCHING_UP = "catching up"
    ASKED = "asked"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a voter has come.

    end: everything below is on its disk.
    at_s: when it said so, by the monotonic clock.
    """

    end: Index
    at_s: float


class LeadTransfer:
    """One hand-over after the other; what they do, the occupant does for them."""

    def __init__(
        self,
        timeout_s: float,
        *,
        hold: Callable[[float], None],
        release: Callable[[], None],
        measure: Callable[[], None],
        leave: Callable[[tuple[VoterKey, ...]], None],
        stay: Callable[[], None],
        wait: Callable[[float], None],
    ) -> None:
        """Prepare to hand over; nothing happens before `begin`.

        timeout_s: the election timeout in seconds.
        hold: have produces held, and be told by `held` after at most so many seconds.
        release: let them go on.
        measure: have the store say where the log ends, by `measured`.
        leave: ask these voters to take over, the first one at once.
        stay: lead on as before.
        wait: call `due` after so many seconds, and forget any earlier wait.
        """
        self.phase: Phase | None = None
        self._timeout_s = timeout_s
        self._hold = hold
        self._release = release
        self._measure = measure
        self._leave = leave
        self._stay = stay
        self._wait = wait
        self._to: VoterKey | None = None
        self._end: Index | None = None
        self._on_over: list[Callable[[str], None]] = []

    @property
    def is_on(self) -> bool:
        return self.phase is not None

    def begin(self, to: VoterKey | None, on_over: Callable[[str], None]) -> None:
        """Hand over, or join the hand-over that is under way.

        to: who is to lead; None for whoever is furthest.
        on_over: called once: with "" when another node leads, or with why it did not come to that.
        """
        self._on_over.append(on_over)
        if self.phase is None:
            self.phase, self._to, self._end = Phase.HOLDING, to, None
            self._hold(DRAINS_WITHIN * self._timeout_s)
            self._wait((DRAINS_WITHIN + GIVES_UP_AFTER) * self._timeout_s)

    def held(self) -> None:
        """Nothing more is appended, and what was is acknowledged or takes too long."""
        if self.phase is Phase.HOLDING:
            self.phase = Phase.MEASURING
            self._measure()
            self._wait(GIVES_UP_AFTER * self._timeout_s)

    def measured(self, end: Index, voters: Mapping[VoterKey, Progress], now_s: float) -> None:
        """The log ends there; `voters` says how far the others are."""
        if self.phase is Phase.MEASURING:
            self.phase, self._end = Phase.CATCHING_UP, end
            self._wait(GIVES_UP_AFTER * self._timeout_s)
            self.advanced(voters, now_s)

    def advanced(self, voters: Mapping[VoterKey, Progress], now_s: float) -> None:
        """A voter has fetched."""
        if self.phase is not Phase.CATCHING_UP:
            return
        assert self._end is not None, "the end is known from then on"
        end = self._end
        successors = successors_among(voters, now_s - FETCHED_WITHIN * self._timeout_s)
        first = next((key for key in successors if self._to in (None, key) and voters[key].end >= end), None)
        if first is not None:
            self.phase = Phase.ASKED
            self._wait(GIVES_UP_AFTER * self._timeout_s)
            self._leave((first, *(key for key in successors if key != first)))

    def leads_elsewhere(self) -> None:
        """Another node leads, whether or not it was asked to."""
        self._end_with("")

    def deposed(self, why: str) -> None:
        """This node leads no more, and nobody else does yet: whoever has been asked by then may still take over."""
        if self.phase is not Phase.ASKED:
            self.lost(why)

    def lost(self, why: str) -> None:
        """What was to be handed over is gone: the lead, or the term in which it was held."""
        self._end_with(why)

    def due(self) -> None:
        """A step has taken too long: go on as before."""
        if self.phase is None:
            return
        why = {
            Phase.HOLDING: "what had been taken before was not appended in time",
            Phase.MEASURING: "its disk did not answer in time",
            Phase.CATCHING_UP: f"{self._to.node_id if self._to else 'no other voter'} does not fetch, or is behind",
            Phase.ASKED: "nobody that it asked has taken over",
        }[self.phase]
        self._stay()
        self._release()
        self._end_with(why)

    def _end_with(self, why: str) -> None:
        self.phase = None
        on_over, self._on_over = self._on_over, []
        for tell in on_over:
            tell(why)


def successors_among(voters: Mapping[VoterKey, Progress], since_s: float) -> tuple[VoterKey, ...]:
    """Those that have fetched since then, the furthest first."""
    present = [key for key, progress in voters.items() if progress.at_s >= since_s]
    return tuple(sorted(present, key=lambda key: (-voters[key].end, key)))

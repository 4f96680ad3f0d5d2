"""Who votes, according to the log itself: every voter set in it, and the last one before its start.

The last set is in force from the moment it is appended until it is cut (Raft dissertation section 4.1).
The set that is in force where a log starts is sent to whoever begins a log anew there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ourolog.storage.control import VoterSet
from ourolog.storage.types import Index


@dataclass(frozen=True, slots=True)
class VoterHistory:
    """The voter sets of one log, each with the entry that named it.

    sets: by ascending index.
    """

    sets: tuple[VoterSet, ...] = ()

    @classmethod
    def before(cls, before: VoterSet | None) -> VoterHistory:
        """The history of a log that begins behind that set, None if there is none."""
        return cls((before,) if before is not None else ())

    @property
    def latest(self) -> VoterSet | None:
        """The set in force at the end of the log, None if the log names none."""
        return self.sets[-1] if self.sets else None

    @property
    def replaced(self) -> VoterSet | None:
        """The set before the latest one, None if there is none, or it has been forgotten since."""
        return self.sets[-2] if len(self.sets) > 1 else None

    def in_force_before(self, index: Index) -> VoterSet | None:
        """The set that the entries below `index` leave in force, None if they name none."""
        return next((voters for voters in reversed(self.sets) if voters.index < index), None)

    def with_set(self, voters: VoterSet) -> VoterHistory:
        """The history with one more set at its end. Raises ValueError if it does not follow the others."""
        if self.sets and voters.index <= self.sets[-1].index:
            raise ValueError(f"a set of voters at {voters.index} does not stand behind {self.sets[-1].index}")
        return VoterHistory((*self.sets, voters))

    def since(self, start: Index) -> VoterHistory:
        """The history as a log that starts there needs it: without the sets before the one in force at its start."""
        kept = self.in_force_before(start)
        return VoterHistory(tuple(voters for voters in self.sets if voters is kept or voters.index >= start))

    def encode(self) -> list[dict[str, Any]]:
        """The history as a value that JSON can carry."""
        return [voters.encode() for voters in self.sets]

    @classmethod
    def decode(cls, value: Any) -> VoterHistory:
        """The history that was encoded. Raises ValueError for any other value."""
        if not isinstance(value, list):
            raise ValueError("a history of voters is a list")  # noqa: TRY004  # it was read
        history = cls()
        for voters in value:
            history = history.with_set(VoterSet.decode(voters))
        return history

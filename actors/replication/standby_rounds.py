"""Whether a node that does not vote keeps up with this leader: one that does not would hold up commits as a voter.

The dissertation measures it by rounds (D section 4.2.1). A round begins with the leader's end as it is then, and is
over when the node has fetched all of that. What was appended meanwhile is the next round's. A node that copies a long
log takes long for the first rounds; each is shorter, until one takes no longer than an election timeout. From then on
a cluster that has to wait for this node waits no longer than it would to elect a leader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ourolog.actors.messages.election import StandbyFetched
from ourolog.storage.control import VoterKey
from ourolog.storage.types import Index

ROUNDS_IN_TIME: Final = 2
"""So many rounds in a row have to be in time."""

MAX_STANDBYS: Final = 64
"""How many nodes are watched; others find no room while all of these fetch."""

TOLD_PER_ELECTION_TIMEOUT: Final = 20
"""How often, at most, in one election timeout the election is told of each."""


@dataclass(slots=True)
class _Standby:
    """What is known of one node with its disk.

    goal: the leader's end when its round began.
    began_s: when that was.
    in_time: how many rounds in a row were over in time.
    fetched_s: when it fetched last.
    told_s: when the election was told of it last, None if never.
    told_caught_up: what it was told.
    """

    goal: Index
    began_s: float
    fetched_s: float
    in_time: int = 0
    told_s: float | None = None
    told_caught_up: bool = False


class StandbyRounds:
    """The rounds of all nodes that do not vote, on one leader in one term."""

    def __init__(self, timeout_s: float) -> None:
        """Begin without any.

        timeout_s: the election timeout in seconds, which a round may take.
        """
        self._timeout_s = timeout_s
        self._standbys: dict[VoterKey, _Standby] = {}

    def begin_term(self) -> None:
        """Forget what was seen in an earlier term."""
        self._standbys.clear()

    def fetched(self, key: VoterKey, disk_index: Index, end: Index, now_s: float) -> StandbyFetched | None:
        """Note a valid fetch. Returns what to tell the election, None if nothing.

        disk_index: everything below is on that disk.
        end: the end of the leader's log now.
        """
        standby = self._standbys.get(key)
        if standby is None:
            if not self._has_room(now_s):
                return None
            standby = self._standbys[key] = _Standby(end, now_s, now_s)
        is_in_time = now_s - standby.began_s <= self._timeout_s
        if now_s - standby.fetched_s > self._timeout_s or not is_in_time:
            standby.in_time = 0
        if disk_index >= standby.goal:
            standby.in_time = standby.in_time + 1 if is_in_time else 0
            standby.goal, standby.began_s = end, now_s
        standby.fetched_s = now_s
        is_caught_up = standby.in_time >= ROUNDS_IN_TIME
        every_s = self._timeout_s / TOLD_PER_ELECTION_TIMEOUT
        is_due = standby.told_s is None or now_s - standby.told_s >= every_s
        if not is_due and standby.told_caught_up == is_caught_up:
            return None
        standby.told_s, standby.told_caught_up = now_s, is_caught_up
        return StandbyFetched(key.node_id, key.log_epoch, disk_index, max(0, end - disk_index), is_caught_up, now_s)

    def _has_room(self, now_s: float) -> bool:
        if len(self._standbys) >= MAX_STANDBYS:
            silent = [key for key, known in self._standbys.items() if now_s - known.fetched_s > self._timeout_s]
            for key in silent:
                del self._standbys[key]
        return len(self._standbys) < MAX_STANDBYS

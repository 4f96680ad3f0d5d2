"""Which fetches of voters the election of a leader is told of: under load there are thousands a second."""

from __future__ import annotations

from typing import NamedTuple

from ourolog.actors.replication.state import ReplicationState
from ourolog.storage.types import Index, NodeId

TOLD_PER_ELECTION_TIMEOUT = 20
"""How often, at most, in one election timeout, for each voter."""


class _Told(NamedTuple):
    """What the election was told last of a voter."""

    log_epoch: int
    at_s: float
    had_end: bool


class VoterNews:
    """Decides for each fetch whether the election is told of it.

    It is when nothing was told of that voter for a while; when the voter has reached the end of the log, unless that
    was told last already; when it fetches from another disk; and where `reports_every_fetch` says so.
    """

    def __init__(self, state: ReplicationState) -> None:
        self._state = state
        self._told: dict[NodeId, _Told] = {}

    def begin_term(self) -> None:
        """Forget what was told in an earlier term."""
        self._told.clear()

    def is_due(self, voter_id: NodeId, log_epoch: int, disk_index: Index) -> bool:
        """Whether to tell of this fetch; it then counts as told.

        disk_index: everything below is on that disk.
        """
        state = self._state
        now_s = state.ports.clock.monotonic_s()
        has_end = disk_index >= state.end.index
        told = self._told.get(voter_id)
        if (
            told is not None
            and told.log_epoch == log_epoch
            and now_s - told.at_s < state.config.election_timeout_s / TOLD_PER_ELECTION_TIMEOUT
            and (told.had_end or not has_end)
            and not state.reports_every_fetch
        ):
            return False
        self._told[voter_id] = _Told(log_epoch, now_s, has_end)
        return True

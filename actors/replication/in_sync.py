"""Which voters a leader counts as in sync, and what all of them have: what acks=all may be acknowledged for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.replication.commit import UNKNOWN, everywhere_index
from ourolog.storage.types import Index, NodeId

IN_SYNC_ELECTIONS: Final = 3
"""For how many election timeouts without a fetch a voter counts as in sync. One that is alive fetches several times in
each of them; the election timeout is what people set to how slow their machines are."""


class InSync:
    """Decides up to where everything may be acknowledged by all, within one term of leadership.

    Without `min_in_sync` that is what every voter has, however long one of them is silent. With it, voters that are
    silent are not waited for, as long as that many have it (Kafka's min.insync.replicas).
    """

    def __init__(self, config: NodeConfig, now_s: float) -> None:
        """Begin a term: every voter counts as in sync until it has been silent for long enough.

        now_s: by the monotonic clock.
        """
        self._config = config
        self._silent_after_s = IN_SYNC_ELECTIONS * config.election_timeout_s
        self._began_s = now_s
        self._fetched_s: dict[NodeId, float] = {}
        self._index = UNKNOWN

    def fetched(self, voter: NodeId, now_s: float) -> None:
        """A valid fetch of a voter has arrived."""
        self._fetched_s[voter] = now_s

    def set_voters(self, before: tuple[NodeId, ...], voters: tuple[NodeId, ...], now_s: float) -> None:
        """Others vote from now on: a new voter is in sync until it has been silent for long enough."""
        fetched_s = {voter: at_s for voter, at_s in self._fetched_s.items() if voter in voters}
        self._fetched_s = {voter: now_s for voter in voters if voter not in before} | fetched_s

    def members(self, voters: tuple[NodeId, ...], now_s: float) -> tuple[NodeId, ...]:
        """The voters that must have what is acknowledged by all."""
        if self._config.min_in_sync is None:
            return voters
        return tuple(
            voter
            for voter in voters
            if voter == self._config.node_id
            or now_s - self._fetched_s.get(voter, self._began_s) <= self._silent_after_s
        )

    def index(self, voters: tuple[NodeId, ...], on_disk: Mapping[NodeId, Index], members: tuple[NodeId, ...]) -> Index:
        """The index below which everything may be acknowledged by all; it never falls within a term.

        members: the voters that are in sync now.
        """
        everywhere = everywhere_index(members, on_disk)
        wanted = self._config.min_in_sync
        if wanted is not None:
            reached = sorted((on_disk.get(voter, UNKNOWN) for voter in voters), reverse=True)
            everywhere = min(everywhere, reached[wanted - 1]) if wanted <= len(reached) else UNKNOWN
        self._index = max(self._index, everywhere)
        return self._index

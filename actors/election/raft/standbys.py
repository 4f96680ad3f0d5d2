"""The nodes that copy from this leader and have no vote, as the replicator tells of them."""

from __future__ import annotations

from typing import Final

from ourolog.actors.election.raft.voter_changes import Standby
from ourolog.actors.messages.election import StandbyFetched
from ourolog.actors.messages.values import Member
from ourolog.storage.control import Voter, VoterKey
from ourolog.storage.types import NodeId

MAX_KNOWN: Final = 64
"""How many are remembered; of more, those that fetched longest ago are forgotten."""


class Standbys:
    """What is known of them, in one term of this leader."""

    def __init__(self) -> None:
        self._known: dict[VoterKey, Standby] = {}

    def clear(self) -> None:
        """Forget all: a new term begins."""
        self._known.clear()

    def fetched(self, fetched: StandbyFetched, member: Member | None) -> None:
        """Note a fetch.

        member: what gossip knows of that node, None if nothing: then it is forgotten.
        """
        if member is None:
            self.gone(fetched.node_id)
            return
        voter = Voter(fetched.node_id, fetched.log_epoch, member.rpc_addr, member.gossip_addr, member.own_peer_addr)
        self._known.pop(voter.key, None)
        self._known[voter.key] = Standby(voter, fetched.lag, fetched.is_caught_up, fetched.at_s, fetched.end)
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def gone(self, node_id: NodeId) -> None:
        """Gossip counts that node as gone."""
        for key in [key for key in self._known if key.node_id == node_id]:
            del self._known[key]

    @property
    def fetched_s(self) -> dict[VoterKey, float]:
        """When each has fetched last, by the monotonic clock."""
        return {key: standby.at_s for key, standby in self._known.items()}

    def besides(self, voters: tuple[VoterKey, ...]) -> tuple[Standby, ...]:
        """Those that are none of these, sorted."""
        return tuple(self._known[key] for key in sorted(self._known) if key not in voters)

"""What a node hears of other generations of its own cluster (`ourolog.storage.recovering`).

A recovery makes the next generation on one survivor's disk. Calls between generations are refused anyway, since each
has an id of its own. But voters of the old one that come back could elect a leader among themselves; gossip tells
them that the cluster was recovered without them, and from then on they have no part in anything.

Of two survivors that were recovered separately neither is later than the other: a person has to decide, and nothing is
acknowledged on either until then. Only what a member claims itself counts, never what others say of it. Without
authentication whoever can gossip under a cluster's name can claim anything; see docs/running.md.
"""

from __future__ import annotations

from ourolog.actors.election.raft.founding_flags import listed
from ourolog.actors.messages.values import ElectionClaim
from ourolog.storage.founding import Founding
from ourolog.storage.superseded import Superseded
from ourolog.storage.types import NodeId

MAX_RIVALS = 64
"""How many members of a rival generation are remembered: anybody can invent names."""


def superseded_by(own: Founding, peer_id: NodeId, claim: ElectionClaim) -> Superseded | None:
    """The later generation of this node's own cluster that the member claims to belong to, None if it claims none."""
    if claim.lineage != own.lineage or claim.generation <= own.generation or claim.cluster_id == own.cluster_id:
        return None
    return Superseded(claim.generation, claim.cluster_id, peer_id)


class Rivals:
    """The members that belong to another recovery of this node's cluster, of the same generation."""

    def __init__(self) -> None:
        self._rivals: set[NodeId] = set()

    def heed(self, own: Founding, peer_id: NodeId, claim: ElectionClaim) -> None:
        """Note what a member claims now."""
        is_rival = (
            claim.lineage == own.lineage
            and claim.generation == own.generation > 1
            and claim.cluster_id not in (0, own.cluster_id)
        )
        if is_rival and (peer_id in self._rivals or len(self._rivals) < MAX_RIVALS):
            self._rivals.add(peer_id)
        elif not is_rival:
            self._rivals.discard(peer_id)

    def left(self, peer_id: NodeId) -> None:
        """The member left in good order. One that is only not heard of may still acknowledge records elsewhere."""
        self._rivals.discard(peer_id)

    def dispute(self, own_id: NodeId, own: Founding) -> str:
        """Why nothing may be acknowledged, a sentence for the person who decides; "" if there are no rivals."""
        if not self._rivals:
            return ""
        rivals = listed(tuple(sorted(self._rivals)))
        return (
            f"{own_id} and {rivals} were recovered separately: both are generation {own.generation} of this cluster, "
            f"and neither has what the other one has taken since. Nothing is acknowledged here while {rivals} may run: "
            "decide which of them goes on, stop the other, give it an empty --data-dir, and start it with --join"
        )

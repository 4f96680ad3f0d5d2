"""What is said of nodes that another cluster of the same name has founded."""

from __future__ import annotations

from typing import Final

from ourolog.actors.messages.values import ElectionClaim
from ourolog.storage.types import NodeId

MAX_STRANGERS: Final = 64
"""How many nodes of other clusters an actor warns of: anybody can invent names."""


def why_of_other_cluster(own_id: NodeId, own_cluster: int, node_id: NodeId, cluster_id: int) -> str:
    """That two nodes have nothing to do with each other, and what to do about it.

    own_cluster, cluster_id: to which clusters their disks belong.
    """
    return (
        f"{own_id} belongs to cluster {own_cluster:x} by its disk, {node_id} to {cluster_id:x}: they "
        "were founded separately, or one of them was recovered without the other. Give one of them an empty "
        "--data-dir, or another --cluster and its own addresses"
    )


def why_of_other_claim(own_id: NodeId, own: ElectionClaim, node_id: NodeId, claim: ElectionClaim) -> str:
    """Why a member of another cluster, by its own claim, has nothing to do with this node, and what to do about it."""
    if claim.lineage != own.lineage or claim.generation >= own.generation:
        return why_of_other_cluster(own_id, own.cluster_id, node_id, claim.cluster_id)
    return (
        f"{node_id} belongs to generation {claim.generation} of this cluster, which was recovered without it: {own_id} "
        f"belongs to generation {own.generation}. Stop {node_id}, give it an empty --data-dir, and start it with --join"
    )

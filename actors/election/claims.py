"""What the members of a cluster claim about who leads, and whether all these claims can be true.

People set flags on each node separately, so flags sometimes differ: while they are
changed one by one, or when a supervisor starts an old command line again. Two nodes may then lead
in one term, each with its own followers. Entries name their writers (ourolog.storage.terms); claims are
how the nodes notice.

Which claims count: those of the voters, since this node's acknowledgements rest on their disks; and
those of anybody else only if more than half of all members contradict this node, and no majority of its
voters is present and agrees. In that case this node is the one with the wrong flags. Without that rule strangers
who join under made-up names could silence a cluster.
"""

from __future__ import annotations

from typing import Final

from ourolog.actors.messages.election import ClaimReceived
from ourolog.actors.messages.values import ElectionClaim
from ourolog.storage.types import NodeId

_MAX_NAMED: Final = 3


class Claims:
    """The last claim of each member that is present, or that contradicted this node when it failed.

    own: what this node claims.
    voters: who votes.
    """

    def __init__(self, node_id: NodeId, voters: tuple[NodeId, ...], own: ElectionClaim) -> None:
        self.own = own
        self.voters = voters
        self._node_id = node_id
        self._claims: dict[NodeId, ElectionClaim] = {}
        self._failed: set[NodeId] = set()

    def add(self, received: ClaimReceived) -> None:
        self._failed.discard(received.peer_id)
        self._claims[received.peer_id] = received.claim

    def foreign(self) -> tuple[tuple[NodeId, ElectionClaim], ...]:
        """The claims of members whose disks belong to another cluster than this node's; they contradict nothing."""
        return tuple((peer_id, claim) for peer_id, claim in self.all() if self._is_foreign(claim))

    def _is_foreign(self, claim: ElectionClaim) -> bool:
        return 0 not in (claim.cluster_id, self.own.cluster_id) and claim.cluster_id != self.own.cluster_id

    def left(self, peer_id: NodeId) -> None:
        """The member left in good order, and its claim with it."""
        self._claims.pop(peer_id, None)
        self._failed.discard(peer_id)

    def failed(self, peer_id: NodeId) -> None:
        """Nothing is heard of the member any more. A voter that contradicts this node may still be running somewhere.

        A node that is cut off looks the same as a dead one; a person has to say which it is.
        """
        claim = self._claims.get(peer_id)
        if claim is not None and peer_id in self.voters and self._contradiction(peer_id, claim):
            self._failed.add(peer_id)
        else:
            self._claims.pop(peer_id, None)

    def all(self) -> tuple[tuple[NodeId, ElectionClaim], ...]:
        """All claims, sorted by member."""
        return tuple(sorted(self._claims.items()))

    def dispute(self) -> str:
        """Why the claims cannot all be true, for a person to read; "" if they can."""
        by_member = {
            peer_id: complaint for peer_id, claim in self.all() if (complaint := self._contradiction(peer_id, claim))
        }
        is_outvoted = 2 * len(by_member) > len(self._claims) + 1 and not self._has_majority()
        complaints = [complaint for peer_id, complaint in by_member.items() if is_outvoted or peer_id in self.voters]
        if not complaints:
            return ""
        named = "; ".join(complaints[:_MAX_NAMED])
        more = f"; and {len(complaints) - _MAX_NAMED} more" if len(complaints) > _MAX_NAMED else ""
        return (
            f"{self._node_id} runs with --election {self.own.election}, but {named}{more}. Nothing is acknowledged "
            "here until all agree: decide which node leads (the one that has all that was acknowledged), and "
            "restart those that have another --election with that one"
            + ("; if one of them is gone for good, restart those that are left" if self._failed else "")
        )

    def _has_majority(self) -> bool:
        """Whether a majority of the voters agrees with this node, counting itself; this node alone proves nothing."""
        others = sum(self._agrees(voter) for voter in self.voters if voter != self._node_id)
        return others > 0 and 2 * (others + (self._node_id in self.voters)) > len(self.voters)

    def _agrees(self, peer_id: NodeId) -> bool:
        claim = self._claims.get(peer_id)
        return claim is not None and not self._is_foreign(claim) and not self._contradiction(peer_id, claim)

    def _contradiction(self, peer_id: NodeId, claim: ElectionClaim) -> str:
        own = self.own
        if self._is_foreign(claim):
            return ""
        silence = ", which has failed or is cut off," if peer_id in self._failed else ""
        if claim.election != own.election:
            return f"{peer_id}{silence} with {claim.election}{self._same_term(claim)}"
        if self._same_term(claim):
            return f"{peer_id}{silence} says otherwise{self._same_term(claim)}"
        return ""

    def _same_term(self, claim: ElectionClaim) -> str:
        own = self.own
        if claim.term != own.term or None in (claim.leader_id, own.leader_id) or claim.leader_id == own.leader_id:
            return ""
        return f" (both claim term {own.term}: for {own.leader_id} here, for {claim.leader_id} there)"

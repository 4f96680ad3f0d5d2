"""What the members of a cluster hold for true of who leads, and whether all of it can be.

Flags are a person's to set, on each node by itself, and so they differ now and then: while they are
changed one by one, or when a supervisor starts an old command line again. Two nodes may then lead
one term, each with followers of its own. Entries tell their writers apart (ourolog.storage.terms); this is
how the nodes notice.

Whose word counts: that of the voters, whose disks this node's acknowledgements are made of; and that
of anybody else only if more than half of all members contradict this node, and no majority of its
voters is there and agrees, so that it is the one with the wrong flags. Else strangers who join under
made-up names could silence a cluster.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from ourolog.actors.config import ElectionChoice
from ourolog.actors.gossip.codec import MAX_ELECTION_BYTES
from ourolog.actors.messages.election import ClaimReceived
from ourolog.actors.messages.values import ElectionClaim
from ourolog.storage.types import NodeId

_MAX_NAMED: Final = 3


def claimed_election(choice: ElectionChoice) -> str:
    """The flag's value as it is claimed: as it is, or its beginning and a digest where it is too long."""
    text = str(choice)
    if len(text.encode()) <= MAX_ELECTION_BYTES:
        return text
    mark = f"…{crc32(text.encode()):08x}"
    return text[: MAX_ELECTION_BYTES - len(mark.encode())] + mark


class Claims:
    """What each member said last that is present, or contradicted this node when it failed.

    own: what this node says.
    """

    def __init__(self, node_id: NodeId, voters: tuple[NodeId, ...], own: ElectionClaim) -> None:
        self.own = own
        self._node_id = node_id
        self._voters = voters
        self._claims: dict[NodeId, ElectionClaim] = {}
        self._failed: set[NodeId] = set()

    def add(self, received: ClaimReceived) -> None:
        self._failed.discard(received.peer_id)
        self._claims[received.peer_id] = received.claim

    def left(self, peer_id: NodeId) -> None:
        """The member was stopped, and with it what it held for true."""
        self._claims.pop(peer_id, None)
        self._failed.discard(peer_id)

    def failed(self, peer_id: NodeId) -> None:
        """The member is heard of no more. A voter that contradicts this node may go on doing so where it is.

        Cut off it looks the same as dead; whether it is, a person has to say.
        """
        claim = self._claims.get(peer_id)
        if claim is not None and peer_id in self._voters and self._contradiction(peer_id, claim):
            self._failed.add(peer_id)
        else:
            self._claims.pop(peer_id, None)

    def all(self) -> tuple[tuple[NodeId, ElectionClaim], ...]:
        """Sorted by member."""
        return tuple(sorted(self._claims.items()))

    def dispute(self) -> str:
        """Why the claims cannot all be true, for a person to read; "" if they can."""
        by_member = {
            peer_id: complaint for peer_id, claim in self.all() if (complaint := self._contradiction(peer_id, claim))
        }
        is_outvoted = 2 * len(by_member) > len(self._claims) + 1 and not self._has_majority()
        complaints = [complaint for peer_id, complaint in by_member.items() if is_outvoted or peer_id in self._voters]
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
        """Whether other voters, and a majority with them, agree with this node; alone it proves nothing."""
        others = sum(self._agrees(voter) for voter in self._voters if voter != self._node_id)
        return others > 0 and 2 * (others + (self._node_id in self._voters)) > len(self._voters)

    def _agrees(self, peer_id: NodeId) -> bool:
        claim = self._claims.get(peer_id)
        return claim is not None and not self._contradiction(peer_id, claim)

    def _contradiction(self, peer_id: NodeId, claim: ElectionClaim) -> str:
        own = self.own
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

"""Who votes, and where everybody is, as one node knows it from its log, its founding promise and gossip."""

from __future__ import annotations

from dataclasses import replace

from ourolog.actors.messages.events import VotersChanged
from ourolog.actors.messages.values import Member
from ourolog.storage.control import Voter, VoterKey, VoterSet
from ourolog.storage.founding import Founding
from ourolog.storage.types import NodeId


class Electorate:
    """The voters in force, the set before them, and the members that gossip knows.

    The last set of voters in the log is in force from its append; before the first there is the founding promise.

    founding: to which cluster this node's disk belongs, None if to none.
    logged: the last set of voters in the log, None if there is none.
    """

    def __init__(self) -> None:
        self.founding: Founding | None = None
        self.logged: VoterSet | None = None
        self._replaced: VoterSet | None = None
        self._members: dict[NodeId, Member] = {}
        self._gone: set[NodeId] = set()
        self._told: VotersChanged | None = None

    # ------------------------------------------------------------ who votes

    def opened(self, founding: Founding | None, logged: VoterSet | None, replaced: VoterSet | None) -> None:
        """The log is open.

        replaced: the set of voters in the log before the last one.
        """
        self.founding, self.logged, self._replaced = founding, logged, replaced

    def changed(self, logged: VoterSet | None, replaced: VoterSet | None) -> None:
        """The log names other voters, or names none any more."""
        self.logged, self._replaced = logged, replaced
        for node_id in self._gone - set(self.names):
            self._gone.discard(node_id)
            self._members.pop(node_id, None)

    @property
    def voters(self) -> tuple[Voter, ...]:
        """The voters in force."""
        if self.logged is not None:
            return self.logged.voters
        return self.founding.voters if self.founding is not None else ()

    @property
    def names(self) -> tuple[NodeId, ...]:
        return tuple(voter.node_id for voter in self.voters)

    @property
    def keys(self) -> tuple[VoterKey, ...]:
        return tuple(voter.key for voter in self.voters)

    @property
    def cluster_id(self) -> int:
        assert self.founding is not None, "who votes belongs to a cluster"
        return self.founding.cluster_id

    def voted_before(self, key: VoterKey) -> bool:
        """Whether that disk is in the set of voters before the last one that the log names."""
        if self.logged is None:
            return False
        if self._replaced is not None:
            return key in self._replaced.keys
        return self.founding is not None and key in {voter.key for voter in self.founding.voters}

    def news(self) -> VotersChanged | None:
        """What is to be announced of all this; None if it is what `news` has said before."""
        index = self.logged.index if self.logged is not None else None
        changed = VotersChanged(
            self.names,
            self.keys,
            addrs=tuple(voter.rpc_addr for voter in self.voters),
            peer_addrs=tuple(voter.peer_addr for voter in self.voters),
            index=index,
        )
        if self.founding is not None:
            changed = replace(
                changed,
                cluster_id=self.founding.cluster_id,
                generation=self.founding.generation,
                origin_id=self.founding.origin_id,
            )
        if changed == self._told:
            return None
        self._told = changed
        return changed

    # ------------------------------------------------------------ where they are

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple(self._members.values())

    @property
    def gone(self) -> frozenset[NodeId]:
        """The voters that gossip counts as failed, or that have left."""
        return frozenset(self._gone)

    def met(self, member: Member) -> None:
        """Gossip knows that node, and where it is."""
        self._members[member.node_id] = member
        self._gone.discard(member.node_id)

    def missed(self, node_id: NodeId) -> None:
        """Gossip counts that node as gone. Where a voter was is remembered."""
        if node_id in self.names:
            self._gone.add(node_id)
        else:
            self._members.pop(node_id, None)

    def member(self, node_id: NodeId) -> Member | None:
        return self._members.get(node_id)

    def address_of(self, voter: NodeId) -> str | None:
        """Where a voter is called: as gossip says, or else as the log or the founding promise does."""
        if voter in self._members:
            return self._members[voter].peer_addr
        return next((known.peer_addr for known in self.voters if known.node_id == voter), None)

"""The fault budget: which copies must stay good, so that a run without a violation proves something.

Any number of nodes may crash, lose power, pause or be cut off, at any time: what was durable
is still there. Faults that take back what was durable are bounded:

- With a leader elected at most a minority of the voters is spoiled at once. A decreed leader never is,
  since its log is the history and nobody may take its place; a leader found by an oracle may be, and
  so may one that people replace.
  A copy is spoiled if its disk was lost, is an old one, lies or rots. It counts as good again when it holds all
  that the leader has and a ballot of its term, or when the damage is restored.
- Where a vote belongs to a disk, a voter that has lost its disk has lost its vote for good, and none does before the
  cluster is founded, which takes all of them. One founder keeps the disk with which it founded the cluster, since that
  is how one whose disk is empty learns that there is nothing to be founded. Voters are those of the sets in force: of
  each set that a log names last, and of the one before it while that may still be in force, at most a minority is
  spoiled. One that has lost its disk and is in none of these sets any more counts as any node that stands by.
- Where people decree who leads, or voters elect it, no disk lies or is an old one: a leader takes its next term from
  its own disk, and would use one twice under the same name and log; a voter would vote twice.
- With nobody elected a record is acknowledged when it is on one disk. So a disk is lost only while
  another good one holds every batch that is on it, no disk lies or is an old one (numbers would be
  used twice), and one disk at a time is spoiled.
- Rot changes what has been at rest since before the last sync: a bit, some bytes, a sector. It counts as spoiled until
  it is good again. Where somebody is elected and it lies in a segment, the node has about half a minute to repair it
  from other replicas; after that, and everywhere else, the operator restores the file. Where voters elect, the same
  bytes may rot on two disks at once if nothing else is spoiled and a third voter has them: no entry's last good copy
  ever rots.
- A lost disk is replaced only after everything that its node sent has left the network.
"""

from __future__ import annotations

from typing import Final, Protocol

from ourolog.simulation.checker import World
from ourolog.simulation.disks.image import ballot_term_on, holds_all, identities_on, names_voters, opens
from ourolog.simulation.known_sets import KnownSets
from ourolog.simulation.options import Options
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId

FORGETFUL: Final = frozenset({"fsync_lies", "old_disk"})
"""Faults that undo a part of what a node promised, while the node keeps its name and its log's epoch."""


def budget_of(options: Options) -> str:
    """What the budget keeps good in a run with these options, as a sentence for the run's report."""
    choice = options.election_choice()
    if not choice.elects:
        return (
            "a disk is lost only while another good one holds every batch that is on it, one disk at a time rots or is "
            "lost, and no disk lies or is an old one"
        )
    voters = choice.voters
    spoilable = (len(voters) - 1) // 2
    if options.is_vote_of_disk:
        return (
            f"at most {spoilable} of {len(voters)} voters lose their disks, for good, and none before the cluster is "
            "founded; no more of them are lost or rot at once, and no disk lies or is an old one. So it is with each "
            "set of voters that a log names last"
        )
    is_fixed = choice.is_decreed and not options.decrees_change
    never = f", and the leader {choice.decreed_leader} never" if is_fixed else ""
    return (
        f"at most {spoilable} of {len(voters)} voters at once has a disk that was lost, is an old one, "
        f"lies or rots{never}"
    )


class LedWorld(World, Protocol):
    """A world that knows who leads."""

    @property
    def leader_id(self) -> NodeId | None: ...

    @property
    def is_lead_passed_on(self) -> bool: ...

    @property
    def are_terms_local(self) -> bool: ...

    @property
    def is_vote_of_disk(self) -> bool: ...

    @property
    def sets(self) -> KnownSets: ...


class FaultBudget:
    """Decides whether a fault may spoil another copy.

    spoiled: the nodes whose copy is not good now, and why.
    withheld: how often each kind of fault was forbidden.
    """

    def __init__(self, world: LedWorld) -> None:
        self.spoiled: dict[NodeId, str] = {}
        self.withheld: dict[str, int] = {}
        self._world = world
        self._is_founded = False
        self._founders_lost: set[NodeId] = set()

    def may_spoil(self, kind: str, node_id: NodeId) -> bool:
        """Whether that fault leaves enough good copies; a refusal is counted in `withheld`."""
        allowed = node_id not in self.spoiled and (
            self._may_spoil_voter(kind, node_id) if self._voters(node_id) else self._may_spoil_peer(kind, node_id)
        )
        if not allowed:
            self.withheld[kind] = self.withheld.get(kind, 0) + 1
        return allowed

    def spoil(self, kind: str, node_id: NodeId) -> None:
        self.spoiled[node_id] = kind
        if kind == "disk_lost" and node_id in self._voters(node_id):
            self._founders_lost.add(node_id)

    def restore(self, node_id: NodeId) -> None:
        """Note that the node's copy is again what it was."""
        self.spoiled.pop(node_id, None)

    def is_lost(self, node_id: NodeId) -> bool:
        """Whether something that was durable on it is gone for good."""
        return self.spoiled.get(node_id) in ("disk_lost", "old_disk", "lost_to_lies")

    def review(self) -> None:
        """Count copies as good that were lost and have been made again since."""
        for node_id in list(self.spoiled):
            if self.is_lost(node_id) and self._is_whole_again(node_id):
                self.restore(node_id)

    def is_founded(self) -> bool:
        """Whether a majority of the voters can do without the others.

        Where a vote belongs to a disk each voter promises with which others it founds the cluster, and the first leader
        writes that into the log.
        """
        if not self._is_founded:
            voters = next(iter(self._world.configs.values())).election.voters
            named = sum(names_voters(self._world.durable(voter)) for voter in voters)
            self._is_founded = not self._world.is_vote_of_disk or 2 * named > len(voters)
        return self._is_founded

    def _voters(self, node_id: NodeId) -> tuple[NodeId, ...]:
        return self._world.configs[node_id].election.voters

    def _may_spoil_voter(self, kind: str, node_id: NodeId) -> bool:
        voters = self._voters(node_id)
        if node_id == self._world.leader_id and not self._world.is_lead_passed_on:
            return False
        if kind in FORGETFUL and self._world.are_terms_local:
            return False
        if node_id not in voters and not self._votes(node_id):
            return True
        if kind == "disk_lost" and not self.is_founded():
            return False
        if self._world.is_vote_of_disk:
            if kind == "disk_lost" and set(voters) <= {*self._founders_lost, node_id}:
                return False
            return all(self._leaves_majority(node_id, keys) for keys in self._sets_in_force())
        spoiled = sum(voter in self.spoiled for voter in voters)
        return spoiled + 1 <= (len(voters) - 1) // 2

    def _votes(self, node_id: NodeId) -> bool:
        """Whether that node votes with the disk that it has, by any set of voters that may be in force."""
        return self._world.is_vote_of_disk and any(
            self._world.sets.key_of(node_id) in keys for keys in self._world.sets.in_force
        )

    def _sets_in_force(self) -> list[tuple[VoterKey, ...]]:
        """The last two sets of voters in each log: one that a log names may be in force, or be cut again."""
        return self._world.sets.in_force or [
            tuple(self._world.sets.key_of(voter) for voter in next(iter(self._world.configs.values())).election.voters)
        ]

    def _leaves_majority(self, node_id: NodeId, keys: tuple[VoterKey, ...]) -> bool:
        """Whether a majority of these voters has what it had, if that node has not."""
        good = [key for key in keys if key.node_id != node_id and self._is_good(key)]
        return 2 * len(good) > len(keys)

    def _is_good(self, key: VoterKey) -> bool:
        is_its_disk = self._world.sets.key_of(key.node_id) == key
        return is_its_disk and (key.node_id not in self.spoiled or self.spoiled[key.node_id] == "disk_lost")

    def _may_spoil_peer(self, kind: str, node_id: NodeId) -> bool:
        if kind in FORGETFUL or self.spoiled:
            return False
        if kind == "bit_rot":
            return True
        on_it = identities_on(self._world.durable(node_id))
        return any(
            on_it.keys() <= identities_on(self._world.durable(other)).keys()
            for other in self._world.configs
            if other != node_id
        )

    def _is_whole_again(self, node_id: NodeId) -> bool:
        if not self._voters(node_id):
            return True  # every batch it had held is on another disk
        leader_id = self._world.leader_id
        if leader_id is None or leader_id == node_id or leader_id in self.spoiled:
            return False  # a leader's disk that lies or rots shows less than there is to copy
        disk, leaders = self._world.durable(node_id), self._world.durable(leader_id)
        return opens(disk) and ballot_term_on(disk) >= ballot_term_on(leaders) and holds_all(disk, leaders)

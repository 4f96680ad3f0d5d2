"""Which change of voters a leader makes, as pure functions (section 6; D section 4.2; KIP-853).

A change is a whole new set of voters with one key more or one key less. It is in force from its append on, and is
committed by the new set. What has to be true before one:
- the leader has committed an entry of its own term (Ongaro 2015), and the last set of voters; `VoterChanger` sees to
  that;
- a majority of the new set is there: otherwise it could not be committed, and nothing after it;
- who is added has kept up with the leader (D section 4.2.1).

Who replaces whom:
- A dead voter is removed, and then another one added. Adding first would need three of four while one is dead.
- A living voter that a person removes is followed by its successor before it goes, if there is one: so there are never
  fewer copies than before.
- Nothing removes a living voter by itself, however many there are; nor a dead one without somebody to take its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ourolog.actors.config import MAX_FOUNDERS
from ourolog.actors.election.raft.founding_flags import listed
from ourolog.actors.messages.election import ChangeProblem
from ourolog.storage.control import MAX_REMOVED, Voter, VoterKey, VotersSet
from ourolog.storage.types import Index, NodeId

THERE_WITHIN: Final = 1.0
"""A node that has not fetched for so many election timeouts is not there."""


@dataclass(frozen=True, slots=True)
class Standby:
    """A node that copies and does not vote.

    voter: what it would be as a voter.
    lag: how many entries of the leader's log it lacked when it fetched last.
    is_caught_up: whether it has kept up with the leader, see `StandbyRounds`.
    at_s: when it fetched last, by the monotonic clock.
    end: everything below was on its disk then.
    """

    voter: Voter
    lag: int
    is_caught_up: bool
    at_s: float
    end: Index = Index(0)

    @property
    def key(self) -> VoterKey:
        return self.voter.key


@dataclass(frozen=True, slots=True)
class Situation:
    """What a leader knows when it decides.

    me: the leader and its disk.
    now_s: the monotonic clock.
    timeout_s: the election timeout in seconds.
    replicas: how many voters there should be.
    replace_after_s: how long a voter may be gone before it is replaced, in seconds.
    voters: the voters in force.
    removed: the disks that a person has removed.
    led_since_s: since when this node leads.
    fetched: when each voter has fetched last from this leader.
    gone: the nodes that gossip counts as failed, or that have left.
    standbys: the nodes that copy, sorted.
    """

    me: VoterKey
    now_s: float
    timeout_s: float
    replicas: int
    replace_after_s: float
    voters: tuple[Voter, ...]
    removed: tuple[VoterKey, ...] = ()
    led_since_s: float = 0.0
    fetched: Mapping[VoterKey, float] | None = None
    gone: frozenset[NodeId] = frozenset()
    standbys: tuple[Standby, ...] = ()

    def voter_named(self, node_id: NodeId) -> Voter | None:
        return next((voter for voter in self.voters if voter.node_id == node_id), None)

    def standby_named(self, node_id: NodeId) -> Standby | None:
        """The disk of that name that copies; if there are several, the one that fetched last."""
        named = [standby for standby in self.standbys if standby.voter.node_id == node_id]
        return max(named, key=lambda standby: standby.at_s, default=None)

    def last_fetch_s(self, key: VoterKey) -> float:
        """When that voter has fetched last; if it has not, when this node began to lead."""
        return (self.fetched or {}).get(key, self.led_since_s)

    def is_there(self, key: VoterKey) -> bool:
        """Whether that node has fetched lately; the leader is always there."""
        since_s = self.now_s - THERE_WITHIN * self.timeout_s
        times_s = [self.fetched[key]] if self.fetched and key in self.fetched else []
        times_s += [standby.at_s for standby in self.standbys if standby.key == key]
        return key == self.me or any(at_s >= since_s for at_s in times_s)

    def missing(self, voters: tuple[Voter, ...]) -> tuple[NodeId, ...]:
        """Who of these is not there, if too few are there for a majority; () if enough are."""
        missing = tuple(voter.node_id for voter in voters if not self.is_there(voter.key))
        return missing if 2 * (len(voters) - len(missing)) <= len(voters) else ()


@dataclass(frozen=True, slots=True)
class Change:
    """One change of voters.

    entry: the set of voters from then on.
    key: who is added or removed.
    is_addition: which of the two.
    why: a sentence for a person.
    """

    entry: VotersSet
    key: VoterKey
    is_addition: bool
    why: str


@dataclass(frozen=True, slots=True)
class NoChange:
    """Why what a person asked for is not done.

    problem: for a program.
    why: a sentence for a person.
    """

    problem: ChangeProblem
    why: str


# ---------------------------------------------------------------- by itself


def automatic(situation: Situation) -> Change | None:
    """The change that a leader makes by itself now, None if there is nothing to be done, or nobody to do it with."""
    successor = _successor(situation)
    if successor is None:
        return None
    if len(situation.voters) < situation.replicas:
        count = f"{len(situation.voters)} of {situation.replicas} replicas vote"
        return _feasible(situation, _added(situation, successor, f"{count}, and {successor.key.node_id} keeps up"))
    for voter in situation.voters:
        if why := _why_dead(situation, voter):
            return _feasible(situation, _removed(situation, voter, f"{why}; {successor.key.node_id} takes its place"))
    return None


def _successor(situation: Situation) -> Standby | None:
    """The node that would vote next: of those that keep up and that no person has removed the one with most."""
    fit = [
        standby
        for standby in situation.standbys
        if standby.is_caught_up and not _why_unfit(situation, standby) and standby.key not in situation.removed
    ]
    return min(fit, key=lambda standby: (standby.lag, standby.key), default=None)


def _why_unfit(situation: Situation, standby: Standby) -> str:
    """Why that node cannot vote now, "" if it can."""
    node_id = standby.key.node_id
    if situation.voter_named(node_id) is not None:
        return f"{node_id} votes with another disk than the one that it has now: remove that one first"
    if not situation.is_there(standby.key):
        return f"{node_id} has not fetched from {situation.me.node_id} for {situation.now_s - standby.at_s:.1f} s"
    if node_id in situation.gone:
        return f"gossip counts {node_id} as gone"
    return ""


def _why_dead(situation: Situation, voter: Voter) -> str:
    """Why that voter is replaced, "" if it is not: the leader is not, and nobody whom gossip sees with its disk."""
    silent_s = situation.now_s - situation.last_fetch_s(voter.key)
    if voter.key == situation.me or silent_s < situation.replace_after_s:
        return ""
    has_other_disk = situation.standby_named(voter.node_id) is not None
    if voter.node_id not in situation.gone and not has_other_disk:
        return ""
    how = "has another disk" if has_other_disk else "is gone"
    return f"{voter.node_id} {how}, and has not fetched for {silent_s:.0f} s"


def _feasible(situation: Situation, change: Change) -> Change | None:
    return None if situation.missing(change.entry.voters) else change


# ---------------------------------------------------------------- what a person asks for


def asked_to_add(situation: Situation, node_id: NodeId) -> Change | NoChange:
    """A person wants that node to vote."""
    voter, standby = situation.voter_named(node_id), situation.standby_named(node_id)
    if standby is None:
        if voter is not None:
            return NoChange(ChangeProblem.IS_VOTER, f"{node_id} votes already; {_who_votes(situation)}")
        return NoChange(
            ChangeProblem.UNKNOWN,
            f"no node {node_id} copies from {situation.me.node_id}: start it with --join, and wait until it has caught "
            f"up; {_who_votes(situation)}",
        )
    if why := _why_unfit(situation, standby):
        return NoChange(ChangeProblem.IMPOSSIBLE, why)
    if not standby.is_caught_up:
        behind = f"it lacks {standby.lag} entries" if standby.lag else "it has what there is, but not for long enough"
        return NoChange(ChangeProblem.IMPOSSIBLE, f"{node_id} has not caught up yet: {behind}; try again")
    if len(situation.voters) >= MAX_FOUNDERS:
        return NoChange(ChangeProblem.IMPOSSIBLE, f"there are {len(situation.voters)} voters, and more help nobody")
    return _possible(situation, _added(situation, standby, "a person has added it"))


def asked_to_remove(situation: Situation, node_id: NodeId, *, has_successor: bool = False) -> Change | NoChange:
    """A person wants that voter to vote no more. The next change on the way there: a successor may come first.

    has_successor: whether that has been done.
    """
    voter = situation.voter_named(node_id)
    if voter is None:
        return NoChange(ChangeProblem.UNKNOWN, f"{node_id} does not vote; {_who_votes(situation)}")
    if len(situation.voters) == 1:
        why = f"{node_id} is the last voter: without one nothing can be stored. Add another one first"
        return NoChange(ChangeProblem.IMPOSSIBLE, why)
    successor = None if has_successor else _successor(situation)
    if successor is not None and situation.is_there(voter.key) and len(situation.voters) <= situation.replicas:
        follows = _feasible(situation, _added(situation, successor, f"it follows {node_id}, which a person removes"))
        if follows is not None:
            return follows
    return _possible(situation, _removed(situation, voter, "a person has removed it", by_person=True))


def _possible(situation: Situation, change: Change) -> Change | NoChange:
    missing = situation.missing(change.entry.voters)
    if not missing:
        return change
    count = len(change.entry.voters)
    do = "has" if len(missing) == 1 else "have"
    return NoChange(
        ChangeProblem.IMPOSSIBLE,
        f"then {count // 2 + 1} of {listed([voter.node_id for voter in change.entry.voters])} would be needed, and "
        f"{listed(missing)} {do} not fetched from {situation.me.node_id} for "
        f"{THERE_WITHIN * situation.timeout_s:g} s: nothing could be stored any more",
    )


def _who_votes(situation: Situation) -> str:
    names = sorted(voter.node_id for voter in situation.voters)
    return f"{listed(names)} vote" if len(names) > 1 else f"{names[0]} votes"


# ---------------------------------------------------------------- the new set


def _added(situation: Situation, standby: Standby, why: str) -> Change:
    voters = tuple(sorted((*situation.voters, standby.voter), key=lambda voter: voter.key))
    removed = tuple(key for key in situation.removed if key != standby.key)
    return Change(VotersSet(voters, removed), standby.key, is_addition=True, why=why)


def _removed(situation: Situation, voter: Voter, why: str, *, by_person: bool = False) -> Change:
    voters = tuple(other for other in situation.voters if other.key != voter.key)
    removed = (*situation.removed, voter.key)[-MAX_REMOVED:] if by_person else situation.removed
    return Change(VotersSet(voters, removed), voter.key, is_addition=False, why=why)

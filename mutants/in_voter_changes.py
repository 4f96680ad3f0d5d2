"""Bugs in changes of voters: who may be added or removed, when, and who counts meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mutants.mutant import mutant, wrap
from ourolog.actors.election.raft import voter_changes
from ourolog.actors.election.raft.election import RaftElection
from ourolog.actors.election.raft.leadership import Leadership
from ourolog.actors.election.raft.rules import Raft
from ourolog.actors.election.raft.voter_changer import VoterChanger
from ourolog.actors.election.raft.voter_changes import Change, Situation
from ourolog.actors.replication.standby_rounds import StandbyRounds
from ourolog.actors.replicator import ReplicatorActor
from ourolog.storage.control import VoterKey, VotersSet

CHANGED = ("--election raft --nodes 5 --operations 120 --faults voters",)
"""Three of five vote, and people add and remove voters."""
CHANGED_PARTED = ("--election raft --nodes 5 --operations 120 --faults voters,partition,kill",)
CHANGED_DISKS_LOST = ("--election raft --nodes 5 --operations 120 --faults voters,disk_lost,kill",)
CHANGED_EMPTY = ("--election raft --nodes 3 --faults voters,kill,disk_lost --operations 1200",)
"""Where whoever comes back with an empty disk finds that two vote, and not three."""
CHANGED_FEW = ("--election raft --nodes 3 --faults voters,kill,slow_link --operations 120",)
"""All three vote, so that two are left when one is removed, or one."""
KILLED = ("--election raft --nodes 4 --faults kill,partition --operations 60",)
CHANGED_SLOW = ("--election raft --nodes 5 --faults voters,slow_link,loss,kill --operations 400",)


@mutant("A leader makes the next change of voters though the last one is not committed.", CHANGED_SLOW)
def two_changes_at_once() -> None:
    wrap(VoterChanger, "_is_committed", lambda _: property(lambda self: self._logged is not None))


@mutant("A leader changes voters before an entry of its own term is committed.", CHANGED_PARTED)
def change_before_own_term() -> None:
    def make(original: Any) -> Any:
        def lead_begun(self: VoterChanger) -> None:
            original(self)
            self._knows_commit = True

        return lead_begun

    wrap(VoterChanger, "lead_begun", make)


@mutant("A leader counts by the voters before until the entry that names others is committed.", CHANGED_SLOW)
def change_counted_by_old_voters() -> None:
    later: dict[ReplicatorActor, tuple[Any, Any, Any]] = {}
    count = ReplicatorActor._count

    def make_count(original: Any) -> Any:
        def count_later(self: ReplicatorActor, voters: Any, keys: Any, index: Any) -> None:
            if self._commit is not None and index is not None and self.state.committed.index <= index:
                later[self], self._voters_at = (voters, keys, index), index
            else:
                original(self, voters, keys, index)

        return count_later

    def make_look(original: Any) -> Any:
        def look(self: ReplicatorActor) -> None:
            if self in later and self.state.committed.index > later[self][2]:
                count(self, *later.pop(self))
            original(self)

        return look

    wrap(ReplicatorActor, "_count", make_count)
    wrap(ReplicatorActor, "_look_at_voters", make_look)


@mutant("A leader that votes no more leads on.", CHANGED)
def removed_leader_goes_on() -> None:
    wrap(Leadership, "leave_as_removed", lambda _: lambda _: None)


@mutant("A leader that votes no more counts its own disk.", CHANGED_SLOW)
def removed_leader_counts_itself() -> None:
    def make(original: Any) -> Any:
        def count(self: ReplicatorActor, voters: Any, keys: Any, index: Any) -> None:
            original(self, voters, keys, index)
            state, commit = self.state, self._commit
            if commit is not None and state.node_id not in voters:
                commit.voters = (*voters, state.node_id)
                commit.keys = keys | {VoterKey(state.node_id, state.log_epoch)}
                commit.fetched(state.node_id, state.log_epoch, state.end.index)

        return count

    wrap(ReplicatorActor, "_count", make)


@mutant("A node that stands by stands for election when it misses its leader.", KILLED)
def standby_stands() -> None:
    wrap(Raft, "may_stand", lambda _: property(lambda self: bool(self.voters)))


@mutant("A node is added as a voter before it has caught up.", CHANGED_EMPTY)
def added_before_caught_up() -> None:
    def make(original: Any) -> Any:
        def fetched(self: StandbyRounds, *args: Any) -> Any:
            news = original(self, *args)
            return replace(news, is_caught_up=True) if news is not None else None

        return fetched

    wrap(StandbyRounds, "fetched", make)


@mutant("A voter that lives is removed where another node could vote in its place.", CHANGED)
def living_voter_removed() -> None:
    def make(original: Any) -> Any:
        def why_dead(situation: Situation, voter: Any) -> str:
            return original(situation, voter) or ("it is not liked" if voter.key != situation.me else "")

        return why_dead

    wrap(voter_changes, "_why_dead", make)


@mutant("A set of voters whose entry is cut stays in force.", CHANGED_PARTED)
def cut_voters_stay() -> None:
    def make(original: Any) -> Any:
        def on_voters(self: RaftElection, logged: Any, replaced: Any) -> None:
            present = self._electorate.logged
            if logged is not None and present is not None and logged.index < present.index:
                return
            original(self, logged, replaced)

        return on_voters

    wrap(RaftElection, "_on_voters", make)


@mutant("A leader adds by itself whom a person has removed.", CHANGED)
def removal_undone() -> None:
    def make(original: Any) -> Any:
        return lambda situation: original(replace(situation, removed=()))

    wrap(voter_changes, "_successor", make)


@mutant("A voter is replaced as soon as gossip misses it.", CHANGED_PARTED)
def replace_after_ignored() -> None:
    def make(original: Any) -> Any:
        return lambda situation, voter: original(replace(situation, replace_after_s=0.0), voter)

    wrap(voter_changes, "_why_dead", make)


@mutant("Who takes a dead voter's place is added in the same change that removes it.", CHANGED_DISKS_LOST)
def two_keys_at_once() -> None:
    def make(original: Any) -> Any:
        def removed(situation: Situation, voter: Any, why: str, **more: Any) -> Change:
            change: Change = original(situation, voter, why, **more)
            successor = voter_changes._successor(situation)
            if successor is None:
                return change
            voters = tuple(sorted((*change.entry.voters, successor.voter), key=lambda one: one.key))
            return replace(change, entry=VotersSet(voters, change.entry.removed))

        return removed

    wrap(voter_changes, "_removed", make)


@mutant("A leader never replaces a voter that has lost its disk.", CHANGED_DISKS_LOST)
def never_replaced() -> None:
    wrap(voter_changes, "_why_dead", lambda _: lambda *_: "")


@mutant("The set of voters in force is the one before the last, after a restart.", CHANGED_PARTED)
def voters_forgotten_at_restart() -> None:
    def make(original: Any) -> Any:
        def opened(self: RaftElection, message: Any) -> None:
            before = message.voters_replaced
            original(self, replace(message, voters=before) if before is not None else message)

        return opened

    wrap(RaftElection, "_on_log_opened", make)


@mutant("A node that the last change has left out does not stand, even where its log is the longest.", CHANGED_FEW)
def outgoing_does_not_stand() -> None:
    wrap(Raft, "may_stand", lambda _: property(lambda self: self.is_voter))

"""Rare states: what runs must reach now and then, so that a run without a violation means something."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from ourolog.actors.messages.election import HigherTermSeen, LeaderHinted, LeaderUnreachable, VotersChangeAnswered
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    LeaderChanged,
    LogStartMoved,
    MemberFailed,
    MemberJoined,
    MemberLeft,
)
from ourolog.actors.messages.observer import (
    CycleSeen,
    FailureKind,
    MemberVouched,
    NameClashed,
    NameContested,
    NodeFailed,
    NodeWarned,
    PullStarted,
    SuspicionRefuted,
    WarningKind,
)
from ourolog.actors.messages.replicator import KeepAliveDue
from ourolog.actors.messages.store import PulledAppended, ReadProblem, ReadRefused
from ourolog.simulation.checker import World
from ourolog.simulation.copying_states import COPYING_STATES, CopyingStates
from ourolog.simulation.disaster_states import DISASTER_STATES, DisasterStates
from ourolog.simulation.election_states import ELECTION_STATES, ElectionStates
from ourolog.simulation.events import (
    ClientReturned,
    ClusterRecovered,
    Event,
    FaultInjected,
    FileReplaced,
    MessageTold,
    NodeCrashed,
    NodePaused,
    NodeResumed,
    NodeSaid,
    NodeStarted,
    NodeStopped,
    Outcome,
    PartitionHealed,
    PartitionMade,
)
from ourolog.simulation.holding_states import HOLDING_STATES, HoldingStates
from ourolog.simulation.producer_states import PRODUCER_STATES, ProducerStates
from ourolog.simulation.read_states import READ_STATES, ReadStates
from ourolog.simulation.repair_states import REPAIR_STATES, RepairStates
from ourolog.simulation.replica_states import REPLICA_STATES, ReplicaStates
from ourolog.simulation.replication_states import REPLICATION_STATES, ReplicationStates
from ourolog.simulation.survey_states import SURVEY_STATES, SurveyStates
from ourolog.simulation.vote_states import VOTE_STATES, VoteStates
from ourolog.simulation.voter_change_states import VOTER_CHANGE_STATES, VoterChangeStates
from ourolog.storage.types import NodeId

STATES: Final[dict[str, str]] = {
    **REPLICATION_STATES,
    **COPYING_STATES,
    **VOTE_STATES,
    **VOTER_CHANGE_STATES,
    **SURVEY_STATES,
    **ELECTION_STATES,
    **HOLDING_STATES,
    **PRODUCER_STATES,
    **DISASTER_STATES,
    **READ_STATES,
    **REPAIR_STATES,
    **REPLICA_STATES,
    "torn_tail_cut": "Recovery cut an unfinished write off a log's end.",
    "damage_found": "A log or another file was found damaged.",
    "segment_rolled": "A segment was sealed and another begun.",
    "retention": "Old segments were removed.",
    "retention_held_back": "Old segments were kept since they were not known to be committed.",
    "two_crashes_at_once": "A node crashed while another was down.",
    "full_quorum_loss": "A majority of the voters (of the nodes, where nobody votes) was down at once.",
    "leader_restart": "A node that had led was started again.",
    "restart_while_partitioned": "A node was started during a partition.",
    "crash_in_mid_write": "A machine lost power while a node was writing.",
    "disk_replaced": "A node was started again on an empty disk.",
    "leader_lost_disk": "The disk of a node was lost that had led until then.",
    "pull_restarted": "A pull was started again after it had been stopped.",
    "leader_hinted": "A node that knew of no leader in its term, or of another, was told who leads.",
    "keep_alive_sent": "A follower called its leader since its log was busy for long with what the leader had sent.",
    "lead_given_up": "A leader whose disk had failed gave up the lead at once.",
    "lead_given_up_hung": "A leader whose disk did not answer for long gave up the lead.",
    "leader_unreachable": "A follower found that nobody listens any more where its leader was.",
    "lead_withheld": "A decreed leader did not lead, since a voter was ahead of it, and said so.",
    "claims_disputed": "A node heard of a claim that contradicts its own.",
    "claims_settled": "A node heard that all agree again.",
    "kept_its_copy": "A node did not follow its leader, which lacked what was committed, and said so.",
    "higher_term_seen": "A node heard of a newer term.",
    "cycle_seen": "A batch came back to where it had been.",
    "duplicate_dropped": "A copy of what was there already was dropped.",
    "hop_limit_reached": "A copy was dropped because it had gone far enough.",
    "member_failed": "Gossip declared a member failed.",
    "suspicion_refuted": "A member that was suspected was heard of again in time.",
    "member_vouched": "A member that did not answer one node answered another that asked for it.",
    "member_returned": "A member that had failed for a node came back to it.",
    "member_left": "A member announced that it leaves, and was heard.",
    "name_contested": "Two nodes seemed to have one name, and it was looked into.",
    "name_clashed": "Two nodes claimed one name.",
    "node_failed": "A node gave up and told why.",
    "disk_full": "A write failed for lack of room.",
    "damaged_read": "A read met damage.",
    "outcome_unknown": "A client does not know what became of its record.",
}

_WARNED: Final = {
    WarningKind.TORN_TAIL_CUT: "torn_tail_cut",
    WarningKind.RETENTION_HELD_BACK: "retention_held_back",
    WarningKind.DAMAGED: "damage_found",
    WarningKind.KEEPS_ITS_COPY: "kept_its_copy",
}
"""The rare state that a node tells of when it warns of this."""


class RareStates:
    """Counts rare states; a function of the stream of events."""

    sees: ClassVar[tuple[type, ...]] = (
        *ReplicationStates.sees,
        NodeSaid,
        FaultInjected,
        PartitionMade,
        PartitionHealed,
        ClientReturned,
        NodePaused,
        NodeResumed,
        ClusterRecovered,
    )

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._down: dict[NodeId, None] = {}
        self._started: dict[NodeId, None] = {}
        self._pulled: dict[tuple[NodeId, NodeId], None] = {}
        self._failed: dict[tuple[NodeId, NodeId], None] = {}
        self._partitioned = False
        self._hangs_s: dict[NodeId, float] = {}
        self._led: dict[NodeId, None] = {}
        self._world: World | None = None
        self._seers: dict[type, tuple[Callable[[MessageTold], None], ...]] = {}
        self._replication = ReplicationStates(self._note)
        self._copying = CopyingStates(self._note)
        self._votes = VoteStates(self._note)
        self._changes = VoterChangeStates(self._note)
        self._survey = SurveyStates(self._note)
        self._election = ElectionStates(self._note)
        self._disasters = DisasterStates(self._note)
        self._holding = HoldingStates(self._note)
        self._producers = ProducerStates(self._note)
        self._reads = ReadStates(self._note)
        self._repairs = RepairStates(self._note)
        self._replicas = ReplicaStates(self._note)
        self._on_message: dict[type, Callable[[MessageTold], None]] = {
            HigherTermSeen: lambda _: self._note("higher_term_seen"),
            LeaderHinted: lambda _: self._note("leader_hinted"),
            KeepAliveDue: lambda _: self._note("keep_alive_sent"),
            LeaderUnreachable: lambda _: self._note("leader_unreachable"),
            LogStartMoved: lambda _: self._note("retention"),
            ClaimsDisputed: lambda told: self._note_at_server(told, "claims_disputed"),
            ClaimsSettled: lambda told: self._note_at_server(told, "claims_settled"),
            ReadRefused: self._on_read_refused,
            PulledAppended: self._on_pulled,
            LeaderChanged: self._on_leader_changed,
        }

    def see(self, event: Event, world: World) -> None:
        if type(event) is MessageTold:
            self._world = world
            kind = type(event.message)
            seers = self._seers.get(kind)
            if seers is None:
                seers = self._seers[kind] = self._who_sees(kind)
            for see in seers:
                see(event)
            return
        self._replication.see(event)
        self._election.see(event)
        self._disasters.see(event)
        match event:
            case NodeSaid():
                self._on_said(event)
            case FileReplaced():
                if event.path.endswith(".state"):
                    self._note("segment_rolled")
            case ClientReturned():
                if event.result.outcome is Outcome.UNKNOWN:
                    self._note("outcome_unknown")
            case FaultInjected():
                if event.kind == "disk_full":
                    self._note(event.kind)
                elif event.kind == "disk_hangs":
                    self._hangs_s[NodeId(event.where)] = event.until_s
                elif event.is_mid_write:
                    self._note("crash_in_mid_write")
                elif event.kind == "disk_lost":
                    self._note("disk_replaced")
                    if NodeId(event.where) in self._led:
                        self._note("leader_lost_disk")
            case NodeCrashed() | NodeStopped():
                if isinstance(event, NodeCrashed):
                    self._changes.crashed(event)
                self._on_down(event, world)
            case NodeStarted():
                self._holding.forget(event)
                self._producers.forget(event)
                self._on_started(event)
            case PartitionMade():
                self._partitioned = True
            case PartitionHealed():
                self._partitioned = False
            case _:
                pass

    def _who_sees(self, kind: type) -> tuple[Callable[[MessageTold], None], ...]:
        """Whoever wants messages of that class: most of a run is messages, and few of them are wanted at all."""
        with_all = (self._replication, self._election, self._disasters, self._survey)
        seers: list[Callable[[MessageTold], None]] = [states.see for states in with_all if kind in states.messages]
        if kind in self._reads.messages:
            seers.append(self._see_read)
        with_one = (
            self._copying,
            self._votes,
            self._changes,
            self._holding,
            self._producers,
            self._repairs,
            self._replicas,
        )
        handlers = (self._on_message, *(states.on_message for states in with_one))
        return (*seers, *(handler[kind] for handler in handlers if kind in handler))

    def _see_read(self, told: MessageTold) -> None:
        assert self._world is not None
        self._reads.see(told, self._world)

    def change_answered(self, answered: VotersChangeAnswered) -> None:
        """Note what a person was answered who wanted other voters."""
        self._changes.answered(answered)

    def _note(self, state: str) -> None:
        self.counts[state] = self.counts.get(state, 0) + 1

    def _on_down(self, event: NodeCrashed | NodeStopped, world: World) -> None:
        if self._down and isinstance(event, NodeCrashed):
            self._note("two_crashes_at_once")
        self._down[event.node_id] = None
        voters = world.configs[event.node_id].election.voters or tuple(world.configs)
        down = sum(voter in self._down for voter in voters)
        if 2 * down > len(voters):
            self._note("full_quorum_loss")

    def _on_started(self, event: NodeStarted) -> None:
        self._down.pop(event.node_id, None)
        if event.node_id in self._started:
            if self._led.pop(event.node_id, 0) is None:
                self._note("leader_restart")
            if self._partitioned:
                self._note("restart_while_partitioned")
        self._started[event.node_id] = None
        for pair in [pair for pair in self._failed if pair[0] == event.node_id]:
            del self._failed[pair]

    def _on_said(self, event: NodeSaid) -> None:
        match event.event:
            case NodeWarned(kind=WarningKind.LEAD_GIVEN_UP):
                hangs = event.time_s < self._hangs_s.get(event.node_id, 0.0)
                self._note("lead_given_up_hung" if hangs else "lead_given_up")
            case NodeWarned(kind=kind):
                if kind in _WARNED:
                    self._note(_WARNED[kind])
            case NodeFailed(kind=kind):
                self._note("node_failed")
                if kind is FailureKind.DAMAGED:
                    self._note("damage_found")
            case PullStarted(node_id=node_id, source_id=source_id):
                if (node_id, source_id) in self._pulled:
                    self._note("pull_restarted")
                self._pulled[(node_id, source_id)] = None
            case CycleSeen():
                self._note("cycle_seen")
            case MemberFailed(member):
                self._note("member_failed")
                self._failed[(event.node_id, member.node_id)] = None
            case MemberJoined(member):
                if (event.node_id, member.node_id) in self._failed:
                    self._note("member_returned")
            case MemberLeft():
                self._note("member_left")
            case NameContested():
                self._note("name_contested")
            case SuspicionRefuted():
                self._note("suspicion_refuted")
            case MemberVouched():
                self._note("member_vouched")
            case NameClashed():
                self._note("name_clashed")
            case _:
                pass

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        if changed.needs_person:
            self._note_at_server(told, "lead_withheld")
        if changed.leader_id is not None and told.receiver == f"{changed.leader_id}.replicator":
            self._led[changed.leader_id] = None

    def _note_at_server(self, told: MessageTold, state: str) -> None:
        """Note a state at the server only: what several actors of a node are told is one state."""
        if told.receiver.endswith(".server"):
            self._note(state)

    def _on_read_refused(self, told: MessageTold) -> None:
        refused = told.message
        assert isinstance(refused, ReadRefused)
        if refused.problem is ReadProblem.DAMAGED:
            self._note("damaged_read")

    def _on_pulled(self, told: MessageTold) -> None:
        pulled = told.message
        assert isinstance(pulled, PulledAppended)
        if pulled.duplicates:
            self._note("duplicate_dropped")
        if pulled.expired:
            self._note("hop_limit_reached")

"""Rare states: what a run has to have reached now and then, for its silence to mean something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from actors.messages import (
    CycleSeen,
    FetchOutcome,
    FetchReturned,
    HigherTermSeen,
    LogStartMoved,
    MemberFailed,
    NameClashed,
    NodeFailed,
    NodeWarned,
    PulledAppended,
    PullRejected,
    PullStarted,
    ReadRefused,
    ResetLog,
    TruncateLog,
)
from simulation.checker import World
from simulation.events import (
    ClientReturned,
    Event,
    FaultInjected,
    FileReplaced,
    MessageTold,
    NodeCrashed,
    NodeSaid,
    NodeStarted,
    NodeStopped,
    Outcome,
    PartitionHealed,
    PartitionMade,
)
from storage.types import NodeId

STATES: Final[dict[str, str]] = {
    "truncation": "A follower cut entries off that its leader does not have.",
    "divergence": "A leader found a follower's log to part from its own.",
    "log_reset": "A follower dropped its whole log to begin where the leader's begins.",
    "torn_tail_cut": "Recovery cut an unfinished write off a log's end.",
    "damage_found": "A log or another file was found damaged.",
    "segment_rolled": "A segment was sealed and another begun.",
    "retention": "Old segments were removed.",
    "two_crashes_at_once": "A node crashed while another was down.",
    "full_quorum_loss": "A majority of the voters (of the nodes, where nobody votes) was down at once.",
    "leader_restart": "The node that leads was started again.",
    "restart_while_partitioned": "A node was started during a partition.",
    "crash_in_mid_write": "A machine lost power while a node was writing.",
    "disk_replaced": "A node was started again on an empty disk.",
    "pull_restarted": "A pull was started again after it had been stopped.",
    "pull_rejected": "What a pull brought was not appended.",
    "pull_out_of_range": "A pull asked for entries that the source does not have.",
    "new_log_seen": "A pull met another log than it knew under the same name.",
    "stale_term_seen": "A fetch came from an older term.",
    "higher_term_seen": "A node heard of a newer term.",
    "cycle_seen": "A batch came back to where it had been.",
    "duplicate_dropped": "A copy of what was there already was dropped.",
    "hop_limit_reached": "A copy was dropped because it had gone far enough.",
    "member_failed": "Gossip declared a member failed.",
    "name_clashed": "Two nodes claimed one name.",
    "node_failed": "A node gave up and told why.",
    "disk_full": "A write failed for lack of room.",
    "damaged_read": "A read met damage.",
    "outcome_unknown": "A client does not know what became of its record.",
}


class States:
    """Counts rare states; a function of the stream of events."""

    sees: ClassVar[tuple[type, ...]] = (
        MessageTold,
        NodeStarted,
        NodeStopped,
        NodeCrashed,
        NodeSaid,
        FaultInjected,
        FileReplaced,
        PartitionMade,
        PartitionHealed,
        ClientReturned,
    )

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._down: dict[NodeId, None] = {}
        self._started: dict[NodeId, None] = {}
        self._pulled: dict[tuple[NodeId, NodeId], None] = {}
        self._partitioned = False
        self._on_message: dict[type, Callable[[Any], None]] = {
            TruncateLog: lambda _: self._note("truncation"),
            ResetLog: lambda _: self._note("log_reset"),
            HigherTermSeen: lambda _: self._note("higher_term_seen"),
            LogStartMoved: lambda _: self._note("retention"),
            PullRejected: lambda _: self._note("pull_rejected"),
            ReadRefused: lambda message: self._note("damaged_read" if message.problem.value == "damaged" else None),
            FetchReturned: self._on_fetch_returned,
            PulledAppended: self._on_pulled,
        }

    def see(self, event: Event, world: World) -> None:
        match event:
            case MessageTold():
                handle = self._on_message.get(type(event.message))
                if handle is not None:
                    handle(event.message)
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
                elif event.kind == "power_loss" and event.detail.startswith("in the middle"):
                    self._note("crash_in_mid_write")
                elif event.kind == "disk_lost":
                    self._note("disk_replaced")
            case NodeCrashed() | NodeStopped():
                self._on_down(event, world)
            case NodeStarted():
                self._on_started(event)
            case PartitionMade():
                self._partitioned = True
            case PartitionHealed():
                self._partitioned = False
            case _:
                pass

    def _note(self, state: str | None) -> None:
        if state is not None:
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
            voters = event.config.election.voters
            if voters and voters[0] == event.node_id:
                self._note("leader_restart")
            if self._partitioned:
                self._note("restart_while_partitioned")
        self._started[event.node_id] = None

    def _on_said(self, event: NodeSaid) -> None:
        match event.event:
            case NodeWarned(reason=reason):
                if "unfinished write" in reason:
                    self._note("torn_tail_cut")
                elif "is damaged" in reason:
                    self._note("damage_found")
            case NodeFailed(reason=reason):
                self._note("node_failed")
                if "is damaged" in reason:
                    self._note("damage_found")
            case PullStarted(node_id=node_id, source_id=source_id):
                if (node_id, source_id) in self._pulled:
                    self._note("pull_restarted")
                self._pulled[(node_id, source_id)] = None
            case CycleSeen():
                self._note("cycle_seen")
            case MemberFailed():
                self._note("member_failed")
            case NameClashed():
                self._note("name_clashed")
            case _:
                pass

    def _on_fetch_returned(self, message: FetchReturned) -> None:
        self._note(_OUTCOMES.get(message.response.outcome))

    def _on_pulled(self, message: PulledAppended) -> None:
        if message.duplicates:
            self._note("duplicate_dropped")
        if message.expired:
            self._note("hop_limit_reached")


_OUTCOMES: Final = {
    FetchOutcome.DIVERGED: "divergence",
    FetchOutcome.OUT_OF_RANGE: "pull_out_of_range",
    FetchOutcome.NEW_LOG: "new_log_seen",
    FetchOutcome.STALE_TERM: "stale_term_seen",
}

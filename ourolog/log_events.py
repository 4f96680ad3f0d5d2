"""What a node tells its owner, as log events with stable names.

These names and fields are read by `ourolog dev`, by tests and by other people's log search: a
change of one is a change users notice, and belongs in the CHANGELOG.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from ourolog.actors.messages.events import (
    LeaderChanged,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    NobodyElected,
    VotersChanged,
)
from ourolog.actors.messages.observer import (
    CycleSeen,
    FailureKind,
    MemberSuspected,
    MemberVouched,
    NameClashed,
    NameContested,
    NodeEvent,
    NodeFailed,
    NodeNotReady,
    NodeReady,
    NodeWarned,
    PullStarted,
    PullStopped,
    SuspicionRefuted,
)
from ourolog.actors.messages.values import Member
from ourolog.rpc.node_server import why_failed


class LogEvent(NamedTuple):
    """One log line: its level, its name and its fields."""

    level: str
    name: str
    fields: dict[str, object]


def log_event_of(event: NodeEvent) -> LogEvent:
    """The log line that reports this event."""
    match event:
        case MemberJoined(member):
            return LogEvent("info", "member_joined", _of_member(member))
        case MemberUpdated(member):
            return LogEvent("info", "member_updated", _of_member(member))
        case MemberFailed(member):
            return LogEvent("warning", "member_failed", _of_member(member))
        case MemberLeft(member):
            return LogEvent("info", "member_left", _of_member(member))
        case PullStarted(_, source_id):
            return LogEvent("info", "pull_started", {"source": source_id})
        case PullStopped(_, source_id, reason):
            return LogEvent("info", "pull_stopped", {"source": source_id, "reason": reason})
        case CycleSeen(_, path, count, broken):
            return LogEvent("info", "cycle_seen", {"path": list(path), "count": count, "broken": broken})
        case NobodyElected():
            return LogEvent("info", "nobody_elected", {})
        case LeaderChanged(term, leader_id):
            return LogEvent("info", "leader_changed", {"term": term, "leader": leader_id})
        case VotersChanged(voters):
            return LogEvent("info", "voters_changed", {"voters": list(voters)})
        case NodeReady():
            return LogEvent("info", "ready", {})
        case NodeNotReady(_, reason, needs_person):
            return LogEvent("error" if needs_person else "info", "not_ready", {"reason": reason})
        case NodeFailed(_, actor, kind, reason):
            is_bug = kind is FailureKind.BUG
            fields = {"actor": actor, "kind": str(kind), "reason": reason, "is_bug": is_bug}
            return LogEvent("error", "node_failed", fields)
        case NodeWarned(_, actor, kind, reason, about):
            fields = {"actor": actor, "kind": str(kind), "reason": reason}
            return LogEvent("warning", "node_warned", {**fields, "about": about} if about else fields)
        case MemberSuspected(_, member):
            return LogEvent("info", "member_suspected", _of_member(member))
        case SuspicionRefuted(_, member):
            return LogEvent("info", "suspicion_refuted", _of_member(member))
        case MemberVouched(_, member, relay_id):
            return LogEvent("info", "member_vouched", {**_of_member(member), "relay": relay_id})
        case NameContested(_, name, held_addr, claimed_addr):
            return LogEvent(
                "warning", "name_contested", {"member": name, "held_addr": held_addr, "claimed_addr": claimed_addr}
            )
        case NameClashed(_, gossip_addr):
            return LogEvent("error", "name_clashed", {"gossip_addr": gossip_addr, "reason": why_failed(event)})
        case _:
            assert_never(event)


def _of_member(member: Member) -> dict[str, object]:
    fields: dict[str, object] = {
        "member": member.node_id,
        "rpc_addr": member.rpc_addr,
        "gossip_addr": member.gossip_addr,
    }
    if member.own_peer_addr:
        fields["peer_addr"] = member.own_peer_addr
    return fields

from __future__ import annotations

import typing

import pytest

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
    WarningKind,
)
from ourolog.actors.messages.values import Member
from ourolog.log_events import log_event_of
from ourolog.storage.types import NodeId, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
MEMBER = Member(N2, "127.0.0.1:8410", "127.0.0.1:8411")
OF_MEMBER = {"member": "n2", "rpc_addr": "127.0.0.1:8410", "gossip_addr": "127.0.0.1:8411"}

CASES: list[tuple[NodeEvent, str, str, dict[str, object]]] = [
    (MemberJoined(MEMBER), "info", "member_joined", OF_MEMBER),
    (MemberUpdated(MEMBER), "info", "member_updated", OF_MEMBER),
    (MemberFailed(MEMBER), "warning", "member_failed", OF_MEMBER),
    (MemberLeft(MEMBER), "info", "member_left", OF_MEMBER),
    (MemberSuspected(N1, MEMBER), "info", "member_suspected", OF_MEMBER),
    (SuspicionRefuted(N1, MEMBER), "info", "suspicion_refuted", OF_MEMBER),
    (MemberVouched(N1, MEMBER, N3), "info", "member_vouched", {**OF_MEMBER, "relay": "n3"}),
    (
        NameContested(N1, N2, "127.0.0.1:8411", "127.0.0.1:9"),
        "warning",
        "name_contested",
        {"member": "n2", "held_addr": "127.0.0.1:8411", "claimed_addr": "127.0.0.1:9"},
    ),
    (PullStarted(N1, N2), "info", "pull_started", {"source": "n2"}),
    (PullStopped(N1, N2, "left"), "info", "pull_stopped", {"source": "n2", "reason": "left"}),
    (
        CycleSeen(N1, (N1, N2, N1), 3, True),
        "info",
        "cycle_seen",
        {"path": ["n1", "n2", "n1"], "count": 3, "broken": True},
    ),
    (NobodyElected(), "info", "nobody_elected", {}),
    (LeaderChanged(Term(1), N1), "info", "leader_changed", {"term": 1, "leader": "n1"}),
    (VotersChanged((N1, N2)), "info", "voters_changed", {"voters": ["n1", "n2"]}),
    (NodeReady(N1), "info", "ready", {}),
    (NodeNotReady(N1, "no quorum yet"), "info", "not_ready", {"reason": "no quorum yet"}),
    (NodeNotReady(N1, "two claims", needs_person=True), "error", "not_ready", {"reason": "two claims"}),
    (
        NodeFailed(N1, "store", FailureKind.DISK_FULL, "disk full"),
        "error",
        "node_failed",
        {"actor": "store", "kind": "disk_full", "reason": "disk full", "is_bug": False},
    ),
    (
        NodeFailed(N1, "store", FailureKind.BUG, "KeyError"),
        "error",
        "node_failed",
        {"actor": "store", "kind": "bug", "reason": "KeyError", "is_bug": True},
    ),
    (
        NodeWarned(N1, "store", WarningKind.RECOVERY_PROGRESS, "slow"),
        "warning",
        "node_warned",
        {"actor": "store", "kind": "recovery_progress", "reason": "slow"},
    ),
    (
        NodeWarned(N1, "replicator", WarningKind.PULL_REFUSED, "n2 refuses", NodeId("n2")),
        "warning",
        "node_warned",
        {"actor": "replicator", "kind": "pull_refused", "reason": "n2 refuses", "about": "n2"},
    ),
]


@pytest.mark.parametrize(("event", "level", "name", "fields"), CASES)
def test_an_event_is_logged_under_its_stable_name_with_its_facts_in_fields(
    event: NodeEvent, level: str, name: str, fields: dict[str, object]
) -> None:
    assert log_event_of(event) == (level, name, fields)


def test_a_name_clash_says_where_the_other_node_is_and_what_to_do() -> None:
    level, name, fields = log_event_of(NameClashed(N1, "10.0.0.1:8401"))
    assert (level, name) == ("error", "name_clashed")
    assert "10.0.0.1:8401" in str(fields["reason"])
    assert "--node-id" in str(fields["reason"])


def test_no_event_of_a_node_is_left_out() -> None:
    assert {type(event) for event, *_ in CASES} | {NameClashed} == set(typing.get_args(NodeEvent))

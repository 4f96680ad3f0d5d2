"""The checker of failure detection on streams of events made by hand: each claim broken once, and just not."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.events import MemberFailed, MemberJoined, MemberLeft
from ourolog.actors.messages.membership import DatagramReceived, LeaveCluster, ProbeDue
from ourolog.actors.messages.observer import MemberSuspected, NodeEvent, SuspicionRefuted
from ourolog.actors.messages.values import Member, MemberState
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation, World
from ourolog.simulation.checkers import ALL
from ourolog.simulation.checkers.failure_detection import FailureDetection
from ourolog.simulation.events import (
    DATAGRAM,
    Event,
    FaultInjected,
    MessageTold,
    NodeCrashed,
    NodePaused,
    NodeResumed,
    NodeSaid,
    NodeStarted,
    NodeStopped,
    PartitionHealed,
    PartitionMade,
    Phase,
    PhaseBegan,
)
from ourolog.storage.types import NodeId

N1, N2, N3, N4 = (NodeId(f"n{number}") for number in range(1, 5))


def member(name: str, state: MemberState = MemberState.ALIVE, incarnation: int = 1) -> Member:
    return Member(NodeId(name), f"{name}:8400", f"{name}:8401", state, incarnation)


class Scene:
    """Nodes that know each other from 1.0 s on; `at` lets time pass in the steps of probes."""

    def __init__(self, count: int = 3, *, know: bool = True) -> None:
        self.checker = FailureDetection()
        self.names = [NodeId(f"n{number}") for number in range(1, count + 1)]
        self.now_s = 0.0
        for name in self.names:
            self.see(NodeStarted(0.0, name, NodeConfig(name, "/data", f"{name}:8400", f"{name}:8401")))
        self.at(1.0)
        for viewer in self.names:
            for name in self.names:
                if know and viewer != name:
                    self.hears(viewer, name)
                    self.says(viewer, MemberJoined(member(name)))

    def see(self, event: Event) -> None:
        self.checker.see(event, cast("World", None))

    def at(self, time_s: float) -> None:
        while self.now_s < time_s:
            self.now_s = min(time_s, self.now_s + 0.25)
            self.see(MessageTold(self.now_s, "", "n1.membership", ProbeDue()))

    def says(self, viewer: str, event: NodeEvent) -> None:
        self.see(NodeSaid(self.now_s, NodeId(viewer), event))

    def hears(self, viewer: str, name: str) -> None:
        self.see(MessageTold(self.now_s, "", f"{viewer}.membership", DatagramReceived(f"{name}:8401", b"")))

    def suspects(self, viewer: str, name: str) -> None:
        self.says(viewer, MemberSuspected(NodeId(viewer), member(name, MemberState.SUSPECT)))

    def fails(self, viewer: str, name: str) -> None:
        self.says(viewer, MemberFailed(member(name, MemberState.FAILED)))

    def leaves(self, name: str) -> None:
        self.see(MessageTold(self.now_s, "", f"{name}.membership", LeaveCluster(1, Probe())))


def test_it_is_among_all_checkers_by_its_name() -> None:
    assert ALL["failure_detection"] is FailureDetection


def test_who_is_dead_for_longer_than_the_bound_and_not_declared_so_is_a_violation() -> None:
    scene = Scene()
    scene.at(10)
    scene.see(NodeCrashed(10, N3, power_lost=False))
    scene.at(13)
    scene.suspects("n1", "n3")
    scene.suspects("n2", "n3")
    scene.at(15.5)
    scene.fails("n1", "n3")
    with pytest.raises(Violation, match="n2 still counts n3"):
        scene.at(17)


def test_who_is_declared_dead_in_time_is_none_and_the_dead_need_not_be_known_to_those_who_are_unwell() -> None:
    scene = Scene()
    scene.at(10)
    scene.see(NodePaused(10, N2))
    scene.see(NodeCrashed(10, N3, power_lost=False))
    scene.at(12)
    scene.suspects("n1", "n3")
    scene.suspects("n1", "n2")
    scene.at(15)
    scene.fails("n1", "n3")
    scene.fails("n1", "n2")
    scene.at(20)
    scene.see(NodeResumed(20, N2))
    scene.at(23)
    with pytest.raises(Violation, match="n2 still counts n3"):
        scene.at(26)


def test_a_refutation_that_was_under_way_gives_more_time_and_one_much_later_does_not() -> None:
    scene = Scene(2)
    scene.at(10)
    scene.see(NodeCrashed(10, N2, power_lost=False))
    scene.suspects("n1", "n2")
    scene.at(14)
    scene.says("n1", SuspicionRefuted(N1, member("n2", incarnation=2)))
    scene.at(18)
    for again_s in (12.0, 13.0):  # under suspicion anew: its time begins anew
        scene = Scene(2)
        scene.at(10)
        scene.see(NodeCrashed(10, N2, power_lost=False))
        scene.suspects("n1", "n2")
        scene.at(again_s)
        scene.suspects("n1", "n2")
        scene.at(16)
    scene = Scene(2)
    scene.at(10)
    scene.see(NodeCrashed(10, N2, power_lost=False))
    for second in (12, 15, 18, 21, 24, 27, 30, 33):  # it cannot refute for ever: its words are not that long under way
        scene.at(second)
        scene.suspects("n1", "n2")
        scene.says("n1", SuspicionRefuted(N1, member("n2", incarnation=2)))
    with pytest.raises(Violation, match="still counts"):
        scene.at(36)


class _NothingRaised:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_who_is_cut_off_from_one_only_has_to_be_declared_by_it_when_no_way_is_left() -> None:
    scene = Scene()
    scene.at(10)
    scene.see(PartitionMade(10, "one-way", ((N3, N1),)))
    scene.at(30)  # by way of n2 what n3 says still reaches n1
    scene.see(PartitionMade(30, "one-way", ((N3, N2),)))
    scene.at(34)
    with pytest.raises(Violation, match="still counts n3"):
        scene.at(37)


def test_who_is_well_and_connected_is_not_to_be_declared_failed() -> None:
    scene = Scene()
    scene.at(10)
    scene.suspects("n1", "n2")
    scene.at(12.6)
    with pytest.raises(Violation, match="both are well"):
        scene.fails("n1", "n2")


@pytest.mark.parametrize(
    "trouble",
    [
        FaultInjected(12, "loss", "n2>n1", packet=DATAGRAM),
        FaultInjected(5, "slow_link", "n1>n2", "400 ms"),
        FaultInjected(9, "clog", "n1>n2", until_s=12.5),
        FaultInjected(10, "slow_node", "n2", "up to 9 ms a message"),
        FaultInjected(10, "slow_node", "n1", "up to 9 ms a message"),
    ],
)
def test_who_may_have_been_hard_to_hear_may_be_declared_failed(trouble: FaultInjected) -> None:
    scene = Scene(2)
    for time_s, happens in sorted(
        [(trouble.time_s, lambda: scene.see(trouble)), (10.5, lambda: scene.suspects("n1", "n2"))]
    ):
        scene.at(time_s)
        happens()
    scene.at(13.1)
    scene.fails("n1", "n2")


def test_who_has_just_come_back_may_be_declared_failed_and_who_is_back_for_long_not() -> None:
    for back_s, is_wrong in ((12.0, False), (10.5, True)):
        scene = Scene(2)
        scene.at(9)
        scene.see(NodePaused(9, N2))
        scene.at(10)
        scene.suspects("n1", "n2")
        scene.at(back_s)
        scene.see(NodeResumed(back_s, N2))
        scene.at(12.6)
        with pytest.raises(Violation, match="both are well") if is_wrong else _NothingRaised():
            scene.fails("n1", "n2")


def test_when_all_is_mended_links_and_nodes_are_clean_at_once() -> None:
    scene = Scene(2)
    scene.at(10)
    scene.see(FaultInjected(10, "slow_link", "n1>n2", "400 ms"))
    scene.see(FaultInjected(10, "slow_node", "n2", "up to 9 ms a message"))
    scene.see(PhaseBegan(10, Phase.SETTLED, (N1, N2)))
    scene.suspects("n1", "n2")
    scene.at(12.6)
    with pytest.raises(Violation, match="both are well"):
        scene.fails("n1", "n2")


def test_who_another_could_vouch_for_is_not_to_be_declared_failed() -> None:
    cut = ((N1, N3), (N3, N1))
    for is_wrong in (False, True):
        scene = Scene(4)
        scene.at(10)
        scene.see(PartitionMade(10, "ring", cut))
        scene.at(13.5)
        if not is_wrong:
            for relay in (N2, N4):
                scene.see(FaultInjected(13.5, "loss", f"{relay}>n3", packet=DATAGRAM))
        scene.at(14)
        scene.suspects("n1", "n3")
        scene.at(16.6)
        with pytest.raises(Violation, match="n2 is connected to both") if is_wrong else _NothingRaised():
            scene.fails("n1", "n3")


def test_a_suspect_has_its_whole_time() -> None:
    scene = Scene()
    scene.at(10)
    scene.see(NodeCrashed(10, N3, power_lost=False))
    scene.suspects("n1", "n3")
    scene.at(11.5)
    with pytest.raises(Violation, match=r"1\.500 s after"):
        scene.fails("n1", "n3")


def test_whom_another_has_declared_failed_has_time_to_be_asked() -> None:
    for wait_s, is_wrong in ((0.5, True), (0.75, False)):
        scene = Scene()
        scene.at(10)
        scene.see(NodeCrashed(10, N3, power_lost=False))
        scene.suspects("n1", "n3")
        scene.at(12.5)
        scene.fails("n1", "n3")
        scene.suspects("n2", "n3")
        scene.at(12.5 + wait_s)
        with pytest.raises(Violation, match="after it began") if is_wrong else _NothingRaised():
            scene.fails("n2", "n3")


def test_nobody_is_declared_failed_who_was_not_suspected() -> None:
    scene = Scene()
    scene.at(10)
    scene.see(NodeCrashed(10, N3, power_lost=False))
    scene.at(14)
    with pytest.raises(Violation, match="not suspected it"):
        scene.fails("n1", "n3")


def test_who_has_announced_its_leave_has_left_and_not_failed() -> None:
    scene = Scene()
    scene.at(10)
    scene.leaves("n3")
    scene.see(NodeStopped(10, N3))
    scene.says("n1", MemberLeft(member("n3", MemberState.LEFT)))
    scene.suspects("n2", "n3")
    scene.at(13)
    with pytest.raises(Violation, match="announced to it that it leaves"):
        scene.fails("n2", "n3")


def test_who_never_announced_its_leave_has_not_left() -> None:
    scene = Scene()
    scene.at(10)
    with pytest.raises(Violation, match="never did"):
        scene.says("n1", MemberLeft(member("n3", MemberState.LEFT)))


def test_a_leave_announcement_that_may_have_been_lost_need_not_be_known() -> None:
    scene = Scene()
    scene.at(10)
    scene.see(FaultInjected(10, "loss", "n3>n2", packet=DATAGRAM))
    scene.leaves("n3")
    scene.see(NodeStopped(10, N3))
    scene.says("n1", MemberLeft(member("n3", MemberState.LEFT)))
    scene.suspects("n2", "n3")
    scene.at(13)
    scene.fails("n2", "n3")


def test_who_is_announced_was_heard_in_this_life_of_the_listener() -> None:
    scene = Scene(2)
    scene.at(10)
    scene.see(NodeCrashed(10, N1, power_lost=False))
    scene.see(NodeStarted(10, N1, NodeConfig(N1, "/data", "n1:8400", "n1:8401")))
    with pytest.raises(Violation, match="never heard it"):
        scene.says("n1", MemberJoined(member("n2")))


def test_members_return_within_a_bound_once_all_is_well() -> None:
    scene = Scene(2)
    scene.at(10)
    scene.see(PartitionMade(10, "halves", ((N1, N2), (N2, N1))))
    scene.at(11)
    scene.suspects("n1", "n2")
    scene.suspects("n2", "n1")
    scene.at(14)
    scene.fails("n1", "n2")
    scene.fails("n2", "n1")
    scene.at(60)
    scene.see(PartitionHealed(60))
    scene.at(75)
    scene.says("n2", MemberJoined(member("n1")))
    with pytest.raises(Violation, match="n1 does not count n2"):
        scene.at(95)


@pytest.mark.parametrize(
    ("heard_of_it", "other_lost", "is_slow"),
    [(2, "", True), (5, "", False), (2, "crashed", False), (2, "cut off", False)],
)
def test_a_failure_that_one_declares_is_known_to_half_of_them_soon(
    heard_of_it: int, other_lost: str, is_slow: bool
) -> None:
    scene = Scene(10)
    scene.at(10)
    if other_lost == "crashed":
        scene.see(NodeCrashed(10, NodeId("n10"), power_lost=False))
    elif other_lost == "cut off":
        cut = [(NodeId("n10"), NodeId(f"n{number}")) for number in range(1, 10)]
        scene.see(PartitionMade(10, "isolate", (*cut, *((other, one) for one, other in cut))))
    scene.see(NodeCrashed(10, NodeId("n9"), power_lost=False))
    scene.at(11)
    for number in range(1, 9):
        scene.suspects(f"n{number}", "n9")
    scene.at(13.5)
    for number in range(1, heard_of_it + 1):
        scene.fails(f"n{number}", "n9")
    with pytest.raises(Violation, match="have not heard") if is_slow else _NothingRaised():
        scene.at(15.5)


def test_what_the_checker_wants_to_see_is_all_it_handles() -> None:
    checker: Any = FailureDetection()
    assert set(checker.on) <= set(checker.sees)
    assert {ProbeDue, LeaveCluster, DatagramReceived} <= set(checker.sees_told)

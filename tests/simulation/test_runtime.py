"""The simulated runtime: order, standing still, being slow, waiting for a disk, and the clocks."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from ourolog.actors.actor import NodeActor, NodeRef
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.clocks import NodeClock
from ourolog.simulation.runtime import PowerCutError, SimulatedRuntime
from ourolog.storage.types import NodeId


@dataclass(frozen=True)
class Note:
    text: str


@dataclass(frozen=True)
class Spend:
    seconds: float


class CutPower:
    def __init__(self, after_s: float = 0.0) -> None:
        self.after_s = after_s


class Raise:
    pass


class Clerk(NodeActor):
    """Notes what it is told; passes on what it is told to spend time for."""

    actor_name = "clerk"

    def __init__(
        self, *, node_id: NodeId, notes: list[tuple[str, str, float]], runtime: SimulatedRuntime, to: Any
    ) -> None:
        super().__init__(node_id, Probe())
        self.notes = notes
        self.runtime = runtime
        self.to = to

    def on_receive(self, message: object) -> None:
        match message:
            case Note(text):
                self.notes.append((self.node_id, text, self.runtime.now_s))
            case Spend(seconds):
                self.runtime.spend(seconds)
                if self.to is not None:
                    self.to.tell(Note("done"))
            case CutPower():
                self.runtime.spend(message.after_s)
                raise PowerCutError
            case Raise():
                raise KeyError("a bug")


class Office:
    def __init__(self, seed: int = 1) -> None:
        self.notes: list[tuple[str, str, float]] = []
        self.handled: list[str] = []
        self.cut: list[str] = []
        self.bugs: list[Exception] = []
        self.runtime = SimulatedRuntime(
            Random(seed),
            None,
            lambda receiver, _: self.handled.append(receiver),
            self.cut.append,
            lambda _, __, error: self.bugs.append(error),
        )

    def clerk(self, name: str, to: NodeRef | None = None) -> NodeRef:
        return self.runtime.spawn(Clerk, node_id=NodeId(name), notes=self.notes, runtime=self.runtime, to=to)

    def texts(self) -> list[tuple[str, str]]:
        return [(name, text) for name, text, _ in self.notes]


def test_each_actor_gets_its_messages_in_order_and_the_order_among_actors_is_drawn() -> None:
    orders = set()
    for seed in range(30):
        office = Office(seed)
        one, two = office.clerk("n1"), office.clerk("n2")
        for text in "abc":
            one.tell(Note(text))
            two.tell(Note(text))
        office.runtime.run_until_idle()
        for name in ("n1", "n2"):
            assert [text for who, text in office.texts() if who == name] == ["a", "b", "c"]
        orders.add(tuple(who for who, _ in office.texts()))
    assert len(orders) > 5


def test_the_same_seed_draws_the_same_order() -> None:
    def order(seed: int) -> list[tuple[str, str]]:
        office = Office(seed)
        clerks = [office.clerk(f"n{number}") for number in range(5)]
        for text in "abcd":
            for clerk in clerks:
                clerk.tell(Note(text))
        office.runtime.run_until_idle()
        return office.texts()

    assert order(3) == order(3)
    assert order(3) != order(4)


def test_a_paused_node_gets_everything_after_it_was_resumed_in_order() -> None:
    office = Office()
    clerk, other = office.clerk("n1"), office.clerk("n2")
    office.runtime.pause(NodeId("n1"))
    clerk.tell(Note("a"))
    office.runtime.after(1.0, clerk, Note("b"))
    other.tell(Note("x"))
    office.runtime.run_for(5.0)
    assert office.texts() == [("n2", "x")]
    office.runtime.resume(NodeId("n1"))
    office.runtime.run_for(0.0)
    assert office.notes[1:] == [("n1", "a", 5.0), ("n1", "b", 5.0)]


def test_an_actor_that_waits_for_its_disk_is_busy_and_what_it_tells_then_leaves_it_late() -> None:
    office = Office()
    boss = office.clerk("n2")
    clerk = office.clerk("n1", to=boss)
    clerk.tell(Spend(2.0))
    clerk.tell(Note("next"))
    office.runtime.run_for(10.0)
    assert sorted(office.notes) == [("n1", "next", 2.0), ("n2", "done", 2.0)]


def test_a_slow_node_needs_its_time_for_every_message_and_others_do_not_wait_for_it() -> None:
    office = Office()
    slow, fast = office.clerk("n1"), office.clerk("n2")
    office.runtime.set_slowness(NodeId("n1"), lambda: 0.5)
    for text in "abc":
        slow.tell(Note(text))
        fast.tell(Note(text))
    office.runtime.run_for(10.0)
    assert [at for name, _, at in office.notes if name == "n1"] == [0.0, 0.5, 1.0]
    assert [at for name, _, at in office.notes if name == "n2"] == [0.0, 0.0, 0.0]


def test_a_power_cut_in_the_middle_of_a_message_is_told_and_no_bug() -> None:
    office = Office()
    office.clerk("n1").tell(CutPower())
    office.runtime.run_until_idle()
    assert (office.cut, office.bugs, office.handled) == (["n1"], [], [])


@pytest.mark.parametrize("goes_first", [False, True])
def test_who_has_waited_for_its_disk_loses_power_after_that_unless_its_process_has_ended(goes_first: bool) -> None:
    office = Office()
    ref, other = office.clerk("n1"), office.clerk("n1")
    ref.tell(CutPower(0.5))
    ref.tell(Note("too late"))
    office.runtime.run_for(0.4)
    other.tell(Note("still there"))
    if goes_first:
        office.runtime.run_for(0.05)
        office.runtime.kill(ref)
        office.runtime.forget(NodeId("n1"))
    office.runtime.run_for(1.0)
    assert office.texts() == [("n1", "still there")]
    assert office.cut == ([] if goes_first else ["n1"])


def test_an_exception_in_an_actor_is_told_as_a_bug() -> None:
    office = Office()
    office.clerk("n1").tell(Raise())
    office.runtime.run_until_idle()
    assert [str(bug) for bug in office.bugs] == ["'a bug'"]


def test_a_killed_actor_hears_nothing_more() -> None:
    office = Office()
    clerk = office.clerk("n1")
    clerk.tell(Note("a"))
    office.runtime.kill(clerk)
    office.runtime.forget(NodeId("n1"))
    clerk.tell(Note("b"))
    office.runtime.run_for(1.0)
    assert office.notes == []


def test_whoever_halts_the_run_is_raised_after_the_present_message() -> None:
    office = Office()
    office.clerk("n1").tell(Note("a"))
    office.runtime.halted = RuntimeError("enough")
    with pytest.raises(RuntimeError, match="enough"):
        office.runtime.run_for(1.0)


def test_a_node_s_clock_drifts_and_its_timers_go_by_it() -> None:
    office = Office()
    clock, probe = NodeClock(office.runtime), Probe()
    clock.set_rate(2.0)
    clock.after(10.0, probe, "rang")
    office.runtime.run_for(4.9)
    assert probe.received == []
    office.runtime.run_for(0.2)
    assert probe.received == ["rang"]
    assert clock.monotonic_s() == pytest.approx(10.2)


def test_a_wall_clock_jumps_and_the_monotonic_one_does_not() -> None:
    office = Office()
    clock = NodeClock(office.runtime)
    before_ms, before_s = clock.wall_ms(), clock.monotonic_s()
    clock.jump(-3600.0)
    assert clock.wall_ms() == before_ms - 3_600_000
    assert clock.monotonic_s() == before_s


def test_changing_the_rate_never_turns_the_monotonic_clock_back() -> None:
    office = Office()
    clock = NodeClock(office.runtime)
    seen = []
    for rate in (1.05, 0.95, 1.0, 0.5):
        clock.set_rate(rate)
        office.runtime.run_for(1.0)
        seen.append(clock.monotonic_s())
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(3.5)

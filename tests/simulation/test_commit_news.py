"""The claim that who waits at a leader hears soon of a commit: who is left waiting is seen, and who may wait is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, LogAppended
from ourolog.actors.messages.peer_calls import CallAnswer, CallCancelled, CallReceived, FetchRequest
from ourolog.actors.messages.store import BatchesGathered
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import Index, Term
from tests.simulation.elected_scene import lead, scene_of
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene
from tests.simulation.scene_messages import at, response


def fetch(next_index: int, committed: int, disk_index: int, max_bytes: int = 1000) -> FetchRequest:
    request = FetchRequest(
        "ourolog", N2, EPOCH + 1, True, Term(1), Index(next_index), None, 0, Index(committed), max_bytes, 0.5
    )
    return replace(request, disk_index=Index(disk_index))


def waiting(next_index: int = 2, committed: int = 1, disk_index: int = 2) -> Scene:
    """n1 leads, its log ends at index 2, and n2 waits, who knows of less than n1 to be committed."""
    scene = scene_of("commit_told_soon")
    lead(scene, N1, 1, N1, N2, N3)
    scene.tell("n1.store", "n1.replicator", LogAppended((at(2),), TermHistory()))
    scene.wait(1)
    scene.tell("", "n1.replicator", CallReceived(7, fetch(next_index, committed, disk_index), Probe()))
    scene.tell("n1.replicator", "n1.server", CommitAdvanced(at(2)))
    return scene


def test_who_waits_for_longer_is_seen() -> None:
    scene = waiting()
    scene.wait(0.001)
    with pytest.raises(Violation, match=r"more is committed than index 1, and lets the fetch of n2 wait"):
        scene.wait(0.006)
    scene = waiting()
    scene.time_s += 0.01
    with pytest.raises(Violation):
        scene.tell("n1.replicator", "network", CallAnswer(7, response()))


def test_who_is_answered_or_knows_it_or_is_owed_batches_or_has_gone_is_not() -> None:
    answered = waiting()
    answered.tell("n1.replicator", "network", CallAnswer(7, response()))
    gone = waiting()
    gone.tell("", "n1.replicator", CallCancelled(7))
    deposed = waiting()
    deposed.tell("n1.election", "n1.replicator", LeaderChanged(Term(2), N3))
    read = waiting()
    read.tell("n1.store", "n1.replicator", BatchesGathered(Term(1), ((b"", b""),), at(3), TermHistory()))
    slow = waiting()
    slow.see(FaultInjected(slow.tick(), "slow_node", "n1", ""))
    for scene in (
        answered,
        gone,
        deposed,
        read,
        slow,
        waiting(committed=2),
        waiting(next_index=1),
        waiting(disk_index=1),
    ):
        scene.wait(0.2)


def test_who_waits_for_longer_after_its_disk_has_caught_up_is_seen() -> None:
    scene = waiting(disk_index=1)
    scene.wait(0.1)
    scene.tell("", "n1.replicator", CallReceived(8, fetch(1, 1, 1, max_bytes=0), Probe()))
    scene.tell("n1.replicator", "network", CallAnswer(8, response()))
    scene.wait(0.1)
    scene.tell("", "n1.replicator", CallReceived(9, fetch(2, 1, 2, max_bytes=0), Probe()))
    scene.tell("n1.replicator", "network", CallAnswer(9, response()))
    scene.wait(0.001)
    with pytest.raises(Violation, match="lets the fetch of n2 wait"):
        scene.wait(0.006)

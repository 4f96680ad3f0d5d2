"""The claims about what a leader sends and commits beside its own disk: breaches are seen, and nothing else is."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import CommitAdvanced
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, FetchRequest
from ourolog.actors.messages.store import BatchesGathered
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.storage.batch import Batch, encode_batch, encode_parts
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import Index, Term
from tests.simulation.elected_scene import append, lead, scene_of
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene, batch
from tests.simulation.scene_messages import at, response


def led_by_n1(claim: str) -> Scene:
    """n1 leads term 1, with one entry on its disk, and is about to write two more."""
    scene = scene_of(claim)
    lead(scene, N1, 1, N1, N2, N3)
    append(scene, N1, 0, 1)
    coming = tuple(encode_parts(made(index)) for index in (1, 2))
    scene.tell("n1.store", "n1.replicator", BatchesGathered(Term(1), coming, at(3), TermHistory()))
    return scene


def made(index: int, value: str = "") -> Batch:
    return batch(index, value or f"1/{index}", term=Term(1))


def served(scene: Scene, next_index: int, *batches: bytes, max_bytes: int = 1000) -> None:
    """n2 asks for what comes next, and n1 answers with these."""
    request = FetchRequest(
        "ourolog", N2, EPOCH + 1, True, Term(1), Index(next_index), None, 0, Index(0), max_bytes, 0.5
    )
    scene.tell("", "n1.replicator", CallReceived(7, request, Probe()))
    scene.tell("n1.replicator", "network", CallAnswer(7, response(batches=b"".join(batches))))


def encoded(index: int, value: str = "") -> bytes:
    return encode_batch(made(index, value))


def test_what_is_on_disk_and_what_is_about_to_be_may_be_sent() -> None:
    scene = led_by_n1("fetches_answered_truly")
    served(scene, 0, encoded(0), encoded(1), encoded(2))
    served(scene, 2, encoded(2))
    served(scene, 1, encoded(1), max_bytes=1)
    served(scene, 3)


@pytest.mark.parametrize(
    ("next_index", "batches", "seen"),
    [
        (1, (encoded(2),), "which wants entry 1 next, with entry 2"),
        (0, (encoded(0), encoded(2)), "which wants entry 1 next, with entry 2"),
        (0, (encoded(0, "other"),), "with an entry 0 of term 1, and has entry 0"),
        (1, (encoded(1, "other"),), "with an entry 1 of term 1, and is not about to write it"),
        (3, (encoded(3),), "is not about to write it"),
        (0, (encoded(0)[:-1],), "cut off"),
    ],
)
def test_anything_else_is_seen(next_index: int, batches: tuple[bytes, ...], seen: str) -> None:
    scene = led_by_n1("fetches_answered_truly")
    with pytest.raises(Violation, match=seen):
        served(scene, next_index, *batches)


def test_more_than_was_asked_for_is_seen() -> None:
    scene = led_by_n1("fetches_answered_truly")
    with pytest.raises(Violation, match="several batches"):
        served(scene, 0, encoded(0), encoded(1), max_bytes=len(encoded(0)))


def test_a_commit_beyond_the_own_disk_is_seen() -> None:
    scene = led_by_n1("committed_on_own_disk")
    scene.tell("n1.replicator", "n1.server", CommitAdvanced(at(1)))
    append(scene, N1, 1, 1, sync=False)
    with pytest.raises(Violation, match=r"below index 2 for committed, and only what is below index 1"):
        scene.tell("n1.replicator", "n1.server", CommitAdvanced(at(2)))

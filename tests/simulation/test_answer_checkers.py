"""Each checker of what clients are told, on a few events made by hand: it sees the bug that it is for."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ourolog.actors.messages.server import Consume, Produce, Produced
from ourolog.actors.messages.store import BatchesRead
from ourolog.actors.messages.values import Acks
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected
from ourolog.storage.batch import NewBatch, encode_batch
from ourolog.storage.record_set import encode_record
from ourolog.storage.types import Index, Offset, Position, Term
from tests.simulation.scene import N1, SEGMENT, Scene, batch, sized

# ---------------------------------------------------------------- acknowledgements


def ask_and_acknowledge(scene: Scene, value: str, offset: int, acks: Acks) -> None:
    new = NewBatch(encode_record(value.encode()), 1)
    scene.tell("", "n1.server", Produce(7, new, acks, 1.0, Probe()))
    scene.tell("n1.server", "c1", Produced(7, Offset(offset), Term(1), Index(0)))


def test_an_acknowledgement_by_too_few_disks_is_seen() -> None:
    scene = Scene("acknowledged_durable")
    for name in ("n1", "n2", "n3"):
        scene.start(name, "static:n1,n2,n3")
    scene.append("n1", batch(0, "a"))
    ask_and_acknowledge(scene, "a", 0, Acks.LEADER)
    with pytest.raises(Violation, match="of the voters only n1 had it"):
        ask_and_acknowledge(scene, "a", 0, Acks.QUORUM)
    scene.append("n2", batch(0, "a"))
    ask_and_acknowledge(scene, "a", 0, Acks.QUORUM)
    with pytest.raises(Violation, match="acks=all while of the voters only n1, n2"):
        ask_and_acknowledge(scene, "a", 0, Acks.ALL)


def test_an_acknowledgement_with_another_record_s_offset_is_seen() -> None:
    scene = Scene("acknowledged_durable")
    scene.start("n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    with pytest.raises(Violation, match="holds b'a'"):
        ask_and_acknowledge(scene, "b", 0, Acks.DEFAULT)


def test_an_acknowledged_record_that_a_restart_loses_is_seen() -> None:
    scene = Scene("acknowledged_kept")
    scene.start("n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.produced("n1", "b", 1)
    scene.crash("n1")
    scene.files[N1][SEGMENT] = encode_batch(batch(0, "a"))
    with pytest.raises(Violation, match="lost b'b', acknowledged at offset 1"):
        scene.start("n1")


def test_an_acknowledged_record_that_is_cut_off_is_seen() -> None:
    scene = Scene("acknowledged_kept")
    scene.start("n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.produced("n1", "b", 1)
    with pytest.raises(Violation, match="lost b'b'"):
        scene.truncate("n1", sized(batch(0, "a")))


def test_what_a_destroyed_disk_took_is_not_held_against_its_node() -> None:
    scene = Scene("acknowledged_kept")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.produced("n1", "a", 0)
    scene.crash("n1")
    scene.files[N1] = {}
    scene.see(FaultInjected(scene.tick(), "disk_lost", "n1"))
    scene.start("n1")
    scene.finish()


def test_a_record_that_was_refused_for_certain_and_is_there_is_seen() -> None:
    scene = Scene("refused_not_written")
    scene.start("n1")
    scene.refused("n1", "a")
    with pytest.raises(Violation, match="which a client was told is refused"):
        scene.append("n1", batch(0, "a"))
    scene = Scene("refused_not_written")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    with pytest.raises(Violation, match="n1 has it in its log"):
        scene.refused("n1", "a")


# ---------------------------------------------------------------- readers


def test_a_read_above_the_commit_position_is_seen() -> None:
    scene = Scene("readers_see_committed")
    scene.start("n1", "static:n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.commit("n1", 1)
    scene.consumed("n1", 0, "a")
    with pytest.raises(Violation, match="where what is below 1 is committed"):
        scene.consumed("n1", 1, "b")


def test_a_read_of_what_is_not_there_is_seen() -> None:
    scene = Scene("readers_see_committed")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.commit("n1", 1)
    with pytest.raises(Violation, match="which holds b'a'"):
        scene.consumed("n1", 0, "b")


@pytest.mark.parametrize(
    ("answered", "following", "what"),
    [
        ((1,), 2, "answered from"),
        ((0, 2), 3, "goes from 1 to 2"),
        ((0,), 2, "says 2 is next"),
    ],
)
def test_an_answer_with_a_gap_is_seen(answered: Iterable[int], following: int, what: str) -> None:
    scene = Scene("readers_move_forward")
    scene.start("n1")
    scene.tell("", "n1.server", Consume(9, Offset(0), 100, False, Probe()))
    batches = b"".join(encode_batch(batch(at, "x")) for at in answered)
    with pytest.raises(Violation, match=what):
        scene.tell("n1.store", "c1", BatchesRead(9, batches, Position(Index(following), Offset(following))))


# ---------------------------------------------------------------- linearizability, online


def test_an_offset_below_what_was_known_when_the_record_was_sent_is_seen() -> None:
    scene = Scene("linearizable")
    scene.start("n1")
    scene.produced("n1", "a", 1)
    with pytest.raises(Violation, match="offset 1 was known to be there"):
        scene.produced("n1", "b", 0)


def test_a_record_at_two_offsets_or_two_at_one_are_seen() -> None:
    scene = Scene("linearizable")
    scene.start("n1")
    scene.produced("n1", "a", 0)
    scene.produced("n1", "b", 1)
    with pytest.raises(Violation, match="it was at offset 0 before"):
        scene.consumed("n1", 2, "a")
    with pytest.raises(Violation, match="where b'a' was seen before"):
        scene.consumed("n1", 0, "b")


def test_a_node_that_does_not_find_what_it_has_acknowledged_is_seen() -> None:
    scene = Scene("linearizable")
    scene.start("n1")
    scene.produced("n1", "a", 0)
    with pytest.raises(Violation, match="after that node had acknowledged offset 0"):
        scene.found_end("n1", 1, 0)


def test_a_value_that_nobody_wrote_is_seen() -> None:
    scene = Scene("linearizable")
    scene.start("n1")
    with pytest.raises(Violation, match="nobody ever wrote"):
        scene.consumed("n1", 0, "a")


def test_a_gap_that_nobody_can_have_filled_is_seen_in_the_end() -> None:
    scene = Scene("linearizable")
    scene.start("n1", "static:n1")
    scene.produced("n1", "b", 1)
    with pytest.raises(Violation, match="at most 1 can have been written"):
        scene.finish()

"""What rots is read at once by somebody."""

from __future__ import annotations

from ourolog.simulation.disks.rot import Rotted
from ourolog.simulation.events import ClientInvoked, Event, FaultInjected
from ourolog.simulation.options import Options
from ourolog.simulation.rot_reader import READS, damaged_offset
from ourolog.simulation.simulate import simulate
from ourolog.storage.batch import encode_batch
from ourolog.storage.segment import stem_of
from ourolog.storage.types import Index, Offset, Position
from tests.simulation.scene import batch

PATH = f"/data/log/{stem_of(Position(Index(7), Offset(7)))}.log"
BATCHES = [encode_batch(batch(index, f"v{index}")) for index in (7, 8, 9)]
SECOND, THIRD = len(BATCHES[0]), len(BATCHES[0]) + len(BATCHES[1])


def test_the_first_damaged_record_is_found_by_walking_the_segment() -> None:
    content = b"".join(BATCHES)
    found = [damaged_offset(Rotted(PATH, at, 1), content) for at in (0, SECOND - 1, SECOND, THIRD - 1, THIRD)]
    assert found == [7, 7, 8, 8, 9]
    frame_lost = content[:SECOND] + bytes(20) + content[SECOND + 20 :]
    assert damaged_offset(Rotted(PATH, THIRD, 1), frame_lost) == 8
    assert damaged_offset(Rotted(PATH, THIRD, 1), content[: SECOND + 10]) == 8


def test_no_record_is_in_another_file() -> None:
    for path in (PATH.removesuffix(".log") + ".index", "/data/checkpoint", "/data/log/other.log"):
        assert damaged_offset(Rotted(path, 0, 1), b"".join(BATCHES)) is None


def test_in_a_run_the_damaged_batch_is_read_of_the_node_with_the_rot() -> None:
    struck: list[FaultInjected] = []
    asked: list[ClientInvoked] = []

    def observe(event: Event) -> None:
        if isinstance(event, FaultInjected) and event.kind == "bit_rot" and ".log" in event.detail:
            struck.append(event)
        elif isinstance(event, ClientInvoked) and event.client == "rot":
            asked.append(event)

    for seed in (1, 2, 3):
        options = Options(seed, nodes=4, election="raft", faults=("bit_rot",), minutes=0.4)
        assert simulate(options, observers=[observe]).violations == ()
    assert READS <= len(asked) < READS * len(struck)
    assert {event.node_id for event in asked} <= {event.where for event in struck}

"""The claims about repairs and the scrub, broken one by one in streams of events; and whole runs in which disks rot."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import CallReturned, RepairResponse
from ourolog.actors.messages.repair import BatchRepaired, DamageFound, RepairAbandoned, RepairBatch
from ourolog.actors.messages.store import BatchesRead
from ourolog.simulation.checker import Violation
from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.simulation.disks.rot import Rot, Rotted
from ourolog.simulation.events import (
    DiskRestored,
    FaultInjected,
    FileRewritten,
    NodeSaid,
    PartitionHealed,
    PartitionMade,
)
from ourolog.simulation.options import Options
from ourolog.simulation.simulate import simulate
from ourolog.storage.batch import encode_batch
from ourolog.storage.errors import DamagedLogError
from ourolog.storage.types import Index, Offset, Position, Term
from tests.simulation.scene import N1, N2, SEGMENT, Scene, batch

ELECTION = "static:n1,n2,n3"


def entry(index: int, value: str = "", **more: Any) -> Any:
    return batch(index, value or f"v{index}", term=Term(1), **more)


def led(claim: str, count: int = 4, **settings: Any) -> Scene:
    """Three replicas with the same entries, all committed."""
    scene = Scene(claim)
    for name in ("n1", "n2", "n3"):
        scene.start(name, ELECTION, settings=settings)
        scene.append(name, *(entry(index) for index in range(count)))
        scene.commit(name, count)
    return scene


def size_of(index: int) -> int:
    return len(encode_batch(entry(index)))


def begins(index: int) -> int:
    return sum(size_of(before) for before in range(index))


def rewrite(scene: Scene, index: int, data: bytes, position: int | None = None, *, sync: bool = True) -> None:
    at = begins(index) if position is None else position
    content = scene.files[N1][SEGMENT]
    scene.files[N1][SEGMENT] = content[:at] + data + content[at + len(data) :]
    scene.see(FileRewritten(scene.tick(), N1, SEGMENT, at, data))
    if not sync:
        scene.synced[N1][SEGMENT] = at


# ---------------------------------------------------------------- the same bytes, on disk


def test_a_batch_that_is_written_again_as_it_was_is_repaired() -> None:
    scene = led("repaired_equal")
    for index in range(4):
        rewrite(scene, index, encode_batch(entry(index), synced=begins(index)))
        scene.tell("n1.store", "n1.replicator", BatchRepaired(Index(index), N2))


@pytest.mark.parametrize(
    ("data", "position", "why"),
    [
        (encode_batch(entry(1, "other")), None, "not with"),
        (encode_batch(entry(1)) + b"\0", None, "not with"),
        (encode_batch(entry(1))[:-1], None, "not with"),
        (encode_batch(entry(1)), 3, "no batch begins"),
        (encode_batch(entry(2)), None, "not with"),
        (b"x" * 50, None, "no batch"),
        (encode_batch(entry(1), synced=5000), None, "claims"),
    ],
)
def test_anything_else_that_is_written_over_is_found_out(data: bytes, position: int | None, why: str) -> None:
    scene = led("repaired_equal")
    with pytest.raises(Violation, match=why):
        rewrite(scene, 1, data, position)


def test_what_counts_as_repaired_and_is_not_on_disk_is_found_out() -> None:
    scene = led("repaired_equal")
    rewrite(scene, 1, encode_batch(entry(1)), sync=False)
    with pytest.raises(Violation, match="not on its disk"):
        scene.tell("n1.store", "n1.replicator", BatchRepaired(Index(1), N2))


def test_a_repair_that_writes_nothing_is_found_out() -> None:
    scene = led("repaired_equal")
    content = scene.files[N1][SEGMENT]
    scene.files[N1][SEGMENT] = content[: begins(2) + 40] + b"?" + content[begins(2) + 41 :]
    scene.tell("n1.store", "n1.replicator", BatchRepaired(Index(1), N2))
    with pytest.raises(Violation, match=r"n1 said that entry 2, at byte \d+ of .* is not on its disk"):
        scene.tell("n1.store", "n1.replicator", BatchRepaired(Index(2), N2))


# ---------------------------------------------------------------- only what is committed


@pytest.mark.parametrize("index", [3, 4])
def test_a_repair_of_what_is_not_committed_is_found_out(index: int) -> None:
    scene = Scene("repairs_committed_only")
    for name in ("n1", "n2"):
        scene.start(name, ELECTION)
        scene.append(name, *(entry(at) for at in range(6)))
    scene.commit("n1", 5)
    scene.commit("n2", 4)
    repair = RepairBatch(Index(index), b"", N2, scene)  # type: ignore[arg-type]
    sent = CallReturned(N2, 7, RepairResponse(N2, 1, encode_batch(entry(index))))
    scene.tell("n1.replicator", "n1.store", repair)
    if index < 4:
        scene.tell("", "n1.replicator", sent)
    else:
        with pytest.raises(Violation, match="n2 sent"):
            scene.tell("", "n1.replicator", sent)
    with pytest.raises(Violation, match="n1 was to repair"):
        scene.tell("n1.replicator", "n1.store", RepairBatch(Index(5), b"", N2, scene))  # type: ignore[arg-type]


# ---------------------------------------------------------------- never served


def test_a_damaged_batch_that_is_read_or_sent_is_found_out() -> None:
    good = encode_batch(entry(1))
    bad = good[:-1] + bytes([good[-1] ^ 1])
    scene = led("damage_never_served")
    scene.tell("n1.store", "c1", BatchesRead(1, good, Position(Index(2), Offset(2))))
    scene.tell("", "n1.replicator", CallReturned(N2, 7, RepairResponse(N2, 1, good)))
    with pytest.raises(Violation, match="damaged"):
        scene.tell("n1.store", "c1", BatchesRead(1, bad, Position(Index(2), Offset(2))))
    with pytest.raises(Violation, match="damaged"):
        scene.tell("", "n1.replicator", CallReturned(N2, 7, RepairResponse(N2, 1, bad)))
    with pytest.raises(Violation, match="another entry"):
        scene.tell("n1.store", "c1", BatchesRead(1, encode_batch(entry(1, "other")), Position(Index(2), Offset(2))))


# ---------------------------------------------------------------- in time


def found(scene: Scene, index: int = 1) -> None:
    scene.tell("n1.store", "n1.replicator", DamageFound(Index(index), Offset(index)))


def test_damage_that_another_node_could_have_repaired_is_not_left() -> None:
    scene = led("repaired_in_time")
    found(scene)
    scene.wait(9.0)
    with pytest.raises(Violation, match="not repaired"):
        scene.wait(3.0)


def test_what_is_repaired_or_cannot_be_is_no_violation() -> None:
    scene = led("repaired_in_time")
    found(scene)
    scene.tell("n1.store", "n1.replicator", BatchRepaired(Index(1), N2))
    scene.wait(60.0)
    parted = led("repaired_in_time")
    found(parted)
    links = tuple((one, other) for one in ["n1", "n2", "n3"] for other in ["n1", "n2", "n3"] if one != other)
    parted.see(PartitionMade(parted.tick(), "all", links))  # type: ignore[arg-type]
    parted.wait(60.0)
    parted.see(PartitionHealed(parted.tick()))
    parted.wait(9.0)
    with pytest.raises(Violation, match="not repaired"):
        parted.wait(3.0)
    alone = led("repaired_in_time")
    for name in ("n2", "n3"):
        alone.see(FaultInjected(alone.tick(), "bit_rot", name, f"bit 1 of byte 1 of {SEGMENT}"))
    found(alone)
    alone.wait(60.0)


def test_a_repair_that_is_given_up_while_another_node_has_the_entry_is_found_out() -> None:
    scene = led("repaired_in_time")
    found(scene)
    scene.tell("n1.replicator", "n1.store", RepairAbandoned(Index(1), "it is not known to be committed", 0.25))
    found(scene)
    with pytest.raises(Violation, match="has it"):
        scene.tell("n1.replicator", "n1.store", RepairAbandoned(Index(1), "nobody has it", 10.0))


def test_another_entry_at_that_index_repairs_nothing() -> None:
    scene = Scene("repaired_in_time")
    for name in ("n1", "n2", "n3"):
        scene.start(name, ELECTION)
        scene.append(name, entry(0), entry(1, "" if name == "n1" else "other"), entry(2))
        scene.commit(name, 3)
    found(scene)
    scene.tell("n1.replicator", "n1.store", RepairAbandoned(Index(1), "n2 has another entry there", 10.0))
    found(scene)
    scene.wait(60.0)


# ---------------------------------------------------------------- the scrub


def rot(scene: Scene, position: int = 3, path: str = SEGMENT) -> None:
    scene.see(FaultInjected(scene.tick(), "bit_rot", "n1", f"bit 1 of byte {position} of {path}"))


def test_rot_that_the_scrub_has_not_found_in_two_intervals_is_found_out() -> None:
    scene = led("scrub_finds_rot", scrub_interval_s=2.0)
    rot(scene)
    scene.wait(6.0)
    with pytest.raises(Violation, match="has not found"):
        scene.wait(3.0)


def warned(scene: Scene, index: int, kind: WarningKind = WarningKind.DAMAGED) -> None:
    reason = DamagedLogError(SEGMENT, begins(index), Index(index), Offset(index), "it rots").where
    if kind is WarningKind.REPAIRED:
        reason = f"{SEGMENT}: the batch at byte {begins(index)} (index {index}) was replaced by the copy of n2"
    scene.see(NodeSaid(scene.tick(), N1, NodeWarned(N1, "store", kind, reason)))


def test_rot_of_a_file_that_was_repaired_before_is_found_as_well() -> None:
    scene = led("scrub_finds_rot", scrub_interval_s=2.0)
    rot(scene)
    warned(scene, 0)
    scene.wait(1.0)
    rot(scene, begins(1) + 3)
    scene.wait(60.0)
    for index in (0, 1):
        warned(scene, index, WarningKind.REPAIRED)
    rot(scene)
    with pytest.raises(Violation, match="has not found"):
        scene.wait(9.0)


@pytest.mark.parametrize("how", ["warned", "restored", "crashed", "written", "elsewhere", "behind", "off"])
def test_rot_that_was_found_or_is_gone_or_lies_elsewhere_is_no_violation(how: str) -> None:
    scene = led("scrub_finds_rot", scrub_interval_s=0.0 if how == "off" else 2.0)
    match how:
        case "elsewhere":
            rot(scene, path="/data/ballot")
        case "behind":
            rot(scene, position=10_000)
        case _:
            rot(scene)
    match how:
        case "warned":
            warned = NodeWarned(N1, "store", WarningKind.DAMAGED, f"{SEGMENT} is damaged")
            scene.see(NodeSaid(scene.tick(), N1, warned))
        case "restored":
            scene.see(DiskRestored(scene.tick(), N1, "bit_rot"))
        case "crashed":
            scene.crash("n1", keep=True)
        case "written":
            scene.see(FileRewritten(scene.tick(), N1, SEGMENT, 0, b"x"))
    scene.wait(60.0)


# ---------------------------------------------------------------- rot itself


def disk_with(content: bytes) -> SimulatedDisk:
    disk = SimulatedDisk(sector_bytes=32)
    file = disk.open("/data", create=True)
    file.append([content])
    file.sync()
    file.append([b"more"])
    file.sync()
    disk.sync_directory("/")
    return disk


def test_rot_says_where_it_is_and_is_undone() -> None:
    kinds = set()
    for seed in range(40):
        disk = disk_with(bytes(range(250)) * 4)
        whole = disk.read_all("/data")
        spoiled = Rot.draw(disk, Random(seed), Random(seed))
        assert spoiled is not None
        spoiled.strike(disk)
        told = Rotted.told(str(spoiled))
        assert told == (spoiled.path, spoiled.position, len(spoiled.good))
        after = disk.read_all("/data")
        assert after != whole
        assert after[: told.position] == whole[: told.position]
        assert after[told.position + told.size :] == whole[told.position + told.size :]
        assert not spoiled.is_over(disk)
        kinds.add("bit" if told.size == 1 else "sector" if not any(spoiled.bad) else "burst")
        spoiled.undo(disk)
        assert disk.read_all("/data") == whole
        assert spoiled.is_over(disk)
    assert kinds == {"bit", "sector", "burst"}
    assert Rotted.told("until 3.5") is None


def test_the_last_batch_of_a_segment_may_rot_and_the_last_of_the_log_may_not() -> None:
    first, last = (f"/{base:020}-{base:020}.log" for base in (0, 3))
    disk = SimulatedDisk()
    for path in (first, last):
        file = disk.open(path, create=True)
        for _ in range(3):
            file.append([b"batch"])
            file.sync()
    disk.sync_directory("/")
    rotten: dict[str, set[int]] = {first: set(), last: set()}
    for seed in range(300):
        rot = Rot.draw(disk, Random(seed))
        assert rot is not None
        rotten[rot.path].add(rot.position)
    assert rotten == {first: set(range(15)), last: set(range(10))}


# ---------------------------------------------------------------- whole runs


def test_in_runs_in_which_disks_rot_batches_are_repaired_and_no_claim_is_violated() -> None:
    states: dict[str, int] = {}
    for seed in range(1, 7):
        result = simulate(Options(seed, nodes=4, election="raft", faults=("bit_rot", "kill"), minutes=0.4))
        assert result.violations == ()
        for state, count in result.states.items():
            states[state] = states.get(state, 0) + count
    assert states["batch_repaired"] > 5
    assert states["repaired_by_follower"]
    assert states["scrub_found_rot"]


def test_where_a_leader_is_cut_off_what_is_not_committed_rots_and_nobody_is_asked_for_it() -> None:
    states: set[str] = set()
    for seed in range(3):
        faults = ("bit_rot", "partition")
        result = simulate(Options(seed, nodes=4, election="raft", faults=faults, minutes=0.4, operations=400))
        assert result.violations == ()
        states.update(result.states)
    assert "repair_uncommitted" in states

"""The simulated disk: what a power cut leaves, and what else can go wrong with one."""

from __future__ import annotations

import errno
from random import Random

import pytest

from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.simulation.disks.inodes import SECTOR_BYTES
from ourolog.simulation.events import Event, FaultInjected, FileAppended, FileSynced
from ourolog.simulation.runtime import PowerCutError
from ourolog.storage.errors import DirectoryLockedError
from ourolog.storage.types import NodeId

PATH = "/data/log/a"


class Lab:
    def __init__(self, seed: int = 1) -> None:
        self.events: list[Event] = []
        self.spent_s = 0.0
        self.disk = SimulatedDisk(NodeId("n1"), Random(seed), self.events.append, lambda: 0.0, self._spend)
        self.disk.make_directory("/data/log")

    def _spend(self, seconds: float) -> None:
        self.spent_s += seconds

    def faults(self) -> list[str]:
        return [event.kind for event in self.events if isinstance(event, FaultInjected)]


def written(lab: Lab, content: bytes, *, synced: bool, named: bool = True) -> None:
    file = lab.disk.open(PATH, create=True)
    file.append([content])
    if synced:
        file.sync()
    if named:
        lab.disk.sync_directory("/data/log")


def test_what_was_synced_survives_a_power_loss() -> None:
    for seed in range(50):
        lab = Lab(seed)
        written(lab, b"abc" * 1000, synced=True)
        lab.disk.lose_power()
        assert lab.disk.read_all(PATH) == b"abc" * 1000


def test_what_was_not_synced_survives_in_any_part_torn_at_sectors() -> None:
    left: set[bytes] = set()
    content = b"x" * (3 * SECTOR_BYTES + 100)
    for seed in range(200):
        lab = Lab(seed)
        written(lab, content, synced=False)
        lab.disk.lose_power()
        found = lab.disk.read_all(PATH)
        left.add(found)
        for start in range(0, len(found), SECTOR_BYTES):
            sector = found[start : start + SECTOR_BYTES]
            assert sector in (b"x" * len(sector), bytes(len(sector)))
    assert b"" in left or any(len(found) < SECTOR_BYTES for found in left)
    assert content in left
    assert any(found.startswith(bytes(SECTOR_BYTES)) and b"x" in found for found in left), "a hole before data"


def test_the_synced_part_of_a_torn_sector_stays() -> None:
    for seed in range(100):
        lab = Lab(seed)
        written(lab, b"s" * 300, synced=True)
        lab.disk.open(PATH).append([b"u" * 1000])
        lab.disk.lose_power()
        assert lab.disk.read_all(PATH).startswith(b"s" * 300)


def test_a_new_name_is_certain_only_after_its_directory_was_synced() -> None:
    def exists_after(seed: int, *, named: bool) -> bool:
        lab = Lab(seed)
        written(lab, b"abc", synced=True, named=named)
        lab.disk.lose_power()
        return lab.disk.exists(PATH)

    assert {exists_after(seed, named=True) for seed in range(40)} == {True}
    assert {exists_after(seed, named=False) for seed in range(40)} == {True, False}


def test_a_removed_name_may_come_back_until_its_directory_was_synced() -> None:
    def exists_after(seed: int) -> bool:
        lab = Lab(seed)
        written(lab, b"abc", synced=True)
        lab.disk.remove(PATH)
        lab.disk.lose_power()
        return lab.disk.exists(PATH)

    assert {exists_after(seed) for seed in range(40)} == {True, False}


def test_a_replaced_file_is_the_old_one_or_the_new_one_at_every_power_cut() -> None:
    for steps in range(8):
        for seed in range(20):
            lab = Lab(seed)
            lab.disk.replace(PATH, b"old" * 400)
            lab.disk.faults.power_cut_in = steps
            try:
                lab.disk.replace(PATH, b"new" * 500)
                cut = False
            except PowerCutError:
                cut = True
            lab.disk.lose_power()
            found = lab.disk.read_all(PATH)
            assert found in (b"old" * 400, b"new" * 500)
            assert cut or found == b"new" * 500


def test_an_unsynced_truncation_may_be_undone_by_a_power_loss() -> None:
    found = set()
    for seed in range(60):
        lab = Lab(seed)
        written(lab, b"abcdef", synced=True)
        lab.disk.open(PATH).truncate(2)
        lab.disk.lose_power()
        found.add(lab.disk.read_all(PATH))
    assert found == {b"ab", b"abcdef"}


def test_a_killed_process_leaves_the_page_cache_as_it_was() -> None:
    lab = Lab()
    written(lab, b"abc", synced=False, named=False)
    lab.disk.end_process()
    assert lab.disk.read_all(PATH) == b"abc"
    assert lab.disk.durable() == {}


def test_a_failed_fsync_loses_what_it_should_have_written_and_later_ones_do_not_tell() -> None:
    lab = Lab()
    file = lab.disk.open(PATH, create=True)
    lab.disk.sync_directory("/data/log")
    file.append([b"abc"])
    lab.disk.faults.sync_fails_in = 0
    with pytest.raises(OSError, match="Input/output") as failure:
        file.sync()
    assert failure.value.errno == errno.EIO
    file.sync()
    assert lab.disk.durable()[PATH] == b""
    assert lab.faults() == ["fsync_fails"]


def test_a_lying_fsync_returns_and_nothing_is_durable_until_it_was_written_back() -> None:
    lab = Lab()
    written(lab, b"abc", synced=True)
    lab.disk.faults.lies = True
    file = lab.disk.open(PATH)
    file.append([b"def"])
    file.sync()
    assert lab.events[-1] == FileSynced(0.0, NodeId("n1"), PATH, 6)
    assert lab.disk.durable()[PATH] == b"abc"
    assert lab.faults() == ["fsync_lies"]
    lab.disk.faults.lies = False
    lab.disk.write_back()
    assert lab.disk.durable()[PATH] == b"abcdef"


def test_a_full_disk_takes_a_part_of_the_append_and_refuses_the_rest() -> None:
    lab = Lab()
    file = lab.disk.open(PATH, create=True)
    lab.disk.faults.room_bytes = 4
    with pytest.raises(OSError, match="No space") as failure:
        file.append([b"abc", b"def"])
    assert failure.value.errno == errno.ENOSPC
    assert lab.disk.read_all(PATH) == b"abcd"
    assert lab.events[-2] == FileAppended(0.0, NodeId("n1"), PATH, 0, b"abcd")


def test_an_io_error_comes_once_and_where_it_was_ordered() -> None:
    lab = Lab()
    written(lab, b"abc", synced=True)
    lab.disk.faults.io_error_in = 1
    assert lab.disk.read_all(PATH) == b"abc"
    with pytest.raises(OSError, match="Input/output"):
        lab.disk.read_all(PATH)
    assert lab.disk.read_all(PATH) == b"abc"


def test_nothing_works_after_the_power_was_cut_until_it_is_back() -> None:
    lab = Lab()
    written(lab, b"abc", synced=True)
    file = lab.disk.open(PATH)
    lab.disk.faults.power_cut_in = 0
    with pytest.raises(PowerCutError):
        file.append([b"def"])
    with pytest.raises(PowerCutError):
        lab.disk.read_all(PATH)
    lab.disk.lose_power()
    assert lab.disk.read_all(PATH).startswith(b"abc")


def test_a_slow_disk_costs_time_and_says_so() -> None:
    lab = Lab()
    lab.disk.faults.slow_s = 0.5
    written(lab, b"abc", synced=True)
    assert 0 < lab.spent_s < 3
    assert "slow_disk" in lab.faults()


def test_one_operation_of_a_disk_that_hangs_takes_its_time_and_says_until_when() -> None:
    lab = Lab()
    lab.disk.faults.hang_s = 7.0
    written(lab, b"abc", synced=True)
    assert lab.spent_s == 7.0
    assert [event.until_s for event in lab.events if isinstance(event, FaultInjected)] == [7.0]


def test_rot_flips_one_bit_at_rest_and_only_where_a_later_sync_has_passed() -> None:
    lab = Lab()
    written(lab, b"abc", synced=True)
    assert lab.disk.rot_candidates() == []
    file = lab.disk.open(PATH)
    file.append([b"def"])
    file.sync()
    assert lab.disk.rot_candidates() == [(PATH, 3)]
    lab.disk.flip_bit(PATH, 1, 0)
    assert lab.disk.read_all(PATH) == b"accdef"
    assert lab.disk.durable()[PATH] == b"accdef"


def test_a_lock_is_held_until_its_process_ends() -> None:
    lab = Lab()
    lab.disk.lock("/data/lock")
    with pytest.raises(DirectoryLockedError):
        lab.disk.lock("/data/lock")
    lab.disk.end_process()
    lab.disk.lock("/data/lock")


def test_a_formatted_disk_is_empty() -> None:
    lab = Lab()
    written(lab, b"abc", synced=True)
    lab.disk.format()
    assert lab.disk.durable() == {}
    assert not lab.disk.exists(PATH)


# ---------------------------------------------------------------- what a test orders


@pytest.mark.parametrize("kept", [True, False])
def test_an_ordered_sync_fails_with_the_outcome_that_was_ordered(kept: bool) -> None:
    disk = SimulatedDisk()
    file = disk.open("/a", create=True)
    disk.sync_directory("/")
    disk.fail("sync", errno.EIO, nth=2, drops=not kept)
    file.append([b"abc"])
    file.sync()
    file.append([b"def"])
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    file.sync()
    assert disk.read_all("/a") == b"abcdef"
    assert disk.durable()["/a"] == b"abc"
    disk.end_process()
    assert disk.read_all("/a") == (b"abcdef" if kept else b"abc")


def test_faults_that_fall_on_one_change_come_one_after_the_other() -> None:
    disk = SimulatedDisk()
    file = disk.open("/a", create=True)
    disk.fail("write", errno.ENOSPC, nth=2, after_bytes=1)
    disk.fail("write", errno.EIO, nth=2, after_bytes=2)
    file.append([b"abc"])
    with pytest.raises(OSError, match="No space"):
        file.append([b"def"])
    assert disk.read_all("/a") == b"abcd"
    with pytest.raises(OSError, match="Input/output"):
        file.append([b"ghi"])
    assert disk.read_all("/a") == b"abcgh"
    file.append([b"jkl"])
    assert disk.read_all("/a") == b"abcjkl"


def test_no_fault_is_ordered_for_what_is_no_change() -> None:
    with pytest.raises(AssertionError, match="no change is called 'append'"):
        SimulatedDisk().fail("append", errno.EIO)  # type: ignore[arg-type]


def test_power_is_cut_at_the_very_byte_and_looking_takes_none_of_it() -> None:
    whole = SimulatedDisk()
    whole.replace("/a", b"abcdef")
    contents = []
    for steps in range(whole.steps):
        disk = SimulatedDisk()
        disk.cut_power_after(steps)
        disk.list("/")
        with pytest.raises(PowerCutError):
            disk.replace("/a", b"abcdef")
        with pytest.raises(PowerCutError):
            disk.list("/")
        assert disk.steps == steps
        found = disk.after_crash(keep_unsynced=True)
        contents.append([(name, found.read_all(f"/{name}")) for name in found.list("/")])
    # Made, written byte by byte, synced, renamed; the last step would have been to sync the directory.
    written = [[("a.tmp", b"abcdef"[:count])] for count in range(7)]
    assert contents == [[], *written, written[-1], [("a", b"abcdef")]]


def test_a_power_cut_that_has_not_come_is_called_off_by_a_repair() -> None:
    disk = SimulatedDisk()
    disk.cut_power_after(3)
    disk.repair()
    disk.replace("/a", b"abcdef")
    assert disk.read_all("/a") == b"abcdef"


def test_what_the_next_process_finds_is_another_disk() -> None:
    disk = SimulatedDisk(sector_bytes=2)
    file = disk.open("/a", create=True)
    file.append([b"abcd"])
    assert disk.unsynced_names() == {"/a"}
    killed, cut = disk.after_crash(keep_unsynced=True), disk.after_crash(keep_unsynced=False)
    assert (killed.read_all("/a"), cut.list("/")) == (b"abcd", [])
    assert killed.after_crash(keep_unsynced=False).list("/") == [], "what was not synced can be lost later"
    disk.sync_directory("/")
    left = {disk.after_crash(keep_unsynced=False, chance=Random(seed)).read_all("/a") for seed in range(60)}
    assert left >= {b"", b"abcd", b"ab\0\0", b"\0\0cd"}, "torn between sectors"
    killed.open("/a").append([b"e"])
    killed.content("/a")[0] = 0
    assert disk.read_all("/a") == b"abcd"


def test_a_closed_file_is_not_used_any_more() -> None:
    file = SimulatedDisk().open("/a", create=True)
    file.close()
    for use in (lambda: file.read(0, 1), lambda: file.append([b"a"]), file.sync, lambda: file.truncate(0)):
        with pytest.raises(AssertionError, match="/a is closed"):
            use()

"""Files and names of the simulated disk after a failed sync: what can be read, and what no later sync writes."""

from __future__ import annotations

from random import Random

from ourolog.simulation.disks.directory_entries import DirectoryEntries
from ourolog.simulation.disks.inodes import Inode


def test_what_a_failed_sync_has_lost_stays_readable_and_no_later_sync_writes_it() -> None:
    inode = Inode(b"abc")
    inode.write(3, b"def")
    inode.fail_sync(None, drops=False)
    inode.end_process()
    inode.sync()
    assert (bytes(inode.content), bytes(inode.durable), inode.durable_bytes) == (b"abcdef", b"abc", 3)
    inode.write(6, b"ghi")
    inode.sync()
    assert bytes(inode.durable) == b"abc\0\0\0ghi"
    assert inode.after_power_loss(Random(1)).content == b"abc\0\0\0ghi"


def test_only_writing_it_again_puts_it_on_disk() -> None:
    inode = Inode(b"abc")
    inode.write(3, b"defghi")
    inode.fail_sync(None, drops=False)
    inode.write(4, b"efg")
    inode.sync()
    assert bytes(inode.durable) == b"abc\0efg"
    assert inode.durable_bytes == 3
    inode.write(3, b"d")
    inode.write(7, b"hi")
    inode.sync()
    assert bytes(inode.durable) == b"abcdefghi"
    assert inode.durable_bytes == 9


def test_or_it_is_gone_when_the_process_has_ended() -> None:
    inode = Inode(b"abc")
    inode.write(3, b"def")
    inode.fail_sync(None, drops=True)
    assert bytes(inode.content) == b"abcdef"
    inode.end_process()
    assert bytes(inode.content) == b"abc"


def test_a_part_of_it_may_have_reached_the_disk() -> None:
    left = set()
    for seed in range(40):
        inode = Inode()
        inode.write(0, b"x" * 2000)
        inode.fail_sync(Random(seed), drops=False)
        left.add(bytes(inode.durable))
    assert b"" in left
    assert any(durable and durable != b"x" * 2000 for durable in left)


def rotten_file() -> Inode:
    inode = Inode(b"abcdef")
    inode.spoil(1, b"XYZ")
    assert bytes(inode.content) == bytes(inode.durable) == b"aXYZef"
    return inode


def test_rot_is_restored_where_nothing_else_was_written_since() -> None:
    inode = rotten_file()
    inode.write(2, b"!")
    inode.restore()
    assert (bytes(inode.content), bytes(inode.durable)) == (b"ab!def", b"abcdef")
    inode = rotten_file()
    inode.write(2, b"c")
    inode.sync()
    assert inode.rotten == {1: ord("b"), 3: ord("d")}
    inode.truncate(3)
    inode.write(3, b"Z")
    inode.sync()
    inode.restore()
    assert (bytes(inode.content), bytes(inode.durable)) == (b"abcZ", b"abcZ")


def test_rot_is_over_once_something_else_is_on_disk_for_certain() -> None:
    inode = rotten_file()
    inode.write(1, b"bcd")
    assert inode.rotten
    assert inode.after_power_loss(None).rotten
    inode.sync()
    assert not inode.rotten


def test_a_power_cut_leaves_the_rot_that_was_not_written_over() -> None:
    left = set()
    for seed in range(40):
        inode = rotten_file()
        inode.write(2, b"cd")
        survivor = inode.after_power_loss(Random(seed), sector_bytes=1)
        left.add(bytes(survivor.content))
        survivor.restore()
        assert bytes(survivor.content) == bytes(survivor.durable) == b"abcdef"
    assert left == {b"aXYZef", b"aXcZef", b"aXYdef", b"aXcdef"}


def test_a_truncation_takes_lost_bytes_along_and_is_synced_for_itself() -> None:
    inode = Inode(b"abc")
    inode.write(3, b"def")
    inode.fail_sync(None, drops=False)
    inode.truncate(2)
    inode.write(2, b"X")
    inode.sync()
    assert bytes(inode.durable) == b"abX"
    assert inode.durable_bytes == 3


def test_a_name_that_a_failed_sync_has_lost_is_on_disk_once_it_is_made_again() -> None:
    names, first, second = DirectoryEntries(), Inode(b"1"), Inode(b"2")
    names.put("/d/a", first)
    names.fail_sync("/d", None, undoes=False)
    names.end_process()
    names.sync("/d")
    assert (names.visible, names.durable) == ({"/d/a": first}, {})
    names.put("/d/a", second)
    names.sync("/d")
    assert names.durable == {"/d/a": second}
    assert names.after_power_loss(Random(1)) == {"/d/a": second}


def test_a_removal_that_a_failed_sync_has_lost_is_taken_back_by_a_power_cut() -> None:
    names, inode = DirectoryEntries(), Inode(b"1")
    names.put("/d/a", inode)
    names.sync("/d")
    names.remove("/d/a")
    names.fail_sync("/d", None, undoes=False)
    names.sync("/d")
    assert (names.visible, names.after_power_loss(Random(1))) == ({}, {"/d/a": inode})

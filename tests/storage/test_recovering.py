"""A survivor's data directory becomes the first of its cluster's next generation, whatever happens on the way."""

from __future__ import annotations

from random import Random

import pytest

from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.simulation.runtime import PowerCutError
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Kind, NewBatch
from ourolog.storage.control import Voter, VotersSet, encode_control
from ourolog.storage.errors import DirectoryLockedError
from ourolog.storage.founding import Founding
from ourolog.storage.identity import DataDirectory
from ourolog.storage.log import Log
from ourolog.storage.recovering import NotRecoverableError, Survivor, is_unfinished
from ourolog.storage.superseded import Superseded
from ourolog.storage.types import NodeId, Term
from tests.disks import empty_disk, killed, power_cut, state_of

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
CLUSTER = 77
VALUES = [b"a" * 40, b"b" * 40, b"c" * 40]


def voters_of(epoch: int) -> tuple[Voter, ...]:
    return (
        Voter(N1, epoch, "n1:1", "n1:2"),
        Voter(N2, 22, "n2:1", "n2:2"),
        Voter(N3, 33, "n3:1", "n3:2"),
    )


def survivor_disk(*, joined: bool = False) -> SimulatedDisk:
    """The disk of n1, which followed n2 in term 5, and whose process has ended."""
    disk = empty_disk()
    directory = DataDirectory.open(disk, "/data", N1, "c", Random(1))
    voters = voters_of(directory.log_epoch)
    directory.save_founding(Founding(CLUSTER, () if joined else voters))
    directory.save_ballot(Ballot(Term(5), N2, N2, 22))
    log = Log.open(disk, directory.log_directory, N1, directory.log_epoch)
    log.append_new(NewBatch(encode_control(VotersSet(voters)), 0, kind=Kind.CONTROL), Term(4), 1)
    for value in VALUES:
        log.append_new(NewBatch(value, 1), Term(5), 2)
    log.sync()
    log.note_committed(log.end)
    log.close()
    directory.close()
    return killed(disk)


def survive(disk: SimulatedDisk) -> Survivor:
    return Survivor.open(disk, "/data", Random(9))


def found_on(disk: SimulatedDisk) -> tuple[DataDirectory, Log]:
    directory = DataDirectory.open(disk, "/data", N1, "c", Random(8))
    return directory, Log.open(disk, directory.log_directory, N1, directory.log_epoch)


def test_the_disk_becomes_the_only_voter_of_the_next_generation_and_keeps_all_that_it_has() -> None:
    disk = survivor_disk()
    survivor = survive(disk)
    assert (survivor.identity.node_id, survivor.ballot.term, survivor.last) == (N1, 5, (5, 4))
    assert not survivor.is_unfinished
    made = survivor.recover(Random(3), 1_000, Term(12))
    survivor.close()
    directory, log = found_on(killed(disk))
    assert directory.founding == made.founding
    assert (made.founding.generation, made.founding.lineage, made.founding.cluster_id != CLUSTER) == (2, CLUSTER, True)
    assert (made.term, directory.ballot) == (13, Ballot(Term(13))), "above every term that anybody has told of"
    assert log.voters is not None
    assert log.voters.voters == voters_of(directory.log_epoch)[:1]
    assert (log.voters.term, log.end.offset) == (13, len(VALUES))
    assert not is_unfinished(made.founding, log.voters)


def test_all_of_it_is_on_disk_when_it_has_been_carried_out() -> None:
    disk = survivor_disk()
    made = survive(disk).recover(Random(3), 1_000, Term(12))
    directory, log = found_on(power_cut(disk))
    assert (directory.founding, directory.ballot.term, log.end) == (made.founding, made.term, made.end)
    assert not is_unfinished(made.founding, log.voters)


def test_two_recoveries_draw_two_ids() -> None:
    disk = survivor_disk()
    ids = set()
    for seed in range(2):
        survivor = Survivor.open(killed(disk), "/data", Random(9))
        ids.add(survivor.recover(Random(seed), 1, Term(0)).founding.cluster_id)
    assert len(ids) == 2


def test_it_can_be_recovered_again_later_and_the_lineage_stays() -> None:
    disk = survivor_disk()
    for generation in (2, 3):
        survivor = survive(disk)
        founding = survivor.recover(Random(generation), 1, Term(0)).founding
        assert (founding.generation, founding.lineage) == (generation, CLUSTER)
        survivor.close()
        disk = killed(disk)


def test_a_crash_at_any_step_leaves_the_old_state_or_one_that_only_another_recovery_finishes() -> None:
    seen: dict[str, int] = {}
    for step in range(1, 10_000):
        disk = survivor_disk()
        survivor = survive(disk)
        disk.cut_power_after(step)
        try:
            survivor.recover(Random(3), 1, Term(0))
            survivor.close()
        except PowerCutError:
            done = False
        else:
            done = True
        for left in (killed(disk), power_cut(disk), power_cut(disk, Random(step))):
            directory, log = found_on(left)
            assert log.end.offset == len(VALUES)
            founding = directory.founding
            assert founding is not None
            logged = log.voters
            assert logged is not None
            if founding.cluster_id == CLUSTER:
                state = "as before"
                assert logged.voters == voters_of(directory.log_epoch), "no lone voter in the old generation"
            elif is_unfinished(founding, logged):
                state = "unfinished"
            else:
                state = "recovered"
                assert [voter.node_id for voter in logged.voters] == [N1]
                assert directory.ballot.term >= logged.term
            seen[state] = seen.get(state, 0) + 1
            log.close()
            directory.close()
            again = survive(left)
            assert again.next_generation == (3 if state == "recovered" else 2)
            made = again.recover(Random(4), 1, Term(0))
            assert not again.is_unfinished
            assert made.founding.generation == (3 if state == "recovered" else 2)
            again.close()
        if done:
            break
    assert set(seen) == {"as before", "unfinished", "recovered"}


def test_the_disk_of_a_node_that_joined_without_a_vote_needs_addresses() -> None:
    disk = survivor_disk(joined=True)
    survivor = survive(disk)
    survivor.recover(Random(1), 1, Term(0))
    assert survivor.voters[0].rpc_addr == "n1:1", "the log names it"
    survivor.close()
    lonely = empty_disk()
    directory = DataDirectory.open(lonely, "/data", N1, "c", Random(1))
    directory.save_founding(Founding(CLUSTER))
    directory.close()
    stranger = survive(killed(lonely))
    before = state_of(lonely)
    with pytest.raises(NotRecoverableError, match="--rpc-addr and --gossip-addr"):
        stranger.recover(Random(1), 1, Term(0))
    assert state_of(lonely) == before
    made = stranger.recover(Random(1), 1, Term(0), ("h:1", "h:2"))
    assert made.founding.voters == (Voter(N1, directory.log_epoch, "h:1", "h:2"),)


def test_what_cannot_be_recovered_is_refused_with_a_sentence() -> None:
    disk = empty_disk()
    disk.make_directory("/data")
    with pytest.raises(NotRecoverableError, match="no data directory of a node"):
        survive(disk)
    directory = DataDirectory.open(disk, "/data", N1, "c", Random(1))
    with pytest.raises(DirectoryLockedError):
        survive(disk)
    directory.close()
    with pytest.raises(NotRecoverableError, match="belongs to no cluster whose voters elect"):
        survive(disk)
    directory = DataDirectory.open(disk, "/data", N1, "c", Random(1))
    directory.save_founding(Founding(CLUSTER))
    directory.save_superseded(Superseded(2, 5, N3))
    directory.close()
    with pytest.raises(NotRecoverableError, match="was recovered without n1: n3 belongs to its generation 2"):
        survive(disk)

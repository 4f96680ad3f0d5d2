"""What a mutant is, and how one is applied to the code of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

BREAK = "--election none --cycle break"
ALLOW = "--election none --cycle allow"
STATIC = "--election static --cycle break"
ORACLE = "--election oracle --cycle break"
"""Safe changes of leader at random moments."""
LEADERS_STOP = ("--election raft --cycle break --faults stop,slow_node,clog --clients 16 --operations 4800",)
"""Voters elect, and leaders that stop hand over while many produce."""
DECREES = "--election decrees --cycle break"
"""People decree other leaders in mid-run, also two at once."""
STANDBY = (f"{DECREES} --nodes 4",)
"""Three vote, and one does not."""
ELECTED = (STATIC, ORACLE)
FOUR_VOTERS = ("--election static:n1,n2,n3,n4 --nodes 4",)
"""Half of them are no majority."""
FIVE_VOTERS = ("--election static:n1,n2,n3,n4,n5 --nodes 5",)
"""With three, every fetch that could wait for a commit position is one that moves it."""
PEERS = (BREAK, ALLOW)
EVERY = (BREAK, ALLOW, STATIC)
BUSY = tuple(f"{mode} --clients 12 --operations 2400" for mode in (BREAK, STATIC))
"""With so many at once that groups form everywhere."""
BUSY_LEADER = BUSY[1:]
IDLE = (f"{STATIC} --operations 15",)
"""With so few records that readers wait for long."""
DECREED_IDLE = (f"{DECREES} --clients 1 --operations 20",)
"""With so few records that logs of rival leaders, which begin each term with an entry, end at the same index."""
MANY_READERS = tuple(f"{mode} --clients 12" for mode in EVERY)
RETAINED = EVERY
LEADERS_DIE = (f"{ORACLE} --faults kill,blackout,loss --clients 8 --operations 800",)
"""With many readers at the end of the log when another leader begins."""
SLOW_DISKS = (f"{STATIC} --faults slow_disk --operations 800", f"{ORACLE} --faults slow_disk,slow_link,kill")
"""Where an append takes longer than a part of the election timeout."""
LATE = (f"{BREAK} --nodes 5 --faults partition,kill,pause --operations 1200",)
"""Where what retention took at its origin comes by way of others."""
RAFT = ("--election raft --nodes 4",)
"""Three voters elect their leader, and a fourth node stands by."""
RAFT_IDLE = ("--election raft --nodes 4 --operations 15",)
"""With so few records that whoever follows mostly waits at the end of the log."""
RAFT_PAUSED = ("--election raft --nodes 4 --faults pause",)
"""Where leaders stand still."""
RAFT_PARTED = ("--election raft --nodes 4 --faults kill,partition",)
RAFT_STOPPED = ("--election raft --nodes 4 --faults stop,slow_disk --operations 800",)
"""Where nodes that lead are stopped in good order."""
RAFT_LEFT = ("--election raft --nodes 4 --faults stop --operations 30",)
"""Where nodes leave while followers wait for long at a leader that has little to tell them."""
RAFT_FAR = ("--election raft:n1,n2,n3,n4,n5 --nodes 5 --faults slow_link,pause,loss",)
"""Five voters that hear of their leader at times, and stand meanwhile."""
RAFT_FAR_STOPPED = ("--election raft --nodes 4 --faults stop,slow_link --clients 16 --operations 4800",)
"""Where the leader that stops is far from some of the others, which lack what was produced last."""
RAFT_OVERTAKEN = ("--election raft --nodes 4 --faults kill,power_loss,partition --operations 800",)
"""Where leaders are cut off or die with entries that few have."""
RAFT_POWER_LOST = ("--election raft --nodes 4 --faults power_loss,kill,partition",)
RAFT_DISKS_LOST = ("--election raft --nodes 4 --faults disk_lost,kill",)
RAFT_FAILED = ("--election raft --nodes 4 --faults disk_full,io_error",)
RAFT_HUNG = ("--election raft --nodes 4 --faults disk_hangs",)
RAFT_NO_GOSSIP = ("--election raft:n1,n2,n3,n4,n5 --nodes 5 --faults gossip_lost,kill",)
RAFT_PAUSED_HUNG = ("--election raft --nodes 4 --faults disk_hangs,pause,partition --operations 30",)
"""Where who has led hears of a later term, and its disk, which has little else to write, hangs over that."""
RAFT_HUNG_VOTES = ("--election raft --nodes 3 --faults disk_hangs,kill,stop --operations 30",)
"""Where the disk of who is asked for a vote hangs, and the candidate asks anew meanwhile."""
RAFT_FOUR_VOTERS = ("--election raft:n1,n2,n3,n4 --nodes 4",)
DEPOSED = (f"{ORACLE} --faults replay,duplicate,loss,clog",)
"""Where fetches come late, or once more, to leaders that have been replaced."""
NEW_LEADERS = (f"{STATIC} --faults kill,blackout,loss", f"{ORACLE} --faults kill,blackout,loss")
"""Where who leads knows less than others of what is committed."""
RAFT_SLOW = ("--election raft --nodes 3 --faults slow_link,clog,kill --operations 30",)
"""Three voters, so that one answer decides, and that comes late."""
DISKS_LOST = (f"{BREAK} --faults disk_lost,kill",)
ROTTEN = (f"{BREAK} --faults bit_rot,kill",)
"""Where a node that starts reads much: with nobody elected, checkpoints are rare."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug.

    name: as on the command line and in docs/mutants.md.
    bug: what the code does wrong, as a sentence.
    modes: the flags of the runs in which that can show.
    apply: changes the code of this process for good.
    is_disorder: whether the run depends on the process that it runs in, which shows as two trace hashes for one seed.
    equivalent: why no run within the fault budget can tell it from the right code; empty for all that must be found.
    """

    name: str
    bug: str
    modes: tuple[str, ...]
    apply: Callable[[], None]
    is_disorder: bool = False
    equivalent: str = ""


MUTANTS: dict[str, Mutant] = {}


def mutant(
    bug: str, modes: tuple[str, ...], *, is_disorder: bool = False, equivalent: str = ""
) -> Callable[[Callable[[], None]], None]:
    """Register the function as the mutant of its name."""

    def register(apply: Callable[[], None]) -> None:
        name = apply.__name__
        assert name not in MUTANTS, f"there are two mutants {name}"
        MUTANTS[name] = Mutant(name, bug, modes, apply, is_disorder, equivalent)

    return register


def wrap(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace owner.name with make(original). It must exist: a mutant of code that is gone would test nothing."""
    assert hasattr(owner, name), f"{owner.__name__} has no {name} any more: mend the mutant"
    setattr(owner, name, make(getattr(owner, name)))


@contextmanager
def doing_nothing(owner: Any, name: str) -> Iterator[None]:
    """A context in which owner.name does nothing."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(owner, name, original)

"""Bugs in the founding of a cluster: who promises what, and when a cluster counts as founded."""

from __future__ import annotations

from typing import Any

from mutants.mutant import mutant, wrap
from ourolog.actors.election.raft.founding import FoundingTalks
from ourolog.actors.election.raft.founding_flags import FoundingFlags
from ourolog.storage.founding import Founding
from ourolog.storage.identity import DataDirectory

RAFT = ("--election raft --cycle break",)
FIVE_FOUND = ("--election raft:n1,n2,n3,n4,n5 --nodes 5",)
"""Where a majority can vote while others have not promised yet."""
DISKS_LOST = ("--election raft --cycle break --faults disk_lost,kill",)


@mutant("The founding promise is only remembered, not written.", RAFT)
def promise_not_written() -> None:
    def save_founding(self: DataDirectory, founding: Founding) -> None:
        self.founding = founding

    wrap(DataDirectory, "save_founding", lambda _: save_founding)


@mutant("A founder votes and stands as soon as it has promised itself.", FIVE_FOUND)
def founds_before_all_have_promised() -> None:
    def make(original: Any) -> Any:
        return lambda self, *, has_begun: original(self, has_begun=True)  # noqa: ARG005

    wrap(FoundingTalks, "_go_on_with_promise", make)


@mutant("Each founder draws an id of the cluster and promises, not the lowest name alone.", RAFT)
def everybody_proposes() -> None:
    def make(original: Any) -> Any:
        def choice(self: FoundingFlags, fresh: Any) -> Any:
            return tuple(sorted(original(self, fresh), key=lambda name: name != self.node_id))

        return choice

    wrap(FoundingFlags, "choice", make)
    wrap(FoundingTalks, "_why_not_with", lambda _: lambda *_: "")


@mutant("A node with an empty disk makes the promise that its lost disk has made.", DISKS_LOST)
def new_disk_takes_old_promise() -> None:
    def make(original: Any) -> Any:
        def hear(self: FoundingTalks, founder: Any, voter: Any, founding: Founding) -> None:
            if self._key not in {promised.key for promised in founding.voters}:
                self._save(founding)
            else:
                original(self, founder, voter, founding)

        return hear

    wrap(FoundingTalks, "_hear_of_promise", make)

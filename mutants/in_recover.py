"""Bugs in the recovery of a cluster from a lone survivor, and in what keeps its former generation out."""

from __future__ import annotations

from typing import Any

from mutants.mutant import mutant, wrap
from ourolog.actors.election.raft import cluster_identity, generations
from ourolog.actors.election.raft.founding import FoundingTalks
from ourolog.storage.batch import Kind, NewBatch
from ourolog.storage.control import VotersSet, encode_control
from ourolog.storage.founding import Founding
from ourolog.storage.identity import DataDirectory
from ourolog.storage.log import Log
from ourolog.storage.recovering import Survivor
from ourolog.storage.types import Term

DISASTERS = ("--election disasters --cycle break",)


@mutant("A recovery goes on under the cluster's former id.", DISASTERS)
def recovered_under_former_id() -> None:
    class Former:
        """A source of chance that knows one number."""

        def __init__(self, number: int) -> None:
            self.randint = lambda *_: number

    def make(original: Any) -> Any:
        return lambda self, _, *others: original(self, Former(self.founding.cluster_id), *others)

    wrap(Survivor, "recover", make)


@mutant("A recovery begins in the term that the survivor was in.", DISASTERS)
def recovered_in_former_term() -> None:
    def make(original: Any) -> Any:
        def recover(self: Survivor, *arguments: Any) -> Any:
            with_term = Term(max(self.ballot.term, self.last.term))
            wrap(Log, "append_new", lambda append: lambda log, batch, _, now: append(log, batch, with_term, now))
            made = original(self, *arguments)
            return type(made)(made.founding, with_term, made.end)

        return recover

    wrap(Survivor, "recover", make)


@mutant("A recovery drops what the survivor does not know to be committed.", DISASTERS)
def uncommitted_tail_dropped() -> None:
    def make(original: Any) -> Any:
        def recover(self: Survivor, *arguments: Any) -> Any:
            if self.committed.index < self.end.index:
                self._log.truncate(self.committed.index)
            return original(self, *arguments)

        return recover

    wrap(Survivor, "recover", make)


@mutant("A recovery leaves the vote to the voters that are lost.", DISASTERS)
def lost_voters_kept() -> None:
    def make(original: Any) -> Any:
        def recover(self: Survivor, *arguments: Any) -> Any:
            voters = self.voters
            made = original(self, *arguments)
            if len(voters) > 1:
                payload = encode_control(VotersSet(voters))
                self._log.append_new(NewBatch(payload, record_count=0, kind=Kind.CONTROL), made.term, 0)
                self._log.sync()
            return made

        return recover

    wrap(Survivor, "recover", make)


@mutant("A recovery writes the log's entry before the promise.", DISASTERS)
def entry_before_promise() -> None:
    def make(original: Any) -> Any:
        def recover(self: Survivor, *arguments: Any) -> Any:
            payload = encode_control(VotersSet((self.own_voter(),)))
            self._log.append_new(
                NewBatch(payload, record_count=0, kind=Kind.CONTROL), Term(max(self.ballot.term, self.last.term) + 1), 0
            )
            self._log.sync()
            return original(self, *arguments)

        return recover

    wrap(Survivor, "recover", make)


@mutant("What was recovered without a node is only remembered there, not written.", DISASTERS)
def superseded_not_written() -> None:
    wrap(DataDirectory, "save_superseded", lambda _: lambda *_: None)


@mutant("A node takes no notice of a later generation of its cluster.", DISASTERS)
def later_generation_ignored() -> None:
    wrap(cluster_identity, "superseded_by", lambda _: lambda *_: None)


@mutant("Of two survivors that were recovered separately both go on.", DISASTERS)
def rivals_ignored() -> None:
    wrap(generations.Rivals, "heed", lambda _: lambda *_: None)


@mutant("Who joins a cluster that was recovered takes it for one that never was.", DISASTERS)
def generation_forgotten_by_joiners() -> None:
    def make(original: Any) -> Any:
        return lambda self, founding: original(self, Founding(founding.cluster_id))

    wrap(FoundingTalks, "join", make)

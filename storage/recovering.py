"""Making a lone survivor's log writable again, when a majority of its cluster's disks is lost for good.

It works on the data directory of a node that does not run. The disk leaves its cluster and becomes the first voter of
the cluster's next generation, whose id is drawn anew. What fences is that id: nodes name their cluster in every call,
and refuse those of another one. A second recovery, of another survivor, draws another id.

The order of the writes, each on disk before the next:
1. The ballot, with a term above every one that was heard of, and no vote. By itself it changes nothing.
2. The promise (`founding`), which names this disk as the only voter of the new generation. From here on no node of
   the old one takes part in anything with this disk. Until step 3 the log names the old voters, who refuse every
   call: nobody leads, and the node says at its start that the recovery has to be repeated.
3. The log's entry that names the only voter, of the new term.
A crash leaves the disk before or after each step, and repeating the recovery from there is the same recovery.

With it everything in the log becomes committed, also what no majority had acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Self

from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Kind, NewBatch
from ourolog.storage.control import MAX_EPOCH, Voter, VoterKey, VoterSet, VotersSet, encode_control
from ourolog.storage.errors import StorageError
from ourolog.storage.files import Files
from ourolog.storage.founding import MAX_GENERATION, Founding
from ourolog.storage.identity import DataDirectory, Identity, read_identity
from ourolog.storage.log import Log
from ourolog.storage.recovery import Progress
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Position, Term


class NotRecoverableError(StorageError):
    """The data directory is none of which a cluster can be recovered; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery has made.

    founding: to which generation the disk belongs now.
    term: the term from which on the log is that generation's.
    end: where the log ends.
    """

    founding: Founding
    term: Term
    end: Position


def is_unfinished(founding: Founding, logged: VoterSet | None) -> bool:
    """Whether a recovery has written its promise, and the log does not name the new voters yet.

    logged: the last voter set in the log, None if it names none.
    """
    return founding.generation > 1 and bool(founding.voters) and (logged is None or logged.term < founding.since_term)


class Survivor:
    """The data directory of a node that does not run, locked from `open` to `close`."""

    def __init__(self, directory: DataDirectory, log: Log, founding: Founding) -> None:
        self._directory = directory
        self._log = log
        self._founding = founding

    @classmethod
    def open(cls, files: Files, path: str, rng: Random, progress: Progress | None = None) -> Self:
        """Lock the directory and open its log, as the node itself would.

        rng: what the id of the new generation will not be drawn from; only an empty directory draws from it.
        Raises NotRecoverableError, DirectoryLockedError and other kinds of StorageError, OSError.
        """
        identity = read_identity(files, path)
        if identity is None:
            raise NotRecoverableError(f"{path} is no data directory of a node: there is nothing in it to recover")
        directory = DataDirectory.open(files, path, identity.node_id, identity.cluster, rng)
        try:
            founding = directory.founding
            if founding is None:
                raise NotRecoverableError(
                    f"{path} belongs to no cluster whose voters elect their leader. With --election none or static "
                    "nothing has to be recovered: start the node with itself as the leader"
                )
            if directory.superseded is not None:
                raise NotRecoverableError(directory.superseded.why(identity.node_id, founding.generation))
            log = Log.open(files, directory.log_directory, identity.node_id, directory.log_epoch, progress=progress)
        except BaseException:
            directory.close()
            raise
        return cls(directory, log, founding)

    @property
    def identity(self) -> Identity:
        return self._directory.identity

    @property
    def founding(self) -> Founding:
        """To which cluster and generation the disk belongs."""
        return self._founding

    @property
    def ballot(self) -> Ballot:
        return self._directory.ballot

    @property
    def last(self) -> LastEntry:
        """How far the log reaches, as votes compare it."""
        return LastEntry.of(self._log.terms.last_place, self._log.end.index)

    @property
    def start(self) -> Position:
        return self._log.start

    @property
    def end(self) -> Position:
        return self._log.end

    @property
    def committed(self) -> Position:
        """What the node knew to be committed; more may be."""
        return self._log.committed

    @property
    def voters(self) -> tuple[Voter, ...]:
        """Who votes, by the log or else by the promise."""
        return self._log.voters.voters if self._log.voters is not None else self._founding.voters

    @property
    def votes(self) -> bool:
        """Whether this disk has one of those votes."""
        return VoterKey(self.identity.node_id, self.identity.log_epoch) in {voter.key for voter in self.voters}

    @property
    def is_unfinished(self) -> bool:
        """Whether a recovery of this disk was interrupted."""
        return is_unfinished(self._founding, self._log.voters)

    @property
    def next_generation(self) -> int:
        """The number of the generation that a recovery makes; one that was interrupted is made again."""
        return self._founding.generation + (0 if self.is_unfinished else 1)

    def recover(
        self, rng: Random, now_ms: int, term_seen: Term, addresses: tuple[str, str, str] | None = None
    ) -> Recovered:
        """Carry it out; all of it is on disk when this returns.

        rng: what the id of the new generation is drawn from.
        now_ms: the time in ms since 1970, for the entry's header.
        term_seen: the highest term that any node has told of, 0 if none has.
        addresses: the gRPC and gossip address of this node from now on, and where other nodes call it if that is not
            its gossip address, else ""; None for those that it had as a voter.
        Raises NotRecoverableError, StorageError.
        """
        if self.next_generation > MAX_GENERATION:
            raise NotRecoverableError(f"generation {MAX_GENERATION} is the last that there can be")
        me = self.own_voter(addresses)
        term = Term(max(self.ballot.term, self.last.term, term_seen) + 1)
        self._directory.save_ballot(Ballot(term))
        founding = Founding(
            rng.randint(1, MAX_EPOCH), (me,), self.next_generation, self._founding.lineage, since_term=term
        )
        self._directory.recover_as(founding)
        self._founding = founding
        payload = encode_control(VotersSet((me,)))
        self._log.append_new(NewBatch(payload, record_count=0, kind=Kind.CONTROL), term, now_ms)
        self._log.sync()
        return Recovered(founding, term, self._log.end)

    def own_voter(self, addresses: tuple[str, str, str] | None = None) -> Voter:
        """What the log will say of this node. `addresses` as in `recover`; raises NotRecoverableError without any."""
        identity = self.identity
        if addresses is not None:
            return Voter(identity.node_id, identity.log_epoch, *addresses)
        known = next((voter for voter in self.voters if voter.node_id == identity.node_id), None)
        if known is None:
            raise NotRecoverableError(
                f"{identity.node_id} had no vote, so the log does not say at which addresses it can be reached: name "
                "them with --rpc-addr and --gossip-addr"
            )
        return Voter(identity.node_id, identity.log_epoch, known.rpc_addr, known.gossip_addr, known.own_peer_addr)

    def close(self) -> None:
        """Close the log and unlock the directory. Raises StorageError."""
        try:
            self._log.close()
        finally:
            self._directory.close()

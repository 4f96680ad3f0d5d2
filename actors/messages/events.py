"""Events that several mailboxes of a node receive: members, the log, who leads, how far it is committed."""

from __future__ import annotations

from dataclasses import dataclass

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.values import Member, PullPosition
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey, VoterSet
from ourolog.storage.founding import Founding
from ourolog.storage.superseded import Superseded
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import Index, NodeId, Position, Term


@dataclass(frozen=True, slots=True)
class MemberJoined:
    """Membership -> Replicator, Server, Election: a member was discovered, or came back."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberUpdated:
    """Membership -> Replicator, Server, Election: an alive member changed its addresses (it restarted elsewhere)."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberFailed:
    """Membership -> Replicator, Server, Election: a suspected member did not refute in time."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberLeft:
    """Membership -> Replicator, Server, Election: a member announced that it leaves."""

    member: Member


MembershipEvent = MemberJoined | MemberUpdated | MemberFailed | MemberLeft


@dataclass(frozen=True, slots=True)
class LogOpened:
    """Store -> Replicator, Election, Server: the log is open; the first message that each of them receives.

    start: where the log begins.
    end: where it ends, all of it on disk.
    terms: the terms of the whole log.
    log_epoch: which disk this is; a new one is drawn at random for each new log.
    ballot: the one on disk.
    pull_positions: how far this node has pulled from others, sorted by node.
    committed: a lower bound from before the restart.
    voters: the last voter set in the log, None if there is none.
    voters_before_start: the voter set in force where the log begins, None if there is none.
    founding: to which cluster this disk belongs, None if to none yet, or if clusters here have no voters.
    voters_replaced: the voter set in the log before `voters`, None if there is none.
    superseded: the later generation of that cluster which has taken over, None if none has.
    producers_before_start: what is remembered of producers where the log begins, see `ourolog.storage.producers`.
    """

    start: Position
    end: Position
    terms: TermHistory
    log_epoch: int
    ballot: Ballot
    pull_positions: tuple[tuple[NodeId, PullPosition], ...]
    committed: Position
    voters: VoterSet | None = None
    voters_before_start: VoterSet | None = None
    founding: Founding | None = None
    voters_replaced: VoterSet | None = None
    superseded: Superseded | None = None
    producers_before_start: bytes = b""


@dataclass(frozen=True, slots=True)
class LogAppended:
    """Store -> Replicator, Election, once per group commit: these batches are on disk.

    ends: the position after each batch, ascending.
    terms: the terms of the whole log.
    voters: the last voter set in the log, None if there is none.
    """

    ends: tuple[Position, ...]
    terms: TermHistory
    voters: VoterSet | None = None


@dataclass(frozen=True, slots=True)
class LogCut:
    """Store -> Election: the log was truncated, or begun anew elsewhere, and that is on disk.

    start: where the log begins now.
    end: where it ends now.
    terms: the terms of the whole log.
    voters: the last voter set in it now, None if there is none. A set that was cut is no longer in force.
    """

    start: Position
    end: Position
    terms: TermHistory
    voters: VoterSet | None = None


@dataclass(frozen=True, slots=True)
class VotersLogged:
    """Store -> Election: the log names other voters than before, and that is on disk.

    An entry that names them was appended, or cut; a set is in force from its append on (Raft dissertation section 4.1).

    voters: the last voter set in the log now, None if there is none.
    replaced: the one before it in the log, None if there is none.
    """

    voters: VoterSet | None
    replaced: VoterSet | None = None


@dataclass(frozen=True, slots=True)
class LogStartMoved:
    """Store -> Replicator, Server: retention removed what lay below `start`.

    The replicator also sends it to the server after the log was begun anew at `start`.

    start: where the log begins now.
    voters_before_start: the voter set in force there, None if there is none.
    producers_before_start: what is remembered of producers there; b"" if nothing is.
    """

    start: Position
    voters_before_start: VoterSet | None = None
    producers_before_start: bytes = b""


@dataclass(frozen=True, slots=True)
class NobodyElected:
    """Election -> Replicator, Server: there are no leaders here; everyone pulls from everyone."""


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """Election -> Replicator, Server, Membership: `leader_id` leads in `term`, or nobody that is known yet.

    Announced once for each change, after the ballot with that term is on disk, and always after a ballot with a
    higher term is: from then on the store refuses everything of other terms, and replication without it would hang.

    term: the present one.
    leader_id: who leads in it, None if nobody does or is known to.
    why_nobody: for a person, why nobody can lead at present; "" if that is known to pass, or somebody does.
    needs_person: whether it stays so until a person does something.
    granted_by: on the node that leads, who voted for it; () if nobody had to.
    """

    term: Term
    leader_id: NodeId | None
    why_nobody: str = ""
    needs_person: bool = False
    granted_by: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class VotersChanged:
    """Election -> Replicator, Server: whose disks count for a quorum.

    voters: the names of the voters.
    keys: the same voters with their disks, where a vote belongs to a disk; () where it belongs to a name.
    cluster_id: of the cluster that they vote in; 0 where clusters have none, or it is not known yet.
    addrs: the gRPC address of each voter, in their order, as their disks know them; () where those know none. What
        gossip says of a voter is newer, but gossip may not pass.
    peer_addrs: where other nodes call each voter, likewise.
    index: of the entry that names them, None if no entry of the log does.
    generation: of that cluster: 1 as it was founded, one more after each recovery.
    origin_id: the id of its first generation; 0 stands for cluster_id.
    """

    voters: tuple[NodeId, ...]
    keys: tuple[VoterKey, ...] = ()
    cluster_id: int = 0
    addrs: tuple[str, ...] = ()
    peer_addrs: tuple[str, ...] = ()
    index: Index | None = None
    generation: int = 1
    origin_id: int = 0

    @property
    def addr_by_voter(self) -> dict[NodeId, str]:
        """The gRPC address of each voter by its name; {} where those are not known."""
        return dict(zip(self.voters, self.addrs, strict=True)) if self.addrs else {}

    @property
    def peer_addr_by_voter(self) -> dict[NodeId, str]:
        """Where other nodes call each voter, by its name; {} where that is not known."""
        return dict(zip(self.voters, self.peer_addrs, strict=True)) if self.peer_addrs else {}


@dataclass(frozen=True, slots=True)
class ClaimsDisputed:
    """Election -> Replicator, Server: another member's claim contradicts what this node knows.

    Nothing may be acknowledged until a person has decided who is right.

    reason: why the claims contradict each other, a sentence for that person.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class ClaimsSettled:
    """Election -> Replicator, Server: all members that are present agree again."""


@dataclass(frozen=True, slots=True)
class HoldProduces:
    """Election -> Server, Replicator: this node is about to hand over the lead; append nothing new from now on.

    What was taken before goes to the store. What comes from now on is held: it is open, with its deadline, and the
    store does not hear of it. So the log has an end that another node can reach, and whoever waits can be sent to that
    node for certain. It ends with ReleaseProduces or the next LeaderChanged.

    The replicator tells of each fetch of a voter meanwhile.

    request_id: comes back in the answer.
    within_s: how long to wait at the most for what was taken before.
    reply_to: where ProducesHeld goes, once.
    """

    request_id: int
    within_s: float
    reply_to: Mailbox[ProducesHeld]


@dataclass(frozen=True, slots=True)
class ProducesHeld:
    """Server -> the sender of HoldProduces: the wait for what was taken before is over.

    request_id: that of the question.
    is_drained: whether all of it is answered and the store has nothing of it left to append, so that the log does not
        grow by produces until ReleaseProduces; False if the time was up first, or holding has ended.
    """

    request_id: int
    is_drained: bool


@dataclass(frozen=True, slots=True)
class ReleaseProduces:
    """Election -> Server, Replicator: nobody has taken the lead, this node goes on, with what was held."""


ElectionAnnouncement = NobodyElected | LeaderChanged | VotersChanged

HandOverAnnouncement = HoldProduces | ReleaseProduces


ClaimsVerdict = ClaimsDisputed | ClaimsSettled


@dataclass(frozen=True, slots=True)
class CommitAdvanced:
    """Replicator -> Server, Election: everything below `committed` may be consumed."""

    committed: Position


@dataclass(frozen=True, slots=True)
class CommitKnown:
    """Replicator (leader) -> Server, Election: an entry of this term is committed, and with it everything before.

    Until then a leader does not know where the committed part of its log ends (Raft section 8).
    """

    term: Term


@dataclass(frozen=True, slots=True)
class ReplicasAdvanced:
    """Replicator (leader) -> Server: what other disks have has changed, as far as their own fetches have said.

    term: the one in which this node leads.
    index: everything below it may be acknowledged where all replicas were asked for; never falls within a term.
    ends: for each voter, the index below which everything is on its disk, 0 where that is not known.
    in_sync: the voters that all have what is below `index`: those that are in sync where `min_in_sync` is given,
        otherwise every voter.
    """

    term: Term
    index: Index
    ends: tuple[tuple[NodeId, Index], ...] = ()
    in_sync: tuple[NodeId, ...] = ()

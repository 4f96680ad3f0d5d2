"""What a node tells its owner: everything that a log, a live view or a test may want to see.

`node_id` is the node that tells it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ourolog.actors.messages.events import ElectionAnnouncement, MembershipEvent
from ourolog.actors.messages.values import Member
from ourolog.storage.types import NodeId


@dataclass(frozen=True, slots=True)
class MemberSuspected:
    """Membership -> observer: a member did not answer, or another one says so; it has time to refute it.

    Told once for each incarnation: with every new one that time starts again.
    """

    node_id: NodeId
    member: Member


@dataclass(frozen=True, slots=True)
class SuspicionRefuted:
    """Membership -> observer: a suspected member was heard from again in time."""

    node_id: NodeId
    member: Member


@dataclass(frozen=True, slots=True)
class MemberVouched:
    """Membership -> observer: a member did not answer this node, but answered another that asked on its behalf."""

    node_id: NodeId
    member: Member
    relay_id: NodeId


@dataclass(frozen=True, slots=True)
class NameContested:
    """Membership -> observer: two nodes seem to use one name, at these addresses; the first is being asked."""

    node_id: NodeId
    name: NodeId
    held_addr: str
    claimed_addr: str


@dataclass(frozen=True, slots=True)
class NameClashed:
    """Membership -> node: this node's id is in use at another address; the node must stop."""

    node_id: NodeId
    gossip_addr: str


@dataclass(frozen=True, slots=True)
class PullStarted:
    """Replicator -> observer: an arrow of the pull graph appeared."""

    node_id: NodeId
    source_id: NodeId


@dataclass(frozen=True, slots=True)
class PullStopped:
    """Replicator -> observer: an arrow of the pull graph is gone."""

    node_id: NodeId
    source_id: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class CycleSeen:
    """Replicator -> observer: batches came back to a node where they had been.

    node_id: that node.
    path: the nodes that one of the batches passed; this node is the last and occurs earlier, too.
    count: how many batches came back.
    broken: whether they were dropped instead of appended.
    """

    node_id: NodeId
    path: tuple[NodeId, ...]
    count: int
    broken: bool


@dataclass(frozen=True, slots=True)
class NodeReady:
    """Server -> observer: the log is open, the election slot has announced something, and clients can be served."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class NodeNotReady:
    """Server -> observer: the node runs, but should not be sent clients. NodeReady ends it.

    node_id: the node.
    reason: why, a sentence for a person.
    needs_person: whether it lasts until a person does something.
    """

    node_id: NodeId
    reason: str
    needs_person: bool = False


class FailureKind(StrEnum):
    """What stops a node.

    BUG: an exception that nobody handled.
    DAMAGED: a file in its data directory is not what was written.
    DISK_FULL: a write found no room.
    STORAGE_FAILED: a write, a sync or a read of its data directory failed in any other way.
    WRONG_DIRECTORY: its data directory is in use, or belongs to another node or cluster.
    REFUSED_TO_RUN: the election cannot go on with what is in the data directory.
    LISTENER_LOST: its gRPC server has ended and could not be started again.
    """

    BUG = "bug"
    DAMAGED = "damaged"
    DISK_FULL = "disk_full"
    STORAGE_FAILED = "storage_failed"
    WRONG_DIRECTORY = "wrong_directory"
    REFUSED_TO_RUN = "refused_to_run"
    LISTENER_LOST = "listener_lost"


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """Any actor -> observer: this node must stop; `reason` is for a person to read."""

    node_id: NodeId
    actor: str
    kind: FailureKind
    reason: str


class WarningKind(StrEnum):
    """What a node warns of.

    RECOVERY_PROGRESS: how far the check of a long log has come.
    TORN_TAIL_CUT: recovery cut an unfinished write off the log's end.
    DAMAGED: a read or the scrub met damage in the log.
    REPAIRED: a damaged batch was replaced by another replica's copy.
    RETENTION_HELD_BACK: old segments stay, since they are not known to be committed.
    LEAD_WITHHELD: a decreed leader does not lead, since a voter is ahead of it.
    LEAD_FORCED: a decreed leader leads without having asked the voters.
    LEAD_GIVEN_UP: a leader whose disk does not answer, or has failed, lets another node lead.
    VOTER_ADDED: a leader has another node vote, too.
    VOTER_REMOVED: a leader has a node vote no more.
    TWO_LEADERS: two nodes say that they lead one term.
    ONE_COPY: the cluster is this node alone.
    FOUNDING_BLOCKED: a cluster cannot be founded before a person has done something.
    KEEPS_ITS_COPY: the leader lacks what is committed; this node does not follow it.
    ENTRIES_DROPPED: the leader lacks entries of this node, which cuts them off.
    LOG_BEGUN_ANEW: the leader's log starts where this node cannot go on; its log starts again there.
    ENTRIES_SKIPPED: a source no longer holds what its pull would have asked for next.
    SOURCE_LOG_REPLACED: a source has a new log, which is pulled from its start.
    ENTRY_LEFT_OUT: an entry of a source cannot be read there, and is passed over.
    PULL_REFUSED: a source refused the pull.
    PULL_NOT_APPENDED: what a source sent was not appended.
    GOSSIP_DAMAGED: a datagram is no gossip, or damaged.
    GOSSIP_OF_OTHER_VERSION: a datagram of another version of the protocol.
    GOSSIP_OF_OTHER_CLUSTER: a datagram of another cluster.
    OTHER_CLUSTER: a node whose disk belongs to another cluster of the same name asks this one, or answers it.
    SUPERSEDED: this node's cluster was recovered without it, so it has no part in it any more.
    GOSSIP_FROM_THE_FUTURE: a datagram names start times that cannot be.
    TOO_MANY_MEMBERS: gossip speaks of more members than are remembered.
    LISTENER_RESTARTED: the gRPC server ended by itself and was started again.
    ADDRESS_GUESSED: the address that others are told is a guess.
    """

    RECOVERY_PROGRESS = "recovery_progress"
    TORN_TAIL_CUT = "torn_tail_cut"
    DAMAGED = "damaged"
    REPAIRED = "repaired"
    RETENTION_HELD_BACK = "retention_held_back"
    LEAD_WITHHELD = "lead_withheld"
    LEAD_FORCED = "lead_forced"
    LEAD_GIVEN_UP = "lead_given_up"
    VOTER_ADDED = "voter_added"
    VOTER_REMOVED = "voter_removed"
    TWO_LEADERS = "two_leaders"
    ONE_COPY = "one_copy"
    FOUNDING_BLOCKED = "founding_blocked"
    KEEPS_ITS_COPY = "keeps_its_copy"
    ENTRIES_DROPPED = "entries_dropped"
    LOG_BEGUN_ANEW = "log_begun_anew"
    ENTRIES_SKIPPED = "entries_skipped"
    SOURCE_LOG_REPLACED = "source_log_replaced"
    ENTRY_LEFT_OUT = "entry_left_out"
    PULL_REFUSED = "pull_refused"
    PULL_NOT_APPENDED = "pull_not_appended"
    GOSSIP_DAMAGED = "gossip_damaged"
    GOSSIP_OF_OTHER_VERSION = "gossip_of_other_version"
    GOSSIP_OF_OTHER_CLUSTER = "gossip_of_other_cluster"
    OTHER_CLUSTER = "other_cluster"
    SUPERSEDED = "superseded"
    GOSSIP_FROM_THE_FUTURE = "gossip_from_the_future"
    TOO_MANY_MEMBERS = "too_many_members"
    LISTENER_RESTARTED = "listener_restarted"
    ADDRESS_GUESSED = "address_guessed"


@dataclass(frozen=True, slots=True)
class NodeWarned:
    """Any actor -> observer: something that a person should know and that did not stop the node.

    node_id: the node that warns.
    actor: which of its parts.
    kind: what it warns of.
    reason: for a person.
    about: the node that the warning is about, "" if it is about the node itself or about several.
    """

    node_id: NodeId
    actor: str
    kind: WarningKind
    reason: str
    about: NodeId = NodeId("")


NodeEvent = (
    MembershipEvent
    | ElectionAnnouncement
    | PullStarted
    | PullStopped
    | CycleSeen
    | NodeReady
    | NodeNotReady
    | NodeFailed
    | NodeWarned
    | MemberSuspected
    | SuspicionRefuted
    | MemberVouched
    | NameContested
    | NameClashed
)

"""What a node tells its owner: everything that a log, a live view or a test may want to see."""

from __future__ import annotations

from dataclasses import dataclass

from ourolog.actors.messages.events import ElectionAnnouncement, MembershipEvent
from ourolog.actors.messages.values import Member
from ourolog.storage.types import NodeId


@dataclass(frozen=True, slots=True)
class MemberSuspected:
    """Membership -> observer: a member did not answer, or somebody says so; it has time to refute it.

    Once for each incarnation: with every one its time begins anew.
    """

    node_id: NodeId
    member: Member


@dataclass(frozen=True, slots=True)
class SuspicionRefuted:
    """Membership -> observer: a suspected member was heard of again in time."""

    node_id: NodeId
    member: Member


@dataclass(frozen=True, slots=True)
class MemberVouched:
    """Membership -> observer: a member did not answer this node, and answered another one that asked for it."""

    node_id: NodeId
    member: Member
    relay_id: NodeId


@dataclass(frozen=True, slots=True)
class NameContested:
    """Membership -> observer: two nodes seem to use one name, at these addresses; the first is asked."""

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
    """Replicator -> observer: batches came back to where they had been.

    node_id: the node that they came back to.
    path: the nodes that one of them passed, this node first and last somewhere in it.
    count: how many batches came back.
    broken: whether they were dropped instead of appended.
    """

    node_id: NodeId
    path: tuple[NodeId, ...]
    count: int
    broken: bool


@dataclass(frozen=True, slots=True)
class NodeReady:
    """Server -> observer: the log is open, the election slot has spoken, and nothing is in the way of clients."""

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


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """Any actor -> observer: this node must stop; `reason` is for a person to read."""

    node_id: NodeId
    actor: str
    reason: str
    is_bug: bool = False


@dataclass(frozen=True, slots=True)
class NodeWarned:
    """Any actor -> observer: something a person should know that did not stop the node."""

    node_id: NodeId
    actor: str
    reason: str


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

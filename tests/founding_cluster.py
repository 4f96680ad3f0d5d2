"""Founding talks of several nodes on a scripted network: lost messages, crashes, wiped disks, halves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from ourolog.actors.config import ElectionChoice, NodeConfig
from ourolog.actors.election.raft.founding import FoundingTalks, why_not_ours
from ourolog.actors.messages.election import ElectionMessage, ElectionTimerDue
from ourolog.actors.messages.events import LogOpened
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import NodeWarned
from ourolog.actors.messages.peer_calls import (
    ELECTION_TIMEOUT_S,
    CallAnswer,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    FoundRequest,
)
from ourolog.actors.messages.store import FoundingSaved, SaveFounding
from ourolog.actors.messages.values import Member, Peer
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.founding import Founding
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, NodeId, Position

_BLANK: Final = Ballot()


def opened_with(
    log_epoch: int, founding: Founding | None = None, ballot: Ballot = _BLANK, end: Position = START
) -> LogOpened:
    return LogOpened(START, end, TermHistory(), log_epoch, ballot, (), START, founding=founding)


def config_of(
    name: str, *, names: str = "", expect: int | None = None, join: bool = False, replicas: int = 3
) -> NodeConfig:
    voters = tuple(NodeId(voter) for voter in names.split(",") if voter)
    number = int(name[1:])
    return NodeConfig(
        NodeId(name),
        "/data",
        f"127.0.0.1:{8000 + number}",
        f"127.0.0.1:{9000 + number}",
        join=("127.0.0.1:9999",) if join else (),
        election=ElectionChoice("raft", names, voters=voters),
        bootstrap_expect=expect,
        replicas=replicas,
    )


@dataclass(slots=True)
class Disk:
    """What outlives a crash: which disk it is, its promise, and its ballot."""

    log_epoch: int
    promise: Founding | None = None
    ballot: Ballot = _BLANK


class _Mailbox(Mailbox[Any]):
    def __init__(self, handle: Callable[[Any], None]) -> None:
        self._handle = handle

    def tell(self, message: Any) -> None:
        self._handle(message)


@dataclass(slots=True)
class TalkingNode:
    """One run of a node's process: its talks, and what they told.

    saves_to_disk, tells_saved: whether the store does each half of a save; a test stops the node in between.
    """

    cluster: FoundingCluster
    config: NodeConfig
    disk: Disk
    founded: list[Founding] = field(default_factory=list)
    standbys: int = 0
    joined: list[Founding] = field(default_factory=list)
    progress: list[str] = field(default_factory=list)
    observer: Probe = field(default_factory=Probe)
    runs: bool = True
    saves_to_disk: bool = True
    tells_saved: bool = True
    talks: FoundingTalks = field(init=False)
    inbox: Mailbox[ElectionMessage] = field(init=False)

    def __post_init__(self) -> None:
        self.inbox = _Mailbox(self._receive)
        ids = itertools.count(1)
        cluster, name = self.cluster, self.config.node_id
        self.talks = FoundingTalks(
            self.config,
            VoterKey(name, self.disk.log_epoch),
            stepping_ports(
                cluster.runtime, network=_Calls(cluster, name), observer=self.observer, seed=cluster.rng.getrandbits(32)
            ),
            _Mailbox(self._store),
            self.inbox,
            lambda: next(ids),
            on_founded=self.founded.append,
            on_standby=self._stood_by,
            on_progress=self.progress.append,
            on_joined=self.joined.append,
        )

    @property
    def why(self) -> str:
        return self.progress[-1]

    @property
    def warnings(self) -> list[NodeWarned]:
        return self.observer.all(NodeWarned)

    def open(self) -> None:
        opened = opened_with(self.disk.log_epoch, self.disk.promise, self.disk.ballot)
        assert why_not_ours(self.config.node_id, opened) is None
        self.talks.open(opened)

    def _stood_by(self) -> None:
        self.standbys += 1

    def _receive(self, message: Any) -> None:
        if not self.runs:
            return
        match message:
            case ElectionTimerDue():
                self.talks.on_due(message)
            case CallReceived():
                self.talks.on_asked(message)
            case CallReturned():
                self.talks.on_returned(message)
            case CallFailed():
                self.talks.on_failed(message)
            case FoundingSaved():
                self.talks.on_saved(message)
            case _:
                raise AssertionError(message)

    def _store(self, message: Any) -> None:
        assert isinstance(message, SaveFounding)
        self.cluster.later(_Mailbox(self._write), message)

    def _write(self, message: SaveFounding) -> None:
        if not (self.runs and self.saves_to_disk):
            return
        if self.disk.promise is None:
            self.disk.promise = message.founding
        if self.tells_saved:
            self.cluster.later(self.inbox, FoundingSaved(message.request_id, self.disk.promise))


@dataclass(slots=True)
class _Calls:
    """The PeerNetwork port of one node."""

    cluster: FoundingCluster
    caller: NodeId

    def call(self, peer: Peer, request_id: int, request: Any, reply_to: Mailbox[Any]) -> None:
        self.cluster.calls.append((self.caller, peer.node_id, request))
        self.cluster.carry(self.caller, peer, request_id, request, reply_to)

    def forget(self, peer_id: NodeId) -> None:
        raise AssertionError(f"nobody forgets {peer_id}")


class FoundingCluster:
    """Nodes with their disks, and a network that delays, loses and separates.

    nodes: the present run of each node.
    disks: what each node's data directory holds.
    calls: who asked whom what, in order.
    lost: the share of messages, each way, that is lost.
    groups: who can reach whom: nodes in the same group. Nodes in none reach all that are in none.
    """

    def __init__(self, seed: int = 1) -> None:
        self.rng = Random(seed)
        self.runtime = SteppingRuntime()
        self.nodes: dict[str, TalkingNode] = {}
        self.disks: dict[str, Disk] = {}
        self.configs: dict[str, NodeConfig] = {}
        self.calls: list[tuple[NodeId, NodeId, FoundRequest]] = []
        self.lost = 0.0
        self.groups: list[set[str]] = []

    def start(self, config: NodeConfig, *, opens: bool = True) -> TalkingNode:
        """Start a node, on the disk that it had if it had one."""
        name = config.node_id
        disk = self.disks.setdefault(name, Disk(self.rng.getrandbits(40) + 1))
        self.configs[name] = config
        node = self.nodes[name] = TalkingNode(self, config, disk)
        if opens:
            node.open()
        return node

    def stop(self, name: str) -> None:
        """kill -9."""
        self.nodes.pop(name).runs = False

    def wipe(self, name: str) -> None:
        """The disk of a node that is down is lost."""
        assert name not in self.nodes
        self.disks.pop(name, None)

    def introduce(self, *names: str) -> None:
        """Gossip: everybody in `names`, or everybody who runs, learns where the others are."""
        running = names or tuple(self.nodes)
        for name, other in itertools.permutations(running, 2):
            if name in self.nodes and other in self.nodes and self.reaches(name, other):
                config = self.nodes[other].config
                self.nodes[name].talks.met(Member(config.node_id, config.rpc_addr, config.gossip_addr))

    def reaches(self, name: str, other: str) -> bool:
        return all((name in group) == (other in group) for group in self.groups)

    def later(self, mailbox: Mailbox[Any], message: object) -> None:
        self.runtime.after(self.rng.uniform(0.001, 0.01), mailbox, message)

    def settle(self, seconds: float = 10.0) -> None:
        self.runtime.run_for(seconds)

    def carry(self, caller: NodeId, peer: Peer, request_id: int, request: Any, reply_to: Mailbox[Any]) -> None:
        node = self.nodes.get(peer.node_id)
        if node is None or (node.config.own_peer_addr or node.config.gossip_addr) != peer.addr:
            self.later(reply_to, CallFailed(peer.node_id, request_id, "connection refused"))
            return
        timed_out = CallFailed(peer.node_id, request_id, "no answer")
        timer = self.runtime.after(ELECTION_TIMEOUT_S, reply_to, timed_out)

        def answered(answer: CallAnswer[Any]) -> None:
            if self._arrives(peer.node_id, caller):
                timer.cancel()
                response = answer.response
                is_refused = isinstance(response, CallRefused)
                failed = CallFailed(peer.node_id, request_id, response.detail) if is_refused else None
                self.later(reply_to, failed or CallReturned(peer.node_id, request_id, response))

        if self._arrives(caller, peer.node_id):
            self.later(node.inbox, CallReceived(request_id, request, _Mailbox(answered)))

    def _arrives(self, sender: str, receiver: str) -> bool:
        return self.reaches(sender, receiver) and self.rng.random() >= self.lost

    def foundings(self) -> set[Founding]:
        """What nodes that run have taken for founded."""
        return {founding for node in self.nodes.values() for founding in node.founded}


def moved(config: NodeConfig, port: int) -> NodeConfig:
    """The same node with another port for gossip and calls."""
    return replace(config, gossip_addr=f"127.0.0.1:{port}")

"""Every request is answered once, and in time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Final

from pykka.messages import _ActorStop

from ourolog.actors.message_names import message_name
from ourolog.actors.messages.events import HoldProduces, ProducesHeld
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.observer import NodeFailed, NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import (
    READ_INDEX_WAIT_S,
    CallAnswer,
    CallCancelled,
    CallReceived,
    FetchRequest,
    ReadIndexRequest,
)
from ourolog.actors.messages.replicator import ConfirmRead, ForgetRead, ReadConfirmed, ReadNotConfirmed
from ourolog.actors.messages.server import (
    CancelRequest,
    Consume,
    ListServers,
    Produce,
    Produced,
    RegisterProducer,
    RequestRefused,
    ServersListed,
)
from ourolog.actors.messages.status import ReportStatus, StatusReported
from ourolog.actors.messages.store import (
    AppendBatch,
    AppendControl,
    AppendFetched,
    AppendPulled,
    AppendRefused,
    BallotSaved,
    BatchAppended,
    BatchesRead,
    DescribeLog,
    FetchedAppended,
    FetchedRejected,
    LogDescribed,
    PulledAppended,
    PullRejected,
    ReadRefused,
    SaveBallot,
)
from ourolog.actors.messages.values import ReadLevel
from ourolog.actors.server import REPAIR_WAIT_S
from ourolog.simulation.checkers.base import EventChecker, Handler
from ourolog.simulation.checkers.hindrances import CLOCKS_DIFFER
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeSaid, NodeStarted, NodeStopped
from ourolog.storage.types import NodeId

MARGIN_S: Final = 1.0
"""How much longer than its own time limit an answer of an unhindered node may take."""

MAX_FETCH_WAIT_S: Final = 30.0
_ACTORS: Final = ("store", "server", "replicator", "election", "membership")


@dataclass(slots=True)
class _Asked:
    """A question to an actor that is not answered yet.

    within_s: the time that it gave itself, inf where it may wait for ever.
    cancelled_s: since when nobody wants the answer.
    is_owed: whether its actor will live to answer it.
    """

    node_id: NodeId
    actor: str
    what: str
    asked_s: float
    within_s: float
    cancelled_s: float = inf
    is_owed: bool = True


class AnsweredOnce(EventChecker):
    """Pairs what actors are asked, by clients, peers and each other, with what they answer."""

    name: ClassVar[str] = "answered_once"
    statement: ClassVar[str] = (
        f"Every request to a node that runs and is not held up is answered exactly once, within its own time and "
        f"{MARGIN_S:g} s, and {REPAIR_WAIT_S:g} s more where damage was found; a cancelled one at most once and soon, "
        "and a node that stops answers its clients first."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            NodeStarted: self._on_started,
            NodeStopped: self._on_stopped,
            NodeCrashed: self._on_crashed,
            NodeSaid: self._on_said,
        }
        asked: dict[type, Handler] = {
            Produce: lambda told: self._ask(told, _client_key(told.message), told.message.timeout_s),
            RegisterProducer: lambda told: self._ask(told, _client_key(told.message), told.message.timeout_s),
            Consume: lambda told: self._ask(told, _client_key(told.message), _read_within_s(told.message)),
            ConfirmRead: lambda told: self._ask(told, ("read", told.message.request_id), told.message.timeout_s),
            ListServers: lambda told: self._ask(told, _client_key(told.message), 0.0),
            HoldProduces: self._on_hold,
            CallReceived: self._on_call,
            AppendBatch: lambda told: self._ask(told, ("append", told.sender, told.message.request_id), 0.0),
            AppendControl: lambda told: self._ask(told, ("append", told.sender, told.message.request_id), 0.0),
            AppendFetched: lambda told: self._ask(told, ("fetched", told.message.leader_id), 0.0),
            AppendPulled: lambda told: self._ask(told, ("pulled", told.message.source_id), 0.0),
            SaveBallot: lambda told: self._ask(told, ("ballot", told.sender, told.message.request_id), 0.0),
            DescribeLog: lambda told: self._ask(told, ("log", told.sender, told.message.request_id), 0.0),
            ReportStatus: lambda told: self._ask(told, ("status", told.receiver, told.message.request_id), 0.0),
        }
        answered: dict[type, Callable[[Any], Hashable]] = {
            Produced: lambda told: _client_key(told.message),
            RequestRefused: lambda told: _client_key(told.message),
            BatchesRead: lambda told: _client_key(told.message),
            ReadRefused: lambda told: _client_key(told.message),
            ServersListed: lambda told: _client_key(told.message),
            ProducesHeld: lambda told: ("hold", told.message.request_id),
            ReadConfirmed: lambda told: ("read", told.message.request_id),
            ReadNotConfirmed: lambda told: ("read", told.message.request_id),
            CallAnswer: lambda told: ("call", told.message.request_id),
            BatchAppended: lambda told: ("append", told.receiver, told.message.request_id),
            AppendRefused: lambda told: ("append", told.receiver, told.message.request_id),
            FetchedAppended: lambda told: ("fetched", told.message.leader_id),
            FetchedRejected: lambda told: ("fetched", told.message.leader_id),
            PulledAppended: lambda told: ("pulled", told.message.source_id),
            PullRejected: lambda told: ("pulled", told.message.source_id),
            BallotSaved: lambda told: ("ballot", told.receiver, told.message.request_id),
            LogDescribed: lambda told: ("log", told.receiver, told.message.request_id),
            StatusReported: lambda told: ("status", told.sender, told.message.request_id),
        }
        self.on_told = {
            **asked,
            **{kind: self._answering(key_of) for kind, key_of in answered.items()},
            CancelRequest: lambda told: self._cancel(told, _client_key(told.message)),
            ForgetRead: lambda told: self._cancel(told, ("read", told.message.request_id)),
            CallCancelled: lambda told: self._cancel(told, ("call", told.message.request_id)),
            _ActorStop: self._on_actor_stop,
            ProbeDue: lambda _: self._look(),
        }
        self._open: dict[NodeId, dict[Hashable, list[_Asked]]] = {}
        self._due: list[tuple[float, int, _Asked, Hashable]] = []
        self._order = itertools.count()
        self._ended: set[str] = set()
        self._damaged: set[NodeId] = set()

    # ------------------------------------------------------------ asked and answered

    def _ask(self, told: MessageTold, key: Hashable, within_s: float) -> None:
        node_id, actor = self.model.place(told.receiver)
        asked = _Asked(node_id, actor, message_name(told.message), told.time_s, within_s)
        asked.is_owed = told.receiver not in self._ended
        self._open.setdefault(node_id, {}).setdefault(key, []).append(asked)
        if asked.is_owed and within_s < inf:
            self._expect(asked, key, told.time_s + self._allowed_s(asked))

    def _on_hold(self, told: MessageTold) -> None:
        """Several are told that produces are held; the server holds them, and answers."""
        hold = told.message
        assert isinstance(hold, HoldProduces)
        if told.receiver.endswith(".server"):
            self._ask(told, ("hold", hold.request_id), hold.within_s)

    def _on_call(self, told: MessageTold) -> None:
        """Note a call of another node.

        A fetch waits at the end of the log, and a question for the commit index for a majority; all others are
        answered at once.
        """
        received = told.message
        assert isinstance(received, CallReceived)
        request = received.request
        match request:
            case FetchRequest():
                within_s = min(request.max_wait_s, MAX_FETCH_WAIT_S)
            case ReadIndexRequest():
                within_s = READ_INDEX_WAIT_S
            case _:
                within_s = 0.0
        self._ask(told, ("call", received.request_id), within_s)

    def _allowed_s(self, asked: _Asked) -> float:
        return (asked.within_s + self._repair_wait_s(asked)) * CLOCKS_DIFFER + MARGIN_S

    def _repair_wait_s(self, asked: _Asked) -> float:
        """How much longer it may take since what is read is damaged, and is being repaired."""
        return REPAIR_WAIT_S if asked.what == "Consume" and asked.node_id in self._damaged else 0.0

    def _expect(self, asked: _Asked, key: Hashable, due_s: float) -> None:
        heapq.heappush(self._due, (due_s, next(self._order), asked, key))

    def _answering(self, key_of: Callable[[MessageTold], Hashable]) -> Callable[[MessageTold], None]:
        def on_answer(told: MessageTold) -> None:
            node_id = self.model.place(told.sender)[0]
            key = key_of(told)
            of_node = self._open.get(node_id, {})
            waiting = of_node.get(key)
            what = message_name(told.message)
            if not waiting:
                raise self.violated(
                    f"{told.sender} told {told.receiver} {what}, which answers nothing that is open: {_brief(key)}"
                )
            asked = waiting.pop(0)
            if not waiting:
                del of_node[key]
            clear_s = max(asked.cancelled_s, self.model.hindrances.node_clear_s(node_id))
            if (
                asked.cancelled_s < inf
                and told.time_s > clear_s + MARGIN_S + self._repair_wait_s(asked) * CLOCKS_DIFFER
            ):
                raise self.violated(
                    f"{told.sender} answered {asked.what} {_brief(key)} with {what}, "
                    f"{told.time_s - asked.cancelled_s:.3f} s after it was told that nobody waits"
                )

        return on_answer

    def _cancel(self, told: MessageTold, key: Hashable) -> None:
        for asked in self._open.get(self.model.place(told.receiver)[0], {}).get(key, ()):
            asked.cancelled_s = min(asked.cancelled_s, told.time_s)

    # ------------------------------------------------------------ too late

    def _look(self) -> None:
        now_s = self.time_s
        due = self._due
        while due and due[0][0] < now_s:
            _, _, asked, key = heapq.heappop(due)
            waiting = self._open.get(asked.node_id, {}).get(key, ())
            if not asked.is_owed or asked.cancelled_s < inf or not any(one is asked for one in waiting):
                continue
            due_s = max(asked.asked_s, self.model.hindrances.node_clear_s(asked.node_id)) + self._allowed_s(asked)
            if due_s >= now_s:
                self._expect(asked, key, min(due_s, now_s + 60.0))
            else:
                raise self.violated(
                    f"{asked.node_id}'s {asked.actor} was told {asked.what} {_brief(key)} at {asked.asked_s:.3f} s and "
                    f"has not answered it, {now_s - asked.asked_s:.3f} s later"
                )

    def at_end(self) -> None:
        self._look()

    # ------------------------------------------------------------ the ends of processes

    def _on_actor_stop(self, told: MessageTold) -> None:
        """Forget what is told to the actor from now on: it is never received."""
        self._ended.add(told.receiver)

    def _on_started(self, event: NodeStarted) -> None:
        self._forget(event.node_id)

    def _on_crashed(self, event: NodeCrashed) -> None:
        self._forget(event.node_id)

    def _on_said(self, event: NodeSaid) -> None:
        """A node that has failed is ending, and owes nothing any more; one may find damage, and repair it."""
        if isinstance(event.event, NodeWarned) and event.event.kind is WarningKind.DAMAGED:
            self._damaged.add(event.node_id)
        if isinstance(event.event, NodeFailed):
            self._ended.update(f"{event.node_id}.{actor}" for actor in _ACTORS)
            for waiting in self._open.get(event.node_id, {}).values():
                for asked in waiting:
                    asked.is_owed = False

    def _on_stopped(self, event: NodeStopped) -> None:
        for key, waiting in self._open.get(event.node_id, {}).items():
            for asked in waiting:
                if asked.actor == "server" and asked.is_owed and asked.cancelled_s == inf:
                    raise self.violated(
                        f"{event.node_id} has stopped and never answered {asked.what} {_brief(key)}, which it was told "
                        f"at {asked.asked_s:.3f} s"
                    )
        self._forget(event.node_id)

    def _forget(self, node_id: NodeId) -> None:
        self._open.pop(node_id, None)
        self._damaged.discard(node_id)
        self._ended = {name for name in self._ended if self.model.place(name)[0] != node_id}


def _read_within_s(consume: Consume) -> float:
    if consume.wait:
        return inf
    return consume.timeout_s if consume.read is ReadLevel.LATEST or consume.seen_end else 0.0


def _client_key(message: Any) -> Hashable:
    return ("client", message.request_id)


def _brief(key: Hashable) -> str:
    return " ".join(str(part) for part in key[1:]) if isinstance(key, tuple) else str(key)

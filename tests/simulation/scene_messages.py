"""What clients, peers and actors say in the scenes that checkers are shown; what does not matter is filled in."""

from __future__ import annotations

from typing import Any

from ourolog.actors.messages.events import LeaderChanged, MemberJoined, VotersChanged
from ourolog.actors.messages.peer_calls import (
    CallReceived,
    FetchOutcome,
    FetchRequest,
    FetchResponse,
    LogEndRequest,
    LogEndResponse,
)
from ourolog.actors.messages.server import Consume, Produce, Refusal, RequestRefused
from ourolog.actors.messages.values import Acks, Member
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_record
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene

STATIC = "static:n1,n2,n3"


def at(index: int) -> Position:
    return Position(Index(index), Offset(index))


def produce(request_id: int, value: str = "a", acks: Acks = Acks.QUORUM, timeout_s: float = 5.0) -> Produce:
    return Produce(request_id, NewBatch(encode_record(value.encode()), 1), acks, timeout_s, Probe())


def consume(request_id: int, offset: int, *, wait: bool = False) -> Consume:
    return Consume(request_id, Offset(offset), 1000, wait, Probe())


def fetch(
    node: str, request_id: int, next_index: int, *, term: int = 1, elected: bool = True
) -> CallReceived[FetchRequest]:
    request = FetchRequest(
        "ourolog",
        NodeId(node),
        EPOCH,
        elected,
        Term(term),
        Index(next_index),
        None,
        0,
        Index(0),
        1000,
        0.5,
        disk_index=Index(next_index),
    )
    return CallReceived(request_id, request, Probe())


def log_end() -> LogEndResponse:
    return LogEndResponse(N2, EPOCH, Term(1), None, START, None, START)


def ask_log_end(request_id: int) -> CallReceived[LogEndRequest]:
    return CallReceived(request_id, LogEndRequest("ourolog", N2, EPOCH, "static:n1", Term(1)), Probe())


def response(outcome: FetchOutcome = FetchOutcome.BATCHES, **more: Any) -> FetchResponse:
    fields: dict[str, Any] = {"term": Term(1), "log_epoch": EPOCH, "start": START, "end": START, "committed": START}
    return FetchResponse(outcome, **(fields | more))


def refused(request_id: int, refusal: Refusal = Refusal.OUT_OF_RANGE, **more: Any) -> RequestRefused:
    return RequestRefused(request_id, refusal, "", **more)


def led_by_n1(claim: str) -> Scene:
    """n1 leads n2 and n3 in term 1, everybody knows everybody."""
    scene = Scene(claim)
    for name in ("n1", "n2", "n3"):
        scene.start(name, STATIC)
    for name in ("n1", "n2", "n3"):
        for actor in ("replicator", "server"):
            scene.tell(f"{name}.election", f"{name}.{actor}", VotersChanged((N1, N2, N3)))
            scene.tell(f"{name}.election", f"{name}.{actor}", LeaderChanged(Term(1), N1))
            for other in {"n1", "n2", "n3"} - {name}:
                joined = MemberJoined(Member(NodeId(other), f"{other}:1", f"{other}:2"))
                scene.tell(f"{name}.membership", f"{name}.{actor}", joined)
    return scene

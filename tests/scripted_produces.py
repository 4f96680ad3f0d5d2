"""What becomes of each produce at a scripted Server actor (`ourolog.rpc.testing`), and what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from ourolog.actors.messages.server import Produce, Refusal, RequestRefused
from ourolog.actors.messages.values import Acks
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError, to_log_error
from ourolog.storage.record_set import decode_records


class Script:
    """Decides for each produce of a scripted server, in order of arrival, what becomes of it."""

    def __init__(self, server: Any, *answers: Callable[[Produce], object] | None) -> None:
        """Prepare.

        answers: for each produce, given it, what is done instead of serving it; None to serve it, as all later ones.
        """
        self._answers = list(answers)
        self._server, self._tell = server, server.tell
        server.tell = self.tell

    def tell(self, message: Any) -> None:
        if isinstance(message, Produce) and self._answers and (answer := self._answers.pop(0)) is not None:
            self._server.received.append(message)
            answer(message)
            self._server.changed.set()
        else:
            self._tell(message)


def refused(refusal: Refusal, *, outcome_unknown: bool = False) -> Callable[[Produce], object]:
    def answer(produce: Produce) -> None:
        produce.reply_to.tell(RequestRefused(produce.request_id, refusal, "not now", outcome_unknown=outcome_unknown))

    return answer


def lost_after_append(server: Any) -> Callable[[Produce], object]:
    """It is stored, and its client is told that its outcome is unknown."""

    def answer(produce: Produce) -> None:
        key = produce.batch.producer_id, produce.batch.producer_sequence
        if key not in server.numbered:
            server.numbered[key] = server.end.index, server.append(produce.batch)
        refused(Refusal.DEPOSED, outcome_unknown=True)(produce)

    return answer


def unanswered(_: Produce) -> None:
    """Whoever asked waits."""


class HeldFirst:
    """A produce of `first` that nobody has answered yet, whatever comes behind it.

    caller: who waits for it.
    """

    def __init__(self, e: Any, caller: asyncio.Task[int]) -> None:
        self.caller = caller
        self._server = e.server
        self._produce = e.server.all(Produce)[-1]

    def answer(self) -> None:
        """Append and answer it."""
        self._server.produced(self._produce)


async def held_first(e: Any, client: LogClient, *, by_stream: bool = False, acks: Acks = Acks.DEFAULT) -> HeldFirst:
    """`by_stream`: it goes by a stream, since one has worked before by a call."""
    if by_stream:
        await client.produce(b"before", acks=acks)
    before = len(e.server.all(Produce))
    Script(e.server, unanswered)
    caller = asyncio.create_task(client.produce(b"first", acks=acks))
    await e.server.until(lambda: len(e.server.all(Produce)) == before + 1)
    return HeldFirst(e, caller)


def hidden_end(addr: str) -> LogError:
    """What is left of the status with which a node ended a stream, where more was being sent on it meanwhile."""
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "Internal error from Core"
    )
    return to_log_error(error, addr)


def numbers(e: Any) -> list[tuple[int, int]]:
    """Producer and number of every produce, in order of arrival."""
    return [(produce.batch.producer_id, produce.batch.producer_sequence) for produce in e.server.all(Produce)]


def stored(e: Any) -> list[bytes]:
    return [value for batch in e.server.batches if batch.record_count for value in decode_records(batch.payload)]

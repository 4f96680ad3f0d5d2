"""The call RegisterProducer: a client asks for an id under which what it sends is stored once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.server import (
    CancelRequest,
    Produced,
    Refusal,
    RegisterProducer,
    RequestRefused,
    ServerMessage,
)
from ourolog.rpc.admission import ProduceLimiter
from ourolog.rpc.errors import from_refusal
from ourolog.rpc.loop_mailboxes import PendingRequests
from ourolog.rpc.produce_handler import answered_within_s
from ourolog.rpc.server_calls import ServerCall


class RegisterHandler:
    """Passes registrations to the Server actor. A registration whose answer is lost is an id that nobody uses."""

    def __init__(self, requests: PendingRequests, server: Mailbox[ServerMessage], limiter: ProduceLimiter) -> None:
        self._requests = requests
        self._server = server
        self._limiter = limiter

    async def register(self, call: ServerCall[Any]) -> int:
        """Register a producer; its id. Raises ServiceError."""
        self._limiter.admit_or_refuse(call.client, 0)
        try:
            request_id, answered = self._requests.open()
            within_s = answered_within_s(call.context.time_remaining())
            self._server.tell(RegisterProducer(request_id, within_s, self._requests))
            try:
                async with asyncio.timeout(within_s):
                    answer: Produced | RequestRefused = await answered
            except TimeoutError:
                detail = f"the producer was not registered on a majority of the voters within {within_s:.3g} s"
                answer = RequestRefused(request_id, Refusal.TIMED_OUT, detail)
            finally:
                if self._requests.forget(request_id):
                    self._server.tell(CancelRequest(request_id, self._requests))
        finally:
            self._limiter.release(call.client, 0)
        if isinstance(answer, RequestRefused):
            raise from_refusal(replace(answer, outcome_unknown=False))
        return answer.index

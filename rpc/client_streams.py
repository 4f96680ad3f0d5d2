"""Produce streams: pipelined, in order, on as many calls one after another as it takes.

With a producer's id of its own a stream goes on at the next leader with all that was not answered, whether or not that
was stored: the batches keep their numbers, and the log stores each once. Without one, where nobody is elected or with
acks=leader, it goes on only if nothing of it was stored for certain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ourolog.rpc.client_attempts import Attempts
from ourolog.rpc.client_calls import ClientCalls
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.client_liveness import PRODUCE_SILENT_AFTER_S
from ourolog.rpc.client_nodes import NodeConnection
from ourolog.rpc.client_producers import EXPIRED_AFTER_S, ProducerIds
from ourolog.rpc.client_requests import UnansweredRequests
from ourolog.rpc.errors import OUTCOME_UNKNOWN


class ProduceStreams:
    """Opens the produce streams of one client."""

    def __init__(self, calls: ClientCalls, ids: ProducerIds) -> None:
        self._calls = calls
        self._ids = ids

    async def answers(
        self,
        requests: UnansweredRequests[Any],
        *,
        is_numbered: bool,
    ) -> AsyncGenerator[tuple[int, list[int]], None]:
        """What a produce stream is answered, in order: where records are, and how many each item has. Raises LogError.

        is_numbered: whether to number the requests, where the cluster has ids.
        """
        loop, calls = asyncio.get_running_loop(), self._calls
        attempts: Attempts | None = None
        expired_since_s: float | None = None

        async def check(connection: NodeConnection) -> tuple[LogError | None, float]:
            if requests.outstanding:
                return await calls.liveness.produce_failure(connection)
            return await calls.liveness.stream_failure(connection)

        try:
            while True:
                if is_numbered and not requests.producer_id:
                    is_numbered = await self._number(requests, attempts)
                try:
                    addr = await calls.find_leader()
                except LogError as error:
                    _note_unanswered(error, requests)
                    raise
                responses = calls.responses(
                    addr, lambda stub: stub.ProduceBatchStream(requests.messages()), check, PRODUCE_SILENT_AFTER_S
                )
                try:
                    async with aclosing(responses):
                        async for response in responses:
                            counts = requests.note_answer()
                            calls.nodes.acknowledged(addr)
                            attempts = expired_since_s = None
                            yield response.base_offset, counts
                except LogError as error:
                    failure = error
                else:
                    if requests.is_done and requests.error is not None:
                        raise requests.error
                    if requests.is_done:
                        return
                    message = f"{addr} answered {requests.answered} of {requests.made} batches and ended the stream"
                    failure = LogError(message, "INTERNAL", addr=addr, outcome_unknown=True)
                if self._sends_otherwise(requests, failure, addr, is_numbered=is_numbered):
                    continue
                may_repeat = failure.may_pass or failure.is_not_leader
                if failure.outcome_unknown and requests.outstanding:
                    requests.note_unknown()
                    may_repeat = may_repeat and is_numbered
                elif requests.outstanding:
                    may_repeat = failure.may_retry or failure.is_not_leader
                _note_unanswered(failure, requests)
                attempts = attempts or Attempts(loop.time(), calls.timeout_s)
                attempts.note(failure)
                if failure.is_expired and not requests.is_unknown:
                    requests.number(0)
                    continue
                if failure.is_expired:
                    expired_since_s = expired_since_s or loop.time()
                    may_repeat = loop.time() - expired_since_s < EXPIRED_AFTER_S
                at_once = calls.route(failure, addr)
                wait_s = calls.wait_s(attempts, failure, addr, to_leader=True)
                if not may_repeat or wait_s is None:
                    raise attempts.conclusion(failure)
                calls.on_retry(failure)
                await asyncio.sleep(0 if at_once else wait_s)
        finally:
            await requests.close()

    def _sends_otherwise(
        self, requests: UnansweredRequests[Any], failure: LogError, addr: str, *, is_numbered: bool
    ) -> bool:
        """Whether a message was refused for what is in it, or may have been, and all go again in another way."""
        if not requests.outstanding:
            return False
        is_refused = failure.is_of_content and not failure.outcome_unknown
        is_too_large = is_refused and not failure.reason
        if failure.reason == "INVALID" and is_refused:
            # A node reads nothing behind the first that it refuses, and answers what is before it.
            return requests.take_apart()
        if is_too_large and requests.outstanding == 1:
            return requests.take_apart(addr)
        # Too large for the connection itself, which ends with all that is on its way; or it is not told why it ended.
        is_lost = is_too_large or failure.end_is_hidden
        if not is_lost or requests.outstanding == 1:
            return False
        failure.outcome_unknown = True
        if not is_numbered:
            return False
        if is_too_large:
            requests.note_too_large(addr)
        else:
            requests.note_unknown()
        requests.send_one_by_one()
        return True

    async def _number(self, requests: UnansweredRequests[Any], attempts: Attempts | None) -> bool:
        """Give the stream an id of its own. Returns whether there are any."""
        loop = asyncio.get_running_loop()
        if self._ids.can_be_had(loop.time()):
            within_s = self._calls.timeout_s if attempts is None else attempts.left_s(loop.time())
            requests.number(await self._ids.register(within_s))
        return requests.producer_id != 0


def _note_unanswered(failure: LogError, requests: UnansweredRequests[Any]) -> None:
    """Let the failure say what is known of all that was sent and is not answered."""
    failure.outcome_unknown = requests.is_unknown
    if requests.is_unknown and OUTCOME_UNKNOWN not in str(failure):
        many = f"{requests.unanswered_items} produces of the stream were not answered"
        failure.args = (f"{str(failure).rstrip('.')}; {many}. {OUTCOME_UNKNOWN}",)

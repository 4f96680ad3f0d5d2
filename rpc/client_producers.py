"""The producers' ids of a client: registered at the leader, where the cluster has them."""

from __future__ import annotations

import asyncio
from typing import Final

from ourolog.rpc.client_calls import ClientCalls
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.errors import OUTCOME_UNKNOWN
from ourolog.rpc.v1 import log_pb2 as pb

MAX_SEQUENCE: Final = 2**32 - 1
"""The highest number that a batch can have."""

MAX_UNANSWERED: Final = 64
"""How many batches of one producer may be on their way: the log remembers as many."""

GATHERED_RECORDS: Final = 1000
"""How many records the client puts into a batch that its caller has not made."""

GATHERED_BYTES: Final = 1024 * 1024
"""How large, in bytes, it makes such a batch."""

EXPIRED_AFTER_S: Final = 2.0
"""For how long nodes must say that a producer is forgotten, whose last batch may be stored, until that is believed: a
leader that has been replaced, and has not noticed, does not know of those that came later."""

_ASK_AGAIN_AFTER_S: Final = 60.0


class Producer:
    """Under which id and number the next batch goes.

    producer_id: 0 for none yet.
    sequence: the number of the next batch.
    is_lost: whether it is not known any more which number is the next.
    """

    __slots__ = ("is_lost", "producer_id", "sequence")

    def __init__(self) -> None:
        self.producer_id = 0
        self.sequence = 0
        self.is_lost = False

    @property
    def is_spent(self) -> bool:
        """Whether there is no number left."""
        return self.sequence > MAX_SEQUENCE


class ProducerIds:
    """Gets ids, and remembers for a while that there are none."""

    def __init__(self, calls: ClientCalls) -> None:
        self._calls = calls
        self._none_until_s = 0.0

    def can_be_had(self, now_s: float) -> bool:
        """Whether the cluster has ids, as far as this client knows."""
        return now_s >= self._none_until_s

    async def register(self, within_s: float) -> int:
        """A new producer's id; 0 where nobody is elected, or where nodes do not know of ids. Raises LogError.

        A registration of which nobody makes use costs the log an entry, and nothing else: it is repeated until it is
        answered.
        """
        request = pb.RegisterProducerRequest()
        try:
            response = await self._calls.call(
                lambda stub, left_s: stub.RegisterProducer(request, timeout=left_s),
                within_s,
                to_leader=True,
                if_unknown="No record was sent",
            )
        except LogError as error:
            if error.reason == "NOBODY_ELECTED" or error.code == "UNIMPLEMENTED":
                self._none_until_s = asyncio.get_running_loop().time() + _ASK_AGAIN_AFTER_S
                return 0
            error.outcome_unknown = False
            error.args = (str(error).replace(f". {OUTCOME_UNKNOWN}", ""),)
            raise
        return response.producer_id

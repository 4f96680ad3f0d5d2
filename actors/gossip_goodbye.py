"""Leaving: say goodbye to a few members until they have heard it, or for a bounded time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from actors.gossip_probes import ping
from actors.gossip_voice import Voice
from actors.messages import Member
from storage.types import NodeId

GOODBYES: Final = 5
_ATTEMPTS: Final = 3


class Goodbye:
    """A goodbye is a ping by a sender whose own state is LEFT; the Ack shows that it was heard."""

    def __init__(self, voice: Voice, targets: Iterable[Member]) -> None:
        self._voice = voice
        self._unheard = {member.node_id: member for member in targets}
        self._sequences: dict[int, NodeId] = {}

    def say(self, attempt: int) -> bool:
        """Say it to those who have not heard it; False when there is nobody left, or no attempt."""
        if not self._unheard or attempt > _ATTEMPTS:
            return False
        for node_id in sorted(self._unheard):
            self._sequences[ping(self._voice, self._unheard[node_id])] = node_id
        return True

    def challenged(self, answers: int) -> None:
        """It was not believed, since the other one was started again meanwhile: say it with its new cookie."""
        member = self._unheard.get(self._sequences.pop(answers, NodeId("")))
        if member is not None:
            self._sequences[ping(self._voice, member)] = member.node_id

    def is_heard(self, answers: int) -> bool:
        """An Ack came: whether all have heard it now."""
        node_id = self._sequences.get(answers)
        if node_id is not None:
            self._unheard.pop(node_id, None)
        return not self._unheard

"""Actors without a thread of their own: their messages wait in an inbox until a runtime delivers them.

The loop and the stepping runtime are made of this; they differ in when they deliver what waits, and in how an `ask`
waits for its answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pykka
from pykka.messages import _ActorStop

from ourolog.actors.actor import A, NodeActor, NodeRef, RuntimeHooks


class DeliveringRuntime(RuntimeHooks, Protocol):
    """A runtime that delivers what waits in inboxes."""

    def enqueue(self, inbox: ActorInbox) -> None:
        """Deliver one message of that inbox, once; called for each that is put."""


class ActorInbox:
    """A Pykka inbox whose messages wait until the runtime delivers them. Any thread may put.

    actor: whose inbox it is; None until that has been made.
    waiting: the messages, in Pykka's envelopes, the oldest first.
    """

    __slots__ = ("_runtime", "actor", "waiting")

    def __init__(self, runtime: DeliveringRuntime) -> None:
        self._runtime = runtime
        self.actor: NodeActor | None = None
        self.waiting: deque[Any] = deque()

    def put(self, envelope: Any) -> None:
        self.waiting.append(envelope)
        self._runtime.enqueue(self)

    def get(self) -> Any:
        return self.waiting.popleft()

    def empty(self) -> bool:
        return not self.waiting

    def qsize(self) -> int:
        """How many messages wait."""
        return len(self.waiting)

    def next(self) -> tuple[NodeActor, Any]:
        """The actor and its oldest message, which no longer waits."""
        assert self.actor is not None, "an actor's ref is not handed out before it was made"
        return self.actor, self.waiting.popleft()


class ActorFactory:
    """Makes the actors of one runtime, each with an inbox."""

    def __init__(
        self,
        runtime: DeliveringRuntime,
        make_inbox: Callable[[], ActorInbox],
        make_future: Callable[[], pykka.Future[Any]],
    ) -> None:
        """Prepare a factory.

        make_future: of the answer to an `ask`.
        """
        self._members = {
            "hooks": runtime,
            "_create_actor_inbox": staticmethod(make_inbox),
            "_create_future": staticmethod(make_future),
            "_start_actor_loop": _attach_inbox,
        }
        self._classes: dict[type, type] = {}

    def start(self, body: type[A], collaborators: Mapping[str, Any]) -> NodeRef:
        """Make an actor of that class and start it, on the thread of whoever calls."""
        made = self._classes.get(body)
        if made is None:
            made = self._classes[body] = type(body.__name__, (body,), self._members)
        ref = made.start(**collaborators)  # type: ignore[attr-defined]  # it is a pykka.Actor
        assert isinstance(ref, NodeRef)
        return ref


def _attach_inbox(actor: Any) -> None:
    """Tell the inbox which actor it belongs to, instead of starting a thread."""
    actor.actor_inbox.actor = actor
    actor.on_start()


def answer_for_the_dead(actor: NodeActor, envelope: Any) -> None:
    """Tell who asked an actor that it had stopped before; that it shall stop is done then."""
    if envelope.reply_to is None:
        return
    if isinstance(envelope.message, _ActorStop):
        envelope.reply_to.set(None)
        return
    error = pykka.ActorDeadError(f"{actor.me} stopped before handling the message")
    envelope.reply_to.set_exception((type(error), error, None))

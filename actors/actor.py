"""The base of every actor of a node: a Pykka actor that reaches the world only through its ports."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import pykka

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import FailureKind, NodeEvent, NodeFailed
from ourolog.storage.types import NodeId

A = TypeVar("A", bound="NodeActor")


class Envelope(NamedTuple):
    """One message on its way into a mailbox, as a tap sees it. `sender` is "" for anything that is not an actor."""

    sender: str
    receiver: str
    message: object


Tap = Callable[[Envelope], None]


class RuntimeHooks(Protocol):
    """What a runtime provides to the refs of its actors."""

    tap: Tap | None

    def current(self) -> str:
        """The name of the actor that is handling a message right now, or ""."""


class NodeRef(pykka.ActorRef[Any]):
    """A pykka ref that can be watched, and for which telling a dead actor is not an error.

    While a node stops, its actors end one after another; what the remaining ones still tell the others
    no longer matters. (`ask` still raises ActorDeadError: somebody waits for the answer.)
    """

    def __init__(self, actor: NodeActor, name: str, hooks: RuntimeHooks | None) -> None:
        super().__init__(actor)
        self.name = name
        self._hooks = hooks

    def tell(self, message: Any) -> None:
        hooks = self._hooks
        if hooks is not None and hooks.tap is not None:
            hooks.tap(Envelope(hooks.current(), self.name, message))
        try:
            super().tell(message)
        except pykka.ActorDeadError:
            return


class NodeActor(pykka.Actor):
    """Base of the five actors. Derived classes implement `on_receive` for a closed union of messages.

    A subclass never blocks, reads no clock, draws no random number and opens nothing: it has ports for that.
    A runtime combines it with its own base class, see `ourolog.actors.looping`, `threaded` and `stepping`.

    actor_name: what it is called within its node.
    blocks: whether its ports make it wait, as files do: where actors share a thread, this one gets its own.
    """

    actor_name: ClassVar[str]
    blocks: ClassVar[bool] = False
    hooks: ClassVar[RuntimeHooks | None] = None

    def __init__(self, node_id: NodeId, observer: Mailbox[NodeEvent]) -> None:
        super().__init__()
        self.node_id = node_id
        self.observer = observer
        # Pykka makes the ref in its constructor and has no hook for its class.
        self._actor_ref = NodeRef(self, f"{node_id}.{self.actor_name}", self.hooks)

    @property
    def me(self) -> NodeRef:
        """This actor's own mailbox, to be handed out as `reply_to`."""
        ref = self.actor_ref
        assert isinstance(ref, NodeRef)
        return ref

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """An exception that nobody handled is a bug, and takes the whole node down.

        Pykka would let this actor die alone and leave its peers talking to a dead one.
        """
        where = ""
        while traceback is not None:
            where = f" at {traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
            traceback = traceback.tb_next
        name = exception_type.__name__ if exception_type else "unknown error"
        self.observer.tell(
            NodeFailed(self.node_id, self.actor_name, FailureKind.BUG, f"{name}: {exception_value}{where}")
        )


M = TypeVar("M")


class LateBoundMailbox(Mailbox[M]):
    """A mailbox for an actor that does not exist yet: the wiring of a node has cycles, and constructors cannot."""

    def __init__(self) -> None:
        self._target: Mailbox[M] | None = None

    def bind(self, target: Mailbox[M]) -> None:
        assert self._target is None, "bound once, by the wiring"
        self._target = target

    def tell(self, message: M) -> None:
        assert self._target is not None, "nobody tells anything before the wiring is complete"
        self._target.tell(message)


class Runtime(Protocol):
    """Where the actors of a node run."""

    def spawn(self, body: type[A], /, **collaborators: Any) -> NodeRef:
        """Make an actor of this class on this runtime and start it."""

    def stop(self, ref: NodeRef, within_s: float) -> None:
        """Let the actor handle what it was told before, then end it; returns when it has ended.

        Raises ActorStuckError when that takes longer than `within_s` seconds of real time.
        """


class ActorStuckError(Exception):
    """An actor does not end: it hangs in something, for instance in a disk that does not answer."""

"""The production runtime: actors on one asyncio loop, those that wait for a disk on threads of their own.

A message from one actor on the loop to another costs no change of thread, which is what most of a request's time went
to when each actor had its own. Handlers run one after another, each to its end, in the order in which their messages
were told; between two turns of the loop as many run as there are, within a bound.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from typing import Any, Final

import pykka

from ourolog.actors.actor import A, NodeActor, NodeRef, Tap
from ourolog.actors.inboxes import ActorFactory, ActorInbox, answer_for_the_dead
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.ports import Timer
from ourolog.actors.threaded import ThreadedRuntime

MAX_A_TURN: Final = 256
"""How many messages are handled before the loop looks at its sockets again."""


class LoopRuntime:
    """Actors on one asyncio loop. Made on that loop; `spawn` on its thread, `stop` on any other.

    An actor whose class says that it `blocks` gets a thread of its own. An `ask` waits for its answer as it does on
    threads, so whoever asks an actor of the loop must not be on the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tap: Tap | None = None) -> None:
        """Prepare a runtime without actors.

        tap: sees every message told from then on; None for nobody.
        """
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self.tap = tap
        self._threads = ThreadedRuntime(hooks=self)
        self._actors = ActorFactory(self, lambda: ActorInbox(self), pykka.ThreadingFuture)
        self._ready: deque[ActorInbox] = deque()
        self._woken = False
        self._current = ""

    def current(self) -> str:
        return self._current if threading.get_ident() == self._loop_thread else self._threads.current()

    def spawn(self, body: type[A], /, **collaborators: Any) -> NodeRef:
        if body.blocks:
            return self._threads.spawn(body, **collaborators)
        return self._actors.start(body, collaborators)

    def stop(self, ref: NodeRef, within_s: float = 30.0) -> None:
        """End the actor as `Runtime.stop` says. Not on the loop's thread, which it waits for."""
        assert threading.get_ident() != self._loop_thread, "the loop must run for its actors to end"
        self._threads.stop(ref, within_s)

    # ------------------------------------------------------------ delivery

    def enqueue(self, inbox: ActorInbox) -> None:
        """Deliver the oldest message of that inbox after all that was told before it."""
        self._ready.append(inbox)
        # Without a lock: a message is appended before the flag is read, and the loop lowers the flag before it takes
        # messages, so none is left behind with the loop asleep.
        if self._woken:
            return
        self._woken = True
        if threading.get_ident() == self._loop_thread:
            self._loop.call_soon(self._deliver)
            return
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            self._ready.clear()  # the loop has been closed, and its actors with it

    def _deliver(self) -> None:
        ready = self._ready
        handled = 0
        try:
            # The flag stays up meanwhile: what the handlers tell is delivered in this turn too.
            while ready and handled < MAX_A_TURN:
                handled += 1
                self._handle(*ready.popleft().next())
        finally:
            self._woken = False
            if ready:
                self._wake_again()

    def _wake_again(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._deliver)

    def _handle(self, actor: NodeActor, envelope: Any) -> None:
        if actor.actor_stopped.is_set():
            answer_for_the_dead(actor, envelope)
            return
        self._current = actor.me.name
        try:
            answer = actor._handle_receive(envelope.message)  # noqa: SLF001
        except Exception:
            self._on_error(actor, envelope)
        else:
            if envelope.reply_to is not None:
                envelope.reply_to.set(answer)
        finally:
            self._current = ""

    def _on_error(self, actor: NodeActor, envelope: Any) -> None:
        """As Pykka's threads do: tell who asked, or else end the actor and let it say so."""
        if envelope.reply_to is not None:
            envelope.reply_to.set_exception()
            return
        actor._handle_failure(*sys.exc_info())  # noqa: SLF001
        try:
            actor.on_failure(*sys.exc_info())
        except Exception:
            actor._handle_failure(*sys.exc_info())  # noqa: SLF001


class _LoopTimer:
    """A message that is told later, unless it is cancelled."""

    __slots__ = ("mailbox", "message")

    def __init__(self, mailbox: Mailbox[Any], message: object) -> None:
        self.mailbox: Mailbox[Any] | None = mailbox
        self.message: object = message

    def cancel(self) -> None:
        self.mailbox = self.message = None

    def fire(self) -> None:
        if self.mailbox is not None:
            self.mailbox.tell(self.message)


class LoopTimers:
    """The timers of a node on its asyncio loop. Any thread may set and cancel one. `close` drops those that wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._closed = False

    def after(self, delay_s: float, mailbox: Mailbox[Any], message: object) -> Timer:
        timer = _LoopTimer(mailbox, message)
        if threading.get_ident() == self._loop_thread:
            self._loop.call_later(delay_s, self._fire, timer)
        else:
            try:
                self._loop.call_soon_threadsafe(self._loop.call_later, delay_s, self._fire, timer)
            except RuntimeError:
                self._closed = True  # the loop is closed, and nothing is due any more
        return timer

    def close(self) -> None:
        self._closed = True

    def _fire(self, timer: _LoopTimer) -> None:
        if not self._closed:
            timer.fire()

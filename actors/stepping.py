"""The stepping runtime: the same actors on one thread, message by message, in virtual time.

Nothing happens unless somebody steps. With a seed, the next of several waiting actors is drawn from it;
without one the oldest message goes first. Either way a run is a function of its inputs.

This one is for tests of single actors, where a test says what happens and in which order: it answers an `ask`, and
an error in an actor is raised by the step. Whole nodes need more: they pause, are slow, wait for disks and lose
power. `ourolog.simulation.runtime` adds that to this runtime.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import pykka
from pykka.messages import _ActorStop

from ourolog.actors.actor import A, NodeActor, NodeRef, Tap
from ourolog.actors.inboxes import ActorFactory, ActorInbox, answer_for_the_dead
from ourolog.actors.messages.mailbox import Mailbox

EPOCH_MS = 1_700_000_000_000  # virtual time begins at this wall clock


class StepLimitError(AssertionError):
    """What a test waited for did not happen within its bound of virtual time or steps."""


class VirtualTimer:
    """A message that the stepping runtime tells when virtual time has come to it, unless it is cancelled."""

    __slots__ = ("mailbox", "message")

    def __init__(self, mailbox: Mailbox[Any], message: object) -> None:
        self.mailbox: Mailbox[Any] | None = mailbox
        self.message = message

    def cancel(self) -> None:
        self.mailbox = None


SteppingInbox = ActorInbox
"""What the simulated runtime derives its inbox from."""


class SteppingFuture(pykka.Future[Any]):
    """The answer to an `ask`: waiting for it means stepping the runtime."""

    def __init__(self, runtime: SteppingRuntime) -> None:
        super().__init__()
        self._runtime = runtime
        self._outcome: tuple[Any, BaseException | None] | None = None

    def get(self, *, timeout: float | None = None) -> Any:
        self._runtime.run_until(lambda: self._outcome is not None, timeout_s=timeout or 60.0)
        assert self._outcome is not None
        value, error = self._outcome
        if error is not None:
            raise error
        return value

    def set(self, value: Any = None) -> None:
        self._outcome = (value, None)

    def set_exception(self, exc_info: Any = None) -> None:
        self._outcome = (None, (exc_info or sys.exc_info())[1])


class SteppingRuntime:
    """Runtime, timers and clock in one, since they share virtual time.

    A bug in an actor is raised by `step`.

    seed: None for first come, first served.
    tap: called with each message that crosses into a mailbox; None for nobody.
    now_s: the virtual time, in seconds.
    steps: how many messages have been delivered.
    fired: what the last timer told.
    """

    def __init__(self, seed: int | None = None, tap: Tap | None = None) -> None:
        self.tap = tap
        self.now_s = 0.0
        self.steps = 0
        self.fired: object = None
        self._rng = Random(seed) if seed is not None else None  # noqa: S311  # chance of a test, not a secret
        self._actors = ActorFactory(self, self.make_inbox, lambda: SteppingFuture(self))
        self._ready: deque[ActorInbox] = deque()
        self._due: list[tuple[float, int, VirtualTimer]] = []
        self._order = itertools.count()
        self._current = ""

    # ------------------------------------------------------------ runtime

    def spawn(self, body: type[A], /, **collaborators: Any) -> NodeRef:
        return self._actors.start(body, collaborators)

    def make_inbox(self) -> ActorInbox:
        """The inbox of an actor that is being made."""
        return ActorInbox(self)

    def stop(self, ref: NodeRef, within_s: float = 0.0) -> None:  # noqa: ARG002  # time is virtual, nothing hangs
        if ref.is_alive():
            ref.tell(_ActorStop())
            self.run_until(lambda: not ref.is_alive())

    def kill(self, ref: NodeRef) -> None:
        """End the actor at once, as a crash would: no `on_stop`, and its messages are lost."""
        pykka.ActorRegistry.unregister(ref)
        ref.actor_stopped.set()

    def current(self) -> str:
        return self._current

    # ------------------------------------------------------------ timers and clock

    def after(self, delay_s: float, mailbox: Mailbox[Any], message: object) -> VirtualTimer:
        timer = VirtualTimer(mailbox, message)
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._order), timer))
        return timer

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return EPOCH_MS + int(self.now_s * 1000)

    # ------------------------------------------------------------ stepping

    def enqueue(self, inbox: ActorInbox) -> None:
        self._ready.append(inbox)

    def step(self) -> bool:
        """Deliver one message, or else let time pass to the next timer. False when nothing is left."""
        return self._deliver_one() or self._fire_next(float("inf"))

    def run_until_idle(self, max_steps: int = 1_000_000) -> None:
        """Deliver all messages that wait, without letting time pass."""
        for _ in range(max_steps):
            if not self._deliver_one():
                return
        raise StepLimitError(f"still busy after {max_steps} messages at {self.now_s:.3f} s")

    def run_for(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass, delivering and firing everything that falls due."""
        end_s = self.now_s + seconds
        while self._deliver_one() or self._fire_next(end_s):
            pass
        self.now_s = end_s

    def run_until(self, happened: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Step until `happened()`; StepLimitError if it has not within timeout_s of virtual time."""
        end_s = self.now_s + timeout_s
        while not happened():
            if not (self._deliver_one() or self._fire_next(end_s)):
                raise StepLimitError(f"did not happen within {timeout_s} virtual seconds")

    def _fire_next(self, end_s: float) -> bool:
        while self._due and self._due[0][0] <= end_s:
            due_s, _, timer = heapq.heappop(self._due)
            if timer.mailbox is None:
                continue
            self.now_s = max(self.now_s, due_s)
            self.fired = timer.message
            timer.mailbox.tell(timer.message)
            return True
        return False

    def _deliver_one(self) -> bool:
        while self._ready:
            if self._rng is not None:
                # Swap with the front: any waiting actor may go next, each actor in its own order.
                at = self._rng.randrange(len(self._ready))
                self._ready[0], self._ready[at] = self._ready[at], self._ready[0]
            actor, envelope = self._ready.popleft().next()
            if actor.actor_stopped.is_set():
                answer_for_the_dead(actor, envelope)
                continue
            self._handle(actor, envelope)
            self.steps += 1
            return True
        return False

    def _handle(self, actor: NodeActor, envelope: Any) -> None:
        self._current = actor.me.name
        try:
            if isinstance(envelope.message, _ActorStop):
                pykka.ActorRegistry.unregister(actor.actor_ref)
                actor.actor_stopped.set()
                actor.on_stop()
                answer = None
            else:
                answer = actor.on_receive(envelope.message)
        except Exception as error:
            if envelope.reply_to is None:
                raise
            envelope.reply_to.set_exception((type(error), error, error.__traceback__))
        else:
            if envelope.reply_to is not None:
                envelope.reply_to.set(answer)
        finally:
            self._current = ""

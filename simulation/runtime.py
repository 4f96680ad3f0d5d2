"""The simulated runtime: one thread, virtual time, one message at a time, in an order drawn from the seed.

It is the stepping runtime of `ourolog.actors.stepping`, which knows single actors and nothing else, and adds what
only whole nodes have. A node can pause while its messages pile up, and it can be slow. An actor that waits for
its disk is busy meanwhile, as its thread would be, and what it tells while handling a message is sent only when
the disk has answered. A node's machine may lose power in the middle of a message, and an actor that raises an
exception ends the run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

import pykka
from pykka.messages import _ActorStop

from ourolog.actors.actor import NodeActor, NodeRef, Tap
from ourolog.actors.stepping import SteppingInbox, SteppingRuntime, VirtualTimer
from ourolog.storage.types import NodeId


class PowerCutError(Exception):
    """The machine that the actor runs on is off. Not an OSError: no actor may handle it."""


class SimulatedInbox(SteppingInbox):
    """The inbox of an actor of a simulated node.

    blocks: for how many reasons its actor gets nothing now.
    aside: how many turns it has missed meanwhile.
    """

    def __init__(self, runtime: SimulatedRuntime) -> None:
        super().__init__(runtime)
        self.runtime = runtime
        self.blocks = 0
        self.aside = 0

    def put(self, envelope: Any) -> None:
        runtime = self.runtime
        if runtime.spent_s:
            runtime.after(0.0, _Latecomer(self), envelope)
        else:
            self.waiting.append(envelope)
            runtime.ready.append(self)


class _Latecomer:
    """Puts an envelope into an inbox at the time at which its sender sends it."""

    __slots__ = ("_inbox",)

    def __init__(self, inbox: SimulatedInbox) -> None:
        self._inbox = inbox

    def tell(self, envelope: Any) -> None:
        self._inbox.put(envelope)


class _Unblock:
    """The end of an actor's wait."""

    __slots__ = ("_runtime",)

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._runtime = runtime

    def tell(self, inbox: SimulatedInbox) -> None:
        self._runtime.unblock(inbox)


class _Caller:
    """A mailbox for timers whose message is a function, which it calls."""

    __slots__ = ()

    def tell(self, action: Callable[[], None]) -> None:
        action()


_CALLER = _Caller()


class SimulatedRuntime(SteppingRuntime):
    """Runtime, timers and true time of a simulated cluster.

    on_handled: called with receiver and message after each message.
    on_power_cut: called with a node whose machine lost power while one of its actors was at work.
    on_bug: called with actor, message and error when an actor has raised an exception.
    halted: set by anybody to end the run after the present message; it is raised from there.
    spent_s: how long the actor at work has waited for its disk, in seconds.
    """

    def __init__(
        self,
        rng: Random,
        tap: Tap | None,
        on_handled: Callable[[str, object], None],
        on_power_cut: Callable[[NodeId], None],
        on_bug: Callable[[NodeActor, object, Exception], None],
    ) -> None:
        super().__init__(None, tap)
        self.ready: list[SimulatedInbox] = []
        self.spent_s = 0.0
        self.halted: Exception | None = None
        self._draw = rng.random
        self._on_handled = on_handled
        self._on_power_cut = on_power_cut
        self._on_bug = on_bug
        self._unblock = _Unblock(self)
        self._inboxes: dict[NodeId, list[SimulatedInbox]] = {}
        self._slowness: dict[NodeId, Callable[[], float]] = {}
        self._then: dict[str, Callable[[], None]] = {}

    # ------------------------------------------------------------ actors

    def make_inbox(self) -> SteppingInbox:
        return SimulatedInbox(self)

    def spawn(self, body: Any, /, **collaborators: Any) -> NodeRef:
        ref = super().spawn(body, **collaborators)
        inbox = ref.actor_inbox
        assert isinstance(inbox, SimulatedInbox)
        assert inbox.actor is not None
        self._inboxes.setdefault(inbox.actor.node_id, []).append(inbox)
        return ref

    def begin_stop(self, ref: NodeRef, then: Callable[[], None]) -> None:
        """Let the actor handle what it was told before, then end it, then call `then`."""
        self._then[ref.actor_urn] = then
        ref.tell(_ActorStop())

    def forget(self, node_id: NodeId) -> None:
        """Remove a node whose process is gone, and everything that waited for it."""
        for inbox in self._inboxes.pop(node_id, ()):
            inbox.waiting.clear()
            inbox.blocks = inbox.aside = 0

    # ------------------------------------------------------------ standing still and being slow

    def pause(self, node_id: NodeId) -> None:
        for inbox in self._inboxes.get(node_id, ()):
            inbox.blocks += 1

    def resume(self, node_id: NodeId) -> None:
        for inbox in self._inboxes.get(node_id, ()):
            self.unblock(inbox)

    def unblock(self, inbox: SimulatedInbox) -> None:
        if inbox.blocks:
            inbox.blocks -= 1
            if not inbox.blocks:
                self.ready.extend([inbox] * inbox.aside)
                inbox.aside = 0

    def set_slowness(self, node_id: NodeId, cost_s: Callable[[], float] | None) -> None:
        """Make each message cost a node this many seconds from now on; None for nothing."""
        if cost_s is None:
            self._slowness.pop(node_id, None)
        else:
            self._slowness[node_id] = cost_s

    def spend(self, seconds: float) -> None:
        """Let the actor that is handling a message wait this long, for its disk."""
        self.spent_s += seconds

    # ------------------------------------------------------------ time

    @property
    def present_s(self) -> float:
        """The present time as the actor at work sees it, which includes what it has waited."""
        return self.now_s + self.spent_s

    def monotonic_s(self) -> float:
        return self.now_s + self.spent_s

    def after(self, delay_s: float, mailbox: Any, message: object) -> VirtualTimer:
        timer = VirtualTimer(mailbox, message)
        heapq.heappush(self._due, (self.now_s + self.spent_s + delay_s, next(self._order), timer))
        return timer

    def call_later(self, delay_s: float, action: Callable[[], None]) -> VirtualTimer:
        """Call `action` after this many seconds."""
        return self.after(delay_s, _CALLER, action)

    # ------------------------------------------------------------ stepping

    def _fire_next(self, end_s: float) -> bool:
        if self.halted is not None:
            raise self.halted
        return super()._fire_next(end_s)

    def _deliver_one(self) -> bool:
        if self.halted is not None:
            raise self.halted
        ready = self.ready
        while ready:
            # Any waiting actor may go next; each gets its own messages in order.
            at = int(self._draw() * len(ready)) if len(ready) > 1 else 0
            inbox = ready[at]
            ready[at] = ready[-1]
            ready.pop()
            if inbox.blocks:
                inbox.aside += 1
                continue
            if not inbox.waiting:
                continue  # it was forgotten
            envelope = inbox.waiting.popleft()
            actor = inbox.actor
            assert actor is not None, "an actor's ref is not handed out before it was made"
            if actor.actor_stopped.is_set():
                continue
            self._run(inbox, actor, envelope)
            self.steps += 1
            return True
        return False

    def _cut_power(self, inbox: SimulatedInbox, actor: NodeActor) -> None:
        """The machine goes off once the disk has worked as long as it has; its other actors go on until then."""
        spent_s, self.spent_s = self.spent_s, 0.0
        if not spent_s:
            self._on_power_cut(actor.node_id)
            return

        def go_off() -> None:
            # Unless the node has gone another way meanwhile; one that is stopping has not.
            if any(one is inbox for one in self._inboxes.get(actor.node_id, ())):
                self._on_power_cut(actor.node_id)

        inbox.blocks += 1
        self.call_later(spent_s, go_off)

    def _run(self, inbox: SimulatedInbox, actor: NodeActor, envelope: Any) -> None:
        message = envelope.message
        self._current = name = actor.me.name
        try:
            if isinstance(message, _ActorStop):
                pykka.ActorRegistry.unregister(actor.actor_ref)
                actor.actor_stopped.set()
                actor.on_stop()
                then = self._then.pop(actor.actor_urn, None)
                if then is not None:
                    self.call_later(0.0, then)
            else:
                actor.on_receive(message)
                if self._slowness:
                    cost_s = self._slowness.get(actor.node_id)
                    if cost_s is not None:
                        self.spent_s += cost_s()
                self._on_handled(name, message)
        except PowerCutError:
            self._cut_power(inbox, actor)
        except Exception as error:  # any exception is a bug and ends the run
            self._on_bug(actor, message, error)
        finally:
            self._current = ""
            if self.spent_s:
                spent_s, self.spent_s = self.spent_s, 0.0
                inbox.blocks += 1
                self.after(spent_s, self._unblock, inbox)

"""The production runtime: one thread for each actor, Pykka's own, and real time."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from typing import Any

import pykka

from ourolog.actors.actor import A, ActorStuckError, NodeRef, Tap
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.ports import Timer


class _ThreadedBase(pykka.ThreadingActor):
    """Pykka's threading actor with the C queue, into which putting is several times cheaper."""

    use_daemon_thread = True

    @staticmethod
    def _create_actor_inbox() -> Any:
        return queue.SimpleQueue()


class ThreadedRuntime:
    """Actors on threads. `tap` may be set at any time and sees every message told from then on."""

    def __init__(self, tap: Tap | None = None) -> None:
        self.tap = tap
        self._runtime_classes: dict[type, type] = {}

    def current(self) -> str:
        name = threading.current_thread().name
        return name if "." in name else ""

    def spawn(self, body: type[A], /, **collaborators: Any) -> NodeRef:
        runtime_class = self._runtime_classes.get(body)
        if runtime_class is None:
            runtime_class = type(
                body.__name__, (body, _ThreadedBase), {"hooks": self, "_start_actor_loop": _start_loop}
            )
            self._runtime_classes[body] = runtime_class
        ref = runtime_class.start(**collaborators)  # type: ignore[attr-defined]  # it is a pykka.Actor
        assert isinstance(ref, NodeRef)
        return ref

    def stop(self, ref: NodeRef, within_s: float = 30.0) -> None:
        """End the actor as `Runtime.stop` says. Its thread is a daemon: if it hangs, the process can still end."""
        if not ref.is_alive():
            return
        try:
            ref.stop(block=True, timeout=within_s)
        except pykka.Timeout:
            raise ActorStuckError(f"{ref.name} did not stop within {within_s:g} s") from None


def _start_loop(actor: Any) -> None:
    """Start the actor's thread under the actor's own name, so that threads and taps can be read."""
    threading.Thread(target=actor._actor_loop, name=actor.me.name, daemon=True).start()  # noqa: SLF001


class SystemClock:
    """The machine's clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


class _ThreadTimer:
    __slots__ = ("mailbox", "message")

    def __init__(self, mailbox: Mailbox[Any], message: object) -> None:
        self.mailbox: Mailbox[Any] | None = mailbox
        self.message = message

    def cancel(self) -> None:
        self.mailbox = None


class ThreadTimers:
    """All timers of a process on one thread. `close` ends it; pending timers are dropped."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, _ThreadTimer]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)
        self._thread.start()

    def after(self, delay_s: float, mailbox: Mailbox[Any], message: object) -> Timer:
        timer = _ThreadTimer(mailbox, message)
        due_s = time.monotonic() + delay_s
        with self._changed:
            heapq.heappush(self._due, (due_s, next(self._order), timer))
            if self._due[0][2] is timer:
                self._changed.notify()
        return timer

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                timer = heapq.heappop(self._due)[2]
            mailbox = timer.mailbox
            if mailbox is not None:
                mailbox.tell(timer.message)

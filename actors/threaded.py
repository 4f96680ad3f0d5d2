"""A thread for each actor, Pykka's own, and real time. In production the actors that wait for a disk run so."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import pykka

from ourolog.actors.actor import A, ActorStuckError, NodeRef, RuntimeHooks, Tap


class _ThreadedBase(pykka.ThreadingActor):
    """Pykka's threading actor with the C queue, into which putting is several times cheaper."""

    use_daemon_thread = True

    @staticmethod
    def _create_actor_inbox() -> Any:
        return queue.SimpleQueue()


class ThreadedRuntime:
    """Actors on threads. `tap` may be set at any time and sees every message told from then on."""

    def __init__(self, tap: Tap | None = None, hooks: RuntimeHooks | None = None) -> None:
        """Prepare a runtime without actors.

        hooks: what its actors are given instead of this runtime, where it is a part of another one.
        """
        self.tap = tap
        self._hooks = hooks or self
        self._runtime_classes: dict[type, type] = {}

    def current(self) -> str:
        name = threading.current_thread().name
        return name if "." in name else ""

    def spawn(self, body: type[A], /, **collaborators: Any) -> NodeRef:
        runtime_class = self._runtime_classes.get(body)
        if runtime_class is None:
            runtime_class = type(
                body.__name__, (body, _ThreadedBase), {"hooks": self._hooks, "_start_actor_loop": _start_loop}
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

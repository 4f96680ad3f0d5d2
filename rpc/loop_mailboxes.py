"""Mailboxes on the asyncio loop for whatever is no actor: the services, and whoever watches a node.

Waking a loop from another thread costs a system call and a switch of the interpreter lock, so
messages are gathered: a burst of them wakes the loop once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

M = TypeVar("M")


class LoopMailbox(Generic[M]):
    """A mailbox that any thread may tell; `receive` gets each message on the loop, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[M], None]) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._receive = receive
        self._arrived: deque[M] = deque()
        self._woken = False

    def tell(self, message: M) -> None:
        self._arrived.append(message)
        # Without a lock: a message is appended before the flag is read, and the loop lowers the
        # flag before it takes messages, so none is left behind with the loop asleep.
        if self._woken:
            return
        self._woken = True
        try:
            if threading.get_ident() == self._loop_thread:
                self._loop.call_soon(self._drain)
            else:
                self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            # The loop has been closed: whoever waited for this answer is gone.
            self._arrived.clear()

    def _drain(self) -> None:
        self._woken = False
        arrived = self._arrived
        # Only what has arrived by now: a flood must not keep the loop from its other work.
        count = len(arrived)
        try:
            while count:
                count -= 1
                self._receive(arrived.popleft())
        finally:
            if count:  # one could not be received; those behind it must not wait for the next to come
                self._loop.call_soon(self._drain)


class PendingRequests(LoopMailbox[Any]):
    """The requests that await an actor's answer, by id. It is itself the `reply_to` of those requests.

    Every answer has a `request_id`. An answer that nobody waits for any more is dropped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, self._resolve)
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._closed: BaseException | None = None

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> tuple[int, asyncio.Future[Any]]:
        """A fresh id and the future of its answer. Raises what `close` was given, once closed."""
        if self._closed is not None:
            raise self._closed
        self._last_id += 1
        future: asyncio.Future[Any] = self._loop.create_future()
        self._open[self._last_id] = future
        return self._last_id, future

    def forget(self, request_id: int) -> bool:
        """Stop waiting for this answer. Whether it was still awaited."""
        return self._open.pop(request_id, None) is not None

    def close(self, error: BaseException) -> None:
        """Fail every open request, and every later one, with `error`: the actors are gone."""
        self._closed = error
        waiting, self._open = self._open, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: whoever waited for it may have been cancelled meanwhile

    def _resolve(self, answer: Any) -> None:
        future = self._open.pop(answer.request_id, None)
        if future is not None and not future.done():
            future.set_result(answer)

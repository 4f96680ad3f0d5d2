"""A client's loop on a thread of its own, and what other threads hand to it."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, cast

from ourolog.rpc.event_loops import new_event_loop

T = TypeVar("T")


class LoopThread:
    """An event loop that runs on a daemon thread until `close`, or until the program ends."""

    def __init__(self, name: str) -> None:
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self._handed: deque[_Handed[Any]] = deque()
        self._lock = threading.Lock()
        self._is_closed = False
        # A thread that is still at work when the interpreter is taken down can crash it.
        self._stop = weakref.finalize(self, _stop, self._loop, self._thread)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def start(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop. Raises RuntimeError after `close`."""
        if self._is_closed:
            call.close()
            raise RuntimeError("the client was closed")
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and wait for it. Whoever is interrupted cancels it."""
        future = self.start(call)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def wait_for(self, call: Callable[[], asyncio.Future[T]]) -> T:
        """Have the loop call this, which must not wait, and wait for what its future brings.

        Much cheaper than a coroutine for many threads, since the loop is woken once for all that have come by then.
        """
        handed = _Handed(call)
        try:
            with self._lock:
                if self._is_closed:
                    raise RuntimeError("the client was closed")
                self._handed.append(handed)
                is_first = len(self._handed) == 1
            if is_first:
                self._loop.call_soon_threadsafe(self._take)
            handed.ended.acquire()
        except BaseException:  # Ctrl-C, which may come anywhere in between
            if not self._is_closed:
                self._loop.call_soon_threadsafe(handed.cancel)
                # Those behind it wait for the one before them to have woken the loop.
                self._loop.call_soon_threadsafe(self._take)
            raise
        return handed.result()

    def iterate(self, values: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """What a generator brings; the next value is made ready while the caller is at work on the one before it."""
        tasks: list[asyncio.Task[Any]] = []

        async def following() -> list[T]:
            tasks[:] = [task for task in (asyncio.current_task(),) if task is not None]
            try:
                return [await anext(values)]
            except StopAsyncIteration:
                return []

        async def stop() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await values.aclose()

        coming = self.start(following())
        try:
            while found := coming.result():
                coming = self.start(following())
                yield from found
        finally:
            if not self._is_closed:
                self.run(stop())

    def close(self) -> None:
        """End the thread, once it has done what it was handed."""
        with self._lock:
            self._is_closed = True
        self._stop()

    def _take(self) -> None:
        with self._lock:
            handed = list(self._handed)
            self._handed.clear()
        for each in handed:
            each.begin()


class _Handed(Generic[T]):
    """A call that a thread has handed to the loop.

    ended: free once it is known what became of it; a lock is what a thread can wait for at the least cost.
    """

    __slots__ = ("_call", "_error", "_future", "_is_cancelled", "_value", "ended")

    def __init__(self, call: Callable[[], asyncio.Future[T]]) -> None:
        self._call = call
        self._future: asyncio.Future[T] | None = None
        self._is_cancelled = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self.ended = threading.Lock()
        self.ended.acquire()

    def begin(self) -> None:
        """On the loop: call it."""
        if self._is_cancelled:
            return
        try:
            self._future = self._call()
        except Exception as error:
            self._error = error
            self.ended.release()
        else:
            self._future.add_done_callback(self._end)

    def cancel(self) -> None:
        """On the loop: nobody waits any more."""
        self._is_cancelled = True
        if self._future is not None:
            self._future.cancel()

    def result(self) -> T:
        """On the thread that waited: what came of it. Raises what the future has raised."""
        if self._error is not None:
            raise self._error
        return cast("T", self._value)

    def _end(self, future: asyncio.Future[T]) -> None:
        if future.cancelled():
            self._error = asyncio.CancelledError()
        elif (error := future.exception()) is not None:
            self._error = error
        else:
            self._value = future.result()
        self.ended.release()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

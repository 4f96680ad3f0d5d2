"""Where the seeds of a sweep run: anything with `submit(function, argument) -> future`.

A factory takes nothing and gives an executor: one of concurrent.futures', or of a cluster engine
that speaks the same. It is named by an entry point of the group `ourolog.executors` or by its
import path, `package.module:factory`.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

GROUP: Final = "ourolog.executors"


class Future(Protocol):
    """What `submit` gives. Those of concurrent.futures and of Dask are such."""

    def result(self) -> Any: ...
    def cancel(self) -> object: ...
    def add_done_callback(self, done: Callable[[Any], object], /) -> None: ...


class Executor(Protocol):
    """What a factory gives: runs functions somewhere else."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future: ...


Factory = Callable[[], Executor]


class UnknownExecutorError(ValueError):
    """No such entry point, module or factory; the message says what there is."""


def find_factory(name: str) -> Factory:
    """The factory of that name or import path. Raises UnknownExecutorError."""
    module_name, colon, attribute = name.partition(":")
    if not colon:
        found = {point.name: point for point in entry_points(group=GROUP)}
        if name not in found:
            known = ", ".join(sorted(found)) or "none installed"
            raise UnknownExecutorError(
                f"no executor is named {name!r}; there are {known}, or give an import path: package.module:factory"
            )
        try:
            return _callable(found[name].load(), name)
        except ImportError as error:
            raise UnknownExecutorError(f"the executor {name!r} cannot be loaded: {error}") from error
    try:
        return _callable(getattr(import_module(module_name), attribute), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownExecutorError(f"the executor {name!r} cannot be loaded: {error}") from error


def _callable(factory: Any, name: str) -> Factory:
    if not callable(factory):
        raise UnknownExecutorError(f"{name!r} is no factory: it cannot be called")
    return factory  # type: ignore[no-any-return]


@contextlib.contextmanager
def opened(factory: Factory) -> Iterator[Executor]:
    """An executor for the length of a block. What it still has to do is dropped at the end."""
    executor: Any = factory()
    try:
        yield executor
    finally:
        if hasattr(executor, "shutdown"):
            executor.shutdown(wait=False, cancel_futures=True)
        elif hasattr(executor, "close"):
            executor.close()


# ---------------------------------------------------------------- processes on this machine


def processes(jobs: int | None = None) -> ProcessPoolExecutor:
    """As many processes as there are cores, or `jobs`. Each is spawned, so that it inherits nothing but the code."""
    return _Processes(
        max_workers=jobs or os.cpu_count() or 1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
    )


class _Processes(ProcessPoolExecutor):
    """Ends its processes at once, whatever they are at: a run that nobody waits for has nothing to save."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        workers = list((getattr(self, "_processes", None) or {}).values())
        manager = getattr(self, "_executor_manager_thread", None)
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        if cancel_futures:
            for worker in workers:
                worker.terminate()
        # What it waits for has ended. Without this the interpreter, when it ends, may wake it while it closes its pipe.
        if manager is not None and (wait or cancel_futures):
            manager.join()


_COLLECT_AFTER: Final = 50_000
"""Objects made and not yet freed until young garbage is collected: a run's objects live briefly or to its end."""


def _begin_worker() -> None:
    """Ctrl-C is for the parent, which ends us; and if the parent is killed, so is this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


# ---------------------------------------------------------------- Dask


def dask() -> Executor:
    """A Dask cluster: the one at DASK_SCHEDULER_ADDRESS, else one of this machine's own.

    Needs the extra `ourolog[dask]`. Workers need the same version of ourolog.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UnknownExecutorError("the executor 'dask' needs distributed: pip install 'ourolog[dask]'") from error
    return _Dask(Client())  # type: ignore[no-untyped-call]


class _Dask:
    """Closes its client, and with it a cluster of its own."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._futures: Any = client.get_executor(pure=False)

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        future: Future = self._futures.submit(function, *arguments)
        return future

    def close(self) -> None:
        self._futures.shutdown(wait=False)
        self._client.close()

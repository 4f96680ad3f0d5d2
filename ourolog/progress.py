"""A progress bar on standard error, for a person who has waited a while."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_SHOWN_AFTER_S: Final = 2.0


class Progress:
    """Counts records; draws only on a terminal, and only when it takes longer than two seconds.

    total: how many there will be, None if nobody knows.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._wanted = sys.stderr.isatty()
        self._started_s = time.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, records: int) -> None:
        """So many more are done."""
        self._done += records
        if not self._wanted:
            return
        if self._bar is None:
            if time.monotonic() - self._started_s < _SHOWN_AFTER_S:
                return
            self._bar = _new_bar()
            self._bar.add_task(self._what, total=self._total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=self._done)


def _new_bar() -> Bar:
    from rich.console import Console  # most runs draw nothing, and loading it takes as long as producing a record
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        # Data on the same terminal scrolls above the bar; data in a file must not go through it.
        redirect_stdout=sys.stdout.isatty(),
    )

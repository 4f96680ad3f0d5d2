"""The bar of a sweep: seeds, faults injected, rare states reached; on a terminal only."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ourolog.sweep import Totals


class SweepProgress:
    """The bar of one sweep. It draws on standard error, so that what a program reads stays clean.

    total: how many seeds there are.
    console: where to draw instead.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        shown_on = console or Console(stderr=True)
        self._is_drawn = shown_on.is_terminal
        self._bar = Progress(
            TextColumn("seeds"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=shown_on,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        if self._is_drawn:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_drawn:
            self._bar.stop()

    def show(self, totals: Totals) -> None:
        """So much has happened by now."""
        self._bar.update(self._task, completed=totals.seeds, description=counts_of(totals))


def counts_of(totals: Totals) -> str:
    """`1,204 faults of 17 kinds · 12 rare states · 1 failing`."""
    parts = [f"{totals.faults.total():,} faults of {len(totals.faults)} kinds", f"{len(totals.states)} rare states"]
    if totals.failing:
        parts.append(f"{len(totals.failing)} failing")
    return " · ".join(parts)

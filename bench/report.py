"""The measurements: kept by name, printed as one table, written as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Series:
    """One case over the rounds.

    name: of the case.
    unit: what is counted.
    group: under which the case is printed.
    note: a remark for the table, "" for none.
    record_bytes: value bytes of each thing counted, 0 where that means nothing.
    values: the rate of each round, in `unit` a second.
    node_cpu_us, client_cpu_us: processor time for each thing counted, in microseconds.
    p50_ms, p99_ms: how long calls took, in milliseconds, where that was measured.
    """

    name: str
    unit: str
    group: str
    note: str = ""
    record_bytes: int = 0
    values: list[float] = field(default_factory=list)
    node_cpu_us: list[float] = field(default_factory=list)
    client_cpu_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        self.values.append(value)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def cpu_us(self) -> list[float]:
        """Node and client together."""
        return [node + client for node, client in zip(self.node_cpu_us, self.client_cpu_us, strict=True)]


@dataclass(frozen=True, slots=True)
class Ratio:
    """One case against another, round by round."""

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Target:
    """What was to be reached, and whether it was."""

    name: str
    measured: str
    wanted: str
    met: bool


class Report:
    """Collects what the groups measure. Progress goes to stderr, the table to stdout."""

    def __init__(self) -> None:
        self.all: dict[str, Series] = {}
        self.ratios: list[Ratio] = []
        self.targets: list[Target] = []
        self._progress = Console(stderr=True, highlight=False)

    def progress(self, text: str) -> None:
        self._progress.print(text, style="dim")

    def series(self, name: str, unit: str, *, group: str, note: str = "") -> Series:
        found = self.all.get(name)
        if found is None:
            found = self.all[name] = Series(name, unit, group, note)
        return found

    def ratio(self, name: str, over: str, under: str) -> Ratio:
        """`over` / `under` in each round."""
        pairs = zip(self.all[over].values, self.all[under].values, strict=True)
        found = Ratio(name, tuple(above / below for above, below in pairs))
        self.ratios.append(found)
        return found

    def cost_ratio(self, name: str, over: str, under: str) -> Ratio:
        """The ratio of the processor time that one call takes of node and client together, in each round.

        Where the processors are the limit, this is the ratio of the rates that an otherwise idle
        machine would show, however busy this one is with other things.
        """
        pairs = zip(self.all[over].cpu_us, self.all[under].cpu_us, strict=True)
        found = Ratio(name, tuple(above / below for above, below in pairs))
        self.ratios.append(found)
        return found

    def target(self, name: str, measured: str, wanted: str, *, met: bool) -> None:
        self.targets.append(Target(name, measured, wanted, met))

    def print(self, heading: str) -> None:
        """The tables, on stdout."""
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=160)
        console.print(heading)
        _print_table(
            console,
            ("case", "median", "min .. max", "unit", "MB/s", "node CPU µs", "client CPU µs", "p50 / p99 ms", "note"),
            [_row(series) for series in self.all.values()],
            right=range(1, 8),
        )
        _print_table(
            console,
            ("ratio, within rounds", "median", "min .. max"),
            [
                (ratio.name, f"{ratio.median:.2f}", f"{min(ratio.values):.2f} .. {max(ratio.values):.2f}")
                for ratio in self.ratios
            ],
            right=(1, 2),
        )
        _print_table(
            console,
            ("target", "measured", "wanted", ""),
            [
                (target.name, target.measured, target.wanted, "reached" if target.met else "NOT REACHED")
                for target in self.targets
            ],
            right=(1, 2),
        )

    def write(self, path: str, about: dict[str, Any]) -> None:
        """All of it as JSON."""
        content = {
            **about,
            "cases": [_plain(series) for series in self.all.values()],
            "ratios": [
                {"name": ratio.name, "median": ratio.median, "values": list(ratio.values)} for ratio in self.ratios
            ],
            "targets": [
                {"name": target.name, "measured": target.measured, "wanted": target.wanted, "met": target.met}
                for target in self.targets
            ],
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, ensure_ascii=False)
            file.write("\n")


def _plain(series: Series) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": series.name,
        "group": series.group,
        "unit": series.unit,
        "median": series.median,
        "min": min(series.values),
        "max": max(series.values),
        "values": series.values,
        "note": series.note,
    }
    for name in ("node_cpu_us", "client_cpu_us", "p50_ms", "p99_ms"):
        values = getattr(series, name)
        if values:
            plain[name] = statistics.median(values)
    if series.record_bytes:
        plain["record_bytes"] = series.record_bytes
    return plain


def _row(series: Series) -> tuple[str, ...]:
    def median_of(values: Sequence[float], show: Callable[[float], str]) -> str:
        return show(statistics.median(values)) if values else ""

    latency = ""
    if series.p50_ms:
        latency = f"{statistics.median(series.p50_ms):.2f} / {statistics.median(series.p99_ms):.2f}"
    return (
        series.name,
        number(series.median),
        f"{number(min(series.values))} .. {number(max(series.values))}",
        series.unit,
        f"{series.median * series.record_bytes / 1e6:,.0f}" if series.unit == "records/s" else "",
        median_of(series.node_cpu_us, number),
        median_of(series.client_cpu_us, number),
        latency,
        series.note,
    )


def _print_table(
    console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int]
) -> None:
    if not rows:
        return
    table = Table(show_edge=False, pad_edge=False)
    for at, head in enumerate(heads):
        table.add_column(head, justify="right" if at in right else "left", no_wrap=0 < at < len(heads) - 1)
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)


def number(value: float) -> str:
    """Three digits at least, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"

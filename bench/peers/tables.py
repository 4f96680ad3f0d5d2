"""The tables on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.report import number

_WIDTH = 230


def print_run(run: Mapping[str, Any]) -> None:
    """Everything that a run has found."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(
        f"{run['machine']}; {run['rounds']} rounds of {run['seconds']:g} s in {run['took_s']:.0f} s; "
        f"other processes had {run['others']:.0%} of the processors' time meanwhile"
    )
    sessions: Sequence[Mapping[str, Any]] = run["sessions"]
    _print(
        console,
        (
            "ours by theirs, 100 B if nothing else is said",
            "",
            "ours",
            "theirs",
            "unit",
            "median",
            "min .. max",
            "servers' time",
            "wanted",
            "",
        ),
        [_ratio_row(one) for session in sessions for one in session["comparisons"]],
        right=(2, 3, 5, 6, 7),
    )
    _print(
        console,
        (
            "beside",
            "load",
            "records/s",
            "min .. max",
            "MB/s",
            "p50 / p99 µs",
            "servers µs",
            "generator µs",
            "its share",
            "empty handler",
            "others",
        ),
        [(session["name"], *_load_row(one)) for session in sessions for one in session["loads"]],
        right=range(2, 11),
    )
    _print(
        console,
        ("idle cluster", "each process, % of a processor", "wanted", ""),
        [
            (
                each["label"],
                ", ".join(f"{one:.1f}" for one in each["percent"]),
                each.get("wanted", ""),
                each.get("verdict", ""),
            )
            for session in sessions
            for each in session["idle"]
        ],
    )
    _print(
        console,
        ("contender", "version", "settings", "highest resident MiB of each process"),
        [
            (each["label"], each["version"], each["settings"], ", ".join(f"{one:.0f}" for one in each["peak_mib"]))
            for session in sessions
            for each in session["contenders"]
        ],
    )
    for session in sessions:
        for load in session["loads"]:
            if "tried" in load:
                tried = ", ".join(f"{name.partition(': ')[2]} {number(rate)}" for name, rate in load["tried"].items())
                console.print(f"\n{load['name']} was the best of: {tried} records/s")
            for failure in load["failures"]:
                console.print(f"\nmade again: {failure}")
    for peer, why in run["skipped"].items():
        console.print(f"\n{peer} was skipped: {why}")


def _ratio_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        one["title"],
        f"{one['us']} / {one['peer']}",
        number(one["ours"]["median"]),
        number(one["theirs"]["median"]),
        one["unit"],
        f"{one['ratio']['median']:.2f}",
        f"{one['ratio']['min']:.2f} .. {one['ratio']['max']:.2f}",
        f"{one['servers_us_ratio']:.2f}" if one["servers_us_ratio"] is not None else "",
        one["wanted"]["text"] if "wanted" in one else "",
        one.get("verdict", ""),
    )


def _load_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    rate = one["rate"]
    if one["record_bytes"] == 1:  # what is counted is bytes
        span = f"{rate['min'] / 1e6:,.0f} .. {rate['max'] / 1e6:,.0f} MB/s"
        costs = (f"{number(one[which] * 1e6)} a MB" for which in ("servers_us", "generator_us"))
        shares = (f"{one['generator_share']:.0%}", "", f"{one['others_share']:.0%}")
        return (one["name"], "", span, f"{rate['median'] / 1e6:,.1f}", "", *costs, *shares)
    return (
        one["name"],
        number(rate["median"]),
        f"{number(rate['min'])} .. {number(rate['max'])}",
        f"{rate['median'] * one['record_bytes'] / 1e6:,.1f}",
        f"{number(one['p50_us'])} / {number(one['p99_us'])}" if "p50_us" in one else "",
        number(one["servers_us"]),
        number(one["generator_us"]),
        f"{one['generator_share']:.0%}",
        number(one["empty_rate"]) if "empty_rate" in one else "",
        f"{one['others_share']:.0%}",
    )


def _print(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> None:
    if not rows:
        return
    table = Table(show_edge=False, pad_edge=False)
    at_right = set(right)
    for at, head in enumerate(heads):
        table.add_column(head, justify="right" if at in at_right else "left", no_wrap=at > 0)
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)

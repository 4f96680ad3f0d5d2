"""What a run has found, as plain data: what the JSON holds, and what the tables and the chart are made of."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final

from bench.peers.comparisons import P50, RATE, Comparison, Wanted
from bench.peers.samples import Sample
from bench.peers.session import AGAINST, OURS, Outcome
from bench.peers.turns import Series

IDLE_PERCENT: Final = 1.0


def plain(outcome: Outcome) -> dict[str, Any]:
    """One session."""
    return {
        "name": outcome.name,
        "contenders": [
            {"label": label, "version": version, "settings": settings, "peak_mib": [round(one, 1) for one in peaks]}
            for label, version, settings, peaks in outcome.contenders
        ],
        "idle": [_idle(label, each) for label, each in outcome.idle.items()],
        "comparisons": [_comparison(one, outcome.series) for one in outcome.comparisons],
        "loads": [_load(one) for one in outcome.series.values()],
    }


def _idle(label: str, percents: Sequence[float]) -> dict[str, Any]:
    """Judged by the busiest process, where it is one of ours."""
    found: dict[str, Any] = {"label": label, "percent": [round(one, 2) for one in percents]}
    if label in {OURS, AGAINST}:
        verdict = "reached" if max(percents) < IDLE_PERCENT else "NOT REACHED"
        found |= {"wanted": f"< {IDLE_PERCENT:g} %", "verdict": verdict}
    return found


def ratios(ours: Series, theirs: Series, of: Callable[[Sample], float]) -> list[float]:
    """Ours by theirs, round by round."""
    return [of(one) / of(other) for one, other in zip(ours.samples, theirs.samples, strict=True)]


def spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": [float(f"{value:.6g}") for value in values],
    }


def _comparison(one: Comparison, series: dict[str, Series]) -> dict[str, Any]:
    ours, theirs = series[one.ours.name], series[one.theirs.name]
    ratio = spread(ratios(ours, theirs, one.figure.of))
    return {
        "measure": one.measure,
        "title": one.title,
        "us": one.us,
        "peer": one.peer,
        "unit": one.figure.unit,
        "is_like": one.is_like,
        "ours": {"load": ours.load.name, **spread([one.figure.of(sample) for sample in ours.samples])},
        "theirs": {"load": theirs.load.name, **spread([one.figure.of(sample) for sample in theirs.samples])},
        "ratio": ratio,
        "servers_us_ratio": _median_ratio(ours, theirs) if one.figure in {RATE, P50} else None,
        **_judged(one.wanted, ratio["median"]),
    }


def _median_ratio(ours: Series, theirs: Series) -> float | None:
    """Of the servers' processor time for each record: it depends less than rates do on what else the machine does."""
    if any(sample.servers_us == 0 for sample in theirs.samples):
        return None
    return statistics.median(ratios(ours, theirs, lambda sample: sample.servers_us))


def _judged(wanted: Wanted | None, ratio: float) -> dict[str, Any]:
    if wanted is None:
        return {}
    return {
        "wanted": {"text": str(wanted), "limit": wanted.limit, "aim": wanted.aim, "at_most": wanted.at_most},
        "verdict": wanted.verdict(ratio),
    }


def _load(series: Series) -> dict[str, Any]:
    def median(of: Callable[[Sample], float]) -> float:
        return statistics.median(of(sample) for sample in series.samples)

    found = {
        "name": series.load.name,
        "record_bytes": series.load.record_bytes,
        "rate": spread([sample.rate for sample in series.samples]),
        "servers_us": median(lambda sample: sample.servers_us),
        "generator_us": median(lambda sample: sample.generator_us),
        "generator_share": median(lambda sample: sample.generator_share),
        "others_share": median(lambda sample: sample.others_share),
        "failures": series.failures,
    }
    if any(sample.p50_us for sample in series.samples):
        found["p50_us"] = median(lambda sample: sample.p50_us)
        found["p99_us"] = median(lambda sample: sample.p99_us)
    if series.tried:
        found["tried"] = series.tried
    if series.empty_rate:
        found["empty_rate"] = series.empty_rate
    return found

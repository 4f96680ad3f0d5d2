"""What clusters cost while nobody asks for anything."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from bench.processes import cpu_s

_REST_S: Final = 5.0


def idle_percent(pids: Mapping[str, Sequence[int]], seconds: float) -> dict[str, list[float]]:
    """Of one processor, by each process of each cluster, after a rest."""
    time.sleep(_REST_S)
    before = {pid: cpu_s([pid]) for each in pids.values() for pid in each}
    began_s = time.monotonic()
    time.sleep(seconds)
    took_s = time.monotonic() - began_s
    return {label: [(cpu_s([pid]) - before[pid]) / took_s * 100 for pid in each] for label, each in pids.items()}

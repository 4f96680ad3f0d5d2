"""How much processor time a piece of work takes: of this process, of servers, and of everything else meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.machine import busy_s
from bench.peers.samples import Sample
from bench.processes import cpu_s


class Meter:
    """Measures from the moment when it is made.

    pids: of the servers, which all live until the end.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._began_s, self._own_s = time.perf_counter(), time.process_time()
        self._servers_s, self._busy_s = cpu_s(pids), busy_s()

    def sample(self, count: int) -> Sample:
        """What has happened since then.

        count: of the things that were done.
        """
        elapsed_s = time.perf_counter() - self._began_s
        own_s, servers_s = time.process_time() - self._own_s, cpu_s(self._pids) - self._servers_s
        others_s = max(0.0, busy_s() - self._busy_s - own_s - servers_s)
        return Sample(count, elapsed_s, 0.0, 0.0, own_s, servers_s, others_s)

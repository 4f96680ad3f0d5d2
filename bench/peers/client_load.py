"""A load generator: LogClient.produce() from many asyncio tasks, each of which awaits its own record.

It is run by the Python of the checkout whose client is measured, so it imports nothing but that and the standard
library; it takes the flags of the load generators in Go, and prints what they print.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ourolog import LogClient

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_DISTINCT = 1024


async def produce(client: LogClient, values: list[bytes], tasks: int, seconds: float, most: int) -> list[float]:
    """How long each took, in seconds; returns once the last one is acknowledged."""
    took_s: list[float] = []
    until_s = time.perf_counter() + seconds
    started = 0

    async def one_after_the_other() -> None:
        nonlocal started
        began_s = time.perf_counter()
        while began_s < until_s and started < most:
            started += 1
            await client.produce(values[started % _DISTINCT])
            now_s = time.perf_counter()
            took_s.append(now_s - began_s)
            began_s = now_s

    await asyncio.gather(*(one_after_the_other() for _ in range(tasks)))
    return took_s


async def measure(given: argparse.Namespace) -> dict[str, float]:
    draw = random.Random(1)
    values = [draw.randbytes(given.size) for _ in range(_DISTINCT)]
    pids = [int(pid) for pid in given.pids.split(",") if pid]
    most = max(1, given.most // given.size)
    async with LogClient(given.addr) as client:
        await produce(client, values, given.in_flight, given.warm_up, most)
        own_s, servers_s, all_s = _processor_s(pids)
        began_s = time.perf_counter()
        took_s = await produce(client, values, given.in_flight, given.seconds, most)
        elapsed_s = time.perf_counter() - began_s
        own_later_s, servers_later_s, all_later_s = _processor_s(pids)
    took_s.sort()
    own_s, servers_s, all_s = own_later_s - own_s, servers_later_s - servers_s, all_later_s - all_s
    return {
        "records": len(took_s),
        "elapsed_s": elapsed_s,
        "p50_us": took_s[len(took_s) // 2] * 1e6,
        "p99_us": took_s[len(took_s) * 99 // 100] * 1e6,
        "generator_cpu_s": own_s,
        "servers_cpu_s": servers_s,
        "others_cpu_s": max(0.0, all_s - own_s - servers_s),
    }


def _processor_s(pids: list[int]) -> tuple[float, float, float]:
    """Processor time of this process, of the servers, and of everything."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    servers = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        servers += int(fields[11]) + int(fields[12])
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, soft, steal = map(int, file.readline().split()[1:9])
    return (
        used.ru_utime + used.ru_stime,
        servers / _TICKS_PER_S,
        (user + nice + system + irq + soft + steal) / _TICKS_PER_S,
    )


def _runner(loop: str) -> Callable[[Coroutine[Any, Any, dict[str, float]]], dict[str, float]]:
    """asyncio.run, or the same on uvloop."""
    if loop == "asyncio":
        return asyncio.run
    import uvloop

    def run(main: Coroutine[Any, Any, dict[str, float]]) -> dict[str, float]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)

    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-addr", required=True, help="addresses of the nodes, with commas between")
    parser.add_argument("-pids", default="", help="the servers' processes, with commas between")
    parser.add_argument("-in-flight", type=int, default=64, help="tasks")
    parser.add_argument("-size", type=int, default=100, help="bytes of a value")
    parser.add_argument("-most", type=int, default=1 << 28, help="bytes of values of a sample")
    parser.add_argument("-seconds", type=float, default=2.0, help="how long is measured")
    parser.add_argument("-warm-up", type=float, default=0.5, help="for how long it runs before that")
    parser.add_argument("-loop", choices=["asyncio", "uvloop"], default="asyncio", help="what the tasks run on")
    parser.add_argument("system", choices=["ours"])
    parser.add_argument("work", choices=["client"])
    given = parser.parse_args()
    print(json.dumps(_runner(given.loop)(measure(given))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench`: measure a node on this machine; print a table, write JSON."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

# gRPC's C core writes to stderr by itself, and prepares for forks that never happen here.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from bench.client import client
from bench.consume import consume
from bench.failover import failover
from bench.machine import Bystanders, describe, is_in_memory
from bench.memory import memory
from bench.opening import opening
from bench.produce import bulk, three_nodes, unary_and_stream
from bench.report import Report
from bench.rounds import Settings
from bench.simulation_speed import simulation_speed

_BUSY: Final = 0.1
ROOT: Final = Path(__file__).resolve().parent.parent
GROUPS: Final[dict[str, Callable[[Settings, Report], Awaitable[None]]]] = {
    "unary": unary_and_stream,
    "bulk": bulk,
    "consume": consume,
    "client": client,
    "three": three_nodes,
    "failover": failover,
    "opening": opening,
    "memory": memory,
    "simulation": simulation_speed,
}


def main() -> int:
    """0 when everything was measured, whether or not a target was reached; 1 when something broke."""
    arguments = _arguments()
    within = os.path.abspath(arguments.directory or tempfile.gettempdir())
    if is_in_memory(within):
        print(f"{within} is in memory, where fsync costs nothing: name a --directory on a disk", file=sys.stderr)
        return 2
    if arguments.json:
        arguments.json = os.path.abspath(arguments.json)
    report = Report()
    began_s = time.monotonic()
    about = describe(within)
    bystanders = Bystanders()
    # Children import these packages from here, whatever the working directory is.
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(prefix="ourolog-bench-", dir=within) as directory:
        settings = (Settings.quick if arguments.quick else Settings)(directory)
        settings = settings.with_rounds(arguments.rounds).with_election(arguments.election)
        broken = _run(arguments.names or list(GROUPS), settings, report)
    run = {"quick": arguments.quick, "rounds": settings.rounds, "took_s": time.monotonic() - began_s}
    others = bystanders.share()
    report.print(
        f"{about['machine']}; {settings.rounds} rounds in {run['took_s']:.0f} s; "
        f"other processes had {others:.0%} of the processors' time meanwhile"
    )
    if others > _BUSY:
        print(f"\nThe machine was busy ({others:.0%}): read processor times; rates and ratios of rates mean little.")
    path = arguments.json or _default_path()
    report.write(path, {**about, **run, "others": others, "broken": broken})
    print(f"\nwritten to {path}")
    if broken:
        print(broken, file=sys.stderr)
    return 1 if broken else 0


def _run(names: list[str], settings: Settings, report: Report) -> str:
    """Measure, and report what went wrong, if anything. What was measured before that is in the report, too."""
    try:
        asyncio.run(_measure(names, settings, report))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return "stopped before everything was measured"
    except Exception:
        return traceback.format_exc()
    return ""


async def _measure(names: list[str], settings: Settings, report: Report) -> None:
    # A SIGTERM unwinds like Ctrl-C, so that nodes are stopped and directories removed.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    for name in names:
        await GROUPS[name](settings, report)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller logs: about a minute")
    parser.add_argument("--rounds", type=int, help="how often each case is measured")
    parser.add_argument("--election", help="of the cluster whose leader fails, in `failover`")
    parser.add_argument("--json", metavar="PATH", help="where the JSON goes; default: bench/results/<time>.json")
    parser.add_argument("--directory", metavar="PATH", help="where the nodes' data goes while it lasts, on a disk")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(GROUPS)}")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in GROUPS:
            parser.error(f"there is no {name}; there are {', '.join(GROUPS)}")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def _default_path() -> str:
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    return str(results / f"{time.strftime('%Y%m%d-%H%M%S')}.json")


if __name__ == "__main__":
    sys.exit(main())

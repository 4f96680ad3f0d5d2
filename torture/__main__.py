"""`python -m torture`: misbehave towards real nodes, and say what that did to them."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import sys
import tempfile
from typing import Final

# gRPC's C core writes to stderr by itself, and prepares for forks that never happen here.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from torture.report import lines_of, summary
from torture.scenario import Scenario, Verdict, run
from torture.scenarios import SCENARIOS

SECONDS: Final = 10.0


def main() -> int:
    """0 when every scenario held, 1 when one did not, 2 for wrong arguments."""
    arguments = _arguments()
    if arguments.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:20} {scenario.what}")
        return 0
    chosen = [scenario for scenario in SCENARIOS if not arguments.only or scenario.name in arguments.only]
    try:
        verdicts = asyncio.run(_play(chosen, arguments.seconds, arguments.directory))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped before every scenario was played", file=sys.stderr)
        return 130
    print(summary(verdicts))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump([dataclasses.asdict(verdict) for verdict in verdicts], file, indent=2)
    return 1 if any(verdict.failures for verdict in verdicts) else 0


async def _play(chosen: list[Scenario], seconds: float, within: str | None) -> list[Verdict]:
    # A SIGTERM unwinds like Ctrl-C, so that nodes are stopped and directories removed.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    verdicts = []
    for scenario in chosen:
        with tempfile.TemporaryDirectory(prefix="ourolog-torture-", dir=within) as directory:
            verdict = await run(scenario, directory, seconds)
        verdicts.append(verdict)
        print("\n".join(lines_of(verdict)), flush=True)
    return verdicts


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m torture", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="only this scenario; repeatable")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long each attack lasts; default %(default)g"
    )
    parser.add_argument("--list", action="store_true", help="say which scenarios there are")
    parser.add_argument("--json", metavar="PATH", help="write what was measured there, too")
    parser.add_argument("--directory", metavar="PATH", help="where the nodes' data goes while it lasts")
    arguments = parser.parse_args()
    names = [scenario.name for scenario in SCENARIOS]
    for name in arguments.only or ():
        if name not in names:
            parser.error(f"there is no {name}; there are {', '.join(names)}")
    if arguments.seconds <= 0:
        parser.error("--seconds must be more than nothing")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

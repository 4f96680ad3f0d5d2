"""`python -m torture.elections`: faults for real nodes that have a leader, and a check of all that clients saw."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from typing import Final

# gRPC's C core writes to stderr by itself, and prepares for forks that never happen here.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from torture.elections.claims import what_does_not_hold
from torture.elections.faults import Fault
from torture.elections.recording import read_history
from torture.elections.run import DEFAULT_ELECTION, Outcome, Plan, lines_of, run

MINUTES: Final = 10.0


def main() -> int:
    """0 when every claim held, 1 when one did not, 2 for wrong arguments, 130 when it was stopped."""
    arguments = _arguments()
    if arguments.check:
        return _check(arguments.check)
    plan = Plan(
        arguments.nodes,
        arguments.minutes * 60,
        int(time.time()) if arguments.seed is None else arguments.seed,
        arguments.election,
        frozenset(Fault(kind) for kind in arguments.only) if arguments.only else frozenset(Fault),
        tuple(arguments.flag),
    )
    directory = tempfile.mkdtemp(prefix="ourolog-elections-", dir=arguments.directory)
    is_kept = False
    try:
        outcome = asyncio.run(_play(plan, directory))
        print("\n".join(lines_of(outcome)))
        if arguments.json:
            with open(arguments.json, "w", encoding="utf-8") as file:
                json.dump(dataclasses.asdict(outcome), file, indent=2)
        is_kept = bool(outcome.failures) or arguments.keep
        if outcome.failures:
            print(f"FAILED with seed {plan.seed}: {outcome.failures[0]}", file=sys.stderr)
            print(f"the history is in {directory}/history.jsonl, the nodes' logs beside it", file=sys.stderr)
            return 1
        print(f"held: seed {plan.seed}, {outcome.took_s:.0f} s")
        if arguments.keep:
            print(f"kept in {directory}")
        return 0
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped before the end", file=sys.stderr)
        return 130
    finally:
        if not is_kept:
            shutil.rmtree(directory, ignore_errors=True)


def _check(path: str) -> int:
    """Check a history once more, by itself: the logs of the nodes are what it read of them."""
    try:
        wrong = what_does_not_hold(read_history(path), {})
    except (OSError, ValueError, KeyError) as error:
        print(f"{path} cannot be read: {error}", file=sys.stderr)
        return 2
    print("\n".join(wrong) or "the history is linearizable")
    return 1 if wrong else 0


async def _play(plan: Plan, directory: str) -> Outcome:
    # A SIGTERM unwinds like Ctrl-C, so that nodes are ended, and namespaces and mounts removed.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(plan, directory, lambda text: print(text, flush=True))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m torture.elections", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long there are faults; default %(default)g")
    parser.add_argument("--nodes", type=int, default=3, help="how many nodes; default %(default)d")
    parser.add_argument("--seed", type=int, help="what the faults are drawn from; default: the time")
    parser.add_argument(
        "--election",
        default=DEFAULT_ELECTION,
        help="the nodes' --election, {voters} standing for the names of all; default %(default)s",
    )
    parser.add_argument("--only", action="append", metavar="FAULT", choices=list(Fault), help="only these; repeatable")
    parser.add_argument("--flag", action="append", default=[], help="one more word for every node's command line")
    parser.add_argument("--json", metavar="PATH", help="write the summary there, too")
    parser.add_argument("--directory", metavar="PATH", help="where the nodes' data goes while it lasts")
    parser.add_argument("--keep", action="store_true", help="leave the history and the nodes' logs, whatever happens")
    parser.add_argument("--check", metavar="HISTORY", help="only check the history in that file once more")
    arguments = parser.parse_args()
    if not 0 < arguments.minutes <= 24 * 60:
        parser.error("--minutes must be more than nothing, and a day at the most")
    if not 1 <= arguments.nodes <= 9:
        parser.error("--nodes must be 1 to 9")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.peers`: measure clusters of ours beside clusters of others, on this machine, in turns."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from rich.console import Console

from bench.machine import Bystanders, describe, is_in_memory
from bench.peers.binaries import ROOT, MissingError, cache_directory
from bench.peers.pairs import SESSIONS
from bench.peers.publish import PublishError, publish
from bench.peers.samples import Span
from bench.peers.session import Settings
from bench.peers.summary import plain
from bench.peers.tables import print_run

_BUSY: Final = 0.1
_MEASURES: Final = (
    "unary, calls64, callsbest, client64, client1000, bulk100, bulk1000, bulk10000, kib, consume, idle, catchup, growth"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything was measured or skipped, whether or not a target was reached; 1 when something broke."""
    given = _parser().parse_args(arguments)
    if given.run:
        with open(given.run, encoding="utf-8") as file:
            run = json.load(file)
        print_run(run)
    else:
        within = os.path.abspath(given.directory or tempfile.gettempdir())
        if is_in_memory(within):
            print(f"{within} is in memory, where fsync costs nothing: name a --directory on a disk", file=sys.stderr)
            return 2
        run = _run(given, within)
        print_run(run)
        path = given.json or _default_path(is_whole=not (given.only or given.measures))
        with open(path, "w", encoding="utf-8") as file:
            json.dump(run, file, indent=1, ensure_ascii=False)
            file.write("\n")
        print(f"\nwritten to {path}")
    if run["others"] > _BUSY:
        print(f"\nThe machine was busy ({run['others']:.0%}): the ratios mean less.")
    if run["broken"]:
        print(run["broken"], file=sys.stderr)
    if given.publish:
        try:
            publish(run, ROOT)
        except PublishError as error:
            print(f"not published: {error}", file=sys.stderr)
            return 1
        print("\nwritten to docs/peers.json, docs/peers.svg and README.md")
    return 1 if run["broken"] else 0


def _run(given: argparse.Namespace, within: str) -> dict[str, Any]:
    """Measure all that was asked for.

    within: where the data goes while it lasts.
    """
    # A SIGTERM unwinds like Ctrl-C, so that servers are stopped and directories removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began_s = time.monotonic()
    about, bystanders = describe(within), Bystanders()
    with tempfile.TemporaryDirectory(prefix="ourolog-peers-", dir=within) as directory:
        settings = _settings(given, directory)
        names = given.only or [name for name in SESSIONS if name != "versions" or given.against]
        sessions, skipped, broken = _measure(names, settings)
    return {
        **about,
        "date": time.strftime("%Y-%m-%d"),
        "quick": given.quick,
        "rounds": settings.rounds,
        "seconds": settings.span.seconds,
        "took_s": time.monotonic() - began_s,
        "others": bystanders.share(),
        "sessions": sessions,
        "skipped": skipped,
        "broken": broken,
    }


def _measure(names: Sequence[str], settings: Settings) -> tuple[list[dict[str, Any]], dict[str, str], str]:
    """The sessions, why which peers were skipped, and what broke. What was measured before that is kept."""
    sessions: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for name in names:
        try:
            # What a session has written is removed before the next one.
            with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
                outcome = SESSIONS[name](replace(settings, directory=directory))
        except MissingError as error:
            skipped[name] = str(error)
            settings.say(f"{name} is skipped: {error}")
        except KeyboardInterrupt:
            return sessions, skipped, "stopped before everything was measured"
        except Exception:
            return sessions, skipped, traceback.format_exc()
        else:
            sessions.append(plain(outcome))
    return sessions, skipped, ""


def _settings(given: argparse.Namespace, directory: str) -> Settings:
    console = Console(stderr=True, highlight=False)
    quick = given.quick
    span = Span(0.3, 0.7, 64 << 20) if quick else Span(0.5, 2.0, 512 << 20)
    return Settings(
        directory=directory,
        rounds=given.rounds or (2 if quick else 5),
        span=Span(span.warm_up_s, given.seconds or span.seconds, span.most_bytes),
        fill_bytes=20_000_000 if quick else 200_000_000,
        warm_up_s=5.0 if quick else 40.0,
        idle_s=5.0 if quick else 20.0,
        copied_bytes=100_000_000 if quick else 1_000_000_000,
        few=20_000 if quick else 100_000,
        many=200_000 if quick else 10_000_000,
        measures=tuple(given.measures or ()),
        against=os.path.abspath(given.against) if given.against else "",
        say=lambda text: console.print(text, style="dim", soft_wrap=True),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench.peers", description=__doc__)
    names = ", ".join(SESSIONS)
    parser.add_argument("--quick", action="store_true", help="two rounds, short samples, small logs")
    parser.add_argument("--rounds", type=_count, help="how often each load takes its turn; default: 5")
    parser.add_argument("--seconds", type=float, help="how long one sample lasts; default: 2")
    parser.add_argument("--only", metavar="PEER,…", type=_peers, help=f"only these of {names}")
    parser.add_argument(
        "--measures",
        metavar="NAME,…",
        type=lambda text: text.split(","),
        help=f"only measures whose names begin so: {_MEASURES}",
    )
    parser.add_argument("--against", metavar="PATH", help="measure the nodes of another checkout beside this one's")
    parser.add_argument("--json", metavar="PATH", help="where the JSON goes; default: bench/results/peers.json")
    parser.add_argument("--run", metavar="PATH", help="measure nothing: take the JSON of an earlier run")
    parser.add_argument(
        "--publish", action="store_true", help="write docs/peers.json, docs/peers.svg and the table in README.md"
    )
    parser.add_argument("--directory", metavar="PATH", help="where the data goes while it lasts, on a disk")
    parser.epilog = f"Programs that are built are kept in {cache_directory()}."
    return parser


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _peers(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in SESSIONS:
            raise argparse.ArgumentTypeError(f"there is no {name}; there are {', '.join(SESSIONS)}")
    return names


def _default_path(*, is_whole: bool) -> str:
    results = os.path.join(ROOT, "bench", "results")
    os.makedirs(results, exist_ok=True)
    return os.path.join(results, "peers.json" if is_whole else "peers-partial.json")


if __name__ == "__main__":
    sys.exit(main())

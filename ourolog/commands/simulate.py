"""`ourolog simulate`: whole clusters in virtual time, under faults drawn from a seed, watched by checkers."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from ourolog.options import RunningError, config_option, election_option, option

if TYPE_CHECKING:
    from ourolog.simulation.options import Options
    from ourolog.sweep import Outcome, Totals

EPILOG = """
\b
Examples:
  ourolog simulate --seed 7                       one run; the same trace hash every time
  ourolog simulate --seeds 500 --nodes 5          a sweep on all cores
  ourolog simulate --seeds 500 --faults kill,partition --election static
  ourolog simulate --seed 7 --report run.html     the run as a page to look at
  ourolog simulate --seeds 100000 --executor dask on a cluster of machines

Ends at the first violation, with a command that replays it and a smaller run
that shows the same. Exit status: 0 no violation, 1 a violation, 2 wrong usage.
"""

_SEEDS = 20


class SeedType(click.ParamType[int]):
    """A number, or a number and the version of the simulation that it means something in: 7 or 7@3."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from ourolog.simulation.options import VERSION

        number, at, version = str(value).strip().partition("@")
        if not number.isascii() or not number.isdigit() or (at and not version.isdigit()):
            self.fail(
                f"{value!r} is no seed: a seed is 0 or more, for instance 7, or 7@{VERSION} with a version.", param, ctx
            )
        if at and int(version) != VERSION:
            self.fail(
                f"seed {number} was made with version {version} of the simulation and means another run in this one, "
                f"version {VERSION}: check out the code it was made with.",
                param,
                ctx,
            )
        return int(number)


@click.command(epilog=EPILOG)
@config_option
@option("--seed", type=SeedType(), metavar="N", help="Run this seed alone.")
@option("--seeds", type=click.IntRange(1), metavar="N", help=f"Run so many seeds.  [default: {_SEEDS}]")
@option("--from", "first", type=click.IntRange(0), default=0, metavar="N", help="With --seeds: the first of them.")
@option("--seed-file", type=click.Path(dir_okay=False), metavar="FILE", help="Run what --save-seed kept.")
@option("--nodes", type=int, default=3, metavar="N", help="How many nodes.")
@election_option(
    default="none",
    help="What fills the election slot. Here static does without names (n1 leads, all vote), and there are also "
    "decrees[:LEADER,…], where people change the leader, disasters[:VOTER,…], where a survivor is recovered, and "
    "oracle[:VOTER,…], which makes safe changes at bad moments.",
)
@option(
    "--cycle", default="break", metavar="break|allow", help="With nobody elected: append copies once, or ever again."
)
@option("--max-hops", type=int, default=4, metavar="N", help="With --cycle allow: how far a copy travels.")
@option("--faults", metavar="LIST", help="Kinds of fault that may happen, or none.  [default: the seed chooses of all]")
@option("--minutes", type=float, default=1.0, metavar="M", help="Virtual minutes with faults, before all must heal.")
@option("--clients", type=int, default=3, metavar="N", help="Producers and consumers, all together.")
@option("--operations", type=int, default=240, metavar="N", help="Operations a virtual minute, all together.")
@option(
    "--report", type=click.Path(dir_okay=False, writable=True), metavar="FILE.html", help="Write the run as a page."
)
@option("--output", type=click.Choice(["text", "json"]), default="text", help="How results are printed.")
@option("--executor", metavar="NAME|MODULE:FACTORY", help="Where seeds run.  [default: processes on all cores]")
@option("--jobs", type=click.IntRange(1), metavar="N", help="So many processes.  [default: one a core]")
@option("--keep-going/--stop-at-first", default=False, help="Run all seeds, whatever fails.")
@option("--must-reach", is_flag=True, help="Fail if a rare state is missed that the mode must reach (200 seeds do).")
@option("--shrink/--no-shrink", "is_shrunk", default=True, help="Look for a smaller run that fails the same way.")
@option(
    "--save-seed", type=click.Path(dir_okay=False, writable=True), metavar="FILE", help="Keep the failing run here."
)
def simulate(**flags: Any) -> int:
    """Simulate a cluster under faults, from a seed.

    The actors are those that serve clients; time, network and disks are simulated. A run is a
    function of the code, the seed and these flags.
    """
    from ourolog.simulation_runs import SimulationRuns

    runs, total = _runs(flags)
    with _ended_by_sigterm():
        return SimulationRuns(
            report=flags["report"],
            is_json=flags["output"] == "json",
            is_shrunk=flags["is_shrunk"],
            save_seed=flags["save_seed"],
            must_reach=flags["must_reach"],
        ).run(runs, total, partial(_sweep, flags))


def _runs(flags: dict[str, Any]) -> tuple[Iterator[Options], int]:
    """What is to be run, and how many that is. Raises click.UsageError."""
    from ourolog.seed_file import SeedFileError, read_seeds
    from ourolog.simulation.options import Options
    from ourolog.sweep import with_seeds

    asked = [name for name in ("seed", "seeds", "seed_file") if flags[name] is not None]
    if len(asked) > 1:
        raise click.UsageError(f"--{asked[0].replace('_', '-')} and --{asked[1].replace('_', '-')} exclude each other.")
    if flags["executor"] and flags["jobs"]:
        raise click.UsageError("--jobs is for processes of this machine; an --executor has its own number.")
    if flags["seed_file"] is not None:
        try:
            kept = read_seeds(flags["seed_file"])
        except SeedFileError as error:
            raise click.UsageError(f"{error}.") from error
        return iter(kept), len(kept)
    try:
        options = Options(
            seed=flags["seed"] or 0,
            nodes=flags["nodes"],
            election=flags["election"],
            cycle=flags["cycle"],
            max_hops=flags["max_hops"],
            faults=_faults(flags["faults"]),
            minutes=flags["minutes"],
            clients=flags["clients"],
            operations=flags["operations"],
        )
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    if flags["seed"] is not None:
        return iter([options]), 1
    count = flags["seeds"] or _SEEDS
    return with_seeds(options, range(flags["first"], flags["first"] + count)), count


def _faults(text: str | None) -> tuple[str, ...] | None:
    match text:
        case None | "any" | "all":
            return None
        case "none" | "":
            return ()
        case _:
            return tuple(name.strip() for name in text.split(",") if name.strip())


def _sweep(flags: dict[str, Any], runs: Iterator[Options], totals: Totals, total: int) -> Iterator[Outcome]:
    """Outcomes as they come, counted in `totals`, with a bar. Raises RunningError for a worker that broke."""
    from concurrent.futures import BrokenExecutor

    from ourolog.executors import UnknownExecutorError, find_factory, opened, processes
    from ourolog.sweep import sweep
    from ourolog.sweep_progress import SweepProgress

    try:
        factory = find_factory(flags["executor"]) if flags["executor"] else partial(processes, flags["jobs"])
        with opened(factory) as executor, SweepProgress(total) as bar:
            for outcome in sweep(runs, executor, keep_going=flags["keep_going"]):
                totals.add(outcome)
                bar.show(totals)
                yield outcome
    except UnknownExecutorError as error:
        raise click.UsageError(f"{error}.") from error
    except BrokenExecutor as error:
        raise RunningError(f"a process of the sweep ended by itself: {error}") from error


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does: the processes of a sweep are taken down on the way out."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

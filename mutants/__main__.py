"""The kill score: every mutant against the simulation, from several starting seeds, as a table.

    python -m mutants [--only NAME[,NAME…]] [--starts N] [--most N] [--jobs N] [--write FILE]

Exits with 1 if any mutant lives.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

from mutants.catalog import MUTANTS
from mutants.child import MINUTES
from mutants.mutant import Mutant

MOST_SEEDS = 200
STARTS = 5
SEEDS_APART = 10_000
PAGE = "docs/mutants.md"


@dataclass(frozen=True, slots=True)
class Score:
    """seeds: how many it took from each starting seed, None where it lived. claims: which checkers saw it."""

    mutant: Mutant
    seeds: tuple[int | None, ...]
    claims: tuple[str, ...]

    @property
    def is_killed(self) -> bool:
        return bool(self.seeds) and None not in self.seeds

    @property
    def median_seeds(self) -> str:
        return f"{median(seeds for seeds in self.seeds if seeds is not None):g}" if self.is_killed else "never"

    @property
    def worst_seeds(self) -> str:
        return str(max(seeds for seeds in self.seeds if seeds is not None)) if self.is_killed else "never"


def hunt(mutant: Mutant, start: int, most_seeds: int) -> tuple[int | None, str]:
    """In a process of its own; the modes take turns from start to start."""
    mode = mutant.modes[start % len(mutant.modes)]
    first_seed = start * SEEDS_APART
    command = [sys.executable, "-m", "mutants.child", mutant.name, mode, str(first_seed), str(most_seeds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found["seeds"], found["claim"]


def score(mutant: Mutant, starts: int, most_seeds: int) -> Score:
    results = [hunt(mutant, start, most_seeds) for start in range(starts)]
    claims = Counter(claim for _, claim in results if claim)
    return Score(mutant, tuple(seeds for seeds, _ in results), tuple(claim for claim, _ in claims.most_common()))


def table(scores: list[Score]) -> str:
    rows = [
        "| mutant | what it does wrong | modes | median seeds | most seeds | caught by |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for one in scores:
        modes = "<br>".join(f"`{mode}`" for mode in one.mutant.modes)
        rows.append(
            f"| {one.mutant.name} | {one.mutant.bug} | {modes} | {one.median_seeds} | {one.worst_seeds} | "
            f"{', '.join(one.claims)} |"
        )
    return "\n".join(rows)


def page(scores: list[Score], starts: int, most_seeds: int) -> str:
    killed = sum(one.is_killed for one in scores)
    return f"""# Does the simulation find bugs?

{killed} of {len(scores)} deliberate bugs are found. Each was put into the code of a process of its own,
which then ran seed after seed, {MINUTES:g} virtual minutes of faults each, three nodes unless a mode says
otherwise, with all faults for the seed to choose from, until a claim was violated; from {starts} starting
seeds, the modes taking turns, and {most_seeds} seeds at most. This page is written by `make mutants`; the
bugs are in `mutants/`, and nothing that is shipped knows of them.

{table(scores)}
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutants", description="Does the simulation find bugs?")
    parser.add_argument("--only", help="names of mutants, with commas; all otherwise")
    parser.add_argument("--starts", type=int, default=STARTS, help="how many starting seeds")
    parser.add_argument("--most", type=int, default=MOST_SEEDS, help="how many seeds from each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--write", metavar="FILE", help=f"where to write the page; {PAGE} unless --only is given")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(MUTANTS)
    unknown = [name for name in names if name not in MUTANTS]
    if unknown:
        parser.error(f"there is no mutant {unknown[0]}: there are {', '.join(MUTANTS)}")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = [pool.submit(score, MUTANTS[name], arguments.starts, arguments.most) for name in names]
        scores = []
        for future in futures:
            one = future.result()
            scores.append(one)
            print(
                f"{one.mutant.name:28} {one.median_seeds:>6} {one.worst_seeds:>6}  {', '.join(one.claims)}", flush=True
            )
    path = arguments.write or (None if arguments.only else PAGE)
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(page(scores, arguments.starts, arguments.most))
    living = [one.mutant.name for one in scores if not one.is_killed]
    print(f"{len(scores) - len(living)} of {len(scores)} killed" + (f"; alive: {', '.join(living)}" if living else ""))
    return 1 if living else 0


if __name__ == "__main__":
    sys.exit(main())

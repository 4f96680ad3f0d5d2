"""The kill score: every mutant against the simulation, from several starting seeds, as a table.

    python -m mutants [--only NAME[,NAME…]] [--starts N] [--most N] [--jobs N] [--write FILE] [--merge]

With --merge what the page says of mutants that were not run stays, and those that are gone vanish.
Exits with 1 if any mutant lives, or does not fit the code any more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mutants.catalog import MUTANTS
from mutants.child import MINUTES
from mutants.mutant import Mutant
from ourolog.child_processes import child_environment, python_command

MOST_SEEDS = 200
STARTS = 3
SEEDS_APART = 10_000
PAGE = "docs/mutants.md"
LIVES = "never"
COLUMNS = ("mutant", "what it does wrong", "modes", "median seeds", "most seeds", "caught by")


@dataclass(frozen=True, slots=True)
class Score:
    """How soon the simulation found a mutant.

    mutant: the mutant.
    median, most: how many seeds it took from the starting seeds; None where it lived.
    claims: which checkers saw it, the one that saw it most often first.
    """

    mutant: Mutant
    median: float | None
    most: int | None
    claims: tuple[str, ...]

    @property
    def is_killed(self) -> bool:
        return self.median is not None

    def row(self) -> str:
        modes = "<br>".join(f"`{mode}`" for mode in self.mutant.modes)
        median_seeds, most = (f"{self.median:g}", str(self.most)) if self.is_killed else (LIVES, LIVES)
        return (
            f"| {self.mutant.name} | {self.mutant.bug} | {modes} | {median_seeds} | {most} | {', '.join(self.claims)} |"
        )

    @classmethod
    def of_row(cls, row: str) -> Score | None:
        """The score on a row of the page; None if the row is of a mutant that no longer exists."""
        cells = [cell.strip() for cell in row.strip().strip("|").split(" | ")]
        if len(cells) != len(COLUMNS) or cells[0] not in MUTANTS:
            return None
        is_killed = cells[3] != LIVES
        claims = tuple(claim for claim in cells[5].split(", ") if claim)
        return cls(
            MUTANTS[cells[0]], float(cells[3]) if is_killed else None, int(cells[4]) if is_killed else None, claims
        )


def hunt(mutant: Mutant, start: int, most_seeds: int) -> tuple[int | None, str]:
    """Look for one mutant, in a process of its own; the modes take turns from start to start."""
    mode = mutant.modes[start % len(mutant.modes)]
    first_seed = start * SEEDS_APART
    command = python_command("-m", "mutants.child", mutant.name, mode, str(first_seed), str(most_seeds))
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found["seeds"], found["claim"]


def score(mutant: Mutant, starts: int, most_seeds: int) -> Score:
    results = [hunt(mutant, start, most_seeds) for start in range(starts)]
    claims = Counter(claim for _, claim in results if claim)
    seeds = [tried for tried, _ in results if tried is not None]
    is_killed = len(seeds) == len(results)
    return Score(
        mutant,
        median(seeds) if is_killed else None,
        max(seeds) if is_killed else None,
        tuple(claim for claim, _ in claims.most_common()),
    )


def rows_of(text: str) -> dict[str, Score]:
    """The scores on a page, of mutants that still exist."""
    scores = (Score.of_row(line) for line in text.splitlines() if line.startswith("| "))
    return {one.mutant.name: one for one in scores if one is not None}


def page(scores: dict[str, Score], starts: int, most_seeds: int) -> str:
    """All mutants in the order of their registration; those without a score are left out."""
    counted = [scores[name] for name, mutant in MUTANTS.items() if name in scores and not mutant.equivalent]
    killed = sum(one.is_killed for one in counted)
    table = "\n".join(
        (f"| {' | '.join(COLUMNS)} |", "| --- | --- | --- | ---: | ---: | --- |", *(one.row() for one in counted))
    )
    return f"""# Does the simulation find bugs?

{killed} of {len(counted)} deliberate bugs are found. Each was put into the code of a process of its own,
which then ran seed after seed, {MINUTES:g} virtual minutes of faults each, three nodes unless a mode says
otherwise, with all faults for the seed to choose from, until a claim was violated; from {starts} starting
seeds, the modes taking turns, and {most_seeds} seeds at most. This page is written by `make mutants`; the
bugs are in `mutants/`, and nothing that is shipped knows of them.

{table}
{equivalents()}"""


def equivalents() -> str:
    """The mutants that no run within the fault budget can tell from the right code, and why; they are not hunted."""
    equivalent = [mutant for mutant in MUTANTS.values() if mutant.equivalent]
    if not equivalent:
        return ""
    rows = "\n".join(f"| {mutant.name} | {mutant.bug} | {mutant.equivalent} |" for mutant in equivalent)
    return f"""
## Bugs that no run can show

Within what the faults of a run may break, these cannot be told from the right code. They are not counted above.

| mutant | what it does wrong | why no run shows it |
| --- | --- | --- |
{rows}
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutants", description="Does the simulation find bugs?")
    parser.add_argument("--only", help="names of mutants, with commas; all otherwise")
    parser.add_argument("--starts", type=int, default=STARTS, help="how many starting seeds")
    parser.add_argument("--most", type=int, default=MOST_SEEDS, help="how many seeds from each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--write", metavar="FILE", help=f"where to write the page; {PAGE} unless --only is given")
    parser.add_argument("--merge", action="store_true", help="keep what the page says of mutants that are not run now")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else [n for n, one in MUTANTS.items() if not one.equivalent]
    unknown = [name for name in names if name not in MUTANTS]
    if unknown:
        parser.error(f"there is no mutant {unknown[0]}: there are {', '.join(MUTANTS)}")
    path = Path(arguments.write or PAGE) if arguments.write or arguments.merge or not arguments.only else None
    scores = rows_of(path.read_text(encoding="utf-8")) if path is not None and arguments.merge and path.exists() else {}
    living, broken = [], []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {pool.submit(score, MUTANTS[name], arguments.starts, arguments.most): name for name in names}
        for future in as_completed(futures):
            name = futures[future]
            try:
                one = future.result()
            except RuntimeError as error:
                # One mutant that no longer fits the code must not cost the results of the others.
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                broken.append(name)
                scores.pop(name, None)
                continue
            scores[name] = one
            if not one.is_killed and not one.mutant.equivalent:
                living.append(name)
            print(f"{name:28} {one.median or LIVES:>6} {one.most or LIVES:>6}  {', '.join(one.claims)}", flush=True)
            if path is not None:
                path.write_text(page(scores, arguments.starts, arguments.most), encoding="utf-8")
    print(
        f"{len(names) - len(living) - len(broken)} of {len(names)} killed"
        + (f"; alive: {', '.join(sorted(living))}" if living else "")
        + (f"; could not be run: {', '.join(sorted(broken))}" if broken else "")
    )
    return 1 if living or broken else 0


if __name__ == "__main__":
    sys.exit(main())

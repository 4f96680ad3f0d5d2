"""One mutant in a process of its own: apply it, run seeds until a checker notices it, and report that as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from mutants.catalog import MUTANTS
from ourolog.child_processes import child_environment, python_command
from ourolog.simulation import Options, simulate
from ourolog.simulation.run_claims import SAME_SEED_SAME_TRACE

MINUTES = 0.5


def options_of(mode: str, seed: int) -> Options:
    """The options of a run with that seed.

    mode: flags of `ourolog simulate`, e.g. `--election static --nodes 5`.
    """
    words = mode.split()
    values: dict[str, Any] = {"minutes": MINUTES}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        name = flag.removeprefix("--")
        values[name] = tuple(value.split(",")) if name == "faults" else int(value) if value.isdecimal() else value
    return Options(seed, **values)


def hunt(name: str, mode: str, first_seed: int, most_seeds: int) -> dict[str, Any]:
    """How many seeds from first_seed on it takes to notice the mutant, and which claim does."""
    mutant = MUTANTS[name]
    mutant.apply()
    for tried in range(1, most_seeds + 1):
        options = options_of(mode, first_seed + tried - 1)
        if mutant.is_disorder:
            hashes = {_hash_elsewhere(name, mode, options.seed, hash_seed) for hash_seed in ("1", "2", "3")}
            claim = SAME_SEED_SAME_TRACE.name if len(hashes) > 1 else ""
        else:
            violations = simulate(options).violations
            claim = violations[0].claim if violations else ""
            if violations and isinstance(violations[0].__cause__, TypeError | AttributeError | NameError):
                raise RuntimeError(f"{name} does not fit the code any more: {violations[0]}")
        if claim:
            return {"seeds": tried, "claim": claim}
    return {"seeds": None, "claim": ""}


def _hash_elsewhere(name: str, mode: str, seed: int, hash_seed: str) -> str:
    """The trace hash of that seed in a process whose sets are ordered differently."""
    command = python_command("-m", "mutants.child", "hash", name, mode, str(seed))
    environment = {**child_environment(), "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def main(arguments: list[str]) -> None:
    if arguments[0] == "hash":
        _, name, mode, seed = arguments
        MUTANTS[name].apply()
        print(simulate(options_of(mode, int(seed))).trace_hash)
    else:
        name, mode, first_seed, most_seeds = arguments
        print(json.dumps(hunt(name, mode, int(first_seed), int(most_seeds))))


if __name__ == "__main__":
    main(sys.argv[1:])

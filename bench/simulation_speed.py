"""How fast the simulation is: virtual time for each second of one core, and seeds in a core-minute."""

from __future__ import annotations

import time
from typing import Final

from bench.report import Report, number
from bench.rounds import Settings
from ourolog.simulation.faults import KINDS
from ourolog.simulation.options import Options
from ourolog.simulation.simulate import simulate

_NODES: Final = (3, 5, 9)
_SEEDS_A_ROUND: Final = 3
_LIMIT: Final = 100


async def simulation_speed(settings: Settings, report: Report) -> None:
    """Seeds of one virtual minute with every kind of fault on, all checkers watching, by processor time.

    "under load": three nodes that are never down, so that they work all the time.
    """
    for round_number in range(settings.rounds):
        for election in ("none", "static"):
            for nodes in _NODES:
                report.progress(f"simulation, round {round_number + 1} of {settings.rounds}: {nodes} {election}")
                _sample(report, f"{nodes} nodes, {election}", round_number, nodes, election, tuple(sorted(KINDS)))
            report.progress(f"simulation, round {round_number + 1} of {settings.rounds}: under load")
            _sample(report, f"3 nodes under load, {election}, no faults", round_number, 3, election, ())
    for election in ("none", "static"):
        median = report.all[f"simulate 3 nodes under load, {election}, no faults"].median
        report.target(
            f"simulate 3 nodes under load, {election}",
            f"{number(median)} virtual s a second of one core",
            f">= {_LIMIT}",
            met=median >= _LIMIT,
        )


def _sample(report: Report, name: str, round_number: int, nodes: int, election: str, faults: tuple[str, ...]) -> None:
    began_s = time.process_time()
    virtual_s = 0.0
    for number_in_round in range(_SEEDS_A_ROUND):
        seed = round_number * _SEEDS_A_ROUND + number_in_round
        result = simulate(Options(seed=seed, nodes=nodes, election=election, faults=faults))
        assert not result.violations, f"seed {seed} of {name}: {result.violations}"
        virtual_s += result.virtual_seconds
    took_s = time.process_time() - began_s
    report.series(f"simulate {name}", "virtual s/s", group="simulation").add(virtual_s / took_s)
    seeds = report.series(f"seeds a core-minute, {name}", "seeds/min", group="simulation")
    seeds.add(_SEEDS_A_ROUND * 60 / took_s)

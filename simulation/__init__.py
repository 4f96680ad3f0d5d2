"""The cluster simulation: whole clusters in virtual time, under faults, every failure repeatable from a number.

    from simulation import Cluster, Options, simulate

`Cluster` is for your own tests; `simulate` runs one seed with everything on.
"""

from simulation.checker import Checker, Violation, World
from simulation.client import Client, OutcomeUnknownError, OutOfRangeError, Record, RefusedError
from simulation.cluster import Cluster
from simulation.faults import KINDS
from simulation.nemesis import Nemesis
from simulation.options import VERSION, Options, OtherVersionError, replay_command
from simulation.simulate import Result, simulate

__all__ = [
    "KINDS",
    "VERSION",
    "Checker",
    "Client",
    "Cluster",
    "Nemesis",
    "Options",
    "OtherVersionError",
    "OutOfRangeError",
    "OutcomeUnknownError",
    "Record",
    "RefusedError",
    "Result",
    "Violation",
    "World",
    "replay_command",
    "simulate",
]

"""The cluster simulation: whole clusters in virtual time, under faults, where a number is enough to repeat any failure.

    from ourolog.simulation import Cluster, Options, simulate

`Cluster` is for your own tests; `simulate` runs one seed with everything on.
"""

from ourolog.simulation.checker import Checker, Violation, World
from ourolog.simulation.client import Client, OutcomeUnknownError, OutOfRangeError, Record, RefusedError
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.faults import KINDS
from ourolog.simulation.nemesis import Nemesis
from ourolog.simulation.options import VERSION, Options, OtherVersionError, replay_command
from ourolog.simulation.simulate import Result, simulate

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

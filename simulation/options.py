"""The inputs of a run besides the code: the seed and the options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from ourolog.actors.config import Cycle, ElectionChoice
from ourolog.actors.occupants import parse_election
from ourolog.simulation.faults import check_kinds
from ourolog.simulation.oracle_election import ORACLE, SIMULATED_OCCUPANTS
from ourolog.storage.types import NodeId

VERSION = 5
"""Changes when the same seed and options come to mean another run."""

MAX_NODES = 32
DECREES = "decrees"
DISASTERS = "disasters"
RAFT = "raft"
"""The election in which a vote belongs to a disk: who has lost it is another voter (KIP-853)."""


_KNOWN_AS = {DECREES: "static", DISASTERS: RAFT}
"""What nodes know of modes that are the simulation's own."""


class OtherVersionError(ValueError):
    """The options were written by a version in which the same seed means another run."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one run. Raises ValueError with a sentence for whoever typed them.

    seed: what everything that is left to chance is drawn from.
    nodes: how many nodes the cluster has.
    election: what `--election` says, for instance none, static:n2,n1, raft or an installed one. Besides, oracle (an
        oracle changes who leads), decrees (as static, and people decree other leaders in mid-run) and disasters (as
        raft, and a survivor is recovered). Where no voters are named, the first three nodes vote.
    cycle, max_hops: what becomes of copies with nobody elected, as in NodeConfig.
    faults: names of `ourolog.simulation.faults.KINDS`; None lets the seed choose among all, () is none.
    minutes: virtual minutes of the safety phase.
    clients: how many producers and consumers there are, all together.
    operations: how many operations the clients begin in a virtual minute, all together.
    """

    seed: int
    nodes: int = 3
    election: str = "none"
    cycle: str = "break"
    max_hops: int = 4
    faults: tuple[str, ...] | None = None
    minutes: float = 1.0
    clients: int = 3
    operations: int = 240

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"a seed is 0 or more, not {self.seed}")
        if not 1 <= self.nodes <= MAX_NODES:
            raise ValueError(f"a simulated cluster has 1 to {MAX_NODES} nodes, not {self.nodes}")
        if self.cycle not in tuple(Cycle):
            raise ValueError(f"unknown cycle {self.cycle!r}: use break or allow")
        if not 1 <= self.max_hops <= 64:
            raise ValueError(f"max_hops is 1 to 64, not {self.max_hops}")
        if not 0 <= self.minutes <= 100_000:
            raise ValueError(f"minutes is 0 to 100000, not {self.minutes}")
        if not 0 <= self.clients <= 1000:
            raise ValueError(f"clients is 0 to 1000, not {self.clients}")
        if not 0 <= self.operations <= 1_000_000:
            raise ValueError(f"operations is 0 to 1000000 a minute, not {self.operations}")
        if self.faults is not None:
            object.__setattr__(self, "faults", check_kinds(self.faults))
        self.election_choice()

    def node_ids(self) -> tuple[NodeId, ...]:
        return tuple(NodeId(f"n{number}") for number in range(1, self.nodes + 1))

    def election_choice(self) -> ElectionChoice:
        """What fills the election slot of every node. Raises ValueError."""
        return self.choice_of(self.election)

    def choice_of(self, election: str) -> ElectionChoice:
        """What a node of this cluster does when started with that `--election`. Raises ValueError."""
        name, colon, argument = election.strip().partition(":")
        text = f"{_KNOWN_AS.get(name, name)}{colon}{argument}"
        choice = parse_election(text, self.node_ids()[:3], SIMULATED_OCCUPANTS)
        if choice.elects and not choice.voters:
            raise ValueError(f"a simulation has to know who votes, and the election {choice} does not say so")
        strangers = [voter for voter in choice.voters if voter not in self.node_ids()]
        if strangers:
            raise ValueError(f"the election names {strangers[0]}, and the nodes are {', '.join(self.node_ids())}")
        return choice

    @property
    def has_oracle(self) -> bool:
        """Whether an oracle says who leads."""
        return self.election_choice().name == ORACLE

    @property
    def is_vote_of_disk(self) -> bool:
        """Whether a voter is a node with a certain disk, so that a node with a new disk has no vote."""
        return self.election_choice().name == RAFT

    @property
    def decrees_change(self) -> bool:
        """Whether people decree other leaders while the cluster runs."""
        return self.election.strip().partition(":")[0] == DECREES

    @property
    def has_disaster(self) -> bool:
        """Whether a majority of the voters is lost at once, and a survivor is recovered."""
        return self.election.strip().partition(":")[0] == DISASTERS

    def to_text(self) -> str:
        """One line that `parse` reads, beginning with the version."""
        words = [f"version={VERSION}"]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "faults":
                value = "any" if value is None else ",".join(value) or "none"
            words.append(f"{field.name}={value}")
        return shlex.join(words)

    @classmethod
    def parse(cls, text: str) -> Options:
        """The options that `to_text` wrote.

        Raises OtherVersionError when another version wrote them, ValueError for any other text.
        """
        try:
            words = shlex.split(text)
        except ValueError:
            words = []  # unbalanced quotes
        if not words or not all(re.fullmatch(r"[a-z_]+=.+", word) for word in words):
            raise ValueError(f"these are no options of a simulation: {text.strip()!r}")
        values = dict(word.split("=", 1) for word in words)
        version = values.pop("version", "")
        if version != str(VERSION):
            raise OtherVersionError(
                f"seed {values.get('seed', '?')} was made with version {version or 'unknown'} of the simulation and "
                f"means another run in this one, version {VERSION}: check out the code it was made with"
            )
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown or "seed" not in values:
            raise ValueError(f"these are no options of a simulation: {text.strip()!r}")
        return cls(**{name: _PARSERS[name](value) for name, value in values.items()})


def _parse_faults(text: str) -> tuple[str, ...] | None:
    match text:
        case "any":
            return None
        case "none":
            return ()
        case _:
            return tuple(text.split(","))


_PARSERS: dict[str, Callable[[str], Any]] = {
    "seed": int,
    "nodes": int,
    "election": str,
    "cycle": str,
    "max_hops": int,
    "faults": _parse_faults,
    "minutes": float,
    "clients": int,
    "operations": int,
}


def replay_command(options: Options) -> str:
    """The command that runs exactly this again. Flags at their defaults are left out."""
    words = ["ourolog", "simulate", "--seed", str(options.seed)]
    defaults = Options(seed=0)
    for name in ("nodes", "election", "cycle", "max_hops", "faults", "minutes", "clients", "operations"):
        value = getattr(options, name)
        if value == getattr(defaults, name):
            continue
        if name == "faults":
            value = ",".join(value) or "none"
        words += [f"--{name.replace('_', '-')}", f"{value:g}" if name == "minutes" else str(value)]
    return shlex.join(words)

"""The occupants of the election slot, by the name that `--election NAME[:ARGUMENT]` gives them.

Those that come with Ourolog are in a table. Others are installed: a package names its `ElectionActor` as an
entry point of the group `ourolog.elections`, and docs/election.md shows how. The occupant reads its argument
itself, by its `choose`; the `ElectionChoice` that it makes is all that the rest of a node knows about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from ourolog.actors.config import ElectionChoice
from ourolog.actors.election.none import NoElection
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.election.raft.election import RaftElection
from ourolog.actors.election.static import StaticElection
from ourolog.storage.types import NodeId

GROUP: Final = "ourolog.elections"
"""The group of entry points by which other packages install occupants."""

Occupants = Mapping[str, type[ElectionActor]]

OCCUPANTS: Final[Occupants] = MappingProxyType({"none": NoElection, "static": StaticElection, "raft": RaftElection})
"""Those that need not be installed. An entry point cannot replace one of these."""


def parse_election(text: str, nodes: tuple[NodeId, ...] = (), occupants: Occupants = OCCUPANTS) -> ElectionChoice:
    """The meaning of `--election`, by its occupant. Raises ValueError with a sentence for the person who typed it.

    nodes: those that the cluster will have, where that is known; an occupant may take its voters from them.
    occupants: those that need not be installed.
    """
    if not text.isprintable():
        raise ValueError(f"an election is one line of text, not {text!r}")
    name, _, argument = text.strip().partition(":")
    choice = find_occupant(name, occupants).choose(name, argument.strip(), nodes)
    if choice.name != name:
        raise ValueError(f"the election {name!r} calls itself {choice.name!r}")
    return choice


def find_occupant(name: str, occupants: Occupants = OCCUPANTS) -> type[ElectionActor]:
    """The occupant of that name, from the table or installed. Raises ValueError, which lists those that exist."""
    found = occupants.get(name)
    return found if found is not None else _installed(name, tuple(occupants))


@cache  # a simulation starts nodes by the thousand
def _installed(name: str, others: tuple[str, ...]) -> type[ElectionActor]:
    from importlib.metadata import entry_points  # few nodes look for one, and it loads an email parser

    points = entry_points(group=GROUP)
    named = [point for point in points if point.name == name]
    if not named:
        known = ", ".join(dict.fromkeys((*others, *sorted(point.name for point in points))))
        raise ValueError(f"unknown election {name!r}: choose one of {known}")
    where = " and ".join(sorted(point.value for point in named))
    if len(named) > 1:
        raise ValueError(f"several packages install an election named {name!r}: {where}")
    try:
        found: Any = named[0].load()
    except Exception as error:  # whatever the import of an unknown module raises
        raise ValueError(
            f"the election {name!r} cannot be loaded from {where}: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, ElectionActor)):
        raise ValueError(f"the election {name!r} is no ElectionActor: {where}")  # noqa: TRY004  # it was typed
    return found

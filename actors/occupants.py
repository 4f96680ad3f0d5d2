"""What can fill the election slot, by the name that `--election` gives it."""

from __future__ import annotations

from ourolog.actors.election.none import NoElection
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.election.static import StaticElection

OCCUPANTS: dict[str, type[ElectionActor]] = {"none": NoElection, "static": StaticElection}
"""What `--election` can name. Another occupant registers here; see docs/election.md."""

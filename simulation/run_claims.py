"""The claims that no checker watches: the code that runs, or repeats, a run checks them itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ourolog.simulation.checker import Violation


@dataclass(frozen=True, slots=True)
class RunClaim:
    """A claim about a run as a whole.

    name: short, as in reports and on the command line.
    statement: the claim as a sentence.
    """

    name: str
    statement: str

    def violated(self, detail: str, time_s: float) -> Violation:
        """The violation that says what was seen instead."""
        return Violation(self.name, detail, time_s)


NO_ACTOR_RAISES: Final = RunClaim("no_actor_raises", "No actor ends in an exception that it does not handle.")
NO_NODE_FAILS_WITHOUT_A_CAUSE: Final = RunClaim(
    "no_node_fails_without_a_cause", "A process ends by itself only after its machine or its disk has failed it."
)
A_HEALTHY_CORE_MAKES_PROGRESS: Final = RunClaim(
    "a_healthy_core_makes_progress",
    "A healthy, connected core acknowledges records within a bounded time while the rest stays broken.",
)
NODES_CONVERGE_AFTER_HEALING: Final = RunClaim(
    "nodes_converge_after_healing",
    "Within a bounded time after the last fault and the last client, all nodes serve clients, and every pull has "
    "brought all that its source has.",
)
RECOVERED_WRITABLE: Final = RunClaim(
    "recovered_writable",
    "A survivor that was recovered and runs acknowledges records within a bounded time, whatever nodes of the former "
    "generation do.",
)
CLAIMS_ARE_WATCHED: Final = RunClaim("claims_are_watched", "At least one claim is shown an event of the run.")
SAME_SEED_SAME_TRACE: Final = RunClaim(
    "same_seed_same_trace", "A run is a function of the code, its seed and its options, in whatever process it runs."
)
THE_TEST_PASSES: Final = RunClaim("the_test_passes", "The test that drives the cluster ends without an exception.")

RUN_CLAIMS: Final[dict[str, RunClaim]] = {
    claim.name: claim
    for claim in (
        NO_ACTOR_RAISES,
        NO_NODE_FAILS_WITHOUT_A_CAUSE,
        A_HEALTHY_CORE_MAKES_PROGRESS,
        NODES_CONVERGE_AFTER_HEALING,
        RECOVERED_WRITABLE,
        CLAIMS_ARE_WATCHED,
        SAME_SEED_SAME_TRACE,
        THE_TEST_PASSES,
    )
}
"""All these claims by name."""

STATEMENTS: Final[dict[str, str]] = {claim.name: claim.statement for claim in RUN_CLAIMS.values()}
"""The sentence of each claim."""

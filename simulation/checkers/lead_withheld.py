"""Who does not lead, though a person said so."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged
from ourolog.simulation.checkers.log_end_answers import AnswersChecker
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold


class LeadWithheldForCause(AnswersChecker):
    """Looks, where a person is called, for a voter whose answer was ahead of the node's log when it came.

    The log of a node that leads grows, and voters copy it. Judged by where it ended once, each of them is ahead.
    """

    name: ClassVar[str] = "lead_withheld_for_cause"
    statement: ClassVar[str] = (
        "A decreed leader leaves the lead to a person only if a voter, when it was asked last, was ahead of the log "
        "that the node had when the answer came, or had another entry at the same end."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told[LeaderChanged] = self._on_leader_changed

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed, node = told.message, self.decreed_leader(told, "replicator")
        assert isinstance(changed, LeaderChanged)
        if node is None or changed.leader_id is not None or not changed.needs_person:
            return
        answers = self.answers_of(node.node_id)
        if not answers.ahead:
            ends = ", ".join(f"{voter} at {answer.end.index}" for voter, answer in sorted(answers.told.items()))
            raise self.violated(
                f"{node.node_id} leaves the lead of term {changed.term} to a person, and no voter was ahead of its "
                f"log, which ends at {node.log.end.index}: {ends or 'none has answered'}"
            )

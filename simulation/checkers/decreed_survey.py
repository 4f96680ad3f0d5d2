"""Who may lead because a person said so: first the voters are asked."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.store import SaveBallot
from ourolog.simulation.checkers.log_end_answers import AnswersChecker, KnownEnd
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.types import NodeId, Term


class DecreedLeaderAsked(AnswersChecker):
    """Judges each decision to lead, when the ballot is handed to the store, by what the node has heard until then.

    Nothing is asked of who was told to lead without asking (`--force-lead`), or is the only voter. While its own disk
    lies, or has just lost something, it is not known who was ahead; that enough have answered is held all the same.
    """

    name: ClassVar[str] = "decreed_leader_asked"
    statement: ClassVar[str] = (
        "A decreed leader that was not forced begins to lead a term only once a majority of the voters, it among "
        "them, has answered since it asked them, none of them ahead of its log or with another entry at its end."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told[SaveBallot] = self._on_save_ballot
        self.on_told[LeaderChanged] = self._on_leader_changed
        self.after_handling = self._judge
        self._deciding: dict[NodeId, Term] = {}
        self._objections: dict[tuple[NodeId, Term], str] = {}

    def _on_started(self, event: NodeStarted) -> None:
        super()._on_started(event)
        self._deciding.pop(event.node_id, None)

    def _on_save_ballot(self, told: MessageTold) -> None:
        save, node = told.message, self.decreed_leader(told, "store")
        assert isinstance(save, SaveBallot)
        if node is not None and save.ballot.leader_id == node.node_id:
            self._deciding[node.node_id] = save.ballot.term

    def _judge(self, node_id: NodeId) -> None:
        """The election has come to the end of the message on which it decided, which may be an answer."""
        term = self._deciding.pop(node_id, None)
        if term is not None:
            self._objections[(node_id, term)] = self._objection(self.model.nodes[node_id])
            self.answers_of(node_id).forget()

    def _objection(self, node: NodeModel) -> str:
        """Why this node must not lead, "" if nothing is known to be in the way."""
        assert node.config is not None
        voters, own = node.config.election.voters, KnownEnd.of(node)
        heard = self.answers_of(node.node_id)
        answers = {voter: heard.handled[voter] for voter in voters if voter in heard.handled}
        for voter, answer in answers.items():
            if own is not None and voter not in heard.doubtful and own.is_passed_by(answer):
                return (
                    f"with a log that ends at {own.last[1]} in term {own.last[0]}, made by {own.writer}, and {voter} "
                    f"had answered that its log ends at {answer.end.index} with {answer.last}"
                )
        count = len(answers) + 1
        if 2 * count <= len(voters):
            return f"and only {count} of {len(voters)} voters, it among them, had said where their logs end"
        return ""

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed, node = told.message, self.decreed_leader(told, "replicator")
        assert isinstance(changed, LeaderChanged)
        if node is None or changed.leader_id != node.node_id:
            return
        objection = self._objections.pop((node.node_id, changed.term), "and has never decided to")
        if objection:
            raise self.violated(f"{node.node_id} leads term {changed.term} {objection}")

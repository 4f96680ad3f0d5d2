"""Who answers a voter says in which term it is: neither a later one than is on its disk, nor an earlier one."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.peer_calls import CallAnswer, TermResponse, VoteResponse
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold


class AnswersNamePresentTerm(EventChecker):
    """Compares answers with the ballot that the store of the node that answers has saved last.

    Between a ballot that an election wants saved and the word of its store that it is, it answers nobody.
    """

    name: ClassVar[str] = "answers_name_present_term"
    statement: ClassVar[str] = (
        "Each answer to a vote, to a leader's announcement or to a hand-over names the term of the ballot that is then "
        "on the disk of the node that answers: otherwise who is behind would never hear of it (Raft section 5.1)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {CallAnswer: self._on_answer}

    def _on_answer(self, told: MessageTold) -> None:
        answer, node = told.message, self.model.sender_of(told)
        assert isinstance(answer, CallAnswer)
        response = answer.response
        if not isinstance(response, VoteResponse | TermResponse) or node is None or node.spoiled:
            return
        if response.term != node.ballot.term:
            raise self.violated(
                f"{node.node_id} answers as if it were in term {response.term}, and the ballot on its disk is of term "
                f"{node.ballot.term}"
            )

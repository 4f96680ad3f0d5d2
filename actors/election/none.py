"""`--election none`: nobody leads."""

from __future__ import annotations

from ourolog.actors.config import ElectionChoice
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.election import ElectionMessage
from ourolog.actors.messages.events import LogOpened, NobodyElected
from ourolog.storage.types import NodeId


class NoElection(ElectionActor):
    """`--election none`: nobody leads, so everyone pulls from everyone."""

    @classmethod
    def choose(cls, name: str, argument: str, nodes: tuple[NodeId, ...] = ()) -> ElectionChoice:
        del nodes
        if argument:
            raise ValueError(f"{name} takes nothing, and was given {argument!r}")
        return ElectionChoice(name, elects=False)

    def on_receive(self, message: ElectionMessage) -> None:
        match message:
            case LogOpened():
                self._on_log_opened(message)
            case _:
                super().on_receive(message)

    def _on_log_opened(self, opened: LogOpened) -> None:
        term = max(opened.ballot.term, opened.terms.last_term)
        if term > 0:
            # Entries of this log have terms; entries appended without a leader would be attributed to one.
            self.refuse_to_run(
                f"this data directory belongs to a cluster with a leader (term {term}); "
                "start the node with the --election it had, or on an empty --data-dir"
            )
        else:
            self.announce(NobodyElected())

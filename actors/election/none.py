"""`--election none`: nobody leads."""

from __future__ import annotations

from typing import assert_never

from ourolog.actors.config import ElectionChoice
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.election import ClaimHeard, ElectionMessage, HigherTermSeen
from ourolog.actors.messages.events import (
    LogAppended,
    LogCut,
    LogOpened,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    NobodyElected,
)
from ourolog.actors.messages.status import ReportStatus
from ourolog.actors.messages.store import BallotSaved, LogDescribed
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
                term = max(message.ballot.term, message.terms.last_term)
                if term > 0:
                    # Its entries have terms; entries appended without a leader would forge one.
                    self.refuse_to_run(
                        f"this data directory belongs to a cluster with a leader (term {term}); "
                        "start the node with the --election it had, or on an empty --data-dir"
                    )
                else:
                    self.announce(NobodyElected())
            case ReportStatus():
                self.report(message, "peer", ())
            case ClaimHeard():
                self.hear_claim(message)
            case MemberFailed() | MemberLeft():
                self.drop_claim(message)
            case MemberJoined() | MemberUpdated() | BallotSaved() | LogDescribed() | HigherTermSeen():
                pass
            case LogAppended() | LogCut():
                pass
            case _:
                assert_never(message)

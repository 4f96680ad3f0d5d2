"""`--election static:<leader>[,<voter>…]`: a person decreed who leads."""

from __future__ import annotations

from typing import Any

from ourolog.actors.config import ElectionChoice, voters_named
from ourolog.actors.election.log_end_survey import Findings, LogEndSurvey
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.election import ElectionMessage, HigherTermSeen, LeaderHinted, SurveyDue
from ourolog.actors.messages.events import LeaderChanged, LogOpened, MemberJoined, MemberUpdated, VotersChanged
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    LogEndRequest,
    LogEndResponse,
)
from ourolog.actors.messages.store import BallotSaved, DescribeLog, LogDescribed, SaveBallot
from ourolog.actors.terms import is_ahead, step_towards
from ourolog.storage.ballot import Ballot
from ourolog.storage.types import Index, NodeId, Term


class StaticElection(ElectionActor):
    """The occupant for a leader that a person decreed. There are terms, but no votes.

    The leader takes a new term whenever it starts, as an elected one would: what it appends after a restart can
    then never be taken for what it may have lost before. Before it leads it asks the voters where their logs end.
    A majority has to answer, and none of them may be ahead of it: else what they have acknowledged would be
    dropped for a leader that lacks it. `--force-lead` skips that question.
    """

    @classmethod
    def choose(cls, name: str, argument: str, nodes: tuple[NodeId, ...] = ()) -> ElectionChoice:
        voters = voters_named(argument) or nodes
        if not voters:
            raise ValueError(f"{name} needs a leader: {name}:<leader>[,<voter>…], for instance {name}:n1,n2,n3")
        return ElectionChoice(name, ",".join(voters), voters=voters, is_decreed=True)

    def __init__(self, **collaborators: Any) -> None:
        super().__init__(**collaborators)
        self.decreed = self.config.election.voters[0]
        self._log_epoch: int | None = None
        self._newest = Term(0)
        self._saving: Ballot | None = None
        self._why_nobody = ""
        # Who asks for the end of this log, by the id with which the store is asked.
        self._asking: dict[int, CallReceived[LogEndRequest]] = {}
        self._survey = LogEndSurvey(
            self.node_id,
            self.config.election.voters,
            self.ports,
            self.store,
            self.me,
            lambda: next(self.request_ids),
            self._question,
            self._on_findings,
        )

    @property
    def _leads(self) -> bool:
        return self.decreed == self.node_id

    @property
    def _votes(self) -> bool:
        return self.node_id in self.config.election.voters

    def on_receive(self, message: ElectionMessage) -> None:
        match message:
            case LogOpened():
                self._on_log_opened(message)
            case BallotSaved():
                self._on_ballot_saved(message)
            case HigherTermSeen():
                self._on_higher_term(message)
            case LeaderHinted():
                self._on_hint(message)
            case MemberJoined() | MemberUpdated():
                self._survey.met(message.member.node_id, message.member.peer_addr)
            case CallReceived(request=LogEndRequest()):
                self._on_asked(message)
            case CallCancelled():
                self._forget(message)
            case LogDescribed():
                self._on_described(message)
            case CallReturned():
                self._survey.on_returned(message)
            case CallFailed():
                self._survey.on_failed(message)
            case SurveyDue():
                self._survey.on_due(message)
            case _:
                super().on_receive(message)

    # ------------------------------------------------------------ the term

    def _on_log_opened(self, opened: LogOpened) -> None:
        self._log_epoch = opened.log_epoch
        if opened.ballot.term == 0 and opened.end.index > Index(0) and not self._leads:
            # Without terms its entries cannot be told from the leader's at the same index.
            self.refuse_to_run(
                f"this data directory holds {opened.end.offset} records from a time without a leader, and "
                f"{self.decreed} leads now; start {self.node_id} on an empty --data-dir to copy the leader's log "
                "(keep the old directory: it may hold records that no other node has)"
            )
            return
        self._newest = known = Term(max(opened.ballot.term, opened.terms.last_term))
        if not is_ahead(Term(known + 1), known):
            self.refuse_to_run(
                f"this data directory is in term {known}, beyond which there is none; start {self.node_id} on an empty "
                "--data-dir, and all nodes if all are"
            )
            return
        self.announce(VotersChanged(self.config.election.voters))
        if not self._leads:
            if opened.ballot.leader_id == self.decreed and opened.ballot.term == known:
                self._enter(known)
            elif self._votes:
                self._save(Term(known + 1))
            elif opened.ballot.term == known:
                self._look_for_leader(known)
            else:
                self._save_without_leader(known)
        elif self._may_lead_unasked:
            self._save(Term(known + 1))
        elif opened.ballot.term == known:
            self._ask_first(known)
        else:
            self._save_without_leader(known)

    @property
    def _may_lead_unasked(self) -> bool:
        return self.config.force_lead or len(self.config.election.voters) == 1

    def _ask_first(self, term: Term) -> None:
        """Announce that nobody leads in this term, whose ballot is on disk, and ask the voters."""
        self.announce(LeaderChanged(term, None, f"{self.node_id} asks the voters where their logs end before it leads"))
        self._survey.start()

    def _look_for_leader(self, term: Term) -> None:
        """Announce that nobody is known to lead, so that the replicator asks the voters.

        A node that does not vote makes no term of its own: what it claims raises nobody else's, and it would wait in
        a term in which nobody ever leads.
        """
        self.announce(LeaderChanged(term, None, f"{self.node_id} asks the voters in which term {self.decreed} leads"))

    def _on_hint(self, hint: LeaderHinted) -> None:
        if not self._leads and self.leader_id is None and hint.term == self._newest and hint.leader_id == self.decreed:
            self._save(hint.term)

    def _on_higher_term(self, seen: HigherTermSeen) -> None:
        if not is_ahead(seen.term, self._newest):
            return
        if not self._leads and not self._votes and seen.peer_id != self.decreed:
            # The term of a voter whose disk is lost next would be one that nobody leads.
            return
        self._newest = step_towards(seen.term, self._newest)
        if not self._leads and not self._votes and seen.leader_id != self.decreed:
            self._save_without_leader(self._newest)
        elif not self._leads:
            self._save(self._newest)
        elif self._may_lead_unasked:
            self._save(Term(self._newest + 1))
        else:
            # Another node may have led since, and have acknowledged what this node lacks.
            self._survey.start()

    def _save(self, term: Term) -> None:
        self._newest = term
        self._saving = Ballot(term, self.decreed if self._votes else None, self.decreed)
        self.store.tell(SaveBallot(next(self.request_ids), self._saving, self.me))

    def _save_without_leader(self, term: Term) -> None:
        self._saving = Ballot(term)
        self.store.tell(SaveBallot(next(self.request_ids), self._saving, self.me))

    def _on_ballot_saved(self, saved: BallotSaved) -> None:
        if saved.ballot == self._saving:
            self._saving = None
            if saved.ballot.leader_id is not None:
                self._enter(saved.ballot.term)
            elif self._leads:
                self._ask_first(saved.ballot.term)
            else:
                self._look_for_leader(saved.ballot.term)
        elif self._saving is not None and not saved.granted:
            self._on_other_leader(saved.ballot)

    def _on_other_leader(self, present: Ballot) -> None:
        """In the term of the decreed leader this node has followed another: two have led in it."""
        self._saving = None
        self._withhold(
            f"{self.node_id} does not follow {self.decreed} in term {present.term}, in which {present.leader_id} led "
            f"before by another decree. Restart {self.decreed}: it takes a new term",
            needs_person=True,
        )

    def _enter(self, term: Term) -> None:
        if self._leads and self.config.force_lead:
            self.observer.tell(
                NodeWarned(
                    self.node_id,
                    self.actor_name,
                    WarningKind.LEAD_FORCED,
                    f"{self.node_id} leads term {term} without having asked the other voters, as --force-lead says: "
                    "what they have and it lacks is dropped. Start it without that flag next time",
                )
            )
        self._why_nobody = ""
        self.announce(LeaderChanged(term, self.decreed))

    # ------------------------------------------------------------ may this node lead?

    def _question(self) -> LogEndRequest:
        config = self.config
        assert self._log_epoch is not None, "the log is open"
        election = config.election.claimed
        return LogEndRequest(config.cluster, self.node_id, self._log_epoch, election, self._newest)

    def _on_findings(self, findings: Findings) -> None:
        if is_ahead(findings.highest_term, self._newest):
            self._newest = step_towards(findings.highest_term, self._newest)
        if findings.ahead:
            self._withhold(
                f"{self.node_id} does not lead, though --election {self.config.election} says so: "
                f"{'; '.join(findings.ahead.values())}. Let {next(iter(findings.ahead))} lead, or start {self.node_id} "
                "with --force-lead to drop what it lacks",
                needs_person=True,
            )
        elif findings.suffices:
            self._survey.stop()
            self._save(Term(self._newest + 1))
        elif findings.rounds > 1:
            self._withhold(
                f"{self.node_id} does not lead yet: a majority of the voters has to say where its log ends, and "
                f"{', '.join(findings.missing)} did not",
                needs_person=False,
            )

    def _withhold(self, why: str, *, needs_person: bool) -> None:
        """Say why this node does not lead, each reason once. One that leads goes on, unless a voter is ahead."""
        if why == self._why_nobody or (self.leader_id is not None and not needs_person):
            return
        self._why_nobody = why
        self.announce(LeaderChanged(self.term, None, why, needs_person))
        if needs_person:
            self.observer.tell(NodeWarned(self.node_id, self.actor_name, WarningKind.LEAD_WITHHELD, why))

    # ------------------------------------------------------------ where this log ends

    def _on_asked(self, asked: CallReceived[LogEndRequest]) -> None:
        """Answer with what the disk says when the store gets to it: a remembered end may be out of date."""
        refusal = self._why_not_answer(asked.request)
        if refusal:
            asked.reply_to.tell(CallAnswer(asked.request_id, CallRefused(refusal)))
            return
        describe_id = next(self.request_ids)
        self._asking[describe_id] = asked
        self.store.tell(DescribeLog(describe_id, self.me))

    def _forget(self, cancelled: CallCancelled) -> None:
        for describe_id in [at for at, asked in self._asking.items() if asked.request_id == cancelled.request_id]:
            del self._asking[describe_id]

    def _why_not_answer(self, request: LogEndRequest) -> str:
        config = self.config
        if request.cluster != config.cluster:
            return f"{self.node_id} is of cluster {config.cluster!r}, {request.node_id} of {request.cluster!r}"
        if request.election != config.election.claimed:
            return f"{self.node_id} runs with --election {config.election}, {request.node_id} with {request.election}"
        return "" if self._log_epoch is not None else f"{self.node_id} is starting"

    def _on_described(self, described: LogDescribed) -> None:
        asked = self._asking.pop(described.request_id, None)
        if asked is None:
            self._survey.on_described(described)
            return
        assert self._log_epoch is not None, "who is starting does not ask its store"
        ballot = described.ballot
        answer = LogEndResponse(
            self.node_id,
            self._log_epoch,
            ballot.term,
            ballot.leader_id,
            described.end,
            described.last,
            described.committed,
        )
        asked.reply_to.tell(CallAnswer(asked.request_id, answer))

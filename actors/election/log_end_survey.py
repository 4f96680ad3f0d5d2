"""Asking the voters where their logs end, before a node leads that nobody has voted for.

Whatever a quorum has acknowledged is on a majority of the voters' disks. So if a majority answers, and none of
them is ahead of this node, then this node has all of it (Raft section 5.4.1, without the vote).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ourolog.actors.messages.election import ElectionMessage, SurveyDue
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import CallFailed, CallReturned, LogEndRequest, LogEndResponse
from ourolog.actors.messages.store import DescribeLog, LogDescribed, StoreMessage
from ourolog.actors.messages.values import Peer
from ourolog.actors.ports import Ports, Timer
from ourolog.storage.terms import LastEntry, Place
from ourolog.storage.types import Index, NodeId, Term

AGAIN_AFTER_S: Final = 0.5
"""How long after an insufficient round the next one begins, in seconds."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What one round has found out so far.

    ahead: for each voter whose log has something that this node's lacks, a sentence that says what.
    missing: for each voter that has not answered, why, "" if that is not known yet.
    highest_term: the highest term that any of them is in.
    suffices: whether a majority of the voters, counting this node, has said where its log ends.
    rounds: how often all voters have been asked since the survey began, including this time.
    """

    ahead: dict[NodeId, str]
    missing: dict[NodeId, str]
    highest_term: Term
    suffices: bool
    rounds: int


@dataclass(slots=True)
class _Round:
    """One round of questions to all voters.

    describe_id: of the question to this node's store that is under way, None if there is none.
    own: this node's log, as it was after the last answer came; None before the store has answered.
    asked: the voters that were asked and have not answered, by the id of the call.
    answers: the answers of the others.
    failures: why there is no answer, for voters whose call has failed.
    """

    describe_id: int | None
    own: LogDescribed | None = None
    asked: dict[int, NodeId] = field(default_factory=dict)
    answers: dict[NodeId, LogEndResponse] = field(default_factory=dict)
    failures: dict[NodeId, str] = field(default_factory=dict)


class LogEndSurvey:
    """Rounds of questions to the other voters, one after the other, until `stop`.

    This node's own log is read again after each answer. If it leads meanwhile its log grows, and a voter may have
    copied entries from it that it did not have itself when the round began: those put no voter ahead. Each answer and
    each failure brings new `Findings`. What is learnt in one round does not count in the next: a voter may have
    come back with another disk.
    """

    def __init__(
        self,
        node_id: NodeId,
        voters: tuple[NodeId, ...],
        ports: Ports,
        store: Mailbox[StoreMessage],
        me: Mailbox[ElectionMessage],
        next_id: Callable[[], int],
        request: Callable[[], LogEndRequest],
        on_findings: Callable[[Findings], None],
    ) -> None:
        """Prepare a survey that has asked nobody yet.

        next_id: a fresh request id of the asking actor.
        request: the question as it is to be asked now.
        on_findings: called with what is known, each time that it is more.
        """
        self._node_id = node_id
        self._voters = voters
        self._ports = ports
        self._store = store
        self._me = me
        self._next_id = next_id
        self._request = request
        self._on_findings = on_findings
        self._addresses: dict[NodeId, str] = {}
        self._round: _Round | None = None
        self._timer: Timer | None = None
        self._serial = 0
        self._rounds = 0

    def start(self) -> None:
        """Begin a round, unless one is under way."""
        if self._round is None:
            self._rounds = 0
            self._begin()

    def stop(self) -> None:
        """Ask nobody any more. Answers that are still to come are ignored."""
        self._round = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def met(self, node_id: NodeId, addr: str) -> None:
        """Note the address of a member. A voter that could not be asked before is asked at once."""
        if node_id not in self._voters or node_id == self._node_id:
            return
        is_new = self._addresses.get(node_id) != addr
        self._addresses[node_id] = addr
        survey = self._round
        if is_new and survey is not None and survey.own is not None and node_id not in survey.answers:
            self._ask(survey, node_id)

    def on_described(self, described: LogDescribed) -> None:
        survey = self._round
        if survey is None or survey.describe_id != described.request_id:
            return
        survey.describe_id = None
        if survey.own is None:
            for voter in self._voters:
                if voter in self._addresses:
                    self._ask(survey, voter)
        survey.own = described
        self._tell(survey)

    def on_returned(self, returned: CallReturned[LogEndResponse]) -> None:
        survey = self._round
        if survey is None or survey.asked.pop(returned.request_id, None) is None:
            return
        response = returned.response
        if response.node_id == returned.peer_id:
            survey.answers[returned.peer_id] = response
            survey.failures.pop(returned.peer_id, None)
            survey.describe_id = self._describe()
        else:
            survey.failures[returned.peer_id] = f"{response.node_id} answers at its address"
            self._tell(survey)

    def on_failed(self, failed: CallFailed) -> None:
        survey = self._round
        if survey is not None and survey.asked.pop(failed.request_id, None) is not None:
            survey.failures[failed.peer_id] = failed.reason
            self._tell(survey)

    def on_due(self, due: SurveyDue) -> None:
        survey = self._round
        if due.serial == self._serial and survey is not None and not survey.asked and survey.describe_id is None:
            self._begin()

    def _begin(self) -> None:
        self._rounds += 1
        self._round = _Round(self._describe())

    def _describe(self) -> int:
        describe_id = self._next_id()
        self._store.tell(DescribeLog(describe_id, self._me))
        return describe_id

    def _ask(self, survey: _Round, voter: NodeId) -> None:
        request_id = self._next_id()
        survey.asked[request_id] = voter
        self._ports.network.call(Peer(voter, self._addresses[voter]), request_id, self._request(), self._me)

    def _tell(self, survey: _Round) -> None:
        """Report what is known; if this node's own log is still to be read, report afterwards."""
        if survey.describe_id is not None:
            return
        findings = self._findings(survey)
        if not survey.asked:
            self._serial += 1
            self._timer = self._ports.timers.after(AGAIN_AFTER_S, self._me, SurveyDue(self._serial))
        self._on_findings(findings)

    def _findings(self, survey: _Round) -> Findings:
        own = survey.own
        assert own is not None, "nobody is asked before this node knows itself"
        ahead = {
            voter: why
            for voter, answer in sorted(survey.answers.items())
            if (why := _why_ahead(voter, answer, own.last, own.end.index)) is not None
        }
        others = [voter for voter in self._voters if voter != self._node_id]
        missing = {
            voter: survey.failures.get(voter, "" if voter in self._addresses else "it has not been discovered yet")
            for voter in others
            if voter not in survey.answers
        }
        terms = [answer.term for answer in survey.answers.values()]
        count = len(self._voters) - len(missing)
        is_majority = count > len(self._voters) // 2
        return Findings(ahead, missing, max(terms, default=Term(0)), is_majority, self._rounds)


def _why_ahead(voter: NodeId, answer: LogEndResponse, own: Place | None, own_end: Index) -> str | None:
    """What a voter has that this node lacks, as a sentence; None if nothing.

    The last entries are compared by (term, index), as in a vote. Where both are the same, the makers are compared, too:
    where people decree leaders, one term can have two of them, and then neither has what the other was given.
    """
    theirs, ours = LastEntry.of(answer.last, answer.end.index), LastEntry.of(own, own_end)
    if theirs > ours:
        return (
            f"{voter} is ahead: its log ends at index {answer.end.index} (offset {answer.end.offset}) in term "
            f"{theirs.term}, this node's at index {own_end} in term {ours.term}"
        )
    if theirs == ours and own is not None and answer.last is not None and own.writer != answer.last.writer:
        return f"{voter} has another entry than this node at index {own_end - 1} of term {ours.term}"
    return None

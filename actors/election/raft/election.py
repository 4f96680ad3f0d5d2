"""`--election raft[:<voter>,…]`: the voters elect a leader among themselves.

The actor translates: what happens becomes a call of a rule (`ourolog.actors.election.raft.rules`), and the effects
that the rule returns become messages. It decides nothing itself, and in which order is a matter of `Decisions`.
"""

from __future__ import annotations

from typing import Any, ClassVar, assert_never

from ourolog.actors.config import ElectionChoice, voters_named
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.calls import VoterCalls
from ourolog.actors.election.raft.cluster_identity import ClusterIdentity
from ourolog.actors.election.raft.decisions import Decisions, Rule
from ourolog.actors.election.raft.electorate import Electorate
from ourolog.actors.election.raft.founding import TIMER as FOUNDING
from ourolog.actors.election.raft.founding import why_not_ours
from ourolog.actors.election.raft.hand_over import NAME as HAND_OVER
from ourolog.actors.election.raft.leadership import Leadership
from ourolog.actors.election.raft.rules import Role
from ourolog.actors.election.raft.steps import (
    Announce,
    Answer,
    AskForVotes,
    OutwardEffect,
    Shout,
    StopWaiting,
    TellLead,
    TellLeave,
    TimerName,
    Wait,
)
from ourolog.actors.election.raft.timers import ElectionTimers
from ourolog.actors.messages.election import (
    AddVoter,
    ChangeProblem,
    ClaimReceived,
    ElectionMessage,
    ElectionTimerDue,
    HandedOver,
    HandOver,
    HigherTermSeen,
    LeaderAnswered,
    LeaderHinted,
    LeaderTransferred,
    LeaderUnreachable,
    RemoveVoter,
    StandbyFetched,
    TransferLeader,
    VoterFetched,
    VotersChangeAnswered,
    VotersCommitted,
)
from ourolog.actors.messages.events import (
    CommitKnown,
    LeaderChanged,
    LogOpened,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    ProducesHeld,
    VotersLogged,
)
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    EndTermRequest,
    FoundRequest,
    FoundResponse,
    TermResponse,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.status import ElectionStatus
from ourolog.actors.messages.store import (
    AppendRefused,
    BallotSaved,
    FoundingSaved,
    LogDescribed,
    StoreFailed,
)
from ourolog.actors.messages.values import Member
from ourolog.storage.control import VoterKey, VoterSet
from ourolog.storage.founding import Founding
from ourolog.storage.types import NodeId, Term


class RaftElection(ElectionActor):
    """The voters elect a leader, and another one when it dies (Raft, in the pull form of KIP-595).

    A voter is a node and its disk. The first voters found the cluster (`FoundingTalks`); afterwards the log says who
    votes. A node that does not vote follows whoever the voters elected.
    """

    hears: ClassVar[frozenset[type]] = frozenset({LeaderAnswered, VoterFetched, StandbyFetched})

    @classmethod
    def choose(cls, name: str, argument: str, nodes: tuple[NodeId, ...] = ()) -> ElectionChoice:
        voters = voters_named(argument) or nodes
        return ElectionChoice(name, ",".join(voters), voters=voters, is_argument_local=True)

    def __init__(self, **collaborators: Any) -> None:
        super().__init__(**collaborators)
        self._opened: LogOpened | None = None
        self._told_leader: LeaderChanged | None = None
        self._electorate = Electorate()
        self._decisions = Decisions(self.store, self.me, self._next_id, self.ports.clock, self._carry_out)
        self._timers = ElectionTimers(self.ports, self.me)
        self._calls = VoterCalls(
            self.config, self.ports.network, self.me, self._next_id, self._electorate, self._decisions
        )
        self._identity = ClusterIdentity(
            self.config,
            self.ports,
            self.store,
            self.me,
            self._next_id,
            electorate=self._electorate,
            claims=self._claims,
            on_known=self._begin,
            on_progress=self._on_founding_progress,
            on_joined=self._on_joined,
        )
        self._leadership = Leadership(
            self.config,
            self.ports,
            self.store,
            self.listeners,
            self.me,
            self._next_id,
            decisions=self._decisions,
            electorate=self._electorate,
            calls=self._calls,
            timers=self._timers,
        )

    def on_receive(self, message: ElectionMessage) -> None:
        if self._identity.superseded:
            self._decline(message)
            return
        match message:
            case LogOpened():
                self._on_log_opened(message)
            case MemberJoined() | MemberUpdated():
                self._on_member(message.member)
            case MemberFailed() | MemberLeft():
                if isinstance(message, MemberLeft):
                    self._identity.left(message.member.node_id)
                super().on_receive(message)
                self._on_member_gone(message)
            case CallReceived():
                self._on_call(message)
            case CallCancelled():
                self._calls.forget(message.request_id)
            case CallReturned():
                self._on_returned(message)
            case CallFailed():
                self._on_failed(message)
            case BallotSaved():
                if message.voters != self._electorate.logged:
                    self._on_voters(message.voters, None)
                self._decisions.saved(message)
            case LogDescribed():
                self._leadership.described(message)
                self._decisions.described(message)
            case FoundingSaved():
                self._identity.on_saved(message)
            case ElectionTimerDue():
                self._on_due(message)
            case HigherTermSeen():
                self._on_higher_term(message)
            case LeaderHinted():
                self._on_hint(message)
            case LeaderAnswered():
                raft = self._decisions.raft
                if raft is not None:
                    answered = rules.leader_answered(raft, message.term, message.leader_id, message.at_s)
                    self._decisions.apply(answered)
            case LeaderUnreachable():
                self._decisions.decide(lambda raft: rules.leader_lost(raft, message.leader_id))
            case VoterFetched():
                if self._decisions.raft is not None:
                    self._leadership.voter_fetched(message)
            case StandbyFetched():
                self._leadership.standby_fetched(message)
            case CommitKnown():
                self._leadership.commit_known(message.term)
            case VotersLogged():
                self._on_voters(message.voters, message.replaced)
            case VotersCommitted():
                self._on_voters_committed(message)
            case AppendRefused():
                self._leadership.changer.refused(message.request_id)
            case AddVoter() | RemoveVoter():
                self._on_change_asked(message)
            case ProducesHeld():
                self._leadership.held(message.request_id)
            case HandOver():
                self._leadership.hand_over(lambda: message.reply_to.tell(HandedOver(message.request_id)))
            case TransferLeader():
                self._on_transfer(message)
            case StoreFailed():
                self._leadership.leave_at_once(message.reason)
            case _:
                super().on_receive(message)

    # ------------------------------------------------------------ other generations of this cluster

    def _on_claim(self, received: ClaimReceived) -> None:
        super()._on_claim(received)
        self._look_at_generations()

    def _look_at_generations(self) -> None:
        if self._identity.superseded or self._electorate.founding is None:
            return
        why = self._identity.why_superseded()
        if why:
            self._end_for_good(why)
        else:
            self._judge_claims()

    @property
    def other_dispute(self) -> str:
        return self._identity.dispute()

    def _end_for_good(self, why: str) -> None:
        """Have no part in any election any more, nor lead: only what is committed here can be read."""
        self._identity.end(why)
        self._timers.stop_all()
        self._leadership.lost(why)
        self._decisions.end()
        self._warn(WarningKind.SUPERSEDED, why)
        self.announce(LeaderChanged(self.term, None, why, needs_person=True))

    def _decline(self, message: ElectionMessage) -> None:
        """Handle what comes after `_end_for_good`: whoever asks is told, and nothing is done."""
        match message:
            case CallReceived():
                message.reply_to.tell(CallAnswer(message.request_id, CallRefused(self._identity.superseded)))
            case TransferLeader():
                why_not = self._identity.superseded
                message.reply_to.tell(LeaderTransferred(message.request_id, None, self.term, why_not))
            case _:
                super().on_receive(message)

    # ------------------------------------------------------------ the beginning

    def _on_log_opened(self, opened: LogOpened) -> None:
        problem = why_not_ours(self.node_id, opened)
        if problem is not None:
            self.refuse_to_run(problem)
            return
        self._opened = opened
        if opened.superseded is not None and opened.founding is not None:
            self._electorate.opened(opened.founding, opened.voters, opened.voters_replaced)
            self.term = opened.ballot.term
            self._announce_voters()
            self._end_for_good(opened.superseded.why(self.node_id, opened.founding.generation))
            return
        self._identity.open(opened)

    def _on_founding_progress(self, why: str) -> None:
        if self._decisions.raft is None:
            self._announce_voters()
            self._announce(Announce(Term(0), None, why))

    def _begin(self, founding: Founding | None) -> None:
        if self._decisions.raft is not None:
            return
        opened, me = self._opened, self._key
        assert opened is not None
        assert me is not None
        electorate = self._electorate
        electorate.opened(founding, opened.voters, opened.voters_replaced)
        self._leadership.changer.logged(opened.voters)
        self._announce_voters()
        voted, timeout_s = electorate.voted_before(me), self.config.election_timeout_s
        self._decisions.apply(rules.opened(me, timeout_s, electorate.keys, opened.ballot, was_voter_before=voted))
        self._look_at_generations()

    # ------------------------------------------------------------ who votes, and where they are

    def _on_voters(self, logged: VoterSet | None, replaced: VoterSet | None) -> None:
        raft, electorate, leadership = self._decisions.raft, self._electorate, self._leadership
        if raft is None:
            return
        electorate.changed(logged, replaced)
        self._announce_voters()
        voted, fetched = electorate.voted_before(raft.me), leadership.standbys.fetched_s
        changed = rules.voters_changed(raft, electorate.keys, was_voter_before=voted, fetched=fetched)
        self._decisions.apply(changed)
        leadership.changer.logged(logged)

    def _on_voters_committed(self, committed: VotersCommitted) -> None:
        logged = self._electorate.logged
        if logged is not None and committed.index == logged.index:
            self._decisions.apply(rules.voters_committed(self._decisions.state))
            self._leadership.changer.committed(committed.index)

    def _announce_voters(self) -> None:
        changed = self._electorate.news()
        if changed is not None:
            self.announce(changed)

    def _on_member(self, member: Member) -> None:
        self._electorate.met(member)
        self._identity.met(member)

    def _on_member_gone(self, gone: MemberFailed | MemberLeft) -> None:
        node_id = gone.member.node_id
        self._electorate.missed(node_id)
        if node_id not in self.voters:
            self._leadership.standbys.gone(node_id)
        if isinstance(gone, MemberLeft):
            self._decisions.decide(lambda raft: rules.leader_lost(raft, node_id))
        else:
            self._decisions.decide(lambda raft: rules.leader_suspected(raft, node_id, self._decisions.now_s))

    # ------------------------------------------------------------ calls between nodes

    def _on_call(self, received: CallReceived[Any]) -> None:
        request = received.request
        match request:
            case FoundRequest():
                self._identity.on_asked(received)
            case VoteRequest() | BeginTermRequest() | EndTermRequest():
                if self._calls.take(received, self._key, self._identity.promise):
                    self._identity.proved(request.cluster_id)
                    self._calls.decide(received)
            case _:
                super().on_receive(received)

    def _on_returned(self, returned: CallReturned[Any]) -> None:
        response = returned.response
        match response:
            case FoundResponse():
                self._identity.on_returned(returned)
            case VoteResponse():
                self._calls.vote_returned(returned)
            case TermResponse():
                self._leadership.call_over(returned.request_id)
                if response.accepted and response.term == self.term:
                    key = VoterKey(response.node_id, response.log_epoch)
                    self._leadership.changer.proven(returned.request_id, key)
                else:
                    self._leadership.changer.not_proven(returned.request_id, "it answers that it does not")
                if response.node_id == returned.peer_id:
                    self._decisions.decide(lambda raft: rules.higher_term(raft, response.term, response.leader_id))
            case _:
                super().on_receive(returned)

    def _on_failed(self, failed: CallFailed) -> None:
        self._leadership.call_over(failed.request_id)
        self._leadership.changer.not_proven(failed.request_id, failed.reason)
        if not self._calls.vote_failed(failed):
            self._identity.on_failed(failed)

    # ------------------------------------------------------------ what the replicator hears

    def _on_higher_term(self, seen: HigherTermSeen) -> None:
        if self._is_believed(seen.peer_id, seen.cluster_id):
            self._decisions.decide(lambda raft: rules.higher_term(raft, seen.term, seen.leader_id), is_news=True)

    def _on_hint(self, hint: LeaderHinted) -> None:
        if self._is_believed(hint.peer_id, hint.cluster_id):
            is_its_own = hint.peer_id == hint.leader_id
            self._decisions.decide(
                lambda raft: rules.leader_hinted(raft, hint.term, hint.leader_id, is_its_own_word=is_its_own),
                is_news=True,
            )

    def _is_believed(self, peer_id: NodeId, cluster_id: int) -> bool:
        """Whether that node's word about terms counts: voters', or anybody's where this node knows no voters.

        And that of who led in this term, which may have become a voter since this node was cut off.
        """
        raft = self._decisions.raft
        if raft is None or not self._identity.heard_of(cluster_id):
            return False
        return not self.voters or peer_id in self.voters or peer_id == raft.ballot.leader_id

    def _on_joined(self, founding: Founding) -> None:
        """The disk of this node belongs to that cluster from now on."""
        self._electorate.founding = founding
        self._announce_voters()
        self._look_at_generations()

    # ------------------------------------------------------------ what a rule asks for

    def _carry_out(self, effect: OutwardEffect) -> None:
        raft = self._decisions.state
        match effect:
            case Answer():
                self._calls.answer(effect, raft)
            case AskForVotes():
                self._calls.ask_for_votes(effect, raft, self._electorate.cluster_id)
            case TellLead():
                self._calls.tell_lead(effect, raft, self._electorate.cluster_id)
            case TellLeave():
                self._calls.tell_leave(effect, raft, self._electorate.cluster_id)
            case Announce():
                self._announce(effect)
            case Wait():
                self._timers.wait(effect)
            case StopWaiting():
                self._timers.stop(effect.timer)
            case Shout():
                self._warn(WarningKind.TWO_LEADERS, effect.reason, effect.about)
            case _:
                assert_never(effect)

    def _announce(self, announced: Announce) -> None:
        changed = LeaderChanged(
            announced.term, announced.leader_id, announced.why_nobody, granted_by=announced.granted_by
        )
        told = self._told_leader
        if told is not None and (told.term, told.leader_id, told.why_nobody) == (
            changed.term,
            changed.leader_id,
            changed.why_nobody,
        ):
            return
        self._told_leader = changed
        self.announce(changed)
        self._leadership.leader_changed(changed)

    def _warn(self, kind: WarningKind, reason: str, about: NodeId = NodeId("")) -> None:
        self.observer.tell(NodeWarned(self.node_id, self.actor_name, kind, reason, about))

    # ------------------------------------------------------------ what people ask for

    def _on_transfer(self, asked: TransferLeader) -> None:
        def over(why_not: str) -> None:
            asked.reply_to.tell(LeaderTransferred(asked.request_id, self.leader_id, self.term, why_not))

        if self._leadership.leads:
            self._leadership.transfer(asked.to, over)
        else:
            why_nobody = self._told_leader.why_nobody if self._told_leader is not None else ""
            over(why_nobody or f"{self.node_id} does not lead")

    def _on_change_asked(self, asked: AddVoter | RemoveVoter) -> None:
        def answer(problem: ChangeProblem | None, detail: str) -> None:
            if problem is ChangeProblem.NOT_LEADER and not detail:
                detail = self.why_nobody or f"{self.node_id} does not lead"
            answered = VotersChangeAnswered(asked.request_id, self.voters, self.leader_id, self.term, problem, detail)
            asked.reply_to.tell(answered)

        self._leadership.change_voters(asked.node_id, answer, is_addition=isinstance(asked, AddVoter))

    def status(self) -> ElectionStatus:
        return self._leadership.add_to(super().status())

    @property
    def role(self) -> str:
        """This node's role in the status, as the rules name it; a node without a vote stands by."""
        raft = self._decisions.raft
        if raft is None or (raft.role is not Role.LEADER and not raft.is_voter):
            return "standby"
        return raft.role.value

    # ------------------------------------------------------------ timers

    def _on_due(self, due: ElectionTimerDue) -> None:
        if due.name == FOUNDING:
            self._identity.on_due(due)
            return
        if not self._timers.take(due):
            return
        if due.name == HAND_OVER:
            self._leadership.hand_over_due()
            return
        timer = TimerName(due.name)
        match timer:
            case TimerName.ELECTION:
                self._decide_in_time(due, lambda raft: rules.election_timed_out(raft, self._decisions.now_s))
            case TimerName.CANVASS:
                self._decide_in_time(due, rules.canvass_timed_out)
            case TimerName.LEAD:
                # Not behind the disk, which may hang: nothing is saved for this.
                was_late = self._timers.late_s(timer) >= self.config.election_timeout_s / 2
                looked = rules.lead_looked_at(self._decisions.state, self._decisions.now_s, was_late=was_late)
                self._decisions.apply(looked)
                if not was_late and self._leadership.leads:
                    self._leadership.look()
            case _:
                assert_never(timer)

    def _decide_in_time(self, due: ElectionTimerDue, rule: Rule) -> None:
        """Apply a rule whose time has come, unless its timer is set or stopped anew while the disk is busy."""
        self._decisions.decide(lambda raft: rule(raft) if self._timers.is_current(due) else (raft, ()))

    # ------------------------------------------------------------ this node

    @property
    def _key(self) -> VoterKey | None:
        """This node with its disk, None before the log is open."""
        return VoterKey(self.node_id, self._opened.log_epoch) if self._opened is not None else None

    def _next_id(self) -> int:
        return next(self.request_ids)

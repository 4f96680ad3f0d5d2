"""`--election raft[:<voter>,…]`: the voters elect a leader among themselves.

The actor translates: what happens becomes a call of a rule (`ourolog.actors.election.raft.rules`), and the effects
that the rule returns become messages. It decides nothing itself, except in which order: from `SaveThen` until the
store has answered, whatever else happens waits, since the next decision depends on what is on disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Final, assert_never

from ourolog.actors.config import ElectionChoice, voters_named
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.calls import VoterCalls
from ourolog.actors.election.raft.founding import FoundingTalks, why_not_ours
from ourolog.actors.election.raft.generations import Rivals, superseded_by
from ourolog.actors.election.raft.hand_over import NAME as HAND_OVER
from ourolog.actors.election.raft.hand_over import LeadTransfer, Progress, successors_among
from ourolog.actors.election.raft.rules import Raft, Role, Step
from ourolog.actors.election.raft.standbys import Standbys
from ourolog.actors.election.raft.steps import (
    Announce,
    Answer,
    AskForVotes,
    Effect,
    Next,
    ReadEndThen,
    SaveThen,
    Shout,
    StopWaiting,
    TellLead,
    TellLeave,
    TimerName,
    Wait,
)
from ourolog.actors.election.raft.voter_changer import VoterChanger
from ourolog.actors.election.raft.voter_changes import Change, Situation
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
    HoldProduces,
    LeaderChanged,
    LogOpened,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    ProducesHeld,
    ReleaseProduces,
    VotersChanged,
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
from ourolog.actors.messages.status import ElectionStatus, ReplicaStatus
from ourolog.actors.messages.store import (
    AppendControl,
    AppendRefused,
    BallotSaved,
    DescribeLog,
    FoundingSaved,
    LogDescribed,
    SaveBallot,
    SaveSuperseded,
    StoreFailed,
)
from ourolog.actors.messages.values import Member
from ourolog.actors.ports import Timer
from ourolog.storage.control import Voter, VoterKey, VoterSet, VotersSet
from ourolog.storage.founding import Founding
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term

MAX_WAITING_NEWS: Final = 64
"""How much news of terms and leaders waits for the disk; more is dropped, since it is told again."""


DISK_HANGS_AFTER: Final = 2.0
"""A leader whose disk has not answered for so many election timeouts lets another node lead (hashicorp/raft #503)."""


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
        self._raft: Raft | None = None
        self._opened: LogOpened | None = None
        self._founding: Founding | None = None
        self._superseded = ""
        self._rivals = Rivals()
        self._logged: VoterSet | None = None
        self._replaced: VoterSet | None = None
        self._founders: FoundingTalks | None = None
        self._members: dict[NodeId, Member] = {}
        self._gone: set[NodeId] = set()
        self._told_voters: VotersChanged | None = None
        self._told_leader: LeaderChanged | None = None
        # What is under way: a save, reads of the log's end, calls of others and own ones, timers.
        self._saving: tuple[int, SaveThen] | None = None
        self._waiting: deque[Callable[[], None]] = deque()
        self._reading: dict[int, Next] = {}
        self._calls = VoterCalls(
            self.node_id,
            self.config.cluster,
            self.ports.network,
            self.me,
            lambda: next(self.request_ids),
            self._address_of,
        )
        self._timers: dict[str, Timer] = {}
        self._serials: dict[str, int] = {}
        self._due_s: dict[TimerName, float] = {}
        # Where this node leads: how far the others are, whether its disk answers, and who takes over.
        self._progress: dict[VoterKey, Progress] = {}
        self._disk_asked: tuple[int, float] | None = None
        self._holding: int | None = None
        self._measuring: int | None = None
        self._on_left: list[Callable[[], None]] = []
        self._transfer = LeadTransfer(
            self.config.election_timeout_s,
            hold=self._hold_produces,
            release=lambda: self._tell_listeners(ReleaseProduces()),
            measure=self._measure_log,
            leave=lambda successors: self._decide(lambda raft: rules.left(raft, successors)),
            stay=lambda: self._decide(rules.stayed),
            wait=lambda delay_s: self._set_timer(HAND_OVER, delay_s),
        )
        self._standbys = Standbys()
        self._changer = VoterChanger(self)

    def on_receive(self, message: ElectionMessage) -> None:
        if self._superseded:
            self._decline(message)
            return
        match message:
            case LogOpened():
                self._on_log_opened(message)
            case MemberJoined() | MemberUpdated():
                self._on_member(message.member)
            case MemberFailed() | MemberLeft():
                if isinstance(message, MemberLeft):
                    self._rivals.left(message.member.node_id)
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
                self._on_ballot_saved(message)
            case LogDescribed():
                self._on_described(message)
            case FoundingSaved():
                if self._founders is not None:
                    self._founders.on_saved(message)
            case ElectionTimerDue():
                self._on_due(message)
            case HigherTermSeen():
                self._on_higher_term(message)
            case LeaderHinted():
                self._on_hint(message)
            case LeaderAnswered():
                if self._raft is not None:
                    self._apply(rules.leader_answered(self._raft, message.term, message.leader_id, message.at_s))
            case LeaderUnreachable():
                self._decide(lambda raft: rules.leader_lost(raft, message.leader_id))
            case VoterFetched():
                self._on_voter_fetched(message)
            case StandbyFetched():
                self._standbys.fetched(message, self._members.get(message.node_id))
            case CommitKnown():
                if self._state.role is Role.LEADER and message.term == self._state.term:
                    self._changer.commit_known()
            case VotersCommitted():
                if self._logged is not None and message.index == self._logged.index:
                    self._apply(rules.voters_committed(self._state))
                    self._changer.committed(message.index)
            case AppendRefused():
                self._changer.refused(message.request_id)
            case AddVoter() | RemoveVoter():
                self._on_change_asked(message)
            case ProducesHeld():
                if message.request_id == self._holding:
                    self._transfer.held()
            case HandOver():
                self._on_hand_over(message)
            case TransferLeader():
                self._on_transfer(message)
            case StoreFailed():
                self._leave_at_once(message.reason)
            case VotersLogged():
                self._on_voters(message.voters, message.replaced)
            case _:
                super().on_receive(message)

    # ------------------------------------------------------------ other generations of this cluster

    def _on_claim(self, received: ClaimReceived) -> None:
        super()._on_claim(received)
        self._look_at_generations()

    def _look_at_generations(self) -> None:
        """Weigh what members claim to belong to, which may have come before this node knew that of itself."""
        founding = self._founding
        if founding is None or self._superseded:
            return
        for peer_id, claim in self._claims.all():
            self._rivals.heed(founding, peer_id, claim)
            superseded = superseded_by(founding, peer_id, claim)
            if superseded is not None:
                self.store.tell(SaveSuperseded(superseded))
                self._end_for_good(superseded.why(self.node_id, founding.generation))
                return
        self._judge_claims()

    @property
    def other_dispute(self) -> str:
        return self._rivals.dispute(self.node_id, self._founding) if self._founding is not None else ""

    def _end_for_good(self, why: str) -> None:
        """Have no part in any election any more, nor lead: only what is committed here can be read."""
        self._superseded = why
        for name in list(self._timers):
            self._stop_waiting(name)
        self._transfer.lost(why)
        self._raft, self._saving = None, None
        self._waiting.clear()
        if self._founders is not None:
            self._founders.stop()
        self.observer.tell(NodeWarned(self.node_id, self.actor_name, WarningKind.SUPERSEDED, why))
        self.announce(LeaderChanged(self.term, None, why, needs_person=True))

    def _decline(self, message: ElectionMessage) -> None:
        """Handle what comes after `_end_for_good`: whoever asks is told, and nothing is done."""
        match message:
            case CallReceived():
                message.reply_to.tell(CallAnswer(message.request_id, CallRefused(self._superseded)))
            case TransferLeader():
                why_not = self._superseded
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
            self._founding, self._logged = opened.founding, opened.voters
            self.term = opened.ballot.term
            self._announce_voters(self._voters_in_force())
            self._end_for_good(opened.superseded.why(self.node_id, opened.founding.generation))
            return
        self._founders = FoundingTalks(
            self.config,
            VoterKey(self.node_id, opened.log_epoch),
            self.ports,
            self.store,
            self.me,
            lambda: next(self.request_ids),
            on_founded=self._on_founded,
            on_standby=self._on_standby,
            on_progress=self._on_founding_progress,
            on_joined=self._on_joined,
        )
        self._founders.open(opened)
        for member in self._members.values():  # gossip may have been faster than the disk
            self._founders.met(member)

    def _on_founded(self, founding: Founding) -> None:
        self._begin(founding)

    def _on_standby(self) -> None:
        """Follow whoever leads; which cluster that is, the first answer says."""
        assert self._opened is not None
        self._begin(self._opened.founding)

    def _on_founding_progress(self, why: str) -> None:
        if self._raft is None:
            self._announce_voters(())
            self._announce(Announce(Term(0), None, why))

    def _begin(self, founding: Founding | None) -> None:
        if self._raft is not None:
            return
        opened = self._opened
        assert opened is not None
        self._founding, self._logged, self._replaced = founding, opened.voters, opened.voters_replaced
        self._changer.logged(self._logged)
        me = VoterKey(self.node_id, opened.log_epoch)
        voters = self._voters_in_force()
        self._announce_voters(voters)
        keys = tuple(voter.key for voter in voters)
        voted = self._voted_before(me)
        self._apply(rules.opened(me, self.config.election_timeout_s, keys, opened.ballot, was_voter_before=voted))
        self._look_at_generations()

    # ------------------------------------------------------------ who votes, and where they are

    def _voters_in_force(self) -> tuple[Voter, ...]:
        if self._logged is not None:
            return self._logged.voters
        return self._founding.voters if self._founding is not None else ()

    def _on_voters(self, logged: VoterSet | None, replaced: VoterSet | None) -> None:
        if self._raft is None:
            return
        self._logged, self._replaced = logged, replaced
        voters = self._voters_in_force()
        self._announce_voters(voters)
        for node_id in self._gone - set(self.voters):
            self._gone.discard(node_id)
            self._members.pop(node_id, None)
        keys = tuple(voter.key for voter in voters)
        voted, fetched = self._voted_before(self._raft.me), self._standbys.fetched_s
        self._apply(rules.voters_changed(self._raft, keys, was_voter_before=voted, fetched=fetched))
        self._changer.logged(logged)

    def _voted_before(self, me: VoterKey) -> bool:
        """Whether this node is in the set of voters before the last one that the log names."""
        if self._logged is None:
            return False
        if self._replaced is not None:
            return me in self._replaced.keys
        return self._founding is not None and me in {voter.key for voter in self._founding.voters}

    def _announce_voters(self, voters: tuple[Voter, ...]) -> None:
        names = tuple(voter.node_id for voter in voters)
        keys = tuple(voter.key for voter in voters)
        index = self._logged.index if self._logged is not None else None
        changed = VotersChanged(names, keys, 0, tuple(voter.rpc_addr for voter in voters), index)
        if self._founding is not None:
            founding = self._founding
            changed = replace(
                changed,
                cluster_id=founding.cluster_id,
                generation=founding.generation,
                origin_id=founding.origin_id,
            )
        if changed != self._told_voters:
            self._told_voters = changed
            self.announce(changed)

    def _address_of(self, voter: NodeId) -> str | None:
        """Where a voter is: as gossip says, or else as the log or the founding promise does."""
        if voter in self._members:
            return self._members[voter].rpc_addr
        return next((known.rpc_addr for known in self._voters_in_force() if known.node_id == voter), None)

    def _on_member(self, member: Member) -> None:
        self._members[member.node_id] = member
        self._gone.discard(member.node_id)
        if self._founders is not None:
            self._founders.met(member)

    def _on_member_gone(self, gone: MemberFailed | MemberLeft) -> None:
        node_id = gone.member.node_id
        if node_id in self.voters:
            self._gone.add(node_id)
        else:
            self._members.pop(node_id, None)
            self._standbys.gone(node_id)
        if isinstance(gone, MemberLeft):
            self._decide(lambda raft: rules.leader_lost(raft, node_id))
        else:
            self._decide(lambda raft: rules.leader_suspected(raft, node_id, self._now_s))

    # ------------------------------------------------------------ calls of other nodes

    def _on_call(self, received: CallReceived[Any]) -> None:
        request = received.request
        if isinstance(request, FoundRequest):
            if self._founders is not None:
                self._founders.on_asked(received)
            else:
                refused = CallRefused(f"{self.node_id} is starting")
                received.reply_to.tell(CallAnswer(received.request_id, refused))
            return
        if not isinstance(request, VoteRequest | BeginTermRequest | EndTermRequest):
            super().on_receive(received)
            return
        promise = self._founding or (self._founders.promise if self._founders is not None else None)
        if not self._calls.take(received, self._key, promise):
            return
        if self._founders is not None:
            self._founders.proved(request.cluster_id)
        match request:
            case VoteRequest():
                self._decide(lambda raft: rules.vote_asked(raft, received.request_id, request, self._now_s))
            case BeginTermRequest():
                self._decide(lambda raft: rules.begin_term_asked(raft, received.request_id, request, self._now_s))
            case EndTermRequest():
                self._decide(lambda raft: rules.end_term_asked(raft, received.request_id, request))

    # ------------------------------------------------------------ own calls

    def _on_returned(self, returned: CallReturned[Any]) -> None:
        response = returned.response
        match response:
            case FoundResponse():
                if self._founders is not None:
                    self._founders.on_returned(returned)
            case VoteResponse():
                asked = self._calls.asked(returned.request_id)
                if asked is not None and response.key == asked.voter:
                    self._decide(
                        lambda raft: rules.vote_returned(raft, response, asked.canvass, is_pre_vote=asked.is_pre_vote)
                    )
            case TermResponse():
                self._after_leave(returned.request_id)
                if response.accepted and response.term == self.term:
                    self._changer.proven(returned.request_id, VoterKey(response.node_id, response.log_epoch))
                else:
                    self._changer.not_proven(returned.request_id, "it answers that it does not")
                if response.node_id == returned.peer_id:
                    self._decide(lambda raft: rules.higher_term(raft, response.term, response.leader_id))
            case _:
                super().on_receive(returned)

    def _on_failed(self, failed: CallFailed) -> None:
        self._after_leave(failed.request_id)
        self._changer.not_proven(failed.request_id, failed.reason)
        asked = self._calls.asked(failed.request_id)
        if asked is not None:
            declined = failed.reason if failed.is_declined else ""
            self._decide(lambda raft: rules.vote_not_returned(raft, asked.voter, asked.canvass, declined))
        elif self._founders is not None:
            self._founders.on_failed(failed)

    # ------------------------------------------------------------ what the replicator hears

    def _on_higher_term(self, seen: HigherTermSeen) -> None:
        if self._is_believed(seen.peer_id, seen.cluster_id):
            self._decide(lambda raft: rules.higher_term(raft, seen.term, seen.leader_id), is_news=True)

    def _on_hint(self, hint: LeaderHinted) -> None:
        if self._is_believed(hint.peer_id, hint.cluster_id):
            is_its_own = hint.peer_id == hint.leader_id
            self._decide(
                lambda raft: rules.leader_hinted(raft, hint.term, hint.leader_id, is_its_own_word=is_its_own),
                is_news=True,
            )

    def _is_believed(self, peer_id: NodeId, cluster_id: int) -> bool:
        """Whether that node's word about terms counts: voters', or anybody's where this node knows no voters.

        A node that joins takes the first cluster that it hears of for its own, and puts that on disk first.
        """
        if self._raft is None:
            return False
        if self._founding is None:
            if cluster_id and self._opened is not None:
                self._join(cluster_id)
            return False
        return cluster_id == self._founding.cluster_id and (not self.voters or peer_id in self.voters)

    def _join(self, cluster_id: int) -> None:
        assert self._founders is not None
        # Which generation of its cluster that is, its members say in their gossip. Until that has come this node
        # belongs to none: a disk that took it for the first one would not know the next one for its own.
        claim = next((claim for _, claim in self._claims.all() if claim.cluster_id == cluster_id), None)
        if claim is not None:
            self._founders.join(Founding(cluster_id, generation=claim.generation, origin_id=claim.origin_id))

    def _on_joined(self, founding: Founding) -> None:
        """The disk of this node belongs to that cluster from now on."""
        self._founding = founding
        self._announce_voters(self._voters_in_force())
        self._look_at_generations()

    # ------------------------------------------------------------ decisions, one after the other

    @property
    def _key(self) -> VoterKey | None:
        """This node with its disk, None before the log is open."""
        return VoterKey(self.node_id, self._opened.log_epoch) if self._opened is not None else None

    @property
    def _cluster_id(self) -> int:
        assert self._founding is not None, "who votes belongs to a cluster"
        return self._founding.cluster_id

    @property
    def _state(self) -> Raft:
        assert self._raft is not None, "nothing is decided before the log is open"
        return self._raft

    @property
    def _now_s(self) -> float:
        return self.ports.clock.monotonic_s()

    def _decide(self, rule: Callable[[Raft], Step], *, is_news: bool = False) -> None:
        """Apply a rule, now or once the disk has answered.

        is_news: whether it may be dropped, since it will be told again.
        """
        if self._raft is None or (is_news and len(self._waiting) >= MAX_WAITING_NEWS):
            return
        if self._saving is None:
            self._apply(rule(self._raft))
        else:
            self._waiting.append(lambda: self._apply(rule(self._state)))

    def _apply(self, step: Step) -> None:
        self._raft, effects = step
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case SaveThen():
                assert self._saving is None, "one decision at a time waits for the disk"
                request_id = next(self.request_ids)
                self._saving = (request_id, effect)
                self.store.tell(SaveBallot(request_id, effect.ballot, self.me, effect.candidate))
            case ReadEndThen():
                request_id = next(self.request_ids)
                self._reading[request_id] = effect.then
                self.store.tell(DescribeLog(request_id, self.me))
            case Answer():
                self._calls.answer(effect, self._state)
            case AskForVotes():
                self._calls.ask_for_votes(effect, self._state, self._cluster_id)
            case TellLead():
                self._calls.tell_lead(effect, self._state, self._cluster_id)
            case TellLeave():
                self._calls.tell_leave(effect, self._state, self._cluster_id)
            case Announce():
                self._announce(effect)
            case Wait():
                self._wait(effect)
            case StopWaiting():
                self._stop_waiting(effect.timer)
            case Shout():
                warned = NodeWarned(self.node_id, self.actor_name, WarningKind.TWO_LEADERS, effect.reason, effect.about)
                self.observer.tell(warned)
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
        if changed.leader_id == self.node_id and self._logged is None:
            # The first leader of a cluster writes down who votes; until then the founding promise says so.
            entry = VotersSet(self._voters_in_force())
            self.store.tell(AppendControl(next(self.request_ids), entry, changed.term, self.me))
        if changed.leader_id == self.node_id:
            self._changer.lead_begun()
        else:
            self._changer.lead_ended(f"{self.node_id} leads no more, in term {changed.term}")
        if changed.leader_id == self.node_id:
            self._progress.clear()
            self._standbys.clear()
            self._transfer.lost(f"{self.node_id} has been elected itself, for term {changed.term}")
        elif changed.leader_id is not None:
            self._transfer.leads_elsewhere()
        else:
            self._transfer.deposed(f"{self.node_id} leads no more, and nobody does yet, in term {changed.term}")

    # ------------------------------------------------------------ the lead

    def _on_voter_fetched(self, fetched: VoterFetched) -> None:
        if self._raft is None:
            return
        voter = VoterKey(fetched.voter_id, fetched.log_epoch)
        self._apply(rules.voter_fetched(self._raft, voter, fetched.at_s))
        self._progress[voter] = Progress(fetched.end, fetched.at_s)
        self._transfer.advanced(self._successors, self._now_s)

    @property
    def _successors(self) -> dict[VoterKey, Progress]:
        """How far the other voters in force are: nobody else can be elected."""
        return {voter: self._progress[voter] for voter in self._state.others if voter in self._progress}

    def _on_hand_over(self, message: HandOver) -> None:
        def over(_: str = "") -> None:
            message.reply_to.tell(HandedOver(message.request_id))

        raft = self._raft
        if raft is not None and raft.role is Role.LEADER and raft.others:
            self._transfer.begin(None, over)
        elif self._calls.tells_successors:
            self._on_left.append(over)
        else:
            over()

    def _on_transfer(self, asked: TransferLeader) -> None:
        def over(why_not: str) -> None:
            asked.reply_to.tell(LeaderTransferred(asked.request_id, self.leader_id, self.term, why_not))

        raft = self._raft
        if raft is None or raft.role is not Role.LEADER:
            why_nobody = self._told_leader.why_nobody if self._told_leader is not None else ""
            over(why_nobody or f"{self.node_id} does not lead")
        elif asked.to == self.node_id:
            over("")
        elif self._transfer.is_on:
            over(f"{self.node_id} is handing over already")
        else:
            to = next((voter for voter in raft.others if voter.node_id == asked.to), None)
            if asked.to is not None and to is None:
                over(f"{asked.to} has no vote; the voters are {', '.join(voter.node_id for voter in raft.voters)}")
            elif not raft.others:
                over(f"{self.node_id} is the only voter")
            else:
                self._transfer.begin(to, over)

    # ------------------------------------------------------------ changes of voters

    def _on_change_asked(self, asked: AddVoter | RemoveVoter) -> None:
        def answer(problem: ChangeProblem | None, detail: str) -> None:
            if problem is ChangeProblem.NOT_LEADER and not detail:
                detail = self.why_nobody or f"{self.node_id} does not lead"
            answered = VotersChangeAnswered(asked.request_id, self.voters, self.leader_id, self.term, problem, detail)
            asked.reply_to.tell(answered)

        if self._transfer.is_on:
            answer(ChangeProblem.UNDER_WAY, f"{self.node_id} is handing over the lead; try again")
        else:
            self._changer.ask(asked.node_id, answer, is_addition=isinstance(asked, AddVoter))

    def situation(self) -> Situation:
        raft = self._state
        assert self._logged is not None, "the first leader writes down who votes"
        return Situation(
            me=raft.me,
            now_s=self._now_s,
            timeout_s=raft.timeout_s,
            replicas=self.config.wanted_replicas,
            replace_after_s=self.config.replace_after_s,
            voters=self._logged.voters,
            removed=self._logged.removed,
            led_since_s=raft.led_since_s,
            fetched=raft.fetched,
            gone=frozenset(self._gone),
            standbys=self._standbys.besides(raft.voters),
        )

    def append_voters(self, entry: VotersSet) -> int:
        request_id = next(self.request_ids)
        self.store.tell(AppendControl(request_id, entry, self._state.term, self.me))
        return request_id

    def ask_standby(self, key: VoterKey) -> int:
        return self._calls.tell_standby(key, self._state, self._cluster_id)

    def tell_of_change(self, change: Change) -> None:
        kind = WarningKind.VOTER_ADDED if change.is_addition else WarningKind.VOTER_REMOVED
        does = "votes from now on" if change.is_addition else "votes no more"
        reason = f"{change.key.node_id} {does}: {change.why}"
        self.observer.tell(NodeWarned(self.node_id, self.actor_name, kind, reason, change.key.node_id))

    def leave_as_removed(self) -> None:
        def over(_: str) -> None:
            if self._state.role is Role.LEADER and not self._state.is_voter:
                self._apply(rules.resigned(self._state))

        if not self._transfer.is_on:
            self._transfer.begin(None, over)

    def status(self) -> ElectionStatus:
        raft = self._raft
        if raft is None or raft.role is not Role.LEADER or self._logged is None:
            return super().status()
        known = self.situation()
        progress = self._progress
        voters = tuple(
            ReplicaStatus(key.node_id, True, progress[key].end if key in progress else None, known.is_there(key))
            for key in sorted(raft.others)
        )
        standbys = tuple(
            ReplicaStatus(one.key.node_id, False, one.end, known.is_there(one.key), one.is_caught_up)
            for one in known.standbys
        )
        return replace(super().status(), replicas=voters + standbys, voter_change=self._changer.under_way)

    def _tell_listeners(self, message: HoldProduces | ReleaseProduces) -> None:
        for listener in self.listeners:
            listener.tell(message)

    def _hold_produces(self, within_s: float) -> None:
        self._holding = next(self.request_ids)
        self._tell_listeners(HoldProduces(self._holding, within_s, self.me))

    def _measure_log(self) -> None:
        self._measuring = next(self.request_ids)
        self.store.tell(DescribeLog(self._measuring, self.me))

    def _look_at_disk(self) -> None:
        """Ask the store something; a disk that hangs does not let it answer."""
        if self._disk_asked is None:
            request_id = next(self.request_ids)
            self._disk_asked = (request_id, self._now_s)
            self.store.tell(DescribeLog(request_id, self.me))
        elif self._now_s - self._disk_asked[1] > DISK_HANGS_AFTER * self.config.election_timeout_s:
            silent_s = self._now_s - self._disk_asked[1]
            self._leave_at_once(f"its disk has not answered for {silent_s:.1f} s")

    def _leave_at_once(self, why: str) -> None:
        """Let others take over what this node has no disk for any more."""
        raft = self._raft
        if raft is None or raft.role is not Role.LEADER:
            return
        warned = f"{self.node_id} gives up the lead of term {raft.term}: {why}"
        self.observer.tell(NodeWarned(self.node_id, self.actor_name, WarningKind.LEAD_GIVEN_UP, warned))
        self._transfer.lost(why)
        self._apply(rules.left(raft, successors_among(self._successors, self._now_s - self.config.election_timeout_s)))
        self._apply(rules.resigned(self._state))

    def _after_leave(self, request_id: int) -> None:
        """A successor has been told, or cannot be."""
        self._calls.has_told(request_id)
        if not self._calls.tells_successors:
            on_left, self._on_left = self._on_left, []
            for tell in on_left:
                tell()

    # ------------------------------------------------------------ the disk answers

    def _on_ballot_saved(self, saved: BallotSaved) -> None:
        assert self._saving is not None, "the store answers what it was asked"
        request_id, save = self._saving
        assert saved.request_id == request_id, "one save at a time"
        self._saving = None
        if saved.voters != self._logged:
            self._on_voters(saved.voters, None)
        last = LastEntry.of(saved.last, saved.end.index)
        now_s = self._now_s
        self._apply(rules.written(self._state, saved.ballot, last, save.then, is_granted=saved.granted, now_s=now_s))
        while self._waiting and self._saving is None:
            self._waiting.popleft()()

    def _on_described(self, described: LogDescribed) -> None:
        if self._disk_asked is not None and described.request_id == self._disk_asked[0]:
            self._disk_asked = None
        if described.request_id == self._measuring:
            self._measuring = None
            self._transfer.measured(Index(described.end.index), self._successors, self._now_s)
        then = self._reading.pop(described.request_id, None)
        if then is not None:
            last = LastEntry.of(described.last, described.end.index)
            self._decide(lambda raft: rules.end_read(raft, last, then, self._now_s))

    # ------------------------------------------------------------ timers

    def _wait(self, wait: Wait) -> None:
        delay_s = self.ports.rng.uniform(wait.at_least_s, wait.at_most_s)
        self._due_s[wait.timer] = self._now_s + delay_s
        self._set_timer(wait.timer, delay_s)

    def _set_timer(self, name: str, delay_s: float) -> None:
        self._stop_waiting(name)
        self._timers[name] = self.ports.timers.after(delay_s, self.me, ElectionTimerDue(name, self._serials[name]))

    def _stop_waiting(self, timer: str) -> None:
        self._serials[timer] = self._serials.get(timer, 0) + 1
        running = self._timers.pop(timer, None)
        if running is not None:
            running.cancel()

    def _on_due(self, due: ElectionTimerDue) -> None:
        if due.name not in self._serials:
            if self._founders is not None:
                self._founders.on_due(due)
            return
        if self._timers.get(due.name) is None or self._serials[due.name] != due.serial:
            return
        del self._timers[due.name]
        if due.name == HAND_OVER:
            self._transfer.due()
            return
        timer = TimerName(due.name)
        match timer:
            case TimerName.ELECTION:
                self._decide_in_time(due, lambda raft: rules.election_timed_out(raft, self._now_s))
            case TimerName.CANVASS:
                self._decide_in_time(due, rules.canvass_timed_out)
            case TimerName.LEAD:
                # Not behind the disk, which may hang: nothing is saved for this.
                was_late = self._now_s - self._due_s[timer] >= self.config.election_timeout_s / 2
                self._apply(rules.lead_looked_at(self._state, self._now_s, was_late=was_late))
                if not was_late and self._state.role is Role.LEADER:
                    self._look_at_disk()
                    if not self._transfer.is_on:
                        self._changer.look()
            case _:
                assert_never(timer)

    def _decide_in_time(self, due: ElectionTimerDue, rule: Callable[[Raft], Step]) -> None:
        """Apply a rule whose time has come, unless its timer is set or stopped anew while the disk is busy."""
        self._decide(lambda raft: rule(raft) if self._serials[due.name] == due.serial else (raft, ()))

    @property
    def role(self) -> str:
        """This node's role in the status, as the rules name it; a node without a vote stands by."""
        raft = self._raft
        if raft is None or (raft.role is not Role.LEADER and not raft.is_voter):
            return "standby"
        return raft.role.value

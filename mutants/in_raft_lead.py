"""Bugs of Raft: in pre-votes, in holding on to a leader, in leading, and in handing the lead over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mutants.mutant import (
    RAFT,
    RAFT_DISKS_LOST,
    RAFT_FAILED,
    RAFT_FAR,
    RAFT_FAR_STOPPED,
    RAFT_HUNG,
    RAFT_IDLE,
    RAFT_LEFT,
    RAFT_NO_GOSSIP,
    RAFT_OVERTAKEN,
    RAFT_PARTED,
    RAFT_PAUSED,
    RAFT_PAUSED_HUNG,
    RAFT_SLOW,
    RAFT_STOPPED,
    mutant,
    wrap,
)
from ourolog.actors.election.raft import hand_over, rules
from ourolog.actors.election.raft.calls import VoterCalls
from ourolog.actors.election.raft.decisions import Decisions
from ourolog.actors.election.raft.election import RaftElection
from ourolog.actors.election.raft.electorate import Electorate
from ourolog.actors.election.raft.hand_over import LeadTransfer
from ourolog.actors.election.raft.leadership import Leadership
from ourolog.actors.election.raft.rules import Raft, Role, Step
from ourolog.actors.election.raft.steps import (
    Answer,
    AnswerVote,
    AskForVotes,
    Enter,
    SaveThen,
    TimerName,
)
from ourolog.actors.messages.election import ElectionTimerDue, VoterFetched
from ourolog.actors.messages.peer_calls import FetchRequest, VoteRequest
from ourolog.actors.messages.store import TruncateLog
from ourolog.actors.replication import voter_news
from ourolog.actors.replication.commit import Boundaries, LeaderCommit
from ourolog.actors.replication.fetch_server import FetchServer
from ourolog.actors.replication.state import ReplicationState
from ourolog.actors.replication.state import Role as ReplicatorRole
from ourolog.actors.replicator import ReplicatorActor
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import Index, NodeId, Term

# ---------------------------------------------------------------- pre-votes


@mutant("Who asks for pre-votes goes to the next term first.", RAFT)
def pre_vote_raises_term() -> None:
    def make(original: Any) -> Any:
        def timed_out(raft: Raft, now_s: float) -> Step:
            after, effects = original(raft, now_s)
            if after.role is Role.PROSPECTIVE:
                return raft, (SaveThen(Ballot(Term(raft.term + 1)), Enter()),)
            return after, effects

        return timed_out

    wrap(rules, "election_timed_out", make)


@mutant("A node stands without asking for pre-votes.", RAFT)
def no_pre_votes() -> None:
    wrap(rules, "_prospective", lambda _: rules._stand)


@mutant("A pre-vote is granted without comparing the logs.", RAFT)
def pre_vote_without_comparing() -> None:
    def make(original: Any) -> Any:
        def why_no_pre_vote(raft: Raft, request: VoteRequest, _: Any, now_s: float) -> str | None:
            answer: str | None = original(raft, request, None, now_s)
            return answer

        return why_no_pre_vote

    wrap(rules, "_why_no_pre_vote", make)


@mutant("A pre-vote of an earlier term is not answered.", RAFT)
def stale_pre_vote_ignored() -> None:
    def make(original: Any) -> Any:
        def vote_asked(raft: Raft, call_id: int, request: VoteRequest, now_s: float) -> Step:
            is_stale = request.is_pre_vote and request.term < raft.term
            step: Step = (raft, ()) if is_stale else original(raft, call_id, request, now_s)
            return step

        return vote_asked

    wrap(rules, "vote_asked", make)


@mutant("A follower refuses pre-votes for as long as it knows of a leader, however long that is silent.", RAFT)
def follower_never_lets_go() -> None:
    def make(original: Any) -> Any:
        def why_no_pre_vote(raft: Raft, request: VoteRequest, *rest: Any) -> str | None:
            if raft.role in (Role.FOLLOWER, Role.PROSPECTIVE) and raft.ballot.leader_id is not None:
                return f"{raft.me.node_id} follows {raft.ballot.leader_id}"
            answer: str | None = original(raft, request, *rest)
            return answer

        return why_no_pre_vote

    wrap(rules, "_why_no_pre_vote", make)


@mutant("A node to which nobody would give its vote does not ask again.", RAFT)
def asks_once() -> None:
    wrap(rules, "_wait_to_stand_again", lambda _: lambda _: ())


@mutant("A candidate waits for the votes of all, and not of a majority.", RAFT)
def waits_for_all_votes() -> None:
    def make(original: Any) -> Any:
        def is_majority(self: Raft, keys: Any) -> bool:
            return set(self.voters) <= set(keys) if self.role is Role.CANDIDATE else bool(original(self, keys))

        return is_majority

    wrap(Raft, "is_majority", make)


@mutant("Answers to questions that a node has given up count as answers to those that it asks now.", RAFT_SLOW)
def old_canvass_counted() -> None:
    def make(original: Any) -> Any:
        def vote_returned(raft: Raft, response: Any, _: int, *, is_pre_vote: bool) -> Step:
            step: Step = original(raft, response, raft.canvass, is_pre_vote=is_pre_vote)
            return step

        return vote_returned

    wrap(rules, "vote_returned", make)


# ---------------------------------------------------------------- holding on to a leader


@mutant("Who hears of its leader lets itself be led away all the same.", RAFT)
def holds_on_to_nobody() -> None:
    def make(original: Any) -> Any:
        def is_sticky(self: Raft, now_s: float) -> bool:
            return self.role is Role.LEADER and bool(original(self, now_s))

        return is_sticky

    wrap(Raft, "is_sticky", make)


@mutant("A follower holds on to its leader for two election timeouts after it has answered, not for one.", RAFT_PARTED)
def holds_on_too_long() -> None:
    def make(original: Any) -> Any:
        return lambda raft, *rest: original(replace(raft, timeout_s=2 * raft.timeout_s), *rest)

    wrap(rules, "_why_no_vote", make)
    wrap(rules, "_why_no_pre_vote", make)


@mutant("A leader votes for whoever asks, and would.", RAFT_PARTED)
def leader_votes() -> None:
    def make(original: Any) -> Any:
        def asked(raft: Raft, *arguments: Any) -> Any:
            if raft.role is Role.LEADER:
                raft = replace(raft, role=Role.FOLLOWER, heard_s=None)
            return original(raft, *arguments)

        return asked

    wrap(rules, "_why_no_vote", make)
    wrap(rules, "_why_no_pre_vote", make)


@mutant("A follower refuses its vote since it hears of its leader, and goes to the candidate's term.", RAFT_FAR)
def refusal_adopts_term() -> None:
    def make(original: Any) -> Any:
        def vote_asked(raft: Raft, call_id: int, request: VoteRequest, now_s: float) -> Step:
            after, effects = original(raft, call_id, request, now_s)
            is_refused = len(effects) == 1 and isinstance(effects[0], Answer) and not effects[0].is_granted
            if is_refused and raft.role is Role.FOLLOWER and request.term > raft.term and not request.is_pre_vote:
                return raft, (SaveThen(Ballot(request.term), AnswerVote(call_id, request)),)
            return after, effects

        return vote_asked

    wrap(rules, "vote_asked", make)


@mutant("That the leader answers does not keep its followers from standing.", RAFT)
def leader_answers_unheard() -> None:
    wrap(rules, "leader_answered", lambda _: lambda raft, *_: (raft, ()))


@mutant("A follower lets go of its leader on the word of gossip, also if that has just answered.", RAFT_NO_GOSSIP)
def gossip_deposes() -> None:
    wrap(rules, "leader_suspected", lambda _: lambda raft, leader_id, __: rules.leader_lost(raft, leader_id))


@mutant("Whoever leaves, a follower takes it for its leader.", RAFT_LEFT)
def anyone_lost_is_leader() -> None:
    def make(original: Any) -> Any:
        def leader_lost(raft: Raft, _: Any) -> Step:
            step: Step = original(raft, raft.leader_id)
            return step

        return leader_lost

    wrap(rules, "leader_lost", make)


@mutant("A leader that starts again leads on in its term.", RAFT)
def restarted_leader_leads() -> None:
    def make(original: Any) -> Any:
        def opened(me: VoterKey, timeout_s: float, voters: Any, ballot: Ballot) -> Step:
            raft, effects = original(me, timeout_s, voters, ballot)
            if ballot.leader_id == me.node_id and raft.is_voter:
                return rules._leads(replace(raft, granted=frozenset(voters)), ballot, 0.0)
            return raft, effects

        return opened

    wrap(rules, "opened", make)


@mutant("A candidate says that its leader has asked it to take over, and nobody has.", RAFT)
def always_by_leave() -> None:
    def make(original: Any) -> Any:
        def ask_for_votes(self: VoterCalls, asked: AskForVotes, *rest: Any) -> None:
            original(self, replace(asked, by_leave=True), *rest)

        return ask_for_votes

    wrap(VoterCalls, "ask_for_votes", make)


# ---------------------------------------------------------------- leading


@mutant("A leader that nobody fetches from goes on leading.", RAFT)
def no_check_quorum() -> None:
    wrap(rules, "QUORUM_WITHIN", lambda _: 1e9)


@mutant("A leader gives up when a majority has not fetched for half an election timeout.", RAFT)
def quorum_lost_too_soon() -> None:
    wrap(rules, "QUORUM_WITHIN", lambda _: 0.5)


@mutant("The election of a leader is told of a voter's fetches once in two election timeouts.", RAFT_IDLE)
def fetches_told_too_rarely() -> None:
    wrap(voter_news, "TOLD_PER_ELECTION_TIMEOUT", lambda _: 0.5)


@mutant("A new leader counts how long it leads from the beginning of its process.", RAFT)
def led_since_the_beginning() -> None:
    def make(original: Any) -> Any:
        def leads(raft: Raft, *rest: Any) -> Step:
            after, effects = original(raft, *rest)
            return replace(after, led_since_s=0.0), effects

        return leads

    wrap(rules, "_leads", make)


@mutant("A leader that stood still gives up before it looks at what has come in meanwhile.", RAFT_PAUSED)
def late_look_resigns() -> None:
    def make(original: Any) -> Any:
        def looked(raft: Raft, now_s: float, *, was_late: bool) -> Step:  # noqa: ARG001
            step: Step = original(raft, now_s, was_late=False)
            return step

        return looked

    wrap(rules, "lead_looked_at", make)


@mutant("A leader does not count itself when it looks whether a majority is there.", RAFT)
def quorum_without_oneself() -> None:
    def make(original: Any) -> Any:
        def looked(raft: Raft, now_s: float, *, was_late: bool) -> Step:
            since_s = now_s - rules.QUORUM_WITHIN * raft.timeout_s
            present = {voter for voter, at_s in raft.fetched.items() if at_s >= since_s}
            is_over = raft.led_since_s < since_s and not raft.is_majority(present)
            if raft.role is Role.LEADER and not was_late and is_over:
                return rules.resigned(raft)
            step: Step = original(raft, now_s, was_late=was_late)
            return step

        return looked

    wrap(rules, "lead_looked_at", make)


@mutant("A leader goes on leading as long as anybody fetches, voter or not.", RAFT_PARTED)
def standby_is_quorum() -> None:
    def on_fetch(original: Any) -> Any:
        def fetch(self: ReplicatorActor, received: Any) -> None:
            request: FetchRequest = received.request
            if self._commit is not None and self.fetch_server.check(received) is None:
                at_s = self.state.ports.clock.monotonic_s()
                self.election.tell(VoterFetched(request.node_id, request.log_epoch, request.disk_index, at_s))
            original(self, received)

        return fetch

    def make(original: Any) -> Any:
        def voter_fetched(raft: Raft, voter: VoterKey, at_s: float) -> Step:
            step: Step = original(raft, voter if voter in raft.voters else raft.others[0], at_s)
            return step

        return voter_fetched

    wrap(ReplicatorActor, "_on_fetch", on_fetch)
    wrap(rules, "voter_fetched", make)


@mutant("A leader counts what the new disk of a voter has fetched, which has no vote.", RAFT_DISKS_LOST)
def fetches_counted_by_name() -> None:
    def make(original: Any) -> Any:
        def fetched(self: LeaderCommit, *arguments: Any) -> bool:
            keys, self.keys = self.keys, frozenset()
            try:
                return bool(original(self, *arguments))
            finally:
                self.keys = keys

        return fetched

    wrap(LeaderCommit, "fetched", make)


@mutant("A leader commits what was there before its term as soon as its term begins behind it.", RAFT_OVERTAKEN)
def term_start_included() -> None:
    def make(original: Any) -> Any:
        def advance(self: LeaderCommit, terms: TermHistory, boundaries: Boundaries) -> bool:
            return bool(original(self, _OneFurther(terms), boundaries))

        return advance

    wrap(LeaderCommit, "advance", make)


@mutant("A node that leads again still counts what the voters had when it led before.", RAFT)
def positions_kept_over_terms() -> None:
    def make(original: Any) -> Any:
        def change_role(self: ReplicatorActor, role: ReplicatorRole) -> None:
            if self._commit is not None:
                self.__dict__["kept"] = dict(self._commit.on_disk)
            original(self, role)
            if self._commit is not None:
                for voter, index in self.__dict__.get("kept", {}).items():
                    self._commit.on_disk.setdefault(voter, min(index, self.state.end.index))

        return change_role

    wrap(ReplicatorActor, "_change_role", make)


class _OneFurther:
    def __init__(self, terms: TermHistory) -> None:
        self._terms = terms

    def term_of(self, index: Index) -> Term:
        """The term of that entry, or of the one after it if there is one."""
        return self._terms.term_of(Index(index + 1)) or self._terms.term_of(index)


@mutant("A leader counts fetches that come from an earlier term.", RAFT)
def stale_fetches_counted() -> None:
    def make(original: Any) -> Any:
        def check_elected(self: FetchServer, request: FetchRequest) -> Any:
            return original(self, replace(request, term=max(request.term, self._state.term)))

        return check_elected

    wrap(FetchServer, "_check_elected", make)


@mutant("Who begins to follow a leader cuts what it does not know to be committed.", RAFT)
def cut_to_commit() -> None:
    def make(original: Any) -> Any:
        def on_leader_changed(self: ReplicatorActor, changed: Any) -> None:
            original(self, changed)
            state = self.state
            if state.role is ReplicatorRole.FOLLOWER and state.committed.index < state.end.index:
                state.store.tell(TruncateLog(state.committed.index, state.term, state.me))

        return on_leader_changed

    wrap(ReplicatorActor, "_on_leader_changed", make)


@mutant("A leader whose disk has failed leads on until it is missed.", RAFT_FAILED)
def failed_disk_leads_on() -> None:
    def make(original: Any) -> Any:
        def leave(self: Leadership, why: str) -> None:
            if "has not answered" in why:
                original(self, why)

        return leave

    wrap(Leadership, "leave_at_once", make)


@mutant("The first leader does not write down who votes.", RAFT)
def voters_never_logged() -> None:
    wrap(Leadership, "_log_first_voters", lambda _: lambda *_: None)


@mutant("A leader does not notice that its disk hangs.", RAFT_HUNG)
def hung_disk_unnoticed() -> None:
    wrap(Leadership, "_look_at_disk", lambda _: lambda _: None)


@mutant(
    "A leader that has heard of a later term waits for its disk before it looks whether that hangs.", RAFT_PAUSED_HUNG
)
def hung_disk_waited_for() -> None:
    def make(original: Any) -> Any:
        def on_due(self: RaftElection, due: ElectionTimerDue) -> None:
            decisions = self._decisions

            def later(_: Raft) -> Step:
                original(self, due)
                return decisions.state, ()

            if due.name == TimerName.LEAD:
                decisions.decide(later)
            else:
                original(self, due)

        return on_due

    wrap(RaftElection, "_on_due", make)


@mutant("A follower looks for its leader where gossip says it is, and nowhere else.", RAFT_NO_GOSSIP)
def leader_known_by_gossip_alone() -> None:
    def address_of(self: ReplicationState, node_id: NodeId | None) -> str | None:
        member = self.members.get(node_id) if node_id is not None else None
        return member.peer_addr if member is not None else None

    wrap(ReplicationState, "address_of", lambda _: address_of)


# ---------------------------------------------------------------- handing the lead over


@mutant("A leader that hands over stops leading first.", RAFT_STOPPED)
def hand_over_resigns_first() -> None:
    def make(original: Any) -> Any:
        def tell_leave(self: Decisions, effect: Any) -> None:
            if type(effect).__name__ == "TellLeave":
                self.apply(rules.resigned(self.state))
            original(self, effect)

        return tell_leave

    wrap(Decisions, "_carry_out", make)


@mutant("A leader hands over to a voter that does not have all that it has.", RAFT_FAR_STOPPED)
def hand_over_to_one_behind() -> None:
    def make(original: Any) -> Any:
        def measured(self: LeadTransfer, _: Index, *rest: Any) -> None:
            original(self, Index(0), *rest)

        return measured

    wrap(LeadTransfer, "measured", make)
    furthest = hand_over.successors_among
    wrap(hand_over, "successors_among", lambda _: lambda *arguments: furthest(*arguments)[::-1])


@mutant("A leader hands over to a node that does not vote.", RAFT_FAR_STOPPED)
def hand_over_to_standby() -> None:
    def on_fetch(original: Any) -> Any:
        def fetch(self: ReplicatorActor, received: Any) -> None:
            request: FetchRequest = received.request
            if self._commit is not None and self.fetch_server.check(received) is None:
                at_s = self.state.ports.clock.monotonic_s()
                self.election.tell(VoterFetched(request.node_id, request.log_epoch, request.disk_index, at_s))
            original(self, received)

        return fetch

    def address(original: Any) -> Any:
        return lambda self, node_id: original(self, node_id) or f"{node_id}:8400"

    wrap(ReplicatorActor, "_on_fetch", on_fetch)
    wrap(Electorate, "address_of", address)

"""The replicator: the pulls, how far each peer has got, and the commit position.

It does not know how a leader was chosen. The election slot announces the leader, and that determines
the pull set: with nobody elected, everyone pulls from everyone; with a leader, everyone pulls from
the leader (docs/architecture.md, the pull graph).
"""

from __future__ import annotations

from typing import Any, assert_never

from ourolog.actors.actor import NodeActor
from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.election import (
    HigherTermSeen,
    LeaderAnswered,
    LeaderHinted,
    LeaderUnreachable,
    StandbyFetched,
    VoterFetched,
    VotersCommitted,
)
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitAdvanced,
    CommitKnown,
    HoldProduces,
    LeaderChanged,
    LogAppended,
    LogOpened,
    LogStartMoved,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    NobodyElected,
    ReleaseProduces,
    ReplicasAdvanced,
    VotersChanged,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import (
    CallCancelled,
    CallFailed,
    CallReceived,
    CallReturned,
    FetchRequest,
    FetchResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    RepairRequest,
    RepairResponse,
)
from ourolog.actors.messages.repair import BatchRepaired, DamageFound, RepairDue, RepairRejected
from ourolog.actors.messages.replicator import (
    CommitNewsDue,
    ConfirmRead,
    FetchWaitExpired,
    ForgetRead,
    InSyncDue,
    KeepAliveDue,
    LeaderSearchDue,
    NotesDue,
    PullRetryDue,
    ReadIndexDue,
    ReadsExpired,
    ReplicatorMessage,
)
from ourolog.actors.messages.status import ReplicatorStatus, ReportStatus, StatusReported
from ourolog.actors.messages.store import (
    BatchesGathered,
    FetchedAppended,
    FetchedRejected,
    FetchedTaken,
    LogTruncated,
    NoteCommitted,
    PulledAppended,
    PullRejected,
    StoreMessage,
)
from ourolog.actors.ports import Ports
from ourolog.actors.replication.commit import UNKNOWN, Boundaries, LeaderCommit, why_commit_unknown
from ourolog.actors.replication.fetch_server import FetchServer
from ourolog.actors.replication.in_sync import InSync
from ourolog.actors.replication.latest_reads import LatestReads
from ourolog.actors.replication.leader_search import LeaderSearch
from ourolog.actors.replication.log_tail import FETCHES_KEPT, LogTail
from ourolog.actors.replication.pulls import Pulls
from ourolog.actors.replication.repairs import Repairs
from ourolog.actors.replication.standby_rounds import StandbyRounds
from ourolog.actors.replication.state import ReplicationState, Role
from ourolog.actors.replication.voter_news import VoterNews
from ourolog.storage.control import VoterKey
from ourolog.storage.types import Index, NodeId, Position

NOTES_INTERVAL_S = 1.0


class ReplicatorActor(NodeActor):
    """The replicator: pulls batches from other nodes, serves their fetches, and tells how far the log is committed.

    `Pulls` is its pulling side, `FetchServer` its serving side.
    """

    actor_name = "replicator"

    def __init__(
        self,
        *,
        config: NodeConfig,
        ports: Ports,
        store: Mailbox[StoreMessage],
        server: Mailbox[LogStartMoved | CommitAdvanced | CommitKnown | ReplicasAdvanced],
        election: Mailbox[
            HigherTermSeen
            | LeaderHinted
            | LeaderUnreachable
            | LeaderAnswered
            | VoterFetched
            | StandbyFetched
            | CommitAdvanced
            | CommitKnown
            | VotersCommitted
        ],
    ) -> None:
        super().__init__(config.node_id, ports.observer)
        self.server = server
        self.election = election
        tail = LogTail(FETCHES_KEPT * config.fetch_max_bytes)
        self.state = ReplicationState(config, ports, store, self.me, tail)
        self.pulls = Pulls(self.state, election, self._on_leader_committed)
        self.leader_search = LeaderSearch(self.state, election)
        self.fetch_server = FetchServer(self.state)
        self.voter_news = VoterNews(self.state)
        self.standby_rounds = StandbyRounds(config.election_timeout_s)
        self.latest_reads = LatestReads(self.state, lambda: self._voters, self.fetch_server.wake)
        self.repairs = Repairs(self.state, lambda: self._voters)
        self._voters: tuple[NodeId, ...] = ()
        self._keys: frozenset[VoterKey] = frozenset()
        self._voters_at: Index | None = None
        self._voters_committed_at: Index | None = None
        self._missed_leader: NodeId | None = None
        self._boundaries = Boundaries()
        self._commit: LeaderCommit | None = None
        self._in_sync = InSync(config, 0.0)
        self._replicas: ReplicasAdvanced | None = None
        self._noted = self.state.committed
        self._is_disputed = False
        self._is_commit_known = False

    def on_receive(self, message: ReplicatorMessage) -> None:
        match message:
            case CallReceived():
                self._on_call(message)
            case CallReturned():
                self._on_returned(message)
            case BatchesGathered():
                self._on_gathered(message)
            case LogAppended():
                self._on_log_appended(message)
            case FetchedTaken():
                self.pulls.on_taken(message)
            case FetchedAppended():
                self.pulls.on_fetched(message)
            case PulledAppended():
                self.pulls.on_pulled(message)
            case CallFailed():
                self.pulls.on_failed(message)
                self.leader_search.on_failed(message)
                self.latest_reads.on_failed(message)
                self.repairs.on_failed(message)
                if message.peer_id in self.state.gone:
                    self._reconcile(f"{message.peer_id} is gone and does not answer")
            case PullRetryDue():
                self.pulls.on_retry(message)
            case KeepAliveDue():
                self.pulls.on_keep_alive_due(message)
            case LeaderSearchDue():
                self.leader_search.on_due(message)
            case FetchWaitExpired():
                self.fetch_server.expire(message.request_id)
            case CommitNewsDue():
                self.fetch_server.tell_commit()
            case CallCancelled():
                self.fetch_server.cancel(message.request_id)
                self.latest_reads.forget(("call", message.request_id))
            case ConfirmRead():
                self.latest_reads.on_confirm(message)
            case ForgetRead():
                self.latest_reads.forget(("server", message.request_id))
            case InSyncDue():
                self._on_in_sync_due(message)
            case ReadIndexDue():
                self.latest_reads.on_due(message)
            case ReadsExpired():
                self.latest_reads.expire()
            case DamageFound():
                self.repairs.on_found(message)
            case BatchRepaired():
                self.repairs.on_repaired(message)
            case RepairRejected():
                self.repairs.on_rejected(message)
            case RepairDue():
                self.repairs.on_due(message)
            case FetchedRejected():
                self.pulls.on_fetched_rejected(message)
            case PullRejected():
                self.pulls.on_pull_rejected(message)
            case LogTruncated():
                self._on_log_truncated(message)
            case LogStartMoved():
                self.state.start = message.start
                self.state.voters_before_start = message.voters_before_start
                self.state.producers_before_start = message.producers_before_start
            case MemberJoined() | MemberUpdated():
                self.state.members[message.member.node_id] = message.member
                self.state.gone.discard(message.member.node_id)
                self._reconcile(f"{message.member.node_id} has a new address")
            case MemberFailed():
                self._on_member_gone(message.member.node_id, has_left=False)
            case MemberLeft():
                self._on_member_gone(message.member.node_id, has_left=True)
            case LogOpened():
                self._on_log_opened(message)
            case NobodyElected():
                self._change_role(Role.PEER)
            case LeaderChanged():
                self._on_leader_changed(message)
            case VotersChanged():
                self._on_voters_changed(message)
            case HoldProduces() | ReleaseProduces():
                self.state.reports_every_fetch = isinstance(message, HoldProduces)
            case ClaimsDisputed():
                self._is_disputed = True
                self.latest_reads.dispute(message.reason)
            case ClaimsSettled():
                self._is_disputed = False
                self.latest_reads.dispute("")
                if self._commit is not None:
                    self._advance_commit()
            case NotesDue():
                self._note()
                self.state.ports.timers.after(NOTES_INTERVAL_S, self.me, NotesDue())
            case ReportStatus():
                self._report(message)
            case _:
                assert_never(message)

    def _on_call(self, received: CallReceived[Any]) -> None:
        match received.request:
            case FetchRequest():
                self._on_fetch(received)
            case ReadIndexRequest():
                self.latest_reads.on_asked(received)
            case RepairRequest():
                self.repairs.on_asked(received)

    def _on_returned(self, returned: CallReturned[Any]) -> None:
        match returned.response:
            case FetchResponse():
                self.pulls.on_returned(returned)
                self.leader_search.on_returned(returned)
            case ReadIndexResponse():
                self.latest_reads.on_returned(returned)
            case RepairResponse():
                self.repairs.on_returned(returned)

    # ------------------------------------------------------------ who pulls from whom

    def _reconcile(self, reason: str) -> None:
        state = self.state
        match state.role:
            case Role.PEER:
                sources = {
                    node_id: member.peer_addr
                    for node_id, member in state.members.items()
                    # Gossip says where others are; only the pull itself knows whether they can be pulled from.
                    if node_id not in state.gone or self.pulls.works(node_id)
                }
            case Role.FOLLOWER:
                # Even if gossip counts it as gone, or never met it: it is the leader until the election says otherwise.
                addr = state.address_of(state.leader_id)
                sources = {state.leader_id: addr} if state.leader_id and addr else {}
            case Role.LEADER | Role.STARTING:
                sources = {}
            case _:
                assert_never(state.role)
        sources.pop(state.node_id, None)
        searches = state.role is Role.FOLLOWER and state.leader_id is None
        if not searches:
            self.leader_search.stop()
        self.pulls.reconcile(sources, reason)
        if searches:
            self.leader_search.start(self._addresses_of_voters)
            self.leader_search.look_again()
        self.latest_reads.look_again()
        # Only nodes that may lead are remembered when they are gone: anybody can invent names.
        for node_id in [node_id for node_id in state.gone if node_id not in sources]:
            if node_id not in self._voters and node_id != state.leader_id:
                state.gone.discard(node_id)
                state.members.pop(node_id, None)

    def _on_member_gone(self, node_id: NodeId, *, has_left: bool) -> None:
        state = self.state
        if has_left and node_id != state.leader_id and node_id not in self._voters:
            # It said so itself. Who leads or votes may still be asked: it may be back before gossip is.
            state.members.pop(node_id, None)
            state.gone.discard(node_id)
        elif node_id in state.members:
            state.gone.add(node_id)
        self._reconcile(f"{node_id} {'left' if has_left else 'failed'}")

    def _addresses_of_voters(self) -> dict[NodeId, str]:
        """The addresses of the other voters, including those that gossip counts as gone: it may be wrong, or late.

        A node that joins does not know who votes, and asks every member. Whoever leads may have become a voter since
        this node was cut off: who led in this term is asked, too.
        """
        state = self.state
        asked = self._voters or tuple(sorted(state.members))
        if self._missed_leader is not None:
            asked = (*asked, self._missed_leader)
        addrs = {voter: state.address_of(voter) for voter in asked if voter != state.node_id}
        return {voter: addr for voter, addr in addrs.items() if addr is not None}

    def _on_leader_changed(self, changed: LeaderChanged) -> None:
        assert changed.term >= self.state.term, "terms never fall"
        self.latest_reads.nobody_leads(changed.why_nobody)
        if (changed.term, changed.leader_id) == (self.state.term, self.state.leader_id) and self.state.elected:
            return  # only the reason why nobody leads has changed
        self._missed_leader = self.state.leader_id if changed.term == self.state.term else None
        self.state.term = changed.term
        self.state.leader_id = changed.leader_id
        self._change_role(Role.LEADER if changed.leader_id == self.state.node_id else Role.FOLLOWER)

    def _on_voters_changed(self, changed: VotersChanged) -> None:
        self.state.cluster_id = changed.cluster_id
        self.state.voter_addrs = changed.peer_addr_by_voter
        if self._commit is not None and self._voters_at is not None and (changed.index or 0) < self._voters_at:
            return  # a leader's own log has named later ones meanwhile
        self._count(changed.voters, frozenset(changed.keys), changed.index)
        if self.state.role is Role.FOLLOWER:
            self._reconcile("the voters changed")
        if self._commit is not None:
            self._advance_commit()
        self._look_at_voters()

    def _count(self, voters: tuple[NodeId, ...], keys: frozenset[VoterKey], index: Index | None) -> None:
        """Count these voters from now on; `index` is that of the entry that names them."""
        self._voters, self._keys, self._voters_at = voters, keys, index
        if self._commit is not None:
            self._in_sync.set_voters(self._commit.voters, voters, self.state.ports.clock.monotonic_s())
            self._commit.set_voters(voters, keys)
            self.latest_reads.recount()

    def _look_at_voters(self) -> None:
        """Tell the election, once, when the entry that names the voters is committed."""
        at = self._voters_at
        if at is not None and at != self._voters_committed_at and self.state.committed.index > at:
            self._voters_committed_at = at
            self.election.tell(VotersCommitted(at))

    def _change_role(self, role: Role) -> None:
        state = self.state
        state.role = role
        state.tail.clear()
        state.reports_every_fetch = False
        self.pulls.restart()
        self._commit = None
        self._is_commit_known = False
        if role is Role.LEADER:
            self._commit = LeaderCommit(state.term, self._voters, state.committed, self._keys)
            self._commit.fetched(state.node_id, state.log_epoch, state.end.index)
            self._in_sync = InSync(state.config, state.ports.clock.monotonic_s())
            self._replicas = None
            self._watch_in_sync()
            self.voter_news.begin_term()
            self.standby_rounds.begin_term()
        elif role is Role.PEER:
            self._set_committed(state.end)
        self.latest_reads.change_role()
        self.fetch_server.refuse_all()
        self._reconcile("the pull set changed")

    # ------------------------------------------------------------ the log

    def _on_log_opened(self, opened: LogOpened) -> None:
        state = self.state
        state.opened = True
        state.start, state.end, state.terms = opened.start, opened.end, opened.terms
        state.log_epoch = opened.log_epoch
        state.voters_before_start = opened.voters_before_start
        state.producers_before_start = opened.producers_before_start
        state.committed = opened.committed
        self._noted = opened.committed
        self._boundaries.extend((opened.end,))
        self.pulls.restore(opened.pull_positions)
        state.ports.timers.after(NOTES_INTERVAL_S, self.me, NotesDue())

    def _on_gathered(self, gathered: BatchesGathered) -> None:
        """Have followers write what this leader's disk is about to get; it counts itself when LogAppended comes.

        What the store says before this node has heard that it leads is left to LogAppended.
        """
        state = self.state
        if state.role is Role.LEADER and gathered.term == state.term:
            state.tail.extend(gathered)
            self.fetch_server.wake()

    def _on_log_appended(self, appended: LogAppended) -> None:
        state = self.state
        state.end, state.terms = appended.ends[-1], appended.terms
        if state.role is Role.PEER:
            self._set_committed(state.end)
        else:
            self._boundaries.extend(appended.ends)
            if self._commit is not None:
                if self._keys and appended.voters is not None and appended.voters.index != self._voters_at:
                    # In force from its append on: the voters before it must not commit the entry that replaces them.
                    named = appended.voters
                    names = tuple(voter.node_id for voter in named.voters)
                    self._count(names, frozenset(named.keys), named.index)
                self._commit.fetched(state.node_id, state.log_epoch, state.end.index)
                self._advance_commit()
        self.fetch_server.wake()

    def _on_log_truncated(self, truncated: LogTruncated) -> None:
        state = self.state
        if truncated.start != state.start:
            # The log was begun anew there, and all that the leader has removed below was committed.
            self.server.tell(
                LogStartMoved(truncated.start, truncated.voters_before_start, truncated.producers_before_start)
            )
            self._set_committed(truncated.start)
        state.start, state.end, state.terms = truncated.start, truncated.end, truncated.terms
        state.voters_before_start = truncated.voters_before_start
        state.producers_before_start = truncated.producers_before_start
        self._boundaries.cut(state.end.index)
        self.pulls.resume()

    # ------------------------------------------------------------ commit

    def _on_fetch(self, received: CallReceived[FetchRequest]) -> None:
        refusal = self.fetch_server.check(received)
        if refusal is not None:
            # A term in a request changes nothing, unless it comes with the identity of a voter's disk: anybody who
            # can reach the port can write any name and number.
            request = received.request
            if VoterKey(request.node_id, request.log_epoch) in self._keys and self._is_of_later_term(request):
                self.election.tell(HigherTermSeen(request.term, None, request.node_id, request.cluster_id))
            self.fetch_server.answer(received, refusal)
            return
        # Only voters are counted: other fetchers may use ever new names.
        request = received.request
        if self._commit is not None:
            is_named = request.node_id in self._commit.voters
            if is_named and self._commit.fetched(request.node_id, request.log_epoch, request.disk_index):
                self._in_sync.fetched(request.node_id, self.state.ports.clock.monotonic_s())
                if self.voter_news.is_due(request.node_id, request.log_epoch, request.disk_index):
                    at_s = self.state.ports.clock.monotonic_s()
                    self.election.tell(VoterFetched(request.node_id, request.log_epoch, request.disk_index, at_s))
                self.latest_reads.on_echo(request.node_id, request.read_round)
            elif self._keys:
                self._on_standby_fetched(request)
            self._advance_commit()
        self.fetch_server.serve(received)

    def _on_standby_fetched(self, request: FetchRequest) -> None:
        """A node without a vote has fetched from this leader: one that gossip knows may be a voter one day."""
        state = self.state
        is_known = request.node_id in state.members and request.node_id not in state.gone
        if is_known and request.cluster_id == state.cluster_id != 0:
            key = VoterKey(request.node_id, request.log_epoch)
            now_s = state.ports.clock.monotonic_s()
            news = self.standby_rounds.fetched(key, request.disk_index, state.end.index, now_s)
            if news is not None:
                self.election.tell(news)

    def _is_of_later_term(self, request: FetchRequest) -> bool:
        """Whether a voter of this cluster asks in a later term: a leader that does not hear of it blocks that voter."""
        return request.cluster_id == self.state.cluster_id and self.state.is_ahead(request.term)

    def _advance_commit(self) -> None:
        commit = self._commit
        assert commit is not None
        if self._is_disputed:
            return
        has_advanced = commit.advance(self.state.terms, self._boundaries)
        self._tell_replicas(commit, has_advanced=has_advanced)
        if has_advanced:
            self._set_committed(commit.committed)
            self.fetch_server.commit_moved()
            if not self._is_commit_known:
                self._is_commit_known = True
                for listener in (self.server, self.election):
                    listener.tell(CommitKnown(commit.term))
                self.latest_reads.commit_known()

    def _tell_replicas(self, commit: LeaderCommit, *, has_advanced: bool) -> None:
        """Tell the server what the voters have, before it hears that more is committed and answers.

        That this node has written more is no news to it.
        """
        me, before = self.state.node_id, self._replicas
        members = self._in_sync.members(commit.voters, self.state.ports.clock.monotonic_s())
        index = self._in_sync.index(commit.voters, commit.on_disk, members)
        ends = tuple((voter, commit.on_disk.get(voter, UNKNOWN)) for voter in commit.voters)
        if (
            has_advanced
            or before is None
            or (before.index, before.in_sync) != (index, members)
            or [end for end in before.ends if end[0] != me] != [end for end in ends if end[0] != me]
        ):
            self._replicas = ReplicasAdvanced(self.state.term, index, ends, members)
            self.server.tell(self._replicas)

    def _watch_in_sync(self) -> None:
        """A voter that falls silent sends nothing that this node could notice."""
        state = self.state
        if state.config.min_in_sync is not None:
            state.ports.timers.after(state.config.election_timeout_s, self.me, InSyncDue(state.term))

    def _on_in_sync_due(self, due: InSyncDue) -> None:
        if self._commit is not None and self._commit.term == due.term:
            self._advance_commit()
            self._watch_in_sync()

    def _on_leader_committed(self, committed: Position) -> None:
        """Follower: everything that the leader committed and this node has is committed here too."""
        state = self.state
        position = committed if committed.index <= state.end.index else state.end
        self._boundaries.forget(position.index)
        self._set_committed(position)

    def _set_committed(self, position: Position) -> None:
        if position > self.state.committed:
            self.state.committed = position
            advanced = CommitAdvanced(position)
            self.server.tell(advanced)
            self.election.tell(advanced)
            self._look_at_voters()
            self.latest_reads.on_committed()

    def on_stop(self) -> None:
        self._note()

    def _note(self) -> None:
        """Note the commit position; a later leader cannot make this node drop what it knows to be committed."""
        state = self.state
        if state.role is not Role.PEER and state.committed != self._noted:
            self._noted = state.committed
            state.store.tell(NoteCommitted(state.committed))

    def _report(self, request: ReportStatus) -> None:
        pulls = self.pulls
        status = ReplicatorStatus(
            committed=self.state.committed,
            pulls=pulls.statuses(),
            cycles_seen=pulls.cycles_seen,
            duplicates_dropped=pulls.duplicates_dropped,
            expired_dropped=pulls.expired_dropped,
            parked_fetches=self.fetch_server.parked,
            boundaries=len(self._boundaries),
            commit_unknown=self._why_commit_unknown(),
        )
        request.reply_to.tell(StatusReported(request.request_id, status))

    def _why_commit_unknown(self) -> str:
        commit = self._commit
        if commit is None or self._is_commit_known:
            return ""
        return why_commit_unknown(self.state.node_id, commit.term)

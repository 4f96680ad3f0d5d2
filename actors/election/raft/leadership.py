"""What a leader does besides the rules: it watches its disk and the other nodes, hands over, and changes the voters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.calls import VoterCalls
from ourolog.actors.election.raft.decisions import Decisions
from ourolog.actors.election.raft.electorate import Electorate
from ourolog.actors.election.raft.hand_over import NAME as HAND_OVER
from ourolog.actors.election.raft.hand_over import LeadTransfer, Progress, successors_among
from ourolog.actors.election.raft.rules import Role
from ourolog.actors.election.raft.standbys import Standbys
from ourolog.actors.election.raft.timers import ElectionTimers
from ourolog.actors.election.raft.voter_changer import Answered, VoterChanger
from ourolog.actors.election.raft.voter_changes import Change, Situation
from ourolog.actors.messages.election import ChangeProblem, ElectionMessage, StandbyFetched, VoterFetched
from ourolog.actors.messages.events import HoldProduces, LeaderChanged, ReleaseProduces
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.status import ElectionStatus, ReplicaStatus
from ourolog.actors.messages.store import AppendControl, DescribeLog, LogDescribed, StoreMessage
from ourolog.actors.ports import Ports
from ourolog.storage.control import VoterKey, VotersSet
from ourolog.storage.types import Index, NodeId, Term

DISK_HANGS_AFTER: Final = 2.0
"""A leader whose disk has not answered for so many election timeouts lets another node lead (hashicorp/raft #503)."""


class Leadership:
    """The part of one node's election that has something to do while that node leads.

    changer: the changes of voters.
    standbys: the nodes that copy from this one and have no vote.
    """

    def __init__(
        self,
        config: NodeConfig,
        ports: Ports,
        store: Mailbox[StoreMessage],
        listeners: tuple[Mailbox[Any], ...],
        me: Mailbox[ElectionMessage],
        next_id: Callable[[], int],
        *,
        decisions: Decisions,
        electorate: Electorate,
        calls: VoterCalls,
        timers: ElectionTimers,
    ) -> None:
        """Prepare for a node that does not lead yet.

        listeners: the mailboxes that are told to hold produces.
        me: where answers go.
        next_id: a fresh request id of the election.
        """
        self._config = config
        self._node_id = config.node_id
        self._observer = ports.observer
        self._store = store
        self._listeners = listeners
        self._me = me
        self._next_id = next_id
        self._decisions = decisions
        self._electorate = electorate
        self._calls = calls
        self._progress: dict[VoterKey, Progress] = {}
        self._disk_asked: tuple[int, float] | None = None
        self._holding: int | None = None
        self._measuring: int | None = None
        self._on_left: list[Callable[[], None]] = []
        self._transfer = LeadTransfer(
            config.election_timeout_s,
            hold=self._hold_produces,
            release=lambda: self._tell_listeners(ReleaseProduces()),
            measure=self._measure_log,
            leave=lambda successors: decisions.decide(lambda raft: rules.left(raft, successors)),
            stay=lambda: decisions.decide(rules.stayed),
            wait=lambda delay_s: timers.set(HAND_OVER, delay_s),
        )
        self.standbys = Standbys()
        self.changer = VoterChanger(self)

    @property
    def leads(self) -> bool:
        raft = self._decisions.raft
        return raft is not None and raft.role is Role.LEADER

    # ------------------------------------------------------------ who leads

    def leader_changed(self, changed: LeaderChanged) -> None:
        """That has just been announced; it says of this node, too, whether it leads."""
        if changed.leader_id == self._node_id:
            self._begin(changed.term)
            return
        self.changer.lead_ended(f"{self._node_id} leads no more, in term {changed.term}")
        if changed.leader_id is not None:
            self._transfer.leads_elsewhere()
        else:
            self._transfer.deposed(f"{self._node_id} leads no more, and nobody does yet, in term {changed.term}")

    def _begin(self, term: Term) -> None:
        if self._electorate.logged is None:
            self._log_first_voters(term)
        self.changer.lead_begun()
        self._progress.clear()
        self.standbys.clear()
        self._transfer.lost(f"{self._node_id} has been elected itself, for term {term}")

    def _log_first_voters(self, term: Term) -> None:
        """Write down who votes, as the first leader of a cluster; until then the founding promise says so."""
        self._append(VotersSet(self._electorate.voters), term)

    def lost(self, why: str) -> None:
        """There is nothing to be handed over any more."""
        self._transfer.lost(why)

    # ------------------------------------------------------------ the others

    def voter_fetched(self, fetched: VoterFetched) -> None:
        voter = VoterKey(fetched.voter_id, fetched.log_epoch)
        self._decisions.apply(rules.voter_fetched(self._decisions.state, voter, fetched.at_s))
        self._progress[voter] = Progress(fetched.end, fetched.at_s)
        self._transfer.advanced(self._successors, self._decisions.now_s)

    def standby_fetched(self, fetched: StandbyFetched) -> None:
        self.standbys.fetched(fetched, self._electorate.member(fetched.node_id))

    @property
    def _successors(self) -> dict[VoterKey, Progress]:
        """How far the other voters in force are: nobody else can be elected."""
        others = self._decisions.state.others
        return {voter: self._progress[voter] for voter in others if voter in self._progress}

    def add_to(self, status: ElectionStatus) -> ElectionStatus:
        """That status, with how far the others are and which voter changes, if this node leads."""
        if not self.leads or self._electorate.logged is None:
            return status
        known, progress = self.situation(), self._progress
        voters = tuple(
            ReplicaStatus(key.node_id, True, progress[key].end if key in progress else None, known.is_there(key))
            for key in sorted(self._decisions.state.others)
        )
        standbys = tuple(
            ReplicaStatus(one.key.node_id, False, one.end, known.is_there(one.key), one.is_caught_up)
            for one in known.standbys
        )
        return replace(status, replicas=voters + standbys, voter_change=self.changer.under_way)

    # ------------------------------------------------------------ the disk

    def look(self) -> None:
        """Look at the disk, and for voters to be changed: called again and again while this node leads."""
        self._look_at_disk()
        if not self._transfer.is_on:
            self.changer.look()

    def _look_at_disk(self) -> None:
        """Ask the store something; a disk that hangs does not let it answer."""
        if self._disk_asked is None:
            self._disk_asked = (self._describe_log(), self._decisions.now_s)
        elif self._decisions.now_s - self._disk_asked[1] > DISK_HANGS_AFTER * self._config.election_timeout_s:
            silent_s = self._decisions.now_s - self._disk_asked[1]
            self.leave_at_once(f"its disk has not answered for {silent_s:.1f} s")

    def leave_at_once(self, why: str) -> None:
        """Let others take over what this node has no disk for any more."""
        if not self.leads:
            return
        raft = self._decisions.state
        self._warn(WarningKind.LEAD_GIVEN_UP, f"{self._node_id} gives up the lead of term {raft.term}: {why}")
        self._transfer.lost(why)
        since_s = self._decisions.now_s - self._config.election_timeout_s
        self._decisions.apply(rules.left(raft, successors_among(self._successors, since_s)))
        self._decisions.apply(rules.resigned(self._decisions.state))

    def described(self, described: LogDescribed) -> None:
        """The store has answered, which may be what was asked here."""
        if self._disk_asked is not None and described.request_id == self._disk_asked[0]:
            self._disk_asked = None
        if described.request_id == self._measuring:
            self._measuring = None
            self._transfer.measured(Index(described.end.index), self._successors, self._decisions.now_s)

    def _describe_log(self) -> int:
        request_id = self._next_id()
        self._store.tell(DescribeLog(request_id, self._me))
        return request_id

    # ------------------------------------------------------------ handing over

    def hand_over(self, over: Callable[[], None]) -> None:
        """Let another node lead, since this one stops.

        over: called once, when nothing more can be done.
        """
        if self.leads and self._decisions.state.others:
            self._transfer.begin(None, lambda _: over())
        elif self._calls.tells_successors:
            self._on_left.append(over)
        else:
            over()

    def transfer(self, to: NodeId | None, over: Callable[[str], None]) -> None:
        """Let that node lead, since a person wants that; this one leads.

        to: None for whoever is furthest.
        over: called once: with "" if that has come about, or with why it has not.
        """
        raft = self._decisions.state
        key = next((voter for voter in raft.others if voter.node_id == to), None)
        if to == self._node_id:
            over("")
        elif self._transfer.is_on:
            over(f"{self._node_id} is handing over already")
        elif to is not None and key is None:
            over(f"{to} has no vote; the voters are {', '.join(voter.node_id for voter in raft.voters)}")
        elif not raft.others:
            over(f"{self._node_id} is the only voter")
        else:
            self._transfer.begin(key, over)

    def held(self, request_id: int) -> None:
        """Produces are held, as was asked by that request."""
        if request_id == self._holding:
            self._transfer.held()

    def hand_over_due(self) -> None:
        """The timer of the hand-over is due."""
        self._transfer.due()

    def call_over(self, request_id: int) -> None:
        """A call has come back, or cannot: maybe one that has told a successor."""
        self._calls.has_told(request_id)
        if not self._calls.tells_successors:
            on_left, self._on_left = self._on_left, []
            for tell in on_left:
                tell()

    def _hold_produces(self, within_s: float) -> None:
        self._holding = self._next_id()
        self._tell_listeners(HoldProduces(self._holding, within_s, self._me))

    def _measure_log(self) -> None:
        self._measuring = self._describe_log()

    def _tell_listeners(self, message: HoldProduces | ReleaseProduces) -> None:
        for listener in self._listeners:
            listener.tell(message)

    # ------------------------------------------------------------ changes of voters

    def change_voters(self, node_id: NodeId, answer: Answered, *, is_addition: bool) -> None:
        """A person wants that node to vote, or to vote no more."""
        if self._transfer.is_on:
            answer(ChangeProblem.UNDER_WAY, f"{self._node_id} is handing over the lead; try again")
        else:
            self.changer.ask(node_id, answer, is_addition=is_addition)

    def commit_known(self, term: Term) -> None:
        """An entry of that term is committed; it may be one in which this node leads no more."""
        if self.leads and term == self._decisions.state.term:
            self.changer.commit_known()

    def situation(self) -> Situation:
        raft, logged = self._decisions.state, self._electorate.logged
        assert logged is not None, "the first leader writes down who votes"
        return Situation(
            me=raft.me,
            now_s=self._decisions.now_s,
            timeout_s=raft.timeout_s,
            replicas=self._config.wanted_replicas,
            replace_after_s=self._config.replace_after_s,
            voters=logged.voters,
            removed=logged.removed,
            led_since_s=raft.led_since_s,
            fetched=raft.fetched,
            gone=self._electorate.gone,
            standbys=self.standbys.besides(raft.voters),
        )

    def append_voters(self, entry: VotersSet) -> int:
        return self._append(entry, self._decisions.state.term)

    def ask_standby(self, key: VoterKey) -> int:
        return self._calls.tell_standby(key, self._decisions.state, self._electorate.cluster_id)

    def tell_of_change(self, change: Change) -> None:
        kind = WarningKind.VOTER_ADDED if change.is_addition else WarningKind.VOTER_REMOVED
        does = "votes from now on" if change.is_addition else "votes no more"
        self._warn(kind, f"{change.key.node_id} {does}: {change.why}", change.key.node_id)

    def leave_as_removed(self) -> None:
        def over(_: str) -> None:
            if self._decisions.state.role is Role.LEADER and not self._decisions.state.is_voter:
                self._decisions.apply(rules.resigned(self._decisions.state))

        if not self._transfer.is_on:
            self._transfer.begin(None, over)

    def _append(self, entry: VotersSet, term: Term) -> int:
        request_id = self._next_id()
        self._store.tell(AppendControl(request_id, entry, term, self._me))
        return request_id

    def _warn(self, kind: WarningKind, reason: str, about: NodeId = NodeId("")) -> None:
        self._observer.tell(NodeWarned(self._node_id, "election", kind, reason, about))

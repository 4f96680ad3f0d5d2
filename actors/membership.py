"""The Membership actor: which nodes there are, by gossip (SWIM, Das, Gupta, Motivala 2002).

Its parts are in `actors/gossip`: `table` (who is known, how updates are judged), `codec` (the wire),
`datagram_filter` and `cookies` (which datagrams count), `sender`, `joining`, `unconfirmed` (nodes that
only others have reported), `probes` and `suspicions` (failure detection), `name_conflicts` (two
nodes of one name), `leaving`. This file decides what a message changes, and who is told of it.

Gossip says who is alive. It never says who votes. Four rules limit what a datagram can do:

- A datagram that does not prove where it comes from changes nothing (gossip/cookies.py).
- That a node exists, and where, is believed from itself only, never from others (gossip/unconfirmed.py).
- That a member is gone is believed from others only after it was asked and did not answer.
- Everything that is remembered is bounded by a number that its module names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Final, assert_never

from ourolog.actors.actor import NodeActor
from ourolog.actors.config import NodeConfig
from ourolog.actors.gossip.codec import Ack, Challenge, Datagram, Exchange, Join, Ping, PingRequest, Reject, Updates
from ourolog.actors.gossip.datagram_filter import DatagramFilter
from ourolog.actors.gossip.joining import Joining
from ourolog.actors.gossip.leaving import Leaving
from ourolog.actors.gossip.name_conflicts import NameChecks, NameClaim, NameConflicts
from ourolog.actors.gossip.probes import Prober, ping, ping_indirectly
from ourolog.actors.gossip.sender import GossipSender
from ourolog.actors.gossip.suspicions import Suspicions
from ourolog.actors.gossip.table import (
    Judgement,
    MemberTable,
    ProbeOrder,
    UpdateQueue,
    is_elder,
    is_present,
    overrides,
    pick,
    suspicion_s,
)
from ourolog.actors.gossip.unconfirmed import UnconfirmedMembers
from ourolog.actors.messages.election import ClaimReceived
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    HoldProduces,
    LeaderChanged,
    MemberFailed,
    MemberLeft,
    MembershipEvent,
    NobodyElected,
    ReleaseProduces,
    VotersChanged,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.membership import (
    ConfirmationDue,
    DatagramReceived,
    FullExchangeDue,
    GossipDue,
    JoinRetryDue,
    LeaveCluster,
    LeaveRetryDue,
    MembershipMessage,
    NameCheckDue,
    ProbeConcluded,
    ProbeDue,
    ProbeTimedOut,
    SuspicionExpired,
)
from ourolog.actors.messages.observer import MemberSuspected, MemberVouched, NameClashed, SuspicionRefuted
from ourolog.actors.messages.status import MembershipStatus, ReportStatus, StatusReported
from ourolog.actors.messages.values import ElectionClaim, Member, MemberState
from ourolog.actors.ports import Ports, Timer
from ourolog.storage.types import NodeId

_GOSSIP_FANOUT: Final = 3
_SUSPECTS_A_ROUND: Final = 3
_TIMEOUTS_TO_DENY: Final = 3
"""How many probe timeouts a member has to show that it is there when others say that it is gone."""


class MembershipActor(NodeActor):
    """Tells every listener and the observer who joined, moved, failed and left.

    Receives DatagramReceived from the datagram port, its own timers, and LeaveCluster from the node.
    Raises ValueError at construction for names, addresses or sizes that gossip cannot carry.
    """

    actor_name: ClassVar[str] = "membership"

    def __init__(
        self,
        *,
        config: NodeConfig,
        ports: Ports,
        listeners: tuple[Mailbox[MembershipEvent], ...] = (),
        election: Mailbox[ClaimReceived] | None = None,
    ) -> None:
        """Prepare the parts; gossip begins when the actor starts.

        election: the election slot's mailbox, which is told what members claim; None for nobody.
        """
        super().__init__(config.node_id, ports.observer)
        self._config = config
        self._clocks = config.gossip
        self._ports = ports
        self._rng = ports.rng
        self._listeners = listeners
        self._election = election
        # What each member claimed last, with the incarnation it did it in.
        self._claims: dict[NodeId, tuple[int, ElectionClaim]] = {}
        # The start time is the incarnation, so that a restart overrides all that was said of the former run.
        me = Member(
            config.node_id,
            config.rpc_addr,
            config.gossip_addr,
            MemberState.ALIVE,
            max(0, ports.clock.wall_ms()),
            config.own_peer_addr,
        )
        self._table = MemberTable(me)
        self._updates = UpdateQueue()
        self._sender = GossipSender(config, ports, self._table, self._updates)
        self._order = ProbeOrder(self._rng)
        self._prober = Prober(self._sender, self._rng, self._table, self._clocks.indirect_probes)
        self._suspicions = Suspicions(ports.clock, self._after)
        self._filter = DatagramFilter(config, ports, self.actor_name, self._sender.challenge)
        self._joining = Joining(config, self._sender, self._rng, self._after)
        self._name_conflicts = NameConflicts(
            NameChecks(self._sender, self._rng, self._table, self._clocks.indirect_probes),
            self._sender,
            self._table,
            self._joining,
            self.observer,
            timeout_s=self._clocks.probe_timeout_s,
            after=self._after,
            adopt=self._adopt,
            refute=self._refute,
            give_up_name=self._give_up_name,
        )
        self._unconfirmed = UnconfirmedMembers(self._sender)
        self._leaving = Leaving(self._sender, self._rng, self._table, self._clocks.probe_timeout_s, self._after)
        self._gossip_timer: Timer | None = None
        self._confirmation_timer: Timer | None = None

    def on_start(self) -> None:
        # Nodes that start together must not ping in step.
        self._arm_probe(self._rng.uniform(0, self._clocks.probe_interval_s))
        self._arm_full_exchange()
        self._joining.ask_seeds()

    def on_receive(self, message: MembershipMessage) -> None:
        if isinstance(message, ReportStatus):
            self._report(message)
        elif isinstance(message, NobodyElected | ClaimsDisputed | ClaimsSettled | HoldProduces | ReleaseProduces):
            pass
        elif isinstance(message, LeaderChanged):
            self._sender.claim = replace(self._sender.claim, term=message.term, leader_id=message.leader_id)
        elif isinstance(message, VotersChanged):
            self._sender.claim = replace(
                self._sender.claim,
                cluster_id=message.cluster_id,
                generation=message.generation,
                origin_id=message.origin_id,
            )
        elif isinstance(message, LeaveCluster):
            self._leaving.begin(message)
        elif self._leaving.is_finished:
            return
        elif self._leaving.has_begun:
            self._handle_while_leaving(message)
        else:
            self._handle(message)

    def _handle(
        self,
        message: DatagramReceived
        | ProbeDue
        | ProbeTimedOut
        | ProbeConcluded
        | SuspicionExpired
        | GossipDue
        | ConfirmationDue
        | FullExchangeDue
        | JoinRetryDue
        | NameCheckDue
        | LeaveRetryDue,
    ) -> None:
        match message:
            case DatagramReceived():
                datagram = self._filter.accept(message, self._table)
                if datagram is not None:
                    self._on_datagram(datagram)
            case ProbeDue():
                self._probe_next()
            case ProbeTimedOut(sequence):
                self._prober.ping_indirectly(sequence)
            case ProbeConcluded(sequence, due_s):
                self._conclude(sequence, due_s)
            case SuspicionExpired():
                self._expire_suspicion(message)
            case GossipDue():
                self._gossip()
            case ConfirmationDue():
                self._confirmation_timer = None
                self._unconfirmed.ping_again()
                self._arm_confirmation()
            case FullExchangeDue():
                self._exchange_tables()
            case JoinRetryDue(attempt):
                self._joining.retry(attempt, is_alone=not self._table.present())
            case NameCheckDue(node_id, attempt):
                self._name_conflicts.ask_again(node_id, attempt)
            case LeaveRetryDue():
                pass  # armed only while leaving, which handles it
            case _:
                assert_never(message)

    # ---------------------------------------------------------------- datagrams

    def _on_datagram(self, datagram: Datagram) -> None:
        if not self._is_proven(datagram):
            return
        if datagram.sender.node_id == self.node_id:
            self._on_namesake(datagram)
            return
        if isinstance(datagram.body, Reject):
            self._name_conflicts.check_rejection(datagram.body.holder_addr)
            return
        if not self._on_sender(datagram):
            return
        self._on_claim(datagram.sender, datagram.claim)
        # Updates first: our answer then takes it into account, including a refutation of our own.
        in_exchange = isinstance(datagram.body, Exchange)
        for update in datagram.updates:
            self._on_update(update, in_exchange=in_exchange)
        self._answer(datagram)

    def _on_claim(self, sender: Member, claim: ElectionClaim | None) -> None:
        """Tell each change once; a datagram that comes late does not bring back an old claim."""
        if claim is None or not is_present(sender):
            return
        incarnation, held = self._claims.get(sender.node_id, (0, None))
        if held is not None and (sender.incarnation, claim.term) < (incarnation, held.term):
            return
        self._claims[sender.node_id] = sender.incarnation, claim
        if claim != held and self._election is not None:
            self._election.tell(ClaimReceived(sender.node_id, claim))

    def _is_proven(self, datagram: Datagram) -> bool:
        """Whether its sender is where it says. A sender that is not proven, or not yet, is only challenged."""
        cookies = self._sender.cookies
        if datagram.sender.gossip_addr == self._table.me.gossip_addr:
            return False  # our own datagram, or a forgery
        if cookies.verify(datagram):
            cookies.store(datagram, needed=lambda: {member.gossip_addr for member in self._table.present()})
            return True
        if isinstance(datagram.body, Challenge):
            self._joining.redirected(datagram)
        elif not isinstance(datagram.body, Ack):
            self._sender.challenge(datagram)
        return False

    def _answer(self, datagram: Datagram) -> None:
        sequence, sender = datagram.sequence, datagram.sender
        match datagram.body:
            case Ping(target_id):
                if target_id == self.node_id:
                    self._joining.is_established = True
                    self._sender.send(sender.gossip_addr, Ack(sequence), first=self._table.correction(sender))
            case Ack(answers):
                self._on_answer(answers, datagram)
            case Challenge(answers):
                self._on_answer(answers, datagram)
                self._unconfirmed.challenged(answers)
                self._joining.challenged(answers, sender.gossip_addr)
            case PingRequest():
                self._prober.relay(datagram.body, sender.gossip_addr, sequence)
            case Updates():
                pass
            case Join():
                self._joining.is_established = True
                self._sender.send_table(sender.gossip_addr, asks_back=False, answers=sequence)
            case Exchange(asks_back, answers):
                self._joining.answered(answers)
                if asks_back:
                    self._sender.send_table(sender.gossip_addr, asks_back=False, answers=sequence)
            case Reject():
                raise AssertionError("handled before anything else")
            case _:
                assert_never(datagram.body)

    def _on_answer(self, answers: int, datagram: Datagram) -> None:
        """Note that the pinged member is there, or that a relay says so of the member it was asked to ping."""
        vouches = isinstance(datagram.body, Ack)  # a Challenge proves only that its sender is there
        vouched_id = self._prober.answered(answers, datagram.sender, vouches=vouches)
        vouched = self._table.get(vouched_id) if vouched_id is not None else None
        if vouched is not None:
            self.observer.tell(MemberVouched(self.node_id, vouched, datagram.sender.node_id))
        self._prober.relay_answer(answers, datagram.sender)
        self._name_conflicts.answered(answers, datagram, vouches=vouches)

    def _on_sender(self, datagram: Datagram) -> bool:
        """Take note of who is speaking. Returns whether to go on reading the datagram."""
        sender = datagram.sender
        self._unconfirmed.confirmed(sender.node_id)
        held = self._table.get(sender.node_id)
        if held is not None and is_present(held) and held.gossip_addr != sender.gossip_addr:
            if is_present(sender):
                joining = isinstance(datagram.body, Join)
                self._name_conflicts.check(held, NameClaim(sender, datagram.sequence, joining))
            return False
        match self._table.judge(sender):
            case Judgement.ADOPT:
                self._adopt(sender)
            case Judgement.STALE:
                pass
            case Judgement.OCCUPIED:
                return False
            case Judgement.FULL:
                self._filter.warn_of_full_table()
                return False
            case Judgement.CONTESTED:
                raise AssertionError("an address that differs was seen to above")
        return True

    def _on_update(self, update: Member, *, in_exchange: bool) -> None:
        """Judge what one member says of another: its state can be adopted; its existence or address is only a hint."""
        if update.node_id == self.node_id:
            self._on_update_about_me(update)
            return
        held = self._table.get(update.node_id)
        if held is not None and not overrides(update, held):
            return
        if held is None or not is_present(held) or update.addresses != held.addresses:
            if is_present(update) and update.gossip_addr != self._table.me.gossip_addr:
                self._unconfirmed.add(update)
                self._arm_confirmation()
        elif is_present(update):
            self._adopt(update)
        elif in_exchange and update.state is MemberState.FAILED:
            # A partition that heals brings two tables together, each declaring the other half
            # failed: those it is said of get all the time there is to refute it.
            self._suspect(replace(update, state=MemberState.SUSPECT), held)
        else:
            self._confirm_gone(update, held)

    def _suspect(self, suspect: Member, held: Member) -> None:
        if overrides(suspect, held):
            self._adopt(suspect)

    def _confirm_gone(self, update: Member, held: Member) -> None:
        """Ask a member that others say is gone; it has a moment to show that it is not."""
        suspect = replace(update, state=MemberState.SUSPECT)
        self._suspect(suspect, held)
        if self._suspicions.shorten(suspect, _TIMEOUTS_TO_DENY * self._clocks.probe_timeout_s, update.state):
            ping(self._sender, suspect)
            ping_indirectly(self._sender, self._rng, self._table, suspect, self._clocks.indirect_probes)

    def _on_update_about_me(self, update: Member) -> None:
        me = self._table.me
        if is_present(update) and update.gossip_addr != me.gossip_addr:
            # A former run of this node, or another live node of this name.
            self._name_conflicts.check(update, NameClaim(me))
        elif update.incarnation >= me.incarnation and update != me:
            self._refute(update.incarnation)

    def _refute(self, incarnation: int) -> None:
        self._updates.push(self._table.refute(incarnation))
        self._arm_gossip()

    def _adopt(self, member: Member) -> None:
        """Adopt what was reported or concluded, pass it on, and tell the listeners what it means."""
        held = self._table.get(member.node_id)
        event = self._table.adopt(member, self._ports.clock.monotonic_s())
        self._suspicions.drop(member.node_id)
        was_suspect = held is not None and held.state is MemberState.SUSPECT
        if member.state is MemberState.SUSPECT:
            self._suspicions.arm(member, suspicion_s(self._clocks.suspicion_s, self._table.size()))
            if held is None or not was_suspect or member.incarnation > held.incarnation:
                self.observer.tell(MemberSuspected(self.node_id, member))
        elif was_suspect and member.state is MemberState.ALIVE:
            self.observer.tell(SuspicionRefuted(self.node_id, member))
        self._updates.push(member)
        self._arm_gossip()
        if event is None:
            return
        for listener in self._listeners:
            listener.tell(event)
        self.observer.tell(event)
        if isinstance(event, MemberFailed | MemberLeft):
            self._claims.pop(member.node_id, None)
        if isinstance(event, MemberFailed | MemberLeft) and not self._table.present():
            self._joining.ask_seeds()

    # ---------------------------------------------------------------- failure detection

    def _probe_next(self) -> None:
        now_s = self._ports.clock.monotonic_s()
        self._table.forget_gone(now_s - self._clocks.forget_after_s)
        present = self._table.present()
        target_id = self._order.next(present)
        if target_id is not None:
            target = self._table.get(target_id)
            assert target is not None
            sequence = self._prober.begin(target)
            self._after(self._clocks.probe_timeout_s, ProbeTimedOut(sequence))
            lasts_s = max(self._clocks.probe_interval_s, 2 * self._clocks.probe_timeout_s)
            self._after(lasts_s, ProbeConcluded(sequence, now_s + lasts_s))
        # A suspect is pinged every round, by all who suspect it: a lost refutation must not end its membership.
        suspects = [m for m in present if m.state is MemberState.SUSPECT and m.node_id != target_id]
        for suspect in pick(self._rng, suspects, _SUSPECTS_A_ROUND):
            ping(self._sender, suspect)
        self._arm_probe(self._clocks.probe_interval_s)

    def _conclude(self, sequence: int, due_s: float) -> None:
        silent_id = self._prober.conclude(sequence)
        if silent_id is None or self._was_held_up(due_s):
            return
        held = self._table.get(silent_id)
        if held is not None and held.state is MemberState.ALIVE:
            suspect = replace(held, state=MemberState.SUSPECT)
            self._adopt(suspect)
            self._sender.send(suspect.gossip_addr, Updates(), first=suspect)

    def _expire_suspicion(self, expired: SuspicionExpired) -> None:
        held = self._table.get(expired.node_id)
        if held is None or (held.state, held.incarnation) != (MemberState.SUSPECT, expired.incarnation):
            return
        if self._was_held_up(expired.due_s):
            self._suspicions.restart(held, expired)
            return
        self._adopt(replace(held, state=expired.verdict))

    def _was_held_up(self, due_s: float) -> bool:
        """Whether this node itself is too slow to judge others by their silence.

        After a pause (a stopped process, a starved machine) timers and answers wait in the inbox
        in any order. Lifeguard (Dadgar et al. 2017) calls it local health.
        """
        return self._ports.clock.monotonic_s() - due_s > self._clocks.probe_timeout_s

    # ---------------------------------------------------------------- spreading updates

    def _gossip(self) -> None:
        self._gossip_timer = None
        for member in pick(self._rng, self._table.present(), _GOSSIP_FANOUT):
            if self._updates:
                self._sender.send(member.gossip_addr, Updates())
        self._arm_gossip()

    def _exchange_tables(self) -> None:
        """Exchange tables with one member, one that failed, and one seed that is no member.

        The latter two heal a partition from either side; the first makes up for lost updates.
        """
        present = self._table.present()
        for member in (*pick(self._rng, present, 1), *pick(self._rng, self._table.failed(), 1)):
            self._joining.call(member.gossip_addr)
        self._joining.call_missing_seed({member.gossip_addr for member in present})
        self._arm_full_exchange()

    # ---------------------------------------------------------------- name conflicts

    def _on_namesake(self, datagram: Datagram) -> None:
        """Another live node speaks under this node's name."""
        me, namesake = self._table.me, datagram.sender
        match datagram.body:
            case Ping(target_id):
                # The other node asks whether this one is there, and will then give way or refuse it.
                if target_id == me.node_id:
                    self._sender.send(namesake.gossip_addr, Ack(datagram.sequence))
            case Reject(holder_addr):
                self._name_conflicts.check_rejection(holder_addr)
            case Ack(answers):
                self._on_answer(answers, datagram)
            case Challenge(answers):
                self._on_answer(answers, datagram)
                self._joining.challenged(answers, namesake.gossip_addr)
            case Join() if self._joining.is_established or is_elder(me, namesake):
                self._sender.send(namesake.gossip_addr, Reject(me.gossip_addr))
            case _:
                if is_present(namesake):
                    self._name_conflicts.check(namesake, NameClaim(me))

    def _give_up_name(self, holder_addr: str) -> None:
        # Leave unannounced: the announcement would be taken for the holder's.
        self._leaving.finish()
        self.observer.tell(NameClashed(self.node_id, holder_addr))

    def _handle_while_leaving(self, message: object) -> None:
        if isinstance(message, LeaveRetryDue):
            self._leaving.announce(message.attempt)
        elif isinstance(message, DatagramReceived):
            datagram = self._filter.accept(message, self._table)
            if datagram is not None and self._is_proven(datagram):
                self._leaving.handle(datagram)

    # ---------------------------------------------------------------- status and warnings

    def _report(self, asked: ReportStatus) -> None:
        members: Sequence[Member] = sorted((*self._table.everybody(), self._table.me))
        asked.reply_to.tell(StatusReported(asked.request_id, MembershipStatus(tuple(members), self._filter.dropped)))

    # ---------------------------------------------------------------- timers

    def _after(self, delay_s: float, message: MembershipMessage) -> Timer:
        return self._ports.timers.after(delay_s, self.me, message)

    def _arm_probe(self, delay_s: float) -> None:
        self._after(delay_s, ProbeDue())

    def _arm_gossip(self) -> None:
        if self._gossip_timer is None and self._updates and self._table.present():
            self._gossip_timer = self._after(self._clocks.probe_interval_s / 5, GossipDue())

    def _arm_confirmation(self) -> None:
        if self._confirmation_timer is None and self._unconfirmed:
            self._confirmation_timer = self._after(self._clocks.probe_timeout_s, ConfirmationDue())

    def _arm_full_exchange(self) -> None:
        self._after(self._clocks.full_exchange_interval_s * self._rng.uniform(0.8, 1.2), FullExchangeDue())

"""The Membership actor: who is out there, by gossip (SWIM, Das, Gupta, Motivala 2002).

The pieces it is made of: `gossip` (what is known, how news is judged), `gossip_codec` (the wire),
`gossip_voice` (speaking), `gossip_probes` (failure detection), `gossip_names` (names that clash).
This file decides: what a message changes, and what is said about it.

Gossip says who is alive. It never says who votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Final, assert_never

from actors.actor import NodeActor
from actors.config import NodeConfig
from actors.gossip import (
    Judgement,
    MemberTable,
    ProbeOrder,
    RumourQueue,
    is_elder,
    is_present,
    outranks,
    pick,
    suspicion_s,
)
from actors.gossip_codec import (
    Ack,
    Datagram,
    Exchange,
    Join,
    Ping,
    PingRequest,
    Reject,
    Rumours,
)
from actors.gossip_gate import Gate
from actors.gossip_goodbye import GOODBYES, Goodbye
from actors.gossip_names import Claim, NameCheck, NameGuard
from actors.gossip_probes import Prober, ping
from actors.gossip_voice import Voice
from actors.messages import (
    DatagramReceived,
    FullExchangeDue,
    GossipDue,
    JoinRetryDue,
    LeaveCluster,
    LeaveRetryDue,
    LeftCluster,
    Mailbox,
    Member,
    MemberFailed,
    MemberLeft,
    MembershipEvent,
    MembershipMessage,
    MembershipStatus,
    MemberState,
    NameCheckDue,
    NameClashed,
    ProbeConcluded,
    ProbeDue,
    ProbeTimedOut,
    ReportStatus,
    StatusReported,
    SuspicionExpired,
)
from actors.ports import Ports, Timer
from storage.types import NodeId

_GOSSIP_FANOUT: Final = 3
_SUSPECTS_A_ROUND: Final = 3
_JOIN_BACKOFF: Final = 1.5
_JOIN_RETRY_MAX_S: Final = 5.0


class MembershipActor(NodeActor):
    """Tells every listener and the observer who joined, moved, failed and left.

    Hears DatagramReceived from the datagram port, its own timers, and LeaveCluster from the node.
    Raises ValueError at construction for names, addresses or sizes that gossip cannot carry.
    """

    actor_name: ClassVar[str] = "membership"

    def __init__(
        self, *, config: NodeConfig, ports: Ports, listeners: tuple[Mailbox[MembershipEvent], ...] = ()
    ) -> None:
        super().__init__(config.node_id, ports.observer)
        self._config = config
        self._clocks = config.gossip
        self._ports = ports
        self._rng = ports.rng
        self._listeners = listeners
        # The start time as incarnation: a restart outranks all that was said of the former run.
        me = Member(
            config.node_id, config.rpc_addr, config.gossip_addr, MemberState.ALIVE, max(0, ports.clock.wall_ms())
        )
        self._table = MemberTable(me)
        self._rumours = RumourQueue()
        self._voice = Voice(config, ports, self._table, self._rumours)
        self._order = ProbeOrder(self._rng)
        self._prober = Prober(self._voice, self._rng, self._table, self._clocks.indirect_probes)
        self._names = NameGuard(self._voice, self._rng, self._table, self._clocks.indirect_probes)
        self._gate = Gate(config, ports, self.actor_name)
        self._seeds = tuple(dict.fromkeys(seed for seed in config.join if seed != config.gossip_addr))
        # Established: somebody counts this node as a member. Answered: a seed's table has come.
        self._established = not self._seeds
        self._answered = not self._seeds
        self._silent = False
        self._suspicions: dict[NodeId, Timer] = {}
        self._gossip_timer: Timer | None = None
        self._join_timer: Timer | None = None
        self._leavers: list[LeaveCluster] = []
        self._goodbye: Goodbye | None = None

    def on_start(self) -> None:
        # Nodes that start together must not ping in step.
        self._arm_probe(self._rng.uniform(0, self._clocks.probe_interval_s))
        self._arm_full_exchange()
        if self._seeds:
            self._ask_seeds(attempt=0)

    def on_receive(self, message: MembershipMessage) -> None:
        if isinstance(message, ReportStatus):
            self._report(message)
        elif isinstance(message, LeaveCluster):
            self._leave(message)
        elif self._silent:
            return
        elif self._goodbye is not None:
            self._hear_while_leaving(self._goodbye, message)
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
        | FullExchangeDue
        | JoinRetryDue
        | NameCheckDue
        | LeaveRetryDue,
    ) -> None:
        match message:
            case DatagramReceived():
                datagram = self._gate.open(message, self._table)
                if datagram is not None:
                    self._hear(datagram, message.source_addr)
            case ProbeDue():
                self._probe_next()
            case ProbeTimedOut(sequence):
                self._prober.widen(sequence)
            case ProbeConcluded(sequence, due_s):
                self._conclude(sequence, due_s)
            case SuspicionExpired():
                self._expire_suspicion(message)
            case GossipDue():
                self._gossip()
            case FullExchangeDue():
                self._exchange_tables()
            case JoinRetryDue(attempt):
                self._join_timer = None
                if not self._answered or not self._table.present():
                    self._ask_seeds(attempt)
            case NameCheckDue(node_id, attempt):
                self._ask_holder(node_id, attempt)
            case LeaveRetryDue():
                pass  # armed while leaving only, and answered there
            case _:
                assert_never(message)

    # ---------------------------------------------------------------- hearing

    def _hear(self, datagram: Datagram, source: str) -> None:
        me = self._table.me
        if datagram.sender.node_id == me.node_id:
            if datagram.sender.gossip_addr != me.gossip_addr:
                self._hear_namesake(datagram, source)
            return
        if isinstance(datagram.body, Reject):
            self._hear_rejection(datagram.body)
            return
        if not self._introduce(datagram, source):
            return
        # News first: what we then say already counts it, a refutation of our own included.
        in_exchange = isinstance(datagram.body, Exchange)
        for update in datagram.updates:
            self._hear_about(update, in_exchange=in_exchange)
        self._answer(datagram, source)

    def _answer(self, datagram: Datagram, source: str) -> None:
        sequence = datagram.sequence
        match datagram.body:
            case Ping(target_id):
                if target_id == self.node_id:
                    self._established = True
                    self._voice.send(source, Ack(sequence), first=self._correction(datagram.sender))
            case Ack(answers):
                self._prober.answered(answers)
                self._prober.pass_on(answers, datagram.sender)
                check = self._names.answered(answers, datagram.sender)
                if check is not None:
                    self._name_is_held(check, datagram)
            case PingRequest():
                self._prober.relay(datagram.body, source, sequence)
            case Rumours():
                pass
            case Join():
                self._established = True
                self._voice.send_table(source, asks_back=False, answers=sequence)
            case Exchange(asks_back, answers):
                if answers and self._voice.used_lately(answers):
                    self._established = self._answered = True
                if asks_back:
                    self._voice.send_table(source, asks_back=False, answers=sequence)
            case Reject():
                raise AssertionError("heard before anything else")
            case _:
                assert_never(datagram.body)

    def _introduce(self, datagram: Datagram, source: str) -> bool:
        """Take note of who is speaking; whether to listen on."""
        sender = datagram.sender
        held = self._table.get(sender.node_id)
        if held is not None and is_present(held) and held.gossip_addr != sender.gossip_addr:
            joining = isinstance(datagram.body, Join)
            self._check_name(held, Claim(sender, source, datagram.sequence, joining))
            return False
        match self._table.judge(sender):
            case Judgement.ADOPT:
                self._believe(sender)
            case Judgement.STALE:
                pass
            case Judgement.FULL:
                self._gate.warn_of_full_table()
                return False
            case Judgement.CONTESTED:
                raise AssertionError("an address that differs was seen to above")
        return True

    def _correction(self, sender: Member) -> Member | None:
        """What is held against somebody who thinks better of itself: a suspicion, or a former life."""
        held = self._table.get(sender.node_id)
        return held if held is not None and outranks(held, sender) else None

    def _hear_about(self, heard: Member, *, in_exchange: bool) -> None:
        if heard.node_id == self.node_id:
            self._hear_about_me(heard)
            return
        held = self._table.get(heard.node_id)
        if in_exchange and not is_present(heard):
            if held is None:
                # Else two nodes would remind each other of the dead for ever.
                return
            if heard.state is MemberState.FAILED and is_present(held) and heard.gossip_addr == held.gossip_addr:
                # A partition that heals brings two tables together, each declaring the other
                # half failed: those it is said of get the time to refute it.
                heard = replace(heard, state=MemberState.SUSPECT)
        match self._table.judge(heard):
            case Judgement.ADOPT:
                self._believe(heard)
            case Judgement.CONTESTED:
                assert held is not None
                self._check_name(held, Claim(heard))
            case Judgement.FULL:
                self._gate.warn_of_full_table()
            case Judgement.STALE:
                pass

    def _hear_about_me(self, heard: Member) -> None:
        me = self._table.me
        if is_present(heard) and heard.gossip_addr != me.gossip_addr:
            # A former run of this node, or a namesake that lives.
            self._check_name(heard, Claim(me))
        elif heard.incarnation >= me.incarnation and heard != me:
            self._refute(heard.incarnation)

    def _refute(self, incarnation: int) -> None:
        self._rumours.push(self._table.refute(incarnation))
        self._arm_gossip()

    def _believe(self, member: Member) -> None:
        """Adopt what was heard or concluded, pass it on, and tell the listeners what it means."""
        event = self._table.adopt(member, self._ports.clock.monotonic_s())
        suspicion = self._suspicions.pop(member.node_id, None)
        if suspicion is not None:
            suspicion.cancel()
        if member.state is MemberState.SUSPECT:
            self._arm_suspicion(member)
        self._rumours.push(member)
        self._arm_gossip()
        if event is None:
            return
        for listener in self._listeners:
            listener.tell(event)
        self.observer.tell(event)
        if isinstance(event, MemberFailed | MemberLeft) and self._join_timer is None and not self._table.present():
            self._ask_seeds(attempt=0)

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
        # A suspect is asked every round, by all who suspect it: a lost refutation must not cost it its place.
        suspects = [m for m in present if m.state is MemberState.SUSPECT and m.node_id != target_id]
        for suspect in pick(self._rng, suspects, _SUSPECTS_A_ROUND):
            ping(self._voice, suspect)
        self._arm_probe(self._clocks.probe_interval_s)

    def _conclude(self, sequence: int, due_s: float) -> None:
        silent_id = self._prober.conclude(sequence)
        if silent_id is None or self._was_held_up(due_s):
            return
        held = self._table.get(silent_id)
        if held is not None and held.state is MemberState.ALIVE:
            suspect = replace(held, state=MemberState.SUSPECT)
            self._believe(suspect)
            self._voice.send(suspect.gossip_addr, Rumours(), first=suspect)

    def _arm_suspicion(self, member: Member) -> None:
        wait_s = suspicion_s(self._clocks.suspicion_s, self._table.size())
        due_s = self._ports.clock.monotonic_s() + wait_s
        expired = SuspicionExpired(member.node_id, member.incarnation, due_s)
        self._suspicions[member.node_id] = self._after(wait_s, expired)

    def _expire_suspicion(self, expired: SuspicionExpired) -> None:
        held = self._table.get(expired.node_id)
        if held is None or (held.state, held.incarnation) != (MemberState.SUSPECT, expired.incarnation):
            return
        if self._was_held_up(expired.due_s):
            self._arm_suspicion(held)
            return
        self._believe(replace(held, state=MemberState.FAILED))

    def _was_held_up(self, due_s: float) -> bool:
        """Whether this node itself is too slow to judge others by their silence.

        After a pause (a stopped process, a starved machine) timers and answers wait in the inbox
        in any order. Lifeguard (Dadgar et al. 2017) calls it local health.
        """
        return self._ports.clock.monotonic_s() - due_s > self._clocks.probe_timeout_s

    # ---------------------------------------------------------------- spreading news

    def _gossip(self) -> None:
        self._gossip_timer = None
        for member in pick(self._rng, self._table.present(), _GOSSIP_FANOUT):
            if self._rumours:
                self._voice.send(member.gossip_addr, Rumours())
        self._arm_gossip()

    def _exchange_tables(self) -> None:
        """With one member; and with one that failed and one seed that is no member.

        So that a partition heals from either side, and lost news is made good.
        """
        present = self._table.present()
        for member in (*pick(self._rng, present, 1), *pick(self._rng, self._table.failed(), 1)):
            self._voice.send_table(member.gossip_addr, asks_back=True)
        known = {member.gossip_addr for member in present}
        strangers = [seed for seed in self._seeds if seed not in known]
        if strangers and self._join_timer is None:
            self._call_seed(self._rng.choice(strangers))
        self._arm_full_exchange()

    # ---------------------------------------------------------------- joining

    def _ask_seeds(self, attempt: int) -> None:
        """Until one has answered; after total isolation again, since a seed may be back before others."""
        for seed in self._seeds:
            self._call_seed(seed)
        if self._seeds:
            wait_s = min(
                self._clocks.join_retry_s * _JOIN_BACKOFF ** min(attempt, 32),
                max(_JOIN_RETRY_MAX_S, self._clocks.join_retry_s),
            )
            self._join_timer = self._after(wait_s * self._rng.uniform(0.8, 1.2), JoinRetryDue(attempt + 1))

    def _call_seed(self, seed: str) -> None:
        if self._established:
            self._voice.send_table(seed, asks_back=True)
        else:
            self._voice.send(seed, Join())

    # ---------------------------------------------------------------- names that clash

    def _hear_namesake(self, datagram: Datagram, source: str) -> None:
        """Another live node speaks under this node's name."""
        me, namesake, body = self._table.me, datagram.sender, datagram.body
        if isinstance(body, Ping) and body.target_id == me.node_id:
            self._voice.send(source, Ack(datagram.sequence))
        if isinstance(body, Reject):
            self._hear_rejection(body)
        elif isinstance(body, Ack) and (check := self._names.answered(body.answers, namesake)) is not None:
            self._name_is_held(check, datagram)
        elif isinstance(body, Join) and (self._established or is_elder(me, namesake)):
            self._voice.send(source, Reject(datagram.sequence, me.gossip_addr))
        elif is_present(namesake):
            self._check_name(namesake, Claim(me))

    def _check_name(self, held: Member, claim: Claim) -> None:
        if self._names.open(held, claim):
            self._after(self._clocks.probe_timeout_s, NameCheckDue(held.node_id, attempt=2))

    def _ask_holder(self, node_id: NodeId, attempt: int) -> None:
        if not self._names.is_open(node_id, attempt):
            return
        check = self._names.ask(node_id, attempt)
        if check is not None:
            self._name_is_free(check)
        else:
            self._after(self._clocks.probe_timeout_s, NameCheckDue(node_id, attempt + 1))

    def _name_is_held(self, check: NameCheck, answer: Datagram) -> None:
        if self._names.settle(check, answer, self_is_established=self._established):
            self._clash(check.held.gossip_addr)

    def _name_is_free(self, check: NameCheck) -> None:
        """Nobody answers at the address that a name had: the claimant has it."""
        claim = check.claim
        if check.held.node_id == self.node_id:
            if check.held.incarnation >= self._table.me.incarnation:
                self._refute(check.held.incarnation)
            return
        held = self._table.get(check.held.node_id)
        if held is None or not is_present(held) or outranks(claim.member, held):
            if self._table.judge(claim.member) in (Judgement.ADOPT, Judgement.CONTESTED):
                self._believe(claim.member)
        elif claim.source_addr and held.gossip_addr == check.held.gossip_addr:
            # The claimant's clock is behind its former run's. Told that this one failed, it outbids it.
            self._believe(replace(held, state=MemberState.FAILED))
        if claim.joining:
            self._voice.send_table(claim.source_addr, asks_back=False, answers=claim.sequence)
        elif claim.source_addr:
            self._voice.send(claim.source_addr, Rumours(), first=self._correction(claim.member))

    def _hear_rejection(self, rejection: Reject) -> None:
        if self._voice.used_lately(rejection.answers) and rejection.holder_addr != self._table.me.gossip_addr:
            self._clash(rejection.holder_addr)

    def _clash(self, holder_addr: str) -> None:
        # Without a goodbye: it would be said of the holder.
        self._silent = True
        self.observer.tell(NameClashed(self.node_id, holder_addr))

    # ---------------------------------------------------------------- leaving

    def _leave(self, leave: LeaveCluster) -> None:
        """Say goodbye to a few members until they have heard it, or for a bounded time."""
        if self._silent:
            leave.reply_to.tell(LeftCluster(leave.request_id))
            return
        self._leavers.append(leave)
        if self._goodbye is None:
            self._table.me = replace(self._table.me, state=MemberState.LEFT)
            self._goodbye = Goodbye(self._voice, pick(self._rng, self._table.present(), GOODBYES))
            self._say_goodbye(self._goodbye, attempt=1)

    def _say_goodbye(self, goodbye: Goodbye, attempt: int) -> None:
        if goodbye.say(attempt):
            self._after(self._clocks.probe_timeout_s, LeaveRetryDue(attempt + 1))
        else:
            self._fall_silent()

    def _hear_while_leaving(self, goodbye: Goodbye, message: object) -> None:
        if isinstance(message, LeaveRetryDue):
            self._say_goodbye(goodbye, message.attempt)
        elif isinstance(message, DatagramReceived):
            datagram = self._gate.open(message, self._table)
            if datagram is not None and isinstance(datagram.body, Ack) and goodbye.is_heard(datagram.body.answers):
                self._fall_silent()

    def _fall_silent(self) -> None:
        self._silent = True
        for leave in self._leavers:
            leave.reply_to.tell(LeftCluster(leave.request_id))
        self._leavers = []

    # ---------------------------------------------------------------- status and warnings

    def _report(self, asked: ReportStatus) -> None:
        members: Sequence[Member] = sorted((*self._table.everybody(), self._table.me))
        asked.reply_to.tell(StatusReported(asked.request_id, MembershipStatus(tuple(members), self._gate.dropped)))

    # ---------------------------------------------------------------- timers

    def _after(self, delay_s: float, message: MembershipMessage) -> Timer:
        return self._ports.timers.after(delay_s, self.me, message)

    def _arm_probe(self, delay_s: float) -> None:
        self._after(delay_s, ProbeDue())

    def _arm_gossip(self) -> None:
        if self._gossip_timer is None and self._rumours and self._table.present():
            self._gossip_timer = self._after(self._clocks.probe_interval_s / 5, GossipDue())

    def _arm_full_exchange(self) -> None:
        self._after(self._clocks.full_exchange_interval_s * self._rng.uniform(0.8, 1.2), FullExchangeDue())

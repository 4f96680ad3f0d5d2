"""Bugs in gossip: who is believed to be there, to be gone, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ourolog.actors.gossip.probes
import ourolog.actors.membership
from mutants.mutant import BREAK, EVERY, STATIC, mutant, wrap
from ourolog.actors.gossip.table import Judgement, MemberTable, UpdateQueue
from ourolog.actors.membership import MembershipActor
from ourolog.actors.messages.values import Member, MemberState

NODES_5 = (f"{BREAK} --nodes 5", f"{STATIC} --nodes 5")
PARTITIONS = tuple(f"{mode} --faults partition" for mode in NODES_5)
STOPS = tuple(f"{mode} --faults stop" for mode in (BREAK, STATIC))
PAUSES = tuple(f"{mode} --faults pause,kill" for mode in (BREAK, STATIC))
MANY = tuple(f"{mode} --nodes 9 --faults kill --clients 1 --operations 30" for mode in (BREAK, STATIC))


def _nothing(*_: Any, **__: Any) -> None:
    """It is not done."""


@mutant("A suspected member is never declared failed.", EVERY)
def never_declared_failed() -> None:
    wrap(MembershipActor, "_expire_suspicion", lambda _: _nothing)


@mutant("Who does not answer a probe is declared failed at once, without being suspected.", EVERY)
def no_suspicion_phase() -> None:
    def make(original: Any) -> Any:
        def adopt(self: MembershipActor, member: Member) -> None:
            original(self, replace(member, state=MemberState.FAILED) if _is_suspect(member) else member)

        return adopt

    wrap(MembershipActor, "_adopt", make)


def _is_suspect(member: Member) -> bool:
    return member.state is MemberState.SUSPECT


@mutant("A suspicion ends after half its time.", EVERY)
def suspicion_too_short() -> None:
    wrap(ourolog.actors.membership, "suspicion_s", lambda original: lambda base_s, count: original(base_s, count) / 2)


@mutant("Nobody is asked to ping for somebody else.", PARTITIONS)
def no_indirect_probes() -> None:
    wrap(ourolog.actors.gossip.probes, "ping_indirectly", lambda _: lambda *_: {})


@mutant("That a member announces that it leaves is ignored.", STOPS)
def leaves_ignored() -> None:
    def make_judge(original: Any) -> Any:
        def judge(self: MemberTable, update: Member) -> Judgement:
            return Judgement.STALE if update.state is MemberState.LEFT else original(self, update)

        return judge

    def make_on_update(original: Any) -> Any:
        def on_update(self: MembershipActor, update: Member, **how: Any) -> None:
            if update.state is not MemberState.LEFT:
                original(self, update, **how)

        return on_update

    wrap(MemberTable, "judge", make_judge)
    wrap(MembershipActor, "_on_update", make_on_update)


@mutant("A node does not deny what is said against it.", PAUSES)
def suspicion_never_refuted() -> None:
    wrap(MembershipActor, "_on_update_about_me", lambda _: _nothing)


@mutant("A node denies what is said against it, and does not raise its incarnation.", PAUSES)
def incarnation_not_raised() -> None:
    wrap(MemberTable, "refute", lambda _: lambda self, _incarnation: self.me)


@mutant("Updates are not sent on.", MANY)
def updates_not_passed_on() -> None:
    wrap(UpdateQueue, "push", lambda _: _nothing)


@mutant("Members are announced that only others have reported.", EVERY)
def unconfirmed_announced() -> None:
    def make(original: Any) -> Any:
        def on_update(self: MembershipActor, update: Member, **how: Any) -> None:
            unknown = update.node_id != self.node_id and self._table.get(update.node_id) is None
            if unknown and update.state in (MemberState.ALIVE, MemberState.SUSPECT):
                self._adopt(update)
            else:
                original(self, update, **how)

        return on_update

    wrap(MembershipActor, "_on_update", make)


@mutant("That a member is gone is believed from others without asking it.", EVERY)
def gone_unconfirmed() -> None:
    def make(_: Any) -> Any:
        def confirm_gone(self: MembershipActor, update: Member, _: Member) -> None:
            self._adopt(update)

        return confirm_gone

    wrap(MembershipActor, "_confirm_gone", make)


@mutant("Tables are never compared.", PARTITIONS)
def no_full_exchange() -> None:
    wrap(MembershipActor, "_exchange_tables", lambda _: _nothing)

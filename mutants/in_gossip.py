"""Bugs in gossip: who is believed to be there, to be gone, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ourolog.actors.gossip.probes
import ourolog.actors.membership
from mutants.mutant import BREAK, EVERY, STATIC, mutant, wrap
from ourolog.actors.gossip.table import Judgement, MemberTable, RumourQueue
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
        def believe(self: MembershipActor, member: Member) -> None:
            original(self, replace(member, state=MemberState.FAILED) if _is_suspect(member) else member)

        return believe

    wrap(MembershipActor, "_believe", make)


def _is_suspect(member: Member) -> bool:
    return member.state is MemberState.SUSPECT


@mutant("A suspicion ends after half its time.", EVERY)
def suspicion_too_short() -> None:
    wrap(ourolog.actors.membership, "suspicion_s", lambda original: lambda base_s, count: original(base_s, count) / 2)


@mutant("Nobody is asked to ping for somebody else.", PARTITIONS)
def no_indirect_probes() -> None:
    wrap(ourolog.actors.gossip.probes, "ask_others", lambda _: lambda *_: {})


@mutant("Goodbyes are not heard.", STOPS)
def goodbyes_ignored() -> None:
    def make_judge(original: Any) -> Any:
        def judge(self: MemberTable, heard: Member) -> Judgement:
            return Judgement.STALE if heard.state is MemberState.LEFT else original(self, heard)

        return judge

    def make_hear(original: Any) -> Any:
        def hear_about(self: MembershipActor, heard: Member, **how: Any) -> None:
            if heard.state is not MemberState.LEFT:
                original(self, heard, **how)

        return hear_about

    wrap(MemberTable, "judge", make_judge)
    wrap(MembershipActor, "_hear_about", make_hear)


@mutant("A node does not deny what is said against it.", PAUSES)
def suspicion_never_refuted() -> None:
    wrap(MembershipActor, "_hear_about_me", lambda _: _nothing)


@mutant("A node denies what is said against it, and does not raise its incarnation.", PAUSES)
def incarnation_not_raised() -> None:
    wrap(MemberTable, "refute", lambda _: lambda self, _incarnation: self.me)


@mutant("News is not passed on.", MANY)
def rumours_not_passed_on() -> None:
    wrap(RumourQueue, "push", lambda _: _nothing)


@mutant("Members are announced that this node was only told of.", EVERY)
def hearsay_announced() -> None:
    def make(original: Any) -> Any:
        def hear_about(self: MembershipActor, heard: Member, **how: Any) -> None:
            unknown = heard.node_id != self.node_id and self._table.get(heard.node_id) is None
            if unknown and heard.state in (MemberState.ALIVE, MemberState.SUSPECT):
                self._believe(heard)
            else:
                original(self, heard, **how)

        return hear_about

    wrap(MembershipActor, "_hear_about", make)


@mutant("That a member is gone is believed from others without asking it.", EVERY)
def gone_by_hearsay() -> None:
    def make(_: Any) -> Any:
        def doubt(self: MembershipActor, heard: Member, _: Member) -> None:
            self._believe(heard)

        return doubt

    wrap(MembershipActor, "_doubt", make)


@mutant("Tables are never compared.", PARTITIONS)
def no_full_exchange() -> None:
    wrap(MembershipActor, "_exchange_tables", lambda _: _nothing)

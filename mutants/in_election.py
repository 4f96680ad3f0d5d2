"""Bugs in the election slot: who leads, and what a voter says of its log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ourolog.actors.election.log_end_survey
from mutants.mutant import DECREED_IDLE, DECREES, FOUR_VOTERS, STANDBY, STATIC, mutant, wrap
from ourolog.actors.election.log_end_survey import LogEndSurvey
from ourolog.actors.election.static import StaticElection
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index


@mutant("A decreed leader leads without asking the voters where their logs end.", (DECREES,))
def leads_unasked() -> None:
    wrap(StaticElection, "_on_log_opened", _as_if_forced)


@mutant("A decreed leader asks the voters, and leads though they are ahead of it.", (DECREES,))
def leads_behind() -> None:
    wrap(ourolog.actors.election.log_end_survey, "_why_ahead", lambda _: lambda *_: None)


@mutant("A decreed leader leads as soon as anybody has answered.", (DECREES,))
def leads_without_majority() -> None:
    def make(original: Any) -> Any:
        def findings(self: Any, survey: Any) -> Any:
            return replace(original(self, survey), suffices=True)

        return findings

    wrap(LogEndSurvey, "_findings", make)


@mutant("Of a decreed leader's voters half are taken for a majority.", FOUR_VOTERS)
def half_is_a_majority() -> None:
    def make(original: Any) -> Any:
        def findings(self: Any, survey: Any) -> Any:
            found = original(self, survey)
            return replace(found, suffices=2 * (len(self._voters) - len(found.missing)) >= len(self._voters))

        return findings

    wrap(LogEndSurvey, "_findings", make)


@mutant("A decreed leader takes a voter for one that is ahead whose log ends where its own does.", (STATIC, DECREES))
def equal_is_ahead() -> None:
    def make(original: Any) -> Any:
        def why_ahead(voter: Any, answer: Any, own: Any, own_end: Any) -> Any:
            return original(voter, answer, own, Index(own_end - 1) if own_end else own_end)

        return why_ahead

    wrap(ourolog.actors.election.log_end_survey, "_why_ahead", make)


@mutant("A decreed leader does not mind that a voter has another maker's entry where its own log ends.", DECREED_IDLE)
def other_maker_passed_over() -> None:
    def make(original: Any) -> Any:
        def why_ahead(voter: Any, answer: Any, own: Any, own_end: Any) -> Any:
            is_same_place = LastEntry.of(answer.last, answer.end.index) == LastEntry.of(own, own_end)
            return None if is_same_place else original(voter, answer, own, own_end)

        return why_ahead

    wrap(ourolog.actors.election.log_end_survey, "_why_ahead", make)


@mutant("A voter that is asked where its log ends says what its store said at the last question.", (STATIC, DECREES))
def remembered_log_end() -> None:
    def make(original: Any) -> Any:
        def on_described(self: StaticElection, described: Any) -> None:
            if described.request_id in self._asking:
                before = getattr(self, "_before", described)
                self._before = described  # type: ignore[attr-defined]
                described = replace(described, end=before.end, last=before.last)
            original(self, described)

        return on_described

    wrap(StaticElection, "_on_described", make)


@mutant("A voter that is asked where its log ends never answers.", (STATIC, DECREES))
def log_end_never_answered() -> None:
    wrap(StaticElection, "_on_asked", lambda _: lambda *_: None)


@mutant("A voter answers twice where its log ends.", (STATIC, DECREES))
def log_end_answered_twice() -> None:
    def make(original: Any) -> Any:
        def on_asked(self: StaticElection, asked: Any) -> None:
            original(self, asked)
            original(self, asked)

        return on_asked

    wrap(StaticElection, "_on_asked", make)


@mutant("A node that does not vote goes to a term of its own when another leader is decreed.", STANDBY)
def standby_makes_a_term() -> None:
    wrap(StaticElection, "_votes", lambda _: property(lambda _: True))


def _as_if_forced(original: Any) -> Any:
    def on_log_opened(self: StaticElection, opened: Any) -> None:
        config, self.config = self.config, replace(self.config, force_lead=True)
        try:
            original(self, opened)
        finally:
            self.config = config

    return on_log_opened

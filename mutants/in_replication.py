"""Bugs in replication: followers, long polls, leaders and their past, and what is made of terms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ourolog.actors.replication.fetch_server
import ourolog.actors.replication.pulls
from mutants.mutant import (
    DECREES,
    ELECTED,
    EVERY,
    FIVE_VOTERS,
    ORACLE,
    SLOW_DISKS,
    STANDBY,
    STATIC,
    doing_nothing,
    mutant,
    wrap,
)
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.election.static import StaticElection
from ourolog.actors.messages.events import ClaimsDisputed
from ourolog.actors.messages.peer_calls import FetchOutcome, FetchRequest
from ourolog.actors.replication.commit import Boundaries, LeaderCommit
from ourolog.actors.replication.fetch_server import FetchServer
from ourolog.actors.replication.leader_search import LeaderSearch
from ourolog.actors.replication.pulls import Pulls
from ourolog.actors.replicator import ReplicatorActor
from ourolog.actors.server import ServerActor
from ourolog.actors.stepping import VirtualTimer
from ourolog.actors.store import StoreActor
from ourolog.storage.terms import Run, TermHistory
from ourolog.storage.types import START, Index, NodeId

# ---------------------------------------------------------------- long polls


@mutant("Long polls never expire.", EVERY)
def long_polls_never_expire() -> None:
    wrap(FetchServer, "expire", lambda _: lambda *_: None)


@mutant("A long poll that was answered is answered again when its time is up.", EVERY)
def long_poll_answered_twice() -> None:
    def make(original: Any) -> Any:
        def wake(self: FetchServer) -> None:
            before = dict(self._parked)
            with doing_nothing(VirtualTimer, "cancel"):
                original(self)
            self._parked = before | self._parked

        return wake

    wrap(FetchServer, "wake", make)


@mutant("A long poll is kept when the fetcher has gone away.", EVERY)
def fetch_cancel_ignored() -> None:
    wrap(FetchServer, "cancel", lambda _: lambda *_: None)


@mutant("Followers that wait for more are not told when the commit position moves.", FIVE_VOTERS)
def commit_not_pushed() -> None:
    wrap(FetchServer, "_tell_commit_later", lambda _: lambda _: None)


# ---------------------------------------------------------------- pulls


@mutant("Any answer of the peer is taken for that of the fetch under way.", (ORACLE,))
def any_request_id() -> None:
    def make(original: Any) -> Any:
        def take(self: Pulls, answer: Any) -> None:
            pull = self._pulls.get(answer.peer_id)
            if pull is not None:
                original(self, replace(answer, request_id=pull.request_id))

        return take

    wrap(Pulls, "on_returned", make)
    wrap(Pulls, "on_failed", make)


@mutant("The timer of a pull that was stopped is taken for that of the pull which came after it.", ELECTED)
def old_timer_taken() -> None:
    def make(original: Any) -> Any:
        def stop(self: Pulls, *arguments: Any) -> None:
            with doing_nothing(VirtualTimer, "cancel"):
                original(self, *arguments)

        return stop

    def on_retry(self: Pulls, due: Any) -> None:
        pull = self._pulls.get(due.peer_id)
        if pull is not None:
            pull.timer = None
            self._fetch(pull)

    wrap(Pulls, "_stop", make)
    wrap(Pulls, "on_retry", lambda _: on_retry)


@mutant("A follower takes over the commit position also from an answer that did not match its log.", (ORACLE,))
def commit_from_unmatched() -> None:
    def make(original: Any) -> Any:
        def on_returned(self: Pulls, returned: Any) -> None:
            if returned.response.outcome is FetchOutcome.DIVERGED and self._state.elected:
                self._on_committed(returned.response.committed)
            original(self, returned)

        return on_returned

    wrap(Pulls, "on_returned", make)


@mutant("Where the logs part, a follower drops all it has from some earlier place on.", (ORACLE,))
def cut_committed() -> None:
    def make(original: Any) -> Any:
        def on_diverged(self: Pulls, pull: Any, response: Any) -> None:
            state = self._state
            committed = state.committed
            state.committed = state.start
            try:
                original(self, pull, replace(response, diverged_at=Index(max(0, response.diverged_at - 4))))
            finally:
                state.committed = committed

        return on_diverged

    wrap(Pulls, "_on_diverged", make)


@mutant("A follower does not heed a commit position that comes without batches.", FIVE_VOTERS)
def commit_news_unheeded() -> None:
    def make(original: Any) -> Any:
        def on_batches(self: Pulls, pull: Any, response: Any) -> None:
            if self._state.elected and not response.batches:
                response = replace(response, committed=START)
            original(self, pull, response)

        return on_batches

    wrap(Pulls, "_on_batches", make)


@mutant("A follower does not look whether what it drops was committed.", (DECREES,))
def no_commit_check() -> None:
    def make(original: Any) -> Any:
        def reconcile(own: Any, _: Index, *rest: Any) -> Any:
            return original(own, Index(0), *rest)

        return reconcile

    wrap(ourolog.actors.replication.pulls, "reconcile", make)


@mutant("A follower whose log is busy does not call its leader meanwhile.", SLOW_DISKS)
def no_keep_alives() -> None:
    wrap(Pulls, "_keep_alive", lambda _: lambda *_: None)


@mutant("A busy follower calls its leader once, and not again.", SLOW_DISKS)
def one_keep_alive() -> None:
    def make(original: Any) -> Any:
        def put_off(self: Pulls, pull: Any) -> None:
            if pull.keep_alive_id is None:
                original(self, pull)

        return put_off

    wrap(Pulls, "_put_off_keep_alive", make)


@mutant("A busy follower says that it has what it is still writing.", SLOW_DISKS)
def keep_alive_claims_too_much() -> None:
    def make(original: Any) -> Any:
        def keep_alive(self: Pulls, pull: Any) -> None:
            end = self._state.end
            if self._is_writing(pull) and pull.source_end is not None:
                self._state.end = pull.source_end
            try:
                original(self, pull)
            finally:
                self._state.end = end

        return keep_alive

    wrap(Pulls, "_keep_alive", make)


@mutant("A follower says nothing when nobody listens any more where its leader was.", ELECTED)
def refusal_untold() -> None:
    def make(original: Any) -> Any:
        def on_failed(self: Pulls, failed: Any) -> None:
            original(self, replace(failed, is_refused=False))

        return on_failed

    wrap(Pulls, "on_failed", make)


@mutant("A follower takes a call without an answer for a process that has ended.", ELECTED)
def silence_is_refusal() -> None:
    def make(original: Any) -> Any:
        def on_failed(self: Pulls, failed: Any) -> None:
            original(self, replace(failed, is_refused=True))

        return on_failed

    wrap(Pulls, "on_failed", make)


# ---------------------------------------------------------------- leading


@mutant("A new leader does not begin its term with a batch of its own.", ELECTED)
def no_control_batch() -> None:
    wrap(StoreActor, "_begin_term", lambda _: lambda *_: None)


@mutant("What a leader believes of a voter's disk never falls, whatever the voter's fetches say.", ELECTED)
def position_never_falls() -> None:
    def make(original: Any) -> Any:
        def on_fetch(self: ReplicatorActor, received: Any) -> None:
            request: FetchRequest = received.request
            before = self._commit.on_disk.get(request.node_id) if self._commit is not None else None
            original(self, received)
            if self._commit is not None and before is not None:
                on_disk = self._commit.on_disk
                on_disk[request.node_id] = max(before, on_disk.get(request.node_id, before))

        return on_fetch

    wrap(ReplicatorActor, "_on_fetch", make)


@mutant("Entries of earlier terms are committed by counting disks.", (ORACLE,))
def old_terms_by_counting() -> None:
    def make(original: Any) -> Any:
        def advance(self: LeaderCommit, _: Any, boundaries: Any) -> bool:
            return bool(original(self, TermHistory((Run(self.term, (NodeId(""), 0), Index(0)),)), boundaries))

        return advance

    wrap(LeaderCommit, "advance", make)


@mutant("Boundaries between batches are kept when the batches are committed.", ELECTED)
def boundaries_never_forgotten() -> None:
    wrap(Boundaries, "forget", lambda _: lambda *_: None)


@mutant("A deposed leader leaves its open produces to their time.", (ORACLE,))
def deposed_says_nothing() -> None:
    def make(original: Any) -> Any:
        def on_leader_changed(self: ServerActor, changed: Any) -> None:
            open_produces, self._produces._open = self._produces._open, {}
            try:
                original(self, changed)
            finally:
                self._produces._open = open_produces

        return on_leader_changed

    wrap(ServerActor, "_on_leader_changed", make)


# ---------------------------------------------------------------- terms


@mutant("Only the length of the logs is compared, not the terms of their entries.", (ORACLE,))
def lengths_only() -> None:
    def make(original: Any) -> Any:
        def compare(leader: Any, next_index: Index, last: Any, committed: Index) -> Any:
            known = leader.terms.place_of(Index(next_index - 1)) if next_index <= leader.end.index else None
            return original(leader, next_index, known or last, committed)

        return compare

    wrap(ourolog.actors.replication.fetch_server, "compare", make)


@mutant("Only terms are compared, not who wrote in them.", (DECREES,))
def writers_not_compared() -> None:
    def make(original: Any) -> Any:
        def compare(leader: Any, next_index: Index, last: Any, committed: Index) -> Any:
            known = leader.terms.place_of(Index(next_index - 1)) if next_index <= leader.end.index else None
            is_term = known is not None and last is not None and known.term == last.term
            return original(leader, next_index, known if is_term else last, committed)

        return compare

    wrap(ourolog.actors.replication.fetch_server, "compare", make)


@mutant("The store appends under a term that is over.", (ORACLE,))
def store_accepts_old_terms() -> None:
    def make(original: Any) -> Any:
        def append(self: StoreActor, message: Any) -> None:
            ballot, self._ballot = self._ballot, replace(self._ballot, term=message.term)
            try:
                original(self, message)
            finally:
                self._ballot = ballot

        return append

    wrap(StoreActor, "_append_batch", make)
    wrap(StoreActor, "_append_fetched", make)


@mutant("Nobody listens to what others claim of the election.", (DECREES,))
def claims_unheard() -> None:
    wrap(ElectionActor, "_on_claim", lambda _: lambda *_: None)


@mutant("A leader that has heard of another claim goes on acknowledging.", (DECREES,))
def disputed_acknowledges() -> None:
    def make(original: Any) -> Any:
        def on_receive(self: ServerActor, message: Any) -> None:
            if not isinstance(message, ClaimsDisputed):
                original(self, message)

        return on_receive

    wrap(ServerActor, "on_receive", make)


@mutant("A node does not care that a peer is in a later term.", (STATIC,))
def higher_term_ignored() -> None:
    wrap(StaticElection, "_on_higher_term", lambda _: lambda *_: None)


@mutant("A node that knows of no leader asks nobody.", (*STANDBY, ORACLE))
def search_asks_nobody() -> None:
    wrap(LeaderSearch, "_ask", lambda _: lambda _: None)


@mutant("A node that knows of no leader asks one voter only, ever again.", (*STANDBY, ORACLE))
def search_asks_one_voter() -> None:
    def make(original: Any) -> Any:
        def ask(self: LeaderSearch) -> None:
            self._last_asked = NodeId("")
            original(self)

        return ask

    wrap(LeaderSearch, "_ask", make)


@mutant("A voter that does not answer holds up the search for the leader.", (*STANDBY, ORACLE))
def search_waits_for_answer() -> None:
    def make(original: Any) -> Any:
        def ask(self: LeaderSearch) -> None:
            if self._open:
                self._ask_again_in(0.25)
            else:
                original(self)

        return ask

    wrap(LeaderSearch, "_ask", make)

"""Bugs in reads of the latest state: what is taken for a confirmation and is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mutants.mutant import BUSY_LEADER, DEPOSED, ELECTED, NEW_LEADERS, RAFT, mutant, wrap
from ourolog.actors.replication.fetch_server import FetchServer
from ourolog.actors.replication.latest_reads import LatestReads
from ourolog.actors.replication.read_rounds import ReadRounds
from ourolog.actors.replication.state import Role
from ourolog.storage.types import Index

# ---------------------------------------------------------------- on the leader


@mutant("A leader confirms reads before an entry of its own term is committed (etcd 7331).", NEW_LEADERS)
def reads_before_own_term() -> None:
    def make(original: Any) -> Any:
        def change_role(self: LatestReads) -> None:
            original(self)
            if self._rounds is not None:
                self.commit_known()

        return change_role

    wrap(LatestReads, "change_role", make)


@mutant("Rounds are numbered anew in each term, and echoes of earlier ones still count (RA 6bc27d3a).", DEPOSED)
def echoes_kept_over_terms() -> None:
    def make_change(original: Any) -> Any:
        def change_role(self: LatestReads) -> None:
            before = self.__dict__.setdefault("echoes_of_all_terms", {})
            original(self)
            if self._rounds is not None:
                self._rounds._draw_first = lambda: 1
                self._rounds.__dict__["echoes_of_all_terms"] = before

        return change_role

    def make_echo(original: Any) -> Any:
        def echo(self: ReadRounds[Any], voter: Any, number: int) -> None:
            before = self.__dict__["echoes_of_all_terms"]
            before[voter] = max(before.get(voter, 0), number)
            original(self, voter, number)

        return echo

    def make_open(original: Any) -> Any:
        def open_(self: ReadRounds[Any], committed: Index) -> bool:
            opened: bool = original(self, committed)
            for voter, number in self.__dict__["echoes_of_all_terms"].items():
                if opened and number >= self.number:
                    self.echo(voter, self.number)
            return opened

        return open_

    wrap(LatestReads, "change_role", make_change)
    wrap(ReadRounds, "echo", make_echo)
    wrap(ReadRounds, "open", make_open)


@mutant("Any fetch of a voter that arrives after a read confirms it, whatever number it echoes.", DEPOSED)
def receipt_confirms() -> None:
    def make(original: Any) -> Any:
        return lambda self, voter, _: original(self, voter, self.number)

    wrap(ReadRounds, "echo", make)


@mutant("A parked fetch that is answered since a round was opened confirms that round.", DEPOSED)
def parked_fetch_confirms() -> None:
    def make(original: Any) -> Any:
        def init(self: LatestReads, state: Any, voters: Any, wake_fetches: Any) -> None:
            def wake() -> None:
                parked = [one.received.request for one in wake_fetches.__self__._parked.values()]
                wake_fetches()
                for request in parked:
                    if self._rounds is not None and request.node_id in voters():
                        self._rounds.echo(request.node_id, self._rounds.number)

            original(self, state, voters, wake)

        return init

    wrap(LatestReads, "__init__", make)


@mutant("A leader confirms reads without asking anybody whether it still leads.", DEPOSED)
def nobody_is_asked() -> None:
    def make(original: Any) -> Any:
        return lambda self, _: original(self, (self._leader_id,))

    wrap(ReadRounds, "confirmed", make)


@mutant("A read that comes while a round is open is confirmed with it.", BUSY_LEADER)
def read_joins_open_round() -> None:
    def make(original: Any) -> Any:
        def join(self: ReadRounds[Any], read: Any) -> None:
            if self._open is not None:
                self._open.reads[read] = None
            else:
                original(self, read)

        return join

    wrap(ReadRounds, "join", make)


@mutant("Followers that wait for more are not told of a round of reads before their time is up.", RAFT)
def rounds_not_pushed() -> None:
    wrap(FetchServer, "_is_of_round", lambda _: lambda *_: False)


# ---------------------------------------------------------------- on other nodes


@mutant("A follower does not wait until it has committed what the leader names.", ELECTED)
def read_index_not_waited_for() -> None:
    def make(original: Any) -> Any:
        def on_returned(self: LatestReads, returned: Any) -> None:
            response = returned.response
            if response.committed is not None:
                returned = replace(returned, response=replace(response, committed=Index(0)))
            original(self, returned)

        return on_returned

    wrap(LatestReads, "on_returned", make)


@mutant("A follower asks the leader once a term, and takes its answer for that to all later reads.", ELECTED)
def read_index_reused() -> None:
    def make_returned(original: Any) -> Any:
        def on_returned(self: LatestReads, returned: Any) -> None:
            if returned.response.committed is not None:
                self.__dict__["answered"] = returned.response.term, returned.response.committed
            original(self, returned)

        return on_returned

    def make_ask(original: Any) -> Any:
        def ask(self: LatestReads) -> None:
            term, index = self.__dict__.get("answered", (-1, Index(0)))
            if self._state.role is Role.FOLLOWER and self._state.term == term:
                self._behind.update((key, index) for key in self._unasked)
                self._unasked.clear()
                self.on_committed()
            else:
                original(self)

        return ask

    wrap(LatestReads, "on_returned", make_returned)
    wrap(LatestReads, "_ask", make_ask)


@mutant("The answer to a question answers reads that came after it was sent.", ELECTED)
def read_joins_open_question() -> None:
    def make(original: Any) -> Any:
        def on_returned(self: LatestReads, returned: Any) -> None:
            question = self._question
            if question is not None:
                self._question = replace(question, reads=(*question.reads, *self._unasked))
                self._unasked.clear()
            original(self, returned)

        return on_returned

    wrap(LatestReads, "on_returned", make)

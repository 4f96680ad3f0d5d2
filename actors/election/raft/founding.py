"""The founding of a cluster: who votes first (docs/raft.md). Until it is over nobody stands for election.

The founders are named by the election, or are the first that gossip finds. Of those that gossip finds the first
`--replicas` vote, and the others stand by. Each voter puts one promise on disk, the set of the first voters with their
disks and the id of the cluster, and never a second one. The cluster is founded when all of them have. Since a disk
promises once, no disk is in two clusters: two halves of a network cannot form two.

1. Everybody asks everybody every half election timeout, without promising anything.
2. When all founders agree about who they are, the one with the lowest name draws the id and promises first.
3. Who is asked, and has promised, answers with its promise. Who hears of one in which it stands itself makes the same.
4. Who has promised asks until all others have. Then it may vote and stand: `on_founded`.

Only answers count, from the address that gossip or the promise knows, since a request can name anybody. A request at
most causes a question in return, so that all of this takes a few round trips instead of a few periods.

What is on disk decides after a restart, and flags only where nothing is. A disk that is lost between its promise and
the founding is missed by all others: they say so, and a person empties their directories. No node does that itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.election.raft.founding_flags import FoundingFlags, listed, names_of
from ourolog.actors.messages.election import ElectionMessage, ElectionTimerDue
from ourolog.actors.messages.events import LogOpened
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    FoundRequest,
    FoundResponse,
)
from ourolog.actors.messages.store import FoundingSaved, SaveFounding, StoreMessage
from ourolog.actors.messages.values import Member, Peer
from ourolog.actors.ports import Ports, Timer
from ourolog.storage.control import MAX_EPOCH, Voter, VoterKey, decode_voters, encode_voters
from ourolog.storage.founding import Founding
from ourolog.storage.recovering import is_unfinished
from ourolog.storage.types import NodeId

TIMER: Final = "founding"
"""The name of the timer of these talks, in an ElectionTimerDue."""

MAX_CANDIDATES: Final = 64
"""How many nodes that gossip has found are asked at most, where the election does not name the founders."""

_HINTS_A_PERIOD: Final = 4
_MAX_OPEN_QUESTIONS: Final = 3
_MAX_NAMED: Final = 3
_UNDISCOVERED: Final = "which has not been discovered yet"
_SILENT: Final = "which has not answered yet"


def why_not_ours(node_id: NodeId, opened: LogOpened) -> str | None:
    """Why voters cannot elect with what is in this data directory, as a sentence; None if they can."""
    founding = opened.founding
    if founding is None:
        if opened.ballot.term == 0 and opened.end.index == 0:
            return None
        count = opened.end.offset
        records = f"{count} record" if count == 1 else f"{count} records"
        return (
            f"this data directory holds {records} and term {opened.ballot.term}, and belongs to no cluster that elects "
            "its leader: it comes from --election none or static. Start the node with that again, or start "
            f"{node_id} on an empty --data-dir"
        )
    key = VoterKey(node_id, opened.log_epoch)
    if founding.voters and key not in {voter.key for voter in founding.voters}:
        return (
            f"this data directory has the founding promise of another one: it names {listed(names_of(founding))}, and "
            f"not this disk of {node_id}. Were files copied from another node? Start {node_id} on an empty --data-dir"
        )
    if is_unfinished(founding, opened.voters):
        return (
            f"this data directory was being recovered as generation {founding.generation} of its cluster, and that was "
            "interrupted. Run `ourolog cluster recover` on it once more, which finishes it"
        )
    return None


class _Phase(StrEnum):
    """How far this node is.

    ASKING: it has promised nothing, and looks for the other founders.
    SAVING: its promise is on its way to the disk.
    PROMISED: its promise is on disk, and it is not known that all others have made it, too.
    STANDING_BY: it is no founder.
    OVER: the cluster is founded.
    """

    ASKING = "asking"
    SAVING = "saving"
    PROMISED = "promised"
    STANDING_BY = "standing by"
    OVER = "over"


@dataclass(slots=True)
class _Founder:
    """What is known of another node that may be a founder.

    addr: where it is asked, "" while nobody has said.
    voter: how it described itself in its last answer; None if it belongs to a cluster, or did not answer.
    agreed_to: the founders that it agreed to in its last answer, () if to none.
    has_promised: whether it has made the same promise as this node.
    why: what it lacks, as a relative clause.
    problem: what keeps it from taking part, as a sentence; "" if nothing does. A person has to do something about it
        if it lasts.
    problem_since_s: since when that has been so, by the monotonic clock.
    has_warned: whether that was said.
    hints: how often it was asked in this period because it had asked.
    is_asked_again: whether to ask once more when it has answered.
    """

    addr: str = ""
    voter: Voter | None = None
    agreed_to: tuple[NodeId, ...] = ()
    has_promised: bool = False
    why: str = _UNDISCOVERED
    problem: str = ""
    problem_since_s: float = 0.0
    has_warned: bool = False
    hints: int = 0
    is_asked_again: bool = False


class FoundingTalks:
    """The talks of this node with the other founders, from `open` until the cluster is founded or this node stands by.

    promise: what this disk has promised, None if nothing. Questions about it are answered for ever.
    """

    def __init__(
        self,
        config: NodeConfig,
        key: VoterKey,
        ports: Ports,
        store: Mailbox[StoreMessage],
        me: Mailbox[ElectionMessage],
        next_id: Callable[[], int],
        *,
        on_founded: Callable[[Founding], None],
        on_standby: Callable[[], None],
        on_progress: Callable[[str], None],
        on_joined: Callable[[Founding], None] = lambda _: None,
    ) -> None:
        """Prepare talks that have not begun.

        key: this node with its disk.
        next_id: a fresh request id of the election.
        on_founded: told once, when it is known that all founders have promised.
        on_standby: told once, if this node is no founder; it looks for a leader then, and copies.
        on_progress: told what the talks wait for, as a sentence, whenever that changes.
        on_joined: told once after `join`, when that is on disk.
        """
        self.promise: Founding | None = None
        self._config = config
        self._node_id = key.node_id
        self._key = key
        self._ports = ports
        self._store = store
        self._me = me
        self._next_id = next_id
        self._on_founded = on_founded
        self._on_standby = on_standby
        self._on_progress = on_progress
        self._on_joined = on_joined
        self._flags = FoundingFlags.of(config)
        self._phase = _Phase.ASKING
        self._why_no_founder = ""
        self._others: dict[NodeId, _Founder] = {}
        self._choice: tuple[NodeId, ...] = ()
        self._asked: dict[int, tuple[NodeId, FoundRequest]] = {}
        self._saving: int | None = None
        self._timer: Timer | None = None
        self._serial = 0
        self._progress = ""

    # ------------------------------------------------------------ the beginning and the end

    def open(self, opened: LogOpened) -> None:
        """Begin with what is on disk, and with the flags if nothing is; `why_not_ours` has found nothing."""
        self.promise = opened.founding
        has_begun = opened.ballot.term > 0 or opened.end.index > 0
        if self.promise is not None:
            if len(self.promise.voters) == 1 and (opened.voters is None or len(opened.voters.voters) == 1):
                self._warn_of_one_copy()
            self._go_on_with_promise(has_begun=has_begun)
        elif self._flags.count == 0:
            self._stand_by(f"{self._node_id} was started to join a cluster ({self._flags.text}) and founds none")
        elif self._flags.count == 1:
            self._warn_of_one_copy()
            self._save(self._founding_of((self._own_voter,)))
        else:
            self._others = {name: _Founder() for name in self._flags.names if name != self._node_id}
            self._look_round()
            self._ask_all()

    def stop(self) -> None:
        """A leader of this cluster is known: ask nobody any more."""
        if self._phase is not _Phase.STANDING_BY:
            self._phase = _Phase.OVER
        self._end_talks()

    def proved(self, cluster_id: int) -> None:
        """Another founder takes part in elections of that cluster, which it may only do when all have promised."""
        if self._phase is _Phase.PROMISED and self.promise is not None and self.promise.cluster_id == cluster_id:
            self._found()

    def join(self, founding: Founding) -> None:
        """Where this node stands by and belongs to no cluster yet: from now on to that one, on disk.

        founding: the cluster; it names no voters, since this node did not found it.
        """
        if self._phase is _Phase.STANDING_BY and self.promise is None and self._saving is None:
            self._tell_store(founding)

    def _found(self) -> None:
        assert self.promise is not None, "founded by a promise"
        self._phase = _Phase.OVER
        self._end_talks()
        self._on_founded(self.promise)

    def _stand_by(self, why: str) -> None:
        self._phase = _Phase.STANDING_BY
        self._why_no_founder = why
        self._end_talks()
        self._on_standby()

    def _end_talks(self) -> None:
        self._asked.clear()
        self._others.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------ the promise

    @property
    def _own_voter(self) -> Voter:
        config = self._config
        return Voter(self._node_id, self._key.log_epoch, config.rpc_addr, config.gossip_addr, config.own_peer_addr)

    def _founding_of(self, voters: tuple[Voter, ...]) -> Founding:
        return Founding(self._ports.rng.randint(1, MAX_EPOCH), voters)

    def _save(self, founding: Founding) -> None:
        self._phase = _Phase.SAVING
        self._tell_store(founding)

    def _tell_store(self, founding: Founding) -> None:
        self._saving = self._next_id()
        self._store.tell(SaveFounding(self._saving, founding, self._me))

    def on_saved(self, saved: FoundingSaved) -> None:
        """Go on with what is on disk now, which may be another promise than the one that was to be saved."""
        self.promise = saved.founding
        if saved.request_id != self._saving:
            return
        self._saving = None
        if self._phase is _Phase.STANDING_BY:
            self._on_joined(saved.founding)
        elif self._phase is _Phase.SAVING:
            self._go_on_with_promise(has_begun=False)

    def _go_on_with_promise(self, *, has_begun: bool) -> None:
        """Do what follows from the promise that is on disk.

        has_begun: whether this node has voted or has entries, which it cannot before all have promised.
        """
        promise = self.promise
        assert promise is not None, "it is on disk"
        if not promise.voters:
            self._stand_by(f"{self._node_id} belongs to a cluster already, and did not found it")
            return
        if has_begun or len(promise.voters) == 1:
            self._found()
            return
        self._phase = _Phase.PROMISED
        met = {name: founder.addr for name, founder in self._others.items() if founder.addr}
        self._others = {
            voter.node_id: _Founder(met.get(voter.node_id, voter.peer_addr), why=_SILENT)
            for voter in promise.voters
            if voter.node_id != self._node_id
        }
        self._ask_all()

    # ------------------------------------------------------------ asking

    def met(self, member: Member) -> None:
        """Note the address of a member. One that may be a founder is asked at once if it is new."""
        node_id = member.node_id
        if node_id == self._node_id or self._phase in (_Phase.STANDING_BY, _Phase.OVER):
            return
        founder = self._others.get(node_id)
        if founder is None:
            if self._phase is _Phase.PROMISED or not self._flags.may_found(node_id) or not self._make_room():
                return
            founder = self._others[node_id] = _Founder()
        if founder.addr != member.peer_addr:
            founder.addr = member.peer_addr
            founder.why = _SILENT
            self._ask(node_id)
            self._tell_progress()

    def _make_room(self) -> bool:
        """Whether one more can be asked; one that does not answer makes room for it."""
        if len(self._others) < MAX_CANDIDATES:
            return True
        silent = next((name for name, founder in self._others.items() if founder.voter is None), None)
        if silent is not None:
            del self._others[silent]
        return silent is not None

    def on_due(self, due: ElectionTimerDue) -> None:
        """Ask again whoever has to be asked."""
        if due.name != TIMER or due.serial != self._serial or self._timer is None:
            return
        for founder in self._others.values():
            founder.hints = 0
        self._ask_all()

    def _ask_all(self) -> None:
        for node_id in sorted(self._others):
            self._ask(node_id)
        self._serial += 1
        due = ElectionTimerDue(TIMER, self._serial)
        self._timer = self._ports.timers.after(self._config.election_timeout_s / 2, self._me, due)
        self._tell_progress()

    def _ask(self, node_id: NodeId) -> bool:
        """Ask, unless the same question is open or there is nothing to ask. False if it has to be asked again."""
        founder = self._others[node_id]
        if not founder.addr or founder.has_promised or self._phase not in (_Phase.ASKING, _Phase.PROMISED):
            return True
        request = self._question(node_id)
        open_questions = [question for asked_id, question in self._asked.values() if asked_id == node_id]
        if request in open_questions or len(open_questions) >= _MAX_OPEN_QUESTIONS:
            return False
        request_id = self._next_id()
        self._asked[request_id] = (node_id, request)
        self._ports.network.call(Peer(node_id, founder.addr), request_id, request, self._me)
        return True

    def _question(self, node_id: NodeId) -> FoundRequest:
        if self._phase is _Phase.PROMISED:
            assert self.promise is not None, "it is on disk"
            names = names_of(self.promise)
        else:
            names = self._choice if node_id in self._choice else ()
        return FoundRequest(self._config.cluster, self._node_id, self._key.log_epoch, names, self.promise)

    # ------------------------------------------------------------ answers

    def on_returned(self, returned: CallReturned[FoundResponse]) -> None:
        """Weigh the answer to a question that is still open."""
        asked = self._asked.pop(returned.request_id, None)
        founder = self._others.get(returned.peer_id)
        if asked is None or founder is None:
            return
        response = returned.response
        if response.node_id != returned.peer_id:
            self._note_silence(founder, f"which could not be asked ({response.node_id} answers at its address)")
        else:
            try:
                voter = _voter_of(response)
            except ValueError as error:
                self._note_silence(founder, f"which could not be asked (its answer means nothing: {error})")
            else:
                self._weigh(founder, voter, response, asked[1])
        self._after_answer(returned.peer_id)

    def on_failed(self, failed: CallFailed) -> None:
        """Note that a question was not answered."""
        founder = self._others.get(failed.peer_id)
        if self._asked.pop(failed.request_id, None) is not None and founder is not None:
            self._note_silence(founder, f"which could not be asked ({failed.reason})")
            self._after_answer(failed.peer_id)

    def _after_answer(self, node_id: NodeId) -> None:
        self._look_round()
        founder = self._others.get(node_id)
        if founder is not None and founder.is_asked_again:
            founder.is_asked_again = False
            self._ask(node_id)
        if self._phase in (_Phase.ASKING, _Phase.PROMISED):
            self._tell_progress()

    def _note_silence(self, founder: _Founder, why: str) -> None:
        founder.voter, founder.agreed_to, founder.why = None, (), why
        self._note_problem(founder, "")

    def _note_problem(self, founder: _Founder, problem: str) -> None:
        if problem != founder.problem:
            founder.problem, founder.problem_since_s = problem, self._ports.clock.monotonic_s()
            founder.has_warned = False

    def _weigh(self, founder: _Founder, voter: Voter, response: FoundResponse, request: FoundRequest) -> None:
        if self._phase is _Phase.PROMISED:
            self._weigh_promise(founder, voter, response)
        elif self._phase is _Phase.ASKING and response.founding is not None:
            self._hear_of_promise(founder, voter, response.founding)
        elif self._phase is _Phase.ASKING:
            founder.voter = voter
            founder.agreed_to = request.names if response.agrees else ()
            founder.why = "" if response.agrees else f"which refuses ({response.detail})"
            self._note_refusal(founder, response)

    def _note_refusal(self, founder: _Founder, response: FoundResponse) -> None:
        lacks = "has not promised" if self._phase is _Phase.PROMISED else "refuses"
        refusal = f"{response.node_id} {lacks} to found the cluster with {self._node_id}: {response.detail}"
        self._note_problem(founder, "" if response.agrees else refusal)

    def _look_round(self) -> None:
        """Where all founders agree about who they are, the lowest name promises."""
        if self._phase is not _Phase.ASKING:
            return
        choice = self._flags.choice(name for name, founder in self._others.items() if founder.voter is not None)
        if choice != self._choice:
            self._choice = choice
            for name in choice:
                if name in self._others:
                    self._ask(name)
        if not choice or choice[0] != self._node_id:
            return
        others = [self._others[name] for name in choice[1:]]
        voters = [founder.voter for founder in others if founder.voter is not None and founder.agreed_to == choice]
        if len(voters) == len(others):
            # All that are to found it have agreed; the first of them vote, and the others hear of the promise.
            voters_first = (self._own_voter, *voters)[: self._flags.voter_count]
            self._save(self._founding_of(voters_first))

    def _hear_of_promise(self, founder: _Founder, voter: Voter, founding: Founding) -> None:
        """Another node has promised: make the same promise, or see why this node has no part in it."""
        keys = {promised.node_id: promised.key for promised in founding.voters}
        who = f"{voter.node_id} has promised to found the cluster with {listed(names_of(founding))}" if keys else ""
        founder.voter, founder.agreed_to = None, ()
        if keys.get(voter.node_id) != voter.key:
            founder.why = "which belongs to a cluster that it did not found"
            self._note_problem(founder, "")
        elif keys.get(self._node_id, self._key) != self._key:
            self._hear_of_lost_disk(who, names_of(founding), voter.node_id)
        elif self._node_id not in keys and not self._flags.names:
            self._stand_by(f"{self._node_id} stands by: {who}")
        elif why_not := self._flags.why_not_promise(founding):
            founder.why = f"which has promised to found the cluster with {listed(names_of(founding))}"
            advice = "with the flags of the others" if self._node_id in keys else "with --join alone, to join it"
            self._note_problem(founder, f"{who}, and {why_not}. Start {self._node_id} {advice}")
        else:
            self._save(founding)

    def _hear_of_lost_disk(self, who: str, names: tuple[NodeId, ...], about: NodeId) -> None:
        """This node's name is in a promise, and this disk is not: it may have promised, and been lost."""
        why = (
            f"{who}, and with another disk of {self._node_id} than this one, whose data directory is new. If that "
            f"cluster has had a leader, {self._node_id} finds it, and copies without a vote. If it never had one, it "
            f"can never be founded, and nothing was stored: stop {listed(names)}, empty all their data directories, "
            "and start them again"
        )
        self._warn(WarningKind.FOUNDING_BLOCKED, why, about)
        self._report(why)
        self._stand_by(f"{self._node_id} has another disk than the one that promised")

    def _weigh_promise(self, founder: _Founder, voter: Voter, response: FoundResponse) -> None:
        """This node has promised: has the other one made the same promise?"""
        promise = self.promise
        assert promise is not None, "it is on disk"
        names = listed(names_of(promise))
        if voter.key not in {promised.key for promised in promise.voters}:
            founder.why = "which has another disk than the one that was to promise"
            self._note_problem(
                founder,
                f"{voter.node_id} has another disk than the one with which {names} were to found the cluster. Unless "
                f"it has had a leader, it can never be founded, and nothing was stored: stop {names}, empty all their "
                "data directories, and start them again",
            )
        elif response.founding == promise:
            founder.has_promised, founder.why = True, ""
            self._note_problem(founder, "")
            if all(other.has_promised for other in self._others.values()):
                self._found()
        elif response.founding is not None:
            founder.why = "which has promised to found another cluster"
            self._note_problem(
                founder,
                f"{voter.node_id} has promised to found another cluster than {self._node_id}, which has promised to "
                f"found one with {names}. Neither can be founded without both: stop all, empty the data directories of "
                "those that have no leader, and start them again",
            )
        else:
            founder.why = f"which has not promised yet{f' ({response.detail})' if response.detail else ''}"
            self._note_refusal(founder, response)

    # ------------------------------------------------------------ being asked

    def on_asked(self, asked: CallReceived[FoundRequest]) -> None:
        """Answer with what is on disk and what the flags say. The question changes nothing, whoever asks."""
        asked.reply_to.tell(CallAnswer(asked.request_id, self._answer(asked.request)))
        founder = self._others.get(asked.request.node_id)
        if founder is not None and asked.request.cluster == self._config.cluster:
            self._take_hint(asked.request, founder)

    def _answer(self, request: FoundRequest) -> FoundResponse | CallRefused:
        if request.cluster != self._config.cluster:
            own = f"{self._node_id} is of cluster {self._config.cluster!r}"
            return CallRefused(f"{own}, {request.node_id} of {request.cluster!r}")
        if request.node_id == self._node_id:
            return CallRefused(f"two nodes are called {self._node_id}")
        if self.promise is None and self._phase is _Phase.STANDING_BY and request.founding is None:
            return CallRefused(self._why_no_founder)
        why_not = self._why_not(request)
        own_voter = self._own_voter
        return FoundResponse(
            own_voter.node_id,
            own_voter.log_epoch,
            own_voter.rpc_addr,
            own_voter.gossip_addr,
            not why_not,
            self.promise,
            why_not,
            own_voter.own_peer_addr,
        )

    def _why_not(self, request: FoundRequest) -> str:
        """Why this node does not agree, for the asking node; "" if it does."""
        asked = request.founding
        if self.promise is not None:
            if asked == self.promise:
                return ""
            if not self.promise.voters:
                return f"{self._node_id} belongs to a cluster that it did not found"
            return f"{self._node_id} has promised to found the cluster with {listed(names_of(self.promise))}"
        match self._phase:
            case _Phase.ASKING:
                return self._why_not_with(request)
            case _Phase.SAVING:
                agrees = asked is None and request.names == self._choice
                return "" if agrees else f"{self._node_id} is about to promise"
            case _:
                return self._why_no_founder or f"{self._node_id} follows a leader already"

    def _why_not_with(self, request: FoundRequest) -> str:
        promised = request.founding
        why_not = self._flags.why_not(request.names) if promised is None else self._flags.why_not_promise(promised)
        if request.names and why_not:
            return f"{why_not}, and {request.node_id} would found the cluster with {listed(request.names)}"
        if request.founding is not None:
            keys = {voter.key for voter in request.founding.voters}
            return f"{self._node_id} has another disk" if self._key not in keys else f"{self._node_id} is asking for it"
        if request.names and request.names != self._choice:
            own = f"would found the cluster with {listed(self._choice)}" if self._choice else "has not found all yet"
            return f"{self._node_id} {own}"
        return ""

    def _take_hint(self, request: FoundRequest, founder: _Founder) -> None:
        """Ask the asking node now, if its question says that its answer has changed."""
        if self._phase is _Phase.PROMISED:
            is_news = request.founding == self.promise and not founder.has_promised
        elif self._phase is _Phase.ASKING:
            has_agreed = request.names == self._choice and founder.agreed_to != self._choice
            is_news = request.founding is not None or founder.voter is None or (bool(self._choice) and has_agreed)
        else:
            return
        if is_news and founder.hints < _HINTS_A_PERIOD:
            founder.hints += 1
            founder.is_asked_again = not self._ask(request.node_id)

    # ------------------------------------------------------------ what a person is told

    def _tell_progress(self) -> None:
        problems = [(name, founder) for name, founder in sorted(self._others.items()) if self._is_lasting(founder)]
        for name, founder in problems:
            if not founder.has_warned:
                founder.has_warned = True
                self._warn(WarningKind.FOUNDING_BLOCKED, founder.problem, name)
        if self._phase in (_Phase.ASKING, _Phase.PROMISED):
            self._report(problems[0][1].problem if problems else self._what_is_missing())

    def _is_lasting(self, founder: _Founder) -> bool:
        lasted_s = self._ports.clock.monotonic_s() - founder.problem_since_s
        return bool(founder.problem) and lasted_s >= self._config.election_timeout_s

    def _report(self, why: str) -> None:
        if why != self._progress:
            self._progress = why
            self._on_progress(why)

    def _what_is_missing(self) -> str:
        if self._phase is _Phase.PROMISED:
            missing = [name for name, founder in sorted(self._others.items()) if not founder.has_promised]
            return self._waits_for(missing, len(self._others) + 1, "promised")
        if not self._choice:
            return self._who_is_not_found()
        others = [name for name in self._choice if name != self._node_id]
        missing = [name for name in others if self._others[name].agreed_to != self._choice]
        if missing:
            return self._waits_for(missing, len(self._choice), "agreed")
        count = len(self._choice)
        return f"{self._node_id} waits for {self._choice[0]} to found the cluster: {count} of {count} have agreed"

    def _waits_for(self, missing: list[NodeId], count: int, done: str) -> str:
        why = {name: self._others[name].why or f"which has not {done} yet" for name in missing[:_MAX_NAMED]}
        named = " and for ".join(f"{name}, {why[name]}," for name in why)
        more = f" and for {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
        has = f"{count - len(missing)} of {count} have {done}"
        return f"{self._node_id} waits for {named}{more} to found the cluster: {has}"

    def _who_is_not_found(self) -> str:
        found = sorted({self._node_id, *(name for name, founder in self._others.items() if founder.voter is not None)})
        count = self._flags.count
        if len(found) >= count:
            first = listed(found[:count])
            return f"{self._node_id} waits for {first} to found the cluster: {self._flags.text} needs no more"
        silent = [f"{name}, {founder.why}" for name, founder in sorted(self._others.items()) if founder.voter is None]
        besides = f"; besides there is {' and '.join(silent[:_MAX_NAMED])}" if silent else ""
        return (
            f"{self._node_id} waits for {count - len(found)} more to found the cluster: {len(found)} of "
            f"{count} are here, {listed(found)}{besides}"
        )

    def _warn_of_one_copy(self) -> None:
        reason = (
            f"{self._node_id} is a cluster of one and keeps the only copy of what is stored: if its disk is lost, all "
            "is. Start others on empty data directories with --join: they copy, and vote by themselves"
        )
        self._warn(WarningKind.ONE_COPY, reason)

    def _warn(self, kind: WarningKind, reason: str, about: NodeId = NodeId("")) -> None:
        self._ports.observer.tell(NodeWarned(self._node_id, "election", kind, reason, about))


def _voter_of(response: FoundResponse) -> Voter:
    """The answering node as a voter. Raises ValueError if it can be none."""
    addrs = response.rpc_addr, response.gossip_addr, response.own_peer_addr
    voter = Voter(response.node_id, response.log_epoch, *addrs)
    return decode_voters(encode_voters([voter]))[0]

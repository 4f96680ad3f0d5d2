"""What any election must hold to over several nodes, as tests to inherit.

    class TestMyElection(ElectionClusterConformance):
        election = "mine:n1,n2,n3"

and pytest runs whole nodes with it in virtual time, breaks them, and looks at them from outside: at the ballots
on their disks, at what they announce, and at what clients get. All checkers watch, too. What one occupant
alone can show is in `ourolog.actors.testing.election_conformance`.

The occupant's ElectionChoice determines which claims apply. Where voters elect, all of them do. A decreed
leader needs nobody's vote and nobody takes its place: it has to come back, and to be the only one. Where nobody is
elected, nobody may lead, and what was separated has to come together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any, ClassVar, Final

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.events import LeaderChanged, LogOpened
from ourolog.actors.messages.peer_calls import CallAnswer, CallRefused
from ourolog.actors.messages.store import BallotSaved, SaveBallot
from ourolog.actors.stepping import StepLimitError
from ourolog.simulation.checker import Checker
from ourolog.simulation.client import OutcomeUnknownError, RefusedError
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.events import Event, FileReplaced, MessageTold, NodeCrashed, NodeSaid, NodeStarted
from ourolog.simulation.options import Options
from ourolog.storage.ballot import load_ballot
from ourolog.storage.identity import BALLOT_NAME
from ourolog.storage.types import NodeId, Term

FAULT_S: Final = 10.0
"""How long what was broken stays so, in virtual seconds, before it is whole again."""

RESTARTS_AFTER_S: Final = 0.05
"""After a power cut: sooner than any candidate that was refused stands again."""

STEPS_OF_A_SAVE: Final = 7
"""More than a store takes on its disk to save a ballot: the power is cut before each of them."""

SAVED: Final = "saved"
ANSWERED: Final = "answered"
MOMENTS: Final[tuple[int | str, ...]] = (*range(STEPS_OF_A_SAVE), SAVED, ANSWERED)
"""When the power is cut: so many steps of the disk into the saving of a ballot; as the ballot is on disk; as the
node's election has answered a call."""


@dataclass(frozen=True, slots=True)
class Lead:
    """A node has said that it leads.

    node_id: the node.
    term: the term in which it leads.
    votes: the voters whose disks held a vote for it by then.
    """

    node_id: NodeId
    term: Term
    votes: tuple[NodeId, ...]


class ElectionCluster(Cluster):
    """Three nodes with one election, and what can be seen of it from outside.

    votes: whom each disk has voted for in each term, in all the ballots that it ever held.
    leads: which nodes have said that they lead, in order.
    """

    def __init__(
        self, election: str, seed: int, leads_within_s: float, *, checkers: Sequence[Checker] | None = None
    ) -> None:
        """Make the cluster without starting its nodes.

        checkers: the claims that are watched; None for all there are.
        """
        self.votes: dict[tuple[NodeId, Term], set[NodeId]] = {}
        self.leads: list[Lead] = []
        self.leads_within_s = leads_within_s
        self._believed: dict[NodeId, LeaderChanged] = {}
        self._cut: Callable[[MessageTold], None] = _nothing
        self._values = 0
        super().__init__(seed, 3, election, checkers=checkers, observers=(self._see,))

    def _see(self, event: Event) -> None:
        match event:
            case FileReplaced():
                if event.path.endswith(f"/{BALLOT_NAME}"):
                    self._look(event.node_id)
            case NodeCrashed():
                self._look(event.node_id)
            case NodeStarted():
                self._believed.pop(event.node_id, None)
            case NodeSaid(event=LeaderChanged() as changed):
                self._on_leader_changed(event.node_id, changed)
            case MessageTold(message=BallotSaved() | LogOpened()):
                self._look(NodeId(event.sender.partition(".")[0]))
                self._cut(event)
            case MessageTold(message=SaveBallot() | CallAnswer()):
                self._cut(event)
            case _:
                pass

    def _look(self, node_id: NodeId) -> None:
        """Note the ballot that a power cut would leave on that disk now."""
        disk = self.disks[node_id].after_crash(keep_unsynced=False)
        ballot = load_ballot(disk, f"{self.configs[node_id].data_dir}/{BALLOT_NAME}")
        if ballot.voted_for is not None:
            self.votes.setdefault((node_id, ballot.term), set()).add(ballot.voted_for)

    def _on_leader_changed(self, node_id: NodeId, changed: LeaderChanged) -> None:
        self._believed[node_id] = changed
        if changed.leader_id == node_id:
            votes = tuple(voter for voter in self.names if node_id in self.votes.get((voter, changed.term), ()))
            self.leads.append(Lead(node_id, changed.term, votes))

    # ------------------------------------------------------------ what is asked

    def start(self, *names: str, wait: bool = True, **settings: Any) -> None:
        """Start nodes as any cluster does. AssertionError if one of them never says whether it serves clients."""
        try:
            super().start(*names, wait=wait, **settings)
        except StepLimitError:
            mute = ", ".join(node_id for node_id in self.running if not self.is_ready(node_id))
            raise AssertionError(
                f"{mute} never said whether they serve clients: an election says what it knows once the log is open"
            ) from None

    def others(self, *names: NodeId) -> tuple[NodeId, ...]:
        """All nodes but these."""
        return tuple(node_id for node_id in self.names if node_id not in names)

    def await_leader(self, among: Iterable[NodeId] = ()) -> NodeId:
        """The leader, once all of these (by default all that run) say that one of them leads, and name the same one.

        AssertionError if that takes too long: they are a majority, they run, and nothing separates them.
        """
        electorate = tuple(among) or tuple(self.running)
        try:
            self.run_until(lambda: self._leader_of(electorate) is not None, self.leads_within_s)
        except StepLimitError:
            names = ", ".join(electorate)
            said = "; ".join(f"{node_id} says {self._belief(node_id)}" for node_id in electorate)
            raise AssertionError(
                f"{names} have no leader for {self.leads_within_s:g} s with nothing in their way: {said}"
            ) from None
        leader_id = self._leader_of(electorate)
        assert leader_id is not None, "that is what was waited for"
        return leader_id

    def _leader_of(self, electorate: tuple[NodeId, ...]) -> NodeId | None:
        beliefs = {
            (believed.term, believed.leader_id) if (believed := self._believed.get(node_id)) is not None else None
            for node_id in electorate
        }
        belief = beliefs.pop()
        return belief[1] if belief is not None and not beliefs and belief[1] in electorate else None

    def await_step_down(self, node_id: NodeId) -> None:
        """Wait until that node says no longer that it leads. AssertionError if that takes too long."""

        def leads() -> bool:
            believed = self._believed.get(node_id)
            return believed is not None and believed.leader_id == node_id

        try:
            self.run_until(lambda: not leads(), self.leads_within_s)
        except StepLimitError:
            raise AssertionError(
                f"{node_id} goes on leading for {self.leads_within_s:g} s, and no voter is heard by it"
            ) from None

    def _belief(self, node_id: NodeId) -> str:
        believed = self._believed.get(node_id)
        if believed is None:
            return "nothing"
        return f"{believed.leader_id or 'nobody'} in term {believed.term}"

    def await_acknowledgement(self, acks: str, among: Iterable[NodeId] = ()) -> NodeId:
        """The leader of these (by default of all that run), once it has acknowledged a new record.

        AssertionError if that takes too long.
        """
        until_s = self.now_s + self.leads_within_s
        why = ""
        while self.now_s < until_s:
            leader_id = self.await_leader(among)
            self._values += 1
            try:
                self.produce(leader_id, b"record %d" % self._values, acks=acks)
                return leader_id
            except (RefusedError, OutcomeUnknownError) as error:
                why = f"{leader_id} says {error}"
                self.run_for(0.5)
        raise AssertionError(f"nothing is acknowledged with acks={acks} for {self.leads_within_s:g} s: {why}")

    def await_lead(self) -> Lead:
        """The next time that a node says that it leads. AssertionError if nobody does soon enough."""
        before = len(self.leads)
        try:
            self.run_until(lambda: len(self.leads) > before, self.leads_within_s)
        except StepLimitError:
            raise AssertionError(f"nobody of {', '.join(self.running)} leads after {self.leads_within_s:g} s") from None
        return self.leads[before]

    def make_whole(self) -> NodeId:
        """Mend and start everything. Returns the leader, once it has acknowledged a record that all have."""
        self.heal()
        for node_id in tuple(self.paused):
            self.resume(node_id)
        down = self.others(*self.running)
        if down:
            self.start(*down)
        return self.await_acknowledgement("all")

    # ------------------------------------------------------------ power cuts

    def cut_power_at(self, node_id: NodeId, moment: int | str) -> None:
        """Cut that node's power at that moment of the next ballot, once, and start it again soon after."""

        def cut(told: MessageTold) -> None:
            match told.message:
                case SaveBallot() if isinstance(moment, int) and told.receiver == f"{node_id}.store":
                    self.disks[node_id].faults.power_cut_in = moment
                case BallotSaved() if moment == SAVED and told.sender == f"{node_id}.store":
                    self.after(0.0, lambda: self.crash(node_id, power=True))
                case CallAnswer(response=response) if moment == ANSWERED and told.sender == f"{node_id}.election":
                    if isinstance(response, CallRefused):
                        return
                    self.after(0.0, lambda: self.crash(node_id, power=True))
                case _:
                    return
            self._cut = _nothing
            self.start_later(node_id, RESTARTS_AFTER_S)

        self._cut = cut

    def start_later(self, node_id: NodeId, delay_s: float) -> None:
        """Start that node after a while, unless it is running then."""

        def start() -> None:
            if node_id not in self.running:
                self.launch(node_id)

        self.after(delay_s, start)


def _nothing(_: MessageTold) -> None:
    """Do nothing: no power is to be cut."""


class ElectionClusterConformance:
    """Inherit, set `election`, and let pytest collect it.

    election: what `--election` says, naming n1, n2 and n3 as voters in any order, if there are voters.
    leads_within_s: how soon one must lead, in virtual seconds, once a majority runs and nothing separates its nodes.
    seeds: each scenario that depends on chance is played once with each.
    """

    election: ClassVar[str]
    leads_within_s: ClassVar[float] = 30.0
    seeds: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    @property
    def choice(self) -> ElectionChoice:
        choice = Options(0, 3, self.election).election_choice()
        assert not choice.elects or set(choice.voters) == {"n1", "n2", "n3"}, "n1, n2 and n3 vote in this suite"
        return choice

    @property
    def is_voted(self) -> bool:
        """Whether the voters elect who leads."""
        return self.choice.elects and not self.choice.is_decreed

    def cluster(self, seed: int) -> ElectionCluster:
        return ElectionCluster(self.election, seed, self.leads_within_s)

    # ------------------------------------------------------------ one vote, one leader

    def test_a_disk_holds_one_vote_a_term_wherever_the_power_is_cut(self) -> None:
        if not self.choice.elects:
            return  # there are no votes
        for seed, moment in enumerate(MOMENTS):
            with self.cluster(seed) as cluster:
                for node_id in cluster.names:
                    leader_id = cluster.make_whole()
                    # The two others do not hear of each other, and each asks this one for its vote.
                    rivals = cluster.others(node_id)
                    cluster.block("rivals", tuple(permutations(rivals, 2)))
                    for rival in rivals:
                        cluster.filter_datagrams(rival)
                    cluster.cut_power_at(node_id, moment)
                    cluster.crash(leader_id)
                    cluster.start_later(leader_id, RESTARTS_AFTER_S)
                    cluster.run_for(FAULT_S)
                cluster.make_whole()
                twice = {key: sorted(votes) for key, votes in cluster.votes.items() if len(votes) > 1}
                assert not twice, f"power cut at {moment}: by voter and term, for whom their disks have voted: {twice}"

    def test_a_vote_is_not_given_again_in_its_term_after_a_power_cut(self) -> None:
        """One was paused during an election, and is a candidate in the term in which the others have voted."""
        if not self.is_voted:
            return  # nobody asks for a vote
        for seed in self.seeds:
            with self.cluster(seed) as cluster:
                old = cluster.make_whole()
                late = cluster.others(old)[seed % 2]
                cluster.isolate(late)
                cluster.pause(late)
                cluster.run_for(FAULT_S)
                cluster.crash(old, power=True)
                cluster.start(old)
                leader_id = cluster.await_lead().node_id
                (voter,) = cluster.others(late, leader_id)
                cluster.crash(leader_id, power=True)
                cluster.crash(voter, power=True)
                cluster.run_for(1.0)  # what they had sent to each other is gone, too
                cluster.start(voter)
                cluster.heal()
                cluster.resume(late)
                cluster.await_leader((late, voter))
                self._assert_one_leader_a_term(cluster)
                cluster.make_whole()

    def test_two_who_stand_at_once_do_not_both_lead(self) -> None:
        """Both were paused for longer than any election timeout, and wake to a third that can vote for either."""
        if not self.is_voted:
            return
        for seed in self.seeds:
            with self.cluster(seed) as cluster:
                voter = cluster.make_whole()
                rivals = cluster.others(voter)
                cluster.block("rivals", tuple(permutations(rivals, 2)))
                for rival in rivals:
                    cluster.pause(rival)
                cluster.run_for(FAULT_S)
                cluster.crash(voter, power=True)
                cluster.start(voter)
                for rival in rivals:
                    cluster.resume(rival)
                cluster.run_for(FAULT_S)
                self._assert_one_leader_a_term(cluster)
                cluster.make_whole()

    def test_a_term_has_one_leader_whoever_is_cut_off_from_whom(self) -> None:
        for seed in self.seeds:
            with self.cluster(seed) as cluster:
                for sides in ((("n1",), ("n2",), ("n3",)), (("n1",), ("n2", "n3")), (("n1", "n2"), ("n3",))):
                    cluster.partition(*sides)
                    cluster.run_for(FAULT_S)
                    cluster.heal()
                    cluster.run_for(FAULT_S)
                cluster.cut("n1", "n2")
                cluster.run_for(FAULT_S)
                cluster.block("overlapping", (("n1", "n2"), ("n2", "n1")))
                cluster.run_for(FAULT_S)
                self._assert_one_leader_a_term(cluster)

    def test_nobody_leads_before_a_majority_has_voted_for_it_on_disk(self) -> None:
        if not self.is_voted:
            return  # a decree needs no votes
        for seed in self.seeds:
            with self.cluster(seed) as cluster:
                for _ in range(4):
                    leader_id = cluster.make_whole()
                    cluster.isolate(leader_id)
                    cluster.await_leader(cluster.others(leader_id))
                for lead in cluster.leads:
                    assert len(lead.votes) >= 2, (
                        f"{lead.node_id} leads term {lead.term}, and of the voters' disks those of "
                        f"{', '.join(lead.votes) or 'nobody'} hold a vote for it"
                    )

    def _assert_one_leader_a_term(self, cluster: ElectionCluster) -> None:
        if not self.choice.elects:
            assert not cluster.leads, f"nobody is elected, and {cluster.leads[0].node_id} says that it leads"
        leaders: dict[Term, NodeId] = {}
        for lead in cluster.leads:
            known = leaders.setdefault(lead.term, lead.node_id)
            assert known == lead.node_id, f"{lead.node_id} leads term {lead.term}, which {known} led"

    # ------------------------------------------------------------ no vote for a stale log

    def test_who_lacks_what_a_majority_acknowledged_does_not_lead(self) -> None:
        """It was cut off meanwhile; then the leader is gone, and the only other node that has everything was away."""
        if not self.is_voted:
            return  # who is decreed asks first, whatever it is asked to lead
        for seed, is_crash, restarts in product(self.seeds, (False, True), (False, True)):
            with self.cluster(seed) as cluster:
                leader_id = cluster.make_whole()
                stale = cluster.others(leader_id)[seed % 2]
                cluster.isolate(stale)
                for _ in range(5):
                    leader_id = cluster.await_acknowledgement("quorum", cluster.others(stale))
                (whole,) = cluster.others(stale, leader_id)
                cluster.heal()
                cluster.crash(leader_id, power=True) if is_crash else cluster.isolate(leader_id)
                self._assert_leads_first(cluster, whole, stale, restarts=restarts)

    def test_who_has_the_longer_log_of_an_older_term_does_not_lead(self) -> None:
        """It led, was cut off, and went on writing what nobody acknowledged (Raft section 5.4.1)."""
        if not self.is_voted:
            return
        for seed in self.seeds:
            with self.cluster(seed) as cluster:
                stale = cluster.make_whole()
                cluster.isolate(stale)
                for number in range(20):
                    cluster.produce(stale, b"of an older term %d" % number, acks="leader")
                leader_id = cluster.await_acknowledgement("quorum", cluster.others(stale))
                (whole,) = cluster.others(stale, leader_id)
                cluster.crash(leader_id, power=True)
                cluster.heal()
                self._assert_leads_first(cluster, whole, stale, restarts=seed % 2 == 0)

    def _assert_leads_first(self, cluster: ElectionCluster, whole: NodeId, stale: NodeId, *, restarts: bool) -> None:
        """Of the two that are left, `whole` has all that was acknowledged and `stale` lacks some of it."""
        voted = set(cluster.votes)
        if restarts:
            cluster.crash(whole, power=True)
            cluster.start(whole)
        lead = cluster.await_lead()
        assert lead.node_id == whole, (
            f"{lead.node_id} leads term {lead.term} with the votes of {', '.join(lead.votes) or 'nobody'}, and lacks "
            f"what a majority had acknowledged"
        )
        wrong = [key[1] for key in set(cluster.votes) - voted if key[0] == whole and stale in cluster.votes[key]]
        assert not wrong, f"{whole} voted for {stale} in term {wrong[0]}, which lacks what a majority had acknowledged"
        cluster.await_leader((whole, stale))
        cluster.make_whole()

    # ------------------------------------------------------------ a leader that is left

    def test_a_leader_that_a_majority_has_left_does_not_go_on_leading(self) -> None:
        """It steps down by itself, while nobody can tell it that another leads (Raft dissertation, section 6.2)."""
        if not self.is_voted:
            return  # a decreed leader leads until somebody decrees otherwise
        for seed, leave in product(self.seeds, (_isolate_leader, _deafen_leader, _pause_followers)):
            with self.cluster(seed) as cluster:
                leader_id = cluster.make_whole()
                leave(cluster, leader_id)
                cluster.await_step_down(leader_id)
                cluster.make_whole()

    # ------------------------------------------------------------ a leader again

    def test_one_leads_again_whatever_was_broken(self) -> None:
        """While a majority can talk to each other, and when all can again."""
        if not self.choice.elects:
            return  # nobody ever leads
        for seed in self.seeds:
            with self.cluster(seed) as cluster:
                for break_it in (
                    _isolate_leader,
                    _cut_leaders_power,
                    _stop_leader,
                    _pause_leader,
                    _deafen_leader,
                    _silence_leader,
                    _cut_a_followers_power,
                    _part_all,
                    _cut_everybodys_power,
                ):
                    able = break_it(cluster, cluster.make_whole())
                    if able and self.choice.decreed_leader in (None, *able):
                        cluster.await_acknowledgement("quorum", able)
                    else:
                        cluster.run_for(FAULT_S)
                cluster.make_whole()

    def test_where_nobody_is_elected_nobody_leads_and_what_was_apart_comes_together(self) -> None:
        if self.choice.elects:
            return
        with self.cluster(seed=1) as cluster:
            cluster.partition("n1", "n2", "n3")
            for node_id in cluster.names:
                cluster.produce(node_id, f"at {node_id}")
            cluster.crash("n1", power=True)
            cluster.heal()
            cluster.start("n1")

            def have_all() -> bool:
                return all(len(cluster.records(node_id)) == len(cluster.names) for node_id in cluster.names)

            until_s = cluster.now_s + self.leads_within_s
            while not have_all():
                assert cluster.now_s < until_s, f"not all have all records after {self.leads_within_s:g} s"
                cluster.run_for(1.0)
            assert not cluster.leads, f"nobody is elected, and {cluster.leads[0].node_id} says that it leads"


# What is broken, as functions of the cluster and of who leads in it. Each returns the majority whose nodes run and
# can reach each other; nobody if there is none.


def _isolate_leader(cluster: ElectionCluster, leader_id: NodeId) -> tuple[NodeId, ...]:
    cluster.isolate(leader_id)
    return cluster.others(leader_id)


def _cut_leaders_power(cluster: ElectionCluster, leader_id: NodeId) -> tuple[NodeId, ...]:
    cluster.crash(leader_id, power=True)
    return cluster.others(leader_id)


def _stop_leader(cluster: ElectionCluster, leader_id: NodeId) -> tuple[NodeId, ...]:
    cluster.stop(leader_id)
    return cluster.others(leader_id)


def _pause_leader(cluster: ElectionCluster, leader_id: NodeId) -> tuple[NodeId, ...]:
    cluster.pause(leader_id)
    return cluster.others(leader_id)


def _deafen_leader(cluster: ElectionCluster, leader_id: NodeId) -> tuple[NodeId, ...]:
    """Nothing reaches the leader, while what it sends arrives."""
    for other in cluster.others(leader_id):
        cluster.cut(other, leader_id)
    return cluster.others(leader_id)


def _pause_followers(cluster: ElectionCluster, leader_id: NodeId) -> tuple[NodeId, ...]:
    for other in cluster.others(leader_id):
        cluster.pause(other)
    return ()


def _silence_leader(cluster: ElectionCluster, leader_id: NodeId) -> tuple[NodeId, ...]:
    """Nothing that the leader sends arrives, while it receives everything."""
    for other in cluster.others(leader_id):
        cluster.cut(leader_id, other)
    return cluster.others(leader_id)


def _cut_a_followers_power(cluster: ElectionCluster, leader_id: NodeId) -> tuple[NodeId, ...]:
    follower = cluster.others(leader_id)[0]
    cluster.crash(follower, power=True)
    return cluster.others(follower)


def _part_all(cluster: ElectionCluster, _: NodeId) -> tuple[NodeId, ...]:
    cluster.partition(*cluster.names)
    cluster.run_for(FAULT_S)
    return ()


def _cut_everybodys_power(cluster: ElectionCluster, _: NodeId) -> tuple[NodeId, ...]:
    for node_id in cluster.names:
        cluster.crash(node_id, power=True)
    cluster.start(*cluster.names)
    return cluster.names

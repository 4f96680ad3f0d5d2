"""Figure 8 of the Raft paper, played by whole nodes: an entry of an older term is on a majority, and is overwritten."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from ourolog.actors.messages.events import CommitAdvanced
from ourolog.actors.replication.commit import LeaderCommit
from ourolog.simulation import Checker, Cluster, Violation
from ourolog.simulation.checkers import ALL
from ourolog.simulation.disks.image import heads_on
from ourolog.simulation.events import Event, MessageTold
from ourolog.storage.types import NodeId


class Figure8(Cluster):
    """Five voters that fetch one batch at a time, so that the lead can be lost between two.

    committed: the highest index that any node held for committed.
    """

    def __init__(self, seed: int, checkers: Sequence[Checker] | None = None) -> None:
        self.committed = 0
        super().__init__(seed, 5, "raft:n1,n2,n3,n4,n5", checkers=checkers, observers=(self._see,), fetch_max_bytes=1)

    def _see(self, event: Event) -> None:
        if isinstance(event, MessageTold) and isinstance(event.message, CommitAdvanced):
            self.committed = max(self.committed, event.message.committed.index)

    def terms(self, node_id: NodeId) -> list[int]:
        """The terms of the entries on that node's disk."""
        return [head.term for head, _ in heads_on(self.durable(node_id))]

    def await_lead(self, among: Collection[NodeId]) -> NodeId:
        """Wait until one of these leads and has begun its term on its own disk, and no longer."""
        newest = max((term for node_id in self.names for term in self.terms(node_id)), default=0)

        def has_begun() -> bool:
            leader_id = self.leader_id
            return leader_id in among and leader_id in self.running and self.terms(leader_id)[-1:] > [newest]

        self.run_until(has_begun, 20.0)
        assert self.leader_id is not None
        return self.leader_id

    def play(self, *, until_committed: bool = False) -> None:
        """Go through the states (a) to (d) of the figure; afterwards all nodes run and agree.

        until_committed: whether the leader of (c) leads until it holds the old entry for committed, as it may not.
        """
        s1 = self.await_lead(self.names)
        self.produce(s1, b"base", acks="all")
        self.run_for(1.0)
        s2, *rest = (name for name in self.names if name != s1)
        # (a) S1 leads, and copies an entry of its term to S2 alone.
        self.partition((s1, s2), rest)
        self.produce(s1, b"old", acks="leader")
        length = len(self.terms(s1))
        self.run_until(lambda: len(self.terms(s2)) == length, 1.0)
        # (b) S1 and S2 are gone; S5 is elected by the others, and appends an entry that it alone has.
        self.crash(s1)
        self.crash(s2)
        self.heal()
        s5 = self.await_lead(rest)
        self.crash(s5)
        others = [name for name in rest if name != s5]
        assert all(len(self.terms(name)) < length for name in others)
        # (c) S1 or S2 leads again, and copies the old entry to a third: it is on a majority, and not committed.
        self.start(s1, s2, wait=False)
        self.await_lead((s1, s2))
        self.run_until(lambda: any(len(self.terms(name)) == length for name in others), 5.0)
        copies = sum(self.terms(name)[length - 1 : length] == [1] for name in self.names)
        assert copies == 3
        if until_committed:
            self.run_until(lambda: self.committed >= length, 1.0)
        # (d) S5 is elected by the two that are left, for the term of its last entry is later.
        self.crash(s1)
        self.crash(s2)
        self.start(s5, wait=False)
        assert self.await_lead(rest) == s5
        self.start(s1, s2, wait=False)
        self.run_for(10.0)
        assert {tuple(self.terms(name)) for name in self.names} == {(1,) * (length - 1) + (2, 4)}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_entry_of_an_older_term_on_a_majority_is_overwritten_and_no_claim_is_violated(seed: int) -> None:
    cluster = Figure8(seed)
    with cluster:
        cluster.play()
    assert cluster.states.counts["old_term_on_majority"] >= 1
    assert cluster.states.counts["old_term_on_majority_cut"] == 1


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        ("counts_honestly", "which is of an earlier one"),
        ("leader_completeness", "was held for committed"),
        ("committed_agree", "dropped entry 3 .* which is committed"),
    ],
)
def test_who_commits_what_is_on_a_majority_whatever_its_term_is_found_out(
    claim: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AnyTerm:
        def term_of(self, _: object) -> object:
            return self

        def __ne__(self, _: object) -> bool:
            return False

        __hash__ = None  # type: ignore[assignment]

    original = LeaderCommit.advance
    monkeypatch.setattr(LeaderCommit, "advance", lambda commit, _, boundaries: original(commit, AnyTerm(), boundaries))  # type: ignore[arg-type]

    def play() -> None:
        with Figure8(1, (ALL[claim](),)) as cluster:
            cluster.play(until_committed=True)

    with pytest.raises(Violation, match=why):
        play()

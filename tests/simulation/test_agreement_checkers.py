"""Each checker of logs that agree and of copies, on a few events made by hand: it sees the bug that it is for."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import PullStarted
from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers.cycle import count_walks
from ourolog.simulation.events import NodeSaid, Phase, PhaseBegan
from ourolog.storage.batch import Batch
from ourolog.storage.types import Index, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene, batch, sized

# ---------------------------------------------------------------- agreement


def test_entries_of_the_same_term_and_index_are_the_same() -> None:
    scene = Scene("log_matching")
    scene.start("n1", "static:n1,n2")
    scene.start("n2", "static:n1,n2")
    scene.append("n1", batch(0, "a", term=Term(1)))
    with pytest.raises(Violation, match="n2 has entry 0"):
        scene.append("n2", batch(0, "b", term=Term(1)))


def test_entries_of_the_same_term_and_index_have_the_same_past() -> None:
    scene = Scene("log_matching")
    scene.start("n1", "static:n1,n2")
    scene.start("n2", "static:n1,n2")
    scene.append("n1", batch(0, "a", term=Term(1)), batch(1, "c", term=Term(3)))
    scene.append("n2", batch(0, "b", term=Term(2)))
    with pytest.raises(Violation, match="behind another past"):
        scene.append("n2", batch(1, "c", term=Term(3)))


def test_a_commit_position_that_no_majority_has_is_seen() -> None:
    scene = Scene("committed_agree")
    for name in ("n1", "n2", "n3"):
        scene.start(name, "static:n1,n2,n3")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.append("n2", batch(0, "a"))
    scene.commit("n1", 1)
    with pytest.raises(Violation, match="only n1 has it on disk"):
        scene.commit("n1", 2)


def test_two_committed_histories_are_seen() -> None:
    scene = Scene("committed_agree")
    for name in ("n1", "n2", "n3"):
        scene.start(name, "static:n1,n2,n3")
    scene.append("n1", batch(0, "a"))
    scene.append("n2", batch(0, "a"))
    scene.append("n3", batch(0, "b"))
    scene.commit("n1", 1)
    with pytest.raises(Violation, match="and another node"):
        scene.commit("n3", 1)


def test_a_committed_entry_that_is_cut_off_is_seen() -> None:
    scene = Scene("committed_agree")
    scene.start("n1", "static:n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.commit("n1", 1)
    scene.truncate("n1", sized(batch(0, "a")))
    with pytest.raises(Violation, match="dropped entry 0"):
        scene.truncate("n1", 0)


def test_two_leaders_in_a_term_are_seen() -> None:
    scene = Scene("one_leader_a_term")
    scene.start("n1", "static:n1,n2")
    scene.tell("n1.election", "n1.server", LeaderChanged(Term(1), N1))
    with pytest.raises(Violation, match="whose leader is n1"):
        scene.tell("n2.election", "n2.server", LeaderChanged(Term(1), N2))


def test_a_term_that_falls_is_seen() -> None:
    scene = Scene("one_leader_a_term")
    scene.start("n1", "static:n1,n2")
    scene.tell("n1.election", "n1.server", LeaderChanged(Term(2), N1))
    with pytest.raises(Violation, match="announced term 1 after term 2"):
        scene.tell("n1.election", "n1.server", LeaderChanged(Term(1), N1))


def test_entries_of_a_term_that_are_not_its_leader_s_are_seen() -> None:
    scene = Scene("one_leader_a_term")
    scene.start("n1", "static:n1,n2")
    scene.tell("n1.election", "n1.server", LeaderChanged(Term(1), N1))
    with pytest.raises(Violation, match="has entries of n2 as leader of term 1"):
        scene.append("n1", batch(0, "a", path="n2", term=Term(1)))


def test_a_commit_position_that_falls_is_seen() -> None:
    scene = Scene("commit_forward")
    scene.start("n1", "static:n1")
    scene.commit("n1", 2)
    with pytest.raises(Violation, match="fell from"):
        scene.commit("n1", 1)


def test_a_commit_position_remembered_higher_than_it_ever_was_is_seen() -> None:
    scene = Scene("commit_forward")
    scene.start("n1", "static:n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.commit("n1", 1)
    scene.crash("n1")
    with pytest.raises(Violation, match="nobody ever committed more"):
        scene.start("n1", "static:n1", committed=Position(Index(2), Offset(2)))


# ---------------------------------------------------------------- the cycle


def test_walks_in_the_pull_graph_are_counted() -> None:
    triangle = {N1: [N2, N3], N2: [N1, N3], N3: [N1, N2]}
    assert count_walks(triangle, N1, 0) == {N1: 1}
    assert count_walks(triangle, N1, 1) == {N1: 1, N2: 1, N3: 1}
    assert count_walks(triangle, N1, 2) == {N1: 3, N2: 2, N3: 2}
    assert count_walks({N1: [N2], N2: []}, N1, 5) == {N1: 1}


@pytest.mark.parametrize(
    ("copy", "what"),
    [
        (batch(0, "a", path="n1", source_epoch=EPOCH), "does not end with it"),
        (batch(0, "a", path="n3 n1 n2", source_epoch=EPOCH), "as a copy of n1's"),
        (batch(0, "a", path="n1 n2", source_epoch=EPOCH, source_index=5), "which is not there"),
        (batch(0, "a", path="n1 n2 n1 n2 n1 n2", source_epoch=EPOCH), "over a limit of 4 hops"),
    ],
)
def test_an_unfaithful_copy_is_seen(copy: Batch, what: str) -> None:
    scene = Scene("copies_faithful")
    scene.start("n1", cycle="allow")
    scene.start("n2", cycle="allow")
    scene.append("n1", batch(0, "a"))
    with pytest.raises(Violation, match=what):
        scene.append("n2", copy)


def settled_cycle(copies_of_n2: int) -> Scene:
    """n2 pulls from n1, and has the one batch there is so many times."""
    scene = Scene("cycle_growth")
    scene.start("n1", cycle="allow")
    scene.start("n2", cycle="allow")
    scene.see(NodeSaid(scene.tick(), N2, PullStarted(N2, N1)))
    scene.append("n1", batch(0, "a"))
    for at in range(copies_of_n2):
        copy = batch(at, "a", path="n1 n2", sequence=0, source_epoch=EPOCH, source_index=at)
        scene.append("n2", copy)
    scene.see(PhaseBegan(scene.tick(), Phase.SETTLED, (N1, N2)))
    return scene


def test_growth_is_as_the_walks_say() -> None:
    settled_cycle(1).finish()
    for wrong in (0, 2):
        with pytest.raises(Violation, match=rf"{wrong} times; the pull graph has 1 walks"):
            settled_cycle(wrong).finish()

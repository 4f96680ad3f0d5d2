"""Each checker of crashes, of ends and of lost disks, on a few events made by hand; and the set of all checkers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ourolog.actors.messages.observer import FailureKind, NodeFailed
from ourolog.simulation import linearizability
from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers import ALL, default_checkers
from ourolog.simulation.checkers.log_model import records_of
from ourolog.simulation.checkers.numbers import Numbers
from ourolog.simulation.events import FaultInjected, NodeSaid, Phase, PhaseBegan
from ourolog.simulation.options import Options
from ourolog.simulation.run_claims import RUN_CLAIMS
from ourolog.storage.batch import encode_batch
from ourolog.storage.record_set import encode_record
from ourolog.storage.types import START, Index, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, N2, SEGMENT, Scene, batch

ROOT = Path(__file__).resolve().parents[2]


# ---------------------------------------------------------------- crashes, and the end


def test_a_log_shorter_than_what_was_on_disk_is_seen() -> None:
    scene = Scene("restart_keeps")
    scene.start("n1")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.append("n1", batch(2, "c"), sync=False)
    scene.crash("n1")
    scene.start("n1")
    scene.crash("n1")
    scene.files[N1][SEGMENT] = encode_batch(batch(0, "a"))
    with pytest.raises(Violation, match=r"had entry 1 .* and came back without it"):
        scene.start("n1")


def test_a_node_that_misstates_its_own_log_is_seen() -> None:
    scene = Scene("restart_keeps")
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.crash("n1")
    with pytest.raises(Violation, match="says that its log is"):
        scene.start("n1", end=START)


def test_a_node_that_gives_up_though_nothing_was_wrong_is_seen() -> None:
    scene = Scene("fails_for_cause")
    scene.start("n1")
    with pytest.raises(Violation, match="although nothing was wrong"):
        scene.see(NodeSaid(scene.tick(), N1, NodeFailed(N1, "store", FailureKind.DISK_FULL, "cannot")))
    scene.see(FaultInjected(scene.tick(), "disk_full", "n1"))
    scene.see(NodeSaid(scene.tick(), N1, NodeFailed(N1, "store", FailureKind.DISK_FULL, "cannot")))
    with pytest.raises(Violation, match="a bug ended n1's store"):
        scene.see(NodeSaid(scene.tick(), N1, NodeFailed(N1, "store", FailureKind.BUG, "KeyError")))


def test_nodes_that_hold_other_sets_in_the_end_are_seen() -> None:
    scene = Scene("convergence")
    scene.start("n1")
    scene.start("n2")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.append("n2", batch(0, "b", path="n1 n2", sequence=1), batch(1, "a", path="n1 n2", sequence=0))
    scene.see(PhaseBegan(scene.tick(), Phase.SETTLED, (N1, N2)))
    scene.finish()
    scene.append("n1", batch(2, "c"))
    with pytest.raises(Violation, match="n2 does not have n1's batch 2"):
        scene.finish()


def test_logs_of_one_leader_that_differ_in_the_end_are_seen() -> None:
    scene = Scene("convergence")
    for name in ("n1", "n2"):
        scene.start(name, "static:n1,n2")
        scene.append(name, batch(0, "a"))
        scene.commit(name, 1)
    scene.see(PhaseBegan(scene.tick(), Phase.SETTLED, (N1, N2)))
    scene.finish()
    scene.append("n1", batch(1, "b"))
    with pytest.raises(Violation, match="n2's log ends at"):
        scene.finish()


def test_a_healthy_core_that_answers_nobody_is_seen() -> None:
    scene = Scene("progress")
    scene.start("n1")
    scene.see(PhaseBegan(scene.tick(), Phase.LIVENESS, (N1,)))
    for at in range(10):
        scene.refused("n1", f"v{at}")
    scene.time_s += 60.0
    with pytest.raises(Violation, match="of 10 produces asked of the healthy nodes n1 none succeeded"):
        scene.see(PhaseBegan(scene.tick(), Phase.SETTLED, (N1,)))


# ---------------------------------------------------------------- what destroyed disks excuse


def test_a_lost_disk_is_another_log_with_offsets_of_its_own() -> None:
    scene = Scene("linearizable")
    scene.start("n1")
    scene.produced("n1", "a", 0)
    scene.produced("n1", "b", 1)
    scene.crash("n1")
    scene.files[N1] = {}
    scene.see(FaultInjected(scene.tick(), "disk_lost", "n1"))
    scene.start("n1", log_epoch=EPOCH + 1)
    scene.append("n1", batch(0, "c"))
    scene.produced("n1", "c", 0)
    with pytest.raises(Violation, match="where b'c' was seen before"):
        scene.consumed("n1", 0, "d")


def test_a_node_with_a_new_disk_is_held_to_its_word_again() -> None:
    scene = Scene("acknowledged_kept")
    scene.start("n1")
    scene.crash("n1")
    scene.see(FaultInjected(scene.tick(), "disk_lost", "n1"))
    scene.start("n1")
    scene.append("n1", batch(0, "a"))
    scene.produced("n1", "a", 0)
    with pytest.raises(Violation, match="lost b'a'"):
        scene.truncate("n1", 0)


def test_a_rotten_file_of_a_disk_that_lied_is_not_taken_for_what_was_written() -> None:
    scene = Scene("log_matching")
    scene.start("n1", "static:n1,n2")
    scene.start("n2", "static:n1,n2")
    whole = [batch(at, "abc"[at], term=Term(1)) for at in range(3)]
    scene.append("n1", *whole)
    scene.see(FaultInjected(scene.tick(), "fsync_lies", "n2"))
    scene.append("n2", *whole[:2])
    scene.crash("n2", keep=True)
    good = scene.files[N2][SEGMENT]
    scene.files[N2][SEGMENT] = bytes((good[0] ^ 1, *good[1:]))
    scene.see(FaultInjected(scene.tick(), "bit_rot", "n2"))
    scene.start("n2", "static:n1,n2")
    scene.append("n2", whole[2])
    scene.crash("n2", keep=True)
    scene.files[N2][SEGMENT] = good + encode_batch(whole[2])
    scene.start("n2", "static:n1,n2")
    assert scene.checker.model.nodes[N2].log.end == Position(Index(3), Offset(3))  # type: ignore[attr-defined]


# ---------------------------------------------------------------- the set of checkers


def test_every_checker_says_what_it_claims_in_a_sentence() -> None:
    assert len(ALL) >= 20
    for name, checker in ALL.items():
        assert checker.name == name
        assert checker.statement.endswith(".")
        assert checker.__doc__


def test_every_claim_of_a_run_has_a_name_of_its_own_and_a_sentence() -> None:
    for name, claim in RUN_CLAIMS.items():
        assert claim.name == name
        assert claim.statement.endswith(".")
        assert name not in ALL


def test_nobody_makes_up_a_claim_that_is_not_registered() -> None:
    """Only those who know a claim by its registered name make a Violation."""
    makers = {
        str(path.relative_to(ROOT))
        for folder in ("simulation", "ourolog/commands", "mutants")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bViolation\(", path.read_text(encoding="utf-8").replace("class Violation(", ""))
    }
    assert makers == {"simulation/checkers/base.py", "simulation/linearizability.py", "simulation/run_claims.py"}
    assert linearizability.CLAIM in ALL


def test_the_checkers_of_a_run_fit_its_mode_and_share_one_model() -> None:
    peers = default_checkers(Options(1))
    elected = default_checkers(Options(1, election="static"))
    assert {"cycle_growth"} <= {checker.name for checker in peers}
    assert {"log_matching", "ballots_on_disk"} <= {checker.name for checker in elected}
    assert not {"cycle_growth"} & {checker.name for checker in elected}
    assert len({id(checker.model) for checker in peers}) == 1  # type: ignore[attr-defined]
    assert [checker.drives for checker in peers].count(True) == 1  # type: ignore[attr-defined]


def test_records_are_read_from_payloads_and_what_is_none_counts_as_one() -> None:
    assert records_of(encode_record(b"a") + encode_record(b"b" * 300), 2) == (b"a", b"b" * 300)
    assert records_of(b"plain", 1) == (b"plain",)
    assert records_of(b"plain", 2) == ()


def test_numbers_are_kept_as_ranges() -> None:
    numbers = Numbers()
    for number in (5, 3, 4, 9, 1, 0, 4, 8):
        numbers.add(number)
    assert [number for number in range(12) if number in numbers] == [0, 1, 3, 4, 5, 8, 9]
    assert len(numbers) == 7

"""What the others say decides whether a survivor may be recovered: each refusal, and what it says may be lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import Mock

import pytest

from ourolog.recovery_advice import Asked, losses, why_not_recover
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.disk import DiskFiles
from ourolog.storage.errors import StorageFailedError
from ourolog.storage.recovering import Survivor
from ourolog.storage.types import Term
from tests.ourolog.survivors import CLUSTER_ID, OTHER_EPOCHS, survivor_in


@pytest.fixture
def survivor(tmp_path: Path) -> Iterator[Survivor]:
    opened = Survivor.open(DiskFiles(), str(survivor_in(tmp_path / "n1")), Random(1))
    yield opened
    opened.close()


def answered(name: str, **fields: Any) -> Asked:
    """A voter of the same generation, whose log ends where the survivor's does unless the fields say otherwise."""
    values = {
        "node_id": name,
        "log_epoch": OTHER_EPOCHS.get(name, 1),
        "cluster_id": CLUSTER_ID,
        "generation": 1,
        "last_term": 3,
        "end_index": 5,
    }
    return Asked(name, pb.GetStatusResponse(**{**values, **fields}))


SILENT = [Asked("n2", None, "gone"), Asked("n3", None, "gone")]


def test_a_lone_survivor_that_reaches_nobody_may_be_recovered(survivor: Survivor) -> None:
    assert why_not_recover(survivor, SILENT) is None


def test_a_majority_of_the_voters_elects_without_it(survivor: Survivor) -> None:
    why = why_not_recover(survivor, [answered("n2"), answered("n3")])
    assert why == "nothing has to be recovered: n2 and n3 run, and elect a leader among themselves"


def test_one_other_voter_is_a_majority_with_it(survivor: Survivor) -> None:
    why = why_not_recover(survivor, [answered("n2"), SILENT[1]])
    assert why is not None
    assert "n2 runs, and is a majority of the voters together with n1. Start n1 as before" in why


@pytest.mark.parametrize("further", [{"end_index": 6}, {"last_term": 4, "end_index": 2}])
def test_whoever_is_further_is_to_be_recovered_instead(survivor: Survivor, further: dict[str, int]) -> None:
    why = why_not_recover(survivor, [answered("n2", log_epoch=5, **further), SILENT[1]])
    assert why is not None
    assert why.startswith("n2 is further: its log reaches to index")
    assert "recover n2 instead" in why


def test_a_voter_with_another_disk_is_no_voter(survivor: Survivor) -> None:
    assert why_not_recover(survivor, [answered("n2", log_epoch=5), answered("n3", log_epoch=5)]) is None


def test_a_later_generation_makes_a_second_recovery_wrong(survivor: Survivor) -> None:
    later = answered("n2", cluster_id=5, generation=2, origin_id=CLUSTER_ID)
    why = why_not_recover(survivor, [later, SILENT[1]])
    assert why is not None
    assert "was recovered already, from another disk: n2 belongs to its generation 2" in why


def test_a_node_of_another_cluster_counts_for_nothing(survivor: Survivor) -> None:
    strangers = [answered(name, cluster_id=5, end_index=99) for name in ("n2", "n3")]
    assert why_not_recover(survivor, strangers) is None


def test_who_votes_alone_needs_no_recovery(survivor: Survivor) -> None:
    survivor.recover(Random(2), 1, Term(0))
    why = why_not_recover(survivor, [])
    assert why == "nothing has to be recovered: n1 is the only voter, and leads when it is started"


def test_it_says_what_becomes_committed_and_who_could_not_be_asked(survivor: Survivor) -> None:
    told = " ".join(losses(survivor, [answered("n2", log_epoch=5), SILENT[1]]))
    assert "below offset 3 that they are committed. The entry after that, up to offset 4, becomes so" in told
    assert "n3 could not be asked." in told
    assert "from generation 1 to 2" in told
    assert "n2 could not" not in told


def test_of_a_node_that_stood_by_it_says_that_it_may_lack_what_all_had(tmp_path: Path, survivor: Survivor) -> None:
    assert "of what was acknowledged by all replicas, nothing is" in " ".join(losses(survivor, SILENT))
    stood_by = Survivor.open(DiskFiles(), str(survivor_in(tmp_path / "standby", votes=False)), Random(1))
    told = " ".join(losses(stood_by, SILENT))
    stood_by.close()
    assert "n1 had no vote, so nobody waited for its disk: that may also be what was acknowledged by all" in told
    assert "nothing is" not in told


def test_a_recovery_that_was_interrupted_is_said_to_be_finished(survivor: Survivor, monkeypatch: Any) -> None:
    monkeypatch.setattr(survivor._log, "append_new", Mock(side_effect=StorageFailedError("the power goes")))
    with pytest.raises(StorageFailedError):
        survivor.recover(Random(2), 1, Term(0))
    told = losses(survivor, SILENT)[-1]
    assert told.startswith("A recovery as generation 2 was interrupted; this one finishes it. No disk of")

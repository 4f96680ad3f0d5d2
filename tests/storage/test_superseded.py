from __future__ import annotations

import pytest

from ourolog.storage.errors import DamagedFileError
from ourolog.storage.superseded import Superseded, load_superseded, save_superseded
from ourolog.storage.types import NodeId
from tests.disks import empty_disk, power_cut


def test_it_is_on_disk_when_it_is_saved_and_comes_back_as_it_was() -> None:
    disk = empty_disk()
    disk.make_directory("/data")
    assert load_superseded(disk, "/data/superseded") is None
    superseded = Superseded(3, 99, NodeId("n2"))
    save_superseded(disk, "/data/superseded", superseded)
    assert load_superseded(power_cut(disk), "/data/superseded") == superseded


@pytest.mark.parametrize(
    ("generation", "cluster_id", "node_id"), [(1, 9, "n1"), (2, 0, "n1"), (2, 9, "no node"), ("2", 9, "n1")]
)
def test_what_nobody_writes_is_refused(generation: int, cluster_id: int, node_id: str) -> None:
    disk = empty_disk()
    disk.make_directory("/data")
    save_superseded(disk, "/data/superseded", Superseded(generation, cluster_id, NodeId(node_id)))
    with pytest.raises(DamagedFileError, match="recovered elsewhere"):
        load_superseded(disk, "/data/superseded")

"""What a run leaves in README.md and docs/, and which runs are not shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.peers.publish import BEGIN, END, PublishError, publish, table, with_table

README = "# ourolog\n\nA log.\n\n## License\n\nMIT\n"


def test_what_stands_between_the_markers_is_replaced_and_nothing_else() -> None:
    once = with_table(README, "first")
    twice = with_table(once, "second")
    assert once.replace("first", "second") == twice
    assert f"{BEGIN}\nsecond\n{END}" in twice
    assert twice.replace(f"## Beside its peers\n\n{BEGIN}\nsecond\n{END}\n\n", "") == README


def test_a_readme_without_a_license_gets_the_section_at_its_end() -> None:
    assert with_table("# ourolog\n", "figures").startswith(
        f"# ourolog\n\n## Beside its peers\n\n{BEGIN}\nfigures\n{END}"
    )


def test_the_table_has_what_is_like_for_like_with_spread_and_verdict(run: dict[str, Any]) -> None:
    text = table(run)
    assert (
        "| 64 in flight | etcd | 200 | 350 | records/s | **0.75** (0.5 to 1) | >= 0.45 (aim 0.6): aim reached |" in text
    )
    assert "its best" not in text
    assert "kafka was not measured: there is no java on the PATH." in text


def test_all_three_are_written_and_name_no_folder_of_this_machine(run: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(README)
    publish(run, str(tmp_path))
    written = (tmp_path / "docs" / "peers.json").read_text()
    assert json.loads(written)["sessions"][0]["loads"][2]["failures"] == 1
    assert "/tmp" not in written
    assert (tmp_path / "docs" / "peers.svg").read_text().startswith("<svg")
    assert BEGIN in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("flaw", [{"quick": True}, {"broken": "Traceback"}])
def test_a_quick_look_and_a_run_that_broke_are_not_published(
    run: dict[str, Any], flaw: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text(README)
    with pytest.raises(PublishError, match="not published"):
        publish({**run, **flaw}, str(tmp_path))
    assert (tmp_path / "README.md").read_text() == README

from __future__ import annotations

from pathlib import Path

from tests.documents import assert_shown, block
from tests.installed import Installed


def test_the_whole_story_is_seen_on_real_nodes(installed: Installed, crowded_directory: Path, tmp_path: Path) -> None:
    """Started in a directory with modules of its own that are called storage, rpc, logging and so on."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = installed.run(installed.command, "cycle", cwd=crowded_directory, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "n1 -> n2 -> n1 -> n2" in done.stdout, "a copy with its path"
    assert "1 on n1 and 1 on n2 and 1 on n3" in done.stdout, "one record stays one"
    assert done.stdout.count("Consume(1) answers OUT_OF_RANGE") == 3
    assert_shown(block("README.md: 1. Nobody leads, every copy counts as new").text, done.stdout)
    assert "16 of 16 claims seen" in done.stdout
    assert "\x1b" not in done.stdout
    assert list(temporary.iterdir()) == []

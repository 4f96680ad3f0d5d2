from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_the_whole_story_is_seen_on_real_nodes(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run("cycle", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "n1 -> n2 -> n1 -> n2" in done.stdout, "a copy with its path"
    assert "1 on n1 and 1 on n2 and 1 on n3" in done.stdout, "one record stays one"
    assert done.stdout.count("Consume(1) answers OUT_OF_RANGE") == 3
    assert "16 of 16 claims seen" in done.stdout
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == []

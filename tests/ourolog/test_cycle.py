from __future__ import annotations

import re
from pathlib import Path

from tests.documents import assert_shown, block
from tests.installed import Installed

LED = re.compile(r"(?:all of them name the same leader|another one leads, in a new term): (n\d), in term")


def with_shown_leaders(printed: str, shown: str) -> str:
    """What was printed with the leaders of the page in the fourth part: nobody knows whom nodes elect."""
    before, title, fourth = printed.partition("4. The nodes elect")
    names = dict(zip(LED.findall(fourth), LED.findall(shown), strict=True))
    others = zip(*(sorted({"n1", "n2", "n3"} - {*some}) for some in (names, names.values())), strict=True)
    names.update(others)
    return before + title + re.sub(r"\bn[123]\b", lambda match: names[match.group()], fourth)


def test_the_whole_story_is_seen_on_real_nodes(installed: Installed, crowded_directory: Path, tmp_path: Path) -> None:
    """Started in a directory with modules of its own that are called storage, rpc, logging and so on."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = installed.run(installed.command, "cycle", cwd=crowded_directory, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "n1 -> n2 -> n1 -> n2" in done.stdout, "a copy with its path"
    assert "1 on n1 and 1 on n2 and 1 on n3" in done.stdout, "one record stays one"
    assert done.stdout.count("Consume(1) answers OUT_OF_RANGE") == 3
    shown = block("README.md: 1. Nobody leads, every copy counts as new").text
    assert_shown(shown, with_shown_leaders(done.stdout, shown))
    assert "24 of 24 claims seen" in done.stdout
    assert "\x1b" not in done.stdout
    assert list(temporary.iterdir()) == []

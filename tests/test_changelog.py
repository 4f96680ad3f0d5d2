"""The changelog names a test for each bug: whoever reads it can look the test up."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py"))}


def test_every_test_that_the_changelog_names_is_there() -> None:
    named = set(re.findall(r"\btest_[a-z0-9_]+", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))
    defined = {path.stem for path in TESTS} | {
        name
        for text in TESTS.values()
        for name in re.findall(r"^\s*(?:async )?def (test_[a-z0-9_]+)", text, re.MULTILINE)
    }
    assert len(named) > 50
    assert sorted(named - defined) == []

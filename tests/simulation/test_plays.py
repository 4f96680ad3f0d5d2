"""Every play of tests/simulation/plays still prints what it says.

OUROLOG_REWRITE_PLAYS=1 rewrites them: read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ourolog.simulation.plays import run_play

PLAYS = sorted((Path(__file__).parents[1] / "simulation" / "plays").glob("*.play"))


@pytest.mark.parametrize("play", PLAYS, ids=lambda path: path.stem)
def test_the_play_goes_as_written(play: Path) -> None:
    written = play.read_text()
    performed = run_play(written)
    if os.environ.get("OUROLOG_REWRITE_PLAYS"):
        play.write_text(performed)
    assert performed == written


def test_a_play_goes_the_same_every_time() -> None:
    text = PLAYS[0].read_text()
    assert run_play(text) == run_play(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cluster\nsing loudly", "no command 'sing'"),
        ("produce n1 foo", "begins with the command cluster"),
        ("cluster\ncluster", "one cluster"),
        ("cluster nodes=2\ncrash n9", "no node 'n9'"),
    ],
)
def test_a_play_that_makes_no_sense_says_so(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_play(text)

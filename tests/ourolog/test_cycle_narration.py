from __future__ import annotations

import io

from rich.console import Console

from ourolog.cycle_narration import Narration, picture


def test_a_picture_is_of_the_graph_that_was_found_and_of_no_other() -> None:
    assert picture({"n1": ["n2"], "n2": ["n1"]}) == "n1 <-----> n2"
    assert "/" in picture({"n1": [], "n2": ["n1"], "n3": ["n1"]})
    assert picture({"n1": ["n2"], "n2": []}) == "n1 <- n2\nn2 <- nobody"


def test_a_story_ends_well_only_if_every_claim_was_seen_and_there_was_one() -> None:
    stream = io.StringIO()

    def told(*claims: bool) -> bool:
        narration = Narration(Console(file=stream))
        for seen in claims:
            narration.check("a claim", seen, "evidence")
        return narration.end()

    assert told(True, True)
    assert not told(True, False)
    assert not told()
    assert "1 of 2 claims seen" in stream.getvalue()


def test_a_claim_is_told_with_its_evidence_and_without_colours_off_a_terminal() -> None:
    stream = io.StringIO()
    narration = Narration(Console(file=stream))
    narration.check("n1 leads", True, "term 1")
    assert stream.getvalue().strip().endswith("n1 leads: term 1")
    assert "\x1b" not in stream.getvalue()

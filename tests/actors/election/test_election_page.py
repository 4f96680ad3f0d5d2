"""docs/election.md is true: its example is taken from the page and held to the conformance suite."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.events import LeaderChanged, MemberFailed
from ourolog.actors.messages.values import Member
from ourolog.actors.testing.election_conformance import ElectionConformance, Slot
from ourolog.storage.types import NodeId, Term

PAGE = Path(__file__).parents[3] / "docs" / "election.md"


def run_the_page() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    return names


NAMES = run_the_page()


class TestTheExampleConforms(ElectionConformance):
    occupant = NAMES["RotatingElection"]
    election = NAMES["choice"]


def test_the_examples_leadership_rotates_when_the_leader_fails() -> None:
    n2 = NodeId("n2")
    slot = Slot(
        NAMES["RotatingElection"],
        NodeConfig(NodeId("n1"), "/data", "127.0.0.1:1", "127.0.0.1:2", election=NAMES["choice"]),
    )
    slot.open_log()
    assert slot.leaders() == [LeaderChanged(Term(1), n2)]
    slot.ref.tell(MemberFailed(Member(n2, "127.0.0.1:3", "127.0.0.1:4")))
    slot.settle()
    assert slot.leaders()[-1] == LeaderChanged(Term(2), NodeId("n3"))

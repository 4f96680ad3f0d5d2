from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ourolog.storage.origins import IdentityRanges, PullPositions
from ourolog.storage.types import Index, NodeId

IDENTITIES = st.lists(
    st.tuples(st.sampled_from(["n1", "n2"]).map(NodeId), st.integers(0, 1), st.integers(0, 20)), max_size=40
)


@given(IDENTITIES)
def test_ranges_are_the_set_of_what_was_added(identities: list[tuple[NodeId, int, int]]) -> None:
    ranges, model = IdentityRanges(), set()
    for identity in identities:
        ranges.add(*identity)
        model.add(identity)
    for origin in ("n1", "n2", "n3"):
        for epoch in (0, 1, 2):
            known = {sequence for node, at, sequence in model if (node, at) == (origin, epoch)}
            for sequence in range(23):
                assert ranges.contains(NodeId(origin), epoch, sequence) == (sequence in known)
            assert ranges.next_sequence(NodeId(origin), epoch) == max(known, default=-1) + 1


@given(IDENTITIES, st.randoms())
def test_equal_sets_are_encoded_equally_whatever_the_order(identities: list[tuple[NodeId, int, int]], rng) -> None:
    one, other = IdentityRanges(), IdentityRanges()
    for identity in identities:
        one.add(*identity)
    rng.shuffle(identities)
    for identity in identities:
        other.add(*identity)
    assert one.encode() == other.encode()
    decoded = IdentityRanges.decode(json.loads(json.dumps(one.encode())))
    assert decoded.encode() == one.encode()


def test_a_run_of_sequences_stays_one_range() -> None:
    ranges = IdentityRanges()
    for sequence in range(1000):
        ranges.add(NodeId("n1"), 1, sequence)
    assert ranges.encode() == [["n1", 1, [[0, 999]]]]


def test_an_older_copy_does_not_take_a_pull_position_back() -> None:
    pulls = PullPositions()
    pulls.note(NodeId("n2"), 5, Index(10))
    pulls.appended(NodeId("n2"), 5, 7)
    assert pulls.as_dict() == {"n2": (5, 10)}
    pulls.appended(NodeId("n2"), 5, 10)
    assert pulls.as_dict() == {"n2": (5, 11)}


def test_a_new_log_of_the_source_starts_a_new_pull_position() -> None:
    pulls = PullPositions()
    pulls.appended(NodeId("n2"), 5, 100)
    pulls.appended(NodeId("n2"), 6, 0)
    assert pulls.as_dict() == {"n2": (6, 1)}
    assert PullPositions.decode(pulls.encode()).as_dict() == pulls.as_dict()

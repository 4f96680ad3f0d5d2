from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.commands.produce import batches
from ourolog.record_formats import Origin, as_json, as_raw, as_text

ORIGIN = Origin("n1", ("n1", "n2"), 1_700_000_000_000)


@pytest.mark.parametrize(
    ("value", "origin", "line"),
    [
        (b"hello", None, b"7\thello\n"),
        ("grüße\tto you".encode(), None, "7\tgrüße\tto you\n".encode()),
        (b"hello", ORIGIN, b"7\thello\tn1 -> n2\n"),
        (b"\xff\x00", None, b"7\t\\xff\\x00\n"),
        (b"\x1b[2J\n", None, b"7\t\\x1b[2J\\n\n"),
    ],
)
def test_text_is_one_line_a_record_and_never_moves_the_cursor(value: bytes, origin: Origin | None, line: bytes) -> None:
    assert as_text(7, value, origin) == line


def test_json_has_the_value_as_a_string_or_in_base64_and_its_origin_if_asked() -> None:
    assert json.loads(as_json(7, b"hello", None)) == {"offset": 7, "value": "hello"}
    assert json.loads(as_json(8, b"\xff", None)) == {"offset": 8, "value_base64": "/w=="}
    assert json.loads(as_json(9, b"x", ORIGIN)) == {
        "offset": 9, "value": "x", "origin": "n1", "path": ["n1", "n2"], "timestamp_ms": 1_700_000_000_000,
    }  # fmt: skip


@given(st.binary())
def test_every_format_is_one_line_for_any_value_without_a_line_end(value: bytes) -> None:
    assert as_text(0, value, None).count(b"\n") == 1
    assert as_json(0, value, None).count(b"\n") == 1
    assert as_raw(0, value, None) == value + b"\n"


@given(st.lists(st.binary(max_size=3)), st.integers(1, 5))
def test_records_are_grouped_in_order_and_an_empty_one_comes_alone(records: list[bytes], most: int) -> None:
    groups = list(batches(records, most))
    assert [record for group in groups for record in group] == records
    assert all(1 <= len(group) <= most for group in groups)
    assert all(len(group) == 1 for group in groups if b"" in group)


def test_a_group_ends_before_it_is_larger_than_one_call_should_be() -> None:
    assert [len(group) for group in batches([b"x" * 400_000] * 5, 1000)] == [2, 2, 1]

from __future__ import annotations

import click
import pytest

from ourolog.parameters import ADDRESS, ADDRESSES, BINDABLE, DURATION, ELECTION, NODE_ID, SizeType

SIZE = SizeType()


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1.5m", 90.0),
        ("12h", 43200.0),
        ("7d", 604800.0),
        ("3", 3.0),
        (4, 4.0),
        ("0", 0.0),
    ],
)
def test_a_duration_is_read_in_its_unit_and_means_seconds_without(typed: object, seconds: float) -> None:
    assert DURATION.convert(typed, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("typed", "size"),
    [
        ("1048576", 1 << 20),
        ("1MiB", 1 << 20),
        ("1M", 1 << 20),
        ("1MB", 10**6),
        ("1.5k", 1536),
        ("2 gib", 2 << 30),
        (7, 7),
    ],
)
def test_a_size_counts_bytes_in_powers_of_1024_unless_it_says_mb(typed: object, size: int) -> None:
    assert SIZE.convert(typed, None, None) == size


@pytest.mark.parametrize(
    ("kind", "typed", "said"),
    [
        (DURATION, "soon", "not a duration"),
        (DURATION, "-5s", "not a duration"),
        (DURATION, -1, "negative"),
        (SIZE, "big", "not a size"),
        (SIZE, "0", "too small"),
        (SizeType(1, 100), "1k", "too large"),
        (ADDRESS, "8400", "not HOST:PORT"),
        (ADDRESS, "localhost:", "port"),
        (ADDRESS, "localhost:65536", "port"),
        (ADDRESS, "localhost:0", "port 0"),
        (ADDRESS, "::1:8400", "brackets"),
        (ADDRESSES, "", "not HOST:PORT"),
        (ADDRESSES, " , ", "not HOST:PORT"),
        (ADDRESSES, "localhost:1,localhost:0", "port 0"),
        (NODE_ID, "n 1", "letters, digits"),
        (NODE_ID, "", "letters, digits"),
        (ELECTION, "static", "static:<leader>"),
        (ELECTION, "raffle", "unknown election"),
        (ELECTION, "static:n1,n1", "twice"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_what_would_have_been_right(
    kind: click.ParamType, typed: object, said: str
) -> None:
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(typed, None, None)
    assert said in caught.value.message


@pytest.mark.parametrize("typed", ["127.0.0.1:8400", "[::1]:8400", "node-1.example:1"])
def test_an_address_is_taken_as_it_is_typed(typed: str) -> None:
    assert ADDRESS.convert(typed, None, None) == typed


def test_several_addresses_stand_with_commas_between() -> None:
    assert ADDRESSES.convert("a:1, [::1]:2,", None, None) == ("a:1", "[::1]:2")


def test_any_port_is_fine_where_a_node_listens() -> None:
    assert BINDABLE.convert("127.0.0.1:0", None, None) == "127.0.0.1:0"


def test_what_is_checked_already_is_taken_as_it_is() -> None:
    election = ELECTION.convert("static:n1,n2", None, None)
    assert ELECTION.convert(election, None, None) is election

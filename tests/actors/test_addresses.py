"""HOST:PORT and its ways to be wrong."""

from __future__ import annotations

import pytest

from ourolog.actors.addresses import is_wildcard, join_address, split_address


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:8400", "127.0.0.1", 8400),
        ("localhost:0", "localhost", 0),
        ("node-1.example:1", "node-1.example", 1),
        ("[::1]:8400", "::1", 8400),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_an_address_comes_apart_and_together_again(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)
    assert join_address(host, port) == address


@pytest.mark.parametrize(
    "address", ["", "8400", ":8400", "host", "host:", "host:x", "host:65536", "host:-1", "::1:8400", "[host]:1", "h:１"]
)
def test_what_is_no_address_is_refused_with_a_sentence(address: str) -> None:
    with pytest.raises(ValueError, match=r".{20,}"):
        split_address(address)


def test_wildcards_are_recognised() -> None:
    assert is_wildcard("0.0.0.0")
    assert is_wildcard("::")
    assert not is_wildcard("127.0.0.1")
    assert not is_wildcard("localhost")

"""Addresses to listen on: why one cannot be bound, and what stands for a wildcard."""

from __future__ import annotations

import pytest

from ourolog.actors.addresses import is_wildcard
from ourolog.rpc.listen_addresses import check_listenable, own_host


def test_a_wildcard_stands_for_a_real_address() -> None:
    assert not is_wildcard(own_host("0.0.0.0"))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.0.2.1:0", "not an address of this machine"),  # RFC 5737: an address for examples
        ("no-such-host.invalid:0", "not known"),  # RFC 6761: a name that is never one
    ],
)
async def test_why_nobody_can_listen_there_is_said(address: str, why: str) -> None:
    with pytest.raises(OSError, match=why):
        await check_listenable(address)

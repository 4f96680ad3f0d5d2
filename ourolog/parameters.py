"""What can stand after a flag: addresses, durations, sizes, an election.

Each type turns text into a checked value, says in its error what would have been right, and takes
an already checked value as it is (click converts defaults too).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from ourolog.actors.addresses import join_address, split_address
from ourolog.actors.config import ElectionChoice, check_node_id
from ourolog.storage.types import NodeId

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", re.ASCII | re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class NodeIdType(click.ParamType[NodeId]):
    """The name of a node."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NodeId:
        try:
            return check_node_id(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class AddressType(click.ParamType[str]):
    """HOST:PORT, an IPv6 host in brackets. Several may stand in one variable, with commas or spaces between."""

    name = "host:port"

    def __init__(self, *, any_port: bool = False) -> None:
        """Take addresses with a port from 1 on.

        any_port: whether port 0 is allowed, too: the system picks one then.
        """
        self._lowest_port = 0 if any_port else 1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            host, port = split_address(str(value).strip())
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if port < self._lowest_port:
            self.fail(f"{value!r}: port 0 means any port, and nobody can be reached there.", param, ctx)
        return join_address(host, port)

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return rv.replace(",", " ").split()


class AddressesType(click.ParamType[tuple[str, ...]]):
    """One or several addresses, with commas between."""

    name = "host:port[,…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        texts = [text for text in str(value).split(",") if text.strip()]
        if not texts:
            self.fail(f"{value!r} is not HOST:PORT, nor several with commas between.", param, ctx)
        return tuple(ADDRESS.convert(text, param, ctx) for text in texts)

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return ADDRESS.split_envvar_value(rv)


class DurationType(click.ParamType[float]):
    """A time span in seconds, typed as 250ms, 5s, 10m, 12h, 7d, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value < 0:
                self.fail(f"{value} is negative.", param, ctx)
            return float(value)
        matched = _DURATION.fullmatch(str(value).strip())
        if matched is None:
            self.fail(f"{value!r} is not a duration, for instance 250ms, 5s, 10m, 12h or 7d.", param, ctx)
        number, unit = matched.groups()
        return float(number) * _SECONDS[unit or "s"]


class IntervalType(DurationType):
    """A time span as a duration, or `off`, which is 0."""

    name = "duration|off"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        return 0.0 if str(value).strip() == "off" else super().convert(value, param, ctx)


class SizeType(click.ParamType[int]):
    """A number of bytes, typed as 1048576, 1MiB, 1MB or 1M; M and MiB are 1024², MB is 1000²."""

    name = "size"

    def __init__(self, lowest_bytes: int = 1, highest_bytes: int | None = None) -> None:
        self._lowest_bytes = lowest_bytes
        self._highest_bytes = highest_bytes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        matched = _SIZE.fullmatch(str(value).strip())
        if matched is None:
            self.fail(f"{value!r} is not a size in bytes, for instance 1048576, 1MiB or 64MiB.", param, ctx)
        number, prefix, suffix = matched.groups()
        base = 1000 if suffix and suffix.lower() == "b" else 1024
        size_bytes = int(float(number) * base ** _POWERS[prefix.lower()])
        if size_bytes < self._lowest_bytes:
            self.fail(f"{value} is too small: at least {self._lowest_bytes} bytes.", param, ctx)
        if self._highest_bytes is not None and size_bytes > self._highest_bytes:
            self.fail(f"{value} is too large: at most {self._highest_bytes} bytes.", param, ctx)
        return size_bytes


class ElectionType(click.ParamType[ElectionChoice]):
    """What fills the election slot."""

    name = "election"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ElectionChoice:
        if isinstance(value, ElectionChoice):
            return value
        # Clients have no election, and need not load what fills the slot.
        from ourolog.actors.occupants import parse_election

        try:
            return parse_election(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


NODE_ID = NodeIdType()
ADDRESS = AddressType()
BINDABLE = AddressType(any_port=True)
ADDRESSES = AddressesType()
DURATION = DurationType()
ELECTION = ElectionType()

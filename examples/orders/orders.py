"""Orders go into the log; somebody adds them up. What a small application on ourolog looks like.

A shop appends each order until it is acknowledged. When it does not learn whether an order was stored, it
appends it again, so an order can be in the log twice: the bookkeeper counts each order id once.
It keeps sums and position in one file, so that a restart neither skips nor repeats.

    python -m examples.orders 127.0.0.1:8400 add shoes 4900
    python -m examples.orders 127.0.0.1:8400 total totals.json
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol


class Record(Protocol):
    """A record of the log."""

    @property
    def offset(self) -> int: ...

    @property
    def value(self) -> bytes: ...


class Log(Protocol):
    """What this program needs of a log; clients of real clusters and of simulated ones both provide it."""

    def produce(self, value: bytes) -> int:
        """Append and return the offset. Raises TryAgainError when that is not known to have happened."""

    def records(self, offset: int) -> Iterable[Record]:
        """From `offset` to the end. Raises TryAgainError when nobody can be asked now."""


class TryAgainError(Exception):
    """Nobody answered, or not in time."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order: its id and its price in cents."""

    order_id: str
    cents: int

    def encode(self) -> bytes:
        return json.dumps({"order": self.order_id, "cents": self.cents}).encode()

    @classmethod
    def decode(cls, value: bytes) -> Order:
        fields = json.loads(value)
        return cls(fields["order"], fields["cents"])


def take(order: Order, log: Log, attempts: int = 50) -> int:
    """Append the order until it is acknowledged. Raises TryAgainError after that many attempts."""
    for attempt in range(1, attempts + 1):
        try:
            return log.produce(order.encode())
        except TryAgainError:
            if attempt == attempts:
                raise
    raise AssertionError("attempts is at least 1")


@dataclass(slots=True)
class Totals:
    """What was sold, and up to which offset that has been counted."""

    next_offset: int = 0
    cents: int = 0
    counted: set[str] = field(default_factory=set)

    def catch_up(self, log: Log) -> None:
        """Add what is new. Raises TryAgainError; all that was read until then has been added."""
        for record in log.records(self.next_offset):
            order = Order.decode(record.value)
            if order.order_id not in self.counted:
                self.counted.add(order.order_id)
                self.cents += order.cents
            self.next_offset = record.offset + 1

    def to_json(self) -> str:
        return json.dumps(
            {"next_offset": self.next_offset, "cents": self.cents, "counted": sorted(self.counted)}, indent=1
        )

    @classmethod
    def from_json(cls, text: str) -> Totals:
        fields = json.loads(text)
        return cls(fields["next_offset"], fields["cents"], set(fields["counted"]))

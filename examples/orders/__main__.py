"""The program on a real cluster: `python -m examples.orders ADDR add ID CENTS`, `… ADDR total FILE`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

from examples.orders.orders import Order, Record, Totals, TryAgainError, take
from ourolog import LogClient, LogError


class RealLog:
    """The log of a cluster, called over gRPC; one loop for the whole program."""

    def __init__(self, addr: str) -> None:
        self._runner = asyncio.Runner()
        self._client = LogClient(addr)

    def produce(self, value: bytes) -> int:
        try:
            return self._runner.run(self._client.produce(value))
        except LogError as error:
            raise TryAgainError(str(error)) from error

    def records(self, offset: int) -> Iterable[Record]:
        async def read() -> list[Record]:
            return [record async for record in self._client.consume_stream(offset, stop_at_end=True)]

        try:
            return self._runner.run(read())
        except LogError as error:
            raise TryAgainError(str(error)) from error

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


def main(words: list[str]) -> int:
    match words:
        case [addr, "add", order_id, cents] if cents.isdigit():
            log = RealLog(addr)
            try:
                print(f"{order_id} is at offset {take(Order(order_id, int(cents)), log)}")
            finally:
                log.close()
        case [addr, "total", file]:
            path = Path(file)
            totals = Totals.from_json(path.read_text()) if path.exists() else Totals()
            log = RealLog(addr)
            try:
                totals.catch_up(log)
            finally:
                log.close()
                path.write_text(totals.to_json())
            print(f"{len(totals.counted)} orders, {totals.cents / 100:.2f} in all, read up to {totals.next_offset}")
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

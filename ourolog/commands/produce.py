"""`ourolog produce`: append records, print their offsets."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from ourolog.actors.messages.values import Acks
from ourolog.options import RunningError, client_options, config_option, option
from ourolog.progress import Progress
from ourolog.retry_notice import RetryNotice
from ourolog.stdin_lines import stdin_lines

if TYPE_CHECKING:
    from ourolog.rpc.client import LogClient
    from ourolog.rpc.client_compression import Compression

EPILOG = """
\b
Examples:
  ourolog produce "hello" "world"                two records
  ourolog produce < access.log                   a record for each line
  tail -F access.log | ourolog produce           as the lines come
  ourolog produce --acks all "important"         on every voter's disk first
  ourolog produce --compress zstd < access.log   less to send, to store and to read
  ourolog produce --addr n1:8400,n2:8400,n3:8400 < access.log

An offset is printed once its record is acknowledged. When the leader changes,
the command goes on at the new one, and each record is stored once, in order.
Where nobody is elected, with --acks leader, and when the time is up, records
that were on their way may be in the log or not: they are named on standard
error, are not sent again, and the exit status is 1.
"""

_BATCH_BYTES: Final = 1024 * 1024
# The node was lost, or leads no more: another one may take the next records. A time that is over is the person's own.
_LOST: Final = {"UNAVAILABLE", "ABORTED"}


@click.command(epilog=EPILOG)
@click.argument("values", metavar="[VALUE]…", nargs=-1)
@config_option
@client_options
@option(
    "--batch",
    type=click.IntRange(1, 100_000),
    default=1000,
    help="At most so many records a call; never waits for more.",
)
@option(
    "--acks",
    type=click.Choice(["default", "leader", "quorum", "all"]),
    default="default",
    help="Whose disks a record must be on before it is acknowledged; default: what the node was started with.",
)
@option(
    "--compress",
    type=click.Choice(["none", "zstd"]),
    default="none",
    help="Compress the records of each call together; nodes keep them so, and readers see them as they were.",
)
@option("--replicas", is_flag=True, help="Also print the nodes whose disks have the record.")
def produce(
    *,
    values: tuple[str, ...],
    addresses: tuple[str, ...],
    timeout_s: float,
    batch: int,
    acks: str,
    compress: Compression,
    replicas: bool,
) -> None:
    """Append records, print their offsets.

    Each VALUE is a record; without any, each line of standard input is one.
    """
    if not values and sys.stdin.isatty():
        click.echo("Reading records from the terminal, one a line; Ctrl-D ends.", err=True)
    asyncio.run(_produce(values, addresses, timeout_s, batch, Acks[acks.upper()], compress, replicas=replicas))


async def _produce(
    values: Sequence[str],
    addresses: tuple[str, ...],
    timeout_s: float,
    batch: int,
    acks: Acks,
    compression: Compression,
    *,
    replicas: bool,
) -> None:
    from ourolog.rpc.client import LogClient

    retries = RetryNotice()
    source = _arguments(values) if values else stdin_lines()
    total = len(values) if values else None
    async with LogClient(addresses, timeout_s=timeout_s, on_retry=retries.failed, compression=compression) as client:
        producing = _Producing(client, acks, replicas=replicas)
        with Progress("produced", total) as progress:
            async for records in source:
                for group in batches(records, batch):
                    await producing.append(group)
                    retries.succeeded()
                    progress.advance(len(group))
        if producing.unknown:
            raise RunningError(producing.summary)


class _Producing:
    """Appends records group by group, prints their offsets, and counts what became of them."""

    def __init__(self, client: LogClient, acks: Acks, *, replicas: bool) -> None:
        self._client = client
        self._acks = acks
        self._replicas = replicas
        self._acknowledged = 0
        self.unknown = 0

    @property
    def summary(self) -> str:
        """What became of all records."""
        many = "1 record" if self.unknown == 1 else f"{self.unknown} records"
        return f"{many} may be in the log or not, as said above; {self._acknowledged} acknowledged"

    async def append(self, group: list[bytes]) -> None:
        """Append these records with one call. Raises RunningError where it makes no sense to go on."""
        from ourolog.rpc.client_errors import LogError

        first = self._acknowledged + self.unknown + 1
        last = first + len(group) - 1
        if not group[-1]:
            raise RunningError(f"record {last} is empty; a record holds at least one byte ({self._before})")
        try:
            acknowledged = await self._client.produce_acknowledged(group, acks=self._acks)
        except LogError as error:
            if error.outcome_unknown:
                self.unknown += len(group)
            if not (error.outcome_unknown and error.code in _LOST):
                before = f" ({self._before})" if self._acknowledged or self.unknown else ""
                raise RunningError(f"{error}{before}") from error
            which = f"record {first}" if first == last else f"records {first} to {last}"
            click.echo(f"Unknown: {which}: {error}", err=True)
            return
        self._acknowledged += len(group)
        base_offset = acknowledged.base_offset
        names = "\t" + ",".join(acknowledged.replicas) if self._replicas else ""
        sys.stdout.write("".join(f"{offset}{names}\n" for offset in range(base_offset, base_offset + len(group))))
        sys.stdout.flush()

    @property
    def _before(self) -> str:
        before = f"{self._acknowledged} before it acknowledged"
        return f"{before}, {self.unknown} of unknown outcome" if self.unknown else before


async def _arguments(values: Sequence[str]) -> AsyncIterator[list[bytes]]:
    yield [os.fsencode(value) for value in values]


def batches(records: Sequence[bytes], most: int) -> Iterator[list[bytes]]:
    """The records in order, at most `most` and about 1 MiB at a time; an empty one comes alone.

    A record that will be refused must not take others of its call with it.
    """
    group: list[bytes] = []
    size_bytes = 0
    for record in records:
        if group and (len(group) == most or size_bytes + len(record) > _BATCH_BYTES or not record):
            yield group
            group, size_bytes = [], 0
        group.append(record)
        size_bytes += len(record)
        if not record:
            yield group
            group = []
    if group:
        yield group

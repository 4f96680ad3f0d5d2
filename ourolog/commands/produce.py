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
from ourolog.stdin_lines import stdin_lines

if TYPE_CHECKING:
    from ourolog.rpc.client import LogClient

EPILOG = """
\b
Examples:
  ourolog produce "hello" "world"                two records
  ourolog produce < access.log                   a record for each line
  tail -F access.log | ourolog produce           as the lines come
  ourolog produce --acks all "important"         on every voter's disk first

An offset is printed once its record is acknowledged.
"""

_BATCH_BYTES: Final = 1024 * 1024


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
def produce(*, values: tuple[str, ...], addr: str, timeout_s: float, batch: int, acks: str) -> None:
    """Append records, print their offsets.

    Each VALUE is a record; without any, each line of standard input is one.
    """
    if not values and sys.stdin.isatty():
        click.echo("Reading records from the terminal, one a line; Ctrl-D ends.", err=True)
    asyncio.run(_produce(values, addr, timeout_s, batch, Acks[acks.upper()]))


async def _produce(values: Sequence[str], addr: str, timeout_s: float, batch: int, acks: Acks) -> None:
    from ourolog.rpc.client import LogClient
    from ourolog.rpc.client_errors import LogError

    source = _arguments(values) if values else stdin_lines()
    total = len(values) if values else None
    async with LogClient(addr, timeout_s=timeout_s) as client:
        done = 0
        with Progress("produced", total) as progress:
            try:
                async for records in source:
                    for group in batches(records, batch):
                        await _append(client, group, done, acks)
                        done += len(group)
                        progress.advance(len(group))
            except LogError as error:
                before = f" ({done} before it acknowledged)" if done else ""
                raise RunningError(f"{error}{before}") from error


async def _append(client: LogClient, group: list[bytes], done: int, acks: Acks) -> None:
    if not group[-1]:
        number = done + len(group)
        raise RunningError(
            f"record {number} is empty; a record holds at least one byte ({number - 1} before it acknowledged)"
        )
    base_offset = await client.produce_batch(group, acks=acks)
    sys.stdout.write("".join(f"{offset}\n" for offset in range(base_offset, base_offset + len(group))))
    sys.stdout.flush()


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

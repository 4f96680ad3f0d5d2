"""`ourolog produce`: append records, print their offsets."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
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
    from ourolog.rpc.client_types import Acknowledgement

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

A few calls are on their way at once. When one is refused, no more are begun;
records of those behind it may be stored, and the error says which.
"""

_BATCH_BYTES: Final = 1024 * 1024
# As many calls as a client has on its way together.
_ON_THEIR_WAY: Final = 4
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
        producing = _Producing(client, acks, compression, replicas=replicas)
        with Progress("produced", total) as progress:

            def settled(record_count: int) -> None:
                retries.succeeded()
                progress.advance(record_count)

            await producing.append_all(source, batch, settled)
        if producing.unknown:
            raise RunningError(producing.summary)


class _EmptyRecordError(Exception):
    """A record without a byte, which no node takes."""

    def __init__(self, number: int) -> None:
        super().__init__(f"record {number} is empty; a record holds at least one byte")


@dataclass(slots=True)
class _Group:
    """Records that are appended by one call.

    first: the number of the first of them, from 1 on.
    count: how many they are.
    places: how much of the room for what is on its way they take.
    call: brings where they are; it raises LogError.
    """

    first: int
    count: int
    places: int
    call: asyncio.Task[Acknowledgement]

    @property
    def name(self) -> str:
        last = self.first + self.count - 1
        return f"record {self.first}" if self.count == 1 else f"records {self.first} to {last}"


class _Producing:
    """Appends records group by group, prints their offsets in order, and counts what became of them.

    A few groups are on their way at once. They are called in order, and the client keeps that order; with acks=leader,
    where nothing is numbered, it is one group at a time, and nothing follows one that may be lost.
    """

    def __init__(self, client: LogClient, acks: Acks, compression: Compression, *, replicas: bool) -> None:
        self._client = client
        self._acks = acks
        self._compression: Compression = compression
        self._replicas = replicas
        self._acknowledged = 0
        self._most = 1 if acks is Acks.LEADER else _ON_THEIR_WAY
        self._room = asyncio.Semaphore(self._most)
        self._given = 0
        self._beginning: asyncio.Task[None] | None = None
        self._groups: asyncio.Queue[_Group | Exception | None] = asyncio.Queue()
        self.unknown = 0

    @property
    def summary(self) -> str:
        """What became of all records."""
        many = "1 record" if self.unknown == 1 else f"{self.unknown} records"
        return f"{many} may be in the log or not, as said above; {self._acknowledged} acknowledged"

    async def append_all(self, source: AsyncIterator[list[bytes]], most: int, settled: Callable[[int], None]) -> None:
        """Append these records, at most so many by one call. Raises RunningError where it makes no sense to go on.

        settled: called with the number of records of each group of which it is known what became of it.
        """
        self._beginning = asyncio.create_task(self._begin_all(source, most))
        try:
            while (group := await self._groups.get()) is not None:
                if isinstance(group, _EmptyRecordError):
                    raise RunningError(f"{group} ({self._before})")
                if isinstance(group, Exception):
                    raise group
                await self._settle(group)
                settled(group.count)
                for _ in range(group.places):
                    self._room.release()
        finally:
            await self._begin_no_more()
            self._tell_what_is_acknowledged()

    async def _begin_all(self, source: AsyncIterator[list[bytes]], most: int) -> None:
        """Begin a call for each group, as far as there is room. The groups end with None, or with what went wrong."""
        try:
            async for records in source:
                for group in batches(records, most):
                    await self._begin(group)
        except Exception as error:  # raised where the groups before it have been settled
            self._groups.put_nowait(error)
        else:
            self._groups.put_nowait(None)

    async def _begin_no_more(self) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.gather(self._beginning, return_exceptions=True)

    async def _begin(self, group: list[bytes]) -> None:
        first = self._given + 1
        self._given += len(group)
        if not group[-1]:
            raise _EmptyRecordError(self._given)
        # A group that is larger than others is alone, so that memory is bounded.
        places = self._most if sum(map(len, group)) > _BATCH_BYTES else 1
        for _ in range(places):
            await self._room.acquire()
        # With a compression of its own a group goes by itself, and not with those behind it.
        call = self._client.produce_acknowledged(group, acks=self._acks, compression=self._compression)
        self._groups.put_nowait(_Group(first, len(group), places, asyncio.create_task(call)))

    async def _settle(self, group: _Group) -> None:
        """Wait for that group and tell what became of it. Raises RunningError."""
        from ourolog.rpc.client_errors import LogError

        try:
            self._tell_acknowledged(await group.call)
        except LogError as error:
            if error.outcome_unknown:
                self.unknown += group.count
            if not (error.outcome_unknown and error.code in _LOST):
                before = self._before if self._acknowledged or self.unknown else ""
                behind = await self._settle_behind()
                said = "; ".join(filter(None, (before, behind)))
                raise RunningError(f"{error} ({said})" if said else str(error)) from error
            click.echo(f"Unknown: {group.name}: {error}", err=True)

    async def _settle_behind(self) -> str:
        """A group has come to nothing: wait for those behind it that are on their way; returns which are stored."""
        from ourolog.rpc.client_errors import LogError

        await self._begin_no_more()
        stored = []
        while not self._groups.empty():
            group = self._groups.get_nowait()
            if not isinstance(group, _Group):
                continue
            try:
                self._tell_acknowledged(await group.call)
            except LogError as error:
                if error.outcome_unknown:
                    self.unknown += group.count
                    click.echo(f"Unknown: {group.name}: {error}", err=True)
            else:
                stored.append(group.name)
        return f"behind it {', '.join(stored)} acknowledged" if stored else ""

    def _tell_what_is_acknowledged(self) -> None:
        """It ends early: no acknowledgement that has come is kept from whoever reads the offsets."""
        while not self._groups.empty():
            group = self._groups.get_nowait()
            if isinstance(group, _Group):
                if group.call.done() and not group.call.cancelled() and group.call.exception() is None:
                    self._tell_acknowledged(group.call.result())
                group.call.cancel()

    def _tell_acknowledged(self, acknowledged: Acknowledgement) -> None:
        self._acknowledged += acknowledged.record_count
        base_offset, end_offset = acknowledged.base_offset, acknowledged.base_offset + acknowledged.record_count
        names = "\t" + ",".join(acknowledged.replicas) if self._replicas else ""
        sys.stdout.write("".join(f"{offset}{names}\n" for offset in range(base_offset, end_offset)))
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

"""`ourolog consume`: read records from an offset on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from ourolog.actors.messages.values import ReadLevel
from ourolog.options import RunningError, client_options, config_option, option
from ourolog.progress import Progress
from ourolog.record_formats import FORMATS, FORMATTERS, Origin
from ourolog.retry_notice import RetryNotice

if TYPE_CHECKING:
    from ourolog.rpc.client import LogClient
    from ourolog.rpc.client_types import Provenance

EPILOG = """
\b
Examples:
  ourolog consume                                all there is, then end
  ourolog consume --from 100 --count 10
  ourolog consume --from end --follow            only what is new, until Ctrl-C
  ourolog consume --output json | jq .value
  ourolog consume --output raw > copy.log        what `ourolog produce < file` read
  ourolog consume --provenance                   and the nodes each record passed
  ourolog consume --read committed               what the node knows, without asking the leader

It reads all that a quorum had acknowledged before, from whichever node. Where
that cannot be had within 3 s, for instance from a lone survivor, it says so on
standard error and prints what is committed on the node that it reads from.
"""

LATEST_WITHIN_S: Final = 3.0
"""How long `--read auto` tries to learn what the latest state is. An election takes less."""

_AUTO: Final = "auto"
# No log has a record there.
_BEYOND: Final = 2**64 - 1


class FromType(click.ParamType[int | str]):
    """An offset, or `first` or `end` of what can be read."""

    name = "offset"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value).strip().lower()
        if text in ("first", "end"):
            return text
        if not (text.isascii() and text.isdecimal() and int(text) < 2**64):
            self.fail(f"{value!r} is not an offset: a number from 0 on, or first, or end.", param, ctx)
        return int(text)


@click.command(epilog=EPILOG)
@config_option
@client_options
@option("--from", "start", type=FromType(), default="first", help="Where to begin: an offset, or first, or end.")
@option("--follow", "-f", is_flag=True, help="At the end of the log wait for more.")
@option("--count", "-n", type=click.IntRange(1), help="End after so many records. [default: no limit]")
@option("--output", type=click.Choice(FORMATS), default="text", help="text: offset and value. raw: values alone.")
@option(
    "--read",
    type=click.Choice([_AUTO, *(level.value for level in ReadLevel)]),
    default=_AUTO,
    help="latest: nothing is missing that a quorum had acknowledged; fails where that is not known. auto: as latest "
    "where that can be had. committed: what the node knows, which may lag.",
)
@option("--provenance", is_flag=True, help="Also print the nodes that each record passed.")
def consume(
    *,
    addresses: tuple[str, ...],
    timeout_s: float,
    start: int | str,
    follow: bool,
    count: int | None,
    output: str,
    read: str,
    provenance: bool,
) -> None:
    """Print the records of the log, one a line."""
    level = None if read == _AUTO else ReadLevel(read)
    asyncio.run(_consume(addresses, timeout_s, start, follow, count, output, level, provenance))


async def _consume(
    addresses: tuple[str, ...],
    timeout_s: float,
    start: int | str,
    follow: bool,
    count: int | None,
    output: str,
    read: ReadLevel | None,
    provenance: bool,
) -> None:
    from ourolog.rpc.client import LogClient
    from ourolog.rpc.client_errors import LogError

    write = _Writer(output, provenance)
    left = count
    retries = RetryNotice()
    try:
        async with LogClient(addresses, timeout_s=timeout_s, on_retry=retries.failed) as client:
            missing = ""
            if read is None:
                missing = await _see_latest(client, min(timeout_s, LATEST_WITHIN_S))
                read = ReadLevel.COMMITTED
            offset, end = await _range(client, start, read)
            if missing:
                click.echo(f"Not confirmed that this is all; it is what is committed here: {missing}", err=True)
            total = count if follow or count else max(0, end - offset)
            with Progress("consumed", total) as progress:
                batches = client.consume_batches(offset, provenance=provenance, stop_at_end=not follow, read=read)
                async for batch in batches:
                    retries.succeeded()
                    skipped = max(0, offset - batch.base_offset)  # batches come whole
                    taken = batch.values[skipped:] if left is None else batch.values[skipped : skipped + left]
                    write.batch(batch.base_offset + skipped, taken, batch.provenance)
                    progress.advance(len(taken))
                    left = left - len(taken) if left is not None else None
                    if left == 0:
                        await batches.aclose()
                        return
    except LogError as error:
        raise RunningError(str(error)) from error


async def _see_latest(client: LogClient, within_s: float) -> str:
    """Let the client know of all that was acknowledged, which it then reads from no node that has less.

    Returns why that is not known, as a sentence; "" if it is, or if each node is read for itself.
    """
    from ourolog.rpc.client_errors import LogError

    try:
        await client.consume(_BEYOND, read=ReadLevel.LATEST, timeout_s=within_s)
    except LogError as error:
        # Where nobody is elected, what is committed on the node that is asked is all that it can have.
        return "" if error.is_out_of_range or error.reason == "NOBODY_ELECTED" else str(error)
    return ""


async def _range(client: LogClient, start: int | str, read: ReadLevel) -> tuple[int, int]:
    """Where to begin, as an offset, and the end of what can be read now."""
    from ourolog.rpc.client_errors import LogError

    if start == "end":
        # Not the status: a leader that has just begun answers this only when it knows where the end is.
        try:
            await client.consume(_BEYOND, read=read)
        except LogError as error:
            if not error.is_out_of_range or error.first_offset is None or error.end_offset is None:
                raise
            return max(error.first_offset, error.end_offset), error.end_offset
    status = await client.status()
    first, end = status["first_offset"], status["committed_offset"]
    assert isinstance(first, int), "a node knows its own offsets"
    assert isinstance(end, int), "a node knows its own offsets"
    return (start if isinstance(start, int) else first), end


class _Writer:
    """Prints records to standard output, a batch at a time so that a follower sees them at once."""

    def __init__(self, output: str, provenance: bool) -> None:
        self._format = FORMATTERS[output]
        self._provenance = provenance

    def batch(self, offset: int, values: Sequence[bytes], provenance: Provenance | None) -> None:
        origin = None
        if provenance is not None and self._provenance:
            origin = Origin(provenance.origin, provenance.path, provenance.timestamp_ms)
        text = b"".join(self._format(at, value, origin) for at, value in enumerate(values, offset))
        if sys.stdout.isatty():
            sys.stdout.write(text.decode(errors="replace"))  # above a progress bar, if there is one
        else:
            sys.stdout.buffer.write(text)
        sys.stdout.flush()

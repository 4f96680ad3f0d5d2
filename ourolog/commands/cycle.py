"""`ourolog cycle`: the flaw of replication by discovery, and the ways out of it, on real processes."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import click

from ourolog.options import config_option

EPILOG = """
\b
Four short parts, each on fresh node processes on free ports:
  1. two nodes copy each other with the cycle allowed: one record multiplies
  2. three nodes with the cycle broken: one record stays one on every node
  3. a static leader: followers pull from n1 alone, and the log simply ends
  4. an elected leader, which is killed: another one takes over, nothing is lost

Exits 0 only if every claim was seen.
"""


@click.command(epilog=EPILOG)
@config_option
def cycle() -> int:
    """Show the replication cycle on real nodes."""
    return asyncio.run(_run())


async def _run() -> int:
    from ourolog.cycle_demo import run_demo

    demo = asyncio.current_task()
    assert demo is not None
    # As Ctrl-C does: the nodes are taken down and their data removed on the way out.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, demo.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        return 0 if await run_demo() else 1
    return 130

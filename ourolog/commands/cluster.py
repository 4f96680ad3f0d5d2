"""`ourolog cluster`: what a person does to a whole cluster."""

from __future__ import annotations

import asyncio

import click

from ourolog.options import RunningError, client_options, config_option

GROUP_EPILOG = """
\b
Examples:
  ourolog cluster transfer-leader n2             let n2 lead
"""

EPILOG = """
\b
Examples:
  ourolog cluster transfer-leader                whichever voter is best
  ourolog cluster transfer-leader n2
  ourolog cluster transfer-leader --addr n1:8400,n2:8400,n3:8400

The leader holds what clients produce, waits until the other node has all of its
log, and lets it lead; clients go on there. Nothing that was acknowledged is
lost. If it does not happen the leader goes on, and the exit status is 1.
"""


@click.group(epilog=GROUP_EPILOG)
def cluster() -> None:
    """Change who leads."""


@cluster.command(name="transfer-leader", epilog=EPILOG)
@click.argument("node", metavar="[NODE]", required=False)
@config_option
@client_options
def transfer_leader(*, node: str | None, addresses: tuple[str, ...], timeout_s: float) -> None:
    """Let another node lead.

    NODE is the one that is to lead; without it, the voter that has most of the log.
    """
    asyncio.run(_transfer_leader(node, addresses, timeout_s))


async def _transfer_leader(node: str | None, addresses: tuple[str, ...], timeout_s: float) -> None:
    from ourolog.rpc.client import LogClient
    from ourolog.rpc.client_errors import LogError

    async with LogClient(addresses, timeout_s=timeout_s) as client:
        try:
            transfer = await client.transfer_leader(node)
        except LogError as error:
            raise RunningError(str(error)) from error
    if transfer.leader == transfer.previous_leader:
        click.echo(f"{transfer.leader} leads already, in term {transfer.term}")
    else:
        click.echo(f"{transfer.leader} leads in term {transfer.term}; before it {transfer.previous_leader} led")

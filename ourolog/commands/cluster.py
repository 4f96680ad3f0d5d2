"""`ourolog cluster`: what a person does to a whole cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ourolog.commands.recover import recover
from ourolog.options import RunningError, client_options, config_option

if TYPE_CHECKING:
    from ourolog.rpc.client_types import VotersChange

GROUP_EPILOG = """
\b
Examples:
  ourolog cluster transfer-leader n2             let n2 lead
  ourolog cluster add n4                         have n4 vote, which copies already
  ourolog cluster remove n3                      have n3 vote no more
  ourolog cluster recover --data-dir DIR         go on with one disk of three
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

ADD_EPILOG = """
\b
Examples:
  ourolog cluster add n4
  ourolog cluster add n4 --addr n1:8400,n2:8400,n3:8400

The node has been started with --join and has copied the log. From now on it
counts for a quorum. A leader adds nodes by itself while fewer than --replicas
vote; this is for more of them, and for one that a person had removed.
"""

REMOVE_EPILOG = """
\b
Examples:
  ourolog cluster remove n3
  ourolog cluster remove n3 --addr n1:8400,n2:8400,n3:8400

The node counts for no quorum from now on, and does not come back by itself. It
goes on copying until it is stopped. If a node stands by that has all of the
log, that one votes first: there are never fewer copies than before. The leader
can be removed, too: another one leads then.
"""


@click.group(epilog=GROUP_EPILOG)
def cluster() -> None:
    """Change who leads, and who votes, or recover from the loss of most disks."""


cluster.add_command(recover)


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


@cluster.command(epilog=ADD_EPILOG)
@click.argument("node")
@config_option
@client_options
def add(*, node: str, addresses: tuple[str, ...], timeout_s: float) -> None:
    """Have NODE vote, which copies already."""
    asyncio.run(_change_voters(node, addresses, timeout_s, is_addition=True))


@cluster.command(epilog=REMOVE_EPILOG)
@click.argument("node")
@config_option
@client_options
def remove(*, node: str, addresses: tuple[str, ...], timeout_s: float) -> None:
    """Have NODE vote no more."""
    asyncio.run(_change_voters(node, addresses, timeout_s, is_addition=False))


async def _change_voters(node: str, addresses: tuple[str, ...], timeout_s: float, *, is_addition: bool) -> None:
    from ourolog.rpc.client import LogClient
    from ourolog.rpc.client_errors import LogError

    async with LogClient(addresses, timeout_s=timeout_s) as client:
        try:
            changed: VotersChange = await (client.add_voter(node) if is_addition else client.remove_voter(node))
        except LogError as error:
            raise RunningError(str(error)) from error
    does = "votes" if is_addition else "votes no more"
    click.echo(f"{node} {does}; {_who_votes(changed.voters)}")


def _who_votes(voters: Sequence[str]) -> str:
    if len(voters) == 1:
        return f"{voters[0]} votes alone: if its disk is lost, so is what was acknowledged from now on"
    return f"the voters are {', '.join(voters)}"

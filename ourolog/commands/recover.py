"""`ourolog cluster recover`: let a lone survivor go on when a majority of the disks is lost for good."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ourolog.options import RunningError, config_option, option
from ourolog.parameters import ADDRESS, ADDRESSES, DURATION

if TYPE_CHECKING:
    from ourolog.recovery_advice import Asked
    from ourolog.storage.recovering import Survivor

EPILOG = """
\b
Examples:
  ourolog cluster recover --data-dir /var/lib/ourolog
  ourolog cluster recover --data-dir /var/lib/ourolog --peer n2:8400 --yes

Only for a cluster that has lost a majority of its voters' disks for good. Run it
on the stopped survivor whose log reaches furthest; it asks the others, says what
may be lost, and asks before it changes anything. Then start the node as before,
and others on empty data directories with --join.
"""


@click.command(name="recover", epilog=EPILOG)
@option("--data-dir", metavar="DIR", required=True, type=click.Path(file_okay=False, exists=True))
@option(
    "--peer",
    "peers",
    type=ADDRESSES,
    multiple=True,
    help="gRPC address of a node to ask besides the voters that the log names; repeated, or with commas.",
)
@option("--rpc-addr", type=ADDRESS, help="This node's gRPC address from now on; as before without it.")
@option("--gossip-addr", type=ADDRESS, help="This node's gossip address from now on; as before without it.")
@option(
    "--peer-addr", type=ADDRESS, help="Where other nodes call it from now on, if not at --gossip-addr, beside the two."
)
@option("--timeout", "timeout_s", type=DURATION, default="5s", help="How long the other nodes may take to answer.")
@option("--yes", is_flag=True, help="Do not ask.")
@config_option
def recover(
    *,
    data_dir: str,
    peers: tuple[tuple[str, ...], ...],
    rpc_addr: str | None,
    gossip_addr: str | None,
    peer_addr: str | None,
    timeout_s: float,
    yes: bool,
) -> None:
    """Make a lone survivor writable again.

    Its disk becomes the first of the cluster's next generation, and everything in its log becomes committed.
    """
    from ourolog.recovery_advice import losses, why_not_recover
    from ourolog.storage.disk import DiskFiles
    from ourolog.storage.errors import StorageError
    from ourolog.storage.recovering import Survivor
    from ourolog.storage.types import Term

    if (rpc_addr is None) != (gossip_addr is None):
        raise click.UsageError("--rpc-addr and --gossip-addr come together: both are written into the log.")
    if peer_addr is not None and gossip_addr is None:
        raise click.UsageError("--peer-addr comes with --rpc-addr and --gossip-addr: all are written into the log.")
    addresses = None
    if rpc_addr is not None and gossip_addr is not None:
        addresses = (rpc_addr, gossip_addr, peer_addr if peer_addr not in (None, gossip_addr) else "")
    rng = random.SystemRandom()
    try:
        survivor = Survivor.open(DiskFiles(), data_dir, rng, lambda _, text: click.echo(text, err=True))
    except (StorageError, OSError) as error:
        raise RunningError(str(error)) from error
    try:
        asked = asyncio.run(_ask_others(survivor, [addr for several in peers for addr in several], timeout_s))
        why_not = why_not_recover(survivor, asked)
        if why_not is not None:
            raise RunningError(f"{why_not}. Nothing was changed.")
        survivor.own_voter(addresses)  # raises before anybody is asked to decide
        for line in losses(survivor, asked):
            click.echo(line, err=True)
        if not yes:
            _confirm(survivor.identity.cluster)
        term_seen = max((other.status.term for other in asked if other.status is not None), default=0)
        recovered = survivor.recover(rng, int(time.time() * 1000), Term(term_seen), addresses)
    except StorageError as error:
        raise RunningError(str(error)) from error
    finally:
        survivor.close()
    me = survivor.identity.node_id
    click.echo(
        f"{me} is generation {recovered.founding.generation} of the cluster, from term {recovered.term} on. Start it "
        "as before: it leads by itself. Start others on empty data directories with --join."
    )


def _confirm(cluster: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked here: give --yes if this is wanted. Nothing was changed.")
    typed = click.prompt(f"Type the cluster's name, {cluster}, to go on", err=True, default="", show_default=False)
    if typed.strip() != cluster:
        raise RunningError("Nothing was changed.")


async def _ask_others(survivor: Survivor, peers: Sequence[str], timeout_s: float) -> list[Asked]:
    """Ask the other voters that the log names, and those that were named besides, all at once."""
    me = survivor.identity.node_id
    names = {voter.rpc_addr: str(voter.node_id) for voter in survivor.voters if voter.node_id != me}
    names |= {addr: addr for addr in peers if addr not in names}
    return await asyncio.gather(*(_ask(name, addr, timeout_s) for addr, name in names.items()))


async def _ask(name: str, addr: str, timeout_s: float) -> Asked:
    from ourolog.recovery_advice import Asked
    from ourolog.rpc.client_errors import LogError
    from ourolog.rpc.cluster_status import ask_status

    answer = await ask_status(addr, timeout_s)
    if isinstance(answer, LogError):
        return Asked(name, None, str(answer))
    return Asked(answer.node_id, answer)

"""`ourolog status`: who is there, who leads, who pulls from whom."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ourolog.live_view import coloured
from ourolog.options import RunningError, client_options, config_option, option

EPILOG = """
\b
Examples:
  ourolog status
  ourolog status --addr 127.0.0.1:8410 --output json | jq .leader
  ourolog status --addr 10.0.0.1:8400,10.0.0.2:8400,10.0.0.3:8400

Any node can be asked; the first that answers is asked for the members, and then
each of them for its own part. One that does not answer is shown without it.
"""

_WIDE = 240  # into a pipe nothing is wrapped


@click.command(epilog=EPILOG)
@config_option
@client_options
@option("--output", type=click.Choice(["text", "json"]), default="text", help="A table, or JSON.")
def status(*, addresses: tuple[str, ...], timeout_s: float, output: str) -> None:
    """Show who is there, leads, and pulls.

    Members, roles, terms, offsets, and who pulls from whom with what lag.
    """
    from ourolog.rpc.client_errors import LogError
    from ourolog.rpc.cluster_status import cluster_status

    try:
        found = asyncio.run(cluster_status(addresses, timeout_s=timeout_s))
    except LogError as error:
        raise RunningError(str(error)) from error
    if output == "json":
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    console.print("\n".join([headline_of(found), *replicas_of(found), ""]), markup=False)
    console.print(table_of(found))
    for line in complaints_of(found):
        console.print(line, markup=False, soft_wrap=True)


def headline_of(found: dict[str, Any]) -> str:
    """Who leads, in which term, and in which generation if the cluster was recovered."""
    term = f", term {found['term']}" if found["term"] else ""
    generation = f", generation {found['generation']}" if (found["generation"] or 1) > 1 else ""
    return f"election {found['election']}, leader {found['leader'] or 'none'}{term}{generation}"


def replicas_of(found: dict[str, Any]) -> list[str]:
    """A line that says how far the voters and those that stand by are, if the leader says so."""
    replicas = found.get("replicas")
    if not replicas and not found.get("voter_change"):
        return []
    voters = [found["leader"], *(_replica(one) for one in replicas or () if one["votes"])]
    if found["leader"] not in found["voters"]:
        voters = voters[1:]
    line = f"replicas {', '.join(voters)}"
    standbys = [_replica(one) for one in replicas or () if not one["votes"]]
    line += f"; standing by {', '.join(standbys)}" if standbys else ""
    line += f"; {found['voter_change']}" if found["voter_change"] else ""
    return [line]


def _replica(replica: dict[str, Any]) -> str:
    lag = _shown(replica["lag"])
    return f"{replica['id']} ({f'lag {lag}' if replica['fetches'] else 'does not fetch'})"


def complaints_of(found: dict[str, Any]) -> list[str]:
    """A line for each node that sees another leader, or none, that is not to be sent clients, or that found damage."""
    lines = [
        f"{node['id']} sees {node['leader'] or 'nobody'} lead, in term {node['term']}"
        for node in found["nodes"]
        if node["term"] is not None and _view(node) != _view(found)
    ]
    lines += [f"{node['id']} is not ready: {node['not_ready']}" for node in found["nodes"] if node["not_ready"]]
    lines += [
        f"{node['id']} has found {node['damaged_found']} damaged places in its log, {node['repaired']} of them repaired"
        for node in found["nodes"]
        if node["damaged_found"]
    ]
    return ["", *lines] if lines else []


def _view(of: dict[str, Any]) -> tuple[str, int] | None:
    """Who leads, in which term; None where nobody does."""
    return (of["leader"], of["term"]) if of["leader"] else None


def table_of(found: dict[str, Any]) -> Table:
    """The nodes, one row each; offsets as [first, end)."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in ("node", "state", "role"):
        table.add_column(heading)
    for heading in ("term", "offsets", "committed"):
        table.add_column(heading, justify="right")
    table.add_column("pulls from")
    table.add_column("cycles", justify="right")
    table.add_column("gRPC")
    table.add_column("gossip")
    for node in found["nodes"]:
        table.add_row(
            *(
                coloured(Text(text))
                for text in (
                    node["id"],
                    _shown(node["state"]),
                    _shown(node["role"]),
                    _shown(node["term"]),
                    f"[{node['first_offset']}, {node['end_offset']})" if node["end_offset"] is not None else "-",
                    _shown(node["committed_offset"]),
                    ", ".join(_pull(pull) for pull in node["pulls"] or ()) or "-",
                    _shown(node["cycles_seen"]),
                    _shown(node["rpc_addr"]),
                    _shown(node["gossip_addr"]),
                )
            )
        )
    return table


def _pull(pull: dict[str, Any]) -> str:
    return f"{pull['from']} (next {_shown(pull['next_offset'])}, lag {_shown(pull['lag'])})"


def _shown(value: object) -> str:
    return "-" if value is None or value == "" else str(value)

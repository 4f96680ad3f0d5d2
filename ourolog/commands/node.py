"""`ourolog node`: one node in the foreground."""

from __future__ import annotations

import os
from typing import Any

import click

from ourolog.actors.config import (
    MAX_BATCH_BYTES,
    MAX_FOUNDERS,
    Cycle,
    Fsync,
    GossipConfig,
    InvalidFieldError,
    NodeConfig,
)
from ourolog.actors.messages.values import Acks
from ourolog.configuration import flag_name
from ourolog.logs import FORMATS, LEVELS
from ourolog.options import config_option, election_option, option, replicas_options, replication_options
from ourolog.parameters import ADDRESS, BINDABLE, DURATION, ELECTION, NODE_ID, IntervalType, SizeType

EPILOG = """
\b
Examples:
  ourolog node --node-id n1 --data-dir /var/lib/ourolog
  ourolog node --node-id n2 --data-dir ./n2 --rpc-addr 127.0.0.1:8410 \\
      --gossip-addr 127.0.0.1:8411 --join 127.0.0.1:8401
  ourolog node --config /etc/ourolog.toml --election raft --bootstrap-expect 3
  OUROLOG_NODE_ID=n1 OUROLOG_DATA_DIR=./n1 ourolog node

SIGTERM and SIGINT drain and exit 0; a second one ends the process at once with
status 1. Logs go to stderr: text on a terminal, JSON elsewhere.
"""


@click.command(epilog=EPILOG)
@config_option
@option("--node-id", type=NODE_ID, required=True, help="Name of this node, unique in its cluster.")
@option("--data-dir", type=click.Path(file_okay=False), required=True, help="Directory of this node's log.")
@option("--rpc-addr", type=BINDABLE, default="127.0.0.1:8400", help="Where to serve gRPC; port 0 means any.")
@option(
    "--gossip-addr",
    type=BINDABLE,
    default="127.0.0.1:8401",
    help="Where to gossip (UDP) and be called by other nodes (TCP); port 0 means any.",
)
@option(
    "--peer-addr",
    "own_peer_addr",
    type=BINDABLE,
    help="Where to be called by other nodes (TCP) instead. [default: --gossip-addr]",
)
@option("--advertise-rpc-addr", type=BINDABLE, help="gRPC address to tell others, when bound to 0.0.0.0 or [::].")
@option("--advertise-gossip-addr", type=BINDABLE, help="Gossip address to tell others, likewise.")
@option("--advertise-peer-addr", type=BINDABLE, help="Address for calls of nodes to tell others, likewise.")
@option("--join", type=ADDRESS, multiple=True, help="Gossip address of any other node; repeatable.")
@option("--cluster", default="ourolog", help="Name of the cluster; nodes of another one are refused.")
@election_option(
    type=ELECTION,
    default="raft",
    help="Who leads. raft: the voters elect a leader; raft:n1,n2,n3 names those that found the cluster. static: the "
    "first named leads, all named vote. none: everyone pulls from everyone. Others can be installed.",
)
@option(
    "--bootstrap-expect",
    type=click.IntRange(1, MAX_FOUNDERS),
    help="Where voters elect, found a new cluster with so many nodes, this one among them, as soon as gossip has found "
    "them. All of them get this flag, the first of them may do without --join. Ignored once the data directory belongs "
    "to a cluster. [default: join a cluster with --join, without it be a cluster of one]",
)
@replicas_options
@option(
    "--election-timeout",
    "election_timeout_s",
    type=DURATION,
    default="1s",
    help="Where voters elect: so long without an answer from the leader, and another is elected.",
)
@option(
    "--force-lead",
    is_flag=True,
    help="With static, on its leader: lead without asking the other voters where their logs end. What they have and "
    "it lacks is dropped. For one start, by a person who knows better.",
)
@replication_options
@option("--fsync-interval", "fsync_interval_s", type=DURATION, default="100ms", help="For --fsync interval.")
@option("--segment-bytes", type=SizeType(4096, 2**40), default="64MiB", help="Begin a new segment file after this.")
@option("--retention-bytes", type=SizeType(), help="Remove old segments above this size. [default: keep all]")
@option("--retention-age", "retention_s", type=DURATION, help="Remove segments older, e.g. 7d. [default: keep all]")
@option(
    "--scrub-interval",
    "scrub_interval_s",
    type=IntervalType(),
    default="7d",
    help="Read and check the whole log once in this time; damage is repaired from other replicas. off: never.",
)
@option("--max-record-bytes", type=SizeType(1, MAX_BATCH_BYTES), default="1MiB", help="Refuse larger records.")
@option("--max-batch-bytes", type=SizeType(1, MAX_BATCH_BYTES), default="8MiB", help="Refuse larger batches.")
@option("--fetch-max-bytes", type=SizeType(1, MAX_BATCH_BYTES), default="4MiB", help="How much one pull brings.")
@option("--probe-interval", "probe_interval_s", type=DURATION, default="500ms", help="Gossip: one probe this often.")
@option("--suspicion", "suspicion_s", type=DURATION, default="2.5s", help="Gossip: suspected this long, then failed.")
@option("--log-level", type=click.Choice(LEVELS), default="info", help="The least that is logged.")
@option("--log-format", type=click.Choice(FORMATS), default="auto", help="auto: text on a terminal, else JSON.")
@option(
    "--ready-file", type=click.Path(dir_okay=False), help="Write the addresses here as JSON once the node has started."
)
@option("--drain-timeout", "drain_s", type=DURATION, default="10s", help="How long stopping waits for open calls.")
@option("--exit-with-parent", is_flag=True, hidden=True, help="Stop when standard input ends.")
def node(
    *,
    log_level: str,
    log_format: str,
    ready_file: str | None,
    drain_s: float,
    exit_with_parent: bool,
    advertise_rpc_addr: str | None,
    advertise_gossip_addr: str | None,
    advertise_peer_addr: str | None,
    **settings: Any,
) -> int:
    """Run one node in the foreground."""
    config = node_config(**settings)
    # gRPC's C core writes to stderr by itself, and would break a log that is JSON.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from ourolog.logs import configure_logs
    from ourolog.node_runner import NodeRunner
    from ourolog.rpc.event_loops import run
    from ourolog.rpc.open_files import raise_open_files_limit

    raise_open_files_limit()
    configure_logs(log_level, log_format)
    runner = NodeRunner(
        config,
        advertise_rpc_addr=advertise_rpc_addr,
        advertise_gossip_addr=advertise_gossip_addr,
        advertise_peer_addr=advertise_peer_addr,
        ready_file=ready_file,
        drain_s=drain_s,
        exit_with_parent=exit_with_parent,
    )
    return run(runner.run())


def node_config(
    *,
    acks: str,
    cycle: str,
    fsync: str,
    probe_interval_s: float,
    suspicion_s: float,
    own_peer_addr: str | None = None,
    **settings: Any,
) -> NodeConfig:
    """The flags as a NodeConfig. Raises click.UsageError, which names the flag, for what no node can be."""
    try:
        return NodeConfig(
            acks=Acks[acks.upper()],
            cycle=Cycle(cycle),
            fsync=Fsync(fsync),
            own_peer_addr=own_peer_addr or "",
            gossip=GossipConfig(
                probe_interval_s=probe_interval_s, probe_timeout_s=probe_interval_s / 2, suspicion_s=suspicion_s
            ),
            **settings,
        )
    except InvalidFieldError as error:
        raise click.UsageError(f"{error.sentence(_flag_of)}.") from error


def _flag_of(field_name: str) -> str:
    """The flag that sets this field of a node's configuration; the field's own name if none does."""
    flags = {parameter.name: f"--{flag_name(parameter)}" for parameter in node.params}
    return flags.get(field_name, field_name)

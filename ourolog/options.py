"""Flags: how every one of them is made, and those that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ourolog.actors.config import MAX_FOUNDERS, Cycle, Fsync
from ourolog.actors.messages.values import Acks
from ourolog.configuration import load_file
from ourolog.parameters import ADDRESSES, DURATION

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ADDR = "127.0.0.1:8400"


class RunningError(click.ClickException):
    """Something went wrong while running: one clear line, and exit status 1."""

    exit_code = 1


def option(*declarations: str, **attributes: Any) -> Callable[[F], F]:
    """A flag that is also an environment variable: `OUROLOG_` and the flag's name.

    The variable has the same name for every command that has the flag, so it is not click's
    automatic one, which would be OUROLOG_NODE_NODE_ID.
    """
    flag = max((name.split("/")[0] for name in declarations if name.startswith("--")), key=len)
    attributes.setdefault("envvar", "OUROLOG_" + flag[2:].replace("-", "_").upper())
    attributes.setdefault("show_envvar", not attributes.get("hidden", False))
    attributes.setdefault("show_default", True)
    return click.option(*declarations, **attributes)


def config_option(command: F) -> F:
    """`--config FILE`: defaults for all the other flags of the command."""

    def load(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
        if path is not None and not ctx.resilient_parsing:
            ctx.default_map = {**(ctx.default_map or {}), **load_file(path, ctx)}

    decorate = click.option(
        "--config",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        envvar="OUROLOG_CONFIG",
        show_envvar=True,
        is_eager=True,  # the other flags look up their defaults in what this one loads
        expose_value=False,
        callback=load,
        help="TOML file with values for these flags. Flags and variables beat it.",
    )
    return decorate(command)


def election_option(**attributes: Any) -> Callable[[F], F]:
    """`--election`, for every command that has it. What follows the colon is the occupant's to read."""
    return option("--election", metavar="none|raft[:VOTER,…]|static:LEADER[,VOTER…]|NAME[:ARGUMENT]", **attributes)


def replicas_options(command: F) -> F:
    """How many nodes vote, and when one that is gone is replaced: the flags that `node` and `dev` share."""
    for decorate in (
        option(
            "--replace-after",
            "replace_after_s",
            type=DURATION,
            default="10m",
            help="Where voters elect: a voter that is gone for so long is replaced by a node that stands by.",
        ),
        option(
            "--replicas",
            type=click.IntRange(1, MAX_FOUNDERS),
            default=3,
            help="Where voters elect: so many nodes vote and have all that was acknowledged; others stand by, and take "
            "the place of one that is gone. More if --election names more. The same on all nodes.",
        ),
    ):
        command = decorate(command)
    return command


def replication_options(command: F) -> F:
    """What becomes of copies, and when a record is safe: the flags that `node` and `dev` share."""
    for decorate in (
        option(
            "--fsync",
            type=click.Choice([when.value for when in Fsync]),
            default=Fsync.ALWAYS.value,
            help="always: acknowledge after fsync. interval: what rests on one node alone is acknowledged when "
            "written, and a power cut may cost the interval; a quorum still means disks, and waits for the next sync.",
        ),
        option(
            "--acks",
            type=click.Choice([acks.name.lower() for acks in Acks if acks is not Acks.DEFAULT]),
            default=Acks.QUORUM.name.lower(),
            help="Whose disks a record must be on before it is acknowledged; a client may ask for another.",
        ),
        option(
            "--min-in-sync",
            metavar="N",
            type=click.IntRange(1),
            help="With all: do not wait for voters that are silent, as long as N have the record. "
            "[default: wait for every voter]",
        ),
        option(
            "--max-hops", type=click.IntRange(1, 255), default=16, help="With --cycle allow: how far a copy travels."
        ),
        option(
            "--cycle",
            type=click.Choice([cycle.value for cycle in Cycle]),
            default=Cycle.BREAK.value,
            help="With nobody elected: append each record once (break), or every copy that comes round (allow).",
        ),
    ):
        command = decorate(command)
    return command


def client_options(command: F) -> F:
    """Where to, and for how long: the flags of every command that is a client."""
    command = option(
        "--timeout",
        "timeout_s",
        type=DURATION,
        default="5s",
        help="How long to try before giving up, retries included.",
    )(command)
    return option(
        "--addr",
        "addresses",
        type=ADDRESSES,
        multiple=True,
        default=(DEFAULT_ADDR,),
        callback=lambda _, __, values: tuple(dict.fromkeys(addr for value in values for addr in value)),
        help="gRPC address of any node, or of several: repeated, or with commas. Where one does not answer, another "
        "is asked; the client finds the leader by itself.",
    )(command)

"""The `ourolog` command: one group, one module a subcommand."""

from __future__ import annotations

import os
import sys

import click

from ourolog import __version__
from ourolog.commands.cluster import cluster
from ourolog.commands.completion import completion
from ourolog.commands.consume import consume
from ourolog.commands.cycle import cycle
from ourolog.commands.dev import dev
from ourolog.commands.node import node
from ourolog.commands.produce import produce
from ourolog.commands.simulate import simulate
from ourolog.commands.status import status
from ourolog.exit_statuses import BROKEN_PIPE, INTERRUPTED

EPILOG = """
\b
Examples:
  ourolog dev                               a cluster of three on this machine
  ourolog produce "hello"                   append a record, print its offset
  ourolog consume --follow                  read all records, then wait for more
  ourolog status                            who is there, who leads, who pulls from whom
  ourolog cycle                             replication without a leader, shown on real nodes

Every flag can also be set as an environment variable (OUROLOG_ and the flag's
name) or in a TOML file (--config FILE): a flag beats the environment, which
beats the file, which beats the default.

Exit status: 0 well, 1 an error while running, 2 a wrong flag or argument.
"""


class _QuietGroup(click.Group):
    """Ctrl-C, and a reader that went away (`ourolog consume | head -1`), are ends and not errors.

    They exit with the status that the signal would have given, without a word. Click's own
    handling prints a line for the one and exits 1 for both.
    """

    def invoke(self, ctx: click.Context) -> object:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            # The interpreter flushes once more at its end, and would complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(BROKEN_PIPE)
        return result


@click.group(
    cls=_QuietGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EPILOG
)
@click.version_option(__version__, "--version", prog_name="ourolog", message="%(prog)s %(version)s")
def cli() -> None:
    """A replicated commit log: nodes discover each other, copy, and are called over gRPC."""


for command in (node, dev, produce, consume, status, cluster, cycle, simulate, completion):
    cli.add_command(command)

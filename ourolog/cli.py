"""The `ourolog` command: one group, one module a subcommand, loaded when it is run."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final

import click

from ourolog import __version__
from ourolog.exit_statuses import BROKEN_PIPE, INTERRUPTED

SUMMARIES: Final = {
    "cluster": "Change who leads, and who votes, or recover from the loss of most disks.",
    "completion": "Print the completion script for SHELL.",
    "consume": "Print the records of the log, one a line.",
    "cycle": "Show the replication cycle on real nodes.",
    "dev": "Run a cluster on this machine and watch it live.",
    "node": "Run one node in the foreground.",
    "produce": "Append records, print their offsets.",
    "simulate": "Simulate a cluster under faults, from a seed.",
    "status": "Show who is there, leads, and pulls.",
}
"""The subcommands, each with the first sentence of its help, so that they can be listed without loading any."""

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


def load_command(name: str) -> click.Command:
    """The subcommand of that name, from its module."""
    command = getattr(import_module(f"ourolog.commands.{name}"), name)
    assert isinstance(command, click.Command)
    return command


class _QuietLazyGroup(click.Group):
    """A group that loads a command when it is run, and ends without a word where nothing is wrong.

    Ctrl-C, and a reader that went away (`ourolog consume | head -1`), are ends and not errors. They exit with the
    status that the signal would have given. Click's own handling prints a line for the one and exits 1 for both.
    """

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        return load_command(cmd_name) if cmd_name in self.commands else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # A plain group lists what it is given. This one would load each command first.
        click.Group(commands=self.commands).format_commands(ctx, formatter)

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
    cls=_QuietLazyGroup,
    commands={name: click.Command(name, help=summary) for name, summary in SUMMARIES.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(__version__, "--version", prog_name="ourolog", message="%(prog)s %(version)s")
def cli() -> None:
    """A replicated commit log: nodes discover each other, copy, and are called over gRPC."""

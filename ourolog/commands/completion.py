"""`ourolog completion`: the script that teaches a shell to complete the command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

EPILOG = """
\b
Examples:
  eval "$(ourolog completion bash)"                          this bash only
  ourolog completion zsh > ~/.zfunc/_ourolog                 every zsh
  ourolog completion fish > ~/.config/fish/completions/ourolog.fish
"""


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL."""
    complete = get_completion_class(shell)
    assert complete is not None, "click knows the three shells of the choice"
    click.echo(complete(ctx.find_root().command, {}, "ourolog", "_OUROLOG_COMPLETE").source())

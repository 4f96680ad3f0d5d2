"""`python -m ourolog`, and where the `ourolog` command begins."""

from __future__ import annotations

import os
import sys

from ourolog.exit_statuses import INTERRUPTED


def main() -> None:
    """Run the command and exit: 0 well, 1 an error while running, 2 a wrong use of it."""
    # For the Python processes that it starts, those of a sweep too: a user's own logging.py in the directory that
    # the command is called in is none of theirs.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        sys.exit(_run())
    except KeyboardInterrupt:  # before the command has begun: most of a short one's time goes into loading modules
        sys.exit(INTERRUPTED)


def _run() -> int:
    import click

    from ourolog.cli import cli

    try:
        code = cli.main(prog_name="ourolog", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except OSError as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()

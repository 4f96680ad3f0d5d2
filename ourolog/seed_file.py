"""Seeds kept in a file: one run a line, its options and the version they mean something in.

    # lost a record, 2026-03-01
    version=2 seed=7 nodes=3 election=none …

Lines that begin with # are comments.
"""

from __future__ import annotations

from ourolog.simulation.options import Options, OtherVersionError


class SeedFileError(ValueError):
    """The file cannot be used; the message names it, the line and the reason."""


def read_seeds(path: str) -> list[Options]:
    """All runs in the file. Raises SeedFileError: no such file, nothing in it, or a line of another version."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise SeedFileError(f"cannot read the seed file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SeedFileError(f"{path} is no seed file: it is not text") from error
    runs = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            runs.append(Options.parse(line))
        except OtherVersionError as error:
            raise SeedFileError(f"{path}, line {number}: {error}") from error
        except ValueError as error:
            raise SeedFileError(f"{path}, line {number}: {error}") from error
    if not runs:
        raise SeedFileError(f"{path} names no seed")
    return runs


def write_seed(path: str, options: Options, why: str) -> None:
    """Put one run into the file, with a comment. Raises OSError."""
    reason = " ".join(why.split())
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"# {reason}\n{options.to_text()}\n")

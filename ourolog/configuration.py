"""The TOML file behind `--config`: the third place a flag's value can come from.

A flag beats its environment variable, which beats the file, which beats the default. Keys are the
flags' names, with dashes or underscores. Those at the top hold for every command that has such a
flag; a table named after a command holds for that command and beats the top:

    cluster = "orders"
    fsync = "always"

    [node]
    join = ["10.0.0.1:8401", "10.0.0.2:8401"]

A key that no flag answers to is an error, never ignored: a misspelt `retension-bytes` would
otherwise be noticed when the disk is full.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from typing import Any

import click

_NOT_IN_A_FILE = frozenset({"config", "help", "version"})


class ConfigurationError(click.UsageError):
    """The file cannot be used; the message names the file, the key and what would have been right."""


def flag_name(parameter: click.Parameter) -> str:
    """The long flag of an option without its dashes, e.g. `data-dir`; "" for an argument."""
    if not isinstance(parameter, click.Option):
        return ""
    return max(parameter.opts, key=len).removeprefix("--")


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Flag name to option, for everything about this command that a file may say."""
    return {
        flag_name(parameter): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and flag_name(parameter) not in _NOT_IN_A_FILE
    }


def load_file(path: str, ctx: click.Context) -> dict[str, Any]:
    """Defaults for the command of `ctx` from the file at `path`: parameter name to checked value.

    Raises ConfigurationError for a file that cannot be read, is not TOML, has a key that no flag
    answers to, or a value that its flag would refuse.
    """
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration file {path}: {error.strerror}.", ctx) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.", ctx) from error
    return _defaults(path, document, ctx)


def _defaults(path: str, document: dict[str, Any], ctx: click.Context) -> dict[str, Any]:
    root = ctx.find_root().command
    options: dict[str, dict[str, click.Option]] = {}
    if isinstance(root, click.Group):
        for name in root.list_commands(ctx):
            command = root.get_command(ctx, name)
            assert command is not None, "a group has the commands that it lists"
            options[name] = options_of(command)
    anywhere = {flag for flags in options.values() for flag in flags}

    at_the_top: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            if key not in options:
                raise _unknown(path, f"table [{key}]", key, options, ctx)
            tables[key] = value
        else:
            flag = key.replace("_", "-")
            if flag not in anywhere:
                raise _unknown(path, f"key {key!r}", flag, anywhere, ctx)
            at_the_top[flag] = value
    for name, table in tables.items():
        for key in table:
            if key.replace("_", "-") not in options[name]:
                raise _unknown(path, f"key {key!r} in [{name}]", key.replace("_", "-"), options[name], ctx)

    mine = options_of(ctx.command)
    chosen = {flag: (flag, value) for flag, value in at_the_top.items() if flag in mine}
    for key, value in tables.get(ctx.command.name or "", {}).items():
        chosen[key.replace("_", "-")] = (f"{key} in [{ctx.command.name}]", value)
    return {
        mine[flag].name or flag: _checked(path, where, value, mine[flag], ctx)
        for flag, (where, value) in chosen.items()
    }


def _unknown(path: str, what: str, typed: str, valid: Iterable[str], ctx: click.Context) -> ConfigurationError:
    nearest = difflib.get_close_matches(typed, sorted(valid), n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"see `{ctx.command_path} --help` for the flags."
    return ConfigurationError(f"{path} has an unknown {what}: {hint}", ctx)


def _checked(path: str, where: str, value: object, option: click.Option, ctx: click.Context) -> object:
    """The value as the flag would take it, so that a bad one is reported with the file's name."""
    if option.multiple:
        value = value if isinstance(value, list) else [value]
    elif isinstance(value, list):
        raise ConfigurationError(f"{path}: {where} takes one value, not a list.", ctx)
    if option.is_flag and not isinstance(value, bool):
        raise ConfigurationError(f"{path}: {where} must be true or false, not {value!r}.", ctx)
    try:
        option.type_cast_value(ctx, value)
    except click.BadParameter as error:
        raise ConfigurationError(f"{path}: {where}: {error.message}", ctx) from error
    return value

"""One public name: everything is imported as `ourolog.…`; `from ourolog import …` has all that a client needs."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ourolog
from ourolog import BlockingLogClient, LogClient
from ourolog.rpc import client_errors
from tests.installed import ROOT, Installed

FOLDERS = ("actors", "rpc", "simulation", "storage")

THEIR_PROGRAM = """
import asyncio
from typing import assert_type

from ourolog import BlockingLogClient, LogClient, LogError


async def main() -> None:
    async with LogClient(["127.0.0.1:8400"], on_retry=lambda error: print(error.reason)) as log:
        assert_type(await log.produce(b"hello"), int)
        async for record in log.consume_stream(0):
            assert_type(record.value, bytes)
            if record.provenance is not None:
                assert_type(record.provenance.path, tuple[str, ...])


def blocking() -> None:
    try:
        with BlockingLogClient() as log:
            assert_type([server.is_leader for server in log.get_servers()], list[bool])
    except LogError as error:
        assert_type(error.retry_after_s, float | None)


asyncio.run(main())
"""


def ours_in(annotation: Any) -> set[type]:
    """The classes of ours that a type mentions, and those that their fields and properties mention."""
    if isinstance(annotation, list):  # the parameters of a Callable
        return {found for part in annotation for found in ours_in(part)}
    found = {one for part in typing.get_args(annotation) for one in ours_in(part)}
    if inspect.isclass(annotation) and annotation.__module__.startswith("ourolog"):
        getters = [value.fget for value in vars(annotation).values() if isinstance(value, property)]
        for holder in (annotation, *getters):
            found |= {one for hint in typing.get_type_hints(holder).values() for one in ours_in(hint)}
        found.add(annotation)
    return found


@pytest.mark.parametrize("cls", [LogClient, BlockingLogClient])
def test_whatever_a_client_takes_or_gives_can_be_imported_from_ourolog(cls: type) -> None:
    calls = [call for name, call in inspect.getmembers(cls, callable) if name == "__init__" or name[0] != "_"]
    hints = [hint for call in calls for hint in typing.get_type_hints(call).values()]
    named = {one.__name__ for hint in hints for one in ours_in(hint)}
    assert {"Acks", "LogRecord", "Provenance", "ServerInfo"} <= named
    assert named <= set(ourolog.__all__)


def test_whatever_a_client_raises_can_be_imported_from_ourolog() -> None:
    classes = [value for value in vars(client_errors).values() if inspect.isclass(value)]
    assert {one.__name__ for one in classes if issubclass(one, Exception)} <= set(ourolog.__all__)


def test_every_name_is_there_is_listed_and_is_what_its_own_module_has() -> None:
    assert set(ourolog.__all__) <= set(dir(ourolog))
    for name in set(ourolog.__all__) - {"__version__"}:
        value = getattr(ourolog, name)
        assert value is getattr(sys.modules[value.__module__], name)
    with pytest.raises(AttributeError, match="has no attribute 'LogCleint'"):
        _ = ourolog.LogCleint


def mypy(installed: Installed, directory: Path, program: str) -> str:
    (directory / "program.py").write_text(program)
    cache = str(installed.directory / "mypy-cache")
    words = (sys.executable, "-P", "-m", "mypy", "--strict", "--cache-dir", cache)
    done = installed.run(*words, "--python-executable", installed.python, "program.py", cwd=directory)
    return done.stdout + done.stderr


def test_type_checkers_see_all_of_it(installed: Installed, their_directory: Path) -> None:
    kinds = {name: type(getattr(ourolog, name)) for name in ourolog.__all__}
    imports = f"from ourolog import {', '.join(ourolog.__all__)}\n"
    uses = [f"def use_{name}(value: {name}) -> None: ...\n" for name, kind in kinds.items() if issubclass(kind, type)]
    assert len(uses) >= 8
    assert "Success" in mypy(installed, their_directory, THEIR_PROGRAM + imports + "".join(uses))
    assert "Success" not in mypy(installed, their_directory, "from ourolog import LogCleint\n")
    assert "Success" not in mypy(installed, their_directory, THEIR_PROGRAM.replace("value, bytes", "value, str"))


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    "statement", ["import {}", "import {}.types", "from {} import types", "from {}.types import Index"]
)
def test_the_names_of_the_folders_are_banned(folder: str, statement: str) -> None:
    words = ["ruff", "check", "--select", "TID251", "--no-cache", "--stdin-filename", "ourolog/new.py", "-"]
    snippet = statement.format(folder)
    done = subprocess.run(
        [sys.executable, "-P", "-m", *words], input=snippet, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert f"import ourolog.{folder}" in done.stdout


def test_the_links_to_the_folders_are_relative_and_committed() -> None:
    for folder in FOLDERS:
        assert os.readlink(ROOT / "ourolog" / folder) == f"../{folder}"
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    words = ["git", "ls-files", "--stage", "--", *(f"ourolog/{folder}" for folder in FOLDERS)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["120000"] * len(FOLDERS)


def sources() -> Iterator[Path]:
    for folder in (*FOLDERS, "ourolog", "bench", "examples", "mutants", "tests", "torture", ".ci"):
        yield from (path for path in (ROOT / folder).rglob("*.py") if "v1" not in path.parts)


def test_no_python_process_is_started_with_the_working_directory_on_its_path() -> None:
    """In a command line, -P follows the interpreter."""
    found = 0
    for path in sources():
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "sys.executable" in text else ():
            words = node.elts if isinstance(node, ast.List | ast.Tuple) else getattr(node, "args", [])
            unparsed = [ast.unparse(word) for word in words] if isinstance(words, list) else []
            if len(unparsed) > 1 and "sys.executable" in unparsed:
                found += 1
                assert unparsed[unparsed.index("sys.executable") + 1 :][:1] == ["'-P'"], f"{path}:{node.lineno}"
    assert found > 10

"""The command as a person meets it: help, exit status, one clear line when something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import click
import pytest

from ourolog import __version__
from ourolog.__main__ import main
from ourolog.cli import SUMMARIES, cli, load_command

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(SUMMARIES)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples_or_says_what_it_does(command: str) -> None:
    context = click.Context(cli, info_name="ourolog")
    loaded = load_command(command)
    with click.Context(loaded, info_name=command, parent=context) as mine:
        text = loaded.get_help(mine)
    assert f"ourolog {command}" in text
    assert "Examples:" in text or command == "cycle"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_on_standard_output_and_exits_0(run: Run, flag: str) -> None:
    done = run("node", flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert "OUROLOG_NODE_ID" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_listed_as_its_own_help_begins(command: str) -> None:
    listed = cli.commands[command]
    for limit in (20, 45, 200):
        assert listed.get_short_help_str(limit) == load_command(command).get_short_help_str(limit)


def test_each_module_of_a_command_is_listed() -> None:
    modules = {path.stem for path in (ROOT / "ourolog" / "commands").glob("*.py")}
    assert modules - {"__init__", "recover"} == set(SUMMARIES)  # recover is a command of `ourolog cluster`


def test_version_is_the_packages(run: Run) -> None:
    assert version("ourolog") == __version__
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"ourolog {__version__}\n")


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["node"],
        ["node", "--node-id", "n1"],
        ["node", "--node-id", "n 1", "--data-dir", "d"],
        ["node", "--node-id", "n1", "--data-dir", "d", "--election", "raffle"],
        ["node", "--node-id", "n1", "--data-dir", "d", "--rpc-addr", "nowhere"],
        ["node", "--node-id", "n1", "--data-dir", "d", "--max-record-bytes", "9MiB"],
        ["node", "--no-such-flag"],
        ["dev", "--nodes", "0"],
        ["dev", "--election", "static:n9"],
        ["consume", "--from", "-1"],
        ["consume", "--output", "xml"],
        ["status", "--output", "raw"],
        ["status", "extra"],
        ["completion", "tcsh"],
        ["status", "--config", "/no/such/file.toml"],
    ],
    ids=" ".join,
)
def test_a_wrong_use_exits_2_and_says_what_is_wrong_without_a_traceback(words: list[str], run: Run) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_what_no_node_can_be_exits_2_with_a_sentence_that_names_its_flags(run: Run) -> None:
    asked = ["node", "--node-id", "n1", "--data-dir", "d", "--max-record-bytes", "2MiB", "--max-batch-bytes", "1MiB"]
    refused = run(*asked)
    assert refused.returncode == 2
    assert "--max-record-bytes is 2097152 and --max-batch-bytes only 1048576: such a record would fit no batch." in (
        " ".join(refused.stderr.split())
    )


def test_node_and_dev_take_the_same_flags_where_they_mean_the_same() -> None:
    node, dev = (
        {option.name: option.to_info_dict() for option in load_command(name).params} for name in ("node", "dev")
    )
    assert {name for name in node if node[name] == dev.get(name)} >= {"cycle", "max_hops", "acks", "fsync"}


@pytest.mark.parametrize("command", ["produce", "consume", "status", "cluster transfer-leader"])
def test_a_client_that_reaches_nobody_exits_1_with_one_line(command: str, run: Run, unused_addr: str) -> None:
    words = [*command.split(), "x"] if command in {"produce", "cluster transfer-leader"} else [command]
    done = run(*words, "--addr", unused_addr, "--timeout", "200ms")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert unused_addr in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_for_the_shell(shell: str, run: Run) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert "_OUROLOG_COMPLETE" in done.stdout


def test_completion_knows_commands_and_flags(run: Run) -> None:
    done = run(_OUROLOG_COMPLETE="bash_complete", COMP_WORDS="ourolog consume --pro", COMP_CWORD="2")
    assert done.stdout.split() == ["plain,--provenance"]


def test_the_readme_lists_every_flag_of_a_node() -> None:
    readme = (ROOT / "README.md").read_text()
    for parameter in load_command("node").params:
        if isinstance(parameter, click.Option) and not parameter.hidden and parameter.name != "config":
            assert f"`{parameter.opts[0]}" in readme


def test_importing_the_package_does_not_load_grpc(run_python: Callable[[str], str]) -> None:
    assert run_python("import sys, ourolog; print('grpc' in sys.modules)") == "False\n"
    assert run_python("import sys, ourolog.cli; print('grpc' in sys.modules)") == "False\n"
    assert run_python("from ourolog import LogClient; print(LogClient.__name__)") == "LogClient\n"


def test_to_list_the_commands_none_of_them_is_loaded(run_python: Callable[[str], str]) -> None:
    program = """
import sys
from ourolog.cli import cli
cli.main(["--help"], standalone_mode=False)
print([module for module in sys.modules if module.startswith(("ourolog.commands", "ourolog.actors", "rich"))])
"""
    *shown, loaded = run_python(program).splitlines()
    assert "  node        Run one node in the foreground." in shown
    assert loaded == "[]"


LOADS = """
import sys
{program}
print([module for module in {modules} if module in sys.modules])
"""


def test_a_node_whose_log_nobody_watches_loads_nothing_that_draws(run_python: Callable[[str], str]) -> None:
    program = """
import ourolog.commands.node, ourolog.node_runner
from ourolog.logs import configure_logs
configure_logs("info", "auto")
"""
    modules = ("rich", "structlog", "pygments", "importlib.metadata", "ourolog.simulation", "ourolog.local_cluster")
    assert run_python(LOADS.format(program=program, modules=modules)) == "[]\n"


def test_a_client_loads_nothing_that_draws_and_nothing_that_elects(run_python: Callable[[str], str]) -> None:
    program = "import ourolog.commands.consume, ourolog.commands.produce, ourolog.rpc.client"
    modules = ("rich", "structlog", "pygments", "importlib.metadata", "ourolog.actors.occupants")
    assert run_python(LOADS.format(program=program, modules=modules)) == "[]\n"


@pytest.mark.parametrize("module", ["click", "ourolog.cli", "ourolog.commands.status"])
def test_ctrl_c_while_the_command_is_loaded_ends_it_without_a_word(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == module:
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted, *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["ourolog", "status"])
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_while_the_flags_are_read_ends_it_as_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "make_context", Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130

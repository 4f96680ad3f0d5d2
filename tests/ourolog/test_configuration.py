"""Where a flag's value comes from: the command line, the environment, the file, the default, in this order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ourolog.cli import SUMMARIES, cli, load_command

# flag, variable, key: (file's value, expected), (environment's, expected), (flag's, expected), parameter, default
CASES = [
    ("--cluster", "cluster", ("blue", "blue"), ("green", "green"), ("red", "red"), "ourolog"),
    ("--fsync-interval", "fsync_interval_s", ("1s", 1.0), ("20ms", 0.02), ("3m", 180.0), 0.1),
    ("--segment-bytes", "segment_bytes", (8192, 8192), ("1MiB", 1 << 20), ("16k", 16384), 64 << 20),
    ("--min-in-sync", "min_in_sync", (2, 2), ("3", 3), ("1", 1), None),
    ("--max-hops", "max_hops", (5, 5), ("6", 6), ("7", 7), 16),
    ("--join", "join", (["a:1", "b:2"], ("a:1", "b:2")), ("c:3,d:4", ("c:3", "d:4")), ("e:5", ("e:5",)), ()),
    ("--cycle", "cycle", ("allow", "allow"), ("break", "break"), ("allow", "allow"), "break"),
    ("--bootstrap-expect", "bootstrap_expect", (3, 3), ("5", 5), ("1", 1), None),
    ("--election-timeout", "election_timeout_s", ("2s", 2.0), ("500ms", 0.5), ("3", 3.0), 1.0),
    ("--retention-age", "retention_s", ("7d", 604800.0), ("12h", 43200.0), ("90", 90.0), None),
]

Parse = Callable[..., dict[str, Any]]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Parse a command line as the real command does, and give the values that the command would get."""
    monkeypatch.setenv("OUROLOG_NODE_ID", "n1")
    monkeypatch.setenv("OUROLOG_DATA_DIR", "/nowhere")

    def parse(*words: str, command: str = "node") -> dict[str, Any]:
        parent = click.Context(cli, info_name="ourolog")
        return dict(load_command(command).make_context(command, list(words), parent=parent).params)

    return parse


def variable_of(flag: str) -> str:
    return "OUROLOG_" + flag[2:].replace("-", "_").upper()


def toml_of(value: object) -> str:
    return repr(value).replace("'", '"')


@pytest.mark.parametrize(("flag", "name", "in_file", "in_environment", "typed", "default"), CASES)
def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(
    parse: Parse,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    flag: str,
    name: str,
    in_file: tuple[object, object],
    in_environment: tuple[str, object],
    typed: tuple[str, object],
    default: object,
) -> None:
    file = tmp_path / "ourolog.toml"
    file.write_text(f"{flag[2:]} = {toml_of(in_file[0])}\n")
    assert parse()[name] == default
    assert parse("--config", str(file))[name] == in_file[1]
    monkeypatch.setenv(variable_of(flag), in_environment[0])
    assert parse("--config", str(file))[name] == in_environment[1]
    assert parse("--config", str(file), flag, typed[0])[name] == typed[1]


def test_every_flag_of_every_command_has_a_variable_named_after_it() -> None:
    for name in SUMMARIES:
        for parameter in load_command(name).params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                flag = max(parameter.opts, key=len)
                assert parameter.envvar == variable_of(flag), f"{name} {flag}"


def test_addresses_are_one_list_however_they_are_given(
    parse: Parse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ourolog.toml"
    from_file = ("--config", str(file))
    for command in ("produce", "consume", "status"):
        assert parse(command=command)["addresses"] == ("127.0.0.1:8400",)
        for in_file in ('["a:1", "b:2"]', '"a:1,b:2"', '["a:1, b:2", "a:1"]'):
            file.write_text(f"addr = {in_file}\n")
            assert parse(*from_file, command=command)["addresses"] == ("a:1", "b:2")
        with monkeypatch.context() as environment:
            environment.setenv("OUROLOG_ADDR", "c:3,d:4 e:5")
            assert parse(*from_file, command=command)["addresses"] == ("c:3", "d:4", "e:5")
            flags = ("--addr", "f:6,g:7", "--addr", "h:8", "--addr", "f:6")
            assert parse(*from_file, *flags, command=command)["addresses"] == ("f:6", "g:7", "h:8")
        file.write_text('addr = ["a:1", "b"]\n')
        with pytest.raises(click.UsageError, match="addr: 'b' is not HOST:PORT"):
            parse(*from_file, command=command)


def test_the_file_can_be_named_by_the_environment(
    parse: Parse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ourolog.toml"
    file.write_text('cluster = "blue"\n')
    monkeypatch.setenv("OUROLOG_CONFIG", str(file))
    assert parse()["cluster"] == "blue"


def test_a_table_beats_the_top_and_holds_for_its_command_only(parse: Parse, tmp_path: Path) -> None:
    file = tmp_path / "ourolog.toml"
    file.write_text('fsync = "always"\ncycle = "allow"\n[node]\nfsync = "interval"\n')
    assert parse("--config", str(file))["fsync"] == "interval"
    assert parse("--config", str(file), command="dev")["fsync"] == "always"
    assert parse("--config", str(file), command="dev")["cycle"] == "allow"


def test_a_key_may_be_written_with_underscores(parse: Parse, tmp_path: Path) -> None:
    file = tmp_path / "ourolog.toml"
    file.write_text("max_hops = 9\n")
    assert parse("--config", str(file))["max_hops"] == 9


def test_a_single_value_does_for_a_repeatable_flag(parse: Parse, tmp_path: Path) -> None:
    file = tmp_path / "ourolog.toml"
    file.write_text('join = "a:1"\n')
    assert parse("--config", str(file))["join"] == ("a:1",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("retension-bytes = 5\n", ["'retension-bytes'", "did you mean 'retention-bytes'?"]),
        ("[node]\nsegmnt-bytes = 5\n", ["'segmnt-bytes' in [node]", "did you mean 'segment-bytes'?"]),
        ("[nod]\n", ["table [nod]", "did you mean 'node'?"]),
        ("[node]\nnodes = 5\n", ["'nodes' in [node]"]),
        ("zzzzzz = 5\n", ["'zzzzzz'", "ourolog node --help"]),
        ('fsync = "sometimes"\n', ["fsync", "'sometimes' is not one of 'always', 'interval'"]),
        ('segment-bytes = "lots"\n', ["segment-bytes", "'lots' is not a size"]),
        ("cluster = [1, 2]\n", ["cluster", "one value"]),
        ("[consume]\n[node]\nfsync = 1\n", ["fsync in [node]"]),
        ("cluster = \n", ["not valid TOML"]),
    ],
)
def test_a_file_that_cannot_be_used_is_a_usage_error_that_names_file_and_key(
    parse: Parse, tmp_path: Path, content: str, said: list[str]
) -> None:
    file = tmp_path / "ourolog.toml"
    file.write_text(content)
    with pytest.raises(click.UsageError) as caught:
        parse("--config", str(file))
    message = caught.value.format_message()
    for part in [str(file), *said]:
        assert part in message
    assert caught.value.exit_code == 2


def test_a_flag_that_is_on_or_off_takes_true_or_false_from_the_file(parse: Parse, tmp_path: Path) -> None:
    file = tmp_path / "ourolog.toml"
    file.write_text("follow = true\n")
    assert parse("--config", str(file), command="consume")["follow"] is True
    file.write_text('follow = "perhaps"\n')
    with pytest.raises(click.UsageError, match="follow must be true or false"):
        parse("--config", str(file), command="consume")


def test_a_missing_file_is_a_usage_error(parse: Parse, tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=r"cannot read .*absent\.toml: No such file"):
        parse("--config", str(tmp_path / "absent.toml"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--suspicion", "0"], "--suspicion must be greater than 0 and finite"),
        (["--probe-interval", "0s"], "--probe-interval must be greater than 0 and finite"),
        (["--cluster", ""], "--cluster must be a name"),
        (["--retention-age", "9" * 400], "--retention-age must be 0 or more and less than for ever"),
        (["--max-record-bytes", "16MiB"], "--max-record-bytes is 16777216 and --max-batch-bytes only 8388608"),
    ],
)
def test_what_no_node_can_be_is_a_usage_error_that_names_the_flag(words: list[str], said: str) -> None:
    done = CliRunner().invoke(cli, ["node", "--node-id", "n1", "--data-dir", "/nowhere", *words])
    assert done.exit_code == 2
    assert said in done.output

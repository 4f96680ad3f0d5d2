"""The command: who is skipped, what breaks, and one small run of our own nodes that needs neither Go nor Java."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.peers import __main__ as command
from bench.peers import idle
from bench.peers.binaries import MissingError
from bench.peers.pairs import alone
from bench.peers.samples import Span
from bench.peers.session import Outcome, Settings
from bench.peers.summary import plain


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Flags with which a run writes into a folder of this test."""
    monkeypatch.setattr(command, "is_in_memory", lambda _: False)
    return ["--quick", "--directory", str(tmp_path), "--json", str(tmp_path / "run.json")]


def ran(quick: list[str]) -> Any:
    return json.loads(Path(quick[-1]).read_text())


def test_who_is_missing_is_said_and_skipped_and_the_others_are_measured(
    quick: list[str], outcome: Outcome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_: Settings) -> Outcome:
        raise MissingError("there is no java on the PATH")

    monkeypatch.setattr(command, "SESSIONS", {"kafka": missing, "etcd": lambda _: outcome})
    assert command.main(quick) == 0
    run = ran(quick)
    assert run["skipped"] == {"kafka": "there is no java on the PATH"}
    assert [session["name"] for session in run["sessions"]] == ["etcd"]
    assert "kafka was skipped: there is no java on the PATH" in capsys.readouterr().out


@pytest.mark.parametrize(("failure", "said"), [(KeyboardInterrupt, "stopped before"), (RuntimeError, "RuntimeError")])
def test_what_was_measured_before_it_broke_is_kept(
    quick: list[str], outcome: Outcome, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException], said: str
) -> None:
    def breaking(_: Settings) -> Outcome:
        raise failure

    monkeypatch.setattr(command, "SESSIONS", {"etcd": lambda _: outcome, "nats": breaking})
    assert command.main(quick) == 1
    assert said in ran(quick)["broken"]
    assert len(ran(quick)["sessions"]) == 1


def test_data_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "is_in_memory", lambda _: True)
    assert command.main(["--quick"]) == 2
    assert "fsync costs nothing" in capsys.readouterr().err


def test_a_peer_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "etcd,oracle"])
    assert "there is no oracle; there are etcd, nats, redis, kafka" in capsys.readouterr().err


def test_three_nodes_are_caught_up_with_and_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_REST_S", 0)
    settings = Settings(
        directory=str(tmp_path),
        rounds=1,
        span=Span(0, 0.1, 1),
        fill_bytes=0,
        warm_up_s=0,
        idle_s=0.1,
        copied_bytes=200_000,
        few=1_000,
        many=1_000,
        measures=("catchup", "idle"),
        against="",
        say=lambda _: None,
    )
    try:
        found = plain(alone(settings))
    except MissingError as error:
        pytest.skip(str(error))
    assert [one["ratio"]["median"] > 0 for one in found["comparisons"]] == [True, True]
    assert [(each["label"], len(each["percent"])) for each in found["idle"]] == [("ourolog", 3)]
    left = os.listdir(tmp_path / "alone-ourolog")
    assert sorted(name for name in left if not name.endswith(".log")) == ["n1", "n2", "n3"]

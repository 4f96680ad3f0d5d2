"""What a command says while its client tries again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ourolog.retry_notice import RetryNotice
from ourolog.rpc.client_errors import LogError, never_connected


def refused(message: str) -> LogError:
    failure = LogError(message, "UNAVAILABLE", addr="n2:1")
    failure.reason = "LEADER_UNKNOWN"
    return failure


MISSING = refused("2 of 3 voters are missing")
SILENT = never_connected("n1:1", 0.3)


def said(capsys: pytest.CaptureFixture[str], *happened: tuple[float, LogError | None]) -> list[str]:
    """What is said when attempts fail at these times so, or succeed (None)."""

    async def run() -> None:
        notice = RetryNotice()
        loop: Any = asyncio.get_running_loop()
        real = loop.time
        for at_s, failure in happened:
            loop.time = lambda at_s=at_s: at_s
            if failure is None:
                notice.succeeded()
            else:
                notice.failed(failure)
        loop.time = real

    asyncio.run(run())
    return capsys.readouterr().err.splitlines()


def test_nothing_is_said_of_what_passes_quickly(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, (0.0, MISSING), (0.9, SILENT), (1.0, None), (1.1, MISSING), (1.9, MISSING)) == []


def test_what_takes_a_while_is_said_once_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = "Waiting: 2 of 3 voters are missing"
    assert said(capsys, (0.0, MISSING), (1.0, MISSING), (2.0, MISSING)) == [waiting]
    assert said(capsys, (0.0, MISSING), (1.0, MISSING), (2.0, None), (3.0, MISSING), (4.0, MISSING)) == [waiting] * 2


def test_what_a_node_says_of_it_comes_before_that_others_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, (0.0, MISSING), *((1.0 + at, failure) for at in range(4) for failure in (SILENT, MISSING))) == [
        "Waiting: 2 of 3 voters are missing"
    ]
    assert said(capsys, (0.0, SILENT), (1.0, SILENT), (2.0, SILENT)) == [f"Waiting: {SILENT}"]

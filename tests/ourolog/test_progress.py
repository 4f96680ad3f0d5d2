from __future__ import annotations

import io
import sys

import pytest

from ourolog import progress
from ourolog.progress import Progress


class Screen(io.StringIO):
    """A stream that may or may not be a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def drawn(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, shown_after_s: float) -> str:
    screen = Screen(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "_SHOWN_AFTER_S", shown_after_s)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("consumed", 10) as bar:
        bar.advance(3)
        bar.advance(4)
    return screen.getvalue()


def test_a_bar_is_drawn_on_a_terminal_when_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = drawn(monkeypatch, is_terminal=True, shown_after_s=0)
    assert "consumed" in shown
    assert "7/10" in shown


def test_nothing_is_drawn_when_it_is_quick_or_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, is_terminal=True, shown_after_s=1e9) == ""
    assert drawn(monkeypatch, is_terminal=False, shown_after_s=0) == ""

"""What a command waits for while its client tries again, said on standard error once it has taken a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from ourolog.rpc.client_errors import LogError

_NOTICE_AFTER_S: Final = 1.0


class RetryNotice:
    """Says on standard error what is waited for, once it has taken a while: what a node says of it, if one does."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._told: set[str] = set()
        self._has_reason = False

    def failed(self, error: LogError) -> None:
        """An attempt has failed so, and another one will be made."""
        now_s = asyncio.get_running_loop().time()
        if self._since_s is None:
            self._since_s = now_s
        self._has_reason = self._has_reason or bool(error.reason)
        if self._has_reason and not error.reason:
            return  # that another node is silent explains less
        text = str(error)
        if now_s - self._since_s >= _NOTICE_AFTER_S and text not in self._told:
            self._told.add(text)
            click.echo(f"Waiting: {text}", err=True)

    def succeeded(self) -> None:
        """One has succeeded."""
        self._since_s = None
        self._told.clear()
        self._has_reason = False

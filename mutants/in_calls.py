"""Bugs in calls between nodes: who asks, and whether each is answered once."""

from __future__ import annotations

from typing import Any

from mutants.mutant import EVERY, mutant, wrap
from ourolog.actors.replication.pulls import Pulls


@mutant("A fetch names another epoch than that of the fetcher's own log.", EVERY)
def fetch_names_another_epoch() -> None:
    def make(original: Any) -> Any:
        def fetch(self: Pulls, pull: Any) -> None:
            state = self._state
            own, state.log_epoch = state.log_epoch, state.log_epoch ^ 1
            try:
                original(self, pull)
            finally:
                state.log_epoch = own

        return fetch

    wrap(Pulls, "_fetch", make)

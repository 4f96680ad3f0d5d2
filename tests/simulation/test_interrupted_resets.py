"""A crash in the middle of a reset: the claims tell it from a log that lost what was on disk."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.messages.store import ResetLog
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers import ALL
from ourolog.simulation.cluster import Cluster
from ourolog.storage.log import Log
from ourolog.storage.types import Index, NodeId, Offset, Position

N1 = NodeId("n1")


@pytest.mark.parametrize("step", range(0, 24, 2))
def test_a_reset_that_a_power_cut_interrupts_is_no_loss(step: int) -> None:
    with Cluster(step, nodes=1, election="static:n1", checkers=_only("restart_keeps")) as cluster:
        for value in "abcdef":
            cluster.produce("n1", value)
        term = cluster.status("n1").election.term
        cluster.disks[N1].faults.power_cut_in = step
        cluster.running[N1].store.tell(ResetLog(Position(Index(2), Offset(2)), None, None, term, Probe()))
        cluster.run_for(0.1)
        cluster.crash("n1", power=True)
        cluster.start("n1", wait=False)
        cluster.run_for(0.5)


def test_a_log_that_is_emptied_without_having_been_asked_to_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Log.open

    def open_emptied(*arguments: Any, **named: Any) -> Log:
        log = opened(*arguments, **named)
        log.reset(Position(Index(2), Offset(2)))
        return log

    with Cluster(1, nodes=1, checkers=_only("restart_keeps")) as cluster:
        for value in "abcdef":
            cluster.produce("n1", value)
        cluster.crash("n1", power=True)
        monkeypatch.setattr(Log, "open", open_emptied)
        with pytest.raises(Violation, match="restart_keeps"):
            cluster.restart("n1")
        cluster.stream.violations.clear()
        cluster.runtime.halted = None


def _only(name: str) -> list[Any]:
    return [ALL[name]()]

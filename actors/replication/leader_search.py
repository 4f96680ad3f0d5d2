"""Finding the leader of the present term when there is one and this node does not know it.

Nothing is pulled then, so no pull can tell. The voters are asked in turn by a fetch that wants no batches: the
leader, or a node that knows it, says so in its answer (KIP-595, section Fetch). Who does not answer within a part of
the election timeout does not hold up the next question. The result goes to the election, which decides what to do
with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

from ourolog.actors.messages.election import HigherTermSeen, LeaderHinted
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import CallFailed, CallReturned, FetchRequest, FetchResponse
from ourolog.actors.messages.replicator import LeaderSearchDue
from ourolog.actors.messages.values import Peer
from ourolog.actors.ports import Timer
from ourolog.actors.replication.state import ReplicationState
from ourolog.storage.types import NodeId, Term

MAX_OPEN: Final = 5
"""How many questions may be open at once: a node that does not know who votes asks all members, however many."""


class LeaderSearch:
    """Asks the voters who leads, between `start` and `stop`."""

    def __init__(self, state: ReplicationState, election: Mailbox[HigherTermSeen | LeaderHinted]) -> None:
        self._state = state
        self._election = election
        # Pulls see the same answers: the ids of fetches that want no batches are negative, and odd if they ask this.
        self._request_ids = itertools.count(-1, -2)
        self._open: dict[NodeId, int] = {}
        self._last_asked = NodeId("")
        self._term = Term(0)
        self._known = 0
        self._ended = 0
        self._timer: Timer | None = None
        self._serial = 0
        self._candidates: Callable[[], dict[NodeId, str]] | None = None

    @property
    def is_on(self) -> bool:
        """Whether it is looking for a leader."""
        return self._candidates is not None

    def start(self, candidates: Callable[[], dict[NodeId, str]]) -> None:
        """Ask, until `stop`; in a new term all over again.

        candidates: gives the nodes that may know, each with its gRPC address, as of when it is called.
        """
        if self._term != self._state.term:
            self.stop()
        if self._candidates is None:
            self._candidates = candidates
            self._term = self._state.term
            self._ended = 0
            self._ask()

    def stop(self) -> None:
        """Ask nobody any more: there is a leader to pull from, or this node does not follow."""
        self._candidates = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for node_id in sorted(self._open):
            self._state.ports.network.forget(node_id)
        self._open.clear()

    def look_again(self) -> None:
        """Ask at once if nobody could be asked before: a node that may know has become known."""
        if self.is_on and not self._last_asked:
            self._ask()

    def on_due(self, due: LeaderSearchDue) -> None:
        if self.is_on and due.serial == self._serial:
            self._ask()

    def on_returned(self, returned: CallReturned[FetchResponse]) -> None:
        """Handle the answer to a fetch; ignored if it is a pull's."""
        if not self._ends(returned):
            return
        state, response = self._state, returned.response
        if state.is_of_other_cluster(returned.peer_id, response.cluster_id):
            return
        if state.is_ahead(response.term):
            self._election.tell(
                HigherTermSeen(response.term, response.leader_id, returned.peer_id, response.cluster_id)
            )
        elif response.term == state.term and response.leader_id not in (None, state.node_id):
            assert response.leader_id is not None
            self._election.tell(LeaderHinted(response.term, response.leader_id, returned.peer_id, response.cluster_id))

    def on_failed(self, failed: CallFailed) -> None:
        """Handle a fetch that failed; ignored if it is a pull's."""
        self._ends(failed)

    def _ends(self, end: CallReturned[FetchResponse] | CallFailed) -> bool:
        """Whether this ends a question that was open."""
        if self._open.get(end.peer_id) != end.request_id:
            return False
        del self._open[end.peer_id]
        self._ended += 1
        if end.peer_id == self._last_asked:
            # Otherwise the next question waits for a later one already.
            self._wait()
        return True

    def _ask(self) -> None:
        assert self._candidates is not None, "only a search that is on asks"
        state = self._state
        addrs = self._candidates()
        self._known = len(addrs)
        if not addrs:
            self._last_asked = NodeId("")
            self._wait()
            return
        names = [name for name in sorted(addrs) if name not in self._open]
        if names and len(self._open) < MAX_OPEN:
            node_id = next((name for name in names if name > self._last_asked), names[0])
            self._last_asked = node_id
            self._open[node_id] = next(self._request_ids)
            state.ports.network.call(Peer(node_id, addrs[node_id]), self._open[node_id], self._question(), state.me)
        # Who stands still must not hide who leads.
        self._ask_again_in(state.config.election_timeout_s / 4)

    def _question(self) -> FetchRequest:
        state = self._state
        return FetchRequest(
            cluster=state.config.cluster,
            node_id=state.node_id,
            log_epoch=state.log_epoch,
            elected=True,
            term=state.term,
            next_index=state.end.index,
            last=state.extent.last,
            source_epoch=0,
            committed=state.committed.index,
            max_bytes=0,
            max_wait_s=0.0,
            cluster_id=state.cluster_id,
            disk_index=state.end.index,
        )

    def _wait(self) -> None:
        """Back off with jitter once all have been asked, so that a cluster without a leader stays quiet."""
        config, ports = self._state.config, self._state.ports
        rounds = self._ended // max(2, self._known)
        ceiling_s = min(config.pull_backoff_max_s, config.pull_backoff_min_s * 2 ** min(rounds, 16))
        self._ask_again_in(ceiling_s * ports.rng.uniform(0.5, 1.0))

    def _ask_again_in(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._serial += 1
        self._timer = self._state.ports.timers.after(delay_s, self._state.me, LeaderSearchDue(self._serial))

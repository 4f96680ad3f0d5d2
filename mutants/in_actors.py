"""Bugs in the actors: what they promise too early, count wrong, forget, or do in the wrong order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ourolog.actors.replication.commit
import ourolog.actors.server
from mutants.mutant import ALLOW, BUSY, DISKS_LOST, EVERY, PEERS, STATIC, mutant, wrap
from ourolog.actors.election.static import StaticElection
from ourolog.actors.gossip.table import MemberTable
from ourolog.actors.messages.events import CommitAdvanced
from ourolog.actors.messages.peer_calls import FetchRequest
from ourolog.actors.messages.server import Produced, RequestRefused
from ourolog.actors.messages.store import AppendBatch, AppendFetched, BatchAppended, FetchedAppended, NoteCommitted
from ourolog.actors.messages.values import Acks
from ourolog.actors.replication.fetch_server import FetchServer
from ourolog.actors.replication.pulls import Pulls
from ourolog.actors.replicator import ReplicatorActor
from ourolog.actors.requests.produces import PendingProduce
from ourolog.actors.server import ServerActor
from ourolog.actors.store import StoreActor
from ourolog.storage.types import Index, Offset, Position

# ---------------------------------------------------------------- the store


@mutant("The store acknowledges an append before it is written.", EVERY)
def ack_before_write() -> None:
    def make(original: Any) -> Any:
        def append(self: StoreActor, message: AppendBatch) -> None:
            if message.term == self._ballot.term:
                end = self.log.appended_end
                answer = BatchAppended(
                    message.request_id, end.offset, end.index, message.term, Position(Index(end.index + 1), end.offset)
                )
                message.reply_to.tell(answer)
                original(self, replace(message, reply_to=_Nobody()))
            else:
                original(self, message)

        return append

    wrap(StoreActor, "_append_batch", make)


class _Nobody:
    def tell(self, message: object) -> None:
        """Nobody hears it."""


@mutant("The store acknowledges what is written, and syncs later.", EVERY)
def ack_before_sync() -> None:
    def make(original: Any) -> Any:
        def flush(self: StoreActor) -> None:
            commit = self.log.commit
            try:
                self.log.commit = lambda **_: commit(sync=False)  # type: ignore[method-assign]
                original(self)
            finally:
                del self.log.commit

        return flush

    wrap(StoreActor, "_flush", make)


@mutant("A follower says that it has what the leader sent before it is on disk.", (STATIC,))
def fetched_before_sync() -> None:
    def make(original: Any) -> Any:
        def append(self: StoreActor, message: AppendFetched) -> None:
            original(self, replace(message, reply_to=_Nobody()))
            message.reply_to.tell(FetchedAppended(message.leader_id, message.term, self.log.appended_end))

        return append

    wrap(StoreActor, "_append_fetched", make)


@mutant("The hop limit lets a copy go one step further.", (ALLOW,))
def hop_limit_off_by_one() -> None:
    def make(original: Any) -> Any:
        def copy(self: StoreActor, batches: Any, *rest: Any) -> Any:
            config = self.config
            self.config = replace(config, max_hops=config.max_hops + 1)
            try:
                return original(self, batches, *rest)
            finally:
                self.config = config

        return copy

    wrap(StoreActor, "_copy", make)


@mutant("The hop limit ends a copy one step early.", (ALLOW,))
def hop_limit_too_tight() -> None:
    def make(original: Any) -> Any:
        def copy(self: StoreActor, batches: Any, *rest: Any) -> Any:
            config = self.config
            self.config = replace(config, max_hops=config.max_hops - 1)
            try:
                return original(self, batches, *rest)
            finally:
                self.config = config

        return copy

    wrap(StoreActor, "_copy", make)


@mutant("Pulled batches are appended in some other order than that of their log.", PEERS)
def pulled_out_of_order() -> None:
    def make(original: Any) -> Any:
        def copy(self: StoreActor, batches: Any, *rest: Any) -> Any:
            answer = original(self, sorted(batches, key=lambda batch: batch.index * 7919 % 31), *rest)
            return replace(answer, next_index=Index(max(batch.index for batch in batches) + 1))

        return copy

    wrap(StoreActor, "_copy", make)


# ---------------------------------------------------------------- the replicator


@mutant("A majority is counted one voter short.", (STATIC,))
def majority_off_by_one() -> None:
    def majority(voters: Any, on_disk: Any) -> Index:
        reached = sorted((on_disk.get(voter, Index(0)) for voter in voters), reverse=True)
        return Index(reached[max(0, len(voters) // 2 - 1)])

    wrap(ourolog.actors.replication.commit, "majority_index", lambda _: majority)


@mutant("Whoever fetches counts for a quorum, voter or not.", (f"{STATIC} --nodes 5",))
def anyone_counts() -> None:
    def make(original: Any) -> Any:
        def on_fetch(self: ReplicatorActor, received: Any) -> None:
            request: FetchRequest = received.request
            commit = self._commit
            if commit is not None and request.node_id not in commit.voters and request.term == self.state.term:
                last = commit.voters[-1]
                commit.on_disk[last] = max(commit.on_disk.get(last, Index(0)), request.disk_index)
                self._advance_commit()
            original(self, received)

        return on_fetch

    wrap(ReplicatorActor, "_on_fetch", make)


@mutant("A fetch claims one entry more than is on the follower's disk.", (STATIC,))
def fetch_claims_too_much() -> None:
    def make(original: Any) -> Any:
        def on_fetch(self: ReplicatorActor, received: Any) -> None:
            request: FetchRequest = received.request
            original(self, received)
            if self._commit is not None and request.term == self.state.term:
                reached = min(request.disk_index + 1, self.state.end.index)
                self._commit.on_disk[request.node_id] = Index(max(reached, request.disk_index))
                self._advance_commit()

        return on_fetch

    wrap(ReplicatorActor, "_on_fetch", make)


@mutant("A follower says that it has what it has only just handed to its store.", (STATIC,))
def fetch_before_append() -> None:
    def make(original: Any) -> Any:
        def on_batches(self: Pulls, pull: Any, response: Any) -> None:
            original(self, pull, response)
            state = self._state
            if state.elected and response.batches and self._is_writing(pull):
                end, state.end = state.end, response.end
                writing = self._writing.pop(pull.source_id)
                self._fetch(pull)
                self._writing[pull.source_id] = writing
                state.end = end

        return on_batches

    wrap(Pulls, "_on_batches", make)


@mutant("A follower takes the leader's commit position for its own, whatever it has.", (STATIC,))
def commit_beyond_log() -> None:
    def on_leader_committed(self: ReplicatorActor, committed: Position) -> None:
        self._boundaries.forget(committed.index)
        self._set_committed(committed)

    wrap(ReplicatorActor, "_on_leader_committed", lambda _: on_leader_committed)


@mutant("The commit position is set to whatever was heard last, higher or lower.", (STATIC,))
def commit_falls() -> None:
    def set_committed(self: ReplicatorActor, position: Position) -> None:
        if position != self.state.committed:
            self.state.committed = position
            self.server.tell(CommitAdvanced(position))

    wrap(ReplicatorActor, "_set_committed", lambda _: set_committed)


@mutant("The store is told to remember the end of the log as committed.", (STATIC,))
def note_too_much() -> None:
    def make(original: Any) -> Any:
        def note(self: ReplicatorActor) -> None:
            original(self)
            self.state.store.tell(NoteCommitted(self.state.end))

        return note

    wrap(ReplicatorActor, "_note", make)


@mutant("A pull that has failed is never tried again.", EVERY)
def no_retry() -> None:
    wrap(Pulls, "on_retry", lambda _: lambda *_: None)


@mutant("A pull goes on, from where it stood, while what it brought is still on its way to the disk.", (ALLOW,))
def accept_stale_pull() -> None:
    def make(original: Any) -> Any:
        def on_batches(self: Pulls, pull: Any, response: Any) -> None:
            original(self, pull, response)
            if response.batches and not self._state.elected and self._is_writing(pull):
                writing = self._writing.pop(pull.source_id)
                self._fetch(pull)
                self._writing[pull.source_id] = writing

        return on_batches

    wrap(Pulls, "_on_batches", make)


@mutant("A node does not notice that the log it is asked about is not the one it has now.", DISKS_LOST)
def ignore_log_epoch() -> None:
    def make(original: Any) -> Any:
        def check(self: FetchServer, request: FetchRequest) -> Any:
            return original(self, replace(request, source_epoch=0))

        return check

    wrap(FetchServer, "_check_peer", make)


@mutant("Whom to ask about a silent member is chosen from a set of names.", EVERY, is_disorder=True)
def order_of_a_set() -> None:
    def make(original: Any) -> Any:
        def everybody(self: MemberTable) -> Any:
            by_name = {member.node_id: member for member in original(self)}
            return [by_name[name] for name in set(by_name)]

        return everybody

    wrap(MemberTable, "everybody", make)


# ---------------------------------------------------------------- the server


@mutant("Records that were merged into one batch all get the offset of the first.", BUSY)
def merged_share_offset() -> None:
    def make(original: Any) -> Any:
        def on_appended(self: ServerActor, appended: BatchAppended) -> None:
            group: Any = self._produces.in_append(appended.request_id)
            for pending in group:
                pending.merged_offset = appended.base_offset
            original(self, appended)

        return on_appended

    def make_answer(original: Any) -> Any:
        def answer(self: ServerActor, pending: Any) -> None:
            pending.base_offset = pending.merged_offset
            original(self, pending)

        return answer

    class Merged(PendingProduce):
        """With room for the offset of its batch."""

        merged_offset: Offset

    wrap(ourolog.actors.server, "PendingProduce", lambda _: Merged)
    wrap(ServerActor, "_answer_produced", make_answer)
    wrap(ServerActor, "_on_appended", make)


@mutant("Acknowledged offsets are one too high.", EVERY)
def offset_off_by_one() -> None:
    def answer(self: ServerActor, pending: Any) -> None:
        self._produces.close(pending)
        pending.reply_to.tell(
            Produced(pending.request_id, Offset(pending.base_offset + 1), pending.term, pending.index)
        )

    wrap(ServerActor, "_answer_produced", lambda _: answer)


def _acknowledge_as(asked: Acks, given: Acks) -> None:
    def make(original: Any) -> Any:
        def is_acknowledged(self: ServerActor, pending: Any) -> bool:
            if pending.acks is asked:
                pending.acks = given
            return bool(original(self, pending))

        return is_acknowledged

    wrap(ServerActor, "_is_acknowledged", make)


@mutant("acks=quorum is answered when the leader has it.", (STATIC,))
def quorum_is_leader() -> None:
    _acknowledge_as(Acks.QUORUM, Acks.LEADER)


@mutant("acks=all is answered when a quorum has it.", (STATIC,))
def all_is_quorum() -> None:
    _acknowledge_as(Acks.ALL, Acks.QUORUM)


@mutant("Readers see what is on the leader's disk, committed or not.", (STATIC,))
def serve_uncommitted() -> None:
    def make(original: Any) -> Any:
        def on_appended(self: ServerActor, appended: BatchAppended) -> None:
            self._committed = max(self._committed, appended.end)
            original(self, appended)

        return on_appended

    wrap(ServerActor, "_on_appended", make)


@mutant("A produce that has timed out is reported as one that certainly did not happen.", (STATIC,))
def timeout_is_refusal() -> None:
    def make(original: Any) -> Any:
        def refuse(self: ServerActor, pending: Any, *arguments: Any) -> None:
            pending.may_be_stored = False
            original(self, pending, *arguments)

        return refuse

    wrap(ServerActor, "_refuse_produce", make)


@mutant("A record is acknowledged when its time is up, whatever became of it.", (STATIC,))
def ack_on_expiry() -> None:
    def make(_: Any) -> Any:
        def refuse(self: ServerActor, pending: Any, *_: Any, **__: Any) -> None:
            if pending.done:
                return
            offset = self._committed.offset if pending.base_offset is None else pending.base_offset
            self._produces.close(pending)
            pending.reply_to.tell(Produced(pending.request_id, offset, self._term, pending.index or Index(0)))

        return refuse

    wrap(ServerActor, "_refuse_produce", make)


@mutant("At the end of the log a reader is told that the log ends where retention began.", EVERY)
def wrong_end() -> None:
    def make(original: Any) -> Any:
        def out_of_range(self: ServerActor, consume: Any) -> RequestRefused:
            refused: RequestRefused = original(self, consume)
            return replace(refused, end=refused.first)

        return out_of_range

    wrap(ServerActor, "_out_of_range", make)


# ---------------------------------------------------------------- the election


@mutant("A term is announced before its ballot is on disk.", (STATIC,))
def announce_before_ballot() -> None:
    def make(original: Any) -> Any:
        def save(self: StaticElection, term: Any) -> None:
            original(self, term)
            ballot, self._saving = self._saving, None
            assert ballot is not None
            self._enter(ballot.term)

        return save

    wrap(StaticElection, "_save", make)


@mutant("Two nodes take the lead in the same term.", (STATIC,))
def two_leaders() -> None:
    def make(original: Any) -> Any:
        def enter(self: StaticElection, term: Any) -> None:
            if self.node_id == self.voters[-1]:
                self.decreed = self.node_id
            original(self, term)

        return enter

    wrap(StaticElection, "_enter", make)

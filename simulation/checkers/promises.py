"""What is said to be on disk, compared with what is on disk at that moment."""

from __future__ import annotations

import json
from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged, LogAppended, LogOpened
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    CallAnswer,
    CallReceived,
    FetchRequest,
    TermResponse,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.store import BallotSaved, BatchAppended, FetchedAppended, LogTruncated, PulledAppended
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import FileReplaced, FileRewritten, FileTruncated, MessageTold
from ourolog.simulation.links import REPLAY_WITHIN_S
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Kind
from ourolog.storage.identity import BALLOT_NAME
from ourolog.storage.segment import LOG_SUFFIX
from ourolog.storage.types import Index, NodeId, Term


class PromisedOnDisk(EventChecker):
    """Looks at the disk whenever a store says that something is on it.

    With `fsync interval`, what a store tells its own server, or tells about copies, means the page cache only
    and is not checked; what it says about entries that peers may see and count is.
    """

    name: ClassVar[str] = "promised_on_disk"
    statement: ClassVar[str] = (
        "What a reply promises was on disk when it was sent: appended, fetched and pulled batches, and the names of "
        "the segments that hold them."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {
            BatchAppended: lambda told: self._check(told, told.message.end.index),
            FetchedAppended: lambda told: self._check(told, told.message.end.index),
            PulledAppended: self._on_pulled,
            LogAppended: self._on_log_appended,
            LogTruncated: self._on_truncated,
        }

    def _on_pulled(self, told: MessageTold) -> None:
        pulled = told.message
        assert isinstance(pulled, PulledAppended)
        node = self.model.sender_of(told)
        if pulled.appended and node is not None:
            self._check(told, node.log.end.index)

    def _on_log_appended(self, told: MessageTold) -> None:
        appended = told.message
        assert isinstance(appended, LogAppended)
        self._check(told, appended.ends[-1].index)

    def _on_truncated(self, told: MessageTold) -> None:
        """Check that what was dropped is no longer there, on disk either."""
        node = self.model.sender_of(told)
        if node is None or not node.log.opened or node.spoiled:
            return
        assert self.world is not None, "an event came with it"
        sizes = {segment.path: segment.size for segment in node.log.segments}
        for path, content in self.world.durable(node.node_id).items():
            if path.endswith(LOG_SUFFIX) and len(content) > sizes.get(path, 0):
                raise self.violated(
                    f"{node.node_id} said that its log was cut, and {len(content)} bytes of {path} are on disk, where "
                    f"{sizes.get(path, 0)} should be"
                )

    def _check(self, told: MessageTold, end: Index) -> None:
        node = self.model.sender_of(told)
        if node is None or not node.log.opened:
            return
        if not node.syncs_always and isinstance(told.message, BatchAppended | PulledAppended):
            return
        log = node.log
        if end > log.durable_index:
            what = type(told.message).__name__
            raise self.violated(
                f"{told.sender} told {told.receiver} {what} up to index {end}, and only what is below index "
                f"{log.durable_index} is on its disk"
            )
        for segment in reversed(log.segments):
            if segment.is_name_durable:
                break
            if segment.base.index < end and not node.spoiled:
                self._check_name(node, segment.path)
                segment.is_name_durable = True

    def _check_name(self, node: NodeModel, path: str) -> None:
        assert self.world is not None, "an event came with it"
        if path not in self.world.durable(node.node_id):
            raise self.violated(
                f"{node.node_id} promised what is in {path}, and a power cut would lose that file's name"
            )


class BallotsOnDisk(EventChecker):
    """Reads each ballot that a node writes, and compares what the node says with it."""

    name: ClassVar[str] = "ballots_on_disk"
    statement: ClassVar[str] = (
        "A ballot is on disk before anything is said in its term, to other nodes too, and a vote before anybody hears "
        "of it; the terms a node has written never fall. Where the vote is that of a disk, who says that it leads has "
        "a ballot on its disk that says so. The file that holds it is replaced whole, so that no crash leaves a part "
        "of one."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            FileReplaced: self._on_replaced,
            FileTruncated: self._on_written_over,
            FileRewritten: self._on_written_over,
        }
        self.on_told = {
            BallotSaved: self._on_saved,
            LeaderChanged: self._on_leader_changed,
            LogOpened: self._on_opened,
            CallReceived: self._on_asked,
            CallAnswer: self._on_answer,
        }
        self._written: dict[NodeId, Ballot] = {}
        self._promised: dict[NodeId, Ballot] = {}
        self._asked: dict[tuple[NodeId, int], VoteRequest] = {}

    def _on_written_over(self, event: FileTruncated | FileRewritten) -> None:
        if event.path.rpartition("/")[2] == BALLOT_NAME:
            raise self.violated(f"{event.node_id} writes over its ballot, of which a crash now would leave a part")

    def _on_replaced(self, event: FileReplaced) -> None:
        if event.path.rpartition("/")[2] != BALLOT_NAME:
            return
        node_id = event.node_id
        if self.model.node(node_id).opened is None:
            return  # it writes again what it has found; whether that is what it promised is seen when it says so
        ballot = self._read(node_id, event.content)
        before = self._promised.get(node_id, Ballot())
        if ballot.term < before.term:
            raise self.violated(f"{node_id} wrote a ballot of term {ballot.term} over one of term {before.term}")
        if ballot.term == before.term and before.vote not in (None, ballot.vote):
            raise self.violated(f"{node_id} voted for {before.voted_for} and {ballot.voted_for} in term {ballot.term}")
        self._written[node_id] = ballot

    def _on_saved(self, told: MessageTold) -> None:
        saved = told.message
        assert isinstance(saved, BallotSaved)
        node_id = self.model.place(told.sender)[0]
        on_disk = self._on_disk(node_id)
        if on_disk != saved.ballot and not self.model.node(node_id).spoiled:
            raise self.violated(
                f"{node_id} said that {saved.ballot} is on disk, where a power cut would leave {on_disk}"
            )
        self._promised[node_id] = saved.ballot

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id = self.model.place(told.sender)[0]
        promised = self._promised.get(node_id, Ballot())
        if changed.term > promised.term:
            raise self.violated(
                f"{node_id} announced term {changed.term} while the ballot on its disk is of term {promised.term}"
            )
        leads = changed.leader_id == node_id and self.model.node(node_id).is_vote_of_disk
        if leads and (promised.term, promised.leader_id) != (changed.term, node_id):
            raise self.violated(f"{node_id} says that it leads term {changed.term}, and on its disk is {promised}")

    def _on_asked(self, told: MessageTold) -> None:
        """Check what another node asks in a term of its own: a candidate's vote is on its disk, and a leader's lead."""
        received = told.message
        assert isinstance(received, CallReceived)
        request = received.request
        if not isinstance(request, VoteRequest | BeginTermRequest):
            return
        if isinstance(request, VoteRequest):
            self._asked[self.model.place(told.receiver)[0], received.request_id] = request
        asker = self.model.nodes.get(request.node_id)
        if asker is None or asker.key != request.key or asker.spoiled:
            return
        promised = self._promised.get(request.node_id, Ballot())
        if request.term > promised.term:
            raise self.violated(
                f"{request.node_id} asks in term {request.term} while the ballot on its disk is of term {promised.term}"
            )
        is_own = isinstance(request, BeginTermRequest) or not request.is_pre_vote
        if is_own and request.term == promised.term and promised.vote != request.key:
            raise self.violated(f"{request.node_id} stands or leads in term {request.term}, and its vote is {promised}")

    def _on_answer(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, CallAnswer)
        response = answer.response
        if not isinstance(response, VoteResponse | TermResponse):
            return
        node_id = self.model.place(told.sender)[0]
        request = self._asked.pop((node_id, answer.request_id), None)
        promised = self._promised.get(node_id, Ballot())
        if response.term > promised.term:
            raise self.violated(
                f"{node_id} answers in term {response.term} while the ballot on its disk is of term {promised.term}"
            )
        if request is None or request.is_pre_vote or not isinstance(response, VoteResponse) or not response.granted:
            return
        if promised.term < request.term or (promised.term == request.term and promised.vote != request.key):
            raise self.violated(
                f"{node_id} tells {request.node_id} that it has its vote in term {request.term}, and on its disk is "
                f"{promised}"
            )

    def _on_opened(self, told: MessageTold) -> None:
        """Check that what a node remembers after a restart is what it promised before, or what it had just written."""
        opened = told.message
        assert isinstance(opened, LogOpened)
        node = self.model.receiver_of(told)
        if node is None:
            return
        promised = self._promised.get(node.node_id, Ballot())
        written = self._written.get(node.node_id, promised)
        if opened.ballot not in (promised, written) and not node.spoiled:
            raise self.violated(f"{node.node_id} had {promised} on disk and came back with {opened.ballot}")
        on_disk = self._on_disk(node.node_id) or Ballot()
        if opened.ballot != on_disk and not node.spoiled:
            raise self.violated(
                f"{node.node_id} came back with {opened.ballot}, where a power cut would leave {on_disk}"
            )
        self._promised[node.node_id] = self._written[node.node_id] = opened.ballot

    def _on_disk(self, node_id: NodeId) -> Ballot | None:
        assert self.world is not None, "an event came with it"
        durable = self.world.durable(node_id)
        return next(
            (self._read(node_id, durable[path]) for path in durable if path.rpartition("/")[2] == BALLOT_NAME), None
        )

    def _read(self, node_id: NodeId, content: bytes) -> Ballot:
        try:
            value = json.loads(content.partition(b"\n")[2])
            voted_for, leader_id = value["voted_for"], value["leader_id"]
            return Ballot(
                Term(value["term"]),
                voted_for and NodeId(voted_for),
                leader_id and NodeId(leader_id),
                value["voted_for_epoch"],
            )
        except (ValueError, KeyError) as error:
            raise self.violated(f"{node_id} wrote a ballot that cannot be read again: {error}") from error


class FetchesHonest(EventChecker):
    """Compares fetches with the fetcher's disk, and pull positions after a restart with its log."""

    name: ClassVar[str] = "fetches_honest"
    statement: ClassVar[str] = (
        "A follower's fetch claims no more than was on its disk, and every fetch names the epoch of a log that the "
        "fetcher has or had; after a restart a pull goes on behind the last copy on disk, neither pulling again what "
        "is there nor skipping what is not."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {CallReceived: self._on_call, LogOpened: self._on_opened}
        self._epochs: dict[NodeId, set[int]] = {}

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        request = received.request
        if not isinstance(request, FetchRequest):
            return
        fetcher = self.model.nodes.get(request.node_id)
        if fetcher is not None and request.log_epoch not in self._epochs.get(request.node_id, ()):
            raise self.violated(
                f"{request.node_id} names {request.log_epoch} in a fetch as its log's epoch, and has never had such"
            )
        if fetcher is None or not request.elected or fetcher.spoiled:
            return
        if told.time_s < fetcher.seen_since_s + REPLAY_WITHIN_S + 1.0:
            return  # it may be of a time when nobody could see what was on the fetcher's disk
        on_disk = fetcher.log.highest_durable_index
        if request.disk_index > on_disk:
            raise self.violated(
                f"{request.node_id} says in a fetch that all below index {request.disk_index} is on its disk, and "
                f"never had more there than what is below index {on_disk}"
            )
        if request.disk_index > request.next_index:
            raise self.violated(
                f"{request.node_id} asks for what follows index {request.next_index}, and says that it has all below "
                f"{request.disk_index}"
            )

    def _on_opened(self, told: MessageTold) -> None:
        opened = told.message
        assert isinstance(opened, LogOpened)
        node = self.model.receiver_of(told)
        if node is not None:
            self._epochs.setdefault(node.node_id, set()).add(opened.log_epoch)
        if node is None or node.is_elected or not self.model.is_reopened or node.spoiled:
            return
        copied: dict[NodeId, tuple[int, int]] = {}
        for entry in node.log.entries:
            if len(entry.path) > 1 and entry.path[-1] == node.node_id:
                copied[entry.path[-2]] = (entry.source_epoch, entry.source_index + 1)
        positions = {source: (place.source_epoch, int(place.next_index)) for source, place in opened.pull_positions}
        for source, (epoch, least) in copied.items():
            position = positions.get(source)
            if position is None or (position[0] == epoch and position[1] < least):
                raise self.violated(
                    f"{node.node_id} has copied {source} up to index {least}, and after its restart pulls from "
                    f"{position[1] if position else 0} again"
                )
        for source, (epoch, index) in positions.items():
            self._check_skipped(node, source, epoch, index)

    def _check_skipped(self, node: NodeModel, source_id: NodeId, epoch: int, index: int) -> None:
        """Check that everything below a pull's position is here, or had a reason not to be."""
        source = self.model.nodes.get(source_id)
        if source is None or source.spoiled or source.opened is None or source.opened.log_epoch != epoch:
            return
        assert node.config is not None, "it has started"
        has = {entry.identity for entry in node.log.entries}
        copies = {entry.source_index for entry in node.log.entries if entry.path[-2:-1] == (source_id,)}
        retained = node.log.start.index == 0
        for entry in source.log.entries[: max(0, index - source.log.start.index)]:
            if entry.kind is Kind.CONTROL:
                continue
            if node.is_cycle_allowed:
                is_here = entry.index in copies or len(entry.path) > node.config.max_hops
            else:
                is_here = entry.identity in has
            if not is_here and retained:
                raise self.violated(
                    f"{node.node_id} would go on pulling from {source_id} at index {index}, and has no copy of {entry}"
                )

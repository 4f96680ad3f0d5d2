"""The founding of a cluster of voters: one promise a disk, and nobody votes before all have made it."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged, LogOpened
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, FoundRequest, FoundResponse
from ourolog.actors.messages.store import BallotSaved, FoundingSaved
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold
from ourolog.storage.checksummed_json import decode
from ourolog.storage.control import VoterKey
from ourolog.storage.errors import DamagedFileError
from ourolog.storage.founding import KIND, VERSION, Founding
from ourolog.storage.identity import FOUNDING_NAME


class FoundedByAll(EventChecker):
    """Keeps the promise of each disk, also of disks that are lost, and looks at them when somebody votes or leads."""

    name: ClassVar[str] = "founded_by_all"
    statement: ClassVar[str] = (
        "A disk makes one founding promise and never another, over all crashes, and it is there before anybody is told "
        "of it. Another disk has another key, so that nobody takes it for the one that has promised. Nobody is in a "
        "term, and nobody leads, before each founder of its cluster has made the same promise."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {
            LogOpened: self._on_opened,
            FoundingSaved: self._on_saved,
            CallAnswer: self._on_answer,
            CallReceived: self._on_asked,
            BallotSaved: self._on_ballot_saved,
            LeaderChanged: self._on_leader_changed,
        }
        self._promises: dict[VoterKey, Founding] = {}
        self._disks: dict[VoterKey, int] = {}
        self._ever: set[tuple[VoterKey, int]] = set()
        self._founded: set[int] = set()

    def _on_opened(self, told: MessageTold) -> None:
        opened, node = told.message, self.model.receiver_of(told)
        assert isinstance(opened, LogOpened)
        if node is None:
            return
        key = VoterKey(node.node_id, opened.log_epoch)
        if self._disks.setdefault(key, node.disks) != node.disks:
            raise self.violated(f"{node.node_id} has lost its disk, and goes on under its key {key.log_epoch}")
        if node.spoiled:
            self._promises.pop(key, None)
        if opened.founding is not None:
            self._promised(node, key, opened.founding)
        elif key in self._promises:
            raise self.violated(f"{node.node_id} had promised {self._promises[key]}, and came back without it")

    def _on_saved(self, told: MessageTold) -> None:
        saved, node = told.message, self.model.sender_of(told)
        assert isinstance(saved, FoundingSaved)
        if node is not None:
            self._promised(node, node.key, saved.founding)

    def _on_answer(self, told: MessageTold) -> None:
        answer, node = told.message, self.model.sender_of(told)
        assert isinstance(answer, CallAnswer)
        response = answer.response
        if node is not None and isinstance(response, FoundResponse) and response.founding is not None:
            self._promised(node, VoterKey(response.node_id, response.log_epoch), response.founding)

    def _on_asked(self, told: MessageTold) -> None:
        """Check what another node asks for: it has made the same promise."""
        received = told.message
        assert isinstance(received, CallReceived)
        request = received.request
        if not isinstance(request, FoundRequest) or request.founding is None:
            return
        asker = self.model.nodes.get(request.node_id)
        key = VoterKey(request.node_id, request.log_epoch)
        if asker is None or asker.key != key or asker.spoiled or (key, request.founding.cluster_id) in self._ever:
            return
        raise self.violated(f"{request.node_id} asks for the promise {request.founding}, and has not made it")

    def _promised(self, node: NodeModel, key: VoterKey, founding: Founding) -> None:
        """Check what the node says that its disk has promised."""
        if node.spoiled:
            return
        known = self._promises.get(key)
        if known == founding:
            return
        if known is not None:
            raise self.violated(f"{node.node_id} promises {founding}, and has promised {known} with the same disk")
        on_disk = self._on_disk(node)
        if on_disk != founding and not node.is_rotten:
            raise self.violated(
                f"{node.node_id} says that it has promised {founding}, where a power cut would leave {on_disk}"
            )
        self._promises[key] = founding
        self._ever.add((key, founding.cluster_id))

    def _on_disk(self, node: NodeModel) -> Founding | None:
        assert self.world is not None, "an event came with it"
        durable = self.world.durable(node.node_id)
        for path, content in durable.items():
            if path.rpartition("/")[2] == FOUNDING_NAME:
                try:
                    return Founding.decode(decode(KIND, VERSION, content, path))
                except (DamagedFileError, ValueError):
                    return None
        return None

    def _on_ballot_saved(self, told: MessageTold) -> None:
        saved, node = told.message, self.model.sender_of(told)
        assert isinstance(saved, BallotSaved)
        if node is not None and saved.ballot.term > 0:
            self._check_founded(node, f"is in term {saved.ballot.term}")

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed, node = told.message, self.model.sender_of(told)
        assert isinstance(changed, LeaderChanged)
        if node is not None and changed.leader_id is not None:
            self._check_founded(node, f"says that {changed.leader_id} leads")

    def _check_founded(self, node: NodeModel, what: str) -> None:
        if node.spoiled:
            return
        promise = self._promises.get(node.key)
        if promise is None:
            raise self.violated(f"{node.node_id} {what}, and belongs to no cluster")
        if promise.cluster_id in self._founded:
            return
        lacking = [voter.node_id for voter in promise.voters if (voter.key, promise.cluster_id) not in self._ever]
        if lacking or not promise.voters:
            missing = f"{', '.join(lacking)} never promised it" if lacking else "nobody founded it"
            raise self.violated(f"{node.node_id} {what} of cluster {promise.cluster_id}, and {missing}")
        self._founded.add(promise.cluster_id)

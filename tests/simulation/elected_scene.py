"""Scenes of three nodes that elect: who votes, who leads, who follows, who asks whom."""

from __future__ import annotations

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    CallReturned,
    FetchRequest,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene, ballot_saved, batch

NODES = (N1, N2, N3)
ELECTED = ElectionChoice("elected", "n1,n2,n3", voters=NODES)
RAFT = ElectionChoice("raft", "n1,n2,n3", voters=NODES)


def scene_of(claim: str, election: ElectionChoice = ELECTED) -> Scene:
    """Three nodes that have started with empty logs, each with another epoch of its log."""
    scene = Scene(claim)
    for number, node_id in enumerate(NODES):
        scene.start(node_id, settings={"election": election}, log_epoch=EPOCH + number)
    return scene


def vote(scene: Scene, voter: NodeId, term: int, candidate_id: NodeId | None) -> None:
    epoch = 0 if candidate_id is None else EPOCH + NODES.index(candidate_id)
    scene.tell(f"{voter}.store", f"{voter}.election", ballot_saved(Ballot(Term(term), candidate_id, None, epoch)))


def lead(scene: Scene, leader_id: NodeId, term: int, *voters: NodeId) -> None:
    """The voters vote for that node, and it says that it leads."""
    for voter in voters:
        vote(scene, voter, term, leader_id)
    scene.tell(f"{leader_id}.election", f"{leader_id}.replicator", LeaderChanged(Term(term), leader_id))


def follow(scene: Scene, node_id: NodeId, term: int, leader_id: NodeId) -> None:
    vote(scene, node_id, term, None)
    scene.tell(f"{node_id}.election", f"{node_id}.replicator", LeaderChanged(Term(term), leader_id))


def append(scene: Scene, node_id: NodeId, index: int, term: int, *, sync: bool = True) -> None:
    scene.append(node_id, batch(index, f"{term}/{index}", term=Term(term)), sync=sync)


def grant(scene: Scene, voter: NodeId, candidate_id: NodeId, term: int, *, is_pre_vote: bool = False) -> None:
    """The candidate asks the voter for its vote, gets it, and hears of it."""
    if not is_pre_vote:
        vote(scene, voter, term, candidate_id)
    key = VoterKey(voter, EPOCH + NODES.index(voter))
    request = VoteRequest(
        "ourolog",
        1,
        candidate_id,
        EPOCH + NODES.index(candidate_id),
        key,
        Term(term),
        LastEntry.of(None, Index(0)),
        is_pre_vote,
    )
    scene.tell("", f"{voter}.election", CallReceived(1, request, Probe()))
    response = VoteResponse(voter, key.log_epoch, Term(term), None, True)
    scene.tell(f"{voter}.election", "network", CallAnswer(1, response))
    scene.tell("", f"{candidate_id}.election", CallReturned(voter, 1, response))


def fetch(scene: Scene, voter: NodeId, leader_id: NodeId, term: int, *, epoch: int | None = None) -> None:
    """The node fetches from the leader: with its own disk, or with that epoch."""
    number = NODES.index(voter)
    request = FetchRequest(
        cluster="ourolog",
        node_id=voter,
        log_epoch=EPOCH + number if epoch is None else epoch,
        elected=True,
        term=Term(term),
        next_index=Index(0),
        last=None,
        source_epoch=0,
        committed=Index(0),
        max_bytes=1000,
        max_wait_s=0.5,
    )
    scene.tell("", f"{leader_id}.replicator", CallReceived(1, request, Probe()))

"""The claim about founding promises, held against the disks: each way to break it is seen."""

from __future__ import annotations

import json

import pytest

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, FoundRequest, FoundResponse
from ourolog.actors.messages.store import FoundingSaved
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected
from ourolog.storage.ballot import Ballot
from ourolog.storage.checksummed_json import encode
from ourolog.storage.control import Voter
from ourolog.storage.founding import KIND, VERSION, Founding
from ourolog.storage.types import NodeId, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene, ballot_saved

NODES = (N1, N2, N3)
VOTERS = tuple(Voter(name, EPOCH + at, f"{name}:8400", f"{name}:8401") for at, name in enumerate(NODES))
FOUNDING, OTHER = Founding(7, VOTERS), Founding(8, VOTERS)
PATH = "/data/founding"


def three() -> Scene:
    scene = Scene("founded_by_all")
    for name in NODES:
        start(scene, name)
    return scene


def start(scene: Scene, name: NodeId, founding: Founding | None = None, epoch: int | None = None) -> None:
    election = ElectionChoice("raft", "n1,n2,n3", voters=NODES)
    log_epoch = EPOCH + NODES.index(name) if epoch is None else epoch
    scene.start(name, settings={"election": election}, log_epoch=log_epoch, founding=founding)


def write(scene: Scene, name: NodeId, founding: Founding) -> None:
    content = encode(KIND, VERSION, founding.encode())
    scene.files.setdefault(name, {})[PATH] = content
    scene.synced.setdefault(name, {})[PATH] = len(content)


def say(scene: Scene, name: NodeId, founding: Founding = FOUNDING) -> None:
    scene.tell(f"{name}.store", f"{name}.election", FoundingSaved(1, founding))


def promise(scene: Scene, *names: NodeId, founding: Founding = FOUNDING) -> None:
    for name in names:
        write(scene, name, founding)
        say(scene, name, founding)


def vote(scene: Scene, name: NodeId, term: int = 1) -> None:
    scene.tell(f"{name}.store", f"{name}.election", ballot_saved(Ballot(Term(term), N1)))


def test_when_all_have_promised_they_may_vote_and_lead() -> None:
    scene = three()
    promise(scene, *NODES)
    vote(scene, N2)
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), N1))


def test_a_term_before_all_have_promised_is_seen() -> None:
    scene = three()
    promise(scene, N1, N2)
    vote(scene, N1, 0)
    with pytest.raises(Violation, match="n1 is in term 1 of cluster 7, and n3 never promised it"):
        vote(scene, N1)


def test_a_leader_without_a_cluster_is_seen() -> None:
    scene = three()
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(0), None, "waits"))
    with pytest.raises(Violation, match="n1 says that n2 leads, and belongs to no cluster"):
        scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), N2))


def test_a_promise_that_is_in_memory_only_is_seen() -> None:
    with pytest.raises(Violation, match=r"n1 says that it has promised .* a power cut would leave None"):
        say(three(), N1)


def test_a_promise_that_another_node_hears_of_before_it_is_on_disk_is_seen() -> None:
    response = FoundResponse(N1, EPOCH, "n1:8400", "n1:8401", agrees=True, founding=FOUNDING)
    scene = three()
    with pytest.raises(Violation, match="n1 says that it has promised"):
        scene.tell("n1.election", "network", CallAnswer(1, response))
    write(scene, N1, FOUNDING)
    scene.tell("n1.election", "network", CallAnswer(1, response))


def test_a_promise_that_is_asked_of_others_before_it_is_on_the_own_disk_is_seen() -> None:
    scene = three()
    asked = CallReceived(1, FoundRequest("ourolog", N1, EPOCH, NODES, FOUNDING), Probe())
    with pytest.raises(Violation, match=r"n1 asks for the promise .* and has not made it"):
        scene.tell("network", "n2.election", asked)
    promise(scene, N1)
    scene.tell("network", "n2.election", asked)
    scene.tell("network", "n2.election", CallReceived(2, FoundRequest("ourolog", N2, 5, NODES, None), Probe()))


def test_a_second_promise_is_seen_also_after_a_restart() -> None:
    scene = three()
    promise(scene, N1)
    write(scene, N1, OTHER)
    with pytest.raises(Violation, match="with the same disk"):
        say(scene, N1, OTHER)
    with pytest.raises(Violation, match="with the same disk"):
        start(scene, N1, OTHER)


def test_a_promise_that_is_forgotten_is_seen() -> None:
    scene = three()
    promise(scene, N1)
    start(scene, N1, FOUNDING)
    with pytest.raises(Violation, match="and came back without it"):
        start(scene, N1)


def test_another_disk_may_promise_something_else_and_the_lost_one_has_promised_all_the_same() -> None:
    scene = three()
    promise(scene, *NODES)
    del scene.files[N3][PATH]
    start(scene, N3, epoch=99)
    vote(scene, N1)
    promise(scene, N3, founding=Founding(7))
    vote(scene, N3)


def test_who_joins_a_cluster_that_nobody_founded_is_seen() -> None:
    scene = three()
    promise(scene, N1, founding=Founding(9))
    with pytest.raises(Violation, match="n1 is in term 1 of cluster 9, and nobody founded it"):
        vote(scene, N1)


def test_what_stands_on_disk_is_json_with_a_checksum() -> None:
    scene = three()
    write(scene, N1, FOUNDING)
    _, _, body = scene.files[N1][PATH].partition(b"\n")
    assert json.loads(body)["cluster_id"] == 7
    scene.files[N1][PATH] = scene.files[N1][PATH].replace(b"7", b"8", 1)
    with pytest.raises(Violation, match="would leave None"):
        say(scene, NodeId("n1"))


def test_a_node_that_goes_on_under_the_key_of_a_disk_that_it_has_lost_is_seen() -> None:
    scene = three()
    scene.crash("n2")
    scene.see(FaultInjected(scene.tick(), "disk_lost", "n2"))
    start(scene, N2, epoch=EPOCH + 9)
    scene.crash("n2")
    start(scene, N2, epoch=EPOCH + 9)
    scene.crash("n2")
    scene.see(FaultInjected(scene.tick(), "disk_lost", "n2"))
    with pytest.raises(Violation, match="n2 has lost its disk, and goes on under its key"):
        start(scene, N2, epoch=EPOCH + 9)

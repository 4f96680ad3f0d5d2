"""What `ourolog status` says above and below its table."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.commands.status import complaints_of, headline_of, replicas_of


def status(leader: str | None, term: int, **views: tuple[str | None, int] | None) -> dict[str, Any]:
    """A cluster in which each node sees that leader in that term; None: it did not answer."""
    nodes = [
        {
            "id": node_id,
            "leader": view and view[0],
            "term": view and view[1],
            "not_ready": None,
            "damaged_found": view and 0,
            "repaired": view and 0,
        }
        for node_id, view in views.items()
    ]
    return {"election": "raft", "leader": leader, "term": term, "generation": 1, "nodes": nodes}


def test_the_headline_says_who_leads_in_which_term() -> None:
    assert headline_of(status("n2", 7)) == "election raft, leader n2, term 7"
    assert headline_of(status(None, 7)) == "election raft, leader none, term 7"
    assert headline_of(status(None, 0)) == "election raft, leader none"
    assert headline_of({**status("n2", 7), "generation": None}) == "election raft, leader n2, term 7"


def test_the_headline_says_which_generation_it_is_once_the_cluster_was_recovered() -> None:
    assert headline_of({**status("n2", 7), "generation": 2}) == "election raft, leader n2, term 7, generation 2"


@pytest.mark.parametrize(
    "found",
    [
        status("n2", 7, n1=("n2", 7), n2=("n2", 7), n3=None),
        status(None, 0, n1=(None, 0), n2=(None, 3)),  # nobody leads, and nobody thinks so
    ],
)
def test_nodes_that_agree_need_no_line(found: dict[str, Any]) -> None:
    assert complaints_of(found) == []


def replica(node_id: str, *, votes: bool = True, lag: int | None = 0, fetches: bool = True) -> dict[str, Any]:
    return {"id": node_id, "votes": votes, "lag": lag, "fetches": fetches}


def test_how_far_the_replicas_are_and_who_stands_by_is_one_line() -> None:
    led = {"leader": "n2", "voters": ["n1", "n2", "n3"], "voter_change": None}
    replicas = [replica("n1"), replica("n3", lag=7, fetches=False), replica("n4", votes=False, lag=3)]
    line = "replicas n2, n1 (lag 0), n3 (does not fetch); standing by n4 (lag 3)"
    assert replicas_of({**led, "replicas": replicas}) == [line]
    assert replicas_of({**led, "replicas": replicas, "voter_change": "n3 is being removed"}) == [
        f"{line}; n3 is being removed"
    ]
    assert replicas_of({**led, "voters": ["n1"], "replicas": replicas[:1]}) == ["replicas n1 (lag 0)"]
    assert replicas_of({**led, "replicas": None}) == []


def test_a_node_that_sees_another_leader_or_term_or_none_is_named() -> None:
    found = status("n2", 7, n1=("n1", 6), n2=("n2", 7), n3=(None, 7), n4=("n2", 6))
    assert complaints_of(found) == [
        "",
        "n1 sees n1 lead, in term 6",
        "n3 sees nobody lead, in term 7",
        "n4 sees n2 lead, in term 6",
    ]


def test_a_node_that_has_found_damage_says_how_much_and_how_much_of_it_is_repaired() -> None:
    found = status("n2", 7, n1=("n2", 7), n2=("n2", 7))
    found["nodes"][0] |= {"damaged_found": 3, "repaired": 2}
    assert complaints_of(found) == ["", "n1 has found 3 damaged places in its log, 2 of them repaired"]

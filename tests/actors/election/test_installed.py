"""Occupants by name: from the table, or from whatever package has installed an entry point."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ourolog.actors.config import ElectionChoice
from ourolog.actors.election.static import StaticElection
from ourolog.actors.occupants import find_occupant, parse_election
from ourolog.storage.types import NodeId

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")

MODULE = """
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.config import ElectionChoice

class Plain(ElectionActor):
    pass

class Odd(ElectionActor):
    @classmethod
    def choose(cls, name, argument, nodes=()):
        return ElectionChoice(name, argument.upper(), voters=nodes)

class Renamed(ElectionActor):
    @classmethod
    def choose(cls, name, argument, nodes=()):
        return ElectionChoice("other")

def function():
    pass
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package on the path that names entry points, as an installed one does."""

    def put(package: str, source: str, **elections: str) -> None:
        (tmp_path / f"{package}.py").write_text(source)
        info = tmp_path / f"{package}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        points = "\n".join(f"{name} = {package}:{attribute}" for name, attribute in elections.items())
        (info / "entry_points.txt").write_text(f"[ourolog.elections]\n{points}\n")
        monkeypatch.delitem(sys.modules, package, raising=False)

    monkeypatch.syspath_prepend(str(tmp_path))
    return put


def test_an_installed_occupant_is_found_by_the_name_of_its_entry_point(install: Install) -> None:
    install("found_elections", MODULE, found_plain="Plain")
    choice = parse_election("found_plain: n2,n1")
    assert choice == ElectionChoice("found_plain", "n2,n1", voters=(N2, N1))
    assert choice.elects
    assert choice.decreed_leader is None
    assert find_occupant(choice.name).__module__ == "found_elections"


def test_what_follows_the_colon_is_handed_to_the_occupant(install: Install) -> None:
    install("odd_elections", MODULE, odd="Odd")
    choice = parse_election("odd:a lease of 3s:x=1", nodes=(N1, N2))
    assert choice == ElectionChoice("odd", "A LEASE OF 3S:X=1", voters=(N1, N2))
    assert str(choice) == "odd:A LEASE OF 3S:X=1"


def test_the_nodes_of_the_cluster_vote_where_the_argument_names_nobody() -> None:
    assert str(parse_election("static", nodes=(N1, N2, N3))) == "static:n1,n2,n3"
    assert str(parse_election("static:n3", nodes=(N1, N2, N3))) == "static:n3"
    assert str(parse_election("none", nodes=(N1, N2, N3))) == "none"


def test_a_choice_travels_to_other_processes_as_plain_data() -> None:
    choice = parse_election("static:n2,n1")
    assert pickle.loads(pickle.dumps(choice)) == choice == parse_election(str(choice))
    assert (choice.elects, choice.voters, choice.decreed_leader) == (True, (N2, N1), N2)


def test_an_unknown_name_is_answered_with_those_that_there_are(install: Install) -> None:
    install("listed_elections", MODULE, listed="Plain")
    with pytest.raises(ValueError, match=r"unknown election 'unlisted': choose one of none, static, .*listed"):
        parse_election("unlisted:n1")


def test_no_entry_point_takes_the_place_of_an_occupant_from_the_table(install: Install) -> None:
    install("impostor_elections", MODULE, static="Plain")
    assert find_occupant("static") is StaticElection


@pytest.mark.parametrize(
    ("source", "attribute", "complaint"),
    [
        ("import a_module_that_is_missing", "Plain", "ModuleNotFoundError: No module named 'a_module_that_is_missing'"),
        ("1 / 0", "Plain", "ZeroDivisionError"),
        ("pass", "Plain", "cannot be loaded from broken_elections:Plain: AttributeError"),
        (MODULE, "function", "is no ElectionActor: broken_elections:function"),
    ],
)
def test_one_that_cannot_be_loaded_says_why(install: Install, source: str, attribute: str, complaint: str) -> None:
    install("broken_elections", source, broken=attribute)
    with pytest.raises(ValueError, match=complaint):
        parse_election("broken:n1")


def test_two_packages_that_install_one_name_are_both_named(install: Install) -> None:
    install("twin_elections", MODULE, twin="Plain")
    install("other_elections", MODULE, twin="Odd")
    with pytest.raises(ValueError, match="other_elections:Odd and twin_elections:Plain"):
        parse_election("twin:n1")


def test_an_occupant_cannot_choose_under_another_name(install: Install) -> None:
    install("renamed_elections", MODULE, renamed="Renamed")
    with pytest.raises(ValueError, match="'renamed' calls itself 'other'"):
        parse_election("renamed")


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ({"name": "two words"}, "cannot have the name"),
        ({"name": "a", "elects": False, "voters": (N1,)}, "has voters, and nobody is elected"),
        ({"name": "a", "is_decreed": True}, "does not name it"),
    ],
)
def test_a_choice_that_contradicts_itself_is_none(choice: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ElectionChoice(**choice)  # type: ignore[arg-type]

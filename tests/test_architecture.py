"""docs/architecture.md speaks of this house: what it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ourolog.simulation import Cluster

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("actors", "ourolog", "rpc", "simulation", "storage")


def defined_names() -> set[str]:
    """Every class, and every module-level name, of the five packages and of their generated code's sources."""
    names: set[str] = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names.add(node.name)
    for path in (ROOT / "proto").glob("*.proto"):
        names |= set(re.findall(r"(?:message|service|rpc) (\w+)", path.read_text(encoding="utf-8")))
    return names


def test_every_class_that_the_page_names_is_defined() -> None:
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]*)+)(?:\([^`]*\))?`", PAGE))
    assert len(named) > 20
    assert sorted(named - defined_names()) == []


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:actors|mutants|ourolog|proto|rpc|simulation|storage)/[\w/.]*)`", PAGE))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_room_is_on_the_page() -> None:
    rooms = {f"`{path.name}/`" for path in ROOT.iterdir() if path.name in {*ROOMS, "proto"}}
    rooms |= {f"`actors/{path.name}/`" for path in (ROOT / "actors").iterdir() if (path / "__init__.py").exists()}
    assert [room for room in sorted(rooms) if room not in PAGE] == []


@pytest.mark.parametrize("election", ["none", "static"])
def test_a_data_directory_holds_what_the_page_says(election: str) -> None:
    layout = PAGE.partition("<data-dir>/")[2].partition("```")[0]
    known = {line.split()[0].rstrip("/") for line in layout.splitlines() if line.strip()}
    with Cluster(nodes=3, election=election) as cluster:
        cluster.produce("n1", b"foo")
        cluster.stop()
        found = {path.removeprefix("/data/") for path in cluster.durable(cluster.names[0])}
    found = {part for path in found for part in path.split("/")}
    assert {re.sub(r"^\d{20}-\d{20}\.", "<offset>-<index>.", part) for part in found} <= known
    assert {"identity.json", "log", "checkpoint", "<offset>-<index>.log"} <= {
        re.sub(r"^\d{20}-\d{20}\.", "<offset>-<index>.", part) for part in found
    }

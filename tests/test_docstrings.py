"""Docstrings: each module and public class has one, its first line says what the thing is, fields stand in a list.

A field or parameter is documented on a line of its own, `name: what it is, unit`, below the sentence that says what
the class or function is. A class that documents some of its fields this way documents all its public ones, except
for those that mean the same in every class of a module or package: its docstring speaks of them once, in backticks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("actors", "bench", "examples", "mutants", "ourolog", "rpc", "simulation", "storage", "torture")
GENERATED = ROOT / "rpc" / "v1"
NOT_A_SUMMARY = re.compile(r"(see|the same|same as|as above|like above|likewise|ditto)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Documented:
    """Something that has, or should have, a docstring.

    where: path, line and name, for a person.
    kind: module, class or function.
    is_public: whether neither it nor anything around it has a name with an underscore in front.
    text: the docstring; None if there is none.
    fields: the public names that a class's body declares, enum members among them.
    described: those of the fields that have a docstring of their own below them.
    names: whatever a docstring may document: fields, attributes, and the parameters of a function or of `__init__`.
    shared: what the docstrings of its module and package name in backticks.
    """

    where: str
    kind: str
    is_public: bool
    text: str | None
    fields: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()

    @property
    def summary(self) -> str:
        return (self.text or "").partition("\n")[0]


def documented_in(path: Path) -> Iterator[Documented]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    where = str(path.relative_to(ROOT))
    yield Documented(where, "module", True, ast.get_docstring(tree))
    package = ast.parse((path.parent / "__init__.py").read_text(encoding="utf-8")) if _is_package(path.parent) else tree
    shared = frozenset(re.findall(r"`(\w+)`", f"{ast.get_docstring(tree)} {ast.get_docstring(package)}"))
    yield from _members(tree, where, True, shared)


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").exists()


def _members(
    node: ast.Module | ast.ClassDef, where: str, is_public: bool, shared: frozenset[str]
) -> Iterator[Documented]:
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        name = f"{where}:{child.lineno} {child.name}"
        shown = is_public and (not child.name.startswith("_") or child.name == "__init__")
        text = ast.get_docstring(child)
        if isinstance(child, ast.ClassDef):
            fields, described = _fields(child)
            yield Documented(name, "class", shown, text, fields, described, _attributes(child) | {*fields}, shared)
            yield from _members(child, where, shown, shared)
        else:
            yield Documented(name, "function", shown, text, names=_parameters(child))


def _fields(node: ast.ClassDef) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that the class's body declares, and those of them that a string below describes."""
    names: list[str] = []
    described: list[str] = []
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            if "ClassVar" not in ast.unparse(child.annotation):
                names.append(child.target.id)
        elif isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name):
            if any("Enum" in ast.unparse(base) for base in node.bases):
                names.append(child.targets[0].id)
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and names:
            described.append(names[-1])
    return tuple(name for name in names if not name.startswith("_")), tuple(described)


def _attributes(node: ast.ClassDef) -> frozenset[str]:
    """What its methods assign to `self`, and the parameters of its `__init__`."""
    assigned = {
        found.attr
        for found in ast.walk(node)
        if isinstance(found, ast.Attribute) and isinstance(found.ctx, ast.Store) and ast.unparse(found.value) == "self"
    }
    made_from = [
        _parameters(child) for child in node.body if isinstance(child, ast.FunctionDef) and child.name == "__init__"
    ]
    return frozenset(assigned).union(*made_from)


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> frozenset[str]:
    arguments = node.args
    return frozenset(one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))


def listed(text: str) -> set[str]:
    """The names that have a line of their own, as in `name: text` or `name, other: text`."""
    lines = re.findall(r"^(\w+(?:, \w+)*): ", text, re.MULTILINE)
    return {name for line in lines for name in line.split(", ")}


def crammed(one: Documented) -> set[str]:
    """The names followed by a colon in the middle of a line."""
    lines = re.sub(r"^(\w+(?:, \w+)*): ", "", one.text or "", flags=re.MULTILINE)
    found = re.findall(r"(?<=\S )(\w+(?:, \w+)*): ", lines)
    return {name for names in found for name in names.split(", ")} & one.names


ALL = tuple(
    documented
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
    if GENERATED not in path.parents and (room == "ourolog") <= (path.resolve() == path)
    for documented in documented_in(path)
)


def check(offenders: list[str]) -> None:
    assert not offenders, "\n" + "\n".join(offenders)


def test_every_module_and_every_public_class_has_a_docstring() -> None:
    assert len(ALL) > 1500
    check([one.where for one in ALL if one.is_public and one.kind in ("module", "class") and not one.summary])


def test_the_first_line_says_what_the_thing_is() -> None:
    check([f"{one.where}: {one.summary}" for one in ALL if NOT_A_SUMMARY.match(one.summary)])


def test_the_first_line_is_no_field() -> None:
    check([f"{one.where}: {one.summary}" for one in ALL if listed(one.summary) & one.names])


def test_each_documented_field_has_a_line_of_its_own() -> None:
    check([f"{one.where}: {', '.join(sorted(crammed(one)))}" for one in ALL if crammed(one)])


def test_a_class_that_lists_fields_lists_all_public_ones() -> None:
    missing = {}
    for one in ALL:
        if one.kind == "class" and one.is_public and listed(one.text or "") & {*one.fields}:
            missing[one.where] = {*one.fields} - listed(one.text or "") - {*one.described} - one.shared
    check([f"{where}: {', '.join(sorted(names))}" for where, names in missing.items() if names])

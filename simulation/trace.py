"""The trace hash: one number for a whole run, so that two runs can be shown to be the same.

It covers every event, in order, with the values of all fields that mean something outside this
process: numbers, texts, bytes, and values composed of them. Mailboxes and other references are left
out. Nothing in it depends on hash seeds, identities of objects or the version of Python.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final, NewType, Union, get_args, get_origin, get_type_hints
from zlib import crc32

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.simulation.events import Event, MessageHandled, MessageTold

_FLUSH_AT = 512
_PLAIN = (int, str, float, bool, type(None))


class Trace:
    """Add every event once; read `hexdigest` at any time."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._texts: list[str] = []
        self._time_s = -1.0

    def add(self, event: Event) -> None:
        texts = self._texts
        time_s = event.time_s
        if time_s != self._time_s:
            self._time_s = time_s
            texts.append(repr(time_s))
        kind = type(event)
        if kind is MessageHandled:
            texts.append(event.receiver)  # type: ignore[union-attr]
        elif kind is MessageTold:
            message = event.message  # type: ignore[union-attr]
            texts.append(f"{event.sender}>{event.receiver} {canonical(message)}")  # type: ignore[union-attr]
        else:
            texts.append(canonical(event))
        if len(texts) >= _FLUSH_AT:
            self._flush()

    def hexdigest(self) -> str:
        self._flush()
        return self._hash.copy().hexdigest()

    def _flush(self) -> None:
        self._hash.update("\n".join(self._texts).encode("utf-8", "surrogatepass"))
        self._hash.update(b"\n")
        self._texts.clear()


def _texter(kind: type) -> Callable[[Any], str]:
    """A function from an object of this class to its text, made once, since most of a run's time goes into it."""
    name = kind.__name__
    if not is_dataclass(kind):
        return lambda value: f"{name} {canonical(value)}"
    plain: list[str] = []
    blobs: list[str] = []
    other: list[str] = []
    for path, hint in _leaves(kind, ""):
        if path == "time_s":
            continue
        (plain if _is_plain(hint) else blobs if hint is bytes else other).append(path)
    get_plain = attrgetter(*plain) if plain else _nothing
    get_blobs = [attrgetter(path) for path in blobs]
    get_other = [attrgetter(path) for path in other]
    match get_blobs, get_other:
        case [], []:
            return lambda value: f"{name} {get_plain(value)!r}"
        case [one], []:
            return lambda value: f"{name} {get_plain(value)!r} {crc32(one(value)):08x}"
        case [], [one]:
            return lambda value: f"{name} {get_plain(value)!r} {canonical(one(value))}"
        case _:
            return lambda value: (
                f"{name} {get_plain(value)!r} {' '.join(f'{crc32(get(value)):08x}' for get in get_blobs)} "
                f"{' '.join(canonical(get(value)) for get in get_other)}"
            )


def _nothing(_: object) -> str:
    return ""


def _leaves(kind: type, prefix: str) -> list[tuple[str, Any]]:
    """Dotted paths of all fields, those of nested dataclasses instead of the dataclass."""
    hints = get_type_hints(kind)
    found: list[tuple[str, Any]] = []
    for field in fields(kind):
        hint = hints[field.name]
        path = f"{prefix}{field.name}"
        if isinstance(hint, type) and is_dataclass(hint):
            found.extend(_leaves(hint, f"{path}."))
        elif not _is_mailbox(hint):
            found.append((path, hint))
    return found


def _is_mailbox(hint: Any) -> bool:
    """Whether the field says where to answer, which is no value."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return all(get_origin(part) is Mailbox or part is Mailbox for part in parts)


def _is_plain(hint: Any) -> bool:
    """Whether `repr` of such a value is short and means the same everywhere."""
    if isinstance(hint, NewType):
        return _is_plain(hint.__supertype__)
    if get_origin(hint) in (Union, types.UnionType):
        return all(_is_plain(part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        return all(part is Ellipsis or _is_plain(part) for part in get_args(hint))
    return hint in _PLAIN


def canonical(value: object) -> str:
    """The text of any value; references to mailboxes and the like have none."""
    writer = _WRITERS.get(type(value))
    if writer is None:
        writer = _WRITERS[type(value)] = _writer_of(value)
    return writer(value)


def _writer_of(value: object) -> Callable[[Any], str]:
    """A function for all values of this value's class."""
    match value:
        case bytes() | bytearray() | memoryview():
            return lambda blob: f"{len(blob)}b{crc32(blob):08x}"
        case Enum():
            return lambda member: str(member.value)
        case bool() | int() | float() | str() | None:
            return repr
        case tuple() | list():
            return lambda items: f"({' '.join(map(canonical, items))})"
        case dict():
            return lambda items: f"{{{' '.join(f'{canonical(key)}:{canonical(item)}' for key, item in items.items())}}}"
        case _ if is_dataclass(value):
            return _texter(type(value))
        case _:
            return lambda _: "-"


_WRITERS: Final[dict[type, Callable[[Any], str]]] = {}
"""Made once for each class, since a run's trace has many values and few classes."""

"""How a consumed record is printed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FORMATS = ("text", "json", "raw")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record came from: the node it was produced to, and the nodes it passed, that one first."""

    origin: str
    path: Sequence[str]
    timestamp_ms: int


Formatter = Callable[[int, bytes, Origin | None], bytes]


def as_text(offset: int, value: bytes, origin: Origin | None) -> bytes:
    """`7<TAB>hello<TAB>n1 -> n2`: bytes that are not UTF-8, and control characters, are escaped."""
    shown = "".join(
        character if character.isprintable() or character == "\t" else character.encode("unicode_escape").decode()
        for character in value.decode(errors="backslashreplace")
    )
    passed = f"\t{' -> '.join(origin.path)}" if origin is not None else ""
    return f"{offset}\t{shown}{passed}\n".encode()


def as_json(offset: int, value: bytes, origin: Origin | None) -> bytes:
    """One object a line: `offset`, and `value` as a string, or `value_base64` when it is not UTF-8."""
    record: dict[str, object] = {"offset": offset}
    try:
        record["value"] = value.decode()
    except UnicodeDecodeError:
        record["value_base64"] = base64.b64encode(value).decode()
    if origin is not None:
        record |= {"origin": origin.origin, "path": list(origin.path), "timestamp_ms": origin.timestamp_ms}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def as_raw(offset: int, value: bytes, origin: Origin | None) -> bytes:
    """The value as it is and a line end: what `ourolog produce` read comes out again."""
    del offset, origin
    return value + b"\n"


FORMATTERS: dict[str, Formatter] = {"text": as_text, "json": as_json, "raw": as_raw}

"""Messages and events in a few words, for labels, tooltips and search."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final

from ourolog.actors.messages.membership import MembershipMessage
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, CallReturned
from ourolog.actors.messages.values import Member, ReadLevel
from ourolog.simulation.events import Operation, OperationKind, OperationResult
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import decode_records
from ourolog.storage.types import Position

_MOST_BYTES: Final = 40
_MOST_CHARACTERS: Final = 300
# Nothing a reader looks for: who is to be answered, and how much at most.
_UNTOLD: Final = frozenset({"reply_to", "max_bytes", "max_wait_s", "cluster", "terms"})

GOSSIP_MESSAGES: Final = frozenset(kind.__name__ for kind in MembershipMessage.__args__) - {"ReportStatus"}

_NAMES: Final[dict[type, tuple[str, ...]]] = {}


def describe(message: object) -> str:
    """The fields that a person wants to see, `name value, name value`; at most 300 characters."""
    match message:
        case CallReceived():
            text = describe(message.request)
        case CallReturned():
            text = f"peer {message.peer_id}, {describe(message.response)}"
        case CallAnswer():
            text = describe(message.response)
        case _ if is_dataclass(message) and not isinstance(message, type):
            text = ", ".join(_fields(message))
        case _:
            text = str(message)
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def _fields(message: Any) -> list[str]:
    kind = type(message)
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in fields(kind) if field.name not in _UNTOLD)
    parts = []
    for name in names:
        value = getattr(message, name)
        # Told apart by kind first: this takes half of all the time of a recording.
        if isinstance(value, int) and not isinstance(value, Enum):
            parts.append(f"{name} {value}")
        elif value is not None and value not in ("", b"", ()):
            parts.append(f"{name} {shown(value)}")
    return parts


def shown(value: Any) -> str:
    """A value as text: bytes as text or as their count, positions as index/offset, paths as n1>n2."""
    match value:
        case Enum():
            return value.name.lower()
        case bytes():
            return shown_bytes(value)
        case Member():
            return str(value.node_id)
        case NewBatch():
            more = f" and {value.record_count - 1} more" if value.record_count > 1 else ""
            return shown_bytes(first_value(value.payload)) + more
        case Position():
            return f"{value.index}/{value.offset}"
        case float():
            return f"{value:g}"
        case tuple() if value and all(isinstance(item, str) for item in value):
            return ">".join(value)
        case tuple():
            return " ".join(shown(item) for item in value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return f"({', '.join(_fields(value))})"
        case _:
            return str(value)


def shown_bytes(value: bytes) -> str:
    """Printable bytes as quoted text, cut where it grows long or is only padding; all others as their size."""
    try:
        text = value[: 4 * _MOST_BYTES].decode()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        return f"{len(value)} B"
    if text.endswith("...."):
        text = text.rstrip(".") + "…"
    return f"“{text if len(text) <= _MOST_BYTES else text[:_MOST_BYTES] + '…'}”"


def first_value(payload: bytes) -> bytes:
    """The first record of a payload; a payload that is no RecordSet as it is."""
    try:
        return decode_records(payload)[0]
    except (ValueError, IndexError):
        return payload


def describe_operation(operation: Operation) -> str:
    if operation.kind is OperationKind.PRODUCE:
        return f"produce {shown_bytes(operation.value)}" + (
            (f", acks {operation.acks}" if operation.acks != "default" else "")
            + (f", batch {operation.sequence} of producer {operation.producer_id}" if operation.producer_id else "")
        )
    if operation.kind is OperationKind.REGISTER:
        return "register a producer"
    which = "the latest" if operation.read is ReadLevel.LATEST else "offset"
    seen = f", having seen all below {operation.seen_end}" if operation.seen_end else ""
    return f"consume {which} {operation.offset}{seen}"


def describe_result(operation: Operation, result: OperationResult) -> str:
    """What the client was told, in the words of its operation."""
    because = f": {result.detail}" if result.detail else ""
    if result.outcome != "ok":
        return f"{result.outcome}{because}"
    if operation.kind is OperationKind.PRODUCE:
        return f"ok, offset {result.offset}"
    if operation.kind is OperationKind.REGISTER:
        return f"ok, it is producer {result.index}"
    if result.end_offset is not None:
        return f"ok, nothing below end {result.end_offset}"
    return f"ok, {shown_bytes(result.value)} at offset {result.offset}"

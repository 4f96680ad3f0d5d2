"""Protobuf's wire format, for messages that are written without their classes.

A class copies what it is given, once more for each message around it, and again when it is encoded. A payload that is
already bytes needs one copy, into the message that is sent.

A field is a tag, which is the field's number and its kind, and what it holds: an integer as a varint, seven bits a
byte, or a length and so many bytes. Protobuf writes fields in the order of their numbers, and leaves integers of 0 out.
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ourolog.storage.record_set import varint

# Most messages of a log are of the same few sizes.
_KEPT_HEADS: Final = 4096
_VARINT: Final = 0
_LENGTH_AND_BYTES: Final = 2


def integer_tag(field_number: int) -> bytes:
    """The tag of a field that holds an unsigned integer or a value of an enum."""
    return varint(field_number << 3 | _VARINT)


def bytes_tag(field_number: int) -> bytes:
    """The tag of a field that holds bytes, text or a message."""
    return varint(field_number << 3 | _LENGTH_AND_BYTES)


def integer_field(tag: bytes, number: int) -> bytes:
    """A field with this integer; nothing where it is 0, which is what a reader takes a missing one for."""
    return tag + varint(number) if number else b""


@lru_cache(_KEPT_HEADS)
def bytes_head(tag: bytes, size_bytes: int) -> bytes:
    """What stands before the bytes of a field that has so many."""
    return tag + varint(size_bytes)

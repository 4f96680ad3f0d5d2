"""Small files that are replaced whole: one line with the kind of file and its checksum, then JSON.

A person can read them with `cat`; the checksum (CRC32C) reveals a torn or edited file.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import google_crc32c

from ourolog.storage.errors import DamagedFileError

_FIRST_LINE: Final = re.compile(rb"ourolog ([a-z-]+) format=(\d+) crc32c=([0-9a-f]{8})\n")


def encode(kind: str, version: int, value: Any) -> bytes:
    """`value` as canonical JSON below its line with kind and checksum."""
    body = json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    return b"ourolog %s format=%d crc32c=%08x\n" % (kind.encode(), version, google_crc32c.value(body)) + body


def decode(kind: str, version: int, content: bytes, path: str) -> Any:
    """The value that was encoded. Raises DamagedFileError, which names `path` and what is wrong."""
    first = _FIRST_LINE.match(content)
    if first is None or first[1] != kind.encode():
        raise DamagedFileError(f"{path} is not a {kind} file")
    if int(first[2]) != version:
        raise DamagedFileError(f"{path} has format {int(first[2])}; this software reads {version}")
    body = content[first.end() :]
    if google_crc32c.value(body) != int(first[3], 16):
        raise DamagedFileError(f"{path} is damaged: its checksum does not hold")
    try:
        return json.loads(body)
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged: {error}") from error

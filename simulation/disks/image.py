"""What is on a disk, read from its bytes alone: which batches a copy of the log holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ourolog.storage import ballot
from ourolog.storage.batch import HEADER_BYTES, BatchHead, Kind, payload_of, read_head, verify
from ourolog.storage.checksummed_json import decode
from ourolog.storage.errors import CorruptBatchError, DamagedFileError
from ourolog.storage.identity import BALLOT_NAME, IDENTITY_NAME
from ourolog.storage.segment import LOG_SUFFIX, parse_stem
from ourolog.storage.types import NodeId, Term

Identity = tuple[NodeId, int, int]


def heads_on(durable: Mapping[str, bytes]) -> Iterator[tuple[BatchHead, bytes]]:
    """Every good batch of every segment, with the bytes around it; a damaged segment ends where the damage begins."""
    for path in sorted(durable):
        name = path.rpartition("/")[2]
        if not name.endswith(LOG_SUFFIX) or parse_stem(name[: -len(LOG_SUFFIX)]) is None:
            continue
        content = durable[path]
        at = 0
        try:
            while (head := read_head(content, at)) is not None and verify(content, head):
                yield head, content
                at = head.end
        except CorruptBatchError:
            continue


def identities_on(durable: Mapping[str, bytes]) -> dict[Identity, None]:
    """The identities of all good batches, in the order of the log."""
    return {
        (_origin(content, head), head.origin_epoch, head.origin_sequence): None for head, content in heads_on(durable)
    }


def holds_all(durable: Mapping[str, bytes], leaders: Mapping[str, bytes]) -> bool:
    """Whether that disk has every batch that the leader's has, except what retention removed from it."""
    mine = {head.index: (head.term, head.crc) for head, _ in heads_on(durable)}
    theirs = {head.index: (head.term, head.crc) for head, _ in heads_on(leaders)}
    first = min(mine, default=0)
    return all(mine.get(index) == entry for index, entry in theirs.items() if index >= first)


def names_voters(durable: Mapping[str, bytes]) -> bool:
    """Whether the log on that disk has an entry that says who votes, or has had so many that its start is gone."""
    first = True
    for head, content in heads_on(durable):
        if first and head.index > 0:
            return True
        first = False
        if head.kind is Kind.CONTROL and json.loads(payload_of(content, head))["type"] == "voters-set":
            return True
    return False


def ballot_term_on(durable: Mapping[str, bytes]) -> Term:
    """The term of the ballot that a node would find there; 0 if there is none, or none that can be read."""
    for path, content in durable.items():
        if path.rpartition("/")[2] == BALLOT_NAME:
            try:
                return Term(decode(ballot.KIND, ballot.VERSION, content, path)["term"])
            except (DamagedFileError, KeyError):
                return Term(0)
    return Term(0)


def identity_on(durable: Mapping[str, bytes]) -> bytes:
    """The file that says whose disk it is and which one, as it is; b"" if there is none."""
    return next((content for path, content in durable.items() if path.rpartition("/")[2] == IDENTITY_NAME), b"")


def opens(durable: Mapping[str, bytes]) -> bool:
    """Whether a node could start on it as far as its small files go: a lying disk may have lost only those."""
    try:
        for path, content in durable.items():
            name = path.rpartition("/")[2]
            if name == BALLOT_NAME:
                decode(ballot.KIND, ballot.VERSION, content, path)
            elif name == IDENTITY_NAME:
                json.loads(content)
    except (DamagedFileError, ValueError):
        return False
    return True


def _origin(content: bytes, head: BatchHead) -> NodeId:
    """The first name of the path, without decoding the others: a path may be long."""
    at = head.start + HEADER_BYTES
    return NodeId(content[at + 1 : at + 1 + content[at]].decode())

"""What a call of the client can fail with: the server's status, its details unpacked."""

from __future__ import annotations

from typing import Final

import grpc
from google.rpc import error_details_pb2 as details_pb  # type: ignore[import-untyped]

from rpc.errors import status_of
from rpc.v1 import log_pb2 as pb

# gRPC says by this text only that a call never left this machine.
_NEVER_SENT: Final = (
    "failed to connect to all addresses",
    "errors resolving",
    "DNS resolution failed",
    "Name resolution failure",
)
_KNOWN_UNCHANGED: Final = {
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
}


class LogError(Exception):
    """A call that failed; the text is a sentence for a person.

    code: the name of the gRPC status code. reason: the server's stable word for it, "" where the
    error is not the server's own. outcome_unknown: a produce may have been stored all the same.
    leader_id, leader_addr: who leads, where the server said so. first_offset, end_offset: what
    can be read, `end_offset` exclusive, where the server said so. fields: what is wrong with the
    request, by field. retry_after_s: when the server wants to be asked again.
    """

    def __init__(self, message: str, code: str = "UNKNOWN", *, addr: str = "", outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.addr = addr
        self.reason = ""
        self.outcome_unknown = outcome_unknown
        self.never_sent = False
        self.leader_id = ""
        self.leader_addr = ""
        self.first_offset: int | None = None
        self.end_offset: int | None = None
        self.fields: dict[str, str] = {}
        self.retry_after_s: float | None = None

    @property
    def is_not_leader(self) -> bool:
        return self.reason == "NOT_LEADER"

    @property
    def is_out_of_range(self) -> bool:
        return self.code == "OUT_OF_RANGE"

    @property
    def may_retry(self) -> bool:
        """Whether asking again may help, and cannot store anything twice."""
        return self.code in {"UNAVAILABLE", "RESOURCE_EXHAUSTED"} and not self.outcome_unknown


def to_log_error(error: grpc.aio.AioRpcError, addr: str) -> LogError:
    """`addr`: the node that was asked."""
    code = error.code().name
    text = error.details() or code
    never_sent = code == "UNAVAILABLE" and text.startswith(_NEVER_SENT)
    found = LogError(_sentence(code, text, addr, never_sent=never_sent), code, addr=addr)
    found.never_sent = never_sent
    status = status_of(error)
    for packed in status.details if status is not None else ():
        if packed.Is(details_pb.ErrorInfo.DESCRIPTOR):
            info = details_pb.ErrorInfo()
            packed.Unpack(info)
            found.reason = info.reason
            found.outcome_unknown = info.metadata.get("outcome") == "unknown"
        elif packed.Is(pb.LeaderHint.DESCRIPTOR):
            hint = pb.LeaderHint()
            packed.Unpack(hint)
            found.leader_id, found.leader_addr = hint.leader_id, hint.leader_addr
        elif packed.Is(pb.ReadableRange.DESCRIPTOR):
            readable = pb.ReadableRange()
            packed.Unpack(readable)
            found.first_offset, found.end_offset = readable.first_offset, readable.end_offset
        elif packed.Is(details_pb.RetryInfo.DESCRIPTOR):
            retry = details_pb.RetryInfo()
            packed.Unpack(retry)
            found.retry_after_s = retry.retry_delay.ToMicroseconds() / 1e6
        elif packed.Is(details_pb.BadRequest.DESCRIPTOR):
            bad = details_pb.BadRequest()
            packed.Unpack(bad)
            found.fields = {violation.field: violation.description for violation in bad.field_violations}
    if not found.reason:
        # Not the server's own word: the connection broke, the deadline passed, or it is no such server.
        found.outcome_unknown = not never_sent and code not in _KNOWN_UNCHANGED
    return found


def _sentence(code: str, text: str, addr: str, *, never_sent: bool) -> str:
    if never_sent:
        return f"cannot reach {addr}: is a node running there, and is it its gRPC address? ({text})"
    if code == "UNIMPLEMENTED":
        return f"{addr} does not know this call: it is no ourolog node, or one of another version"
    if code == "UNAVAILABLE" and "ocket closed" in text:
        return f"the connection to {addr} broke ({text})"
    if code == "DEADLINE_EXCEEDED" and text == "Deadline Exceeded":
        return f"{addr} did not answer in time"
    return text

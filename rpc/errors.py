"""The errors that end a call: a status code, a sentence for a person, and details for a program.

The details are those of google.rpc.Status (gRPC's "richer error model"): who leads, what can be
read, which field is wrong, when to retry. So a program need not read the sentence.
"""

from __future__ import annotations

from typing import Any, Final, Never

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb  # type: ignore[import-untyped]
from google.rpc import status_pb2

from ourolog.actors.messages.server import Refusal, RequestRefused
from ourolog.actors.messages.store import ReadProblem, ReadRefused
from ourolog.rpc.v1 import log_pb2 as pb

DOMAIN: Final = "ourolog"
STATUS_METADATA_KEY: Final = "grpc-status-details-bin"
NO_SUCH_METHOD: Final = "NO_SUCH_METHOD"
RETRY_AFTER_S: Final = 0.1

OUTCOME_UNKNOWN: Final = (
    "The outcome is unknown: the record may be in the log or may still get there, "
    "so sending it again may store it twice"
)


class ServiceError(Exception):
    """An error that ends a call with a status code, a sentence for a person, and details for a program.

    code: the gRPC status code.
    reason: an UPPER_CASE word that stays the same across versions (google.rpc.ErrorInfo).
    message: the sentence.
    details: further messages for google.rpc.Status.
    outcome_unknown: something that this call wanted to append may be in the log, or may still get there.
    """

    def __init__(
        self, code: grpc.StatusCode, reason: str, message: str, *details: Message, outcome_unknown: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = f"{message.rstrip('.')}. {OUTCOME_UNKNOWN}" if outcome_unknown else message
        self.details = details
        self.outcome_unknown = outcome_unknown

    def copy(self) -> ServiceError:
        """An equal error without a traceback."""
        new = ServiceError(self.code, self.reason, self.message, *self.details)
        new.outcome_unknown = self.outcome_unknown
        return new

    def with_unknown_outcome(self) -> ServiceError:
        """This error, with an unknown outcome: for a call that may have appended something."""
        if self.outcome_unknown:
            return self
        return ServiceError(self.code, self.reason, self.message, *self.details, outcome_unknown=True)

    def to_status(self) -> status_pb2.Status:
        """The google.rpc.Status that travels in the trailing metadata."""
        metadata = {"outcome": "unknown"} if self.outcome_unknown else {}
        if self.reason in _EARLIER_ATTEMPTS:
            metadata["earlier_attempts"] = _EARLIER_ATTEMPTS[self.reason]
        packed = []
        for detail in (details_pb.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=metadata), *self.details):
            any_detail = AnyProto()
            any_detail.Pack(detail)
            packed.append(any_detail)
        number: int = self.code.value[0]
        return status_pb2.Status(code=number, message=self.message, details=packed)

    async def abort(self, context: grpc.aio.ServicerContext[Any, Any]) -> Never:
        """End the call of this context. Never returns, since gRPC raises AbortError."""
        metadata = ((STATUS_METADATA_KEY, self.to_status().SerializeToString()),)
        await context.abort(self.code, self.message, metadata)
        raise AssertionError("abort raises")


def invalid(field: str, problem: str, message: str) -> ServiceError:
    """INVALID_ARGUMENT that names the field.

    problem: what is wrong with the field, for google.rpc.BadRequest.
    message: the sentence for a person, with what to do about it.
    """
    violation = details_pb.BadRequest.FieldViolation(field=field, description=problem)
    return ServiceError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID",
        f"{field}: {message}",
        details_pb.BadRequest(field_violations=[violation]),
    )


def overloaded(message: str, retry_after_s: float = RETRY_AFTER_S) -> ServiceError:
    """RESOURCE_EXHAUSTED with when to retry. Nothing was appended."""
    return ServiceError(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", message, _retry_info(retry_after_s))


def _retry_info(after_s: float) -> details_pb.RetryInfo:
    retry = details_pb.RetryInfo()
    retry.retry_delay.FromMicroseconds(int(after_s * 1e6))
    return retry


def unavailable(reason: str, message: str) -> ServiceError:
    """UNAVAILABLE: another node, or this one later, may do it."""
    return ServiceError(grpc.StatusCode.UNAVAILABLE, reason, message)


def no_such_method() -> ServiceError:
    """UNIMPLEMENTED: the method is of another service, or of another version."""
    return ServiceError(grpc.StatusCode.UNIMPLEMENTED, NO_SUCH_METHOD, "this node has no such method")


def undecodable(name: str) -> ServiceError:
    """INVALID_ARGUMENT for bytes that are no message.

    name: that of the message that was expected.
    """
    return invalid(
        "request",
        f"is not a {name}",
        f"the bytes received are not an encoded {name}: they were changed on the way, or the client is of another "
        "contract. Nothing of it was appended",
    )


class OutOfRangeError(ServiceError):
    """OUT_OF_RANGE with the offsets that can be read.

    first: the first of them.
    end: the offset after the last.
    """

    def __init__(self, message: str, first: int, end: int) -> None:
        readable = pb.ReadableRange(first_offset=first, end_offset=end)
        super().__init__(grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE", message, readable)
        self.first = first
        self.end = end


def damaged(message: str) -> ServiceError:
    """DATA_LOSS: what the log holds cannot be read."""
    return ServiceError(grpc.StatusCode.DATA_LOSS, "DAMAGED", message)


_CODES: Final = {
    Refusal.NOT_LEADER: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.LEADER_UNKNOWN: grpc.StatusCode.UNAVAILABLE,
    Refusal.OUT_OF_RANGE: grpc.StatusCode.OUT_OF_RANGE,
    Refusal.TIMED_OUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Refusal.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Refusal.DEPOSED: grpc.StatusCode.ABORTED,
    Refusal.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Refusal.COMMIT_UNKNOWN: grpc.StatusCode.UNAVAILABLE,
    Refusal.NOT_CONFIRMED: grpc.StatusCode.UNAVAILABLE,
    Refusal.BEHIND: grpc.StatusCode.UNAVAILABLE,
    Refusal.NOBODY_ELECTED: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.STOPPING: grpc.StatusCode.UNAVAILABLE,
    Refusal.PRODUCER_EXPIRED: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.SEQUENCE_FORGOTTEN: grpc.StatusCode.ALREADY_EXISTS,
    Refusal.SEQUENCE_GAP: grpc.StatusCode.ABORTED,
    Refusal.SEQUENCE_REUSED: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.ACKS_TOO_WEAK: grpc.StatusCode.INVALID_ARGUMENT,
}


_EARLIER_ATTEMPTS: Final = {
    Refusal.PRODUCER_EXPIRED.name: "unknown",
    Refusal.SEQUENCE_FORGOTTEN.name: "stored",
}
"""What became of a batch that its producer had sent before, where this call has appended nothing for certain."""

_PASSES_SOON: Final = frozenset(
    {
        Refusal.OVERLOADED,
        Refusal.NOT_READY,
        Refusal.COMMIT_UNKNOWN,
        Refusal.NOT_CONFIRMED,
        Refusal.BEHIND,
        Refusal.LEADER_UNKNOWN,
    }
)


def from_refusal(refused: RequestRefused) -> ServiceError:
    """The status of a request that the Server actor refused."""
    if refused.refusal is Refusal.OUT_OF_RANGE:
        return OutOfRangeError(refused.detail, refused.first, refused.end)
    details: list[Message] = []
    if refused.refusal in {Refusal.NOT_LEADER, Refusal.LEADER_UNKNOWN, Refusal.BEHIND}:
        details.append(pb.LeaderHint(leader_id=refused.leader_id or "", leader_addr=refused.leader_addr))
    if refused.refusal in _PASSES_SOON:
        details.append(_retry_info(RETRY_AFTER_S))
    return ServiceError(
        _CODES[refused.refusal],
        refused.refusal.name,
        refused.detail or f"refused: {refused.refusal}",
        *details,
        outcome_unknown=refused.outcome_unknown,
    )


def from_read_refused(refused: ReadRefused) -> ServiceError:
    """The status of a read that the store refused."""
    match refused.problem:
        case ReadProblem.OUT_OF_RANGE:
            return OutOfRangeError(refused.detail, refused.first.offset, refused.end.offset)
        case ReadProblem.DAMAGED:
            return damaged(refused.detail)
        case ReadProblem.REPAIRING:
            retry = _retry_info(RETRY_AFTER_S)
            return ServiceError(grpc.StatusCode.UNAVAILABLE, "REPAIRING", refused.detail, retry)
        case ReadProblem.BUSY:
            return ServiceError(grpc.StatusCode.UNAVAILABLE, "BUSY", refused.detail, _retry_info(RETRY_AFTER_S))


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    """The google.rpc.Status that came with an error, or None where there is none or it cannot be read."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_METADATA_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except Exception:  # whatever a foreign server put there is not worth an exception
                return None
    return None

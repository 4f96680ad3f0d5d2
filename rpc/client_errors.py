"""The error that the client's calls raise: the server's status, its details unpacked."""

from __future__ import annotations

from typing import Final

import grpc
from google.rpc import error_details_pb2 as details_pb  # type: ignore[import-untyped]

from ourolog.rpc.errors import DOMAIN, NO_SUCH_METHOD, status_of
from ourolog.rpc.v1 import log_pb2 as pb

# gRPC says by these texts only that a call never left this machine. They are grpcio's, and no contract of ours.
_NEVER_SENT: Final = (
    "failed to connect to all addresses",
    "errors resolving",
    "DNS resolution failed",
    "Name resolution failure",
    "CLIENT: Sent message larger than max",
)
# And by these that no method was called.
_NEVER_HANDLED: Final = (
    "SERVER: Received message larger than max",
    "Method not found!",
)
# grpcio's words where a call was ended while more was being sent on it; they replace the status that it ended with.
_ENDED_WHILE_SENDING: Final = "Internal error from Core"
# Codes that may pass when the call is made again, whoever answered.
_PASSING: Final = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "INTERNAL", "UNKNOWN"}


class LogError(Exception):
    """A call of the client that failed; its text is a sentence for a person.

    message: the sentence.
    code: the name of the gRPC status code.
    addr: the node that was asked, HOST:PORT.
    reason: the server's stable word for the error; "" where the error is not the server's own.
    outcome_unknown: whether a produce may have been stored all the same.
    never_sent: whether the call never left this machine.
    end_is_hidden: whether the call was ended while more was being sent on it, for which gRPC hides why it was.
    leader_id, leader_addr: who leads; "" where the server did not say.
    first_offset, end_offset: the readable range, `end_offset` exclusive; None where the server did not say.
    fields: what is wrong with the request, by field.
    retry_after_s: how long the server wants the client to wait before it tries again, if it said so.
    """

    def __init__(self, message: str, code: str = "UNKNOWN", *, addr: str = "", outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.addr = addr
        self.reason = ""
        self.outcome_unknown = outcome_unknown
        self.never_sent = False
        self.end_is_hidden = False
        self.leader_id = ""
        self.leader_addr = ""
        self.first_offset: int | None = None
        self.end_offset: int | None = None
        self.fields: dict[str, str] = {}
        self.retry_after_s: float | None = None

    @property
    def is_not_leader(self) -> bool:
        """The node that was asked to append is not the leader."""
        return self.reason == "NOT_LEADER"

    @property
    def is_end_unknown(self) -> bool:
        """A leader that has just begun does not know yet where what is committed ends."""
        return self.reason == "COMMIT_UNKNOWN"

    @property
    def is_not_confirmed(self) -> bool:
        """Nobody could say what the latest state is."""
        return self.reason == "NOT_CONFIRMED"

    @property
    def is_behind(self) -> bool:
        """The node that was asked has committed less than this client has seen."""
        return self.reason == "BEHIND"

    @property
    def is_expired(self) -> bool:
        """The log does not know the producer's id (any more)."""
        return self.reason == "PRODUCER_EXPIRED"

    @property
    def is_of_sequence(self) -> bool:
        """Something else stands in the log under this number, or stood there: it is of no use any more."""
        return self.reason in {"SEQUENCE_REUSED", "SEQUENCE_FORGOTTEN"}

    @property
    def is_of_content(self) -> bool:
        """What was to be appended was refused for what it is."""
        return self.code == "INVALID_ARGUMENT" or (self.code == "RESOURCE_EXHAUSTED" and not self.reason)

    @property
    def is_out_of_range(self) -> bool:
        """There is no record at that offset, or none yet."""
        return self.code == "OUT_OF_RANGE"

    @property
    def may_retry(self) -> bool:
        """Whether asking again may help, and cannot store anything twice."""
        if self.outcome_unknown:
            return False
        if self.reason:
            return self.code in {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED"}
        return self.never_sent and self.code == "UNAVAILABLE"

    @property
    def may_pass(self) -> bool:
        """Whether asking again may help, for calls that append nothing."""
        return self.may_retry or self.code in _PASSING


def client_closed(addr: str) -> LogError:
    """The error of a call that was open when its client was closed."""
    return LogError("the client was closed", "CANCELLED", addr=addr, outcome_unknown=True)


def never_connected(addr: str, within_s: float) -> LogError:
    """The error of a call to a node that takes connections, or swallows them, and says nothing on them."""
    failure = LogError(f"cannot reach {addr}: it did not answer within {within_s:.2g} s", "UNAVAILABLE", addr=addr)
    failure.never_sent = True
    return failure


def gone_silent(addr: str, within_s: float) -> LogError:
    """The error of a stream from a node that answers nothing any more."""
    message = f"{addr} answers nothing any more: it did not say within {within_s:.2g} s who is there"
    return LogError(message, "UNAVAILABLE", addr=addr)


def late_answer(addr: str) -> LogError:
    """The error of a produce that a node has not answered while anybody waited."""
    return LogError(f"{addr} did not answer in time", "DEADLINE_EXCEEDED", addr=addr, outcome_unknown=True)


def led_by_another(addr: str, leader_addr: str) -> LogError:
    """The error of a produce that a node has not acknowledged, which answers nothing any more while another leads."""
    message = f"{addr} answers nothing any more, and the node at {leader_addr} leads meanwhile"
    failure = LogError(message, "UNAVAILABLE", addr=addr, outcome_unknown=True)
    failure.leader_addr = leader_addr
    return failure


def not_understood(addr: str) -> LogError:
    """The error for an answer that does not follow the contract."""
    message = f"what {addr} answered is not of this contract: is it an ourolog node?"
    return LogError(message, "INTERNAL", addr=addr, outcome_unknown=True)


def no_records(addr: str, offset: int) -> LogError:
    """The error for a batch without records, which an old log may hold. Servers pass a batch's bytes on unchanged."""
    message = (
        f"the batch at offset {offset} that {addr} sent holds something else than the records that it claims: "
        "whoever produced or replicated it has a fault"
    )
    return LogError(message, "DATA_LOSS", addr=addr)


def unreadable_batch(addr: str, offset: int, why: str) -> LogError:
    """The error for a compressed batch that cannot be unfolded."""
    message = f"the batch at offset {offset} that {addr} sent cannot be decompressed: {why} (codec CODEC_ZSTD)"
    return LogError(message, "DATA_LOSS", addr=addr)


def unknown_codec(addr: str, offset: int, codec: int) -> LogError:
    """The error for a batch that is compressed in a way which only later versions know."""
    message = (
        f"the batch at offset {offset} that {addr} sent is compressed in a way that this client does not know "
        f"(codec {codec}): use a client of the node's version"
    )
    return LogError(message, "UNIMPLEMENTED", addr=addr)


def to_log_error(error: grpc.aio.AioRpcError, addr: str) -> LogError:
    """The LogError for a gRPC error.

    addr: the node that was asked.
    """
    code = error.code().name
    text = error.details() or code
    if code == "CANCELLED":
        # This client did not cancel it, which would be no error: the server, or a proxy, closed the connection.
        code, text = "UNAVAILABLE", "it was closed"
    never_sent = text.startswith(_NEVER_SENT)
    found = LogError(text, code, addr=addr)
    found.never_sent = never_sent
    found.end_is_hidden = code == "INTERNAL" and text == _ENDED_WHILE_SENDING
    status = status_of(error)
    for packed in status.details if status is not None else ():
        if packed.Is(details_pb.ErrorInfo.DESCRIPTOR):
            info = details_pb.ErrorInfo()
            packed.Unpack(info)
            if info.domain != DOMAIN:
                continue
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
        # Not the server's own word: the connection broke, the deadline passed, or it is no such server. What any
        # of them says of the outcome is not to be relied upon.
        found.outcome_unknown = not never_sent and not text.startswith(_NEVER_HANDLED)
        found.message = _sentence(code, text, addr, never_sent=never_sent)
        found.args = (found.message,)
    elif found.reason == NO_SUCH_METHOD:
        found.message = _unknown_call(addr)
        found.args = (found.message,)
    return found


def _unknown_call(addr: str) -> str:
    return f"{addr} does not know this call: it is no ourolog node, or one of another version"


def _sentence(code: str, text: str, addr: str, *, never_sent: bool) -> str:
    """The meaning of gRPC's own texts, as a sentence for a person."""
    # grpcio's words, of what it received ("Received message") and of what it was to send ("Sent message").
    if code == "RESOURCE_EXHAUSTED" and "essage larger than max" in text:
        return f"the message is larger than what can be sent to {addr}; split it ({text})"
    if never_sent:
        return f"cannot reach {addr}: is a node running there, and is it its gRPC address? ({text})"
    if code == "INTERNAL" and text == _ENDED_WHILE_SENDING:
        return f"{addr} ended the call while more was being sent on it, and gRPC does not tell why ({text})"
    if code == "UNIMPLEMENTED":
        return _unknown_call(addr)
    if code == "UNAVAILABLE":
        return f"the connection to {addr} broke ({text})"
    if code == "DEADLINE_EXCEEDED":
        return f"{addr} did not answer in time"
    return f"{addr} answered {code} as no ourolog node does: is it another server, or is one between? ({text})"

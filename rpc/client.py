"""The Python client of a log cluster, on asyncio.

It may be given any node's address, or several; from the nodes it learns of the others. It remembers up to where it
has seen the log, and reads from no node that has less. When a node
answers a produce with "not the leader", the client goes to the leader that the answer names. When a
node cannot be reached, does not answer, or knows of no leader, it asks another one, until its time is
up. A produce whose outcome is unknown is not repeated unless asked for, since it might be stored
twice. The outcome is unknown unless the server itself says that nothing was appended, or the call
never left this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
from google.protobuf.message import DecodeError

from ourolog.actors.messages.values import Acks, ReadLevel
from ourolog.rpc.client_attempts import Attempts
from ourolog.rpc.client_errors import LogError, client_closed, no_records, not_understood, to_log_error
from ourolog.rpc.client_liveness import PRODUCE_SILENT_AFTER_S, STREAM_SILENT_AFTER_S, Liveness
from ourolog.rpc.client_nodes import ClientNodes, NodeConnection
from ourolog.rpc.client_requests import UnansweredRequests
from ourolog.rpc.client_types import (
    Acknowledgement,
    LeaderTransfer,
    LogBatch,
    LogRecord,
    ServerInfo,
    VotersChange,
    provenance_from,
)
from ourolog.rpc.cluster_status import node_status
from ourolog.rpc.errors import OUTCOME_UNKNOWN
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from ourolog.storage.record_set import encode_records

_MAX_HINTS_IN_A_ROW: Final = 3
# How long a node may take to accept a connection while there are others, and one that was named as the leader.
_CONNECTS_WITHIN_S: Final = 0.3
_LEADER_CONNECTS_WITHIN_S: Final = 1.0
# How long one node is waited for at first, where another may be asked as well.
_FIRST_PATIENCE_S: Final = 1.0
# A stream that was open for this long counts as one that worked.
_WORKED_AFTER_S: Final = 2.0
_LEARN_EVERY_S: Final = 30.0
_LEARN_WITHIN_S: Final = 2.0

T = TypeVar("T")
Req = TypeVar("Req", pb.ProduceRequest, pb.ProduceBatchRequest)
Res = TypeVar("Res", pb.ProduceResponse, pb.ProduceBatchResponse, pb.ConsumeBatchResponse)
Check = Callable[[], Awaitable[tuple[LogError | None, float]]]
Call = Callable[["pb_grpc.LogAsyncStub", float], Awaitable[T]]  # quoted: only the typed stubs know the name


class LogClient:
    """A client of one cluster; use it as an async context manager.

    addresses: HOST:PORT of any node, or several: a sequence, or a text with commas between.
    timeout_s: how long one call may take, all its attempts together; streams are not bounded by it.
    on_retry: called with what an attempt failed with, each time before another one is made.
    seen_end: the offset after the last record that is known to be acknowledged or was read before: what another
        client's `seen_end` was, for instance.

    Every method raises LogError.
    """

    def __init__(
        self,
        addresses: str | Sequence[str] = "127.0.0.1:8400",
        *,
        timeout_s: float = 30.0,
        on_retry: Callable[[LogError], None] = lambda _: None,
        seen_end: int = 0,
    ) -> None:
        given = [addr.strip() for addr in addresses.split(",")] if isinstance(addresses, str) else list(addresses)
        if not given or "" in given:
            raise ValueError("the address of at least one node is needed, and none may be empty")
        self._nodes = ClientNodes(given)
        self._liveness = Liveness(self._nodes)
        self._timeout_s = timeout_s
        self._on_retry = on_retry
        self._seen_end = seen_end
        self._learning: asyncio.Task[object] | None = None
        self._learn_at_s = 0.0
        self._closed = False

    @property
    def seen_end(self) -> int:
        """The offset after the last record that this client was acknowledged, or has read.

        Every read says it, so that whichever node is asked has all below it, or lets another one answer. What was
        acknowledged by the leader alone (acks=leader) may be lost, and does not count. Where nobody is elected each
        node has offsets of its own, and nodes take no notice.
        """
        return self._seen_end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; open calls fail."""
        self._closed = True
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)
        await self._nodes.close()

    # ------------------------------------------------------------ produce

    async def produce(
        self,
        value: bytes,
        *,
        acks: Acks = Acks.DEFAULT,
        timeout_s: float | None = None,
        repeat_unknown: bool = False,
    ) -> int:
        """Append one record and return its offset.

        repeat_unknown: try again even if the record may have been stored, so it may be twice.
        """
        request = pb.ProduceRequest(record=pb.Record(value=value), acks=_acks(acks))
        response = await self._call(
            lambda stub, left_s: stub.Produce(request, timeout=left_s),
            timeout_s,
            to_leader=True,
            repeat_unknown=repeat_unknown,
        )
        self._note_produced(response.offset + 1, acks)
        return response.offset

    async def produce_batch(
        self,
        values: Sequence[bytes],
        *,
        acks: Acks = Acks.DEFAULT,
        timeout_s: float | None = None,
        repeat_unknown: bool = False,
    ) -> int:
        """Append many records with one call, all or none, and return the first's offset; the others follow on."""
        return await self.produce_payload(
            encode_records(values), len(values), acks=acks, timeout_s=timeout_s, repeat_unknown=repeat_unknown
        )

    async def produce_acknowledged(
        self, values: Sequence[bytes], *, acks: Acks = Acks.DEFAULT, timeout_s: float | None = None
    ) -> Acknowledgement:
        """As produce_batch, and says which replicas have the records on disk."""
        return await self._produce_payload(encode_records(values), len(values), acks, timeout_s, repeat_unknown=False)

    async def produce_payload(
        self,
        payload: bytes,
        record_count: int,
        *,
        acks: Acks = Acks.DEFAULT,
        timeout_s: float | None = None,
        repeat_unknown: bool = False,
    ) -> int:
        """As produce_batch, with an encoded `log.v1.RecordSet`, see `ourolog.encode_records`."""
        acknowledged = await self._produce_payload(
            payload, record_count, acks, timeout_s, repeat_unknown=repeat_unknown
        )
        return acknowledged.base_offset

    async def _produce_payload(
        self, payload: bytes, record_count: int, acks: Acks, timeout_s: float | None, *, repeat_unknown: bool
    ) -> Acknowledgement:
        request = pb.ProduceBatchRequest(records=payload, record_count=record_count, acks=_acks(acks))
        response = await self._call(
            lambda stub, left_s: stub.ProduceBatch(request, timeout=left_s),
            timeout_s,
            to_leader=True,
            repeat_unknown=repeat_unknown,
        )
        self._note_produced(response.base_offset + record_count, acks)
        return Acknowledgement(response.base_offset, record_count, tuple(response.replicas))

    async def produce_stream(
        self,
        values: AsyncIterable[bytes] | Iterable[bytes],
        *,
        acks: Acks = Acks.DEFAULT,
        repeat_unknown: bool = False,
    ) -> AsyncGenerator[int, None]:
        """Append records as they come and yield the offset of each, in order.

        When the leader changes, the stream goes on at the new one, with all that was not answered, if it is known
        that none of that was appended; else it fails, and the outcome of what was not answered is unknown.

        repeat_unknown: go on then, too, so records may be stored twice.
        """
        wanted = _acks(acks)
        requests = UnansweredRequests(
            values, lambda value: pb.ProduceRequest(record=pb.Record(value=value), acks=wanted)
        )
        answers = self._answers(requests, lambda stub: stub.ProduceStream(requests.messages()), repeat_unknown)
        async with aclosing(answers):
            async for response in answers:
                self._note_produced(response.offset + 1, acks)
                yield response.offset

    async def produce_batch_stream(
        self,
        batches: AsyncIterable[Sequence[bytes]] | Iterable[Sequence[bytes]],
        *,
        acks: Acks = Acks.DEFAULT,
        repeat_unknown: bool = False,
    ) -> AsyncGenerator[int, None]:
        """Append batches as they come, pipelined, and yield the first offset of each, in order. See produce_stream."""
        wanted = _acks(acks)
        requests = UnansweredRequests(
            batches,
            lambda values: pb.ProduceBatchRequest(
                records=encode_records(values), record_count=len(values), acks=wanted
            ),
        )
        answers = self._answers(requests, lambda stub: stub.ProduceBatchStream(requests.messages()), repeat_unknown)
        async with aclosing(answers):
            async for response in answers:
                self._note_produced(response.base_offset + response.record_count, acks)
                yield response.base_offset

    def _note_produced(self, end: int, acks: Acks) -> None:
        if acks is not Acks.LEADER:
            self._seen_end = max(self._seen_end, end)

    async def _answers(
        self,
        requests: UnansweredRequests[Any, Req],
        open_call: Callable[[pb_grpc.LogAsyncStub], grpc.aio.StreamStreamCall[Req, Res]],
        repeat_unknown: bool,
    ) -> AsyncGenerator[Res, None]:
        """The answers to a produce stream, on as many calls one after another as it takes."""
        loop = asyncio.get_running_loop()
        attempts: Attempts | None = None

        async def check(connection: NodeConnection) -> tuple[LogError | None, float]:
            if requests.outstanding:
                return await self._liveness.produce_failure(connection)
            return await self._liveness.stream_failure(connection)

        try:
            while True:
                addr = await self._find_leader()
                responses = self._responses(addr, open_call, check, PRODUCE_SILENT_AFTER_S)
                try:
                    async with aclosing(responses):
                        async for response in responses:
                            requests.note_answer()
                            self._nodes.acknowledged(addr)
                            attempts = None
                            yield response
                    if requests.error is not None:
                        raise requests.error
                    if not requests.outstanding and requests.answered == requests.taken:
                        return
                    message = f"{addr} answered {requests.answered} of {requests.taken} produces and ended the stream"
                    raise LogError(message, "INTERNAL", addr=addr, outcome_unknown=True)
                except LogError as error:
                    failure = error
                may_repeat = failure.may_retry or failure.is_not_leader
                if not requests.outstanding:
                    failure.outcome_unknown = False  # all that was sent has been answered
                    may_repeat = failure.may_pass or failure.is_not_leader
                elif failure.outcome_unknown:
                    may_repeat = repeat_unknown and failure.may_pass
                    many = f"{requests.outstanding} produces of the stream were not answered"
                    failure.args = (f"{str(failure).rstrip('.')}; {many}. {OUTCOME_UNKNOWN}",)
                attempts = attempts or Attempts(loop.time(), self._timeout_s)
                attempts.note(failure)
                at_once = self._route(failure, addr)
                wait_s = self._wait_s(attempts, failure, addr, to_leader=True)
                if not may_repeat or wait_s is None:
                    raise attempts.conclusion(failure)
                self._on_retry(failure)
                await asyncio.sleep(0 if at_once else wait_s)
        finally:
            await requests.close()

    # ------------------------------------------------------------ consume

    async def consume(
        self,
        offset: int,
        *,
        provenance: bool = False,
        read: ReadLevel = ReadLevel.COMMITTED,
        timeout_s: float | None = None,
    ) -> LogRecord:
        """The record at `offset`, from the first node that answers. OUT_OF_RANGE if there is none yet.

        read: with LATEST, OUT_OF_RANGE says that no quorum had acknowledged a record there when this was called.
        """
        request = pb.ConsumeRequest(offset=offset, provenance=provenance, read=_READS[read], seen_end=self._seen_end)
        try:
            response = await self._call(lambda stub, left_s: stub.Consume(request, timeout=left_s), timeout_s)
        except LogError as error:
            if error.is_out_of_range and read is ReadLevel.LATEST:
                self._seen_end = max(self._seen_end, error.end_offset or 0)
            raise
        record = response.record
        self._seen_end = max(self._seen_end, record.offset + 1)
        return LogRecord(
            record.offset,
            record.value,
            provenance_from(response.provenance) if response.HasField("provenance") else None,
        )

    async def consume_stream(
        self,
        offset: int = 0,
        *,
        provenance: bool = False,
        stop_at_end: bool = False,
        read: ReadLevel = ReadLevel.COMMITTED,
    ) -> AsyncGenerator[LogRecord, None]:
        """Every record from `offset` on; waits at the end for more unless stop_at_end. See consume_batches."""
        batches = self.consume_batches(offset, provenance=provenance, stop_at_end=stop_at_end, read=read)
        try:
            async for batch in batches:
                for at, value in enumerate(batch.values, batch.base_offset):
                    if at >= offset:
                        yield LogRecord(at, value, batch.provenance)
        finally:
            await batches.aclose()

    async def consume_batches(
        self,
        offset: int = 0,
        *,
        provenance: bool = False,
        stop_at_end: bool = False,
        max_bytes: int = 0,
        read: ReadLevel = ReadLevel.COMMITTED,
    ) -> AsyncGenerator[LogBatch, None]:
        """The records from `offset` on by the batch, much faster than one by one.

        When the connection breaks, or a leader does not know yet where its log ends, it goes on
        where it was, for as long as timeout_s without a success. Where the log holds something else
        than records it ends with a LogError of code DATA_LOSS.

        max_bytes: how much one message may hold; 0 for the server's choice.
        read: with LATEST, it holds at least all that a quorum had acknowledged when it was called; what comes after
            that is as recent as the node that is read from.
        """
        loop = asyncio.get_running_loop()
        attempts: Attempts | None = None
        first_offset = offset
        while True:
            addr = self._nodes.current_addr
            request = pb.ConsumeBatchRequest(
                offset=offset,
                max_bytes=max_bytes,
                stop_at_end=stop_at_end,
                provenance=provenance,
                read=_READS[read],
                seen_end=self._seen_end,
            )
            began_s = loop.time()
            responses = self._responses(
                addr, partial(_consume, request=request), self._liveness.stream_failure, STREAM_SILENT_AFTER_S
            )
            try:
                async with aclosing(responses):
                    async for response in responses:
                        attempts = None
                        for batch in _batches(response, addr):
                            if batch.end_offset > offset:
                                self._seen_end = max(self._seen_end, batch.end_offset)
                                yield batch
                                offset = batch.end_offset
                        began_s = loop.time()
                return
            except LogError as error:
                failure = error
            now_s = loop.time()
            # A stream that was open for a while has worked, whether or not there was anything to send; not so one
            # that only waited for somebody to confirm what the latest state is.
            has_worked = now_s - began_s > _WORKED_AFTER_S and not (failure.never_sent or failure.is_not_confirmed)
            if attempts is None or has_worked:
                attempts = Attempts(now_s, self._timeout_s)
            attempts.note(failure)
            # Of two nodes one may have less than the other, for a while.
            is_behind = failure.is_out_of_range and first_offset < offset and offset > (failure.end_offset or 0)
            self._route(failure, addr)
            if is_behind:
                self._nodes.leave(addr, now_s)
            wait_s = self._wait_s(attempts, failure, addr)
            if not (failure.may_pass or is_behind) or wait_s is None:
                raise attempts.conclusion(failure)
            self._on_retry(failure)
            await asyncio.sleep(wait_s)

    # ------------------------------------------------------------ the cluster

    async def get_servers(self, *, timeout_s: float | None = None) -> list[ServerInfo]:
        """Who is alive in the cluster, sorted by name, and who leads."""
        request = pb.GetServersRequest()
        response = await self._call(lambda stub, left_s: stub.GetServers(request, timeout=left_s), timeout_s)
        return [ServerInfo(server.id, server.rpc_addr, server.is_leader) for server in response.servers]

    async def status(self, *, timeout_s: float | None = None) -> dict[str, object]:
        """What the node that answers knows of itself: an entry of `nodes` in `cluster_status`."""
        request = pb.GetStatusRequest()
        response = await self._call(lambda stub, left_s: stub.GetStatus(request, timeout=left_s), timeout_s)
        return node_status(response)

    async def transfer_leader(self, to: str | None = None, *, timeout_s: float | None = None) -> LeaderTransfer:
        """Let another node lead, and return once it does.

        to: the node that is to lead; None for whichever voter is best.
        """
        request = pb.TransferLeaderRequest(node_id=to or "")
        response = await self._call(
            lambda stub, left_s: stub.TransferLeader(request, timeout=left_s),
            timeout_s,
            to_leader=True,
            repeat_unknown=False,
            if_unknown="Whether another node leads now is not known: look at the status before you ask again",
        )
        self._nodes.leader_addr = ""
        return LeaderTransfer(response.leader, response.term, response.previous_leader)

    async def add_voter(self, node_id: str, *, timeout_s: float | None = None) -> VotersChange:
        """Have a node vote that copies, and return once that is committed."""
        request = pb.AddVoterRequest(node_id=node_id)
        return await self._change_voters(lambda stub, left_s: stub.AddVoter(request, timeout=left_s), timeout_s)

    async def remove_voter(self, node_id: str, *, timeout_s: float | None = None) -> VotersChange:
        """Have a voter vote no more, and return once that is committed. It goes on copying."""
        request = pb.RemoveVoterRequest(node_id=node_id)
        return await self._change_voters(lambda stub, left_s: stub.RemoveVoter(request, timeout=left_s), timeout_s)

    async def _change_voters(self, call: Call[pb.ChangeVotersResponse], timeout_s: float | None) -> VotersChange:
        response = await self._call(
            call,
            timeout_s,
            to_leader=True,
            repeat_unknown=False,
            if_unknown="Whether the voters are changed is not known: look at the status before you ask again",
        )
        return VotersChange(tuple(response.voters), response.term)

    async def _find_leader(self) -> str:
        """Where to produce to: the leader's address, or the current node's where nobody is elected."""
        if not self._nodes.leader_addr:
            servers = await self.get_servers()
            self._nodes.told_of(servers, asyncio.get_running_loop().time())
        return self._nodes.leader_addr or self._nodes.current_addr

    # ------------------------------------------------------------ attempts

    async def _call(
        self,
        call: Call[T],
        timeout_s: float | None,
        *,
        to_leader: bool = False,
        repeat_unknown: bool = True,
        if_unknown: str = OUTCOME_UNKNOWN,
    ) -> T:
        loop = asyncio.get_running_loop()
        attempts = Attempts(loop.time(), self._timeout_s if timeout_s is None else timeout_s)
        patience_s = _FIRST_PATIENCE_S
        hints = 0
        while True:
            addr = (self._nodes.leader_addr if to_leader else "") or self._nodes.current_addr
            left_s = attempts.left_s(loop.time())
            may_ask_another = not to_leader and len(self._nodes.addresses) > 1
            try:
                return await self._attempt(
                    addr, call, min(left_s, patience_s) if may_ask_another else left_s, is_produce=to_leader
                )
            except LogError as error:
                failure = error
            if to_leader and failure.outcome_unknown and not failure.reason:
                failure.args = (f"{str(failure).rstrip('.')}. {if_unknown}",)
            if failure.code == "DEADLINE_EXCEEDED":
                patience_s *= 2
            attempts.note(failure)
            worth_it = failure.may_retry or failure.is_not_leader or (repeat_unknown and failure.may_pass)
            if self._route(failure, addr) and worth_it:
                hints += 1
                if hints % _MAX_HINTS_IN_A_ROW and loop.time() < attempts.give_up_at_s:
                    continue
            wait_s = self._wait_s(attempts, failure, addr, to_leader=to_leader)
            if not worth_it or wait_s is None:
                raise attempts.conclusion(failure)
            self._on_retry(failure)
            await asyncio.sleep(wait_s)

    async def _attempt(self, addr: str, call: Call[T], within_s: float, *, is_produce: bool) -> T:
        """Ask one node, once. Raises LogError."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        connection = self._nodes.connection(addr)
        watch: _Watch | None = None
        try:
            with connection.in_use():
                await self._connect(connection, within_s)
                calling = call(connection.stub, max(0.0, began_s + within_s - loop.time()))
                if is_produce:
                    check = partial(self._liveness.produce_failure, connection)
                    watch = _Watch(calling, check, PRODUCE_SILENT_AFTER_S)
                response = await calling
        except LogError as error:
            failure = error
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError) as error:
            failure = (watch and watch.failure) or self._failure(error, addr)
        else:
            self._worked(connection)
            if response is not None:
                if is_produce:
                    self._nodes.acknowledged(addr)
                return response
            failure = not_understood(addr)
        finally:
            if watch is not None:
                watch.end()
        self._failed(connection, failure, began_s)
        raise failure

    async def _responses(
        self,
        addr: str,
        open_call: Callable[[pb_grpc.LogAsyncStub], Any],
        check: Callable[[NodeConnection], Awaitable[tuple[LogError | None, float]]],
        silent_s: float,
    ) -> AsyncGenerator[Any, None]:
        """What a stream of one node brings. Raises LogError. `check` and `silent_s` are those of its watch."""
        connection = self._nodes.connection(addr)
        began_s = asyncio.get_running_loop().time()
        call: Any = None
        watch: _Watch | None = None
        try:
            with connection.in_use():
                await self._connect(connection, self._timeout_s)
                call = open_call(connection.stub)
                watch = _Watch(call, partial(check, connection), silent_s)
                while (response := await call.read()) is not grpc.aio.EOF:
                    watch.heard()
                    self._worked(connection)
                    if response is None:  # its bytes were no message
                        raise not_understood(addr)
                    yield response
                self._worked(connection)
                return
        except LogError as error:
            failure = error
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError) as error:
            failure = (watch and watch.failure) or self._failure(error, addr)
        finally:
            if watch is not None:
                watch.end()
            if call is not None:
                call.cancel()
        self._failed(connection, failure, began_s)
        raise failure

    async def _connect(self, connection: NodeConnection, within_s: float) -> None:
        """Raises LogError if the node does not accept a connection in time, or sooner if others can be asked."""
        if len(self._nodes.addresses) > 1:
            is_leader = connection.addr == self._nodes.leader_addr
            within_s = min(within_s, _LEADER_CONNECTS_WITHIN_S if is_leader else _CONNECTS_WITHIN_S)
        await connection.connect(within_s)

    # ------------------------------------------------------------ what is learnt from an attempt

    def _worked(self, connection: NodeConnection) -> None:
        self._nodes.reached(connection.addr)
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._learn_at_s and (self._learning is None or self._learning.done()) and not self._closed:
            self._learn_at_s = now_s + _LEARN_EVERY_S
            self._learning = asyncio.create_task(self._liveness.servers(connection, _LEARN_WITHIN_S))

    def _failed(self, connection: NodeConnection, failure: LogError, began_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        is_late = failure.code == "DEADLINE_EXCEEDED"
        if failure.reason or (failure.code != "UNAVAILABLE" and not is_late):
            return
        # Without a cause it is this client that gave it up.
        took_long = now_s - began_s >= _CONNECTS_WITHIN_S
        is_silent = is_late or failure.__cause__ is None or (failure.never_sent and took_long)
        self._nodes.unreachable(connection.addr, now_s, is_silent=is_silent)
        self._learn_at_s = now_s  # something has changed
        if failure.never_sent and failure.__cause__ is not None:  # else it is still on its way
            self._nodes.give_up(connection)

    def _route(self, failure: LogError, addr: str) -> bool:
        """Decide whom to ask after a failure. Returns whether at once."""
        now_s = asyncio.get_running_loop().time()
        leader_addr = failure.leader_addr
        if failure.is_end_unknown:
            return False  # another node may have less, and report that as the end
        is_named = bool(leader_addr) and leader_addr != addr and not self._nodes.is_down(leader_addr, now_s)
        if failure.code in {"UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED"} or (failure.is_not_leader and not is_named):
            self._nodes.leave(addr, now_s)
        if is_named:
            self._nodes.leader_addr = leader_addr
            if failure.is_behind:
                self._nodes.read_from(leader_addr)
        return is_named

    def _wait_s(self, attempts: Attempts, failure: LogError, addr: str, *, to_leader: bool = False) -> float | None:
        following = (self._nodes.leader_addr if to_leader else "") or self._nodes.current_addr
        return attempts.wait_s(failure, asyncio.get_running_loop().time(), is_same_node=following == addr)

    def _failure(self, error: BaseException, addr: str) -> LogError:
        """What an attempt ended with. Raises CancelledError when it was this task that was cancelled."""
        if isinstance(error, grpc.aio.AioRpcError):
            failure = to_log_error(error, addr)
        elif isinstance(error, grpc.aio.UsageError) or (self._closed and not _is_cancelled()):
            failure = client_closed(addr)
        else:
            raise error
        failure.__cause__ = error
        return failure


class _Watch:
    """Looks after a call from which nothing has come for a while, and ends it when `check` says why.

    failure: what it was ended with.
    """

    def __init__(self, call: Any, check: Check, silent_s: float) -> None:
        """Begin to watch.

        check: called when nothing has come for a while; gives why to end the call, and when to look again if not.
        silent_s: how long that is at first.
        """
        self._call = call
        self._check = check
        self._silent_s = silent_s
        self._has_heard = False
        self._checking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(silent_s, self._look)
        self.failure: LogError | None = None

    def heard(self) -> None:
        """Something has come."""
        self._has_heard = True

    def end(self) -> None:
        """The call has ended."""
        self._timer.cancel()
        if self._checking is not None:
            self._checking.cancel()

    def _look(self) -> None:
        if self._has_heard:
            self._look_again(self._silent_s)
        else:
            self._checking = asyncio.create_task(self._look_closer())

    def _look_again(self, after_s: float) -> None:
        self._has_heard = False
        self._timer = asyncio.get_running_loop().call_later(after_s, self._look)

    async def _look_closer(self) -> None:
        failure, after_s = await self._check()
        if failure is None or self._has_heard:
            self._look_again(after_s)
        else:
            self.failure = failure
            self._call.cancel()


def _consume(stub: pb_grpc.LogAsyncStub, *, request: pb.ConsumeBatchRequest) -> Any:
    return stub.ConsumeBatchStream(request)


_READS: Final = {ReadLevel.COMMITTED: pb.READ_COMMITTED, ReadLevel.LATEST: pb.READ_LATEST}


def _acks(acks: Acks) -> pb.Acks.ValueType:
    return pb.Acks.ValueType(int(acks))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _batches(response: pb.ConsumeBatchResponse | None, addr: str) -> Iterator[LogBatch]:
    if response is None:
        raise not_understood(addr)
    for batch in response.batches:
        try:
            values = [record.value for record in pb.RecordSet.FromString(batch.records).records]
        except DecodeError as error:
            raise no_records(addr, batch.base_offset) from error
        if len(values) != batch.record_count:
            raise no_records(addr, batch.base_offset)
        provenance = provenance_from(batch.provenance) if batch.HasField("provenance") else None
        yield LogBatch(batch.base_offset, values, provenance)

"""The edge as a whole, at every step: counts within bounds, nobody forgotten, nothing leaked, no outcome misreported.

Hypothesis plays clients and actors against a LogService in virtual time; after each play whoever
is still served must end by itself, and everything must be as it was before.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.rpc import status_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.server import Produce, Produced, Refusal, RequestRefused
from ourolog.rpc.admission import ProduceLimiter, ReadBudget
from ourolog.rpc.arrival_limiter import ARRIVE_WITHIN_S, ArrivalLimiter
from ourolog.rpc.errors import STATUS_METADATA_KEY, unavailable
from ourolog.rpc.log_service import ClientLimits, LogService
from ourolog.rpc.node_status import StatusSources
from ourolog.rpc.produce_handler import ABANDONED_COUNTS_S
from ourolog.rpc.record_checks import RecordLimits
from ourolog.rpc.testing import FakeContext, ScriptedServer, SilentActor, VirtualLoop
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_record
from ourolog.storage.types import Index, NodeId, Term

PLACES = 4
CLIENTS = ("a", "b", "c", "d")
HONEST = "honest"
# Half of the places turn over within this, and at most so many clients are before one in a turn.
HONEST_WAITS_S = 1.0
MAX_BYTES = 4_000
MAX_CALLS = 40
MAX_STREAMS = 6

clients = st.sampled_from(CLIENTS)
values = st.binary(min_size=1, max_size=900)


class OpenCall:
    """One call as its client sees it. sent: values, in order."""

    def __init__(self, method: str, context: FakeContext) -> None:
        self.method = method
        self.context = context
        self.sent: list[bytes] = []
        self.task: asyncio.Task[Any] | None = None
        self.cancelled = False
        self.half_closed = False


class EdgeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.number = 0
        self.calls: list[OpenCall] = []
        self.told: set[int] = set()
        self.over = False
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self.server = ScriptedServer()
        self.server.hold = True
        self.admission = ClientLimits(
            ProduceLimiter(12, MAX_BYTES),
            ReadBudget(20_000),
            ArrivalLimiter(PLACES),
            max_streams=MAX_STREAMS,
            max_produce_streams=MAX_STREAMS,
            max_calls=MAX_CALLS,
        )
        silent = SilentActor()
        sources = StatusSources(
            NodeConfig(NodeId("n1"), "/data", "127.0.0.1:1", "127.0.0.1:2"), "1", silent, silent, silent, silent
        )
        self.service = LogService(self.server, sources, RecordLimits(1000, 10_000), self.admission)
        self.handlers = self.service.handlers()

    # ------------------------------------------------------------ what clients do

    def _open(self, method: str, context: FakeContext) -> OpenCall:
        call = OpenCall(method, context)
        handler = self.handlers[method]
        serve = handler.stream_unary or handler.stream_stream
        call.task = self.loop.create_task(self._serve(serve, context))
        self.calls.append(call)
        return call

    async def _serve(self, serve: Any, context: FakeContext) -> Any:
        try:
            return await serve(None, context)
        except grpc.aio.AbortError:
            return None

    @rule(
        client=clients,
        method=st.sampled_from(["Produce", "ProduceStream", "Consume", "ConsumeStream", "GetServers"]),
        reads=st.booleans(),
        remaining_s=st.sampled_from([None, 0.0, 2.0, 1e9]),
    )
    def a_client_opens_a_call(self, client: str, method: str, reads: bool, remaining_s: float | None) -> None:
        self._open(method, FakeContext(client, remaining_s, reads=reads))
        self._run()

    @rule(
        client=clients,
        method=st.sampled_from(["Produce", "ProduceStream"]),
        records=st.lists(values, min_size=1, max_size=4),
        reads=st.booleans(),
    )
    def a_client_produces(self, client: str, method: str, records: list[bytes], reads: bool) -> None:
        call = self._open(method, FakeContext(client, reads=reads or method == "Produce"))
        for value in records[: 1 if method == "Produce" else None]:
            self._send(call, value)
        self._run()

    @rule(
        client=clients,
        method=st.sampled_from(["Consume", "ConsumeStream"]),
        offset=st.integers(0, 6),
        reads=st.booleans(),
    )
    def a_client_consumes(self, client: str, method: str, offset: int, reads: bool) -> None:
        call = self._open(method, FakeContext(client, reads=reads))
        call.half_closed = True
        call.context.send(pb.ConsumeRequest(offset=offset).SerializeToString())
        self._run()

    @precondition(lambda self: len(self.calls) < MAX_CALLS // 4)
    @rule(client=clients)
    def a_client_is_silent_on_many_calls(self, client: str) -> None:
        for _ in range(PLACES + 1):
            self._open("Produce", FakeContext(client))
        self._run()

    def _send(self, call: OpenCall, value: bytes) -> None:
        self.number += 1
        value = b"%d:" % self.number + value
        call.sent.append(value)
        call.context.send(pb.ProduceRequest(record=pb.Record(value=value)).SerializeToString())

    def _chosen(self, data: Any, *methods: str) -> OpenCall | None:
        able = [call for call in self.calls if self._is_open(call) and (not methods or call.method in methods)]
        return data.draw(st.sampled_from(able)) if able else None

    def _some_open(self) -> bool:
        return any(map(self._is_open, self.calls))

    def _is_open(self, call: OpenCall) -> bool:
        assert call.task is not None
        return not call.task.done()

    @precondition(lambda self: self._some_open())
    @rule(data=st.data(), value=values)
    def it_sends_a_record(self, data: Any, value: bytes) -> None:
        call = self._chosen(data, "Produce", "ProduceStream")
        if call is not None and not call.half_closed and not (call.method == "Produce" and call.sent):
            self._send(call, value)
            self._run()

    @precondition(lambda self: self._some_open())
    @rule(data=st.data(), offset=st.integers(0, 12))
    def it_asks_for_an_offset(self, data: Any, offset: int) -> None:
        call = self._chosen(data, "Consume", "ConsumeStream", "GetServers")
        if call is not None and not call.half_closed:
            call.half_closed = True
            call.context.send(pb.ConsumeRequest(offset=offset).SerializeToString())
            self._run()

    @precondition(lambda self: self._some_open())
    @rule(data=st.data(), junk=st.sampled_from([b"\xff\xff\xff", b"\x0a\xff", b""]))
    def it_sends_junk(self, data: Any, junk: bytes) -> None:
        call = self._chosen(data)
        if call is not None and not call.half_closed:
            call.context.send(junk)
            self._run()

    @precondition(lambda self: self._some_open())
    @rule(data=st.data())
    def it_ends_its_half(self, data: Any) -> None:
        call = self._chosen(data)
        if call is not None and not call.half_closed:
            call.half_closed = True
            call.context.send(grpc.aio.EOF)
            self._run()

    @precondition(lambda self: self._some_open())
    @rule(data=st.data(), turns=st.integers(0, 3))
    def it_goes_away(self, data: Any, turns: int) -> None:
        call = self._chosen(data)
        if call is not None:
            for _ in range(turns):
                self.loop.run_until_complete(asyncio.sleep(0))
            assert call.task is not None
            call.cancelled = True
            call.task.cancel()
            self._run()

    @precondition(lambda self: self._some_open())
    @rule(data=st.data())
    def it_reads_at_last(self, data: Any) -> None:
        call = self._chosen(data)
        if call is not None:
            call.context.take()
            self._run()

    @precondition(lambda self: not self.over and len([c for c in self.calls if self._is_open(c)]) < MAX_CALLS // 2)
    @rule()
    def an_honest_client_is_served_at_once(self) -> None:
        context = FakeContext(HONEST)
        context.send(pb.GetServersRequest().SerializeToString())
        began_s = self.loop.time()
        call = self._open("GetServers", context)
        assert call.task is not None
        self.loop.run_until_complete(asyncio.wait((call.task,), timeout=10.0))
        assert call.task.done()
        assert call.context.code is None, "refused"
        assert self.loop.time() - began_s <= HONEST_WAITS_S

    # ------------------------------------------------------------ what actors do

    @precondition(lambda self: bool(self._unanswered()))
    @rule(data=st.data(), how=st.sampled_from(["append and answer", "append", "refuse", "append and lose"]))
    def the_server_actor_acts(self, data: Any, how: str) -> None:
        produce = data.draw(st.sampled_from(self._unanswered()))
        self.told.add(produce.request_id)
        request_id = produce.request_id
        if "append" in how:
            base_offset = self.server.append(produce.batch)
            if how == "append and answer":
                produce.reply_to.tell(Produced(request_id, base_offset, Term(1), Index(0)))
            elif how == "append and lose":
                refused = RequestRefused(request_id, Refusal.DEPOSED, "lost the lead", outcome_unknown=True)
                produce.reply_to.tell(refused)
        else:
            produce.reply_to.tell(RequestRefused(request_id, Refusal.NOT_READY, "not now"))
        self._run()

    def _unanswered(self) -> list[Produce]:
        return [produce for produce in self.server.all(Produce) if produce.request_id not in self.told]

    @rule(value=values)
    def others_append(self, value: bytes) -> None:
        self.server.append(NewBatch(encode_record(b"other" + value), 1))
        self._run()

    @rule(seconds=st.sampled_from([0.01, 0.2, 3.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.pass_s(seconds)

    @precondition(lambda self: not self.over and len(self.calls) > 6)
    @rule(how=st.sampled_from(["fails", "fails in the turn of an answer", "drains"]))
    def the_node_ends(self, how: str) -> None:
        self.over = True
        if how == "fails in the turn of an answer":
            for produce in self._unanswered():
                self.told.add(produce.request_id)
                produce.reply_to.tell(
                    Produced(produce.request_id, self.server.append(produce.batch), Term(1), Index(0))
                )
            self.loop.call_soon(self.service.end, unavailable("NODE_FAILED", "n1 has failed"))
        elif how == "fails":
            self.service.end(unavailable("NODE_FAILED", "n1 has failed"))
        else:
            self.service.drain()
        self._run()

    def _run(self) -> None:
        self.loop.pass_s(0.006)  # what is gathered before it is told goes out within 5 ms

    # ------------------------------------------------------------ what always holds

    @invariant()
    def everything_is_within_its_bounds(self) -> None:
        arrivals, produces, reads = self.admission.arrivals, self.admission.produces.limit, self.admission.reads.limit
        assert 0 <= arrivals.arriving <= PLACES
        assert 0 <= produces.count <= 12
        assert 0 <= produces.size_bytes <= MAX_BYTES
        # As much again for clients that hold nothing, and one read more: batches come whole.
        assert 0 <= reads.size_bytes <= 2 * 20_000 + 20_000 // 4 + 3 * 1_000
        assert 0 <= self.service.open_calls <= MAX_CALLS
        assert 0 <= self.service.open_streams <= MAX_STREAMS
        assert 0 <= self.service.open_produce_streams <= MAX_STREAMS

    @invariant()
    def nobody_waits_beside_a_free_place(self) -> None:
        arrivals = self.admission.arrivals
        assert not arrivals.waiting or arrivals.arriving == PLACES

    @invariant()
    def what_is_said_of_an_outcome_is_so(self) -> None:
        stored = [pb.RecordSet.FromString(batch.payload).records[0].value for batch in self.server.batches]
        for call in self.calls:
            if call.task is None or not call.task.done() or not call.sent:
                continue
            answers = list(call.context.sent)
            if call.method == "Produce" and not call.task.cancelled() and call.task.result() is not None:
                answers.append(call.task.result())
            for value, answer in zip(call.sent, answers, strict=False):
                assert stored[answer.offset] == value, "acknowledged, and not there"
            if call.context.code is not None and not _says_unknown(call.context):
                unanswered = set(call.sent[len(answers) :])
                assert not unanswered & set(stored), "said not to be stored, and it is"

    @invariant()
    def nothing_is_raised_where_nobody_listens(self) -> None:
        assert self.loop.problems == []

    def teardown(self) -> None:
        # Nobody sends any more, and the actors have stopped answering: all must end by itself.
        self.loop.pass_s(ARRIVE_WITHIN_S * (2 + len(self.calls) / PLACES))
        for call in self.calls:
            call.context.take()
        self.service.drain()
        self.loop.run_until_complete(self.service.stop(1.0))
        self.loop.pass_s(ABANDONED_COUNTS_S + 1.0)
        for call in self.calls:
            assert call.task is not None
            assert call.task.done(), f"{call.method} never ended"
            if not call.cancelled:
                assert not call.task.cancelled()
        self.everything_is_within_its_bounds()
        self.what_is_said_of_an_outcome_is_so()
        self.nothing_is_raised_where_nobody_listens()
        assert self.service.open_calls == self.service.open_streams == self.service.pending_requests == 0
        assert self.service.open_produce_streams == 0
        assert self.admission.arrivals.arriving == self.admission.arrivals.waiting == 0
        for shares in (self.admission.produces.limit, self.admission.reads.limit):
            assert (shares.count, shares.size_bytes) == (0, 0)
            assert shares.clients == 0
        self.loop.close()
        asyncio.set_event_loop(None)


def _says_unknown(context: FakeContext) -> bool:
    status = status_pb2.Status.FromString(context.trailing[STATUS_METADATA_KEY])
    return b"unknown" in status.details[0].value


EdgeMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestEdge = EdgeMachine.TestCase

"""Fetches that want no batches, and votes, wait behind nothing: real sockets, and what comes before what."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

from ourolog.actors.addresses import split_address
from ourolog.actors.messages.peer_calls import (
    Answerer,
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallReturned,
    FetchRequest,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.values import Peer
from ourolog.rpc.fetch_limiter import MIB, FetchLimits
from ourolog.rpc.peer.service import PeerService
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term
from tests.rpc.peers import N2, REQUEST, Answers, Replicator, network, response, service_of, serving
from tests.rpc.test_refused_calls import bound

EMPTY = dataclasses.replace(REQUEST, max_bytes=0, max_wait_s=0.0)
VOTE = VoteRequest("c", 7, NodeId("n1"), 5, VoterKey(N2, 9), Term(4), LastEntry(Term(3), Index(8)))
GRANTED = VoteResponse(N2, 9, Term(4), None, granted=True)


class Relay:
    """Passes on what comes for an address, and of what comes back on each connection only so many bytes.

    held: one of it is released for each connection on which more would come back.
    """

    def __init__(self, addr: str, most_bytes: int) -> None:
        self._addr = addr
        self._most_bytes = most_bytes
        self._pumps: list[asyncio.Task[None]] = []
        self.held = asyncio.Semaphore(0)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._connected, "127.0.0.1", 0) as server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection(*split_address(self._addr))
        self._pumps.append(asyncio.create_task(self._pump(reader, there, None)))
        self._pumps.append(asyncio.create_task(self._pump(back, writer, self._most_bytes)))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most_bytes: int | None) -> None:
        passed = 0
        while data := await reader.read(65536):
            passed += len(data)
            if most_bytes is not None and passed > most_bytes:
                self.held.release()
                await asyncio.get_running_loop().create_future()
            writer.write(data)


class Voter(Replicator):
    """An election that grants each vote at once."""

    def tell(self, message: object) -> None:
        if isinstance(message, CallReceived):
            message.reply_to.tell(CallAnswer(message.request_id, GRANTED))
        super().tell(message)


async def test_votes_and_keep_alives_do_not_wait_behind_64_mib_of_batches_under_way() -> None:
    names = [NodeId(name) for name in ("n1", "n3", "n4", "n5")]
    replicator, fetches, answers = Replicator(), Answers(), Answers()
    service = PeerService(
        N2,
        {Answerer.REPLICATOR: replicator, Answerer.ELECTION: Voter()},
        names,
        voter_limits=FetchLimits(64, 256 * MIB, 16 * MIB, 4),
    )
    async with contextlib.AsyncExitStack() as stack:
        relay = Relay(await stack.enter_async_context(serving(service)), MIB)
        peer = Peer(N2, await stack.enter_async_context(relay.listening()))
        nets = [await stack.enter_async_context(network()) for _ in names]
        for name, net in zip(names, nets, strict=True):
            net.call(peer, 1, dataclasses.replace(REQUEST, node_id=name), fetches)
            received = await replicator.next(CallReceived)
            received.reply_to.tell(CallAnswer(received.request_id, response(bytes(16 * MIB - 1000))))
        for _ in names:
            await relay.held.acquire()
        for name, net in zip(names, nets, strict=True):
            net.call(peer, 2, dataclasses.replace(VOTE, node_id=name), answers)
            assert await answers.queue.get() == CallReturned(N2, 2, GRANTED)
            net.call(peer, 3, dataclasses.replace(EMPTY, node_id=name), answers)
            received = await replicator.next(CallReceived)
            assert received.request.max_bytes == 0
            received.reply_to.tell(CallAnswer(received.request_id, response()))
            assert await answers.queue.get() == CallReturned(N2, 3, response())
        assert fetches.queue.empty()


async def test_a_keep_alive_takes_the_place_of_no_fetch_and_no_fetch_takes_its_place() -> None:
    replicator, fetches, answers = Replicator(), Answers(), Answers()
    async with serving(service_of(replicator, NodeId("n1"))) as addr, network() as net:
        peer = Peer(N2, addr)
        net.call(peer, 1, EMPTY, answers)
        kept = await replicator.next(CallReceived)
        net.call(peer, 2, REQUEST, fetches)
        parked = await replicator.next(CallReceived)
        net.call(peer, 3, EMPTY, answers)
        second = await replicator.next(CallReceived)
        for received, request_id in ((second, 3), (kept, 1)):
            received.reply_to.tell(CallAnswer(received.request_id, response()))
            assert (await answers.queue.get()) == CallReturned(N2, request_id, response())
        parked.reply_to.tell(CallAnswer(parked.request_id, response(b"batches")))
        assert (await fetches.queue.get()) == CallReturned(N2, 2, response(b"batches"))


async def test_who_stops_pulling_ends_its_keep_alive_and_goes_on_asking_for_votes() -> None:
    replicator, election, answers = Replicator(), Replicator(), Answers()
    service = PeerService(N2, {Answerer.REPLICATOR: replicator, Answerer.ELECTION: election})
    async with serving(service) as addr, network() as net:
        net.call(Peer(N2, addr), 1, EMPTY, answers)
        net.call(Peer(N2, addr), 2, VOTE, answers)
        kept = await replicator.next(CallReceived)
        asked = await election.next(CallReceived)
        net.forget(N2)
        failed = await answers.queue.get()
        assert (type(failed), failed.request_id, failed.is_refused) == (CallFailed, 1, False)
        assert await replicator.next(CallCancelled) == CallCancelled(kept.request_id)
        asked.reply_to.tell(CallAnswer(asked.request_id, GRANTED))
        assert await answers.queue.get() == CallReturned(N2, 2, GRANTED)


async def test_forgetting_a_leader_that_stands_still_frees_its_lane_at_once() -> None:
    replicator, answers = Replicator(), Answers()
    request: FetchRequest = dataclasses.replace(REQUEST, elected=True, max_wait_s=30.0)
    with bound(backlog=8) as port:
        async with serving(service_of(replicator)) as addr, network(most_connections=1) as net:
            net.call(Peer(N2, f"127.0.0.1:{port}"), 1, request, answers)
            net.call(Peer(NodeId("n3"), addr), 2, request, answers)
            assert "open files" in (await answers.queue.get()).reason
            net.forget(N2)
            net.call(Peer(NodeId("n3"), addr), 3, request, answers)
            assert (await answers.queue.get()).request_id == 1
            received = await replicator.next(CallReceived)
            received.reply_to.tell(CallAnswer(received.request_id, response()))
            assert await answers.queue.get() == CallReturned(NodeId("n3"), 3, response())

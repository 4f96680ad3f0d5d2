"""The client without asyncio, from one thread and from many, against a service on another thread's loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ourolog.actors.messages.server import Produce
from ourolog.actors.messages.values import Acks
from ourolog.rpc.blocking_client import BlockingLogClient
from ourolog.rpc.client_errors import LogError
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_records
from tests.scripted_produces import Script, stored, unanswered


class Service:
    """An edge on a loop of its own."""

    def __init__(self, e: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.e = e
        self.address: str = e.address
        self._loop = loop

    def do(self, call: Callable[[], Any]) -> Any:
        """Have the loop do it."""

        async def done() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(30)

    def hold(self) -> None:
        """Leave the next produce unanswered."""
        self.do(lambda: Script(self.e.server, unanswered))

    def answer(self) -> None:
        """Answer the produce that came last."""
        self.do(lambda: self.e.server.produced(self.e.server.all(Produce)[-1]))

    def counts(self) -> list[int]:
        """How many records each produce had, in order of arrival."""
        return [produce.batch.record_count for produce in self.e.server.all(Produce)]


@pytest.fixture
def service(edge: Any) -> Iterator[Service]:
    found: list[Service] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with edge() as e:
            found.append(Service(e, loop))
            started.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(30)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)  # between two questions, not instead of one


def test_a_program_without_asyncio_produces_and_consumes(service: Service) -> None:
    with BlockingLogClient(service.address) as client:
        assert client.produce(b"a") == 0
        assert client.produce_batch([b"b", b"c"]) == 1
        assert client.consume(2).value == b"c"
        assert [record.value for record in client.consume_stream(1, stop_at_end=True)] == [b"b", b"c"]
        assert next(client.consume_stream(0)).value == b"a"
        assert client.seen_end == 3
        with pytest.raises(LogError, match="out of range"):
            client.consume(3)
        assert [server.node_id for server in client.get_servers()] == ["n1", "n2"]
        assert client.produce_acknowledged([b"d"], compression="zstd").base_offset == 3


def test_what_threads_produce_while_something_is_on_its_way_goes_together(service: Service) -> None:
    with BlockingLogClient(service.address) as client, ThreadPoolExecutor(41) as threads:
        assert client.produce(b"before") == 0
        service.hold()
        first = threads.submit(client.produce, b"first")
        until(lambda: len(service.counts()) == 2)
        held_bytes = client.pending_bytes
        later = [threads.submit(client.produce, b"%05d" % number) for number in range(40)]
        until(lambda: client.pending_bytes == held_bytes * 41)
        service.answer()
        assert first.result(30) == 1
        offsets = [call.result(30) for call in later]
        assert service.counts() == [1, 1, 40]
        values = stored(service.e)
        assert [values[offset] for offset in offsets] == [b"%05d" % number for number in range(40)]


def test_an_error_is_raised_in_the_thread_whose_call_it_is(service: Service) -> None:
    with BlockingLogClient(service.address) as client, ThreadPoolExecutor(20) as threads:
        values = [b"" if number == 7 else b"%d" % number for number in range(20)]
        calls = [threads.submit(client.produce, value) for value in values]
        for value, call in zip(values, calls, strict=True):
            if value:
                call.result(30)
            else:
                with pytest.raises(LogError, match="the record is empty"):
                    call.result(30)
        wrong: Any = "text"
        with pytest.raises(TypeError, match="a record is bytes"):
            client.produce(wrong)
        service.hold()
        with pytest.raises(LogError, match="not acknowledged by leader within") as raised:
            client.produce(b"late", timeout_s=0.3, acks=Acks.LEADER)
        assert raised.value.outcome_unknown


def test_whoever_is_interrupted_takes_back_what_was_not_sent(service: Service) -> None:
    with BlockingLogClient(service.address) as client, ThreadPoolExecutor(2) as threads:
        client.produce(b"before")
        service.hold()
        first = threads.submit(client.produce, b"first")
        until(lambda: len(service.counts()) == 2)
        held_bytes = client.pending_bytes
        main = threading.main_thread().ident
        assert main == threading.get_ident()

        def interrupt() -> None:
            until(lambda: client.pending_bytes > held_bytes)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        interrupting = threads.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.produce(b"taken back")
        interrupting.result(30)
        service.answer()
        assert (first.result(30), client.produce(b"last")) == (1, 2)
        assert stored(service.e) == [b"before", b"first", b"last"]


@pytest.mark.parametrize("is_handed_over", [False, True])
def test_whoever_is_interrupted_before_it_waits_takes_it_back_too_and_keeps_nobody_waiting(
    service: Service, is_handed_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BlockingLogClient(service.address) as client, ThreadPoolExecutor(1) as threads:
        client.produce(b"before")
        service.hold()
        first = threads.submit(client.produce, b"first")
        until(lambda: len(service.counts()) == 2)
        loop = client._thread._loop
        wake = loop.call_soon_threadsafe

        def wake_and_be_interrupted(*arguments: Any) -> None:
            monkeypatch.undo()
            if is_handed_over:
                wake(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(loop, "call_soon_threadsafe", wake_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.produce(b"taken back")
        service.answer()
        assert (first.result(30), threads.submit(client.produce, b"last").result(30)) == (1, 2)
        assert stored(service.e) == [b"before", b"first", b"last"]


def test_a_client_that_is_closed_ends_the_calls_of_other_threads_and_takes_no_more(service: Service) -> None:
    client = BlockingLogClient(service.address)
    with ThreadPoolExecutor(2) as threads:
        client.produce(b"before")
        service.hold()
        calls = [threads.submit(client.produce, b"first")]
        until(lambda: len(service.counts()) == 2)
        held_bytes = client.pending_bytes
        calls.append(threads.submit(client.produce, b"later"))
        until(lambda: client.pending_bytes > held_bytes)
        client.close()
        for call in calls:
            with pytest.raises(LogError, match="the client was closed"):
                call.result(30)
    for again in (lambda: client.produce(b"v"), client.get_servers, lambda: next(client.consume_stream(0))):
        with pytest.raises(RuntimeError, match="the client was closed"):
            again()
    client.close()


def test_a_client_that_nobody_holds_any_more_ends_its_thread(service: Service) -> None:
    client = BlockingLogClient(service.address)
    client.produce(b"a")
    thread = client._thread._thread
    assert thread.is_alive()
    del client
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


def test_a_batch_is_made_ready_while_the_program_is_at_work_on_the_one_before_it(service: Service) -> None:
    def append() -> None:
        for number in range(3):
            service.e.server.append(NewBatch(encode_records([b"%d" % number] * 2), 2))

    service.do(append)
    with BlockingLogClient(service.address) as client:
        # The service sends batches that are there already in one message; each is a step of the reader.
        with contextlib.closing(client.consume_stream(0, stop_at_end=True)) as records:
            assert next(records).value == b"0"
            until(lambda: client.seen_end == 4)
            assert next(records).value == b"0"
            assert client.seen_end == 4, "one batch ahead, and no more"
            assert next(records).value == b"1"
            until(lambda: client.seen_end == 6)
        assert client.produce(b"a") == 6

"""The client without asyncio, against a service on another thread's loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ourolog.rpc.blocking_client import BlockingLogClient
from ourolog.rpc.client_errors import LogError


def test_a_program_without_asyncio_produces_and_consumes(edge: Any) -> None:
    address: list[str] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with edge() as e:
            address.append(e.address)
            started.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(30)
        with BlockingLogClient(address[0]) as client:
            assert client.produce(b"a") == 0
            assert client.produce_batch([b"b", b"c"]) == 1
            assert client.consume(2).value == b"c"
            assert [record.value for record in client.consume_stream(1, stop_at_end=True)] == [b"b", b"c"]
            assert next(client.consume_stream(0)).value == b"a"
            with pytest.raises(LogError, match="out of range"):
                client.consume(3)
            assert [server.node_id for server in client.get_servers()] == ["n1", "n2"]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()

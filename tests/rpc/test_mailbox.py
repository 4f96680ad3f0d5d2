"""The bridge between threads and the loop: nothing lost, order kept, one wakeup for a burst."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from actors.messages import Produced
from rpc.mailbox import LoopMailbox, Outbox, Requests
from storage.types import Offset, Term


async def test_messages_from_many_threads_all_arrive_each_threads_in_order() -> None:
    arrived: list[tuple[int, int]] = []
    done = asyncio.Event()

    def receive(message: tuple[int, int]) -> None:
        arrived.append(message)
        if len(arrived) == 4 * 2000:
            done.set()

    mailbox: LoopMailbox[tuple[int, int]] = LoopMailbox(asyncio.get_running_loop(), receive)

    def tell(thread: int) -> None:
        for n in range(2000):
            mailbox.tell((thread, n))

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    await done.wait()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [n for thread_number, n in arrived if thread_number == number] == list(range(2000))


async def test_a_burst_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wakeups: list[Any] = []
    call_soon_threadsafe = loop.call_soon_threadsafe

    def counting(*args: Any) -> None:
        wakeups.append(args)
        call_soon_threadsafe(*args)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    arrived: list[int] = []
    mailbox: LoopMailbox[int] = LoopMailbox(loop, arrived.append)
    for n in range(100):
        mailbox.tell(n)
    assert len(wakeups) == 1
    await asyncio.sleep(0)
    assert arrived == list(range(100))
    mailbox.tell(100)
    assert len(wakeups) == 2


async def test_telling_a_loop_that_is_gone_is_no_error() -> None:
    loop = asyncio.new_event_loop()
    mailbox: LoopMailbox[int] = LoopMailbox(loop, lambda _: None)
    loop.close()
    mailbox.tell(1)


async def test_an_outbox_hands_over_what_one_turn_of_the_loop_told_it() -> None:
    told: list[int] = []

    class Target:
        def tell(self, message: int) -> None:
            told.append(message)

    outbox: Outbox[int] = Outbox(asyncio.get_running_loop(), Target())
    outbox.tell(1)
    outbox.tell(2)
    assert told == []
    await asyncio.sleep(0)
    assert told == [1, 2]


async def test_answers_find_their_requests_and_late_ones_are_dropped() -> None:
    requests = Requests(asyncio.get_running_loop())
    (first, first_answer), (second, _) = requests.open(), requests.open()
    assert requests.forget(second)
    requests.tell(Produced(second, Offset(2), Term(0)))
    requests.tell(Produced(first, Offset(1), Term(0)))
    assert (await first_answer).base_offset == 1
    assert not requests.forget(second)
    assert len(requests) == 0


async def test_closed_requests_fail_those_open_and_those_to_come() -> None:
    requests = Requests(asyncio.get_running_loop())
    _, answer = requests.open()
    requests.close(RuntimeError("gone"))
    with pytest.raises(RuntimeError, match="gone"):
        await answer
    with pytest.raises(RuntimeError, match="gone"):
        requests.open()

"""The bridge between threads and the loop: nothing lost, order kept, one wakeup for a burst."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ourolog.actors.messages.server import Produced
from ourolog.rpc.loop_mailboxes import LoopMailbox, PendingRequests
from ourolog.storage.types import Index, Offset, Term


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


async def test_an_answer_to_a_request_that_was_given_up_this_moment_is_dropped() -> None:
    wrong: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    pending = PendingRequests(loop)
    (given_up, future), (kept, answered) = pending.open(), pending.open()
    future.cancel()
    for request_id in (given_up, kept):
        pending.tell(Produced(request_id, Offset(7), Index(8), Term(9)))
    assert (await answered).request_id == kept
    assert wrong == []


def on_a_thread(work: Callable[[], object]) -> None:
    """Do it on another thread, while the loop waits."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


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
    on_a_thread(lambda: [mailbox.tell(n) for n in range(100)])
    assert len(wakeups) == 1
    await asyncio.sleep(0)
    assert arrived == list(range(100))
    on_a_thread(lambda: mailbox.tell(100))
    assert len(wakeups) == 2


async def test_the_loop_itself_is_not_woken_by_a_system_call(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *_: pytest.fail("it is awake"))
    arrived: list[int] = []
    mailbox: LoopMailbox[int] = LoopMailbox(loop, arrived.append)
    for n in range(100):
        mailbox.tell(n)
    assert arrived == []
    await asyncio.sleep(0)
    assert arrived == list(range(100))


async def test_telling_a_loop_that_is_gone_is_no_error() -> None:
    loop = asyncio.new_event_loop()
    mailbox: LoopMailbox[int] = LoopMailbox(loop, lambda _: None)
    loop.close()
    mailbox.tell(1)


async def test_answers_find_their_requests_and_late_ones_are_dropped() -> None:
    requests = PendingRequests(asyncio.get_running_loop())
    (first, first_answer), (second, _) = requests.open(), requests.open()
    assert requests.forget(second)
    requests.tell(Produced(second, Offset(2), Term(0), Index(0)))
    requests.tell(Produced(first, Offset(1), Term(0), Index(0)))
    assert (await first_answer).base_offset == 1
    assert not requests.forget(second)
    assert len(requests) == 0


async def test_closed_requests_fail_those_open_and_those_to_come() -> None:
    requests = PendingRequests(asyncio.get_running_loop())
    _, answer = requests.open()
    requests.close(RuntimeError("gone"))
    with pytest.raises(RuntimeError, match="gone"):
        await answer
    with pytest.raises(RuntimeError, match="gone"):
        requests.open()


async def test_a_message_that_cannot_be_received_does_not_hold_up_those_behind_it() -> None:
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    arrived: list[int] = []

    def receive(message: int) -> None:
        if message == 1:
            raise ValueError(message)
        arrived.append(message)

    mailbox: LoopMailbox[int] = LoopMailbox(loop, receive)
    for n in range(4):
        mailbox.tell(n)
    for _ in range(3):
        await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert arrived == [0, 2, 3]
    assert len(failures) == 1


async def test_requests_that_fail_when_nobody_waits_any_more_log_nothing() -> None:
    problems: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    requests = PendingRequests(loop)
    requests.open()
    requests.close(RuntimeError("over"))
    del requests
    gc.collect()
    assert problems == []

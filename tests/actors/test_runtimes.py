"""What every runtime promises its actors: one suite for the threads, the loop and the stepping one."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pykka
import pytest

from ourolog.actors.actor import ActorStuckError, Envelope, NodeActor, NodeRef, Runtime
from ourolog.actors.looping import MAX_A_TURN, LoopRuntime, LoopTimers
from ourolog.actors.messages.observer import FailureKind, NodeFailed
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.testing.testkit import Probe
from ourolog.actors.threaded import ThreadedRuntime
from ourolog.storage.types import NodeId

N1 = NodeId("n1")
WITHIN_S = 20.0


class Echo(NodeActor):
    """Keeps what it is told, does what it is told to call, and notes that it was stopped."""

    actor_name = "echo"

    def __init__(self, observer: Any) -> None:
        super().__init__(N1, observer)
        self.received: list[Any] = []
        self.threads: set[int] = set()
        self.has_started = self.has_stopped = False

    def on_start(self) -> None:
        self.has_started = True

    def on_stop(self) -> None:
        self.has_stopped = True

    def on_receive(self, message: Any) -> Any:
        self.threads.add(threading.get_ident())
        self.received.append(message)
        return message() if callable(message) else message


class BlockingEcho(Echo):
    """The same, for a disk."""

    actor_name = "blocking-echo"
    blocks = True


class Stage:
    """A runtime, whatever it runs on, as a test on a thread of its own sees it."""

    def __init__(self, runtime: Runtime, on_its_thread: Callable[[Callable[[], Any]], Any], settle: Callable[[], None]):
        self.runtime = runtime
        self.on_its_thread = on_its_thread
        self.settle = settle
        self.observer = Probe()

    def spawn(self, body: type[Echo] = Echo) -> NodeRef:
        return self.on_its_thread(lambda: self.runtime.spawn(body, observer=self.observer))

    def body(self, ref: NodeRef) -> Echo:
        actor = ref._actor_weakref()
        assert isinstance(actor, Echo)
        return actor

    def stop(self, ref: NodeRef) -> None:
        self.runtime.stop(ref, WITHIN_S)


def _directly(call: Callable[[], Any]) -> Any:
    return call()


class _Loop:
    """An asyncio loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return self.run(run())

    def run(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(WITHIN_S)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WITHIN_S)
        self.loop.close()


@pytest.fixture
def loop() -> Iterator[_Loop]:
    made = _Loop()
    yield made
    made.close()


@pytest.fixture(params=["threads", "loop", "stepping"])
def stage(request: pytest.FixtureRequest) -> Stage:
    match request.param:
        case "threads":
            return Stage(ThreadedRuntime(), _directly, lambda: None)
        case "stepping":
            stepping = SteppingRuntime()
            return Stage(stepping, _directly, stepping.run_until_idle)
        case _:
            made: _Loop = request.getfixturevalue("loop")
            return Stage(made.call(lambda: LoopRuntime(made.loop)), made.call, lambda: None)


def test_messages_are_handled_one_after_another_in_the_order_in_which_they_were_told(stage: Stage) -> None:
    ref = stage.spawn()
    for number in range(1_000):
        ref.tell(number)
    assert ref.ask("last", timeout=WITHIN_S) == "last"
    assert stage.body(ref).received == [*range(1_000), "last"]
    assert len(stage.body(ref).threads) == 1
    stage.stop(ref)


def test_what_an_actor_tells_another_comes_behind_what_that_was_told_before(stage: Stage) -> None:
    first, second = stage.spawn(), stage.spawn()
    body = stage.body(second)

    def tell_and_look() -> int:
        second.tell("from the first")
        return len(body.received)

    assert first.ask(tell_and_look, timeout=WITHIN_S) >= 0
    assert second.ask("done", timeout=WITHIN_S) == "done"
    assert body.received == ["from the first", "done"]
    for ref in (first, second):
        stage.stop(ref)


def test_an_actor_that_tells_itself_finishes_its_message_first(stage: Stage) -> None:
    ref = stage.spawn()
    order: list[str] = []

    def outer() -> None:
        ref.tell(lambda: order.append("inner"))
        order.append("outer")

    ref.ask(outer, timeout=WITHIN_S)
    ref.ask("done", timeout=WITHIN_S)
    assert order == ["outer", "inner"]
    stage.stop(ref)


def test_a_stopped_actor_has_handled_what_it_was_told_before(stage: Stage) -> None:
    ref = stage.spawn()
    body = stage.body(ref)
    assert body.has_started
    for number in range(500):
        ref.tell(number)
    stage.stop(ref)
    assert body.received == [*range(500)]
    assert body.has_stopped
    assert not ref.is_alive()


def test_telling_a_stopped_actor_is_no_error_and_asking_it_is_one(stage: Stage) -> None:
    ref = stage.spawn()
    stage.stop(ref)
    stage.stop(ref)
    ref.tell("nobody is there")
    stage.settle()
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("nobody is there", timeout=WITHIN_S)


def test_a_tap_sees_who_told_whom_what(stage: Stage) -> None:
    seen: list[Envelope] = []
    first, second = stage.spawn(), stage.spawn(BlockingEcho)
    stage.runtime.tap = seen.append  # type: ignore[attr-defined]  # each of the three has one
    first.ask(lambda: second.tell("hello"), timeout=WITHIN_S)
    second.ask(lambda: first.tell("and back"), timeout=WITHIN_S)
    first.ask("done", timeout=WITHIN_S)
    stage.on_its_thread(lambda: first.tell("from no actor"))
    told = [envelope for envelope in seen if isinstance(envelope.message, str)]
    assert ("n1.echo", "n1.blocking-echo", "hello") in told
    assert ("n1.blocking-echo", "n1.echo", "and back") in told
    assert ("", "n1.echo", "from no actor") in told
    for ref in (first, second):
        stage.stop(ref)


@pytest.fixture(params=["threads", "loop"])
def real(request: pytest.FixtureRequest) -> Stage:
    """Where an error ends the actor, and is not raised by a step."""
    if request.param == "threads":
        return Stage(ThreadedRuntime(), _directly, lambda: None)
    made: _Loop = request.getfixturevalue("loop")
    return Stage(made.call(lambda: LoopRuntime(made.loop)), made.call, lambda: None)


@pytest.mark.parametrize("body", [Echo, BlockingEcho])
def test_an_error_ends_the_actor_and_takes_the_node_down(real: Stage, body: type[Echo]) -> None:
    ref, other = real.spawn(body), real.spawn()
    failing = real.body(ref)

    def fail() -> None:
        raise ValueError("no such thing")

    ref.tell(fail)
    ref.tell("comes too late")
    real.stop(ref)
    other.ask("done", timeout=WITHIN_S)
    (failed,) = real.observer.all(NodeFailed)
    assert failed.kind is FailureKind.BUG
    assert "ValueError: no such thing" in failed.reason
    assert real.body(other).received == ["done"]
    assert failing.received == [fail]
    real.stop(other)


def test_an_error_in_what_was_asked_is_the_askers(real: Stage) -> None:
    ref = real.spawn()

    def fail() -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        ref.ask(fail, timeout=WITHIN_S)
    assert ref.ask("alive", timeout=WITHIN_S) == "alive"
    real.stop(ref)


def test_an_actor_that_hangs_is_named(real: Stage) -> None:
    ref, released = real.spawn(BlockingEcho), threading.Event()
    ref.tell(lambda: released.wait(WITHIN_S))
    with pytest.raises(ActorStuckError, match=r"n1\.blocking-echo did not stop within 0\.05 s"):
        real.runtime.stop(ref, 0.05)
    released.set()
    ref.actor_stopped.wait(WITHIN_S)


# ---------------------------------------------------------------- the loop alone


@pytest.fixture
def looping(loop: _Loop) -> Stage:
    return Stage(loop.call(lambda: LoopRuntime(loop.loop)), loop.call, lambda: None)


def test_actors_share_the_loops_thread_and_those_that_block_have_their_own(loop: _Loop, looping: Stage) -> None:
    refs = [looping.spawn(), looping.spawn(), looping.spawn(BlockingEcho)]
    for ref in refs:
        ref.ask("hello", timeout=WITHIN_S)
    shared, also_shared, alone = (looping.body(ref).threads for ref in refs)
    assert shared == also_shared == {loop.thread.ident}
    assert alone.isdisjoint(shared)
    for ref in refs:
        looping.stop(ref)


def test_threads_that_tell_at_once_lose_nothing_and_keep_their_own_order(looping: Stage) -> None:
    ref = looping.spawn()

    def tell(name: int) -> None:
        for number in range(2_000):
            ref.tell((name, number))

    threads = [threading.Thread(target=tell, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
    ref.ask("done", timeout=WITHIN_S)
    received = looping.body(ref).received[:-1]
    assert len(received) == 8_000
    for name in range(4):
        assert [number for told_by, number in received if told_by == name] == [*range(2_000)]
    looping.stop(ref)


def test_messages_to_several_actors_are_handled_in_the_order_in_which_they_were_told(
    loop: _Loop, looping: Stage
) -> None:
    refs = [looping.spawn() for _ in range(3)]
    order: list[int] = []

    def tell() -> None:
        for number in range(30):
            refs[number % 3].tell(lambda number=number: order.append(number))

    loop.call(tell)
    for ref in refs:
        ref.ask("done", timeout=WITHIN_S)
    assert order == [*range(30)]
    for ref in refs:
        looping.stop(ref)


class _Ready(deque[Any]):
    """Inboxes with a message to deliver; whenever there are none, the next of `then` happens right behind that."""

    def __init__(self, *then: Callable[[], None]) -> None:
        super().__init__()
        self.then = list(then)

    def __len__(self) -> int:
        count = super().__len__()
        if not count and self.then:
            self.then.pop(0)()
        return count


def test_what_is_told_the_moment_the_loop_has_looked_wakes_it_again(loop: _Loop, looping: Stage) -> None:
    ref = looping.spawn()
    runtime: Any = looping.runtime

    def tell() -> None:
        runtime._ready = _Ready(
            lambda: None,
            lambda: ref.tell("when the turn has ended"),
            lambda: ref.tell("behind the last"),
        )
        ref.tell("first")

    loop.call(tell)
    received = looping.body(ref).received
    while len(received) < 3:
        loop.call(lambda: None)
    assert received == ["first", "when the turn has ended", "behind the last"]
    looping.stop(ref)


def test_actors_that_keep_telling_each_other_do_not_keep_the_loop_from_its_other_work(
    loop: _Loop, looping: Stage
) -> None:
    ref, ended = looping.spawn(), threading.Event()

    def again() -> None:
        if not ended.is_set():
            ref.tell(again)

    ref.tell(again)

    received = looping.body(ref).received

    async def turns() -> int:
        before = len(received)
        for _ in range(10):
            await asyncio.sleep(0)
        return len(received) - before

    handled = loop.run(turns())
    ended.set()
    assert handled <= MAX_A_TURN * 11
    looping.stop(ref)


def test_messages_that_wait_are_counted(loop: _Loop, looping: Stage) -> None:
    ref = looping.spawn()

    def tell_three() -> int:
        for _ in range(3):
            ref.tell("waits")
        return int(ref.actor_inbox.qsize())  # type: ignore[attr-defined]  # of this runtime

    assert loop.call(tell_three) == 3
    ref.ask("done", timeout=WITHIN_S)
    assert ref.actor_inbox.qsize() == 0  # type: ignore[attr-defined]
    looping.stop(ref)


def test_who_asked_a_dead_actor_is_told(loop: _Loop, looping: Stage) -> None:
    ref = looping.spawn()
    asked: list[Any] = []

    def stop_then_ask() -> None:
        asked.append(ref.stop(block=False))
        asked.append(ref.ask("too late", block=False))
        asked.append(ref.stop(block=False))

    loop.call(stop_then_ask)
    assert asked[0].get(timeout=WITHIN_S)
    with pytest.raises(pykka.ActorDeadError):
        asked[1].get(timeout=WITHIN_S)
    assert asked[2].get(timeout=WITHIN_S)


# ---------------------------------------------------------------- its timers


def _told(loop: _Loop, set_timer: Callable[[Callable[[object], None]], Awaitable[None] | None]) -> object:
    """What the first timer tells that is set so."""
    told: asyncio.Future[object] = loop.call(loop.loop.create_future)

    def tell(message: object) -> None:
        if not told.done():
            told.set_result(message)

    set_timer(tell)

    async def wait() -> object:
        return await told

    return loop.run(wait())


class _Mailbox:
    def __init__(self, tell: Callable[[object], None]) -> None:
        self.tell = tell


def test_a_timer_tells_its_message_whoever_sets_it(loop: _Loop) -> None:
    timers = loop.call(lambda: LoopTimers(loop.loop))
    assert _told(loop, lambda tell: timers.after(0.0, _Mailbox(tell), "from a thread")) == "from a thread"
    assert (
        _told(loop, lambda tell: loop.call(lambda: timers.after(0.0, _Mailbox(tell), "from the loop")))
        == "from the loop"
    )


def test_a_timer_that_a_thread_sets_wakes_a_loop_that_has_nothing_else_to_do(loop: _Loop) -> None:
    timers = loop.call(lambda: LoopTimers(loop.loop))
    told = threading.Event()
    timers.after(0.001, _Mailbox(lambda _: told.set()), "wakes it")
    assert told.wait(WITHIN_S)


def test_a_cancelled_timer_lets_its_message_go(loop: _Loop) -> None:
    class Message:
        pass

    timers = loop.call(lambda: LoopTimers(loop.loop))

    def set_one() -> tuple[Any, weakref.ref[Message]]:
        message = Message()
        return timers.after(3600.0, _Mailbox(lambda _: None), message), weakref.ref(message)

    timer, known = loop.call(set_one)
    timer.cancel()
    gc.collect()
    assert known() is None


def test_a_cancelled_timer_tells_nothing(loop: _Loop) -> None:
    timers = loop.call(lambda: LoopTimers(loop.loop))
    told: list[object] = []

    def set_two(tell: Callable[[object], None]) -> None:
        def on_loop() -> None:
            cancelled = timers.after(0.0, _Mailbox(told.append), "cancelled")
            timers.after(0.001, _Mailbox(tell), "kept")
            cancelled.cancel()

        loop.call(on_loop)

    assert _told(loop, set_two) == "kept"
    assert told == []


def test_timers_that_are_closed_tell_nothing(loop: _Loop) -> None:
    timers, others = loop.call(lambda: (LoopTimers(loop.loop), LoopTimers(loop.loop)))
    told: list[object] = []

    def set_and_close(tell: Callable[[object], None]) -> None:
        def on_loop() -> None:
            timers.after(0.0, _Mailbox(told.append), "before")
            timers.close()
            timers.after(0.0, _Mailbox(told.append), "after")
            others.after(0.001, _Mailbox(tell), "of others")

        loop.call(on_loop)

    assert _told(loop, set_and_close) == "of others"
    assert told == []


def test_a_closed_loop_takes_no_timers_and_no_messages() -> None:
    made = _Loop()
    runtime: LoopRuntime = made.call(lambda: LoopRuntime(made.loop))
    timers: LoopTimers = made.call(lambda: LoopTimers(made.loop))
    ref = made.call(lambda: runtime.spawn(Echo, observer=Probe()))
    body = ref._actor_weakref()
    made.close()
    ref.tell("nobody is there")
    timers.after(0.0, ref, "nor now")
    assert body.received == []
    pykka.ActorRegistry.unregister(ref)

"""`ourolog produce` at a node that loses its lead, or is lost, with records on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ourolog.actors.messages.server import Produce, Refusal, RequestRefused
from ourolog.child_processes import child_environment, python_command


def refusing_once(server: Any, number: int, refusal: Refusal, *, outcome_unknown: bool) -> Callable[[int], Any]:
    """Refuse the produce of that number, and serve the others."""

    def refuse(request_id: int) -> RequestRefused:
        server.refuse = None
        return RequestRefused(request_id, refusal, "n1 is gone", outcome_unknown=outcome_unknown)

    class Tell:
        def __call__(self, message: Any) -> None:
            if isinstance(message, Produce) and len(server.all(Produce)) == number - 1:
                server.refuse = refuse
            tell(message)

    tell = server.tell
    server.tell = Tell()
    return refuse


async def produce(address: str, *words: str, given: bytes = b"") -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *python_command("-m", "ourolog", "produce", "--addr", address, *words), env=child_environment(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate(given)
    return process.returncode, out.decode(), error.decode()


async def test_without_numbers_it_goes_on_after_records_of_unknown_outcome_and_says_which_they_are(edge: Any) -> None:
    async with edge() as e:
        refusing_once(e.server, 2, Refusal.DEPOSED, outcome_unknown=True)
        status, out, error = await produce(e.address, "--batch", "2", "--acks", "leader", given=b"a\nb\nc\nd\ne\n")
        assert len(e.server.all(Produce)) == 3, "what may be stored is not sent again"
    assert (status, out) == (1, "0\n1\n2\n")
    unknown, summary = error.splitlines()
    assert unknown.startswith("Unknown: records 3 to 4: n1 is gone. The outcome is unknown")
    assert summary == "Error: 2 records may be in the log or not, as said above; 3 acknowledged"


async def test_what_may_be_stored_is_sent_again_under_its_number(edge: Any) -> None:
    async with edge() as e:
        refusing_once(e.server, 2, Refusal.DEPOSED, outcome_unknown=True)
        done = await produce(e.address, "--batch", "2", given=b"a\nb\nc\nd\ne\n")
        assert len(e.server.all(Produce)) == 4
        numbers = [produce.batch.producer_sequence for produce in e.server.all(Produce)]
    assert done == (0, "0\n1\n2\n3\n4\n", "")
    assert numbers == [0, 1, 1, 2]


def holding_until(server: Any, count: int) -> None:
    """Let all produces but the first wait until so many are there."""
    tell, held = server.tell, []

    class Tell:
        def __call__(self, message: Any) -> None:
            if not isinstance(message, Produce) or not server.all(Produce):
                tell(message)
                return
            held.append(message)
            if len(held) + 1 == count:
                while held:
                    tell(held.pop(0))

    server.tell = Tell()


async def test_a_few_groups_are_on_their_way_at_once_and_stand_in_the_log_in_order(edge: Any) -> None:
    async with edge() as e:
        holding_until(e.server, 5)
        done = await produce(e.address, "--batch", "2", given=b"a\nb\nc\nd\ne\nf\ng\nh\ni\n")
        produces = e.server.all(Produce)
    assert done == (0, "".join(f"{offset}\n" for offset in range(9)), "")
    assert [produce.batch.record_count for produce in produces] == [2, 2, 2, 2, 1]
    assert [produce.batch.producer_sequence for produce in produces] == [0, 1, 2, 3, 4]


async def test_what_is_stored_behind_a_group_that_is_refused_is_told(edge: Any) -> None:
    async with edge(max_record_bytes=1000) as e:
        given = b"a\nb\nc\n" + b"d" * 1001 + b"\ne\nf\n"
        status, out, error = await produce(e.address, "--batch", "2", given=given)
        stored = [produce.batch.record_count for produce in e.server.all(Produce)]
    assert (status, out, stored) == (1, "0\n1\n2\n3\n", [2, 2])
    assert "1001 bytes" in error
    assert error.endswith("(2 before it acknowledged; behind it records 5 to 6 acknowledged)\n")


async def test_it_prints_the_replicas_if_that_is_asked_for(edge: Any) -> None:
    async with edge() as e:
        e.server.replicas = ("n1", "n3")
        done = await produce(e.address, "--replicas", "a", "b")
    assert done == (0, "0\tn1,n3\n1\tn1,n3\n", "")


async def test_what_was_certainly_not_stored_is_sent_again_without_a_word(edge: Any) -> None:
    async with edge() as e:
        refusing_once(e.server, 2, Refusal.DEPOSED, outcome_unknown=False)
        done = await produce(e.address, "--batch", "2", given=b"a\nb\nc\nd\ne\n")
    assert done == (0, "0\n1\n2\n3\n4\n", "")


async def test_it_does_not_go_on_when_the_time_is_over_and_says_what_became_of_the_records(edge: Any) -> None:
    async with edge() as e:
        refusing_once(e.server, 2, Refusal.TIMED_OUT, outcome_unknown=True)
        status, out, error = await produce(e.address, "--batch", "2", "--acks", "leader", given=b"a\nb\nc\nd\ne\n")
        assert len(e.server.all(Produce)) == 2
    assert (status, out) == (1, "0\n1\n")
    assert error.startswith("Error: n1 is gone. The outcome is unknown")
    assert error.endswith("(2 before it acknowledged, 2 of unknown outcome)\n")


async def test_it_says_what_it_waits_for_and_why_it_gave_up(edge: Any) -> None:
    sentence = "no leader can be elected: 2 of 3 voters are missing (n1 and n3)"
    async with edge() as e:
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.LEADER_UNKNOWN, sentence)
        status, out, error = await produce(e.address, "a", "--timeout", "2s")
    assert (status, out) == (1, "")
    waiting, why = error.splitlines()
    assert waiting == f"Waiting: {sentence}"
    # On a busy machine the last attempt may have no time for an answer. What the node has said is there all the same.
    assert why == f"Error: {sentence}" or (why.startswith("Error: ") and why.endswith(f"; before that: {sentence}"))

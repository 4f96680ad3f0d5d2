"""A run is a function of (code, seed, options), and of nothing else."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ourolog.simulation.events import Event, MessageTold
from ourolog.simulation.faults import KINDS
from ourolog.simulation.options import VERSION, Options, OtherVersionError, replay_command
from ourolog.simulation.simulate import simulate
from ourolog.simulation.trace import Trace, canonical

EVERYTHING = tuple(KINDS)
RUN = """
from ourolog.simulation import KINDS, Options, simulate
for election, cycle in (("none", "break"), ("static", "break"), ("oracle", "break"), ("none", "allow")):
    print(simulate(Options(5, election=election, cycle=cycle, faults=tuple(KINDS), minutes=0.1)).trace_hash)
"""


def run_in_a_process(hash_seed: str) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return done.stdout


def test_the_same_seed_gives_the_same_trace_hash_whatever_the_hash_seed_and_the_process() -> None:
    assert run_in_a_process("0") == run_in_a_process("4711")


@pytest.mark.parametrize("election", ["none", "static", "oracle"])
def test_a_second_run_in_the_same_process_is_the_first_one_again(election: str) -> None:
    options = Options(11, election=election, faults=EVERYTHING, minutes=0.2)
    first, second = simulate(options), simulate(options)
    assert (first.trace_hash, first.events, first.faults) == (second.trace_hash, second.events, second.faults)


def test_another_seed_is_another_run() -> None:
    assert simulate(Options(1, minutes=0.1)).trace_hash != simulate(Options(2, minutes=0.1)).trace_hash


def test_neither_checkers_nor_observers_change_a_run() -> None:
    options = Options(3, faults=EVERYTHING, minutes=0.2)
    seen: list[Event] = []
    plain = simulate(options, checkers=())
    watched = simulate(options, observers=(seen.append,))
    assert plain.trace_hash == watched.trace_hash
    assert watched.events == len(seen)


def test_time_never_goes_back_in_the_stream_of_events() -> None:
    times: list[float] = []
    options = Options(4, faults=EVERYTHING, minutes=0.2)
    simulate(options, checkers=(), observers=(lambda event: times.append(event.time_s),))
    assert times == sorted(times)


def test_a_value_inside_a_message_changes_the_hash_and_a_mailbox_does_not() -> None:
    from ourolog.actors.messages.server import CancelRequest
    from ourolog.actors.messages.store import ReadBatches
    from ourolog.storage.types import Index, Offset

    def hash_of(message: object) -> str:
        trace = Trace()
        trace.add(MessageTold(1.0, "n1.server", "n1.store", message))
        return trace.hexdigest()

    class Somebody:
        def tell(self, message: object) -> None: ...

    def read(offset: int, reply_to: Somebody) -> ReadBatches:
        return ReadBatches(1, 100, Index(7), reply_to, offset=Offset(offset))

    assert hash_of(read(1, Somebody())) == hash_of(read(1, Somebody()))
    assert hash_of(read(1, Somebody())) != hash_of(read(2, Somebody()))
    assert hash_of(CancelRequest(1, Somebody())) != hash_of(CancelRequest(2, Somebody()))


def test_the_text_of_a_value_has_no_identity_of_objects_in_it() -> None:
    assert canonical(object()) == "-"
    assert canonical({"a": (1, b"xyz", None)}) == "{'a':(1 3beb8eba67 None)}"


def test_options_come_back_from_their_text() -> None:
    options = Options(9, nodes=5, election="static:n2,n1,n3", faults=("kill", "loss"), minutes=2.5, clients=4)
    assert Options.parse(options.to_text()) == options
    assert Options.parse(Options(1).to_text()) == Options(1)
    assert Options.parse(Options(1, faults=()).to_text()).faults == ()


def test_an_election_may_be_named_with_spaces_and_quotes_and_the_command_that_replays_it_is_quoted() -> None:
    options = Options(1, election="static: n2, n1 ")
    assert Options.parse(options.to_text()) == options
    assert shlex.split(replay_command(options))[-2:] == ["--election", "static: n2, n1 "]


def test_options_of_another_version_say_so_instead_of_misleading() -> None:
    text = Options(7).to_text().replace(f"version={VERSION}", f"version={VERSION - 1}")
    with pytest.raises(OtherVersionError, match="seed 7 was made with version"):
        Options.parse(text)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"nodes": 0}, "1 to 32 nodes"),
        ({"minutes": -1}, "minutes"),
        ({"cycle": "maybe"}, "break or allow"),
        ({"election": "raftish"}, "unknown election"),
        ({"election": "static:n7"}, "names n7"),
        ({"faults": ("gremlins",)}, "unknown fault 'gremlins'"),
        ({"seed": -3}, "a seed is"),
        ({"clients": -1}, "clients"),
        ({"operations": -1}, "operations"),
        ({"max_hops": 0}, "max_hops"),
    ],
)
def test_impossible_options_are_refused_with_a_sentence(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Options(**{"seed": 1, **wrong})  # type: ignore[arg-type]


def test_static_alone_means_that_n1_leads_and_the_first_three_vote() -> None:
    assert str(Options(1, nodes=5, election="static").election_choice()) == "static:n1,n2,n3"


def test_the_replay_command_names_what_is_not_a_default() -> None:
    assert replay_command(Options(7)) == "ourolog simulate --seed 7"
    assert (
        replay_command(Options(7, nodes=5, election="static", faults=(), minutes=0.5))
        == "ourolog simulate --seed 7 --nodes 5 --election static --faults none --minutes 0.5"
    )

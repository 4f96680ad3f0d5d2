"""What is read off what a load generator prints, and what becomes of one that fails."""

from __future__ import annotations

import json
import sys

import pytest

from bench.peers.samples import Load, Sample, SampleError, Span, run_generator

SAID = {
    "records": 2_000,
    "elapsed_s": 2.0,
    "p50_us": 800.0,
    "p99_us": 5_000.0,
    "generator_cpu_s": 0.5,
    "servers_cpu_s": 1.0,
    "others_cpu_s": 0.1,
}
SPAN = Span(0.1, 0.2, 1_000)


def test_rates_and_costs_are_by_record_and_shares_by_elapsed_time() -> None:
    sample = Sample.parse(json.dumps(SAID))
    assert sample.rate == 1_000
    assert sample.servers_us == 500
    assert sample.generator_us == 250
    assert sample.generator_share == 0.25


def test_a_load_whose_calls_are_not_measured_one_by_one_has_no_latencies() -> None:
    said = {key: value for key, value in SAID.items() if not key.startswith("p")}
    assert Sample.parse(json.dumps(said)).p50_us == 0


@pytest.mark.parametrize("text", ["", "panic: nil", "[]", "null", json.dumps({**SAID, "records": "many"})])
def test_what_is_no_sample_is_an_error_that_shows_it(text: str) -> None:
    with pytest.raises(SampleError):
        Sample.parse(text)


def test_a_sample_in_which_nothing_was_done_is_an_error() -> None:
    with pytest.raises(SampleError, match="nothing was done"):
        Sample.parse(json.dumps({**SAID, "records": 0}))


def test_the_span_and_the_servers_stand_before_the_two_words_that_name_the_load() -> None:
    echo = "import json, sys; print(json.dumps({'records': 1, 'elapsed_s': 1, 'generator_cpu_s': len(sys.argv), "
    echo += "'servers_cpu_s': float(sys.argv[sys.argv.index('-pids') + 1].split(',')[1]), 'others_cpu_s': "
    echo += "float(sys.argv[-2:] == ['system', 'work'])}))"
    load = Load("a load", lambda: [sys.executable, "-P", "-c", echo, "-addr", "here", "system", "work"], lambda: [3, 4])
    sample = load.sample(SPAN)
    assert sample.servers_cpu_s == 4
    assert sample.others_cpu_s == 1


def test_a_generator_that_fails_says_why() -> None:
    with pytest.raises(SampleError, match="a b: no leader"):
        run_generator([sys.executable, "-P", "-c", "import sys; sys.exit('no leader')", "a", "b"])


def test_a_generator_that_hangs_is_ended() -> None:
    with pytest.raises(SampleError, match="a b did not end within 0 s"):
        run_generator([sys.executable, "-P", "-c", "import time; time.sleep(60)", "a", "b"], timeout_s=0.1)

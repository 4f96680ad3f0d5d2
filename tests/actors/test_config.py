"""What a node can be told: what cannot be is refused with a sentence that names it, before anything starts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ourolog.actors.config import MAX_BATCH_BYTES, ElectionChoice, GossipConfig, InvalidFieldError, NodeConfig
from ourolog.actors.messages.values import Acks
from ourolog.storage.types import NodeId


def node(**changed: Any) -> NodeConfig:
    fields: dict[str, Any] = {
        "node_id": NodeId("n1"),
        "data_dir": "/data",
        "rpc_addr": "127.0.0.1:8400",
        "gossip_addr": "[::1]:8401",
        **changed,
    }
    return NodeConfig(**fields)


def test_the_defaults_are_fit_for_a_node() -> None:
    assert node().acks is Acks.QUORUM
    assert node(
        rpc_addr="h:0",
        join=("h:1",),
        retention_s=0.0,
        max_record_bytes=MAX_BATCH_BYTES,
        max_batch_bytes=MAX_BATCH_BYTES,
    )


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("node_id", "n 1", "node id"),
        ("data_dir", "", "data_dir must name"),
        ("node_id", "", "node_id: node id ''"),
        ("cluster", "", "cluster must be"),
        ("cluster", "ö" * 33, "cluster must be a name of at most 64 bytes"),
        ("election", "static:n1", "election must be of type ElectionChoice, not 'static:n1'"),
        ("cycle", "break", "cycle must be of type Cycle, not 'break'"),
        ("fsync", "always", "fsync must be of type Fsync"),
        ("acks", "quorum", "acks must be of type Acks"),
        ("join", "127.0.0.1:8401", "join must be of type tuple"),
        ("max_hops", 2.5, "max_hops must be a whole number, not 2.5"),
        ("rpc_addr", "h", "rpc_addr: 'h' is not HOST:PORT"),
        ("gossip_addr", "h:99999", "gossip_addr: .*port must be"),
        ("join", ("h:1", "h:0"), "join: nobody can be reached at port 0"),
        ("acks", Acks.DEFAULT, "acks must say"),
        ("max_hops", 0, "max_hops must be 1 to 255, not 0"),
        ("segment_bytes", 0, "segment_bytes must be at least 1"),
        ("retention_bytes", 0, "retention_bytes must be at least 1"),
        ("retention_s", -1.0, "retention_s must be 0 or more"),
        ("max_record_bytes", 0, "max_record_bytes must be 1 to"),
        ("max_record_bytes", MAX_BATCH_BYTES, "fit no batch"),
        ("max_batch_bytes", MAX_BATCH_BYTES + 1, "max_batch_bytes must be 1 to"),
        ("fetch_max_bytes", 0, "fetch_max_bytes must be 1 to"),
        ("max_waiting_requests", 0, "max_waiting_requests must be at least 1"),
        ("max_uncommitted_entries", 0, "max_uncommitted_entries must be at least 1"),
        ("max_uncommitted_bytes", -1, "max_uncommitted_bytes must be at least 1"),
        ("fsync_interval_s", math.nan, "fsync_interval_s must be 0 or more"),
        ("fetch_wait_s", math.inf, "fetch_wait_s must be 0 or more"),
        ("retention_check_s", 0.0, "retention_check_s must be greater than 0 and finite"),
        ("pull_backoff_min_s", 0.0, "pull_backoff_min_s must be greater than 0 and finite"),
        ("pull_backoff_min_s", 3.0, "pull_backoff_min_s is 3 and pull_backoff_max_s only 2"),
        ("pull_backoff_max_s", math.nan, "pull_backoff_max_s must be greater than 0 and finite"),
    ],
)
def test_what_no_node_can_be_is_refused_with_a_sentence_that_names_it(field: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        node(**{field: value})


VOTERS = tuple(NodeId(name) for name in ("n1", "n2", "n3"))


@pytest.mark.parametrize(
    ("election", "expected", "said"),
    [
        (ElectionChoice("votes"), 0, "bootstrap_expect must be 1 to 31, not 0"),
        (ElectionChoice("votes"), 32, "bootstrap_expect must be 1 to 31, not 32"),
        (ElectionChoice("none", elects=False), 3, "bootstrap_expect is 3, and with election none no voters elect"),
        (ElectionChoice("static", "n1", voters=VOTERS[:1], is_decreed=True), 3, "with election static:n1 no voters"),
        (ElectionChoice("votes", "n1,n2,n3", voters=VOTERS), 2, "is 2, and election votes:n1,n2,n3 names 3"),
    ],
)
def test_a_number_of_founders_that_cannot_be_is_refused(election: ElectionChoice, expected: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        node(election=election, bootstrap_expect=expected)


def test_a_number_of_founders_may_stand_beside_as_many_names() -> None:
    assert node(election=ElectionChoice("votes"), bootstrap_expect=31)
    assert node(election=ElectionChoice("votes", "n1,n2,n3", voters=VOTERS), bootstrap_expect=3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("probe_interval_s", 0.0),
        ("probe_timeout_s", -1.0),
        ("probe_timeout_s", 0.5),
        ("suspicion_s", math.nan),
        ("full_exchange_interval_s", math.inf),
        ("join_retry_s", 0.0),
        ("forget_after_s", 0.0),
        ("indirect_probes", -1),
        ("max_datagram_bytes", 70_000),
    ],
)
def test_clocks_of_gossip_that_cannot_be_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        GossipConfig(**{field: value})


def test_the_sentence_can_name_fields_as_whoever_set_them_does() -> None:
    with pytest.raises(InvalidFieldError) as refused:
        node(max_record_bytes=2, max_batch_bytes=1)
    assert str(refused.value).startswith("max_record_bytes is 2 and max_batch_bytes only 1:")
    assert refused.value.sentence(str.upper).startswith("MAX_RECORD_BYTES is 2 and MAX_BATCH_BYTES only 1: such")

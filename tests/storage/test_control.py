"""What control batches say, and what of it is believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.storage.control import (
    MAX_CONTROL_BYTES,
    MAX_EPOCH,
    ControlEntry,
    LeaderStarted,
    Voter,
    VoterKey,
    VoterSet,
    VotersSet,
    decode_control,
    encode_control,
)
from ourolog.storage.types import Index, NodeId, Term
from ourolog.storage.voter_history import VoterHistory

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
NAMES = st.lists(st.sampled_from([N1, N2, N3, NodeId("a.b_c-d")]), unique=True).map(tuple)
EPOCHS = st.integers(1, MAX_EPOCH)
VOTERS = st.lists(
    st.builds(
        Voter,
        st.sampled_from([N1, N2, N3]),
        EPOCHS,
        st.sampled_from(["127.0.0.1:1", "[::1]:65535"]),
        st.just("host.example:2"),
        st.sampled_from(["", "peers.example:3"]),
    ),
    min_size=1,
    unique_by=lambda voter: voter.node_id,
).map(tuple)


REMOVED = st.lists(st.builds(VoterKey, st.sampled_from([NodeId("n8"), NodeId("n9")]), EPOCHS), unique=True).map(tuple)


@given(
    st.builds(LeaderStarted, st.builds(VoterKey, st.just(N1), EPOCHS), NAMES, NAMES)
    | st.builds(VotersSet, VOTERS, REMOVED)
)
def test_what_is_said_is_understood(entry: ControlEntry) -> None:
    assert decode_control(encode_control(entry)) == entry


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"standby-admitted","version":1}',
        b'{"type":"voters-set","version":2,"whatever":[1.5,null]}',
        b'{ "type": "leader-started", "version": 99 }',
    ],
)
def test_what_a_newer_software_says_means_nothing_here_and_is_no_error(payload: bytes) -> None:
    assert decode_control(payload) is None


VOTER = ["n1", 5, "h:1", "h:2"]
HOSTILE = {
    "nothing": b"",
    "no JSON": b"\xff",
    "deep nesting": b"[" * 100_000,
    "no object": b"[]",
    "no type": b'{"version":1}',
    "no version": b'{"type":"voters-set"}',
    "a version that is a truth": b'{"type":"voters-set","version":true,"voters":[]}',
    "version 0": b'{"type":"voters-set","version":0}',
    "two ways to write it": b'{"voters":[["n1",5,"h:1","h:2"]],"version":1,"type":"voters-set"}',
    "too large": b'{"text":"' + b"x" * MAX_CONTROL_BYTES + b'","type":"newer","version":1}',
    **{
        what: json.dumps(
            {"type": "voters-set", "version": 1, "voters": voters}, sort_keys=True, separators=(",", ":")
        ).encode()
        for what, voters in {
            "no voters": [],
            "a voter twice": [VOTER, VOTER],
            "no node id": [["\x1b[2J", 5, "h:1", "h:2"]],
            "epoch 0": [["n1", 0, "h:1", "h:2"]],
            "an epoch beyond all": [["n1", MAX_EPOCH + 1, "h:1", "h:2"]],
            "an epoch that is a truth": [["n1", True, "h:1", "h:2"]],
            "an epoch that is a fraction": [["n1", 1.0, "h:1", "h:2"]],
            "no address": [["n1", 5, "h", "h:2"]],
            "an address with a line": [["n1", 5, "h:1", "a\nb:2"]],
            "a field too many": [[*VOTER, 1]],
            "voters that are a name": "n1",
        }.items()
    },
    **{
        what: json.dumps(
            {"type": "voters-set", "version": 1, "voters": [VOTER], "removed": removed},
            sort_keys=True,
            separators=(",", ":"),
        ).encode()
        for what, removed in {
            "nobody removed": [],
            "a removed voter twice": [["n9", 5], ["n9", 5]],
            "a removed voter that votes": [["n1", 5]],
            "a removed voter without an epoch": [["n9"]],
            "a removed voter of epoch 0": [["n9", 0]],
            "removed voters that are a name": "n9",
            "too many removed voters": [["n9", epoch] for epoch in range(1, 66)],
        }.items()
    },
    "a leader without an epoch": b'{"granted_by":[],"leader":["n1"],"type":"leader-started","version":1,"voters":[]}',
    "a field that is not of it": b'{"more":1,"type":"voters-set","version":1,"voters":[["n1",5,"h:1","h:2"]]}',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_node_writes_is_refused_with_a_sentence(what: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        decode_control(HOSTILE[what])


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
        lambda value: json.dumps({"type": "voters-set", "version": 1, "voters": value}, separators=(",", ":")).encode()
    )
)
def test_whatever_a_peer_sends_raises_nothing_but_value_errors(payload: bytes) -> None:
    reason = ""
    try:
        decode_control(payload)
    except ValueError as error:
        reason = str(error)
    assert len(reason) < 400


def test_however_deep_it_is_nested_it_raises_nothing_but_value_errors() -> None:
    for depth in range(700, 1_100):
        payload = b'{"type":"voters-set","version":1,"voters":' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(ValueError, match=r"nested too deeply|no JSON|canonical|voter"):
            decode_control(payload)


def test_an_entry_that_nobody_would_take_is_not_written() -> None:
    with pytest.raises(ValueError, match="no voters"):
        encode_control(VotersSet(()))
    with pytest.raises(ValueError, match="no epoch"):
        encode_control(LeaderStarted(VoterKey(N1, 0)))


def test_where_nobody_was_removed_an_entry_is_what_it_always_was() -> None:
    assert encode_control(VotersSet((Voter(N1, 5, "h:1", "h:2"),))) == (
        b'{"type":"voters-set","version":1,"voters":[["n1",5,"h:1","h:2"]]}'
    )


def test_a_voter_with_an_address_of_its_own_for_calls_is_written_with_it_and_others_as_before() -> None:
    one, other = Voter(N1, 5, "h:1", "h:2", "h:3"), Voter(N2, 6, "i:1", "i:2")
    written = encode_control(VotersSet((one, other)))
    assert written == (b'{"type":"voters-set","version":1,"voters":[["n1",5,"h:1","h:2","h:3"],["n2",6,"i:1","i:2"]]}')
    assert decode_control(written) == VotersSet((one, other))
    assert (one.peer_addr, other.peer_addr) == ("h:3", "i:2")


# ---------------------------------------------------------------- who votes


def test_a_set_with_removed_voters_is_kept_as_it_is() -> None:
    kept = VoterSet(Index(3), Term(1), (Voter(N1, 5, "h:1", "h:2"),), (VoterKey(N2, 6),))
    assert VoterSet.decode(kept.encode()) == kept


def test_the_set_before_the_last_one_is_known_until_it_is_forgotten() -> None:
    assert history(3).replaced is None
    assert history(3, 7).replaced == voters_at(3)
    assert history(3, 7).since(Index(8)).replaced is None


def voters_at(index: int) -> VoterSet:
    return VoterSet(Index(index), Term(1), (Voter(N1, index + 1, "h:1", "h:2"),))


def history(*indexes: int) -> VoterHistory:
    return VoterHistory(tuple(voters_at(index) for index in indexes))


def test_the_set_that_stands_last_rules() -> None:
    assert VoterHistory().latest is None
    assert history(3, 7).latest == voters_at(7)


def test_where_a_log_starts_the_set_below_is_in_force() -> None:
    voters = history(3, 7)
    assert voters.in_force_before(Index(3)) is None
    assert voters.in_force_before(Index(4)) == voters.in_force_before(Index(7)) == voters_at(3)
    assert voters.in_force_before(Index(8)) == voters_at(7)


def test_what_no_log_needs_that_starts_there_is_forgotten() -> None:
    assert history(1, 3, 7).since(Index(5)) == history(3, 7)
    assert history(1, 3, 7).since(Index(3)) == history(1, 3, 7)
    assert history(1, 3, 7).since(Index(9)) == history(7)


def test_a_set_stands_behind_those_before_it() -> None:
    with pytest.raises(ValueError, match="does not stand behind"):
        history(3).with_set(voters_at(3))


def test_a_history_survives_the_disk() -> None:
    kept = json.loads(json.dumps(history(1, 3, 7).encode()))
    assert VoterHistory.decode(kept) == history(1, 3, 7)
    for wrong in ({}, [{}], [voters_at(1).encode()] * 2, [voters_at(1).encode() | {"index": -1}]):
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            VoterHistory.decode(wrong)

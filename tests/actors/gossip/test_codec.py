"""The gossip codec: what is written is read again, and nothing else is."""

from __future__ import annotations

import struct
from dataclasses import replace

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.actors.config import MAX_ELECTION_BYTES
from ourolog.actors.gossip.codec import (
    MAX_INCARNATION,
    MIN_DATAGRAM_BYTES,
    VERSION,
    Ack,
    Body,
    Challenge,
    Datagram,
    Exchange,
    GossipDecodeError,
    Join,
    OtherVersion,
    Ping,
    PingRequest,
    Reject,
    Updates,
    check_member,
    decode,
    encode,
    member_size_bytes,
    room_bytes,
    split,
)
from ourolog.actors.messages.values import ElectionClaim, Member, MemberState
from ourolog.storage.control import MAX_EPOCH
from ourolog.storage.founding import MAX_GENERATION
from ourolog.storage.types import NodeId, Term

# Of few letters, and not by pattern: drawing those takes many times as long.
node_ids = st.builds(lambda first, rest: NodeId(first + rest), st.sampled_from("aZ09"), st.text("aZ0._-", max_size=62))
hosts = st.one_of(
    st.builds(lambda first, rest: first + rest, st.sampled_from("az09"), st.text("az0.-", max_size=100)),
    st.sampled_from(["[::1]", "[fe80::1%eth0]"]),
)
addrs = st.builds(lambda host, port: f"{host}:{port}", hosts, st.integers(1, 65535))
u32s = st.integers(0, 2**32 - 1)
u64s = st.integers(0, 2**64 - 1)
short_addrs = st.builds(lambda host, port: f"{host}:{port}", st.text("az09", min_size=1, max_size=30), st.just(65535))
members = st.builds(
    Member,
    node_ids,
    addrs,
    addrs,
    st.sampled_from(MemberState),
    st.integers(0, MAX_INCARNATION),
    st.just("") | short_addrs,
)
bodies: st.SearchStrategy[Body] = st.one_of(
    st.builds(Ping, node_ids),
    st.builds(Ack, u32s),
    st.builds(PingRequest, node_ids, addrs),
    st.just(Updates()),
    st.just(Join()),
    st.builds(Exchange, st.booleans(), u32s),
    st.builds(Reject, addrs),
    st.builds(Challenge, u32s),
)
clusters = st.text(min_size=1, max_size=16)
elections = st.text("static:n1,…", min_size=1, max_size=33)
cluster_ids = st.integers(1, MAX_EPOCH)
claims = st.builds(ElectionClaim, elections, u64s, st.none() | node_ids, st.just(0) | cluster_ids) | st.builds(
    ElectionClaim, elections, u64s, st.none() | node_ids, cluster_ids, st.integers(2, MAX_GENERATION), cluster_ids
)
datagrams = st.builds(
    Datagram,
    clusters,
    members,
    u32s,
    bodies,
    st.lists(members, max_size=8).map(tuple),
    u64s,
    u64s,
    st.none() | claims,
)

N1 = Member(NodeId("n1"), "127.0.0.1:8400", "127.0.0.1:8401", MemberState.ALIVE, 7)


def resealed(payload: bytes) -> bytes:
    """With a checksum that holds, as a hostile sender would send it."""
    crc = google_crc32c.extend(google_crc32c.value(payload[:4]), payload[8:])
    return payload[:4] + struct.pack("<I", crc) + payload[8:]


@given(datagrams)
def test_what_is_encoded_is_decoded_again(datagram: Datagram) -> None:
    assert decode(encode(datagram)) == datagram


@given(st.binary(max_size=1500))
def test_random_bytes_are_refused_and_nothing_worse(payload: bytes) -> None:
    with pytest.raises(GossipDecodeError):
        decode(payload)


@given(datagrams, st.data())
def test_a_datagram_cut_short_is_refused(datagram: Datagram, data: st.DataObject) -> None:
    payload = encode(datagram)
    with pytest.raises(GossipDecodeError):
        decode(payload[: data.draw(st.integers(0, len(payload) - 1))])


@given(datagrams, st.data())
def test_a_flipped_bit_is_noticed_wherever_it_is(datagram: Datagram, data: st.DataObject) -> None:
    payload = bytearray(encode(datagram))
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    payload[bit // 8] ^= 1 << bit % 8
    with pytest.raises(GossipDecodeError):
        decode(bytes(payload))


@given(datagrams, st.data())
def test_hostile_bytes_under_a_valid_checksum_decode_to_something_encodable_or_are_refused(
    datagram: Datagram, data: st.DataObject
) -> None:
    payload = bytearray(encode(datagram))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(8, len(payload) - 1))] = data.draw(st.integers(0, 255))
    hostile = resealed(bytes(payload))
    try:
        decoded = decode(hostile)
    except GossipDecodeError:
        return
    assert isinstance(decoded, Datagram)
    assert encode(decoded) == hostile, "there is one encoding of everything"


def test_a_count_that_lies_is_refused_and_not_believed() -> None:
    payload = bytearray(encode(Datagram("c", N1, 1, Updates())))
    payload[-2:] = b"\xff\xff"
    with pytest.raises(GossipDecodeError, match="too early"):
        decode(resealed(bytes(payload)))


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(GossipDecodeError, match="follow"):
        decode(resealed(encode(Datagram("c", N1, 1, Updates())) + b"\0"))


@pytest.mark.parametrize(
    "addr", ["", "host", "host:0", "host:65536", "ho st:1", "host:1\n", "host:١", "[::1:5", "https://x:1"]
)
def test_an_address_that_is_none_is_refused(addr: str) -> None:
    with pytest.raises(GossipDecodeError):
        decode(encode(Datagram("c", replace(N1, gossip_addr=addr), 1, Updates())))


@pytest.mark.parametrize("node_id", ["", "-n", "n 1", "n1\n", "ñ", "n/1"])
def test_a_node_id_that_is_none_is_refused(node_id: str) -> None:
    with pytest.raises(GossipDecodeError):
        decode(encode(Datagram("c", replace(N1, node_id=NodeId(node_id)), 1, Updates())))


def test_an_incarnation_beyond_63_bits_is_refused() -> None:
    with pytest.raises(GossipDecodeError):
        decode(encode(Datagram("c", replace(N1, incarnation=MAX_INCARNATION + 1), 1, Updates())))


def test_another_version_is_recognised_whatever_its_body_looks_like() -> None:
    assert decode(encode(Datagram("c", N1, 1, Join()), version=VERSION + 1)) == OtherVersion(VERSION + 1)
    head = struct.pack("<HBB", 0x474F, 200, 99) + b"\0\0\0\0"
    assert decode(resealed(head + b"nobody knows")) == OtherVersion(200)


@given(datagrams, st.lists(members, max_size=60), st.integers(MIN_DATAGRAM_BYTES, 1400))
def test_any_list_of_members_is_split_into_datagrams_within_the_size_and_none_is_lost(
    datagram: Datagram, some: list[Member], max_bytes: int
) -> None:
    runs = split(datagram, some, max_bytes)
    assert [member for run in runs for member in run] == some
    assert all(len(encode(replace(datagram, updates=run))) <= max_bytes for run in runs)
    assert all(runs) or runs == [()], "no datagram goes out empty beside others"


def test_the_smallest_datagram_holds_the_longest_names_and_one_piece_of_news() -> None:
    addr = "h" * 122 + ":65535"
    longest = Member(NodeId("n" * 63), addr, addr)
    claim = ElectionClaim(
        "e" * MAX_ELECTION_BYTES, Term(2**64 - 1), longest.node_id, MAX_EPOCH, MAX_GENERATION, MAX_EPOCH
    )
    bare = Datagram("c" * 64, longest, 0, PingRequest(longest.node_id, addr), claim=claim)
    assert room_bytes(bare, MIN_DATAGRAM_BYTES) >= member_size_bytes(longest)
    addrs = "h" * 80 + ":65535", "g" * 79 + ":65535", "p" * 79 + ":65535"
    of_three = replace(longest, rpc_addr=addrs[0], gossip_addr=addrs[1], own_peer_addr=addrs[2])
    bare = replace(bare, sender=of_three, body=PingRequest(longest.node_id, addr))
    assert room_bytes(bare, MIN_DATAGRAM_BYTES) >= member_size_bytes(of_three) == member_size_bytes(longest) + 1


@given(datagrams, members)
def test_a_member_takes_as_many_bytes_as_is_said(datagram: Datagram, member: Member) -> None:
    with_it = replace(datagram, updates=(*datagram.updates, member))
    assert len(encode(with_it)) - len(encode(datagram)) == member_size_bytes(member)


@pytest.mark.parametrize(
    ("member", "cluster", "why"),
    [
        (N1, "", "empty"),
        (N1, "c" * 65, "64 bytes"),
        (replace(N1, rpc_addr="h" * 130 + ":1"), "c", "128 bytes"),
        (replace(N1, own_peer_addr="h" * 130 + ":1"), "c", "128 bytes"),
        (
            replace(N1, rpc_addr="h" * 100 + ":1", gossip_addr="h" * 100 + ":2", own_peer_addr="h" * 60 + ":3"),
            "c",
            "256",
        ),
        (replace(N1, gossip_addr="127.0.0.1:0"), "c", "not an address"),
        (replace(N1, node_id=NodeId("no node")), "c", "not a node id"),
    ],
)
def test_a_node_that_could_not_be_gossiped_is_told_at_once(member: Member, cluster: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_member(member, cluster)

"""Whole nodes on real sockets and disks: what the Go project's tests expect, and how a node starts and ends."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ourolog.actors.actor import ActorStuckError
from ourolog.actors.config import NodeConfig
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.gossip.leaving import Leaving
from ourolog.actors.messages.election import HandedOver, HandOver
from ourolog.actors.messages.events import (
    HoldProduces,
    LeaderChanged,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    ProducesHeld,
)
from ourolog.actors.messages.observer import NameClashed, NodeFailed, NodeReady, NodeWarned
from ourolog.actors.messages.values import ReadLevel
from ourolog.actors.occupants import parse_election
from ourolog.actors.replicator import ReplicatorActor
from ourolog.actors.requests.produces import OpenProduces, PendingProduce
from ourolog.actors.store import StoreActor
from ourolog.rpc.channels import open_channel
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError, to_log_error
from ourolog.rpc.cluster_status import cluster_status
from ourolog.rpc.datagrams import UdpDatagrams
from ourolog.rpc.node_server import NodeFailedError, NodeServer
from ourolog.rpc.server_calls import OpenCalls
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from ourolog.storage.types import NodeId


async def readable(client: LogClient, offset: int) -> None:
    """Returns once the record at `offset` can be consumed there."""
    records = client.consume_stream(offset)
    await anext(records)
    await records.aclose()


async def test_the_first_offset_is_0_and_a_record_comes_back_as_exactly_value_and_offset(node: Any) -> None:
    async with node() as n, open_channel(n.rpc_addr) as channel:
        stub = pb_grpc.LogStub(channel)
        produced = await stub.Produce(pb.ProduceRequest(record=pb.Record(value=b"hello world")))
        assert produced == pb.ProduceResponse(offset=0, replicas=["n1"])
        stream = stub.ConsumeStream(pb.ConsumeRequest(offset=0))
        want = pb.ConsumeResponse(record=pb.Record(value=b"hello world", offset=0))
        assert await stream.read() == want
        assert await stub.Consume(pb.ConsumeRequest(offset=0)) == want
        stream.cancel()


async def test_consuming_past_the_boundary_is_out_of_range_with_the_range(node: Any) -> None:
    async with node() as n, LogClient(n.rpc_addr) as client:
        await client.produce(b"only")
        await readable(client, 0)
        with pytest.raises(LogError) as raised:
            await client.consume(1)
        assert (raised.value.code, raised.value.first_offset, raised.value.end_offset) == ("OUT_OF_RANGE", 0, 1)


async def test_streams_produce_and_consume_in_order(node: Any) -> None:
    async with node() as n, open_channel(n.rpc_addr) as channel:
        stub = pb_grpc.LogStub(channel)
        produce = stub.ProduceStream()
        for offset, value in enumerate([b"first message", b"second message"]):
            await produce.write(pb.ProduceRequest(record=pb.Record(value=value)))
            assert (await produce.read()).offset == offset
        await produce.done_writing()
        consume = stub.ConsumeStream(pb.ConsumeRequest(offset=0))
        for offset, value in enumerate([b"first message", b"second message"]):
            assert await consume.read() == pb.ConsumeResponse(record=pb.Record(value=value, offset=offset))
        consume.cancel()


async def test_acknowledged_records_are_there_after_a_restart(node: Any) -> None:
    values = [b"%d" % n for n in range(500)]
    async with node() as n, LogClient(n.rpc_addr) as client:
        assert await client.produce_batch(values) == 0
    async with node() as n, LogClient(n.rpc_addr) as client:
        assert [record.value async for record in client.consume_stream(0, stop_at_end=True)] == values
        assert await client.produce(b"on") == 500


async def test_health_follows_the_node_from_start_to_drain(node: Any) -> None:
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    async with node() as n, open_channel(n.rpc_addr) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "log.v1.Log"):
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=name))
            while (await watch.read()).status != serving:
                pass
            watch.cancel()
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="log.v1.Log"))
        assert (await watch.read()).status == serving
        stopping = asyncio.create_task(n.server.stop(5.0))
        assert (await watch.read()).status == not_serving
        watch.cancel()
        await stopping


async def test_health_and_status_follow_the_quorum_and_the_flags_of_others(node: Any) -> None:
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    decree, rival = parse_election("static:n1,n2"), parse_election("static:n2,n1")
    async with node("n1", election=decree) as n1, open_channel(n1.rpc_addr) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="log.v1.Log"))

        async def until(status: Any) -> None:
            while (await watch.read()).status != status:
                pass

        async def not_ready() -> str:
            return str((await cluster_status(n1.rpc_addr))["nodes"][0]["not_ready"])

        await until(not_serving)
        assert "voters" in await not_ready()
        async with LogClient(n1.rpc_addr) as client:
            with pytest.raises(LogError, match="voters") as refused:
                await client.produce(b"who leads?", timeout_s=2.0)
            assert refused.value.code == "UNAVAILABLE"
        async with node("n2", election=decree, join=(n1.gossip_addr,)) as n2:
            await until(serving)
            data_dir = n2.server.config.data_dir
        async with node("n2", election=rival, join=(n1.gossip_addr,), data_dir=data_dir):
            await until(not_serving)
            assert "n2 with static:n2,n1" in await not_ready()
            async with LogClient(n1.rpc_addr) as client:
                with pytest.raises(LogError, match="static:n2,n1"):
                    await client.produce(b"whose?", timeout_s=4.0)
        async with node("n2", election=decree, join=(n1.gossip_addr,), data_dir=data_dir):
            await until(serving)
            assert await not_ready() == "None"
        watch.cancel()


async def test_reflection_lists_the_log_service(node: Any) -> None:
    async with node() as n, open_channel(n.rpc_addr) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {service.name for service in (await call.read()).list_services_response.service}
        assert {"log.v1.Log", "grpc.health.v1.Health"} <= names
        call.cancel()


async def test_a_grpc_port_in_use_is_an_error_and_leaves_nothing_running(node: Any, tmp_path: Any) -> None:
    async with node() as n:
        config = NodeConfig(NodeId("n2"), str(tmp_path / "n2"), n.rpc_addr, "127.0.0.1:0")
        with pytest.raises(OSError, match=f"{n.rpc_addr} is in use"):
            await NodeServer(config).start()
        assert not (tmp_path / "n2").exists()


async def test_a_gossip_port_in_use_is_an_error_and_frees_the_grpc_port(node: Any, tmp_path: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        rpc_addr = f"127.0.0.1:{free.getsockname()[1]}"
    async with node() as n:
        config = NodeConfig(NodeId("n2"), str(tmp_path / "n2"), rpc_addr, n.gossip_addr)
        with pytest.raises(OSError, match="in use"):
            await NodeServer(config).start()
        async with node("n3", rpc_addr=rpc_addr) as other:
            assert other.rpc_addr == rpc_addr


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:99999", "::1:80"])
async def test_a_malformed_address_is_refused_with_a_sentence(tmp_path: Any, address: str) -> None:
    config = NodeConfig(NodeId("n1"), str(tmp_path), "127.0.0.1:0", "127.0.0.1:0")
    with pytest.raises(ValueError, match=r"HOST:PORT|port must|brackets"):
        await NodeServer(config, advertise_rpc_addr=address).start()


async def test_a_locked_data_directory_fails_the_node_with_the_reason(node: Any, tmp_path: Any) -> None:
    async with node(), node("n2", data_dir=str(tmp_path / "n1"), ready=False) as second:
        with pytest.raises(NodeFailedError, match="n1"):
            await second.server.wait_ready()
        assert isinstance(second.server.failed.result(), NodeFailed)
        async with open_channel(second.rpc_addr) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="n2 has failed") as raised:
                await pb_grpc.LogStub(channel).Produce(pb.ProduceRequest(record=pb.Record(value=b"v")))
            assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_name_in_use_fails_the_newcomer(node: Any, tmp_path: Any) -> None:
    async with node("n1") as first, node("n2", join=(first.gossip_addr,)) as second:
        await second.until(lambda event: isinstance(event, MemberJoined))
        join = (second.gossip_addr,)
        async with node("n1", data_dir=str(tmp_path / "twin"), join=join, ready=False) as twin:
            await asyncio.wait_for(asyncio.shield(twin.server.failed), 20)
            assert isinstance(twin.server.failed.result(), NameClashed)
        assert not first.server.failed.done()


async def test_nodes_discover_each_other_and_each_record_is_on_every_node_once(node: Any) -> None:
    async with (
        node("n1") as n1,
        node("n2", join=(n1.gossip_addr,)) as n2,
        LogClient(n1.rpc_addr) as one,
        LogClient(n2.rpc_addr) as two,
    ):
        await one.produce(b"foo")
        records = two.consume_stream(0, provenance=True)
        copied = await anext(records)
        await records.aclose()
        assert (copied.offset, copied.value) == (0, b"foo")
        assert copied.provenance is not None
        assert (copied.provenance.origin, copied.provenance.path) == ("n1", ("n1", "n2"))
        await two.produce(b"bar")
        await readable(one, 1)
        assert {record.value async for record in one.consume_stream(0, stop_at_end=True)} == {b"foo", b"bar"}
        assert [server.node_id for server in await one.get_servers()] == ["n1", "n2"]


async def test_under_a_static_leader_the_client_finds_it_and_followers_can_be_read(node: Any) -> None:
    election = parse_election("static:n1")
    async with node("n1", election=election) as n1, node("n2", election=election, join=(n1.gossip_addr,)) as n2:
        await n2.until(lambda event: isinstance(event, MemberJoined))
        await n2.until(lambda event: isinstance(event, LeaderChanged) and event.leader_id == "n1")
        async with open_channel(n2.rpc_addr) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await pb_grpc.LogStub(channel).Produce(pb.ProduceRequest(record=pb.Record(value=b"v")))
            assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        async with LogClient(n2.rpc_addr) as client:
            assert await client.produce(b"foo") == 0
            assert [offset async for offset in client.produce_stream([b"bar", b"baz"])] == [1, 2]
            await readable(client, 2)
            assert (await client.consume(0)).value == b"foo"
            for addr in (n1.rpc_addr, n2.rpc_addr):
                async with LogClient(addr) as direct:
                    with pytest.raises(LogError, match="out of range"):
                        await direct.consume(3)
            servers = await client.get_servers()
            assert [(s.node_id, s.is_leader) for s in servers] == [("n1", True), ("n2", False)]


async def test_the_status_of_a_cluster_has_every_member_and_nulls_for_those_that_are_gone(node: Any) -> None:
    election = parse_election("static:n1")
    async with node("n1", election=election) as n1:
        async with node("n2", election=election, join=(n1.gossip_addr,)) as n2:
            async with LogClient(n1.rpc_addr) as one, LogClient(n2.rpc_addr) as two:
                await one.produce_batch([b"a", b"b"])
                await readable(two, 1)
            status = await cluster_status(n2.rpc_addr)
            assert (status["election"], status["leader"]) == ("static:n1", "n1")
            first, second = status["nodes"]
            assert set(first) == {
                "id", "rpc_addr", "gossip_addr", "peer_addr",
                "state", "role", "term", "leader", "cluster_id", "generation",
                "first_offset", "end_offset", "committed_offset", "pulls", "cycles_seen",
                "damaged_found", "repaired", "scrubbed_ms",
                "not_ready", "claims",
            }  # fmt: skip
            assert (first["id"], first["role"], first["state"], first["pulls"]) == ("n1", "leader", "alive", [])
            assert [node["not_ready"] for node in status["nodes"]] == [None, None]
            assert [(claim["id"], claim["election"]) for claim in first["claims"]] == [("n2", "static:n1")]
            assert (second["role"], second["end_offset"], second["first_offset"]) == ("follower", 2, 0)
            (pull,) = second["pulls"]
            assert (pull["from"], pull["next_offset"]) == ("n1", 2)
            await n2.server.stop(0.0)
        await n1.until(lambda event: type(event).__name__ in {"MemberLeft", "MemberFailed"})
        gone = (await cluster_status(n1.rpc_addr))["nodes"][1]
        assert (gone["id"], gone["role"], gone["end_offset"], gone["pulls"]) == ("n2", None, None, None)
        assert gone["rpc_addr"] == n2.rpc_addr


async def test_a_node_that_stops_announces_it_and_is_not_taken_for_failed(node: Any) -> None:
    async with node("n1") as n1:
        async with node("n2", join=(n1.gossip_addr,)):
            await n1.until(lambda event: isinstance(event, MemberJoined))
        await n1.until(lambda event: type(event).__name__ == "MemberLeft")
        assert not any(isinstance(event, MemberFailed) for event in n1.events)


async def test_a_node_that_hears_nothing_from_the_moment_it_is_counted_announces_that_it_leaves_all_the_same(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is stopped right after its start: what its seed answered has not been handled yet."""
    hear = UdpDatagrams.datagram_received
    deaf: set[str] = set()

    def hear_unless_deaf(self: UdpDatagrams, data: bytes, addr: Any) -> None:
        if self.bound_addr not in deaf:
            hear(self, data, addr)

    monkeypatch.setattr(UdpDatagrams, "datagram_received", hear_unless_deaf)
    async with node("n1") as n1:
        on_event = n1.server._on_event

        def hear_of(event: Any) -> None:
            if isinstance(event, MemberJoined):
                deaf.add(event.member.gossip_addr)
            on_event(event)

        n1.server._on_event = hear_of
        async with node("n2", join=(n1.gossip_addr,)):
            await n1.until(lambda event: isinstance(event, MemberJoined))
        await n1.until(lambda event: isinstance(event, MemberLeft | MemberFailed))
        assert not any(isinstance(event, MemberFailed) for event in n1.events)


async def test_a_node_that_stops_hands_over_before_it_leaves_and_waits_no_longer_than_it_must(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ourolog.rpc.node_server.HANDS_OVER_WITHIN_S", 0.2)
    told: list[str] = []
    receive, begin = ElectionActor.on_receive, Leaving.begin

    def never_hands_over(self: ElectionActor, message: Any) -> None:
        if isinstance(message, HandOver):
            told.append("hand over")
        else:
            receive(self, message)

    def leave(self: Leaving, message: Any) -> None:
        told.append("leave")
        begin(self, message)

    monkeypatch.setattr(ElectionActor, "on_receive", never_hands_over)
    monkeypatch.setattr(Leaving, "begin", leave)
    async with node() as n:
        await n.server.stop(0.0)
    assert told == ["hand over", "leave"]


async def test_while_a_node_hands_over_it_holds_produces_and_serves_everything_else(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = ElectionActor.on_receive
    begun, holds = asyncio.Event(), asyncio.Event()
    hold = OpenProduces.hold
    loop = asyncio.get_running_loop()
    asked: list[HandOver] = []

    def hold_on_hand_over(self: ElectionActor, message: Any) -> None:
        match message:
            case HandOver():
                asked.append(message)
                for listener in self.listeners:
                    listener.tell(HoldProduces(1, 1.0, self.me))
            case ProducesHeld():
                assert message.is_drained
                loop.call_soon_threadsafe(begun.set)
            case _:
                receive(self, message)

    def note_hold(self: OpenProduces, pending: PendingProduce) -> None:
        hold(self, pending)
        loop.call_soon_threadsafe(holds.set)

    monkeypatch.setattr(OpenProduces, "hold", note_hold)
    monkeypatch.setattr(ElectionActor, "on_receive", hold_on_hand_over)
    monkeypatch.setattr("ourolog.rpc.node_server.HANDS_OVER_WITHIN_S", 30.0)
    async with node(election=parse_election("static:n1")) as n, LogClient(n.rpc_addr) as client:
        await n.until(lambda event: isinstance(event, NodeReady))
        await client.produce(b"before")
        stopping = asyncio.create_task(n.server.stop(5.0))
        await begun.wait()
        async with open_channel(n.rpc_addr) as channel:
            held = pb_grpc.LogStub(channel).Produce(pb.ProduceRequest(record=pb.Record(value=b"held")), timeout=20.0)
            await holds.wait()
            health = health_pb2_grpc.HealthStub(channel)
            assert (
                await health.Check(health_pb2.HealthCheckRequest())
            ).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert (await client.consume(0, read=ReadLevel.LATEST)).value == b"before"
            assert (await client.status())["leader"] == "n1"
            assert not held.done()
            (hand_over,) = asked
            hand_over.reply_to.tell(HandedOver(hand_over.request_id))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await held
            error = to_log_error(refused.value, n.rpc_addr)
            assert (error.reason, error.outcome_unknown) == ("STOPPING", False)
        await stopping


async def test_the_log_is_closed_though_another_actor_hangs_and_the_stop_says_who_did(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ourolog.actors.node.STOPS_WITHIN_S", 0.2)
    hangs = threading.Event()
    monkeypatch.setattr(ReplicatorActor, "on_stop", lambda _: hangs.wait())
    monkeypatch.setattr(ReplicatorActor, "blocks", True)
    try:
        async with node() as n:
            with pytest.raises(ActorStuckError, match=r"n1\.replicator did not stop within 0\.2 s$"):
                await n.server.stop(0.0)
            async with node(data_dir=n.server.config.data_dir) as again:  # its lock is free
                monkeypatch.undo()
                assert not again.server.failed.done()
    finally:
        hangs.set()


async def test_a_store_that_hangs_holds_up_a_stop_for_its_time_only_and_is_no_success(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ourolog.actors.node.STORE_STOPS_WITHIN_S", 0.2)
    hangs = threading.Event()
    monkeypatch.setattr(StoreActor, "on_stop", lambda _: hangs.wait())
    async with node() as n:
        try:
            with pytest.raises(ActorStuckError, match=r"n1\.store did not stop"):
                await n.server.stop(0.0)
        finally:
            hangs.set()


async def test_a_stop_ends_streams_that_wait_and_finishes_what_is_open(node: Any) -> None:
    async with node() as n, open_channel(n.rpc_addr) as channel:
        stub = pb_grpc.LogStub(channel)
        await stub.Produce(pb.ProduceRequest(record=pb.Record(value=b"v")))
        waiting = stub.ConsumeStream(pb.ConsumeRequest())
        assert (await waiting.read()).record.value == b"v"
        stopping = asyncio.create_task(n.server.stop(30.0))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await waiting.read()
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        # Within the test's own time, so the grace of 30 s was not sat out.
        await asyncio.wait_for(stopping, 10)


async def test_bound_to_every_interface_a_node_advertises_what_it_is_told_to_or_warns(node: Any) -> None:
    wildcard = {"rpc_addr": "0.0.0.0:0", "gossip_addr": "0.0.0.0:0"}
    told = {"advertise_rpc_addr": "127.0.0.1:0", "advertise_gossip_addr": "127.0.0.1:7777"}
    async with node(**wildcard, **told) as n, LogClient(n.rpc_addr) as client:
        assert n.rpc_addr.startswith("127.0.0.1:")
        assert n.gossip_addr == "127.0.0.1:7777"
        assert [server.rpc_addr for server in await client.get_servers()] == [n.rpc_addr]
        assert not any(isinstance(event, NodeWarned) for event in n.events)
    async with node("n2", **wildcard) as n:
        assert not n.rpc_addr.startswith("0.0.0.0")
        warnings = [event for event in n.events if isinstance(event, NodeWarned)]
        assert len(warnings) == 2
        assert any(isinstance(event, NodeReady) for event in n.events)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_ipv6_addresses_work_in_brackets(node: Any) -> None:
    v6 = {"rpc_addr": "[::1]:0", "gossip_addr": "[::1]:0"}
    async with node("n1", **v6) as n1, node("n2", join=(n1.gossip_addr,), **v6) as n2:
        assert n1.rpc_addr.startswith("[::1]:")
        async with LogClient(n1.rpc_addr) as one, LogClient(n2.rpc_addr) as two:
            await one.produce(b"v6")
            await readable(two, 0)


async def test_a_stopped_node_leaves_no_threads_and_no_files_open(node: Any) -> None:
    before = {thread.name for thread in threading.enumerate()}
    async with node() as n, LogClient(n.rpc_addr) as client:
        await client.produce(b"v")
        data = n.server.config.data_dir
    left = {thread.name for thread in threading.enumerate()} - before
    assert not {name for name in left if name.startswith(("n1.", "timers"))}
    held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
    assert not [path for path in held if path.startswith(data)]


async def test_who_calls_again_at_every_refusal_of_a_node_that_stops_is_never_cancelled(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = 20

    async def all_are_late(self: OpenCalls, _: float) -> None:
        while self.late_count < callers:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)

    monkeypatch.setattr(OpenCalls, "wait_quiet", all_are_late)
    monkeypatch.setattr("ourolog.rpc.log_service._LATE_CALLS_WAIT_S", 60.0)

    async def call_until_it_is_gone(addr: str) -> grpc.StatusCode:
        async with open_channel(addr) as channel:
            while True:
                try:
                    await pb_grpc.LogStub(channel).Produce(pb.ProduceRequest(record=pb.Record(value=b"v")))
                except grpc.aio.AioRpcError as error:
                    if to_log_error(error, addr).reason != "STOPPING":
                        return error.code()

    async with node() as n:
        calls = [asyncio.create_task(call_until_it_is_gone(n.rpc_addr)) for _ in range(callers)]
        await n.server.stop(0.0)
        assert set(await asyncio.gather(*calls)) == {grpc.StatusCode.UNAVAILABLE}


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


async def test_a_record_can_be_consumed_the_moment_it_is_acknowledged(node: Any) -> None:
    async with node() as n, LogClient(n.rpc_addr) as client:
        for _ in range(200):
            offset = await client.produce(b"v")
            assert (await client.consume(offset)).offset == offset


async def test_a_port_that_is_taken_at_the_last_moment_is_an_error_as_well(
    node: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def in_time(address: str) -> None:
        pass

    async with node() as n:
        monkeypatch.setattr("ourolog.rpc.node_server.check_listenable", in_time)
        config = NodeConfig(NodeId("n2"), str(tmp_path / "n2"), n.rpc_addr, "127.0.0.1:0")
        with pytest.raises(OSError, match="cannot listen for gRPC"):
            await NodeServer(config).start()

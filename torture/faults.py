"""Villains that do something to the nodes' processes and disks, or attack them with a process of `villains`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

import grpc

from ourolog.child_processes import child_environment, python_command
from ourolog.local_cluster import ClusterError, NodeProcess
from ourolog.rpc.channels import open_channel
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from torture.scenario import Attack, Length
from torture.stage import Stage
from torture.villains.target import NodeAddress, Target, Wrong

FROZEN_S: Final = 8.0
CUT_S: Final = 10.0
_LATE_S: Final = 30.0
_BALLAST_BYTES: Final = 16 * 1024 * 1024
_RECORD_BYTES: Final = 512 * 1024


def remote(name: str) -> Attack:
    """The villain of that name, in a process of its own, so that its work does not slow the honest clients down."""

    async def attack(stage: Stage, length: Length) -> Mapping[str, int]:
        nodes = tuple(NodeAddress(node.node_id, node.rpc_addr, node.gossip_addr) for node in stage)
        process = await asyncio.create_subprocess_exec(
            *python_command("-m", "torture.villains", name, str(Target(nodes, length.seconds, length.enough))),
            env=child_environment(),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), length.seconds + _LATE_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"the villain {name} ended with {process.returncode}"
        counts: dict[str, int] = json.loads(output)
        return counts

    return attack


def beside(name: str, frozen: str) -> Attack:
    """The villain of that name, with one node stopped (SIGSTOP) meanwhile: nothing reaches every voter's disk."""
    inner = remote(name)

    async def attack(stage: Stage, length: Length) -> Mapping[str, int]:
        stage[frozen].send_signal(signal.SIGSTOP)
        try:
            return await inner(stage, length)
        finally:
            stage[frozen].send_signal(signal.SIGCONT)

    return attack


def stopped_in(name: str, stop_s: float) -> Attack:
    """The villain of that name; in the middle of its attack the first node is told to stop, and later started again."""
    inner = remote(name)

    async def attack(stage: Stage, length: Length) -> Mapping[str, int]:
        storm = asyncio.create_task(inner(stage, length))
        node = next(iter(stage))
        await asyncio.sleep(length.seconds / 2)
        began_s = time.monotonic()
        node.terminate()
        try:
            status = await asyncio.to_thread(node.wait, stop_s)
        except ClusterError:
            node.kill()
            status = -signal.SIGKILL
        took_ms = int((time.monotonic() - began_s) * 1000)
        counts = dict(await storm)
        counts["ms from SIGTERM to exit"] = took_ms
        if status:
            counts[f"exit status {status} after SIGTERM within {stop_s:g} s"] = 1
            counts[Wrong.EXIT_STATUS] = 1
        await asyncio.to_thread(stage.restart, node.node_id)
        return counts

    return attack


def and_restarts(inner: Attack) -> Attack:
    """The attack `inner`, after which every node is stopped and started again, one after the other, the leader last."""

    async def attack(stage: Stage, length: Length) -> Mapping[str, int]:
        counts = await inner(stage, length)
        for node in reversed(list(stage)):
            node.terminate()
            await asyncio.to_thread(node.wait)
            await asyncio.to_thread(stage.restart, node.node_id)
        return counts

    return attack


async def kill_loop(stage: Stage, length: Length) -> Mapping[str, int]:
    """kill -9 of one node after the other, the leader included; each is started again at once."""
    kills = 0
    nodes = list(stage)
    ends_s = time.monotonic() + length.seconds
    while time.monotonic() < ends_s:
        node = nodes[(kills + 1) % len(nodes)]
        node.kill()
        kills += 1
        await asyncio.to_thread(stage.restart, node.node_id)
        await asyncio.sleep(0.5)
    return {"kills": kills}


async def frozen_leader(stage: Stage, _: Length) -> Mapping[str, int]:
    """The leader is paused (SIGSTOP) for longer than any time-out of the others, and then goes on."""
    leader = next(iter(stage))
    leader.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN_S)
    finally:
        leader.send_signal(signal.SIGCONT)
    return {"freezes": 1}


async def failed_fsync(stage: Stage, length: Length) -> Mapping[str, int]:
    """After some good ones, fdatasync and fsync of the leader fail; it ends, and is started again.

    strace(1) makes them fail, in the system call itself.
    """
    node = next(iter(stage))
    counts = Counter[str]()
    ends_s = time.monotonic() + length.seconds
    while not counts or time.monotonic() < ends_s:
        inject = "inject=fdatasync,fsync:error=EIO:when=20+"
        words = ("strace", "-f", "-q", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", inject)
        tracer = await asyncio.create_subprocess_exec(*words, "-p", str(node.pid))
        try:
            status = await asyncio.to_thread(node.wait)
        finally:
            if tracer.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    tracer.terminate()
            await tracer.wait()
        counts["failed syncs"] += 1
        if status != 1:
            counts[f"exit status {status} after a failed sync"] += 1
            counts[Wrong.EXIT_STATUS] += 1
        await asyncio.to_thread(stage.restart, node.node_id)
        await asyncio.sleep(1.0)
    return counts


async def cut_gossip(stage: Stage, _: Length) -> Mapping[str, int]:
    """No datagram reaches the leader or comes from it, while TCP works as usual."""
    leader = next(iter(stage)).node_id
    stage.cut.add(leader)
    try:
        await asyncio.sleep(CUT_S)
    finally:
        stage.cut.discard(leader)
    return {"datagrams dropped": stage.datagrams_dropped}


async def full_disk(stage: Stage, length: Length) -> Mapping[str, int]:
    """The disk fills up; the node ends, as it says it does. Room is made again, and it is started again.

    Several times over, each with produces open.
    """
    node = next(iter(stage))
    ballast = os.path.join(node.data_dir, "ballast")
    times = 0
    ends_s = time.monotonic() + length.seconds
    while times == 0 or time.monotonic() < ends_s:
        _allocate(ballast)
        await _produce_until_it_ends(node)
        status = await asyncio.to_thread(node.wait)
        os.unlink(ballast)
        times += 1
        if status != 1:
            return {"full": times, f"exit status {status} with a full disk": 1, Wrong.EXIT_STATUS: 1}
        await asyncio.to_thread(stage.restart, node.node_id)
        await asyncio.sleep(1.0)
    return {"full": times}


def _allocate(path: str) -> None:
    """A file that takes nearly all the room."""
    room = os.statvfs(os.path.dirname(path))
    size = room.f_bavail * room.f_frsize - _BALLAST_BYTES // 8
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size))


async def _produce_until_it_ends(node: NodeProcess) -> None:
    """Produce records, which no honest client sent, until the disk is full and the node notices."""
    async with open_channel(node.rpc_addr) as channel:
        stub = pb_grpc.LogStub(channel)
        request = pb.ProduceRequest(record=pb.Record(value=b"villain" + bytes(_RECORD_BYTES)))
        ends_s = time.monotonic() + _LATE_S
        while node.is_running and time.monotonic() < ends_s:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.Produce(request, timeout=5)
            await asyncio.sleep(0.01)

"""One run: a cluster, its clients, faults for a while, healing, and what is claimed in the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import grpc

from ourolog.local_cluster import ClusterError
from ourolog.rpc.channels import open_channel
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from ourolog.storage.errors import StorageError
from ourolog.storage.record_set import decode_records
from ourolog.storage.types import NodeId
from torture.elections.claims import what_does_not_hold
from torture.elections.clients import Clients
from torture.elections.disks import NoDisksError, small_disks
from torture.elections.faults import Fault, Nemesis
from torture.elections.logs import differences, entries_of
from torture.elections.network import Network, NoNetworkError
from torture.elections.nodes import TorturedCluster, ended
from torture.elections.recording import Recorder, recorder

DEFAULT_ELECTION: Final = "raft:{voters}"
_DISK_MIB: Final = 192
_CALM_RECORDS: Final = 50
_CALM_WITHIN_S: Final = 60.0
_SERVED_WITHIN_S: Final = 45.0
_SERVED_RECORDS: Final = 100
_AGREE_WITHIN_S: Final = 60.0
_ASK_EVERY_S: Final = 0.1
_TELL_EVERY_S: Final = 10.0
_STOP_S: Final = 15.0
_READ_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    nodes: how many there are.
    seconds: how long there are faults.
    seed: what the faults are drawn from.
    election: as on the command line of a node; "{voters}" stands for the names of all nodes.
    kinds: the faults that may be drawn.
    flags: more flags for every node.
    """

    nodes: int = 3
    seconds: float = 600.0
    seed: int = 0
    election: str = DEFAULT_ELECTION
    kinds: frozenset[Fault] = frozenset(Fault)
    flags: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"n{number + 1}" for number in range(self.nodes))

    @property
    def election_flag(self) -> str:
        return self.election.format(voters=",".join(self.names))

    @property
    def decreed(self) -> str:
        """The leader that a person decreed; "" where voters elect one."""
        name, _, rest = self.election_flag.partition(":")
        return rest.split(",")[0] if name == "static" else ""


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    seed: the plan's.
    failures: a sentence for each claim that did not hold.
    skipped: kinds of fault that this machine cannot show, and why.
    fired: how often each kind of fault was done.
    leaders: whom nodes named the leader, by term.
    counts: how often each kind of call ended how.
    acknowledged: records.
    longest_gap_s: the longest time without an acknowledgement.
    served_again_s: from the last fault to so many more acknowledgements.
    checked: calls in the history.
    took_s: the whole run.
    """

    seed: int
    failures: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    fired: dict[str, int] = field(default_factory=dict)
    leaders: dict[int, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    longest_gap_s: float = 0.0
    served_again_s: float | None = None
    checked: int = 0
    took_s: float = 0.0


async def run(plan: Plan, directory: str, tell: Callable[[str], None]) -> Outcome:
    """Play the plan in `directory`, which is empty; the history and the nodes' logs are left there.

    tell: is told, a line at a time, what happens.
    """
    outcome = Outcome(plan.seed)
    began_s = time.monotonic()

    def say(text: str) -> None:
        tell(f"{time.monotonic() - began_s:7.1f} s  {text}")

    with contextlib.ExitStack() as stack:
        kinds = set(plan.kinds)
        network = _network(plan, stack, kinds, outcome)
        _disks(plan, directory, stack, kinds, outcome)
        flags = ("--election", plan.election_flag, "--acks", "quorum", *plan.flags)
        cluster = stack.enter_context(
            TorturedCluster(
                directory, plan.nodes, flags, network, lambda term, leader: say(f"term {term}: {leader} leads")
            )
        )
        history = stack.enter_context(recorder(os.path.join(directory, "history.jsonl")))
        try:
            await _play(plan, cluster, network, frozenset(kinds), history, outcome, say)
        except (ClusterError, grpc.aio.AioRpcError, OSError, StorageError) as error:
            outcome.failures.append(f"it could not go on: {type(error).__name__}: {error}")
        outcome.failures += cluster.failures
        outcome.leaders = dict(cluster.leaders)
    outcome.took_s = time.monotonic() - began_s
    return outcome


def _network(plan: Plan, stack: contextlib.ExitStack, kinds: set[Fault], outcome: Outcome) -> Network | None:
    if Fault.CUT not in kinds:
        return None
    try:
        return stack.enter_context(Network(plan.names))
    except NoNetworkError as error:
        kinds.discard(Fault.CUT)
        outcome.skipped[Fault.CUT] = str(error)
        return None


def _disks(plan: Plan, directory: str, stack: contextlib.ExitStack, kinds: set[Fault], outcome: Outcome) -> None:
    if Fault.FULL not in kinds:
        return
    try:
        stack.enter_context(small_disks([os.path.join(directory, name) for name in plan.names], _DISK_MIB))
    except NoDisksError as error:
        kinds.discard(Fault.FULL)
        outcome.skipped[Fault.FULL] = str(error)


async def _play(
    plan: Plan,
    cluster: TorturedCluster,
    network: Network | None,
    kinds: frozenset[Fault],
    history: Recorder,
    outcome: Outcome,
    say: Callable[[str], None],
) -> None:
    say(f"{plan.nodes} nodes, --election {plan.election_flag}, seed {plan.seed}, faults for {plan.seconds:g} s")
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.wait_until_joined)
    nemesis = Nemesis(
        cluster,
        network,
        plan.seed,
        kinds,
        say,
        # Under a decree the leader's disk is the log, and one follower's may go; elected, a minority's.
        wipeable=[name for name in plan.names if name != plan.decreed],
        most_wiped=1 if plan.decreed else (plan.nodes - 1) // 2,
    )
    clients = Clients(cluster.addresses, history, Random(plan.seed))
    async with clients:
        if not await clients.wait_for_more(_CALM_RECORDS, _CALM_WITHIN_S):
            raise ClusterError(f"before any fault, {_CALM_RECORDS} records took over {_CALM_WITHIN_S:g} s")
        progress = asyncio.create_task(_tell_progress(clients, say))
        try:
            await nemesis.run(plan.seconds)
        finally:
            progress.cancel()
        outcome.fired = dict(nemesis.fired)
        outcome.failures += nemesis.failures
        await _heal(cluster, clients, outcome, say)
    outcome.counts = dict(sorted(clients.counts.items()))
    outcome.acknowledged = clients.acknowledged
    outcome.longest_gap_s = clients.longest_gap_s
    outcome.failures += clients.violations
    for kind in sorted(kinds):
        # Enough time for each kind to be drawn.
        if not nemesis.fired[kind] and plan.seconds >= 120:
            outcome.failures.append(f"in {plan.seconds:g} s no {kind} was done: this run has shown nothing of it")
    await _judge(cluster, history, outcome, say)


async def _tell_progress(clients: Clients, say: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(_TELL_EVERY_S)
        say(
            f"{clients.acknowledged:,} records acknowledged, the last one {clients.gap_s:.1f} s ago; "
            f"the longest gap was {clients.longest_gap_s:.1f} s"
        )


async def _heal(cluster: TorturedCluster, clients: Clients, outcome: Outcome, say: Callable[[str], None]) -> None:
    say("all is healed; clients must be served again")
    began_s = time.monotonic()
    for node in cluster:
        await asyncio.to_thread(node.wait_for, "listening")
    if await clients.wait_for_more(_SERVED_RECORDS, _SERVED_WITHIN_S):
        outcome.served_again_s = time.monotonic() - began_s
    else:
        outcome.failures.append(
            f"{_SERVED_WITHIN_S:g} s after everything was healed, clients are not served again: "
            + "; ".join(await _why_not_ready(cluster))
        )


# ------------------------------------------------------------ the end


async def _judge(cluster: TorturedCluster, history: Recorder, outcome: Outcome, say: Callable[[str], None]) -> None:
    say("clients have stopped; all nodes must agree")
    committed = await _agreement(cluster, outcome)
    logs = {}
    for name, addr in cluster.addresses.items():
        began_ns = time.monotonic_ns()
        logs[name] = await _everything(addr)
        if len(logs) == 1:  # the others are compared with it
            for offset, value in enumerate(logs[name]):
                history.read(NodeId(name), offset, value, began_ns)
            history.ended_at(NodeId(name), len(logs[name]), began_ns)
    await _stop(cluster, outcome)
    entries = {node.node_id: await asyncio.to_thread(entries_of, node.data_dir, node.node_id) for node in cluster}
    outcome.failures += differences(entries, committed)
    outcome.checked = len(history.history)
    say(f"checking a history of {outcome.checked:,} calls")
    outcome.failures += await asyncio.to_thread(what_does_not_hold, history.history, logs)


async def _agreement(cluster: TorturedCluster, outcome: Outcome) -> int:
    """Wait until all nodes name the same leader and term and hold the same, all of it committed; that index."""
    give_up_at_s = time.monotonic() + _AGREE_WITHIN_S
    while True:
        found = await _statuses(cluster)
        seen = {(one.leader, one.term, one.end_index, one.committed_index) for one in found if one is not None}
        if len(seen) == 1 and None not in found:
            leader, _, end, committed = next(iter(seen))
            if leader and end == committed:
                return int(committed)
        if time.monotonic() > give_up_at_s:
            outcome.failures.append(
                f"{_AGREE_WITHIN_S:g} s after all clients had stopped, the nodes do not agree: "
                + "; ".join(_shown(name, one) for name, one in zip(cluster.names, found, strict=True))
            )
            return min((int(one.committed_index) for one in found if one is not None), default=0)
        await asyncio.sleep(_ASK_EVERY_S)


async def _statuses(cluster: TorturedCluster) -> list[pb.GetStatusResponse | None]:
    return list(await asyncio.gather(*(_status(addr) for addr in cluster.addresses.values())))


async def _status(addr: str) -> pb.GetStatusResponse | None:
    async with open_channel(addr) as channel:
        try:
            return await pb_grpc.LogStub(channel).GetStatus(pb.GetStatusRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return None


async def _why_not_ready(cluster: TorturedCluster) -> list[str]:
    found = await _statuses(cluster)
    return [_shown(name, one) for name, one in zip(cluster.names, found, strict=True)]


def _shown(name: str, status: pb.GetStatusResponse | None) -> str:
    if status is None:
        return f"{name} does not answer"
    return (
        f"{name} ({status.role}) in term {status.term} follows {status.leader or 'nobody'}, ends at index "
        f"{status.end_index}, committed {status.committed_index}"
        + (f", not ready: {status.not_ready}" if status.not_ready else "")
    )


async def _everything(addr: str) -> Sequence[bytes]:
    """All records that a node lets its readers see, from offset 0 on."""
    values: list[bytes] = []
    async with open_channel(addr) as channel:
        request = pb.ConsumeBatchRequest(stop_at_end=True)
        async for response in pb_grpc.LogStub(channel).ConsumeBatchStream(request, timeout=_READ_S):
            for batch in response.batches:
                records = decode_records(batch.records)
                if not batch.base_offset <= len(values) <= batch.base_offset + len(records):
                    raise ClusterError(f"{addr} sent offset {batch.base_offset} where {len(values)} was next")
                values += records[len(values) - batch.base_offset :]
    return values


async def _stop(cluster: TorturedCluster, outcome: Outcome) -> None:
    """SIGTERM ends every node with status 0."""
    for node in cluster.tortured:
        node.may_end = frozenset({0})
        node.terminate()
    for node in cluster.tortured:
        if await ended(node, _STOP_S) is None:
            outcome.failures.append(f"{node.node_id} had not ended {_STOP_S:g} s after SIGTERM")
            node.may_end = frozenset({0, -9})
            node.kill()


def lines_of(outcome: Outcome) -> list[str]:
    """The summary, for a person."""
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.fired.items())) or "none"
    lines = [f"faults: {faults}"]
    lines += [f"skipped: {kind}: {why}" for kind, why in outcome.skipped.items()]
    led = Counter(outcome.leaders.values())
    terms = f"{min(outcome.leaders)} to {max(outcome.leaders)}" if outcome.leaders else "none"
    leads = ", ".join(f"{name} in {count}" for name, count in sorted(led.items()))
    lines.append(f"terms with a leader: {len(outcome.leaders)} ({terms}); {leads}")
    lines += [f"{what}: {count:,}" for what, count in outcome.counts.items()]
    lines.append(f"records acknowledged: {outcome.acknowledged:,}; calls checked: {outcome.checked:,}")
    lines.append(f"longest gap without an acknowledgement: {outcome.longest_gap_s:.2f} s")
    if outcome.served_again_s is not None:
        lines.append(f"served again after healing: {outcome.served_again_s:.2f} s")
    return lines + [f"!! {text}" for text in outcome.failures]

"""One scenario from its first node to its verdict: calm, attack, and what is left afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from ourolog.local_cluster import ClusterError, LogLine
from ourolog.rpc.channels import open_channel
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from torture.audit import audit
from torture.bounds import WAIT_RATIO, Bounds
from torture.honest import Honest, Phase, Seen
from torture.stage import Stage, Usage, reset_peak
from torture.villains.target import Wrong

CALM_RECORDS: Final = 200
STATIC: Final = ("--election", "static:n1,n2,n3")
_CALM_S: Final = 1.5
_CALM_WITHIN_S: Final = 60.0
_SAMPLE_EVERY_S: Final = 0.1
_RECOVERY_RECORDS: Final = 100
_FILL_BYTES: Final = 1024 * 1024
_SHOWN: Final = 3
# A median of fewer says nothing; the longest is still judged.
_FEWEST: Final = 10


@dataclass(frozen=True, slots=True)
class Length:
    """How long an attack lasts: about this many seconds, or until all of `enough` was counted, if sooner."""

    seconds: float
    enough: Mapping[str, int] = field(default_factory=dict)


Attack = Callable[[Stage, Length], Coroutine[Any, Any, Mapping[str, int]]]
"""Misbehaves; returns what was done and seen, each with its count."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row of the table.

    name: as on the command line.
    what: what the villain does, a sentence.
    attack: does it.
    nodes: how many nodes are attacked.
    flags: their flags.
    open_files: the limit of descriptors of each node; None for that of this process.
    disk_mib: the size of the first node's own disk, in memory, for which one must be root; 0 for none.
    is_relayed: whether gossip passes relays that can cut it.
    fill_mib: how much stands in the log before.
    crowd: how many honest producers there are beside the usual ones.
    needs: programs without which it is skipped.
    must: what the attack must have counted at least, or it was none.
    bounds: what nodes and honest clients must hold to.
    """

    name: str
    what: str
    attack: Attack
    nodes: int = 1
    flags: tuple[str, ...] = ()
    open_files: int | None = None
    disk_mib: int = 0
    is_relayed: bool = False
    fill_mib: int = 0
    crowd: int = 0
    needs: tuple[str, ...] = ()
    must: Mapping[str, int] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=Bounds)

    @property
    def is_elected(self) -> bool:
        return "--election" in self.flags


@dataclass(slots=True)
class Verdict:
    """What came of one scenario.

    scenario: its name.
    skipped: why it could not be played on this machine; "" when it was.
    failures: a sentence for each bound that was not held; empty when all were.
    figures: what was measured, for the report.
    took_s: how long it took, in seconds.
    """

    scenario: str
    skipped: str = ""
    failures: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    took_s: float = 0.0

    def fail(self, text: str) -> None:
        self.failures.append(text)

    def check(self, what: str, found: float, bound: float, unit: str) -> None:
        if found > bound:
            self.fail(f"{what}: {found:.4g} {unit}, the bound is {bound:.4g}")


async def run(scenario: Scenario, directory: str, seconds: float, *, brief: bool = False) -> Verdict:
    """Play it in `directory`, which is empty. Never raises for what a node does.

    seconds: how long the attack lasts.
    brief: whether it ends as soon as it was one, by the scenario's `must`.
    """
    length = Length(seconds, scenario.must if brief else {})
    verdict = Verdict(scenario.name)
    missing = [name for name in scenario.needs if shutil.which(name) is None]
    if missing:
        verdict.skipped = f"there is no {missing[0]} here"
        return verdict
    began_s = time.monotonic()
    stage = Stage(
        directory, scenario.nodes, flags=scenario.flags, open_files=scenario.open_files, relayed=scenario.is_relayed
    )
    with contextlib.ExitStack() as stack:
        if scenario.disk_mib:
            try:
                stack.enter_context(_disk_in_memory(os.path.join(directory, "n1"), scenario.disk_mib))
            except OSError as error:
                verdict.skipped = str(error)
                return verdict
        stack.enter_context(stage)
        try:
            await stage.open_relays()
            await asyncio.to_thread(stage.start)
            await asyncio.to_thread(stage.wait_until_joined)
            await _play(scenario, stage, length, verdict)
        except (ClusterError, LogError, OSError, AssertionError, grpc.aio.AioRpcError) as error:
            verdict.fail(f"it could not go on: {type(error).__name__}: {error}")
    verdict.took_s = time.monotonic() - began_s
    return verdict


async def _play(scenario: Scenario, stage: Stage, length: Length, verdict: Verdict) -> None:
    # If a node was away, each of the crowd has moved to another one.
    bounds = dataclasses.replace(scenario.bounds, kept_files=scenario.bounds.kept_files + scenario.crowd)
    await _fill(stage, scenario.fill_mib)
    # With nobody elected each node has a log of its own, and what went to another one would be at another offset.
    written_to = stage.addresses if scenario.is_elected else stage.addresses[:1]
    async with Honest(written_to, strangers=bounds.strangers_wait, crowd=scenario.crowd) as honest:
        calm = await _calm(stage, honest)
        attack_at_s = time.monotonic()
        highest = await _attack(scenario, stage, honest, length, verdict)
        left = await _settle(stage, honest, calm, bounds, verdict)
        await honest.stop()
        for text in honest.violations:
            verdict.fail(text)
        addresses = {node.node_id: node.rpc_addr for node in stage}
        for text in await audit(addresses, honest.acknowledged, alike=scenario.is_elected):
            verdict.fail(text)
        lines = {node.node_id: stage.log_since(node.node_id, attack_at_s) for node in stage}
    _judge_waits(honest, bounds, verdict)
    _judge_usage(calm, highest, left, bounds, verdict)
    _judge_log(lines, bounds, verdict)
    await _judge_stop(stage, bounds, verdict)


@contextlib.contextmanager
def _disk_in_memory(directory: str, mib: int) -> Iterator[None]:
    """Raises OSError when this user may not mount anything."""
    os.mkdir(directory)
    words = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", directory]
    mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise OSError(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


# ------------------------------------------------------------ the phases


async def _fill(stage: Stage, mib: int) -> None:
    if not mib:
        return
    async with open_channel(stage.addresses[0]) as channel:
        stub = pb_grpc.LogStub(channel)
        for number in range(mib):
            value = b"fill %d " % number
            record = pb.Record(value=value + bytes(_FILL_BYTES - 64 - len(value)))
            await stub.Produce(pb.ProduceRequest(record=record), timeout=30)


async def _calm(stage: Stage, honest: Honest) -> dict[str, Usage]:
    """Run honest clients only, for the figures that the attack is compared with. Returns what the nodes took."""
    began_s = time.monotonic()
    if not await honest.wait_for_more(CALM_RECORDS, _CALM_WITHIN_S):
        raise ClusterError(f"without any villain, {CALM_RECORDS} records took over {_CALM_WITHIN_S:g} s")
    await asyncio.sleep(max(0.0, began_s + _CALM_S - time.monotonic()))
    usage = stage.usage()
    for node in stage:
        reset_peak(node.pid)
    return usage


async def _attack(
    scenario: Scenario, stage: Stage, honest: Honest, length: Length, verdict: Verdict
) -> dict[str, Usage]:
    """Run the attack, and check the villain's counts. Returns the most that each node took meanwhile."""
    highest: dict[str, Usage] = {}
    honest.phase = Phase.ATTACK
    sampling = asyncio.create_task(_sample(stage, highest))
    try:
        counts = Counter(await scenario.attack(stage, length))
    finally:
        sampling.cancel()
        honest.phase = Phase.AFTER
    verdict.figures["villain"] = dict(counts)
    for what, least in scenario.must.items():
        if counts[what] < least:
            verdict.fail(f"the attack was none: {counts[what]} {what}, at least {least} are needed")
    for wrong in Wrong:
        if counts[wrong]:
            verdict.fail(f"{counts[wrong]} {wrong}")
    return highest


async def _sample(stage: Stage, highest: dict[str, Usage]) -> None:
    while True:
        for name, usage in stage.usage().items():
            before = highest.get(name, usage)
            highest[name] = Usage(
                usage.resident_mib,
                max(before.peak_mib, usage.peak_mib),
                max(before.files, usage.files),
            )
        await asyncio.sleep(_SAMPLE_EVERY_S)


async def _settle(
    stage: Stage, honest: Honest, calm: dict[str, Usage], bounds: Bounds, verdict: Verdict
) -> dict[str, Usage]:
    """The villain is gone: everything must work again within its time. Returns what the nodes take then."""
    began_s = time.monotonic()
    ended = [node for node in stage if not node.is_running]
    if ended:
        raise ClusterError("; ".join(f"{node.node_id} has ended: {node.last_words()}" for node in ended))
    if not await honest.wait_for_more(_RECOVERY_RECORDS, bounds.settle_s * 2):
        verdict.fail(f"{bounds.settle_s * 2:g} s after the attack honest clients are not served again")
    elif not await honest.wait_until_consumed(bounds.settle_s):
        verdict.fail(f"{bounds.settle_s:g} s later the honest consumer has not got what is acknowledged")
    verdict.figures["served_again_s"] = round(time.monotonic() - began_s, 2)
    while True:
        usage = stage.usage()
        if all(
            now.files <= calm[name].files + bounds.kept_files
            and now.resident_mib <= calm[name].resident_mib + bounds.kept_mib
            for name, now in usage.items()
        ):
            return usage
        if time.monotonic() - began_s > bounds.settle_s:
            return usage
        await asyncio.sleep(_SAMPLE_EVERY_S)


# ------------------------------------------------------------ judging


def _judge_waits(honest: Honest, bounds: Bounds, verdict: Verdict) -> None:
    calm = honest.seen[Phase.CALM]
    figures: dict[str, Any] = {}
    for phase in Phase:
        seen = honest.seen[phase]
        figures[phase] = {
            "produces": len(seen.produces.seconds),
            "median_ms": round(seen.produces.median * 1000, 1),
            "longest_ms": round(seen.produces.longest * 1000, 1),
            "stranger_ms": round(seen.strangers.longest * 1000, 1),
            "behind_ms": round(seen.behind.longest * 1000, 1),
        }
        if phase is not Phase.CALM:
            _judge_phase(phase, seen, calm, bounds, verdict)
    verdict.figures["honest"] = figures


def _judge_phase(phase: Phase, seen: Seen, calm: Seen, bounds: Bounds, verdict: Verdict) -> None:
    when = {Phase.CALM: "before the attack", Phase.ATTACK: "under attack", Phase.AFTER: "after the attack"}[phase]
    typical = bounds.typical_s + WAIT_RATIO * calm.produces.median
    longest = bounds.wait_s + WAIT_RATIO * max(calm.produces.longest, calm.strangers.longest)
    behind = bounds.behind_s + WAIT_RATIO * calm.behind.longest
    if len(seen.produces.seconds) >= _FEWEST:
        verdict.check(f"honest produces {when}, median", seen.produces.median, typical, "s")
    verdict.check(f"honest produces {when}, longest", seen.produces.longest, longest, "s")
    verdict.check(f"new honest clients {when}, longest", seen.strangers.longest, longest, "s")
    verdict.check(f"the honest consumer {when}, behind at most", seen.behind.longest, behind, "s")
    for kind, texts, allowed in (
        ("were refused", seen.refused, bounds.refused),
        ("ended unknown", seen.unknown, bounds.unknown),
    ):
        if texts and not allowed:
            verdict.fail(f"{len(texts)} honest calls {kind} {when}, the first: {texts[0]}")


def _judge_usage(
    calm: dict[str, Usage], highest: dict[str, Usage], left: dict[str, Usage], bounds: Bounds, verdict: Verdict
) -> None:
    figures: dict[str, Any] = {}
    for name, before in calm.items():
        most, after = highest.get(name, before), left.get(name, before)
        figures[name] = {
            "mib": [round(before.resident_mib), round(most.peak_mib), round(after.resident_mib)],
            "files": [before.files, most.files, after.files],
        }
        base = before.resident_mib
        verdict.check(f"{name}'s memory above the calm's", most.peak_mib - base, bounds.grown_mib, "MiB")
        verdict.check(f"{name}'s memory still there", after.resident_mib - base, bounds.kept_mib, "MiB")
        verdict.check(f"{name}'s descriptors above the calm's", most.files - before.files, bounds.grown_files, "files")
        verdict.check(f"{name}'s descriptors still open", after.files - before.files, bounds.kept_files, "files")
    verdict.figures["nodes"] = figures


def _judge_log(lines: dict[str, list[LogLine]], bounds: Bounds, verdict: Verdict) -> None:
    verdict.figures["log_lines"] = {name: len(of) for name, of in lines.items()}
    for name, logged in lines.items():
        # With nobody elected the cycle is reported every second, by design.
        counted = [line for line in logged if line.event != "cycle_seen"]
        verdict.check(f"{name}'s log", len(counted), bounds.log_lines, "lines")
        longest = max((len(str(line.fields)) for line in counted if "exception" not in line.fields), default=0)
        verdict.check(f"{name}'s longest line", longest, bounds.line_bytes, "bytes")
        errors = [line for line in logged if line.level == "error"]
        if len(errors) > bounds.log_errors:
            shown = [_told(line) for line in errors[:_SHOWN]]
            verdict.fail(f"{name} logged {len(errors)} errors: {shown}")
        # Python itself says "Traceback": a line that is no event is what a library or the interpreter has printed.
        odd = [line for line in logged if not line.event or "Traceback" in str(line.fields)]
        if len(odd) > bounds.log_errors:
            shown = [_told(line) for line in odd[:_SHOWN]]
            verdict.fail(f"{name} logged {len(odd)} lines of tracebacks or of no form: {shown}")


def _told(line: LogLine) -> str:
    """The beginning of a line, and the end of its traceback if it has one."""
    text = str(line.fields.get("reason") or line.fields.get("text") or line.event)
    return text[:200] + str(line.fields.get("exception", ""))[-600:]


async def _judge_stop(stage: Stage, bounds: Bounds, verdict: Verdict) -> None:
    """SIGTERM must end every node, in time and with status 0."""
    running = [node for node in stage if node.is_running]
    began_s = time.monotonic()
    for node in running:
        node.terminate()
    for node in running:
        left_s = max(0.1, began_s + bounds.stop_s - time.monotonic())
        try:
            status = await asyncio.to_thread(node.wait, left_s)
        except ClusterError:
            verdict.fail(f"{node.node_id} had not ended {bounds.stop_s:g} s after SIGTERM")
            continue
        if status != 0:
            verdict.fail(f"{node.node_id} ended with status {status} after SIGTERM: {node.last_words()}")
    verdict.figures["stop_s"] = round(time.monotonic() - began_s, 2)

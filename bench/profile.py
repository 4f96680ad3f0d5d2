"""`python -m bench.profile`: where the time of a leader and of a follower goes, as flame graphs and a table.

Samples real nodes under load with py-spy (`pip install py-spy`; it needs the right to trace processes). A sampler sees
compiled code, too: gRPC's core is most of what a single call costs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from bench.flame_graphs import COLOURS, fold, render, shares
from bench.machine import is_in_memory
from bench.nodes import Nodes, elected_nodes
from bench.payloads import batch_request
from bench.processes import cpu_s
from bench.produce import batches, calls
from bench.rounds import Span, Work
from ourolog.rpc.v1 import log_pb2 as pb

# A node that is sampled stands still for longer than a leader may.
_FLAGS: Final = ("--election-timeout", "10s")
_SAMPLES_PER_S: Final = 400
_WITHOUT_END: Final = 1 << 62
_TITLES: Final = {
    "unary-1": "one unary Produce after the other",
    "unary-64": "64 unary Produces in flight",
    "batches-100": "a stream of batches of 100 records of 100 B",
    "batches-10000": "a stream of batches of 10,000 records of 100 B",
}


def main() -> int:
    """0 when all was sampled."""
    arguments = _arguments()
    sampler = shutil.which("py-spy") or shutil.which("py-spy", path=os.path.dirname(sys.executable))
    if sampler is None:
        print("py-spy is not here: `pip install py-spy` into this environment, then again", file=sys.stderr)
        return 2
    within = os.path.abspath(arguments.directory or tempfile.gettempdir())
    if is_in_memory(within):
        print(f"{within} is in memory, where fsync costs nothing: name a --directory on a disk", file=sys.stderr)
        return 2
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ourolog-profile-", dir=within) as directory:
        rows = asyncio.run(_profile(arguments.loads, arguments.seconds, sampler, directory, out))
    print("| load | node | µs of processor a call or record |", " | ".join(COLOURS), "|")
    print("| --- | --- |", " | ".join("---:" for _ in range(len(COLOURS) + 1)), "|")
    for row in rows:
        print("|", " | ".join(row), "|")
    return 0


async def _profile(loads: Sequence[str], seconds: float, sampler: str, directory: str, out: Path) -> list[list[str]]:
    rows = []
    async with elected_nodes(directory, 3, _FLAGS) as nodes:
        await nodes.stub.Produce(pb.ProduceRequest(record=pb.Record(value=b"first"), acks=pb.ACKS_ALL), timeout=30)
        for load in loads:
            work = _work(load, nodes)
            await work(Span(1.0, _WITHOUT_END))
            for role, pid in zip(("leader", "follower"), nodes.pids, strict=False):
                print(f"{load}: the {role} …", file=sys.stderr)
                stacks, cost_us = await _sample(work, pid, seconds, sampler, f"{directory}/stacks")
                root = fold(stacks)
                path = out / f"{load}-{role}.svg"
                path.write_text(render(root, f"{role}, {_TITLES[load]}"), encoding="utf-8")
                share = shares(root)
                rows.append([load, role, f"{cost_us:.3g}", *(f"{share.get(room, 0.0):.0%}" for room in COLOURS)])
    return rows


def _work(load: str, nodes: Nodes) -> Work:
    kind, _, count = load.partition("-")
    return calls(nodes, int(count)) if kind == "unary" else batches(nodes, batch_request(int(count), 100))


async def _sample(work: Work, pid: int, seconds: float, sampler: str, path: str) -> tuple[list[str], float]:
    """Folded stacks of a process under this load, and its processor time in µs for each call or record."""
    command = (sampler, "record", "--pid", str(pid), "--duration", f"{seconds:.0f}", "--rate", str(_SAMPLES_PER_S))
    before_s = cpu_s((pid,))
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--format", "raw", "--threads", "--native", "--gil", "--output", path),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    done = await work(Span(seconds + 1.0, _WITHOUT_END))
    cost_us = (cpu_s((pid,)) - before_s) / max(1, done.count) * 1e6
    _, said = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"py-spy ended with {process.returncode}: {said.decode(errors='replace').strip()[-400:]}")
    return Path(path).read_text(encoding="utf-8").splitlines(), cost_us  # noqa: ASYNC240  # once, when all is done


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.profile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each process is sampled")
    parser.add_argument("--out", default="docs/performance", metavar="PATH", help="where the flame graphs go")
    parser.add_argument("--directory", metavar="PATH", help="where the nodes' data goes while it lasts, on a disk")
    parser.add_argument(
        "loads", nargs="*", default=list(_TITLES), metavar="LOAD", help=f"only these: {', '.join(_TITLES)}"
    )
    arguments = parser.parse_args()
    for load in arguments.loads:
        if load not in _TITLES:
            parser.error(f"there is no {load}; there are {', '.join(_TITLES)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

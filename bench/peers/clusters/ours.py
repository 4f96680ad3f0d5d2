"""Our side: three nodes that elect their leader, and the loads on them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import grpc

from bench.nodes import FLAGS
from bench.peers.binaries import HERE, MissingError
from bench.peers.samples import Load, Span
from bench.peers.servers import Server, free_ports, running, wait_until
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc

NODES: Final = 3
SETTINGS: Final = "3 nodes, --election raft, acks=quorum, --fsync always"
_ASKED_FOR_S: Final = 5.0
_FILLED_WITHIN_S: Final = 60.0
_BATCHES_IN_FLIGHT: Final = 8


def version_of(checkout: str) -> str:
    """What git calls the commit of a checkout."""
    words = ["git", "-C", checkout, "describe", "--always", "--dirty"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError:
        said = ""
    return said.strip() or "of unknown version"


def status_of(addr: str) -> pb.GetStatusResponse:
    """What a node says of itself; nothing if it does not answer."""
    with grpc.insecure_channel(addr) as channel:
        try:
            return pb_grpc.LogStub(channel).GetStatus(pb.GetStatusRequest(), timeout=_ASKED_FOR_S)
        except grpc.RpcError:
            return pb.GetStatusResponse()


class Ours:
    """A cluster of the nodes of one checkout.

    label: in the tables.
    version: of the checkout.
    nodes: the processes, n1 and so on.
    addresses: where they serve gRPC.
    """

    def __init__(self, label: str, checkout: str, directory: str) -> None:
        self.label = label
        self.checkout = checkout
        self.version = version_of(checkout)
        self.settings = SETTINGS
        self.python = os.path.join(checkout, ".venv", "bin", "python")
        self._program = os.path.join(checkout, ".venv", "bin", "ourolog")
        for path in (self.python, self._program):
            if not os.access(path, os.X_OK):
                raise MissingError(f"there is no {path}: run make there first")
        self.directory = directory
        self._filled = (0, 0)
        ports = free_ports(2 * NODES)
        self.addresses = [f"127.0.0.1:{port}" for port in ports[:NODES]]
        self._gossip = [f"127.0.0.1:{port}" for port in ports[NODES:]]
        self.nodes = [
            self._node(f"n{at + 1}", self.addresses[at], self._gossip[at], ("--bootstrap-expect", str(NODES)))
            for at in range(NODES)
        ]

    def newcomer(self, name: str) -> tuple[Server, str, str]:
        """A node with an empty directory, not started yet, that will join and copy; its gRPC address, its directory."""
        rpc_addr, gossip_addr = (f"127.0.0.1:{port}" for port in free_ports(2))
        return self._node(name, rpc_addr, gossip_addr), rpc_addr, os.path.join(self.directory, name)

    def data_directory(self, at: int) -> str:
        return os.path.join(self.directory, f"n{at + 1}")

    def _node(self, name: str, rpc_addr: str, gossip_addr: str, flags: Sequence[str] = ()) -> Server:
        words = [self._program, "node", "--node-id", name, "--data-dir", os.path.join(self.directory, name)]
        words += ["--rpc-addr", rpc_addr, "--gossip-addr", gossip_addr, "--election", "raft", *FLAGS, *flags]
        for other in self._gossip:
            words += [] if other == gossip_addr else ["--join", other]
        return Server(f"{self.label} {name}", words, os.path.join(self.directory, f"{name}.log"))

    @contextlib.contextmanager
    def started(self) -> Iterator[Ours]:
        """Running, once three nodes vote and follow one leader."""
        os.makedirs(self.directory)
        with running(self.nodes):
            wait_until(self._is_well, "leader that all three voters follow", self.nodes)
            yield self

    @property
    def servers(self) -> Sequence[Server]:
        return self.nodes

    def pids(self) -> list[int]:
        return [node.pid for node in self.nodes]

    def leader(self) -> int:
        """Which of the nodes leads. Raises ServerError if none does for a while."""
        self._wait_for_leader()
        return next(at for at in range(NODES) if f"n{at + 1}" == self._seen_leader)

    def leader_addr(self) -> str:
        return self.addresses[self.leader()]

    def follower_addr(self) -> str:
        return self.addresses[(self.leader() + 1) % NODES]

    def status(self, at: int) -> pb.GetStatusResponse:
        return status_of(self.addresses[at])

    def append_until(self, records: int, request: pb.ProduceBatchRequest) -> None:
        """Append this batch again and again, until the log has at least so many records."""
        while (left := records - self.status(self.leader()).end_offset) > 0:
            with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(self.leader_addr()) as channel:
                self._append(pb_grpc.LogStub(channel), -(-left // request.record_count), request)

    def _append(self, stub: pb_grpc.LogStub, batches: int, request: pb.ProduceBatchRequest) -> None:
        room = threading.Semaphore(_BATCHES_IN_FLIGHT)

        def requests() -> Iterator[pb.ProduceBatchRequest]:
            for _ in range(batches):
                room.acquire()
                yield request

        for _ in stub.ProduceBatchStream(requests()):
            room.release()

    def _wait_for_leader(self) -> None:
        wait_until(self._is_well, "leader that all three voters follow", self.nodes)

    def _is_well(self) -> bool:
        found = [self.status(at) for at in range(NODES)]
        leaders = {(one.leader, one.term) for one in found}
        if len(leaders) != 1 or not found[0].leader or any(one.not_ready or len(one.voters) != NODES for one in found):
            return False
        self._seen_leader = found[0].leader
        return True

    # ------------------------------------------------------------ loads

    def produce(self, generator: str, in_flight: int) -> Load:
        """Unary Produce to the leader, from Go."""
        words = ["-in-flight", str(in_flight), "ours", "produce"]
        return self._load(f"Produce, {in_flight} in flight", generator, words, self.leader_addr)

    def client(self, tasks: int, loop: str = "asyncio") -> Load:
        """LogClient.produce(), from this many tasks of one Python process, on asyncio's own loop or on uvloop."""
        script = os.path.join(HERE, "client_load.py")

        def to(addresses: str) -> list[str]:
            words = ["-addr", addresses, "-in-flight", str(tasks), "-loop", loop, "ours", "client"]
            return [self.python, "-P", script, *words]

        name = f"{self.label}: LogClient.produce(), {tasks:,} tasks{'' if loop == 'asyncio' else f' on {loop}'}"
        return Load(name, lambda: to(",".join(self.addresses)), self.pids, to_empty=to)

    def batches(self, generator: str, records: int, size: int, *, idempotent: bool = False) -> Load:
        """ProduceBatchStream to the leader, from Go."""
        words = ["-in-flight", str(_BATCHES_IN_FLIGHT), "-batch", str(records), "-size", str(size)]
        words += [*(["-idempotent"] if idempotent else []), "ours", "batches"]
        name = f"ProduceBatchStream, {size:,} B x {records:,}{', numbered' if idempotent else ''}"
        return self._load(name, generator, words, self.leader_addr, size)

    def consume(self, generator: str) -> Load:
        """ConsumeBatchStream from a follower, from Go, every record decoded."""
        offset, records = self._filled
        words = ["-offset", str(offset), "-records", str(records), "ours", "consume"]
        return self._load("ConsumeBatchStream from a follower", generator, words, self.follower_addr)

    def fill(self, generator: str, size_bytes: int) -> None:
        """Produce so many bytes of values of 100 B in batches of 1,000; `consume` reads these."""
        offset = self.status(self.leader()).end_offset
        sample = self.batches(generator, 1_000, 100).sample(Span(0, _FILLED_WITHIN_S, size_bytes))
        self._filled = (offset, sample.records)

    def _load(
        self, name: str, generator: str, words: Sequence[str], addr: Callable[[], str], record_bytes: int = 100
    ) -> Load:
        def to(found: str) -> list[str]:
            return [generator, "-addr", found, *words]

        return Load(f"{self.label}: {name}", lambda: to(addr()), self.pids, record_bytes, to)

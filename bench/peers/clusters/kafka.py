"""Kafka: three brokers that are controllers, too (KRaft), and topics that sync each batch or leave it to the system."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench.peers.binaries import HERE, MissingError, Program, maven_libraries
from bench.peers.samples import Load, run_generator
from bench.peers.servers import Server, free_ports, is_open, running, wait_until

BROKERS: Final = 3
_POM: Final = os.path.join(HERE, "kafka", "pom.xml")
_CLUSTER_ID: Final = "b3Vyb2xvZy1iZW5jaC1wZQ"
_FORMATS_WITHIN_S: Final = 120.0
# Those of Kafka's own start script.
_JVM: Final = (
    *("-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
    *("-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
# Every topic: acks=all waits for two of three, and a producer may send batches as large as it likes.
_TOPIC: Final = "min.insync.replicas=2,max.message.bytes=33554432"
TOPICS: Final = {
    "synced": f"{_TOPIC},flush.messages=1",
    "default": _TOPIC,
    "consumed": _TOPIC,
}


def program(say: Callable[[str], None]) -> Program:
    """Kafka's libraries as the path that java is given. Raises MissingError."""
    with open(_POM, encoding="utf-8") as pom:
        version = re.search(r"<kafka.version>(.*?)<", pom.read())
    assert version is not None
    return Program(os.path.join(maven_libraries("kafka", _POM, say), "*"), version[1])


class Kafka:
    """A cluster with a topic of one partition for each way to sync: a log has one order, as ours has."""

    def __init__(self, libraries: Program, java: str, generator: str, directory: str) -> None:
        self.label = "Kafka"
        self.version = libraries.version
        self.settings = (
            "3 brokers (KRaft), 1 partition, acks=all, min.insync.replicas=2, flush.messages=1 or default, JVM warm"
        )
        self._generator = generator
        self._directory = directory
        self._java = [java, *_JVM, "-cp", libraries.path]
        brokers, controllers = (free_ports(2 * BROKERS)[part * BROKERS :][:BROKERS] for part in (0, 1))
        self._addresses = ",".join(f"127.0.0.1:{port}" for port in brokers)
        self._listening = [f"127.0.0.1:{port}" for port in brokers]
        voters = ",".join(f"{at + 1}@127.0.0.1:{controllers[at]}" for at in range(BROKERS))
        self._properties = [
            f"""process.roles=broker,controller
node.id={at + 1}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{brokers[at]},CONTROLLER://127.0.0.1:{controllers[at]}
advertised.listeners=PLAINTEXT://127.0.0.1:{brokers[at]}
controller.listener.names=CONTROLLER
log.dirs={directory}/b{at + 1}
"""
            for at in range(BROKERS)
        ]
        self.servers: Sequence[Server] = [
            Server(
                f"Kafka b{at + 1}",
                [*self._java, "kafka.Kafka", self._file(at)],
                os.path.join(directory, f"b{at + 1}.log"),
            )
            for at in range(BROKERS)
        ]

    def _file(self, at: int) -> str:
        return os.path.join(self._directory, f"b{at + 1}.properties")

    @contextlib.contextmanager
    def started(self) -> Iterator[Kafka]:
        """Running, with all topics in sync on three brokers."""
        os.makedirs(self._directory)
        for at, text in enumerate(self._properties):
            with open(self._file(at), "w", encoding="utf-8") as file:
                file.write(text)
            words = [*self._java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", self._file(at)]
            done = subprocess.run(words, capture_output=True, text=True, timeout=_FORMATS_WITHIN_S, check=False)
            if done.returncode:
                raise MissingError(f"Kafka's directory could not be made: {(done.stdout + done.stderr)[-300:]}")
        with running(self.servers):
            wait_until(lambda: all(map(is_open, self._listening)), "brokers that answer", self.servers)
            for topic, config in TOPICS.items():
                run_generator([*self._command(topic), "-config", config, "kafka", "create"])
            yield self

    def pids(self) -> list[int]:
        return [server.pid for server in self.servers]

    # ------------------------------------------------------------ loads

    def produce(self, topic: str, in_flight: int) -> Load:
        """One record at a time for each caller, without linger; the producer gathers what waits."""
        words = ["-in-flight", str(in_flight), "kafka", "produce"]
        return self._load(f"produce, {in_flight} in flight", topic, words)

    def bulk(self, topic: str, records: int, linger: str, size: int = 100) -> Load:
        """Records handed to the producer, which makes batches of them by itself."""
        words = ["-batch", str(records), "-linger", linger, "-size", str(size)]
        name = f"produce, {size:,} B, batches up to {records:,}, linger {linger}"
        return self._load(name, topic, [*words, "kafka", "bulk"], size)

    def consume(self) -> Load:
        """The partition from its beginning on, from its leader."""
        return self._load("fetch from the leader", "consumed", ["kafka", "consume"])

    def _load(self, name: str, topic: str, words: Sequence[str], record_bytes: int = 100) -> Load:
        command = [*self._command(topic), *words]
        return Load(f"Kafka, {topic}: {name}", lambda: command, self.pids, record_bytes)

    def _command(self, topic: str) -> list[str]:
        return [self._generator, "-addr", self._addresses, "-name", topic]

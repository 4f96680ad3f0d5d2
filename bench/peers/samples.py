"""Samples: what a load generator, a process of its own, says of one span of one load."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bench.peers.servers import bound_to_this

_ANSWERS_WITHIN_S: Final = 120.0


class SampleError(Exception):
    """A load generator failed, or hung; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Span:
    """How long one sample lasts.

    warm_up_s: unmeasured, in the same process, before it.
    seconds: measured; what is in flight then is waited for.
    most_bytes: of values; a sample ends earlier with them.
    """

    warm_up_s: float
    seconds: float
    most_bytes: int

    def flags(self) -> list[str]:
        return ["-warm-up", f"{self.warm_up_s}", "-seconds", f"{self.seconds}", "-most", f"{self.most_bytes}"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What was done in one span.

    records: acknowledged, or read.
    elapsed_s: from the first call to the last answer.
    p50_us, p99_us: how long calls took, 0 where they were not measured one by one.
    generator_cpu_s, servers_cpu_s, others_cpu_s: processor time of the load generator, of all processes of the
        servers, and of everything else on the machine.
    """

    records: int
    elapsed_s: float
    p50_us: float
    p99_us: float
    generator_cpu_s: float
    servers_cpu_s: float
    others_cpu_s: float

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.elapsed_s

    @property
    def generator_share(self) -> float:
        """Processor time of the load generator by elapsed time: 1 is a whole processor."""
        return self.generator_cpu_s / self.elapsed_s

    @property
    def servers_us(self) -> float:
        """Processor time of the servers for each record, in microseconds."""
        return self.servers_cpu_s / self.records * 1e6

    @property
    def generator_us(self) -> float:
        return self.generator_cpu_s / self.records * 1e6

    @property
    def others_share(self) -> float:
        """How much of all processors everything else had, 0 to 1: other clusters that idle are part of it."""
        return self.others_cpu_s / (self.elapsed_s * (os.cpu_count() or 1))

    @classmethod
    def parse(cls, text: str) -> Sample:
        """From what a generator prints. Raises SampleError if that is something else, or if nothing was done."""
        try:
            said: dict[str, Any] = json.loads(text)
            sample = cls(
                records=int(said["records"]),
                elapsed_s=float(said["elapsed_s"]),
                p50_us=float(said.get("p50_us", 0)),
                p99_us=float(said.get("p99_us", 0)),
                generator_cpu_s=float(said["generator_cpu_s"]),
                servers_cpu_s=float(said["servers_cpu_s"]),
                others_cpu_s=float(said["others_cpu_s"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise SampleError(f"a load generator said {text[:200]!r}") from error
        if sample.records <= 0 or sample.elapsed_s <= 0:
            raise SampleError(f"nothing was done: {text[:200]!r}")
        return sample


class Sampled(Protocol):
    """Something of which samples can be made.

    name: as in the table.
    record_bytes: of each thing that is counted.
    """

    @property
    def name(self) -> str: ...

    @property
    def record_bytes(self) -> int: ...

    def sample(self, span: Span) -> Sample:
        """Make one. Raises SampleError."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """Something that takes as long as it takes: a sample is one of it.

    name: as in the table.
    run: does it, and says what it took.
    record_bytes: of each thing that is counted.
    """

    name: str
    run: Callable[[], Sample]
    record_bytes: int = 1

    def sample(self, span: Span) -> Sample:  # noqa: ARG002
        return self.run()


@dataclass(frozen=True, slots=True)
class Load:
    """One load on one contender.

    name: as in the table.
    command: the generator's command line but for the span; asked before each sample, since leaders change.
    pids: of all processes of the servers.
    record_bytes: of a value.
    to_empty: the same for the address of a server that answers at once and keeps nothing; None where there is none.
    """

    name: str
    command: Callable[[], Sequence[str]]
    pids: Callable[[], Sequence[int]]
    record_bytes: int = 100
    to_empty: Callable[[str], Sequence[str]] | None = None

    def sample(self, span: Span) -> Sample:
        """Make one. Raises SampleError."""
        words = list(self.command())
        pids = ",".join(map(str, self.pids()))
        # Go's flags end with the first word that is none, so they go in front of the two that name the load.
        words[-2:-2] = [*span.flags(), *(["-pids", pids] if pids else [])]
        return Sample.parse(run_generator(words, span.warm_up_s + span.seconds + _ANSWERS_WITHIN_S))


def run_generator(words: Sequence[str], timeout_s: float = _ANSWERS_WITHIN_S) -> str:
    """What it prints. Raises SampleError with what it said on standard error."""
    with subprocess.Popen(
        bound_to_this(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise SampleError(f"{' '.join(words[-2:])} did not end within {timeout_s:.0f} s") from None
        finally:
            process.kill()
    if process.returncode != 0:
        raise SampleError(f"{' '.join(words[-2:])}: {errors.strip()[-500:]}")
    return out

"""The machine on which the numbers were taken."""

from __future__ import annotations

import os
import platform
import resource
from importlib.metadata import version
from typing import Any, Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_IN_MEMORY: Final = {"tmpfs", "ramfs"}


def describe(directory: str) -> dict[str, Any]:
    """Machine, versions and the file system that the data goes to."""
    kind = file_system(directory)
    machine = (
        f"{os.cpu_count()} cores ({_processor()}), {platform.system()} {platform.release()}, {kind}, "
        f"Python {platform.python_version()}, grpcio {version('grpcio')}, protobuf {version('protobuf')}"
    )
    return {"machine": machine, "load_average": os.getloadavg(), "file_system": kind}


def is_in_memory(directory: str) -> bool:
    return file_system(directory) in _IN_MEMORY


def file_system(directory: str) -> str:
    """The type of the file system that holds a directory, by the longest mount point above it."""
    path = os.path.realpath(directory)
    best, kind = "", "unknown"
    with open("/proc/mounts", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            _, point, found, *_ = line.split()
            if len(point) >= len(best) and os.path.commonpath([path, point]) == point:
                best, kind = point, found
    return kind


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as cpus:
        for line in cpus:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


class Bystanders:
    """How much of the processors' time went to processes other than this one and its children."""

    def __init__(self) -> None:
        self._busy_s, self._all_s = _processors_s()
        self._own_s = _own_s()

    def share(self) -> float:
        """0 to 1, since the beginning; children count once they have ended."""
        busy_s, all_s = _processors_s()
        others_s = (busy_s - self._busy_s) - (_own_s() - self._own_s)
        return max(0.0, others_s / max(1.0, all_s - self._all_s))


def busy_s() -> float:
    """Processor time that everything on the machine has taken so far."""
    return _processors_s()[0]


def _processors_s() -> tuple[float, float]:
    """(busy, busy and idle), of all processors together."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, idle, iowait, irq, soft, steal = map(int, file.readline().split()[1:9])
    busy = user + nice + system + irq + soft + steal
    return busy / _TICKS_PER_S, (busy + idle + iowait) / _TICKS_PER_S


def _own_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)

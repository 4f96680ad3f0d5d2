"""The calls that `ourolog.storage.disk` makes of the operating system, and their order; other tests have a fake below.

Without them a fsync that does nothing would pass every test.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.store import (
    AppendBatch,
    BallotSaved,
    BatchAppended,
    OpenLog,
    ResetLog,
    SaveBallot,
    TruncateLog,
)
from ourolog.actors.occupants import parse_election
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.store import StoreActor
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import NewBatch
from ourolog.storage.disk import DiskFile, DiskFiles
from ourolog.storage.identity import BALLOT_NAME, IDENTITY_NAME
from ourolog.storage.segment import LOG_SUFFIX
from ourolog.storage.types import Index, NodeId, Offset, Position, Term

N1 = NodeId("n1")


class Kernel:
    """Stands between ourolog.storage.disk and the system calls, and keeps the books that a power cut would open.

    unsynced: files written to since they were synced. unnamed: by directory, the names that changed in
    it since it was synced. calls: what came, in order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unsynced: set[str] = set()
        self.unnamed: dict[str, set[str]] = {}
        self.calls: list[tuple[str, str]] = []
        for name in ("pwritev", "pwrite", "ftruncate", "fdatasync", "fsync", "open", "rename", "unlink", "mkdir"):
            real = getattr(os, name)
            assert isinstance(real, types.BuiltinFunctionType), f"os.{name} is not the operating system's"
            monkeypatch.setattr(os, name, self._recording(name, real))

    def _recording(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        note = getattr(self, f"_{name}")

        def call(*arguments: Any, **named: Any) -> Any:
            existed = name != "open" or os.path.exists(arguments[0])
            result = real(*arguments, **named)
            note(*arguments) if existed else self._renamed_in(arguments[0])
            return result

        return call

    def _path(self, fd: int) -> str:
        return os.readlink(f"/proc/self/fd/{fd}")

    def _dirty(self, fd: int, *_: object) -> None:
        path = self._path(fd)
        assert path not in self.unnamed.get(os.path.dirname(path), ()) or not path.endswith(LOG_SUFFIX), (
            f"{path} is written to before its name is on disk"
        )
        self.unsynced.add(path)
        self.calls.append(("write", os.path.basename(path)))

    _pwritev = _pwrite = _ftruncate = _dirty

    def _fdatasync(self, fd: int) -> None:
        self.unsynced.discard(self._path(fd))
        self.calls.append(("fdatasync", os.path.basename(self._path(fd))))

    def _fsync(self, fd: int) -> None:
        self.unnamed.pop(self._path(fd), None)
        self.calls.append(("fsync", os.path.basename(self._path(fd))))

    def _open(self, path: str, *_: object) -> None:
        """A name that was there before."""

    def _rename(self, old: str, new: str) -> None:
        assert old not in self.unsynced, f"{old} is renamed before it is on disk"
        self._renamed_in(new)
        self.calls.append(("rename", os.path.basename(new)))

    def _renamed_in(self, path: str) -> None:
        self.unnamed.setdefault(os.path.dirname(path), set()).add(path)

    def _unlink(self, path: str) -> None:
        self.unsynced.discard(path)
        self._renamed_in(path)

    def _mkdir(self, path: str, *_: object) -> None:
        self._renamed_in(path)

    def at_risk(self) -> set[str]:
        """What a power cut now could take back, of all that a promise rests on."""
        names = {path for paths in self.unnamed.values() for path in paths}
        kept = (LOG_SUFFIX, f"/{BALLOT_NAME}", f"/{IDENTITY_NAME}", "checkpoint")
        return {path for path in self.unsynced | names if path.endswith(kept) or os.path.isdir(path)}


class Acknowledgements(Probe):
    """Looks at the books in the moment in which something is promised."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._kernel = kernel

    def tell(self, message: object) -> None:
        assert self._kernel.at_risk() == set(), f"{type(message).__name__} was said before that was on disk"
        self._kernel.calls.append(("said", type(message).__name__))
        super().tell(message)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    """From here on; tmp_path is made before."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    assert tmp_path.is_dir()
    return Kernel(monkeypatch)


def run_store(directory: Path, kernel: Kernel, *messages: Callable[[Probe], object]) -> Acknowledgements:
    """A store on real files that is told these and then stopped in good order."""
    runtime, client = SteppingRuntime(), Acknowledgements(kernel)
    observer, listener = Probe(), Acknowledgements(kernel)
    ref = runtime.spawn(
        StoreActor,
        config=NodeConfig(
            N1,
            f"{directory}/new/data",
            "127.0.0.1:1",
            "127.0.0.1:2",
            election=parse_election("static:n1"),
            segment_bytes=600,
        ),
        ports=stepping_ports(runtime, DiskFiles(), observer=observer),
        replicator=listener,
        server=listener,
        election=listener,
    )
    ref.tell(OpenLog())
    for message in messages:
        ref.tell(message(client))
        runtime.run_until_idle()
    runtime.stop(ref)
    assert observer.received == []
    return client


def produce(payload: bytes) -> Callable[[Probe], object]:
    return lambda client: AppendBatch(0, NewBatch(payload, 1), Term(1), client)


def save_ballot(client: Probe) -> object:
    return SaveBallot(1, Ballot(Term(1), N1, N1), client)


def is_before(calls: Sequence[tuple[str, str]], *wanted: tuple[str, str]) -> bool:
    """Whether the calls came in this order, with others in between."""
    rest = iter(calls)
    return all(call in rest for call in wanted)


def test_data_is_on_disk_before_it_is_acknowledged(kernel: Kernel, tmp_path: Path) -> None:
    client = run_store(tmp_path, kernel, save_ballot, produce(b"x" * 100))
    assert client.all(BatchAppended)
    (segment,) = {name for call, name in kernel.calls if call == "write" and name.endswith(LOG_SUFFIX)}
    assert is_before(
        kernel.calls,
        ("fsync", "log"),  # the segment's name
        ("write", segment),
        ("fdatasync", segment),
        ("said", "BatchAppended"),
    )


def test_a_ballot_is_on_disk_and_so_is_its_name_before_it_is_promised(kernel: Kernel, tmp_path: Path) -> None:
    client = run_store(tmp_path, kernel, save_ballot)
    assert client.all(BallotSaved)
    assert is_before(
        kernel.calls,
        ("write", "ballot.tmp"),
        ("fdatasync", "ballot.tmp"),
        ("rename", "ballot"),
        ("fsync", "data"),
        ("said", "BallotSaved"),
    )


def test_rolls_truncations_resets_and_restarts_put_everything_on_disk_before_they_are_answered(
    kernel: Kernel, tmp_path: Path
) -> None:
    many = [produce(bytes([letter]) * 150) for letter in b"abcdefghij"]

    def truncate(client: Probe) -> object:
        return TruncateLog(Index(2), Term(1), client)

    def reset(client: Probe) -> object:
        return ResetLog(Position(Index(90), Offset(90)), None, None, Term(1), client)

    run_store(tmp_path, kernel, save_ballot, *many, truncate, *many)
    run_store(tmp_path, kernel, *many, reset, *many)
    said = [name for call, name in kernel.calls if call == "said"]
    assert said.count("BatchAppended") == 40
    assert said.count("LogTruncated") == 2
    assert kernel.at_risk() == set()


# ---------------------------------------------------------------- that the calls are real


def test_a_sync_of_what_cannot_be_synced_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says so; a call that never reaches it would not."""
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="Invalid argument") as failure:
            DiskFile(writing).sync()
        assert failure.value.errno == errno.EINVAL
        monkeypatch.setattr(os, "open", lambda *_: os.dup(writing))
        with pytest.raises(OSError, match="Invalid argument"):
            DiskFiles().sync_directory("/")
    finally:
        os.close(reading)
        os.close(writing)


def test_on_darwin_the_drive_is_told_to_empty_its_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: calls.append((fd, command)))
    monkeypatch.setattr(os, "fdatasync", lambda _: pytest.fail("there that leaves it in the cache"))
    fd = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    file = DiskFile(fd)
    file.append([b"abc"])
    file.sync()
    file.close()
    assert calls == [(fd, 51)]


def test_the_parent_of_a_directory_is_synced_also_when_somebody_else_made_it(kernel: Kernel, tmp_path: Path) -> None:
    """A process may have been killed after it made the directory and before it synced the parent."""
    os.mkdir(f"{tmp_path}/data")
    assert kernel.at_risk()
    DiskFiles().make_directory(f"{tmp_path}/data")
    assert kernel.at_risk() == set()

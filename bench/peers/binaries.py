"""Programs that are built from source once, and kept in a cache folder for the next run."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

HERE: Final = os.path.dirname(os.path.abspath(__file__))
ROOT: Final = os.path.dirname(os.path.dirname(HERE))
_BUILT_WITHIN_S: Final = 1800.0
_GO_OF_A_TARBALL: Final = "/usr/local/go/bin/go"


class MissingError(Exception):
    """Something that a peer needs is not to be had here; the text says what."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that can be started, and which version of it this is."""

    path: str
    version: str


def cache_directory() -> str:
    """Where built programs are kept: outside the checkout, so that `make clean` and other checkouts keep them."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "ourolog", "peers")


def go() -> str:
    """The Go toolchain. Raises MissingError."""
    found = shutil.which("go") or (_GO_OF_A_TARBALL if os.access(_GO_OF_A_TARBALL, os.X_OK) else None)
    if found is None:
        raise MissingError("there is no go on the PATH, which builds it")
    return found


def load_generator(say: Callable[[str], None]) -> Program:
    """The load generators in Go, with the stubs of proto/log.proto. Raises MissingError."""
    tool = go()
    source = os.path.join(HERE, "load")

    def build(directory: str) -> None:
        inside = os.path.join(directory, "source")
        shutil.copytree(source, inside, ignore=shutil.ignore_patterns("bin", "logv1", "peerload"))
        plugins = os.path.join(directory, "plugins")
        for name in ("google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"):
            _run([tool, "build", "-o", plugins + os.sep, name], inside)
        os.mkdir(os.path.join(inside, "logv1"))
        package = "Mlog.proto=ourolog.example/bench/load/logv1"
        words = [sys.executable, "-P", "-m", "grpc_tools.protoc", "-I", os.path.join(ROOT, "proto")]
        words += ["--go_out=logv1", "--go_opt=paths=source_relative", f"--go_opt={package}"]
        words += ["--go-grpc_out=logv1", "--go-grpc_opt=paths=source_relative", f"--go-grpc_opt={package}", "log.proto"]
        _run(words, inside, {"PATH": plugins + os.pathsep + os.environ.get("PATH", "")})
        _run([tool, "build", "-trimpath", "-o", os.path.join(directory, "peerload"), "."], inside)
        shutil.rmtree(inside)

    sources = [
        os.path.join(source, name) for name in sorted(os.listdir(source)) if name.endswith((".go", ".mod", ".sum"))
    ]
    path = _kept("load", [*sources, os.path.join(ROOT, "proto", "log.proto")], [_go_version(tool)], build, say)
    return Program(os.path.join(path, "peerload"), _go_version(tool))


def go_server(name: str, wanted: str, module: str, package: str, say: Callable[[str], None]) -> Program:
    """A server that go_servers/<name> builds with Go, or else the one on the PATH. Raises MissingError.

    wanted: what the program is called.
    module: its version in go.mod is the server's.
    package: what is built, "." for the module in go_servers/<name> itself.
    """
    source = os.path.join(HERE, "go_servers", name)
    try:
        tool = go()
        names = sorted(file for file in os.listdir(source) if file.endswith((".go", ".mod", ".sum")))

        def build(directory: str) -> None:
            _run([tool, "build", "-trimpath", "-o", os.path.join(directory, wanted), package], source)

        path = _kept(name, [os.path.join(source, file) for file in names], [_go_version(tool)], build, say)
        return Program(os.path.join(path, wanted), required_version(os.path.join(source, "go.mod"), module))
    except MissingError as error:
        found = shutil.which(wanted)
        if found is None:
            raise MissingError(f"{error}, and there is no {wanted} on the PATH") from error
        said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
        return Program(found, f"{first_version(said)} from the PATH")


def maven_libraries(name: str, pom: str, say: Callable[[str], None]) -> str:
    """The folder of jars that a pom asks for. Raises MissingError."""
    tool = shutil.which("mvn")
    if tool is None:
        raise MissingError("there is no mvn on the PATH, which fetches it")

    def build(directory: str) -> None:
        words = [tool, "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime"]
        _run([*words, f"-DoutputDirectory={directory}"], os.path.dirname(pom))

    return _kept(name, [pom], [], build, say)


def required_version(go_mod: str, module: str) -> str:
    """The version of a module that a go.mod requires, without its "v"."""
    with open(go_mod, encoding="utf-8") as file:
        found = re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+v(\S+)", file.read(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{go_mod} does not require {module}")
    return found[1]


def first_version(text: str) -> str:
    """The first thing in a text that looks like a version."""
    found = re.search(r"\d+\.\d+(?:\.\d+)?", text)
    return found[0] if found else "of unknown version"


def _kept(
    name: str, sources: Sequence[str], words: Sequence[str], build: Callable[[str], None], say: Callable[[str], None]
) -> str:
    """The directory in the cache of what these sources make; built now if it is not there."""
    digest = hashlib.sha256()
    for path in sources:
        with open(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    for word in words:
        digest.update(word.encode())
    path = os.path.join(cache_directory(), f"{name}-{digest.hexdigest()[:12]}")
    if os.path.isdir(path):
        return path
    say(f"building {name} into {path}, which takes a minute or two …")
    building = f"{path}.{os.getpid()}"
    os.makedirs(building)
    try:
        build(building)
        if not os.path.isdir(path):  # another run may have been faster
            os.rename(building, path)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return path


def _run(words: Sequence[str], directory: str, environment: dict[str, str] | None = None) -> None:
    """One step of a build, with the least priority. Raises MissingError with what it said last."""
    nice = ["nice", "-n", "10"] if shutil.which("nice") else []
    done = subprocess.run(
        [*nice, *words],
        cwd=directory,
        env={
            **os.environ,
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-buildvcs=false",
            "CGO_ENABLED": "0",
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_BUILT_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        last = " / ".join(done.stdout.strip().splitlines()[-3:])
        raise MissingError(f"{' '.join(words[:2])} failed: {last}")


def _go_version(tool: str) -> str:
    said = subprocess.run([tool, "version"], capture_output=True, text=True, timeout=30, check=True).stdout
    return f"Go {first_version(said)}"

"""Generate rpc/v1 from proto/, or with --check compare what is committed with what would be generated."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "ourolog/rpc/v1"


def generate(into: Path) -> None:
    """Write <into>/ourolog/rpc/v1/*_pb2*.py and .pyi. The include maps proto/ there, so that imports are right."""
    contracts = sorted((ROOT / "proto").glob("*.proto"))
    services = [path for path in contracts if "\nservice " in path.read_text("utf-8")]
    _run_protoc(into, contracts, ("python", "mypy"))
    _run_protoc(into, services, ("grpc_python", "mypy_grpc"))


def _run_protoc(into: Path, contracts: list[Path], kinds: tuple[str, ...]) -> None:
    sources = [f"{PACKAGE}/{path.name}" for path in contracts]
    outputs = [f"--{kind}_out={into}" for kind in kinds]
    # protoc finds the mypy plugins on PATH, beside this interpreter.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    subprocess.run(  # noqa: S603  # our own command line, no shell
        [sys.executable, "-P", "-m", "grpc_tools.protoc", f"-I{PACKAGE}=proto", *outputs, *sources],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        check=True,
        stderr=subprocess.PIPE,  # the plugins announce every file they write
    )


def differences(fresh: Path) -> list[str]:
    """What is missing, left over or different in the committed package, one line each."""
    committed = {path.name: path.read_bytes() for path in (ROOT / PACKAGE).glob("*_pb2*")}
    generated = {path.name: path.read_bytes() for path in (fresh / PACKAGE).glob("*_pb2*")}
    return [
        f"{PACKAGE}/{name} "
        + ("is missing" if name not in committed else "has no .proto" if name not in generated else "is out of date")
        for name in sorted(committed.keys() | generated.keys())
        if committed.get(name) != generated.get(name)
    ]


def main() -> int:
    """0 well; 1 when something is out of date or protoc refuses a .proto file."""
    try:
        if "--check" not in sys.argv[1:]:
            generate(ROOT)
            return 0
        with tempfile.TemporaryDirectory() as directory:
            generate(Path(directory))
            found = differences(Path(directory))
    except subprocess.CalledProcessError as error:
        print(error.stderr.decode(errors="replace"), file=sys.stderr)
        return 1
    for line in found:
        print(line)
    print("generated code is out of date: run `make proto`" if found else "generated code is up to date")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

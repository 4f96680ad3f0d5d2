"""Runs `ourolog …` commands, each in a process of its own, without importing ourolog anew for each.

Most of the time of a short command goes into importing. So one process imports what all commands need, and forks for
each: a real process with real descriptors and an exit status, which goes on as `python -m ourolog` does. gRPC does not
survive a fork; the server never imports it, the commands that use it do.

    python -m tests.command_server SOCKET

serves until its standard input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from ourolog.child_processes import child_environment, python_command


class CommandServer:
    """A server that was started, by its socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    def run(
        self, words: Sequence[str], given: str, environment: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `ourolog` with these words to its end, with `given` on a pipe as its standard input.

        Raises TimeoutError; the command is killed then.
        """
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as error,
            socket.socket(socket.AF_UNIX) as server,
        ):
            server.settimeout(timeout_s)
            server.connect(self._path)
            request = json.dumps([words, dict(environment), os.getcwd()]).encode()
            stdin, feeding = os.pipe()
            threading.Thread(target=_feed, args=(feeding, given.encode()), daemon=True).start()
            socket.send_fds(server, [len(request).to_bytes(4)], [stdin, out.fileno(), error.fileno()])
            os.close(stdin)
            server.sendall(request)
            answer = server.recv(100)
            assert answer, "the command server has ended"
            return subprocess.CompletedProcess(["ourolog", *words], int(answer), _text(out), _text(error))


@contextlib.contextmanager
def command_server(path: str) -> Iterator[CommandServer]:
    """Start one at the socket `path`."""
    with subprocess.Popen(
        python_command("-m", "tests.command_server", path),
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield CommandServer(path)
        process.stdin.close()


def _feed(feeding: int, given: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(feeding, "wb") as pipe:
        pipe.write(given)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


# ---------------------------------------------------------------- the server


def _serve(path: str) -> None:
    import ourolog.actors.occupants
    import ourolog.simulation.simulate  # noqa: F401
    from ourolog.cli import SUMMARIES, load_command

    for name in SUMMARIES:
        load_command(name)
    assert "grpc" not in sys.modules
    events, listener = selectors.DefaultSelector(), socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    events.register(listener, selectors.EVENT_READ)
    events.register(0, selectors.EVENT_READ)
    print("ready", flush=True)
    commands: dict[int, tuple[int, socket.socket]] = {}
    """By the descriptor of the process: its number, and who waits for it."""
    while True:
        for key, _ in events.select():
            if key.fd == 0:
                return
            if key.fileobj is listener:
                connection, _ = listener.accept()
                length, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
                with connection.makefile("rb") as stream:
                    words, environment, directory = json.loads(stream.read(int.from_bytes(length)))
                pid = os.fork()
                if pid == 0:
                    events.close()
                    for inherited in (listener, connection, *(waiting for _, waiting in commands.values())):
                        inherited.close()
                    for pidfd in commands:
                        os.close(pidfd)
                    _become(words, environment, directory, descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
                pidfd = os.pidfd_open(pid)
                commands[pidfd] = pid, connection
                events.register(pidfd, selectors.EVENT_READ)
                events.register(connection, selectors.EVENT_READ, pid)
            elif key.data is not None:  # nobody waits any more
                os.kill(key.data, signal.SIGKILL)
                events.unregister(key.fileobj)
            else:
                assert isinstance(key.fileobj, int)
                events.unregister(key.fileobj)
                pid, connection = commands.pop(key.fileobj)
                os.close(key.fileobj)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(KeyError):
                    events.unregister(connection)
                with connection, contextlib.suppress(BrokenPipeError):
                    connection.sendall(str(status).encode())


def _become(words: list[str], environment: dict[str, str], directory: str, descriptors: list[int]) -> None:
    """Go on as `python -m ourolog` with these words, which raises SystemExit in the end."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv[1:] = words
    runpy.run_module("ourolog", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve(sys.argv[1])

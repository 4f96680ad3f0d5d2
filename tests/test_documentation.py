"""Every example in the pages that users read is run as it stands there, and prints what it says it does.

What is changed before a command is run stands in one of the two tables below, and what is not run says why.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ourolog import BlockingLogClient
from ourolog.child_processes import child_environment, python_command
from ourolog.executors import GROUP
from ourolog.local_cluster import NodeProcess
from ourolog.simulation.plays import run_play
from tests.documents import PAGES, assert_shown, block, blocks_of, transcript_of
from tests.installed import ROOT, Installed

PORTS = {"127.0.0.1:8400": "n1", "127.0.0.1:8410": "n2", "127.0.0.1:8420": "n3"}
"""The addresses that the pages show, and the nodes that have them there: here they have free ports."""

SHORTENED = {"--seeds 500": "--seeds 1", "--seeds 10000": "--seeds 1"}
"""What would take minutes."""

RUN_HERE = {
    "README.md: make run                                        "
    "# a cluster of three nodes, watched live": "two_terminals",
    'README.md: .venv/bin/ourolog produce "hello" "world"       # prints the offsets 0 and 1': "two_terminals",
    "README.md: n1   joined      n2 at 127.0.0.1:8410": "two_terminals",
    'README.md: $ ourolog produce "hello" "world"': "two_terminals",
    "README.md: import asyncio": "two_terminals",
    "docs/api.md: import asyncio": "two_terminals",
    "docs/api.md: import grpc": "two_terminals",
    'docs/running.md: cluster = "orders"': "the_configuration_file_is_taken_and_the_ready_file_is_as_shown",
    'docs/running.md: {"node_id": "n1", "cluster": "ourolog", "rpc_addr": "127.0.0.1:8400", '
    '"gossip_addr": "127.0.0.1:8401", "pid": 4711}': "the_configuration_file_is_taken_and_the_ready_file_is_as_shown",
    'docs/running.md: eval "$(ourolog completion bash)"                            # this shell': "completion",
    "docs/simulation.md: ourolog simulate --seed 7                             "
    "# one run; the same trace hash every time": "the_simulate_commands_hold",
    "docs/simulation.md: violated: promised_on_disk": "a_violated_claim_is_told_as_shown",
    "docs/simulation.md: ourolog simulate --seeds 10000 --executor "
    "concurrent.futures:ThreadPoolExecutor": "the_executors_run",
    'docs/simulation.md: [project.entry-points."ourolog.executors"]': "the_executors_run",
    "docs/simulation.md: from ourolog.simulation import Cluster": "the_report_is_made_by_the_program_shown",
    "docs/simulation.md: import pytest": "an_application_tests_itself",
    "docs/simulation.md: seed 31 fails; this runs it alone:": "an_application_tests_itself",
    "docs/simulation.md: cluster seed=7 nodes=3 election=static": "the_play_prints_what_it_shows",
}
"""Blocks, by page and first line, and the test of this module that runs them."""

RUN_ELSEWHERE = {
    "README.md: 1. Nobody leads, every copy counts as new": "tests/ourolog/test_cycle.py",
    "docs/running.md: n1$ ourolog node --node-id n1 --data-dir /var/lib/ourolog "
    "--election raft --bootstrap-expect 3": "tests/endtoend/test_first_start.py",
    "docs/running.md: $ ourolog cluster transfer-leader n2": "tests/ourolog/test_client_commands.py",
    "docs/running.md: $ ourolog cluster remove n3": "tests/ourolog/test_cluster_voters.py",
    "docs/running.md: $ ourolog cluster recover --data-dir /var/lib/ourolog": "tests/ourolog/test_recover.py",
    "docs/torture.md: $ python -m torture --list": "tests/endtoend/test_torture.py",
    "docs/torture.md: $ python -m torture.elections --minutes 10 --nodes 3 --seed 7": "tests/endtoend/test_torture.py",
}
"""Blocks and the file of the test that runs them."""

PAGES_ELSEWHERE = {"docs/election.md": "test_election_page.py"}
"""Pages that a test of their own follows from the first block to the last."""

NOT_RUN = {
    "README.md: proto/      the wire contracts": "a list of folders",
    "README.md: clients                            other nodes": "a picture",
    "docs/architecture.md: clients                          other nodes": "a picture",
    "docs/architecture.md: client    rpc (n1)     Server n1    Store n1     Replicator n1     "
    "Replicator n2   Store n2": "a picture",
    "docs/architecture.md: <data-dir>/": "a list of files",
    "docs/benchmarks.md: make bench                                   # everything, some minutes": (
        "no test measures time, and what is measured takes minutes"
    ),
    "docs/benchmarks.md: make bench-peers                             # everything that is there: about half an hour": (
        "the same, and no test needs a peer"
    ),
    "docs/performance.md: pip install py-spy                           # into .venv; it needs the right to trace "
    "processes": "it samples real nodes for minutes, by a program that is not a dependency",
}
"""Blocks that are not run, and why."""


def test_every_block_is_run_or_says_why_not() -> None:
    names = [one.name for page in PAGES if page not in PAGES_ELSEWHERE for one in blocks_of(page)]
    assert sorted(names) == sorted([*RUN_HERE, *RUN_ELSEWHERE, *NOT_RUN])
    assert {f"test_{name}" for name in RUN_HERE.values()} <= globals().keys()
    for path in RUN_ELSEWHERE.values():
        assert (ROOT / path).exists()
    for page, name in PAGES_ELSEWHERE.items():
        assert page in PAGES
        assert len(list((ROOT / "tests").rglob(name))) == 1


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\nb", "a"),
        ("a\nb", "b\na"),
        ("a\nc", "a\nb\nc"),
        ("a 1", "a one"),
        ("a b", "ab"),
        ("a …\nb", "a and more\nc"),
        ("a", "a and more"),
    ],
)
def test_what_was_not_printed_is_not_taken_for_it(shown: str, printed: str) -> None:
    with pytest.raises(AssertionError):
        assert_shown(shown, printed)
    assert_shown("a  1 x\n…\nc …", "before\na 20   x\nb\nb\nc and so on\nafter")


# ---------------------------------------------------------------- a cluster, and what its pages do with it


SHOWN_LEADER = "n2"
"""Whom the nodes elect on the pages."""


@dataclass
class Dev:
    """`ourolog dev` in a terminal: what it has printed, and the nodes' addresses and leader once they are up."""

    process: subprocess.Popen[str]
    printed: str = ""
    addresses: dict[str, str] = field(default_factory=dict)
    leader: str = ""

    def as_on_the_page(self, text: str) -> str:
        """The text as if the node that leads on the pages had been elected."""
        names = {self.leader: SHOWN_LEADER, SHOWN_LEADER: self.leader}
        return re.sub(r"n1, ?n2, ?n3|\bn[123]\b", lambda match: names.get(match.group(), match.group()), text)

    def until(self, *texts: str) -> None:
        """Read until each of them was printed."""
        assert self.process.stdout is not None
        while not all(text in self.printed for text in texts):
            line = self.process.stdout.readline()
            assert line, f"it ended before it said {texts}: {self.printed}"
            self.printed += line

    def end(self) -> None:
        """Ctrl-C."""
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGINT)
        self.printed += self.process.stdout.read()


@contextlib.contextmanager
def dev(installed: Installed, cwd: Path) -> Iterator[Dev]:
    with subprocess.Popen(
        ["ourolog", "dev", "--rpc-port", "0"],
        cwd=cwd,
        env={**installed.variables, "TMPDIR": str(cwd)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        running = Dev(process)
        try:
            running.until("Ctrl-C here", "n1   joined      n2", "n1   joined      n3")
            for line in running.printed.splitlines():
                words = line.split()
                if words[1:2] == ["ready"]:
                    running.addresses[words[0]] = words[4].rstrip(",")
            while not (led := re.findall(r"leader +(\w+) leads term", running.printed)):
                running.until("leads term")
            running.leader = led[-1]
            running.until(*(f"{node_id} <- {led[-1]}" for node_id in running.addresses if node_id != led[-1]))
            yield running
        finally:
            running.end()
    assert process.returncode == 0


def test_two_terminals(installed: Installed, tmp_path: Path) -> None:
    """README from its first command on, in two terminals, and the program of docs/api.md."""
    (tmp_path / ".venv").symlink_to(installed.directory)

    def elsewhere(text: str) -> str:
        for shown, node_id in PORTS.items():
            text = text.replace(shown, cluster.addresses[node_id])
        return text

    def shell(command: str) -> str:
        default = {"OUROLOG_ADDR": cluster.addresses["n1"]}
        done = installed.run("bash", "-c", elsewhere(command), cwd=tmp_path, **default)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def program(name: str) -> str:
        (tmp_path / "program.py").write_text(elsewhere(block(name).text))
        done = installed.run("python", "program.py", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (make,) = block(next(name for name in RUN_HERE if "make run" in name)).lines
    # As at a prompt, and not as within another make.
    outer = ("MAKE", "MFLAGS", "ARGS")
    variables = {key: value for key, value in installed.variables.items() if not key.startswith(outer)}
    dry = subprocess.check_output(
        ["make", "--dry-run", "--always-make", *make.split()[1:2]], cwd=ROOT, env=variables, text=True
    )
    last = dry.splitlines()[-1]
    assert last.strip() == "exec .venv/bin/ourolog dev", "beside installing, it starts what is started here"

    with dev(installed, tmp_path) as cluster:
        produce, consume = block(next(name for name in RUN_HERE if ".venv/bin/ourolog produce" in name)).lines
        transcript = transcript_of(block('README.md: $ ourolog produce "hello" "world"').text)
        assert transcript[0] == (produce.split(" #")[0].strip().removeprefix(".venv/bin/"), "0\n1\n")
        assert shell(produce) == transcript[0][1]
        with BlockingLogClient(cluster.addresses["n3"]) as n3:
            for _ in zip(range(2), n3.consume_stream(), strict=False):
                pass  # n3 knows by now that both are committed, as it does when a person types
        assert shell(consume) == "0\thello\n1\tworld\n"
        for command, shown in transcript[1:]:
            # The rows stand in the order of the names.
            assert_shown(shown, cluster.as_on_the_page(shell(command)), in_order="status" not in command)
        assert program("README.md: import asyncio") == "2 b'hello'\n"
        assert program("docs/api.md: import asyncio") == "3 b'hello'\n4 b'many'\n5 b'records'\n"
        assert program("docs/api.md: import grpc") == "6 6\n"
    # What nodes tell may come before or after what one can try next, in which n3 is n3 whoever leads.
    printed = "".join(
        cluster.as_on_the_page(line)
        if re.match(r"  n\d ", line)
        else line.replace(f"is {cluster.leader}, which", "is n2, which")
        for line in cluster.printed.splitlines(keepends=True)
    )
    assert_shown(block("README.md: n1   joined      n2 at 127.0.0.1:8410").text, printed, in_order=False)


def test_the_configuration_file_is_taken_and_the_ready_file_is_as_shown(tmp_path: Path) -> None:
    file, ready_file = tmp_path / "ourolog.toml", tmp_path / "ready.json"
    toml, ready = (
        block(name)
        for name, test in RUN_HERE.items()
        if test == "the_configuration_file_is_taken_and_the_ready_file_is_as_shown"
    )
    file.write_text(toml.text)
    # Flags beat the file: addresses and the directory are not for this machine.
    node = NodeProcess("n1", str(tmp_path / "n1"), flags=("--config", str(file), "--ready-file", str(ready_file)))
    node.start(["127.0.0.1:9"])
    try:
        node.wait_for("ready")
        shown, written = json.loads(ready.text), json.loads(ready_file.read_text())
    finally:
        node.terminate()
        assert node.wait() == 0
    assert {key: type(value) for key, value in written.items()} == {key: type(value) for key, value in shown.items()}
    assert written["cluster"] == tomllib.loads(toml.text)["cluster"], "it was read"


def test_completion(installed: Installed, tmp_path: Path) -> None:
    (text,) = (block(name).text for name, test in RUN_HERE.items() if test == "completion")
    completions = tmp_path / ".local" / "share" / "bash-completion" / "completions"
    completions.mkdir(parents=True)
    done = installed.run("bash", "-ec", text + "complete -p ourolog", cwd=tmp_path, HOME=str(tmp_path))
    assert "ourolog" in done.stdout, done.stderr
    assert "complete" in (completions / "ourolog").read_text()


# ---------------------------------------------------------------- simulation


def shortened(text: str) -> str:
    for shown, run in SHORTENED.items():
        text = text.replace(shown, run)
    return text


def test_the_simulate_commands_hold(installed: Installed, tmp_path: Path) -> None:
    (commands,) = (block(name).lines for name, test in RUN_HERE.items() if test == "the_simulate_commands_hold")
    for command in commands:
        done = installed.run("bash", "-c", shortened(command), cwd=tmp_path, OUROLOG_MINUTES="0.1")
        assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"run.html", "cycle.html"}


def test_a_violated_claim_is_told_as_shown() -> None:
    """The store that acknowledges before it syncs is one of the deliberate bugs, which no wheel knows of."""
    shown = block("docs/simulation.md: violated: promised_on_disk").text
    (replay,) = (line.split("ourolog ")[1] for line in shown.splitlines() if "replay:" in line)
    bug = "from mutants.catalog import MUTANTS; MUTANTS['ack_before_sync'].apply()"
    words = python_command("-c", f"{bug}; from ourolog.__main__ import main; main()", *replay.split())
    done = subprocess.run(words, env=child_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert_shown(shown, done.stderr)


def test_the_executors_run(installed: Installed, tmp_path: Path) -> None:
    commands, toml = (block(name) for name, test in RUN_HERE.items() if test == "the_executors_run")
    threads, install, dask = commands.lines
    done = installed.run("bash", "-c", shortened(threads), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # These two need a registry and a scheduler; tests/ourolog/test_dask.py runs a sweep on Dask.
    extra = install.split("[")[1].split("]")[0]
    metadata = next(installed.directory.glob("lib/*/site-packages/ourolog-*.dist-info")) / "METADATA"
    assert f"Provides-Extra: {extra}" in metadata.read_text()
    assert dask.endswith(f"--executor {extra}")

    # A package whose entry point is the one that is shown.
    ((name, path),) = tomllib.loads(toml.text)["project"]["entry-points"][GROUP].items()
    package, module, factory = path.replace(":", ".").split(".")
    (tmp_path / package).mkdir()
    (tmp_path / package / f"{module}.py").write_text(
        f"from concurrent.futures import ThreadPoolExecutor\n\ndef {factory}():\n    return ThreadPoolExecutor(1)\n"
    )
    (tmp_path / f"{package}-1.dist-info").mkdir()
    (tmp_path / f"{package}-1.dist-info" / "METADATA").write_text(f"Name: {package}\nVersion: 1\n")
    (tmp_path / f"{package}-1.dist-info" / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {path}\n")
    words = ("simulate", "--seeds", "1", "--minutes", "0.02", "--executor", name)
    done = installed.run("ourolog", *words, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_report_is_made_by_the_program_shown() -> None:
    example = block("docs/simulation.md: from ourolog.simulation import Cluster")
    names: dict[str, str] = {}
    exec(compile(example.text, example.page, "exec"), names)
    assert "<title>The replication cycle" in names["page"]


def test_an_application_tests_itself(installed: Installed, tmp_path: Path) -> None:
    """The example holds for all the seeds that it names; one that fails prints the command that is shown."""
    example = block("docs/simulation.md: import pytest").text
    shown = block("docs/simulation.md: seed 31 fails; this runs it alone:").text
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_shop.py").write_text(example)

    def run(command: str) -> str:
        # pytest's own script is not in that environment, pytest is.
        return installed.run("bash", "-c", f"python -P -m {command} -p no:cacheprovider", cwd=tmp_path).stdout

    assert "50 passed" in run("pytest -q")
    assert 'b"hello"\n' in example
    (tmp_path / "tests" / "test_shop.py").write_text(example.replace('b"hello"\n', 'b"bye"\n'))
    assert_shown("…\n" + shown, run(textwrap.dedent(shown).splitlines()[1].strip()))


def test_the_play_prints_what_it_shows() -> None:
    play = block("docs/simulation.md: cluster seed=7 nodes=3 election=static").text
    assert run_play(play) == play

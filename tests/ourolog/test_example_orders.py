"""The example application on a real node: the same program that the simulation tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import examples.orders.orders
from ourolog.local_cluster import LocalCluster

ROOT = Path(__file__).resolve().parents[2]


def test_the_orders_program_adds_up_what_it_took_once(
    one_node: LocalCluster, environment: dict[str, str], tmp_path: Path
) -> None:
    addr = one_node["n1"].rpc_addr

    def orders(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "examples.orders", addr, *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    # As the page of the program says it is called.
    shown = [line.split() for line in (examples.orders.orders.__doc__ or "").splitlines() if "python -m" in line]
    called = ["python", "-m", "examples.orders", "127.0.0.1:8400"]
    assert shown == [[*called, "add", "shoes", "4900"], [*called, "total", "totals.json"]]
    assert orders("add", "shoes", "4900") == "shoes is at offset 0\n"
    assert orders("add", "hat", "1900") == "hat is at offset 1\n"
    assert orders("add", "shoes", "4900") == "shoes is at offset 2\n"
    file = str(tmp_path / "totals.json")
    assert orders("total", file) == "2 orders, 68.00 in all, read up to 3\n"
    assert orders("total", file) == "2 orders, 68.00 in all, read up to 3\n"

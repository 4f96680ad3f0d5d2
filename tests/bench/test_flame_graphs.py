"""Flame graphs: from folded stacks to boxes whose widths are shares."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from bench.flame_graphs import fold, label_of, render, room_of, shares

STACKS = [
    (
        "thread (7): MainThread;run (ourolog/rpc/event_loops.py:30);Runner.run (asyncio/runners.py:118);"
        "_deliver (/some/where/site-packages/ourolog/actors/looping.py:120) 30"
    ),
    (
        "thread (7): MainThread;run (ourolog/rpc/event_loops.py:30);Runner.run (asyncio/runners.py:118);"
        "0x7f (grpc/_cython/cygrpc.cpython-311-x86_64-linux-gnu.so);0x80 (grpc/_cython/cygrpc.cpython-311.so);"
        "sendmsg (libc.so.6) 60"
    ),
    "thread (8): n1.store;_flush (ourolog/actors/store.py:300);fdatasync (libc.so.6) 10",
]


def test_a_frame_loses_its_line_and_the_machines_path_and_the_interpreters_own_are_left_out() -> None:
    assert label_of("f (/usr/lib/python3/site-packages/ourolog/actors/store.py:7)") == "f (ourolog/actors/store.py)"
    assert label_of("task_step (_asynciomodule.c:3)") == ""
    assert label_of("0x7f12 (libc.so.6)") == ""
    assert label_of("sendmsg (libc.so.6)") == "sendmsg (libc)"
    assert label_of("0x7f12 (grpc/_cython/cygrpc.cpython-311-x86_64-linux-gnu.so)") == "compiled (cygrpc)"


def test_a_box_has_the_colour_of_its_room_or_else_of_its_caller() -> None:
    assert room_of("f (ourolog/storage/log.py)", "actors") == "storage"
    assert room_of("sendmsg (libc)", "gRPC") == "gRPC"
    assert room_of("run (asyncio/runners.py)", "rpc") == "loop"
    assert room_of("f (ourolog/logs.py)", "rpc") == "other"


def test_shares_are_those_of_the_functions_themselves() -> None:
    assert shares(fold(STACKS)) == {"gRPC": 0.6, "actors": 0.4}
    assert shares(fold(STACKS, thread="MainThread")) == {"gRPC": 60 / 90, "actors": 30 / 90}


def test_a_graph_is_well_formed_and_its_widths_are_the_shares() -> None:
    svg = render(fold(STACKS, thread="MainThread"), "a <leader>")
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    widths = {
        group.findtext(f"{space}title", ""): float(group.find(f"{space}rect").get("width", 0))  # type: ignore[union-attr]
        for group in root.iter(f"{space}g")
    }
    (sent,) = [width for title, width in widths.items() if title == "sendmsg (libc): 66.7%"]
    assert abs(sent - 800) < 1
    assert "a &lt;leader&gt; (90 samples)" in svg


def test_nothing_sampled_is_an_empty_graph() -> None:
    ET.fromstring(render(fold([]), "nothing"))
    assert shares(fold([])) == {}

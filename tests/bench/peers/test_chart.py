"""The chart is well-formed, stays within its frame, and says what it shows."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench.peers.chart import Axis, bars, draw

SVG = "{http://www.w3.org/2000/svg}"


def drawn(run: dict[str, Any]) -> ET.Element:
    return ET.fromstring(draw(run))


def test_it_is_well_formed_whatever_the_titles_are(run: dict[str, Any]) -> None:
    texts = [text.text for text in drawn(run).iter(f"{SVG}text")]
    assert "64 in flight <its best>" in texts
    assert "etcd · 3.6.16 · 3 members" in texts
    assert "Not measured: kafka." in texts


def test_more_is_better_in_all_of_it(run: dict[str, Any]) -> None:
    found = {bar.title: bar for bar in bars(run)}
    latency = found["one at a time: p50"]
    assert (latency.least, latency.median, latency.most) == (0.25, pytest.approx(1 / 3), 0.5)
    assert found["64 in flight"].median == 0.75


def test_what_is_not_like_for_like_is_drawn_otherwise(run: dict[str, Any]) -> None:
    kinds = [rect.get("class") for rect in drawn(run).iter(f"{SVG}rect")]
    assert kinds == ["worse", "worse", "worse unlike"]


def test_everything_lies_within_the_frame(run: dict[str, Any]) -> None:
    run["sessions"][0]["comparisons"][1]["ratio"]["max"] = 1e9
    picture = drawn(run)
    width, height = float(picture.get("width", "0")), float(picture.get("height", "0"))
    for line in picture.iter(f"{SVG}line"):
        assert 0 <= float(line.get("x1", "-1")) <= float(line.get("x2", "-1")) <= width
        assert 0 <= float(line.get("y1", "-1")) <= float(line.get("y2", "-1")) <= height


def test_the_axis_goes_from_power_to_power_of_ten_with_one_in_it() -> None:
    assert Axis.of([3.0, 40.0]) == Axis(-1, 2)
    assert Axis.of([0.02]).ticks() == pytest.approx([0.01, 0.1, 1, 10])


def test_it_looks_right_on_dark_pages_too(run: dict[str, Any]) -> None:
    assert "@media (prefers-color-scheme: dark)" in draw(run)


def test_a_run_without_a_peer_has_no_chart(run: dict[str, Any]) -> None:
    run["sessions"] = []
    with pytest.raises(ValueError, match="no comparison"):
        draw(run)

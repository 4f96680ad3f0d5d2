"""The report in a real browser: headless Chromium opens the file, without a network, and runs its script.

    OUROLOG_SCREENSHOT=docs/replication-cycle.png pytest tests/simulation/test_report_in_a_browser.py

writes the picture that the documentation shows.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
    pytest.mark.timeout(180),
]

Open = Callable[..., str]


@pytest.fixture
def chromium(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def chromium(*words: str) -> subprocess.CompletedProcess[str]:
        assert CHROMIUM is not None
        return subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                f"--user-data-dir={tmp_path / 'profile'}",
                "--proxy-server=127.0.0.1:9",  # whatever it would load from somewhere, it cannot
                "--enable-logging=stderr",
                "--virtual-time-budget=2000",
                *words,
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )

    return chromium


@pytest.fixture
def opened(tmp_path: Path, chromium: Callable[..., subprocess.CompletedProcess[str]]) -> Open:
    """Open the page with a fragment, and give the document as the script has left it."""

    def opened(page: str, fragment: str = "") -> str:
        file = tmp_path / "report.html"
        file.write_text(page)
        done = chromium("--dump-dom", f"{file.as_uri()}#{fragment}")
        problems = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        assert problems == []
        return done.stdout

    return opened


def shown(document: str, name: str) -> str:
    found = re.search(rf'<body[^>]*\sdata-{name}="([^"]*)"', document)
    assert found is not None, document[:2000]
    return found.group(1)


def side(document: str) -> str:
    return re.sub(r"<[^>]+>", " ", document[document.index('<aside id="side"') : document.index("</aside>")])


def test_the_report_of_the_cycle_opens_without_an_error(cycle_page: str, opened: Open) -> None:
    document = opened(cycle_page)
    assert shown(document, "ready") == "yes"
    assert int(shown(document, "visible")) > 0
    assert "every copy was copied again" in document


def test_zooming_in_shows_fewer_rows(cycle_page: str, opened: Open) -> None:
    whole = int(shown(opened(cycle_page, "axis=time&from=0&to=99"), "visible"))
    part = int(shown(opened(cycle_page, "axis=time&from=2.0&to=2.002"), "visible"))
    assert 0 < part < whole


def test_a_filter_takes_rows_away(cycle_page: str, opened: Open) -> None:
    counts = [
        int(shown(opened(cycle_page, fragment), "shown"))
        for fragment in ("hide=", "hide=gossip", "hide=gossip,message", "hide=gossip,message&without=n2")
    ]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 4


def test_a_search_finds_what_is_there_and_nothing_else(cycle_page: str, opened: Open) -> None:
    assert int(shown(opened(cycle_page, "find=CycleSeen"), "matches")) > 0
    assert shown(opened(cycle_page, "find=no-such-word"), "matches") == "0"


def test_a_violation_is_shown_with_the_steps_that_led_to_it(failing_page: str, opened: Open) -> None:
    document = opened(failing_page)
    text = side(document)
    assert "Steps to the violation" in text
    assert text.index("precious") < text.index("crashed")
    assert shown(document, "axis") == "step"


def test_a_row_that_is_selected_says_what_led_to_it(failing_page: str, opened: Open) -> None:
    first = re.search(r'"chain":\[(\d+),(\d+)', failing_page)
    assert first is not None
    text = side(opened(failing_page, f"select={first.group(2)}"))
    assert "What led to it" in text or "What it led to" in text


def pixels_of(picture: bytes) -> Iterator[bytes]:
    """The pixels of a PNG of eight bits a channel, three bytes each."""
    at, compressed, width, channels = 8, b"", 0, 3
    while at < len(picture):
        (size,), kind = struct.unpack_from(">I", picture, at), picture[at + 4 : at + 8]
        content = picture[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, _, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", content)
            assert (depth, interlaced) == (8, 0)
            channels = {2: 3, 6: 4}[colours]
        elif kind == b"IDAT":
            compressed += content
        at += size + 12
    rows, stride = zlib.decompress(compressed), width * channels + 1
    above = bytearray(stride - 1)
    for begin in range(0, len(rows), stride):
        row = bytearray(rows[begin + 1 : begin + stride])
        for x in range(len(row)):
            left = row[x - channels] if x >= channels else 0
            up, corner = above[x], above[x - channels] if x >= channels else 0
            row[x] = (row[x] + _predicted(rows[begin], left, up, corner)) & 255
        above = row
        yield from (bytes(row[x : x + 3]) for x in range(0, len(row), channels))


def _predicted(method: int, left: int, up: int, corner: int) -> int:
    """What the PNG filter of a row adds to each of its bytes."""
    if method == 4:
        guess = left + up - corner
        return min((left, up, corner), key=lambda value: abs(guess - value))
    return (0, left, up, (left + up) // 2)[method]


def test_red_is_for_violations_only(
    cycle_page: str, failing_page: str, tmp_path: Path, chromium: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    found = re.search(r"--bad: #(\w{6});", cycle_page)
    assert found is not None
    red = bytes.fromhex(found.group(1))
    counts = []
    for number, page in enumerate((cycle_page, failing_page)):
        file, picture = tmp_path / f"{number}.html", tmp_path / f"{number}.png"
        file.write_text(page)
        chromium(f"--screenshot={picture}", "--window-size=800,700", "--force-color-profile=srgb", file.as_uri())
        counts.append(sum(pixel == red for pixel in pixels_of(picture.read_bytes())))
    assert counts[0] == 0
    assert counts[1] > 100


def test_the_picture_in_the_documentation_can_be_taken(
    cycle_page: str, tmp_path: Path, chromium: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    file = tmp_path / "cycle.html"
    file.write_text(cycle_page)
    picture = Path(os.environ.get("OUROLOG_SCREENSHOT") or tmp_path / "cycle.png").absolute()
    chromium(f"--screenshot={picture}", "--window-size=1400,900", file.as_uri())
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 30_000

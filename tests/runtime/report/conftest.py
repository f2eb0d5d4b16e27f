"""Runs recorded through a real bus, and readers for what a report makes of them."""

import base64
import json
import re
import struct
import sys
import zlib
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import bus

RecordRun = Callable[..., Path]


@pytest.fixture
def record_run(tmp_path):
    """Write the folder of a run: its identity, and one journal for each attempt's events."""

    def record(
        attempts: Iterable[bus.AttemptInfo],
        *journals: Iterable[bus.Event],
        name: str = "gpt",
        rank: int = 0,
    ) -> Path:
        run_dir = tmp_path / "run"
        run_dir.mkdir(exist_ok=True)
        info = bus.RunInfo.new(name, "shakespeare")
        info.attempts.extend(attempts)
        info.save(run_dir)
        for number, events in enumerate(journals, 1):
            recorder = bus.Bus(run_dir / "journal", attempt=number, rank=rank)
            for event in events:
                recorder.publish(event)
            assert recorder.close(timeout=10).written
        return run_dir

    return record


@pytest.fixture(scope="session")
def document_of():
    """Take the embedded document out of a written report."""

    def read(page: Path) -> dict:
        element = r'<script type="application/json" id="document">(.*?)</script>'
        (found,) = re.findall(element, page.read_text(encoding="utf-8"), re.DOTALL)
        return json.loads(found)

    return read


@pytest.fixture(scope="session")
def unpack():
    """Undo the packing of a line: its steps, milliseconds and values."""

    def read(packed: dict) -> tuple[list[int], list[int], list[float]]:
        planes = zlib.decompress(base64.b64decode(packed["data"]))
        count = packed["count"]
        size = 3 * count
        plain = bytes(planes[byte * size + index] for index in range(size) for byte in range(8))
        numbers = array("d", plain)
        if sys.byteorder == "big":
            numbers.byteswap()
        steps, times = [0], [0]
        for index in range(count):
            steps.append(steps[-1] + int(numbers[index]))
            times.append(times[-1] + int(numbers[count + index]))
        return steps[1:], times[1:], list(numbers[2 * count :])

    return read


@pytest.fixture(scope="session")
def decode_png():
    """Read the pixels of an 8-bit RGB or RGBA image as rows of RGB tuples."""

    def read(image: bytes) -> list[list[tuple[int, ...]]]:
        width, height, depth, kind = struct.unpack(">IIBB", image[16:26])
        assert depth == 8
        size = {2: 3, 6: 4}[kind]
        packed, position = b"", 8
        while position < len(image):
            (length,) = struct.unpack(">I", image[position : position + 4])
            if image[position + 4 : position + 8] == b"IDAT":
                packed += image[position + 8 : position + 8 + length]
            position += length + 12
        data, rows = zlib.decompress(packed), []
        above = bytearray(width * size)
        for start in range(0, height * (width * size + 1), width * size + 1):
            row = bytearray(data[start + 1 : start + 1 + width * size])
            above = _unfiltered(data[start], row, above, size)
            rows.append([tuple(above[at : at + 3]) for at in range(0, len(above), size)])
        return rows

    return read


def _unfiltered(kind: int, row: bytearray, above: bytearray, size: int) -> bytearray:
    """Undo one line's filter, PNG specification section 9."""
    for at in range(len(row)):
        left = row[at - size] if at >= size else 0
        corner = above[at - size] if at >= size else 0
        row[at] = (row[at] + _predicted(kind, left, above[at], corner)) & 255
    return row


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        guess = left + up - corner
        return min((left, up, corner), key=lambda candidate: abs(guess - candidate))
    return (0, left, up, (left + up) // 2)[kind]

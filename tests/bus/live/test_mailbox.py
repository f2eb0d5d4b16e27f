"""What lies in a run's mailbox is asked of the run, whoever put it there and whatever it is."""

import os
from pathlib import Path

import pytest

from bus import (
    MAILBOX_FOLDER,
    Bus,
    BusOptions,
    DecisionApplied,
    JournalReader,
    Save,
    SetLearningRate,
    Stop,
    post,
)

QUICK = BusOptions(flush_interval=0.005)


@pytest.fixture
def mailbox(tmp_path) -> Path:
    return tmp_path / MAILBOX_FOLDER


@pytest.fixture
def open_bus(tmp_path):
    """Opens buses on one run's folder; closed at the end."""
    made: list[Bus] = []

    def begin(**options) -> Bus:
        bus = Bus(tmp_path / "journal", options=QUICK, **options)
        made.append(bus)
        return bus

    yield begin
    for bus in made:
        bus.close(5.0)


def test_requests_arrive_in_order_with_who_and_why(tmp_path, open_bus, eventually):
    """They take effect at a safe point as any other, and their files are gone."""
    bus = open_bus()
    asked = [
        Save(by="ada@node1", reason="lunch"),
        SetLearningRate(value=0.1, by="bob@node2"),
        Stop(by="ada@node1", reason="dinner"),
    ]
    files = [post(tmp_path, request) for request in asked]
    eventually(lambda: bus.control.pending == 3)
    assert bus.control.safe_point(7).requests == tuple(asked)
    assert not any(file.exists() for file in files)
    bus.flush()
    records = JournalReader(tmp_path).records(types=(DecisionApplied,))
    assert [(r.event.by, r.event.reason) for r in records] == [(a.by, a.reason) for a in asked]


BROKEN = {
    "nothing": b"",
    "half": b'{"type":"stop","rea',
    "nonsense": b"\xff\xfe\x00",
    "a list": b"[1]",
    "a stranger": b'{"type":"explode"}',
    "no type": b'{"type":{}}',
    "too much": b'{"type":"stop","reason":"' + b"x" * 70_000 + b'"}',
    "too deep": b"[" * 60_000,
    "a wrong field": b'{"type":"stop","when":"now"}',
    "a wrong value": b'{"type":"set_learning_rate","value":-1}',
}


def test_what_is_no_request_is_set_aside_and_said_once(
    tmp_path, mailbox, open_bus, eventually, caplog
):
    """It stops neither the run nor the requests beside it, and is kept for whoever looks."""
    bus = open_bus()
    mailbox.mkdir()
    for name, content in BROKEN.items():
        (mailbox / name).write_bytes(content)
    (mailbox / "a folder").mkdir()
    os.mkfifo(mailbox / "a pipe")
    (mailbox / "a link").symlink_to("/dev/zero")
    post(tmp_path, Stop())
    eventually(lambda: bus.control.pending)
    post(tmp_path, Save())
    eventually(lambda: bus.control.pending == 2)
    for name in (*BROKEN, "a folder", "a pipe", "a link"):
        assert sum(f".set-aside-{name} " in line for line in caplog.messages) == 1, name
    assert (mailbox / ".set-aside-half").read_bytes() == BROKEN["half"]


def test_what_was_meant_for_an_earlier_attempt_stops_nobody(tmp_path, open_bus, eventually):
    """A stop that came too late does not end the attempt that goes on."""
    late = post(tmp_path, Stop(reason="too late"))
    bus = open_bus(attempt=2)
    assert not late.exists()
    post(tmp_path, Save())
    eventually(lambda: bus.control.pending)
    assert [request.type for request in bus.control.safe_point(1).requests] == ["save"]


def test_a_file_that_is_being_written_is_left_alone(tmp_path, mailbox, open_bus, eventually):
    """Names that begin with a dot belong to whoever writes them."""
    mailbox.mkdir()
    (mailbox / ".unfinished").write_bytes(b"{")
    bus = open_bus()
    post(tmp_path, Save())
    eventually(lambda: bus.control.pending)
    assert (mailbox / ".unfinished").exists()


def test_several_takers_take_each_request_once(tmp_path, open_bus, eventually):
    """Processes that share a run's folder share its mailbox."""
    buses = [open_bus(rank=rank) for rank in range(3)]
    for _ in range(20):
        post(tmp_path, Save())
    eventually(lambda: sum(bus.control.pending for bus in buses) >= 20)
    assert sum(bus.control.pending for bus in buses) == 20

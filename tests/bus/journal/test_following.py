"""Reading a journal while other processes write it."""

import os
import signal
import time

import pytest

from bus import MetricsLogged
from bus._reader import JournalReader, Record
from tests.waiting import HANG


def test_goes_on_where_reading_stopped(tmp_path, write_journal):
    """Whatever a reading to the end has shown, polling does not show again, and nothing else."""
    events = [MetricsLogged(metrics={"a": 1.0}, step=step) for step in range(10)]
    write_journal(tmp_path, events[:4])
    reader = JournalReader(tmp_path)

    whole = [record.event.step for record in reader.records()]
    write_journal(tmp_path, events[4:], attempt=2)
    new = [record.event.step for record in reader.poll()]

    assert (whole, new) == ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9])
    assert reader.poll() == []
    write_journal(tmp_path, events[:1], attempt=3)
    assert [row.data["step"] for row in reader.poll_rows()] == [0]


def test_readings_do_not_disturb_each_other(tmp_path, write_journal):
    """Several readings of one reader may be under way at once; each shows everything."""
    events = [MetricsLogged(metrics={"a": 1.0}, step=step) for step in range(50)]
    write_journal(tmp_path, events, segment_bytes=500, flush_every=3)
    reader = JournalReader(tmp_path)
    steps: list[tuple[object, object]] = []

    for record, row in zip(reader.records(), reader.rows(), strict=True):
        assert len(reader.attempts) == 1
        assert len(list(reader.rows())) == 50
        steps.append((record.event.step, row.data["step"]))

    assert steps == [(step, step) for step in range(50)]
    assert reader.poll() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("segment_bytes", [700, 1 << 20])
def test_polling_while_two_ranks_write(start_script, tmp_path, eventually, soak, segment_bytes):
    """Never damage, never an event twice or out of order, in the end every one."""
    # Thousands of tiny files would measure directories.
    count = 3000 * soak if segment_bytes > 1000 else 2000
    (tmp_path / "journal").mkdir()
    reader = JournalReader(tmp_path)
    seen: list[Record] = []
    polls_with_news = 0

    def poll() -> bool:
        nonlocal polls_with_news
        new = reader.poll()
        seen.extend(new)
        polls_with_news += bool(new)
        assert reader.damage == 0
        return len(seen) >= 2 * count

    with (
        start_script("write_child.py", tmp_path, 0, count, segment_bytes) as first,
        start_script("write_child.py", tmp_path, 1, count, segment_bytes) as second,
    ):
        eventually(poll, seconds=100 + 30 * soak)

    assert (first.returncode, second.returncode) == (0, 0)
    assert reader.poll() == []
    for rank in range(2):
        positions = [record.seq for record in seen if record.rank == rank]
        assert positions == list(range(1, count + 1))
    assert polls_with_news > 2
    whole = JournalReader(tmp_path)
    assert sorted(seen, key=lambda r: (r.rank, r.seq)) == list(whole.records())
    assert whole.damage == 0


@pytest.mark.slow
def test_readers_need_no_writer(start_script, tmp_path, eventually):
    """A writer that is stopped in the middle of whatever it does holds no reader up."""
    (tmp_path / "journal").mkdir()
    reader = JournalReader(tmp_path)
    with start_script("write_child.py", tmp_path, 0, 10_000_000, 5000) as writer:
        try:
            eventually(reader.poll, seconds=30)
            for _ in range(20):
                os.kill(writer.pid, signal.SIGSTOP)
                started = time.monotonic()
                new = reader.poll()
                everything = list(JournalReader(tmp_path).rows())
                assert time.monotonic() - started < HANG
                assert reader.damage == 0
                os.kill(writer.pid, signal.SIGCONT)
                assert len(everything) >= len(new)
        finally:
            writer.kill()

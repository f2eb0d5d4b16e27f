"""Reading a journal while other processes write it."""

import os
import signal
import time

import pytest

from bus._reader import JournalReader, Record


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("segment_bytes", [700, 1 << 20])
def test_polling_while_two_ranks_write(
    start_script, tmp_path, eventually, soak, segment_bytes
):
    """Never damage, never an event twice or out of order, in the end every one."""
    count = 3000 * soak
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
        eventually(poll, timeout=100 + 30 * soak)

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
@pytest.mark.timeout(60)
def test_readers_need_no_writer(start_script, tmp_path, eventually):
    """A writer that is stopped in the middle of whatever it does holds no reader up."""
    (tmp_path / "journal").mkdir()
    reader = JournalReader(tmp_path)
    with start_script("write_child.py", tmp_path, 0, 10_000_000, 5000) as writer:
        try:
            eventually(reader.poll, timeout=30)
            for _ in range(20):
                os.kill(writer.pid, signal.SIGSTOP)
                started = time.monotonic()
                new = reader.poll()
                everything = list(JournalReader(tmp_path).rows())
                assert time.monotonic() - started < 5
                assert reader.damage == 0
                os.kill(writer.pid, signal.SIGCONT)
                assert len(everything) >= len(new)
        finally:
            writer.kill()

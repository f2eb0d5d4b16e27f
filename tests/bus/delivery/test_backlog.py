"""A sink far behind: it reads the journal by itself, piece by piece, while others share."""

import anyio
import pytest

from bus import BatchLimits, MetricsLogged, TextLogged, UnavailableError, sync_run
from bus._delivery import Delivery
from bus._feed import Feed, FeedReader
from bus._stream import StreamName, StreamReader
from tests.bus.delivery.conftest import ScriptedSink, inline

pytestmark = pytest.mark.anyio
STREAM = StreamName(1, 0)


class Wide(ScriptedSink):
    """Big batches at once."""

    limits = BatchLimits(events=1000, age=0.0)


class Other(Wide):
    """With a cursor of its own."""

    name = "other"


async def test_one_that_was_down_catches_up_beside_one_that_was_not(write_run):
    """The shared entries are bounded; what they no longer hold is read again, once, in order."""
    run = write_run(12_000)
    feed = Feed(run.dir)
    slow, fast = Other([UnavailableError("down")] * 20), Wide()
    deliveries = [Delivery(sink, run.context, feed, disk=inline) for sink in (slow, fast)]
    async with anyio.create_task_group() as group:
        for delivery in deliveries:
            group.start_soon(delivery.run)
        with anyio.fail_after(3600):
            while len(slow.got) < 12_000:  # noqa: ASYNC110 - virtual time
                await anyio.sleep(1)
        assert sum(len(ring._entries) for ring in feed._rings.values()) <= 8192
        for delivery in deliveries:
            delivery.finish("finished", anyio.current_time() + 60)

    assert slow.values == fast.values == list(range(12_000))


def test_entries_are_decoded_once_for_all(write_run):
    """Two readers get the very same event."""
    feed = Feed(write_run(10).dir)
    first, second = FeedReader(feed), FeedReader(feed)

    events = [entry.event() for entry in first.read(STREAM, 0)]
    assert [entry.event() for entry in second.read(STREAM, 0)] == events
    assert all(
        a.event() is b.event()
        for a, b in zip(first.read(STREAM, 0), second.read(STREAM, 0), strict=True)
    )
    assert sum(isinstance(event, MetricsLogged) for event in events) == 10


@pytest.mark.parametrize("after", [0, 1, 500, 4999, 5001])
def test_a_stream_is_read_from_any_place(write_run, after):
    """In pieces, across segments, each line once."""
    run = write_run(5000)
    reader = StreamReader(run.dir / "journal", STREAM, after)
    seqs = []
    while lines := reader.read():
        seqs += [line.seq for line in lines]

    assert seqs == list(range(after + 1, 5003))


def test_a_growing_stream_is_followed(write_run):
    """A torn line at the end is not yet; when it is whole it comes."""
    run = write_run(3)
    (segment,) = (run.dir / "journal").iterdir()
    whole = segment.read_bytes()
    reader = StreamReader(run.dir / "journal", STREAM)
    seen = []
    for end in range(len(whole) + 1):
        segment.write_bytes(whole[:end])
        seen += [line.seq for line in reader.read()]

    assert seen == [1, 2, 3, 4, 5]
    assert reader.damage == 0


def test_what_a_quota_removed_is_counted(write_run):
    """The delivery goes on behind it and says how many are missing."""
    run = write_run(20)
    (segment,) = (run.dir / "journal").iterdir()
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.unlink()
    segment.with_name("rank0-a1-000002.jsonl").write_bytes(b"".join(lines[10:]))
    sink = ScriptedSink()
    info = run.context
    (account,) = sync_run(info.run_dir, [sink])

    assert sink.values == list(range(9, 20))
    assert account.missing == 10


def test_an_entry_larger_than_what_is_kept(write_run):
    """It is read nevertheless, with those around it, by each reader."""
    big = TextLogged(key="text", text="x" * (9 << 20))
    feed = Feed(write_run([big, MetricsLogged(step=1, metrics={"n": 1.0})]).dir)
    for reader in (FeedReader(feed), FeedReader(feed)):
        found, after = [], 0
        while entries := reader.read(STREAM, after):
            found += [entry.line.type for entry in entries]
            after = entries[-1].line.seq
        assert found == ["run_started", "text_logged", "metrics_logged", "run_ended"]

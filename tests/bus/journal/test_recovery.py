"""Reading what crashes, faulty disks and later attempts have made of a journal."""

import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus import (
    Event,
    MetricsLogged,
    Outcome,
    RunEnded,
    RunStarted,
    TextLogged,
)
from bus._reader import JournalReader, Record

EVENTS: tuple[Event, ...] = (
    MetricsLogged(metrics={"loss": 1.5}, step=1, time=1.0),
    TextLogged(key="a", text="\n\u00e9*J", step=2, time=2.0),
    MetricsLogged(metrics={"loss": float("nan")}, step=3, time=3.0),
    TextLogged(key="b", text="end", time=4.0),
)


def as_text(records: list[Record]) -> list[tuple[int, str]]:
    """Records in a form under which NaN equals NaN."""
    return [(record.seq, repr(record.event)) for record in records]


@pytest.fixture
def whole(make_folder, write_journal, read) -> tuple[Path, bytes, list[tuple[int, str]]]:
    """A segment of a few events: the file, its bytes, and what it says."""
    run_dir = write_journal(make_folder(), EVENTS)
    file = run_dir / "journal" / "rank0-a1-000001.jsonl"
    return file, file.read_bytes(), as_text(read(run_dir)[0])


class TestTruncation:
    """A segment ends after any of its bytes."""

    def test_newest_segment(self, whole, read):
        """Every whole line is read; an open last one is not there yet, and no damage."""
        file, content, events = whole
        for cut in range(len(content) + 1):
            file.write_bytes(content[:cut])

            records, damage = read(file.parent.parent)

            assert as_text(records) == events[: content[:cut].count(b"\n")]
            assert damage == 0

    def test_older_segment(self, whole, read):
        """A torn last line is damage; one that lacks its newline alone is whole."""
        file, content, events = whole
        later = file.with_name("rank0-a1-000002.jsonl")
        later.touch()
        starts = [0, *(index + 1 for index, byte in enumerate(content) if byte == ord("\n"))]
        for cut in range(len(content) + 1):
            file.write_bytes(content[:cut])
            lines = content[:cut].count(b"\n")
            whole_but_newline = content[cut : cut + 1] == b"\n"

            records, damage = read(file.parent.parent)

            assert as_text(records) == events[: lines + whole_but_newline]
            assert damage == (not whole_but_newline and cut not in starts)

    def test_following(self, whole):
        """A reader that follows byte by byte sees each event once, when its newline has come."""
        file, content, events = whole
        file.write_bytes(b"")
        reader = JournalReader(file.parent.parent)
        seen: list[Record] = []
        for cut in range(len(content)):
            with file.open("ab") as target:
                target.write(content[cut : cut + 1])
            seen += reader.poll()
            assert len(seen) == content[: cut + 1].count(b"\n")

        assert as_text(seen) == events
        assert reader.damage == 0

    def test_newest_of_an_older_attempt(self, whole, write_journal, read):
        """What an attempt left torn is damage once a later attempt writes."""
        file, content, events = whole
        file.write_bytes(content[:-5])
        run_dir = file.parent.parent
        write_journal(run_dir, EVENTS, attempt=2)

        records, damage = read(run_dir)

        assert as_text(records) == events[:-1] + events
        assert damage == 1


class TestBitFlips:
    """CRC-32 finds every single wrong bit."""

    @pytest.mark.parametrize("newest", [True, False])
    def test_any_bit(self, whole, read, newest):
        """The line is skipped and counted, everything else is read, nothing wrong is believed.

        A flipped newline makes one damaged line of two; the very last one makes the last line open.
        A flip that makes a newline makes two damaged lines of one.
        """
        file, content, events = whole
        if not newest:
            file.with_name("rank0-a1-000002.jsonl").touch()
        line_of = [content[:index].count(b"\n") for index in range(len(content))]
        for bit in range(len(content) * 8):
            index = bit // 8
            flipped = bytearray(content)
            flipped[index] ^= 1 << bit % 8
            file.write_bytes(flipped)
            hit = line_of[index]
            was_newline = content[index] == ord("\n")
            lost = {hit, hit + 1} if was_newline else {hit}
            expected = [event for line, event in enumerate(events) if line not in lost]
            last_newline = index == len(content) - 1

            records, damage = read(file.parent.parent)

            assert as_text(records) == expected
            fragments = 2 if flipped[index] == ord("\n") else 1
            assert damage == (0 if last_newline and newest else fragments)

    @settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.binary(max_size=200), st.integers(0, 3))
    def test_foreign_bytes(self, whole, read, junk, place):
        """Whatever stands between lines is damage by the line; the lines around it are read."""
        file, content, events = whole
        lines = content.splitlines(keepends=True)
        lines.insert(place, junk + b"\n")
        file.write_bytes(b"".join(lines))

        records, damage = read(file.parent.parent)

        assert as_text(records) == events
        assert damage == sum(bool(each) for each in junk.split(b"\n"))

    @pytest.mark.parametrize(
        "rest",
        [
            b"",
            b"[]",
            b'"v":1,"seq":9,"type":"x"',
            b'"v":1,"seq":9,"type":"x","time":"yesterday"}',
            b'"v":1,"seq":9,"type":"x","time":1.0,"step":-1}',
            b'"v":1,"seq":9,"type":"x","time":1.0,"n":' + b"9" * 5000 + b"}",
            b'"v":1,"seq":9,"type":"gap","time":1.0,"n":[}',
            b'"v":1,"seq":9,"type":"\\x","time":1.0}',
            b'"v":1,"seq":9,"type":"\xff","time":1.0}',
        ],
    )
    def test_right_checksum_over_nonsense(self, whole, read, rest):
        """A line that no writer of ours wrote is damage even if its checksum is right."""
        file, content, events = whole
        line = b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)
        file.write_bytes(content + line)

        records, damage = read(file.parent.parent)

        assert as_text(records) == events
        assert damage == 1
        assert list(JournalReader(file.parent.parent).rows())
        assert len(JournalReader(file.parent.parent).poll()) == len(events)


attempts = st.lists(
    st.tuples(
        st.none() | st.integers(0, 12),
        st.lists(st.none() | st.integers(0, 15), max_size=8),
    ),
    min_size=1,
    max_size=5,
)


class TestSupersession:
    """A resume at step R replaces every earlier event beyond R."""

    @settings(max_examples=80, suppress_health_check=list(HealthCheck), deadline=None)
    @given(attempts, st.sampled_from([1, 300, 1_000_000]), st.integers(1, 2))
    def test_naive_model(self, make_folder, write_journal, tried, segment_bytes, ranks):
        """An event is kept if no later attempt resumed at a step before its own."""
        run_dir = make_folder()
        expected: list[tuple[int, int, int | None, bool]] = []
        for number, (resumed, steps) in enumerate(tried, start=1):
            later = [step for step, _ in tried[number:] if step is not None]
            for rank in range(ranks):
                first = RunStarted(name="r", run_id="i", attempt=number, resumed_from_step=resumed)
                events: list[Event] = [first] if rank == 0 else []
                events += [MetricsLogged(metrics={}, step=step) for step in steps]
                write_journal(
                    run_dir,
                    events,
                    attempt=number,
                    rank=rank,
                    segment_bytes=segment_bytes,
                    flush_every=3,
                )
                expected += [
                    (number, rank, e.step, any(e.step is not None and e.step > r for r in later))
                    for e in events
                ]
        reader = JournalReader(run_dir)

        records = [(r.attempt, r.rank, r.event.step) for r in reader.records()]
        rows = [(r.attempt, r.rank, r.data.get("step"), r.superseded) for r in reader.rows()]

        assert records == [each[:3] for each in expected if not each[3]]
        assert rows == expected
        assert len(list(reader.rows(superseded=False))) == len(records)
        assert len(list(reader.records(superseded=True))) == len(expected)
        assert len(JournalReader(run_dir).poll()) == len(expected)

    def test_attempts(self, tmp_path, write_journal):
        """What each attempt's journal says of its beginning and its end."""
        endings: tuple[Outcome | None, ...] = (None, "stopped", "finished")
        for number, outcome in enumerate(endings, start=1):
            events: list[Event] = [
                RunStarted(
                    name="r",
                    run_id="i",
                    attempt=number,
                    time=float(number),
                    resumed_from_step=number * 10 if number > 1 else None,
                ),
                MetricsLogged(metrics={"a": 1.0}, step=1),
            ]
            if outcome is not None:
                events.append(RunEnded(outcome=outcome, reason="why", time=number + 0.5))
            write_journal(tmp_path, events, attempt=number)

        first, second, third = JournalReader(tmp_path).attempts

        assert (first.outcome, first.ended, first.resumed_from_step) == (None, None, None)
        assert (second.outcome, second.ended, second.resumed_from_step) == ("stopped", 2.5, 20)
        assert (third.outcome, third.reason, third.started) == ("finished", "why", 3.0)

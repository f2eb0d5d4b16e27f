"""Disks that are full, read-only, limited, or emptied under the job: training goes on."""

import functools
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bus import BusOptions, Gap, MetricsLogged, RunInfo, encode, run_state
from bus._journal import Journal
from bus._reader import JournalReader, Record
from bus.testing import JournalAsserter
from runtime import Run
from tests.waiting import HANG

Scenario = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def namespace() -> tuple[str, ...]:
    """The command that gives a child mounts of its own, or a skip with the reason."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no `unshare` here to make a mount namespace with")
    ways: tuple[tuple[str, ...], ...] = (
        (unshare, "--mount"),
        (unshare, "--mount", "--user", "--map-root-user"),
    )
    said = ""
    for way in ways:
        script = "mount -t tmpfs tmpfs /mnt && umount /mnt"
        done = subprocess.run(  # noqa: S603 - fixed
            [*way, "sh", "-c", script], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return way
        said = done.stderr.strip()
    pytest.skip(f"no mount namespace may be made here: {said}")


@pytest.fixture(scope="module")
def on_a_disk(namespace, start_script, tmp_path_factory) -> Scenario:
    """Run a scenario in a child with mounts of its own and return what it says; once each."""

    @functools.cache
    def run(name: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp(name)
        return answer(start_script("disk_child.py", name, folder, before=namespace))

    return run


@pytest.fixture
def in_a_child(start_script, tmp_path) -> Scenario:
    """Run a scenario in a child and return what it says."""
    return lambda name: answer(start_script("disk_child.py", name, tmp_path))


def answer(child: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.slow
class TestFullDisk:
    def test_space_returns(self, on_a_disk):
        """What fits in memory is written late, what did not is one gap with the exact count."""
        found = on_a_disk("full")

        ((reason, count),) = found["gaps"]
        assert "No space left" in reason
        assert "No space left" in found["error"]
        assert count == found["dropped"]
        assert found["read"] + count == found["published"]
        assert found["recovered"]
        assert found["written"]
        assert found["unbroken"]
        assert found["ascending"]
        assert found["damage"] <= 1
        assert (found["first"], found["last"]) == ("run_started", "run_ended")
        assert found["state"] == "finished"

    def test_memory_is_bounded(self, on_a_disk):
        """Never more than `buffer_bytes` of encoded events wait: 64 KiB, some 70 bytes each."""
        assert on_a_disk("full")["pending"] <= (64 << 10) // 70

    def test_space_never_returns(self, on_a_disk):
        """Closing takes no longer than it may and says how much is not written."""
        found = on_a_disk("never_writable")

        assert found["seconds"] < HANG
        assert not found["written"]
        assert found["unwritten"] > 0
        assert found["readable"] > 0


@pytest.mark.slow
class TestReadOnlyDisk:
    def test_from_the_start(self, on_a_disk):
        """The run begins without a folder and is complete but for one exact gap in the end."""
        found = on_a_disk("read_only")

        assert not found["there"]
        ((reason, count),) = found["gaps"]
        assert "Read-only" in reason
        assert count == found["dropped"]
        assert found["read"] + count == found["published"]
        assert found["unbroken"]
        assert found["damage"] == 0
        assert (found["first"], found["last"]) == ("run_started", "run_ended")
        assert found["state"] == "finished"

    def test_resumed(self, on_a_disk):
        """An attempt that run.json could not be told of replaces what it has to all the same."""
        found = on_a_disk("resumed_read_only")

        assert found["attempt"] == 2
        assert found["visible"][:5] == [0, 1, 2, 3, 4]
        assert found["visible"] == sorted(set(found["visible"]))
        assert sum(count for _, count in found["gaps"]) + found["read"] == found["published"] + 10


@pytest.mark.slow
class TestShortWrites:
    def test_size_limit(self, in_a_child):
        """Files that may not grow are followed by others; only torn lines are damage."""
        found = in_a_child("size_limit")

        assert found["gaps"] == []
        assert found["read"] == found["published"]
        assert found["unbroken"]
        assert found["ascending"]
        assert 1 <= found["damage"] < found["segments"]

    def test_any_byte(self, in_a_child):
        """Wherever a write stops, every event is read once, in order, with the gaps."""
        assert in_a_child("short_writes")["bad"] == []

    def test_any_byte_in_one_file(self, on_a_disk):
        """The same in one file on a full disk, also where only a newline is missing."""
        found = on_a_disk("torn_in_place")

        assert found["bad"] == []
        assert found["newline_only"] >= 1


def metrics_of(records: list[Record]) -> list[int | None]:
    return [r.event.step for r in records if isinstance(r.event, MetricsLogged)]


def gaps_of(records: list[Record]) -> list[tuple[str, int]]:
    return [(r.event.reason, r.event.count) for r in records if isinstance(r.event, Gap)]


@pytest.fixture
def journal(tmp_path) -> Journal:
    """A journal with small segments: about ten events each."""
    return Journal(tmp_path / "journal", rank=0, attempt=1, segment_bytes=1000)


def append(journal: Journal, steps: range) -> None:
    for step in steps:
        event = MetricsLogged(metrics={"loss": 1.0}, step=step)
        journal.append(encode(event), event.time)
        assert journal.flush()


class TestDeletion:
    """Files of the journal are deleted under the job."""

    def test_folder(self, journal, tmp_path, read):
        """A new segment in a new folder, and one gap with the exact count."""
        append(journal, range(35))
        shutil.rmtree(tmp_path / "journal")
        append(journal, range(35, 40))

        records, damage = read(tmp_path)

        assert gaps_of(records) == [("journal deleted", 35)]
        assert metrics_of(records) == list(range(35, 40))
        assert [r.seq for r in records] == list(range(36, 42))
        assert damage == 0
        assert journal.lost == {"journal deleted": 35}

    def test_current_segment(self, journal, tmp_path, read):
        """Older segments stay and are not counted as lost."""
        append(journal, range(35))
        newest = max((tmp_path / "journal").iterdir())
        inside = newest.read_bytes().count(b"\n")
        newest.unlink()
        append(journal, range(35, 40))

        records, _ = read(tmp_path)

        assert gaps_of(records) == [("journal deleted", inside)]
        assert metrics_of(records) == [*range(35 - inside), *range(35, 40)]

    def test_older_segment(self, journal, tmp_path, read):
        """It is missed when the next segment is opened."""
        append(journal, range(35))
        oldest = min((tmp_path / "journal").iterdir())
        inside = oldest.read_bytes().count(b"\n")
        oldest.unlink()
        append(journal, range(35, 60))

        records, _ = read(tmp_path)

        assert gaps_of(records) == [("journal deleted", inside)]
        assert metrics_of(records) == list(range(inside, 60))

    def test_again_and_again(self, journal, tmp_path, read):
        """A gap that is deleted with its segment is answered for by the next one."""
        for start in range(0, 100, 20):
            append(journal, range(start, start + 20))
            shutil.rmtree(tmp_path / "journal")
        append(journal, range(100, 105))

        records, _ = read(tmp_path)

        assert gaps_of(records) == [("journal deleted", 100)]
        assert metrics_of(records) == list(range(100, 105))
        assert journal.lost == {"journal deleted": 100}

    @pytest.mark.parametrize("durability", ["interval", "write"])
    def test_run_folder(self, tmp_path, durability):
        """The whole run's folder: it is made again, readable, and closed as it ended."""
        run = Run("gone", dir=tmp_path, durability=durability)
        for step in range(10):
            run.log({"loss": 1.0}, step=step)
        assert run.flush()
        shutil.rmtree(run.dir)
        run.log({"loss": 1.0}, step=10)
        run.close()

        asserter = JournalAsserter(run.dir).ends("finished")

        asserter.has(Gap, count=1)
        assert [gap.count for gap in asserter.of(Gap)] == [11]  # ten and the RunStarted
        assert [event.step for event in asserter.of(MetricsLogged)] == [10]
        assert run_state(run.dir) == "finished"
        assert RunInfo.load(run.dir).id == run.id


class TestQuota:
    """The size quota unlinks whole old segments."""

    def test_exact_gap(self, tmp_path):
        """What is read and what the gaps say is everything; no segment is cut; the size holds."""
        journal = Journal(
            tmp_path / "journal", rank=0, attempt=1, segment_bytes=1000, quota_bytes=5000
        )
        for start in range(0, 500, 50):
            append(journal, range(start, start + 50))
            reader = JournalReader(tmp_path)
            assert reader.size <= 5000 + 200

            records = list(reader.records())

            steps = metrics_of(records)
            missing = sum(count for _, count in gaps_of(records))
            assert {reason for reason, _ in gaps_of(records)} <= {"size quota"}
            assert steps == list(range(missing, start + 50))
            assert reader.damage == 0
        assert journal.lost["size quota"] == missing

    def test_other_losses_are_carried_on(self, tmp_path, read):
        """A gap in a segment that is unlinked is not forgotten, nor counted as lost twice."""
        journal = Journal(
            tmp_path / "journal", rank=0, attempt=1, segment_bytes=1000, quota_bytes=3000
        )
        journal.record_gap(Gap(reason="queue full", count=1000))
        append(journal, range(100))

        records, _ = read(tmp_path)

        assert {reason for reason, _ in gaps_of(records)} == {"size quota"}
        missing = sum(count for _, count in gaps_of(records))
        assert len(metrics_of(records)) + missing == 1100
        assert journal.lost.total() == missing

    def test_earlier_attempts_go_first(self, tmp_path, write_journal, read):
        """Their files count, too, whatever torn lines and gaps they hold; run.json stays."""
        RunInfo.new("r", None).save(tmp_path)
        events = [MetricsLogged(metrics={"loss": 1.0}, step=step) for step in range(50)]
        write_journal(
            tmp_path, [Gap(reason="queue full", count=30), *events], segment_bytes=100_000
        )
        old = tmp_path / "journal" / "rank0-a1-000001.jsonl"
        with old.open("ab") as file:
            file.write(b'\n{"crc":"1234')
        journal = Journal(
            tmp_path / "journal", rank=0, attempt=2, segment_bytes=1000, quota_bytes=3000
        )
        append(journal, range(10))

        records, damage = read(tmp_path)

        assert not old.exists()
        assert gaps_of(records) == [("size quota", 80)]
        assert metrics_of(records) == list(range(10))
        assert damage == 0
        assert RunInfo.load(tmp_path).name == "r"

    def test_run(self, tmp_path):
        """End to end: a run far beyond its quota is small, closed, and says what is gone."""
        options = BusOptions(flush_interval=0.01, segment_bytes=2000, quota_bytes=20_000)
        with Run("small", dir=tmp_path, options=options) as run:
            for step in range(2000):
                run.log({"loss": 1.0}, step=step)
                if step % 20 == 0:
                    run.flush()

        asserter = JournalAsserter(run.dir).ends("finished")

        gone = sum(gap.count for gap in asserter.of(Gap))
        # RunStarted is among what is gone.
        assert len(asserter.of(MetricsLogged)) + gone == 2001
        assert sum(file.stat().st_size for file in asserter.segments()) < 25_000
        assert (run.dir / "run.json").exists()

    def test_what_cannot_be_unlinked(self, tmp_path, read):
        """A quota that cannot be kept does not stop the journal."""
        journal = Journal(
            tmp_path / "journal", rank=0, attempt=1, segment_bytes=500, quota_bytes=1500
        )
        (tmp_path / "journal").mkdir()
        (tmp_path / "journal" / "rank0-a0-000001.jsonl").mkdir()  # a folder cannot be unlinked
        append(journal, range(50))
        (tmp_path / "journal" / "rank0-a0-000001.jsonl").rmdir()

        records, _ = read(tmp_path)

        assert metrics_of(records) == list(range(50))


def test_unwritable_name(tmp_path):
    """A file where the run's folder should be: training goes on, closing says what is missing."""
    (tmp_path / "run").write_text("in the way")
    run = Run("blocked", dir=tmp_path / "run")
    run.log({"loss": 1.0}, step=1)

    account = run.close(timeout=2)

    assert account is not None
    assert not account.written
    assert account.unwritten == 3
    assert Path(tmp_path / "run").read_text() == "in the way"

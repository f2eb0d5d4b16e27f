"""Old checkpoints go as Transformers lets them go, but never under a reader."""

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import torch

from bus import FolderHold, unheld
from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoint_files import checkpoint_step, find_checkpoints, last_checkpoint
from runtime._checkpoints import Checkpoints

CONTENTS = CheckpointContents(model={"w": torch.zeros(2)}, state=lambda: "{}")


@pytest.fixture
def start(tmp_path):
    """Make the checkpoints of the test's folder with a limit; they are written at once."""

    def make(limit, **options):
        return Checkpoints(
            tmp_path,
            limit=limit,
            asynchronous=False,
            complete=options.get("complete", lambda _: None),
            failed=lambda _, error: pytest.fail(str(error)),
        )

    return make


@pytest.fixture
def left(tmp_path):
    """The steps of the checkpoints that are there; nothing else is."""

    def look():
        found = find_checkpoints(tmp_path)
        assert sorted(each.name for each in tmp_path.iterdir()) == sorted(p.name for p in found)
        return [checkpoint_step(path) for path in found]

    return look


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, None, [1, 2, 3, 4, 5]),
        (0, None, [1, 2, 3, 4, 5]),
        (-1, None, [1, 2, 3, 4, 5]),
        (1, None, [5]),
        (2, None, [4, 5]),
        (5, None, [1, 2, 3, 4, 5]),
        (9, None, [1, 2, 3, 4, 5]),
        (1, 2, [2, 5]),
        (2, 2, [2, 5]),
        (3, 2, [2, 4, 5]),
        (2, 5, [4, 5]),
        (2, 4, [4, 5]),
        (4, 1, [1, 3, 4, 5]),
    ],
)
def test_limit(start, left, tmp_path, *, limit, best, kept):
    """The newest and the best stay, of the others as many of the newest as the limit allows."""
    checkpoints = start(limit)
    for step in range(1, 6):
        known = best is not None and step >= best
        checkpoints.save(
            CONTENTS, step=step, best=tmp_path / f"checkpoint-{best}" if known else None
        )
    assert left() == kept


def test_the_best_elsewhere(start, left, tmp_path):
    """A best checkpoint of another folder counts among those to keep, as with Transformers."""
    checkpoints = start(1)
    for step in (1, 2, 3):
        checkpoints.save(CONTENTS, step=step, best=tmp_path.parent / "checkpoint-1")
    assert left() == [2, 3]


def test_relative_paths(start, left, tmp_path, monkeypatch):
    """The best is known by whatever path leads to it."""
    monkeypatch.chdir(tmp_path)
    checkpoints = start(2)
    for step in (1, 2, 3, 4):
        best = find_checkpoints(tmp_path)[:1]
        checkpoints.save(CONTENTS, step=step, best=best[0].relative_to(tmp_path) if best else None)
    assert left() == [1, 4]


def test_age_goes_before_step(start, left):
    """After going back to step 10, what the abandoned course left is older than what is written."""
    checkpoints = start(2)
    for step in (30, 40):
        os.utime(checkpoints.save(CONTENTS, step=step, best=None), (1e9 + step, 1e9 + step))
    checkpoints.save(CONTENTS, step=20, best=None)
    assert left() == [20, 40]


def test_other_things_stay(start, tmp_path):
    """Only folders called checkpoint-STEP are checkpoints."""
    (tmp_path / "checkpoint-final").mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    (tmp_path / "runs").mkdir()
    checkpoints = start(1)
    for step in (1, 2):
        checkpoints.save(CONTENTS, step=step, best=None)
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"checkpoint-final", "checkpoint-7", "runs", "checkpoint-2"}
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_found_by_number(tmp_path):
    """Steps are numbers: 1000 comes after 200."""
    for step in (1000, 200, 5):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert [each.name for each in find_checkpoints(tmp_path)] == [
        "checkpoint-5", "checkpoint-200", "checkpoint-1000",
    ]  # fmt: skip
    assert last_checkpoint(tmp_path / "nowhere") is None


class TestKeepOnly:
    """At the end of training everything but the best may go."""

    def test_others_go(self, start, left, tmp_path):
        checkpoints = start(None)
        for step in (1, 2, 3):
            checkpoints.save(CONTENTS, step=step, best=None)
        checkpoints.pin(tmp_path / "checkpoint-1")
        checkpoints.keep_only(tmp_path / "checkpoint-2")
        assert left() == [1, 2]
        checkpoints.unpin(tmp_path / "checkpoint-1")

    def test_nothing_to_keep(self, start, left, tmp_path):
        """Nothing is deleted for a checkpoint that is not there."""
        checkpoints = start(None)
        checkpoints.save(CONTENTS, step=1, best=None)
        checkpoints.keep_only(tmp_path / "checkpoint-9")
        assert left() == [1]


class TestPins:
    """An upload keeps what it reads; what waits too long gives way and is counted."""

    def test_pinned_when_complete(self, start, left):
        """`complete` may pin before the rotation that would delete."""
        checkpoints = start(1, complete=lambda saved: checkpoints.pin(saved.path))
        for step in (1, 2, 3):
            checkpoints.save(CONTENTS, step=step, best=None)
        assert left() == [2, 3]
        assert checkpoints.superseded == 1

    def test_read_to_the_end(self, start, left, tmp_path):
        """The one being read stays however many come, those waiting behind it do not."""
        checkpoints = start(1, complete=lambda saved: checkpoints.pin(saved.path))
        paths = [tmp_path / f"checkpoint-{step}" for step in range(6)]
        checkpoints.save(CONTENTS, step=1, best=None)
        assert checkpoints.reading(paths[1])
        for step in (2, 3, 4, 5):
            checkpoints.save(CONTENTS, step=step, best=None)
        assert left() == [1, 5]
        assert [checkpoints.reading(paths[step]) for step in (2, 3, 4)] == [False] * 3
        assert checkpoints.superseded == 3
        checkpoints.unpin(paths[1])
        assert left() == [5]
        assert checkpoints.reading(paths[5])

    def test_within_the_limit(self, start, left, tmp_path):
        """A pin inside the limit costs nothing and holds nothing back."""
        checkpoints = start(2)
        checkpoints.save(CONTENTS, step=1, best=None)
        checkpoints.pin(tmp_path / "checkpoint-1")
        checkpoints.save(CONTENTS, step=2, best=None)
        checkpoints.unpin(tmp_path / "checkpoint-1")
        checkpoints.unpin(tmp_path / "checkpoint-7")
        assert left() == [1, 2]
        assert checkpoints.superseded == 0

    def test_from_other_threads(self, start, left, tmp_path):
        """Readers on other threads and a saving thread do not get in each other's way."""
        checkpoints = start(1, complete=lambda saved: checkpoints.pin(saved.path))
        read = []

        def reader():
            for step in range(1, 21):
                path = tmp_path / f"checkpoint-{step}"
                while not checkpoints.reading(path) and step > saved[-1]:
                    threading.Event().wait(0.0005)
                if checkpoints.reading(path):
                    read.append((path / "manifest.json").exists())
                    checkpoints.unpin(path)

        saved = [0]
        thread = threading.Thread(target=reader)
        thread.start()
        for step in range(1, 21):
            checkpoints.save(CONTENTS, step=step, best=None)
            saved.append(step)
        thread.join(15)
        assert not thread.is_alive()
        assert all(read)
        assert len(read) + checkpoints.superseded == 20
        assert left() == [20]

    def test_deleted_by_somebody_else(self, start, tmp_path):
        """A pinned checkpoint that a person removes is not reported as there."""
        checkpoints = start(2)
        path = checkpoints.save(CONTENTS, step=1, best=None)
        checkpoints.pin(path)
        shutil.rmtree(path)
        assert not checkpoints.reading(tmp_path / "checkpoint-1")
        assert checkpoints.superseded == 1


HOLDER = """
import sys
from bus import FolderHold, unheld
hold = FolderHold(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


class TestHolds:
    """A sink that uploads a checkpoint, in any process, keeps it until it is done."""

    def test_held_until_released(self, start, left, tmp_path):
        """It goes with the next rotation after that, and the others do not wait for it."""
        checkpoints = start(1)
        checkpoints.save(CONTENTS, step=1, best=None)
        with FolderHold(tmp_path / "checkpoint-1"), FolderHold(tmp_path / "checkpoint-1"):
            for step in (2, 3):
                checkpoints.save(CONTENTS, step=step, best=None)
            assert left() == [1, 3]
        checkpoints.rotate()
        assert left() == [3]

    def test_a_holder_that_is_killed_holds_no_more(self, start, left, tmp_path):
        """The lock is the process's, not the folder's."""
        checkpoints = start(1)
        checkpoints.save(CONTENTS, step=1, best=None)
        command = [sys.executable, "-c", HOLDER, str(tmp_path / "checkpoint-1")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as holder:  # noqa: S603 - our own words
            assert holder.stdout.readline() == "held\n"
            checkpoints.save(CONTENTS, step=2, best=None)
            assert left() == [1, 2]
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        checkpoints.rotate()
        assert left() == [2]

    def test_what_is_gone_cannot_be_held(self, tmp_path):
        """Nor can a file."""
        (tmp_path / "file").touch()
        with pytest.raises(FileNotFoundError):
            FolderHold(tmp_path / "checkpoint-1")
        with pytest.raises(NotADirectoryError):
            FolderHold(tmp_path / "file")

    def test_what_is_being_deleted_cannot_be_held(self, tmp_path):
        """A reader that comes too late hears so, and never reads half a folder."""
        with unheld(tmp_path) as free:
            assert free
            with pytest.raises(FileNotFoundError, match="being deleted"):
                FolderHold(tmp_path)

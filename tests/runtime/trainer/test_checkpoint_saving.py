"""Saving holds the training thread for a copy, and a disk that fails harms nothing but the save."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from bus._rundir import process_started
from runtime._checkpoint_contents import CheckpointContents
from runtime._checkpoint_files import find_checkpoints
from runtime._checkpoint_load import load_checkpoint, verify
from runtime._checkpoints import Checkpoints

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]


class Gate:
    """A trainer state whose writing waits until it is let through."""

    def __init__(self):
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self):
        self.reached.set()
        assert self.opened.wait(15)
        return "{}"


class Told:
    """What `Checkpoints` says."""

    def __init__(self):
        self.saved = []
        self.failed = []
        self.threads = set()

    def complete(self, saved):
        self.saved.append(saved)
        self.threads.add(threading.current_thread())

    def fail(self, path, error):
        self.failed.append((path.name, error))
        self.threads.add(threading.current_thread())


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def start(tmp_path, told):
    """Make the checkpoints of a folder; they are closed after the test."""
    made = []

    def make(folder=tmp_path, *, asynchronous=True):
        made.append(
            Checkpoints(
                folder,
                limit=None,
                asynchronous=asynchronous,
                complete=told.complete,
                failed=told.fail,
            )
        )
        return made[-1]

    yield make
    for each in made:
        assert each.close(10)


def contents(**more):
    return CheckpointContents(**{"model": {"w": torch.zeros(2)}, "state": lambda: "{}", **more})


def test_the_moment_of_the_save(start):
    """What training changes right after `save` is not in the checkpoint."""
    checkpoints, gate = start(), Gate()
    weight, moment, rates = torch.zeros(100), torch.zeros(100), [0.1]
    path = checkpoints.save(
        contents(
            model={"w": weight},
            optimizer={"state": {0: {"m": moment}}, "param_groups": [{"lr": 0.1}]},
            scheduler={"rates": rates},
            state=gate,
        ),
        step=1,
        best=None,
    )
    weight += 1
    moment += 1
    rates.append(0.2)
    gate.opened.set()
    assert checkpoints.wait(10)
    loaded = load_checkpoint(path, device=CPU)
    assert loaded.model["w"].unique().tolist() == [0]
    assert loaded.optimizer["state"][0]["m"].unique().tolist() == [0]
    assert loaded.scheduler == {"rates": [0.1]}


def test_save_does_not_wait_for_the_disk(start, told):
    """`save` returns while the writer is held up; nothing is visible until it has finished."""
    checkpoints, gate = start(), Gate()
    path = checkpoints.save(contents(state=gate), step=1, best=None)
    assert gate.reached.wait(10)
    assert not path.exists()
    assert find_checkpoints(path.parent) == []
    assert not checkpoints.wait(0.01)
    assert not told.saved
    gate.opened.set()
    assert checkpoints.wait(10)
    assert path.is_dir()
    assert told.threads.isdisjoint({threading.main_thread()})


def test_what_is_told(start, told):
    """Of each checkpoint its path, step, size, and how long it took and held training."""
    checkpoints = start()
    path = checkpoints.save(contents(), step=7, best=None)
    assert checkpoints.wait(10)
    [saved] = told.saved
    assert (saved.path, saved.step) == (path, 7)
    files = json.loads((path / "manifest.json").read_text())["files"]
    assert saved.size == sum((path / name).stat().st_size for name in files)
    assert 0 <= saved.waited <= saved.held <= saved.seconds


def test_a_second_save_waits_for_the_first(start, told):
    """One snapshot exists at a time: the second save holds the thread until the first is done."""
    checkpoints, gate = start(), Gate()
    weight = torch.zeros(100)
    first = checkpoints.save(contents(model={"w": weight}, state=gate), step=1, best=None)
    assert gate.reached.wait(10)
    threading.Timer(0.1, gate.opened.set).start()
    weight += 1
    second = checkpoints.save(contents(model={"w": weight}), step=2, best=None)
    assert first.is_dir()
    assert checkpoints.wait(10)
    assert [saved.waited > 0.05 for saved in told.saved] == [False, True]
    assert load_checkpoint(first, device=CPU).model["w"].unique().tolist() == [0]
    assert load_checkpoint(second, device=CPU).model["w"].unique().tolist() == [1]


def test_long_waits_are_told_once(start, caplog):
    """A disk that cannot keep up is named, not only suffered."""
    checkpoints = start()
    with caplog.at_level(logging.WARNING, "runtime"):
        for step in (1, 2, 3):
            gate = Gate()
            checkpoints.save(contents(state=gate), step=step, best=None)
            if step < 3:
                threading.Timer(1.1, gate.opened.set).start()
            gate.opened.set() if step == 3 else None
    assert [r.getMessage().startswith("training waited 1.") for r in caplog.records] == [True]


def test_synchronous(start, told):
    """Without a thread the checkpoint is there when `save` returns."""
    checkpoints = start(asynchronous=False)
    path = checkpoints.save(contents(), step=1, best=None)
    verify(path)
    assert told.threads == {threading.main_thread()}
    assert checkpoints.wait(0)


def test_closing_ends_the_thread_and_saving_begins_anew(start):
    """No thread is left behind by training, and a second training can save."""
    before = set(threading.enumerate())
    checkpoints = start()
    for step in (1, 2):
        path = checkpoints.save(contents(), step=step, best=None)
        [thread] = set(threading.enumerate()) - before
        assert checkpoints.close(10)
        thread.join(10)
        assert not thread.is_alive()
        verify(path)


def test_waiting_inside_complete(tmp_path):
    """The writer does not wait for itself."""
    answers = []
    checkpoints = Checkpoints(
        tmp_path,
        limit=None,
        asynchronous=True,
        complete=lambda _: answers.append(checkpoints.wait()),
        failed=lambda _, error: answers.append(error),
    )
    checkpoints.save(contents(), step=1, best=None)
    assert checkpoints.close(10)
    assert answers == [True]


def test_complete_that_fails(tmp_path, caplog):
    """What goes wrong in telling is logged; the checkpoint stands and the next one is saved."""

    def complete(_):
        raise RuntimeError("nobody listens")

    checkpoints = Checkpoints(
        tmp_path, limit=1, asynchronous=True, complete=complete, failed=lambda *_: None
    )
    for step in (1, 2):
        checkpoints.save(contents(), step=step, best=None)
    assert checkpoints.close(10)
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint-2"]
    assert caplog.text.count("RuntimeError: nobody listens") == 2


class TestFailures:
    """A save that fails is told and leaves nothing; the ones before it and after it stand."""

    @pytest.mark.parametrize("asynchronous", [True, False])
    @pytest.mark.parametrize("part", ["state", "extras"])
    def test_user_code(self, start, told, tmp_path, part, asynchronous):
        def broken(*_):
            raise ZeroDivisionError("in user code")

        checkpoints = start(asynchronous=asynchronous)
        checkpoints.save(contents(), step=1, best=None)
        checkpoints.save(contents(**{part: broken}), step=2, best=None)
        checkpoints.save(contents(), step=3, best=None)
        assert checkpoints.wait(10)
        [(name, error)] = told.failed
        assert name == "checkpoint-2"
        assert isinstance(error, ZeroDivisionError)
        assert [saved.step for saved in told.saved] == [1, 3]
        assert {each.name for each in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-3"}

    def test_a_file_in_the_way(self, start, told, tmp_path):
        """The output directory is a file."""
        (tmp_path / "out").write_text("")
        checkpoints = start(tmp_path / "out")
        checkpoints.save(contents(), step=1, best=None)
        assert checkpoints.wait(10)
        [(_, error)] = told.failed
        assert isinstance(error, NotADirectoryError)

    def test_replacing_fails(self, start, told, tmp_path):
        """The older checkpoint of the same step stands when the newer one cannot be written."""
        checkpoints = start()
        checkpoints.save(contents(model={"w": torch.ones(2)}), step=1, best=None)
        checkpoints.save(contents(extras=lambda _: 1 / 0), step=1, best=None)
        assert checkpoints.wait(10)
        assert len(told.failed) == 1
        loaded = load_checkpoint(tmp_path / "checkpoint-1", device=CPU)
        assert loaded.model["w"].tolist() == [1, 1]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("scenario", "error"),
        [
            ("no_room_for_weights", "OSError.*model.safetensors.*No space left"),
            ("no_room_for_the_optimizer", "OSError.*No space left"),
            ("read_only", "OSError.*Read-only"),
        ],
    )
    def test_disks(self, on_failing_disks, scenario, error):
        """A full and a read-only disk are told; training goes on and saves again later."""
        said = on_failing_disks[scenario]
        [(name, failure)] = said["failed"]
        assert name == "checkpoint-2"
        assert re.match(error, failure)
        assert said["after_failure"] == ["checkpoint-1"]
        assert said["at_the_end"] == ["checkpoint-1", "checkpoint-3"]


@pytest.fixture(scope="session")
def namespace():
    """The command that gives a child mounts of its own, or a skip with the reason."""
    unshare = shutil.which("unshare")
    ways = ((unshare, "--mount"), (unshare, "--mount", "--user", "--map-root-user"))
    for way in ways if unshare else ():
        probe = [*way, "sh", "-c", "mount -t tmpfs tmpfs /mnt && umount /mnt"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:  # noqa: S603 - fixed
            return way
    pytest.skip("no mount namespace may be made here")


@pytest.fixture(scope="session")
def on_failing_disks(namespace, tmp_path_factory):
    """What happened in each scenario of the script beside this file."""
    script = Path(__file__).with_name("checkpoint_disk_child.py")
    done = subprocess.run(  # noqa: S603 - our own script
        [*namespace, sys.executable, script, tmp_path_factory.mktemp("disks")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestLeftovers:
    """What a process that is gone has left is cleared; what belongs to a living one is not."""

    @pytest.fixture
    def gone(self):
        """The mark of a process of this machine that has ended."""
        with subprocess.Popen(["true"]) as process:  # noqa: S607 - whichever there is
            started = process_started(process.pid) or 1
        return f"{os.uname().nodename}.{process.pid}-{started}"

    def test_of_the_dead(self, start, tmp_path, gone):
        (tmp_path / f".checkpoint-5.{gone}.tmp").mkdir()
        (tmp_path / f".checkpoint-5.{gone}.tmp" / "optimizer.pt").write_text("half")
        start()
        assert not list(tmp_path.iterdir())

    def test_of_the_living(self, start, tmp_path):
        mark = f"{os.uname().nodename}.{os.getppid()}-{process_started(os.getppid())}"
        (tmp_path / f".checkpoint-5.{mark}.tmp").mkdir()
        start()
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize(("hours", "left"), [(1, 1), (25, 0)])
    def test_of_another_machine(self, start, tmp_path, hours, left):
        """Nobody can ask there, so a day without a change counts as the end."""
        path = tmp_path / ".checkpoint-5.elsewhere.example.org.71-9000.tmp"
        path.mkdir()
        past = path.stat().st_mtime - 3600 * hours
        os.utime(path, (past, past))
        start()
        assert len(list(tmp_path.iterdir())) == left

    def test_half_replaced(self, start, tmp_path, gone, caplog):
        """Killed between the two renames, the older checkpoint gets its name back."""
        path = start().save(contents(), step=5, best=None)
        start().save(contents(), step=6, best=None)
        for each in (5, 6):
            while not (tmp_path / f"checkpoint-{each}").exists():
                threading.Event().wait(0.005)
        path.rename(tmp_path / f".checkpoint-5.{gone}.old")
        shutil.copytree(tmp_path / "checkpoint-6", tmp_path / f".checkpoint-6.{gone}.old")
        start()
        assert sorted(each.name for each in tmp_path.iterdir()) == ["checkpoint-5", "checkpoint-6"]
        verify(path)
        assert "checkpoint-5 was being replaced" in caplog.text

    def test_other_names_stay(self, start, tmp_path):
        (tmp_path / ".checkpoint-5.mine").mkdir()
        (tmp_path / ".ipynb_checkpoints").mkdir()
        start()
        assert len(list(tmp_path.iterdir())) == 2

"""Which run a process works on: new ones, numbered ones, resumed ones, and runs without a disk."""

import contextlib
import json
import logging
import os
import threading

import pytest

from bus import (
    JournalReader,
    MetricsLogged,
    RunInfo,
    RunNotFoundError,
    RunStarted,
    find_run,
    run_state,
)
from bus.testing import JournalAsserter
from runtime import Run
from runtime._identity import facts, restarted


def started(run):
    return JournalAsserter(run.dir).begins().of(RunStarted)[-1]


def warnings_of(caplog):
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


class TestNames:
    def test_name_is_the_folder(self, new_run, runs):
        """A run lives in a folder of its name; a second one of the name in name-2, and so on."""
        first, second, third = (new_run("gpt") for _ in range(3))

        assert [run.name for run in (first, second, third)] == ["gpt", "gpt-2", "gpt-3"]
        assert [run.dir for run in (first, second)] == [runs / "gpt", runs / "gpt-2"]
        assert len({run.id for run in (first, second, third)}) == 3
        assert find_run("gpt", runs) == third.dir

    @pytest.mark.parametrize(
        ("name", "folder"),
        [
            ("a/b", "a-b"),
            ("../../etc", "-..-etc"),
            (" spaced name ", "spaced-name"),
            (".hidden", "hidden"),
            ("größe", "größe"),
            ("nul\0nul", "nul-nul"),
            ("lr=3e-4+warmup@v1.2", "lr=3e-4+warmup@v1.2"),
            ("x" * 300, "x" * 80),
        ],
        ids=lambda text: text[:20],
    )
    def test_odd_names(self, new_run, runs, name, folder):
        """A name never leaves the folder of runs; what no folder can be called is replaced."""
        run = new_run(name)

        assert run.dir.parent == runs
        assert run.name == folder
        assert (runs / folder / "run.json").exists()

    @pytest.mark.parametrize("name", ["", " ", ".", "..", "/", "---", "\0"], ids=repr)
    def test_bad_names(self, new_run, runs, name):
        """A name of which nothing is left is refused, and nothing is made."""
        with pytest.raises(ValueError, match="cannot be a run's name"):
            new_run(name)

        assert not runs.exists()

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"from_step": -1}, ValueError, "from_step=-1"),
            ({"close_timeout": -1}, ValueError, "close_timeout=-1"),
            ({"flush_interval": 0}, ValueError, "flush_interval=0"),
            ({"durability": "disk"}, ValueError, "durability='disk'"),
            ({"on_full": "raise"}, ValueError, "on_full='raise'"),
            ({"fsync": 0}, ValueError, "fsync=0"),
            ({"config": 5}, TypeError, "int"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_bad_arguments(self, new_run, runs, options, error, message):
        """Construction refuses what is out of range before anything is made or started."""
        threads = threading.active_count()
        with pytest.raises(error, match=message):
            new_run(**options)

        assert not runs.exists()
        assert threading.active_count() == threads


class TestRunJson:
    def test_content(self, new_run):
        """run.json identifies the run and each process that worked on it, and how it ended."""
        run = new_run("gpt", project="demo")
        before = json.loads((run.dir / "run.json").read_text())
        run.close()
        after = json.loads((run.dir / "run.json").read_text())

        assert before["id"] == run.id
        assert (before["name"], before["project"]) == ("gpt", "demo")
        (attempt,) = before["attempts"]
        assert (attempt["number"], attempt["pid"]) == (1, os.getpid())
        assert attempt["outcome"] is None
        assert attempt["ended"] is None
        assert after["attempts"][0]["outcome"] == "finished"
        assert after["attempts"][0]["ended"] >= attempt["started"] >= before["created"]

    def test_facts(self, new_run):
        """The first event says with what and where the run was made."""
        run = new_run("gpt", project="demo", config={"lr": 3e-4, "layers": [1, 2]})
        run.close()
        event = started(run)

        assert (event.name, event.project, event.run_id) == ("gpt", "demo", run.id)
        assert (event.attempt, event.previous_outcome, event.resumed_from_step) == (1, None, None)
        assert event.config == {"lr": 3e-4, "layers": [1, 2]}
        assert event.facts["pid"] == os.getpid()
        assert {"python", "torch", "host", "platform", "command", "folder"} <= set(event.facts)
        assert facts()["python"] == event.facts["python"]

    def test_deleted_under_the_run(self, new_run, logged):
        """A run.json that disappears is written again at the end; nothing else is disturbed."""
        run = new_run()
        run.log({"loss": 0.5}, step=1)
        (run.dir / "run.json").unlink()
        run.close()

        info = RunInfo.load(run.dir)
        assert (info.id, info.attempts[0].outcome) == (run.id, "finished")
        assert logged(run.dir) == [(1, {"loss": 0.5})]

    def test_what_others_wrote_is_kept(self, new_run):
        """Somebody gives the run another project meanwhile; closing leaves that there."""
        run = new_run()
        info = RunInfo.load(run.dir)
        info.project = "another"
        info.save(run.dir)
        run.close()

        assert RunInfo.load(run.dir).project == "another"
        assert run_state(run.dir) == "finished"

    def test_an_attempt_that_others_removed(self, new_run):
        """If run.json was put back to an older state meanwhile, the end is still recorded."""
        run = new_run()
        info = RunInfo.load(run.dir)
        info.attempts.clear()
        info.save(run.dir)
        run.close("stopped")

        (attempt,) = RunInfo.load(run.dir).attempts
        assert (attempt.number, attempt.outcome) == (1, "stopped")

    def test_error_texts_of_any_kind_are_stored(self, new_run):
        """An error message with lone surrogates does not keep the end from being written."""
        run = new_run()
        run.close(error=ValueError("broken \ud800 text"))

        assert RunInfo.load(run.dir).attempts[0].error == "ValueError: broken \ufffd text"
        assert run_state(run.dir) == "failed"


class TestResume:
    def test_none_makes_a_new_run(self, new_run):
        """Without being asked to, nothing is resumed."""
        new_run("gpt").close()

        assert new_run("gpt").name == "gpt-2"

    def test_auto_goes_on_with_the_newest(self, new_run):
        """ "auto" finds gpt-2, keeps its identity and counts the attempt."""
        first, second = new_run("gpt"), new_run("gpt")
        first.close()
        second.close()
        resumed = new_run("gpt", resume="auto", from_step=10)
        resumed.close()
        event = started(resumed)

        assert (resumed.dir, resumed.id, resumed.attempt) == (second.dir, second.id, 2)
        assert resumed.resumed
        assert (event.attempt, event.previous_outcome) == (2, "finished")
        assert event.resumed_from_step == 10
        assert [each.number for each in RunInfo.load(second.dir).attempts] == [1, 2]
        assert RunInfo.load(second.dir).attempts[1].resumed_from_step == 10

    def test_auto_without_a_run_makes_one(self, new_run):
        """The first start of a job may say "auto", too; nothing was resumed from a step then."""
        run = new_run("gpt", resume="auto", from_step=10)
        run.close()

        assert (run.name, run.attempt, run.resumed) == ("gpt", 1, False)
        assert started(run).resumed_from_step is None
        assert RunInfo.load(run.dir).attempts[0].resumed_from_step is None

    @pytest.mark.parametrize("as_text", [False, True])
    def test_path(self, new_run, as_text):
        """A path goes on with that run, whatever its name and however many newer ones there are."""
        first = new_run("gpt")
        first.close()
        new_run("gpt").close()
        resumed = new_run("anything", resume=str(first.dir) if as_text else first.dir)

        assert (resumed.dir, resumed.name, resumed.id) == (first.dir, "gpt", first.id)

    def test_path_without_a_run(self, new_run, runs):
        """A path that holds no run is an error that names the path and what is missing."""
        runs.mkdir()
        with pytest.raises(RunNotFoundError, match="there is no such folder") as raised:
            new_run(resume=runs / "nothing")
        with pytest.raises(RunNotFoundError, match=r"there is no run\.json in it"):
            new_run(resume=runs)

        assert raised.value.path == runs / "nothing"
        assert str(runs / "nothing") in str(raised.value)

    def test_a_damaged_run_is_not_resumed_by_itself(self, new_run, caplog):
        """With "auto" a run.json that cannot be read costs a warning, not the training."""
        broken = new_run("gpt")
        broken.close()
        (broken.dir / "run.json").write_text("{")
        run = new_run("gpt", resume="auto")

        assert run.name == "gpt-2"
        assert "cannot be resumed" in warnings_of(caplog)[0]
        with pytest.raises(RunNotFoundError, match="cannot be read"):
            new_run(resume=broken.dir)

    def test_from_step_supersedes(self, new_run):
        """What earlier attempts logged beyond the checkpoint's step is left out by readers."""
        run = new_run("gpt")
        for step in range(1, 6):
            run.log({"loss": float(step)}, step=step)
        run.close()
        again = new_run("gpt", resume="auto", from_step=3)
        for step in range(4, 7):
            again.log({"loss": float(10 * step)}, step=step)
        again.close()

        reader = JournalReader(run.dir)
        current = [(r.attempt, r.event.step) for r in reader.records(types=(MetricsLogged,))]
        everything = list(reader.records(types=(MetricsLogged,), superseded=True))
        assert current == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
        assert len(everything) == 8

    def test_each_attempts_outcome_is_the_next_ones_previous(self, new_run):
        """Attempts are numbered, and each begins by saying how the one before ended."""
        outcomes = ["failed", "stopped", "preempted", "finished"]
        new_run("gpt").close("failed")
        for number, outcome in enumerate(outcomes[1:], start=2):
            run = new_run("gpt", resume="auto")
            assert run.attempt == number
            run.close(outcome)

        events = JournalAsserter(run.dir).begins().unbroken().of(RunStarted)
        assert [each.previous_outcome for each in events] == [None, *outcomes[:-1]]
        assert [each.attempt for each in events] == [1, 2, 3, 4]
        assert [a.outcome for a in JournalReader(run.dir).attempts] == outcomes

    def test_attempts_are_counted_by_their_files_too(self, new_run):
        """If run.json lost an attempt, its journal still keeps its number from being reused."""
        first = new_run("gpt")
        first.close()
        new_run("gpt", resume="auto").close()
        info = RunInfo.load(first.dir)
        del info.attempts[1]
        info.save(first.dir)

        assert new_run("gpt", resume="auto").attempt == 3

    def test_still_running(self, new_run, caplog):
        """Resuming a run that is open elsewhere is allowed; a warning names the process."""
        run = new_run("gpt")
        again = new_run("gpt", resume="auto")
        again.close()
        run.close()

        (warning,) = warnings_of(caplog)
        assert "seems to be running still" in warning
        assert str(os.getpid()) in warning
        attempts = RunInfo.load(run.dir).attempts
        assert [each.outcome for each in attempts] == ["finished", "finished"]

    @pytest.mark.parametrize(
        ("environment", "expected"),
        [
            ({}, False),
            ({"TORCHELASTIC_RESTART_COUNT": "0"}, False),
            ({"TORCHELASTIC_RESTART_COUNT": ""}, False),
            ({"TORCHELASTIC_RESTART_COUNT": "2"}, True),
            ({"SLURM_RESTART_COUNT": "1"}, True),
            ({"TORCHELASTIC_RESTART_COUNT": "0", "SLURM_RESTART_COUNT": "1"}, True),
        ],
        ids=str,
    )
    def test_launchers_restarts(self, environment, expected):
        """torchrun and SLURM say by a count above 0 that they started the job again."""
        assert restarted(environment) is expected


class TestWithoutADisk:
    def test_a_folder_that_cannot_be_made(self, tmp_path, caplog):
        """Training goes on in memory, warnings say where and why, closing does not hang."""
        (tmp_path / "file").write_text("in the way")
        with Run("gpt", dir=tmp_path / "file" / "runs", close_timeout=1) as run:
            for step in range(10):
                run.log({"loss": 0.5}, step=step)
                assert not run.safe_point(step).stop

        said = warnings_of(caplog)
        assert "cannot be made" in said[0]
        assert str(tmp_path / "file" / "runs") in said[0]
        assert run.name == "gpt"
        assert run.statistics().journalled == 0
        assert run.statistics().disk_error is not None

    def test_a_file_system_that_refuses(self, caplog):
        """The same on a file system without room for files."""
        with Run("gpt", dir="/proc/self/runs", close_timeout=1) as run:
            run.log({"loss": 0.5}, step=1)

        assert "cannot be made" in warnings_of(caplog)[0]

    def test_the_disk_comes_back(self, tmp_path, logged):
        """Events kept in memory are written once the folder can be made."""
        obstacle = tmp_path / "runs"
        obstacle.write_text("in the way")
        with Run("gpt", dir=obstacle) as run:
            run.log({"loss": 0.5}, step=1)
            run.flush(0.2)
            obstacle.unlink()
            run.log({"loss": 0.25}, step=2)

        assert logged(run.dir) == [(1, {"loss": 0.5}), (2, {"loss": 0.25})]
        assert RunInfo.load(run.dir).attempts[0].outcome == "finished"

    def test_the_whole_folder_is_deleted(self, new_run, caplog):
        """A run whose folder disappears goes on in a new one, with a gap for what was in it."""
        run = new_run()
        run.log({"loss": 0.5}, step=1)
        assert run.flush()
        for path in sorted(run.dir.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        run.dir.rmdir()
        run.log({"loss": 0.25}, step=2)
        run.close()

        assert run.dir.is_dir()
        assert run_state(run.dir) == "finished"
        assert run.statistics().dropped == {"journal deleted": 2}
        assert any("deleted" in line for line in warnings_of(caplog))


class TestSeveralAtOnce:
    def test_in_one_process(self, new_run, logged):
        """Runs do not know each other: events, steps, requests and ends are their own."""
        several = [new_run(f"run{number}") for number in range(5)]
        for step in range(100):
            for number, run in enumerate(several):
                run.log({"value": float(number)}, step=step)
        several[2].close("failed")
        for number, run in enumerate(several):
            run.close()
            assert logged(run.dir) == [(step, {"value": float(number)}) for step in range(100)]

        states = [run_state(run.dir) for run in several]
        assert states == ["finished", "finished", "failed", "finished", "finished"]

    def test_of_one_name_from_many_threads(self, new_run, runs):
        """Simultaneous runs of one name get folders of their own."""
        gate = threading.Barrier(8)
        made = []

        def make():
            gate.wait()
            made.append(new_run("gpt"))

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        expected = {"gpt", *(f"gpt-{number}" for number in range(2, 9))}
        assert {run.dir.name for run in made} == expected
        assert len({run.id for run in made}) == 8
        with contextlib.ExitStack() as stack:
            for run in made:
                stack.callback(run.close)
        assert {path.name for path in runs.iterdir()} == expected


def test_repr_says_which_run_and_how_it_stands(new_run):
    """For people at a prompt."""
    run = new_run("gpt")
    opened = repr(run)
    run.close("failed")

    assert opened == f"<Run 'gpt' attempt 1 in {run.dir} (open)>"
    assert repr(run).endswith("(failed)>")

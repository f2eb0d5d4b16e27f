"""Runs across processes: killed ones, restarted ones, ones left open, ones that fork."""

import os
import signal

import pytest

from bus import RunInfo, RunStarted, run_state
from bus.testing import JournalAsserter

pytestmark = pytest.mark.slow

OPEN_AND_WAIT = """
import signal, sys, runtime
run = runtime.Run("gpt", dir=sys.argv[1])
for step in range(1, 6):
    run.log({"loss": float(step)}, step=step)
run.flush()
print("ready", flush=True)
signal.pause()
"""


def test_a_killed_process(start_program, new_run, runs, logged, caplog):
    """While it lives, resuming warns of it; once it is killed, its attempt counts as crashed."""
    process = start_program(OPEN_AND_WAIT, str(runs))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    folder = runs / "gpt"
    alive = run_state(folder)
    new_run("gpt", resume="auto", from_step=5).close()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    info = RunInfo.load(folder)
    info.attempts.pop()
    info.save(folder)
    killed = run_state(folder)
    run = new_run("gpt", resume="auto", from_step=3)
    run.log({"loss": 40.0}, step=4)
    run.close()

    assert (alive, killed) == ("running", "crashed")
    warnings = [each.getMessage() for each in caplog.records if "running still" in each.message]
    assert len(warnings) == 1
    assert f"process {process.pid}" in warnings[0]
    event = JournalAsserter(folder).of(RunStarted)[-1]
    assert (event.previous_outcome, event.resumed_from_step, event.attempt) == ("crashed", 3, 3)
    assert [a.outcome for a in RunInfo.load(folder).attempts] == ["crashed", "finished"]
    losses = [(step, metrics["loss"]) for step, metrics in logged(folder)]
    assert losses == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]


def test_a_launchers_restart(run_program, runs):
    """A job that torchrun or SLURM starts again goes on with its run, if it had made one."""
    program = """
import os, sys, runtime
restart = "TORCHELASTIC_RESTART_COUNT"
for name, value in [("SLURM_RESTART_COUNT", "1"), (restart, "2"), (restart, "0"), (restart, "1")]:
    os.environ.pop("SLURM_RESTART_COUNT", None)
    os.environ[name] = value
    with runtime.Run("gpt", dir=sys.argv[1]) as run:
        print(run.dir.name, run.attempt)
"""
    done = run_program(program, str(runs))

    assert done.out.splitlines() == ["gpt 1", "gpt 2", "gpt-2 1", "gpt-2 2"]
    assert done.err == ""


def test_left_open_by_an_error(run_program, runs, logged):
    """A run nobody closes is closed at exit: everything is written, the error that ended it too."""
    program = """
import sys, runtime
run = runtime.Run("gpt", dir=sys.argv[1], flush_interval=60)
for step in range(100):
    run.log({"loss": 1.0}, step=step)
raise ValueError("loss exploded")
"""
    done = run_program(program, str(runs), check=False)

    assert done.code == 1
    assert done.err.rstrip().endswith("ValueError: loss exploded")
    assert len(logged(runs / "gpt")) == 100
    assert RunInfo.load(runs / "gpt").attempts[0].error == "ValueError: loss exploded"
    JournalAsserter(runs / "gpt").complete().ends("failed")


def test_forked_children(run_program, runs, logged):
    """A forked child warns once and leaves the run alone; the parent's is closed at its exit."""
    program = """
import os, sys, runtime
run = runtime.Run("gpt", dir=sys.argv[1])
run.log({"loss": 1.0}, step=1)
run.flush()
child = os.fork()
if not child:
    run.log({"loss": 2.0}, step=2)
    run.log({"loss": 3.0}, step=3)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
run.log({"loss": 4.0}, step=4)
sys.exit(0)
"""
    done = run_program(program, str(runs))

    assert logged(runs / "gpt") == [(1, {"loss": 1.0}), (4, {"loss": 4.0})]
    JournalAsserter(runs / "gpt").complete().ends("finished")
    assert done.err.count("in a forked child") == 1


KEY = "s3cr3t-0123456789"


def test_odd_places_and_secret_arguments(run_program, runs, tmp_path):
    """A repository without commits, a deleted working folder, keys on the command line: no harm."""
    place = tmp_path / "place"
    place.mkdir()
    program = """
import os, shutil, subprocess, sys, runtime
subprocess.run(["git", "init", "--quiet"], check=True)
with runtime.Run("gpt", dir=sys.argv[1]) as run:
    run.log({"loss": 1.0}, step=1)
shutil.rmtree(os.getcwd())
with runtime.Run("gpt", dir=sys.argv[1]) as run:
    run.log({"loss": 1.0}, step=1)
"""
    arguments = [
        *("--api-key", KEY, "--wandb-api-key=" + KEY, f"HF_TOKEN={KEY}", "--lr", "0.1"),
        *(f"--database=postgres://me:{KEY}@db/x", f"https://user:{KEY}@example.org"),
    ]
    done = run_program(program, str(runs), *arguments, cwd=place)
    first = JournalAsserter(runs / "gpt").complete().of(RunStarted)[0].facts
    second = JournalAsserter(runs / "gpt-2").complete().of(RunStarted)[0].facts

    assert (first["git_commit"], first["folder"]) == (None, str(place))
    assert second["folder"] is None
    for path in [p for p in runs.rglob("*") if p.is_file()]:
        assert KEY not in path.read_text(), path
    assert KEY not in done.out + done.err
    assert {str(runs), "--lr", "0.1"} <= set(first["command"])

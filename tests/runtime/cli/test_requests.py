"""`hotloop stop` and `hotloop save`: what they ask, and what they say when nobody answers."""

import getpass
import os
import signal
import socket
import subprocess

import pytest

from bus import DecisionApplied, JournalReader, RunInfo
from tests.waiting import HANG

TRAINING = """
import sys, time
from runtime import Run
with Run("gpt", dir="runs") as run:
    print("ready", flush=True)
    step = 0
    while True:
        time.sleep(0.002)
        step += 1
        decision = run.safe_point(step)
        if decision.save:
            run.log({"saved": 1.0}, step=step)
        if decision.stop:
            break
"""


@pytest.fixture
def training(interpreter, tmp_path, environment, monkeypatch):
    """A loop in a process of its own, in runs/gpt; killed at the end if it still runs."""
    monkeypatch.chdir(tmp_path)
    program = {"env": environment, "cwd": tmp_path, "stdout": subprocess.PIPE}
    with interpreter.start(["-c", TRAINING], **program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def decisions(run_dir) -> list[tuple[object, str, str]]:
    records = JournalReader(run_dir).records(types=(DecisionApplied,))
    return [(r.event.request["type"], r.event.by, r.event.reason) for r in records]


@pytest.mark.slow
def test_a_training_saves_and_stops(tmp_path, training, start):
    """From another terminal; the journal and run.json say who asked and why."""
    for arguments in (["save", "gpt"], ["stop", "gpt", "--reason", "dinner"]):
        command = start(arguments)
        stdout, stderr = command.communicate(timeout=60)
        assert (command.returncode, stderr) == (0, "")
        assert f"has taken the request: {arguments[0]}" in stdout
    assert training.wait(4 * HANG) == 0
    me, run_dir = f"{getpass.getuser()}@{socket.gethostname()}", tmp_path / "runs" / "gpt"
    assert decisions(run_dir) == [("save", me, ""), ("stop", me, "dinner")]
    last = RunInfo.load(run_dir).attempts[-1]
    assert (last.outcome, last.reason) == ("stopped", f"{me}: dinner")


@pytest.mark.slow
def test_a_process_that_does_not_look(tmp_path, training, invoke):
    """A request that nobody takes is said to lie there, with the process that should."""
    training.send_signal(signal.SIGSTOP)
    result = invoke("stop", "gpt", "--timeout", "0.2")
    assert result.exit_code == 1
    assert f"has not taken the request within 0.2 s; is its process ({training.pid} on" in (
        result.stderr
    )
    file = tmp_path / result.stderr.strip().rpartition("rm ")[2]
    assert file.is_file()
    training.send_signal(signal.SIGCONT)
    assert training.wait(4 * HANG) == 0  # it still was a request
    assert not file.exists()


def test_without_waiting(folder, invoke):
    """The request lies there, and the command says where."""
    folder.attempt(1)
    result = invoke("save", "gpt", "--no-wait")
    assert result.exit_code == 0
    (file,) = (folder.path / "mailbox").iterdir()
    assert result.stdout == f"runs/gpt: the request lies in runs/gpt/mailbox/{file.name}\n"


@pytest.mark.parametrize("command", ["stop", "save"])
@pytest.mark.parametrize("outcome", ["finished", "failed", "stopped", "preempted", "crashed"])
def test_a_run_that_has_ended(folder, invoke, command, outcome):
    """There is nothing to ask any more, and nothing is left for a later attempt to find."""
    folder.attempt(1, outcome=outcome)
    result = invoke(command, "gpt")
    assert result.exit_code == 1
    assert outcome in result.stderr
    assert not (folder.path / "mailbox").exists()


def test_a_run_whose_process_is_gone(folder, invoke):
    """It has crashed, and the message says which process that was."""
    folder.attempt(1, pid=2**22 + 1, process_started=1)
    result = invoke("stop", "gpt")
    assert result.exit_code == 1
    assert f"has crashed: its process ({2**22 + 1} on" in result.stderr


def test_no_run(folder, invoke):
    """What is not there is wrong usage, as everywhere; so is a folder without an identity."""
    assert invoke("stop", "gtp").exit_code == 2
    (folder.path / "run.json").unlink()
    result = invoke("stop", "gpt")
    assert result.exit_code == 2
    assert "is not a run" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read(folder, invoke):
    """The request of somebody who may only look is refused with the system's words."""
    folder.attempt(1)
    folder.path.chmod(0o500)
    result = invoke("stop", "gpt")
    folder.path.chmod(0o700)
    assert result.exit_code == 1
    assert "cannot be written to: Permission denied" in result.stderr

"""The command as a process of its own beside a real run: following, interruptions, pipes."""

import shlex
import signal
import subprocess
import sys

import orjson
import pytest

from bus import MetricsLogged
from runtime import Run

pytestmark = pytest.mark.slow

# What measures coverage takes a lock in Python at every call, and a KeyboardInterrupt between
# taking and releasing it keeps it for ever.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}


@pytest.fixture
def output(tmp_path):
    """A file that takes a process's output, so that it can be looked at meanwhile."""
    with (tmp_path / "output").open("w") as file:
        yield file


class TestFollow:
    def test_shows_events_as_they_come_and_ends_with_the_run(
        self, start, tmp_path, output, eventually
    ):
        """What is logged appears, types not asked for do not, and the run's end ends it."""
        shown = tmp_path / "output"
        with Run(name="gpt", dir=tmp_path / "runs") as run:
            run.log({"loss": 3.0}, step=1)
            process = start(["tail", "gpt", "-f", "-t", "metrics_logged"], stdout=output)
            eventually(lambda: "loss=3" in shown.read_text())
            run.message("not asked for")
            run.log({"loss": 2.0}, step=2)
            eventually(lambda: "loss=2" in shown.read_text())
            assert process.poll() is None
            run.log({"loss": 1.0}, step=3)
        assert process.wait(15) == 0
        lines = shown.read_text().splitlines()
        assert [line.rsplit("loss=")[1] for line in lines] == ["3", "2", "1"]

    def test_shows_a_resumed_attempt_from_its_beginning(self, start, tmp_path, output, eventually):
        """Following goes over from one attempt to the next while the run goes on."""
        shown = tmp_path / "output"
        with Run(name="gpt", dir=tmp_path / "runs") as run:
            run.log({"loss": 3.0}, step=1)
        with Run(name="gpt", dir=tmp_path / "runs", resume="auto", from_step=1) as run:
            process = start(["tail", "gpt", "-f", "--json", "-n", "100"], stdout=output)
            eventually(lambda: '"attempt":2' in shown.read_text())
            run.log({"loss": 2.0}, step=2)
        assert process.wait(15) == 0
        read = [orjson.loads(line) for line in shown.read_text().splitlines()]
        assert [(each["attempt"], each["event"]["type"]) for each in read] == [
            (1, "run_started"),
            (1, "metrics_logged"),
            (1, "run_ended"),
            (2, "run_started"),
            (2, "metrics_logged"),
            (2, "run_ended"),
        ]

    def test_ends_at_once_when_the_run_is_over(self, start, tmp_path):
        """Following a finished run is printing it."""
        with Run(name="gpt", dir=tmp_path / "runs") as run:
            run.log({"loss": 3.0}, step=1)
        out, err = start(["tail", "gpt", "--follow"]).communicate(timeout=15)
        assert (len(out.splitlines()), err) == (3, "")

    def test_ctrl_c_ends_it_quietly_with_130(self, start, folder, output, eventually):
        """An interruption is no error to be traced."""
        folder.attempt(1)
        folder.write(MetricsLogged(step=1, metrics={"loss": 1.0}))
        process = start(["tail", "gpt", "--follow"], stdout=output, **UNMEASURED)
        eventually(lambda: "loss=1" in (folder.path.parents[1] / "output").read_text())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
        assert (process.returncode, err) == (130, "")


class TestPipes:
    @pytest.mark.parametrize(
        "arguments",
        [
            "tail gpt -n 20000",
            "tail gpt -n 20000 --follow",
            "export gpt --to csv",
            "export gpt --to jsonl",
            "status gpt --json",
            "--help",
        ],
    )
    def test_a_reader_that_has_enough_is_no_error(self, folder, environment, arguments):
        """`| head -1` gets its line; nothing is said on standard error, and all is well."""
        folder.attempt(1)
        metrics = {f"metric{number}": 1.0 for number in range(40)}
        folder.write(*(MetricsLogged(step=step, metrics=metrics) for step in range(1, 1000)))
        command = f"{shlex.quote(sys.executable)} -m runtime.cli {arguments} | head -1"
        done = subprocess.run(  # noqa: S603 - our own command
            ["/bin/bash", "-o", "pipefail", "-c", command],
            cwd=folder.path.parents[1],
            env=environment,
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("\n") == 1

    def test_a_terminal_that_cannot_show_a_character_gets_its_escape(self, folder, start):
        """An ASCII terminal is no reason to fail."""
        folder.write(MetricsLogged(step=1, metrics={"größe": 1.0}))
        out, err = start(["tail", "gpt"], PYTHONIOENCODING="ascii").communicate(timeout=15)
        assert "gr\\xf6\\xdfe=1" in out
        assert err == ""


class TestRealRun:
    def test_status_and_export_agree_with_what_was_logged(self, tmp_path, invoke, monkeypatch):
        """From `run.log` to the table: nothing lost, nothing changed."""
        monkeypatch.chdir(tmp_path)
        with Run(name="gpt", config={"lr": 0.1}) as run:
            for step in range(1, 101):
                run.log({"loss": 1 / step}, step=step)
        found = orjson.loads(invoke("status", "gpt", "--json").stdout)
        assert (found["state"], found["last_step"], found["gaps"]) == ("finished", 100, {})
        assert found["events"]["metrics_logged"] == 100
        rows = invoke("export", "gpt", "--to", "csv").stdout.splitlines()[1:]
        assert [float(row.split(",")[-1]) for row in rows] == [1 / step for step in range(1, 101)]

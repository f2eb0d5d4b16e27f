"""A real `mlflow server` on a database, and MLflow's own client to read it back."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import IO

READER = Path(__file__).with_name("mlflow_reader.py")


def environment() -> dict[str, str]:
    """Without settings of ours, which would be the server's and the client's too."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    # Seven processes that run jobs would keep two cores busy for a minute, importing.
    ours = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**kept, **ours, "PYTHONWARNINGS": "ignore"}


class RealServer:
    """`mlflow server` with its default workers, SQLite and artifacts in a folder.

    Attributes:
        url: Where it listens, also after it was started again.
    """

    def __init__(self, python: str, folder: Path, *options: str) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._python = python
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> None:
        """Start it without waiting until it answers."""
        self._log = (self.folder / "server.log").open("ab")
        # A group of its own: its workers are to die with it.
        self._process = subprocess.Popen(  # noqa: S603 - our own arguments
            [
                self._python,
                *("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)),
                *("--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"),
                *("--artifacts-destination", str(self.folder / "artifacts")),
                *self._options,
            ],
            stdout=self._log,
            stderr=self._log,
            cwd=self.folder,
            env=environment(),
            start_new_session=True,
        )

    def wait(self, seconds: float = 150.0) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer,  # noqa: S310 - ours
            ):
                if answer.status == 200:
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "server.log").read_text())

    def settle(self, seconds: float = 90.0) -> None:
        """Wait until its workers have imported what they need: until they take little CPU."""
        deadline = time.monotonic() + seconds
        spent = self._cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(2.0)
            before, spent = spent, self._cpu_seconds()
            if spent - before < 0.2:
                return

    def _cpu_seconds(self) -> float:
        assert self._process is not None
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text(errors="replace").rpartition(")")[2].split()
                if int(fields[2]) == self._process.pid:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """SIGKILL to it and its workers."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()

    def ask(self, *arguments: str) -> object:
        """Call a function of the reader with MLflow's own client; see `mlflow_reader.py`."""
        done = subprocess.run(  # noqa: S603 - our own arguments
            [self._python, str(READER), self.url, *arguments],
            capture_output=True,
            check=False,
            timeout=100,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout.decode().splitlines()[-1])

    def runs(self) -> list[dict]:
        """Every run of every experiment, as MLflow's own client reads it."""
        found = self.ask("runs")
        assert isinstance(found, list)
        return found

    def run(self, run_id: str) -> dict:
        """One run, as MLflow's own client reads it."""
        found = self.ask("run", run_id)
        assert isinstance(found, dict)
        return found

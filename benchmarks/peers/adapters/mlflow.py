"""MLflow's asynchronous logging, into SQLite directly or through a server on 127.0.0.1."""

import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import mlflow

from benchmarks.peers._records import Session


def open_sqlite(folder: Path) -> Session:
    """Open a run whose worker threads write to SQLite in this process."""
    return _open(_store(folder), folder, lambda: None)


def open_server(folder: Path) -> Session:
    """Open a run against `mlflow server`, started here with one worker and SQLite."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    options = ("--host", "127.0.0.1", "--port", port, "--workers", "1")
    command = (sys.executable, "-m", "mlflow", "server", *options)
    server = subprocess.Popen((*command, "--backend-store-uri", _store(folder)), cwd=folder)  # noqa: S603 -- fixed arguments
    url = f"http://127.0.0.1:{port}"
    _wait_until_healthy(url)
    return _open(url, folder, server.terminate)


def _open(uri: str, folder: Path, after: Callable[[], None]) -> Session:
    mlflow.set_tracking_uri(uri)
    mlflow.start_run()

    def log(scalars: dict[str, float], step: int, /) -> None:
        mlflow.log_metrics(scalars, step=step, synchronous=False)

    def close() -> None:
        mlflow.flush_async_logging()
        mlflow.end_run()
        after()

    return Session(log=log, close=close, kept=lambda: _steps(folder))


def _store(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def _steps(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        query = "select count(distinct step) from metrics where key = 'loss'"
        return int(database.execute(query).fetchone()[0])


def _wait_until_healthy(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError("mlflow server did not answer within 60 s")

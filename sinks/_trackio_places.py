"""Where Trackio's rows go: into the database on this machine, or to a server of one's own."""

import contextlib
import sqlite3
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue

from bus import MisconfiguredError, UnavailableError
from bus._worker import Worker
from sinks._files import refusals
from sinks._http import HttpClient
from sinks._libraries import library
from sinks._trackio_rows import Row, Rows


class Store(Protocol):
    """Takes rows, and knows those that it has."""

    async def open(self) -> str | None:
        """Get ready; where a person can look, if that is known."""
        ...

    async def write(self, rows: Rows) -> None:
        """Store rows; those that are there already stay as they are."""
        ...

    def end(self) -> None:
        """Nothing more comes."""
        ...


class LocalStore:
    """Trackio's database below TRACKIO_DIR, by trackio's own storage and in a thread.

    It is written as `trackio`'s own sender does, but when a batch is acknowledged it is stored,
    and each row keeps the time of its event.
    """

    def __init__(self, project: str, run: str, run_id: str) -> None:
        self._run: dict[str, str] = {"project": project, "run": run, "run_id": run_id}
        self._worker = Worker("hotloop-sink-trackio")
        self._storage: Any = None

    async def open(self) -> str | None:
        """Load trackio, and make the project if there is none of its name."""
        return await self._worker.call(self._open)

    async def write(self, rows: Rows) -> None:
        """Write rows, all of them or none of each kind."""
        await self._worker.call(self._write, rows)

    def end(self) -> None:
        """Let the thread end."""
        self._worker.end()

    def _open(self) -> str | None:
        self._storage = library("trackio.sqlite_storage", "trackio").SQLiteStorage
        try:
            self._storage.validate_project_name(self._run["project"])
        except ValueError as error:
            raise MisconfiguredError(str(error), fix="set TRACKIO_PROJECT") from error
        folder = Path(library("trackio.utils", "trackio").TRACKIO_DIR)
        with refusals(folder), _refusals(folder):
            path: Path = self._storage.init_db(self._run["project"])
        return path.as_uri()

    def _write(self, rows: Rows) -> None:
        folder = Path(library("trackio.utils", "trackio").TRACKIO_DIR)
        with refusals(folder), _refusals(folder):
            self._insert(rows)

    def _insert(self, rows: Rows) -> None:
        if rows.metrics:
            self._storage.bulk_log(
                **self._run,
                **_columns(rows.metrics),
                steps=[row.step for row in rows.metrics],
                config=rows.config,
            )
        if rows.system:
            self._storage.bulk_log_system(**self._run, **_columns(rows.system))
        if rows.alerts:
            self._storage.bulk_alert(
                **self._run,
                titles=[alert.title for alert in rows.alerts],
                texts=[alert.text for alert in rows.alerts],
                levels=[alert.level for alert in rows.alerts],
                steps=[alert.step for alert in rows.alerts],
                timestamps=[alert.time for alert in rows.alerts],
                alert_ids=[alert.id for alert in rows.alerts],
            )


@contextlib.contextmanager
def _refusals(folder: Path) -> Generator[None]:
    """Tell what SQLite's errors mean for a delivery.

    Raises:
        UnavailableError: The database is locked, or has no space.
        MisconfiguredError: The file is damaged, or no database.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UnavailableError(f"trackio's database in {folder} refuses: {error}") from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # a row that cannot be: a bug
            raise
        raise MisconfiguredError(
            f"trackio's database in {folder} cannot be used: {error}",
            fix="move it away, or let TRACKIO_DIR name another folder",
        ) from error


class ServerStore:
    """A Trackio server of one's own, which keeps times of the machine's numbers and of alerts.

    Rows of metrics get the time at which they arrive; the server takes no other.
    """

    def __init__(self, http: HttpClient, url: str, project: str, run: str, run_id: str) -> None:
        self._http = http
        self._url = url
        self._run: dict[str, JsonValue] = {"project": project, "run": run, "run_id": run_id}

    async def open(self) -> str | None:
        """Nothing to do before the first rows."""
        return self._url

    async def write(self, rows: Rows) -> None:
        """Post each kind of rows."""
        logs: list[dict[str, JsonValue]] = [
            {"step": row.step, "metrics": {**row.metrics}, "log_id": row.id} for row in rows.metrics
        ]
        if rows.config is not None:
            logs[0]["config"] = rows.config
        await self._post("bulk_log", "logs", logs)
        system: list[dict[str, JsonValue]] = [
            {"timestamp": row.time, "metrics": {**row.metrics}, "log_id": row.id}
            for row in rows.system
        ]
        await self._post("bulk_log_system", "logs", system)
        alerts: list[dict[str, JsonValue]] = [
            {
                "title": alert.title,
                "text": alert.text,
                "level": alert.level,
                "step": alert.step,
                "timestamp": alert.time,
                "alert_id": alert.id,
            }
            for alert in rows.alerts
        ]
        await self._post("bulk_alert", "alerts", alerts)

    def end(self) -> None:
        """The client is the sink's."""

    async def _post(self, call: str, field: str, entries: Sequence[dict[str, JsonValue]]) -> None:
        if entries:
            found: list[JsonValue] = [{**self._run, **entry} for entry in entries]
            body: JsonValue = {field: found, "hf_token": None}
            await self._http.post(f"{self._url}/api/{call}", json=body)


def _columns(rows: Sequence[Row]) -> dict[str, object]:
    return {
        "metrics_list": [row.metrics for row in rows],
        "timestamps": [row.time for row in rows],
        "log_ids": [row.id for row in rows],
    }

"""A run that dies, goes on and ends, delivered to a tool on this machine and read back by it.

Usage: `python -m tests.vendors.local_tools TOOL`, in a folder that the tool takes for its own,
under an interpreter that has the tool and what ours needs. Prints what the tool's reader finds.
"""

import csv
import importlib
import json
import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bus import (
    AlertRaised,
    CheckpointSaved,
    Evaluated,
    Event,
    MetricsLogged,
    ParametersLogged,
    Sink,
    SystemMetricsLogged,
    sync_run,
)
from tests.servers.journals import QUICK, write_attempt

CONFIG = {"lr": 3e-4, "opt": {"name": "adam", "betas": [0.9, 0.99]}, "none": None}
DVC = f"{sys.executable} -m dvc"
NOON = 1_790_000_000.0


def metrics(first: int, last: int, **more: float) -> list[Event]:
    """A second and a step between any two."""
    return [
        MetricsLogged(time=NOON + n, step=n, metrics={"loss": 1 / n, **more})
        for n in range(first, last + 1)
    ]


def deliver(run_dir: Path, sink: Sink) -> None:
    """As a process of its own would."""
    (account,) = sync_run(run_dir, [sink], pace=QUICK)
    assert (account.complete, account.dead) == (True, 0), account


def live_and_die(make: Callable[[], Sink]) -> Path:
    """Deliver the first half, then the second twice, as after a crash; resume, and end well."""
    run_dir, cursors = Path("run"), Path("run", "cursors")
    odd = {"nan": math.nan, "inf": math.inf, "../../out": 1.0, "a\tb\nc": 2.0, "loss/inner": 3.0}
    first: list[Event] = [
        *metrics(1, 10),
        MetricsLogged(time=NOON + 10, step=10, metrics=odd),
        Evaluated(time=NOON + 10, step=10, metrics={"loss": 0.25}),
    ]
    write_attempt(run_dir, first, outcome=None, config=CONFIG)
    deliver(run_dir, make())
    shutil.copytree(cursors, "earlier")
    checkpoint = Path("out", "checkpoint-20")
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"w" * 1000)
    more: list[Event] = [
        *metrics(11, 20),
        Evaluated(time=NOON + 20, step=20, metrics={"loss": 0.5}),
        CheckpointSaved(time=NOON + 20, step=20, path=str(checkpoint.absolute())),
        SystemMetricsLogged(time=NOON + 21, metrics={"gpu0/watts": 250.0}),
        AlertRaised(time=NOON + 22, step=20, title="late", text="by a lot", level="warning"),
    ]
    write_attempt(run_dir, more, attempt=2, outcome=None)
    deliver(run_dir, make())
    shutil.rmtree(cursors)
    shutil.move("earlier", cursors)
    deliver(run_dir, make())
    last: list[Event] = [*metrics(16, 18, again=1.0), ParametersLogged(parameters={"late": 1})]
    write_attempt(run_dir, last, attempt=3, from_step=15)
    deliver(run_dir, make())
    return run_dir


def dvclive() -> Mapping[str, Any]:
    """In a Git repository with DVC, with the model kept at the end."""
    for command in ("git init -q", f"{DVC} init -q", "git add -A", "git commit -qm first"):
        subprocess.run(command.split(), check=True, capture_output=True)  # noqa: S603 - ours
    sink = importlib.import_module("sinks.dvclive").DvcliveSink
    live_and_die(lambda: sink(log_model="end"))
    return read_dvclive()


def read_dvclive() -> Mapping[str, Any]:
    """Tables as they are, and what DVC's commands say of metrics, parameters and experiments."""

    def said(*command: str) -> Any:
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
        return json.loads(done.stdout)

    folder = Path("dvclive")
    tables = {
        path.relative_to(folder / "plots" / "metrics").with_suffix("").as_posix(): table(path)
        for path in folder.rglob("*.tsv")
    }
    experiments = said(*DVC.split(), "exp", "show", "--json")
    names = [each["name"] for one in experiments for each in one["experiments"] or []]
    return {
        "tables": tables,
        "metrics": said(*DVC.split(), "metrics", "show", "--json")[""]["data"],
        "params": said(*DVC.split(), "params", "diff", "--all", "--json"),
        "experiments": names,
        "models": sorted(str(path) for path in folder.glob("artifacts/*")),
        "cached": sum(path.is_file() for path in Path(".dvc/cache").rglob("*")),
    }


def table(path: Path) -> list[list[str]]:
    """The rows of a table below its header."""
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file, delimiter="\t"))
    assert head[0] == "step"
    return rows


def trackio() -> Mapping[str, Any]:
    """In its database."""
    sink = importlib.import_module("sinks.trackio").TrackioSink
    live_and_die(sink)
    return read_trackio("tests", "run")


def read_trackio(project: str, run: str) -> Mapping[str, Any]:
    """What Trackio's own storage finds."""
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    path = storage.get_project_db_path(project)
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    return {
        "logs": storage.get_logs(project, run),
        "system": storage.get_system_logs(project, run),
        "alerts": storage.get_alerts(project),
        "config": storage.get_run_config(project, run),
        "runs": storage.get_runs(project),
    }


def swanlab() -> list[Mapping[str, Any]]:
    """In files, as SWANLAB_MODE says."""
    sink = importlib.import_module("sinks.swanlab").SwanLabSink
    live_and_die(sink)
    return read_swanlab(Path("swanlog"))


def read_swanlab(folder: Path) -> list[Mapping[str, Any]]:
    """What SwanLab's own reader finds in each experiment of a folder, the earliest first."""
    reader = importlib.import_module("swanlab.sdk.internal.core_python.store").DataStoreReader
    proto = importlib.import_module("swanlab.proto.swanlab.record.v1.record_pb2").Record
    found = []
    for path in sorted(folder.glob("run-*/run-*.swanlab"), key=lambda each: each.stat().st_ctime):
        file = reader()
        file.open(path)
        experiment: dict[str, Any] = {"points": {}, "dir": path.parent.name, "state": None}
        for data in file:
            record = proto.FromString(data)
            match record.WhichOneof("record_type"):
                case "start":
                    start = record.start
                    experiment |= {"id": start.id, "name": start.name, "project": start.project}
                case "scalar":
                    point = [record.scalar.step, record.scalar.value.number]
                    experiment["points"].setdefault(record.scalar.key, []).append(point)
                case "finish":
                    experiment |= {"state": record.finish.state, "error": record.finish.error}
                case _:
                    pass
        config = path.parent / "files" / "config.yaml"
        text = config.read_text(encoding="utf-8") if config.exists() else ""
        entries = importlib.import_module("yaml").safe_load(text) or {}
        experiment["config"] = {key: each["value"] for key, each in entries.items()}
        found.append(experiment)
    return found


def read_swanboard(folder: Path) -> list[Mapping[str, Any]]:
    """What SwanLab's dashboard shows of each experiment: its database, and the files it names."""
    with sqlite3.connect(folder / "runs.swanlab") as connection:
        experiments = connection.execute(
            "select id, name, run_id, status from experiment order by id"
        )
        found = []
        for number, name, run, status in experiments.fetchall():
            tags = connection.execute(
                "select name, folder from tag where experiment_id=?", (number,)
            )
            points = {
                key: [
                    [point["index"], point["data"]]
                    for file in sorted((folder / run / "logs" / place).glob("*.log"))
                    for point in map(json.loads, file.read_text(encoding="utf-8").splitlines())
                ]
                for key, place in tags.fetchall()
            }
            found.append({"name": name, "dir": run, "status": status, "points": points})
    return found


TOOLS = {"dvclive": dvclive, "swanlab": swanlab, "trackio": trackio}

if __name__ == "__main__":
    print(json.dumps(TOOLS[sys.argv[1]]()))  # noqa: T201 - the answer

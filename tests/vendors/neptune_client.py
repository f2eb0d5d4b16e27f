"""Writes to a Neptune server and reads from it, with Neptune's own client.

A program for an interpreter that has the client: `neptune_client.py write PACKAGE FOLDER`, or
`read PACKAGE RUN`, which leaves its answer in `answer.json`. The package is `neptune`, or Minfx's
fork of it. The server is the one of NEPTUNE_API_TOKEN.
"""

import base64
import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

QUIET: dict[str, object] = {
    "capture_hardware_metrics": False,
    "capture_stdout": False,
    "capture_stderr": False,
    "capture_traceback": False,
    "git_ref": False,
    "source_files": [],
}
"""Without what the client finds out by itself."""

PARAMETERS: dict[str, Any] = {
    "lr": 3e-4,
    "batch": 8,
    "fp16": False,
    "name": "tiny",
    "none": None,
    "model": {"layers": 2, "drop": {"rate": 0.5}},
}

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
"""An image of one pixel."""


def loss(step: int) -> float:
    """A metric, which is no number in between."""
    return math.nan if step == 7 else 1 / (step + 1)


def write(package: str, folder: str) -> None:
    """Log a run of 25 steps, with settings, words and the files of a folder."""
    neptune = importlib.import_module(package)
    stringify_unsupported = importlib.import_module(f"{package}.utils").stringify_unsupported
    run = neptune.init_run(
        project="team/demo", name="demo", description="d", tags=["a", "b"], **QUIET
    )
    run["finetuning/trainer_parameters"] = stringify_unsupported(PARAMETERS)
    for step in range(25):
        run["finetuning/train/loss"].append(loss(step), step=step)
        run["finetuning/eval/loss"].append(2.0 * step, step=step)
    run["finetuning/texts/sample"].append("hello", step=3)
    run["finetuning/summary/best"] = 0.04
    run["sys/group_tags"].add("sweep")
    picture = neptune.types.File.from_content(PICTURE, extension="png")
    run["finetuning/media/picture"].append(picture, step=3)
    for path in sorted(Path(folder).iterdir()):
        run[f"finetuning/artifacts/{path.name}"].upload_files(str(path))
    run.stop()


def read(package: str, short_id: str) -> dict[str, Any]:
    """Everything that the client shows of a run, by path."""
    neptune = importlib.import_module(package)
    run = neptune.init_run(project="team/demo", with_id=short_id, mode="read-only")
    shown = {path: _shown(found) for path, found in _flat("", run.get_structure())}
    run.stop()
    return shown


def _flat(prefix: str, structure: dict[str, Any]) -> list[tuple[str, Any]]:
    found = []
    for name, each in structure.items():
        path = f"{prefix}/{name}".strip("/")
        found += _flat(path, each) if isinstance(each, dict) else [(path, each)]
    return found


def _shown(found: Any) -> Any:
    kind = type(found).__name__
    if kind in ("FloatSeries", "StringSeries"):
        table = found.fetch_values()
        return [[step, value] for step, value in zip(table["step"], table["value"], strict=True)]
    if kind in ("File", "FileSeries", "FileSet", "RunState"):
        return kind
    value = found.fetch()
    return sorted(value) if isinstance(value, set) else value


if __name__ == "__main__":
    answer = {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
    Path("answer.json").write_text(json.dumps(answer))

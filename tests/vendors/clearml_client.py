"""What ClearML's own client does, for tests of ours that run where it is not installed.

Run under an interpreter with the `clearml` package, with the server in the environment:
`clearml_client.py write FOLDER` makes a task, `clearml_client.py read TASK_ID...` prints them as
JSON, `clearml_client.py judge` prints what is wrong with the requests on its input.
"""

import hashlib
import json
import math
import sys
from importlib import import_module
from pathlib import Path

from clearml import OutputModel, Task
from clearml.backend_api.services.v2_23 import events
from jsonschema import Draft7Validator


def write(folder: str) -> None:
    """Write a run of every kind of thing that ours writes too; the folder holds its files."""
    task = Task.init(
        project_name="proj/sub",
        task_name="same",
        tags=["x"],
        output_uri=True,
        reuse_last_task_id=False,
        auto_connect_frameworks=False,
        auto_connect_arg_parser=False,
        auto_connect_streams=False,
        auto_resource_monitoring=False,
    )
    task.connect({"lr": 0.001, "resume": None, "nested": {"sizes": [1, 2]}}, name="General")
    logger = task.get_logger()
    for step in range(1, 26):
        logger.report_scalar("train", "loss", 1 / step, step)
    logger.report_scalar("train", "nan", math.nan, 1)
    logger.report_scalar("eval", "loss", 0.5, 25)
    logger.report_single_value("train_runtime", 12.5)
    model = OutputModel(task=task, name="checkpoint-25", framework="PyTorch")
    model.update_weights_package(
        weights_path=str(Path(folder, "checkpoint-25")), iteration=25, auto_delete_file=False
    )
    task.upload_artifact("data.csv", artifact_object=str(Path(folder, "data.csv")))
    task.flush(wait_for_uploads=True)
    task.close()


def read(task_id: str) -> dict[str, object]:
    """A task as the client shows it."""
    task = Task.get_task(task_id=task_id)
    scalars = task.get_reported_scalars()
    return {
        "name": task.name,
        "project": task.get_project_name(),
        "status": task.get_status(),
        "tags": list(task.get_tags()),
        "parameters": task.get_parameters(cast=True),
        "scalars": {
            f"{title}/{series}": list(zip(points["x"], points["y"], strict=True))
            for title, lines in scalars.items()
            for series, points in lines.items()
        },
        "single values": task.get_reported_single_values(),
        "models": {
            model.name: {"framework": model.framework, "files": _files(model.get_local_copy(True))}
            for model in task.get_models()["output"]
        },
        "artifacts": {
            name: {"size": each.size, "hash": each.hash, "files": _files(each.get_local_copy())}
            for name, each in task.artifacts.items()
        },
        "console": task.get_reported_console_output(),
    }


def _files(place: str) -> dict[str, str]:
    """The hash of each file in a folder, or of a file by itself."""
    path = Path(place)
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {
        "" if path.is_file() else each.relative_to(path).as_posix(): hashlib.sha256(
            each.read_bytes()
        ).hexdigest()
        for each in files
    }


def judge(requests: list[tuple[str, object]]) -> list[str]:
    """What the client's own schemas find wrong with requests, each a call and its body."""
    wrong: list[str] = []
    known = events.AddRequest._schema["definitions"]
    for call, body in requests:
        if call == "events.add_batch":
            for event in body:
                kind = {
                    "training_stats_scalar": events.MetricsScalarEvent,
                    "training_debug_image": events.MetricsImageEvent,
                    "plot": events.MetricsPlotEvent,
                    "log": events.TaskLogEvent,
                }[event["type"]]
                wrong += _wrong(call, event, {**kind._schema, "definitions": known})
        else:
            service, _, action = call.partition(".")
            module = import_module(f"clearml.backend_api.services.v2_23.{service}")
            name = f"{action.title().replace('_', '')}Request"
            wrong += _wrong(call, body, getattr(module, name)._schema)
    return wrong


def _wrong(call: str, body: dict[str, object], schema: dict[str, object]) -> list[str]:
    unknown = sorted(body.keys() - schema["properties"].keys())
    found = [f"{call}: unknown {key}" for key in unknown]
    return found + [f"{call}: {each.message}" for each in Draft7Validator(schema).iter_errors(body)]


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2])
    else:
        answer = (
            [read(each) for each in sys.argv[2:]]
            if sys.argv[1] == "read"
            else judge(json.load(sys.stdin))
        )
        sys.stdout.write(json.dumps(answer) + "\n")

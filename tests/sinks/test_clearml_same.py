"""Our sink and ClearML's own client leave the same task behind, but for the differences named here.

What the client sent was recorded (tests/servers/recordings/clearml); the same run goes through our
sink to another stand-in, and what the two servers then show is compared.
"""

import math
from ast import literal_eval
from collections import defaultdict
from urllib.parse import unquote, urlsplit

import pytest

from bus import (
    ArtifactReady,
    CheckpointSaved,
    Evaluated,
    MessageLogged,
    MetricsLogged,
    ParametersLogged,
    SummaryLogged,
    TrainEnded,
    sync_run,
)
from sinks.clearml import ClearmlSink
from tests.servers.clearml import StandIn
from tests.servers.clearml_reading import SUMMARY
from tests.servers.clearml_replay import NAMES, Replay, requests_of
from tests.servers.journals import QUICK, write_attempt

pytestmark = pytest.mark.usefixtures("environment")


def theirs(name):
    """What a recording leaves on a server, by the names of its tasks."""
    server = StandIn()
    with server:
        replay = Replay(server)
        for request in requests_of(name):
            replay.send(request)
    return shown(server)


def ours(run_dir, **settings):
    """What our sink leaves on a server, by the names of its tasks."""
    with StandIn() as server:
        sink = ClearmlSink(
            api_host=server.url,
            files_host=server.url,
            api_access_key="FAKE",
            api_secret_key="FAKE",  # noqa: S106 - of no server
            **settings,
        )
        (account,) = sync_run(run_dir, [sink], pace=QUICK)
    assert account.complete
    assert account.dead == 0
    return shown(server)


def shown(server):
    """What a person sees of the tasks; ids and hosts are left out of addresses."""
    return {
        task.fields["name"]: {
            "project": server.projects[task.fields["project"]]["name"],
            "type": task.fields["type"],
            "system_tags": task.fields["system_tags"],
            "tags": task.fields.get("tags") or [],
            "status": task.status,
            "reason": task.fields["status_reason"],
            "message": task.fields["status_message"],
            "scalars": task.scalars,
            "parameters": {
                section: {name: (item["value"], item.get("type")) for name, item in items.items()}
                for section, items in task.hyperparams.items()
            },
            "configuration": set(task.configuration),
            "models": {
                name: _model(server.models[each["model"]], task_id)
                for name, each in task.models.items()
            },
            "artifacts": {
                key: {**each, "uri": _place(each["uri"], task_id), "hash": len(each["hash"]) > 0}
                for key, each in task.artifacts.items()
            },
            "log": [line for _, message in task.logs for line in message.splitlines()],
        }
        for task_id, task in server.tasks.items()
    }


def _model(model, task_id):
    keys = ("name", "framework", "ready", "labels", "system_tags")
    found = {key: model.get(key, []) for key in keys}
    assert model["task"] == task_id
    return found | {"uri": _place(model["uri"], task_id)}


def _place(uri, task_id):
    return unquote(urlsplit(uri).path).replace(task_id, "ID")


def steps(count):
    return [MetricsLogged(step=n, metrics={"loss": 1 / n}) for n in range(1, count + 1)]


def test_a_whole_run(tmp_path):
    """Scalars, single values, nested parameters, NaN, a model, an artifact, a tag, the end."""
    (tmp_path / "w.bin").write_bytes(b"w" * 128)
    (tmp_path / "report.json").write_text('{\n    "a": 1\n}')
    run_dir = write_attempt(
        tmp_path / "run",
        [
            *steps(25),
            MetricsLogged(step=1, metrics={"nan": math.nan, "inf": math.inf}),
            Evaluated(step=25, metrics={"eval_loss": 0.5}),
            SummaryLogged(values={"train_runtime": 12.5}),
            ArtifactReady(path=str(tmp_path / "w.bin"), kind="model", name="w", step=25),
            ArtifactReady(path=str(tmp_path / "report.json"), kind="report", name="report"),
        ],
        config={"lr": 0.001, "batch_size": 8, "nested": {"a": 1}},
    )
    found = ours(run_dir, project="proj/sub", task="sdk-run", tags=["x"], log_model="all")
    expected = theirs("sdk_2.1.12_full_run")
    task, other = expected["sdk-run"], found["sdk-run"]

    # Values that ClearML cannot store are counted instead of being 0.0.
    for name in ("nan", "inf"):
        task["scalars"]["not finite", f"train/{name}"] = task["scalars"].pop(("train", name))
        task["scalars"]["not finite", f"train/{name}"] = {1: 1}
    # One section for all parameters; the model's configuration is among them.
    task["parameters"]["General"] = task["parameters"].pop("Args")
    task["configuration"] = set()
    # A model has the artifact's name and is ready when its file is there.
    task["models"]["w"] |= {"name": "w", "ready": True}
    # An artifact is the file itself, and never taken apart to be shown.
    described = {
        "type": "custom",
        "mode": "output",
        "timestamp": other["artifacts"]["report"]["timestamp"],
    }
    preview = {"preview": "report.json", "content_type": "application/json"}
    task["artifacts"]["report"] |= described | {"type_data": preview}
    # The log holds what was said in the run, and nothing of the client's own.
    task["log"] = [
        "train/inf: 1 value is not finite, and so not stored (last: inf)",
        "train/nan: 1 value is not finite, and so not stored (last: nan)",
    ]
    other["log"].sort()
    assert found == expected


def test_a_run_written_without_the_client(tmp_path):
    """The requests that the protocol's notes were checked with."""
    folder = tmp_path / "checkpoint-25"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"w")
    (tmp_path / "report.json").write_text('{"a": 1}')
    points = [MetricsLogged(step=n, metrics={"loss": 1 / n, "lr": 0.001}) for n in range(1, 26)]
    run_dir = write_attempt(
        tmp_path / "run",
        [
            *points,
            *points,
            SummaryLogged(values={"train_runtime": 12.5}),
            MessageLogged(text="hello"),
            ParametersLogged(parameters={"warmup": 10}),
            CheckpointSaved(step=25, path=str(folder)),
            ArtifactReady(path=str(tmp_path / "report.json"), kind="report", name="report"),
        ],
        config={"lr": 0.001, "bs": 8, "seed": 1},
    )
    found = ours(run_dir, project="native/proj", task="train-1", tags=["nlp"], log_model="all")
    task, other = theirs("native_httpx_full_run")["train-1"], found["train-1"]

    task["parameters"] = {"General": task["parameters"].pop("Args") | task["parameters"]["General"]}
    task["configuration"] = set()
    # A folder is one archive.
    package = {
        "system_tags": ["package"],
        "uri": "/native/proj/train-1.ID/models/checkpoint-25.zip",
    }
    task["models"]["checkpoint-25"] |= package
    task["artifacts"]["report"] |= {"type": "custom"}
    task["artifacts"]["report"]["type_data"]["preview"] = "report.json"
    task["artifacts"]["report"]["timestamp"] = other["artifacts"]["report"]["timestamp"]
    # It was ended twice, the second time without a reason.
    task["reason"] = "completed"
    assert other == task


@pytest.mark.parametrize(
    ("name", "task", "outcome", "count"),
    [
        ("sdk_2.1.12_abort_development", "abort-dev", "stopped", 24),
        ("sdk_2.1.12_abort_stopping_message", "abort-stopping", "stopped", 24),
        ("sdk_2.1.12_abort_with_callback", "abort-cb", "stopped", 24),
        ("sdk_2.1.12_crash_failed", "abort-crash", "failed", 1),
    ],
)
def test_an_end_before_the_end(*, tmp_path, name, task, outcome, count):
    """Aborted or failed: the same state and points."""
    error = "ValueError: boom" if outcome == "failed" else None
    run_dir = write_attempt(tmp_path / "run", steps(count), outcome=outcome, error=error)
    found, expected = ours(run_dir, project="proj/sub", task=task), theirs(name)

    # Why is said in the run's own words; who pressed the button said so before us.
    for each in (found[task], expected[task]):
        each.update(reason="", message="", log=[])
    assert found == expected


def test_the_trainer_of_transformers(tmp_path):
    """Its callback's charts, single values, checkpoints and parameters."""
    (task,) = theirs("hf_5.23.0_ClearMLCallback").values()
    config = {key: _value(*each) for key, each in task["parameters"]["Transformers"].items()}
    events = []
    for step in range(1, 26):
        logged = {key: task["scalars"]["train", key][step] for key in ("loss", "grad_norm")}
        logged["learning_rate"] = task["scalars"]["train", "learning_rate"][step]
        events.append(MetricsLogged(step=step, metrics={**logged, "epoch": step / 50}))
        if step in (10, 20, 25):
            results = {
                f"eval_{variant}": values[step]
                for (metric, variant), values in task["scalars"].items()
                if metric == "eval"
            }
            logged = {**results, "epoch": step / 50}
            events += [MetricsLogged(step=step, metrics=logged)]
            events += [Evaluated(step=step, metrics=results)]
            folder = tmp_path / f"checkpoint-{step}"
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(b"w")
            events += [CheckpointSaved(step=step, path=str(folder))]
            name = folder.name
            events += [ArtifactReady(path=str(folder), kind="checkpoint", name=name, step=step)]
    summary = {
        variant: values[SUMMARY]
        for (metric, variant), values in task["scalars"].items()
        if metric == "Summary"
    }
    events += [MetricsLogged(step=25, metrics=summary), TrainEnded(step=25, metrics=summary)]
    run_dir = write_attempt(tmp_path / "run", events, config=config)
    found = ours(run_dir, project="HuggingFace Transformers", task="Trainer")["Trainer"]

    # One section, in which an enumeration is a text; two of its entries are the callback's own.
    task["parameters"] = {"General": task["parameters"]["Transformers"]}
    for key, (value, kind) in task["parameters"]["General"].items():
        if kind is not None and kind[0].isupper():
            task["parameters"]["General"][key] = value, "str"
    task["configuration"] = set()
    task["log"] = []
    # Weights of PyTorch are not said to be TensorFlow's, and a model whose file is there is ready.
    for model in task["models"].values():
        model |= {"framework": "PyTorch", "ready": True}
    assert found == task


def _value(text, kind):
    if kind is None:
        return None
    return (
        literal_eval(text) if kind.partition("/")[0] in ("int", "float", "bool", "list") else text
    )


def test_the_same_fields(tmp_path):
    """What our requests say is what the client's say, but for the fields named here."""
    recorded, sent = defaultdict(set), defaultdict(set)
    for name in NAMES:
        if name.startswith("native"):
            continue
        for request in requests_of(name):
            _note(recorded, request["path"].rpartition("/")[2], request.get("body"))
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    (tmp_path / "a").write_bytes(b"a")
    events = [
        *steps(2),
        MessageLogged(text="x"),
        CheckpointSaved(step=2, path=str(folder)),
        ArtifactReady(path=str(tmp_path / "a"), kind="x", name="x"),
    ]
    with StandIn() as server:
        keys = {"api_access_key": "FAKE", "api_secret_key": "FAKE"}
        sink = ClearmlSink(api_host=server.url, files_host=server.url, log_model="all", **keys)
        sync_run(write_attempt(tmp_path / "run", events, config={"a": 1}), [sink], pace=QUICK)
        for _, call, body in server.requests:
            if call != "upload":
                _note(sent, call, body)

    more = {call: sorted(sent[call] - recorded[call]) for call in sent if call in recorded}
    assert {call: fields for call, fields in more.items() if fields} == {
        # The client finds a run by its own cache, we by the mark in the comment.
        "tasks.get_all": ["_all_", "project"],
        # It sets these later, in calls of their own.
        "tasks.create": ["tags"],
        "models.create": ["comment", "framework", "system_tags", "task"],
        "tasks.add_or_update_model": ["iteration"],
        # Always said, if only to clear what was said before.
        "tasks.started": ["status_message", "status_reason"],
        "tasks.completed": ["status_message"],
    }
    # It replaces all parameters each time, and looks for no model.
    assert sent.keys() - recorded.keys() == {"tasks.edit_hyper_params", "models.get_all"}


def _note(fields, call, body):
    for each in body if isinstance(body, list) else [body or {}]:
        kind = f"{call} {each['type']}" if call == "events.add_batch" else call
        fields[kind] |= each.keys()

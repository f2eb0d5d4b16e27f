"""ClearML's own client beside our sink: the same task, read back, and requests that it knows."""

import json
import math

import pytest

from bus import (
    AlertRaised,
    ArtifactReady,
    CheckpointSaved,
    Evaluated,
    HistogramLogged,
    MediaLogged,
    MetricsLogged,
    SummaryLogged,
    sync_run,
)
from sinks.clearml import ClearmlSink
from tests.servers.clearml import StandIn
from tests.servers.journals import QUICK, write_attempt
from tests.vendors.clearml_server import Client
from tests.vendors.programs import find_python, needs, train

PYTHON = find_python("CLEARML", "clearml")

pytestmark = needs(PYTHON, "CLEARML", "clearml and transformers", timeout=240)


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


@pytest.fixture
def client(server, tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return Client(PYTHON, server, folder)


@pytest.fixture
def folder(tmp_path):
    """A checkpoint and a file."""
    (tmp_path / "checkpoint-25" / "sub").mkdir(parents=True)
    (tmp_path / "checkpoint-25" / "weights").write_bytes(b"w")
    (tmp_path / "checkpoint-25" / "sub" / "state").write_bytes(b"s")
    (tmp_path / "data.csv").write_text("1,2")
    return tmp_path


def deliver(run_dir, server, **settings):
    sink = ClearmlSink(
        api_host=server.url,
        files_host=server.url,
        api_access_key="FAKE",
        api_secret_key="FAKE",  # noqa: S106 - of no server
        project="proj/sub",
        task="same",
        tags=["x"],
        log_model="all",
        **settings,
    )
    (account,) = sync_run(run_dir, [sink], pace=QUICK)
    assert account.complete
    assert account.dead == 0


def events(folder):
    """What `clearml_client.py write` writes."""
    return [
        *(MetricsLogged(step=n, metrics={"loss": 1 / n}) for n in range(1, 26)),
        MetricsLogged(step=1, metrics={"nan": math.nan}),
        Evaluated(step=25, metrics={"eval_loss": 0.5}),
        SummaryLogged(values={"train_runtime": 12.5}),
        CheckpointSaved(step=25, path=str(folder / "checkpoint-25")),
        ArtifactReady(path=str(folder / "data.csv"), kind="dataset", name="data.csv"),
    ]


def test_its_client_reads_our_task_as_its_own(server, client, folder):
    """Parameters with their types, scalars, single values, the unpacked model, the artifact."""
    client.ask("write", str(folder))
    (theirs,) = server.tasks
    config = {"lr": 0.001, "resume": None, "nested": {"sizes": [1, 2]}}
    deliver(write_attempt(folder / "run", events(folder), config=config), server)
    ours = next(each for each in server.tasks if each != theirs)
    expected, found = client.ask("read", theirs, ours)

    assert expected["scalars"].pop("train/nan") == [[1, 0.0]]
    assert found["scalars"].pop("not finite/train/nan") == [[1, 1]]
    # Its log tells of itself, ours of the run.
    assert expected.pop("console")
    assert found.pop("console") == [
        "train/nan: 1 value is not finite, and so not stored (last: nan)"
    ]
    assert found == expected
    assert found["models"]["checkpoint-25"]["files"].keys() == {"weights", "sub/state"}


def test_its_schemas_know_our_requests(server, client, folder):
    """Every kind of request, each field of it."""
    picture = folder / "a.png"
    picture.write_bytes(b"png")
    more = [
        MediaLogged(step=1, key="a/b", path=str(picture), media_type="image/png"),
        HistogramLogged(step=1, key="a/b", counts=[1, 2], edges=[0, 1, 2]),
        AlertRaised(title="late", level="warning"),
    ]
    run_dir = write_attempt(
        folder / "run", [*events(folder), *more], config={"lr": 1}, outcome=None
    )
    deliver(run_dir, server, keep_models=1)
    later = folder / "checkpoint-30"
    later.mkdir()
    write_attempt(run_dir, [CheckpointSaved(step=30, path=str(later))], attempt=2, from_step=25)
    deliver(run_dir, server, keep_models=1)
    (task,) = server.tasks
    sent = [(call, body) for _, call, body in server.requests if body is not None]
    sent.append(("tasks.ping", {"task": task}))
    sent.append(("tasks.stopped", server.calls("tasks.completed")[0]))
    kinds = {call for call, _ in sent}

    assert client.ask("judge", given=json.loads(json.dumps(sent))) == []
    assert {"tasks.failed", "tasks.completed", "models.delete", "tasks.edit_hyper_params"} < kinds
    kinds = {event["type"] for body in server.calls("events.add_batch") for event in body}
    assert kinds == {"log", "plot", "training_debug_image", "training_stats_scalar"}


@pytest.mark.timeout(600)
def test_upstreams_callback_and_ours(tmp_path):
    """One script under both trainers: the same charts, steps, values, models and parameters."""
    tasks = {}
    names = {"CLEARML_PROJECT": "proj/sub", "CLEARML_TASK": "same"}
    for library in ("transformers", "hotloop"):
        folder = tmp_path / library
        with StandIn() as server:
            client = Client(PYTHON, server, folder)
            environment = {**client.environment, **names}
            train(PYTHON, "clearml", library, folder=folder, environment=environment)
        tasks[library] = server.task
    theirs, ours = tasks["transformers"], tasks["hotloop"]

    assert ours.status == theirs.status == "completed"
    machine = {place for place in theirs.scalars if place[0].startswith(":monitor")}
    assert ours.scalars.keys() == theirs.scalars.keys() - machine
    for place, points in ours.scalars.items():
        assert points.keys() == theirs.scalars[place].keys(), place
        if place[1].rpartition("_")[2] not in ("runtime", "second"):
            expected = list(theirs.scalars[place].values())
            assert list(points.values()) == pytest.approx(expected, rel=1e-6), place
    assert ours.models.keys() == theirs.models.keys()
    assert len(ours.models) == 2
    # An enumeration is said by its name there and by its value here, which differ in their case.
    their, our = (_parameters(task) for task in (theirs, ours))
    other = {"restore_callback_states_from_checkpoint"}  # docs/trainer.md
    same = (their.keys() & our.keys()) - other
    assert len(same) > 90
    assert {key: our[key] for key in same} == {key: their[key] for key in same}
    assert our.keys() - their.keys() == {
        *("asynchronous_checkpoints", "raise_from_callbacks", "model/num_parameters", "hub_token"),
        *("grace_seconds", "requeue", "watchdog_seconds"),
    }


def _parameters(task):
    (section,) = (section for name, section in task.hyperparams.items() if len(section) > 5)
    return {name: item["value"].lower() for name, item in section.items()}

"""`BusLogger` and `BusControl` under Lightning's trainer, in one process and in two."""

import json
from pathlib import Path

import pytest

from tests.servers import mlflow
from tests.vendors.programs import find_python, needs, run_program

PYTHON = find_python("LIGHTNING", "lightning")
pytestmark = needs(PYTHON, "LIGHTNING", "lightning and tensorboard", timeout=400)


@pytest.fixture(scope="module")
def server():
    """What the runs are delivered to."""
    with mlflow.StandIn() as server:
        yield server


@pytest.fixture(scope="module")
def train(tmp_path_factory, server):
    """Runs a part of the program; what each of its processes has left."""
    folder = tmp_path_factory.mktemp("bridges")

    def run(part):
        run_program(
            *(PYTHON, "-m", "tests.vendors.bridges_lightning", str(folder), part),
            folder=folder,
            environment={"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": server.url},
            timeout=380,
        )
        return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{part}-*.json"))]

    return run


@pytest.fixture(scope="module")
def alone(train):
    """What one process shows."""
    (found,) = train("alone")
    return found


@pytest.fixture(scope="module")
def two(train, server):
    """What each of two processes shows of its trainings, and the tracking server's runs."""
    before = set(server.runs)
    found = train("two")
    return found, [run for key, run in server.runs.items() if key not in before]


def near(points):
    return [[step, pytest.approx(value)] for step, value in points]


def test_tensorboard_shows_what_lightnings_own_logger_shows(alone):
    """The same tags, steps and values."""
    assert {"loss", "epoch_loss", "val_loss", "epoch"} <= alone["theirs"].keys()
    kept = {tag for tag in alone["theirs"] if tag != "hp_metric"}
    assert alone["ours"].keys() == kept
    for tag in kept:
        assert alone["ours"][tag] == near(alone["theirs"][tag]), tag


def test_every_metric_is_delivered(alone, server):
    """A tracking server has them too."""
    run = next(iter(server.runs.values()))
    for tag in ("loss", "epoch_loss", "val_loss"):
        assert [list(each) for each in run.series(tag)] == near(alone["theirs"][tag])
    assert run.params["width"] == "4"
    assert "secret" not in run.params["api_key"]


def test_tensors_are_handed_over_unread(alone):
    """Unless a logger of another kind wants numbers."""
    assert alone["kinds"] == ["Tensor"]
    assert alone["kinds_beside"] == ["float"]


def test_the_course_of_a_training(alone):
    """Each epoch, validation and checkpoint is an event; the run is where the logger says."""
    types = [each["type"] for each in alone["whole"]]
    kept = [each for each in types if each not in ("metrics_logged", "sink_state_changed")]
    epoch = ["epoch_began", "evaluated", "epoch_ended"]
    saved = ["checkpoint_saved", "artifact_ready"]
    assert kept == [
        *("run_started", "parameters_logged", "train_began"),
        *(*epoch, *epoch, *saved, *epoch),
        *("train_ended", "run_ended"),
    ]
    name, version, log_dir, save_dir = alone["places"]
    assert (name, version) == ("whole", 1)
    assert Path(log_dir) == Path(save_dir) / "whole"
    (path,) = (each["path"] for each in alone["whole"] if each["type"] == "checkpoint_saved")
    assert Path(path).parent == Path(log_dir) / "checkpoints"


def test_requests_are_honoured_behind_their_step(alone):
    """Steps count from 0: saved at 3, validated at 4, a rate from 6, logged at 8, stopped at 13."""
    steps = {
        kind: [each["step"] for each in alone["stopped"] if each["type"] == kind]
        for kind in ("evaluated", "metrics_logged", "checkpoint_saved")
    }
    assert alone["stopped_at"] == 14
    assert alone["rate"] == 0.01
    assert 3 in steps["checkpoint_saved"]
    assert "step=4.ckpt" in alone["checkpoints"]
    assert steps["evaluated"][:2] == [4, 7]
    assert 8 in steps["metrics_logged"]
    assert not {5, 6} & set(steps["metrics_logged"])
    assert alone["every"] == 5


def test_resuming_is_the_next_attempt_of_the_run(alone):
    """What the first attempt had done behind the checkpoint is superseded, and shown once."""
    started = [each for each in alone["resumed"] if each["type"] == "run_started"]
    assert [each["resumed_from_step"] for each in started] == [None, 3]
    assert alone["ended"] == ["stopped", "finished"]
    assert [step for step, _ in alone["resumed_scalars"]] == list(range(4, 16))


def test_a_training_that_fails_is_a_run_that_failed(alone):
    """With the exception's words."""
    assert alone["failed"]["outcome"] == "failed"
    assert alone["failed"]["error"] == "ArithmeticError: told to"


@pytest.mark.parametrize("name", ["ddp", "sharded"])
def test_two_processes_stop_and_save_together(two, name):
    """The second alone has asked; each has a copy of the model, or half of it."""
    first, second = (each[name] for each in two[0])
    assert 30 < first["steps"] == second["steps"] < 2000
    assert len(first["saved"]) == 1
    for each in (first, second):
        assert each["journal"][-1]["outcome"] == "stopped"
        assert "the second" in each["journal"][-1]["reason"]


@pytest.mark.parametrize(("name", "index"), [("ddp", 0), ("sharded", 1)])
def test_the_first_process_delivers_every_metric(two, name, index):
    """To the tracking server and to TensorBoard."""
    (found, _), runs = two
    expected = near(enumerate(found[name]["losses"]))
    assert found[name]["shown"]["loss"] == expected
    assert [list(each) for each in runs[index].series("loss")] == expected


def test_a_checkpoint_of_shards_is_resumed(two):
    """As the run's next attempt on both processes, behind the step that was saved."""
    saved, steps = two[0][0]["sharded"]["saved"][0], two[0][0]["sharded"]["steps"]
    last = int(saved.removeprefix("step=").removesuffix(".ckpt")) - 1
    for each in two[0]:
        events = each["resumed"]["journal"]
        started = [event for event in events if event["type"] == "run_started"]
        assert [event["resumed_from_step"] for event in started] == [None, last]
        assert events[-1]["outcome"] == "finished"
    shown = two[0][0]["resumed"]["shown"]["loss"]
    assert [step for step, _ in shown] == list(range(steps + 2))

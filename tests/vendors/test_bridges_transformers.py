"""`BusCallback` under Transformers' trainer, and Transformers' callbacks under ours."""

import json
from pathlib import Path

import pytest

from tests.servers import mlflow
from tests.vendors.programs import needs, run_program
from tests.vendors.trainer_compare import unequal
from tests.vendors.trainer_process import find_python

PYTHON = find_python()
pytestmark = needs(PYTHON, "HF", "transformers, accelerate and tensorboard", timeout=400)

QUIET = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def server():
    """What the runs are delivered to."""
    with mlflow.StandIn() as server:
        yield server


@pytest.fixture(scope="module")
def found(tmp_path_factory, server):
    """What each part of the program has left."""
    folder = tmp_path_factory.mktemp("bridges")
    run_program(
        *(PYTHON, "-m", "tests.vendors.bridges_transformers", str(folder)),
        folder=folder,
        environment={**QUIET, "MLFLOW_TRACKING_URI": server.url},
        timeout=380,
    )
    return lambda name: json.loads(Path(folder / f"{name}-0.json").read_text())


def test_every_metric_is_delivered(found, server):
    """A tracking server has all that the trainer has logged, each with its step."""
    (run,) = server.runs.values()
    for entry in found("bridged")["history"]:
        for key, value in entry.items():
            points = dict(run.series(key)) if key != "step" else {entry["step"]: entry["step"]}
            assert entry["step"] in points, key
            if value is not None:
                assert points[entry["step"]] == pytest.approx(value), key


def test_tensorboard_shows_what_upstreams_callback_shows(found):
    """The same tags, steps and values; what was measured differs."""
    parts = found("bridged")
    assert parts["ours"].keys() == parts["theirs"].keys() | {"test/loss"} | {
        f"test/{each}" for each in ("runtime", "samples_per_second", "steps_per_second")
    } | (parts["ours"].keys() & {"test/model_preparation_time"})
    for tag, points in parts["theirs"].items():
        steps = [step for step, _ in points]
        assert [step for step, _ in parts["ours"][tag]] == steps, tag
        if not tag.endswith(("runtime", "per_second", "preparation_time")):
            assert parts["ours"][tag] == [[step, pytest.approx(value)] for step, value in points]


def test_every_hook_is_an_event(found):
    """In the order in which upstream calls them, apart from those that nobody listens to."""
    types = [each["type"] for each in found("bridged")["whole"]]
    kept = [each for each in types if each not in ("metrics_logged", "sink_state_changed")]
    step4, step5 = ["checkpoint_saved", "artifact_ready"], ["evaluated"]
    assert kept == [
        *("run_started", "trainer_initialized", "train_began", "epoch_began"),
        *(*step4, *step5, "epoch_ended", "epoch_began", *step4, *step5, *step4),
        *("epoch_ended", "train_ended", "predicted", "run_ended"),
    ]
    assert types.count("metrics_logged") == 10 + 2 + 1


def test_requests_take_effect_at_upstreams_safe_points(found):
    """Saved at 2, evaluated at 3, another rate from 6, stopped at 7."""
    parts = found("bridged")
    assert parts["stopped_at"] == 7
    assert "checkpoint-2" in parts["checkpoints"]
    evaluated = [each["step"] for each in parts["resumed"] if each["type"] == "evaluated"]
    assert evaluated[:2] == [3, 5]
    assert 0 < parts["rate"] < 1
    assert parts["rate"] > 0.5


def test_resuming_is_the_next_attempt_of_the_run(found):
    """What came after the checkpoint's step is superseded, and shown once."""
    parts = found("bridged")
    assert parts["same"]
    assert parts["ended"] == ["stopped", "finished"]
    started = [each for each in parts["resumed"] if each["type"] == "run_started"]
    assert [each["resumed_from_step"] for each in started] == [None, 4]
    assert [step for step, _ in parts["resumed_scalars"]] == list(range(1, 11))


def test_a_training_that_fails_is_a_run_that_failed(found):
    """With the exception's words where it left the context; otherwise without."""
    parts = found("failing")
    assert parts["left"]["outcome"] == parts["caught"]["outcome"] == "failed"
    assert parts["left"]["error"] == "ArithmeticError: the model failed as it was told to"


def test_upstreams_callbacks_get_the_same_calls_under_ours(found):
    """Hooks, flags, keywords, logs and metrics; and what the callbacks then do."""
    theirs, ours = found("theirs"), found("ours")
    for part in ("flow", "looks", "scalars", "seen", "raised"):
        differing = [text for _, text in unequal(part, theirs[part], ours[part])]
        assert not differing, "\n".join(["", *differing[:10]])
    assert [each["stateful"] for each in ours["checkpoints"].values()] == [
        each["stateful"] for each in theirs["checkpoints"].values()
    ]

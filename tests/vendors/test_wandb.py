"""W&B's own client beside ours: both write to the stand-in, and go on with each other's run."""

import math
import re
from pathlib import Path

import pytest

import runtime
from bus import HistogramLogged, MediaLogged, MetricsLogged, SummaryLogged, TextLogged, sync_run
from sinks.wandb import WandbSink
from tests.nobody import clear_environment
from tests.servers.journals import QUICK, write_attempt
from tests.servers.wandb import KEY, StandIn
from tests.servers.wandb_states import (
    AXIS,
    columns,
    config,
    ending,
    png,
    shown,
    summary,
)
from tests.vendors.programs import find_python, needs, run_program, train

SCRIPT = Path(__file__).with_name("wandb_script.py")


PYTHON = find_python("WANDB", "wandb")

pytestmark = needs(PYTHON, "WANDB", "wandb and transformers", timeout=200)


@pytest.fixture
def server(monkeypatch, tmp_path):
    clear_environment(monkeypatch, tmp_path)
    with StandIn() as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    """What is logged from files."""
    (tmp_path / "a.png").write_bytes(png(3, 2))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("1")
    return tmp_path


def environment(server, folder):
    """Settings for the stand-in."""
    (folder / "DIR").mkdir(parents=True, exist_ok=True)
    return {
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": KEY,
        "WANDB_ERROR_REPORTING": "false",
        **{f"WANDB_{name}": str(folder / name) for name in ("DIR", "CACHE_DIR", "DATA_DIR")},
    }


def call_theirs(server, folder, *arguments):
    """Run the script with W&B's own client."""
    command = (PYTHON, str(SCRIPT), str(folder), *arguments)
    run_program(*command, folder=folder, environment=environment(server, folder))


def log_ours(server, folder):
    """The same calls as in the script."""
    sink = WandbSink(
        base_url=server.url,
        api_key=KEY,
        run_id="ours",
        notes="a note",
        tags=("a", "b"),
        run_group="g",
        job_type="j",
    )
    settings = {"lr": 0.1, "model": {"layers": 2}}
    with runtime.Run(
        name="a-run", project="p", dir=folder / "runs", config=settings, sinks=[sink]
    ) as run:
        for step in range(5):
            run.log({"loss": 1.0 / (step + 1), "nan": math.nan}, step=step)
        run.publish(TextLogged(step=4, key="text", text="a text"))
        run.publish(HistogramLogged(step=4, key="grads", counts=[1, 2], edges=[0.0, 0.5, 1.0]))
        picture = str(folder / "a.png")
        run.publish(
            MediaLogged(step=4, key="img", path=picture, media_type="image/png", caption="c")
        )
        run.params({"later": 1})
        run.publish(SummaryLogged(values={"best": 0.2}))
        run.alert("an alert", "its text", level="warning")
        run.artifact(
            folder / "data", kind="dataset", name="data", aliases=["v"], metadata={"rows": 1}
        )


def test_the_same_calls_leave_the_same(server, folder):
    """Rows, summary, configuration, description, picture, alert, artifact and end."""
    call_theirs(server, folder)
    (before,) = server.artifacts
    server.artifacts = []
    log_ours(server, folder)
    their, ours = (
        next(run for run in server.runs.values() if run.name == name) for name in ("sdk", "ours")
    )

    compared = [
        (
            {key: [value for _, value in points] for key, points in columns(run).items()},
            [row[AXIS] for row in run.history],
            run.series("grads"),
            run.series("img"),
            {key: value for key, value in run.files.items() if key.startswith("media/")},
            summary(run),
            config(run),
            shown(run),
            run.alerts,
            ending(run),
        )
        for run in (ours, their)
    ]
    assert compared[0] == compared[1]
    (artifact,) = server.artifacts
    for key in ("name", "type", "digest", "state", "aliases", "metadata", "files"):
        assert artifact[key] == before[key]
    assert their.config["_wandb"]["value"]["m"] == ours.config["_wandb"]["value"]["m"]


def test_each_goes_on_with_the_others_run(server, folder):
    """Theirs takes ours for one that can be resumed; ours goes on behind what it has written."""
    run_dir = write_attempt(folder / "run", [_point(0), _point(1)], outcome=None)
    sink = {"base_url": server.url, "api_key": KEY, "run_id": "sdk", "project": "p"}
    sync_run(run_dir, [WandbSink(**sink)], pace=QUICK, timeout=30)
    call_theirs(server, folder, "again")
    write_attempt(run_dir, [_point(n) for n in (10, 11)], attempt=2, from_step=1)
    (account,) = sync_run(run_dir, [WandbSink(**sink)], pace=QUICK, timeout=30)

    assert account.complete
    assert server.run.series("loss") == [(0, 0), (1, 1), (9, 9), (10, 10), (11, 11)]
    assert [row["_step"] for row in server.run.history] == list(range(5))


def _point(step):
    return MetricsLogged(step=step, metrics={"loss": float(step)})


TIMES = re.compile(r"runtime|per_second")
OTHERWISE = {
    "hub_token",  # upstream writes a word in its place
    "restore_callback_states_from_checkpoint",  # ours does by default
}
"""Parameters that have other values."""


def test_a_training_beside_upstreams_callback(server, tmp_path):
    """The same script under both trainers: keys, values, steps, summary and parameters are equal.

    Differs: numbers that measure time; `base_model` is not there, and `final_model` is an alias of
    the last checkpoint and no copy of it; the run is named after its folder; see `OTHERWISE`.
    """
    for library in ("transformers", "hotloop"):
        folder = tmp_path / library
        told = {
            **environment(server, folder),
            "WANDB_RUN_ID": library,
            "WANDB_PROJECT": "p",
            "WANDB_CONSOLE": "off",
            "WANDB_LOG_MODEL": "checkpoint",
            "HOTLOOP_WANDB_REWRITE": "1",
        }
        train(PYTHON, "wandb", library, folder=folder, environment=told)
    their, ours = server.runs.values()

    assert untimed_columns(ours) == untimed_columns(their)
    assert [row[AXIS] for row in ours.history] == [row[AXIS] for row in their.history]
    expected = untimed_numbers(their)
    assert untimed_numbers(ours) == pytest.approx(expected)
    both = [config(run) for run in (ours, their)]
    common = (both[0].keys() & both[1].keys()) - OTHERWISE
    assert len(common) > 50
    assert {key: both[0][key] for key in common} == {key: both[1][key] for key in common}
    assert ours.config["_wandb"]["value"]["m"] == their.config["_wandb"]["value"]["m"]
    assert ending(ours) == ending(their)
    assert [each["aliases"] for each in versions(server, "hotloop")] == [
        {"epoch_0.5", "checkpoint_global_step_5"},
        {"epoch_1.0", "checkpoint_global_step_10", "final_model", "latest"},
    ]
    saved = [each["aliases"] for each in versions(server, "transformers")]
    assert saved == [
        {"base_model"},
        {"epoch_0.5", "checkpoint_global_step_5"},
        {"epoch_1.0", "checkpoint_global_step_10"},
        {"final_model", "latest"},
    ]


def untimed_columns(run):
    """What is not about time, by key."""
    return {
        key: [value for _, value in points]
        for key, points in columns(run).items()
        if not TIMES.search(key)
    }


def untimed_numbers(run):
    return {key: float(each) for key, each in summary(run).items() if not TIMES.search(key)}


def versions(server, run_id):
    """The versions of a run's model, in order."""
    return [each for each in server.artifacts if each["name"] == f"model-{run_id}"]

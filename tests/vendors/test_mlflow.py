"""What arrives in a real MLflow server, read back with MLflow's own client."""

import math
import re
import threading
from functools import partial

import anyio
import pytest

import runtime
from bus import (
    AlertRaised,
    ArtifactReady,
    BatchLimits,
    CheckpointSaved,
    Evaluated,
    MessageLogged,
    MetricDefined,
    MetricsLogged,
    ParametersLogged,
    SummaryLogged,
    SystemMetricsLogged,
    TextLogged,
    list_cursors,
    sync_run,
)
from sinks.mlflow import MlflowSink
from tests.servers.journals import QUICK, write_attempt
from tests.sinks.kill_trials import run_kill_trials
from tests.vendors.mlflow_kills import destination
from tests.vendors.mlflow_server import RealServer
from tests.vendors.programs import find_python, needs
from tests.waiting import eventually

PYTHON = find_python("MLFLOW", "mlflow")

pytestmark = needs(PYTHON, "MLFLOW", "mlflow", timeout=300)

LONG = "a long value " * 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all tests that leave it alone."""
    server = RealServer(PYTHON, tmp_path_factory.mktemp("mlflow"))
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def deliver(run_dir, server, **settings):
    """Deliver a journal, and read back what arrived."""
    sink = MlflowSink(tracking_uri=server.url, **settings)
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=100)
    assert account.complete, account
    assert account.dead == 0
    return server.run(remote_id(run_dir))


def remote_id(run_dir):
    """The run's id on the server."""
    return list_cursors(run_dir)["mlflow"].state["run_id"]


def history(run, key):
    """Steps and values of a metric."""
    return [(step, value) for step, value, _ in run["metrics"][key]]


def test_a_run_is_read_back_as_it_was_logged(server, tmp_path):
    """27 points with NaN and infinities, parameters, tags, texts, files, status and address."""
    with runtime.Run(
        name="full",
        project="vendors",
        dir=tmp_path,
        close_timeout=100,  # it is the server's first run, and the machine may be busy
        config={"lr": 3e-4, "model": {"layers": 2, "name": "tiny"}, "resume": None},
        sinks=[
            MlflowSink(
                tracking_uri=server.url,
                tags={"team": "nlp"},
                flatten_params=True,
                log_artifacts="all",
            )
        ],
    ) as run:
        for step in range(1, 25):
            run.log({"loss": 1 / step, "lr": 0.1}, step=step)
        run.log({"loss": math.nan}, step=25)
        run.log({"loss": math.inf}, step=26)
        run.log({"loss": -math.inf}, step=27)
        folder = tmp_path / "checkpoint-27"
        (folder / "sub").mkdir(parents=True)
        (folder / "weights.bin").write_bytes(b"w" * 100_000)
        (folder / "sub" / "h\u00e9 llo.txt").write_text("x")
        (folder / "empty").touch()
        run.publish(CheckpointSaved(step=27, path=str(folder)))
        run.publish(TextLogged(step=27, key="sample", text="To be"))
        run.publish(SystemMetricsLogged(metrics={"cpu": 12.5}))
        run.publish(Evaluated(step=27, metrics={"accuracy": 0.5, "eval_f1": 0.25}, dataset="dev"))
        run.publish(AlertRaised(step=27, title="loss is NaN", level="error"))
        run.publish(MessageLogged(text="almost done"))
        run.publish(SummaryLogged(values={"best": 0.04, "verdict": "good"}))
        run.publish(MetricDefined(name="loss", goal="minimize"))
    found = server.run(remote_id(run.dir))

    assert found["name"] == "full"
    assert found["experiment"] == "vendors"
    assert found["status"] == "FINISHED"
    assert found["start"] <= found["end"]
    loss = history(found, "loss")
    assert loss[:24] == [(step, str(1 / step)) for step in range(1, 25)]
    largest = 1.7976931348623157e308  # how MLflow keeps infinities in a database
    assert loss[24:] == [(25, "nan"), (26, str(largest)), (27, str(-largest))]
    assert len(history(found, "lr")) == 24
    assert history(found, "eval/dev/accuracy") == [(27, "0.5")]
    assert history(found, "eval_f1") == [(27, "0.25")]
    assert history(found, "system/cpu") == [(0, "12.5")]
    assert history(found, "summary/best") == [(0, "0.04")]
    assert found["params"] == {
        "lr": "0.0003",
        "model.layers": "2",
        "model.name": "tiny",
        "resume": "None",
    }
    tags = found["tags"]
    assert tags["team"] == "nlp"
    assert tags["alert"] == "error: loss is NaN"
    assert tags["message"] == "almost done"
    assert tags["summary.verdict"] == "good"
    assert tags["metric.loss"] == '{"goal":"minimize"}'
    assert tags["hotloop.outcome"] == "finished"
    files = dict(found["files"])
    assert files["checkpoints/checkpoint-27/weights.bin"] == 100_000
    assert files["checkpoints/checkpoint-27/sub/h\u00e9 llo.txt"] == 1
    assert not files["checkpoints/checkpoint-27/empty"]
    assert any(path.startswith("texts/sample/00000027-") for path in files)
    url = list_cursors(run.dir)["mlflow"].health.url
    assert url.startswith(f"{server.url}/#/experiments/")
    assert url.endswith(f"/runs/{found['run_id']}")


def test_a_check_makes_nothing(server):
    """The server says its version and whether there is such an experiment; there still is none."""

    async def check(**settings):
        sink = MlflowSink(tracking_uri=server.url, **settings)
        try:
            return await sink.check()
        finally:
            await sink.release()

    assert re.fullmatch(
        r"MLflow 3\.\S+ answers; the experiment 'Default' is there", anyio.run(check)
    )
    for _ in range(2):
        words = anyio.run(partial(check, experiment_name="never made"))
        assert words.endswith("the experiment 'never made' will be made")


def test_more_than_a_request_holds(server, tmp_path):
    """2,500 metrics in one event, 250 parameters and 150 tags arrive in several requests."""
    run_dir = write_attempt(
        tmp_path / "many",
        [MetricsLogged(step=1, metrics={f"m{n}": float(n) for n in range(2500)})],
        config={f"p{n}": n for n in range(250)},
    )
    found = deliver(run_dir, server, tags={f"t{n}": str(n) for n in range(150)})

    assert found["latest"] == {f"m{n}": float(n) for n in range(2500)}
    assert found["params"] == {f"p{n}": str(n) for n in range(250)}
    assert found["tags"]["t149"] == "149"


def test_keys_that_the_server_refuses_become_legal_ones(server, tmp_path):
    """Each keeps a series of its own, and none stops the others."""
    keys = {
        "a(b)": "a_b_",
        "a@b": "a_b",
        "/abs": "abs",
        "x//y": "x/y",
        "up/../down": "up/__/down",
        "..": "__",
        "": "_",
        "end/": "end",
        "back\\slash": "back_slash",
        "colon:": "colon_",
        "sp ace": "sp ace",
        "\u00fcml\u00e4ut": "\u00fcml\u00e4ut",
        "\N{GRINNING FACE}\n": "__-",  # taken by ".." already
        "k" * 251: "k" * 241 + "-",
    }
    run_dir = write_attempt(
        tmp_path / "keys",
        [MetricsLogged(step=1, metrics={key: float(n) for n, key in enumerate(keys)})],
        config=dict.fromkeys(keys, "v"),
    )
    found = deliver(run_dir, server)

    assert len(found["metrics"]) == len(found["params"]) == len(keys)
    for n, legal in enumerate(keys.values()):
        (name,) = [key for key, points in found["metrics"].items() if points[0][1] == str(float(n))]
        assert name == legal or (legal.endswith("-") and name.startswith(legal))


def test_parameters_never_stop_a_run(server, tmp_path):
    """One too long is cut, one changed on resume keeps its value and is recorded as a tag."""
    run_dir = write_attempt(
        tmp_path / "params",
        [MetricsLogged(step=1, metrics={"loss": 1.0}), ParametersLogged(parameters={"lr": 0.3})],
        config={"lr": 0.1, "text": LONG, "empty": ""},
    )
    first = deliver(run_dir, server)
    write_attempt(
        run_dir,
        [MetricsLogged(step=2, metrics={"loss": 0.5})],
        attempt=2,
        from_step=1,
        config={"lr": 0.2, "text": LONG, "empty": "", "new": [1, "x"]},
    )
    second = deliver(run_dir, server)

    assert first["params"]["lr"] == second["params"]["lr"] == "0.1"
    assert first["tags"]["changed_param.lr"] == "0.3"
    assert second["tags"]["changed_param.lr"] == "0.2"
    assert "changed_param.text" not in second["tags"]
    assert second["params"]["text"].startswith(LONG[:5000])
    assert len(second["params"]["text"]) == 6000
    assert second["params"]["new"] == "[1, 'x']"
    assert first["run_id"] == second["run_id"]


def test_a_crashed_run_shows_failed_and_a_resumed_one_goes_on(server, tmp_path):
    """A run that nobody ended is FAILED; its resume is the same run, and repeats no step."""
    run_dir = write_attempt(
        tmp_path / "crash",
        [MetricsLogged(step=n, metrics={"loss": float(n)}) for n in range(1, 11)],
        outcome=None,
    )
    crashed = deliver(run_dir, server)
    write_attempt(
        run_dir,
        [MetricsLogged(step=n, metrics={"loss": float(n)}) for n in range(6, 16)],
        attempt=2,
        from_step=5,
    )
    resumed = deliver(run_dir, server)

    assert crashed["status"] == "FAILED"
    assert crashed["tags"]["hotloop.outcome"] == "crashed"
    assert resumed["status"] == "FINISHED"
    assert resumed["run_id"] == crashed["run_id"]
    assert history(resumed, "loss") == [(n, str(float(n))) for n in range(1, 16)]
    assert resumed["metrics"]["loss"][:10] == crashed["metrics"]["loss"]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("failed", "FAILED"), ("stopped", "FINISHED"), ("preempted", "KILLED")],
)
def test_the_outcome_is_shown(server, tmp_path, outcome, status):
    """With the error where there was one."""
    run_dir = write_attempt(tmp_path / outcome, [], outcome=outcome, error="ValueError: no")
    found = deliver(run_dir, server)

    assert found["status"] == status
    assert found["tags"]["hotloop.error"] == "ValueError: no"


def test_every_point_arrives_once_although_the_server_is_killed(tmp_path):
    """SIGKILL in the middle of a delivery, a restart, and 4,000 of 4,000 points."""
    server = RealServer(PYTHON, tmp_path)
    metrics = [
        MetricsLogged(step=n, metrics={f"m{k}": float(n) for k in range(5)}) for n in range(800)
    ]
    run_dir = write_attempt(tmp_path / "outage", metrics)

    class Small(MlflowSink):
        """Many requests, so that one of them is under way when the server dies."""

        limits = BatchLimits(events=4, age=0.0)

    def deliver_all():
        accounts.extend(sync_run(run_dir, [Small(tracking_uri=server.url)], pace=QUICK))

    accounts = []
    thread = threading.Thread(target=deliver_all)
    server.start()
    try:
        server.wait()
        thread.start()
        eventually(lambda: delivered(run_dir) > 100, 60)
        server.kill()
        thread.join(60)
        server.start()
        server.wait()
        deliver_all()
        found = server.run(remote_id(run_dir))
    finally:
        server.kill()

    interrupted, finished = accounts
    assert not interrupted.complete
    assert 100 < interrupted.delivered < 700
    assert finished.complete
    assert found["status"] == "FINISHED"
    for k in range(5):
        assert history(found, f"m{k}") == [(n, str(float(n))) for n in range(800)]


@pytest.mark.parametrize("victim", ["trainer", "delivery"])
def test_every_point_is_there_once_although_the_sender_is_killed(server, victim):
    """SIGKILL at random moments and resumes at earlier steps: none lost, none twice."""
    trials = run_kill_trials(3, 20261121, victim, destination(server))

    assert trials.failures == []
    assert trials.kills == 3


def delivered(run_dir):
    """How many records have been acknowledged so far."""
    cursors = list_cursors(run_dir)
    return cursors["mlflow"].counts.delivered if "mlflow" in cursors else 0


def test_a_run_is_found_again_when_its_id_was_lost(server, tmp_path):
    """Without its cursor the run is looked for, and its points are recognised."""
    run_dir = write_attempt(
        tmp_path / "lost", [MetricsLogged(step=n, metrics={"loss": float(n)}) for n in range(150)]
    )
    first = deliver(run_dir, server)
    (run_dir / "cursors" / "mlflow.json").unlink()
    second = deliver(run_dir, server)

    assert second["run_id"] == first["run_id"]
    assert second["metrics"] == first["metrics"]
    assert [each["name"] for each in server.runs()].count("lost") == 1


def test_a_deleted_experiment_is_restored(server, tmp_path):
    """Its name could not be used again otherwise."""
    experiment = server.ask("call", "create_experiment", "gone")
    server.ask("call", "delete_experiment", experiment)
    run_dir = write_attempt(tmp_path / "restored", [MetricsLogged(step=1, metrics={"loss": 1.0})])
    found = deliver(run_dir, server, experiment_name="gone")

    assert found["experiment"] == "gone"
    assert history(found, "loss") == [(1, "1.0")]


def test_a_child_of_another_run(server, tmp_path):
    """As MLFLOW_NESTED_RUN has it, and MLFLOW_RUN_ID goes on with a run that is there."""
    parent = deliver(write_attempt(tmp_path / "parent", []), server)
    child = deliver(write_attempt(tmp_path / "child", []), server, parent_run_id=parent["run_id"])
    again = deliver(
        write_attempt(tmp_path / "again", [MetricsLogged(step=7, metrics={"x": 1.0})]),
        server,
        run_id=parent["run_id"],
    )

    assert child["tags"]["mlflow.parentRunId"] == parent["run_id"]
    assert again["run_id"] == parent["run_id"]
    assert history(again, "x") == [(7, "1.0")]


def test_files_beside_a_server_that_takes_none(tmp_path):
    """`--no-serve-artifacts`: a folder of this machine is written to directly."""
    server = RealServer(
        PYTHON, tmp_path, "--no-serve-artifacts", "--default-artifact-root", str(tmp_path / "root")
    )
    server.start()
    try:
        server.wait()
        model = tmp_path / "model.bin"
        model.write_bytes(b"m" * 10)
        run_dir = write_attempt(
            tmp_path / "beside",
            [
                ArtifactReady(path=str(model), kind="model", name="best.bin"),
                MetricsLogged(step=1, metrics={"loss": 1.0}),
            ],
        )
        found = deliver(run_dir, server, log_artifacts="end")
    finally:
        server.kill()

    assert ["models/best.bin", 10] in found["files"]
    assert history(found, "loss") == [(1, "1.0")]

"""What DagsHub's own client leaves on the stand-in, our sink leaves too; MLflow's reads it back."""

import json
import math
import os
from pathlib import Path

import pytest

from bus import CheckpointSaved, MetricsLogged, list_cursors, sync_run
from sinks.dagshub import DagsHubSink
from tests.servers.dagshub import TOKEN, USER, StandIn
from tests.servers.journals import QUICK, write_attempt
from tests.vendors.mlflow_server import READER
from tests.vendors.programs import find_python, needs, run_program, train

PYTHON = find_python("DAGSHUB", "dagshub")

pytestmark = needs(PYTHON, "DAGSHUB", "dagshub, mlflow and transformers", timeout=200)


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    for name in [each for each in os.environ if each.startswith(("MLFLOW_", "DAGSHUB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def account(server):
    """What somebody has set who has an account."""
    return {
        "DAGSHUB_CLIENT_HOST": server.url,
        "DAGSHUB_USER_TOKEN": TOKEN,
        "DAGSHUB_QUIET": "1",
        "DAGSHUB_DISABLE_ANALYTICS": "1",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": TOKEN,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def start(server, folder, program, *arguments):
    """Run a program of this folder where the clients are; the last line it printed."""
    command = (PYTHON, str(Path(__file__).with_name(program)), *arguments)
    printed = run_program(*command, folder=folder, environment=account(server))
    return printed.strip().rpartition("\n")[2]


@pytest.fixture
def output(tmp_path):
    """A trainer's folder with one checkpoint."""
    folder = tmp_path / "outdir"
    (folder / "checkpoint-25" / "sub").mkdir(parents=True)
    (folder / "checkpoint-25" / "model.safetensors").write_bytes(bytes(1000))
    (folder / "checkpoint-25" / "sub" / 'a "b" \u00e9.txt').write_text("x")
    return folder


def ours(server, output, folder):
    """The same run through our sink, delivered from a journal."""
    points = [
        *((step, {"loss": 1 / step, "train/acc": step / 25}) for step in range(1, 26)),
        (26, {"loss": math.nan}),
        (3, {"loss": 0.5}),
    ]
    run_dir = write_attempt(
        folder / "ours",
        [
            *(MetricsLogged(step=step, metrics=metrics) for step, metrics in points),
            CheckpointSaved(step=25, path=str(output / "checkpoint-25")),
        ],
        config={"lr": 0.1, "model": {"layers": 2}},
    )
    sink = DagsHubSink(
        tracking_uri=server.tracking_uri,
        user_token=TOKEN,
        experiment_name="vendors",
        tags={"team": "nlp"},
        log_artifacts="end",
    )
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=60)
    assert account.complete
    assert account.dead == 0
    return run_dir


def test_the_client_and_our_sink_leave_the_same(output, tmp_path):
    """Series with NaN and the late point, parameters, status, experiment, every file.

    Intended differences: tags of each client's own; one commit for a whole checkpoint, where the
    client makes one for each of its folders.
    """
    with StandIn() as server, StandIn() as other:
        start(server, tmp_path, "dagshub_client.py", server.url, USER, "fakerepo", str(output))
        ours(other, output, tmp_path)

    theirs, found = server.run, other.run
    assert sorted(found.series("loss"), key=str) == sorted(theirs.series("loss"), key=str)
    assert found.series("train/acc") == theirs.series("train/acc")
    assert found.params == theirs.params == {"lr": "0.1", "model": "{'layers': 2}"}
    assert found.info["status"] == theirs.info["status"] == "FINISHED"
    assert found.tags["team"] == theirs.tags["team"]
    assert other.branches["main"].files == server.branches["main"].files
    assert len(other.branches["main"].files) == 2
    assert [len(each.branches["main"].commits) for each in (server, other)] == [2, 1]


def test_mlflows_client_reads_our_run(output, tmp_path):
    """Through the repository's address, with the credentials that DagsHub's client would set."""
    with StandIn() as server:
        run_dir = ours(server, output, tmp_path)
        run_id = list_cursors(run_dir)["dagshub"].state["run_id"]
        read = (READER.name, server.tracking_uri, "run", str(run_id))
        found = json.loads(start(server, tmp_path, *read))

    assert found["name"] == "ours"
    assert found["experiment"] == "vendors"
    assert found["status"] == "FINISHED"
    assert found["params"] == {"lr": "0.1", "model": "{'layers': 2}"}
    steps = [step for step, _, _ in found["metrics"]["loss"]]
    assert steps == [*range(1, 27), 3]
    assert found["metrics"]["loss"][25][1] == "nan"
    assert found["tags"]["hotloop.outcome"] == "finished"


def test_upstreams_callback_and_our_sink_leave_the_same(tmp_path):
    """One script under Transformers' trainer and ours, both with `report_to=["dagshub"]`.

    Intended differences: parameters that only one of the trainers has, times that were measured,
    and what each trainer's checkpoints hold beside the model; a summary names the run. The run
    ends through ours, and upstream's only because MLflow's client does so at exit.
    """
    found = {}
    for library in ("transformers", "hotloop"):
        with StandIn() as server:
            environment = {
                **account(server),
                "MLFLOW_TRACKING_URI": server.tracking_uri,
                "MLFLOW_EXPERIMENT_NAME": "vendors",
                "HF_DAGSHUB_LOG_ARTIFACTS": "1",
            }
            train(PYTHON, "dagshub", library, folder=tmp_path / library, environment=environment)
        found[library] = server
    theirs, ours = found["transformers"], found["hotloop"]

    keys = {key for key, *_ in theirs.run.points}
    assert {key for key, *_ in ours.run.points} == keys
    for key in keys:
        measured = key.endswith(("_runtime", "_per_second"))
        expected = sorted(theirs.run.series(key))  # its client's threads send in any order
        if measured:
            assert [step for step, _ in ours.run.series(key)] == [step for step, _ in expected]
        else:
            assert ours.run.series(key) == [(n, pytest.approx(each)) for n, each in expected]
    both = ours.run.params.keys() & theirs.run.params.keys()
    assert len(both) > 90
    assert {key for key in both if ours.run.params[key] != theirs.run.params[key]} == {
        *("hub_token", "restore_callback_states_from_checkpoint"),
    }
    assert ours.run.info["run_name"] == theirs.run.info["run_name"] == "same"
    assert ours.run.tags["mlflow.user"] == theirs.run.tags["mlflow.user"] == USER
    assert ours.run.info["status"] == theirs.run.info["status"] == "FINISHED"
    models = [f"artifacts/checkpoint-{n}/model.safetensors" for n in (5, 10)]
    assert set(models) <= ours.branches["main"].files.keys() & theirs.branches["main"].files.keys()
    assert len(ours.branches["main"].commits) == len(theirs.branches["main"].commits) == 2

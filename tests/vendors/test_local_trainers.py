"""Upstream's callbacks for tools on one machine under its trainer, and our sinks under ours.

One training each reports to DVCLive, Trackio, CodeCarbon, Kubeflow and SwanLab at once.
"""

import csv
import json

import pytest

from sinks.testing import ScriptedServer
from tests.servers.kubeflow import TOKEN, Controller, told
from tests.vendors.programs import find_python, needs, run_program, train

PYTHON = find_python("DVCLIVE", "dvclive")

pytestmark = needs(PYTHON, "DVCLIVE", "all of the group `vendors`", timeout=600)

READ = """
import json
from pathlib import Path
from tests.vendors.local_tools import read_swanlab, read_trackio
print(json.dumps([read_trackio("demo", "same"), read_swanlab(Path("swanlog"))]))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By library the folder of its training, what Trackio, Kubeflow and SwanLab have at its end."""
    found = {}
    token = tmp_path_factory.mktemp("job") / "token"
    token.write_text(TOKEN)
    for library in ("transformers", "hotloop"):
        folder, controller = tmp_path_factory.mktemp(library), Controller()
        environment = {
            "CODECARBON_COUNTRY_ISO_CODE": "FRA",
            "DVC_NO_ANALYTICS": "1",
            "HF_HUB_OFFLINE": "1",
            "KUBEFLOW_TRAINER_SERVER_TOKEN": str(token),
            "SWANLAB_MODE": "offline",
            "TRACKIO_DIR": str(folder / "trackio"),
        }
        with ScriptedServer(controller.answer) as server:
            environment["KUBEFLOW_TRAINER_SERVER_URL"] = f"{server.url}/status"
            train(PYTHON, "dvclive", library, folder=folder, environment=environment)
        rows = run_program(PYTHON, "-c", READ, folder=folder, environment=environment)
        rows_of, experiments = json.loads(rows.splitlines()[-1])
        found[library] = (folder, rows_of, controller.statuses[-1], experiments)
    return found["transformers"], found["hotloop"]


def test_dvclive(trained):
    """The same tables and values, at the steps they belong to.

    Intended differences: upstream counts the calls of its callback, from 0; CodeCarbon's numbers
    reach this sink too, if it has measured any before the end.
    """
    theirs, ours = (tables(folder / "dvclive" / "plots" / "metrics") for folder, *_ in trained)

    assert {name for name in ours if not name.startswith("system/")} == theirs.keys()
    for name in theirs:
        rows = ours[name]
        if not name.endswith(("runtime.tsv", "second.tsv")):
            expected = [value for _, value in theirs[name]]
            assert [value for _, value in rows] == pytest.approx(expected, rel=1e-6), name
    assert [step for step, _ in ours["loss.tsv"]] == [2, 4, 6, 8, 10]
    assert [step for step, _ in theirs["loss.tsv"]] == [0, 1, 3, 4, 5]
    assert [step for step, _ in ours["eval/loss.tsv"]] == [5, 10]
    assert [step for step, _ in theirs["eval/loss.tsv"]] == [2, 6]


def test_trackio(trained):
    """The same metrics and values, and settings.

    Intended differences: rows have the training's steps, where upstream's count the calls and tell
    the step as a metric; the summary of the training, which upstream leaves out, is there.
    """
    theirs, ours = (series(found["logs"]) for _, found, *_ in trained)

    named = theirs.pop("train/global_step")
    assert [step for step, _ in named] != [value for _, value in named]
    summary = {"runtime", "samples_per_second", "steps_per_second", "loss"}
    added = {f"train/train_{key}" for key in summary} | {"train/total_flos"}
    assert ours.keys() == theirs.keys() | added
    for key, points in theirs.items():
        if not key.endswith(("runtime", "second")):
            expected = [value for _, value in points]
            assert [value for _, value in ours[key]] == pytest.approx(expected, rel=1e-6), key
    assert [step for step, _ in ours["train/loss"]] == [2, 4, 6, 8, 10]
    assert [step for step, _ in ours["eval/loss"]] == [5, 10]
    assert trained[1][1]["config"].keys() >= {"_Group", "_Created"}


def test_codecarbon(trained):
    """A line with the same columns, of the same machine.

    Intended differences: the country that was given counts; upstream asks the network, and takes
    the machine for one in Canada if nobody answers. Ours is in the run's folder, measures from the
    run's beginning, and calls the project as the run.
    """
    rows = []
    for folder, *_ in trained:
        (file,) = folder.rglob("emissions.csv")
        with file.open(encoding="utf-8", newline="") as lines:
            rows += csv.DictReader(lines)
    theirs, ours = rows

    assert ours.keys() == theirs.keys()
    for name in ("cpu_model", "cpu_count", "codecarbon_version", "tracking_mode", "os"):
        assert ours[name] == theirs[name]
    assert (ours["country_iso_code"], ours["project_name"]) == ("FRA", "same")
    assert float(ours["energy_consumed"]) > 0


def test_kubeflow(trained):
    """Complete at the end, with the same metrics and values.

    Intended differences: ours tells steps and epoch to the end, and is sent beside the training.
    """
    theirs, ours = (status for _, _, status, _ in trained)

    for status in (theirs, ours):
        assert (status["progressPercentage"], status["estimatedRemainingSeconds"]) == (100, 0)
    expected, found = told(theirs), told(ours)
    place = {"current_step": "10", "total_steps": "10", "current_epoch": "1.0"}
    assert found.keys() == expected.keys() | place.keys()
    assert {key: found[key] for key in place} == place
    for key, value in expected.items():
        if not key.endswith(("runtime", "per_second")):
            assert float(found[key]) == pytest.approx(float(value), rel=1e-6), key


def test_swanlab(trained):
    """The same metrics, values and steps, and settings.

    Intended differences: ours begins and ends the experiment, where upstream's raises unless the
    program has begun one (SwanLab 0.10), and leaves its end to the program's exit; CodeCarbon's
    numbers reach this sink too, if it has measured any before the end; upstream adds which library
    it is to the settings.
    """
    (theirs,), (ours,) = (experiments for *_, experiments in trained)

    points = {key: rows for key, rows in ours["points"].items() if not key.startswith("system/")}
    assert points.keys() == theirs["points"].keys()
    for key, rows in theirs["points"].items():
        assert [step for step, _ in points[key]] == [step for step, _ in rows], key
        if not key.endswith(("runtime", "second")):
            expected = [value for _, value in rows]
            assert [value for _, value in points[key]] == pytest.approx(expected, rel=1e-6), key
    assert (ours["name"], theirs["name"]) == ("same", "same")
    assert ours["state"] == 1
    same = ("learning_rate", "max_steps", "per_device_train_batch_size", "run_name", "seed")
    assert [ours["config"][key] for key in same] == [theirs["config"][key] for key in same]
    assert "FRAMEWORK" in theirs["config"].keys() - ours["config"].keys()


def tables(folder):
    """The rows of each of DVCLive's tables."""
    found = {}
    for path in folder.rglob("*.tsv"):
        with path.open(encoding="utf-8", newline="") as file:
            _, *rows = csv.reader(file, delimiter="\t")
        found[path.relative_to(folder).as_posix()] = [(int(s), float(v)) for s, v in rows]
    return found


def series(logs):
    """The points of each key."""
    found = {}
    for each in logs:
        for key in each.keys() - {"step", "timestamp"}:
            found.setdefault(key, []).append((each["step"], each[key]))
    return found

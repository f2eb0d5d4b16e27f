"""Comet's own client and Transformers' callback beside our sink, on the same stand-in."""

import math

import pytest

from bus import (
    ArtifactReady,
    ConsoleLineLogged,
    MetricsLogged,
    ParametersLogged,
    SummaryLogged,
    TextLogged,
)
from tests.servers._comet_parts import Storage
from tests.servers.comet import StandIn
from tests.servers.comet_runs import deliver, shown
from tests.servers.journals import write_attempt
from tests.vendors.comet_process import ask_client, environment
from tests.vendors.programs import find_python, needs, train

PYTHON = find_python("COMET", "comet_ml")

pytestmark = needs(PYTHON, "COMET", "comet_ml and transformers", timeout=200)

PARAMETERS = {
    "lr": 0.1,
    "none": None,
    "flag": True,
    "wide": [1, 2],
    "odd": math.inf,
    "model": {"layers": 2, "inner": {"act": "gelu"}, "empty": {}},
    "text": "x" * 1500,
}
METRICS = [{"loss": 1 / n, "epoch": n / 4} for n in range(1, 31)]
NUMBERS = [{"odd": each, "epoch": 8.0} for each in (math.nan, math.inf, -math.inf)]
_OTHERWISE = frozenset({"hub_token", "restore_callback_states_from_checkpoint"})
"""Arguments that the two trainers were given or write differently; no matter of trackers."""
_TIMES = ("runtime", "per_second")


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


@pytest.fixture
def theirs():
    with StandIn() as server:
        yield server


@pytest.fixture
def files(tmp_path):
    """A data set, a model in a file and one in a folder."""
    (tmp_path / "data.csv").write_text("1,2")
    (tmp_path / "model.bin").write_bytes(b"m" * 1000)
    (tmp_path / "best" / "inner").mkdir(parents=True)
    (tmp_path / "best" / "weights").write_bytes(b"w")
    (tmp_path / "best" / "inner" / "vocabulary.json").write_text("{}")
    return tmp_path


def calls(files):
    """What a user asks of their client."""
    logged = [
        (step, {key: value for key, value in metrics.items() if key != "epoch"}, metrics["epoch"])
        for step, metrics in enumerate([*METRICS, *NUMBERS])
    ]
    return [
        ["set_name", {"name": "run"}],
        ["add_tags", {"tags": ["a", "b"]}],
        ["log_parameters", {"parameters": PARAMETERS}],
        *(
            ["log_metrics", {"dic": metrics, "step": step, "epoch": epoch}]
            for step, metrics, epoch in logged
        ),
        ["log_other", {"key": "best", "value": 0.5}],
        ["log_text", {"text": "once upon", "step": 7}],
        ["log_asset", {"file_data": str(files / "data.csv"), "file_name": "d/data.csv", "step": 3}],
        ["log_model", {"name": "small", "file_or_folder": str(files / "model.bin")}],
        ["log_model", {"name": "large", "file_or_folder": str(files / "best")}],
    ]


def events(files):
    """The same as events."""
    return [
        ParametersLogged(parameters=PARAMETERS),
        *(
            MetricsLogged(step=step, metrics=metrics)
            for step, metrics in enumerate([*METRICS, *NUMBERS])
        ),
        SummaryLogged(values={"best": 0.5}),
        TextLogged(step=7, key="story", text="once upon"),
        ArtifactReady(step=3, path=str(files / "data.csv"), kind="dataset", name="d/data.csv"),
        ArtifactReady(path=str(files / "model.bin"), kind="model", name="small"),
        ArtifactReady(path=str(files / "best"), kind="model", name="large"),
    ]


SETTINGS = {"experiment_tags": "a,b", "log_assets": "all"}


def test_the_same_calls_leave_the_same_experiment(theirs, server, files):
    """Parameters, metrics with steps and epochs, tags, single values, texts, files and models."""
    ask_client(PYTHON, "write", calls(files), theirs, files)
    account = deliver(write_attempt(files / "run", events(files)), server, **SETTINGS)
    expected, found = shown(theirs), shown(server)

    assert account.complete
    # Its summary has an Infinity in it, which is no JSON; so it marks the experiment with an error.
    assert expected["state"][:2] == found["state"][:2]
    assert "Error sending a notification" in expected.pop("state")[2]
    assert found.pop("state")[2] is None
    # Their client says at which step it was, also of what has none.
    expected["files"] = {(name, kind): each for (name, kind, _), each in expected["files"].items()}
    found["files"] = {(name, kind): each for (name, kind, _), each in found["files"].items()}
    assert found == expected


def test_a_large_file_goes_to_storage_as_theirs(tmp_path):
    """In as many parts of the same sizes, after the same question."""
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate((50 << 20) + 1)
    saved = ArtifactReady(step=3, path=str(large), kind="model", name="best")
    asked, sizes, stored = [], [], []
    for ours in (False, True):
        with Storage() as storage, StandIn(storage=storage) as server:
            if ours:
                deliver(write_attempt(tmp_path / "run", [saved]), server, log_assets="all")
            else:
                call = ["log_model", {"name": "best", "file_or_folder": str(large)}]
                ask_client(PYTHON, "write", [call], server, tmp_path)
            (body,) = server.calls("asset/upload-start")
            asked.append({key: value for key, value in body.items() if value is not None})
            sizes.append(sorted(storage.sizes))
            stored.append(server.experiment.files())

    # Theirs has the step of the last call, and there was none.
    assert asked[0].keys() == asked[1].keys() - {"step"}
    for same in ("startUploadParams", "fileName", "extension", "type", "groupingName", "overwrite"):
        assert asked[0][same] == asked[1][same]
    assert sizes[0] == sizes[1]
    assert stored[0] == stored[1]


def test_their_reader_finds_what_was_logged(server, files):
    """`comet_ml.API`: the state, names, every point, and the files' bytes."""
    lines = [ConsoleLineLogged(text=f"line {n}") for n in range(3)]
    deliver(write_attempt(files / "run", [*events(files), *lines]), server, **SETTINGS)
    found = ask_client(PYTHON, "read", server.experiment.key, server, files)

    assert found["state"] == "finished"
    assert found["name"] == "run"
    assert found["tags"] == ["a", "b"]
    assert found["output"] == "line 0\nline 1\nline 2\n"
    assert sorted(found["models"]) == ["large", "small"]
    assert found["params"]["model|inner|act"] == "gelu"
    assert found["others"]["hotloop.outcome"] == "finished"
    points = [each for each in found["points"] if each[0] == "loss"]
    assert points == [["loss", n, (n + 1) / 4, str(1 / (n + 1))] for n in range(30)]
    odd = [value for name, _, _, value in found["points"] if name == "odd"]
    assert odd == ["NaN", "Infinity", "-Infinity"]
    assert found["files"]["best/weights"] == "w"
    assert found["files"]["model.bin"] == "m" * 1000


@pytest.mark.parametrize(
    ("outcome", "state"), [("failed", "crashed"), (None, "crashed"), ("stopped", "finished")]
)
def test_their_reader_finds_how_it_ended(server, tmp_path, outcome, state):
    """Crashed or finished; more their reader does not know."""
    deliver(write_attempt(tmp_path / "run", [], outcome=outcome, error="no"), server)
    found = ask_client(PYTHON, "read", server.experiment.key, server, tmp_path)

    assert found["state"] == state


def test_their_callback_beside_ours(theirs, server, tmp_path):
    """The same training: the same names, steps, epochs, values, and settings."""
    for library, where in (("transformers", theirs), ("hotloop", server)):
        told = {**environment(where), "HOTLOOP_COMET_REWRITE": "1"}
        train(PYTHON, "comet_ml", library, folder=tmp_path / library, environment=told)
    expected, found = shown(theirs), shown(server)

    assert found["series"].keys() == expected["series"].keys()
    for name, points in expected["series"].items():
        assert _compared(name, found["series"][name]) == _compared(name, points), name
    # Theirs is marked with errors too, of calls about the machine that the stand-in does not know.
    assert found["state"][:2] == expected["state"][:2]
    assert server.experiment.others["Name"] == theirs.experiment.others["Name"] == "same"
    # Theirs are under `args|`; some arguments only one library has.
    ours = {
        name: value
        for name, value in found["params"].items()
        if f"args|{name}" in expected["params"] and name not in _OTHERWISE
    }
    assert len(ours) > 80
    assert ours == {name: expected["params"][f"args|{name}"] for name in ours}


def _compared(name, points):
    """Points to the digits that a sum of 32 bits has, whatever its order; times by their place."""
    return {
        (step, epoch, None if name.endswith(_TIMES) else round(value, 6), context)
        for step, epoch, value, context in points
    }

"""The Comet sink over the documented REST interface alone, against the strict stand-in."""

import math

import pytest

import runtime
from bus import (
    ArtifactReady,
    ConsoleLineLogged,
    MediaLogged,
    MetricsLogged,
    NotConfiguredError,
    SummaryLogged,
    list_cursors,
)
from sinks.comet import CometSink
from tests.servers.comet import KEY, StandIn
from tests.servers.comet_runs import deliver, points
from tests.servers.journals import write_attempt
from tests.waiting import eventually

METRIC = "write/experiment/metric"
REST = {"rest": True, "workspace": "team"}


pytestmark = pytest.mark.usefixtures("no_comet")


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


def test_a_whole_run(server, tmp_path):
    """Parameters, points, lines, single values, files and the outcome; no call of the client's."""
    for name in ("model.bin", "cat.png"):
        (tmp_path / name).write_bytes(name.encode())
    events = [
        MetricsLogged(step=1, metrics={"loss": 0.5, "epoch": 0.25}),
        MetricsLogged(step=2, metrics={"loss": math.nan}),
        ConsoleLineLogged(text="half"),
        SummaryLogged(values={"best": 0.5}),
        ArtifactReady(step=2, path=str(tmp_path / "model.bin"), kind="model", name="small"),
        MediaLogged(key="cat", path=str(tmp_path / "cat.png"), media_type="image/png"),
    ]
    config = {"lr": 0.1, "flag": True, "none": None, "deep": {"er": [1, "x"]}}
    run_dir = write_attempt(tmp_path / "run", events, config=config)
    account = deliver(run_dir, server, log_assets="all", experiment_tags="a,b", **REST)

    found = server.experiment
    assert account.complete
    assert account.url.endswith(found.key)
    assert found.params == {"lr": "0.1", "flag": "true", "none": "null", "deep|er": '[1, "x"]'}
    told = [point[:4] for point in found.points]
    assert told == [("loss", 1, 0.25, 0.5), ("epoch", 1, 0.25, 0.25), ("loss", 2, None, "NaN")]
    assert found.lines == {0: ("half\n", False)}
    assert found.tags == ["a", "b"]
    assert {"Name": "run", "best": 0.5, "hotloop.outcome": "finished"}.items() <= (
        found.others.items()
    )
    assert found.files() == {"model.bin": b"model.bin", "cat": b"cat.png"}
    assert (found.alive, found.project, found.workspace) == (False, "tests", "team")
    assert {headers["authorization"] for headers in server.headers} == {KEY}
    assert not [call for _, call, _ in server.requests if call.startswith(("batch", "logger"))]


def test_a_refused_moment_repeats_nothing(server, tmp_path):
    """Each point is acknowledged by itself."""
    server.faults[METRIC].extend([None, None, 500, None, 503])
    run_dir = write_attempt(tmp_path / "run", points(10))
    account = deliver(run_dir, server, **REST)

    assert account.complete
    assert server.experiment.series("loss") == [(n, float(n)) for n in range(10)]


def test_a_resumed_run_goes_on(server, tmp_path):
    """The experiment's key, which is Comet's, is in the cursor; a step keeps its first value."""
    run_dir = write_attempt(tmp_path / "run", points(4), outcome=None)
    deliver(run_dir, server, **REST)
    crashed = server.experiment.crashed
    write_attempt(run_dir, points(4, first=2), attempt=2, from_step=1)
    deliver(run_dir, server, **REST)

    assert crashed
    assert not server.experiment.crashed
    assert list_cursors(run_dir)["comet"].state["experiment_key"] == server.experiment.key
    assert server.experiment.series("loss") == [(n, float(n)) for n in range(6)]


def test_signs_of_life(tmp_path):
    """As often as Comet wants them."""
    with StandIn(beat=20) as server:
        sink = CometSink(api_key=KEY, url_override=server.url, **REST)
        with runtime.Run(name="alive", dir=tmp_path, sinks=[sink]):
            eventually(lambda: server.experiments and server.experiment.beats > 3)
        assert not server.experiment.alive


def test_what_it_cannot_do_is_said():
    """Before anything begins, with the variable."""
    with pytest.raises(NotConfiguredError, match="COMET_WORKSPACE"):
        CometSink(api_key=KEY, rest=True)
    with pytest.raises(NotConfiguredError, match="HOTLOOP_COMET_NOTIFY"):
        CometSink(api_key=KEY, notify=True, **REST)

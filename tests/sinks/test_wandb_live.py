"""The W&B sink beside a training: signs of life, the stop button, modes without a network."""

import pytest

import runtime
from bus import MetricsLogged, list_cursors, sync_run
from sinks.wandb import WandbSink
from tests.servers.journals import QUICK
from tests.servers.wandb import KEY, StandIn
from tests.waiting import eventually


@pytest.fixture
def server(environment):
    del environment
    with StandIn() as server:
        yield server


def sink(server, **settings):
    return WandbSink(base_url=server.url, api_key=KEY, **settings)


def beats(server):
    return server.calls("file_stream").count({})


def test_a_sign_of_life(server, tmp_path):
    """While nothing is logged, as often as asked; none after the end was told."""
    with runtime.Run(name="run", dir=tmp_path, sinks=[sink(server, heartbeat=0.05)]):
        eventually(lambda: beats(server) >= 3)

    assert server.calls("file_stream")[-1] == {"complete": True, "exitcode": 0}


@pytest.mark.parametrize("deliver", ["thread", "process"])
def test_the_stop_button(server, tmp_path, deliver):
    """The training is asked to stop, and the run there ends as stopped."""
    server.stopped = True
    with runtime.Run(
        name="run",
        dir=tmp_path,
        sinks=[sink(server, heartbeat=0.05)],
        deliver=deliver,
    ) as run:
        step = 0

        def stopped():
            nonlocal step
            step += 1
            return run.safe_point(step).stop

        eventually(stopped)

    assert server.run.exitcode == 0
    about = server.run.values()["hotloop"]
    assert about["outcome"] == "stopped"
    assert about["reason"] == "wandb: stopped on the run's page"


def test_offline_means_later(server, tmp_path, caplog):
    """Nothing is sent while training; `hotloop sync` sends it, with the variable still set."""
    with runtime.Run(name="run", dir=tmp_path, sinks=[sink(server, mode="offline")]) as run:
        run.publish(MetricsLogged(step=1, metrics={"loss": 1.0}))

    assert server.requests == []
    assert any("the mode is offline" in each for each in caplog.messages)
    assert list_cursors(run.dir)["wandb"].health.status == "suspended"
    (account,) = sync_run(run.dir, [sink(server, mode="offline")], pace=QUICK, timeout=15)
    assert account.complete
    assert server.run.series("loss") == [(1, 1.0)]

"""What Kubeflow Trainer's controller is told of a training."""

import itertools

import pytest

from bus import (
    EpochEnded,
    Evaluated,
    MetricsLogged,
    NotConfiguredError,
    Pace,
    TrainBegan,
    TrainEnded,
    sync_run,
)
from sinks.kubeflow import KubeflowSink
from sinks.testing import Received, Reply, ScriptedServer, self_signed
from tests.servers.kubeflow import TOKEN, Controller, told
from tests.sinks.local_sinks import NOON, metrics, write_run
from tests.sinks.short_suite import ShortSuite

QUICK = Pace(look=0.02, rearm=0.05)


@pytest.fixture
def controller(environment):
    del environment
    return Controller()


@pytest.fixture
def job(controller, tmp_path, monkeypatch):
    """A TrainJob's environment."""
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    with ScriptedServer(controller.answer) as server:
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"{server.url}/status")
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(token))
        yield token


def training(steps, *, begin=0, max_steps=20):
    """A training of a second a step, whose first one is the next after `begin`."""
    return [TrainBegan(time=NOON + begin, step=begin, max_steps=max_steps), *metrics(steps)]


def deliver(run_dir, **settings):
    (account,) = sync_run(run_dir, [KubeflowSink(**settings)], pace=QUICK)
    assert (account.complete, account.dead) == (True, 0)


@pytest.mark.usefixtures("job")
class TestStatus:
    def test_a_training_under_way(self, controller, tmp_path):
        """Progress, the time left by this training's pace, the latest of each metric."""
        events = [
            *training(range(1, 6)),
            EpochEnded(time=NOON + 5, step=5, epoch=1.25),
            MetricsLogged(time=NOON + 5, step=5, metrics={"loss": float("nan")}),
            Evaluated(time=NOON + 5, step=5, metrics={"eval_loss": 0.5}),
        ]
        deliver(write_run(tmp_path, events, outcome=None))

        assert controller.last == {
            "progressPercentage": 25,
            "estimatedRemainingSeconds": 15,
            "metrics": {
                "n": "5.0",
                "loss": "nan",
                "eval_loss": "0.5",
                "current_step": "5",
                "total_steps": "20",
                "current_epoch": "1.25",
            },
        }

    def test_the_end(self, controller, tmp_path):
        """99 % until training has ended, also if it has ended early."""
        run_dir = write_run(tmp_path, training(range(1, 21)), outcome=None)
        deliver(run_dir)
        assert controller.last["progressPercentage"] == 99
        early = [*training(range(1, 6)), TrainEnded(time=NOON + 6, step=5)]
        deliver(write_run(tmp_path / "early", early))

        assert controller.last["progressPercentage"] == 100
        assert controller.last["estimatedRemainingSeconds"] == 0

    def test_a_resumed_training(self, controller, tmp_path):
        """Its own pace counts, from another process too; what failed is not complete."""
        run_dir = write_run(tmp_path, training(range(1, 9)), outcome=None)
        deliver(run_dir)
        assert controller.last["progressPercentage"] == 40
        events = [*training([], begin=8), *metrics([16])]
        write_run(tmp_path, events, attempt=2, from_step=8, outcome=None)
        deliver(run_dir)

        assert controller.last["progressPercentage"] == 80
        assert controller.last["estimatedRemainingSeconds"] == 4

    def test_a_loop_of_ones_own(self, controller, tmp_path):
        """Nobody knows how many steps it will have, but that it has finished."""
        run_dir = write_run(tmp_path, metrics([7]), outcome=None)
        deliver(run_dir)

        assert controller.last == {"metrics": {"n": "7.0"}}


class TestToken:
    def test_one_that_is_renewed(self, controller, job, tmp_path):
        """A refusal makes the sink read the file again."""
        controller.token = "another-0123456789"  # noqa: S105 - of no server
        run_dir = write_run(tmp_path, metrics([1]))
        job.write_text("another-0123456789")
        deliver(run_dir)
        assert told(controller.statuses[-1]) == {"n": "1.0"}

    def test_none(self, job, tmp_path):
        """Is said with the path, and nothing is lost."""
        job.unlink()
        run_dir = write_run(tmp_path, metrics([1]))
        (account,) = sync_run(run_dir, [KubeflowSink()], timeout=1.0, pace=QUICK)

        assert not account.complete
        assert str(job) in account.reason
        job.write_text(TOKEN)
        deliver(run_dir)

    def test_an_authority_of_the_clusters_own(self, controller, job, tmp_path, monkeypatch):
        """The file that the environment names is trusted."""
        certificate = self_signed(tmp_path)
        with ScriptedServer(controller.answer, certificate=certificate) as server:
            monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"{server.url}/status")
            monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_CA_CERT", str(certificate))
            deliver(write_run(tmp_path, metrics([1])))

        assert job.exists()
        assert told(controller.statuses[-1]) == {"n": "1.0"}


class TestSettings:
    def test_outside_a_job(self, environment):
        """It says that Kubeflow sets them."""
        del environment
        with pytest.raises(NotConfiguredError, match="pods of a TrainJob"):
            KubeflowSink()

    @pytest.mark.usefixtures("job")
    def test_switched_off(self, monkeypatch):
        """By Transformers' variable, also if it was named."""
        monkeypatch.setenv("DISABLE_KUBEFLOW_INTEGRATION", "TRUE")
        with pytest.raises(NotConfiguredError, match="DISABLE_KUBEFLOW_INTEGRATION") as raised:
            KubeflowSink()

        assert raised.value.switched_off


@pytest.mark.slow
class TestKubeflow(ShortSuite):
    """The conformance kit; the double shows each value for as long as it was the latest."""

    secrets = (TOKEN,)
    patience = 4.0

    @pytest.fixture(autouse=True)
    def controller(self, environment, tmp_path):
        """The token stands where no secret is looked for."""
        del environment
        self.controller = Controller()
        self.token = tmp_path.parent / f"{tmp_path.name}-token"
        self.token.write_text(TOKEN)

    def make_sink(self, server: ScriptedServer) -> KubeflowSink:
        """A status for each event."""
        sink = KubeflowSink(
            server_url=server.url, server_token=self.token, timeout=1.0, read_timeout=0.7
        )
        vars(sink)["limits"] = type(sink.limits)(events=1)
        return sink

    def service(self, request: Received) -> Reply:
        return self.controller.answer(request)

    def received(self, server: ScriptedServer) -> list[float]:
        del server
        shown = [told(each) for each in self.controller.statuses]
        values = [float(each["n"]) for each in shown if "n" in each]
        return [value for value, _ in itertools.groupby(values)]

"""A training goes on where only its checkpoints have got to: in the same run of each tracker."""

import shutil

import pytest
import torch

from bus import RunInfo, RunNotFoundError
from runtime import Trainer, TrainingArguments
from sinks.clearml import ClearmlSink
from sinks.comet import CometSink
from sinks.dagshub import DagsHubSink
from sinks.mlflow import MlflowSink
from sinks.neptune import NeptuneSink
from sinks.wandb import WandbSink
from tests.nobody import clear_environment
from tests.servers import clearml, comet, dagshub, mlflow, neptune, wandb

pytestmark = pytest.mark.slow

STEPS = {
    "clearml": ("train", "loss"),
    "comet": ("train/loss",),
    "neptune": ("finetuning/train/loss",),
    "wandb": ("train/loss",),
}
"""What the loss under our trainer is called, where it is not `loss`."""
CASES = {
    "clearml": (
        clearml.StandIn,
        lambda server: ClearmlSink(
            api_host=server.url,
            files_host=server.url,
            api_access_key="FAKE",
            api_secret_key="FAKE",  # noqa: S106 - of no server
        ),
        lambda server: server.task,
    ),
    "comet": (
        comet.StandIn,
        lambda server: CometSink(url_override=server.url, api_key=comet.KEY),
        lambda server: server.experiment,
    ),
    "dagshub": (
        dagshub.StandIn,
        lambda server: DagsHubSink(tracking_uri=server.tracking_uri, user_token=dagshub.TOKEN),
        lambda server: server.run,
    ),
    "mlflow": (
        mlflow.StandIn,
        lambda server: MlflowSink(tracking_uri=server.url),
        lambda server: server.run,
    ),
    "neptune": (
        neptune.StandIn,
        lambda server: NeptuneSink(api_token=server.token, project="team/demo"),
        lambda server: server.run,
    ),
    "wandb": (
        wandb.StandIn,
        lambda server: WandbSink(base_url=server.url, api_key=wandb.KEY),
        lambda server: server.run,
    ),
}


@pytest.fixture(autouse=True)
def _of_nobody(monkeypatch, tmp_path):
    """Without the settings of whoever runs the tests; in a folder of its own."""
    clear_environment(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x, labels):
        return {"loss": torch.nn.functional.cross_entropy(self.layer(x), labels)}


def train(sink, steps, *, resume):
    data = [{"x": torch.full((2,), float(n)), "labels": torch.tensor(n % 2)} for n in range(12)]
    arguments = TrainingArguments(
        "out",
        max_steps=steps,
        per_device_train_batch_size=2,
        logging_steps=1,
        save_steps=2,
        use_cpu=True,
        disable_tqdm=True,
    )
    with Trainer(Model(), arguments, train_dataset=data, sinks=[sink]) as trainer:
        trainer.train(resume_from_checkpoint=resume)
    return trainer.run


@pytest.mark.parametrize("tracker", CASES)
def test_a_run_whose_folder_is_gone_goes_on(tracker, tmp_path, caplog):
    """There is one run, with each step once; the new folder is of the same run, a later attempt."""
    stand_in, sink, only = CASES[tracker]
    with stand_in() as server:
        first = train(sink(server), 4, resume=False)
        shutil.rmtree(tmp_path / "out" / "runs", ignore_errors=True)
        shutil.rmtree(first.dir, ignore_errors=True)
        again = train(sink(server), 8, resume=True)
        found = only(server)

        series = found.series(*STEPS.get(tracker, ("loss",)))
        assert sorted(int(step) for step, _ in series) == list(range(1, 9))
    assert again.id == first.id
    assert again.attempt == 2
    assert again.statistics().sinks[tracker].complete
    assert "is gone" in caplog.text


def test_the_second_process_there_goes_on_with_the_first(tmp_path):
    """The run that was made anew is found by its identity, wherever the old one was."""
    first = train("jsonl", 2, resume=False)
    shutil.move(tmp_path / "out", tmp_path / "moved")
    shutil.rmtree(first.dir, ignore_errors=True)
    (tmp_path / "moved").rename(tmp_path / "out")
    second = train("jsonl", 4, resume=True)
    third = train("jsonl", 6, resume=True)

    assert second.dir == third.dir
    assert [second.attempt, third.attempt] == [2, 3]
    with pytest.raises(RunNotFoundError):
        RunInfo.load(tmp_path)

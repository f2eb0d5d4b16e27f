"""The trainer's guard of the loss: when it stops, what it keeps, what a resumed training knows."""

import math

import pytest
import torch

import runtime
from bus import AlertRaised, AnomalyDetected, JournalReader
from bus.testing import JournalAsserter
from tests.runtime.late_device import Later
from tests.runtime.trainer.test_no_reads import Watch

EVERY = 4


class Line(torch.nn.Module):
    """One weight. Its loss is about 2, and its gradient about 1, for usual samples."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, factor):
        """The mean loss of a batch, and its weight's share of it."""
        return {"loss": ((1 + self.weight + x) * factor).mean()}


def samples(count, factors):
    """Usual samples, but for the factors at some places, from 0."""
    x = torch.linspace(-3, 3, count).sin() / 20
    return [{"x": x[i], "factor": torch.tensor(factors.get(i, 1.0))} for i in range(count)]


class InOrder(runtime.Trainer):
    """Takes the samples in their order."""

    def get_train_dataloader(self):
        """Batches of two."""
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=2)


@pytest.fixture
def make(tmp_path):
    """Make trainers of a line; closed after the test."""
    made = []

    def make(factors, *, steps=80, guard=None, callbacks=(), run=None, **settings):
        parts = settings.get("gradient_accumulation_steps", 1)
        arguments = runtime.TrainingArguments(
            str(tmp_path / settings.pop("name", "out")),
            per_device_train_batch_size=2,
            max_steps=steps,
            learning_rate=1e-4,
            save_strategy=settings.pop("save_strategy", "no"),
            use_cpu=True,
            disable_tqdm=True,
            **settings,
        )
        data = samples(2 * steps * parts, factors)
        trainer = InOrder(Line(), arguments, train_dataset=data, callbacks=list(callbacks), run=run)
        trainer.run.guard(**{"every": EVERY, **(guard or {})})
        made.append(trainer)
        return trainer

    yield make
    for trainer in made:
        trainer.close()


def found(folder):
    return [record.event for record in JournalReader(folder).records(types=(AnomalyDetected,))]


def test_not_finite(make):
    """Training stops within the stated steps; the journal says why, and the run is stopped."""
    trainer = make({2 * 50: math.nan})
    output = trainer.train()
    trainer.close()

    assert 51 <= output.global_step < 51 + EVERY
    (event,) = found(trainer.run.dir)
    assert (event.step, event.metric, event.kind) == (51, "loss", "nonfinite")
    JournalAsserter(trainer.run.dir).ends("stopped").has(AlertRaised, step=51)


def test_jump_of_the_whole_step(make):
    """With accumulation it is the step's loss that counts, to the digit that is logged."""
    factors = {2 * (3 * 60 + 1): 30.0}
    guard = {"on_spike": "stop"}
    trainer = make(factors, guard=guard, gradient_accumulation_steps=3, logging_steps=1)
    output = trainer.train()
    trainer.close()

    assert 61 <= output.global_step < 61 + EVERY
    (event,) = found(trainer.run.dir)
    history = trainer.state.log_history
    logged = {entry["step"]: entry["loss"] for entry in history if "loss" in entry}
    assert (event.step, event.metric) == (61, "loss")
    assert event.value == pytest.approx(logged[61])


def test_gradient_that_is_not_finite(make):
    """A gradient that overflows is found though the loss is a number."""
    trainer = make({})

    def overflow(gradient):
        return gradient * (math.inf if trainer.state.global_step == 40 else 1)

    trainer.model.weight.register_hook(overflow)
    output = trainer.train()
    trainer.close()

    assert 41 <= output.global_step < 41 + EVERY
    assert [(each.step, each.metric) for each in found(trainer.run.dir)] == [(41, "grad_norm")]


def test_no_step_reads_a_value(make, tmp_path):
    """Whole steps with a guard that finds something: not one read on the training thread."""
    watch = Watch()
    with runtime.Run("run", dir=tmp_path, snapshots={"cpu": Later()}) as run:
        guard = {"on_nonfinite": "alert"}
        trainer = make({2 * 50: math.nan}, guard=guard, callbacks=[watch], run=run, logging_steps=1)
        trainer.train()
        trainer.close()

    assert watch.calls > 1000
    assert watch.reads == []
    assert [each.step for each in found(run.dir)] == [51]


@pytest.mark.parametrize("limit", [1, 2])
def test_the_good_checkpoint_stays(make, limit):
    """However many checkpoints follow, the newest from before the first bad step is kept."""
    settings = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": limit}
    trainer = make({2 * 20: math.nan}, guard={"on_nonfinite": "save"}, steps=40, **settings)
    trainer.train()
    trainer.close()

    kept = {int(path.name.split("-")[1]) for path in trainer.output_dir.glob("checkpoint-*")}
    assert {20, 40} <= kept
    assert len(kept) == 2
    good = torch.load(trainer.output_dir / "checkpoint-20" / "optimizer.pt", weights_only=True)
    assert all(torch.isfinite(good["state"][0]["exp_avg"]).flatten())


def test_a_save_looks_first(make):
    """Steps that wait to be looked at together are, before a checkpoint pushes a good one out."""
    settings = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    trainer = make({2 * 20: math.nan}, guard={"every": 64}, steps=40, **settings)
    trainer.train()

    assert (trainer.output_dir / "checkpoint-20").is_dir()
    assert trainer.state.global_step < 25


def test_resumed(make):
    """A training that goes on from a checkpoint finds what the unbroken one does, as it does."""
    settings = {"save_strategy": "steps", "save_steps": 30}
    guard = {"window": 20}
    whole = make({2 * 45: 20.0}, guard=guard, name="whole", **settings)
    whole.train()
    whole.close()
    again = make({2 * 45: 20.0}, guard=guard, name="again", **settings)
    again.train(resume_from_checkpoint=str(whole.output_dir / "checkpoint-30"))
    again.close()

    (event,) = found(whole.run.dir)
    assert event.step == 46
    assert [(each.step, each.z) for each in found(again.run.dir)][-1] == (46, event.z)


def test_another_training_learns_anew(make):
    """`train` that does not resume begins with nothing learnt."""
    trainer = make({}, steps=60)
    trainer.train()
    trainer.train_dataset = samples(120, dict.fromkeys(range(120), 50.0))
    trainer.train()
    trainer.close()

    assert found(trainer.run.dir) == []

"""The program that people with a loop of their own write, with small stand-ins for their parts."""

import math

import pytest
import torch

import runtime
from bus import (
    ArtifactReady,
    Control,
    DecisionApplied,
    EventStream,
    JournalReader,
    MetricsLogged,
    RunStarted,
    Save,
    StepEnded,
    Stop,
    run_state,
)
from bus.testing import JournalAsserter, Recorder

LAST_BATCH = 40


class Training:
    """A linear model that learns until, if told so, its data turn bad.

    Attributes:
        losses: What was really computed, by step.
    """

    def __init__(self, bad_from: int | None = None) -> None:
        generator = torch.Generator().manual_seed(1)
        self.losses: list[float] = []
        self.norm = torch.zeros(())
        self._weight = torch.zeros(4, requires_grad=True)
        self._batches = torch.randn(LAST_BATCH, 8, 4, generator=generator)
        if bad_from is not None:
            self._batches[bad_from - 1 :] = math.nan

    def __iter__(self):
        return iter(self._batches)

    def step(self, batch: torch.Tensor) -> torch.Tensor:
        target = batch.detach().sum(dim=1)
        loss = ((batch @ self._weight - target) ** 2).mean()
        loss.backward()
        assert self._weight.grad is not None
        self.norm = self._weight.grad.norm()
        with torch.no_grad():
            self._weight -= 0.1 * self._weight.grad
        self._weight.grad = None
        self.losses.append(loss.item())
        return loss


@pytest.fixture
def program(runs, tmp_path):
    """The program, as a user writes it."""

    def save_checkpoint(step):
        path = tmp_path / f"checkpoint-{step}.pt"
        path.write_bytes(b"weights")
        return path

    def main(training, before_each=lambda _run, _step: None):
        loader, train_step = training, training.step

        with runtime.Run(name="gpt", project="demo", dir=runs, config={"lr": 3e-4}) as run:

            @run.subscribe(MetricsLogged, when=lambda event: "loss" in event.metrics)
            async def stop_on_divergence(
                events: EventStream[MetricsLogged], control: Control
            ) -> None:
                async for event in events:
                    if not math.isfinite(event.metrics["loss"]):
                        reason = f"loss is {event.metrics['loss']} at step {event.step}"
                        control.request(Stop(reason=reason))
                        return

            for step, batch in enumerate(loader, start=1):
                before_each(run, step)
                loss = train_step(batch)
                norm = training.norm
                run.log({"loss": loss, "grad_norm": norm}, step=step)
                decision = run.safe_point(step)
                if decision.save:
                    run.artifact(save_checkpoint(step), kind="checkpoint")
                if decision.stop:
                    break
        return run

    return main


def test_to_the_end(program, logged):
    """Every step's loss and norm are in the journal, as computed; the run has finished."""
    training = Training()
    run = program(training)

    assert [step for step, _ in logged(run.dir)] == list(range(1, LAST_BATCH + 1))
    assert [metrics["loss"] for _, metrics in logged(run.dir)] == training.losses
    assert training.losses[-1] < training.losses[0]
    JournalAsserter(run.dir).complete().begins().ends("finished").has(
        RunStarted, name="gpt", project="demo", config={"lr": 3e-4}
    )


def test_stops_on_divergence(program, logged, eventually):
    """The subscriber sees NaN and stops the loop at a safe point; the journal says who and why."""
    training = Training(bad_from=10)

    def let_the_subscriber_act(run, step):
        if step > 10:
            eventually(lambda: run.control.pending)

    run = program(training, let_the_subscriber_act)

    reason = "loss is nan at step 10"
    journal = JournalAsserter(run.dir).complete().ends("stopped")
    journal.has(DecisionApplied, count=1, step=11, by="stop_on_divergence", reason=reason)
    assert len(training.losses) == 11
    assert math.isnan(logged(run.dir)[9][1]["loss"])
    assert run_state(run.dir) == "stopped"
    assert JournalReader(run.dir).attempts[0].reason == f"stop_on_divergence: {reason}"


def test_saves_when_asked(program, tmp_path):
    """A save asked for from anywhere is an artifact after the step at which it took effect."""

    def ask(run, step):
        if step == 5:
            run.control.request(Save(reason="by hand"))

    run = program(Training(), ask)

    (artifact,) = JournalAsserter(run.dir).complete().ends("finished").of(ArtifactReady)
    assert artifact.path == str(tmp_path / "checkpoint-5.pt")
    assert (artifact.name, artifact.kind) == ("checkpoint-5.pt", "checkpoint")


def test_a_subscriber_sees_what_the_journal_holds(new_run, logged):
    """Live and read back, the metrics are the same, in the same order."""
    recorder = Recorder()
    run = new_run()
    run.subscribe(MetricsLogged, buffer=1000)(recorder)
    training = Training()
    for step, batch in enumerate(training, start=1):
        run.log({"loss": training.step(batch)}, step=step)
    run.close()

    assert recorder.metrics("loss") == training.losses
    assert [metrics["loss"] for _, metrics in logged(run.dir)] == training.losses
    assert recorder.ended


def test_nobody_computes_what_nobody_wants(new_run):
    """`wants` tells whether an event would reach anyone, before it is built."""
    run = new_run()
    before = run.wants(StepEnded), run.wants(MetricsLogged)
    recorder = Recorder()
    run.subscribe(StepEnded)(recorder)
    subscribed = run.wants(StepEnded)
    run.close()

    assert before == (False, True)
    assert subscribed
    assert not run.wants(MetricsLogged)

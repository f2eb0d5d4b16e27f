"""A trainer and its run: what is published, what can be asked of it, and how it ends."""

import json
import threading
from typing import Literal

import pytest
import torch
from torch import nn

import runtime
from bus import (
    AlertRaised,
    CheckpointSaved,
    DecisionApplied,
    EpochBegan,
    EpochEnded,
    Evaluate,
    Evaluated,
    Log,
    MetricsLogged,
    OptimizerStepBegan,
    OptimizerStepEnded,
    Predicted,
    PredictionStepEnded,
    Request,
    RunEnded,
    RunInfo,
    RunStarted,
    Save,
    SetLearningRate,
    StepBegan,
    StepEnded,
    Stop,
    SubscriberFailed,
    SubstepEnded,
    TrainBegan,
    TrainEnded,
    TrainerInitialized,
)
from bus.testing import JournalAsserter, Recorder
from runtime import Trainer, TrainerCallback, TrainingArguments

SAMPLES = [{"x": torch.ones(4) * i, "labels": torch.tensor(i % 2)} for i in range(16)]

LIVE = (
    StepBegan,
    SubstepEnded,
    OptimizerStepBegan,
    OptimizerStepEnded,
    StepEnded,
    PredictionStepEnded,
)
"""What is published only if somebody asks for it, because it happens at every step."""

KEPT = (
    TrainerInitialized,
    TrainBegan,
    EpochBegan,
    MetricsLogged,
    Evaluated,
    CheckpointSaved,
    EpochEnded,
    TrainEnded,
    Predicted,
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x, labels=None):
        logits = self.head(x)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


@pytest.fixture
def make(tmp_path):
    """Makes trainers of one folder; they are closed after the test."""
    made = []

    def trainer(kind=Trainer, *, callbacks=(), model=None, run=None, sinks=None, **arguments):
        values = {
            "output_dir": tmp_path / "out",
            "max_steps": 4,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
        }
        made.append(
            kind(
                model or Net(),
                TrainingArguments(**{**values, **arguments}),
                train_dataset=SAMPLES,
                eval_dataset=SAMPLES[:8],
                callbacks=list(callbacks),
                run=run,
                sinks=sinks,
            )
        )
        return made[-1]

    yield trainer
    for each in made:
        each.close()


class At(TrainerCallback):
    """Does something at the end of a step."""

    def __init__(self, step, do):
        self.step = step
        self.do = do

    def on_step_end(self, args, state, control, **kwargs):  # noqa: ARG002 - the signature
        if state.global_step == self.step:
            self.do(kwargs)


class Failing(TrainerCallback):
    """Raises in the second step, and remembers that it was told of it."""

    told: BaseException | None = None

    def on_step_end(self, args, state, control, **kwargs):  # noqa: ARG002 - the signature
        if state.global_step == 2:
            raise RuntimeError("no disk")

    def on_exception(self, args, state, control, **kwargs):  # noqa: ARG002 - the signature
        self.told = kwargs["exception"]


def outcome(folder):
    """How the last attempt at a run ended."""
    attempt = RunInfo.load(folder).attempts[-1]
    return attempt.outcome, attempt.error, attempt.reason


class TestEvents:
    ALL = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}  # noqa: RUF012 - not changed

    def test_every_hook(self, make):
        """A subscriber that joined before training gets every hook's event, with its step."""
        trainer = make(gradient_accumulation_steps=2, max_steps=2, **self.ALL)
        heard = Recorder()
        trainer.run.subscribe(*LIVE, *KEPT)(heard)
        trainer.train()
        trainer.predict(SAMPLES[:8])
        trainer.close()

        steps = {kind: [each.step for each in heard.of(kind)] for kind in (*LIVE, *KEPT)}
        assert steps == {
            TrainerInitialized: [None],
            TrainBegan: [0],
            EpochBegan: [0],
            StepBegan: [0, 1],
            SubstepEnded: [0, 1],
            OptimizerStepBegan: [0, 1],
            OptimizerStepEnded: [0, 1],
            StepEnded: [1, 2],
            PredictionStepEnded: [2, 2],
            MetricsLogged: [1, 2, 2, 2],
            Evaluated: [2],
            CheckpointSaved: [2],
            EpochEnded: [2],
            TrainEnded: [2],
            Predicted: [2],
        }

    def test_live_ones_only_if_asked_for(self, make):
        """What happens at each step is not in the journal, the rest is."""
        trainer = make(**self.ALL)
        trainer.train()
        trainer.close()
        journal = JournalAsserter(trainer.run.dir).complete()
        kinds = {type(event) for event in journal.events}
        assert not kinds & set(LIVE)
        assert kinds >= set(KEPT) - {Predicted}

    def test_config(self, make):
        """The run remembers the arguments and the model's size, but no secret."""
        trainer = make(hub_token="hunter2", learning_rate=0.25)  # noqa: S106 - a test's
        trainer.train()
        trainer.close()
        (started,) = JournalAsserter(trainer.run.dir).of(RunStarted)
        assert started.config["learning_rate"] == 0.25
        assert started.config["model/num_parameters"] == 10
        texts = (path.read_text() for path in trainer.run.dir.rglob("*") if path.is_file())
        assert not any("hunter2" in text for text in texts)


class Repeat(Request):
    """A request of a user's own."""

    type: Literal["repeat"] = "repeat"
    times: int


class Handling(Trainer):
    """Remembers what reaches it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.handled = []

    def handle_request(self, request):
        self.handled.append((self.state.global_step, request))


class TestRequests:
    """What is asked through `run.control` sets the flags that callbacks set."""

    @pytest.mark.parametrize(
        ("request_", "kind", "steps"),
        [
            (Save(), CheckpointSaved, [2]),
            (Evaluate(), Evaluated, [2]),
            (Log(), MetricsLogged, [2, 4]),  # the last is the summary
        ],
        ids=["save", "evaluate", "log"],
    )
    def test_each(self, make, request_, kind, steps):
        """It takes effect in the step in which it was asked, once."""
        ask = At(2, lambda _: trainer.run.control.request(request_))
        trainer = make(callbacks=[ask], logging_strategy="no")
        trainer.train()
        trainer.close()
        journal = JournalAsserter(trainer.run.dir).complete()
        found = journal.of(kind)
        if kind is MetricsLogged:
            found = [each for each in found if "eval_loss" not in each.metrics]
        assert [each.step for each in found] == steps
        journal.has(DecisionApplied, step=2, count=1)

    def test_stop(self, make):
        """Training ends after the step, and the run is stopped, by whom and why."""
        stop = Stop(reason="good enough", by="someone")
        trainer = make(callbacks=[At(2, lambda _: trainer.run.control.request(stop))])
        assert trainer.train().global_step == 2
        trainer.close()
        assert outcome(trainer.run.dir) == ("stopped", None, "someone: good enough")

    def test_of_ones_own(self, make):
        """It reaches `handle_request` on the training thread."""
        ask = At(3, lambda _: trainer.run.control.request(Repeat(times=7)))
        trainer = make(Handling, callbacks=[ask])
        trainer.train()
        ((step, request),) = trainer.handled
        assert (step, request.times) == (3, 7)

    def test_learning_rate(self, make):
        """A schedule goes on from it in the same proportions."""
        ask = At(1, lambda _: trainer.run.control.request(SetLearningRate(value=0.3)))
        trainer = make(callbacks=[ask], learning_rate=0.4)
        trainer.train()
        rates = [entry["learning_rate"] for entry in trainer.state.log_history[:-1]]
        assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1])  # 0.3 is what was due anyway
        assert isinstance(trainer.lr_scheduler, torch.optim.lr_scheduler.LambdaLR)

    def test_another_learning_rate(self, make):
        """A rate half as high halves those that follow."""
        ask = At(1, lambda _: trainer.run.control.request(SetLearningRate(value=0.15)))
        trainer = make(callbacks=[ask], learning_rate=0.4)
        trainer.train()
        rates = [entry["learning_rate"] for entry in trainer.state.log_history[:-1]]
        assert rates == pytest.approx([0.4, 0.15, 0.1, 0.05])

    def test_from_a_subscriber(self, make):
        """A subscriber's request stops a training that would go on for long."""
        trainer = make(max_steps=100_000, logging_steps=1)

        @trainer.run.on(MetricsLogged)
        async def enough(event, control):
            if event.step >= 3:
                control.request(Stop(reason="enough"))

        steps = trainer.train().global_step
        trainer.close()
        assert 3 <= steps < 100_000
        assert outcome(trainer.run.dir) == ("stopped", None, "enough: enough")

    def test_from_a_thread(self, make):
        """So does any thread's; the handle says at which step."""
        reached = threading.Event()
        trainer = make(max_steps=100_000, callbacks=[At(2, lambda _: reached.set())])
        handles = []

        def ask():
            reached.wait(10)
            handles.append(trainer.run.control.request(Stop()))

        thread = threading.Thread(target=ask, name="asker")
        thread.start()
        steps = trainer.train().global_step
        thread.join()
        trainer.close()
        assert handles[0].wait(0).step == steps
        assert outcome(trainer.run.dir) == ("stopped", None, "thread asker")

    def test_from_a_decider(self, make):
        """A decider of an evaluation is waited for, so its word counts in that very step."""
        trainer = make(max_steps=8, eval_strategy="steps", eval_steps=2)

        @trainer.run.decider(Evaluated)
        async def reached(event):
            return Stop(reason="reached") if event.step >= 4 else None

        assert trainer.train().global_step == 4
        trainer.close()
        assert outcome(trainer.run.dir) == ("stopped", None, "reached: reached")

    def test_after_the_end(self, make):
        """What is asked too late is refused, and says so."""
        trainer = make()
        trainer.train()
        trainer.close()
        resolution = trainer.run.control.request(Save()).wait(1)
        assert not resolution.applied
        assert resolution.why


class TestOutcome:
    """How training ended is in run.json and in the journal."""

    def test_finished(self, make):
        """It reached its last step."""
        trainer = make()
        trainer.train()
        trainer.close()
        assert outcome(trainer.run.dir) == ("finished", None, None)
        JournalAsserter(trainer.run.dir).complete().ends("finished")

    def test_stopped_by_a_callback(self, make):
        """A flag that ends training early makes it stopped."""

        def stop(_):
            trainer.control.should_training_stop = True

        trainer = make(callbacks=[At(2, stop)])
        assert trainer.train().global_step == 2
        trainer.close()
        assert outcome(trainer.run.dir)[0] == "stopped"

    def test_failed(self, make):
        """Callbacks are told, the exception propagates, and the run is closed."""
        failing = Failing()
        trainer = make(callbacks=[failing])
        with pytest.raises(RuntimeError, match="no disk") as caught:
            trainer.train()
        assert failing.told is caught.value
        assert outcome(trainer.run.dir) == ("failed", "RuntimeError: no disk", None)
        assert not trainer.is_in_train
        JournalAsserter(trainer.run.dir).complete().ends("failed").has(RunEnded, count=1)

    def test_interrupted(self, make):
        """Ctrl-C makes it stopped, and passes on."""

        def interrupt(_):
            raise KeyboardInterrupt

        trainer = make(callbacks=[At(2, interrupt)])
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        assert outcome(trainer.run.dir) == ("stopped", None, "KeyboardInterrupt")

    def test_isolated(self, make):
        """With raise_from_callbacks=False a callback that fails is named, and training goes on."""
        trainer = make(callbacks=[Failing()], raise_from_callbacks=False)
        assert trainer.train().global_step == 4
        trainer.close()
        assert outcome(trainer.run.dir)[0] == "finished"
        JournalAsserter(trainer.run.dir).complete().has(
            SubscriberFailed,
            count=1,
            subscriber="Failing.on_step_end",
            error="RuntimeError: no disk",
            retired=False,
        )


class TestLifetime:
    def test_a_run_handed_in(self, make, tmp_path):
        """It stays open, whatever becomes of training; closing it is left to its owner."""
        with runtime.Run("own", dir=tmp_path) as run:
            with make(run=run) as trainer:
                trainer.train()
            assert trainer.run is run
            with pytest.raises(RuntimeError, match="no disk"):
                make(run=run, callbacks=[Failing()]).train()
            run.log({"after": 1.0}, step=9)
        JournalAsserter(run.dir).complete().ends("finished").has(MetricsLogged, step=9)
        assert not (tmp_path / "out" / "runs").exists()

    def test_context_manager(self, make):
        """Leaving it closes the run; leaving it with an exception makes it failed."""
        with make() as trainer:
            trainer.train()
        assert outcome(trainer.run.dir)[0] == "finished"

        def leave_badly(trainer):
            with trainer:
                trainer.train()
                raise OSError("too bad")

        second = make()
        with pytest.raises(OSError, match="too bad"):
            leave_badly(second)
        assert outcome(second.run.dir) == ("failed", "OSError: too bad", None)
        assert second.run.dir != trainer.run.dir

    def test_evaluate_before_training(self, make):
        """An evaluation begins the run, and training goes on with it."""
        trainer = make()
        metrics = trainer.evaluate()
        trainer.train()
        trainer.close()
        journal = JournalAsserter(trainer.run.dir).complete().ends("finished")
        (evaluated,) = journal.of(Evaluated)
        assert evaluated.step == 0
        assert evaluated.metrics["eval_loss"] == metrics["eval_loss"]
        assert len(journal.of(RunStarted)) == 1

    def test_never_used(self, make, tmp_path):
        """A trainer that does nothing leaves nothing."""
        trainer = make()
        assert trainer.close() is None
        assert list(tmp_path.iterdir()) == []

    def test_closed_twice(self, make):
        """The second time does nothing."""
        trainer = make()
        trainer.train()
        assert trainer.close() is not None
        assert trainer.close() is None
        assert outcome(trainer.run.dir)[0] == "finished"

    def test_one_after_the_other(self, make):
        """Each trainer of a folder has a run of its own."""
        folders = set()
        for _ in range(2):
            with make() as trainer:
                trainer.train()
            folders.add(trainer.run.dir)
            JournalAsserter(trainer.run.dir).complete().ends("finished")
        assert len(folders) == 2

    def test_trained_twice(self, make):
        """Training again with the same trainer goes on with its run, from step 0."""
        trainer = make()
        for _ in range(2):
            assert trainer.train().global_step == 4
        trainer.close()
        journal = JournalAsserter(trainer.run.dir).complete().ends("finished")
        assert [each.step for each in journal.of(TrainBegan)] == [0, 0]


class OutOfMemory(Net):
    """Has room for three samples."""

    def forward(self, x, labels=None):
        if len(x) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(x, labels)


def test_smaller_batches(make):
    """A batch that does not fit is tried again with fewer samples, which is announced."""
    trainer = make(model=OutOfMemory(), auto_find_batch_size=True)
    assert trainer.train().global_step == 4
    trainer.close()
    assert trainer.state.train_batch_size == 3
    JournalAsserter(trainer.run.dir).complete().ends("finished").has(
        AlertRaised,
        count=1,
        title="out of memory",
        text="batches of 4 do not fit into memory; again with 3",
    )


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


class TestSinks:
    """Everything that is logged reaches the destinations, named in either way."""

    def test_jsonl(self, make):
        """`sinks="jsonl"`."""
        trainer = make(sinks="jsonl", eval_strategy="steps", eval_steps=2)
        trainer.train()
        trainer.close()
        lines = (trainer.run.dir / "events.jsonl").read_text().splitlines()
        rows = [json.loads(line)["event"] for line in lines]
        logged = [row["metrics"] for row in rows if row["type"] == "metrics_logged"]
        assert [row["loss"] for row in logged if "loss" in row] == losses(trainer)
        assert sum(row["type"] == "evaluated" for row in rows) == 2
        assert rows[-1]["type"] == "run_ended"

    def test_csv(self, make):
        """`report_to=["csv"]`."""
        trainer = make(report_to=["csv"])
        trainer.train()
        trainer.close()
        text = "".join(path.read_text() for path in trainer.run.dir.rglob("*.csv"))
        assert all(repr(loss) in text for loss in losses(trainer))


def test_nothing_is_left(make):
    """Training, saving and closing leave no thread behind."""
    before = set(threading.enumerate())
    with make(save_strategy="steps", save_steps=1) as trainer:
        trainer.train()
    assert not [thread.name for thread in threading.enumerate() if thread not in before]

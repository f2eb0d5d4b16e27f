"""Arguments, sinks, folders, runs and requests that are wrong for a trainer; what only looks so.

Wrong training arguments by themselves are in `test_arguments_refused.py`.
"""

import re

import pytest

from bus import NotConfiguredError, RunInfo, SetLearningRate, Stop, UnknownSinkError
from runtime import Trainer, TrainerCallback
from tests.runtime.trainer.bad_input.wrong_uses import (
    SAMPLES,
    Net,
    Returning,
    cases,
    given,
    refused,
)


class Failing:
    """Raises when a sample is asked for."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        raise OSError(f"sample {index} is gone")


def fail(*_, **__):
    return Failing()[0]


def changed_since(make):
    args = make().args
    args.gradient_accumulation_steps = 0
    Trainer(Net(), args)


def in_a_file(*names):
    def do(make):
        (make.folder / "file").write_text("")
        make(arguments={"output_dir": make.folder.joinpath(*names)})

    return do


def within_itself(make):
    class Nested(TrainerCallback):
        def on_train_begin(self, *_, **__):
            trainer.train()

    trainer = make(callbacks=[Nested()])
    trainer.train()


def asking(request):
    return lambda make: make().run.control.request(request())


@cases(
    (
        "a dict",
        lambda _: Trainer(Net(), {"output_dir": "out"}),
        TypeError,
        "args is a dict, not TrainingArguments; pass TrainingArguments(**args)",
    ),
    (
        "a path",
        lambda _: Trainer(Net(), "out"),
        TypeError,
        "args is a str, not TrainingArguments; pass TrainingArguments(output_dir=...)",
    ),
    ("changed since", changed_since, ValueError, "gradient_accumulation_steps=0 must be 1 or more"),
    (
        "a removed one",
        given(arguments={"evaluation_strategy": "steps"}),
        TypeError,
        "evaluation_strategy is eval_strategy now",
    ),
    (
        "a misspelt one",
        given(arguments={"learningrate": 0.1}),
        TypeError,
        "learningrate is no argument; is it learning_rate?",
    ),
    (
        "unknown sink",
        given(sinks="nowhere"),
        UnknownSinkError,
        "no sink 'nowhere'; there are azure",
    ),
    (
        "unknown report",
        given(arguments={"report_to": ["wandbb"]}),
        UnknownSinkError,
        "there is no sink 'wandbb'; there are azure",
    ),
    (
        "sink without settings",
        given(sinks=["slack"]),
        NotConfiguredError,
        "slack is not configured: set webhook_url (or the environment variable SLACK_WEBHOOK_URL)",
    ),
    ("no sink", given(sinks=3), TypeError, "sinks=3 are none; pass a name, a bus.Sink, or a list"),
    (
        "one sink twice",
        given(sinks=["jsonl"], arguments={"report_to": "jsonl"}),
        ValueError,
        "the sink 'jsonl' is asked for twice",
        "leave one of them out",
    ),
    ("no run", given(run="gpt"), TypeError, "run is a str; pass a runtime.Run, or leave it out"),
    (
        "output is a file",
        in_a_file("file"),
        ValueError,
        "/file' cannot be a folder",
        "/file is a file; set output_dir to another path",
    ),
    (
        "output is below a file",
        in_a_file("file", "out"),
        ValueError,
        "/file/out' cannot be a folder",
        "/file is a file; set output_dir to another path",
    ),
    (
        "no path",
        given(arguments={"output_dir": "a\0b"}),
        ValueError,
        r"output_dir='a\x00b' has a null byte, which no path may; leave it out",
    ),
    ("within itself", within_itself, RuntimeError, "is under way already", "let it end first"),
    (
        "a word as request",
        asking(lambda: "stop"),
        TypeError,
        "'stop' is no request; pass one, such as Stop(reason=...)",
    ),
    (
        "a rate of zero",
        asking(lambda: SetLearningRate(value=0)),
        ValueError,
        "SetLearningRate\nvalue",
        "should be greater than 0",
        "input_value=0",
    ),
)
def test_arguments(make, do, error, parts):
    """They are refused before the first step, most of them when the trainer is made."""
    refused(make, do, error, parts)


class TestTheRun:
    """What fails in `train` is a failed run."""

    @pytest.mark.parametrize(
        "options",
        [
            {"train_dataset": Failing()},
            {"data_collator": fail},
            {"model": Returning(fail)},
            {"compute_loss_func": fail},
        ],
        ids=["dataset", "collator", "model", "loss"],
    )
    def test_errors_of_others(self, make, options):
        """What users' code raises propagates unchanged, and is in run.json."""
        trainer = make(**options)
        with pytest.raises(OSError, match=r"^sample \d is gone$"):
            trainer.train()
        (attempt,) = RunInfo.load(trainer.run.dir).attempts
        assert attempt.outcome == "failed"
        assert re.fullmatch(r"OSError: sample \d is gone", attempt.error or "")

    def test_what_is_refused(self, make):
        """So is what the trainer refuses."""
        trainer = make(train_dataset=[{"labels": 0}] * 8)
        with pytest.raises(TypeError, match="missing a required argument"):
            trainer.train()
        (attempt,) = RunInfo.load(trainer.run.dir).attempts
        assert attempt.outcome == "failed"
        assert "missing a required argument: 'x'" in (attempt.error or "")

    def test_in_the_constructor(self, make):
        """What the constructor refuses leaves nothing behind."""
        with pytest.raises(TypeError, match="is no function"):
            make(data_collator="pad")
        assert not (make.folder / "out").exists()


def test_a_stop_before_training(make):
    """It is no error: it takes effect at the first safe point."""
    trainer = make()
    handle = trainer.run.control.request(Stop(reason="not today"))
    assert trainer.train().global_step == 1
    assert handle.wait(0).applied


class OwnLoss(Trainer):
    """Calls the model in its own way."""

    def compute_loss(self, model, inputs, return_outputs=False, **_):  # noqa: ARG002 - the signature
        return model(inputs["x"], inputs["labels"])["loss"]


class TestWhatOnlyLooksWrong:
    """Who calls the model otherwise, or changes its batch first, is not held to its `forward`."""

    SAMPLES = [{**sample, "weight": 1.0} for sample in SAMPLES]  # noqa: RUF012 - not changed
    ALL = {"remove_unused_columns": False}  # noqa: RUF012 - not changed

    def test_a_loss_of_ones_own(self, make):
        """An overridden method takes what it likes."""
        args = make(arguments=self.ALL).args
        with OwnLoss(Net(), args, train_dataset=self.SAMPLES) as trainer:
            assert trainer.train().global_step == 3

    def test_a_hook_of_the_model(self, make):
        """A hook before `forward` may take from the batch."""
        model = Net()

        def without_weight(_, args, kwargs):
            return args, {name: value for name, value in kwargs.items() if name != "weight"}

        model.register_forward_pre_hook(without_weight, with_kwargs=True)
        trainer = make(model=model, arguments=self.ALL, train_dataset=self.SAMPLES)
        assert trainer.train().global_step == 3

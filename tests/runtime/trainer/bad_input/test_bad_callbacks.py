"""Callbacks and functions that could not be called, or whose results cannot be used."""

import pytest

from runtime import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from tests.runtime.trainer.bad_input.wrong_uses import (
    EVALUATES,
    SAMPLES,
    Net,
    cases,
    given,
    on,
    refused,
)


class NeedsArguments(TrainerCallback):
    def __init__(self, threshold):
        self.threshold = threshold


class TooFew(TrainerCallback):
    def on_epoch_end(self, args, state, control):
        """Does not take what hooks are given by keyword."""


class Awaited(TrainerCallback):
    async def on_epoch_end(self, args, state, control, **kwargs):
        """Would never be awaited."""


class Affirmative(TrainerCallback):
    def on_train_begin(self, *_, **__):
        return True


def with_callback(callback, **arguments):
    return given(callbacks=[callback], arguments=arguments)


def without_list(make):
    args = TrainingArguments(make.folder / "out", use_cpu=True)
    Trainer(Net(), args, callbacks=Affirmative())


def takes_two(first, second):
    return first, second


@cases(
    (
        "class that needs arguments",
        with_callback(NeedsArguments),
        TypeError,
        "NeedsArguments cannot be made without arguments",
        "pass an object, NeedsArguments(...)",
    ),
    ("number", with_callback(42), TypeError, "42 is no callback", "subclass of TrainerCallback"),
    (
        "hook without kwargs",
        with_callback(TooFew),
        TypeError,
        "TooFew.on_epoch_end cannot be called as a hook is",
        "unexpected keyword argument 'model'",
        "give it the parameters (self, args, state, control, **kwargs)",
    ),
    (
        "coroutine",
        with_callback(Awaited),
        TypeError,
        "Awaited.on_epoch_end is a coroutine function",
        "write it without async, or subscribe to its event with trainer.run.on(...)",
    ),
    (
        "hook that returns True",
        with_callback(Affirmative),
        TypeError,
        "Affirmative.on_train_begin returned True",
        "a hook returns the control, or nothing",
    ),
    ("no list", without_list, TypeError, "must be a list of callbacks", "pass callbacks=[...]"),
    ("added later", on("add_callback", 42), TypeError, "42 is no callback", "make a subclass"),
    (
        "not there",
        on("remove_callback", Affirmative()),
        ValueError,
        "is not among the callbacks (DefaultFlowCallback, StepCounter",
        "pass the object that was added",
    ),
    (
        "stopping early by nothing",
        with_callback(EarlyStoppingCallback()),
        AssertionError,
        "needs metric_for_best_model",
        'such as "loss"; it is None',
    ),
    (
        "stopping early without evaluations",
        with_callback(EarlyStoppingCallback(), metric_for_best_model="loss"),
        AssertionError,
        'eval_strategy is "no", set it to "steps" or "epoch"',
    ),
    (
        "negative patience",
        lambda _: EarlyStoppingCallback(-1),
        ValueError,
        "early_stopping_patience=-1 must be 0 or more evaluations",
    ),
)
def test_callbacks(make, do, error, parts):
    """A callback is looked at when it is added, all of its hooks too."""
    refused(make, do, error, parts)


@cases(
    ("collator, a word", given(data_collator="pad"), TypeError, "data_collator='pad' is no functi"),
    (
        "collator of two",
        given(data_collator=takes_two),
        TypeError,
        "data_collator is called with the list of samples, which it does not take",
        "missing a required argument: 'second'; give it these parameters",
    ),
    (
        "collator makes nothing",
        given(data_collator=lambda _: None),
        TypeError,
        "the data collator made a batch that is a NoneType",
        "return a mapping of names to tensors",
    ),
    (
        "collator makes text",
        given(data_collator=lambda _: "batch"),
        TypeError,
        "the data collator made a batch that is a str",
        "return a mapping of names to tensors",
    ),
    (
        "metrics, a word",
        given(compute_metrics="accuracy"),
        TypeError,
        "compute_metrics='accuracy' is no function; pass one",
    ),
    (
        "loss function of two",
        given(compute_loss_func=takes_two),
        TypeError,
        "compute_loss_func is called with the outputs, the labels and num_items_in_batch=...",
        "unexpected keyword argument 'num_items_in_batch'; give it these parameters",
    ),
    (
        "preprocessing, a number",
        given(preprocess_logits_for_metrics=3),
        TypeError,
        "preprocess_logits_for_metrics=3 is no function; pass one",
    ),
    (
        "metrics not by batch",
        given(compute_metrics=len, arguments={"batch_eval_metrics": True}),
        ValueError,
        "batch_eval_metrics=True calls compute_metrics for each batch",
        "give it a parameter compute_result",
    ),
    (
        "best by nothing",
        given(eval_dataset=SAMPLES, arguments={**EVALUATES, "save_strategy": "best"}),
        ValueError,
        'save_strategy="best" needs to know which metric is best',
        'set metric_for_best_model, for example to "loss"',
    ),
)
def test_functions(make, do, error, parts):
    """What the trainer calls is looked at before it is called."""
    refused(make, do, error, parts)


@pytest.mark.parametrize(
    ("wanted", "error", "parts"),
    [
        ("accuracy", KeyError, ("'accuracy' is not among", "eval_loss", "let compute_metrics ret")),
        ("word", TypeError, ("='word' is 'good'", "let compute_metrics return a number for it")),
    ],
)
def test_metric_for_best_model(make, wanted, error, parts):
    """What an evaluation returns is known after the first one; the message lists it."""
    arguments = {**EVALUATES, "metric_for_best_model": wanted, "logging_strategy": "no"}
    measured = {"eval_dataset": SAMPLES, "compute_metrics": lambda _: {"word": "good"}}
    refused(make, given(arguments=arguments, **measured), error, parts, steps=1)

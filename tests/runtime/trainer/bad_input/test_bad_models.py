"""Models, losses, optimizers and schedules that cannot train, or would change nothing."""

import torch
from torch import nn

from tests.runtime.trainer.bad_input.wrong_uses import (
    SAMPLES,
    WIDTH,
    Net,
    Returning,
    cases,
    given,
    refused,
)

LOSS = "let the model return its loss"
PAIR = "pass optimizers=(optimizer, schedule)"


class NoInputs(Net):
    def forward(self):
        return self.head.weight.mean()


def on_meta():
    model = Net()
    model.extra = nn.Parameter(torch.empty(2, device="meta"))
    return model


def frozen():
    return Net().requires_grad_(requires_grad=False)


def needs_two(first, second):
    return first, second


@cases(
    ("name", given(model="gpt2"), TypeError, "model is 'gpt2', of str", "pass a torch.nn.Module"),
    ("class", given(model=Net), TypeError, "model is the class Net", "is needed, Net(...)"),
    ("neither", given(model=None), ValueError, "model_init=..., and neither was given; pass one"),
    ("both", given(model=Net(), model_init=Net), ValueError, "and both were given; pass one"),
    ("init makes nothing", given(model_init=lambda: None), TypeError, "returned is None", "pass a"),
    (
        "init of two",
        given(model_init=needs_two),
        TypeError,
        "takes neither: missing a required argument: 'second'",
        "give the others defaults",
    ),
    ("init is a model", given(model_init=Net()), TypeError, "model_init is a Net", "as model="),
    ("init is a number", given(model_init=4), TypeError, "model_init is a int", "pass a function"),
    (
        "no values",
        given(model=on_meta()),
        ValueError,
        "Net has parameters on the meta device, without values (extra)",
        "load its weights",
    ),
    ("frozen", given(model=frozen()), ValueError, "no parameter that requires a gradient: unfree"),
    (
        "nothing to recompute",
        given(arguments={"activation_checkpointing": True}),
        ValueError,
        "activation_checkpointing=True, but Net has no method",
        "give it one, or use torch.utils.checkpoint",
    ),
    (
        "no such backend",
        given(arguments={"torch_compile_backend": "nonsense"}),
        ValueError,
        "torch_compile_backend='nonsense'",
        "set them to what it lists, or leave them out",
    ),
    (
        "no such mode",
        given(arguments={"torch_compile_mode": "nonsense"}),
        ValueError,
        "torch_compile_mode='nonsense'",
        "should be one of: default",
        "or leave them out",
    ),
    (
        "takes nothing",
        given(model=NoInputs(), arguments={"remove_unused_columns": False}),
        TypeError,
        "NoInputs.forward() cannot be called with a batch of x, labels",
        "pass a data_collator",
    ),
)
def test_model(make, do, error, parts):
    """What is no model, or cannot be trained, is known before the first step."""
    refused(make, do, error, parts)


def returning(function, **options):
    return lambda make: make(model=Returning(function), **options).train()


def without_gradient(logits, labels):
    return {"loss": nn.functional.cross_entropy(logits.detach(), labels)}


def frozen_with_optimizer(make):
    model = frozen()
    make(model=model, optimizers=(optimizer_of(model), None)).train()


def by_sample(outputs, _labels, **_):
    return outputs["logits"].mean(-1)


@cases(
    (
        "no loss",
        returning(lambda logits, _: {"logits": logits}),
        ValueError,
        "the model returned logits but no loss, given x, labels",
        LOSS,
        "pass compute_loss_func=",
    ),
    (
        "no labels",
        given(train_dataset=[{"x": sample["x"]} for sample in SAMPLES]),
        ValueError,
        "the model returned logits but no loss, given x;",
        LOSS,
    ),
    ("None", returning(lambda *_: None), ValueError, "returned a NoneType with no loss", LOSS),
    ("empty", returning(lambda *_: ()), ValueError, "returned a tuple with no loss", LOSS),
    ("number", returning(lambda *_: {"loss": 0.5}), ValueError, "with a loss that is 0.5", LOSS),
    ("logits first", returning(lambda x, _: (x,)), ValueError, "has shape (4, 2), so it is", LOSS),
    (
        "by sample",
        returning(lambda logits, _: {"loss": logits.mean(-1)}),
        ValueError,
        "has shape (4,), so it is no loss",
        LOSS,
    ),
    (
        "no gradient",
        returning(without_gradient),
        ValueError,
        "a tensor of torch.float32, has no gradient",
        "under torch.no_grad(), or detached",
        "compute it from the model's outputs as they are",
    ),
    (
        "integers",
        returning(lambda _, labels: {"loss": labels.sum()}),
        ValueError,
        "a tensor of torch.int64, has no gradient",
        "compute it from the model's outputs",
    ),
    (
        "frozen, with an optimizer",
        frozen_with_optimizer,
        ValueError,
        "has no gradient, so nothing can be learned from it",
        "unfreeze what is to be trained",
    ),
    (
        "function makes none",
        given(compute_loss_func=lambda *_, **__: None),
        TypeError,
        "compute_loss_func returned None, of NoneType",
        "return the loss, a tensor with one element",
    ),
    (
        "function makes many",
        given(compute_loss_func=by_sample),
        ValueError,
        "the loss has shape (4,) but training needs one number",
        "with .mean()",
    ),
    (
        "smoothing without logits",
        returning(lambda logits, _: logits.mean(), arguments={"label_smoothing_factor": 0.1}),
        ValueError,
        "label_smoothing_factor needs logits",
        "the model returned a Tensor",
        "or set label_smoothing_factor=0",
    ),
)
def test_loss(make, do, error, parts):
    """That there is none shows when the model is first called, before anything is learned."""
    refused(make, do, error, parts, steps=1)
    assert make.made[0].state.global_step == 0


def test_a_loss_that_is_not_finite(make):
    """It is no error: such a loss may pass, and is there to be seen."""
    model = Returning(lambda logits, _: {"loss": logits.mean() * float("nan")})
    assert make(model=model).train().global_step == 3


def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def schedule_of(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)


def swapped(make):
    model = Net()
    optimizer = optimizer_of(model)
    make(model=model, optimizers=(schedule_of(optimizer), optimizer))


def with_foreign_schedule(make):
    model = Net()
    make(model=model, optimizers=(optimizer_of(model), schedule_of(optimizer_of(Net())))).train()


def two_ways(make):
    model = Net()
    kind = (torch.optim.SGD, {"lr": 0.1})
    make(model=model, optimizers=(optimizer_of(model), None), optimizer_cls_and_kwargs=kind)


def both_given(optimizer=None, schedule=None, **more):
    return given(optimizers=(optimizer, schedule), **more)


@cases(
    (
        "of another model",
        both_given(optimizer_of(Net())),
        ValueError,
        "the SGD that was passed holds none of the model's parameters",
        "make it with model.parameters()",
    ),
    ("name", both_given("sgd"), TypeError, "'sgd', of str, as its optimizer", PAIR),
    ("class", both_given(torch.optim.SGD), TypeError, "the class SGD as its opt", "pass an object"),
    ("no pair", given(optimizers=optimizer_of(Net())), TypeError, "is a SGD and not a pair", PAIR),
    ("None", given(optimizers=None), TypeError, "optimizers is None and not a pair", PAIR),
    ("swapped", swapped, TypeError, "of LambdaLR, as its optimizer", PAIR),
    ("function", both_given(None, abs), TypeError, "as its schedule", PAIR),
    (
        "schedule alone",
        both_given(None, schedule_of(optimizer_of(Net()))),
        ValueError,
        "the LambdaLR that was passed is of another optimizer than the AdamW that trains",
        "make it with that optimizer and pass both",
    ),
    (
        "foreign schedule",
        with_foreign_schedule,
        ValueError,
        "is of another optimizer than the SGD that trains, so it would change no rate",
        "make it with that optimizer and pass both",
    ),
    (
        "of a model that is made",
        both_given(optimizer_of(Net()), model_init=Net),
        RuntimeError,
        "model_init makes a new one for each train()",
        "pass model=... instead",
    ),
    ("two ways", two_ways, RuntimeError, "both optimizers and optimizer_cls_and_kwar", "pass one"),
    (
        "no settings",
        given(optimizer_cls_and_kwargs=torch.optim.SGD),
        TypeError,
        "must be a class and its settings",
        'pass for example (torch.optim.SGD, {"lr": 0.1})',
    ),
)
def test_optimizers(make, do, error, parts):
    """Optimizers and schedules that are none, or of something else than what is trained."""
    refused(make, do, error, parts)


def test_a_model_that_is_made(make):
    """A `model_init` may have parameters that nobody gives, or take a trial that is None."""
    assert make(model_init=Net).train().global_step == 3
    assert make(model_init=lambda trial: Net(trial or WIDTH)).train().global_step == 3

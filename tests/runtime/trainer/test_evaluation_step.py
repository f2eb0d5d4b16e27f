"""What one batch gives: loss, predictions and labels, of models of every kind."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from runtime._evaluation_step import ignored_keys, output_fields, prediction_step

X = torch.ones(2, 3)
Y = torch.tensor([0, 1])


@dataclass
class Output:
    """What a model may return."""

    loss: torch.Tensor | None
    logits: torch.Tensor
    states: torch.Tensor | None = None


class Model(torch.nn.Module):
    """Returns what a test asks for."""

    def __init__(self, make):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(()))
        self.make = make

    def forward(self, x, labels=None):
        loss = None if labels is None else (x.sum() * self.w).reshape(1)
        return self.make(loss, x * self.w)


def loss_of(outputs):
    fields = output_fields(outputs)
    if fields is not None:
        return fields["loss"]
    return outputs[0] if isinstance(outputs, tuple) else outputs


def run(model, inputs, *, labels=("labels",), returns_loss=False, only_loss=False, ignore=None):
    def forward(batch):
        return model(**batch) if isinstance(batch, dict) else model(*batch)

    def compute_loss(batch):
        outputs = forward(batch)
        return loss_of(outputs), outputs

    return prediction_step(
        model,
        inputs,
        label_names=list(labels),
        returns_loss=returns_loss,
        prediction_loss_only=only_loss,
        ignore_keys=ignore,
        compute_loss=compute_loss,
        forward=forward,
    )


MAKERS = {
    "tuple": lambda loss, logits: (logits,) if loss is None else (loss, logits),
    "dict": lambda loss, logits: {"logits": logits} | ({} if loss is None else {"loss": loss}),
    "dataclass": Output,
    "object": lambda loss, logits: SimpleNamespace(loss=loss, logits=logits),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_outputs_of_every_kind(kind):
    """A tuple, dictionary, dataclass or object gives the same loss, predictions and labels."""
    model = Model(MAKERS[kind])
    loss, logits, labels = run(model, {"x": X, "labels": Y})

    assert loss == 6
    assert torch.equal(logits, X)
    assert torch.equal(labels, Y)
    assert not loss.requires_grad
    assert not logits.requires_grad


@pytest.mark.parametrize("kind", MAKERS)
def test_without_labels(kind):
    """Without labels there is no loss, and everything the model returns is a prediction."""
    loss, logits, labels = run(Model(MAKERS[kind]), {"x": X})

    assert loss is labels is None
    assert torch.equal(logits, X)


def test_a_tensor_alone():
    """A model that returns one tensor predicts it, also for a batch of one sample."""
    _, logits, _ = run(Model(lambda _, logits: logits), {"x": X[:1]})
    loss, nothing, _ = run(Model(lambda loss, _: loss), {"x": X, "labels": Y})

    assert logits.shape == (1, 3)
    assert (loss, nothing) == (6, ())


def test_loss_only():
    """If only the loss is asked for, nothing else is kept."""
    assert run(Model(Output), {"x": X, "labels": Y}, only_loss=True)[1:] == (None, None)


def test_a_batch_without_names():
    """The parts of a tuple are known by the arguments of `forward`."""
    loss, _, labels = run(Model(MAKERS["tuple"]), (X, Y))
    alone, _, _ = run(Model(MAKERS["tuple"]), (X,))

    assert loss == 6
    assert torch.equal(labels, Y)
    assert alone is None


def test_several_labels():
    """Several labels stand in a tuple; if one is missing there is no loss."""
    model = Model(lambda _, logits: (logits.sum(), logits))
    model.forward = lambda x, starts, ends=None: (x.sum(), x, starts, ends)
    both = run(model, {"x": X, "starts": Y, "ends": Y}, labels=("starts", "ends"))
    one = run(model, {"x": X, "starts": Y}, labels=("starts", "ends"))

    assert [torch.equal(part, Y) for part in both[2]] == [True, True]
    assert one[0] is one[2] is None


@pytest.mark.parametrize(
    ("returns_loss", "asked", "expected"),
    [(True, None, True), (False, None, False), (False, True, True), (True, False, False)],
)
def test_a_loss_without_labels(returns_loss, asked, expected):
    """A model without label arguments may compute a loss; the batch can say otherwise."""
    model = Model(None)
    model.forward = lambda x, **_: {"loss": x.sum(), "logits": x}
    inputs = {"x": X} | ({} if asked is None else {"return_loss": asked})

    assert (run(model, inputs, labels=(), returns_loss=returns_loss)[0] is not None) == expected


def test_what_is_ignored():
    """Keys named by the caller, or by the model's config, and None are no predictions."""

    def make(loss, logits):
        return {"loss": loss, "logits": logits, "states": logits, "more": None}

    model = Model(make)
    inputs = {"x": X, "labels": Y}

    assert len(run(model, inputs)[1]) == 2
    assert isinstance(run(model, inputs, ignore=["states"])[1], torch.Tensor)
    model.config = SimpleNamespace(keys_to_ignore_at_inference=["states"])
    assert isinstance(run(model, inputs)[1], torch.Tensor)
    assert ignored_keys(Model(None)) == []
    model.config = SimpleNamespace()
    assert ignored_keys(model) == ["past_key_values"]


def test_nested_outputs_are_detached():
    """Nothing that is kept holds a graph, however deep it lies."""
    model = Model(lambda _, logits: {"a": [logits, {"b": (logits, "text")}]})
    _, nested, _ = run(model, {"x": X})

    assert not nested[0].requires_grad
    assert not nested[1]["b"][0].requires_grad
    assert nested[1]["b"][1] == "text"


def test_output_fields():
    """Outputs without names have none."""
    assert output_fields((1, 2)) is None
    assert output_fields(X) is None
    assert output_fields(Output) is None

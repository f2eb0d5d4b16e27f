"""Optimizers group and step as upstream's, and either loads the other's state."""

import copy
import json
from pathlib import Path

import pytest
import torch

from runtime import TrainingArguments
from runtime._optimizers import create_optimizer, parameter_groups, parse_options

GOLDEN = json.loads((Path(__file__).parent / "golden" / "optimizers.json").read_text())
RUNS = GOLDEN["runs"]


class Odd(torch.nn.Module):
    """Names and layers that the rule for weight decay has an opinion on."""

    def __init__(self):
        super().__init__()
        linear = torch.nn.Linear
        self.emb = torch.nn.Embedding(5, 4)
        self.ln = torch.nn.LayerNorm(4)
        self.norm = linear(4, 4)
        self.post_norm = linear(4, 4, bias=False)
        self.normal = linear(4, 4)
        self.rmsnorm_a = linear(4, 4, bias=False)
        self.biased = linear(4, 4, bias=False)
        inner = torch.nn.Sequential(torch.nn.LayerNorm(4), linear(4, 4))
        parts = {"LayerNormX": linear(4, 4, bias=False), "inner": inner}
        self.block = torch.nn.ModuleDict({**parts, "bn": torch.nn.BatchNorm1d(4)})
        self.shared = self.normal
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
        self.my_norm_x = torch.nn.Parameter(torch.ones(2))
        self.head = linear(4, 2)
        self.head.bias.requires_grad_(requires_grad=False)


def arguments(run):
    return TrainingArguments(
        use_cpu=True,
        optim=run["optim"],
        optim_args=run["optim_args"],
        learning_rate=0.05,
        weight_decay=0.1,
        adam_beta1=0.8,
    )


def one_layer():
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.arange(6).reshape(2, 3) / 7 - 0.3)
        model.bias.copy_(torch.tensor([0.1, -0.2]))
    return model


def train(model, optimizer, steps=4):
    inputs = torch.arange(12).reshape(4, 3) / 11
    for _ in range(steps):
        optimizer.zero_grad()
        (model(inputs) ** 2).sum().backward()
        optimizer.step()


def weights(model):
    return [value for each in model.parameters() for value in each.flatten().tolist()]


def named(run):
    return f"{run['optim']}-{run['optim_args']}"


def test_groups_are_upstreams():
    """Which parameter decays, and the order in both groups, is upstream's for every odd name."""
    model = Odd()
    names = {parameter: name for name, parameter in model.named_parameters()}

    groups = parameter_groups(model, 0.1)

    assert [[names[each] for each in group["params"]] for group in groups] == GOLDEN["groups"]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


@pytest.mark.parametrize("run", RUNS, ids=named)
def test_steps_are_upstreams(run):
    """Four steps give upstream's weights, state and groups."""
    model = one_layer()
    optimizer = create_optimizer(model, arguments(run))
    train(model, optimizer)

    expected = [float.fromhex(value) for value in run["weights"]]
    assert weights(model) == pytest.approx(expected, rel=1e-6, abs=1e-8)
    state = optimizer.state_dict()
    assert json.loads(json.dumps(state["param_groups"])) == run["groups"]
    assert {str(key): sorted(value) for key, value in state["state"].items()} == {
        key: sorted(value) for key, value in run["state"].items()
    }


@pytest.mark.parametrize("run", RUNS, ids=named)
def test_a_stored_state_goes_on(run):
    """Two steps, a state saved and loaded, and two more are four steps, to the bit."""
    model = one_layer()
    optimizer = create_optimizer(model, arguments(run))
    train(model, optimizer, 2)
    resumed = one_layer()
    resumed.load_state_dict(model.state_dict())
    other = create_optimizer(resumed, arguments(run))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    train(resumed, other, 2)
    train(model, optimizer, 2)

    assert weights(resumed) == weights(model)


def test_adamw_is_fused_by_default():
    """The default takes torch's fused kernel, on the CPU too."""
    optimizer = create_optimizer(one_layer(), TrainingArguments(use_cpu=True))

    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["fused"] is True


def test_without_a_fused_kernel_the_plain_one_is_made(caplog):
    """Parameters that the fused kernel does not take are trained all the same, with a notice."""
    model = torch.nn.Linear(2, 2, dtype=torch.complex64)

    optimizer = create_optimizer(model, TrainingArguments(use_cpu=True))

    assert optimizer.defaults["fused"] is None
    assert "using AdamW that is not fused" in caplog.text


def test_low_precision_weights_train_with_adafactor():
    """Weights in bfloat16 move, stay in bfloat16, and their state survives a load."""
    model = one_layer().to(torch.bfloat16)
    before = weights(model)
    args = TrainingArguments(use_cpu=True, optim="adafactor", learning_rate=0.05)
    optimizer = create_optimizer(model, args)
    inputs = torch.ones(1, 3, dtype=torch.bfloat16)
    for _ in range(2):
        (model(inputs) ** 2).sum().backward()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())

    assert weights(model) != before
    assert {each.dtype for each in model.parameters()} == {torch.bfloat16}


def test_adafactor_refuses_sparse_gradients():
    """The message says what else to use."""
    model = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = create_optimizer(model, TrainingArguments(use_cpu=True, optim="adafactor"))
    model(torch.tensor([1])).sum().backward()

    with pytest.raises(RuntimeError, match="use dense embeddings, or sgd"):
        optimizer.step()


def test_a_closure_is_called_with_gradients_on():
    """As torch's optimizers do, Adafactor returns what the closure returns."""
    model = one_layer()
    optimizer = create_optimizer(model, TrainingArguments(use_cpu=True, optim="adafactor"))

    def closure():
        loss = model(torch.ones(3)).sum()
        loss.backward()
        return 7.0

    assert optimizer.step(closure) == 7.0


def test_nothing_to_train_is_said():
    """A frozen model is refused before the first step."""
    model = one_layer().requires_grad_(requires_grad=False)

    with pytest.raises(ValueError, match="Linear has no parameter that requires a gradient"):
        create_optimizer(model, TrainingArguments(use_cpu=True))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sgd", "momentum", "'momentum' must be written as name=value"),
        ("sgd", "momentum=", "must be written as name=value"),
        ("sgd", "momentum=fast", "momentum=fast must be a number"),
        ("sgd", "nesterov=perhaps", "nesterov=perhaps must be true or false"),
        ("sgd", "speed=1", "speed is no option of sgd, which has momentum, dampening, nesterov"),
        ("sgd", "weight_decay=1", "set the argument weight_decay"),
        ("adamw_torch", "eps=1", "eps is no option of adamw_torch, which has none"),
    ],
)
def test_wrong_options_are_refused(name, text, message):
    """The message quotes `optim_args`, the part that is wrong, and what is possible."""
    with pytest.raises(ValueError, match=message):
        parse_options(name, text)


def test_no_options():
    """Neither nothing nor an empty text is an option."""
    assert parse_options("sgd", None) == parse_options("sgd", "") == {}

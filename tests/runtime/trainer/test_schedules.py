"""Schedules give upstream's learning rates to the last bit, and either loads the other's state."""

import json
import math
import pickle
from pathlib import Path

import pytest
import torch

from runtime._choices import SchedulerType
from runtime._schedules import check_options, create_scheduler, follows_metric

GOLDEN = json.loads((Path(__file__).parent / "golden" / "schedules.json").read_text())
CASES = GOLDEN["cases"]


def two_groups(rate=3e-4):
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    return torch.optim.AdamW(
        [{"params": weights[:1]}, {"params": weights[1:], "weight_decay": 0.0}], lr=rate
    )


def created(case, optimizer):
    return create_scheduler(
        case["name"],
        optimizer,
        warmup_steps=case["warmup_steps"],
        training_steps=case["training_steps"],
        kwargs=case["kwargs"],
    )


def rates(case, optimizer, scheduler, steps):
    """The first group's learning rate before each step."""
    found = []
    for step in steps:
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step(*case["metrics"][step : step + 1] if "metrics" in case else ())
    return found


def named(case):
    return f"{case['name']}-{case['warmup_steps']}-{case['kwargs']}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_learning_rates_are_upstreams_to_the_last_bit(case):
    """Every schedule, with and without its options, before, within and beyond the training."""
    optimizer = two_groups()
    scheduler = created(case, optimizer)

    found = rates(case, optimizer, scheduler, range(len(case["rates"])))

    assert [rate.hex() for rate in found] == case["rates"]


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_state_is_upstreams_and_plain(case):
    """A state taken in the middle holds the same keys and values as upstream's, as JSON."""
    optimizer = two_groups()
    scheduler = created(case, optimizer)
    rates(case, optimizer, scheduler, range(case["state_at"]))

    state = scheduler.state_dict()

    assert json.loads(json.dumps(state)) == case["state"]
    assert pickle.loads(pickle.dumps(state)) == state  # noqa: S301 - our own


@pytest.mark.parametrize("case", CASES, ids=named)
def test_upstreams_state_goes_on_here(case):
    """Loading upstream's state in the middle gives upstream's learning rates from there on."""
    optimizer = two_groups()
    scheduler = created(case, optimizer)
    start = case["state_at"]
    optimizer.step()
    scheduler.load_state_dict(json.loads(json.dumps(case["state"])))
    for group in optimizer.param_groups:
        group["lr"] = float.fromhex(case["rates"][start])  # an optimizer stores its rates itself

    found = rates(case, optimizer, scheduler, range(start, len(case["rates"])))

    assert [rate.hex() for rate in found] == case["rates"][start:]


def test_every_schedule_is_in_the_table():
    """None of the names goes unchecked."""
    assert {case["name"] for case in CASES} == {kind.value for kind in SchedulerType}


def test_a_polynomial_without_decay_steps_ends():
    """A training that is all warmup reaches `lr_end` instead of dividing by zero."""
    optimizer = two_groups()
    scheduler = create_scheduler("polynomial", optimizer, warmup_steps=3, training_steps=3)

    for _ in range(3):
        optimizer.step()
        scheduler.step()

    assert math.isclose(scheduler.get_last_lr()[0], 1e-7)


def test_which_schedules_follow_a_metric():
    """The loop steps exactly the two after evaluations."""
    assert [kind.value for kind in SchedulerType if follows_metric(kind)] == [
        "reduce_lr_on_plateau",
        "greedy",
    ]


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("linear", {"num_cycles": 2}, "num_cycles=2, no option of linear, which has none"),
        ("constant", {"x": 1}, "x=1, no option of constant, which has none"),
        ("cosine", {"cycles": 2}, "cycles=2, no option of cosine, which has num_cycles"),
        ("cosine", {"num_cycles": "two"}, "num_cycles: Input should be a valid number"),
        ("cosine_with_min_lr", {}, "min_lr .* or min_lr_rate .* is needed"),
        ("cosine_with_min_lr", {"min_lr": 0.1, "min_lr_rate": 0.1}, "both say where to end"),
        ("inverse_sqrt", {"timescale": 0}, "timescale: Input should be greater than 0"),
        ("warmup_stable_decay", {}, "num_decay_steps: Missing"),
        (
            "warmup_stable_decay",
            {"num_decay_steps": 2, "decay_type": "steep"},
            "decay_type: Input should be 'linear', 'cosine' or '1-sqrt'",
        ),
        ("reduce_lr_on_plateau", {"patients": 3}, "patients=3, no option .* patience"),
        ("greedy", {"speed": 1}, "speed=1, no option of greedy, which has mode"),
        ("steps", {}, "'steps' is not a valid SchedulerType, which is one of 'linear', 'cosine'"),
    ],
)
def test_wrong_options_are_named_before_there_is_a_model(name, kwargs, message):
    """An option that a schedule lacks, needs or cannot read is refused with what it takes."""
    with pytest.raises(ValueError, match=message):
        check_options(name, kwargs)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("polynomial", {"lr_end": 1.0}, r"lr_end=1.0 must be below the initial .* 0.0003"),
        ("reduce_lr_on_plateau", {"factor": 2.0}, "Factor should be < 1.0"),
        ("reduce_lr_on_plateau", {"min_lr": [0.1]}, "expected 2 min_lrs"),
        ("greedy", {"factor": 2.0}, "factor=2.0 must be between 0 and 1"),
        ("greedy", {"mode": "best"}, "mode='best' must be"),
        ("greedy", {"threshold_mode": "off"}, "threshold_mode='off' must be"),
        ("greedy", {"max_lr": [0.1]}, r"max_lr=\[0.1\] must be one number or 2"),
    ],
)
def test_options_that_do_not_fit_the_optimizer(name, kwargs, message):
    """What only the optimizer can tell is refused with the schedule's name and the value."""
    with pytest.raises(ValueError, match=message):
        create_scheduler(name, two_groups(), warmup_steps=0, training_steps=9, kwargs=kwargs)


def test_a_greedy_schedule_with_bounds_for_each_group_tells_what_it_does(caplog):
    """Each group has its own bounds; verbose changes are logged, never printed."""
    optimizer = two_groups()
    scheduler = create_scheduler(
        "greedy",
        optimizer,
        warmup_steps=0,
        training_steps=9,
        kwargs={"min_lr": [2e-4, 1e-4], "patience": 0, "factor": 0.5, "verbose": True},
    )

    with caplog.at_level("INFO", logger="runtime"):
        for loss in (1.0, 2.0, 3.0):
            scheduler.step(loss)

    assert scheduler.get_last_lr() == [2e-4, 1.5e-4]
    assert "learning rates reduced to [0.0002, 0.00015]" in caplog.text

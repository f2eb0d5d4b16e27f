"""`run.log` inside functions that torch.compile compiles."""

import pytest
import torch
from torch._dynamo.utils import counters

from bus import Evaluated, MessageLogged, Stop
from bus.testing import JournalAsserter

CALLS = 30


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Nothing compiled before counts here, and nothing compiled here is left."""
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()
    counters.clear()


@pytest.fixture(params=["eager", "aot_eager"])
def compiled(request):
    """Compile a function. Inductor is left to the GPU tests: on a CPU it calls a C++ compiler."""
    return lambda function: torch.compile(function, backend=request.param)


def test_every_call_logs_its_own_values(new_run, logged, compiled):
    """Losses, host numbers and steps are those of each call, not those seen while compiling."""
    run = new_run(strict=True)

    @compiled
    def train_step(x, step, rate):
        loss = (x * 2).sum()
        run.log({"loss": loss, "lr": rate}, step=step)
        return loss + 1

    results = [train_step(torch.full((3,), float(s)), s, 1 / (s + 1)) for s in range(CALLS)]
    run.close()

    assert [result.item() for result in results] == [6.0 * s + 1 for s in range(CALLS)]
    assert logged(run.dir) == [(s, {"loss": 6.0 * s, "lr": 1 / (s + 1)}) for s in range(CALLS)]


def test_no_recompilation_storm(new_run, compiled, caplog):
    """The function breaks in two where it logs, whatever is logged; `log` is not compiled."""
    run = new_run()

    @compiled
    def train_step(x, step):
        loss = (x * 2).sum()
        run.log({"loss": loss, "lr": 1 / (step + 1), f"of_{step}": loss}, step=step)
        return loss + 1

    for step in range(5):
        train_step(torch.full((3,), float(step)), step)
    after_five = counters["frames"]["total"]
    for step in range(5, CALLS):
        train_step(torch.full((3,), float(step)), step)

    assert counters["frames"]["total"] == after_five
    assert after_five <= 4
    assert len(counters["graph_break"]) == 1
    assert "recompile_limit" not in caplog.text


def test_other_methods(new_run, compiled):
    """Messages, alerts, events and safe points inside compiled code do what they do outside."""
    run = new_run(strict=True)
    event = Evaluated(step=1, metrics={"acc": 0.5})

    @compiled
    def train_step(x, step):
        y = x + 1
        run.message(f"step {step}", step=step)
        run.publish(event)
        if run.safe_point(step).stop:
            return y * 0
        return y * 2

    for step in range(CALLS):
        if step == CALLS - 1:
            run.control.request(Stop())
        expected = [0.0, 0.0] if step == CALLS - 1 else [4.0, 4.0]
        assert train_step(torch.ones(2), step).tolist() == expected
    run.close()

    journal = JournalAsserter(run.dir).complete().ends("stopped").has(Evaluated, count=CALLS)
    assert [each.step for each in journal.of(MessageLogged)] == list(range(CALLS))


def test_floats_alone(new_run, logged, compiled):
    """The path for floats, which is looked at least, is not traced either."""
    run = new_run()

    @compiled
    def train_step(x, step):
        y = x + 1
        run.log({"lr": 0.1}, step=step)
        return y * 2

    for step in range(CALLS):
        assert train_step(torch.ones(2), step).tolist() == [4.0, 4.0]
    run.close()

    assert logged(run.dir) == [(step, {"lr": 0.1}) for step in range(CALLS)]


# Dynamo asks non-leaf tensors for gradients and hides torch's warning, unless it is an error.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_gradients_pass_through(new_run, logged, compiled):
    """A compiled model that logs its activations trains as it would without."""
    run = new_run()

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

        def forward(self, x):
            hidden = x * self.weight
            run.log({"mean": hidden.mean()})
            return (hidden * hidden).sum()

    model = Model()
    compiled(model)(torch.ones(2)).backward()
    run.close()

    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [2.0, 4.0]
    assert logged(run.dir) == [(None, {"mean": 1.5})]


def test_late_values(new_run, logged, late_device, compiled):
    """Values on a device are taken at the call, whatever the compiled code does to them later."""
    run = new_run(snapshots={"cpu": late_device})
    total = torch.zeros(())

    @compiled
    def train_step(total, step):
        total.add_(1)
        run.log({"total": total}, step=step)
        total.add_(1)
        return total

    for step in range(10):
        train_step(total, step)
    late_device.release()
    run.close()

    assert logged(run.dir) == [(step, {"total": 2.0 * step + 1}) for step in range(10)]


def test_bad_values(new_run, compiled):
    """A value that cannot be logged is named from inside compiled code, too."""
    run = new_run()

    @compiled
    def train_step(x):
        run.log({"x": x, "none": None})
        return x + 1

    for _ in range(3):
        assert train_step(torch.ones(2)).tolist() == [2.0, 2.0]

    assert set(run.statistics().rejected) == {"x", "none"}

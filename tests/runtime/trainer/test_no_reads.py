"""A step reads no tensor's value on the host, whatever is logged, filtered, clipped or counted."""

import math
from contextlib import ExitStack

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import runtime
from tests.runtime.cuda_profile import Profile
from tests.runtime.late_device import Later
from tests.runtime.trainer.resume_parts import Samples, outcome

OPERATORS = frozenset({"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique"})
"""Operators that wait for a device, however they are reached: `item`, `float`, `bool`, an index."""

METHODS = frozenset({"cpu", "numpy", "tolist", "__array__"})
"""Methods that do too, and are no operators where the tensor is on the host already.

`to` is missing, which moves batches towards the device as well; the test on CUDA sees it.
"""


class Operators(TorchDispatchMode):
    """Notes each operator, and those that wait for a device."""

    def __init__(self, found):
        super().__init__()
        self.found = found
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Note the operator, then run it."""
        del types
        self.calls += 1
        if func.overloadpacket.__name__ in OPERATORS:
            self.found.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class Methods(TorchFunctionMode):
    """Notes each call of a method that waits for a device."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Note the method, then call it."""
        del types
        name = getattr(func, "__name__", "")
        if name in METHODS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class Watch(runtime.TrainerCallback):
    """Counts the reads from each step's beginning to that of the next one.

    Attributes:
        reads: What was read.
        calls: How many operators that was among.
    """

    def __init__(self):
        self.reads = []
        self.calls = 0
        self._modes = None

    def on_step_begin(self, args, state, control, **_):
        """End with the step before, its log entry and the next batches; begin a step."""
        self.on_epoch_end(args, state, control)
        self._modes = ExitStack()
        self._operators = self._modes.enter_context(Operators(self.reads))
        self._modes.enter_context(Methods(self.reads))

    def on_epoch_end(self, _args, _state, _control, **_):
        """End with the last step."""
        if self._modes is not None:
            self._modes.close()
            self.calls += self._operators.calls
            self._modes = None


def sample(index):
    """Features, a label, and which of the features count."""
    x = torch.arange(1.0, 5.0) * (index + 1)
    mask = torch.arange(4) <= index % 4
    return {"x": x.sin(), "labels": torch.tensor(index % 2), "attention_mask": mask}


class Classifier(torch.nn.Module):
    """Tells two classes apart; reads nothing of what it is given."""

    main_input_name = "x"

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first = torch.nn.Linear(4, 8)
            self.second = torch.nn.Linear(8, 2)
        self.drop = torch.nn.Dropout(0.1)

    def logits(self, x):
        """A batch's, by class."""
        return self.second(self.drop(torch.tanh(self.first(x))))

    def forward(self, x, labels=None, attention_mask=None):
        """The mean loss and the logits."""
        del attention_mask
        logits = self.logits(x)
        loss = None if labels is None else cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


class Diverging(Classifier):
    """Has no finite loss for some samples, but finite gradients."""

    def forward(self, x, labels=None, attention_mask=None):
        """The mean loss, beyond all numbers where the first feature is negative."""
        outputs = super().forward(x, labels, attention_mask)
        return {**outputs, "loss": outputs["loss"] / (x[0, 0] > 0)}


class Counting(Classifier):
    """Divides its loss by what the whole optimizer step holds."""

    def forward(self, x, labels=None, num_items_in_batch=None, **kwargs):
        """The summed loss by the number of labels."""
        del kwargs
        logits = self.logits(x)
        loss = cross_entropy(logits, labels, reduction="sum") / num_items_in_batch
        return {"loss": loss, "logits": logits}


CASES = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 3},
    "no clipping": {"max_grad_norm": 0.0},
    "no filter": {"logging_nan_inf_filter": False},
    "losses that are not finite": {"model": Diverging, "logging_steps": 3},
    "sgd": {"optim": "sgd", "lr_scheduler_type": "cosine"},
    "all tokens": {"include_num_input_tokens_seen": "all"},
    "tokens without padding": {"include_num_input_tokens_seen": "non_padding"},
    "labels counted": {"model": Counting, "gradient_accumulation_steps": 2},
    "label smoothing": {"label_smoothing_factor": 0.1},
    "checkpoints": {"save_steps": 2, "save_strategy": "steps"},
    "a progress bar": {"disable_tqdm": False},
    "bf16": {"bf16": True},
}


ON_CUDA = {
    **CASES,
    "an optimizer that counts on the host": {"optim": "adamw_torch"},
    "compiled": {"torch_compile": True},
}


def make(folder, case, run, *callbacks):
    """The trainer of a case, which logs every step."""
    case = dict(case)
    model = case.pop("model", Classifier)()
    settings = {
        "per_device_train_batch_size": 2,
        "num_train_epochs": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        **case,
    }
    arguments = runtime.TrainingArguments(str(folder / "out"), **settings)
    data = Samples(12, sample)
    return runtime.Trainer(model, arguments, train_dataset=data, callbacks=callbacks, run=run)


def train(folder, case, watch, **snapshots):
    """Train a case on the CPU; return its trainer, closed."""
    with runtime.Run("run", dir=folder, **snapshots) as run:
        run.guard(on_nonfinite="alert", window=2)
        trainer = make(folder, {**case, "use_cpu": True}, run, watch)
        trainer.train()
        trainer.close()
    return trainer


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_step_reads_a_value(case, tmp_path, capfd):
    """Not one, logging at every step; and the numbers are those of a run that reads at once."""
    watch = Watch()
    late = train(tmp_path / "late", case, watch, snapshots={"cpu": Later()})
    at_once = train(tmp_path / "at once", case, Watch())

    assert watch.calls > 100
    assert watch.reads == []
    assert outcome(late) == outcome(at_once)
    shown = capfd.readouterr()
    assert "grad_norm" in shown.out + shown.err


def test_a_read_would_be_counted(tmp_path):
    """What a callback reads is found, so that the count means something."""

    class Curious(runtime.TrainerCallback):
        def on_pre_optimizer_step(self, _args, _state, _control, **kwargs):
            weight = next(kwargs["model"].parameters())
            assert math.isfinite(weight.detach().sum())
            assert weight.cpu() is weight

    watch = Watch()
    with runtime.Run("run", dir=tmp_path) as run:
        trainer = make(tmp_path, {"use_cpu": True, "logging_steps": 99}, run, watch, Curious())
        trainer.train()
        trainer.close()

    assert watch.reads == ["_local_scalar_dense", "cpu"] * trainer.state.global_step


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # Inductor's
@pytest.mark.parametrize("case", ON_CUDA.values(), ids=ON_CUDA)
def test_no_step_waits_for_cuda(case, tmp_path):
    """Whole steps, fetching and logging included, where every wait raises."""

    class Forbid(runtime.TrainerCallback):
        def on_epoch_begin(self, _args, state, _control, **_):
            if state.global_step > 0:  # what the first epoch sets up may wait
                torch.cuda.set_sync_debug_mode("error")

        def on_epoch_end(self, _args, _state, _control, **_):
            torch.cuda.set_sync_debug_mode("default")

    with runtime.Run("run", dir=tmp_path) as run:
        run.guard(on_nonfinite="alert", window=2)
        trainer = make(tmp_path, case, run, Forbid())
        try:
            trainer.train()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        trainer.close()

    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == trainer.state.global_step // case.get("logging_steps", 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["plain", "accumulation", "losses that are not finite", "bf16"])
def test_no_call_of_a_step_waits_for_cuda(name, tmp_path):
    """In a profile of an epoch that logs each step, no call of the CUDA runtime waits.

    That sees what the sync debug mode does not, such as waiting for an event.
    """

    class Profiled(runtime.TrainerCallback):
        profile = None

        def on_epoch_begin(self, _args, state, _control, **_):
            if state.global_step > 0:  # what the first epoch sets up may wait
                self.profile = Profile()
                self.profile.__enter__()

        def on_epoch_end(self, _args, _state, _control, **_):
            if self.profile is not None:
                self.profile.__exit__(None, None, None)

    callback = Profiled()
    with runtime.Run("run", dir=tmp_path) as run:
        trainer = make(tmp_path, CASES[name], run, callback)
        trainer.train()
        trainer.close()

    assert callback.profile is not None
    assert len(callback.profile.kernels) > 50
    assert callback.profile.waits == []

"""What the built-in callbacks show in a terminal, and that they wait for nobody."""

import ast
import re
from types import SimpleNamespace

import pytest

from runtime import (
    CallbackHandler,
    DefaultFlowCallback,
    Logs,
    PrinterCallback,
    ProgressCallback,
    TrainerControl,
    TrainerState,
)

ARGUMENTS = SimpleNamespace(
    logging_first_step=False,
    logging_strategy="no",
    eval_strategy="no",
    save_strategy="no",
)


class Device:
    """Delivers a loss when told to."""

    def __init__(self, loss):
        self.arrived = False
        self._loss = loss

    def ready(self):
        return self.arrived

    def values(self):
        assert self.arrived, "somebody did not wait"
        return {"loss": self._loss}


class BrokenDevice:
    """Raises at each question."""

    def ready(self):
        raise RuntimeError("the device failed")

    values = ready


class Showing:
    """A training that is shown by one callback, driven by hand; not by the real loop."""

    def __init__(self, callback, capsys, **state):
        self.callback = callback
        self.state = TrainerState(**{"max_steps": 5, **state})
        self.control = TrainerControl()
        self.handler = CallbackHandler([DefaultFlowCallback, callback], None, None, None, None)
        self._capsys = capsys

    def fire(self, hook, *more):
        getattr(self.handler, hook)(ARGUMENTS, self.state, self.control, *more)

    def step(self):
        self.state.global_step += 1
        self.fire("on_step_end")

    def log(self, entry):
        self.fire("on_log", entry)

    def evaluate(self, loader):
        self.handler.eval_dataloader = loader
        for _ in loader:
            self.fire("on_prediction_step")

    def lines(self):
        """The entries printed since the last look."""
        printed = self._capsys.readouterr().out
        return [ast.literal_eval(each) for each in re.findall(r"\{.*\}", printed)]


@pytest.fixture(params=[PrinterCallback, ProgressCallback])
def showing(request, capsys):
    """A training shown by the printer, and one shown by the bars."""
    training = Showing(request.param(), capsys)
    training.fire("on_train_begin")
    yield training
    training.fire("on_exception", RuntimeError("the test is over"))


def late(loss, **host):
    device = Device(loss)
    return device, Logs(host, device=device, order=("loss", *host))


class TestEntries:
    def test_floats_have_four_digits(self, showing):
        """Floats are four significant digits, the rest as it is, and total_flos is left out."""
        entry = {"loss": 0.123456789, "n": 3, "note": "x", "epoch": 1.0, "total_flos": 1e9}
        showing.log(entry)

        assert showing.lines() == [{"loss": "0.1235", "n": 3, "note": "x", "epoch": "1"}]
        assert entry["total_flos"] == 1e9

    def test_wait_for_nobody_and_keep_their_order(self, showing):
        """A late entry is shown at a later hook, and those behind it after it."""
        device, entry = late(2.0, epoch=0.5)
        showing.log(entry)
        showing.log({"eval_loss": 1.0})
        showing.step()
        assert showing.lines() == []

        device.arrived = True
        showing.step()
        assert showing.lines() == [{"loss": "2", "epoch": "0.5"}, {"eval_loss": "1"}]

    def test_are_complete_when_training_ends(self, showing):
        """What is late then is waited for."""
        device, entry = late(2.0)
        looks = iter([False, False, False, True])
        device.ready = lambda: next(looks, True)
        device.arrived = True
        showing.log(entry)
        assert showing.lines() == []
        showing.fire("on_train_end")

        assert showing.lines() == [{"loss": "2"}]

    def test_a_failed_training_shows_what_is_there(self, showing):
        """After an exception nothing is waited for; what had arrived is shown."""
        device, entry = late(2.0)
        _, never = late(3.0)
        showing.log(entry)
        showing.log(never)
        device.arrived = True
        showing.fire("on_exception", RuntimeError("no memory"))
        assert showing.lines() == [{"loss": "2"}]

        showing.fire("on_train_begin")
        showing.step()
        assert showing.lines() == []

    def test_a_failed_device_hides_no_failure(self, capsys, caplog):
        """If the device is what failed, the bar is closed all the same and it is reported."""
        training = Showing(ProgressCallback(), capsys)
        training.fire("on_train_begin")
        with pytest.raises(RuntimeError, match="the device failed"):
            training.log(Logs(device=BrokenDevice(), order=["loss"]))
        training.fire("on_exception", RuntimeError("the device failed"))

        assert training.callback.training_bar is None
        assert "ProgressCallback.on_exception failed" in caplog.text

    def test_a_subclass_may_hand_on_logs_of_its_own(self, capsys):
        """`super().on_log` takes any dictionary, by position too, as upstream's does."""

        class Short(PrinterCallback):
            def on_log(self, args, state, control, logs, **kwargs):
                super().on_log(args, state, control, {"loss": logs["loss"]}, **kwargs)

        training = Showing(Short(), capsys)
        training.log({"loss": 1.0, "epoch": 0.5})

        assert training.lines() == [{"loss": "1"}]


class TestPrinter:
    def test_prints_outside_of_training_at_once(self, capsys):
        """Where no later hook would come, it waits for the device."""
        training = Showing(PrinterCallback(), capsys)
        device, entry = late(2.0)
        looks = iter([False, False, True])
        device.ready = lambda: next(looks, True)
        device.arrived = True
        training.log(entry)

        assert training.lines() == [{"loss": "2"}]

    def test_prints_in_the_first_process_of_a_machine_alone(self, capsys):
        """Other processes are silent."""
        training = Showing(PrinterCallback(), capsys, is_local_process_zero=False)
        training.log({"loss": 1.0})

        assert training.lines() == []


class TestBars:
    def test_the_training_bar_counts_steps(self, capsys):
        """It has max_steps, moves with the steps, and is closed at the end."""
        training = Showing(ProgressCallback(), capsys)
        training.fire("on_train_begin")
        bar = training.callback.training_bar
        for _ in range(5):
            training.step()
        assert (bar.total, bar.n) == (5, 5)
        training.fire("on_train_end")

        assert training.callback.training_bar is None
        assert "5/5" in capsys.readouterr().err

    def test_a_resumed_training_jumps(self, capsys):
        """The first step after a resume moves the bar to where the training is."""
        training = Showing(ProgressCallback(), capsys, global_step=3)
        training.fire("on_train_begin")
        bar = training.callback.training_bar
        assert bar.n == 0
        training.step()
        assert bar.n == 4
        training.fire("on_train_end")

    def test_a_restart_closes_the_bar_before(self, capsys):
        """A training that begins again without having ended has one bar, from 0."""
        training = Showing(ProgressCallback(), capsys)
        training.fire("on_train_begin")
        first = training.callback.training_bar
        training.step()
        training.state = TrainerState(max_steps=7)
        training.fire("on_train_begin")
        training.step()

        assert first.disable
        assert training.callback.training_bar.n == 1
        training.fire("on_train_end")

    @pytest.mark.parametrize("end", ["on_evaluate", "on_predict"])
    @pytest.mark.parametrize("training_too", [True, False])
    def test_an_evaluation_has_its_own(self, capsys, end, training_too):
        """It counts batches, stays on screen only without a training bar, and is closed."""
        training = Showing(ProgressCallback(), capsys)
        if training_too:
            training.fire("on_train_begin")
        training.evaluate([1, 2, 3])
        bar = training.callback.prediction_bar
        training.fire(end, {})

        assert (bar.total, bar.n, bar.leave) == (3, 3, not training_too)
        assert bar.disable
        assert training.callback.prediction_bar is None
        training.fire("on_train_end")

    def test_no_bar_for_an_evaluation_of_unknown_length(self, capsys):
        """Without a length there is nothing to show."""
        training = Showing(ProgressCallback(), capsys)
        training.evaluate(iter([1, 2]))

        assert training.callback.prediction_bar is None

    def test_nothing_in_other_processes(self, capsys):
        """Only the first process of all shows anything."""
        training = Showing(ProgressCallback(), capsys, is_world_process_zero=False)
        training.fire("on_train_begin")
        training.step()
        training.evaluate([1])
        training.log({"loss": 1.0})
        training.fire("on_evaluate", {})
        training.fire("on_train_end")
        printed = capsys.readouterr()

        assert (printed.out, printed.err) == ("", "")

    def test_no_entries_without_a_training_bar(self, capsys):
        """What is logged outside of training is not written."""
        training = Showing(ProgressCallback(), capsys)
        training.log({"loss": 1.0})

        assert training.lines() == []

    def test_overlong_texts_are_left_out(self, capsys):
        """A text beyond max_str_len is replaced by its length and the option's name."""
        training = Showing(ProgressCallback(max_str_len=10), capsys)
        training.fire("on_train_begin")
        training.log({"long": "x" * 11, "short": "x" * 10})
        training.fire("on_train_end")

        assert training.lines() == [
            {"long": "<a text of 11 characters, beyond max_str_len=10>", "short": "x" * 10}
        ]

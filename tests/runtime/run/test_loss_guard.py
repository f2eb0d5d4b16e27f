"""The guard of a loss: what it finds, how soon it is acted on, and that nothing is read for it."""

import math
import time

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import runtime
from bus import AlertRaised, AnomalyDetected, DecisionApplied, Save
from bus.testing import JournalAsserter
from runtime._loss_band import LossBand
from tests.runtime.late_device import Later
from tests.waiting import HANG

EVERY = 4
WINDOW = 20


def noisy(seed=0, level=2.0):
    """Losses about a level, one after the other."""
    draw = np.random.default_rng(seed)
    while True:
        yield torch.tensor(level + 0.1 * draw.standard_normal(), dtype=torch.float32)


def train(run, guard, losses, norms=None, *, each=lambda _step: None, steps=400):
    """Train until the run says to stop; returns the step at which it did."""
    for step in range(1, steps + 1):
        guard.check(losses(step), step=step, grad_norm=None if norms is None else norms(step))
        each(step)
        if run.safe_point(step).stop:
            return step
    return None


def bad_at(step, value, usual=None):
    """Usual losses with one that is not."""
    source = noisy() if usual is None else usual
    return lambda now: torch.tensor(value) if now == step else next(source)


def found(run):
    """What the journal of a run that is closed has found."""
    return JournalAsserter(run.dir).of(AnomalyDetected)


class LateBy:
    """Lets a device answer so many steps after it was asked."""

    def __init__(self, device, steps):
        self._device, self._steps, self._asked = device, steps, {}

    def __call__(self, step):
        """One more step has been taken."""
        for call in range(len(self._device.calls)):
            if self._asked.setdefault(call, step) + self._steps <= step:
                self._device.release(call)


class TestFinding:
    @pytest.mark.parametrize("late", [0, 1, 7])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("metric", ["loss", "grad_norm"])
    def test_not_finite(self, new_run, late_device, metric, value, late):
        """Stops within `every` steps of where it was, and the steps that the device is behind."""
        late_device.answers_at_once = late == 0
        run = new_run(snapshots={"cpu": late_device})
        guard = run.guard(every=EVERY)
        spoilt, usual = bad_at(101, value), noisy(1)
        losses = spoilt if metric == "loss" else lambda _: next(usual)
        norms = spoilt if metric == "grad_norm" else lambda _: next(usual)
        stopped = train(run, guard, losses, norms, each=LateBy(late_device, late))
        run.close(timeout=1)

        assert stopped is not None
        assert 101 <= stopped < 101 + EVERY + late + (late > 0)
        (event,) = found(run)
        assert (event.step, event.metric, event.kind) == (101, metric, "nonfinite")
        assert repr(event.value) == repr(value)
        assert event.z is None
        (alert,) = JournalAsserter(run.dir).ends("stopped").of(AlertRaised)
        assert (alert.step, alert.level) == (101, "error")
        assert guard.nonfinite_from == 101
        (applied,) = JournalAsserter(run.dir).of(DecisionApplied)
        assert (applied.by, applied.step) == ("the loss guard", stopped)
        assert "at step 101" in applied.reason

    @pytest.mark.parametrize("late", [0, 5])
    def test_jump(self, new_run, late_device, late):
        """A loss far above its mean is a finding with its score, acted on as soon."""
        late_device.answers_at_once = late == 0
        run = new_run(snapshots={"cpu": late_device})
        guard = run.guard(on_spike="stop", every=EVERY, window=WINDOW)
        stopped = train(run, guard, bad_at(102, 4.0), each=LateBy(late_device, late))
        run.close(timeout=1)

        assert stopped is not None
        assert 102 <= stopped < 102 + EVERY + late + (late > 0)
        (event,) = found(run)
        assert (event.step, event.metric, event.kind, event.value) == (102, "loss", "spike", 4.0)
        assert event.z == pytest.approx(2.0 / 0.1, rel=0.5)
        JournalAsserter(run.dir).has(AlertRaised, step=102, level="warning")

    def test_no_false_alarm(self, new_run):
        """Noise, a falling loss, a rising one, one that hardly moves, norms with a heavy tail."""
        draw = np.random.default_rng(3)
        steps = np.arange(800)
        courses = {
            "noise": 3 + 0.3 * draw.standard_normal(800),
            "falling": 1 + 10 * np.exp(-steps / 40) + 0.05 * draw.standard_normal(800),
            "rising": 1 + steps / 500 + 0.02 * draw.standard_normal(800),
            "still": 2 + 0.02 * np.sin(steps / 300) + (steps > 500) * 0.05,
            "nothing": np.zeros(800),
            "negative": -5 + 0.5 * draw.standard_normal(800),
            "heavy": np.exp(0.3 * draw.standard_normal(800)),
        }
        for name, course in courses.items():
            run = new_run(name)
            values = torch.tensor(course, dtype=torch.float32).unbind()
            guard = run.guard()
            for step, value in enumerate(values):
                guard.check(value, step=step)
            run.close()
            assert found(run) == [], name

    def test_one_alarm_for_one_trouble(self, new_run):
        """What follows closely is not told again; a new level becomes the usual one."""
        run = new_run()
        guard = run.guard(every=EVERY, window=WINDOW)
        level = {True: noisy(4, 2.0), False: noisy(5, 6.0)}
        train(run, guard, lambda step: next(level[step <= 60]), steps=200)
        train(run, guard, lambda _: torch.tensor(math.nan), steps=100)
        run.close()

        jump, spoilt = found(run)
        assert (jump.kind, jump.step in range(61, 61 + EVERY)) == ("spike", True)
        assert (spoilt.kind, spoilt.step) == ("nonfinite", 1)
        assert len(JournalAsserter(run.dir).of(AlertRaised)) == 2

    def test_again_after_a_quiet_time(self, new_run):
        """A second jump, more than a window later, is a finding of its own."""
        run = new_run()
        guard = run.guard(every=EVERY, window=WINDOW)
        usual = noisy()
        bad = {50, 52, 100}
        train(run, guard, lambda step: torch.tensor(9.0) if step in bad else next(usual), steps=120)
        run.close()

        assert [each.step for each in found(run)] == [50, 100]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_types_and_shapes(self, new_run, dtype):
        """Half and double precision, one element in any shape, with a gradient or without."""
        run = new_run()
        guard = run.guard(every=EVERY)
        usual = bad_at(70, math.nan)

        def losses(step):
            return usual(step).to(dtype).reshape(1, 1).requires_grad_()

        assert train(run, guard, losses, lambda _: torch.ones(())) in range(70, 70 + EVERY)
        run.close()
        assert [each.metric for each in found(run)] == ["loss"]


class TestActing:
    def test_save(self, new_run):
        """A checkpoint is asked for, and training goes on."""
        run = new_run()
        guard = run.guard(on_nonfinite="save", every=1)
        decisions = []
        for step in range(1, 30):
            guard.check(torch.tensor(math.nan if step == 9 else 1.0), step=step)
            decision = run.safe_point(step)
            decisions += [step] * decision.save
            assert not decision.stop
        run.close()

        assert decisions == [9]
        JournalAsserter(run.dir).ends("finished").has(AlertRaised, step=9)
        assert [each.action for each in found(run)] == ["save"]

    def test_alert_asks_for_nothing(self, new_run):
        """It is told, and that is all."""
        run = new_run()
        guard = run.guard(on_nonfinite="alert", every=1)
        assert train(run, guard, bad_at(9, math.nan), steps=30) is None
        run.close()

        JournalAsserter(run.dir).has(AnomalyDetected, count=1).has(AlertRaised, count=1)
        assert JournalAsserter(run.dir).of(DecisionApplied) == []

    def test_ignored(self, new_run):
        """Each kind can be left alone."""
        run = new_run()
        guard = run.guard(on_nonfinite="ignore", on_spike="ignore", every=1)
        train(run, guard, bad_at(9, math.nan), steps=30)
        train(run, guard, bad_at(100, 99.0), steps=150)
        run.close()

        assert found(run) == []
        assert guard.nonfinite_from == 9

    def test_the_last_steps(self, new_run, late_device):
        """What the device says after the loop has ended is still told; nothing is asked then."""
        run = new_run(snapshots={"cpu": late_device})
        guard = run.guard(every=EVERY)
        for step in range(1, 11):
            guard.check(torch.tensor(math.nan if step == 10 else 1.0), step=step)
        late_device.answers_at_once = True
        late_device.release()
        run.close()

        assert [each.step for each in found(run)] == [10]
        JournalAsserter(run.dir).complete().ends("finished").has(AlertRaised, step=10)

    def test_a_device_that_never_answers(self, new_run, late_device, caplog):
        """Closing says which steps nobody has looked at, and does not hang."""
        run = new_run(snapshots={"cpu": late_device})
        guard = run.guard(every=EVERY)
        began = time.monotonic()
        for step in range(1, 20):
            guard.check(torch.tensor(1.0), step=step)
        run.close()

        assert time.monotonic() - began < HANG
        assert "were not checked, from step 1 on" in caplog.text

    def test_what_cannot_be_checked_is_said_once(self, new_run, caplog):
        """Neither a failing device nor a tensor of many elements ends the training."""

        class Broken:
            def take(self, _tensors):
                raise RuntimeError("device-side assert triggered")

        run = new_run(snapshots={"cpu": Broken()})
        guard = run.guard(every=1)
        for step in range(1, 9):
            guard.check(torch.tensor(1.0), step=step)
        run.close()

        said = [each.getMessage() for each in caplog.records if "not checked" in each.getMessage()]
        (text,) = said
        assert text.startswith("the loss of step 1 was not checked: RuntimeError: device-side")

    @pytest.mark.parametrize(
        ("loss", "message"),
        [
            (torch.ones(3), "loss has 3 elements; reduce it to one"),
            (1.0, "loss is of float; pass a plain tensor"),
            (None, "loss is of NoneType; pass a plain tensor"),
        ],
    )
    def test_nonsense(self, new_run, caplog, loss, message):
        """What is no loss is named once with what to pass, and the next one is checked."""
        run = new_run()
        guard = run.guard(every=1)
        guard.check(loss, step=1)
        guard.check(loss, step=2)
        guard.check(torch.tensor(math.nan), step=3)
        run.close()

        texts = [each.getMessage() for each in caplog.records]
        (said,) = [text for text in texts if "not checked" in text]
        assert said.startswith("the loss of step 1 was not checked: ")
        assert message in said
        assert [each.step for each in found(run)] == [3]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"on_nonfinite": "panic"}, "on_nonfinite='panic' must be one of 'ignore', 'alert'"),
            ({"on_spike": None}, "on_spike=None must be one of"),
            ({"threshold": 0}, "threshold=0 must be standard deviations, more than 0"),
            ({"threshold": math.nan}, "threshold=nan must be"),
            ({"window": 1}, "window=1 must be steps to learn from, 2 or more"),
            ({"every": 0}, "every=0 must be steps to look at together, 1 or more"),
        ],
    )
    def test_arguments(self, new_run, options, message):
        """What is out of range is named with what would do."""
        with pytest.raises(ValueError, match=message):
            new_run().guard(**options)


class Reads(TorchDispatchMode):
    """Notes what would wait for a device."""

    def __init__(self):
        super().__init__()
        self.found, self.calls = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Note the operator, then run it."""
        del types
        self.calls += 1
        name = func.overloadpacket.__name__
        if name in {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique"}:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class TestOnTheDevice:
    def test_nothing_is_read(self, new_run):
        """Hundreds of operators, and not one that waits; what is found is found all the same."""
        run = new_run(snapshots={"cpu": Later()})
        guard = run.guard(on_spike="stop", every=EVERY, window=WINDOW)
        losses, norms = bad_at(45, 9.0), noisy(1)
        with Reads() as reads:
            stopped = train(run, guard, losses, lambda _: next(norms))
        run.close()

        assert reads.calls > 200
        assert reads.found == []
        assert stopped in range(45, 45 + EVERY)

    def test_overwritten_at_once(self, new_run, late_device):
        """A loss whose tensor the next step writes over counts with the value of its check."""
        run = new_run(snapshots={"cpu": late_device})
        late_device.answers_at_once = True
        guard = run.guard(every=EVERY)
        loss = torch.zeros(())
        for step in range(1, 13):
            loss.fill_(math.nan if step == 5 else 1.0)
            guard.check(loss, step=step)
            loss.fill_(0.0)
        run.close()

        assert [each.step for each in found(run)] == [5]

    def test_the_graph_is_released(self, new_run):
        """Steps that wait to be looked at hold none of the autograd graph."""
        run = new_run()
        guard = run.guard(every=64)
        weight = torch.ones((), requires_grad=True)
        guard.check(weight * 2, step=1, grad_norm=weight * 3)

        assert all(not each.requires_grad for each in guard._values)

    def test_inside_compiled_code(self, new_run):
        """A compiled step may check its own loss."""
        run = new_run()
        guard = run.guard(every=1)
        torch.compiler.reset()

        @torch.compile(backend="aot_eager")
        def train_step(x, step):
            loss = (x * 2).sum()
            guard.check(loss, step=step)
            return loss + 1

        for step in range(1, 6):
            train_step(torch.full((2,), math.nan if step == 4 else 1.0), step)
        torch.compiler.reset()
        run.close()

        assert [each.step for each in found(run)] == [4]

    def test_jittery(self, new_run, jittery_device):
        """Answers out of phase: each finding is told with its own step, in order."""
        run = new_run(snapshots={"cpu": jittery_device(2)})
        guard = run.guard(on_nonfinite="alert", every=EVERY, window=WINDOW)
        usual, bad = noisy(), {30, 90, 150}

        def losses(step):
            return torch.tensor(math.inf) if step in bad else next(usual)

        train(run, guard, losses, steps=160)
        run.close()

        assert [each.step for each in found(run)] == [30, 90, 150]


class TestBand:
    def test_the_formula(self):
        """Scores are those of the weighted mean and variance, computed plainly in float64."""
        draw = np.random.default_rng(0)
        course = 5 + draw.standard_normal((60, EVERY, 2))
        band = LossBand(window=WINDOW, threshold=1e9)
        seen, weights = np.zeros((0, 2)), np.zeros(0)
        for block in course:
            far = band.add(torch.tensor(block, dtype=torch.float32))
            if len(seen) >= WINDOW:
                mean = np.average(seen, axis=0, weights=weights)
                variance = np.average((seen - mean) ** 2, axis=0, weights=weights)
                scores = (block - mean) / np.sqrt(variance + (0.01 * mean) ** 2)
                assert far.score.tolist() == pytest.approx(scores.max(0).tolist(), rel=1e-3)
                assert far.place.tolist() == scores.argmax(0).tolist()
            past = len(seen) / (len(seen) + EVERY)
            if len(seen) >= WINDOW:
                past = (1 - 1 / WINDOW) ** EVERY
            weights = np.concatenate([weights * past, np.full(EVERY, (1 - past) / EVERY)])
            seen = np.concatenate([seen, block])

    def test_goes_on_from_its_state(self, new_run):
        """A guard that is given another's state finds the same with the same scores."""
        course = [next(each) for each in [noisy(6)] * 80] + [torch.tensor(3.5)] * EVERY

        def scores(name, break_at):
            run = new_run(name)
            guard = run.guard(every=EVERY, window=WINDOW)
            for step, value in enumerate(course):
                if step == break_at:
                    kept, guard = guard.state_dict(), run.guard(every=EVERY, window=WINDOW)
                    guard.load_state_dict(kept)
                guard.check(value, step=step)
            run.close()
            return [(each.step, each.z) for each in found(run)]

        unbroken = scores("unbroken", None)
        assert unbroken
        assert scores("broken", 40) == unbroken

    def test_a_foreign_state(self, new_run):
        """What is no state of a guard's makes it learn anew."""
        guard = new_run().guard()
        guard.load_state_dict({"loss": {"mean": 1.0}, "grad_norm": None})
        guard.check(torch.tensor(1.0), step=1)

        assert isinstance(guard, runtime.LossGuard)
        assert guard.state_dict()["loss"]["count"] == 1


def test_requests_of_its_own_have_a_reason(new_run):
    """Whoever reads the decision sees what was found."""
    run = new_run()
    guard = run.guard(on_spike="save", every=1, window=WINDOW)
    usual = noisy()
    reasons = []
    for step in range(1, 60):
        guard.check(torch.tensor(9.0) if step == 50 else next(usual), step=step)
        reasons += [each.reason for each in run.safe_point(step).of(Save)]

    (reason,) = reasons
    assert reason.startswith("loss is 9 at step 50, ")
    assert reason.endswith("standard deviations above its mean")

"""What a console knows, computed from events alone."""

import math

import pytest

from bus import (
    AlertRaised,
    DecisionApplied,
    Evaluated,
    MessageLogged,
    MetricsLogged,
    PredictionStepEnded,
    RunEnded,
    RunStarted,
    StepEnded,
    TrainBegan,
)
from runtime._console_progress import ProgressTracker


def logged(step, *, time=100.0, **metrics):
    return MetricsLogged(step=step, time=time, metrics=metrics or {"loss": 2.0})


@pytest.fixture
def tracker():
    """Of a run that nothing is known of."""
    return ProgressTracker("gpt")


class TestPace:
    def test_tells_speed_and_time_left(self, tracker):
        """Ten steps a second; the trainer says that there are a thousand."""
        tracker.take(TrainBegan(step=0, max_steps=1000, time=100))
        for step in range(1, 41):
            tracker.take(StepEnded(step=step, time=100 + step / 10))
        progress = tracker.look()
        assert (progress.step, progress.total, progress.share) == (40, 1000, 0.04)
        assert progress.rate == pytest.approx(10)
        assert progress.seconds_left == pytest.approx(96)

    def test_forgets_old_speed(self, tracker):
        """After half a minute a slow beginning no longer counts."""
        tracker.take(logged(1, time=0))
        for step in range(2, 1000):
            tracker.take(logged(step, time=500 + step / 10))
        assert tracker.look().rate == pytest.approx(10, rel=0.02)

    def test_remembers_rare_steps(self, tracker):
        """Two logs five minutes apart are enough to tell a speed."""
        tracker.take(logged(500, time=0))
        tracker.take(logged(1000, time=300))
        assert tracker.look().rate == pytest.approx(5 / 3)

    def test_promises_no_time_before_it_can(self, tracker):
        """One step says nothing about speed, nor does a clock that was set back."""
        assert tracker.look().step is None
        tracker.take(logged(1, time=100))
        tracker.take(logged(2, time=90))
        assert (tracker.look().step, tracker.look().rate) == (2, None)

    def test_late_values_take_no_step_back(self, tracker):
        """A loss that had to leave its device is of a step that was passed already."""
        tracker.take(StepEnded(step=9, time=101))
        tracker.take(logged(5, time=100))
        assert tracker.look().step == 9

    def test_a_training_may_begin_anew(self, tracker):
        """The next training of a run counts its own steps, unless somebody said how many."""
        tracker.take(StepEnded(step=900, time=100))
        tracker.take(TrainBegan(step=0, max_steps=50, time=101))
        assert (tracker.look().step, tracker.look().total) == (0, 50)

    def test_what_was_said_of_the_steps_holds(self):
        """`total` is the user's word."""
        tracker = ProgressTracker("gpt", total=10)
        tracker.take(TrainBegan(step=0, max_steps=50))
        assert tracker.look().total == 10


class TestMetrics:
    def test_the_loss_comes_first(self, tracker):
        """Then the others as they came; operations and evaluations are not among them."""
        tracker.take(logged(1, lr=0.1, loss=3.0, total_flos=1e9))
        tracker.take(logged(2, eval_loss=9.0))
        tracker.take(Evaluated(step=2, metrics={"eval_loss": 9.0}))
        tracker.take(logged(3, loss=2.0))
        progress = tracker.look()
        assert progress.metrics == (("loss", 2.0), ("lr", 0.1))
        assert progress.curve == (3.0, 2.0)
        assert progress.evaluated == (2, (("eval_loss", 9.0),))

    def test_those_asked_for(self):
        """In their order, the first of them as a curve, as soon as they are there."""
        tracker = ProgressTracker("gpt", metrics=("accuracy", "loss", "never"))
        tracker.take(logged(1, loss=3.0, accuracy=0.5))
        progress = tracker.look()
        assert progress.metrics == (("accuracy", 0.5), ("loss", 3.0))
        assert progress.curve == (0.5,)

    def test_any_loss_will_do(self, tracker):
        """A loss of another name is drawn; an evaluation's is not."""
        tracker.take(logged(1, eval_loss=1.0))
        tracker.take(logged(1, actor_loss=2.0))
        assert tracker.look().curve == (2.0,)

    def test_too_many_are_not_remembered(self, tracker):
        """Ten thousand names cost no more than some hundreds, which are kept up to date."""
        for number in range(10_000):
            tracker.take(logged(1, **{f"m{number}": 1.0}))
        tracker.take(logged(1, m0=math.inf))
        shown = dict(tracker.look().metrics)
        assert len(shown) <= 256
        assert shown["m0"] == math.inf


class TestEvaluation:
    def test_is_under_way_until_it_is_over(self, tracker):
        """Its batches count, whatever step they are said to be of."""
        tracker.take(StepEnded(step=10, time=100))
        tracker.take(PredictionStepEnded(step=10, batch=7, time=101))
        assert (tracker.look().evaluating, tracker.look().batch) == (True, 7)
        tracker.take(Evaluated(step=10, metrics={"eval_loss": 1.0}, time=103))
        assert not tracker.look().evaluating

    def test_a_batch_told_too_late_begins_no_evaluation(self, tracker):
        """Batches come by another way than the end of their evaluation."""
        tracker.take(Evaluated(step=10, metrics={"eval_loss": 1.0}, time=103))
        tracker.take(PredictionStepEnded(step=10, batch=8, time=102))
        assert not tracker.look().evaluating


class TestNews:
    def test_deserves_a_line_once(self, tracker):
        """Evaluations, messages, alerts and decisions, in their order."""
        tracker.take(Evaluated(step=1000, metrics={"eval_loss": 1.5}, dataset="held out"))
        tracker.take(MessageLogged(text="two\nlines"))
        tracker.take(AlertRaised(title="spike", text="8.1", step=3))
        tracker.take(DecisionApplied(step=4, request={"type": "stop"}, by="me", reason="enough"))
        tracker.take(logged(5))
        assert tracker.news() == [
            "step 1,000: evaluated on held out  eval_loss 1.5",
            "two lines",
            "step 3: warning: spike: 8.1",
            "step 4: stop by me: enough",
        ]
        assert tracker.news() == []
        assert tracker.look().alert == "step 3: warning: spike: 8.1"

    def test_does_not_pile_up(self, tracker):
        """A terminal that was stopped overnight costs no memory."""
        for number in range(5000):
            tracker.take(MessageLogged(text=str(number)))
        assert tracker.news()[-1] == "4999"
        assert len(tracker.news()) == 0


def test_knows_its_run(tracker):
    """Its name as it came to be, which turn at it this is, and how it ended."""
    tracker.take(RunStarted(name="gpt-2", run_id="x", attempt=3))
    tracker.take(RunEnded(outcome="stopped"))
    progress = tracker.look()
    assert (progress.name, progress.attempt, progress.ended) == ("gpt-2", 3, "stopped")
    assert progress.seconds_left is None

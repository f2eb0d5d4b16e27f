"""When early stopping stops; the values and counts were measured on transformers 5.23.0."""

import logging
import math
from dataclasses import dataclass

import pytest

from runtime import CallbackHandler, DefaultFlowCallback, TrainerControl, TrainerState
from runtime import EarlyStoppingCallback as Stopping


@dataclass
class Arguments:
    """The part of the training's arguments that early stopping reads."""

    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "accuracy"
    greater_is_better: bool = True
    eval_strategy: str = "steps"


class Training:
    """Evaluations one after the other, as a trainer announces them.

    The best metric moves after the callbacks have seen an evaluation, on any strict improvement.
    """

    def __init__(self, callback, arguments=None, **state):
        self.callback = callback
        self.arguments = arguments or Arguments()
        self.state = TrainerState(**state)
        self.control = TrainerControl()
        self.handler = CallbackHandler([DefaultFlowCallback, callback], None, None, None, None)
        self.handler.on_train_begin(self.arguments, self.state, self.control)

    def evaluate(self, *values, tracked=True, name="eval_accuracy"):
        """The count after each value, and at which the stop was asked for (None if never)."""
        counts, stopped = [], None
        for index, value in enumerate(values, start=1):
            self.handler.on_evaluate(self.arguments, self.state, self.control, {name: value})
            counts.append(self.callback.early_stopping_patience_counter)
            if stopped is None and self.control.should_training_stop:
                stopped = index
            if tracked:
                self.track(value)
        return counts, stopped

    def track(self, value):
        best = self.state.best_metric
        if best is None:
            best = -math.inf if self.arguments.greater_is_better else math.inf
        better = value > best if self.arguments.greater_is_better else value < best
        self.state.best_metric = value if better else best


class TestMeasured:
    @pytest.mark.parametrize(
        ("patience", "threshold", "values", "counts", "stopped"),
        [
            (2, 0.0, [0.5, 0.5, 0.5], [0, 1, 2], 3),
            (2, 0.05, [0.50, 0.51, 0.52], [0, 1, 2], 3),
            (3, 0.05, [0.50, 0.55, 0.60], [0, 0, 1], None),
            (2, 0.0, [math.nan, 0.5, 0.6], [0, 0, 0], None),
            (2, 0.0, [0.5, math.nan, 0.6], [0, 1, 0], None),
            (0, 0.0, [0.5], [0], 1),
            (1, 0.0, [0.5, 0.4, 0.6], [0, 1, 0], 2),
        ],
        ids=[
            "equal values",
            "steady gains below the threshold",
            "float noise decides at the threshold",
            "NaN first",
            "NaN later",
            "patience 0",
            "a later gain takes no stop back",
        ],
    )
    def test_case(self, patience, threshold, values, counts, stopped):
        """Count after each evaluation, and the one that asks for the end."""
        training = Training(Stopping(patience, threshold))

        assert training.evaluate(*values) == (counts, stopped)
        assert training.control.should_training_stop is (stopped is not None)

    def test_smaller_may_be_better(self):
        """With greater_is_better=False a fall is an improvement."""
        arguments = Arguments(metric_for_best_model="eval_loss", greater_is_better=False)
        training = Training(Stopping(2), arguments)

        assert training.evaluate(1.0, 0.9, 0.95, 0.9, name="eval_loss") == ([0, 0, 1, 2], 4)

    def test_an_evaluation_before_the_first_step_is_no_best_value(self):
        """`eval_on_start` counts nothing, and what follows is compared with what came after it."""
        training = Training(Stopping(1))

        assert training.evaluate(0.9, tracked=False) == ([0], None)
        assert training.evaluate(0.5, 0.6) == ([0, 0], None)

    def test_evaluations_outside_training_count_until_the_next_one(self):
        """Three evaluations by hand ask for the end; the next training begins from 0."""
        training = Training(Stopping(3), best_metric=0.5)
        training.evaluate(0.4, 0.4, 0.4, tracked=False)
        assert training.control.should_training_stop

        training.state = TrainerState()
        training.handler.on_train_begin(training.arguments, training.state, training.control)
        assert not training.control.should_training_stop
        assert training.evaluate(0.4, 0.3) == ([0, 1], None)

    def test_one_of_several_datasets(self, caplog):
        """The metric names one dataset; the others' evaluations are passed over, each said so."""
        training = Training(Stopping(1), Arguments(metric_for_best_model="a_loss"))
        training.handler.on_evaluate(
            training.arguments, training.state, training.control, {"eval_a_loss": 1.0}
        )
        training.state.best_metric = 1.0
        for _ in range(2):
            training.handler.on_evaluate(
                training.arguments, training.state, training.control, {"eval_b_loss": 1.0}
            )

        assert training.callback.early_stopping_patience_counter == 0
        assert not training.control.should_training_stop
        assert len(caplog.messages) == 2
        assert "has no 'eval_a_loss' (it has eval_b_loss)" in caplog.messages[0]

    def test_never_touches_other_flags(self):
        """It asks for the end and for nothing else."""
        training = Training(Stopping(1), best_metric=0.5)
        training.evaluate(0.4)

        assert training.control == TrainerControl(should_training_stop=True)


class TestBeginning:
    def test_counts_from_0_unless_it_resumes(self):
        """A new training forgets the count, a resumed one keeps what was restored."""
        callback = Stopping(5)
        callback.early_stopping_patience_counter = 3
        Training(callback, global_step=10)
        assert callback.early_stopping_patience_counter == 3

        Training(callback)
        assert callback.early_stopping_patience_counter == 0

    def test_warns_if_the_best_model_is_not_loaded(self, caplog):
        """Without load_best_model_at_end it says which model will be left."""
        with caplog.at_level(logging.WARNING, "runtime"):
            Training(Stopping(), Arguments(load_best_model_at_end=False))

        assert "the model is that of the last step" in caplog.text

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (Arguments(metric_for_best_model=None), "needs metric_for_best_model.*it is None"),
            (Arguments(eval_strategy="no"), 'eval_strategy is "no", set it to "steps" or "epoch"'),
        ],
    )
    def test_refuses_what_could_never_stop(self, arguments, why):
        """Without a metric or evaluations training does not begin."""
        with pytest.raises(AssertionError, match=why):
            Training(Stopping(), arguments)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "error", "why"),
        [
            ({"early_stopping_patience": -1}, ValueError, "patience=-1 must be 0 or more"),
            ({"early_stopping_patience": 1.5}, TypeError, "patience=1.5 must be a whole number"),
            ({"early_stopping_patience": None}, TypeError, "patience=None must be a whole"),
            ({"early_stopping_threshold": None}, TypeError, "threshold=None must be a number; use"),
            ({"early_stopping_threshold": "1"}, TypeError, "threshold='1' must be a number; use"),
            ({"early_stopping_threshold": math.nan}, ValueError, "nan would let nothing count"),
        ],
    )
    def test_are_refused_at_once(self, arguments, error, why):
        """A wrong argument is named where it is given, not at some evaluation."""
        with pytest.raises(error, match=why):
            Stopping(**arguments)

    def test_and_the_count_are_its_state(self):
        """What goes into a checkpoint is what upstream's trainer writes and reads."""
        callback = Stopping(10, 0.5)
        callback.early_stopping_patience_counter = 2
        state = callback.state()

        assert state == {
            "args": {"early_stopping_patience": 10, "early_stopping_threshold": 0.5},
            "attributes": {"early_stopping_patience_counter": 2},
        }
        assert vars(Stopping.from_state(state)) == vars(callback)

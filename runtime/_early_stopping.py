"""`EarlyStoppingCallback` stops a training whose evaluations no longer improve."""

import logging
import math
import numbers
from typing import TYPE_CHECKING, ClassVar, Unpack

from typing_extensions import override

from runtime._callbacks import HookArguments, TrainerCallback
from runtime._state import CallbackState, ExportableState

if TYPE_CHECKING:
    from runtime._arguments import TrainingArguments
    from runtime._state import TrainerControl, TrainerState

log = logging.getLogger("runtime")


class EarlyStoppingCallback(TrainerCallback, ExportableState):
    """Stops when `metric_for_best_model` has not improved for some evaluations in a row.

    A value is compared with the best one of all evaluations before it, so many improvements below
    the threshold never add up to one above it. The count goes into checkpoints; a training that
    does not resume begins it anew.

    Args:
        early_stopping_patience: Evaluations in a row without improvement that end training, 0 or
            more; with 0 the first evaluation does.
        early_stopping_threshold: How much better than the best value counts as better.

    Attributes:
        early_stopping_patience_counter: Evaluations since the last improvement.

    Raises:
        TypeError: An argument is no number.
        ValueError: The patience is negative, or the threshold NaN.
    """

    rank_consistent: ClassVar[bool] = True

    def __init__(
        self, early_stopping_patience: int = 1, early_stopping_threshold: float = 0.0
    ) -> None:
        _check(early_stopping_patience, early_stopping_threshold)
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold
        self.early_stopping_patience_counter: int = 0

    @override
    def state(self) -> CallbackState:
        """Its arguments and the count."""
        return {
            "args": {
                "early_stopping_patience": self.early_stopping_patience,
                "early_stopping_threshold": self.early_stopping_threshold,
            },
            "attributes": {"early_stopping_patience_counter": self.early_stopping_patience_counter},
        }

    def check_metric_value(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",  # noqa: ARG002 - upstream's signature, for who overrides it
        metric_value: float,
    ) -> None:
        """Count one more evaluation: from 0 again if it improved on `state.best_metric`."""
        best = state.best_metric
        if best is not None:
            better = metric_value > best if args.greater_is_better else metric_value < best
            # A difference to NaN or among infinities of one sign is never beyond a threshold.
            if not (better and abs(metric_value - best) > self.early_stopping_threshold):
                self.early_stopping_patience_counter += 1
                return
        self.early_stopping_patience_counter = 0

    @property
    def _is_exhausted(self) -> bool:
        return self.early_stopping_patience_counter >= self.early_stopping_patience

    @override
    def on_train_begin(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """Check that there will be something to compare; begin to count unless resuming.

        Resumed from a checkpoint at which patience was exhausted, training takes no further step.

        Raises:
            AssertionError: The arguments name no metric, or ask for no evaluation.
        """
        if not args.load_best_model_at_end:
            log.warning(
                "EarlyStoppingCallback without load_best_model_at_end=True: when it stops, the "
                "model is that of the last step, not the best one"
            )
        if args.metric_for_best_model is None:
            raise AssertionError(
                "EarlyStoppingCallback needs metric_for_best_model, the name of the evaluation "
                'metric to watch, such as "loss"; it is None'
            )
        if args.eval_strategy == "no":
            raise AssertionError(
                'EarlyStoppingCallback needs evaluations; eval_strategy is "no", set it to '
                '"steps" or "epoch"'
            )
        if state.global_step == 0:
            self.early_stopping_patience_counter = 0
        elif state.best_metric is not None and self._is_exhausted:
            control.should_training_stop = True  # as it was before training was interrupted

    @override
    def on_evaluate(  # pyright: ignore[reportIncompatibleMethodOverride] - upstream's, who call it so
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        metrics: dict[str, float],
        **kwargs: Unpack[HookArguments],
    ) -> None:
        """Count this evaluation and ask for the end if patience is exhausted."""
        watched = args.metric_for_best_model or ""
        name = watched if watched.startswith("eval_") else f"eval_{watched}"
        value = metrics.get(name)
        if value is None:
            log.warning(
                "early stopping passes over this evaluation, which has no %r (it has %s); "
                "metric_for_best_model=%r must name one of its metrics",
                name,
                ", ".join(sorted(metrics)) or "nothing",
                args.metric_for_best_model,
            )
            return
        self.check_metric_value(args, state, control, value)
        if self._is_exhausted:
            control.should_training_stop = True


def _check(patience: object, threshold: object) -> None:
    if not isinstance(patience, numbers.Integral):
        raise TypeError(
            f"early_stopping_patience={patience!r} must be a whole number of evaluations"
        )
    if patience < 0:
        raise ValueError(f"early_stopping_patience={patience} must be 0 or more evaluations")
    if not isinstance(threshold, numbers.Real):
        raise TypeError(
            f"early_stopping_threshold={threshold!r} must be a number; use 0.0 for none"
        )
    if math.isnan(threshold):
        raise ValueError(
            "early_stopping_threshold=nan would let nothing count as better; use 0.0 for none"
        )

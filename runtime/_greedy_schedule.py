"""A learning rate that grows while a metric improves and shrinks while it does not.

The method of arXiv 2512.14527, with the option names, defaults and stored state of Transformers'
scheduler of this name, so that either loads the other's state.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, cast

from torch.optim import Optimizer

log = logging.getLogger("runtime")

Bound: TypeAlias = "float | Sequence[float]"
"""One learning rate, or one for each of the optimizer's groups."""

_STORED: Final = (
    *("factor", "min_lrs", "max_lrs", "patience", "verbose", "cooldown", "warmup"),
    *("cooldown_counter", "warmup_counter", "mode", "threshold", "threshold_mode", "best"),
    *("num_bad_epochs", "num_good_epochs", "eps", "last_epoch", "smooth", "window_size"),
    *("reset_start", "reset_start_original", "_last_lr", "_init_lrs"),
)
"""The attributes that make up the state."""


class GreedyLR:
    """Multiplies the learning rate by 1/factor after good evaluations, by factor after bad ones.

    Args:
        optimizer: Its learning rates are changed.
        mode: Whether a lower ("min") or a higher ("max") metric is better.
        factor: What a reduction multiplies with, below 1.
        patience: Evaluations in a row that must be good, or bad, before one more acts.
        threshold: How much better counts as better.
        threshold_mode: Whether that is a difference ("abs") or a share of the best ("rel").
        cooldown: Evaluations to pass over after a reduction.
        warmup: Evaluations to pass over after an increase.
        min_lr: The lowest learning rate; a reduction never goes below it.
        max_lr: The highest learning rate; an increase never goes above it.
        eps: A smaller change than this is not made.
        verbose: Whether changes are logged.
        smooth: Whether the mean of the last `window_size` metrics is judged instead of each.
        window_size: How many metrics that mean covers.
        reset_start: Reductions at the lowest learning rate after which it starts anew.

    Raises:
        ValueError: An option is out of range, or does not fit the optimizer's groups.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.95,
        patience: int = 10,
        threshold: float = 1e-6,
        threshold_mode: Literal["rel", "abs"] = "abs",
        cooldown: int = 0,
        warmup: int = 0,
        min_lr: Bound = 1e-3,
        max_lr: Bound = 1.0,
        eps: float = 1e-8,
        verbose: bool = False,
        smooth: bool = False,
        window_size: int = 50,
        reset_start: int = 500,
    ) -> None:
        if not 0 < factor < 1:
            raise ValueError(f"factor={factor} must be between 0 and 1")
        if mode not in ("min", "max"):
            raise ValueError(f'mode={mode!r} must be "min" or "max"')
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f'threshold_mode={threshold_mode!r} must be "rel" or "abs"')
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.warmup = warmup
        self.eps = eps
        self.verbose = verbose
        self.smooth = smooth
        self.window_size = window_size
        self.reset_start_original = reset_start
        self.min_lrs: list[float] = self._each("min_lr", min_lr)
        self.max_lrs: list[float] = self._each("max_lr", max_lr)
        self.last_epoch: int = 0
        self._init_lrs = self._rates()
        self._last_lr = self._rates()
        self._begin()

    def step(self, metrics: float) -> None:
        """Judge one more evaluation and change the learning rates if it is time to.

        Args:
            metrics: The metric's value.
        """
        self.last_epoch += 1
        value = self._window.add(float(metrics)) if self.smooth else float(metrics)
        if self.cooldown_counter > 0 or self.warmup_counter > 0:
            self._wait()
        else:
            self._judge(value)
        self._last_lr = self._rates()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group after the last step."""
        return self._last_lr

    def state_dict(self) -> dict[str, object]:
        """Everything but the optimizer, as plain data."""
        state: dict[str, object] = {name: getattr(self, name) for name in _STORED}
        if self.smooth:
            state["_streaming_avg"] = self._window.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on from a stored state, and set the optimizer's learning rates to its."""
        for name in _STORED:
            if name in state:
                setattr(self, name, state[name])
        self._window = _Window(self.window_size)
        if "_streaming_avg" in state:
            self._window.load_state_dict(cast("Mapping[str, object]", state["_streaming_avg"]))
        if "_last_lr" in state:
            for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
                group["lr"] = rate

    def _begin(self) -> None:
        self.best: float = float("inf") if self.mode == "min" else float("-inf")
        self.num_bad_epochs: int = 0
        self.num_good_epochs: int = 0
        self.cooldown_counter: int = 0
        self.warmup_counter: int = 0
        self.reset_start: int = self.reset_start_original
        self._window = _Window(self.window_size)

    def _wait(self) -> None:
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
        else:
            self.warmup_counter -= 1
        self.num_bad_epochs = 0
        self.num_good_epochs = 0

    def _judge(self, value: float) -> None:
        if self._better(value):
            self.best = value
            self.num_bad_epochs = 0
            self.num_good_epochs += 1
        else:
            self.num_bad_epochs += 1
            self.num_good_epochs = 0
        if self.num_good_epochs > self.patience:
            self._increase()
            self.warmup_counter = self.warmup
            self.num_good_epochs = 0
        elif self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def _better(self, value: float) -> bool:
        relative = self.threshold_mode == "rel"
        if self.mode == "min":
            return value < (
                self.best * (1.0 - self.threshold) if relative else self.best - self.threshold
            )
        return value > (
            self.best * (1.0 + self.threshold) if relative else self.best + self.threshold
        )

    def _reduce(self) -> None:
        for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            rate = float(group["lr"])
            lower = max(rate * self.factor, lowest)
            if rate - lower > self.eps:
                group["lr"] = lower
        self._tell("reduced to")
        if all(r <= m for r, m in zip(self._rates(), self.min_lrs, strict=True)):
            self.reset_start -= 1
            if self.reset_start <= 0:
                for group, rate in zip(self.optimizer.param_groups, self._init_lrs, strict=True):
                    group["lr"] = rate
                self._begin()
                self._tell("back at")

    def _increase(self) -> None:
        for group, highest in zip(self.optimizer.param_groups, self.max_lrs, strict=True):
            rate = float(group["lr"])
            higher = min(rate / self.factor, highest)
            if higher - rate > self.eps:
                group["lr"] = higher
        self._tell("increased to")
        self.reset_start = self.reset_start_original

    def _tell(self, what: str) -> None:
        if self.verbose:
            log.info("evaluation %d: learning rates %s %s", self.last_epoch, what, self._rates())

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _each(self, name: str, bound: Bound) -> list[float]:
        groups = len(self.optimizer.param_groups)
        if isinstance(bound, (int, float)):
            return [bound] * groups
        if len(bound) != groups:
            raise ValueError(f"{name}={bound} must be one number or {groups}, one for each group")
        return list(bound)


class _Window:
    """The mean of the last values."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: list[float] = []
        self._sum = 0.0

    def add(self, value: float) -> float:
        """Take one more value and give the mean."""
        self._values.append(value)
        self._sum += value
        if len(self._values) > self._size:
            self._sum -= self._values.pop(0)
        return self._sum / len(self._values)

    def state_dict(self) -> dict[str, object]:
        return {"window_size": self._size, "values": list(self._values), "sum": self._sum}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        self._size = cast("int", state["window_size"])
        self._values = list(cast("list[float]", state["values"]))
        self._sum = cast("float", state["sum"])

"""Hands logged tensors to our logger as they are, where Lightning would read them first.

Its connector turns every logged tensor into a number, which waits for the device, before any logger
sees it. There is no public way around: this replaces that one method of the trainer's connector.
Where a version of Lightning has no such method, or another logger is there and wants numbers
anyway, it does what it always did.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger("runtime")


class TensorPath:
    """Stands for the method `log_metrics` of a trainer's connector.

    Args:
        trainer: Whose it is.
        kind: The class of loggers that take tensors.
        original: The method.
    """

    def __init__(self, trainer: Any, kind: type[object], original: Callable[..., object]) -> None:  # noqa: ANN401 - of either of Lightning's packages
        self._trainer = trainer
        self._kind = kind
        self._original = original

    def __call__(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Hand the metrics on with the step that Lightning would give them."""
        trainer, loggers = self._trainer, self._trainer.loggers
        alone = all(isinstance(each, self._kind) for each in loggers)
        if not (metrics and loggers and alone) or (step is None and "step" in metrics):
            self._original(metrics, step)
            return
        trainer._logger_connector._logged_metrics.update(metrics)  # noqa: SLF001 - as the original
        found = dict(metrics)
        if step is None:
            found.setdefault("epoch", trainer.current_epoch)
            step = trainer.fit_loop.epoch_loop._batches_that_stepped  # noqa: SLF001 - as the original
        for each in loggers:
            each.log_metrics(found, step)
            each.save()


def leave_on_device(trainer: Any, kind: type[object]) -> None:  # noqa: ANN401 - as above
    """Have a trainer hand tensors to loggers of a class as they are, from now on."""
    connector = getattr(trainer, "_logger_connector", None)
    original = getattr(connector, "log_metrics", None)
    if connector is None or original is None or isinstance(original, TensorPath):
        return
    loop = getattr(getattr(trainer, "fit_loop", None), "epoch_loop", None)
    if not (hasattr(connector, "_logged_metrics") and hasattr(loop, "_batches_that_stepped")):
        log.debug("this version of Lightning hands loggers numbers, so each of them is waited for")
        return
    connector.log_metrics = TensorPath(trainer, kind, original)

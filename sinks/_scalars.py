"""Which numbers an event brings to tools that draw curves, their names there, and their steps."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from bus import (
    Evaluated,
    Event,
    MetricsLogged,
    Predicted,
    RunStarted,
    SystemMetricsLogged,
    TrainEnded,
    TrainerInitialized,
)

__all__ = ["NUMBERS", "Place", "ScalarReader", "rewritten"]

NUMBERS: tuple[type[Event], ...] = (
    RunStarted,
    TrainerInitialized,
    MetricsLogged,
    Evaluated,
    Predicted,
    TrainEnded,
    SystemMetricsLogged,
)
"""The events that `ScalarReader` needs to see."""


def rewritten(key: str) -> str:
    """The tag that Transformers' callbacks make of a key: `eval_loss` becomes `eval/loss`."""
    for part in ("eval", "test"):
        if key.startswith(f"{part}_"):
            return f"{part}/{key[len(part) + 1 :]}"
    return f"train/{key}"


class Place(BaseModel):
    """Where in a run its reader is; part of a sink's state.

    Attributes:
        step: The last step met, for events that have none.
        trainer: Whether it is `runtime.Trainer` that trains.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    step: NonNegativeInt = 0
    trainer: bool = False

    def pass_by(self, event: Event) -> None:
        """Move on to an event."""
        self.trainer = self.trainer or isinstance(event, TrainerInitialized)
        if isinstance(event, RunStarted):
            self.step = event.resumed_from_step or 0
        elif event.step is not None:
            self.step = event.step


class ScalarReader:
    """Reads the numbers of events, one event after another.

    Args:
        wanted: Whether keys of metrics are renamed; None for those of a `runtime.Trainer`.
        rename: How, if not as `rewritten` says.
    """

    def __init__(
        self, wanted: bool | None = None, rename: Callable[[str], str] = rewritten
    ) -> None:
        self._wanted = wanted
        self._rename = rename
        self._renames = bool(wanted)
        self._latest: MetricsLogged | None = None

    def numbers(self, event: Event, *, trainer: bool) -> dict[str, float]:
        """An event's numbers by their names; none if it has none, or none that are new.

        `trainer` tells whether it is `runtime.Trainer` that trains.

        Results of an evaluation have the data set's name before them (`eval/loss`), numbers about
        the machine `system/`.
        """
        self._renames = trainer if self._wanted is None else self._wanted
        match event:
            case MetricsLogged():
                self._latest = event
                return self._named(event.metrics)
            case Evaluated() | Predicted() | TrainEnded():
                return {} if self._is_logged(event) else self._results(event)
            case SystemMetricsLogged():
                return {f"system/{key}": value for key, value in event.metrics.items()}
            case _:
                return {}

    def _named(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {self._name(key): value for key, value in metrics.items()}

    def _name(self, key: str) -> str:
        return self._rename(key) if self._renames else key

    def _results(self, event: Evaluated | Predicted | TrainEnded) -> dict[str, float]:
        """Numbers of a data set, apart from those of the same name that training logs."""
        if isinstance(event, TrainEnded):
            return self._named(event.metrics)
        where = "test" if isinstance(event, Predicted) else event.dataset or "eval"
        return {self._result(key, where): value for key, value in event.metrics.items()}

    def _result(self, key: str, where: str) -> str:
        if not key.startswith(("eval", "test")):
            return f"{where}/{key}"
        return self._name(key)

    def _is_logged(self, event: Evaluated | Predicted | TrainEnded) -> bool:
        """Whether the same numbers were just logged, as Transformers' trainer does."""
        latest = self._latest
        return (
            latest is not None
            and latest.step == event.step
            and event.metrics.items() <= latest.metrics.items()
        )

"""Measures a run's energy and emissions with CodeCarbon, and publishes them as events.

The tracker is made and asked in a thread of its own, where it takes no signal handlers, and where
its look-ups of the place hold up nobody. Other sinks show its numbers as any other's.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, PositiveFloat, StringConstraints

from bus import (
    Batch,
    BatchLimits,
    BlockingSink,
    Event,
    Outcome,
    Promise,
    SinkContext,
    SinkSettings,
    State,
    SummaryLogged,
    SystemMetricsLogged,
    TrainEnded,
)
from sinks._files import check_folder, refusals
from sinks._libraries import library

__all__ = ["CodeCarbonSink"]

log: logging.Logger = logging.getLogger("sinks")

_NUMBERS: Final = {
    "duration": "duration_seconds",
    "emissions": "emissions_kg",
    "energy_consumed": "energy_kwh",
    "cpu_energy": "cpu_energy_kwh",
    "gpu_energy": "gpu_energy_kwh",
    "ram_energy": "ram_energy_kwh",
    "cpu_power": "cpu_power_watts",
    "gpu_power": "gpu_power_watts",
    "ram_power": "ram_power_watts",
    "water_consumed": "water_litres",
}
"""CodeCarbon's totals, and their names here: in kg of CO2 equivalents, kWh, W and litres."""


class _Output:
    """What CodeCarbon hands its totals to (its `BaseOutput`).

    Args:
        publish: Takes those of each measurement.

    Attributes:
        numbers: The latest, by their names here; {} before the first.
    """

    def __init__(self, publish: Callable[[dict[str, float]], object]) -> None:
        self._publish = publish
        self.numbers: dict[str, float] = {}

    def out(self, total: object, delta: object) -> None:
        """Called by `flush` and `stop`."""
        del delta
        found = ((ours, getattr(total, theirs, None)) for theirs, ours in _NUMBERS.items())
        self.numbers = {
            f"codecarbon/{name}": float(value)
            for name, value in found
            if isinstance(value, (int, float))
        }

    def live_out(self, total: object, delta: object) -> None:
        """Called after each measurement, in CodeCarbon's own thread."""
        self.out(total, delta)
        self._publish(self.numbers)

    def task_out(self, data: object, experiment_name: str) -> None:
        """Called for tasks, of which there are none."""

    def exit(self) -> None:
        """Called at the end."""


class CodeCarbonSink(BlockingSink):
    """CodeCarbon: energy and emissions of a run, for every other sink and in `emissions.csv`.

    It measures rank 0's machine from the run's beginning to its end and publishes
    `codecarbon/energy_kwh`, `codecarbon/emissions_kg` and more after each measurement, as
    `SystemMetricsLogged` and `SummaryLogged`. With a country it needs no network.
    """

    name: ClassVar[str] = "codecarbon"
    wants: ClassVar[tuple[type[Event], ...]] = (TrainEnded,)
    limits: ClassVar[BatchLimits] = BatchLimits(events=1, age=0.0)
    portable: ClassVar[bool] = False
    promise: ClassVar[Promise] = Promise(
        delivery="once",
        resumed="shows both",
        note="nothing is sent anywhere: each process that trains measures its own time, and a "
        "kill costs what was measured since the last event",
    )
    help: ClassVar[str] = "https://mlco2.github.io/codecarbon"

    class Settings(SinkSettings, env_prefix="CODECARBON_"):
        """Where the machine is. CodeCarbon reads its own variables and files beside these."""

        country_iso_code: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")] | None = Field(
            None,
            description="three letters, such as FRA; without it CodeCarbon asks the network where "
            "it is",
        )
        output_dir: Path | None = Field(
            None, description="the folder of emissions.csv; the run's by default"
        )
        measure_power_secs: PositiveFloat = Field(
            15.0, description="seconds between two measurements, each of which is an event"
        )

    settings: Settings  # pyright: ignore[reportIncompatibleVariableOverride] - never assigned anew
    _folder: Path
    _tracker: Any = None

    def bind(self, context: SinkContext) -> None:
        """Take a relative path as the program means it, which may change its folder later."""
        self._folder = (self.settings.output_dir or context.run_dir).absolute()
        self._run = context.name
        self._output = _Output(self._tell)

    def check_blocking(self) -> str:
        """Whether CodeCarbon is whole, and its file can be made where it is to be."""
        library("codecarbon", "codecarbon")
        return check_folder(self._folder)

    def open_blocking(self, context: SinkContext, state: State) -> State:
        """Begin to measure, if this is the process that trains."""
        del context
        if self.is_live and self._tracker is None:
            with refusals(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
            check_folder(self._folder)  # CodeCarbon would not say that its file could not be made
            self._tracker = self._make()
            self._tracker.start()
        return state

    def write_blocking(self, batch: Batch, state: State) -> State:
        """Publish the totals, while there is somebody to hear them."""
        del batch
        if self._tracker is not None:
            self._tracker.flush()
            self._tell(self._output.numbers)
        return state

    def close_blocking(self, outcome: Outcome, state: State) -> State:
        """Stop, and let CodeCarbon write its file."""
        del outcome
        if self._tracker is not None:
            self._tracker.stop()
            self._tracker = None
            if not self._output.numbers:
                log.warning(
                    "CodeCarbon measured nothing; set CODECARBON_LOG_LEVEL=info to hear why"
                )
        return state

    def _tell(self, numbers: dict[str, float]) -> None:
        """As a point in time, and as what is known of the whole run so far."""
        if numbers:
            self.tell(SystemMetricsLogged(metrics=numbers))
            self.tell(SummaryLogged(values={**numbers}))

    def _make(self) -> Any:  # noqa: ANN401 - CodeCarbon's own
        """A tracker; without a country it looks up in the network where it is."""
        codecarbon = library("codecarbon", "codecarbon")
        own = library("codecarbon.core.config", "codecarbon").get_hierarchical_config()
        level = own.get("log_level", "error")
        library("codecarbon.external.logger", "codecarbon").set_logger_level(level)
        options: dict[str, object] = {
            "output_dir": str(self._folder),
            "output_handlers": [self._output],
            "allow_multiple_runs": True,
            "log_level": level,
            "measure_power_secs": self.settings.measure_power_secs,
            "project_name": own.get("project_name", self._run),
            # Or else each `flush` would add a line to the file.
            "on_csv_write": own.get("on_csv_write", "update"),
            # For a service that it sends to, CodeCarbon counts in measurements.
            "api_call_interval": int(own.get("api_call_interval", 1)),
        }
        country = self.settings.country_iso_code or own.get("country_iso_code")
        if country:
            return codecarbon.OfflineEmissionsTracker(country_iso_code=country, **options)
        return codecarbon.EmissionsTracker(**options)

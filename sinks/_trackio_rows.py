"""What becomes of events in Trackio: rows of metrics, of the machine's numbers, and alerts.

Each has an id made of the run's and the record's place, by which Trackio's database knows one that
comes again (read in the source of trackio 0.43).
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pydantic import Field, JsonValue

from bus import (
    AlertRaised,
    Batch,
    Event,
    JsonObject,
    ParametersLogged,
    Record,
    RunStarted,
    SystemMetricsLogged,
)
from sinks._scalars import NUMBERS, Place, ScalarReader
from sinks._tracked import place_of
from sinks._values import number

WANTED: Final[tuple[type[Event], ...]] = (*NUMBERS, ParametersLogged, AlertRaised)

_LEVELS: Final = {"debug": "info", "info": "info", "warning": "warn", "error": "error"}


class Known(Place):
    """What is remembered of a run.

    Attributes:
        config: Its settings so far.
        config_told: Whether Trackio has them.
    """

    config: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    config_told: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """Numbers of one event.

    Attributes:
        step: None for numbers about the machine, which have a time alone.
    """

    id: str
    time: str
    step: int | None
    metrics: dict[str, float | str]


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person should look at."""

    id: str
    time: str
    step: int | None
    title: str
    text: str
    level: str


@dataclass(slots=True)
class Rows:
    """What a batch means.

    Attributes:
        config: The run's settings, if Trackio has yet to be told. They travel with a row.
    """

    metrics: list[Row] = field(default_factory=list[Row])
    system: list[Row] = field(default_factory=list[Row])
    alerts: list[Alert] = field(default_factory=list[Alert])
    config: JsonObject | None = None


class RowMaker:
    """Makes rows of the events of one run.

    Args:
        run_id: The run's identity.
        rewrite: Whether metrics are renamed; None for what the events say.
    """

    def __init__(self, run_id: str, rewrite: bool | None) -> None:
        self._run_id = run_id
        self._reader = ScalarReader(rewrite)

    def rows(self, batch: Batch, known: Known) -> Rows:
        """A batch's rows; moves `known` on."""
        rows = Rows()
        for record in batch:
            self._add(record, rows, known)
        if rows.metrics and not known.config_told:
            rows.config, known.config_told = known.config, True
        return rows

    def last(self, known: Known, time: float) -> Rows | None:
        """A row without numbers for settings that no row has brought to Trackio; None if it has."""
        if known.config_told:
            return None
        known.config_told = True
        row = Row(f"{self._run_id}.config", _iso(time), known.step, {})
        return Rows(metrics=[row], config=known.config)

    def _add(self, record: Record, rows: Rows, known: Known) -> None:
        event = record.event
        known.pass_by(event)
        identity, time = f"{self._run_id}.{place_of(record)}", _iso(event.time)
        if isinstance(event, (RunStarted, ParametersLogged)):
            _configure(event, known)
        elif isinstance(event, AlertRaised):
            level = _LEVELS[event.level]
            alert = Alert(identity, time, event.step, event.title, event.text, level)
            rows.alerts.append(alert)
        elif isinstance(event, SystemMetricsLogged):
            metrics = {key: number(value) for key, value in event.metrics.items()}
            rows.system.append(Row(identity, time, None, metrics))
        else:
            found = self._reader.numbers(event, trainer=known.trainer)
            if found:
                metrics = {key: number(value) for key, value in found.items()}
                rows.metrics.append(Row(identity, time, known.step, metrics))


def _configure(event: RunStarted | ParametersLogged, known: Known) -> None:
    if isinstance(event, RunStarted):
        # Trackio's pages show these two of every run.
        shown: dict[str, JsonValue] = {"_Created": _iso(event.time), "_Group": None}
        known.config = {**shown, **known.config, **event.config}
    else:
        known.config |= event.parameters
    known.config_told = False


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat()

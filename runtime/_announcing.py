"""What a run announces beside its metrics: parameters, files, alerts, messages.

Each method builds one event from its arguments. Arguments that make no event are refused like a
metric that cannot be logged: dropped, counted and named once, unless the run is strict.
"""

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from bus import (
    AlertRaised,
    ArtifactReady,
    Event,
    Level,
    MessageLogged,
    MetricDefined,
    ParametersLogged,
    Registrar,
    plain_mapping,
)
from runtime._compile import run_as_written


class Announcer(Registrar):
    """The part of `Run` that turns arguments into events."""

    @abstractmethod
    def publish(self, event: Event) -> None:
        """Publish an event."""

    @abstractmethod
    def refuse(self, method: str, error: Exception) -> None:
        """Account for arguments that make no event."""

    @run_as_written
    def params(self, parameters: Mapping[str, object]) -> None:
        """Publish settings of the run; nested structures are kept, secrets masked."""
        self._make(lambda: ParametersLogged(parameters=plain_mapping(dict(parameters))))

    @run_as_written
    def artifact(
        self,
        path: str | os.PathLike[str],
        *,
        kind: str = "file",
        name: str | None = None,
        aliases: tuple[str, ...] = (),
        metadata: Mapping[str, object] | None = None,
        step: int | None = None,
    ) -> None:
        """Announce a file or folder that is complete; it is not copied.

        Args:
            path: Where it is.
            kind: What it is, such as "checkpoint", "model" or "dataset".
            name: Its name among the run's artifacts; the file's by default.
            aliases: Further names, such as "best".
            metadata: Anything else about it.
            step: The step it belongs to.
        """
        self._make(
            lambda: ArtifactReady(
                path=os.fspath(path),
                kind=kind,
                name=name or Path(path).name,
                aliases=tuple(aliases),
                metadata=plain_mapping(dict(metadata or {})),
                step=step,
            )
        )

    @run_as_written
    def alert(
        self, title: str, text: str = "", *, level: Level = "warning", step: int | None = None
    ) -> None:
        """Publish something a person should look at now; it is written at once."""
        self._make(lambda: AlertRaised(title=title, text=text, level=level, step=step))

    @run_as_written
    def message(self, text: str, *, level: Level = "info", step: int | None = None) -> None:
        """Publish a line for people following the run."""
        self._make(lambda: MessageLogged(text=text, level=level, step=step))

    @run_as_written
    def define_metric(
        self,
        name: str,
        *,
        unit: str | None = None,
        goal: Literal["minimize", "maximize"] | None = None,
        summary: Literal["min", "max", "mean", "last", "first"] | None = None,
        step_metric: str | None = None,
    ) -> None:
        """Say how a metric is to be read; see `bus.MetricDefined`."""
        self._make(
            lambda: MetricDefined(
                name=name, unit=unit, goal=goal, summary=summary, step_metric=step_metric
            )
        )

    @run_as_written
    def _make(self, build: Callable[[], Event]) -> None:
        """Build and publish an event from a user's arguments without raising for them."""
        try:
            event = build()
        except Exception as error:  # noqa: BLE001 - a user's object may fail in any way
            self.refuse(build.__qualname__.split(".")[1], error)
            return
        self.publish(event)

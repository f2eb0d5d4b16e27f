"""The run that a bridge publishes on: its user's, or one that it plans, begins and closes."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bus import (
    Account,
    BusOptions,
    Event,
    Outcome,
    ParametersLogged,
    RanksError,
    folder_name,
    plain_mapping,
)
from runtime._destinations import choose_sinks
from runtime._identity import Resume
from runtime._run import Run
from runtime._trainer_run import TrainerRun
from runtime._world import World

if TYPE_CHECKING:
    from bus import ReportTo


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """What a user says about the run that a bridge makes.

    Attributes:
        name: Its name; the bridge's choice by default.
        project: What it belongs to.
        dir: The folder of runs; the bridge's choice by default.
        sinks: Where to deliver it.
        options: Settings of the bus.
        close_timeout: Seconds that closing may take.
    """

    name: str | None
    project: str | None
    dir: "str | os.PathLike[str] | None"
    sinks: "ReportTo"
    options: BusOptions | None
    close_timeout: float

    def owned(self, given: Run | None, make: Callable[[], TrainerRun]) -> "OwnRun":
        """The run to publish on: the user's, or else the one that `make` makes.

        Raises:
            ValueError: The user has given both a run and settings, or a run that has ended.
        """
        if given is None:
            return OwnRun(None, make)
        if any((self.name, self.project, self.dir, self.sinks, self.options)):
            raise ValueError(
                "run=... is a run of your own, which has a name, sinks and settings already; "
                "pass it alone, or leave it out"
            )
        if given.closed:
            raise ValueError(f"{given!r} has ended; pass a run that is open, or none")
        return OwnRun(given, make)

    def plan(
        self,
        *,
        name: str = "run",
        project: str | None = None,
        dir: str | os.PathLike[str] = "runs",  # noqa: A002 - the field's word
        config: Mapping[str, object] | None = None,
        opening: tuple[Event, ...] = (),
    ) -> TrainerRun:
        """A run that has not begun; the arguments hold where the user has said nothing."""
        planned = TrainerRun(
            self.name or name,
            project=self.project or project,
            dir=Path(self.dir or dir).absolute(),
            config=config,
            sinks=choose_sinks(self.sinks),
            options=self.options,
            close_timeout=self.close_timeout,
        )
        planned.opening = opening
        return planned


class OwnRun:
    """The run that a bridge publishes on.

    Args:
        given: The user's, which is left open; None to make one.
        make: Makes one that has not begun; called when it is first asked for, and when training
            begins after the end of the one before.
    """

    def __init__(self, given: Run | None, make: Callable[[], TrainerRun]) -> None:
        self._given = given
        self._make = make
        self._made: TrainerRun | None = None
        self._world = World.here()

    @property
    def run(self) -> Run:
        """The run; it may not have begun."""
        if self._given is not None:
            return self._given
        if self._made is None:
            self._made, self._world = self._make(), World.here()
        return self._made

    @property
    def begun(self) -> bool:
        """Whether it has a folder and a journal."""
        return self._given is not None or (self._made is not None and self._made.begun)

    @property
    def planned_dir(self) -> Path:
        """Its folder, or the one that a new run of its name would have."""
        run = self.run
        if isinstance(run, TrainerRun) and not run.begun:
            return run.parent / folder_name(run.planned_name)
        return run.dir

    def remember(self, parameters: Mapping[str, object]) -> None:
        """Publish settings, or have them published when it begins."""
        run = self.run
        if isinstance(run, TrainerRun) and not run.begun:
            run.opening += (ParametersLogged(parameters=plain_mapping(parameters)),)
        else:
            run.params(parameters)

    def renew(self) -> None:
        """Make another one where the last has ended, or was made before there were other ranks.

        Raises:
            RanksError: Somebody listens to one that was made before there were other ranks.
        """
        made = self._made
        if made is None:
            return
        if made.closed:
            self._made = None
        elif self._world.size != World.here().size:
            if made.begun or made.has_listeners:
                raise RanksError(
                    f"this run was begun by one process, and {World.here().size} train now: start "
                    "them with torchrun, or ask for the run only when they have been started"
                )
            made.close()
            self._made = None

    def begin(self, folder: Resume, step: int | None) -> None:
        """Begin it, as the next attempt at the run in a folder or as a new one.

        Nothing happens to the user's, nor to one that has begun in that folder.
        """
        run = self.run
        if isinstance(run, TrainerRun):
            run.begin(None if run.begun and run.dir == folder else folder, step)

    def expect(self, outcome: Outcome | None) -> None:
        """Say how it ends if nobody says otherwise; None for what can be seen then.

        A stop or a preemption that took effect counts more than "stopped".
        """
        if self._made is not None:
            asked = outcome == "stopped" and self._made.control.stopped_by is not None
            self._made.expected = None if asked else outcome

    def close(
        self, outcome: Outcome | None = None, error: BaseException | None = None
    ) -> Account | None:
        """End it with its account, unless it is the user's; once is enough."""
        return None if self._made is None else self._made.close(outcome, error=error)


class Closing:
    """A bridge that ends the run it owns: by `close`, or as a context manager.

    Attributes:
        own: The run that it publishes on.
    """

    own: OwnRun

    def close(self, outcome: Outcome | None = None) -> Account | None:
        """End the bridge's own run, with its account; once is enough.

        Args:
            outcome: How it ended; by default what can be seen.
        """
        return self.own.close(outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.own.close(error=error)

"""The run of a trainer: subscribers may join it before anybody knows which run it will be.

`train` says whether it goes on with an earlier one; whatever is published before makes it a new
one. A run that nothing was published in leaves no trace.
"""

import logging
from pathlib import Path
from typing import ClassVar

from bus import Account, Event, Outcome
from runtime._identity import Resume
from runtime._run import Run

log = logging.getLogger("runtime")


class TrainerRun(Run):
    """A run that begins with its first event, or when `begin` says as what."""

    _begins_at_once: ClassVar[bool] = False
    opening: tuple[Event, ...] = ()
    """What is published first, as soon as the run has begun."""
    expected: Outcome | None = None
    """How it ends if nobody says otherwise, also where nobody closes it before the exit."""

    @property
    def parent(self) -> Path:
        """The folder of runs that it gets its own in."""
        return self._plan.parent

    @property
    def planned_name(self) -> str:
        """What it is to be called; another run of that name makes it `name-2`."""
        return self._plan.name

    @property
    def begun(self) -> bool:
        """Whether it has a folder and a journal."""
        return self._known is not None

    def begin(self, resume: Resume, from_step: int | None) -> None:
        """Begin, unless that has happened; then going on with an earlier run is too late.

        Args:
            resume: The folder of the run to go on with, or None for a new one.
            from_step: The step of the checkpoint that training goes on from.
        """
        if not self.begun:
            self._begin(resume, from_step)
            for event in self.opening:
                self.publish(event)
        elif resume is not None:
            log.warning(
                "%s had begun before training was resumed from step %s; it is journalled as a run "
                "of its own. Log nothing to trainer.run before train(resume_from_checkpoint=...)",
                self.dir,
                from_step,
            )

    def refuses_more(self) -> bool:
        """Whether the run is over for the calling thread; begins a run that has not begun."""
        if not self.begun and self._open:
            self.begin(None, None)
        return super().refuses_more()

    def close(
        self,
        outcome: Outcome | None = None,
        *,
        error: BaseException | None = None,
        timeout: float | None = None,
    ) -> Account | None:
        """As `Run.close`; one that has not begun begins only if somebody waits for its end."""
        if not self.begun and not self._bus.has_listeners:
            self._open = False
            return None
        if error is None:
            outcome = outcome or self.expected
        return super().close(outcome, error=error, timeout=timeout)

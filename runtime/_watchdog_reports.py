"""What a watchdog says: events in the journal, one alert for each stall, and a line of log."""

import logging
from collections.abc import Sequence
from typing import Final, Protocol

from bus import AlertRaised, Event, StallDetected, StallEnded, StragglerDetected
from runtime._watchdog_answers import Answer, Finding, gather_stacks

log = logging.getLogger("runtime")

STANDS_STILL: Final = "Training stands still"
WORKER_DIED: Final = "A DataLoader's worker died"
IS_BEHIND: Final = "A rank is behind"


class Publisher(Protocol):
    """Where a watchdog reports to."""

    def publish(self, event: Event) -> None:
        """Publish an event."""


class Reports:
    """The reports of one watchdog.

    Args:
        publisher: Where they go.
    """

    def __init__(self, publisher: Publisher) -> None:
        self.open: bool = False
        """Whether a stall has been reported that goes on."""
        self._publisher = publisher
        self._ranks: tuple[int, ...] = ()

    def stall(
        self, finding: Finding, answers: Sequence[Answer], *, seconds: float, step: int
    ) -> None:
        """Report a stall that goes on.

        Args:
            finding: What it is.
            answers: What every rank was doing.
            seconds: How long ago the last safe point was.
            step: The step of it.
        """
        blamed = (each.phase for each in answers if each.rank in finding.ranks)
        phase = next(blamed, "unknown")
        self.open, self._ranks = True, finding.ranks
        text = f"for {seconds:.1f} s, in phase {phase}: {finding.text}"
        log.warning("training stands still %s", text)
        self._publish(finding, phase, answers, seconds=seconds, step=step)
        self._publisher.publish(AlertRaised(title=STANDS_STILL, text=text, step=step))

    def over(self, *, seconds: float, step: int) -> None:
        """Say that the stall reported last is over."""
        self.open = False
        log.warning("training goes on after %.1f s", seconds)
        self._publisher.publish(StallEnded(ranks=self._ranks, seconds=seconds, step=step))

    def worker(self, which: str, phase: str, answer: Answer) -> None:
        """Report a worker of a loader that died.

        Args:
            which: The worker, and how it died.
            phase: What the loop was at.
            answer: What this rank was doing.
        """
        text = f"rank {answer.rank}: a DataLoader's worker died ({which})"
        log.warning("%s", text)
        finding = Finding("worker", (answer.rank,), text)
        self._publish(finding, phase, [answer], seconds=answer.silent, step=answer.step)
        self._publisher.publish(AlertRaised(title=WORKER_DIED, text=text, step=answer.step))

    def straggler(self, event: StragglerDetected) -> None:
        """Report a rank that is behind."""
        text = (
            f"rank {event.rank} is busy for {event.busy_seconds:.3g} s of each step of "
            f"{event.step_seconds:.3g} s, and others for {event.usual_seconds:.3g} s; most often "
            f"at {event.place or 'no Python code'}"
        )
        log.warning("%s", text)
        self._publisher.publish(event)
        self._publisher.publish(AlertRaised(title=IS_BEHIND, text=text, step=event.step))

    def _publish(
        self,
        finding: Finding,
        phase: str,
        answers: Sequence[Answer],
        *,
        seconds: float,
        step: int,
    ) -> None:
        kept, left_out = gather_stacks(answers, finding.ranks)
        self._publisher.publish(
            StallDetected(
                kind=finding.kind,
                ranks=finding.ranks,
                phase=phase,
                seconds=seconds,
                text=finding.text,
                stacks=kept,
                left_out=left_out,
                step=step,
            )
        )

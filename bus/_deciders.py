"""Deciders: subscribers of a rare event that the training thread waits for, up to a deadline."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio

from bus._control import Control, current_subscriber, open_question
from bus._event import Event
from bus._inbox import Question
from bus._live import LiveLoop
from bus._requests import Request
from bus._signal import Signal

log = logging.getLogger("bus")


@dataclass(slots=True, eq=False)
class Decider:
    """One registered decider and how it has done.

    Attributes:
        deadline: Seconds it may take.
        answered: Times it answered in time, with a request or without.
        late: Times it did not.
        failures: Times it raised.
    """

    name: str
    types: tuple[type[Event], ...]
    decide: Callable[[Any, Control], Awaitable[Request | None]]
    deadline: float
    answered: int = 0
    late: int = 0
    failures: int = 0


class Deciders:
    """All deciders of a bus, and the waiting for them."""

    def __init__(self, live: LiveLoop, control: Control) -> None:
        self.all: list[Decider] = []
        self._live = live
        self._control = control

    def of(self, kind: type[Event]) -> list[Decider]:
        """Who decides on events of this class."""
        return [decider for decider in self.all if issubclass(kind, decider.types)]

    def add(self, decider: Decider) -> None:
        """Register a decider; from any thread."""
        self.all = [*self.all, decider]

    def ask(self, question: Question) -> None:
        """Start every decider of the question's event; by the writer thread."""
        asked = self.of(type(question.event))
        left = [len(asked)]

        def done() -> None:
            left[0] -= 1
            if left[0] == 0:
                question.answered.set()

        for decider in asked:
            self._start(decider, question, done)

    def patience(self, kind: type[Event]) -> float:
        """Seconds that deciding on an event of this class may take."""
        return max((decider.deadline for decider in self.of(kind)), default=0.0)

    def wait(self, question: Question) -> list[Request]:
        """Wait until all have answered or their deadline is over; by the publishing thread.

        Returns:
            What they ask for.
        """
        question.answered.wait(self.patience(type(question.event)))
        question.closed = True
        verdict: list[Request] = []
        while question.verdict:
            verdict.append(question.verdict.popleft())
        return verdict

    def _start(self, decider: Decider, question: Question, done: Callable[[], None]) -> None:
        started = time.monotonic()

        async def run() -> None:
            current_subscriber.set(decider.name)
            open_question.set(question)
            try:
                with anyio.fail_after(decider.deadline - (time.monotonic() - started)):
                    answer = await decider.decide(question.event, self._control)
                late = time.monotonic() - started > decider.deadline
                self._take(decider, question, answer, late=late or question.closed)
            except (TimeoutError, asyncio.CancelledError):
                self._too_late(decider)
            except BaseException as error:  # noqa: BLE001 - a decider is isolated from the rest
                decider.failures += 1
                if decider.failures == 1:
                    self._live.report_failure(decider.name, error, None, retired=False)
            finally:
                done()

        self._live.start_task(decider.name, run)

    def _take(self, decider: Decider, question: Question, answer: object, *, late: bool) -> None:
        if late:
            self._too_late(decider)
            return
        if answer is not None and not isinstance(answer, Request):
            kind = type(answer).__name__
            raise TypeError(f"decider {decider.name!r} returned {kind}, not a Request or None")
        if answer is not None:
            named = answer if answer.by else answer.model_copy(update={"by": decider.name})
            question.verdict.append(named)
            if question.closed and named in question.verdict:  # nobody looks there any more
                self._too_late(decider)
                return
        decider.answered += 1

    def _too_late(self, decider: Decider) -> None:
        decider.late += 1
        if decider.late == 1:
            log.warning(
                "decider %r did not answer within %.3g s; training went on without its word",
                decider.name,
                decider.deadline,
            )


def new_question(event: Event) -> Question:
    """An event that waits for its deciders."""
    return Question(event, closed=False, answered=Signal())

"""The channel by which decisions reach the training thread.

`Control.request` may be called from any thread, task or signal handler and never waits; the
training thread reads the channel at its safe points, at the cost of one look at an empty deque.
Lock-free: a deque's append and popleft are atomic, and handles resolve exactly once.
"""

import asyncio
import contextlib
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Final

from pydantic import JsonValue
from pydantic_core import from_json

from bus._caller import Caller
from bus._errors import DeadlockError, DecisionTimeoutError, RanksError
from bus._event import Event
from bus._events import DecisionApplied, RequestRefused
from bus._inbox import Question
from bus._interrupts import deferred_interrupt
from bus._leases import Decided, Leases
from bus._requests import (
    Decision,
    Preempt,
    Request,
    Resolution,
    Stop,
    combine,
    parse_request,
)
from bus._signal import Signal

log = logging.getLogger("bus")

current_subscriber: Final[ContextVar[str]] = ContextVar("current_subscriber", default="")
"""The subscriber whose code runs in this context."""

open_question: Final[ContextVar[Question | None]] = ContextVar("open_question", default=None)
"""The question that the decider in this context is answering."""


class Handle:
    """What a request returns: await it, or `wait` for it from a thread.

    It resolves when the request took effect at a safe point, or was refused; at the latest when
    the run ends. Awaiting it inside a decider is an error, because the training thread that would
    resolve it is waiting for that decider.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self._resolution: Resolution | None = None
        self._wakers: deque[Callable[[], None]] = deque()

    @property
    def done(self) -> bool:
        """Whether it is resolved."""
        return self._resolution is not None

    def wait(self, timeout: float | None = None) -> Resolution:
        """Block this thread until it is resolved.

        Args:
            timeout: Seconds to wait at most; None for as long as the run lives.

        Raises:
            DecisionTimeoutError: It was not resolved in time.
            DeadlockError: Called inside a decider.
        """
        self._refuse_deadlock()
        if self._resolution is not None:
            return self._resolution
        arrived = Signal()  # of its own, so that an interrupted wait takes nobody else's wake
        wake = arrived.set
        self._wakers.append(wake)
        if self._resolution is None and not arrived.wait(timeout):
            with contextlib.suppress(ValueError):  # it is being called just now
                self._wakers.remove(wake)
            raise DecisionTimeoutError(f"{self.request.type} was not decided within {timeout} s")
        assert self._resolution is not None
        return self._resolution

    def __await__(self) -> Generator[object, None, Resolution]:
        """Wait in an asyncio task.

        Raises:
            DeadlockError: Awaited inside a decider.
        """
        self._refuse_deadlock()
        return self._wait_in_loop().__await__()

    async def _wait_in_loop(self) -> Resolution:
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        self._wakers.append(wake)
        if self._resolution is None:
            await woken.wait()
        assert self._resolution is not None
        return self._resolution

    def _refuse_deadlock(self) -> None:
        question = open_question.get()
        if question is not None and not question.closed and self._resolution is None:
            raise DeadlockError(
                "a decider cannot wait for a request: the training thread that would apply it is "
                "waiting for this decider. Return the request instead, or await it in a subscriber"
            )

    def disown(self, resolution: Resolution) -> None:
        """Resolve it in a forked child, where a lock may belong to a thread that does not exist."""
        self._resolution = resolution

    def resolve(self, resolution: Resolution) -> None:
        """Say what became of the request; the first word counts."""
        if self._resolution is not None:
            return
        self._resolution = resolution
        while self._wakers:
            wake = self._wakers.popleft()
            try:
                wake()
            except RuntimeError:  # its event loop is closed: nobody waits there any more
                log.debug("the loop awaiting %s is gone", self.request.type)


class Control:
    """Carries requests to the training thread; users ask, the loop looks.

    Args:
        publish: Takes the events that say what was decided.
    """

    def __init__(self, publish: Callable[[Event], object]) -> None:
        self.passed: int = 0
        """Safe points passed so far, ticks of evaluations included."""
        self.step: int = 0
        """The step of the last safe point, as it was given."""
        self.caller: Caller | None = None
        """Who passed a safe point; found out at the next one whenever it is None."""
        self._publish = publish
        self._asked: deque[Handle] = deque()
        self._standing = Decision()
        self._closed_because: str | None = None
        self._stop: Request | None = None
        self._leases: Leases | None = None
        self._wake: Callable[[], object] = _nothing
        self._count = itertools.count(1)
        self._undecided: dict[int, Handle] = {}

    @property
    def pending(self) -> int:
        """Requests that wait for the next safe point."""
        return len(self._asked) + len(self._undecided)

    @property
    def stopped_by(self) -> Request | None:
        """The first stop that took effect, or None."""
        return self._stop

    @property
    def preemption(self) -> Preempt | None:
        """The preemption that took effect; None if there was none, or a plain stop before it."""
        return self._stop if isinstance(self._stop, Preempt) else None

    def request(self, request: Request) -> Handle:
        """Ask for something; it takes effect at the training thread's next safe point.

        Never waits. After the end of the run the handle comes back refused.

        Raises:
            TypeError: It is no request.
        """
        if not isinstance(request, Request):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise TypeError(f"{request!r} is no request; pass one, such as Stop(reason=...)")
        if not request.by:
            who = current_subscriber.get() or f"thread {threading.current_thread().name}"
            request = request.model_copy(update={"by": who})
        handle = Handle(request)
        if self._leases is None:
            self._asked.append(handle)
        else:
            self._propose(self._leases, handle)
        if self._closed_because is not None:
            self._refuse_all(self._closed_because)
        return handle

    def decided(self, request: Request | JsonValue) -> Handle:
        """Take what every rank asks alike: it takes effect at the very next safe point.

        Args:
            request: The request, or the JSON form of one that another rank has told.

        Raises:
            RanksError: This process knows no such request.
        """
        handle = Handle(request if isinstance(request, Request) else _heard(request))
        self._asked.append(handle)
        if self._closed_because is not None:
            self._refuse_all(self._closed_because)
        return handle

    def agree(self, leases: Leases, wake: Callable[[], object]) -> None:
        """Have what any rank asks take effect on all ranks, at the same safe point.

        Args:
            leases: This rank's side of the agreement.
            wake: Has the writer thread call `leases.extend` soon.
        """
        self._leases, self._wake = leases, wake

    def begin_phase(self) -> None:
        """Say that safe points take another time from here on; all ranks, or none, do it."""
        if self._leases is not None:
            self._leases.begin_phase()

    def safe_point(self, step: int) -> Decision:
        """Take what was asked since the last call; called by the training thread between steps.

        Raises:
            RanksError: Other ranks cannot be asked, or they are at another step.
        """
        self.passed += 1
        self.step = step
        if self.caller is None:
            self.caller = Caller.here()
        if self._leases is not None and not self._leases.passes():
            self._take_due(self._leases, step)
        if not self._asked:
            return self._standing
        with deferred_interrupt():  # whoever asked must hear what became of it
            return self._decide(step)

    def tick(self) -> bool:
        """Tell whether an evaluation has to be given up; once a batch, by the training thread.

        A preemption is not kept waiting for the end of an evaluation, whatever its deadline: that
        is often a guess, and what is given up is done again by whoever goes on. It takes effect,
        like all else that was asked, at the next safe point. All ranks get the same answer if they
        call it equally often.

        Raises:
            RanksError: Other ranks cannot be asked.
        """
        self.passed += 1
        if self._leases is not None and not self._leases.passes():
            self._take_due(self._leases, None)
        if not self._asked:
            return self.preemption is not None
        asked = tuple(self._asked)  # at once, since other threads go on asking
        return self.preemption is not None or any(isinstance(h.request, Preempt) for h in asked)

    def give_way(self, step: int) -> Preempt | None:
        """Have a preemption take effect now, where a step has failed and no safe point may follow.

        Everything else that was asked waits on.

        Returns:
            The preemption that has taken effect. None if none was asked for, or, of many ranks,
            none before one of them had failed.
        """
        if self._leases is not None:
            self._accept(self._leases.rank, self._leases.take_ahead())
        asked = list(self._drain())
        for wanted in (True, False):
            self._asked.extend(h for h in asked if isinstance(h.request, Preempt) is wanted)
            if wanted and self._asked:
                with deferred_interrupt():
                    self._decide(step)
        return self.preemption

    def close(self, why: str) -> None:
        """Refuse what is still waiting and everything to come."""
        self._closed_because = why
        self._refuse_all(why)

    def abandon(self, why: str) -> None:
        """Forget what was asked, without a word to anybody: this is a forked child."""
        self._closed_because = why
        for handle in self._drain():
            handle.disown(Resolution(applied=False, why=why))

    def _propose(self, leases: Leases, handle: Handle) -> None:
        request = handle.request
        by = f"{request.by} on rank {leases.rank}"
        handle.request = request = request.model_copy(update={"by": by})
        try:
            data = _plain(request)
        except Exception as error:  # noqa: BLE001 - a user's field may fail in any way
            why = f"it cannot be told to the other ranks: {error}"
            handle.resolve(Resolution(applied=False, why=why))
            return
        number = next(self._count)
        self._undecided[number] = handle
        leases.propose(number, data)
        self._wake()

    def _take_due(self, leases: Leases, step: int | None) -> None:
        due = leases.due()
        self._accept(leases.rank, due)
        if due:
            leases.confirm(step)

    def _accept(self, rank: int, decided: list[Decided]) -> None:
        for each in decided:
            ours = self._undecided.pop(each.number, None) if each.rank == rank else None
            self._asked.append(ours or Handle(_heard(each.request)))

    def _decide(self, given: int) -> Decision:
        step = (
            given if type(given) is int and given >= 0 else None
        )  # a wrong step stops no decision
        handles = list(self._drain())
        requests = tuple(handle.request for handle in handles)
        decision = combine(requests, stopped=self._standing.stop)
        stops = [request for request in requests if isinstance(request, Stop)]
        if stops and self._stop is None:
            self._stop = stops[0]
            self._standing = Decision(stop=True)
        try:
            for request in requests:
                self._publish(
                    DecisionApplied(
                        step=step,
                        request=_as_json(request),
                        by=request.by,
                        reason=request.reason,
                    )
                )
        finally:  # also when a KeyboardInterrupt comes between: whoever waits must hear
            for handle in handles:
                handle.resolve(Resolution(applied=True, step=step))
        return decision

    def _refuse_all(self, why: str) -> None:
        for handle in self._drain():
            request = handle.request
            handle.resolve(Resolution(applied=False, why=why))
            self._publish(
                RequestRefused(
                    request=_as_json(request), by=request.by, reason=request.reason, why=why
                )
            )

    def _drain(self) -> Generator[Handle, None, None]:
        if self._closed_because is not None:  # what is undecided now takes effect nowhere
            while self._undecided:
                with contextlib.suppress(KeyError):  # another thread was faster
                    yield self._undecided.popitem()[1]
        for _ in range(len(self._asked)):
            try:
                yield self._asked.popleft()
            except IndexError:  # another thread took the rest
                return


def _nothing() -> None:
    """Wake nobody: there are no other ranks."""


def _heard(data: JsonValue) -> Request:
    try:
        return parse_request(data)
    except ValueError as error:
        raise RanksError(
            f"another rank asks for {data!r}: {error}. Define requests of your own on every rank"
        ) from error


def _as_json(request: Request) -> dict[str, JsonValue]:
    try:
        data = _plain(request)
    except Exception:  # a user's field may fail in any way, and this is the training thread
        log.exception("%s cannot be written down; the journal keeps its type alone", request.type)
        return {"type": request.type}
    return {name: value for name, value in data.items() if name not in {"by", "reason"}}


def _plain(request: Request) -> dict[str, JsonValue]:
    """Its JSON form; by way of JSON itself, or what is not finite would become null in it."""
    data: dict[str, JsonValue] = from_json(request.model_dump_json())
    return data

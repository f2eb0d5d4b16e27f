"""How users register subscribers and deciders: decorators that check what they are given."""

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, cast, get_args, overload

from bus._control import Control
from bus._deciders import Decider
from bus._event import Event
from bus._live import Body
from bus._options import Ranks
from bus._requests import Request
from bus._subscription import (
    EventStream,
    EventT,
    Filter,
    OnError,
    Overflow,
    Subscription,
)


class Registrar(ABC):
    """Something that takes subscribers and deciders: a bus, or a run."""

    @abstractmethod
    def add_subscriber(self, subscription: Subscription, body: Body, on_error: OnError) -> None:
        """Start a subscriber; what `subscribe` and `on` call."""

    @abstractmethod
    def add_decider(self, decider: Decider) -> None:
        """Start asking a decider; what `decider` calls."""

    @abstractmethod
    def report_failure(self, subscription: Subscription, error: BaseException) -> None:
        """Count a handler's failure."""

    def subscribe(
        self,
        *types: type[EventT],
        name: str | None = None,
        when: Callable[[EventT], bool] | None = None,
        every: int = 1,
        once: bool = False,
        before: int | None = None,
        after: int | None = None,
        buffer: int = 1024,
        overflow: Overflow = "drop_oldest",
        on_error: OnError = "retire",
        ranks: Ranks = "zero",
    ) -> "Subscribe[EventT]":
        """Register a coroutine function that reads a stream of events; use it as a decorator.

        Args:
            types: Event classes, subclasses included.
            name: In statistics and messages; the function's by default.
            when: A predicate on the event; runs beside the subscriber, not on the training thread.
            every: Only each n-th event that passes the other conditions.
            once: Only the first one.
            before: Only events of steps before this one.
            after: Only events of steps after this one.
            buffer: Events that may wait for this subscriber.
            overflow: Which event is dropped, with a count, when that is full; "latest" keeps one.
            on_error: Whether a subscriber that raises ends, or starts again after a pause.
            ranks: Where it runs in a job of many ranks: on rank 0 alone, or on "all" of them, each
                with its own rank's events.

        Raises:
            ClosedError: The run has ended.
            TypeError: Not an event class, or not a coroutine function of one or two arguments.
        """
        filters = Filter(types, when, every, once, before, after)
        subscription = Wanted(name, filters, buffer, overflow, ranks)
        return Subscribe(self, subscription, on_error)

    def on(
        self,
        *types: type[EventT],
        name: str | None = None,
        when: Callable[[EventT], bool] | None = None,
        every: int = 1,
        once: bool = False,
        before: int | None = None,
        after: int | None = None,
        buffer: int = 1024,
        overflow: Overflow = "drop_oldest",
        ranks: Ranks = "zero",
    ) -> "On[EventT]":
        """Register a coroutine function that takes one event at a time; arguments as `subscribe`.

        A call that raises is logged once and counted; the next event is handled as usual.
        """
        filters = Filter(types, when, every, once, before, after)
        return On(self, Wanted(name, filters, buffer, overflow, ranks))

    def decider(
        self, *types: type[EventT], deadline: float = 5.0, name: str | None = None
    ) -> "Decide[EventT]":
        """Register a coroutine function that the training thread waits for at these events.

        It returns a `Request` or None. Keep it for rare events.

        Args:
            types: Event classes, subclasses included.
            deadline: Seconds it may take; then training goes on without its word.
            name: In statistics, messages and the requests' `by`; the function's by default.
        """
        Filter(types)
        if not 0 < deadline <= 3600:
            raise ValueError(f"deadline={deadline} must be above 0 and at most 3600 seconds")
        return Decide(self, types, deadline, name)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber was registered with, before its function is known."""

    name: str | None
    filters: Filter
    buffer: int
    overflow: Overflow
    ranks: Ranks

    def subscription(self, function: Callable[..., object]) -> Subscription:
        """Its share of the events."""
        return Subscription(
            self.name or _name_of(function),
            self.filters,
            buffer=self.buffer,
            overflow=self.overflow,
            ranks=self.ranks,
        )


class Subscribe(Generic[EventT]):
    """The decorator that `subscribe` returns; gives the function back unchanged."""

    def __init__(self, registrar: Registrar, wanted: Wanted, on_error: OnError) -> None:
        self._registrar = registrar
        if on_error not in get_args(OnError):
            raise ValueError(f'on_error={on_error!r} must be "restart" or "retire"')
        self._wanted = wanted
        self._on_error: OnError = on_error

    @overload
    def __call__(
        self, body: Callable[[EventStream[EventT]], Awaitable[None]]
    ) -> Callable[[EventStream[EventT]], Awaitable[None]]: ...
    @overload
    def __call__(
        self, body: Callable[[EventStream[EventT], Control], Awaitable[None]]
    ) -> Callable[[EventStream[EventT], Control], Awaitable[None]]: ...
    def __call__(self, body: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Start the subscriber."""
        subscription = self._wanted.subscription(body)
        self._registrar.add_subscriber(subscription, with_control(body), self._on_error)
        return body


class On(Generic[EventT]):
    """The decorator that `on` returns; gives the function back unchanged."""

    def __init__(self, registrar: Registrar, wanted: Wanted) -> None:
        self._registrar = registrar
        self._wanted = wanted

    @overload
    def __call__(
        self, handle: Callable[[EventT], Awaitable[None]]
    ) -> Callable[[EventT], Awaitable[None]]: ...
    @overload
    def __call__(
        self, handle: Callable[[EventT, Control], Awaitable[None]]
    ) -> Callable[[EventT, Control], Awaitable[None]]: ...
    def __call__(self, handle: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Start the handler."""
        subscription = self._wanted.subscription(handle)

        def failed(error: BaseException) -> None:
            self._registrar.report_failure(subscription, error)

        body = _handler_body(with_control(handle), failed)
        self._registrar.add_subscriber(subscription, body, "restart")
        return handle


class Decide(Generic[EventT]):
    """The decorator that `decider` returns; gives the function back unchanged."""

    def __init__(
        self,
        registrar: Registrar,
        types: tuple[type[Event], ...],
        deadline: float,
        name: str | None,
    ) -> None:
        self._registrar = registrar
        self._types = types
        self._deadline = deadline
        self._name = name

    @overload
    def __call__(
        self, decide: Callable[[EventT], Awaitable[Request | None]]
    ) -> Callable[[EventT], Awaitable[Request | None]]: ...
    @overload
    def __call__(
        self, decide: Callable[[EventT, Control], Awaitable[Request | None]]
    ) -> Callable[[EventT, Control], Awaitable[Request | None]]: ...
    def __call__(
        self, decide: Callable[..., Awaitable[Request | None]]
    ) -> Callable[..., Awaitable[Request | None]]:
        """Start asking."""
        name = self._name or _name_of(decide)
        both = with_control(decide)
        self._registrar.add_decider(Decider(name, self._types, both, self._deadline))
        return decide


def _name_of(function: Callable[..., object]) -> str:
    inner = getattr(function, "func", function)  # functools.partial
    return str(getattr(inner, "__name__", type(inner).__name__))


def with_control(
    function: Callable[..., Awaitable[Any]],
) -> Callable[[Any, Control], Awaitable[Any]]:
    """Let a function of one argument be called with two.

    A second parameter with a default is given the control channel only if its name is `control`.

    Raises:
        TypeError: It is no coroutine function of one or two arguments.
    """
    name = _name_of(function)
    if not _is_async(function):
        raise TypeError(f"{name} must be a coroutine function: async def {name}(...)")
    signature = inspect.signature(function)
    named = list(signature.parameters)[1:2] == ["control"] and _binds(signature, 2)
    if _binds(signature, 1) and not named:

        async def alone(first: object, _control: Control) -> object:
            result: object = await function(first)
            return result

        return alone
    if not _binds(signature, 2):
        raise TypeError(f"{name} must take one argument, or two with the control channel")
    return function


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _is_async(function: Callable[..., object]) -> bool:
    inner = getattr(function, "func", function)  # functools.partial
    call = cast("object", getattr(inner, "__call__", None))  # noqa: B004 - an object with async __call__
    return any(inspect.iscoroutinefunction(each) for each in (inner, call))


def _handler_body(
    handle: Callable[[Any, Control], Awaitable[object]],
    failed: Callable[[BaseException], None],
) -> Body:
    """Make a subscriber of a function that takes one event at a time; failures do not end it."""

    async def body(stream: EventStream[Any], control: Control) -> None:
        while True:
            try:
                event = await anext(stream)
            except StopAsyncIteration:
                return
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - its predicate is isolated like itself
                failed(error)
                continue
            try:
                await handle(event, control)
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - a subscriber is isolated from the rest
                failed(error)

    return body

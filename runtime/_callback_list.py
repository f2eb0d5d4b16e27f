"""`CallbackList` keeps callbacks in order and calls one hook of all who override it.

A hook that nobody overrides costs one look. Adding or removing callbacks while an event is under
way is allowed: the round goes on over the list it began with.
"""

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from runtime._agreed_flags import AgreedFlags
from runtime._callbacks import HOOKS, TrainerCallback
from runtime._signatures import cannot_bind
from runtime._state import TrainerControl, TrainerState

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

    from runtime._arguments import TrainingArguments
    from runtime._schedules import Scheduler

log = logging.getLogger("runtime")

Isolate: TypeAlias = Callable[[object, str, Exception], None]
"""Is told the callback, the hook and what it raised."""

_Hook: TypeAlias = Callable[..., object]

_GIVEN: Final = (
    "model",
    "processing_class",
    "optimizer",
    "lr_scheduler",
    "train_dataloader",
    "eval_dataloader",
)
"""What every hook is given by keyword, under the names that the list's attributes have."""

_FLAGS: Final = tuple(each.name for each in fields(TrainerControl))


class CallbackList:
    """Callbacks, and what their hooks are given by keyword.

    Attributes:
        callbacks: The callbacks in their order; may be changed in place.
        model: Given to hooks as it is at each call, as are the next five.
        processing_class: Likewise.
        optimizer: Likewise.
        lr_scheduler: Likewise.
        train_dataloader: Likewise.
        eval_dataloader: Likewise.
        isolate: If set, it is told of a callback that fails, and the others go on; by default the
            exception propagates.
        agreed: If set, flags that callbacks change go through it, unless they are
            `rank_consistent`; by default they are obeyed at once.
    """

    def __init__(
        self,
        model: "Module | None",
        processing_class: object,
        optimizer: "Optimizer | None",
        lr_scheduler: "Scheduler | None",
    ) -> None:
        self.callbacks: list[TrainerCallback] = []
        self.model = model
        self.processing_class = processing_class
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.train_dataloader: Iterable[object] | None = None
        self.eval_dataloader: Iterable[object] | None = None
        self.isolate: Isolate | None = None
        self.agreed: AgreedFlags | None = None
        # Who overrides which hook, found when an event first happens, for the list as it was then.
        self._overriding: dict[str, tuple[tuple[TrainerCallback, _Hook], ...]] = {}
        self._listed: list[TrainerCallback] = []

    @property
    def callback_list(self) -> str:
        """The callbacks' class names, one a line."""
        return "\n".join(type(each).__name__ for each in self.callbacks)

    def names(self) -> str:
        """The callbacks' class names in one line."""
        return ", ".join(self.callback_list.splitlines()) or "none"

    def add_callback(self, callback: "TrainerCallback | type[TrainerCallback]") -> None:
        """Append a callback, or one made of a class; a second of a class is added with a notice.

        Raises:
            TypeError: It is no callback, or its class needs arguments.
        """
        made = _made(callback)
        if any(type(each) is type(made) for each in self.callbacks):
            log.warning(
                "there is already a %s among the callbacks (%s); both will be called",
                type(made).__name__,
                self.names(),
            )
        self.callbacks.append(made)

    def pop_callback(
        self, callback: "TrainerCallback | type[TrainerCallback]"
    ) -> TrainerCallback | None:
        """Remove and return the first callback that is equal, or of this class or a subclass."""
        for index, each in enumerate(self.callbacks):
            if isinstance(each, callback) if isinstance(callback, type) else each == callback:
                return self.callbacks.pop(index)
        return None

    def remove_callback(self, callback: "TrainerCallback | type[TrainerCallback]") -> None:
        """Remove the first callback that is equal, or of this class or a subclass, if any is.

        Raises:
            ValueError: It is an object and not among the callbacks.
        """
        if self.pop_callback(callback) is None and not isinstance(callback, type):
            raise ValueError(
                f"{callback!r} is not among the callbacks ({self.names()}); "
                "pass the object that was added, or its class"
            )

    def call_event(
        self,
        event: str,
        args: "TrainingArguments",
        state: TrainerState,
        control: TrainerControl,
        **more: object,
    ) -> TrainerControl:
        """Call one hook, the library's or one of your own, of all callbacks that have it.

        What a callback returns becomes the control that the next one is given, and finally the
        result; None leaves it as it is.

        Args:
            event: The hook's name.
            args: The training's arguments.
            state: Where it stands.
            control: What is asked of it.
            more: What the hook is given by keyword beside the list's own.

        Raises:
            AttributeError: It is none of the library's, and no callback has it.
            TypeError: A callback returned neither None nor a control.
        """
        return self.call_each(event, self.isolate, args, state, control, **more)

    def call_each(
        self,
        event: str,
        isolate: Isolate | None,
        args: "TrainingArguments",
        state: TrainerState,
        control: TrainerControl,
        **more: object,
    ) -> TrainerControl:
        """As `call_event`, with a way of its own to isolate callbacks."""
        if self.callbacks != self._listed:
            self.look_again()
        found = self._overriding.get(event)
        if found is None:
            found = self._overriding[event] = self._find(event)
        if not found:
            return control
        given = {
            "model": self.model,
            "processing_class": self.processing_class,
            "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler,
            "train_dataloader": self.train_dataloader,
            "eval_dataloader": self.eval_dataloader,
            **more,
        }
        logs = cast("dict[str, float] | None", more.get("logs"))
        agreed = self.agreed
        for callback, hook in found:
            if logs is not None:
                given["logs"] = logs.copy()  # what one callback does to them, no other sees
            before = vars(control).copy() if agreed is not None else {}
            try:
                control = _next_control(hook(args, state, control, **given), control, hook)
            except Exception as error:
                if isolate is None:
                    raise
                isolate(callback, event, error)
            if agreed is not None and not getattr(callback, "rank_consistent", False):
                agreed.take(before, control, callback, state.global_step)
        return control

    def overriding(self, event: str) -> "list[TrainerCallback]":
        """The callbacks that have a hook of their own."""
        return [callback for callback, _ in self._find(event)]

    def look_again(self) -> None:
        """Forget who overrides which hook, because callbacks may have changed."""
        self._listed = list(self.callbacks)
        self._overriding.clear()

    def _find(self, event: str) -> tuple[tuple[TrainerCallback, _Hook], ...]:
        have = [
            (each, cast("_Hook", getattr(each, event)))
            for each in self.callbacks
            if callable(getattr(each, event, None))
        ]
        if getattr(TrainerCallback, event, None) is None and not have:
            raise AttributeError(
                f"no callback has a hook {event!r} ({self.names()}); "
                f"the hooks of a trainer are {', '.join(HOOKS)}"
            )
        return tuple((each, hook) for each, hook in have if not _does_nothing(each, event, hook))


def _does_nothing(callback: object, event: str, hook: _Hook) -> bool:
    """Whether a hook is that of the library's base class, ours or Transformers'."""
    function = getattr(hook, "__func__", None)
    return function is not None and any(
        function is vars(base).get(event)
        for base in type(callback).__mro__
        if base is TrainerCallback
        or (base.__module__, base.__name__) == ("transformers.trainer_callback", "TrainerCallback")
    )


def _next_control(result: object, control: TrainerControl, hook: _Hook) -> TrainerControl:
    """The control that a hook's result leaves, which may be Transformers'."""
    if result is None:
        return control
    if not isinstance(result, TrainerControl) and all(hasattr(result, flag) for flag in _FLAGS):
        return TrainerControl(**{flag: bool(getattr(result, flag)) for flag in _FLAGS})
    if not isinstance(result, TrainerControl):
        raise TypeError(
            f"{getattr(hook, '__qualname__', hook)} returned {result!r:.80}; "
            "a hook returns the control, or nothing"
        )
    return result


def _made(callback: "TrainerCallback | type[TrainerCallback]") -> TrainerCallback:
    """The callback itself, or one made of the class."""
    if isinstance(callback, type):
        try:
            made = callback()
        except TypeError as error:
            raise TypeError(
                f"{callback.__qualname__} cannot be made without arguments ({error}); "
                f"pass an object, {callback.__qualname__}(...)"
            ) from error
    else:
        made = callback
    missing = [hook for hook in HOOKS if not callable(getattr(made, hook, None))]
    if missing:
        lacks = "none of the hooks" if len(missing) == len(HOOKS) else f"no {', '.join(missing)}"
        raise TypeError(
            f"{callback!r:.80} is no callback, it has {lacks}; "
            "make a subclass of TrainerCallback and override the hooks you need"
        )
    for hook in HOOKS:
        if getattr(type(made), hook, None) is not getattr(TrainerCallback, hook):
            _check_hook(getattr(made, hook), hook)
    return made


def _check_hook(hook: _Hook, name: str) -> None:
    """Refuse a hook that could not be called, which would show only when its moment has come.

    Raises:
        TypeError: Naming the hook and how it is called.
    """
    called = getattr(hook, "__qualname__", name)
    if inspect.iscoroutinefunction(hook):
        raise TypeError(
            f"{called} is a coroutine function, and hooks are called and not awaited; write it "
            "without async, or subscribe to its event with trainer.run.on(...)"
        )
    more = {"on_log": ("logs",), "on_evaluate": ("metrics",), "on_predict": ("metrics",)}
    fault = cannot_bind(hook, 3, (*_GIVEN, *more.get(name, ())))
    if fault is not None:
        raise TypeError(
            f"{called} cannot be called as a hook is, with args, state, control and more by "
            f"keyword: {fault}; give it the parameters (self, args, state, control, **kwargs)"
        )

"""What callbacks remember across a resume: collected for a checkpoint, given back from one.

The shape is upstream's, class name to state, or to a list of states if a class has several
objects. There is no more to a key than the class's name and the position among its objects.
"""

import json
import logging
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from runtime._state import CallbackState, TrainerControl

if TYPE_CHECKING:
    from runtime._callback_list import CallbackList

log = logging.getLogger("runtime")

StoredStates: TypeAlias = "dict[str, CallbackState | list[CallbackState]]"
"""The field `stateful_callbacks` of `TrainerState`."""


def export_states(handler: "CallbackList", control: TrainerControl) -> StoredStates:
    """What the callbacks and the control remember now, as a copy that nothing changes later.

    Raises:
        TypeError: The state of one, which is named, is not JSON data.
    """
    found: dict[str, list[CallbackState]] = {}
    for each in (*_stateful(handler), control):
        found.setdefault(type(each).__name__, []).append(_frozen(each))
    return {name: states[0] if len(states) == 1 else states for name, states in found.items()}


def restore_states(handler: "CallbackList", stored: StoredStates) -> None:
    """Set on the present callbacks what those of a checkpoint remembered.

    The objects stay the user's own, with the arguments they were made with; only `attributes` are
    set. Callbacks on one side only are named in one notice. The control needs nothing: each of its
    flags is cleared before it could matter.
    """
    present: dict[str, list[_Stateful]] = {}
    for each in _stateful(handler):
        present.setdefault(type(each).__name__, []).append(each)
    problems: list[str] = []
    for name in sorted({*present, *stored} - {TrainerControl.__name__}):
        callbacks, states = present.get(name, []), _listed(stored.get(name, []))
        for callback, state in zip(callbacks, states, strict=False):
            problems += _set_attributes(callback, state)
        if len(callbacks) > len(states):
            problems.append(f"{len(callbacks) - len(states)} {name} new, which begins afresh")
        elif len(states) > len(callbacks):
            problems.append(f"{len(states) - len(callbacks)} {name} no longer there")
    if problems:
        log.warning("callbacks differ from the checkpoint's: %s", "; ".join(problems))


class _Stateful(Protocol):
    """An `ExportableState`, ours or upstream's."""

    def state(self) -> object: ...


def _stateful(handler: "CallbackList") -> list[_Stateful]:
    return [
        cast("_Stateful", each)
        for each in handler.callbacks
        if callable(getattr(type(each), "state", None))
        and callable(getattr(type(each), "from_state", None))
    ]


def _frozen(each: _Stateful) -> CallbackState:
    """A copy of an object's state that is known to be JSON data."""
    try:
        return cast("CallbackState", json.loads(json.dumps(each.state())))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the state of {type(each).__qualname__} cannot go into a checkpoint ({error}); "
            "let state() return JSON data"
        ) from error


def _listed(stored: object) -> list[object]:
    """The states of one class, of which a file has one or several."""
    return cast("list[object]", stored) if isinstance(stored, list) else [stored]


def _set_attributes(callback: _Stateful, state: object) -> list[str]:
    """Set what was remembered; tell what could not be."""
    kind = type(callback)
    attributes = cast("dict[str, object]", state).get("attributes") if _is_object(state) else None
    if not _is_object(attributes):
        return [f"{kind.__name__} was stored as {state!r:.80}, without attributes"]
    problems: list[str] = []
    for name, value in cast("dict[str, object]", attributes).items():
        # A file must not put data where the class has code.
        if name.startswith("__") or callable(getattr(kind, name, None)):
            problems.append(f"{kind.__name__}.{name} is no attribute to be set")
            continue
        setattr(callback, name, value)
    return problems


def _is_object(value: object) -> bool:
    return isinstance(value, dict)

"""What TensorBoard's HPARAMS page shows of a run: its settings and how it ended.

The messages are those of tensorboard/plugins/hparams/plugin_data.proto and of protobuf's
struct.proto. No `Experiment` is written: without one TensorBoard lists the settings and the scalars
of all runs, while with one it lists what the first run that it reads knew of.
"""

import json
import math
from collections.abc import Mapping
from typing import Final, TypeAlias

from pydantic import JsonValue

from bus import Outcome
from sinks._tfevents import field, integer, metadata_only, number

__all__ = ["HParam", "flattened", "session_ended", "session_goes_on", "session_started"]

HParam: TypeAlias = bool | float | str

_MOST: Final = 500
_LONGEST: Final = 1000
_SUCCEEDED: Final = frozenset({"finished", "stopped"})
_SUCCESS, _FAILURE, _RUNNING = 1, 2, 3


def flattened(parameters: Mapping[str, JsonValue]) -> dict[str, HParam]:
    """Settings as that page takes them: names of nested ones joined by "/", lists as JSON.

    At most 500, and texts of at most 1,000 characters; the TEXT page has them whole.
    """
    found: dict[str, HParam] = {}
    waiting = list(parameters.items())[::-1]
    while waiting and len(found) < _MOST:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}/{key}", each) for key, each in list(value.items())[::-1]]
        else:
            found[name] = _hparam(value)
    return found


def _hparam(value: JsonValue) -> HParam:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        # The page is fed JSON, which has no word for these.
        return float(value) if abs(value) < 2**1023 else str(value)[:_LONGEST]
    if isinstance(value, str):
        return value[:_LONGEST]
    return json.dumps(value, ensure_ascii=False)[:_LONGEST]


def session_started(hparams: Mapping[str, HParam], started: float) -> bytes:
    """The value that describes a run's beginning; `started` in Unix seconds."""
    entries = (
        field(1, field(1, name.encode()) + field(2, _encoded(value)))
        for name, value in hparams.items()
    )
    content = field(3, b"".join(entries) + number(5, started))
    return metadata_only("_hparams_/session_start_info", "hparams", content)


def session_ended(outcome: Outcome, ended: float) -> bytes:
    """The value that describes a run's end; `ended` in Unix seconds."""
    status = _SUCCESS if outcome in _SUCCEEDED else _FAILURE
    return _end(integer(1, status) + number(2, ended))


def session_goes_on() -> bytes:
    """The value that takes an end back."""
    return _end(integer(1, _RUNNING))


def _end(content: bytes) -> bytes:
    return metadata_only("_hparams_/session_end_info", "hparams", field(4, content))


def _encoded(value: HParam) -> bytes:
    if isinstance(value, bool):
        return integer(4, int(value))
    if isinstance(value, str):
        return field(3, value.encode())
    assert math.isfinite(value)
    return number(2, value)

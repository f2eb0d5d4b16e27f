"""Writes rows, console lines and configurations as W&B's file stream and UpsertBucket take them."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue

from bus import HistogramLogged
from sinks._values import compact

STEP: Final = "train/global_step"
"""The metric that Transformers' callback puts on every x axis."""

ABOUT: Final = "hotloop"
"""The key of the configuration under which our own facts about the run stand."""

LONGEST_LINE: Final = (10 << 20) - (100 << 10)
"""Bytes of a line; the server refuses longer ones."""

LARGEST_CONFIG: Final = 15 << 20
"""Bytes of a configuration that the server takes."""

RESERVED: Final = frozenset({"_step", "_runtime", "_timestamp", "_wandb"})

_CONSOLE: Final = 4096
"""Characters of a console line."""

_SUMMARIES: Final = {"min": 1, "max": 2, "mean": 3, "last": 5, "first": 8}
_GOALS: Final = {"minimize": 1, "maximize": 2}
_STEP_SYNC: Final = 1
_DEFINED: Final = 3

_GPU: Final = re.compile(r"gpu(\d+)/(.+)")
_GPU_KEYS: Final = {
    "utilization_percent": "gpu",
    "memory_percent": "memoryAllocated",
    "memory_used_bytes": "memoryAllocatedBytes",
    "power_watts": "powerWatts",
    "temperature_celsius": "temp",
}
_HOST_KEYS: Final = {
    "host/cpu_percent": "cpu",
    "host/memory_percent": "memory_percent",
    "process/threads": "proc.cpu.threads",
}


def decoded(text: str) -> dict[str, JsonValue]:
    """An object as `compact` or the server wrote it; {} if it is none."""
    try:
        found: object = json.loads(text)
    except ValueError:
        return {}
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - from JSON


def run_id_of(token: str) -> str:
    """Eight letters and digits that are the same each time for a run of ours."""
    number = int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), "big")
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return "".join(digits[number // 36**place % 36] for place in range(8))


def project_of(name: str | None) -> str:
    """The nearest name that a project may have."""
    return re.sub(r"[/\\#?%:]", "-", name or "").strip()[:128] or "uncategorized"


def console_line(time: float, text: str, *, error: bool, label: str = "") -> str:
    """A line of the console, in UTC; what is too long is cut."""
    when = datetime.fromtimestamp(time, UTC).replace(tzinfo=None).isoformat("T", "microseconds")
    said = f"[{label}] {text}" if label else text
    return f"{'ERROR ' if error else ''}{when} {said[:_CONSOLE]}"


def system_key(key: str) -> str:
    """The name of a number about the machine that the System page knows, or the nearest one."""
    found = _GPU.fullmatch(key)
    if found is not None:
        return f"system.gpu.{found[1]}.{_GPU_KEYS.get(found[2], found[2]).replace('/', '.')}"
    return "system." + _HOST_KEYS.get(key, key.removeprefix("system/").replace("/", "."))


def histogram(event: HistogramLogged) -> dict[str, JsonValue]:
    """A histogram as a row's value."""
    return {"_type": "histogram", "bins": [*event.edges], "values": [*event.counts]}


def definitions(defined: Mapping[str, Mapping[str, str]]) -> list[JsonValue]:
    """The list `_wandb.m`: how each metric is shown, over the global step unless it says otherwise.

    Its numbers are those of the protocol's `MetricRecord`: 1 is a name, 2 a pattern, 5 the step
    metric's place in the list from 1 on, 6 options, 7 summaries, 8 the goal.
    """
    named = [each["step_metric"] for each in defined.values() if "step_metric" in each]
    axes = list(dict.fromkeys([STEP, *named]))
    found: list[JsonValue] = [{"1": axis, "6": [_DEFINED], "7": []} for axis in axes]
    shown = {name: each for name, each in defined.items() if name not in axes}
    # The pattern for all others comes last: W&B's own client sorts it there.
    if "*" not in shown:
        shown["*"] = {}
    for name, each in shown.items():
        place = 1 + axes.index(each.get("step_metric", STEP))
        record: dict[str, JsonValue] = {"2" if name.endswith("*") else "1": name, "5": place}
        record["6"] = [_STEP_SYNC] if name.endswith("*") else [_DEFINED, _STEP_SYNC]
        record["7"] = [_SUMMARIES[each["summary"]]] if "summary" in each else []
        if "goal" in each:
            record["8"] = _GOALS[each["goal"]]
        found.append(record)
    return found


def axes_of(keys: Iterable[str], defined: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The step metrics over which a row's values are shown; they have to be in the row."""
    axes = [STEP]
    for name, each in defined.items():
        axis = each.get("step_metric")
        prefix = name.removesuffix("*")
        if axis and any(key == name or (name != prefix and key.startswith(prefix)) for key in keys):
            axes.append(axis)
    return axes


def configuration(
    config: Mapping[str, JsonValue],
    about: Mapping[str, JsonValue],
    defined: Mapping[str, Mapping[str, str]],
) -> str:
    """The configuration as UpsertBucket takes it.

    `_wandb.t` must be there, or the run counts as one that never began and cannot be resumed.
    """
    wrapped: dict[str, JsonValue] = {
        key: {"value": value} for key, value in config.items() if key not in RESERVED
    }
    if about:
        wrapped[ABOUT] = {"value": dict(about)}
    wrapped["_wandb"] = {"value": {"t": {}, "m": definitions(defined)}}
    return compact(wrapped)


def without_wrapping(text: str) -> dict[str, JsonValue]:
    """The values of a configuration as the server has it, without what is W&B's own."""
    return {
        key: each.get("value")
        for key, each in decoded(text).items()
        if isinstance(each, dict) and key not in RESERVED
    }

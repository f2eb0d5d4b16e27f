"""What differs between the answers of `trainer_script.py` under two trainers."""

import math
from collections.abc import Iterator
from typing import Any

TOLERANCE = 1e-6
"""Relative, between numbers that the same operations made in another order."""

UNCOMPARED = {
    "training_args.bin",  # a pickle, which we neither write nor read
    # accelerate wraps a model before it is evaluated; we do not
    "eval_model_preparation_time",
    "test_model_preparation_time",
}


def differences(
    theirs: dict[str, Any],
    ours: dict[str, Any],
    *,
    ignore: tuple[str, ...] = (),
    tolerance: float = TOLERANCE,
) -> list[str]:
    """Each difference with the path to it.

    Ours may have more files in a checkpoint and another text in an error, whose class may be a
    subclass.

    Args:
        theirs: Upstream's answer.
        ours: Ours.
        ignore: Paths to leave out, with everything below them; written as the differences are.
        tolerance: Relative, between numbers.
    """
    found = unequal("", _comparable(theirs), _comparable(ours, theirs), tolerance)
    return [text for path, text in found if not _within(path, ignore)]


def _within(path: str, ignore: tuple[str, ...]) -> bool:
    return any(path == each or path.startswith(f"{each}.") for each in ignore)


def _comparable(answer: dict[str, Any], theirs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Without what is ours to do otherwise."""
    checkpoints = {}
    for name, content in answer["checkpoints"].items():
        other = theirs and theirs["checkpoints"].get(name)
        kept = set(content["files"]) & set(other["files"] if other else content["files"])
        checkpoints[name] = {**content, "files": sorted(kept - UNCOMPARED)}
    error = answer["error"]
    if error is not None:
        wanted = (theirs["error"] or error)["kinds"][0] if theirs else error["kinds"][0]
        told = error["message"] if "told to" in error["message"] else "in other words"
        error = {"is": wanted if wanted in error["kinds"] else error["kinds"][0], "message": told}
    return {**answer, "checkpoints": checkpoints, "error": error}


def unequal(
    path: str, theirs: Any, ours: Any, tolerance: float = TOLERANCE
) -> Iterator[tuple[str, str]]:
    """Path and description of each difference between two pieces of answers."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in dict.fromkeys([*theirs, *ours]):
            if key in UNCOMPARED:
                continue
            below = f"{path}.{key}" if path else str(key)
            if key not in ours or key not in theirs:
                where, value = ("upstream", theirs) if key in theirs else ("ours", ours)
                yield below, f"{below}: only {where}: {_short(value[key])}"
            else:
                yield from unequal(below, theirs[key], ours[key], tolerance)
    elif isinstance(theirs, list) and isinstance(ours, list):
        yield from _walk_lists(path, theirs, ours, tolerance)
    elif not _same(theirs, ours, tolerance):
        yield path, f"{path}: upstream {_short(theirs)}, ours {_short(ours)}"


def _walk_lists(
    path: str, theirs: list[Any], ours: list[Any], tolerance: float
) -> Iterator[tuple[str, str]]:
    """Up to the first difference: what follows is shifted."""
    for position, (left, right) in enumerate(zip(theirs, ours, strict=False)):
        below = list(unequal(f"{path}.{position}", left, right, tolerance))
        if below:
            yield from below
            return
    if len(theirs) != len(ours):
        at = min(len(theirs), len(ours))
        rest = f"upstream {_short(theirs[at:])}, ours {_short(ours[at:])}"
        yield path, f"{path}: lengths {len(theirs)} and {len(ours)}; then {rest}"


def _same(theirs: Any, ours: Any, tolerance: float) -> bool:
    if isinstance(theirs, bool | str | None) or isinstance(ours, bool | str | None):
        return type(theirs) is type(ours) and theirs == ours
    if math.isnan(theirs) or math.isnan(ours):
        return math.isnan(theirs) and math.isnan(ours)
    return math.isclose(theirs, ours, rel_tol=tolerance, abs_tol=tolerance * 1e-2)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}..."

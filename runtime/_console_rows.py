"""How progress looks: as the rows of a panel, or as one line. Pure functions of what is known."""

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from rich.cells import cell_len, set_cell_size

from runtime._console_curve import sparkline
from runtime._console_progress import Progress
from runtime._console_words import count, duration, harmless, named, speed

Style: TypeAlias = Literal["plain", "dim", "bold", "good", "curve", "warning", "bad"]
Row: TypeAlias = Sequence[tuple[str, Style]]
"""Parts of a row, each in its style."""

PANEL_ROWS: Final = 6

_CURVE_WIDTH: Final = 24
_LEAST_BAR: Final = 10


def line(progress: Progress, troubles: Sequence[str] = ()) -> str:
    """Everything in one line: step, metrics, speed, time left, and what is wrong."""
    parts = [_step(progress), named(progress.metrics), *_pace(progress), *troubles]
    return "  ".join(filter(None, parts))


def panel(
    progress: Progress,
    troubles: Sequence[str],
    seconds: float,
    *,
    width: int,
    ascii_only: bool = False,
) -> list[Row]:
    """The rows of a panel, `PANEL_ROWS` of them, none wider than `width` cells.

    Args:
        progress: How far the run is.
        troubles: What is late, refused or lost.
        seconds: How long it has been going on.
        width: Cells of a row.
        ascii_only: Whether nothing but ASCII can be shown.
    """
    rows: list[Row] = [
        _rule(progress, seconds, width, "-" if ascii_only else "─"),
        _bar(progress, width, "#-" if ascii_only else "━─"),
        [*([] if ascii_only else _curve(progress)), (named(progress.metrics), "plain")],
        _evaluation(progress),
        [("  ".join(troubles), "warning")],
        [(progress.alert, "bad")],
    ]
    return [_fitted(row, width, "~" if ascii_only else "…") for row in rows]


def styled(row: Row, paint: Callable[[str, Style], str]) -> str:
    """A row as one text, each part of it painted."""
    return "".join(paint(text, style) for text, style in row if text)


def _step(progress: Progress) -> str:
    if progress.step is None:
        return "no step yet"
    planned = "" if progress.total is None else f"/{count(progress.total)}"
    return f"step {count(progress.step)}{planned}"


def _pace(progress: Progress) -> list[str]:
    if progress.rate is None:
        return []
    left = progress.seconds_left
    return [speed(progress.rate), *([] if left is None else [f"eta {duration(left)}"])]


def _rule(progress: Progress, seconds: float, width: int, dash: str) -> Row:
    attempt = f", attempt {progress.attempt}" if progress.attempt > 1 else ""
    state = "" if progress.ended is None else f", {progress.ended}"
    title = f" {harmless(progress.name)}{attempt}{state} "
    clock = f" {duration(seconds)} "
    rest = max(0, width - cell_len(title) - cell_len(clock) - 4)
    return [(dash * 2, "dim"), (title, "bold"), (dash * rest, "dim"), (clock + dash * 2, "dim")]


def _bar(progress: Progress, width: int, marks: str) -> Row:
    words = "  ".join([_step(progress), *_pace(progress)])
    room = width - cell_len(words) - 1
    if progress.share is None or room < _LEAST_BAR:
        return [(words, "bold")]
    done = int(room * progress.share)
    return [
        (marks[0] * done, "good"),
        (marks[1] * (room - done), "dim"),
        (" " + words, "bold"),
    ]


def _curve(progress: Progress) -> Row:
    drawn = sparkline(progress.curve, width=_CURVE_WIDTH)
    return [(drawn + "  ", "curve")] if drawn else []


def _evaluation(progress: Progress) -> Row:
    if progress.evaluating:
        batch = "" if progress.batch is None else f", batch {count(progress.batch)}"
        return [(f"evaluating{batch}", "dim")]
    if progress.evaluated is None:
        return []
    step, metrics = progress.evaluated
    when = "" if step is None else f" at step {count(step)}"
    return [(f"evaluated{when}  ", "dim"), (named(metrics), "plain")]


def _fitted(row: Row, width: int, ellipsis: str) -> Row:
    """The beginning of a row, as much of it as there is room for."""
    sizes = [cell_len(text) for text, _ in row]
    if sum(sizes) <= width:
        return row
    left, fitted = width - 1, list[tuple[str, Style]]()
    for (text, style), size in zip(row, sizes, strict=True):
        fitted.append((set_cell_size(text, min(size, left)), style))
        left -= min(size, left)
    return [*fitted, (ellipsis, "dim")]

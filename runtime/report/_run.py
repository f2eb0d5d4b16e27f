"""Describe a run: who it is, how it stands, how each attempt went, and what it measured."""

from __future__ import annotations  # array is not subscriptable at run time before 3.12

import math
import shlex
import time
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import JsonValue

from bus import Attempt, JournalReader, RunInfo, RunNotFoundError, run_state
from runtime.report._columns import levels, line_entry
from runtime.report._document import AttemptEntry, Document, Mark, MetricEntry, Pairs, Tile
from runtime.report._fields import flattened, mapping_of, seconds_of, shown, text_of
from runtime.report._series import Line
from runtime.report._story import Story

_HEADLINE_FACTS = ("host", "python", "torch", "command")


def describe(run_dir: Path, journal: JournalReader, story: Story, points: int) -> Document:
    """Make the document of a report from a story that was read completely.

    Raises:
        ValueError: `points` is too small to draw with.
    """
    name, run_id, project, state = _identity(run_dir, story)
    attempts = [_attempt(each, story, state) for each in _attempts(journal, story)]
    if attempts:
        attempts[-1]["outcome"] = state
    origin = min((each["started"] for each in attempts), default=time.time())
    facts, environment = _facts(story)
    saved = list(story.saved)
    return {
        "name": name,
        "id": run_id,
        "project": project,
        "state": state,
        "story": attempts[-1]["story"] if attempts else "",
        "origin": origin,
        "written": time.time(),
        "duration": _duration(attempts, origin),
        "facts": facts,
        "tiles": _tiles(story),
        "attempts": attempts,
        "marks": _marks(attempts, story),
        "marks_left_out": sum(tail.left_out for tail in story.marks.values()),
        "metrics": _metrics(story, origin, points),
        "alerts": story.latest(story.alerts),
        "messages": story.latest(story.messages),
        "texts": story.latest(story.texts),
        "console": story.latest(story.console),
        "saved": saved,
        "saved_left_out": story.saved.left_out,
        "config": _config(story),
        "summary": list(flattened(story.summary)),
        "environment": environment,
        "damaged": journal.damage,
        "elsewhere": [(what, f"{count:,}") for what, count in story.elsewhere.items()],
    }


def _identity(run_dir: Path, story: Story) -> tuple[str, str, str, str]:
    """Name, id, project and state, from run.json or, where that is lost, from the journal."""
    try:
        info = RunInfo.load(run_dir)
    except RunNotFoundError:
        start = story.began[max(story.began)] if story.began else {}
        end = story.ended.get(max(story.first_times, default=0), {})
        name = text_of(start, "name") or run_dir.resolve().name
        state = text_of(end, "outcome", "unknown")
        return name, text_of(start, "run_id"), text_of(start, "project"), state
    return info.name, info.id, info.project or "", run_state(run_dir)


def _attempts(journal: JournalReader, story: Story) -> Iterable[Attempt]:
    known = journal.attempts
    return known or (Attempt(number, 0.0) for number in sorted(story.first_times))


def _attempt(attempt: Attempt, story: Story, state: str) -> AttemptEntry:
    number = attempt.number
    stopped_by = next(
        (
            mark["by"]
            for mark in story.marks["decision"]
            if mark["attempt"] == number and mark["label"] == "stop" and mark["by"]
        ),
        "",
    )
    return {
        "number": number,
        "started": attempt.started or story.first_times.get(number, 0.0),
        "ended": attempt.ended,
        "last_seen": story.last_times.get(number),
        # One that a later attempt followed without a word of its own was killed.
        "outcome": attempt.outcome or ("unknown" if state == "unknown" else "crashed"),
        "story": _ending(attempt, stopped_by),
        "resumed_from_step": attempt.resumed_from_step,
    }


def _ending(attempt: Attempt, stopped_by: str) -> str:
    if attempt.error:
        return attempt.error
    reason = attempt.reason or ""
    if attempt.outcome == "stopped" and stopped_by and stopped_by not in reason:
        return f"by {stopped_by}: {reason}" if reason else f"by {stopped_by}"
    return reason


def _duration(attempts: list[AttemptEntry], origin: float) -> float | None:
    ends = (each["ended"] or each["last_seen"] or each["started"] for each in attempts)
    last = max(ends, default=None)
    return None if last is None else max(0.0, last - origin)


def _facts(story: Story) -> tuple[Pairs, Pairs]:
    """What the latest attempt says of its surroundings: the headline, and the rest."""
    start = story.began[max(story.began)] if story.began else {}
    facts = mapping_of(start, "facts")
    headline = [(key, _fact(facts[key])) for key in _HEADLINE_FACTS if key in facts]
    rest = {key: value for key, value in facts.items() if key not in _HEADLINE_FACTS}
    return headline, list(flattened(rest))


def _fact(value: JsonValue) -> str:
    """A fact as text; a list is a command's arguments."""
    return shlex.join(map(shown, value)) if isinstance(value, list) else shown(value)


def _config(story: Story) -> Pairs:
    merged: dict[str, JsonValue] = {}
    for number in sorted(story.began):
        merged |= mapping_of(story.began[number], "config")
    return list(flattened(merged | story.parameters))


def _tiles(story: Story) -> list[Tile]:
    """The numbers that stand out: how far it came, and what its recording cost and kept."""
    end = story.ended[max(story.ended)] if story.ended else {}
    statistics = mapping_of(end, "statistics")
    cost = seconds_of(statistics, "publish_p50_us") or 0.0
    tail = seconds_of(statistics, "publish_p99_us") or 0.0
    kept, rejected = _sum(story, "journalled"), _sum(story, "rejected_values")
    lost = max(_sum(story, "dropped"), story.lost)
    losses = ["every loss is marked as a gap"] if lost else []
    losses += [f"{rejected:,} values could not be logged"] if rejected else []
    return [
        {
            "label": "last step",
            "value": "none" if story.last_step < 0 else f"{story.last_step:,}",
            "note": "",
        },
        {
            "label": "publish cost",
            "value": f"{cost:.3g} µs" if cost else "unknown",
            "note": f"median of an event on the training thread, p99 {tail:.3g} µs" if cost else "",
        },
        {
            "label": "events kept",
            "value": f"{kept:,}" if kept else "unknown",
            "note": "in the journal" if kept else "",
        },
        {
            "label": "events dropped",
            "value": f"{lost:,}" if story.ended or lost else "none known",
            "note": ", ".join(losses),
        },
    ]


def _sum(story: Story, name: str) -> int:
    ends = (mapping_of(end, "statistics") for end in story.ended.values())
    return round(sum(seconds_of(statistics, name) or 0.0 for statistics in ends))


def _marks(attempts: list[AttemptEntry], story: Story) -> list[Mark]:
    """Every moment worth a line across the plots, oldest first."""
    starts = [_start(each) for each in attempts]
    others = [mark for tail in story.marks.values() for mark in tail]
    for mark in others:
        if mark["estimated"]:
            mark["step"] = story.metrics.step_at(mark["attempt"], mark["time"])
    return sorted([*starts, *others], key=lambda mark: mark["time"])


def _start(attempt: AttemptEntry) -> Mark:
    resumed = attempt["resumed_from_step"]
    return {
        "kind": "attempt",
        "time": attempt["started"],
        "step": resumed or 0,
        "estimated": False,
        "attempt": attempt["number"],
        "label": f"attempt {attempt['number']}",
        "detail": "started" if resumed is None else f"resumed from step {resumed:,}",
        "by": "",
    }


def _metrics(story: Story, origin: float, points: int) -> list[MetricEntry]:
    overview, detail = levels(points, story.metrics.count_lines())
    entries: list[MetricEntry] = []
    for name, lines in story.metrics:
        definition = _definition(story, name.name)
        low, high = _range(lines)
        entries.append(
            {
                "name": name.name,
                "group": name.group,
                "unit": text_of(definition, "unit"),
                "goal": text_of(definition, "goal"),
                "by_step": all(line.steps for line in lines),
                "lines": [
                    line_entry(line, origin, overview=overview, detail=detail) for line in lines
                ],
                "last": _last(lines),
                "lowest": low,
                "highest": high,
            }
        )
    return entries


def _definition(story: Story, name: str) -> Mapping[str, JsonValue]:
    """The last definition of a metric; one for a prefix ends in `*`."""
    for definition in reversed(story.definitions):
        defined = text_of(definition, "name")
        if defined == name or (defined.endswith("*") and name.startswith(defined[:-1])):
            return definition
    return {}


def _range(lines: list[Line]) -> tuple[float | None, float | None]:
    """The lowest and highest finite value that no later attempt replaced."""
    columns = [_finite(line.values) for line in lines if not line.lineage.superseded]
    columns = [column for column in columns if column]
    if not columns:
        return None, None
    return min(map(min, columns)), max(map(max, columns))


def _last(lines: list[Line]) -> float | None:
    current = [line for line in lines if not line.lineage.superseded and line.lineage.rank == 0]
    last = current[-1].values[-1] if current else math.nan
    return last if math.isfinite(last) else None


def _finite(values: array[float]) -> array[float]:
    if math.isfinite(sum(values)):
        return values
    return array("d", filter(math.isfinite, values))

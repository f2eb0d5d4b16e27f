"""Read a journal once and sort what a report tells: metrics, marks, notes, files, settings."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from pydantic import JsonValue

from bus import JournalReader, Row
from runtime.report._document import Latest, Mark, MarkKind, Note, Saved
from runtime.report._fields import (
    flattened,
    mapping_of,
    number_of,
    seconds_of,
    shown,
    text_of,
    whole_of,
)
from runtime.report._series import METRIC_TYPES, Metrics

_T = TypeVar("_T")

_MOST_NOTES = 500
_MOST_MARKS = 1_000
_LONGEST_TEXT = 20_000

_ELSEWHERE = {"histogram_logged": "histograms", "media_logged": "media files"}


class Tail(Generic[_T]):
    """The last items of many."""

    def __init__(self, longest: int) -> None:
        self.total = 0
        self._items: deque[_T] = deque(maxlen=longest)

    def append(self, item: _T) -> None:
        self.total += 1
        self._items.append(item)

    def __iter__(self) -> Iterator[_T]:
        return iter(self._items)

    @property
    def left_out(self) -> int:
        """How many came before the ones that are kept."""
        return self.total - len(self._items)


class Story:
    """What happened in a run, in the order of its journal.

    Attributes:
        began: `RunStarted` of each attempt as it was written, by number; `ended` likewise.
        first_times: When the first event of each attempt was made; `last_times` likewise.
        last_step: The highest step of any event that counts, -1 if none has a step.
    """

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.began: dict[int, dict[str, JsonValue]] = {}
        self.ended: dict[int, dict[str, JsonValue]] = {}
        self.first_times: dict[int, float] = {}
        self.last_times: dict[int, float] = {}
        self.last_step = -1
        self.marks: dict[MarkKind, Tail[Mark]] = {
            "decision": Tail(_MOST_MARKS),
            "alert": Tail(_MOST_MARKS),
            "gap": Tail(_MOST_MARKS),
        }
        self.alerts: Tail[Note] = Tail(_MOST_NOTES)
        self.messages: Tail[Note] = Tail(_MOST_NOTES)
        self.texts: Tail[Note] = Tail(_MOST_NOTES)
        self.console: Tail[Note] = Tail(_MOST_NOTES)
        self.saved: Tail[Saved] = Tail(_MOST_NOTES)
        self.parameters: dict[str, JsonValue] = {}
        self.summary: dict[str, JsonValue] = {}
        self.definitions: list[dict[str, JsonValue]] = []
        self.elsewhere: Counter[str] = Counter()
        self.lost = 0
        self._takers: dict[str, Callable[[Row, float], None]] = {
            "run_started": self._take_start,
            "run_ended": self._take_end,
            "decision_applied": self._take_decision,
            "request_refused": self._take_refusal,
            "gap": self._take_gap,
            "alert_raised": self._take_alert,
            "subscriber_failed": self._take_failure,
            "stall_detected": self._take_stall,
            "stall_ended": self._take_recovery,
            "message_logged": self._take_message,
            "text_logged": self._take_text,
            "console_line_logged": self._take_console_line,
            "checkpoint_saved": self._take_checkpoint,
            "artifact_ready": self._take_artifact,
            "parameters_logged": self._take_parameters,
            "summary_logged": self._take_summary,
            "metric_defined": self._take_definition,
        }

    @classmethod
    def of(cls, journal: JournalReader) -> "Story":
        """Read everything that is in a journal now."""
        story = cls()
        for row in journal.rows(types=story.types, superseded=True):
            story.take(row)
        return story

    @property
    def types(self) -> frozenset[str]:
        """The events a report is made from."""
        return frozenset({*METRIC_TYPES, *self._takers, *_ELSEWHERE})

    def take(self, row: Row) -> None:
        """Add the next line of the journal."""
        data = row.data
        attempt = row.attempt
        time = seconds_of(data, "time") or 0.0
        self.first_times.setdefault(attempt, time)
        if time > self.last_times.get(attempt, 0.0):
            self.last_times[attempt] = time
        step = whole_of(data, "step")
        if step is not None and step > self.last_step and not row.superseded:
            self.last_step = step
        kind = data["type"]
        if kind in METRIC_TYPES:
            self.metrics.add(row, time, step)
        elif taker := self._takers.get(str(kind)):
            taker(row, time)
        else:
            self.elsewhere[_ELSEWHERE[str(kind)]] += 1

    def latest(self, notes: Tail[Note]) -> Latest:
        """The newest notes of a kind and their number."""
        return {"total": notes.total, "items": list(notes)}

    def _take_start(self, row: Row, _: float) -> None:
        if row.rank == 0 or row.attempt not in self.began:
            self.began[row.attempt] = row.data

    def _take_end(self, row: Row, _: float) -> None:
        if row.rank == 0 or row.attempt not in self.ended:
            self.ended[row.attempt] = row.data

    def _take_decision(self, row: Row, time: float) -> None:
        request = mapping_of(row.data, "request")
        self._mark(row, time, "decision", text_of(request, "type", "request"), _settings(request))

    def _take_refusal(self, row: Row, time: float) -> None:
        request = mapping_of(row.data, "request")
        kind = text_of(request, "type", "request")
        self._mark(row, time, "decision", f"{kind} refused", text_of(row.data, "why"))

    def _take_gap(self, row: Row, time: float) -> None:
        count = whole_of(row.data, "count") or 0
        self.lost += count
        lost = "1 event lost" if count == 1 else f"{count:,} events lost"
        self._mark(row, time, "gap", lost, "")

    def _take_alert(self, row: Row, time: float) -> None:
        title, text = text_of(row.data, "title"), text_of(row.data, "text")
        self.alerts.append(self._note(row, time, title, text))
        self._mark(row, time, "alert", title or "alert", text)

    def _take_failure(self, row: Row, time: float) -> None:
        name = text_of(row.data, "subscriber")
        end = "it is gone for good" if row.data.get("retired") is True else "it was started again"
        title, text = f"subscriber {name} failed", f"{text_of(row.data, 'error')} ({end})"
        self.alerts.append(self._note(row, time, title, text))
        self._mark(row, time, "alert", title, text)

    def _take_stall(self, row: Row, time: float) -> None:
        """The stacks; the alert beside it says the rest, and is the mark."""
        found = row.data.get("stacks")
        for each in found if isinstance(found, list) else ():
            if isinstance(each, dict):
                ranks = each.get("ranks")
                shown_ranks = ", ".join(map(shown, ranks)) if isinstance(ranks, list) else "?"
                key = f"stacks of rank {shown_ranks}"
                self.texts.append(self._note(row, time, key, text_of(each, "stacks")))

    def _take_recovery(self, row: Row, time: float) -> None:
        seconds = seconds_of(row.data, "seconds") or 0.0
        title = f"training goes on after {seconds:.1f} s"
        self.alerts.append(self._note(row, time, title, ""))
        self._mark(row, time, "alert", title, "")

    def _take_message(self, row: Row, time: float) -> None:
        self.messages.append(self._note(row, time, "", text_of(row.data, "text")))

    def _take_text(self, row: Row, time: float) -> None:
        key, text = text_of(row.data, "key"), text_of(row.data, "text")
        self.texts.append(self._note(row, time, key, text))

    def _take_console_line(self, row: Row, time: float) -> None:
        note = self._note(row, time, "", text_of(row.data, "text"))
        note["level"] = text_of(row.data, "stream")
        self.console.append(note)

    def _take_checkpoint(self, row: Row, time: float) -> None:
        path = text_of(row.data, "path")
        metrics = mapping_of(row.data, "metrics").items()
        detail = ", ".join(f"{key} {number_of(value):.6g}" for key, value in metrics)
        self.saved.append(self._file(row, time, "checkpoint", path.rpartition("/")[2], detail))

    def _take_artifact(self, row: Row, time: float) -> None:
        aliases = row.data.get("aliases")
        detail = ", ".join(map(shown, aliases)) if isinstance(aliases, list) else ""
        kind, name = text_of(row.data, "kind"), text_of(row.data, "name")
        self.saved.append(self._file(row, time, kind, name, detail))

    def _take_parameters(self, row: Row, _: float) -> None:
        self.parameters |= mapping_of(row.data, "parameters")

    def _take_summary(self, row: Row, _: float) -> None:
        self.summary |= mapping_of(row.data, "values")

    def _take_definition(self, row: Row, _: float) -> None:
        self.definitions.append(row.data)

    def _mark(self, row: Row, time: float, kind: MarkKind, label: str, detail: str) -> None:
        step = whole_of(row.data, "step")
        reason = text_of(row.data, "reason")
        self.marks[kind].append(
            {
                "kind": kind,
                "time": time,
                "step": step,
                "estimated": step is None,
                "attempt": row.attempt,
                "label": label,
                "detail": " · ".join(part for part in (reason, detail) if part)[:_LONGEST_TEXT],
                "by": text_of(row.data, "by"),
            }
        )

    def _note(self, row: Row, time: float, title: str, text: str) -> Note:
        return {
            "time": time,
            "step": whole_of(row.data, "step"),
            "attempt": row.attempt,
            "title": title,
            "text": text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} ...",
            "level": text_of(row.data, "level"),
        }

    def _file(self, row: Row, time: float, kind: str, name: str, detail: str) -> Saved:
        return {
            "time": time,
            "step": whole_of(row.data, "step"),
            "attempt": row.attempt,
            "kind": kind,
            "name": name,
            "path": text_of(row.data, "path"),
            "detail": detail,
        }


def _settings(request: dict[str, JsonValue]) -> str:
    """A request's own fields, such as the value of a new learning rate."""
    own = {key: value for key, value in request.items() if key not in ("type", "by", "reason")}
    return ", ".join(f"{key} {value}" for key, value in flattened(own))

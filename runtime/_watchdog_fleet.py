"""One rank's watchdog among those of the others: when it asks, answers, and reports.

```
silence of a rank      0 ────────── 0.6 ────────── 0.9 ── 1.0 of the limit
whoever is late              asks everybody         │
every rank, at its next beat      answers           │
rank 0                                       finds and reports
```
"""

from collections.abc import Callable
from typing import Final

from runtime._watchdog_answers import Answer, find
from runtime._watchdog_lateness import REPORTS, Lateness
from runtime._watchdog_questions import Question, Questions, WatchStore
from runtime._watchdog_reports import Reports
from runtime._watchdog_stacks import Look
from runtime._watchdog_stragglers import Comparison, RankPace, Window

BEATS: Final = 5
"""Times within the seconds that are no stall that a rank reads whether somebody asks."""

_ANSWERED: Final = 0.28
"""Share of the limit that all ranks have for an answer: a beat, and the look it falls behind."""

_OVERDUE: Final = 1.1
"""Share of the limit at which a rank reports itself what rank 0 should have."""


class Fleet:
    """One rank's part; all its methods may raise `OSError`, where the store does not answer.

    Args:
        store: What all ranks share.
        rank: This rank.
        size: How many there are.
        floor: Seconds of silence that are no stall.
        reports: Where to report.
        answer: What this rank is doing.
    """

    def __init__(
        self,
        store: WatchStore,
        rank: int,
        size: int,
        *,
        floor: float,
        reports: Reports,
        answer: Callable[[Lateness], Answer],
    ) -> None:
        self._store = store
        self._rank = rank
        self._size = size
        self._reports = reports
        self._answer = answer
        self._questions = Questions(store, rank, size)
        self._beat = floor / BEATS if rank else 0.0  # rank 0 is to report in time
        self._next_beat = 0.0
        self._last = Lateness(0.0, floor)
        self._answered_at = 0.0
        self._seen: tuple[int, float] = (0, 0.0)
        self._dealt = 0
        self._window = Window()
        self._comparison = Comparison()
        self._looked_at: float | None = None

    def turn(self, now: float, lateness: Lateness) -> None:
        """Ask, answer and report what is due.

        Args:
            now: Seconds of a monotonic clock.
            lateness: How late this rank is.
        """
        last, self._last = self._last, lateness
        asked = self._questions.last
        involved = lateness.asks or self._reports.open or (asked.open and asked.asker == self._rank)
        if now < self._next_beat and not involved and self._dealt >= asked.number:
            return
        if now >= self._next_beat:
            self._next_beat = now + self._beat
        question = self._ask_or_close(now, lateness, lateness.ended or last.silent)
        if question.number != self._seen[0]:
            self._seen = question.number, now
        if question.open and self._questions.answered != question.number:
            mine = self._answer(lateness).model_copy(update={"question": question.number})
            self._questions.answer(mine)
            self._answered_at = now
        if question.open and self._dealt != question.number:
            self._deal(question, now, lateness)
        elif not question.open and self._reports.open:
            self._reports.over(seconds=question.lasted, step=self._answer(lateness).step)

    def add(self, now: float, look: Look, passed: int, *, judged: bool) -> None:
        """Take a look at this rank into account, for how busy it is.

        Args:
            now: Seconds of a monotonic clock.
            look: Where its training thread is.
            passed: Safe points passed since the look before.
            judged: Whether the loop is at its steps.
        """
        before, self._looked_at = self._looked_at, now if judged else None
        if before is None or not judged:
            return
        self._window.add(look, passed=passed, seconds=now - before)
        pace = self._window.take()
        if pace is None:
            return
        self._store.set(f"pace-{self._rank}", pace.model_dump_json().encode())
        if self._rank == 0:
            self._compare()

    def _compare(self) -> None:
        raws = self._store.get_all([f"pace-{rank}" for rank in range(self._size)])
        if raws is None:  # not all have come so far
            return
        paces = {rank: RankPace.model_validate_json(raw) for rank, raw in enumerate(raws)}
        for straggler in self._comparison.add(paces):
            self._reports.straggler(straggler)

    def _ask_or_close(self, now: float, lateness: Lateness, silent: float) -> Question:
        """The question that counts now, which may be one of this rank."""
        questions = self._questions
        question = questions.read()
        if lateness.asks:
            if self._may_ask(question, now, lateness):
                return questions.ask()
        elif question.open and question.asker == self._rank:
            questions.close(silent)
        return questions.last

    def _may_ask(self, last: Question, now: float, lateness: Lateness) -> bool:
        """Whether nobody has asked yet because of what is going on now."""
        if not last.open or now - lateness.silent > self._answered_at:
            return True
        again = last.asker == self._rank and now - self._answered_at > lateness.limit
        return again and not self._questions.told(last.number)

    def _deal(self, question: Question, now: float, lateness: Lateness) -> None:
        """Find out what it is and report it, when it is time and this rank's turn."""
        silent = self._due(question, now, lateness)
        if silent is None:
            return
        questions = self._questions
        self._dealt = question.number
        answers = questions.answers()
        if question.asker not in answers:
            return
        found = [*answers.values()]
        finding = find(found, question.asker, questions.absent(answers))
        if finding is not None:
            questions.tell(question.number)
            step = answers[question.asker].step
            self._reports.stall(finding, found, seconds=silent, step=step)

    def _due(self, question: Question, now: float, lateness: Lateness) -> float | None:
        """For how long the asker has been silent, if this rank is to report that now."""
        if self._rank == 0:
            asker = self._questions.answer_of(question.asker)
            if asker is None:
                return None
            since = now - self._seen[1]
            silent, limit = asker.silent + since, asker.limit
            return silent if silent >= REPORTS * limit and since >= _ANSWERED * limit else None
        since = now - self._answered_at
        limit = lateness.limit
        if question.asker != self._rank or lateness.silent < _OVERDUE * limit:
            return None
        if since < 2 * _ANSWERED * limit:
            return None
        return None if self._questions.told(question.number) else lateness.silent
